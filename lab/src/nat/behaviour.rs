//! What a NAT does, in the words of RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP); and the kinds met in the field, by name.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// On what of the other end a mapping, or a filter, depends (RFC 4787, sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dependence {
    /// On nothing of it.
    EndpointIndependent,
    /// On its address.
    AddressDependent,
    /// On its address and its port.
    AddressAndPortDependent,
}

/// How an outside port is chosen (RFC 4787, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ports {
    /// The inside port where it is free, else the next free one of the same parity and range.
    Preserving,
    /// The inside port even where another mapping has it, as long as the other ends differ: what Linux' masquerading does ("port
    /// overloading"). It needs a mapping that depends on address and port, and is [`Ports::Preserving`] otherwise.
    Shared,
    /// The last one given plus this.
    Sequential {
        /// The distance; 1 or 2 in the field.
        step: u16,
    },
    /// Any free one.
    Random,
}

/// Whether two hosts inside may meet by their outside addresses (RFC 4787, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hairpin {
    /// They may; each sees the other's outside address and port as the source.
    Yes,
    /// Such packets are dropped.
    No,
}

/// Which outside address a host gets, where there are several (RFC 4787, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Always the same one.
    Paired,
    /// Any, for each mapping anew.
    Arbitrary,
}

/// What keeps a mapping alive (RFC 4787, section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refresh {
    /// What goes out.
    Outbound,
    /// What goes out and what is let in.
    Both,
}

/// What happens to what nobody inside has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsolicited {
    /// Dropped without a word.
    Drop,
    /// Dropped, and the sender told: ICMP "port unreachable".
    Reject,
    /// Taken for a packet to the NAT itself, as by a Linux router whose own input is open: its connection tracking remembers
    /// the pair of endpoints, so the mapping that the inside host makes to the same peer a moment later has to take another port.
    Remember,
}

/// How long things live unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// A UDP mapping; RFC 4787 asks for at least two minutes, the field has 20 s too.
    pub udp: Duration,
    /// A TCP connection that was not answered, or is ending (RFC 5382: four minutes).
    pub tcp_opening: Duration,
    /// An established TCP connection (RFC 5382: two hours and four minutes).
    pub tcp_established: Duration,
    /// An ICMP echo (RFC 5508: one minute).
    pub echo: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            udp: Duration::from_secs(120),
            tcp_opening: Duration::from_secs(240),
            tcp_established: Duration::from_secs(7440),
            echo: Duration::from_secs(60),
        }
    }
}

/// All that a NAT does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// When an inside endpoint keeps its outside endpoint.
    pub mapping: Dependence,
    /// Whom a mapping lets in.
    pub filtering: Dependence,
    /// How outside ports are chosen.
    pub ports: Ports,
    /// Whether hosts inside may meet by their outside addresses.
    pub hairpin: Hairpin,
    /// How outside addresses are chosen.
    pub pooling: Pooling,
    /// What keeps a mapping alive.
    pub refresh: Refresh,
    /// What happens to what nobody asked for.
    pub unsolicited: Unsolicited,
    /// How long things live unused.
    pub timeouts: Timeouts,
    /// Mappings of one inside host at once; a carrier's quota, or all of the table.
    pub mappings_per_host_max: usize,
}

/// Mappings at once: what a good home router keeps. Every one takes a port of its protocol, of which there are not many more.
pub const MAPPINGS_MAX: usize = 32_768;

impl Default for Behaviour {
    /// What RFC 4787 asks for, with the filtering most routers have.
    fn default() -> Self {
        Self {
            mapping: Dependence::EndpointIndependent,
            filtering: Dependence::AddressAndPortDependent,
            ports: Ports::Preserving,
            hairpin: Hairpin::No,
            pooling: Pooling::Paired,
            refresh: Refresh::Outbound,
            unsolicited: Unsolicited::Drop,
            timeouts: Timeouts::default(),
            mappings_per_host_max: MAPPINGS_MAX,
        }
    }
}

