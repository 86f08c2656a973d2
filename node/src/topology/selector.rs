//! The words that choose hosts in a topology file.
//!
//! | word | chooses |
//! |---|---|
//! | `gw` | the host of that name in `[hosts]` |
//! | `12D3KooW…` | the host of that id, in `[hosts]` or not |
//! | `lab-*`, `lab-?` | every named host whose name fits |
//! | `site=zurich`, `site=z*` | every named host with that attribute |
//! | `*` | every host, those that the file does not name included |

use std::collections::BTreeSet;

use super::fault::Fault;
use super::model::{Host, Place};
use crate::config::nearest::nearest;

/// The hosts that words chose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// By their number in the topology.
    pub(super) named: BTreeSet<usize>,
    /// Whether those that the file does not name are chosen too.
    pub(super) unnamed: bool,
}

impl Chosen {
    pub(super) fn all(hosts: usize) -> Self {
        Self { named: (0..hosts).collect(), unnamed: true }
    }

    pub(super) fn has(&self, place: Place) -> bool {
        place.map_or(self.unnamed, |number| self.named.contains(&number))
    }

    /// The host, if it is exactly one.
    pub(super) fn single(&self) -> Option<usize> {
        match (self.unnamed, self.named.len()) {
            (false, 1) => self.named.first().copied(),
            _ => None,
        }
    }
}

/// The hosts that `words` choose together.
pub(super) fn choose(words: &[String], hosts: &[Host], line: usize) -> Result<Chosen, Fault> {
    let mut chosen = Chosen::default();
    if words.is_empty() {
        return Err(Fault::new(line, "the list is empty", "name hosts, or remove the key"));
    }
    for word in words {
        if word == "*" {
            chosen.named.extend(0..hosts.len());
            chosen.unnamed = true;
            continue;
        }
        let found: BTreeSet<usize> = if let Some((key, value)) = word.split_once('=') {
            let fits =
                |host: &Host| host.attributes.get(key.trim()).is_some_and(|held| matches(value.trim(), held));
            numbers(hosts, fits)
        } else if is_pattern(word) {
            numbers(hosts, |host| matches(word, &host.name))
        } else {
            BTreeSet::from([one(word, hosts, line)?])
        };
        if found.is_empty() {
            let kinds = hosts
                .iter()
                .flat_map(|host| host.attributes.iter().map(|(key, value)| format!("{key}={value}")));
            let known: BTreeSet<String> = kinds.collect();
            let remedy = match nearest(word, known.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "name hosts under [hosts] first, or remove the word".to_owned(),
            };
            return Err(Fault::new(line, format!("`{word}` chooses no host"), remedy));
        }
        chosen.named.extend(found);
    }
    Ok(chosen)
}

/// The number of the one host that `word` names.
pub(super) fn one(word: &str, hosts: &[Host], line: usize) -> Result<usize, Fault> {
    let found = hosts.iter().position(|host| host.name == word || host.id.to_string() == word);
    found.ok_or_else(|| {
        let remedy = match nearest(word, hosts.iter().map(|host| host.name.as_str())) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("give it an id under [hosts]: {word} = \"12D3KooW...\""),
        };
        Fault::new(line, format!("`{word}` is no host of this file"), remedy)
    })
}

fn numbers(hosts: &[Host], fits: impl Fn(&Host) -> bool) -> BTreeSet<usize> {
    hosts.iter().enumerate().filter(|(_, host)| fits(host)).map(|(number, _)| number).collect()
}

/// Whether a word stands for several hosts, or for one.
pub(super) fn is_pattern(word: &str) -> bool {
    word.contains(['*', '?'])
}

/// `*` fits any text, `?` any one character. Linear but for stars: each star keeps only its last chance.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::testing::named_hosts;

    fn words(all: &[&str]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, text, fits) in [
            ("lab-*", "lab-1", true),
            ("lab-*", "lab", false),
            ("lab-?", "lab-1", true),
            ("lab-?", "lab-12", false),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xaxx", false),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn words_choose_by_name_id_pattern_and_attribute() {
        let mut hosts = named_hosts(&["gw", "lab-1", "lab-2"]);
        hosts[2].attributes.insert("site".into(), "zurich".into());
        let chosen = |word: &str| {
            choose(&words(&[word]), &hosts, 1).map(|chosen| chosen.named.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(chosen("gw"), Ok(vec![0]));
        assert_eq!(chosen(&hosts[1].id.to_string()), Ok(vec![1]));
        assert_eq!(chosen("lab-*"), Ok(vec![1, 2]));
        assert_eq!(chosen("site=z*"), Ok(vec![2]));
        assert_eq!(chosen("*"), Ok(vec![0, 1, 2]));
        assert!(choose(&words(&["*"]), &hosts, 1).unwrap().unnamed);
    }

    #[test]
    fn a_word_that_chooses_nobody_is_named_with_the_nearest_known_one() {
        let mut hosts = named_hosts(&["gateway", "lab-1"]);
        hosts[1].attributes.insert("site".into(), "zurich".into());
        let refused = |word: &str| choose(&words(&[word]), &hosts, 7).unwrap_err().to_string();
        assert_eq!(refused("gatewya"), "line 7: `gatewya` is no host of this file; did you mean `gateway`?");
        assert_eq!(
            refused("site=zurihc"),
            "line 7: `site=zurihc` chooses no host; did you mean `site=zurich`?"
        );
        assert!(refused("x*").contains("chooses no host"));
    }
}
