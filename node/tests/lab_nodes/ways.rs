//! Links over hops, static links and links that follow the traffic, on topologies that leave links out, with real nodes. What of it is a time is
//! measured by `consort bench relay`.

use std::collections::BTreeSet;
use std::fmt::Write;

use consort_node::bench::relay::field::{Field, UNCAPPED};
use consort_node::control::api::{Operators, Reach, TopologyState, Traffic};
use consort_node::demo::stage::awaited;
use consort_node::failure::Failure;
use consort_node::topology::adapt::pattern::Pattern;
use consort_node::why::{Code, Explanation};

use crate::support::in_lab;

const STAR: &str = "shape = \"star\"\nhubs = \"h0\"";
const MESH: &str = "shape = \"mesh\"";
const RING: &str = "shape = \"ring\"";

/// Datagrams, one every two milliseconds or more, that may be missing in a row where a way has to be found within a second.
const SECOND: usize = 500;

/// The most numbers in a row.
fn longest_row(numbers: &BTreeSet<u64>) -> usize {
    let (mut longest, mut row, mut before) = (0, 0, None);
    for number in numbers {
        row = if before.is_some_and(|before: u64| before + 1 == *number) { row + 1 } else { 1 };
        longest = longest.max(row);
        before = Some(*number);
    }
    longest
}

async fn field(hosts: usize) -> Field {
    Field::of(hosts, "", UNCAPPED).await.unwrap()
}

in_lab! {
    /// A ring of four: opposite corners reach each other over either of the two others.
    async fn a_hop_that_dies_is_gone_around_and_no_connection_breaks() {
        let mut field = field(4).await;
        field.shape(RING, "").await.unwrap();
        let (here, there) = field.network("across", "h0", "h2").await.unwrap();
        let talk = field.talk("h0", "h2", there).unwrap();
        talk.goes_on().await.unwrap();
        let before = field.over("h0", "h2", 1).await.unwrap();
        field.has_spare("h0", "h2").await.unwrap();
        let numbered = field.numbered(("h0", here), ("h2", there)).unwrap();
        numbered.goes_on().await.unwrap();
        field.crew.kill_node(&before[0]).unwrap();
        talk.goes_on().await.unwrap();
        field.way("h0", "h2", "over the other", |hops| hops.len() == 1 && *hops != before[..]).await.unwrap();
        numbered.goes_on().await.unwrap();
        let (sent, missing) = numbered.end().unwrap();
        assert!(longest_row(&missing) <= SECOND, "{} in a row of {sent}", longest_row(&missing));
        talk.end().unwrap();
    }
}

in_lab! {
    /// A ring of six: between opposite corners there are two hops on either side; the farther one dies, and later the other side does.
    async fn a_hop_beyond_the_first_that_dies_is_gone_around_as_well() {
        let mut field = field(6).await;
        field.shape(RING, "").await.unwrap();
        let (here, there) = field.network("across", "h0", "h3").await.unwrap();
        let talk = field.talk("h0", "h3", there).unwrap();
        talk.goes_on().await.unwrap();
        let before = field.over("h0", "h3", 2).await.unwrap();
        field.has_spare("h0", "h3").await.unwrap();
        let numbered = field.numbered(("h0", here), ("h3", there)).unwrap();
        numbered.goes_on().await.unwrap();
        field.crew.kill_node(&before[1]).unwrap();
        talk.goes_on().await.unwrap();
        numbered.goes_on().await.unwrap();
        let (sent, missing) = numbered.end().unwrap();
        assert!(longest_row(&missing) <= 2 * SECOND, "{} in a row of {sent}", longest_row(&missing));
        let after = field.way("h0", "h3", "around", |hops| hops.len() == 2 && *hops != before[..]).await.unwrap();
        // It comes back, and with it the spare way: the others may die now.
        field.crew.start(&before[1], &[]).unwrap();
        field.crew.member(&before[1]).await.unwrap();
        field.has_spare("h0", "h3").await.unwrap();
        field.crew.kill_node(&after[0]).unwrap();
        talk.goes_on().await.unwrap();
        field.way("h0", "h3", "the first way again", |hops| *hops == before[..]).await.unwrap();
        talk.end().unwrap();
    }
}