/// The kinds that have a name, with what is meant.
pub const NAMED: [(&str, &str); 14] = [
    ("full-cone", "endpoint-independent mapping and filtering, hairpin"),
    ("address-cone", "endpoint-independent mapping, address-dependent filtering"),
    ("port-cone", "endpoint-independent mapping, address-and-port-dependent filtering"),
    ("port-cone-random", "the same with random outside ports"),
    ("masquerade", "Linux: the inside port wherever the other end allows; drops what nobody asked for"),
    ("masquerade-reject", "the same, but rejects it"),
    ("masquerade-open", "the same, but takes it for its own, which spoils the port"),
    ("address-symmetric", "address-dependent mapping and filtering, random ports"),
    (
        "symmetric-sequential",
        "address-and-port-dependent mapping and filtering, each port one after the last",
    ),
    ("symmetric-random", "address-and-port-dependent mapping and filtering, random ports"),
    ("symmetric-open", "address-and-port-dependent mapping with random ports, but no filtering"),
    ("short-timeout", "a port-cone that forgets after 20 s"),
    ("carrier", "a carrier's NAT: full cone, random ports, 1000 mappings for each customer"),
    ("carrier-symmetric", "a carrier's NAT: symmetric, random ports, 1000 mappings for each customer"),
];

/// What carriers allow a customer; RFC 6888 asks for a limit, products ship with 500 to 2000.
const CARRIER_QUOTA: usize = 1000;
/// The shortest UDP timeout met in home routers in the studies that RFC 4787 and its successors quote.
const SHORT_TIMEOUT: Duration = Duration::from_secs(20);

impl Behaviour {
    /// The kind with this name; [`NAMED`] lists them.
    pub fn named(name: &str) -> Option<Self> {
        use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
        let of = |mapping, filtering, ports| Self { mapping, filtering, ports, ..Self::default() };
        let cone = |filtering| of(EndpointIndependent, filtering, Ports::Preserving);
        let symmetric = |ports| of(AddressAndPortDependent, AddressAndPortDependent, ports);
        Some(match name {
            "full-cone" => Self { hairpin: Hairpin::Yes, ..cone(EndpointIndependent) },
            "address-cone" => cone(AddressDependent),
            "port-cone" => cone(AddressAndPortDependent),
            "port-cone-random" => of(EndpointIndependent, AddressAndPortDependent, Ports::Random),
            "masquerade" => symmetric(Ports::Shared),
            "masquerade-reject" => Self { unsolicited: Unsolicited::Reject, ..symmetric(Ports::Shared) },
            "masquerade-open" => Self { unsolicited: Unsolicited::Remember, ..symmetric(Ports::Shared) },
            "address-symmetric" => of(AddressDependent, AddressDependent, Ports::Random),
            "symmetric-sequential" => symmetric(Ports::Sequential { step: 1 }),
            "symmetric-random" => symmetric(Ports::Random),
            "symmetric-open" => of(AddressAndPortDependent, EndpointIndependent, Ports::Random),
            "short-timeout" => Self {
                timeouts: Timeouts { udp: SHORT_TIMEOUT, ..Timeouts::default() },
                ..cone(AddressAndPortDependent)
            },
            "carrier" => Self {
                hairpin: Hairpin::Yes,
                mappings_per_host_max: CARRIER_QUOTA,
                ..of(EndpointIndependent, EndpointIndependent, Ports::Random)
            },
            "carrier-symmetric" => Self { mappings_per_host_max: CARRIER_QUOTA, ..symmetric(Ports::Random) },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_list_is_a_kind_and_no_two_are_the_same() {
        let kinds: Vec<_> = NAMED.iter().map(|(name, _)| Behaviour::named(name).expect(name)).collect();
        for (index, kind) in kinds.iter().enumerate() {
            assert!(!kinds[..index].contains(kind), "{} is there twice", NAMED[index].0);
        }
        assert_eq!(Behaviour::named("cone"), None);
    }
}
