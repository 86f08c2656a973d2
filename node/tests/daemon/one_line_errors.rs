//! Whatever keeps a command or the daemon from its work is one line that names the thing and the remedy, with the exit code of the contract.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use crate::support::{Daemon, consort, run, said};

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

fn config(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("consort.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn node_with(text: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), text);
    let state = dir.path().join("state");
    said(&run(&["node", "--state-dir", state.to_str().unwrap(), "--config", config.to_str().unwrap()]))
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() {
    let (code, line) = node_with("[share]\nmemroy = \"4GiB\"\n");
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("line 2") && line.contains("`memroy`") && line.contains("`memory`?"), "{line}");
}

#[test]
fn a_bad_unit_is_named_with_what_to_write() {
    let (code, line) = node_with("[share]\nmemory = \"4 gigs\"\n");
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("share.memory") && line.contains("gigs") && line.contains("4GiB"), "{line}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let (code, line) = said(&run(&[
        "node",
        "--log",
        "error",
        "--listen",
        &address,
        "--state-dir",
        dir.path().to_str().unwrap(),
    ]));
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains(&address) && line.contains("--listen"), "{line}");
}

#[test]
fn a_data_port_in_use_is_named() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &format!("[data]\nlisten = \"{address}\"\n"));
    let (code, line) = said(&run(&[
        "node",
        "--log",
        "error",
        "--listen",
        "127.0.0.1:0",
        "--state-dir",
        dir.path().join("state").to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ]));
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains(&address.to_string()) && line.contains("data.listen"), "{line}");
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let (code, line) = said(&run(&["node", "--state-dir", "/proc/consort"]));
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("/proc/consort") && line.contains("--state-dir"), "{line}");
}

#[test]
fn an_unreadable_directory_and_a_missing_privilege_are_named() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let unprivileged = |arguments: &[&str]| consort().args(arguments).uid(NOBODY).gid(NOBODY).output();
    let inside = dir.path().join("state");
    let Ok(output) = unprivileged(&["node", "--state-dir", inside.to_str().unwrap()]) else {
        println!("skipped: the program lies where another user cannot run it");
        return;
    };
    let (code, line) = said(&output);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains(inside.to_str().unwrap()) && line.contains("permission"), "{line}");

    let own = dir.path().join("own");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    std::fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    let listen = ["node", "--log", "error", "--listen", "127.0.0.1:1", "--state-dir", own.to_str().unwrap()];
    let (code, line) = said(&unprivileged(&listen).unwrap());
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("127.0.0.1:1") && line.contains("1024"), "{line}");
}

#[test]
fn a_second_daemon_on_a_directory_is_refused_and_the_first_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let first = Daemon::start(dir.path(), &[]);
    let (code, line) =
        said(&run(&["node", "--listen", "127.0.0.1:0", "--state-dir", dir.path().to_str().unwrap()]));
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains(&format!("pid {}", first.pid())), "{line}");
    assert!(line.contains(dir.path().to_str().unwrap()), "{line}");
}

#[test]
fn no_daemon_is_exit_code_4() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("consort.sock");
    for command in [&["status"][..], &["slice", "ls"], &["machine", "ls"], &["invite"]] {
        let mut arguments = vec!["--socket", socket.to_str().unwrap()];
        arguments.extend(command);
        let (code, line) = said(&run(&arguments));
        assert_eq!(code, Some(4), "{line}");
        assert!(line.contains(socket.to_str().unwrap()) && line.contains("consort node"), "{line}");
    }
}

#[test]
fn bad_usage_is_exit_code_2() {
    for command in
        [&["frobnicate"][..], &["slice"], &["machine", "exec", "x"], &["node", "--listen", "nowhere"]]
    {
        assert_eq!(run(command).status.code(), Some(2), "{command:?}");
    }
}

#[test]
fn what_is_not_there_yet_is_refused_in_a_plain_sentence() {
    for command in [
        &["slice", "grow", "mpi", "--machines", "2"][..],
        &["image", "pull", "x"],
        &["net", "capture", "x"],
        &["machine", "migrate", "x"],
    ] {
        let (code, line) = said(&run(command));
        assert_eq!(code, Some(3), "{line}");
        assert!(line.contains("not supported yet"), "{line}");
    }
}

#[test]
fn with_json_a_failure_is_also_a_document() {
    let output = run(&["--json", "slice", "grow", "mpi", "--machines", "2"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["code"], "not_yet_supported");
}

#[test]
fn a_ticket_that_is_none_is_refused_before_anything_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    let (code, line) = said(&run(&[
        "node",
        "--listen",
        "127.0.0.1:0",
        "--state-dir",
        dir.path().to_str().unwrap(),
        "--join",
        "consort1nonsense",
    ]));
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("consort invite"), "{line}");
}
