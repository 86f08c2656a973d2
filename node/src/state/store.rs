//! The store: one redb file of named rooms, each a map from a text to bytes.
//!
//! Owns: durability and the version of the layout. Refuses to know what the bytes mean.
//! Invariants: all changes of one [`Store::write`] are there after a crash, or none; they are durable when it returns. A file of a
//! later version is refused, not guessed at. After a write that the disk refused redb takes no other: the file is opened anew then, and
//! holds what was durable before.
//! Sources: redb's design document (copy-on-write B-trees, two commit slots); what was measured is in design.md section 9.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::failure::Failure;

/// The layout this program writes. Raise it when a room's keys or bytes change meaning, and migrate in [`Store::open`].
pub const LAYOUT_VERSION: u32 = 1;

/// redb's page cache; the store is small and read at start only, so more would be memory for nothing.
const CACHE_BYTES: usize = 1 << 20;

const FILE_NAME: &str = "state.redb";
const VERSION_KEY: &str = "layout version";

/// The rooms of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Room {
    /// About the store and the node itself.
    Node,
    /// What the overlay asked to keep.
    Overlay,
    /// What the scheduler's engine asked to keep.
    Engine,
    /// Orders for machines of this host.
    Machines,
    /// Networks by themselves that this host made or is on.
    Networks,
}

impl Room {
    fn table(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(match self {
            Self::Node => "node",
            Self::Overlay => "overlay",
            Self::Engine => "engine",
            Self::Machines => "machines",
            Self::Networks => "networks",
        })
    }
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub room: Room,
    /// Which.
    pub key: String,
    /// The new bytes; none to forget the key.
    pub value: Option<Vec<u8>>,
}

/// The open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// None where it could not be opened anew, until it can.
    database: RwLock<Option<Database>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the store {what} failed: {source}")]
pub struct StoreError {
    what: &'static str,
    source: redb::Error,
}

impl StoreError {
    fn when<E: Into<redb::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self { what, source: source.into() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::failed("store", error.to_string()).remedy("check the disk that holds the state directory")
    }
}

impl Store {
    /// Opens the store in `dir`, making it where it is missing.
    ///
    /// # Errors
    /// If the file cannot be read or written, is damaged, or is of a later version.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(FILE_NAME);
        let cannot = |error: &dyn std::fmt::Display| {
            Failure::failed("store_unusable", format!("cannot open the store {}: {error}", path.display()))
                .remedy("restore it from a backup, or move it away to begin anew")
        };
        let database = open_file(&path, true).map_err(|error| cannot(&error))?;
        let store =
            Self { shared: Arc::new(Shared { path: path.clone(), database: RwLock::new(Some(database)) }) };
        match store.read(Room::Node, VERSION_KEY)? {
            None => store.write(&[Change {
                room: Room::Node,
                key: VERSION_KEY.to_owned(),
                value: Some(LAYOUT_VERSION.to_le_bytes().to_vec()),
            }])?,
            Some(version) if version == LAYOUT_VERSION.to_le_bytes() => {}
            Some(_) => {
                return Err(Failure::failed(
                    "store_version",
                    format!("the store {} was written by another version of consort", path.display()),
                )
                .remedy("run the version that wrote it, or give another --state-dir"));
            }
        }
        Ok(store)
    }

    /// The bytes of one key.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self, room: Room, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let read = |database: &Database| {
            let transaction = database.begin_read()?;
            let table = match transaction.open_table(room.table()) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            Ok(table.get(key)?.map(|guard| guard.value().to_vec()))
        };
        self.with(read).map_err(StoreError::when("read"))
    }

    /// All keys of a room, in order.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read_all(&self, room: Room) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let read = |database: &Database| {
            let transaction = database.begin_read()?;
            let table = match transaction.open_table(room.table()) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let entries = table.iter()?;
            entries
                .map(|entry| entry.map(|(key, value)| (key.value().to_owned(), value.value().to_vec())))
                .collect::<Result<_, _>>()
                .map_err(redb::Error::from)
        };
        self.with(read).map_err(StoreError::when("read"))
    }

    /// Makes all of `changes` durable, or none. Waits for the disk: call it where waiting is right.
    ///
    /// # Errors
    /// If the disk refuses; then nothing has changed.
    pub fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        let write = |database: &Database| {
            let transaction = database.begin_write()?;
            for change in changes {
                let mut table = transaction.open_table(change.room.table())?;
                match &change.value {
                    Some(value) => drop(table.insert(change.key.as_str(), value.as_slice())?),
                    None => drop(table.remove(change.key.as_str())?),
                }
            }
            Ok(transaction.commit()?)
        };
        self.with(write).map_err(StoreError::when("write"))
    }

    /// Does something with the file; once more with the file opened anew, where an earlier write had failed.
    fn with<T>(&self, act: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        {
            let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
            match database.as_ref().map(&act) {
                Some(Err(redb::Error::PreviousIo)) | None => {}
                Some(done) => return done,
            }
        }
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        // The file is locked while it is open.
        drop(database.take());
        let again = open_file(&self.shared.path, false)?;
        act(database.insert(again))
    }
}

/// Opens the file, and makes it only at first: one that is gone later is a fault, not a store that holds nothing.
fn open_file(path: &Path, may_make: bool) -> Result<Database, redb::Error> {
    let file =
        OpenOptions::new().read(true).write(true).create(may_make).truncate(false).mode(0o600).open(path)?;
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create_file(file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(room: Room, key: &str, value: &[u8]) -> Change {
        Change { room, key: key.to_owned(), value: Some(value.to_vec()) }
    }

    #[test]
    fn what_was_written_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.write(&[put(Room::Engine, "b", b"2"), put(Room::Engine, "a", b"1")]).unwrap();
        store.write(&[Change { room: Room::Engine, key: "b".to_owned(), value: None }]).unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.read_all(Room::Engine).unwrap(), [("a".to_owned(), b"1".to_vec())]);
        assert_eq!(store.read(Room::Engine, "b").unwrap(), None);
        assert_eq!(store.read_all(Room::Machines).unwrap(), []);
    }

    #[test]
    fn a_store_of_another_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.write(&[put(Room::Node, VERSION_KEY, &99_u32.to_le_bytes())]).unwrap();
        drop(store);
        assert_eq!(Store::open(dir.path()).unwrap_err().code, "store_version");
    }

    #[test]
    fn a_damaged_store_is_refused_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), b"this is no store, but long enough to be looked at")
            .unwrap();
        let failure = Store::open(dir.path()).unwrap_err();
        assert_eq!(failure.code, "store_unusable");
        assert!(failure.to_string().contains("restore it"), "{failure}");
    }
}
