//! The store keeps its word when the process is killed at any instant: what was acknowledged is there, and no change is there in part.
//!
//! A writer process (this very test program, started again) counts upwards in two keys of two rooms in one transaction and prints each number
//! once it is durable; it is killed with SIGKILL after some of them, and what it printed last is compared with what the file holds.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use consort_node::state::store::{Change, Room, Store};

const DIR_VARIABLE: &str = "CONSORT_TEST_STORE_DIR";

fn number_at(store: &Store, room: Room) -> u64 {
    let bytes = store.read(room, "counter").unwrap();
    bytes.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

/// Only does something when started by the test below.
#[test]
#[ignore = "the writer of the other test, which kills it"]
fn writer() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let store = Store::open(Path::new(&dir)).unwrap();
    for number in number_at(&store, Room::Engine) + 1.. {
        let change =
            |room| Change { room, key: "counter".to_owned(), value: Some(number.to_le_bytes().to_vec()) };
        store.write(&[change(Room::Engine), change(Room::Machines)]).unwrap();
        println!("durable {number}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_half_done_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--ignored", "--nocapture"])
            .env(DIR_VARIABLE, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        let mut seen = 0;
        while seen < round {
            let line = lines.next().expect("the writer goes on until it is killed").unwrap();
            if let Some((_, number)) = line.split_once("durable ") {
                acknowledged = number.parse().unwrap();
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some((_, number)) = line.split_once("durable ") {
                acknowledged = number.parse().unwrap_or(acknowledged);
            }
        }
        let store = Store::open(dir.path()).unwrap();
        let (engine, machines) = (number_at(&store, Room::Engine), number_at(&store, Room::Machines));
        assert_eq!(engine, machines, "round {round}: a change is there in part");
        assert!(engine >= acknowledged, "round {round}: {acknowledged} was acknowledged, {engine} is there");
    }
}
