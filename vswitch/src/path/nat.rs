//! What kind of NAT is in the way (RFC 4787 section 4.1), told from what members on several addresses see.

use std::net::SocketAddr;

/// How a NAT gives outside ports to inside ones, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NatKind {
    /// Too few members have answered.
    #[default]
    Unknown,
    /// Members see an address of this host's own.
    None,
    /// Members on two addresses and more see the same address and port.
    EndpointIndependent,
    /// Members on other addresses see other ports, those on one address the same.
    AddressDependent,
    /// Each sees another port.
    AddressAndPortDependent,
    /// No member answers at all although they can be reached otherwise.
    Blocked,
}

impl NatKind {
    /// Whether the port that one host is seen with says nothing of the port the next will see.
    pub fn is_hard(self) -> bool {
        matches!(self, Self::AddressDependent | Self::AddressAndPortDependent)
    }
}

/// How outside ports follow each other where each destination sees another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortPattern {
    /// Nothing is known, or they are drawn at random.
    #[default]
    Random,
    /// Each new mapping gets the port `step` after the last, which was `last`.
    Sequential {
        /// The newest port seen.
        last: u16,
        /// From one to the next.
        step: i16,
    },
    /// The inside port, where it is free.
    Preserving,
}

/// What is known of the NAT before a host: published with its candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct NatView {
    /// See [`NatKind`].
    pub kind: NatKind,
    /// See [`PortPattern`].
    pub ports: PortPattern,
}

/// The NAT before a peer, as its node tells it.
pub type PeerNat = NatView;

/// What one member saw of a probe from this host's main socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Where the probe was sent.
    pub(super) target: SocketAddr,
    /// Where it came from.
    pub(super) outside: SocketAddr,
}

/// The largest step between mappings that counts as a sequence: other hosts behind the NAT open mappings too.
const STEP_MAX: i32 = 16;

/// What observations, the oldest first, say of the NAT before this host. Only IPv4 is looked at: where IPv6 is translated at all, the address
/// alone is. A member that sees an address of our own is on our side of any NAT, and says nothing of one.
pub(super) fn classify(local: &[SocketAddr], seen: &[Seen]) -> NatView {
    let seen: Vec<Seen> = seen.iter().filter(|seen| seen.target.is_ipv4()).copied().collect();
    let beyond: Vec<Seen> = seen.iter().filter(|seen| !local.contains(&seen.outside)).copied().collect();
    let kind = kind(&seen, &beyond);
    let ports = if kind.is_hard() { pattern(local, &beyond) } else { PortPattern::Random };
    NatView { kind, ports }
}

fn kind(seen: &[Seen], beyond: &[Seen]) -> NatKind {
    let Some(first) = beyond.first() else {
        return if seen.is_empty() { NatKind::Unknown } else { NatKind::None };
    };
    let targets = newest_of_each(beyond);
    let pairs = || targets.iter().enumerate().flat_map(|(n, a)| targets[n + 1..].iter().map(move |b| (a, b)));
    // A port that one destination alone sees says nothing against that: a NAT that keeps ports gives another where the pair of them is taken, as by a
    // peer's early packet (`schedule`).
    if pairs().any(|(a, b)| a.target.ip() != b.target.ip() && a.outside == b.outside) {
        return NatKind::EndpointIndependent;
    }
    let mut on_one_address = pairs().filter(|(a, b)| a.target.ip() == b.target.ip());
    if targets.iter().all(|seen| seen.outside == first.outside) {
        return NatKind::Unknown;
    }
    let same_there = on_one_address.next().is_some_and(|(a, b)| a.outside == b.outside);
    if same_there && on_one_address.all(|(a, b)| a.outside == b.outside) {
        NatKind::AddressDependent
    } else {
        NatKind::AddressAndPortDependent
    }
}

/// What each destination saw last.
pub(super) fn newest_of_each(seen: &[Seen]) -> Vec<Seen> {
    let is_newest =
        |place: usize, old: &Seen| seen[place + 1..].iter().all(|newer| newer.target != old.target);
    let newest = seen.iter().enumerate().filter(|(place, old)| is_newest(*place, old));
    newest.map(|(_, seen)| *seen).collect()
}

fn pattern(local: &[SocketAddr], beyond: &[Seen]) -> PortPattern {
    let mut ports: Vec<u16> = Vec::new();
    for seen in beyond {
        if !ports.contains(&seen.outside.port()) {
            ports.push(seen.outside.port());
        }
    }
    if ports.iter().any(|port| local.iter().any(|own| own.port() == *port)) {
        return PortPattern::Preserving;
    }
    sequence(&ports)
}

