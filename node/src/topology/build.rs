//! From what was written to a [`Topology`]: names become numbers, words become hosts, texts become values. Collects every fault it meets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId as HostId;
use toml::Spanned;

use super::FILE_BYTES_MAX;
use super::fault::{Fault, Lines};
use super::model::{
    Adaptation, COST_MAX, Demand, Fixed, HOPS_MAX, HOSTS_MAX, Host, LinkKind, RULES_MAX, Roles, Rule,
    Topology,
};
use super::rate::{RATE_REMEDY, Rate};
use super::selector::{self, Chosen};
use super::shape::{Form, Shape, even_tree};
use super::written::{self, AdaptSection, File, HostEntry, RolesSection, Words};
use crate::config::nearest::nearest;
use crate::config::units::{DURATION_REMEDY, parse_duration};

/// The longest name of a host: what a table in a terminal shows whole.
const NAME_BYTES_MAX: usize = 63;
/// Most attributes of one host.
const ATTRIBUTES_MAX: usize = 32;
/// Most hosts below one in a tree of a given arity.
const ARITY_MAX: usize = 64;
/// Most links beyond the shape that a file may grant one host: as many as a host has connections with neighbours.
const LINKS_MAX: usize = 32;
/// What holds where `[adapt]` does not say: two links of its own carry a ring or a hot pair and a spare.
const LINKS_DEFAULT: usize = 2;
const AFTER_DEFAULT: Duration = Duration::from_secs(2);
const DROP_DEFAULT: Duration = Duration::from_secs(60);
/// Shorter times would follow bursts, longer ones nothing.
const AFTER_RANGE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3_600)];
const DROP_RANGE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(24 * 3_600)];

/// Reads a file as far as it can be read without looking at all of it at once.
pub(super) fn build(text: &str) -> Result<Topology, Vec<Fault>> {
    if text.len() > FILE_BYTES_MAX {
        let what = format!("the file has {} bytes", text.len());
        return Err(vec![Fault::new(1, what, format!("a topology file has at most {FILE_BYTES_MAX}"))]);
    }
    let lines = Lines::of(text);
    let file = written::read(text, &lines).map_err(|fault| vec![fault])?;
    let mut builder = Builder { lines, hosts: Vec::new(), faults: Vec::new() };
    let topology = builder.topology(&file);
    if builder.faults.is_empty() { Ok(topology) } else { Err(builder.faults) }
}

struct Builder {
    lines: Lines,
    hosts: Vec<Host>,
    faults: Vec<Fault>,
}

impl Builder {
    fn topology(&mut self, file: &File) -> Topology {
        self.hosts(file);
        if !self.faults.is_empty() {
            // Whatever speaks of hosts would be told as a fault of its own.
            return Topology::default();
        }
        self.ids_elsewhere(file);
        let rules = self.rules(file);
        let fixed = self.fixed(file);
        let demands = self.demands(file);
        let adaptation = file.adapt.as_ref().and_then(|section| self.adaptation(section));
        self.roles(&file.roles);
        let form = self.form(file);
        let numbers = self.hosts.iter().enumerate().map(|(number, host)| (host.id, number)).collect();
        Topology {
            name: file.name.clone(),
            form,
            hosts: std::mem::take(&mut self.hosts),
            numbers,
            rules,
            fixed,
            demands,
            adaptation,
            added: BTreeSet::new(),
        }
    }

    fn line<T>(&self, at: &Spanned<T>) -> usize {
        self.lines.line(&at.span())
    }

    fn fault(&mut self, line: usize, message: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(Fault::new(line, message, remedy));
    }

    fn take<T>(&mut self, found: Result<T, Fault>) -> Option<T> {
        found.map_err(|fault| self.faults.push(fault)).ok()
    }

