//! The API of real daemons on loopback: what it answers, whom it refuses, what a restart keeps. Nothing here needs privileges.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use crate::support::{Daemon, consort};
use consort_node::config::paths::socket_in;
use consort_node::control::api::{
    InviteBody, JoinBody, Joined, Member, Peer, Plan, SliceBody, Status, Ticket,
};
use consort_node::failure::Kind;
use serde_json::{Value, json};

const SLICE: &str = "name = \"mpi\"\n[machine.worker]\ncount = 2\nimage = \"mini\"\nmemory = \"16MiB\"\n\
                     networks = [\"lan\"]\n[network.lan]\n";

/// One request as bytes, one answer as text.
fn raw(daemon: &Daemon, request: &str) -> String {
    let mut stream = UnixStream::connect(socket_in(&daemon.dir)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn a_daemon_says_who_it_is_and_what_it_shares() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), &[]);
    let status: Status = daemon.client().get("/v1/status").await.unwrap();
    assert_eq!(daemon.ready["host"], status.host);
    assert_eq!(daemon.ready["overlay"], status.overlay);
    assert_eq!(status.pid, daemon.pid());
    assert_eq!((status.peers_connected, status.machines, status.slices), (0, 0, 0));
    assert!(status.share.memory_bytes > 0 && status.share.free_memory_bytes == status.share.memory_bytes);
    let mode = std::fs::metadata(socket_in(dir.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(daemon.terminate(), Some(0));
    assert!(!socket_in(dir.path()).exists(), "the socket is left behind");
}

#[tokio::test]
async fn every_route_is_in_the_document_and_every_failure_has_one_form() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), &[]);
    let client = daemon.client();
    let document: Value = client.get("/openapi.json").await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with('3'));
    assert!(document["paths"]["/v1/slices/{name}"]["get"].is_object());

    let failure = client.get::<Value>("/v1/nothing").await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (Kind::NotFound, "no_route"));
    let failure = client.delete::<Value>("/v1/status").await.unwrap_err();
    assert_eq!(failure.code, "no_route");
    let failure = client.post::<Value>("/v1/slices", &json!({ "fiel": "x" })).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (Kind::Input, "body_malformed"));
    let head = "POST /v1/slices HTTP/1.1\r\nHost: consort\r\nContent-Type: application/json\r\n";
    let answer = raw(&daemon, &format!("{head}Content-Length: 1048576\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("body_too_large"), "{answer}");
    let failure = client.get::<Value>("/v1/slices/none").await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (Kind::NotFound, "no_slice"));
    let failure = client.get::<Value>("/v1/machines/worker-0").await.unwrap_err();
    assert_eq!(failure.code, "no_machine");
    let failure = client.get::<Value>("/v1/nets/lan").await.unwrap_err();
    assert_eq!(failure.code, "no_network");
    let failure =
        client.post::<Value>("/v1/machines/worker-0/exec", &json!({ "argv": ["x"] })).await.unwrap_err();
    assert_eq!(failure.code, "no_upgrade");
    let failure =
        client.post::<Value>("/v1/overlay/join", &json!({ "ticket": "consort1x" })).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (Kind::Input, "bad_ticket"));
    let failure = client.post::<Value>("/v1/overlay/revoke", &json!({ "key": "me" })).await.unwrap_err();
    assert_eq!(failure.code, "bad_key");
}

#[tokio::test]
async fn what_is_not_http_ends_that_connection_only() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), &[]);
    let answer = raw(&daemon, "\u{0}\u{1}\u{2} this is no request\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    daemon.client().get::<Status>("/v1/status").await.unwrap();
}

