//! The configuration file as it was written (TOML, design.md section 8).
//!
//! Owns: which sections and keys exist and of which TOML type each is. Refuses to know: what they mean, and their defaults;
//! [`super::resolved`] says that. Each value keeps its place in the file, so that whoever refuses it can name the line.
//!
//! ```toml
//! [overlay]
//! listen = ["0.0.0.0:7440"]      # one, or several; QUIC and TCP on each
//! bootstrap = ["consort1..."]    # tickets; each does what --join does
//! key = "..."                    # the overlay this node belongs to, and no other
//! mdns = true                    # members on the local link find each other
//! [data]
//! listen = "0.0.0.0:7441"       # one, or one of each IP version
//! relay = { rate = "100Mbit/s", peers = 64 }   # or true, or false
//! map_ports = true
//! mtu = 1500
//! workers = 2
//! busy_poll = 0
//! [share]
//! cpus = 2.5
//! memory = "4GiB"
//! disk = "20GiB"
//! machines = 16
//! hours = "18:00-08:00"
//! idle_only = false
//! allow = ["any"]
//! [images]
//! cache = "10GiB"
//! [api]
//! tcp = "127.0.0.1:7442"
//! ```

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use crate::failure::Failure;

/// The longest configuration file that is read; thousands of tickets fit, and a file given by mistake (an image) does not.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The sections and their keys; the one list of both.
const KNOWN: [(&str, &[&str]); 5] = [
    ("overlay", &["listen", "bootstrap", "key", "mdns"]),
    ("data", &["listen", "relay", "map_ports", "mtu", "workers", "busy_poll"]),
    ("share", &["cpus", "memory", "disk", "machines", "hours", "idle_only", "allow"]),
    ("images", &["cache"]),
    ("api", &["tcp"]),
];

/// Everything the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    /// `[overlay]`
    pub overlay: OverlaySection,
    /// `[data]`
    pub data: DataSection,
    /// `[share]`
    pub share: ShareSection,
    /// `[images]`
    pub images: ImagesSection,
    /// `[api]`
    pub api: ApiSection,
}

/// `[overlay]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverlaySection {
    /// Addresses of the control plane, `IP:PORT`.
    pub listen: Option<Spanned<OneOrMany>>,
    /// Tickets of the overlay to join.
    pub bootstrap: Option<Spanned<OneOrMany>>,
    /// The overlay's public key in text form.
    pub key: Option<Spanned<String>>,
    /// Whether members are looked for on the local link.
    pub mdns: Option<bool>,
}

/// `[data]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// Address of the data plane, `IP:PORT`; or two, one of each IP version.
    pub listen: Option<Spanned<OneOrMany>>,
    /// Whether this node forwards for others, and how much.
    pub relay: Option<Spanned<Relaying>>,
    /// Whether the router is asked for a port (PCP, NAT-PMP, UPnP).
    pub map_ports: Option<bool>,
    /// The largest frame payload machines are told.
    pub mtu: Option<Spanned<i64>>,
    /// Threads that move frames.
    pub workers: Option<Spanned<i64>>,
    /// Microseconds.
    pub busy_poll: Option<Spanned<i64>>,
}

/// `[share]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShareSection {
    /// CPUs: a number, or text such as `1.5`.
    pub cpus: Option<Spanned<Number>>,
    /// Memory with a unit.
    pub memory: Option<Spanned<String>>,
    /// Disk with a unit.
    pub disk: Option<Spanned<String>>,
    /// How many machines at once.
    pub machines: Option<Spanned<i64>>,
    /// When, such as `18:00-08:00`.
    pub hours: Option<Spanned<String>>,
    /// Only while the owner is away.
    pub idle_only: Option<Spanned<bool>>,
    /// Who may: tenant keys, or `any`.
    pub allow: Option<Spanned<OneOrMany>>,
}

/// `[images]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImagesSection {
    /// Size of the cache with a unit.
    pub cache: Option<Spanned<String>>,
}

/// `[api]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSection {
    /// A loopback address, `IP:PORT`.
    pub tcp: Option<Spanned<String>>,
}

/// `relay = true`, or with caps.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected true, false or { rate = \"100Mbit/s\", peers = 64 }")]
pub enum Relaying {
    /// With the default caps, or not.
    Simply(bool),
    /// With the owner's caps.
    Capped(RelayCaps),
}

/// The owner's caps on relaying.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayCaps {
    /// Bits per second of all that is forwarded, with a unit.
    pub rate: Option<String>,
    /// Hosts relayed for at once.
    pub peers: Option<i64>,
}

/// One text or a list of texts.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub enum OneOrMany {
    /// `key = "a"`
    One(String),
    /// `key = ["a", "b"]`
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them, in the order written.
    #[must_use]
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// A number written as a TOML number or as text.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number")]
pub enum Number {
    /// `2`
    Whole(i64),
    /// `1.5`
    Decimal(f64),
    /// `"1.5"`
    Text(String),
}

impl fmt::Display for Number {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(out),
            Self::Decimal(number) => number.fmt(out),
            Self::Text(text) => text.fmt(out),
        }
    }
}

/// A file's name and text, to name lines in.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// `path` line `n`, for the place where `span` begins.
    #[must_use]
    pub fn place(&self, span: &Range<usize>) -> String {
        let end = span.start.min(self.text.len());
        let line = self.text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("{} line {line}", self.path.display())
    }
}

