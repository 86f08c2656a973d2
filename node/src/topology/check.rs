//! What only shows when all of a topology is looked at: rules that undo each other, routes that cannot be, hosts that cannot be reached, rates
//! that cannot be met.
//!
//! Cycles of links are no fault here: a network's frames never go back to where they came from, whatever the links are (design, section 4). A
//! route that passes a host twice is one, and so is a host that stands below itself in a tree (`build` finds that).

use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId as HostId;

use super::fault::Fault;
use super::model::{HOPS_MAX, LinkKind, Pair, Topology};
use super::rate::Rate;
use super::routes::State;

/// Names listed in one fault; the others are counted.
const NAMES_MAX: usize = 5;

pub(super) fn faults(topology: &Topology) -> Vec<Fault> {
    let mut faults = undone(topology);
    faults.extend(hubs_closed(topology));
    faults.extend(impossible_routes(topology));
    if faults.is_empty() {
        faults.extend(unreachable(topology));
    }
    if faults.is_empty() {
        faults.extend(unmet(topology));
    }
    faults
}

/// A static link that a later rule forbids, and two rules that say different things of the same two hosts.
fn undone(topology: &Topology) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, rule) in topology.rules.iter().enumerate() {
        let Some(kind) = rule.kind else { continue };
        let exact = rule.between[0].single().zip(rule.between[1].single());
        if kind != LinkKind::Static && exact.is_none() {
            continue;
        }
        let [x, y] = &rule.between;
        let pairs =
            x.named.iter().flat_map(|a| y.named.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b);
        for (a, b) in pairs {
            let Some(deciding) = topology.deciding(Some(a), Some(b)) else { continue };
            let later = topology.rules[at + 1..].iter().any(|later| std::ptr::eq(later, deciding));
            let clashes = match kind {
                LinkKind::Static => deciding.kind == Some(LinkKind::Forbidden),
                _ => {
                    deciding.kind != Some(kind) && deciding.between.iter().all(|side| side.single().is_some())
                }
            };
            if later && clashes {
                let names = [a, b].map(|number| topology.hosts[number].name.clone());
                let message =
                    format!("{} and {}: this rule undoes the one of line {}", names[0], names[1], rule.line);
                faults.push(Fault::new(
                    deciding.line,
                    message,
                    "remove one of the two, or write this one first",
                ));
                break;
            }
        }
    }
    faults
}

/// A hub that carries nobody's traffic is none.
fn hubs_closed(topology: &Topology) -> Vec<Fault> {
    let closed = topology
        .hosts
        .iter()
        .enumerate()
        .filter(|(number, host)| host.roles.no_transit && topology.form.is_hub(Some(*number)));
    closed
        .map(|(_, host)| {
            let message = format!("`{}` is a hub and closed to transit", host.name);
            Fault::new(host.line, message, "remove it from `no-transit`, or choose another hub")
        })
        .collect()
}

fn impossible_routes(topology: &Topology) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut ends: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let name = |number: usize| topology.hosts[number].name.as_str();
    for fixed in &topology.fixed {
        let pair = (fixed.from.min(fixed.to), fixed.from.max(fixed.to));
        if let Some(first) = ends.insert(pair, fixed.line) {
            let message = format!(
                "there is another route between {} and {} in line {first}",
                name(pair.0),
                name(pair.1)
            );
            faults.push(Fault::new(fixed.line, message, "remove one of the two"));
        }
        let stations: Vec<usize> = [&[fixed.from], fixed.via.as_slice(), &[fixed.to]].concat();
        if let Some(twice) = stations.iter().enumerate().find(|(at, number)| stations[..*at].contains(number))
        {
            let message = format!("the route passes `{}` twice", name(*twice.1));
            faults.push(Fault::new(fixed.line, message, "name each host once"));
            continue;
        }
        for pair in stations.windows(2) {
            if topology.kind(Some(pair[0]), Some(pair[1])) == LinkKind::Forbidden {
                let message = format!(
                    "the route needs a link between `{}` and `{}`, which is forbidden",
                    name(pair[0]),
                    name(pair[1])
                );
                faults.push(Fault::new(
                    fixed.line,
                    message,
                    "allow the link with a [[link]], or choose another way",
                ));
            }
        }
        for hop in fixed.via.iter().filter(|hop| !topology.transits(Some(**hop))) {
            let message =
                format!("the route goes over `{}`, which carries nobody else's traffic", name(*hop));
            faults.push(Fault::new(
                fixed.line,
                message,
                "make it a relay under [roles], or choose another way",
            ));
        }
    }
    faults
}

