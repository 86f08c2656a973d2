//! The kinds of gateway of the matrix: two sites of each, one host at each, and two public hosts of which one relays.

/// What both ends of a pair may be.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What its site says in a case; none: a host in the open.
    site: Option<&'static str>,
    /// What is before it, if it is behind a carrier's NAT.
    carrier: Option<&'static str>,
}

const fn kind(name: &'static str, about: &'static str, site: &'static str) -> Kind {
    Kind { name, about, site: Some(site), carrier: None }
}

/// All kinds.
pub const ALL: [Kind; 19] = [
    Kind { name: "open", about: "a public address, nothing before it", site: None, carrier: None },
    kind("stateful", "a public address behind a firewall that lets answers in", "firewall = [\"stateful\"]"),
    kind("full-cone", "one outside port, open to all; hairpin", "nat = \"full-cone\""),
    kind("address-cone", "one outside port, open to hosts that were spoken to", "nat = \"address-cone\""),
    kind("port-cone", "one outside port, open to endpoints that were spoken to", "nat = \"port-cone\""),
    kind("port-cone-random", "the same with a random outside port", "nat = \"port-cone-random\""),
    kind("masquerade", "Linux, drops what nobody asked for", "nat = \"masquerade\""),
    kind("masquerade-reject", "Linux, rejects what nobody asked for", "nat = \"masquerade-reject\""),
    kind(
        "masquerade-open",
        "Linux with its own input open: early packets spoil the port",
        "nat = \"masquerade-open\"",
    ),
    kind("address-symmetric", "an outside port for each host, random", "nat = \"address-symmetric\""),
    kind(
        "symmetric-sequential",
        "an outside port for each endpoint, one after the other",
        "nat = \"symmetric-sequential\"",
    ),
    kind("symmetric-random", "an outside port for each endpoint, random", "nat = \"symmetric-random\""),
    kind("short-timeout", "a port-cone that forgets after 20 s", "nat = \"short-timeout\""),
    Kind {
        name: "carrier",
        about: "a home router behind a carrier's cone",
        site: Some("nat = \"port-cone\""),
        carrier: Some("carrier"),
    },
    Kind {
        name: "carrier-symmetric",
        about: "a home router behind a carrier's symmetric NAT",
        site: Some("nat = \"port-cone\""),
        carrier: Some("carrier-symmetric"),
    },
    kind(
        "udp-blocked",
        "a cone that lets no UDP through",
        "nat = \"port-cone\"\nfirewall = [\"deny out udp\", \"deny in udp\"]",
    ),
    kind(
        "web-only",
        "a cone that lets out TCP to ports 443 and 53 alone",
        "nat = \"port-cone\"\nfirewall = [\"allow out tcp 443,53\", \"deny out tcp\", \"deny out udp\", \"deny in udp\"]",
    ),
    kind(
        "only-ipv6",
        "IPv6 behind a stateful firewall, no IPv4",
        "families = \"ipv6\"\nfirewall = [\"stateful\"]",
    ),
    kind(
        "stateful-dual",
        "IPv4 and IPv6 behind a stateful firewall",
        "families = \"dual\"\nfirewall = [\"stateful\"]",
    ),
];

/// Those of the usual matrix.
pub const USUAL: [&str; 12] = [
    "open",
    "stateful",
    "full-cone",
    "address-cone",
    "port-cone",
    "masquerade",
    "masquerade-open",
    "address-symmetric",
    "symmetric-sequential",
    "symmetric-random",
    "carrier",
    "udp-blocked",
];

/// Kinds whose NAT gives each destination another port.
const HARD: [&str; 4] =
    ["address-symmetric", "symmetric-sequential", "symmetric-random", "carrier-symmetric"];

/// Kinds that have one port for all, and let in nobody who comes from a port that was not spoken to.
const FILTERING: [&str; 9] = [
    "stateful",
    "port-cone",
    "port-cone-random",
    "masquerade",
    "masquerade-reject",
    "masquerade-open",
    "short-timeout",
    "carrier",
    "stateful-dual",
];

/// The side of a pair that opens mappings in search of a port, where nothing but a search can make the pair direct.
#[must_use]
pub fn searching_side(first: &str, second: &str) -> Option<Side> {
    match (HARD.contains(&first), HARD.contains(&second)) {
        (true, false) => FILTERING.contains(&second).then_some(Side::A),
        (false, true) => FILTERING.contains(&first).then_some(Side::B),
        _ => None,
    }
}

/// The public host that founds the overlay.
pub const FOUNDER: &str = "founder";
/// The public host that relays.
pub const RELAY: &str = "relay";
/// What a node that relays is told.
pub const RELAYS: &str = "[data]\nrelay = true\n";

