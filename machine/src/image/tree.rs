//! Trees of files: naming their content, copying and removing them.
//!
//! Never follows a symbolic link and never leaves the tree: what is inside a machine's directory was written by a tenant.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::Path;

/// Directories within directories at most; a tree from an image maker is shallow, and recursion must end.
const DEPTH_MAX: usize = 64;

/// The content's hash: every entry in order of its name, with kind, mode and content, so that the same tree has the same name on
/// every host. Times and owners do not count.
pub(super) fn hash_tree(root: &Path) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new_derive_key("consort image tree 1");
    hash_directory(root, &mut hasher, 0)?;
    Ok(hasher.finalize())
}

fn hash_directory(directory: &Path, hasher: &mut blake3::Hasher, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("directories are nested too deeply"));
    }
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let metadata = entry.metadata()?;
        let name = entry.file_name();
        let kind = metadata.file_type();
        field(hasher, name.as_encoded_bytes());
        field(hasher, &(metadata.mode() & 0o7777).to_le_bytes());
        if kind.is_dir() {
            hasher.update(b"d");
            hash_directory(&entry.path(), hasher, depth + 1)?;
            hasher.update(b"e");
        } else if kind.is_symlink() {
            hasher.update(b"l");
            field(hasher, fs::read_link(entry.path())?.as_os_str().as_encoded_bytes());
        } else if kind.is_file() {
            hasher.update(b"f");
            hasher.update(&metadata.len().to_le_bytes());
            hasher.update_reader(fs::File::open(entry.path())?)?;
        } else {
            return Err(io::Error::other(format!(
                "{}: neither file, directory nor link",
                entry.path().display()
            )));
        }
    }
    Ok(())
}

fn field(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&u64::try_from(bytes.len()).expect("a length fits").to_le_bytes());
    hasher.update(bytes);
}

/// Copies a tree into `target`, which must exist, giving every entry to `owner` (if any) plus its own owner as a distance.
pub(crate) fn copy_tree(source: &Path, target: &Path, owner: Option<u32>) -> io::Result<()> {
    copy_directory(source, target, owner, 0)
}

fn copy_directory(source: &Path, target: &Path, owner: Option<u32>, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("directories are nested too deeply"));
    }
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let to = target.join(entry.file_name());
        let kind = metadata.file_type();
        if kind.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(&to)?;
            copy_directory(&entry.path(), &to, owner, depth + 1)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &to)?;
        } else if kind.is_file() {
            copy_file(&entry.path(), &to, metadata.mode() & 0o7777)?;
        } else {
            return Err(io::Error::other(format!(
                "{}: neither file, directory nor link",
                entry.path().display()
            )));
        }
        if let Some(first) = owner {
            lchown(&to, Some(first), Some(first))?;
        }
    }
    Ok(())
}

/// Copies one file's bytes into a new file of this mode.
pub(super) fn copy_file(source: &Path, target: &Path, mode: u32) -> io::Result<u64> {
    let mut from = fs::File::open(source)?;
    let mut to = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let bytes = io::copy(&mut from, &mut to)?;
    to.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(bytes)
}

/// Removes a tree, also where a mode keeps its own owner out (overlayfs leaves such a directory). A tree that is not there is removed.
pub(crate) fn remove_tree(root: &Path) -> io::Result<()> {
    match remove_entry(root, 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_entry(path: &Path, depth: usize) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    // A tenant can nest deeper than an image maker: up to the path's length, so the recursion is bounded by PATH_MAX / 2.
    if depth > 2048 {
        return Err(io::Error::other(format!("{}: nested too deeply", path.display())));
    }
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
            fs::read_dir(path)?
        }
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if let Err(error) = remove_entry(&entry.path(), depth + 1) {
            if error.kind() != io::ErrorKind::PermissionDenied {
                return Err(error);
            }
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
            remove_entry(&entry.path(), depth + 1)?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir::TestDir;

    fn plant(root: &Path) {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), b"content").unwrap();
        fs::set_permissions(root.join("a/file"), fs::Permissions::from_mode(0o644)).unwrap();
        symlink("/etc/passwd", root.join("a/b/link")).unwrap();
    }

    #[test]
    fn the_name_depends_on_content_mode_and_names_only() {
        let dir = TestDir::new("tree-hash");
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        plant(&one);
        plant(&two);
        let hash = hash_tree(&one).unwrap();
        assert_eq!(hash_tree(&two).unwrap(), hash);
        fs::set_permissions(two.join("a/file"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_ne!(hash_tree(&two).unwrap(), hash);
        fs::write(one.join("a/file"), b"content!").unwrap();
        assert_ne!(hash_tree(&one).unwrap(), hash);
    }

    #[test]
    fn a_copy_has_the_same_name_and_links_are_not_followed() {
        let dir = TestDir::new("tree-copy");
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        plant(&one);
        fs::create_dir(&two).unwrap();
        copy_tree(&one, &two, None).unwrap();
        assert_eq!(hash_tree(&one).unwrap(), hash_tree(&two).unwrap());
        assert_eq!(fs::read_link(two.join("a/b/link")).unwrap(), Path::new("/etc/passwd"));
    }

    #[test]
    fn removal_passes_closed_directories_and_stops_at_links() {
        let dir = TestDir::new("tree-remove");
        let tree = dir.path().join("tree");
        plant(&tree);
        fs::write(dir.path().join("outside"), b"stays").unwrap();
        symlink(dir.path(), tree.join("out")).unwrap();
        fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o500)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(dir.path().join("outside").exists());
        remove_tree(&tree).unwrap();
    }
}
