//! What a program needs to be loaded: the part of an ELF file that names its interpreter and libraries.
//!
//! Reads 64-bit little-endian files only (x86-64 and AArch64 hosts). Source: System V ABI, chapters 4 and 5, and the generic ABI's
//! dynamic section. Offsets used:
//!
//! | header | offset | size | field |
//! |---|---|---|---|
//! | file | 0 | 4 | magic `7f 45 4c 46` |
//! | file | 4, 5 | 1, 1 | class (2: 64-bit), data (1: little endian) |
//! | file | 18 | 2 | machine |
//! | file | 32 | 8 | program headers' offset |
//! | file | 54, 56 | 2, 2 | program header's size, number of them |
//! | program | 0 | 4 | type: 1 load, 2 dynamic, 3 interpreter |
//! | program | 8, 16, 32 | 8, 8, 8 | offset, address, size in the file |
//! | dynamic | 0, 8 | 8, 8 | tag (1 needed, 5 string table, 10 its size, 15 rpath, 29 runpath), value |

/// Libraries of one program at most.
pub(super) const NEEDED_MAX: usize = 128;
/// Program headers at most; linkers write about a dozen.
const HEADERS_MAX: usize = 64;
/// Entries of a dynamic section at most.
const DYNAMIC_MAX: usize = 4096;

/// What a program or library asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Needs {
    /// The architecture's number; a library must have the same.
    pub(super) machine: u16,
    /// The loader's path; static programs and libraries have none.
    pub(super) interpreter: Option<String>,
    /// Names of libraries.
    pub(super) libraries: Vec<String>,
    /// Directories to look in first, colons between, `$ORIGIN` not yet replaced.
    pub(super) search: Vec<String>,
}

/// Why a file is not a program we can take along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ElfError {
    #[error("not a 64-bit little-endian ELF file")]
    NotElf,
    #[error("a header points outside the file")]
    OutOfBounds,
    #[error("more headers, entries or libraries than any real program has")]
    TooMany,
    #[error("a name is not text")]
    NotText,
}