/// Reads and parses the file at `path`.
///
/// # Errors
/// If the file cannot be read, is not TOML, or holds an unknown key or a value of the wrong type.
pub fn read(path: &Path) -> Result<(ConfigFile, Source), Failure> {
    let cannot = |error: std::io::Error| {
        Failure::input(
            "config_unreadable",
            format!("cannot read the configuration file {}: {error}", path.display()),
        )
        .remedy("check the path given with --config and its permissions")
    };
    let length = std::fs::metadata(path).map_err(cannot)?.len();
    if length > CONFIG_BYTES_MAX {
        return Err(Failure::input(
            "config_too_large",
            format!(
                "{} has {length} bytes, more than a configuration file may have ({CONFIG_BYTES_MAX})",
                path.display()
            ),
        )
        .remedy("check the path given with --config"));
    }
    parse(path, std::fs::read_to_string(path).map_err(cannot)?)
}

/// Parses `text` as the file at `path`.
///
/// # Errors
/// As [`read`], without reading.
pub fn parse(path: &Path, text: String) -> Result<(ConfigFile, Source), Failure> {
    let source = Source { path: path.to_owned(), text };
    let table = DeTable::parse(&source.text).map_err(|error| not_toml(&source, &error))?;
    refuse_unknown_keys(&source, table.get_ref())?;
    let file = toml::from_str(&source.text).map_err(|error| wrong_type(&source, &error))?;
    Ok((file, source))
}

fn not_toml(source: &Source, error: &toml::de::Error) -> Failure {
    let place = source.place(&error.span().unwrap_or_default());
    Failure::input("config_not_toml", format!("{place}: {}", error.message()))
        .remedy("see https://toml.io for how the file is written")
}

fn wrong_type(source: &Source, error: &toml::de::Error) -> Failure {
    let span = error.span().unwrap_or_default();
    let written = source.text.get(span.clone()).unwrap_or_default().lines().next().unwrap_or_default();
    Failure::input("config_wrong_type", format!("{}: `{written}`: {}", source.place(&span), error.message()))
        .remedy("give the key a value of that type")
}

fn refuse_unknown_keys(source: &Source, table: &DeTable<'_>) -> Result<(), Failure> {
    for (section, body) in table {
        let name: &str = section.get_ref();
        let Some((_, keys)) = KNOWN.iter().find(|(known, _)| *known == name) else {
            let place = source.place(&section.span());
            let failure = Failure::input("unknown_key", format!("{place}: unknown section `[{name}]`"));
            let known = KNOWN.iter().map(|(known, _)| *known);
            return Err(failure.remedy(match nearest(name, known.clone()) {
                Some(meant) => format!("did you mean `[{meant}]`?"),
                None => match KNOWN.iter().find(|(_, keys)| keys.contains(&name)) {
                    Some((home, _)) => format!("`{name}` belongs under `[{home}]`"),
                    None => format!("the sections are {}", known.collect::<Vec<_>>().join(", ")),
                },
            }));
        };
        let DeValue::Table(body) = body.get_ref() else { continue };
        for key in body.keys() {
            let word: &str = key.get_ref();
            if keys.contains(&word) {
                continue;
            }
            let place = source.place(&key.span());
            let failure =
                Failure::input("unknown_key", format!("{place}: unknown key `{word}` in `[{name}]`"));
            return Err(failure.remedy(match nearest(word, keys.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the keys of `[{name}]` are {}", keys.join(", ")),
            }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Failure {
        parse(Path::new("consort.toml"), text.to_owned()).expect_err("must be refused")
    }

    #[test]
    fn the_example_in_the_module_doc_parses() {
        let example: String = include_str!("file.rs")
            .lines()
            .skip_while(|line| !line.contains("```toml"))
            .skip(1)
            .take_while(|line| !line.contains("```"))
            .map(|line| format!("{}\n", line.trim_start_matches("//!")))
            .collect();
        let (file, _) = parse(Path::new("consort.toml"), example).unwrap();
        assert_eq!(file.overlay.bootstrap.unwrap().get_ref().all().len(), 1);
        assert_eq!(file.share.cpus.unwrap().get_ref().to_string(), "2.5");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        let failure = refusal("[share]\ncpus = 2\nmemroy = \"4GiB\"\n");
        assert_eq!(
            failure.to_string(),
            "consort.toml line 3: unknown key `memroy` in `[share]`; did you mean `memory`?"
        );
        assert_eq!(failure.exit().number(), 2);
    }

    #[test]
    fn an_unknown_section_is_named_with_the_nearest_known_one() {
        assert_eq!(
            refusal("[overlays]\nlisten = \"0.0.0.0:1\"\n").to_string(),
            "consort.toml line 1: unknown section `[overlays]`; did you mean `[overlay]`?"
        );
        assert_eq!(
            refusal("idle_only = true\n").to_string(),
            "consort.toml line 1: unknown section `[idle_only]`; `idle_only` belongs under `[share]`"
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_its_line() {
        let failure = refusal("[share]\nmemory = 4\n");
        assert!(failure.to_string().starts_with("consort.toml line 2: `4`: "), "{failure}");
    }

    #[test]
    fn what_is_not_toml_is_named_with_its_line() {
        let failure = refusal("[share]\ncpus = = 2\n");
        assert!(failure.to_string().starts_with("consort.toml line 2: "), "{failure}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let failure = read(Path::new("/nonexistent/consort.toml")).expect_err("no such file");
        assert!(failure.to_string().contains("/nonexistent/consort.toml"), "{failure}");
        assert_eq!(failure.exit().number(), 2);
    }
}
