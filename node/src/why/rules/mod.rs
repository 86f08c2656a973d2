//! When each cause holds, what is said of it, and what to do.
//!
//! The table's order is the order of mending. In the texts, `{near}` is the host that was asked, `{far}` the other, and the rest are figures of
//! the facts. Thresholds are constants with their reason.

use super::code::Code;
use super::explanation::Finding;
use super::facts::{
    CLOCK_DIFFERENCE_MAX_S, CandidateKind, Control, ControlFailure, Facts, Meeting, Nat, Outcome, Path,
    RelayOutcome, Side, Standing, TopologyFact,
};

/// Loss worth a word: TCP halves its rate well below it, radio links often stand at a fraction of it.
const LOSS_PERMILLE: u16 = 20;

/// A round trip worth a word: around the world and back is below it.
const SLOW_MICROS: u64 = 400_000;

/// Datagrams below it do not take a whole IPv6 packet of the least size (1280 less IPv6 and UDP).
const DATAGRAM_SMALL: u16 = 1_232;

/// Changes of address worth a word, if they come quicker than one in [`UNSTEADY_S`].
const ROAMED: u32 = 5;

/// See [`ROAMED`]: a walking person's phone changes less often.
const UNSTEADY_S: u64 = 60;

/// A record of that age was not renewed five times (`consort_overlay::RECORD_LIFETIME`).
const RECORD_OLD_S: u32 = 300;

struct Rule {
    code: Code,
    holds: fn(&Facts) -> bool,
    cause: &'static str,
    remedy: &'static str,
}

