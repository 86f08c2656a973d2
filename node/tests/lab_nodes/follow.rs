//! Links that follow the traffic, beyond one hot pair: the operator's limit, traffic that is little, ends that agree. The classic patterns are measured by
//! `consort bench relay --only patterns`.

use std::collections::BTreeSet;

use consort_node::bench::relay::field::{Field, UNCAPPED};
use consort_node::control::api::{TopologyState, Traffic};
use consort_node::demo::stage::awaited;
use consort_node::failure::Failure;
use consort_node::topology::adapt::pattern::Pattern;

use crate::support::in_lab;

const MUCH: u64 = 8_000_000;
const LITTLE: u64 = 100_000;

/// The hosts that a host has a link to that was added for the traffic, and that stands.
async fn added(field: &Field, on: &str) -> Result<BTreeSet<String>, Failure> {
    let state: TopologyState = field.crew.client(on)?.get("/v1/topology").await?;
    let links = state.view.links.iter().filter(|link| link.added && link.up == Some(true));
    let ends = links.flat_map(|link| link.between.map(|number| state.view.hosts[number].name.clone()));
    Ok(ends.filter(|name| name != on).collect())
}

in_lab! {
    /// A server with three clients who say much and one who says little, and one link for each host.
    async fn one_of_several_hot_pairs_gets_the_one_link_and_both_ends_agree() {
        let mut field = Field::of(6, "", UNCAPPED).await.unwrap();
        field.shape("shape = \"star\"\nhubs = \"h0\"", "[adapt]\nlinks = 1\nafter = \"1s\"\ndrop = \"60s\"").await.unwrap();
        let leaves: Vec<String> = (1..6).map(|number| format!("h{number}")).collect();
        let addresses = field.common_network("lan", &leaves).await.unwrap();
        let mut loads = Vec::new();
        for (client, rate) in [("h2", MUCH), ("h3", MUCH), ("h4", MUCH), ("h5", LITTLE)] {
            loads.push(field.offer(client, "h1", addresses["h1"], rate).unwrap());
        }
        let other = awaited("the server has its link, and so has the client", async || {
            let mut own = added(&field, "h1").await?;
            assert!(own.len() <= 1, "the operator's limit: {own:?}");
            let Some(client) = own.pop_first() else { return Ok(None) };
            let theirs = added(&field, &client).await?;
            Ok(theirs.contains("h1").then_some(client))
        })
        .await
        .unwrap();
        assert_ne!(other, "h5", "it says little");
        let traffic: Traffic = field.crew.client("h1").unwrap().get("/v1/nets/lan/traffic").await.unwrap();
        assert_eq!(traffic.pattern, Pattern::Hub { host: "h1".to_owned() });
        for leaf in leaves.iter().filter(|leaf| *leaf != "h1" && **leaf != other) {
            assert_eq!(added(&field, leaf).await.unwrap(), BTreeSet::new(), "{leaf} has a link that h1 has no place for");
        }
        for load in loads {
            load.end().unwrap();
        }
    }
}
