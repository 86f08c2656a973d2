//! What one topology changes of another: for `plan` before it is applied, and for whoever must act when it is.
//!
//! Compares decisions, not words: two files that say the same in different words change nothing. The hosts compared are those that either
//! names and those that are there.

use std::collections::BTreeSet;

use libp2p_identity::PeerId as HostId;
use serde::{Deserialize, Serialize};

use super::model::{LinkKind, Pair, Roles, Topology};
use super::rate::Rate;
use super::routes::State;

/// Most changes listed; the others are counted.
pub const CHANGES_MAX: usize = 500;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Change {
    /// Whether two hosts link.
    Link {
        /// The two, by name.
        between: [String; 2],
        /// Before.
        from: LinkKind,
        /// After.
        to: LinkKind,
        /// Whether a link between them stands now.
        up: bool,
    },
    /// What a link costs.
    Cost {
        /// The two, by name.
        between: [String; 2],
        /// Before.
        from: u32,
        /// After.
        to: u32,
    },
    /// What a link may carry.
    Rate {
        /// The two, by name.
        between: [String; 2],
        /// Before.
        from: Option<Rate>,
        /// After.
        to: Option<Rate>,
    },
    /// What a host is there for.
    Role {
        /// The host, by name.
        host: String,
        /// Before.
        from: Roles,
        /// After.
        to: Roles,
    },
    /// What a host forwards at most.
    TransitRate {
        /// The host, by name.
        host: String,
        /// Before.
        from: Option<Rate>,
        /// After.
        to: Option<Rate>,
    },
    /// A route that the operator wrote.
    Route {
        /// Its ends, by name.
        between: [String; 2],
        /// Before, by name; none: chosen by cost.
        from: Option<Vec<String>>,
        /// After.
        to: Option<Vec<String>>,
    },
    /// Whether links follow traffic, in words.
    Adaptation {
        /// Before.
        from: String,
        /// After.
        to: String,
    },
}

/// All that changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The first [`CHANGES_MAX`].
    pub changes: Vec<Change>,
    /// How many more there are.
    pub more: usize,
    /// Members that could reach no other member any more.
    pub cut_off: Vec<String>,
}

impl Changes {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.more == 0
    }

    fn push(&mut self, change: Change) {
        if self.changes.len() < CHANGES_MAX {
            self.changes.push(change);
        } else {
            self.more += 1;
        }
    }
}