/// In the order of mending.
const RULES: &[Rule] = &[
    Rule {
        code: Code::SameHost,
        holds: |facts| facts.same,
        cause: "{near} and {far} are one host: frames between its machines do not leave it",
        remedy: "",
    },
    Rule {
        code: Code::NoNetwork,
        holds: |facts| !facts.near.has_ipv4 && !facts.near.has_ipv6,
        cause: "{near} has no network: no address but its own",
        remedy: "connect {near} to a network",
    },
    Rule {
        code: Code::ClockWrong,
        holds: |facts| {
            clock_difference(facts) > CLOCK_DIFFERENCE_MAX_S
                || any_control(facts, ControlFailure::FromTheFuture)
        },
        cause: "the clocks of {near} and {far} differ by more than two minutes{clock}: what the one signs is not valid yet for the other",
        remedy: "set both clocks, for example with an NTP client",
    },
    Rule {
        code: Code::NotAMember,
        holds: |facts| facts.near.standing == Standing::NotYet,
        cause: "{near} belongs to no overlay yet",
        remedy: "get a ticket with `consort invite` on a member, and give it to `consort join` on {near}",
    },
    Rule {
        code: Code::RevokedHere,
        holds: |facts| facts.near.standing == Standing::Revoked,
        cause: "{near} was put out of the overlay",
        remedy: "if that was a mistake, join again with a new ticket and a new state directory",
    },
    Rule {
        code: Code::RevokedThere,
        holds: |facts| {
            any_control(facts, ControlFailure::Revoked) || far(facts, |far| far.standing == Standing::Revoked)
        },
        cause: "{far}, or whoever vouched for it, was put out of the overlay",
        remedy: "if that was a mistake, invite {far} again with a new ticket; it needs a new state directory",
    },
    Rule {
        code: Code::Expired,
        holds: |facts| any_control(facts, ControlFailure::Expired),
        cause: "the ticket or certificate that one of the two shows is past its end",
        remedy: "get a new ticket with `consort invite`; if it is new, one of the two clocks runs ahead",
    },
    Rule {
        code: Code::OtherOverlay,
        holds: |facts| any_control(facts, ControlFailure::OtherOverlay),
        cause: "{near} and {far} belong to different overlays",
        remedy: "join one of them to the other's overlay, with a state directory of its own",
    },
    Rule {
        code: Code::MembershipForged,
        holds: |facts| any_control(facts, ControlFailure::Forged),
        cause: "the membership that one of the two shows does not hold: it is signed by nobody of this overlay, or made out to another host",
        remedy: "restore identity.key and state.redb of that host together, or let it join again with a new ticket",
    },
    Rule {
        code: Code::WrongIdentity,
        holds: |facts| any_control(facts, ControlFailure::WrongIdentity),
        cause: "another host answers at the address of {far}: the address was given to somebody else, or the state directory of {far} was replaced",
        remedy: "if {far} has moved, give it a new ticket; if its identity is lost, revoke the old one",
    },
    Rule {
        code: Code::VersionDiffers,
        holds: |facts| any_control(facts, ControlFailure::Version),
        cause: "{near} and {far} run versions of consort that do not understand each other",
        remedy: "run the same version on both (`consort status` shows it)",
    },
    Rule {
        code: Code::WrongKey,
        holds: |facts| dead(facts) && (facts.near.link.key_refused || far(facts, |far| far.link.key_refused)),
        cause: "the handshake of the link fails: the key in a host's record, or the overlay's secret, is not the one that host uses",
        remedy: "restart the node whose state directory was changed, so that it publishes its key; if that does not help, let it join again",
    },
    Rule {
        code: Code::HostUnknown,
        holds: |facts| dead(facts) && nothing_known(facts),
        cause: "nothing is known of {far}: no record, no address",
        remedy: "check the name (`consort members` lists whom {near} knows); if it is right, {far} has not been in reach for {record_life} minutes",
    },
    Rule {
        code: Code::NoRoute,
        holds: |facts| dead(facts) && failure(&facts.near) == Some(ControlFailure::NetworkUnreachable),
        cause: "{near} has no way to any address of {far}: its system refuses to send there",
        remedy: "check the routes of {near} (a default route), or give {far} an address that {near} can reach",
    },
    Rule {
        code: Code::Isolated,
        holds: |facts| {
            dead(facts)
                && control_failed(&facts.near)
                && facts.near.members_connected == 0
                && tried_in_vain(&facts.near)
        },
        cause: "no member at all answers {near}: not only {far} is out of reach",
        remedy: "check the network and firewall of {near}: TCP and UDP to the members' control port, see `consort peers`",
    },
    Rule {
        code: Code::FamiliesDiffer,
        holds: |facts| detour(facts) && far(facts, |far| families_differ(&facts.near, far)),
        cause: "one of the two has only IPv4 and the other only IPv6, so nothing can go between them directly",
        remedy: "a member with both that relays (`[data] relay = true`) joins them; or give one of the two the other family",
    },
    Rule {
        code: Code::NodeNotRunning,
        holds: |facts| dead(facts) && failure(&facts.near) == Some(ControlFailure::ConnectionRefused),
        cause: "the computer of {far} answers, but no node listens at its address",
        remedy: "start `consort node` on {far}; if it runs, it listens elsewhere than its record says",
    },
    Rule {
        code: Code::ConnectionsFull,
        holds: |facts| dead(facts) && any_control(facts, ControlFailure::Full),
        cause: "one of the two has as many connections as it allows",
        remedy: "wait: unused connections close by themselves; if it stays so, ask its owner",
    },
    Rule {
        code: Code::HostSilent,
        holds: |facts| {
            dead(facts)
                && facts.far.is_none()
                && matches!(failure(&facts.near), Some(ControlFailure::NoAnswer | ControlFailure::Lost))
                && !facts.near.link.heard
        },
        cause: "nothing of {far} answers, neither its control port nor its data port{record}, while other members answer {near}",
        remedy: "see whether {far} is on and has a network, and whether its firewall lets TCP and UDP to its ports in",
    },
    Rule {
        code: Code::TopologyForbids,
        holds: |facts| dead(facts) && facts.near.topology == TopologyFact::NoRoute,
        cause: "the operator's topology forbids a link between {near} and {far}, and leads no other way",
        remedy: "see `consort topology show`; the operator can allow the link or a route with `consort topology apply`",
    },
    Rule {
        code: Code::TopologyRoutes,
        holds: |facts| {
            detour(facts)
                && matches!(facts.near.topology, TopologyFact::Routed(_))
                && facts.path() != Path::None
        },
        cause: "the operator's topology leads from {near} to {far} over other hosts, so the link is not direct",
        remedy: "nothing is wrong; `consort topology show` shows the way, and the operator can change it",
    },
    Rule {
        code: Code::OneWayIn,
        holds: |facts| {
            detour(facts)
                && far(facts, |far| far.link.heard && !facts.near.link.heard)
                && tried_in_vain(&facts.near)
        },
        cause: "what {near} sends arrives at {far}, but nothing of what {far} sends arrives at {near}",
        remedy: "look at the firewall before {near}: it must let answers to its own UDP datagrams in (stateful), from the address they were sent to",
    },
    Rule {
        code: Code::OneWayOut,
        holds: |facts| {
            detour(facts) && far(facts, |far| !far.link.heard && facts.near.link.heard && tried_in_vain(far))
        },
        cause: "what {far} sends arrives at {near}, but nothing of what {near} sends arrives at {far}",
        remedy: "look at the firewall before {far}: it must let answers to its own UDP datagrams in (stateful), from the address they were sent to",
    },
    Rule {
        code: Code::UdpBlockedBoth,
        holds: |facts| detour(facts) && udp_blocked(&facts.near) && far(facts, udp_blocked),
        cause: "UDP does not pass at {near} nor at {far}: no member's datagram comes back to either",
        remedy: "allow outgoing UDP in both firewalls; until then the link goes inside the control plane, slower",
    },
    Rule {
        code: Code::UdpBlockedHere,
        holds: |facts| detour(facts) && udp_blocked(&facts.near),
        cause: "UDP does not pass at {near}: no member's datagram comes back to it",
        remedy: "allow outgoing UDP in the firewall of {near}; until then the link goes inside the control plane, slower",
    },
    Rule {
        code: Code::UdpBlockedThere,
        holds: |facts| detour(facts) && far(facts, udp_blocked),
        cause: "UDP does not pass at {far}: no member's datagram comes back to it",
        remedy: "allow outgoing UDP in the firewall of {far}; until then the link goes inside the control plane, slower",
    },
    Rule {
        code: Code::NoHairpin,
        holds: |facts| {
            detour(facts) && far(facts, |far| share_outside(&facts.near, far)) && locals_silent(&facts.near)
        },
        cause: "{near} and {far} share one outside address, but do not reach each other inside: their network keeps its hosts apart, and its NAT does not send their datagrams back in",
        remedy: "switch off client isolation between the two, or hairpin translation on in their router",
    },
    Rule {
        code: Code::MeetTooOften,
        holds: |facts| detour(facts) && facts.near.meeting == Meeting::TooOften,
        cause: "{far} has been asked for its addresses more often than it allows",
        remedy: "wait a minute",
    },
    Rule {
        code: Code::MeetUnanswered,
        holds: |facts| detour(facts) && facts.near.meeting == Meeting::Unanswered,
        cause: "{far} did not answer when {near} asked for its addresses of the moment, so both cannot open their NATs at once",
        remedy: "see whether {far} is overloaded, and that its control connection holds (`consort peers`)",
    },
    Rule {
        code: Code::DataPortBlocked,
        holds: |facts| {
            let alone = data_port_blocked(&facts.near) || far(facts, data_port_blocked);
            let open = |side: &Side| matches!(side.nat, Nat::None | Nat::EndpointIndependent);
            let silent =
                far(facts, |far| !far.link.heard) && !facts.near.link.heard && tried_in_vain(&facts.near);
            detour(facts)
                && is_connected(&facts.near)
                && facts.near.topology == TopologyFact::Allowed
                && (alone || silent && open(&facts.near) && far(facts, open))
        },
        cause: "the control plane connects, but no datagram to or from the data ports passes between {near} and {far} in either direction",
        remedy: "allow UDP to the data port (that of the control plane plus one, unless configured) in the firewalls between them",
    },
    Rule {
        code: Code::Searching,
        holds: |facts| detour(facts) && one_hard(facts) && facts.near.link.searching,
        cause: "one NAT chooses another outside address for each destination, and the right port is being searched",
        remedy: "wait some seconds",
    },
    Rule {
        code: Code::RelaySilent,
        holds: |facts| unrelayed(facts) && wanted(facts) && any_relay(facts, RelayOutcome::Silent),
        cause: "there is no direct path, and nothing comes through the relays that gave a leg",
        remedy: "see the relays' own state with `consort why RELAY {far}`; another one is tried by itself",
    },
    Rule {
        code: Code::RelaysFull,
        holds: |facts| unrelayed(facts) && wanted(facts) && any_relay(facts, RelayOutcome::Full),
        cause: "there is no direct path, and every relay in reach carries as much as its owner allows",
        remedy: "raise `[data] relay` of one of them, or let another member relay (`[data] relay = true`)",
    },
    Rule {
        code: Code::RelaysRefuse,
        holds: |facts| unrelayed(facts) && wanted(facts) && any_relay(facts, RelayOutcome::Refused),
        cause: "there is no direct path, and the relays in reach do not relay for these two",
        remedy: "let a member that both reach relay (`[data] relay = true`), and see that the topology allows it",
    },
    Rule {
        code: Code::RelaysUnreachable,
        holds: |facts| unrelayed(facts) && wanted(facts) && any_relay(facts, RelayOutcome::Unreachable),
        cause: "there is no direct path, and no relay could be asked",
        remedy: "see with `consort peers` why the relays are out of reach",
    },
    Rule {
        code: Code::NoRelay,
        holds: |facts| {
            unrelayed(facts)
                && wanted(facts)
                && needs_relay(facts)
                && facts.near.relays_known == 0
                && !facts.near.link.searching
        },
        cause: "there is no direct path (the NATs of {near} and {far} do not let one through), and no member relays",
        remedy: "set `[data] relay = true` on a member with a reachable address",
    },
    Rule {
        code: Code::SymmetricBoth,
        holds: |facts| detour(facts) && facts.near.nat.is_hard() && far(facts, |far| far.nat.is_hard()),
        cause: "both NATs choose another outside address for each destination ({near}: {nat}; {far}: {nat_far}), so neither can tell the other where to send",
        remedy: "open a port for one of them: NAT-PMP or PCP in its router (the node asks by itself), or forward the data port by hand",
    },
    Rule {
        code: Code::SearchSpent,
        holds: |facts| detour(facts) && one_hard(facts) && facts.near.link.search_spent,
        cause: "one NAT chooses another outside address for each destination, and the search for it ended without success within its budget",
        remedy: "it is tried again by itself; a port opened in that router (NAT-PMP, PCP or by hand) makes it certain",
    },
    Rule {
        code: Code::NatUnknown,
        holds: |facts| detour(facts) && facts.near.nat == Nat::Unknown && wanted(facts),
        cause: "{near} does not know yet how its NAT behaves: fewer than two members answered its probes",
        remedy: "wait some seconds; a second member with a public address helps",
    },
    Rule {
        code: Code::GrantRefused,
        holds: |facts| facts.near.link.up && facts.near.link.grants_refused > 0,
        cause: "the link stands, but {far} does not let {near} into {grants} of their networks: it holds no grant of the slice's stewards for it, or an old one",
        remedy: "see `consort slice show` on both; a slice's own record renews grants within seconds",
    },
    Rule {
        code: Code::ControlBlocked,
        holds: |facts| {
            facts.near.link.up
                && control_failed(&facts.near)
                && failure(&facts.near) != Some(ControlFailure::NotTried)
        },
        cause: "the link of the data plane stands, but the control plane gets no connection: its port is blocked or its address wrong",
        remedy: "allow TCP and UDP to the control port of {far}",
    },
    Rule {
        code: Code::MtuHole,
        holds: |facts| {
            facts.near.link.up
                && (facts.near.link.black_holes > 0 || far(facts, |far| far.link.black_holes > 0))
        },
        cause: "the path has become narrower without anybody saying so (messages about it are eaten on the way); it was found by probes, and frames are cut to {datagram} bytes",
        remedy: "nothing has to be done; for full speed let ICMP \"packet too big\" through, or lower the MTU of the narrow link's neighbour",
    },
    Rule {
        code: Code::MtuSmall,
        holds: |facts| facts.near.link.up && (1..DATAGRAM_SMALL).contains(&facts.near.link.datagram_bytes),
        cause: "the path takes only datagrams of {datagram} bytes; larger frames are cut and joined",
        remedy: "nothing has to be done; a wider path is faster",
    },
    Rule {
        code: Code::Overrun,
        holds: |facts| {
            facts.near.link.up
                && lossy(facts)
                && (facts.near.receive_drops > 0 || far(facts, |far| far.receive_drops > 0))
        },
        cause: "a computer does not keep up with the datagrams that arrive: its system has dropped some",
        remedy: "raise net.core.rmem_max to 8 MiB or more there, or give its node more CPUs (`[data] workers`)",
    },
    Rule {
        code: Code::Lossy,
        holds: lossy_up,
        cause: "{loss} % of the datagrams between {near} and {far} are lost on the way",
        remedy: "look at the radio or the line between them; if it is a relay, at its rate cap",
    },
    Rule {
        code: Code::Unsteady,
        holds: |facts| {
            let link = &facts.near.link;
            link.up
                && link.roamed >= ROAMED
                && link.session_seconds.is_some_and(|age| age < u64::from(link.roamed) * UNSTEADY_S)
        },
        cause: "the address of {far} changes again and again ({roamed} times): its NAT forgets quickly, or it moves between networks",
        remedy: "raise the UDP timeout of that router (RFC 4787 wants two minutes), or open a port for it",
    },
    Rule {
        code: Code::Slow,
        holds: |facts| {
            facts.near.link.up && facts.near.link.round_trip_micros.is_some_and(|micros| micros > SLOW_MICROS)
        },
        cause: "the way to {far} and back takes {rtt} ms",
        remedy: "a full queue before one of them is the usual cause: see what else loads its line",
    },
    Rule {
        code: Code::RelayedForNow,
        holds: |facts| facts.near.link.up && matches!(facts.path(), Path::Relay | Path::RelayStream),
        cause: "the link goes through a relay, though nothing that was measured forbids a direct path",
        remedy: "a direct path is tried again by itself; look again in a minute",
    },
    Rule {
        code: Code::Connecting,
        holds: |facts| dead(facts) && wanted(facts) && (facts.near.link.searching || waiting(&facts.near)),
        cause: "the addresses of {far} are being tried",
        remedy: "wait some seconds",
    },
    Rule {
        code: Code::NotWanted,
        holds: |facts| dead(facts) && !wanted(facts),
        cause: "there is no link because {near} and {far} share no network; nothing is known to stand in its way",
        remedy: "",
    },
    Rule {
        code: Code::DnsGone,
        holds: |facts| facts.near.dns == Some(false),
        cause: "{near} cannot look names up; nothing of Consort needs them, and the path is as it should be",
        remedy: "check the resolver of {near} (/etc/resolv.conf)",
    },
    Rule {
        code: Code::DirectLocal,
        holds: |facts| {
            facts.near.link.up
                && facts.path() == Path::Direct
                && used_kind(facts) == Some(CandidateKind::Local)
                && is_private(facts)
        },
        cause: "the link is direct, over a network both are in",
        remedy: "",
    },
    Rule {
        code: Code::Direct,
        holds: |facts| facts.near.link.up && facts.path() == Path::Direct,
        cause: "the link is direct",
        remedy: "",
    },
    Rule {
        code: Code::Unexplained,
        holds: |_| true,
        cause: "there is no path, and what is known does not say why",
        remedy: "see `consort peers --json` on both hosts; the log of the nodes with --log debug says more",
    },
];