/// How ports follow each other that were given one after the other.
pub(super) fn sequence(ports: &[u16]) -> PortPattern {
    let steps: Vec<i32> = ports.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect();
    match (steps.first(), ports.last()) {
        (Some(step), Some(last)) if *step != 0 && step.abs() <= STEP_MAX => {
            let along = steps.iter().all(|other| other.signum() == step.signum() && other.abs() <= STEP_MAX);
            let least = steps.iter().copied().min_by_key(|step| step.abs()).unwrap_or(*step);
            match i16::try_from(least) {
                Ok(step) if along => PortPattern::Sequential { last: *last, step },
                _ => PortPattern::Random,
            }
        }
        _ => PortPattern::Random,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pairs: &[(&str, &str)]) -> Vec<Seen> {
        let parse = |text: &str| text.parse().unwrap();
        pairs
            .iter()
            .map(|(target, outside)| Seen { target: parse(target), outside: parse(outside) })
            .collect()
    }

    fn classified(pairs: &[(&str, &str)]) -> NatView {
        classify(&["10.0.0.2:7441".parse().unwrap()], &seen(pairs))
    }

    #[test]
    fn each_kind_is_told_from_what_two_members_on_two_addresses_see() {
        let (a, a2, b) = ("192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1");
        let kind = |pairs: &[(&str, &str)]| classified(pairs).kind;
        assert_eq!(kind(&[]), NatKind::Unknown);
        assert_eq!(kind(&[(a, "10.0.0.2:7441")]), NatKind::None);
        assert_eq!(kind(&[(a, "198.51.100.1:7")]), NatKind::Unknown, "one member is too few");
        assert_eq!(
            kind(&[(a, "198.51.100.1:7"), (a2, "198.51.100.1:7")]),
            NatKind::Unknown,
            "one address too"
        );
        assert_eq!(kind(&[(a, "198.51.100.1:7"), (b, "198.51.100.1:7")]), NatKind::EndpointIndependent);
        assert_eq!(kind(&[(a, "198.51.100.1:7"), (b, "198.51.100.1:8")]), NatKind::AddressAndPortDependent);
        assert_eq!(
            kind(&[(a, "198.51.100.1:7"), (a2, "198.51.100.1:7"), (b, "198.51.100.1:8")]),
            NatKind::AddressDependent
        );
        assert_eq!(
            kind(&[(a, "198.51.100.1:7"), (a2, "198.51.100.1:9"), (b, "198.51.100.1:8")]),
            NatKind::AddressAndPortDependent
        );
        let c = "192.0.2.3:1";
        assert_eq!(
            kind(&[(c, "198.51.100.1:9"), (a, "198.51.100.1:7"), (b, "198.51.100.1:7")]),
            NatKind::EndpointIndependent,
            "the pair of ports towards one was taken"
        );
        // A member beside us sees our own address; that says nothing of the NAT.
        assert_eq!(
            kind(&[("10.0.0.3:1", "10.0.0.2:7441"), (a, "198.51.100.1:7"), (b, "198.51.100.1:7")]),
            NatKind::EndpointIndependent
        );
        // The mapping was given up and made anew meanwhile: what counts is the newest of each member.
        assert_eq!(
            kind(&[(a, "198.51.100.1:7"), (b, "198.51.100.1:9"), (a, "198.51.100.1:9")]),
            NatKind::EndpointIndependent
        );
    }

    #[test]
    fn ports_that_follow_each_other_are_a_sequence() {
        let ports = |list: &[u16]| {
            let pairs: Vec<_> = list
                .iter()
                .enumerate()
                .map(|(n, port)| Seen {
                    target: SocketAddr::from(([192, 0, 2, u8::try_from(n).unwrap()], 1)),
                    outside: SocketAddr::from(([198, 51, 100, 1], *port)),
                })
                .collect();
            classify(&["10.0.0.2:7441".parse().unwrap()], &pairs).ports
        };
        assert_eq!(ports(&[5000, 5001]), PortPattern::Sequential { last: 5001, step: 1 });
        assert_eq!(ports(&[5000, 4998, 4994]), PortPattern::Sequential { last: 4994, step: -2 });
        assert_eq!(ports(&[5000, 5001, 4000]), PortPattern::Random);
        assert_eq!(ports(&[40_000, 23_000]), PortPattern::Random);
        assert_eq!(ports(&[7441, 23_000]), PortPattern::Preserving);
    }
}
