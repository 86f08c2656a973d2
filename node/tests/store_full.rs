//! A disk that refuses for a while costs what was written meanwhile, and nothing before or after.
//!
//! The disk is full here by a limit on the size of this process's files: so it is the only test of its program.

use consort_node::state::store::{Change, Room, Store};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

fn change(key: &str, bytes: usize) -> Change {
    Change { room: Room::Networks, key: key.to_owned(), value: Some(vec![7; bytes]) }
}

#[test]
fn what_the_disk_refused_may_be_written_once_it_has_room() {
    let mut signals = SigSet::empty();
    // Else the limit ends the process.
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.write(&[change("before", 100)]).unwrap();
    let size = std::fs::metadata(dir.path().join("state.redb")).unwrap().len();
    setrlimit(Resource::RLIMIT_FSIZE, size, most).unwrap();
    for _ in 0..3 {
        store.write(&[change("meanwhile", 16 << 20)]).unwrap_err();
        assert_eq!(store.read(Room::Networks, "meanwhile").unwrap(), None);
    }
    setrlimit(Resource::RLIMIT_FSIZE, most, most).unwrap();
    store.write(&[change("after", 16 << 20)]).unwrap();
    let keys = |store: &Store| {
        store.read_all(Room::Networks).unwrap().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(keys(&store), ["after", "before"]);
    drop(store);
    assert_eq!(keys(&Store::open(dir.path()).unwrap()), ["after", "before"]);
}
