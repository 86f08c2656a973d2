//! The keys of a node, each in a file of its own that only its owner reads: `identity.key` names the host, `tenant.key` signs
//! the slices asked for here, `data.key` is the static secret of the links.
//!
//! A key is written once, whole (a temporary file, synced, then renamed), and never again.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use libp2p_identity::Keypair;
use zeroize::Zeroizing;

use super::dir::{self, StateDir};
use crate::failure::Failure;

/// Bytes of an X25519 secret (RFC 7748).
pub const DATA_SECRET_LEN: usize = 32;

/// All keys of one node.
pub struct Keys {
    /// Names the host.
    pub identity: Keypair,
    /// Signs the slices asked for here.
    pub tenant: Keypair,
    /// The static secret of the links.
    pub data_secret: Zeroizing<[u8; DATA_SECRET_LEN]>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Keys").field("host", &self.identity.public().to_peer_id()).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the keys, making those that are missing.
    ///
    /// # Errors
    /// If a file cannot be read or written, is open to others, or does not hold a key.
    pub fn load_or_make(dir: &StateDir) -> Result<Self, Failure> {
        let dir = dir.path();
        let data_path = dir.join("data.key");
        let data_bytes = read_or_make(&data_path, || {
            let mut secret = Zeroizing::new(vec![0; DATA_SECRET_LEN]);
            fill_random(&mut secret)?;
            Ok(secret)
        })?;
        let data_secret = <[u8; DATA_SECRET_LEN]>::try_from(data_bytes.as_slice())
            .map_err(|_| not_a_key(&data_path, "it has the wrong length"))?;
        Ok(Self {
            identity: signing_key(&dir.join("identity.key"))?,
            tenant: signing_key(&dir.join("tenant.key"))?,
            data_secret: Zeroizing::new(data_secret),
        })
    }
}

/// Fills `bytes` from the kernel's generator.
///
/// # Errors
/// If the kernel has none.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), Failure> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| {
                Failure::failed("no_randomness", format!("the kernel gives no random bytes: {error}"))
            })?;
    }
    Ok(())
}

fn signing_key(path: &Path) -> Result<Keypair, Failure> {
    let bytes = read_or_make(path, || {
        let key = Keypair::generate_ed25519();
        key.to_protobuf_encoding()
            .map(Zeroizing::new)
            .map_err(|error| Failure::failed("key_encoding", format!("cannot encode a new key: {error}")))
    })?;
    Keypair::from_protobuf_encoding(&bytes).map_err(|error| not_a_key(path, &error.to_string()))
}

fn not_a_key(path: &Path, why: &str) -> Failure {
    Failure::failed("key_damaged", format!("{} does not hold a key: {why}", path.display()))
        .remedy("restore it from a backup; without it this node is another node")
}

fn read_or_make(
    path: &Path,
    make: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, Failure>,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let cannot = |what: &str, error: std::io::Error| {
        Failure::failed("key_unusable", format!("cannot {what} {}: {error}", path.display()))
            .remedy(dir::remedy(&error))
    };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            return Err(Failure::failed(
                "key_open_to_others",
                format!("{} can be read by others", path.display()),
            )
            .remedy(format!("run chmod 600 {}", path.display())));
        }
        Ok(_) => return std::fs::read(path).map(Zeroizing::new).map_err(|error| cannot("read", error)),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(cannot("look at", error)),
    }
    let key = make()?;
    write_whole(path, &key).map_err(|error| cannot("write", error))?;
    Ok(key)
}

/// Writes a file that others cannot read, so that after a crash it is there whole or not at all.
///
/// # Errors
/// If the file system refuses.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let written = write_new(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        // Where not even this can be done it stays, and the next write takes its place.
        let _left = std::fs::remove_file(&temporary);
        return Err(error);
    }
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, StateDir) {
        let temporary = tempfile::tempdir().unwrap();
        let dir = StateDir::open(temporary.path()).unwrap();
        (temporary, dir)
    }

    #[test]
    fn keys_are_made_once_and_found_again() {
        let (_temporary, dir) = state();
        let first = Keys::load_or_make(&dir).unwrap();
        let second = Keys::load_or_make(&dir).unwrap();
        assert_eq!(first.identity.public(), second.identity.public());
        assert_eq!(first.tenant.public(), second.tenant.public());
        assert_eq!(first.data_secret, second.data_secret);
        assert_ne!(first.identity.public(), first.tenant.public());
    }

    #[test]
    fn key_files_are_closed_to_others_and_refused_when_opened() {
        let (_temporary, dir) = state();
        Keys::load_or_make(&dir).unwrap();
        let path = dir.path().join("identity.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let failure = Keys::load_or_make(&dir).unwrap_err();
        assert_eq!(failure.code, "key_open_to_others");
        assert!(failure.to_string().contains("chmod 600"), "{failure}");
    }

    #[test]
    fn a_damaged_key_is_refused_and_not_replaced() {
        let (_temporary, dir) = state();
        let path = dir.path().join("identity.key");
        write_whole(&path, b"not a key").unwrap();
        assert_eq!(Keys::load_or_make(&dir).unwrap_err().code, "key_damaged");
        assert_eq!(std::fs::read(&path).unwrap(), b"not a key");
    }

    #[test]
    fn secrets_do_not_print() {
        let (_temporary, dir) = state();
        let keys = Keys::load_or_make(&dir).unwrap();
        let printed = format!("{keys:?}");
        assert!(printed.contains(&keys.identity.public().to_peer_id().to_string()));
        assert!(!printed.contains("secret"), "{printed}");
    }

    #[test]
    fn what_cannot_be_written_whole_leaves_nothing() {
        let (temporary, _dir) = state();
        let path = temporary.path().join("a-directory-that-is-not-empty");
        std::fs::create_dir_all(path.join("something")).unwrap();
        write_whole(&path, b"bytes").unwrap_err();
        assert!(!path.with_extension("new").exists());
    }

    #[test]
    fn a_full_disk_is_no_matter_of_permissions() {
        let full = std::io::Error::from(ErrorKind::StorageFull);
        assert_eq!(dir::remedy(&full), "free some space on its file system, or give another --state-dir");
    }
}
