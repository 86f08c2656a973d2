//! The few kernel settings of a machine's own network namespace.
//!
//! A sandbox's driver writes them before it makes `/proc/sys` read-only; a VM's init writes them itself.

use std::fs;
use std::io;
use std::path::Path;

/// Lets users with these groups open ping sockets, and tells the kernel that addresses are known to be unique: they come from the
/// slice's record, so a second of duplicate detection would only delay the first packet.
///
/// # Errors
/// A setting that exists could not be written. Without IPv6 in the kernel its settings do not exist.
pub fn prepare_network(proc_sys: &Path, devices: &[&str], last_group: u32) -> io::Result<()> {
    write(&proc_sys.join("net/ipv4/ping_group_range"), &format!("0 {last_group}"))?;
    for device in ["all", "default"].iter().chain(devices) {
        let conf = proc_sys.join("net/ipv6/conf").join(device);
        write(&conf.join("accept_dad"), "0")?;
        write(&conf.join("dad_transmits"), "0")?;
    }
    Ok(())
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    match fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("write {value:?} to {}: {error}", path.display())))
        }
        Ok(()) => Ok(()),
    }
}
