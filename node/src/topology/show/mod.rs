//! A topology as people and programs see it: text, a document for JSON, a drawing.
//!
//! Owns the words and the picture. Refuses to know where they go.

mod layout;
mod svg;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use libp2p_identity::PeerId as HostId;
use serde::{Deserialize, Serialize};

pub use svg::svg;

use super::changes::{Change, Changes, adaptation_words};
use super::model::{LinkKind, Pair, Roles, Topology};
use super::rate::Rate;
use super::shape::Shape;

/// Most links listed and drawn; the others are counted. A drawing of more is a grey disc.
pub const LINKS_SHOWN_MAX: usize = 2_000;

/// A topology as a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its shape.
    pub shape: Shape,
    /// The hosts that it names, and the members it does not.
    pub hosts: Vec<HostView>,
    /// Links that may or must be, or stand; the first [`LINKS_SHOWN_MAX`].
    pub links: Vec<LinkView>,
    /// How many more there are.
    pub more_links: usize,
    /// Routes that the operator wrote.
    pub routes: Vec<RouteView>,
    /// How links follow traffic, in words.
    pub adaptation: String,
}

/// A host of a [`View`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// Its name in the file, else its id.
    pub name: String,
    /// Who it is.
    pub id: String,
    /// Whether the file names it.
    pub named: bool,
    /// Whether it is a hub of a star.
    pub hub: bool,
    /// What it is there for.
    #[serde(flatten)]
    pub roles: Roles,
    /// The most it forwards, in bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Datagrams of others that it dropped because they were beyond what it forwards; `None`: not known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// What the file says of it, as `key=value`.
    pub attributes: Vec<String>,
}

/// A link of a [`View`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    /// The numbers of the two hosts in [`View::hosts`].
    pub between: [usize; 2],
    /// Whether it may be.
    pub rule: LinkKind,
    /// Whether adaptation added it.
    pub added: bool,
    /// Whether it stands; `None`: not known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<bool>,
    /// What it costs.
    pub cost: u32,
    /// The most it may carry in each direction, in bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Datagrams that this host did not send over it because they were beyond that; `None`: not known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}

/// A written route of a [`View`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// One end, by name.
    pub from: String,
    /// The other end.
    pub to: String,
    /// The hosts in between.
    pub via: Vec<String>,
}

/// What a host knows of the links that stand: its own.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Who looks.
    pub own: HostId,
    /// The links that stand.
    pub up: BTreeSet<Pair>,
    /// Datagrams it did not send a host because they were beyond the link's rate, for each link with a rate.
    pub beyond_link: BTreeMap<HostId, u64>,
    /// Datagrams of others it did not forward because they were beyond its owner's rate or the topology's.
    pub beyond_transit: u64,
}

/// Makes the document. `members` beyond the file's hosts are shown too.
#[must_use]
pub fn view(topology: &Topology, members: &BTreeSet<HostId>, standing: Option<&Standing>) -> View {
    let unnamed = members.iter().copied().filter(|id| topology.host(*id).is_none());
    let ids: Vec<HostId> = topology.hosts().iter().map(|host| host.id).chain(unnamed).collect();
    let mut links = Vec::new();
    let mut more_links = 0;
    for (at, a) in ids.iter().enumerate() {
        for (next, b) in ids.iter().enumerate().skip(at + 1) {
            let rule = topology.link(*a, *b);
            let known = standing.filter(|standing| *a == standing.own || *b == standing.own);
            let up = known.map(|standing| standing.up.contains(&Pair::new(*a, *b)));
            if rule == LinkKind::Forbidden && up != Some(true) {
                continue;
            }
            if links.len() >= LINKS_SHOWN_MAX {
                more_links += 1;
                continue;
            }
            links.push(LinkView {
                between: [at, next],
                rule,
                added: topology.added().contains(&Pair::new(*a, *b)),
                up,
                cost: topology.cost(*a, *b),
                rate: topology.rate(*a, *b),
                dropped: known.and_then(|standing| {
                    let other = if *a == standing.own { b } else { a };
                    standing.beyond_link.get(other).copied()
                }),
            });
        }
    }
    let name = |number: &usize| topology.hosts[*number].name.clone();
    let routes = topology.fixed.iter().map(|fixed| RouteView {
        from: name(&fixed.from),
        to: name(&fixed.to),
        via: fixed.via.iter().map(name).collect(),
    });
    View {
        name: topology.name().map(str::to_owned),
        shape: topology.shape(),
        hosts: ids.iter().map(|id| host_view(topology, *id, standing)).collect(),
        links,
        more_links,
        routes: routes.collect(),
        adaptation: adaptation_words(topology),
    }
}