/// Reads what a file needs.
pub(super) fn needs(file: &[u8]) -> Result<Needs, ElfError> {
    if file.get(..6) != Some(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        return Err(ElfError::NotElf);
    }
    let mut needs = Needs { machine: u16_at(file, 18)?, ..Needs::default() };
    let headers = segments(file)?;
    for segment in &headers {
        match segment.kind {
            3 => needs.interpreter = Some(text(slice(file, segment.offset, segment.size)?)?),
            2 => read_dynamic(file, &headers, segment, &mut needs)?,
            _ => {}
        }
    }
    Ok(needs)
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

fn segments(file: &[u8]) -> Result<Vec<Segment>, ElfError> {
    let start = u64_at(file, 32)?;
    let (size, count) = (u64::from(u16_at(file, 54)?), usize::from(u16_at(file, 56)?));
    if count > HEADERS_MAX {
        return Err(ElfError::TooMany);
    }
    (0..count as u64)
        .map(|index| {
            let header = slice(file, start.checked_add(index * size).ok_or(ElfError::OutOfBounds)?, 56)?;
            Ok(Segment {
                kind: u32::from_le_bytes(header[..4].try_into().expect("four bytes")),
                offset: u64_at(header, 8)?,
                address: u64_at(header, 16)?,
                size: u64_at(header, 32)?,
            })
        })
        .collect()
}

fn read_dynamic(
    file: &[u8],
    segments: &[Segment],
    dynamic: &Segment,
    needs: &mut Needs,
) -> Result<(), ElfError> {
    let bytes = slice(file, dynamic.offset, dynamic.size)?;
    let mut strings = None;
    let mut strings_len = 0;
    let mut names = Vec::new();
    let mut paths = Vec::new();
    for (index, entry) in bytes.chunks_exact(16).enumerate() {
        if index >= DYNAMIC_MAX {
            return Err(ElfError::TooMany);
        }
        let value = u64_at(entry, 8)?;
        match u64_at(entry, 0)? {
            0 => break,
            1 => names.push(value),
            5 => strings = Some(value),
            10 => strings_len = value,
            15 | 29 => paths.push(value),
            _ => {}
        }
    }
    if names.len() > NEEDED_MAX || paths.len() > NEEDED_MAX {
        return Err(ElfError::TooMany);
    }
    if names.is_empty() && paths.is_empty() {
        return Ok(());
    }
    let address = strings.ok_or(ElfError::OutOfBounds)?;
    let offset = segments
        .iter()
        .filter(|s| s.kind == 1)
        .find_map(|s| {
            address.checked_sub(s.address).filter(|d| *d < s.size).and_then(|d| s.offset.checked_add(d))
        })
        .ok_or(ElfError::OutOfBounds)?;
    let table = slice(file, offset, strings_len)?;
    let string = |at: u64| {
        let at = usize::try_from(at).map_err(|_| ElfError::OutOfBounds)?;
        text(table.get(at..).ok_or(ElfError::OutOfBounds)?)
    };
    needs.libraries = names.into_iter().map(string).collect::<Result<_, _>>()?;
    needs.search = paths.into_iter().map(string).collect::<Result<_, _>>()?;
    Ok(())
}

fn slice(file: &[u8], offset: u64, size: u64) -> Result<&[u8], ElfError> {
    let start = usize::try_from(offset).map_err(|_| ElfError::OutOfBounds)?;
    let size = usize::try_from(size).map_err(|_| ElfError::OutOfBounds)?;
    let end = start.checked_add(size).ok_or(ElfError::OutOfBounds)?;
    file.get(start..end).ok_or(ElfError::OutOfBounds)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, ElfError> {
    let two = bytes.get(at..at + 2).ok_or(ElfError::OutOfBounds)?;
    Ok(u16::from_le_bytes(two.try_into().expect("two bytes")))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, ElfError> {
    let eight = bytes.get(at..at + 8).ok_or(ElfError::OutOfBounds)?;
    Ok(u64::from_le_bytes(eight.try_into().expect("eight bytes")))
}

/// The bytes up to the first zero, as text of a sane length.
fn text(bytes: &[u8]) -> Result<String, ElfError> {
    let end = bytes.iter().take(4096).position(|byte| *byte == 0).ok_or(ElfError::NotText)?;
    String::from_utf8(bytes[..end].to_vec()).map_err(|_| ElfError::NotText)
}

/// The fuzz target's body: any bytes are read or refused, within the bounds.
pub fn fuzz(data: &[u8]) {
    if let Ok(needs) = needs(data) {
        assert!(needs.libraries.len() <= NEEDED_MAX && needs.search.len() <= NEEDED_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one loaded segment that is the whole file, an interpreter, and a dynamic section.
    fn golden() -> Vec<u8> {
        let mut file = vec![0; 512];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        file[18] = 62; // x86-64
        file[32] = 64; // program headers follow the file header
        file[54] = 56;
        file[56] = 3;
        let mut header = |index: usize, kind: u8, offset: u64, address: u64, size: u64| {
            let at = 64 + index * 56;
            file[at] = kind;
            file[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
            file[at + 16..at + 24].copy_from_slice(&address.to_le_bytes());
            file[at + 32..at + 40].copy_from_slice(&size.to_le_bytes());
        };
        header(0, 1, 0, 0x40_0000, 512);
        header(1, 3, 240, 0x40_0000 + 240, 8);
        header(2, 2, 256, 0x40_0000 + 256, 96);
        file[240..248].copy_from_slice(b"/lib/ld\0");
        let entries: [(u64, u64); 6] = [(5, 0x40_0000 + 400), (10, 32), (1, 1), (1, 6), (29, 11), (0, 0)];
        for (index, (tag, value)) in entries.into_iter().enumerate() {
            file[256 + index * 16..264 + index * 16].copy_from_slice(&tag.to_le_bytes());
            file[264 + index * 16..272 + index * 16].copy_from_slice(&value.to_le_bytes());
        }
        file[400..416].copy_from_slice(b"\0liba\0libb\0/opt\0");
        file
    }

    #[test]
    fn golden_file() {
        let expected = Needs {
            machine: 62,
            interpreter: Some("/lib/ld".into()),
            libraries: vec!["liba".into(), "libb".into()],
            search: vec!["/opt".into()],
        };
        assert_eq!(needs(&golden()), Ok(expected));
    }

    #[test]
    fn this_very_program_names_its_loader() {
        let own = needs(&std::fs::read("/proc/self/exe").unwrap()).unwrap();
        assert!(own.interpreter.is_some_and(|path| path.contains("ld")));
        assert!(own.libraries.iter().any(|name| name.starts_with("libc.")));
    }

    #[test]
    fn hostile_files_are_refused() {
        assert_eq!(needs(b"#!/bin/sh\n"), Err(ElfError::NotElf));
        let mut many = golden();
        many[56] = 65;
        assert_eq!(needs(&many), Err(ElfError::TooMany));
        let mut far = golden();
        far[64 + 2 * 56 + 8..64 + 2 * 56 + 16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(needs(&far), Err(ElfError::OutOfBounds));
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
