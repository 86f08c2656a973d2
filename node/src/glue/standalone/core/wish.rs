//! What a user asks for: a network, a place on one; and why there is none.

use std::net::{Ipv4Addr, Ipv6Addr};

use consort_overlay::HostId;
use consort_scheduler::slice::id::Name;
use consort_vswitch::{MacAddr, NetworkId};

use super::JOINED_MAX;
use crate::glue::standalone::directory::{NETWORKS_MAX, NETWORKS_PER_CREATOR_MAX};
use crate::glue::standalone::prefix::Prefix;

/// Addresses of one IP version that the creator of a network wishes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wish {
    /// Chosen.
    #[default]
    Auto,
    /// None.
    Off,
    /// This prefix.
    Given(Prefix),
}

/// A network that is wanted.
#[derive(Debug, Clone)]
pub struct NetworkWish {
    /// Its name.
    pub name: Name,
    /// IPv4.
    pub ipv4: Wish,
    /// IPv6.
    pub ipv6: Wish,
    /// The largest payload of a frame.
    pub mtu: u16,
}

/// Why no network is made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateRefusal {
    /// The name is taken.
    #[error("there is a network of that name already")]
    NameTaken(NetworkId),
    /// Every private prefix is in use.
    #[error("every private IPv4 prefix is in use on this host or by other networks")]
    NoPrefixFree,
    /// Another network known here has some of the addresses.
    #[error("{0} has some of these addresses")]
    PrefixTaken(Name, Prefix),
    /// See [`NETWORKS_MAX`].
    #[error("{NETWORKS_MAX} networks are known already")]
    TooMany,
    /// See [`NETWORKS_PER_CREATOR_MAX`].
    #[error("this host has made {NETWORKS_PER_CREATOR_MAX} networks that are not forgotten yet")]
    TooManyOfThisHost,
}

/// How this host wants to be on a network.
#[derive(Debug, Clone)]
pub struct JoinWish {
    /// The IPv4 address; chosen if absent.
    pub ipv4: Option<Ipv4Addr>,
    /// Whether this host speaks IPv6.
    pub speaks_ipv6: bool,
    /// The device's name.
    pub device: String,
}

/// A place on a network that is free as far as is known here; [`super::Core::join`] takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The network.
    pub network: NetworkId,
    /// The device's name.
    pub device: String,
    /// The MAC address.
    pub mac: MacAddr,
    /// The IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

/// Why this host cannot be on a network as wished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    /// It is on it.
    #[error("this host is on the network already")]
    Already,
    /// See [`JOINED_MAX`].
    #[error("this host is on {JOINED_MAX} networks already")]
    TooMany,
    /// The network has no IPv4 addresses.
    #[error("the network has no IPv4 addresses")]
    NoIpv4,
    /// Not one of its addresses.
    #[error("it is not an address for a host in {0}")]
    Outside(Prefix),
    /// Another host has it.
    #[error("{0} has it")]
    AddressTaken(HostId),
    /// All addresses are taken.
    #[error("every address of {0} is taken")]
    Full(Prefix),
    /// Nobody knows the network any more.
    #[error("the network is not known any more")]
    Unknown,
}