in_lab! {
    async fn from_a_relay_to_the_direct_path_no_frame_is_lost() {
        let mut field = field(3).await;
        field.shape(STAR, "").await.unwrap();
        let (here, there) = field.network("pair", "h1", "h2").await.unwrap();
        let numbered = field.numbered(("h1", here), ("h2", there)).unwrap();
        field.over("h1", "h2", 1).await.unwrap();
        field.shape(MESH, "").await.unwrap();
        field.direct("h1", "h2").await.unwrap();
        numbered.goes_on().await.unwrap();
        let (sent, missing) = numbered.end().unwrap();
        assert!(missing.is_empty(), "{missing:?} of {sent}\n{}", counts(&field).await);
    }
}

in_lab! {
    async fn a_static_link_stands_without_traffic_and_comes_back() {
        let mut field = field(3).await;
        let tail = "[[link]]\nbetween = [\"h1\", \"h2\"]\nrule = \"static\"";
        field.shape(STAR, tail).await.unwrap();
        for (one, other) in [("h1", "h2"), ("h2", "h1")] {
            field.stands(one, other, true).await.unwrap();
        }
        // The others say nothing to each other, and have no link.
        field.stands("h0", "h1", false).await.unwrap();
        field.crew.world().plug("h2", false).unwrap();
        field.stands("h1", "h2", false).await.unwrap();
        field.crew.world().plug("h2", true).unwrap();
        field.stands("h1", "h2", true).await.unwrap();
        // A node that begins anew makes it too.
        field.crew.kill_node("h2").unwrap();
        field.stands("h1", "h2", false).await.unwrap();
        field.crew.start("h2", &[]).unwrap();
        field.crew.member("h2").await.unwrap();
        field.stands("h1", "h2", true).await.unwrap();
    }
}

in_lab! {
    /// Both sides of a partition apply one; when they meet again, the newest wins on every host.
    async fn after_a_partition_the_newest_topology_holds_everywhere() {
        let mut field = field(4).await;
        let operator = Operators { operators: vec![field.ids["h3"].clone()] };
        let _: Operators =
            field.crew.client("h0").unwrap().post("/v1/topology/operators", &operator).await.unwrap();
        field.shape(MESH, "").await.unwrap();
        awaited("h3 knows of its appointment", async || {
            let held: Operators = field.crew.client("h3")?.get("/v1/topology/operators").await?;
            Ok((held.operators == operator.operators).then_some(()))
        })
        .await
        .unwrap();
        field.crew.world().plug("h3", false).unwrap();
        assert_eq!(field.apply("h0", field.file(STAR, "")).await.unwrap(), 2);
        for name in ["h1", "h2"] {
            field.holds(name, 2).await.unwrap();
        }
        assert_eq!(field.apply("h3", field.file(RING, "")).await.unwrap(), 2);
        let newest = field.file("name = \"newest\"\nshape = \"ring\"", "");
        assert_eq!(field.apply("h3", newest).await.unwrap(), 3);
        field.crew.world().plug("h3", true).unwrap();
        for name in field.ids.keys() {
            let state: TopologyState = field.holds(name, 3).await.unwrap();
            assert_eq!(state.view.name.as_deref(), Some("newest"), "{name}");
        }
    }
}