#[tokio::test]
async fn a_plan_reserves_nothing_and_names_the_field_of_a_wrong_file() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), &[]);
    let client = daemon.client();
    let wrong = SliceBody { file: SLICE.replace("memory", "memroy"), wait: false };
    let failure = client.post::<Plan>("/v1/plan", &wrong).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (Kind::Input, "slice_file"));
    assert!(failure.message.contains("memroy"), "{failure}");

    let plan: Plan =
        client.post("/v1/plan", &SliceBody { file: SLICE.to_owned(), wait: false }).await.unwrap();
    assert_eq!(plan.asked, [daemon.ready["host"].as_str().unwrap()]);
    let status: Status = client.get("/v1/status").await.unwrap();
    assert_eq!(status.share.free_memory_bytes, status.share.memory_bytes);

    let large = SliceBody { file: SLICE.replace("16MiB", "64TiB"), wait: false };
    let plan: Plan = client.post("/v1/plan", &large).await.unwrap();
    assert!(!plan.fits && !plan.refusals.is_empty(), "{plan:?}");
    let failure = client.post::<Value>("/v1/slices", &large).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Refused, "{failure}");
}

#[tokio::test]
async fn identity_and_membership_outlive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let first = Daemon::start(dir.path(), &[]);
    let before: Status = first.client().get("/v1/status").await.unwrap();
    first.kill();
    let second = Daemon::start(dir.path(), &[]);
    let after: Status = second.client().get("/v1/status").await.unwrap();
    assert_eq!((before.host, before.overlay, before.tenant), (after.host, after.overlay, after.tenant));
}

#[tokio::test]
async fn two_nodes_join_by_ticket_and_know_each_other() {
    let (one, two, three) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let founder = Daemon::start(one.path(), &[]);
    let invite = InviteBody { valid_ms: 60_000 };
    let ticket: Ticket = founder.client().post("/v1/overlay/invite", &invite).await.unwrap();

    let newcomer = Daemon::start(two.path(), &["--join", &ticket.ticket]);
    assert_eq!(newcomer.ready["overlay"], founder.ready["overlay"]);
    // A node that has founded an overlay of its own, in which it is alone, moves.
    let mover = Daemon::start(three.path(), &[]);
    assert_ne!(mover.ready["overlay"], founder.ready["overlay"]);
    let joined: Joined =
        mover.client().post("/v1/overlay/join", &JoinBody { ticket: ticket.ticket }).await.unwrap();
    assert_eq!(founder.ready["overlay"], joined.overlay);
    mover
        .client()
        .post::<Plan>("/v1/plan", &SliceBody { file: SLICE.to_owned(), wait: false })
        .await
        .unwrap();

    let members: Vec<Member> = founder.client().get("/v1/overlay/members").await.unwrap();
    let hosts: Vec<&str> = members.iter().map(|member| member.host.as_str()).collect();
    for daemon in [&founder, &newcomer, &mover] {
        assert!(hosts.contains(&daemon.ready["host"].as_str().unwrap()), "{hosts:?}");
    }
    let peers: Vec<Peer> = newcomer.client().get("/v1/peers").await.unwrap();
    let to_founder = peers.iter().find(|peer| founder.ready["host"] == peer.host).unwrap();
    assert!(to_founder.connected, "{to_founder:?}");
}

#[tokio::test]
async fn over_tcp_the_token_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let config = dir.path().join("consort.toml");
    std::fs::write(&config, "[api]\ntcp = \"127.0.0.1:0\"\n").unwrap();
    let daemon = Daemon::start(&state, &["--config", config.to_str().unwrap()]);
    let address = daemon.ready["api_tcp"].as_str().unwrap().to_owned();
    let ask = |token: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let request = format!(
            "GET /v1/status HTTP/1.1\r\nHost: consort\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let token = std::fs::read_to_string(state.join("api.token")).unwrap();
    assert_eq!(std::fs::metadata(state.join("api.token")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(ask(token.trim()).starts_with("HTTP/1.1 200"));
    let refused = ask("guess");
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("no_token"), "{refused}");
}

#[test]
fn commands_find_their_daemon_by_variable_and_print_json() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), &[]);
    for command in
        [&["status"][..], &["peers"], &["members"], &["slice", "ls"], &["machine", "ls"], &["net", "ls"]]
    {
        let output = consort()
            .env("CONSORT_SOCKET", socket_in(&daemon.dir))
            .args(command)
            .arg("--json")
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap();
    }
}