/// Hosts that cannot reach some others: told of those in the lesser parts.
fn unreachable(topology: &Topology) -> Vec<Fault> {
    let count = topology.hosts.len();
    let linked = |a: usize, b: usize| a != b && topology.kind(Some(a), Some(b)) != LinkKind::Forbidden;
    let mut faults = Vec::new();
    // How far each host that carries traffic is from others, in links, over such hosts alone.
    let mut told: BTreeSet<usize> = BTreeSet::new();
    let mut missing: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for from in 0..count {
        let mut far: Vec<Option<usize>> = vec![None; count];
        far[from] = Some(0);
        let mut edge = vec![from];
        let mut links = 0;
        while !edge.is_empty() && links <= HOPS_MAX {
            links += 1;
            let mut next = Vec::new();
            for at in edge {
                if at != from && !topology.transits(Some(at)) {
                    continue;
                }
                for (to, known) in far.iter_mut().enumerate() {
                    if known.is_none() && linked(at, to) {
                        *known = Some(links);
                        next.push(to);
                    }
                }
            }
            edge = next;
        }
        let lacking: Vec<usize> =
            far.iter().enumerate().filter(|(_, known)| known.is_none()).map(|(to, _)| to).collect();
        if !lacking.is_empty() {
            missing.insert(from, lacking);
        }
    }
    // The host that lacks most explains the others' lack of it.
    let mut by_lack: Vec<(usize, Vec<usize>)> = missing.into_iter().collect();
    by_lack.sort_by_key(|(from, lacking)| (std::cmp::Reverse(lacking.len()), *from));
    for (from, lacking) in by_lack {
        let lacking: Vec<usize> = lacking.into_iter().filter(|to| !told.contains(to)).collect();
        if lacking.is_empty() {
            continue;
        }
        told.insert(from);
        let host = &topology.hosts[from];
        let has_link = (0..count).any(|to| linked(from, to));
        let whom =
            if lacking.len() + 1 == count { "any other host".to_owned() } else { names(topology, &lacking) };
        let message = format!("`{}` cannot reach {whom}", host.name);
        let remedy = if has_link {
            "allow a link with a [[link]], or let a host in between carry traffic (`relay` under [roles])"
        } else {
            "it has no link at all: give it one with a [[link]], or take it into the shape"
        };
        faults.push(Fault::new(host.line, message, remedy));
    }
    faults
}

fn names(topology: &Topology, numbers: &[usize]) -> String {
    let shown: Vec<&str> =
        numbers.iter().take(NAMES_MAX).map(|number| topology.hosts[*number].name.as_str()).collect();
    match numbers.len().saturating_sub(NAMES_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} others", shown.join(", ")),
    }
}