/// What `new` changes of `old`, among the hosts of both and `members`; `up` are the links that stand.
#[must_use]
pub fn changes(old: &Topology, new: &Topology, members: &BTreeSet<HostId>, up: &BTreeSet<Pair>) -> Changes {
    let named = old.hosts().iter().chain(new.hosts()).map(|host| host.id);
    let hosts: Vec<HostId> =
        named.chain(members.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect();
    let name = |id: HostId| if new.host(id).is_some() { new.name_of(id) } else { old.name_of(id) };
    let mut found = Changes::default();
    for host in &hosts {
        let (from, to) = (old.role(*host), new.role(*host));
        if from != to {
            found.push(Change::Role { host: name(*host), from, to });
        }
        let (from, to) = (old.transit_rate(*host), new.transit_rate(*host));
        if from != to {
            found.push(Change::TransitRate { host: name(*host), from, to });
        }
    }
    for (at, a) in hosts.iter().enumerate() {
        for b in &hosts[at + 1..] {
            let between = || by_name([name(*a), name(*b)]);
            let (from, to) = (old.link(*a, *b), new.link(*a, *b));
            if from != to {
                found.push(Change::Link {
                    between: between(),
                    from,
                    to,
                    up: up.contains(&Pair::new(*a, *b)),
                });
            }
            if to == LinkKind::Forbidden {
                continue;
            }
            let (from, to) = (old.cost(*a, *b), new.cost(*a, *b));
            if from != to {
                found.push(Change::Cost { between: between(), from, to });
            }
            let (from, to) = (old.rate(*a, *b), new.rate(*a, *b));
            if from != to {
                found.push(Change::Rate { between: between(), from, to });
            }
        }
    }
    route_changes(old, new, &name, &mut found);
    let (from, to) = (adaptation_words(old), adaptation_words(new));
    if from != to {
        found.push(Change::Adaptation { from, to });
    }
    found.cut_off = cut_off(new, members).into_iter().map(name).collect();
    found
}

fn route_changes(old: &Topology, new: &Topology, name: &impl Fn(HostId) -> String, found: &mut Changes) {
    let written = |topology: &Topology| -> Vec<(Pair, Vec<HostId>)> {
        let id = |number: &usize| topology.hosts[*number].id;
        let one = |fixed: &super::model::Fixed| {
            let (from, to) = (id(&fixed.from), id(&fixed.to));
            let mut via: Vec<HostId> = fixed.via.iter().map(id).collect();
            if from > to {
                via.reverse();
            }
            (Pair::new(from, to), via)
        };
        topology.fixed.iter().map(one).collect()
    };
    let (before, after) = (written(old), written(new));
    let pairs: BTreeSet<Pair> = before.iter().chain(&after).map(|(pair, _)| *pair).collect();
    for pair in pairs {
        let via = |routes: &[(Pair, Vec<HostId>)]| {
            let found = routes.iter().find(|(held, _)| *held == pair);
            found.map(|(_, via)| via.iter().copied().map(name).collect::<Vec<_>>())
        };
        let (from, to) = (via(&before), via(&after));
        if from != to {
            found.push(Change::Route { between: pair.hosts().map(name), from, to });
        }
    }
}

/// Two names as people look for them.
fn by_name(mut names: [String; 2]) -> [String; 2] {
    names.sort();
    names
}

/// How links follow traffic, in words.
pub(super) fn adaptation_words(topology: &Topology) -> String {
    topology.adaptation().map_or_else(
        || "off".to_owned(),
        |adaptation| {
            format!(
                "at most {} links per host beyond the shape, added after {} s, dropped after {} s",
                adaptation.links_per_host_max,
                adaptation.after.as_secs(),
                adaptation.drop.as_secs()
            )
        },
    )
}

/// Members that could reach no other member.
#[must_use]
pub fn cut_off(topology: &Topology, members: &BTreeSet<HostId>) -> Vec<HostId> {
    if members.len() < 2 {
        return Vec::new();
    }
    let state = State { hosts: members.clone(), ..State::default() };
    let reaches = |host: &HostId| {
        let others = || members.iter().filter(|other| *other != host);
        others().any(|other| topology.link(*host, *other) != LinkKind::Forbidden)
            || others().any(|other| !topology.routes(*host, *other, &state).is_empty())
    };
    members.iter().filter(|host| !reaches(host)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::testing::{file, host};

    fn topology(head: &str, hosts: usize, tail: &str) -> Topology {
        Topology::parse(&file(head, hosts, tail)).unwrap()
    }

    fn between(old: &Topology, new: &Topology) -> Changes {
        changes(old, new, &BTreeSet::new(), &BTreeSet::new())
    }

    #[test]
    fn other_words_for_the_same_change_nothing() {
        let ring = topology("shape = \"ring\"", 4, "");
        let links: String = (0..4)
            .map(|a| format!("[[link]]\nbetween = [\"h{a}\", \"h{}\"]\nrule = \"allowed\"\n", (a + 1) % 4))
            .collect();
        let custom = topology("shape = \"custom\"", 4, &links);
        assert!(between(&ring, &custom).is_empty());
        assert!(between(&ring, &ring).is_empty());
    }

    #[test]
    fn a_star_closes_what_a_mesh_had_and_says_which_stand() {
        let star = topology("shape = \"star\"\nhubs = \"h0\"", 3, "");
        let members: BTreeSet<HostId> = (0..3).map(host).collect();
        let up = BTreeSet::from([Pair::new(host(1), host(2))]);
        let found = changes(&Topology::default(), &star, &members, &up);
        assert_eq!(found.changes.len(), 1, "{found:?}");
        assert!(matches!(
            &found.changes[0],
            Change::Link { from: LinkKind::Allowed, to: LinkKind::Forbidden, up: true, .. }
        ));
        assert_eq!(found.cut_off, [""; 0]);
    }

    #[test]
    fn members_that_the_new_topology_leaves_alone_are_named() {
        let ring = topology("shape = \"ring\"", 3, "");
        let members: BTreeSet<HostId> = (0..4).map(host).collect();
        let found = changes(&Topology::default(), &ring, &members, &BTreeSet::new());
        assert_eq!(found.cut_off, [host(3).to_string()]);
    }

    #[test]
    fn costs_rates_roles_routes_and_adaptation_are_compared() {
        let old = topology("", 3, "");
        let tail = "[[link]]\nbetween = [\"h0\", \"h1\"]\ncost = 3\nrate = \"1Mbit/s\"\n[roles]\nrelay = \"h2\"\n\
                    [[route]]\nfrom = \"h1\"\nto = \"h0\"\nvia = \"h2\"\n[adapt]\n";
        let new = topology("", 3, tail);
        let (there, back) = (between(&old, &new), between(&new, &old));
        assert_eq!(there.changes.len(), 5, "{there:?}");
        assert_eq!(back.changes.len(), 5);
    }

    #[test]
    fn a_long_list_is_counted() {
        let (mesh, none) = (topology("", 40, ""), topology("shape = \"star\"\nhubs = \"h0\"", 40, ""));
        let found = between(&mesh, &none);
        assert_eq!(found.changes.len() + found.more, 39 * 38 / 2);
        assert_eq!(found.changes.len(), CHANGES_MAX);
    }
}
