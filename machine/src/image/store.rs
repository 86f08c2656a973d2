//! The directory of images.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::mini::{self, MiniReport};
use super::tree::{hash_tree, remove_tree};
use super::{ImageId, ImageIdError};

/// The guest program, linked statically by this crate's build script.
static GUEST: &[u8] = include_bytes!(env!("CONSORT_GUEST"));

/// Distinguishes makers within one process.
static MAKER: AtomicU32 = AtomicU32::new(0);

/// The images of one node.
///
/// The id of an image is BLAKE3 in key derivation mode, context `consort image tree 1`, over its entries in byte order of their
/// names, each as name length (8 bytes), name, mode length and mode, and then `d` with the entries of the directory and `e`, or `l`
/// with the link's target, or `f` with length and bytes of the file.
#[derive(Debug, Clone)]
pub struct ImageStore {
    directory: PathBuf,
}

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The store's files.
    #[error("{attempt} {path}: {source}")]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The file that a name stands in holds something else.
    #[error("{path}: {source}; remove the file to have the image made again")]
    Name {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ImageIdError,
    },
}

impl ImageStore {
    /// Opens the store, making its directory if needed, and clears what a killed maker left.
    ///
    /// # Errors
    /// The directory cannot be made, read or written.
    pub fn open(directory: &Path) -> Result<Self, ImageError> {
        let names = directory.join("names");
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&names).map_err(file("make", &names))?;
        let directory = directory.canonicalize().map_err(file("resolve", directory))?;
        let store = Self { directory };
        store.clear_unfinished()?;
        Ok(store)
    }

    fn clear_unfinished(&self) -> Result<(), ImageError> {
        for entry in fs::read_dir(&self.directory).map_err(file("read", &self.directory))? {
            let entry = entry.map_err(file("read", &self.directory))?;
            let name = entry.file_name();
            let maker = name
                .to_str()
                .and_then(|name| name.strip_prefix("making-"))
                .and_then(|rest| rest.split('-').next());
            if let Some(pid) = maker
                && pid != std::process::id().to_string()
                && !Path::new("/proc").join(pid).exists()
            {
                remove_tree(&entry.path()).map_err(file("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// The tree of an image that is here.
    #[must_use]
    pub fn root(&self, id: &ImageId) -> Option<PathBuf> {
        let root = self.directory.join(id.to_string()).join("root");
        root.is_dir().then_some(root)
    }

    /// The image that a name stands for, if there is such a name and the image is here.
    ///
    /// # Errors
    /// The name's file cannot be read or holds no id.
    pub fn named(&self, name: &str) -> Result<Option<ImageId>, ImageError> {
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.')
            || name.starts_with('.')
        {
            return Ok(None);
        }
        let path = self.directory.join("names").join(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ImageError::File { attempt: "read", path, source }),
        };
        let id = text.trim().parse().map_err(|source| ImageError::Name { path, source })?;
        Ok(self.root(&id).map(|_| id))
    }

    /// The mini image, made now from what the host has if it is not here yet. Blocks on files for some tens of milliseconds when it
    /// is made.
    ///
    /// # Errors
    /// The store's files. What the host lacks is not an error: the report says what is in the image.
    pub fn ensure_mini(&self) -> Result<(ImageId, MiniReport), ImageError> {
        if let Some(id) = self.named("mini")? {
            let path = self.directory.join(id.to_string()).join("report.json");
            if let Some(report) = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                return Ok((id, report));
            }
        }
        self.make("mini", mini::make)
    }

    /// Makes an image in a private directory, names it by its content and then by `name`.
    fn make(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> io::Result<MiniReport>,
    ) -> Result<(ImageId, MiniReport), ImageError> {
        let number = MAKER.fetch_add(1, Ordering::Relaxed);
        let work = self.directory.join(format!("making-{}-{number}", std::process::id()));
        let made = self.make_in(&work, name, fill);
        remove_tree(&work).map_err(file("remove", &work))?;
        made
    }

    fn make_in(
        &self,
        work: &Path,
        name: &str,
        fill: impl FnOnce(&Path) -> io::Result<MiniReport>,
    ) -> Result<(ImageId, MiniReport), ImageError> {
        let root = work.join("root");
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&root).map_err(file("make", &root))?;
        let report = fill(&root).map_err(file("make an image in", &root))?;
        let id = ImageId::from_bytes(*hash_tree(&root).map_err(file("hash", &root))?.as_bytes());
        let report_path = work.join("report.json");
        let report_bytes = serde_json::to_vec(&report).expect("a report is plain data");
        fs::write(&report_path, report_bytes).map_err(file("write", &report_path))?;
        let place = self.directory.join(id.to_string());
        match fs::rename(work, &place) {
            Ok(()) => {}
            // The same content stands there already, made by another.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) => {}
            Err(source) => return Err(ImageError::File { attempt: "name", path: place, source }),
        }
        self.place_file(&self.directory.join("names").join(name), id.to_string().as_bytes(), 0o644)?;
        Ok((id, report))
    }

    /// The guest program of this build, as a file that machines mount.
    ///
    /// # Errors
    /// The store's files.
    pub fn guest(&self) -> Result<PathBuf, ImageError> {
        let hash = blake3::hash(GUEST).to_hex();
        let path = self.directory.join(format!("guest-{}", &hash[..16]));
        let whole = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == GUEST.len() as u64);
        if !whole {
            self.place_file(&path, GUEST, 0o555)?;
        }
        Ok(path)
    }

    /// Writes a file so that it is there whole or not at all.
    fn place_file(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), ImageError> {
        let number = MAKER.fetch_add(1, Ordering::Relaxed);
        let work = self.directory.join(format!("making-{}-{number}", std::process::id()));
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&work)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&work, path)
        };
        write().map_err(file("write", path))
    }
}

fn file<'a>(attempt: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ImageError + 'a {
    move |source| ImageError::File { attempt, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir::TestDir;

    #[test]
    fn the_mini_image_is_made_once_and_named_by_its_content() {
        let dir = TestDir::new("mini");
        let store = ImageStore::open(&dir.path().join("images")).unwrap();
        let (id, report) = store.ensure_mini().unwrap();
        assert_eq!(store.ensure_mini().unwrap(), (id, report));
        assert_eq!(store.named("mini").unwrap(), Some(id));
        let root = store.root(&id).unwrap();
        assert_eq!(hash_tree(&root).unwrap().as_bytes(), id.as_bytes());
        assert!(root.join("etc/passwd").is_file());
        let other = ImageStore::open(&dir.path().join("other")).unwrap();
        assert_eq!(other.ensure_mini().unwrap().0, id, "the same host makes the same image");
    }

    #[test]
    fn what_a_killed_maker_left_is_cleared() {
        let dir = TestDir::new("unfinished");
        // No process has this number: it is above the kernel's largest.
        let left = dir.path().join("making-4194305-0");
        fs::create_dir(&left).unwrap();
        ImageStore::open(dir.path()).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn names_cannot_leave_the_store() {
        let dir = TestDir::new("names");
        let store = ImageStore::open(dir.path()).unwrap();
        for name in ["", ".", "..", "../x", "/etc/passwd", "a/b"] {
            assert_eq!(store.named(name).unwrap(), None, "{name:?}");
        }
    }
}
