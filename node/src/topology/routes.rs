//! Routes: over which hosts two that have no direct link reach each other, best first.
//!
//! A route costs the sum of its links' costs; of two that cost the same, the one with the shorter measured round trip is better, then the one with
//! fewer hosts, then the one with the lesser ids: the answer is the same wherever it is computed from the same [`State`]. A route that the
//! operator wrote comes first while it can be used. The others share no host in between with those before them, as far as there are such: one
//! failing host takes one route. Where only the links differ, a route that shares hosts is better than none.
//!
//! Nobody in between may be closed to transit, and each must be willing ([`State::relays`]): the owner's word is above the operator's.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use libp2p_identity::PeerId as HostId;

use super::model::{HOPS_MAX, LinkKind, Pair, Topology};
use super::rate::Rate;

/// Most routes given: a chosen one and spares. More would be kept warm by nobody.
pub const ROUTES_MAX: usize = 4;
/// Most hosts looked at for one question: what a node knows of the overlay.
pub const STATE_HOSTS_MAX: usize = 1_024;

/// What is, as far as one host knows.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Who is there. The two ends of a question need not be in it.
    pub hosts: BTreeSet<HostId>,
    /// Who forwards for others, as each says of itself; `None`: unknown, and the topology alone decides.
    pub relays: Option<BTreeSet<HostId>>,
    /// Links that were tried and do not work now.
    pub broken: BTreeSet<Pair>,
    /// Measured round trips.
    pub round_trips: BTreeMap<Pair, Duration>,
}

/// One way from a host to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The hosts in between, in order from the asking end; none: the direct link.
    pub hops: Vec<HostId>,
    /// The sum of its links' costs.
    pub cost: u32,
    /// The most it may carry, by the caps of its links and of those in between.
    pub rate: Option<Rate>,
}

impl Route {
    /// Whether it is the direct link.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.hops.is_empty()
    }
}

/// How good a way is; less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Weight {
    cost: u32,
    round_trip_us: u64,
    links: usize,
}

/// What one search leaves out.
#[derive(Debug, Default)]
struct Without {
    hosts: BTreeSet<HostId>,
    links: BTreeSet<Pair>,
}

impl Topology {
    /// The routes between `from` and `to`, best first, at most [`ROUTES_MAX`]; none: they cannot reach each other now.
    #[must_use]
    pub fn routes(&self, from: HostId, to: HostId, state: &State) -> Vec<Route> {
        if from == to {
            return Vec::new();
        }
        let mut found: Vec<Route> = self.written_route(from, to, state).into_iter().collect();
        let mut without = Without::default();
        while found.len() < ROUTES_MAX {
            without.hosts.extend(found.iter().flat_map(|route| route.hops.iter().copied()));
            without.links.extend(found.iter().filter(|route| route.is_direct()).map(|_| Pair::new(from, to)));
            match self.best(from, to, state, &without) {
                Some(route) if !found.contains(&route) => found.push(route),
                _ => break,
            }
        }
        // None left that shares no host: one that at least shares no link.
        if found.len() == 1 && !found[0].is_direct() {
            let without =
                Without { hosts: BTreeSet::new(), links: links(from, &found[0].hops, to).collect() };
            found.extend(self.best(from, to, state, &without));
        }
        found
    }

    /// What the operator wrote for the two, if every link of it can be used now.
    fn written_route(&self, from: HostId, to: HostId, state: &State) -> Option<Route> {
        let (a, b) = (self.place(from)?, self.place(to)?);
        let (fixed, forth) = self.fixed.iter().rev().find_map(|fixed| {
            let ends = (fixed.from, fixed.to);
            (ends == (a, b)).then_some((fixed, true)).or_else(|| (ends == (b, a)).then_some((fixed, false)))
        })?;
        let mut hops: Vec<HostId> = fixed.via.iter().map(|number| self.hosts[*number].id).collect();
        if !forth {
            hops.reverse();
        }
        let usable = hops.iter().all(|hop| self.forwards(*hop, state))
            && links(from, &hops, to).all(|pair| self.is_usable(pair, state));
        usable.then(|| self.route(from, hops, to))
    }

    fn is_usable(&self, pair: Pair, state: &State) -> bool {
        let [a, b] = pair.hosts();
        self.link(a, b) != LinkKind::Forbidden && !state.broken.contains(&pair)
    }

    fn forwards(&self, host: HostId, state: &State) -> bool {
        let willing = state.relays.as_ref().is_none_or(|relays| relays.contains(&host));
        willing && state.hosts.contains(&host) && self.may_transit(host)
    }

