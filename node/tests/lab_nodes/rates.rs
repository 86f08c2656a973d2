//! What the operator's topology says of rates is kept by every host, with real nodes. How near to them a connection comes is measured by `consort bench
//! relay --only rates`.

use consort_node::bench::relay::field::{Field, UNCAPPED};
use consort_node::control::api::{Reach, TopologyState};
use consort_node::demo::stage::awaited;
use consort_node::failure::Failure;

use crate::support::in_lab;

const STAR: &str = "shape = \"star\"\nhubs = \"h0\"";
const LITTLE: &str = "rate = \"4Mbit/s\"";

/// Datagrams that a host did not send over its link to another because of the link's rate; none: the link has no rate, or is not the host's.
async fn beyond(field: &Field, on: &str, to: &str) -> Result<Option<u64>, Failure> {
    let state: TopologyState = field.crew.client(on)?.get("/v1/topology").await?;
    let name = |number: usize| state.view.hosts[number].name.as_str();
    let links = state.view.links.iter();
    let mut of_both = links.filter(|link| {
        let ends = link.between.map(name);
        ends.contains(&on) && ends.contains(&to)
    });
    Ok(of_both.next().and_then(|link| link.dropped))
}

async fn until_beyond(field: &Field, on: &str, to: &str) {
    awaited(&format!("{on} sends {to} no more than the link may carry"), async || {
        Ok(beyond(field, on, to).await?.filter(|dropped| *dropped > 0).map(drop))
    })
    .await
    .unwrap();
}

async fn relayed(field: &Field, count: &str) -> Result<u64, Failure> {
    let reach: Reach = field.crew.client("h0")?.get("/v1/reach").await?;
    Ok(reach.relay["counts"][count].as_u64().unwrap_or_default())
}

in_lab! {
    /// A direct link with a rate, then the same file without.
    async fn a_links_rate_is_kept_by_who_sends_and_ends_with_the_file() {
        let mut field = Field::of(2, "", UNCAPPED).await.unwrap();
        let (_, there) = field.network("pair", "h0", "h1").await.unwrap();
        field.shape("shape = \"mesh\"", &format!("[[link]]\nbetween = [\"h0\", \"h1\"]\n{LITTLE}")).await.unwrap();
        field.direct("h0", "h1").await.unwrap();
        let talk = field.talk("h0", "h1", there).unwrap();
        let load = field.load("h0", "h1", there).unwrap();
        until_beyond(&field, "h0", "h1").await;
        // What a rate drops breaks nothing.
        talk.goes_on().await.unwrap();
        assert_eq!(beyond(&field, "h1", "h0").await.unwrap(), Some(0), "acknowledgements alone are less");
        field.shape("shape = \"mesh\"", "").await.unwrap();
        assert_eq!(beyond(&field, "h0", "h1").await.unwrap(), None);
        load.end().unwrap();
        talk.end().unwrap();
    }
}

in_lab! {
    /// Over a hub: a leaf's link to the hub has a rate, then the hub's link to the other leaf, then the hub itself.
    async fn a_way_over_a_relay_keeps_the_rates_of_its_links_and_of_the_relay() {
        let mut field = Field::of(3, "", UNCAPPED).await.unwrap();
        field.shape(STAR, "").await.unwrap();
        let (_, there) = field.network("pair", "h1", "h2").await.unwrap();
        field.over("h1", "h2", 1).await.unwrap();
        let talk = field.talk("h1", "h2", there).unwrap();
        let load = field.load("h1", "h2", there).unwrap();
        let rated = |a: &str, b: &str| format!("[[link]]\nbetween = [\"{a}\", \"{b}\"]\n{LITTLE}");
        field.shape(STAR, &rated("h0", "h1")).await.unwrap();
        until_beyond(&field, "h1", "h0").await;
        assert_eq!(relayed(&field, "over_link_rate").await.unwrap(), 0);
        field.shape(STAR, &rated("h0", "h2")).await.unwrap();
        until_beyond(&field, "h0", "h2").await;
        assert!(relayed(&field, "over_link_rate").await.unwrap() > 0);
        assert_eq!(relayed(&field, "over_rate").await.unwrap(), 0, "its owner allows more than any lab carries");
        let id = field.ids["h0"].clone();
        let file = field.file(STAR, "");
        let file = file.replace(&format!("h0 = \"{id}\""), &format!("h0 = {{ id = \"{id}\", {LITTLE} }}"));
        field.take(file).await.unwrap();
        awaited("the hub forwards no more than the topology says", async || {
            Ok((relayed(&field, "over_rate").await? > 0).then_some(()))
        })
        .await
        .unwrap();
        talk.goes_on().await.unwrap();
        // What waits in the kernel for this rate would take the test's time.
        field.shape(STAR, "").await.unwrap();
        load.end().unwrap();
        talk.end().unwrap();
    }
}
