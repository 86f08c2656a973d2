//! Memory and processor time, of one process and of the whole computer, from `/proc`.
//!
//! What the kernel does for a process while the process runs (its system calls, and most of what they set off: a frame sent over a veth is
//! received on the far side by the sender) is in the process' own time. What it does from interrupts and in threads of its own is in
//! nobody's, so whoever compares work done in the kernel with work done by processes wants [`of_machine`] beside [`of_process`].
//! Sources: proc(5), `Documentation/filesystems/proc.rst`.

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
    /// The most memory that was ever present, in bytes.
    pub resident_bytes_peak: u64,
    /// Processor time since it started, all threads, user and system.
    pub cpu: Duration,
}

/// Where the processor time of the whole computer went since it started, over all processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MachineUsage {
    /// Spent on anything: processes, the kernel, interrupts.
    pub busy: Duration,
    /// Of `busy`: in the kernel's interrupts, hard and soft.
    pub interrupts: Duration,
    /// Spent on nothing.
    pub idle: Duration,
    /// Wanted, and given to another guest of the same hardware.
    pub stolen: Duration,
}

impl MachineUsage {
    /// What was added since an earlier reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(earlier.busy),
            interrupts: self.interrupts.saturating_sub(earlier.interrupts),
            idle: self.idle.saturating_sub(earlier.idle),
            stolen: self.stolen.saturating_sub(earlier.stolen),
        }
    }
}

/// Reads the usage of the computer. Namespaces do not matter: `/proc/stat` is the same in all.
pub fn of_machine() -> io::Result<MachineUsage> {
    let stat = fs::read_to_string("/proc/stat")?;
    parse_machine(&stat, ticks_per_second())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/stat reads oddly"))
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
        resident_bytes_peak: kibibytes("VmHWM:")? * 1024,
        cpu: duration(ticks, ticks_per_second),
    })
}

fn duration(ticks: u64, ticks_per_second: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000) / ticks_per_second)
}

/// The line `cpu`: user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in user's already.
fn parse_machine(stat: &str, ticks_per_second: u64) -> Option<MachineUsage> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    let time = |ticks| duration(ticks, ticks_per_second);
    Some(MachineUsage {
        busy: time(user + nice + system + irq + softirq),
        interrupts: time(irq + softirq),
        idle: time(idle + iowait),
        stolen: time(steal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 5 0 100 0 0";
        let status = "Name:\ta\nVmHWM:\t 4096 kB\nVmRSS:\t    2048 kB\nRssAnon:\t 1024 kB\n";
        let usage = parse(status, stat, 100).unwrap();
        assert_eq!(usage.resident_bytes, 2 << 20);
        assert_eq!(usage.anonymous_bytes, 1 << 20);
        assert_eq!(usage.resident_bytes_peak, 4 << 20);
        assert_eq!(usage.cpu, Duration::from_secs(2));
    }

    #[test]
    fn what_others_stole_is_not_busy() {
        let stat = "cpu  100 10 200 5000 30 1 2 400 50 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n";
        let usage = parse_machine(stat, 100).unwrap();
        let expected = MachineUsage {
            busy: Duration::from_millis(3130),
            interrupts: Duration::from_millis(30),
            idle: Duration::from_millis(50_300),
            stolen: Duration::from_secs(4),
        };
        assert_eq!(usage, expected);
        assert_eq!(usage.since(MachineUsage::default()), expected);
        assert_eq!(usage.since(usage), MachineUsage::default());
        assert_eq!(parse_machine("cpu  1 2 3\n", 100), None);
        assert_eq!(parse_machine("cpu0 1 2 3\n", 100), None);
    }

    #[test]
    fn own_usage_is_readable() {
        assert!(of_machine().unwrap().busy > Duration::ZERO);
        assert!(of_process(std::process::id()).unwrap().resident_bytes > 0);
    }
}