    fn route(&self, from: HostId, hops: Vec<HostId>, to: HostId) -> Route {
        let cost = links(from, &hops, to).map(|pair| self.pair_cost(pair)).sum();
        let link_rates =
            links(from, &hops, to).filter_map(|pair| self.rate(pair.hosts()[0], pair.hosts()[1]));
        let rate = link_rates.chain(hops.iter().filter_map(|hop| self.transit_rate(*hop))).min();
        Route { hops, cost, rate }
    }

    fn pair_cost(&self, pair: Pair) -> u32 {
        let [a, b] = pair.hosts();
        self.cost(a, b)
    }

    /// Dijkstra's search.
    fn best(&self, from: HostId, to: HostId, state: &State, without: &Without) -> Option<Route> {
        let known = state.hosts.iter().copied().filter(|host| *host != from && *host != to);
        let inner = known.filter(|host| !without.hosts.contains(host) && self.forwards(*host, state));
        let mut unseen: BTreeSet<HostId> = inner.take(STATE_HOSTS_MAX).chain([to]).collect();
        let mut best: BTreeMap<HostId, (Weight, HostId)> = BTreeMap::new();
        let mut waiting = BinaryHeap::from([Reverse((Weight::default(), from))]);
        while let Some(Reverse((weight, host))) = waiting.pop() {
            if host == to {
                break;
            }
            if host != from && !unseen.remove(&host) {
                continue;
            }
            for next in &unseen {
                let pair = Pair::new(host, *next);
                if without.links.contains(&pair) || !self.is_usable(pair, state) {
                    continue;
                }
                let round_trip = state.round_trips.get(&pair).copied().unwrap_or_default();
                let onward = Weight {
                    cost: weight.cost.saturating_add(self.pair_cost(pair)),
                    round_trip_us: weight.round_trip_us
                        + u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX / 64),
                    links: weight.links + 1,
                };
                if best.get(next).is_none_or(|(held, over)| (onward, host) < (*held, *over)) {
                    best.insert(*next, (onward, host));
                    waiting.push(Reverse((onward, *next)));
                }
            }
        }
        let mut hops = Vec::new();
        let mut at = best.get(&to)?.1;
        while at != from {
            hops.push(at);
            at = best[&at].1;
        }
        hops.reverse();
        (hops.len() <= HOPS_MAX).then(|| self.route(from, hops, to))
    }
}

