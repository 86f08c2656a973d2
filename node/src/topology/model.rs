//! The topology and its decisions: pure, the same on every host.
//!
//! A pair's link is decided by the last `[[link]]` with a rule that speaks of both, else by the shape; its cost and its rate by the last that
//! gives one. Hosts that the file does not name are spoken of by `*` and by the shape alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId as HostId;
use serde::{Deserialize, Serialize};

use super::build;
use super::check;
use super::fault::{self, Fault};
use super::rate::Rate;
use super::selector::Chosen;
use super::shape::{Form, Shape};

/// Most hosts a file may name. A check looks at each pair: so many are a quarter of a million.
pub const HOSTS_MAX: usize = 512;
/// Most `[[link]]`, `[[route]]` and `[[demand]]` entries each. A decision looks at all rules.
pub const RULES_MAX: usize = 128;
/// Most hosts between the two ends of a route: each adds its delay, and a longer one is no use to anybody.
pub const HOPS_MAX: usize = 16;
/// What a link costs for which the file names no cost; so there is room below.
pub const COST_DEFAULT: u32 = 10;
/// The greatest cost: sums over a route stay far from the end of the number.
pub const COST_MAX: u32 = 1_000_000;

/// A host's number in the topology; `None`: the file does not name it.
pub(super) type Place = Option<usize>;

/// What a host is there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Others' traffic goes over it.
    pub relay: bool,
    /// Traffic to the outside leaves here.
    pub exit: bool,
    /// Nobody's traffic but its own.
    pub no_transit: bool,
}

/// A host that the file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name in the file.
    pub name: String,
    /// Who it is.
    pub id: HostId,
    /// What the file says of it.
    pub attributes: BTreeMap<String, String>,
    /// What it is there for.
    pub roles: Roles,
    /// The most it forwards for others.
    pub rate: Option<Rate>,
    pub(super) line: usize,
}

/// Two hosts, the lesser first: a link has no direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair(HostId, HostId);

impl Pair {
    /// Of two hosts, in whichever order.
    #[must_use]
    pub fn new(a: HostId, b: HostId) -> Self {
        if a <= b { Self(a, b) } else { Self(b, a) }
    }

    /// The two, the lesser first.
    #[must_use]
    pub fn hosts(&self) -> [HostId; 2] {
        [self.0, self.1]
    }

    /// Whether `host` is one of them.
    #[must_use]
    pub fn has(&self, host: HostId) -> bool {
        self.0 == host || self.1 == host
    }
}

/// Whether two hosts may have a direct link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// When one of them wants it.
    Allowed,
    /// Never: what they say to each other goes over others.
    Forbidden,
    /// Always, wanted or not.
    Static,
}

/// One `[[link]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) line: usize,
    pub(super) between: [Chosen; 2],
    pub(super) kind: Option<LinkKind>,
    pub(super) cost: Option<u32>,
    pub(super) rate: Option<Rate>,
}

impl Rule {
    fn speaks_of(&self, a: Place, b: Place) -> bool {
        let [x, y] = &self.between;
        (x.has(a) && y.has(b)) || (x.has(b) && y.has(a))
    }
}

/// One `[[route]]`; holds both ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) line: usize,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) via: Vec<usize>,
}

/// One `[[demand]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) line: usize,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) rate: Rate,
}

/// How links may follow traffic, where the shape leaves them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adaptation {
    /// Most links beyond the shape that one host has at once.
    pub links_per_host_max: usize,
    /// How long traffic has to last before a link is added for it.
    pub after: Duration,
    /// How long a link has to be idle before it is dropped.
    pub drop: Duration,
    pub(super) between: [Chosen; 2],
}

/// A topology that has passed its check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    pub(super) name: Option<String>,
    pub(super) form: Form,
    pub(super) hosts: Vec<Host>,
    pub(super) numbers: BTreeMap<HostId, usize>,
    pub(super) rules: Vec<Rule>,
    pub(super) fixed: Vec<Fixed>,
    pub(super) demands: Vec<Demand>,
    pub(super) adaptation: Option<Adaptation>,
    /// Links that adaptation added to what the file says.
    pub(super) added: BTreeSet<Pair>,
}

impl Default for Topology {
    /// What holds where no operator has said anything: everybody may link with everybody.
    fn default() -> Self {
        Self {
            name: None,
            form: Form::Mesh,
            hosts: Vec::new(),
            numbers: BTreeMap::new(),
            rules: Vec::new(),
            fixed: Vec::new(),
            demands: Vec::new(),
            adaptation: None,
            added: BTreeSet::new(),
        }
    }
}

