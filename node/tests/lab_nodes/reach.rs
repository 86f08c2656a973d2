//! Hosts behind gateways find each other: a representative part of `consort bench reach`, which has the whole.

use std::time::Duration;

use consort_lab::case::{Case, World};
use consort_node::bench::reach::crew::Crew;
use consort_node::bench::reach::kinds::{self, Lans, Side};
use consort_node::bench::reach::pair::{self, Conversation, Measured, Patience};
use consort_node::bench::reach::roam::{self, Change, Relay};
use consort_node::control::api::Peer;
use consort_node::why::Path;

use crate::support::in_lab;

/// Waiting for what must come on a busy computer; never asserted as a time.
const PATIENCE: Patience = Patience { first: Duration::from_secs(60), direct: Duration::from_secs(60) };

async fn crew(names: &[&str]) -> Crew {
    let case =
        Case::parse(&kinds::case(names, Lans::Different)).unwrap_or_else(|faults| panic!("{faults:?}"));
    let mut crew = Crew::new(World::build(&case).unwrap());
    crew.start_overlay().await.unwrap();
    crew
}

async fn measure(crew: &mut Crew, first: &str, second: &str, patience: Patience) -> Measured {
    let (first, second) = (kinds::host(Side::A, first), kinds::host(Side::B, second));
    pair::measure(crew, &first, &second, patience).await.unwrap()
}

in_lab! {
    async fn whoever_can_be_punched_to_is_reached_directly() {
        // At `masquerade-open` an early packet spoils the port; however busy the computer is, the two find another.
        let kinds = ["open", "port-cone", "masquerade-open", "symmetric-random"];
        let mut crew = crew(&kinds).await;
        for (first, second) in [
            ("open", "port-cone"),
            ("port-cone", "port-cone"),
            ("port-cone", "masquerade-open"),
            ("masquerade-open", "masquerade-open"),
            ("symmetric-random", "open"),
        ] {
            let measured = measure(&mut crew, first, second, PATIENCE).await;
            assert_eq!(measured.way, Path::Direct, "{first} to {second}: {}", measured.in_words());
            assert!(measured.first_frame_ms.is_some(), "{first} to {second}: {}", measured.in_words());
        }
    }
}

in_lab! {
    async fn whoever_cannot_be_is_reached_through_others() {
        let mut crew = crew(&["open", "symmetric-random", "udp-blocked"]).await;
        // It will not become direct: no need to wait long for that.
        let patience = Patience { direct: Duration::from_secs(5), ..PATIENCE };
        for (first, second, way) in [
            ("symmetric-random", "symmetric-random", Path::Relay),
            ("udp-blocked", "open", Path::RelayStream),
        ] {
            let measured = measure(&mut crew, first, second, patience).await;
            assert!(measured.first_frame_ms.is_some(), "{first} to {second}: {}", measured.in_words());
            assert_eq!(measured.way, way, "{first} to {second}: {}", measured.in_words());
        }
    }
}

in_lab! {
    /// A port search finds its port, and homes with the same private addresses do not take each other for themselves.
    async fn a_searched_port_and_equal_addresses_are_no_obstacle() {
        let names = ["port-cone", "symmetric-random"];
        let case = Case::parse(&kinds::case(&names, Lans::Same)).unwrap_or_else(|faults| panic!("{faults:?}"));
        let mut crew = Crew::new(World::build(&case).unwrap());
        crew.start_overlay().await.unwrap();
        for (first, second) in [("port-cone", "port-cone"), ("symmetric-random", "port-cone")] {
            // A search that finds nothing is one in thirty; the next one comes a minute and a half later.
            let patience = Patience { first: Duration::from_secs(200), direct: Duration::from_secs(200) };
            let measured = measure(&mut crew, first, second, patience).await;
            assert_eq!(measured.way, Path::Direct, "{first} to {second}: {}", measured.in_words());
        }
    }
}

in_lab! {
    async fn a_connection_outlives_its_hosts_networks() {
        // The way to another home and a router with another address are in `consort bench reach --roam`.
        for roamed in roam::measure(&[Change::HomeFromTheOpen], Duration::from_secs(1), Relay::Founder, None).await.unwrap() {
            assert!(roamed.after.is_some() && roamed.after != roamed.before, "{roamed:?}");
        }
    }
}

in_lab! {
    /// Whether their NAT hairpins or not.
    async fn two_hosts_behind_one_nat_use_the_way_inside() {
        let homes: String = ["full-cone", "port-cone"]
            .iter()
            .map(|nat| {
                format!("[site.{nat}]\nnat = \"{nat}\"\n[host.{nat}-1]\nsite = \"{nat}\"\n[host.{nat}-2]\nsite = \"{nat}\"\n")
            })
            .collect();
        let case = Case::parse(&format!("[host.founder]\n{homes}")).unwrap_or_else(|faults| panic!("{faults:?}"));
        let mut crew = Crew::new(World::build(&case).unwrap());
        crew.start_overlay().await.unwrap();
        for nat in ["full-cone", "port-cone"] {
            let names = (format!("{nat}-1"), format!("{nat}-2"));
            let clients = (crew.client(&names.0).unwrap(), crew.client(&names.1).unwrap());
            let hosts = (pair::host_id(&clients.0).await.unwrap(), pair::host_id(&clients.1).await.unwrap());
            let talk = Conversation::begin(&mut crew, &names.0, &names.1).await.unwrap();
            let (measured, _talk) = pair::follow(&clients, &hosts, talk, PATIENCE).await.unwrap();
            assert_eq!(measured.way, Path::Direct, "{nat}: {}", measured.in_words());
            let peers: Vec<Peer> = clients.0.get("/v1/peers").await.unwrap();
            let link = peers.into_iter().find(|peer| peer.host == hosts.1).and_then(|peer| peer.link);
            let address = link.and_then(|link| link.address).unwrap_or_default();
            assert!(address.starts_with("192.168.1."), "{nat}: the path leads to {address}");
        }
    }
}
