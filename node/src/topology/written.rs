//! The file as it is written (TOML): which keys exist, of which type each is, and where each value stands.
//!
//! ```toml
//! name = "campus"
//! shape = "star"                       # mesh (when absent), star, ring, tree or custom
//! hubs = ["gw"]                        # of a star
//! order = ["a", "b", "c"]              # of a ring or a tree; when absent, all of [hosts] as they are written
//! arity = 2                            # of a tree: so many below each
//! [parents]                            # of a tree, instead of arity: child = "parent"
//! [hosts]
//! gw = "12D3KooW..."
//! lab = { id = "12D3KooW...", attributes = { site = "zurich" }, rate = "100Mbit/s" }
//! [roles]
//! relay = ["gw"]
//! exit = ["gw"]
//! no-transit = ["site=zurich"]
//! [[link]]
//! between = ["lab", "site=zurich"]     # every host of the one with every host of the other
//! rule = "static"                      # allowed, forbidden, static
//! cost = 5
//! rate = "1Gbit/s"
//! [[route]]
//! from = "a"
//! to = "b"
//! via = ["gw"]
//! [[demand]]
//! from = "a"
//! to = "b"
//! rate = "20Mbit/s"
//! [adapt]
//! links = 2
//! between = ["*", "*"]
//! after = "2s"
//! drop = "60s"
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::fault::{Fault, Lines};
use crate::config::nearest::nearest;

/// Everything the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) name: Option<String>,
    pub(super) shape: Option<Spanned<String>>,
    pub(super) hubs: Option<Spanned<Words>>,
    pub(super) order: Option<Spanned<Words>>,
    pub(super) arity: Option<Spanned<i64>>,
    pub(super) parents: Option<BTreeMap<Spanned<String>, Spanned<String>>>,
    pub(super) hosts: BTreeMap<Spanned<String>, HostEntry>,
    pub(super) roles: RolesSection,
    pub(super) link: Vec<Spanned<LinkEntry>>,
    pub(super) route: Vec<Spanned<RouteEntry>>,
    pub(super) demand: Vec<Spanned<DemandEntry>>,
    pub(super) adapt: Option<Spanned<AdaptSection>>,
}

/// A host: its id, or its id with more. Its line is that of its name: what is tried as one form and then as another loses its place.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a HostId, or a table with `id`, `attributes` and `rate`")]
pub(super) enum HostEntry {
    Id(String),
    Table(HostTable),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostTable {
    pub(super) id: String,
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) rate: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RolesSection {
    pub(super) relay: Option<Spanned<Words>>,
    pub(super) exit: Option<Spanned<Words>>,
    pub(super) no_transit: Option<Spanned<Words>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkEntry {
    pub(super) between: Spanned<Vec<Words>>,
    pub(super) rule: Option<Spanned<String>>,
    pub(super) cost: Option<Spanned<i64>>,
    pub(super) rate: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteEntry {
    pub(super) from: Spanned<String>,
    pub(super) to: Spanned<String>,
    pub(super) via: Spanned<Words>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DemandEntry {
    pub(super) from: Spanned<String>,
    pub(super) to: Spanned<String>,
    pub(super) rate: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdaptSection {
    pub(super) links: Option<Spanned<i64>>,
    pub(super) between: Option<Spanned<Vec<Words>>>,
    pub(super) after: Option<Spanned<String>>,
    pub(super) drop: Option<Spanned<String>>,
}

/// One word or a list of words.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(super) enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    pub(super) fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Reads the text; of what TOML itself refuses, the first.
pub(super) fn read(text: &str, lines: &Lines) -> Result<File, Fault> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| lines.line(&span));
        let said = error.message().lines().next().unwrap_or_default().to_owned();
        match unknown_key(&said) {
            Some((word, known)) => {
                let remedy = match nearest(word, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the keys here are {}", known.join(", ")),
                };
                Fault::new(line, format!("unknown key `{word}`"), remedy)
            }
            None => {
                let written = text.lines().nth(line - 1).unwrap_or_default().trim();
                Fault::new(
                    line,
                    format!("`{written}`: {said}"),
                    "see docs/topology.md for how the file is written",
                )
            }
        }
    })
}

/// serde's words about a key nobody knows: the key, and those that are known.
fn unknown_key(said: &str) -> Option<(&str, Vec<&str>)> {
    let rest = said.strip_prefix("unknown field `")?;
    let (word, rest) = rest.split_once('`')?;
    Some((word, rest.split('`').skip(1).step_by(2).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        read(text, &Lines::of(text)).expect_err("must be refused")
    }

    #[test]
    fn the_example_in_the_module_doc_is_read() {
        let example: String = include_str!("written.rs")
            .lines()
            .skip_while(|line| !line.contains("```toml"))
            .skip(1)
            .take_while(|line| !line.contains("```"))
            .map(|line| format!("{}\n", line.trim_start_matches("//!")))
            .collect();
        let file = read(&example, &Lines::of(&example)).unwrap();
        assert_eq!((file.hosts.len(), file.link.len()), (2, 1));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        assert_eq!(
            fault("\nshap = \"mesh\"\n").to_string(),
            "line 2: unknown key `shap`; did you mean `shape`?"
        );
        let text = "[[link]]\nbetween = [\"a\", \"b\"]\nrul = \"static\"\n";
        assert_eq!(fault(text).to_string(), "line 3: unknown key `rul`; did you mean `rule`?");
    }

    #[test]
    fn what_is_not_toml_or_of_another_type_is_named_with_its_line() {
        assert_eq!(fault("shape = = 1").line, 1);
        assert_eq!(fault("name = \"x\"\narity = \"two\"\n").line, 2);
        assert!(fault("[hosts]\na = 1\n").message.contains("HostId"));
    }
}
