//! A lab in a small file: sites with their gateways, hosts on their LANs or in the open, cables; and the world built from it.
//!
//! ```toml
//! about = "A home behind a carrier's NAT, an office that blocks UDP, and a public host"
//! [site.carrier]
//! nat = "carrier-symmetric"             # a name, or { like = "port-cone", ports = "random", udp-timeout = "20s", … }
//! lan = "100.64.0.0/24"                 # absent: 192.168.1.0/24, as in most homes; without a NAT: given, and routed
//! [site.home]
//! nat = "masquerade"
//! behind = "carrier"                    # absent: the wide network
//! cable = { delay = "20ms" }            # and jitter, loss, duplicate, reorder, rate, hole (longer packets vanish), each way
//! [site.office]
//! families = "dual"                     # or "ipv4" (the default), "ipv6"
//! firewall = ["stateful", "deny out udp"]
//! mtu = 1400                            # longer packets are complained of
//! [site.shop]
//! nat = "symmetric-random"
//! port-mapping = ["pcp", "upnp"]        # and "nat-pmp": hosts may ask for a port
//! [host.public]                         # no site: in the open, with both IP versions
//! [host.a]
//! site = "home"
//! [host.b]
//! site = "office"
//! ```
//! Owns: what may stand in the file ([`Case::parse`] says line and remedy of each fault), and the order of building ([`World`]). Refuses to know
//! what runs on the hosts: `about` of a host and its `config` are for whoever starts something there.

mod check;
mod file;
mod units;
mod world;

pub use world::{Home, World, WorldError, WorldHost};

use std::fmt;

use crate::gateway::Plan;
use crate::middlebox::Impairment;

/// Sites in one case; each is a process, and the wide network has room for as many hosts and sites together as
/// [`crate::wide::HOSTS_MAX`].
pub const SITES_MAX: usize = 96;
/// The longest file that is read.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// A checked description of a lab.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What it shows.
    pub about: String,
    /// Sites, each after the one it is behind.
    pub sites: Vec<Site>,
    /// Hosts by name.
    pub hosts: Vec<CaseHost>,
}

/// A LAN with its gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// The site whose LAN its cable leads to; none: the wide network.
    pub behind: Option<String>,
    /// What its gateway shall be.
    pub plan: Plan,
}

/// A host.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseHost {
    /// Its name.
    pub name: String,
    /// The site it is at; none: in the open.
    pub site: Option<String>,
    /// What happens on the cable of a host in the open.
    pub impairment: Option<Impairment>,
    /// For whoever starts something there; empty as a rule.
    pub config: String,
}

/// What is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In which line, from 1.
    pub line: usize,
    /// What.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {} ({})", self.line, self.message, self.remedy)
    }
}

impl Case {
    /// Reads a description.
    ///
    /// # Errors
    /// All faults that are in it, with their lines and remedies.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        if text.len() > FILE_BYTES_MAX {
            return Err(vec![Fault {
                line: 1,
                message: format!("the file has {} bytes", text.len()),
                remedy: format!("describe the lab in at most {FILE_BYTES_MAX}"),
            }]);
        }
        let file = file::read(text).map_err(|fault| vec![fault])?;
        check::check(text, file)
    }
}
