//! Networks: those of slices, and those by themselves.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::topology::adapt::pattern::Pattern;

/// A network: of a slice with machines on this host, or by itself.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name; of a slice's network, in its slice.
    pub name: String,
    /// Its slice; absent for a network by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// The largest payload of a frame.
    pub mtu: u16,
    /// Its machines, if it is a slice's.
    pub machines: Vec<NetworkMember>,
    /// Other hosts on it.
    pub hosts: Vec<String>,
    /// What there is of a network by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standalone: Option<StandaloneNetwork>,
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

/// What there is of a network by itself.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StandaloneNetwork {
    /// The host that made it.
    pub creator: String,
    /// When, in seconds since 1970.
    pub created_unix_s: u64,
    /// Its IPv4 addresses.
    pub ipv4: Option<String>,
    /// Its IPv6 addresses.
    pub ipv6: Option<String>,
    /// This host's device; absent while it is not on the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<NetworkDevice>,
    /// The hosts on it, this one included; who joined first stands first.
    pub members: Vec<NetworkHost>,
    /// What its user should know, the latest last.
    pub notices: Vec<String>,
}

/// This host's device on a network by itself.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NetworkDevice {
    /// Its name.
    pub name: String,
    /// `up`, or `down`.
    pub state: String,
    /// Why it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its IPv4 address, with its length.
    pub ipv4: Option<String>,
    /// Its IPv6 address, with its length.
    pub ipv6: Option<String>,
    /// What the kernel counted on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<DeviceCounters>,
}

/// What the kernel counted on a device, as this host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceCounters {
    /// Frames that came in.
    pub received_frames: u64,
    /// Bytes that came in.
    pub received_bytes: u64,
    /// Frames that came in and were dropped.
    pub received_dropped: u64,
    /// Frames that went out.
    pub sent_frames: u64,
    /// Bytes that went out.
    pub sent_bytes: u64,
    /// Frames that did not go out because the queue was full.
    pub sent_dropped: u64,
}

/// A host on a network by itself.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NetworkHost {
    /// The host.
    pub host: String,
    /// Whether it is this host.
    pub here: bool,
    /// Its MAC address.
    pub mac: String,
    /// Its IPv4 address.
    pub ipv4: Option<String>,
    /// Its IPv6 address.
    pub ipv6: Option<String>,
    /// Whether frames of the network pass both ways between it and this host.
    pub open: bool,
    /// The link to it: `idle`, `connecting`, `up`, or `down` with the reason; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Round trip of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Part of its datagrams that did not arrive, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

/// A network to be made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetCreateBody {
    /// Its name: lower-case letters, digits, `-`.
    pub name: String,
    /// Its IPv4 addresses: a prefix such as `10.7.0.0/24`, `off`, or `auto` as when absent: chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,
    /// Its IPv6 addresses: a prefix such as `fd07::/64`, `off`, or `auto` as when absent: chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// The largest payload of a frame; as `[data] mtu` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}

/// How this host shall be on a network.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetJoinBody {
    /// Its IPv4 address, such as `10.7.0.5/24`; chosen when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,
    /// The name of its device; the network's name when absent, or `consort0`, `consort1`, … where that does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// What hosts send each other on a network: rows are who sends, columns who gets it, both in the order of `hosts`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// The network's full name.
    pub network: String,
    /// Its id.
    pub id: String,
    /// The hosts on it.
    pub hosts: Vec<TrafficHost>,
    /// Bytes of frames a second, over the last second.
    pub bytes_per_s: Vec<Vec<u64>>,
    /// Bytes of frames since the two share the network.
    pub bytes: Vec<Vec<u64>>,
    /// What the rates look like: `quiet`, `hot-pair`, `all-to-all`, `ring`, `neighbours`, `hub` or `irregular`, with the hosts it is about.
    #[schema(value_type = Object)]
    pub pattern: Pattern,
    /// The same in words.
    pub pattern_words: String,
    /// Hosts beyond those that are asked.
    pub left_out: usize,
}

/// A host of a [`Traffic`].
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TrafficHost {
    /// The host.
    pub host: String,
    /// What the topology calls it, else its id.
    pub name: String,
    /// Whether it did not answer: its row is empty.
    pub silent: bool,
}
