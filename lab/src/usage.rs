//! Memory and processor time of one process, from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Memory that is present, in bytes.
    pub resident_bytes: u64,
    /// Memory that is present and its own, not a mapped file's, in bytes.
    pub anonymous_bytes: u64,
    /// Processor time since it started, all threads, user and system.
    pub cpu: Duration,
}

/// Reads the usage of a process of this pid namespace.
pub fn of_process(pid: u32) -> io::Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&status, &stat, ticks_per_second())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid} reads oddly")))
}

/// The children of a process, by asking all processes for their parent.
pub fn children(parent: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end while we look.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if fields(&stat).and_then(|mut fields| fields.nth(1)?.parse::<u32>().ok()) == Some(parent) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn ticks_per_second() -> u64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100).max(1)
}

/// The fields of `/proc/PID/stat` after the command, which may itself hold spaces and brackets.
fn fields(stat: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    Some(stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace())
}

fn parse(status: &str, stat: &str, ticks_per_second: u64) -> Option<Usage> {
    let kibibytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    // Counted from the state, which is field 3 of proc(5): utime is field 14, stime 15.
    let mut times = fields(stat)?.skip(11);
    let ticks = times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?;
    Some(Usage {
        resident_bytes: kibibytes("VmRSS:")? * 1024,
        anonymous_bytes: kibibytes("RssAnon:")? * 1024,
        cpu: Duration::from_millis(ticks * 1000 / ticks_per_second),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 5 0 100 0 0";
        let status = "Name:\ta\nVmRSS:\t    2048 kB\nRssAnon:\t 1024 kB\n";
        let usage = parse(status, stat, 100).unwrap();
        assert_eq!(usage.resident_bytes, 2 << 20);
        assert_eq!(usage.anonymous_bytes, 1 << 20);
        assert_eq!(usage.cpu, Duration::from_secs(2));
    }

    #[test]
    fn own_usage_is_readable() {
        assert!(of_process(std::process::id()).unwrap().resident_bytes > 0);
    }
}
