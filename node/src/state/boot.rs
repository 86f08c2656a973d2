//! Which boot of the computer this is, and how long ago it was.
//!
//! Leases are counted on `CLOCK_BOOTTIME`, which goes on while the computer sleeps and starts again at each boot. A stored deadline
//! means something only together with the boot it was made in.

use std::time::Duration;

use crate::failure::Failure;

const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// One boot of this computer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootId(String);

impl BootId {
    /// The present boot.
    ///
    /// # Errors
    /// If `/proc` does not tell.
    pub fn current() -> Result<Self, Failure> {
        std::fs::read_to_string(BOOT_ID_PATH).map(|text| Self(text.trim().to_owned())).map_err(|error| {
            Failure::failed("boot_id", format!("cannot read {BOOT_ID_PATH}: {error}"))
                .remedy("mount /proc where the node runs")
        })
    }

    /// As stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Time since the boot, with sleep.
#[must_use]
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_boot_has_one_id_and_its_clock_goes_forward() {
        assert_eq!(BootId::current().unwrap(), BootId::current().unwrap());
        let first = since_boot();
        assert!(since_boot() >= first);
    }
}