fn host_view(topology: &Topology, id: HostId, standing: Option<&Standing>) -> HostView {
    let host = topology.host(id);
    let attributes =
        host.iter().flat_map(|host| host.attributes.iter().map(|(key, value)| format!("{key}={value}")));
    HostView {
        name: topology.name_of(id),
        id: id.to_string(),
        named: host.is_some(),
        hub: topology.form.is_hub(topology.place(id)),
        roles: topology.role(id),
        rate: topology.transit_rate(id),
        dropped: standing.filter(|standing| standing.own == id).map(|standing| standing.beyond_transit),
        attributes: attributes.collect(),
    }
}

/// The words for what a host is there for; empty for a plain one.
fn role_words(host: &HostView) -> Vec<&'static str> {
    let words = [
        (host.hub, "hub"),
        (host.roles.relay, "relay"),
        (host.roles.exit, "exit"),
        (host.roles.no_transit, "no-transit"),
        (!host.named, "not in the file"),
    ];
    words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect()
}

fn kind_word(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Allowed => "allowed",
        LinkKind::Forbidden => "forbidden",
        LinkKind::Static => "static",
    }
}

/// The document as text for people.
#[must_use]
pub fn text(view: &View) -> String {
    let mut out = String::new();
    let name = view.name.as_ref().map_or(String::new(), |name| format!("{name}: "));
    push(
        &mut out,
        format_args!(
            "{name}{}, {} hosts, adaptation {}\n",
            view.shape.name(),
            view.hosts.len(),
            view.adaptation
        ),
    );
    for host in &view.hosts {
        let mut words: Vec<String> = role_words(host).into_iter().map(str::to_owned).collect();
        words.extend(host.rate.map(|rate| format!("forwards at most {rate}")));
        words.extend(dropped_words(host.dropped));
        words.extend(host.attributes.iter().cloned());
        let said = if words.is_empty() { String::new() } else { format!("  {}", words.join(", ")) };
        push(&mut out, format_args!("host {}  {}{said}\n", host.name, host.id));
    }
    if view.shape == Shape::Mesh && view.links.iter().all(LinkView::is_plain) {
        push(&mut out, format_args!("every two hosts may link\n"));
    } else {
        for link in &view.links {
            let [a, b] = link.between.map(|number| view.hosts[number].name.as_str());
            let mut words = vec![kind_word(link.rule).to_owned(), format!("cost {}", link.cost)];
            words.extend(link.rate.map(|rate| format!("at most {rate}")));
            words.extend(dropped_words(link.dropped));
            if link.added {
                words.push("added for its traffic".to_owned());
            }
            words.extend(link.up.map(|up| if up { "up".to_owned() } else { "down".to_owned() }));
            push(&mut out, format_args!("link {a} - {b}  {}\n", words.join(", ")));
        }
        if view.more_links > 0 {
            push(&mut out, format_args!("and {} more links\n", view.more_links));
        }
    }
    for route in &view.routes {
        push(&mut out, format_args!("route {} - {} via {}\n", route.from, route.to, route.via.join(", ")));
    }
    out
}

/// Nothing is said of what did not happen.
fn dropped_words(dropped: Option<u64>) -> Option<String> {
    dropped.filter(|count| *count > 0).map(|count| format!("{count} datagrams beyond that dropped here"))
}

impl LinkView {
    /// Nothing about it that every link of a mesh has not.
    fn is_plain(&self) -> bool {
        let default = self.cost == super::model::COST_DEFAULT && self.rate.is_none();
        self.rule == LinkKind::Allowed && default && self.up != Some(true)
    }
}