/// What holds, the first to be mended first.
pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    RULES.iter().filter(|rule| (rule.holds)(facts)).map(|rule| rule.say(facts)).collect()
}

/// The last word.
pub(super) fn unexplained(facts: &Facts) -> Finding {
    RULES[RULES.len() - 1].say(facts)
}

/// Whether a code says that nothing is wrong.
pub(super) fn is_well(code: Code) -> bool {
    matches!(
        code,
        Code::SameHost
            | Code::Direct
            | Code::DirectLocal
            | Code::NotWanted
            | Code::Unexplained
            | Code::Connecting
    )
}

impl Rule {
    fn say(&self, facts: &Facts) -> Finding {
        Finding { code: self.code, cause: fill(self.cause, facts), remedy: fill(self.remedy, facts) }
    }
}

fn fill(text: &str, facts: &Facts) -> String {
    let link = &facts.near.link;
    let difference = clock_difference(facts);
    let clock = if difference > 0 { format!(" ({difference} s)") } else { String::new() };
    let record =
        facts.near.record_age_s.map_or_else(String::new, |age| format!("; its last word is {age} s old"));
    let nat_far = facts.far.as_ref().map_or(Nat::Unknown, |far| far.nat);
    [
        ("{near}", facts.near_name.clone()),
        ("{far}", facts.far_name.clone()),
        ("{clock}", clock),
        ("{record}", record),
        ("{record_life}", (RECORD_OLD_S / 60).to_string()),
        ("{nat}", facts.near.nat.words().to_owned()),
        ("{nat_far}", nat_far.words().to_owned()),
        ("{grants}", link.grants_refused.to_string()),
        ("{datagram}", link.datagram_bytes.to_string()),
        ("{loss}", format!("{:.1}", f64::from(worst_loss(facts)) / 10.0)),
        ("{roamed}", link.roamed.to_string()),
        ("{rtt}", (link.round_trip_micros.unwrap_or_default() / 1_000).to_string()),
    ]
    .iter()
    .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn far(facts: &Facts, holds: impl Fn(&Side) -> bool) -> bool {
    facts.far.as_ref().is_some_and(holds)
}

fn dead(facts: &Facts) -> bool {
    !facts.same && facts.path() == Path::None
}

fn detour(facts: &Facts) -> bool {
    !facts.same && facts.path() != Path::Direct
}

/// No relay carries datagrams; a stream of the control plane may.
fn unrelayed(facts: &Facts) -> bool {
    !facts.same && matches!(facts.path(), Path::None | Path::RelayStream)
}

/// What is known of the NATs lets no direct path be found.
fn needs_relay(facts: &Facts) -> bool {
    let both = facts.near.nat.is_hard() && facts.far.as_ref().is_none_or(|far| far.nat.is_hard());
    both || one_hard(facts) && facts.near.link.search_spent
}

/// No datagram comes back, and it is not only the data port.
fn udp_blocked(side: &Side) -> bool {
    // The data plane says so after a minute; before it, that nothing answers, and that no connection is over UDP though that is tried first.
    let silent = side.nat == Nat::Unknown && side.observed.is_empty() && tried_in_vain(side);
    let by_stream = side.link.up && side.link.path == Path::RelayStream;
    let said = side.nat == Nat::Blocked || side.members_connected > 0 && (silent || by_stream);
    !side.quic_somewhere && said
}

/// No datagram comes back to the data port, though UDP passes elsewhere.
fn data_port_blocked(side: &Side) -> bool {
    side.nat == Nat::Blocked && side.quic_somewhere
}

fn wanted(facts: &Facts) -> bool {
    facts.near.link.wanted || far(facts, |far| far.link.wanted)
}

fn failure(side: &Side) -> Option<ControlFailure> {
    match side.control {
        Control::Connected { .. } => None,
        Control::Failed(failure) => Some(failure),
    }
}

fn control_failed(side: &Side) -> bool {
    failure(side).is_some()
}

fn is_connected(side: &Side) -> bool {
    failure(side).is_none()
}

/// Either end's word: what one is refused with, the other may not know.
fn any_control(facts: &Facts, wanted: ControlFailure) -> bool {
    failure(&facts.near) == Some(wanted) || far(facts, |far| failure(far) == Some(wanted))
}

fn any_relay(facts: &Facts, outcome: RelayOutcome) -> bool {
    let mut relays = facts.near.relays.iter();
    relays.any(|relay| relay.outcome == outcome)
        && !facts.near.relays.iter().any(|relay| relay.outcome == RelayOutcome::Ready)
}

fn clock_difference(facts: &Facts) -> u64 {
    facts.far.as_ref().map_or(0, |far| far.unix_seconds.abs_diff(facts.near.unix_seconds))
}

fn nothing_known(facts: &Facts) -> bool {
    facts.near.record_age_s.is_none()
        && facts.far.is_none()
        && matches!(failure(&facts.near), Some(ControlFailure::NoAddress))
}

/// Something was tried, and nothing answered.
fn tried_in_vain(side: &Side) -> bool {
    let answered = side.tried.iter().any(|attempt| attempt.outcome == Outcome::Answered);
    let failed = side.tried.iter().any(|attempt| attempt.outcome == Outcome::Silent);
    let control = matches!(failure(side), Some(ControlFailure::NoAnswer | ControlFailure::Lost));
    !answered && (failed || control)
}

fn waiting(side: &Side) -> bool {
    side.tried.iter().any(|attempt| attempt.outcome == Outcome::Waiting)
}

fn families_differ(near: &Side, far: &Side) -> bool {
    !(near.has_ipv4 && far.has_ipv4 || near.has_ipv6 && far.has_ipv6)
}

fn share_outside(near: &Side, far: &Side) -> bool {
    let inside = |side: &Side| side.nat != Nat::None;
    inside(near)
        && inside(far)
        && near.observed.iter().any(|here| far.observed.iter().any(|there| here.ip() == there.ip()))
}

fn locals_silent(side: &Side) -> bool {
    let mut locals = side.tried.iter().filter(|attempt| attempt.kind == CandidateKind::Local).peekable();
    locals.peek().is_some() && locals.all(|attempt| attempt.outcome == Outcome::Silent)
}

fn one_hard(facts: &Facts) -> bool {
    facts.near.nat.is_hard() != far(facts, |far| far.nat.is_hard())
}

fn worst_loss(facts: &Facts) -> u16 {
    facts.near.link.loss_permille.max(facts.far.as_ref().map_or(0, |far| far.link.loss_permille))
}

fn lossy(facts: &Facts) -> bool {
    worst_loss(facts) >= LOSS_PERMILLE
}

fn lossy_up(facts: &Facts) -> bool {
    facts.near.link.up && lossy(facts)
}

fn used_kind(facts: &Facts) -> Option<CandidateKind> {
    let address = facts.near.link.address?;
    facts.near.tried.iter().find(|attempt| attempt.address == address).map(|attempt| attempt.kind)
}

fn is_private(facts: &Facts) -> bool {
    facts.near.link.address.is_some_and(|address| match address.ip() {
        std::net::IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        std::net::IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    })
}
