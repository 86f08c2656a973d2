//! Hosts behind gateways find each other: a representative part of `consort bench reach`, which has the whole.

use std::time::Duration;

use consort_lab::case::{Case, World};
use consort_node::bench::reach::crew::Crew;
use consort_node::bench::reach::kinds::{self, Lans, Side};
use consort_node::bench::reach::pair::{self, Measured, Patience};
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
