//! What the console printed: kept in two files of bounded size, the older given up when the newer is full.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// One file at most; two of them hold some ten thousand lines, and a hundred machines fill 100 MiB.
pub(super) const FILE_BYTES_MAX: u64 = 512 * 1024;

/// The console's past.
#[derive(Debug)]
pub(super) struct History {
    current: File,
    length: u64,
    path: PathBuf,
    older: PathBuf,
}

impl History {
    /// Begins a new one in a directory.
    pub(super) fn begin(directory: &Path) -> io::Result<Self> {
        let path = directory.join("console.log");
        Ok(Self { current: create(&path)?, length: 0, older: directory.join("console.log.1"), path })
    }

    /// Adds what was printed.
    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length + bytes.len() as u64 > FILE_BYTES_MAX {
            fs::rename(&self.path, &self.older)?;
            self.current = create(&self.path)?;
            self.length = 0;
        }
        self.current.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// The end of what is kept, oldest first.
    pub(super) fn tail(&self, bytes_max: usize) -> io::Result<Vec<u8>> {
        let most = bytes_max.min(usize::try_from(2 * FILE_BYTES_MAX).unwrap_or(usize::MAX));
        let newer = end_of(&self.path, most)?;
        let left = most - newer.len();
        let mut all = if left > 0 && self.older.exists() { end_of(&self.older, left)? } else { Vec::new() };
        all.extend_from_slice(&newer);
        Ok(all)
    }
}

fn create(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(true).open(path)
}

fn end_of(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max as u64)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir::TestDir;

    #[test]
    fn the_end_is_kept_and_the_files_stay_bounded() {
        let dir = TestDir::new("history");
        let mut history = History::begin(dir.path()).unwrap();
        let mut all = Vec::new();
        for number in 0..40_000_u32 {
            let line = format!("line {number:>20} of the console\n");
            history.add(line.as_bytes()).unwrap();
            all.extend_from_slice(line.as_bytes());
        }
        // At least one whole file is always kept, but for a line that did not fit it any more.
        for most in [0, 1, 1000, 500 * 1024] {
            assert_eq!(history.tail(most).unwrap(), all[all.len() - most..]);
        }
        let kept: u64 =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(kept <= 2 * FILE_BYTES_MAX);
        assert!(all.ends_with(&history.tail(usize::MAX).unwrap()));
    }
}