/// Demands that the caps do not let through: each by itself, and all that share a link or a host together.
fn unmet(topology: &Topology) -> Vec<Fault> {
    let state = State { hosts: topology.hosts.iter().map(|host| host.id).collect(), ..State::default() };
    let mut faults = Vec::new();
    let mut links: BTreeMap<Pair, (u64, Vec<usize>)> = BTreeMap::new();
    let mut hosts: BTreeMap<HostId, (u64, Vec<usize>)> = BTreeMap::new();
    for demand in &topology.demands {
        let (from, to) = (topology.hosts[demand.from].id, topology.hosts[demand.to].id);
        let routes = topology.routes(from, to, &state);
        let carries = |rate: Option<Rate>| rate.is_none_or(|rate| rate >= demand.rate);
        let Some(route) = routes.iter().find(|route| carries(route.rate)) else {
            let most = routes
                .iter()
                .filter_map(|route| route.rate)
                .max()
                .map_or_else(String::new, |most| format!(" (at most {most})"));
            let (a, b) = (&topology.hosts[demand.from].name, &topology.hosts[demand.to].name);
            let message = format!("no route between {a} and {b} carries {}{most}", demand.rate);
            faults.push(Fault::new(demand.line, message, "raise the rates on the way, or ask for less"));
            continue;
        };
        let stations: Vec<HostId> = [&[from], route.hops.as_slice(), &[to]].concat();
        for pair in stations.windows(2) {
            add(links.entry(Pair::new(pair[0], pair[1])).or_default(), demand.rate, demand.line);
        }
        for hop in &route.hops {
            add(hosts.entry(*hop).or_default(), demand.rate, demand.line);
        }
    }
    let mut over = |what: String, cap: Option<Rate>, (sum, lines): &(u64, Vec<usize>)| {
        if cap.is_some_and(|cap| cap.0 < *sum) && lines.len() > 1 {
            let lines_told: Vec<String> = lines.iter().map(ToString::to_string).collect();
            let message = format!(
                "{what} carries at most {}, and the demands of lines {} need {} together",
                cap.map_or_else(String::new, |cap| cap.to_string()),
                lines_told.join(", "),
                Rate(*sum)
            );
            let last = lines.last().copied().unwrap_or(1);
            faults.push(Fault::new(
                last,
                message,
                "raise its rate, ask for less, or give one of them another way",
            ));
        }
    };
    for (pair, load) in &links {
        let [a, b] = pair.hosts();
        let what = format!("the link between {} and {}", topology.name_of(a), topology.name_of(b));
        over(what, topology.rate(a, b), load);
    }
    for (hop, load) in &hosts {
        over(format!("`{}`", topology.name_of(*hop)), topology.transit_rate(*hop), load);
    }
    faults
}

