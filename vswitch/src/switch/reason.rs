//! Why frames are refused, and how often everything happened.
//!
//! Every worker counts in cells of its own (one writer, plain loads and stores), so that counting costs no shared cache line;
//! a snapshot adds them up.

use std::collections::BTreeMap;

use crate::tally::{Tally, named};

named! {
    /// Why a frame goes nowhere.
    #[non_exhaustive]
    pub enum DropReason {
        /// Shorter than an Ethernet header with its tags.
        Truncated = "truncated",
        /// More than two VLAN tags: what stands behind them cannot be judged.
        TooManyTags = "too_many_tags",
        /// The source is a group address or all zero.
        SourceNotStation = "source_not_station",
        /// The destination is all zero, or one that bridges never forward (pause, spanning tree, LLDP).
        DestinationReserved = "destination_reserved",
        /// The port is gone.
        PortGone = "port_gone",
        /// The network is not, or no longer, configured here.
        NetworkUnknown = "network_unknown",
        /// The peer has no member in this network.
        PeerNotMember = "peer_not_member",
        /// A port sent from a MAC address that is not its own (and may not).
        MacNotOwn = "mac_not_own",
        /// A port or a peer sent from a MAC address that is known to be elsewhere.
        MacSpoofed = "mac_spoofed",
        /// A peer sent from a MAC address nobody knows, on a network where all are known.
        MacUnknown = "mac_unknown",
        /// A port sent from an IPv4 or IPv6 address that is not its own (and may not).
        IpNotOwn = "ip_not_own",
        /// Sent from an IPv4 or IPv6 address that is known to be another machine's.
        IpSpoofed = "ip_spoofed",
        /// ARP whose contents do not match its sender, or that is malformed.
        ArpSpoofed = "arp_spoofed",
        /// ARP that is cut short or not Ethernet/IPv4.
        ArpMalformed = "arp_malformed",
        /// Neighbour discovery whose contents do not match its sender.
        NeighbourSpoofed = "neighbour_spoofed",
        /// Neighbour discovery that RFC 4861 tells receivers to discard.
        NeighbourMalformed = "neighbour_malformed",
        /// An IP header that is cut short or contradicts itself.
        IpMalformed = "ip_malformed",
        /// A machine played DHCP server.
        DhcpServer = "dhcp_server",
        /// A machine played router (router advertisement or redirect).
        RouterClaim = "router_claim",
        /// ARP or neighbour discovery that has done its work here: a probe for one's own address, an announcement of an address the
        /// record knows already.
        Absorbed = "absorbed",
        /// An ARP question for an address nobody can have.
        TargetUnknown = "target_unknown",
        /// The destination is unknown and the network has only known ones.
        DestinationUnknown = "destination_unknown",
        /// The destination is known to be where the frame came from.
        DestinationIsSource = "destination_is_source",
        /// A peer sent a frame for a machine that is not on this host: a link's frames never go to a link.
        SplitHorizon = "split_horizon",
        /// The destination is a machine of this host that is not attached now.
        MachineAbsent = "machine_absent",
        /// Broadcast, multicast or unknown destinations beyond the port's or peer's rate.
        Storm = "storm",
    }
}

named! {
    /// What else is counted.
    pub enum Happened {
        /// Frames to one local port.
        ToPort = "to_port",
        /// Frames to one peer.
        ToPeer = "to_peer",
        /// Frames to several places.
        Flooded = "flooded",
        /// ARP requests answered here.
        ArpAnswered = "arp_answered",
        /// Neighbour solicitations answered here.
        NeighbourAnswered = "neighbour_answered",
        /// ARP, neighbour solicitations and advertisements from other hosts: what the answers above are there to prevent.
        NeighbourFromPeer = "neighbour_from_peer",
        /// Addresses learned.
        Learned = "learned",
        /// Learned addresses that moved to another place.
        Moved = "moved",
        /// Learned addresses given up for newer ones.
        Evicted = "evicted",
    }
}

const REASONS: usize = DropReason::ALL.len();
const EVENTS: usize = Happened::ALL.len();

/// One worker's counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    drops: Tally<REASONS>,
    events: Tally<EVENTS>,
}

impl Counters {
    /// Only the worker that owns these counts calls it.
    #[inline]
    pub(crate) fn dropped(&self, reason: DropReason) {
        self.drops.bump(reason as usize);
    }

    /// As [`Self::dropped`].
    #[inline]
    pub(crate) fn happened(&self, event: Happened) {
        self.events.bump(event as usize);
    }

    /// As [`Self::dropped`].
    #[inline]
    pub(crate) fn happened_often(&self, event: Happened, count: u64) {
        self.events.add(event as usize, count);
    }

    pub(crate) fn add_to(&self, sum: &mut SwitchCounts) {
        for (reason, count) in DropReason::ALL.iter().zip(self.drops.values()) {
            *sum.drops.entry(reason.name()).or_default() += count;
        }
        for (event, count) in Happened::ALL.iter().zip(self.events.values()) {
            *sum.events.entry(event.name()).or_default() += count;
        }
    }
}

/// All workers' counts, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct SwitchCounts {
    /// Frames refused, by [`DropReason::name`].
    pub drops: BTreeMap<&'static str, u64>,
    /// What else happened, by [`Happened::name`].
    pub events: BTreeMap<&'static str, u64>,
}

impl SwitchCounts {
    /// How many frames were refused for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason.name()).copied().unwrap_or(0)
    }

    /// How often this happened.
    pub fn count(&self, event: Happened) -> u64 {
        self.events.get(event.name()).copied().unwrap_or(0)
    }
}
