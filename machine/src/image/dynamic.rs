//! Which files a program needs beside itself: its loader and its libraries, found as the loader would.
//!
//! Order of search as in ld.so(8): the file's own search path, the cache, the standard directories.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::elf::{self, ElfError};
use super::ldcache;

/// A program or library larger than this is not taken along: it is no small tool.
pub(super) const FILE_BYTES_MAX: u64 = 24 << 20;

/// Where loaders look without being told; glibc's and musl's lists, with the multiarch directories of Debian.
pub(super) const STANDARD: [&str; 8] = [
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
];

/// Finds the host's libraries.
#[derive(Debug)]
pub(super) struct Loader {
    cache: Vec<(String, String)>,
}

/// Why a program cannot be taken along.
#[derive(Debug, thiserror::Error)]
pub(super) enum DependencyError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: larger than {FILE_BYTES_MAX} bytes")]
    TooLarge { path: PathBuf },
    #[error("{path}: {source}")]
    Elf { path: PathBuf, source: ElfError },
    #[error("{path} needs {library}, which is not on this host")]
    Missing { path: PathBuf, library: String },
    #[error("{path} needs more than {} files", elf::NEEDED_MAX)]
    TooMany { path: PathBuf },
}

impl Loader {
    /// Reads the host's cache, if it has one.
    pub(super) fn of_host() -> Self {
        Self { cache: fs::read("/etc/ld.so.cache").map(|file| ldcache::libraries(&file)).unwrap_or_default() }
    }

    /// The loader's and libraries' paths that a program needs, each as it must appear to the loader.
    pub(super) fn closure(&self, program: &Path) -> Result<BTreeSet<PathBuf>, DependencyError> {
        let mut found = BTreeSet::new();
        let mut open = vec![program.to_owned()];
        let mut machine = None;
        while let Some(path) = open.pop() {
            let needs = read_needs(&path)?;
            let machine = *machine.get_or_insert(needs.machine);
            let mut wanted: Vec<PathBuf> = needs.interpreter.iter().map(PathBuf::from).collect();
            for library in &needs.libraries {
                wanted.push(self.find(&path, library, &needs.search, machine)?);
            }
            for file in wanted {
                if found.insert(file.clone()) {
                    open.push(file);
                }
            }
            if found.len() > elf::NEEDED_MAX {
                return Err(DependencyError::TooMany { path: program.to_owned() });
            }
        }
        Ok(found)
    }

    fn find(
        &self,
        by: &Path,
        library: &str,
        search: &[String],
        machine: u16,
    ) -> Result<PathBuf, DependencyError> {
        let origin = by.parent().unwrap_or(Path::new("/")).display().to_string();
        let own = search.iter().flat_map(|paths| paths.split(':')).map(|path| {
            Path::new(&path.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin)).join(library)
        });
        let cached =
            self.cache.iter().filter(|(name, _)| name == library).map(|(_, path)| PathBuf::from(path));
        let standard = STANDARD.iter().map(|directory| Path::new(directory).join(library));
        let direct = library.contains('/').then(|| PathBuf::from(library));
        direct
            .into_iter()
            .chain(own)
            .chain(cached)
            .chain(standard)
            .find(|path| path.is_absolute() && read_needs(path).is_ok_and(|needs| needs.machine == machine))
            .ok_or_else(|| DependencyError::Missing { path: by.to_owned(), library: library.to_owned() })
    }
}

fn read_needs(path: &Path) -> Result<elf::Needs, DependencyError> {
    let read = |source| DependencyError::Read { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(read)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(DependencyError::TooLarge { path: path.to_owned() });
    }
    let file = fs::read(path).map_err(read)?;
    elf::needs(&file).map_err(|source| DependencyError::Elf { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_finds_its_libraries() {
        let files = Loader::of_host().closure(&std::env::current_exe().unwrap()).unwrap();
        assert!(files.iter().any(|path| path.to_string_lossy().contains("libc")), "{files:?}");
        assert!(files.iter().all(|path| path.is_absolute() && path.exists()));
    }

    #[test]
    fn a_script_is_not_a_program() {
        let dir = crate::test_dir::TestDir::new("script");
        let script = dir.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let error = Loader::of_host().closure(&script).unwrap_err();
        assert!(matches!(error, DependencyError::Elf { source: ElfError::NotElf, .. }));
    }
}
