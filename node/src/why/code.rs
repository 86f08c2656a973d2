//! The causes. Scripts may rely on the codes' texts; a new cause gets a new code, and none changes its meaning.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// A cause, by its stable code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        pub enum Code { $($(#[$doc])* #[serde(rename = $text)] $name,)+ }

        impl Code {
            /// Every cause there is.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its text in JSON and on the terminal.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

codes! {
    /// Both names are one host.
    SameHost = "same_host",
    /// The host has no address but its own.
    NoNetwork = "no_network",
    /// The two clocks, or one and everybody else's, differ too much.
    ClockWrong = "clock_wrong",
    /// The host belongs to no overlay yet.
    NotAMember = "not_a_member",
    /// The asking host was put out.
    RevokedHere = "revoked_here",
    /// The other was put out.
    RevokedThere = "revoked_there",
    /// A ticket or certificate is past its end.
    Expired = "expired",
    /// The two belong to different overlays.
    OtherOverlay = "other_overlay",
    /// A membership that does not hold.
    MembershipForged = "membership_forged",
    /// Another host answers at the other's address.
    WrongIdentity = "wrong_identity",
    /// Two versions that do not understand each other.
    VersionDiffers = "version_differs",
    /// The link's keys or the overlay's secret differ.
    WrongKey = "wrong_key",
    /// Nothing is known of the other.
    HostUnknown = "host_unknown",
    /// No member at all answers the asking host.
    Isolated = "isolated",
    /// The other's computer answers, its node does not run.
    NodeNotRunning = "node_not_running",
    /// Nothing of the other answers.
    HostSilent = "host_silent",
    /// The asking host has no way to any address of the other.
    NoRoute = "no_route",
    /// One has only IPv4, the other only IPv6.
    FamiliesDiffer = "families_differ",
    /// One of the two has as many connections as it allows.
    ConnectionsFull = "connections_full",
    /// The data plane is well, the control plane is not.
    ControlBlocked = "control_blocked",
    /// The topology allows no way.
    TopologyForbids = "topology_forbids",
    /// The topology leads over other hosts.
    TopologyRoutes = "topology_routes",
    /// No datagram comes back to either.
    UdpBlockedBoth = "udp_blocked_both",
    /// No datagram comes back to the asking host.
    UdpBlockedHere = "udp_blocked_here",
    /// No datagram comes back to the other.
    UdpBlockedThere = "udp_blocked_there",
    /// What the asking host sends arrives, what the other sends does not.
    OneWayIn = "one_way_in",
    /// What the other sends arrives, what the asking host sends does not.
    OneWayOut = "one_way_out",
    /// The two share an outside address, and neither their local addresses nor the NAT's own way back work.
    NoHairpin = "no_hairpin",
    /// UDP passes, but not to or from the data port.
    DataPortBlocked = "data_port_blocked",
    /// Both NATs choose an outside address per destination.
    SymmetricBoth = "symmetric_both",
    /// The port search found nothing within its budget.
    SearchSpent = "search_spent",
    /// One NAT is hard, and the search goes on.
    Searching = "searching",
    /// The other is there, and does not answer what it is asked.
    MeetUnanswered = "meet_unanswered",
    /// The other refuses to be asked so often.
    MeetTooOften = "meet_too_often",
    /// Too few members to learn one's own NAT from.
    NatUnknown = "nat_unknown",
    /// No member relays.
    NoRelay = "no_relay",
    /// Every relay is at its cap.
    RelaysFull = "relays_full",
    /// The relays' owners do not let them relay for these two.
    RelaysRefuse = "relays_refuse",
    /// No relay can be asked.
    RelaysUnreachable = "relays_unreachable",
    /// A relay gave a leg, and nothing comes through it.
    RelaySilent = "relay_silent",
    /// The other does not let this host into a network.
    GrantRefused = "grant_refused",
    /// The path has become narrower than it said: somebody eats the messages about it.
    MtuHole = "mtu_hole",
    /// The path takes only small datagrams.
    MtuSmall = "mtu_small",
    /// A computer does not keep up with what arrives.
    Overrun = "overrun",
    /// Datagrams are lost on the way.
    Lossy = "lossy",
    /// The address changes again and again.
    Unsteady = "unsteady",
    /// The round trip is long.
    Slow = "slow",
    /// The link goes through a relay though nothing measured forbids a direct path.
    RelayedForNow = "relayed_for_now",
    /// Names cannot be looked up; nothing of Consort needs them.
    DnsGone = "dns_gone",
    /// No network is shared, so there is no link, and nothing is wrong.
    NotWanted = "not_wanted",
    /// A path is being looked for.
    Connecting = "connecting",
    /// Direct, over a network both are in.
    DirectLocal = "direct_local",
    /// Direct.
    Direct = "direct",
    /// What is known explains nothing.
    Unexplained = "unexplained",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