fn add(load: &mut (u64, Vec<usize>), rate: Rate, line: usize) {
    load.0 = load.0.saturating_add(rate.0);
    load.1.push(line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::testing::file;

    fn told(head: &str, hosts: usize, tail: &str) -> Vec<String> {
        match Topology::parse(&file(head, hosts, tail)) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        }
    }

    fn link(a: &str, b: &str, rule: &str) -> String {
        format!("[[link]]\nbetween = [\"{a}\", \"{b}\"]\nrule = \"{rule}\"\n")
    }

    #[test]
    fn shapes_are_whole_by_themselves() {
        for head in [
            "",
            "shape = \"star\"\nhubs = \"h0\"",
            "shape = \"ring\"",
            "shape = \"tree\"",
            "shape = \"tree\"\narity = 1",
        ] {
            assert_eq!(told(head, 6, ""), [""; 0], "{head}");
        }
    }

    #[test]
    fn a_host_without_a_way_to_others_is_named_with_its_line() {
        let links = link("h0", "h1", "allowed") + &link("h1", "h2", "allowed");
        let said = told("shape = \"custom\"", 4, &links);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("line 6: `h3` cannot reach any other host; it has no link at all"),
            "{said:?}"
        );
    }

    #[test]
    fn a_host_in_between_that_is_closed_to_transit_parts_its_neighbours() {
        let links =
            link("h0", "h1", "allowed") + &link("h1", "h2", "allowed") + "[roles]\nno-transit = \"h1\"\n";
        let said = told("shape = \"custom\"", 3, &links);
        assert!(said[0].contains("`h0` cannot reach h2; allow a link"), "{said:?}");
        let said = told("shape = \"star\"\nhubs = \"h0\"", 3, "[roles]\nno-transit = \"h0\"\n");
        assert!(said[0].starts_with("line 4: `h0` is a hub and closed to transit"), "{said:?}");
    }

    #[test]
    fn a_way_longer_than_a_route_may_be_is_none() {
        assert_eq!(told("shape = \"ring\"", 2 * HOPS_MAX + 2, ""), [""; 0]);
        assert!(told("shape = \"ring\"", 2 * HOPS_MAX + 4, "")[0].contains("cannot reach"));
    }

    #[test]
    fn rules_that_undo_each_other_are_named_with_both_lines() {
        let said = told("", 3, &(link("h0", "h1", "static") + &link("h*", "h1", "forbidden")));
        assert!(said[0].starts_with("line 10: h0 and h1: this rule undoes the one of line 7"), "{said:?}");
        let said = told("", 3, &(link("h0", "h1", "allowed") + &link("h1", "h0", "forbidden")));
        assert!(said[0].contains("undoes the one of line 7"), "{said:?}");
        let broad_then_exact =
            link("*", "*", "forbidden") + &link("h0", "h1", "static") + &link("h1", "h2", "allowed");
        assert_eq!(told("", 3, &broad_then_exact), [""; 0]);
    }

    #[test]
    fn routes_that_cannot_be_are_refused() {
        let route = |via: &str| format!("[[route]]\nfrom = \"h0\"\nto = \"h2\"\nvia = [{via}]\n");
        assert!(told("", 4, &route("\"h1\", \"h1\""))[0].contains("passes `h1` twice"));
        assert!(told("", 4, &route("\"h0\""))[0].contains("passes `h0` twice"));
        assert!(
            told("", 4, &(route("\"h1\"") + &route("\"h3\"")))[0]
                .contains("another route between h0 and h2 in line 10")
        );
        let ring = told("shape = \"ring\"", 5, &route("\"h3\""));
        assert!(
            ring[0].starts_with("line 11: the route needs a link between `h0` and `h3`, which is forbidden"),
            "{ring:?}"
        );
        let closed = told("", 4, &(route("\"h1\"") + "[roles]\nno-transit = \"h1\"\n"));
        assert!(closed[0].contains("carries nobody else's traffic"), "{closed:?}");
    }

    #[test]
    fn rates_that_cannot_be_met_are_told_alone_and_together() {
        let cap = "[[link]]\nbetween = [\"h0\", \"*\"]\nrate = \"10Mbit/s\"\n";
        let demand = |a: &str, b: &str, rate: &str| {
            format!("[[demand]]\nfrom = \"{a}\"\nto = \"{b}\"\nrate = \"{rate}\"\n")
        };
        let star = "shape = \"star\"\nhubs = \"h0\"";
        let said = told(star, 4, &(cap.to_owned() + &demand("h1", "h2", "20Mbit/s")));
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("line 14: no route between h1 and h2 carries 20Mbit/s (at most 10Mbit/s)"),
            "{said:?}"
        );
        let both = demand("h1", "h2", "6Mbit/s") + &demand("h1", "h3", "6Mbit/s");
        let said = told(star, 4, &(cap.to_owned() + &both));
        assert!(said[0].contains("the demands of lines 14, 18 need 12Mbit/s together"), "{said:?}");
        assert_eq!(told(star, 4, &(cap.to_owned() + &demand("h1", "h2", "6Mbit/s"))), [""; 0]);
    }

    #[test]
    fn the_transit_cap_of_a_host_counts() {
        let text = file("shape = \"star\"\nhubs = \"h0\"", 3, "")
            .replace("h0 = \"", "h0 = { rate = \"1Mbit/s\", id = \"")
            .replacen("\"\nh1", "\" }\nh1", 1)
            + "[[demand]]\nfrom = \"h1\"\nto = \"h2\"\nrate = \"2Mbit/s\"\n";
        let faults = Topology::parse(&text).unwrap_err();
        assert!(faults[0].message.contains("carries 2Mbit/s (at most 1Mbit/s)"), "{faults:?}");
    }

    #[test]
    fn any_file_of_links_is_whole_exactly_when_every_two_hosts_have_a_route() {
        use crate::topology::testing::{below, host, seeded};
        for seed in 0..60 {
            let mut rng = seeded(seed);
            let hosts = 2 + below(&mut rng, 5);
            let mut tail = String::new();
            for a in 0..hosts {
                for b in a + 1..hosts {
                    if below(&mut rng, 2) == 0 {
                        tail += &link(&format!("h{a}"), &format!("h{b}"), "allowed");
                    }
                }
            }
            if below(&mut rng, 2) == 0 {
                tail += &format!("[roles]\nno-transit = \"h{}\"\n", below(&mut rng, hosts));
            }
            let text = file("shape = \"custom\"", hosts, &tail);
            let whole = Topology::parse(&text).is_ok();
            let topology = crate::topology::build::build(&text).unwrap();
            let state = State { hosts: (0..hosts).map(host).collect(), ..State::default() };
            let pairs = (0..hosts).flat_map(|a| (a + 1..hosts).map(move |b| (a, b)));
            let routed =
                pairs.into_iter().all(|(a, b)| !topology.routes(host(a), host(b), &state).is_empty());
            assert_eq!(whole, routed, "seed {seed}:\n{text}");
        }
    }
}