/// The links of a way, in order.
fn links(from: HostId, hops: &[HostId], to: HostId) -> impl Iterator<Item = Pair> {
    let stations = std::iter::once(from).chain(hops.iter().copied()).chain([to]);
    let next = hops.iter().copied().chain([to]);
    stations.zip(next).map(|(a, b)| Pair::new(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::testing::{below, file, host, seeded};

    fn topology(head: &str, hosts: usize, tail: &str) -> Topology {
        Topology::parse(&file(head, hosts, tail)).unwrap()
    }

    fn all(hosts: usize) -> State {
        State { hosts: (0..hosts).map(host).collect(), ..State::default() }
    }

    fn hops(routes: &[Route]) -> Vec<Vec<HostId>> {
        routes.iter().map(|route| route.hops.clone()).collect()
    }

    #[test]
    fn where_everything_is_allowed_the_direct_link_is_best_and_others_are_spares() {
        let routes = topology("", 3, "").routes(host(0), host(1), &all(3));
        assert_eq!(hops(&routes), [vec![], vec![host(2)]]);
        assert_eq!((routes[0].cost, routes[1].cost), (10, 20));
        assert!(Topology::default().routes(host(0), host(1), &State::default())[0].is_direct());
    }

    #[test]
    fn a_cheaper_way_over_others_is_better_than_a_dear_link() {
        let dear = "[[link]]\nbetween = [\"h0\", \"h1\"]\ncost = 50\n";
        assert_eq!(hops(&topology("", 3, dear).routes(host(0), host(1), &all(3))), [vec![host(2)], vec![]]);
    }

    #[test]
    fn leaves_of_a_star_meet_at_its_hubs() {
        let star = topology("shape = \"star\"\nhubs = [\"h0\", \"h1\"]", 4, "");
        let routes = star.routes(host(2), host(3), &all(4));
        assert_eq!(
            hops(&routes).into_iter().collect::<BTreeSet<_>>(),
            BTreeSet::from([vec![host(0)], vec![host(1)]])
        );
        // Hosts that the file does not name hang on the hubs as well.
        assert_eq!(star.routes(host(7), host(2), &all(4))[0].hops.len(), 1);
    }

    #[test]
    fn a_broken_link_and_a_lost_host_are_routed_around() {
        let ring = topology("shape = \"ring\"", 5, "");
        let mut state = all(5);
        assert_eq!(hops(&ring.routes(host(0), host(2), &state)), [vec![host(1)], vec![host(4), host(3)]]);
        state.broken.insert(Pair::new(host(1), host(2)));
        assert_eq!(hops(&ring.routes(host(0), host(2), &state)), [vec![host(4), host(3)]]);
        state.hosts.remove(&host(4));
        assert_eq!(ring.routes(host(0), host(2), &state), []);
    }

    #[test]
    fn an_owner_that_does_not_forward_is_not_asked_to() {
        let mut state = all(4);
        state.relays = Some(BTreeSet::from([host(3)]));
        let star = topology("shape = \"star\"\nhubs = [\"h2\", \"h3\"]", 4, "");
        assert_eq!(hops(&star.routes(host(0), host(1), &state)), [vec![host(3)]]);
    }

    #[test]
    fn what_the_operator_wrote_comes_first_while_it_works() {
        let route = "[[route]]\nfrom = \"h0\"\nto = \"h1\"\nvia = [\"h2\", \"h3\"]\n";
        let mesh = topology("", 4, route);
        let mut state = all(4);
        assert_eq!(mesh.routes(host(0), host(1), &state)[0].hops, [host(2), host(3)]);
        assert_eq!(mesh.routes(host(1), host(0), &state)[0].hops, [host(3), host(2)], "both ways");
        state.hosts.remove(&host(3));
        assert!(mesh.routes(host(0), host(1), &state)[0].is_direct());
    }

    #[test]
    fn a_route_carries_no_more_than_its_narrowest_part() {
        let text = file(
            "shape = \"star\"\nhubs = \"h0\"",
            3,
            "[[link]]\nbetween = [\"h0\", \"h1\"]\nrate = \"10Mbit/s\"\n",
        );
        let routes = Topology::parse(&text).unwrap().routes(host(1), host(2), &all(3));
        assert_eq!(routes[0].rate, Some(Rate(10_000_000)));
    }

    #[test]
    fn of_equal_costs_the_nearer_relay_is_taken() {
        let star = topology("shape = \"star\"\nhubs = [\"h0\", \"h1\"]", 4, "");
        for near in [0, 1] {
            let mut state = all(4);
            for hub in [0, 1] {
                let ms = if hub == near { 5 } else { 50 };
                state.round_trips.insert(Pair::new(host(hub), host(2)), Duration::from_millis(ms));
            }
            assert_eq!(star.routes(host(2), host(3), &state)[0].hops, [host(near)]);
        }
    }

    /// Against a search that looks at every way: the same least cost; each route is allowed, simple, and symmetric in cost.
    #[test]
    fn the_best_route_is_as_cheap_as_any_there_is() {
        for seed in 0..40 {
            let mut rng = seeded(seed);
            let hosts = 3 + below(&mut rng, 4);
            let mut links = String::new();
            for a in 0..hosts {
                for b in a + 1..hosts {
                    if below(&mut rng, 3) > 0 {
                        let cost = 1 + below(&mut rng, 30);
                        links += &format!(
                            "[[link]]\nbetween = [\"h{a}\", \"h{b}\"]\nrule = \"allowed\"\ncost = {cost}\n"
                        );
                    }
                }
            }
            let Ok(topology) = Topology::parse(&file("shape = \"custom\"", hosts, &links)) else { continue };
            let state = all(hosts);
            let routes = topology.routes(host(0), host(1), &state);
            let cheapest = every_way(&topology, host(0), host(1), &mut vec![host(0)], hosts);
            assert_eq!(routes.first().map(|route| route.cost), cheapest, "seed {seed}");
            for route in &routes {
                let stations: BTreeSet<HostId> =
                    route.hops.iter().copied().chain([host(0), host(1)]).collect();
                assert_eq!(
                    stations.len(),
                    route.hops.len() + 2,
                    "seed {seed}: a host stands twice in {route:?}"
                );
                let mut pairs = super::links(host(0), &route.hops, host(1));
                assert!(pairs.all(|pair| topology.is_usable(pair, &state)), "seed {seed}");
            }
            let back = topology.routes(host(1), host(0), &state);
            assert_eq!(back.first().map(|route| route.cost), cheapest, "seed {seed}");
        }
    }

    fn every_way(
        topology: &Topology,
        at: HostId,
        to: HostId,
        past: &mut Vec<HostId>,
        hosts: usize,
    ) -> Option<u32> {
        let mut least = None;
        for next in (0..hosts).map(host) {
            if past.contains(&next) || topology.link(at, next) == LinkKind::Forbidden {
                continue;
            }
            let step = topology.cost(at, next);
            let rest = if next == to {
                Some(0)
            } else {
                past.push(next);
                let rest = every_way(topology, next, to, past, hosts);
                past.pop();
                rest
            };
            let whole = rest.map(|rest| rest + step);
            least = [least, whole].into_iter().flatten().min();
        }
        least
    }
}