/// What changes, as text for people.
#[must_use]
pub fn changes_text(found: &Changes) -> String {
    let mut out = String::new();
    let rate = |rate: &Option<Rate>| rate.map_or_else(|| "any".to_owned(), |rate| rate.to_string());
    let via =
        |via: &Option<Vec<String>>| via.as_ref().map_or_else(|| "by cost".to_owned(), |via| via.join(", "));
    for change in &found.changes {
        match change {
            Change::Link { between: [a, b], from, to, up } => {
                let effect = match (to, up) {
                    (LinkKind::Forbidden, true) => " (closes a link that stands)",
                    _ => "",
                };
                push(
                    &mut out,
                    format_args!("link {a} - {b}: {} -> {}{effect}\n", kind_word(*from), kind_word(*to)),
                );
            }
            Change::Cost { between: [a, b], from, to } => {
                push(&mut out, format_args!("link {a} - {b}: cost {from} -> {to}\n"))
            }
            Change::Rate { between: [a, b], from, to } => {
                push(&mut out, format_args!("link {a} - {b}: rate {} -> {}\n", rate(from), rate(to)));
            }
            Change::Role { host, from, to } => {
                push(&mut out, format_args!("host {host}: {} -> {}\n", roles_text(*from), roles_text(*to)));
            }
            Change::TransitRate { host, from, to } => {
                push(&mut out, format_args!("host {host}: forwards {} -> {}\n", rate(from), rate(to)));
            }
            Change::Route { between: [a, b], from, to } => {
                push(&mut out, format_args!("route {a} - {b}: {} -> {}\n", via(from), via(to)));
            }
            Change::Adaptation { from, to } => push(&mut out, format_args!("adaptation: {from} -> {to}\n")),
        }
    }
    if found.more > 0 {
        push(&mut out, format_args!("and {} more changes\n", found.more));
    }
    if found.is_empty() {
        out.push_str("nothing changes\n");
    }
    for host in &found.cut_off {
        push(&mut out, format_args!("{host} is a member and could reach nobody\n"));
    }
    out
}

fn roles_text(roles: Roles) -> String {
    let words = [(roles.relay, "relay"), (roles.exit, "exit"), (roles.no_transit, "no-transit")];
    let words: Vec<&str> = words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
    if words.is_empty() { "plain".to_owned() } else { words.join(", ") }
}

fn push(out: &mut String, words: std::fmt::Arguments<'_>) {
    out.write_fmt(words).expect("a string takes whatever is written");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::changes::changes;
    use crate::topology::testing::{file, host};

    fn star() -> Topology {
        let tail = "[roles]\nrelay = \"h0\"\n[[link]]\nbetween = [\"h1\", \"h2\"]\nrule = \"static\"\ncost = 5\nrate = \"1Mbit/s\"\n";
        Topology::parse(&file("name = \"campus\"\nshape = \"star\"\nhubs = \"h0\"", 3, tail)).unwrap()
    }

    #[test]
    fn the_text_names_hosts_links_and_what_is_special_about_them() {
        let said = text(&view(&star(), &BTreeSet::from([host(9)]), None));
        assert!(said.starts_with("campus: star, 4 hosts, adaptation off\n"), "{said}");
        assert!(said.contains(&format!("host h0  {}  hub, relay\n", host(0))), "{said}");
        assert!(said.contains("link h1 - h2  static, cost 5, at most 1Mbit/s\n"), "{said}");
        assert!(said.contains(&format!("host {0}  {0}  not in the file\n", host(9))), "{said}");
        let mesh = text(&view(&Topology::default(), &BTreeSet::from([host(0), host(1)]), None));
        assert!(mesh.contains("every two hosts may link"), "{mesh}");
    }

    #[test]
    fn own_links_are_shown_up_or_down_and_others_are_not_known() {
        let standing = Standing {
            own: host(1),
            up: BTreeSet::from([Pair::new(host(0), host(1))]),
            beyond_link: BTreeMap::from([(host(2), 7)]),
            beyond_transit: 3,
        };
        let said = text(&view(&star(), &BTreeSet::new(), Some(&standing)));
        assert!(said.contains("link h0 - h1  allowed, cost 10, up\n"), "{said}");
        assert!(said.contains("link h0 - h2  allowed, cost 10\n"), "{said}");
        assert!(said.contains("at most 1Mbit/s, 7 datagrams beyond that dropped here, down\n"), "{said}");
        assert!(
            said.contains(&format!("host h1  {}  3 datagrams beyond that dropped here\n", host(1))),
            "{said}"
        );
    }

    #[test]
    fn the_document_survives_json() {
        let shown = view(&star(), &BTreeSet::new(), None);
        let text = serde_json::to_string(&shown).unwrap();
        assert_eq!(serde_json::from_str::<View>(&text).unwrap(), shown);
    }

    #[test]
    fn changes_are_told_in_words() {
        let up = BTreeSet::from([Pair::new(host(1), host(2))]);
        let plain = Topology::parse(&file("shape = \"star\"\nhubs = \"h0\"", 3, "")).unwrap();
        let said = changes_text(&changes(&star(), &plain, &BTreeSet::new(), &up));
        assert!(said.contains("host h0: relay -> plain\n"), "{said}");
        assert!(said.contains("link h1 - h2: static -> forbidden (closes a link that stands)\n"), "{said}");
        assert_eq!(changes_text(&Changes::default()), "nothing changes\n");
    }
}