impl Topology {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of its lines.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let topology = build::build(text).map_err(fault::ordered)?;
        let faults = check::faults(&topology);
        if faults.is_empty() { Ok(topology) } else { Err(fault::ordered(faults)) }
    }

    /// The name the operator gave it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its short form.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.form.shape()
    }

    /// The hosts that the file names, as it orders them.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host of that id, if the file names it.
    #[must_use]
    pub fn host(&self, id: HostId) -> Option<&Host> {
        self.place(id).map(|number| &self.hosts[number])
    }

    /// What people call `id`: its name in the file, else the id itself.
    #[must_use]
    pub fn name_of(&self, id: HostId) -> String {
        self.host(id).map_or_else(|| id.to_string(), |host| host.name.clone())
    }

    /// How links may follow traffic; `None`: they do not.
    #[must_use]
    pub fn adaptation(&self) -> Option<&Adaptation> {
        self.adaptation.as_ref()
    }

    /// What `id` is there for.
    #[must_use]
    pub fn role(&self, id: HostId) -> Roles {
        self.host(id).map_or_else(Roles::default, |host| host.roles)
    }

    /// The most that `id` forwards for others, where the file says so.
    #[must_use]
    pub fn transit_rate(&self, id: HostId) -> Option<Rate> {
        self.host(id).and_then(|host| host.rate)
    }

    /// Whether others' traffic may go over `id`: a relay, the hub of a star, or, where the file names no relay, everybody but those
    /// that shall carry none.
    #[must_use]
    pub fn may_transit(&self, id: HostId) -> bool {
        self.transits(self.place(id))
    }

    /// Whether traffic to the outside may leave at `id`: where the file names exits, only there.
    #[must_use]
    pub fn may_exit(&self, id: HostId) -> bool {
        self.role(id).exit || !self.hosts.iter().any(|host| host.roles.exit)
    }

    /// Whether `a` and `b` may, must or must not have a direct link.
    #[must_use]
    pub fn link(&self, a: HostId, b: HostId) -> LinkKind {
        match self.kind(self.place(a), self.place(b)) {
            LinkKind::Forbidden if self.added.contains(&Pair::new(a, b)) => LinkKind::Allowed,
            kind => kind,
        }
    }

    /// What a link between `a` and `b` costs.
    #[must_use]
    pub fn cost(&self, a: HostId, b: HostId) -> u32 {
        self.cost_between(self.place(a), self.place(b))
    }

    /// The most that a link between `a` and `b` may carry.
    #[must_use]
    pub fn rate(&self, a: HostId, b: HostId) -> Option<Rate> {
        self.rate_between(self.place(a), self.place(b))
    }

    /// Whether adaptation may add a link between `a` and `b`: the shape leaves it out, and no rule of the operator forbids it.
    #[must_use]
    pub fn may_add(&self, a: HostId, b: HostId) -> bool {
        let (a, b) = (self.place(a), self.place(b));
        let Some(adaptation) = &self.adaptation else { return false };
        let [x, y] = &adaptation.between;
        let meant = (x.has(a) && y.has(b)) || (x.has(b) && y.has(a));
        meant && self.ruled(a, b).is_none() && self.form.kind(a, b) == LinkKind::Forbidden
    }

    /// The same with these links, and no others, added by adaptation.
    #[must_use]
    pub fn with_added(&self, added: BTreeSet<Pair>) -> Self {
        Self { added, ..self.clone() }
    }

    /// The links that adaptation added.
    #[must_use]
    pub fn added(&self) -> &BTreeSet<Pair> {
        &self.added
    }

    pub(super) fn place(&self, id: HostId) -> Place {
        self.numbers.get(&id).copied()
    }

    /// What the last rule about the two says.
    fn ruled(&self, a: Place, b: Place) -> Option<LinkKind> {
        self.rules.iter().rev().filter(|rule| rule.speaks_of(a, b)).find_map(|rule| rule.kind)
    }

    /// The rule that decides the two, if one does.
    pub(super) fn deciding(&self, a: Place, b: Place) -> Option<&Rule> {
        self.rules.iter().rev().find(|rule| rule.kind.is_some() && rule.speaks_of(a, b))
    }

    pub(super) fn kind(&self, a: Place, b: Place) -> LinkKind {
        self.ruled(a, b).unwrap_or_else(|| self.form.kind(a, b))
    }

    pub(super) fn cost_between(&self, a: Place, b: Place) -> u32 {
        let given = self.rules.iter().rev().filter(|rule| rule.speaks_of(a, b)).find_map(|rule| rule.cost);
        given.unwrap_or(COST_DEFAULT)
    }

    pub(super) fn rate_between(&self, a: Place, b: Place) -> Option<Rate> {
        self.rules.iter().rev().filter(|rule| rule.speaks_of(a, b)).find_map(|rule| rule.rate)
    }

    pub(super) fn transits(&self, place: Place) -> bool {
        let roles = place.map_or_else(Roles::default, |number| self.hosts[number].roles);
        if roles.no_transit {
            return false;
        }
        roles.relay || self.form.is_hub(place) || !self.hosts.iter().any(|host| host.roles.relay)
    }
}