    /// `[hosts]`, in the order of the file.
    fn hosts(&mut self, file: &File) {
        if let Some(name) = file.name.as_ref().filter(|name| name.len() > NAME_BYTES_MAX) {
            self.fault(
                1,
                format!("the name has {} bytes", name.len()),
                format!("use at most {NAME_BYTES_MAX}"),
            );
        }
        if file.hosts.len() > HOSTS_MAX {
            let remedy = format!("at most {HOSTS_MAX} can be named; `*` speaks of all that are not");
            return self.fault(1, format!("{} hosts are named", file.hosts.len()), remedy);
        }
        let mut entries: Vec<_> = file.hosts.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut seen: BTreeMap<HostId, String> = BTreeMap::new();
        for (name, entry) in entries {
            let line = self.line(name);
            let Some(host) = self.host(name.get_ref(), entry, line) else { continue };
            if let Some(first) = seen.insert(host.id, host.name.clone()) {
                let message = format!("`{}` has the same id as `{first}`", host.name);
                self.fault(line, message, "give each host one name, or correct the id");
                continue;
            }
            self.hosts.push(host);
        }
    }

    fn host(&mut self, name: &str, entry: &HostEntry, line: usize) -> Option<Host> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            let remedy = format!("use letters, digits, `-`, `_` and `.`, at most {NAME_BYTES_MAX}");
            self.fault(line, format!("`{name}` is no name of a host"), remedy);
            return None;
        }
        let (written, attributes, rate) = match entry {
            HostEntry::Id(id) => (id, BTreeMap::new(), None),
            HostEntry::Table(table) => (&table.id, table.attributes.clone(), table.rate.as_ref()),
        };
        let Ok(id) = written.parse() else {
            let remedy = "give the HostId that `consort members` shows (12D3KooW...)";
            self.fault(line, format!("`{written}` is no HostId"), remedy);
            return None;
        };
        if attributes.len() > ATTRIBUTES_MAX {
            let message = format!("`{name}` has {} attributes", attributes.len());
            self.fault(line, message, format!("give at most {ATTRIBUTES_MAX}"));
            return None;
        }
        let rate = match rate {
            None => None,
            Some(written) => Some(self.rate(written, line)?),
        };
        Some(Host { name: name.to_owned(), id, attributes, roles: Roles::default(), rate, line })
    }

    fn rate(&mut self, written: &str, line: usize) -> Option<Rate> {
        let rate = Rate::parse(written);
        if rate.is_none() {
            self.fault(line, format!("`{written}` is no rate"), RATE_REMEDY);
        }
        rate
    }

    /// Hosts that the file speaks of by their ids alone are hosts of the file too.
    fn ids_elsewhere(&mut self, file: &File) {
        let mut words: Vec<(usize, String)> = Vec::new();
        let lists = [&file.hubs, &file.order, &file.roles.relay, &file.roles.exit, &file.roles.no_transit];
        for list in lists.into_iter().flatten() {
            words.extend(list.get_ref().all().iter().map(|word| (self.line(list), word.clone())));
        }
        for link in &file.link {
            let between = &link.get_ref().between;
            words.extend(
                between.get_ref().iter().flat_map(Words::all).map(|word| (self.line(between), word.clone())),
            );
        }
        for route in &file.route {
            let route = route.get_ref();
            words.extend([&route.from, &route.to].map(|word| (self.line(word), word.get_ref().clone())));
            words.extend(route.via.get_ref().all().iter().map(|word| (self.line(&route.via), word.clone())));
        }
        for demand in &file.demand {
            let demand = demand.get_ref();
            words.extend([&demand.from, &demand.to].map(|word| (self.line(word), word.get_ref().clone())));
        }
        for (line, word) in words {
            let Ok(id) = word.parse::<HostId>() else { continue };
            if self.hosts.iter().any(|host| host.id == id || host.name == word) {
                continue;
            }
            if self.hosts.len() >= HOSTS_MAX {
                return self.fault(
                    line,
                    "more hosts are named than a file may name",
                    format!("name at most {HOSTS_MAX}"),
                );
            }
            let (attributes, roles) = (BTreeMap::new(), Roles::default());
            self.hosts.push(Host { name: word, id, attributes, roles, rate: None, line });
        }
    }

    fn choose(&mut self, words: &Words, line: usize) -> Option<Chosen> {
        let chosen = selector::choose(words.all(), &self.hosts, line);
        self.take(chosen)
    }

    fn between(&mut self, written: &Spanned<Vec<Words>>) -> Option<[Chosen; 2]> {
        let line = self.line(written);
        let [x, y] = written.get_ref().as_slice() else {
            let message = format!("`between` has {} entries", written.get_ref().len());
            self.fault(line, message, "write two: between = [\"a\", \"b\"], each a word or a list of words");
            return None;
        };
        let (x, y) = (self.choose(x, line), self.choose(y, line));
        let (x, y) = (x?, y?);
        if x.single().is_some() && x.single() == y.single() {
            self.fault(line, "a host has no link with itself", "name two different hosts");
            return None;
        }
        Some([x, y])
    }

    fn too_many(&mut self, what: &str, count: usize) -> bool {
        if count > RULES_MAX {
            let remedy =
                format!("write at most {RULES_MAX}; patterns and attributes speak of many hosts at once");
            self.fault(1, format!("{count} [[{what}]] entries"), remedy);
        }
        count > RULES_MAX
    }

    fn rules(&mut self, file: &File) -> Vec<Rule> {
        if self.too_many("link", file.link.len()) {
            return Vec::new();
        }
        let mut rules = Vec::new();
        for entry in &file.link {
            let (line, entry) = (self.line(&entry.get_ref().between), entry.get_ref());
            let kind = match &entry.rule {
                None => None,
                Some(word) => match word.get_ref().as_str() {
                    "allowed" => Some(LinkKind::Allowed),
                    "forbidden" => Some(LinkKind::Forbidden),
                    "static" => Some(LinkKind::Static),
                    other => {
                        let message = format!("`{other}` is no rule");
                        self.fault(
                            self.line(word),
                            message,
                            word_remedy(other, &["allowed", "forbidden", "static"]),
                        );
                        continue;
                    }
                },
            };
            let cost = match &entry.cost {
                None => None,
                Some(written) => match self.whole(written, 1, COST_MAX as usize) {
                    None => continue,
                    Some(cost) => u32::try_from(cost).ok(),
                },
            };
            let rate = match &entry.rate {
                None => None,
                Some(written) => match self.rate(written.get_ref(), self.line(written)) {
                    None => continue,
                    rate => rate,
                },
            };
            if kind.is_none() && cost.is_none() && rate.is_none() {
                self.fault(
                    line,
                    "the link says nothing",
                    "give it a `rule`, a `cost` or a `rate`, or remove it",
                );
                continue;
            }
            let Some(between) = self.between(&entry.between) else { continue };
            rules.push(Rule { line, between, kind, cost, rate });
        }
        rules
    }

    fn whole(&mut self, written: &Spanned<i64>, least: usize, most: usize) -> Option<usize> {
        let number =
            usize::try_from(*written.get_ref()).ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let message = format!("{} is out of range", written.get_ref());
            self.fault(self.line(written), message, format!("give a number from {least} to {most}"));
        }
        number
    }

    fn one(&mut self, word: &Spanned<String>) -> Option<usize> {
        let found = selector::one(word.get_ref(), &self.hosts, self.line(word));
        self.take(found)
    }

    fn ends(&mut self, from: &Spanned<String>, to: &Spanned<String>) -> Option<(usize, usize)> {
        let (a, b) = (self.one(from), self.one(to));
        let (a, b) = (a?, b?);
        if a == b {
            let message = format!("`{}` is both ends", from.get_ref());
            self.fault(self.line(to), message, "name two different hosts");
            return None;
        }
        Some((a, b))
    }

    fn fixed(&mut self, file: &File) -> Vec<Fixed> {
        if self.too_many("route", file.route.len()) {
            return Vec::new();
        }
        let mut routes = Vec::new();
        for entry in &file.route {
            let entry = entry.get_ref();
            let Some((from, to)) = self.ends(&entry.from, &entry.to) else { continue };
            let line = self.line(&entry.via);
            let words = entry.via.get_ref().all();
            if words.is_empty() || words.len() > HOPS_MAX {
                let message = format!("the route goes over {} hosts", words.len());
                self.fault(line, message, format!("name 1 to {HOPS_MAX} under `via`"));
                continue;
            }
            let mut via = Vec::new();
            for word in words {
                let found = selector::one(word, &self.hosts, line);
                via.extend(self.take(found));
            }
            if via.len() == words.len() {
                routes.push(Fixed { line, from, to, via });
            }
        }
        routes
    }

    fn demands(&mut self, file: &File) -> Vec<Demand> {
        if self.too_many("demand", file.demand.len()) {
            return Vec::new();
        }
        let mut demands = Vec::new();
        for entry in &file.demand {
            let entry = entry.get_ref();
            let line = self.line(&entry.rate);
            let (ends, rate) = (self.ends(&entry.from, &entry.to), self.rate(entry.rate.get_ref(), line));
            if let (Some((from, to)), Some(rate)) = (ends, rate) {
                demands.push(Demand { line, from, to, rate });
            }
        }
        demands
    }

    fn roles(&mut self, written: &RolesSection) {
        let mut chosen = |list: &Option<Spanned<Words>>| -> Vec<usize> {
            let Some(list) = list else { return Vec::new() };
            let line = self.line(list);
            let Some(chosen) = self.choose(list.get_ref(), line) else { return Vec::new() };
            if chosen.unnamed {
                self.fault(
                    line,
                    "`*` gives a role to hosts that nobody knows",
                    "name the hosts, or use a pattern",
                );
                return Vec::new();
            }
            chosen.named.into_iter().collect()
        };
        let (relays, exits, closed) =
            (chosen(&written.relay), chosen(&written.exit), chosen(&written.no_transit));
        for number in relays {
            self.hosts[number].roles.relay = true;
        }
        for number in exits {
            self.hosts[number].roles.exit = true;
        }
        for number in closed {
            self.hosts[number].roles.no_transit = true;
            if self.hosts[number].roles.relay {
                let message = format!("`{}` is both a relay and closed to transit", self.hosts[number].name);
                let line = written.no_transit.as_ref().map_or(1, |list| self.line(list));
                self.fault(line, message, "remove it from one of the two lists");
            }
        }
    }

    fn form(&mut self, file: &File) -> Form {
        let shape = match &file.shape {
            None => Shape::Mesh,
            Some(word) => match word.get_ref().parse() {
                Ok(shape) => shape,
                Err(()) => {
                    let message = format!("`{}` is no shape", word.get_ref());
                    self.fault(self.line(word), message, word_remedy(word.get_ref(), &Shape::NAMES));
                    return Form::Custom;
                }
            },
        };
        self.misplaced(file, shape);
        let line = file.shape.as_ref().map_or(1, |word| self.line(word));
        match shape {
            Shape::Mesh => Form::Mesh,
            Shape::Custom => Form::Custom,
            Shape::Star => {
                let Some(written) = &file.hubs else {
                    self.fault(line, "a star has no hub", "name one or several: hubs = [\"gw\"]");
                    return Form::Custom;
                };
                let at = self.line(written);
                let Some(chosen) = self.choose(written.get_ref(), at) else { return Form::Custom };
                if chosen.unnamed {
                    self.fault(at, "`*` makes everybody a hub", "name the hubs, or write shape = \"mesh\"");
                }
                Form::Star { hubs: chosen.named }
            }
            Shape::Ring => {
                let Some(order) = self.order(file) else { return Form::Custom };
                if order.len() < 3 {
                    let message = format!("a ring of {} hosts", order.len());
                    self.fault(line, message, "name at least three under [hosts] or in `order`");
                    return Form::Custom;
                }
                Form::ring(order, self.hosts.len())
            }
            Shape::Tree => self.tree(file, line),
        }
    }

    /// Keys of one shape in a file of another: silence would be a promise.
    fn misplaced(&mut self, file: &File, shape: Shape) {
        let keys = [
            ("hubs", file.hubs.as_ref().map(|at| self.line(at)), matches!(shape, Shape::Star), "star"),
            (
                "order",
                file.order.as_ref().map(|at| self.line(at)),
                matches!(shape, Shape::Ring | Shape::Tree),
                "ring or tree",
            ),
            ("arity", file.arity.as_ref().map(|at| self.line(at)), matches!(shape, Shape::Tree), "tree"),
            (
                "parents",
                file.parents.as_ref().and_then(|parents| parents.keys().next()).map(|at| self.line(at)),
                matches!(shape, Shape::Tree),
                "tree",
            ),
        ];
        for (key, line, fits, home) in keys {
            if let Some(line) = line.filter(|_| !fits) {
                let message = format!("`{key}` means nothing in a {}", shape.name());
                self.fault(line, message, format!("remove it, or write the shape it belongs to ({home})"));
            }
        }
    }

    /// The hosts of a ring or a tree in order: those that `order` names, else all.
    fn order(&mut self, file: &File) -> Option<Vec<usize>> {
        let Some(written) = &file.order else { return Some((0..self.hosts.len()).collect()) };
        let line = self.line(written);
        let mut order = Vec::new();
        for word in written.get_ref().all() {
            if selector::is_pattern(word) {
                let message = format!("`{word}` has no order of its own");
                self.fault(line, message, "name the hosts one by one");
                return None;
            }
            let found = selector::one(word, &self.hosts, line);
            let number = self.take(found)?;
            if order.contains(&number) {
                self.fault(line, format!("`{word}` stands in the order twice"), "name each host once");
                return None;
            }
            order.push(number);
        }
        Some(order)
    }

    fn tree(&mut self, file: &File, line: usize) -> Form {
        let parents = match (&file.parents, &file.arity) {
            (Some(_), Some(arity)) => {
                let at = self.line(arity);
                self.fault(at, "both `arity` and [parents] say how the tree is", "remove one of them");
                None
            }
            (Some(parents), None) => self.parents(parents),
            (None, arity) => {
                let arity = match arity {
                    None => Some(2),
                    Some(written) => self.whole(written, 1, ARITY_MAX),
                };
                let order = self.order(file).filter(|order| order.len() > 1);
                if order.is_none() && self.faults.is_empty() {
                    self.fault(
                        line,
                        "a tree of fewer than two hosts",
                        "name more under [hosts] or in `order`",
                    );
                }
                order.zip(arity).map(|(order, arity)| even_tree(&order, arity, self.hosts.len()))
            }
        };
        parents.map_or(Form::Custom, |parents| Form::Tree { parents })
    }

    fn parents(
        &mut self,
        written: &BTreeMap<Spanned<String>, Spanned<String>>,
    ) -> Option<Vec<Option<usize>>> {
        let mut parents = vec![None; self.hosts.len()];
        let mut entries: Vec<_> = written.iter().collect();
        entries.sort_by_key(|(child, _)| child.span().start);
        for (child, parent) in &entries {
            let (child, parent) = (self.one(child)?, self.one(parent)?);
            parents[child] = Some(parent);
        }
        for (child, _) in &entries {
            let start = self.one(child)?;
            let (mut at, mut steps) = (start, 0);
            while let Some(parent) = parents[at] {
                (at, steps) = (parent, steps + 1);
                if at == start || steps > self.hosts.len() {
                    let message = format!("`{}` stands below itself", child.get_ref());
                    self.fault(
                        self.line(child),
                        message,
                        "give one host of the cycle no parent: it is the root",
                    );
                    return None;
                }
            }
        }
        Some(parents)
    }

    fn adaptation(&mut self, section: &Spanned<AdaptSection>) -> Option<Adaptation> {
        let section = section.get_ref();
        let links = match &section.links {
            None => Some(LINKS_DEFAULT),
            Some(written) => self.whole(written, 1, LINKS_MAX),
        };
        let between = match &section.between {
            None => Some([Chosen::all(self.hosts.len()), Chosen::all(self.hosts.len())]),
            Some(written) => self.between(written),
        };
        let after = self.duration(section.after.as_ref(), AFTER_DEFAULT, AFTER_RANGE);
        let drop = self.duration(section.drop.as_ref(), DROP_DEFAULT, DROP_RANGE);
        Some(Adaptation { links_per_host_max: links?, after: after?, drop: drop?, between: between? })
    }

    fn duration(
        &mut self,
        written: Option<&Spanned<String>>,
        absent: Duration,
        [least, most]: [Duration; 2],
    ) -> Option<Duration> {
        let Some(written) = written else { return Some(absent) };
        let line = self.line(written);
        match parse_duration(written.get_ref()) {
            Err(error) => self.fault(line, error.to_string(), DURATION_REMEDY),
            Ok(duration) if !(least..=most).contains(&duration) => {
                let message = format!("`{}` is out of range", written.get_ref());
                self.fault(line, message, format!("give {} s to {} s", least.as_secs(), most.as_secs()));
            }
            Ok(duration) => return Some(duration),
        }
        None
    }
}

fn word_remedy(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("write one of {}", known.join(", ")),
    }
}