in_lab! {
    /// Nobody may link but with the hub, and links may follow the traffic: two that say much get a link of their own.
    async fn a_hot_pair_gets_its_direct_link() {
        let mut field = field(4).await;
        field.shape(STAR, "[adapt]\nlinks = 1\nafter = \"1s\"\ndrop = \"60s\"").await.unwrap();
        let (_, there) = field.network("pair", "h1", "h2").await.unwrap();
        let talk = field.talk("h1", "h2", there).unwrap();
        field.over("h1", "h2", 1).await.unwrap();
        let load = field.load("h1", "h2", there).unwrap();
        field.direct("h1", "h2").await.unwrap();
        awaited("the trial is over and the link is kept", async || {
            let state: TopologyState = field.crew.client("h1")?.get("/v1/topology").await?;
            Ok(state.view.links.iter().any(|link| link.added).then_some(()))
        })
        .await
        .unwrap();
        talk.goes_on().await.unwrap();
        // Either end sees the whole matrix; who is not on the network sees nothing.
        for (on, row) in [("h1", "h1"), ("h2", "h1")] {
            let traffic: Traffic = field.crew.client(on).unwrap().get("/v1/nets/pair/traffic").await.unwrap();
            let at = |name: &str| traffic.hosts.iter().position(|host| host.name == name).unwrap();
            let (from, to) = (at(row), at("h2"));
            assert!(traffic.bytes_per_s[from][to] > traffic.bytes_per_s[to][from], "{traffic:?}");
            let Pattern::HotPair { mut hosts } = traffic.pattern else { panic!("{traffic:?}") };
            hosts.sort();
            assert_eq!(hosts, ["h1", "h2"]);
        }
        awaited("a host that is not on the network is told so, once it knows of it", async || {
            let asked = field.crew.client("h3")?.get::<Traffic>("/v1/nets/pair/traffic").await;
            Ok(asked.is_err_and(|failure| failure.code == "not_on_network").then_some(()))
        })
        .await
        .unwrap();
        load.end().unwrap();
        talk.end().unwrap();
    }
}

in_lab! {
    /// The hub's owner lets two hosts at once use it, and little.
    async fn an_owners_caps_on_relaying_are_kept() {
        let mut field = Field::of(4, "", "{ rate = \"4Mbit/s\", peers = 2 }").await.unwrap();
        field.shape(STAR, "").await.unwrap();
        let (_, there) = field.network("pair", "h1", "h2").await.unwrap();
        field.over("h1", "h2", 1).await.unwrap();
        // One connection may be content with what waits in the line; several are not.
        let loads: Vec<_> = (0..4).map(|_| field.load("h1", "h2", there).unwrap()).collect();
        awaited("the relay refuses what is beyond its owner's rate", async || {
            Ok((refused(&field, "over_rate").await? > 0).then_some(()))
        })
        .await
        .unwrap();
        loads.into_iter().for_each(|load| load.end().unwrap());
        // A third host would be one too many.
        field.network("other", "h1", "h3").await.unwrap();
        let third = field.ids["h3"].clone();
        awaited("the third is told why there is no way", async || {
            let said: Explanation = field.crew.client("h1")?.get(&format!("/v1/why/{third}")).await?;
            Ok((said.code == Code::RelaysFull).then_some(()))
        })
        .await
        .unwrap();
        assert_eq!(field.hops("h1", "h3").await.unwrap(), None);
    }
}

/// What every node counted, for who looks where frames went.
async fn counts(field: &Field) -> String {
    let mut words = String::new();
    for name in field.ids.keys() {
        let client = field.crew.client(name).unwrap();
        for path in ["/v1/reach", "/v1/peers", "/v1/nets/pair"] {
            // One that is not on the network says so.
            let said = client.get::<serde_json::Value>(path).await;
            writeln!(words, "{name} {path}: {said:?}").unwrap();
        }
    }
    words
}

/// What the hub refused to forward for this reason.
async fn refused(field: &Field, reason: &str) -> Result<u64, Failure> {
    let reach: Reach = field.crew.client("h0")?.get("/v1/reach").await?;
    Ok(reach.relay["counts"][reason].as_u64().unwrap_or_default())
}
