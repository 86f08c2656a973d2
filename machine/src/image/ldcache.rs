//! Where the host's dynamic loader finds libraries: glibc's `/etc/ld.so.cache`.
//!
//! Source: glibc `sysdeps/generic/dl-cache.h`, the format of 2.2 and later.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 20 | `glibc-ld.so.cache1.1` |
//! | 20 | 4 | number of entries |
//! | 24 | 4 | length of the strings |
//! | 48 | 24 each | entries: flags (4), offset of name (4), offset of path (4), version (4), hardware (8) |
//!
//! Offsets count from the magic. An older table may stand before it in the file; the magic is searched for.

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Entries at most; a full desktop has some thousands.
const ENTRIES_MAX: usize = 65_536;

/// Flags of a libc6 library of this architecture (`FLAG_ELF_LIBC6` with the architecture's bits).
const FLAGS: u32 = if cfg!(target_arch = "aarch64") { 0x0a03 } else { 0x0303 };

/// Reads the cache: name and path of each library of this architecture, the preferred one first. Bytes that are no such cache give
/// an empty list; the standard directories are looked through in any case.
pub(super) fn libraries(file: &[u8]) -> Vec<(String, String)> {
    read(file).unwrap_or_default()
}

fn read(file: &[u8]) -> Option<Vec<(String, String)>> {
    let start = file.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let cache = &file[start..];
    let count = usize::try_from(u32_at(cache, 20)?).ok().filter(|count| *count <= ENTRIES_MAX)?;
    let mut libraries = Vec::new();
    for entry in cache.get(48..)?.chunks_exact(24).take(count) {
        // Entries with a hardware mask are variants for particular CPUs; the plain one stands in the table too.
        let hardware = &entry[16..24];
        if u32_at(entry, 0)? == FLAGS && hardware == [0; 8] {
            libraries.push((string(cache, u32_at(entry, 4)?)?, string(cache, u32_at(entry, 8)?)?));
        }
    }
    Some(libraries)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn string(bytes: &[u8], at: u32) -> Option<String> {
    let bytes = bytes.get(usize::try_from(at).ok()?..)?;
    let end = bytes.iter().take(4096).position(|byte| *byte == 0)?;
    String::from_utf8(bytes[..end].to_vec()).ok()
}

/// The fuzz target's body: any bytes are read or refused, within the bounds.
pub fn fuzz(data: &[u8]) {
    assert!(libraries(data).len() <= ENTRIES_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> Vec<u8> {
        let mut file = b"ld.so-1.7.0\0old table ".to_vec();
        let mut cache = MAGIC.to_vec();
        cache.extend_from_slice(&2_u32.to_le_bytes());
        cache.extend_from_slice(&18_u32.to_le_bytes());
        cache.resize(48, 0);
        for (flags, name, path, hardware) in [(FLAGS, 96_u32, 103_u32, 0_u64), (0x0003, 96, 103, 0)] {
            cache.extend_from_slice(&flags.to_le_bytes());
            cache.extend_from_slice(&name.to_le_bytes());
            cache.extend_from_slice(&path.to_le_bytes());
            cache.extend_from_slice(&0_u32.to_le_bytes());
            cache.extend_from_slice(&hardware.to_le_bytes());
        }
        cache.extend_from_slice(b"liba.so\0/x/liba.so\0");
        cache[52..56].copy_from_slice(&96_u32.to_le_bytes());
        cache[56..60].copy_from_slice(&104_u32.to_le_bytes());
        file.extend_from_slice(&cache);
        file
    }

    #[test]
    fn golden_cache_gives_only_this_architecture() {
        assert_eq!(libraries(&golden()), [("liba.so".to_owned(), "/x/liba.so".to_owned())]);
    }

    #[test]
    fn the_fuzz_target_runs_for_a_moment() {
        let golden = golden();
        for at in 0..golden.len() {
            fuzz(&golden[..at]);
            for bit in 0..8 {
                let mut flipped = golden.clone();
                flipped[at] ^= 1 << bit;
                fuzz(&flipped);
            }
        }
    }
}
