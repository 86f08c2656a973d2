//! The version 1 controllers.

use std::fs;
use std::io;
use std::path::Path;

use super::{PERIOD_MICROS, quota_micros, write};

/// Bandwidth control (`scheduler/sched-bwc.rst`).
pub(super) fn limit_cpu(group: &Path, cpus_milli: u32) -> io::Result<()> {
    write(&group.join("cpu.cfs_period_us"), &PERIOD_MICROS.to_string())?;
    write(&group.join("cpu.cfs_quota_us"), &quota_micros(cpus_milli).to_string())
}

/// Memory, and memory with swap where swap is counted, so that a machine cannot fill the owner's swap.
pub(super) fn limit_memory(group: &Path, bytes: u64) -> io::Result<()> {
    write(&group.join("memory.limit_in_bytes"), &bytes.to_string())?;
    let with_swap = group.join("memory.memsw.limit_in_bytes");
    if with_swap.exists() { write(&with_swap, &bytes.to_string()) } else { Ok(()) }
}

/// Times to ask whether all processes are frozen; each asking makes the kernel try again (`freezer-subsystem.rst`).
const FREEZE_ATTEMPTS: u32 = 1000;

pub(super) fn freeze(group: &Path, frozen: bool) -> io::Result<()> {
    let state = group.join("freezer.state");
    if !frozen {
        return write(&state, "THAWED");
    }
    write(&state, "FROZEN")?;
    for _ in 0..FREEZE_ATTEMPTS {
        if fs::read_to_string(&state)?.trim() == "FROZEN" {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    write(&state, "THAWED")?;
    Err(io::Error::other("the machine did not freeze within a second"))
}
