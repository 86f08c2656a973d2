//! `consort why` names the fault that was put in: a representative part of `consort bench reach --faults`, which has the whole. And what a person reads.

use std::time::Duration;

use consort_lab::case::{Case, World};
use consort_node::bench::reach::crew::Crew;
use consort_node::bench::reach::faults;
use consort_node::control::api::Status;

use crate::support::in_lab;

/// Waiting for what must be said on a busy computer; never asserted as a time.
const WITHIN: Duration = Duration::from_secs(90);

async fn is_named_rightly(fault: &str) {
    let outcome = faults::run(faults::named(fault).unwrap(), WITHIN).await.unwrap();
    assert!(outcome.right, "{}", outcome.in_words());
}

in_lab! {
    async fn a_node_that_does_not_run_is_told_from_a_host_that_is_gone() {
        is_named_rightly("node-killed").await;
    }
}

in_lab! {
    async fn a_host_that_is_gone_is_told_from_a_node_that_does_not_run() {
        is_named_rightly("host-silent").await;
    }
}

in_lab! {
    async fn a_certificate_that_has_ended_is_named_though_a_connection_seems_to_stand() {
        is_named_rightly("certificate-ended").await;
    }
}

in_lab! {
    async fn another_secret_in_a_restored_state_is_named() {
        is_named_rightly("wrong-key").await;
    }
}

in_lab! {
    async fn a_newcomer_whose_ticket_has_ended_is_told_so_before_it_is_a_member() {
        is_named_rightly("expired-ticket").await;
    }
}

in_lab! {
    async fn one_direction_that_is_lost_on_the_way_is_named() {
        is_named_rightly("asymmetric-out").await;
    }
}

/// The command on a host of the lab, as a person types it: exit code, standard output, standard error.
fn typed(crew: &mut Crew, host: &str, words: &[&str]) -> (Option<i32>, String, String) {
    let host = &crew.world().host(host).unwrap().host;
    let output = host
        .command(env!("CARGO_BIN_EXE_consort"))
        .args(words)
        .env("CONSORT_SOCKET", host.state().join("consort.sock"))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

in_lab! {
    async fn people_read_path_cause_and_remedy_and_one_line_for_what_cannot_be_asked() {
        let case = Case::parse("[host.founder]\n[host.b]\n").unwrap();
        let mut crew = Crew::new(World::build(&case).unwrap());
        crew.start_overlay().await.unwrap();
        let status: Status = crew.client("b").unwrap().get("/v1/status").await.unwrap();
        let end = &status.host[status.host.len() - 8..];

        let (code, said, _) = typed(&mut crew, "founder", &["why", end]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(&status.host) && said.contains("path  none") && said.contains("[not_wanted]"), "{said}");
        // Asked from the other end, by its name.
        let (code, said, _) = typed(&mut crew, "founder", &["why", end, &status.host, "--json"]);
        let document: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!((code, document["code"].as_str()), (Some(0), Some("same_host")), "{said}");

        let (code, _, line) = typed(&mut crew, "founder", &["why", "nobody"]);
        assert_eq!((code, line.lines().count()), (Some(1), 1), "{line}");
        assert!(line.contains("`nobody`") && line.contains("consort members"), "{line}");

        let (code, said, _) = typed(&mut crew, "b", &["doctor"]);
        assert!(code.is_some() && said.contains("a member; 1 others connected") && said.contains("NAT"), "{said}");

        crew.kill_node("b").unwrap();
        let (code, said, _) = typed(&mut crew, "founder", &["why", end]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("[node_not_running]") && said.contains("What to do: Start `consort node`"), "{said}");
        let (code, _, line) = typed(&mut crew, "b", &["why", end]);
        assert_eq!((code, line.lines().count()), (Some(4), 1), "{line}");
        assert!(line.contains("consort node"), "{line}");
        // From a host that cannot be asked.
        let founder: Status = crew.client("founder").unwrap().get("/v1/status").await.unwrap();
        let (code, _, line) = typed(&mut crew, "founder", &["why", end, &founder.host]);
        assert_eq!((code, line.lines().count()), (Some(1), 1), "{line}");
        assert!(line.contains("cannot be asked") && line.contains("consort why"), "{line}");
    }
}
