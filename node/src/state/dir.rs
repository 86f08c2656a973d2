//! The state directory: made, checked, and locked for one daemon.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::failure::Failure;

const LOCK_NAME: &str = "lock";

/// A state directory that this process alone uses until the value is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// The kernel gives the lock back when the descriptor closes, however the process ends.
    _lock: File,
}

impl StateDir {
    /// Makes the directory where it is missing, closes it to others, and locks it.
    ///
    /// # Errors
    /// If it cannot be made, read or written, belongs to another user, or another daemon has it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| unusable(path, "make", &error))?;
        let metadata = std::fs::metadata(path).map_err(|error| unusable(path, "look at", &error))?;
        let user = rustix::process::geteuid();
        if metadata.uid() != user.as_raw() {
            return Err(Failure::failed(
                "state_dir_owner",
                format!(
                    "the state directory {} belongs to user {}, and this is user {user}",
                    path.display(),
                    metadata.uid()
                ),
            )
            .remedy("run the node as its owner, or give another --state-dir"));
        }
        std::fs::read_dir(path).map_err(|error| unusable(path, "read", &error))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
                .map_err(|error| unusable(path, "close", &error))?;
        }
        let lock = lock(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What helps where the directory, or something in it, cannot be used.
pub(crate) fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "give its owner read and write permission, or give another --state-dir"
        }
        ErrorKind::ReadOnlyFilesystem => "give a --state-dir on a file system that can be written",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space on its file system, or give another --state-dir"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "give a directory with --state-dir",
        _ => "check the path given with --state-dir",
    }
}

fn unusable(path: &Path, what: &str, error: &std::io::Error) -> Failure {
    Failure::failed(
        "state_dir_unusable",
        format!("cannot {what} the state directory {}: {error}", path.display()),
    )
    .remedy(remedy(error))
}

fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join(LOCK_NAME);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| unusable(dir, "write to", &error))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        let pid = match file.read_to_string(&mut holder) {
            Ok(_) if !holder.trim().is_empty() => format!(" (pid {})", holder.trim()),
            _ => String::new(),
        };
        return Err(Failure::failed(
            "state_dir_in_use",
            format!("another daemon{pid} runs on the state directory {}", dir.display()),
        )
        .remedy("stop it first, or give another --state-dir"));
    }
    let write_pid = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write_pid(&mut file).map_err(|error| unusable(dir, "write to", &error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_kept_out_until_the_first_is_gone() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a/b");
        let first = StateDir::open(&path).unwrap();
        let failure = StateDir::open(&path).expect_err("locked");
        assert_eq!(failure.code, "state_dir_in_use");
        assert!(failure.message.contains(&format!("pid {}", std::process::id())), "{failure}");
        drop(first);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn the_directory_is_closed_to_others() {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        StateDir::open(temporary.path()).unwrap();
        let mode = std::fs::metadata(temporary.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_file_in_its_place_is_named_with_a_remedy() {
        let temporary = tempfile::NamedTempFile::new().unwrap();
        let failure = StateDir::open(temporary.path()).expect_err("not a directory");
        assert_eq!(failure.code, "state_dir_unusable");
        assert!(failure.to_string().contains("give a directory"), "{failure}");
    }

    #[test]
    fn an_unreadable_directory_is_named_with_a_remedy() {
        if rustix::process::geteuid().is_root() {
            println!("skipped: root reads every directory");
            return;
        }
        let temporary = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o000)).unwrap();
        let failure = StateDir::open(temporary.path()).expect_err("unreadable");
        std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(failure.code, "state_dir_unusable");
        assert!(failure.message.contains(&temporary.path().display().to_string()), "{failure}");
    }
}
