//! Whose the machine's users are on the host, and becoming its uid 0.

use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::Pid;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::driver::Uids;

/// Users of a machine with a range of its own, as many as a system of its own has.
pub(crate) const RANGE_COUNT: u32 = 65_536;
/// Where ranges begin, as the daemon's user namespace counts: above login users, subordinate ids of useradd(8) (from 100,000, upwards by
/// 65,536 for each user) and dynamic users of systemd, below the 2^31 that some programs take as negative.
pub(crate) const RANGE_FIRST: u32 = 0x2000_0000;
/// Ranges: up to 0x6000_0000.
pub(crate) const RANGES: u32 = 16_384;
const _: () = assert!(RANGE_FIRST + (RANGES - 1) * RANGE_COUNT < 1 << 31, "no id reaches the sign bit");

/// Whether this process may map ranges of ids: it is privileged in a user namespace that has them all.
pub(crate) fn ranges_can_be_mapped() -> bool {
    let whole = |path: &str| fs::read_to_string(path).is_ok_and(|map| covers_ranges(&map));
    rustix::process::geteuid().is_root() && whole("/proc/self/uid_map") && whole("/proc/self/gid_map")
}

fn covers_ranges(map: &str) -> bool {
    let last = RANGE_FIRST + RANGES * RANGE_COUNT - 1;
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (Some(Ok(inside)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        inside <= RANGE_FIRST && last - inside < count
    })
}

/// The id on the host of the machine's uid 0.
pub(crate) fn root_of(uids: Uids) -> Option<u32> {
    match uids {
        Uids::Range { first, .. } => Some(first),
        Uids::Single => None,
    }
}

/// The last group that exists in the machine.
pub(crate) fn last_group(uids: Uids) -> u32 {
    match uids {
        Uids::Range { count, .. } => count - 1,
        Uids::Single => 0,
    }
}

/// Writes the maps of a new user namespace's first process.
pub(crate) fn write_maps(pid: Pid, uids: Uids) -> io::Result<()> {
    let proc = Path::new("/proc").join(pid.to_string());
    let (uid_map, gid_map) = match uids {
        Uids::Range { first, count } => (format!("0 {first} {count}\n"), format!("0 {first} {count}\n")),
        Uids::Single => {
            // Without privilege a group may be mapped only when no other group can be dropped (user_namespaces(7)).
            fs::write(proc.join("setgroups"), "deny")?;
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            (format!("0 {uid} 1\n"), format!("0 {gid} 1\n"))
        }
    };
    fs::write(proc.join("uid_map"), uid_map)?;
    fs::write(proc.join("gid_map"), gid_map)
}

/// Becomes uid and gid 0 of this user namespace, without other groups.
pub(crate) fn become_root(uids: Uids) -> io::Result<()> {
    if matches!(uids, Uids::Range { .. }) {
        set_thread_groups(&[])?;
    }
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_map_of_all_ranges_will_do() {
        assert!(covers_ranges("         0          0 4294967295\n"));
        assert!(!covers_ranges("         0       1000          1\n"));
        assert!(!covers_ranges("0 100000 65536\n"));
        assert!(!covers_ranges(""));
    }
}
