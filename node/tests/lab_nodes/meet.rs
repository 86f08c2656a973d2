//! Hosts behind NATs and firewalls find a way to each other: directly, through a relay, or inside the control plane; and `why` says so.

use consort_lab::case::{Case, World};
use consort_node::bench::reach::crew::Crew;
use consort_node::bench::reach::pair::{self, Patience};
use consort_node::control::api::{Peer, Reach};
use consort_node::control::client::segment;
use consort_node::demo::stage::{DEADLINE, awaited};
use consort_node::why::{Code, Explanation, Nat, Path};

use crate::support::in_lab;

/// Nodes on the hosts of a case, joined to the overlay of its public host.
async fn crew(case: &str) -> Crew {
    let case = Case::parse(case).unwrap();
    let mut crew = Crew::new(World::build(&case).unwrap());
    crew.start_overlay().await.unwrap();
    crew
}

fn two_behind(nat: &str, publics: &str) -> String {
    format!(
        "about = \"two hosts behind NATs of one kind\"\n{publics}[site.home]\nnat = \"{nat}\"\n\
         [site.office]\nnat = \"{nat}\"\n[host.a]\nsite = \"home\"\n[host.b]\nsite = \"office\"\n"
    )
}

const ONE_PUBLIC: &str = "[host.public]\n";
const TWO_RELAYS: &str = "[host.public]\nconfig = '''\n[data]\nrelay = true\n'''\n[host.relay]\nconfig = '''\n[data]\nrelay = { peers = 8 }\n'''\n";

/// Why the way from `a` to `b` is as it is.
async fn why(crew: &Crew, a: &str, b: &str) -> Explanation {
    let host = pair::host_id(&crew.client(b).unwrap()).await.unwrap();
    crew.client(a).unwrap().get(&format!("/v1/why/{}", segment(&host))).await.unwrap()
}

async fn peer(crew: &Crew, a: &str, b: &str) -> Peer {
    let host = pair::host_id(&crew.client(b).unwrap()).await.unwrap();
    awaited("the other host is known", async || {
        let peers: Vec<Peer> = crew.client(a)?.get("/v1/peers").await?;
        Ok(peers.into_iter().find(|peer| peer.host == host))
    })
    .await
    .unwrap()
}

/// Puts both on a network of their own, which stays.
async fn join(crew: &Crew) {
    let clients = (crew.client("a").unwrap(), crew.client("b").unwrap());
    pair::join_both(&clients, "both").await.unwrap();
}

async fn until_path(crew: &Crew, wanted: Path) -> Peer {
    awaited(&format!("the path is {wanted:?}"), async || {
        let peer = peer(crew, "a", "b").await;
        Ok((peer.path == wanted).then_some(peer))
    })
    .await
    .unwrap()
}

in_lab! {
    async fn two_hosts_behind_nats_of_their_own_meet_and_are_direct() {
        let mut crew = crew(&two_behind("port-cone", ONE_PUBLIC)).await;
        let measured = pair::measure(&mut crew, "a", "b", Patience { first: DEADLINE, direct: DEADLINE }).await.unwrap();
        assert_eq!(measured.way, Path::Direct, "{measured:?}");
        assert!(measured.first_frame_ms.is_some(), "{measured:?}");
    }
}

in_lab! {
    async fn symmetric_nats_are_joined_by_a_relay_that_is_asked_for_and_kept_twice() {
        let crew = crew(&two_behind("symmetric-random", TWO_RELAYS)).await;
        join(&crew).await;
        let peer = until_path(&crew, Path::Relay).await;
        assert!(!peer.relays.is_empty(), "{peer:?}");
        // The kinds of NAT are learned from two members within seconds.
        awaited("why says that both NATs are symmetric", async || {
            let said = why(&crew, "a", "b").await;
            Ok((said.code == Code::SymmetricBoth && said.nat_there == Nat::AddressAndPortDependent).then_some(()))
        })
        .await
        .unwrap();
        awaited("a spare is kept", async || Ok((self::peer(&crew, "a", "b").await.relays.len() == 2).then_some(())))
            .await
            .unwrap();
        let reach: Reach = crew.client("public").unwrap().get("/v1/reach").await.unwrap();
        assert!(reach.relays, "{reach:?}");
    }
}

in_lab! {
    async fn where_udp_does_not_pass_frames_go_inside_the_control_plane_and_why_says_so() {
        let case = "about = \"an office without UDP\"\n[host.public]\n[site.office]\nnat = \"port-cone\"\n\
             firewall = [\"deny out udp\", \"deny in udp\"]\n[host.a]\nsite = \"office\"\n[host.b]\n";
        let mut crew = crew(case).await;
        let measured = pair::measure(&mut crew, "a", "b", Patience { first: DEADLINE, direct: std::time::Duration::ZERO }).await.unwrap();
        assert!(measured.first_frame_ms.is_some(), "{measured:?}");
        join(&crew).await;
        until_path(&crew, Path::RelayStream).await;
        // Once the last probe was given up.
        awaited("why says that UDP is blocked here", async || {
            Ok((why(&crew, "a", "b").await.code == Code::UdpBlockedHere).then_some(()))
        })
        .await
        .unwrap();
        // The same from the other end: the cause is named as the other's.
        let there = why(&crew, "b", "a").await;
        assert_eq!(there.code, Code::UdpBlockedThere, "{there:?}");
    }
}
