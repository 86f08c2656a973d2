//! Kernel settings of the calling thread's network namespace, through `/proc/sys/net`.
//!
//! Which namespace a setting belongs to follows from the thread that opens the file, so settings of another namespace are made
//! inside [`crate::Netns::enter`].

use std::fs;
use std::io;
use std::path::Path;

/// A setting could not be made.
#[derive(Debug, thiserror::Error)]
#[error("set {name} to {value}: {source}")]
pub struct SysctlError {
    name: String,
    value: String,
    source: io::Error,
}

/// Writes one setting, named as below `/proc/sys`: `net/ipv4/ip_forward`.
pub fn set(name: &str, value: &str) -> Result<(), SysctlError> {
    fs::write(Path::new("/proc/sys").join(name), value).map_err(|source| SysctlError {
        name: name.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// What each lab namespace wants: IPv6 addresses serve at once (no duplicate address detection), come from the lab alone (no router
/// advertisements), and stay when a cable is pulled.
pub fn set_lab_defaults() -> Result<(), SysctlError> {
    for scope in ["all", "default"] {
        set(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        set(&format!("net/ipv6/conf/{scope}/dad_transmits"), "0")?;
        set(&format!("net/ipv6/conf/{scope}/accept_ra"), "0")?;
        set(&format!("net/ipv6/conf/{scope}/keep_addr_on_down"), "1")?;
    }
    Ok(())
}

/// Makes the namespace a router for both IP versions.
pub fn set_forwarding() -> Result<(), SysctlError> {
    set("net/ipv4/ip_forward", "1")?;
    set("net/ipv6/conf/all/forwarding", "1")
}