/// What most homes have.
const USUAL_LAN: &str = "192.168.1.0/24";
const OTHER_LAN: &str = "192.168.2.0/24";

/// Which end of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The one that begins.
    A,
    /// The other.
    B,
}

/// The name of a host of this kind.
#[must_use]
pub fn host(side: Side, kind: &str) -> String {
    match side {
        Side::A => format!("{kind}-a"),
        Side::B => format!("{kind}-b"),
    }
}

/// The name of one of several hosts of this kind.
#[must_use]
pub fn host_of_many(side: Side, kind: &str, number: u32) -> String {
    format!("{}{number}", host(side, kind))
}

const SIDES: [Side; 2] = [Side::A, Side::B];

/// Which private addresses the homes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lans {
    /// Those of side a other ones than those of side b.
    Different,
    /// All the same, down to the hosts' own: as in most homes, and a pitfall of its own.
    Same,
}

/// The case with two hosts of each kind.
#[must_use]
pub fn case(names: &[&str], lans: Lans) -> String {
    let all =
        chosen(names).flat_map(|kind| SIDES.map(|side| kind.case_of(&host(side, kind.name), lans.of(side))));
    publics() + &all.collect::<String>()
}

/// The case with so many pairs of hosts of each kind.
#[must_use]
pub fn case_of_many(names: &[&str], pairs: u32) -> String {
    let of = |kind: &'static Kind, side| {
        (0..pairs)
            .map(move |number| kind.case_of(&host_of_many(side, kind.name, number), Lans::Different.of(side)))
    };
    let all = chosen(names).flat_map(|kind| SIDES.into_iter().flat_map(move |side| of(kind, side)));
    publics() + &all.collect::<String>()
}

fn chosen(names: &[&str]) -> impl Iterator<Item = &'static Kind> {
    ALL.iter().filter(move |kind| names.contains(&kind.name))
}

fn publics() -> String {
    format!(
        "about = \"the matrix\"\n[host.{FOUNDER}]\nconfig = '''\n{RELAYS}'''\n[host.{RELAY}]\nconfig = '''\n{RELAYS}'''\n"
    )
}

impl Lans {
    fn of(self, side: Side) -> &'static str {
        if self == Self::Different && side == Side::B { OTHER_LAN } else { USUAL_LAN }
    }
}

impl Kind {
    fn case_of(&self, host: &str, lan: &str) -> String {
        let Some(site) = self.site else { return format!("[host.{host}]\n") };
        // Without a NAT the addresses are given.
        let lan = if site.contains("nat =") { format!("lan = \"{lan}\"\n") } else { String::new() };
        let carrier = self.carrier.map_or_else(String::new, |nat| {
            format!("[site.before-{host}]\nnat = \"{nat}\"\nlan = \"100.64.0.0/24\"\n")
        });
        let behind = self.carrier.map_or_else(String::new, |_| format!("behind = \"before-{host}\"\n"));
        format!("{carrier}[site.{host}]\n{site}\n{lan}{behind}[host.{host}]\nsite = \"{host}\"\n")
    }
}

#[cfg(test)]
mod tests {
    use consort_lab::case::Case;

    use super::*;

    #[test]
    fn all_kinds_make_a_good_case() {
        let names: Vec<&str> = ALL.iter().map(|kind| kind.name).collect();
        for lans in [Lans::Different, Lans::Same] {
            let case = Case::parse(&case(&names, lans)).unwrap_or_else(|faults| panic!("{faults:?}"));
            assert_eq!(case.hosts.len(), 2 * ALL.len() + 2);
        }
        let many = Case::parse(&case_of_many(&names, 2)).unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!(many.hosts.len(), 4 * ALL.len() + 2);
        assert!(USUAL.iter().all(|usual| names.contains(usual)));
        assert!(HARD.iter().chain(&FILTERING).all(|special| names.contains(special)));
    }

    #[test]
    fn the_side_behind_the_difficult_nat_opens_mappings_where_the_other_filters_by_port() {
        assert_eq!(searching_side("symmetric-random", "port-cone"), Some(Side::A));
        assert_eq!(searching_side("stateful", "address-symmetric"), Some(Side::B));
        for (first, second) in [
            ("symmetric-random", "symmetric-random"),
            ("open", "symmetric-random"),
            ("symmetric-random", "udp-blocked"),
            ("port-cone", "masquerade"),
        ] {
            assert_eq!(searching_side(first, second), None, "{first} and {second}");
        }
    }
}
