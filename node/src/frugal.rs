//! Gives back the pages of the program's file that only the start needed.
//!
//! Two thirds of an idle node's resident memory are pages of its program, of which most are never used again: the command line, the loader's tables, key
//! generation, first handshakes, and what the kernel maps around each of them. They are unmapped once the node has settled; those that are needed come back
//! one by one from the page cache, without a read from the disk. The node's own memory is not touched.

use std::fs;
use std::io;
use std::ops::Range;
use std::time::Duration;

/// How long after it is ready a node has its first connections and exchanges behind it: some tenths of a second, and more on a long way.
pub const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// Unmaps what is mapped of this program's file and is the same as in the file.
///
/// # Errors
/// If the system does not tell what is mapped.
pub fn give_back() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/smaps")?;
    for range in program.to_str().map(|program| clean(&maps, program)).unwrap_or_default() {
        drop_pages(range)?;
    }
    Ok(())
}

/// The mappings of a file that nobody can write to, and of which no page was written to before.
fn clean(maps: &str, file: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { continue };
        if let Some((from, to)) = first.split_once('-') {
            // Address, permissions, offset, device, inode, path (proc(5)).
            let is_files = line.split_ascii_whitespace().nth(5).is_some() && line.ends_with(file);
            let address = |text| usize::from_str_radix(text, 16).ok();
            let range = address(from).zip(address(to)).map(|(from, to)| from..to);
            candidate = range.filter(|_| is_files && matches!(second, "r--p" | "r-xp"));
        } else if first == "Anonymous:" {
            found.extend(candidate.take().filter(|_| second == "0"));
        }
    }
    found
}

#[expect(unsafe_code, reason = "madvise has no safe wrapper")]
fn drop_pages(range: Range<usize>) -> io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: the range is a whole private mapping of this program's file, as the kernel has just said; it cannot be written to, nobody has written to it
    // (it has no anonymous page), and the file of a running program cannot be written to either, so every page that is dropped comes back as it was.
    unsafe { rustix::mm::madvise(start, range.len(), rustix::mm::Advice::LinuxDontNeed) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
1000-3000 r--p 00000000 08:01 5 /usr/bin/consort
Rss:                   8 kB
Anonymous:             0 kB
VmFlags: rd mr
3000-8000 r-xp 00002000 08:01 5 /usr/bin/consort
Anonymous:             0 kB
8000-9000 r--p 00007000 08:01 5 /usr/bin/consort
Anonymous:             4 kB
9000-a000 rw-p 00008000 08:01 5 /usr/bin/consort
Anonymous:             0 kB
a000-b000 r-xp 00000000 08:01 6 /usr/lib/libc.so.6
Anonymous:             0 kB
b000-c000 rw-p 00000000 00:00 0
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_as_in_the_file_is_given_back() {
        assert_eq!(clean(MAPS, "/usr/bin/consort"), [0x1000..0x3000, 0x3000..0x8000]);
        assert!(clean("", "/usr/bin/consort").is_empty());
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        give_back().unwrap();
        assert_eq!(clean(MAPS, "/usr/lib/libc.so.6").len(), 1);
    }
}
