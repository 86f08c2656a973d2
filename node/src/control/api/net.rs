//! Networks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A network on this host.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name in its slice.
    pub name: String,
    /// Its slice.
    pub slice: String,
    /// The MTU its machines are told.
    pub mtu: u16,
    /// Its machines.
    pub machines: Vec<NetworkMember>,
    /// Other hosts with machines on it.
    pub hosts: Vec<String>,
    /// What the switch says: this network's ports under `network`; counts of the whole switch under `drops` and `events`.
    #[schema(value_type = Object)]
    pub counters: serde_json::Value,
}

/// A machine on a network.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NetworkMember {
    /// Its name in its slice.
    pub name: String,
    /// Its MAC address.
    pub mac: String,
    /// Its IPv4 address.
    pub ipv4: Option<String>,
    /// Its IPv6 address.
    pub ipv6: Option<String>,
    /// Its host.
    pub host: String,
}
