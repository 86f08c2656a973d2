//! The slice file: a tenant's wish as text.
//!
//! Owns the TOML form of a [`Spec`] (design, *Contract*), its defaults, and its error texts. Refuses to know
//! the rules between fields, which stand in [`Spec::check`]. A key that nobody knows is refused with the
//! nearest known one; a value that is wrong is refused with its field, itself, and what to write instead.
//!
//! | key | meaning | when absent |
//! |---|---|---|
//! | `name` | the slice's name | refused |
//! | `term` | how long it lives (`"2h"`) | [`TERM_DEFAULT`] |
//! | `lease` | how long a host may be silent before its machines are lost | [`LEASE_DEFAULT`] |
//! | `placement` | `"spread"` or `"pack"` | spread |
//! | `priority` | 0 to 100 | 0 |
//! | `machine.X.count` | how many, `3` or `{ min = 2, max = 8 }` | 1 |
//! | `machine.X.category` | `"sandbox"` or `"vm"` | either |
//! | `machine.X.cpus` | CPUs of each, `1`, `0.5` or a range | 1 |
//! | `machine.X.memory`, `.disk` | `"256MiB"` or a range | [`MEMORY_DEFAULT`], [`DISK_DEFAULT`] |
//! | `machine.X.image` | what it boots | refused |
//! | `machine.X.networks` | its networks, `eth0` first | none |
//! | `machine.X.run` | what it runs after boot | nothing |
//! | `network.X.ipv4`, `.ipv6` | a range, `"auto"` or `"off"` | auto |
//! | `router.X.networks` | what it joins | refused |

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use toml::{Table, Value};

use super::id::{ImageName, Name};
use super::nearest::nearest;
use super::spec::{
    Category, Group, Ipv4Range, Ipv6Range, Network, Placement, Router, Span, Spec, SpecError, Wanted,
};
use crate::bounded::{List, Text};
use crate::limits::{LEASE_DEFAULT, RUN_WORD_BYTES_MAX, SLICE_FILE_BYTES_MAX};
use crate::units::{Millis, UnitError, parse_size, parse_span};

/// The term of a slice that names none.
pub const TERM_DEFAULT: Millis = Millis::from_secs(3600);
/// The memory of a machine that names none.
pub const MEMORY_DEFAULT: u64 = 256 << 20;
/// The disk of a machine that names none.
pub const DISK_DEFAULT: u64 = 1 << 30;

/// Reads a slice file.
///
/// # Errors
/// Names the first field that is wrong, what stands there, and what to write instead.
pub fn parse(text: &str) -> Result<Spec, SpecError> {
    if text.len() > SLICE_FILE_BYTES_MAX {
        let remedy = format!("a slice file has at most {SLICE_FILE_BYTES_MAX} bytes");
        return Err(SpecError::new("file", format!("{} bytes", text.len()), remedy));
    }
    let table: Table = text.parse().map_err(|error: toml::de::Error| syntax_error(text, &error))?;
    let root = Section { path: String::new(), table };
    root.known(&["name", "term", "lease", "priority", "placement", "machine", "network", "router"])?;
    let spec = Spec {
        name: root.name()?,
        term: root.span_of_time("term")?.unwrap_or(TERM_DEFAULT),
        lease: root.span_of_time("lease")?.unwrap_or(LEASE_DEFAULT),
        priority: root.whole("priority")?.unwrap_or(0),
        placement: root.word("placement", &PLACEMENTS)?.unwrap_or_default(),
        groups: root.sections("machine", group)?,
        networks: root.sections("network", network)?,
        routers: root.sections("router", router)?,
    };
    spec.check()?;
    Ok(spec)
}

/// Fuzz entry: no text may panic the reader, and what it reads must keep the rules.
///
/// # Panics
/// When the reader is wrong.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(spec) = parse(text)
    {
        assert_eq!(spec.check(), Ok(()), "a spec that was read keeps the rules");
    }
}

const PLACEMENTS: [(&str, Placement); 2] = [("spread", Placement::Spread), ("pack", Placement::Pack)];
const CATEGORIES: [(&str, Category); 2] = [("sandbox", Category::Sandbox), ("vm", Category::Vm)];

fn syntax_error(text: &str, error: &toml::de::Error) -> SpecError {
    let line = error
        .span()
        .map_or(1, |span| 1 + text.as_bytes()[..span.start].iter().filter(|b| **b == b'\n').count());
    let value = text.lines().nth(line - 1).unwrap_or_default();
    SpecError::new(format!("line {line}"), value.trim(), error.message().replace('\n', "; "))
}

fn group(name: Name, section: &Section) -> Result<Group, SpecError> {
    section.known(&["count", "category", "cpus", "memory", "disk", "image", "networks", "run"])?;
    let image =
        section.text("image")?.ok_or_else(|| section.missing("image", "name an image: image = \"mini\""))?;
    let image = ImageName::try_from(image).map_err(|long| {
        section.error("image", format!("{} characters", long.len), format!("at most {} fit", long.max))
    })?;
    Ok(Group {
        name,
        count: section
            .range("count", |section, key, value| section.whole_value(key, value))?
            .unwrap_or(Span::exactly(1)),
        category: section.word("category", &CATEGORIES)?,
        cpus_milli: section.range("cpus", Section::cpus_value)?.unwrap_or(Span::exactly(1000)),
        memory_bytes: section.range("memory", Section::size_value)?.unwrap_or(Span::exactly(MEMORY_DEFAULT)),
        disk_bytes: section.range("disk", Section::size_value)?.unwrap_or(Span::exactly(DISK_DEFAULT)),
        image,
        networks: section.names("networks")?,
        run: section.list("run", |section, value| {
            let word = value
                .as_str()
                .ok_or_else(|| section.wrong("run", value, "write words: [\"/bin/app\", \"--serve\"]"))?;
            Text::<RUN_WORD_BYTES_MAX>::try_from(word).map_err(|long| {
                section.error(
                    "run",
                    format!("a word of {} bytes", long.len),
                    format!("at most {} fit", long.max),
                )
            })
        })?,
    })
}

fn network(name: Name, section: &Section) -> Result<Network, SpecError> {
    section.known(&["ipv4", "ipv6"])?;
    let ipv4 =
        section.wanted("ipv4", "10.7.0.0/24", |first: Ipv4Addr, prefix| Some(Ipv4Range { first, prefix }))?;
    let ipv6 = section.wanted("ipv6", "fd12:3456:789a:1::/64", |first: Ipv6Addr, prefix| {
        (prefix == Ipv6Range::PREFIX).then_some(Ipv6Range(first))
    })?;
    Ok(Network { name, ipv4, ipv6 })
}

fn router(name: Name, section: &Section) -> Result<Router, SpecError> {
    section.known(&["networks"])?;
    Ok(Router { name, networks: section.names("networks")? })
}

/// A table of the file and where it stands.
struct Section {
    path: String,
    table: Table,
}

impl Section {
    fn field(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn error(&self, key: &str, value: impl std::fmt::Display, remedy: impl Into<String>) -> SpecError {
        SpecError::new(self.field(key), value, remedy)
    }

    fn missing(&self, key: &str, remedy: &str) -> SpecError {
        self.error(key, "nothing", remedy)
    }

    fn wrong(&self, key: &str, value: &Value, remedy: impl Into<String>) -> SpecError {
        let written: String = value.to_string().chars().take(80).collect();
        self.error(key, written, remedy)
    }

    /// Refuses what nobody knows, with the nearest known key.
    fn known(&self, known: &[&str]) -> Result<(), SpecError> {
        match self.table.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, value)) => {
                let remedy = match nearest(key, known) {
                    Some(near) => format!("there is no such key; did you mean `{near}`?"),
                    None => format!("there is no such key; the keys here are {}", known.join(", ")),
                };
                Err(self.wrong(key, value, remedy))
            }
        }
    }

    fn name(&self) -> Result<Name, SpecError> {
        let text =
            self.text("name")?.ok_or_else(|| self.missing("name", "name the slice: name = \"mpi\""))?;
        text.parse()
            .map_err(|error: super::id::NotAName| self.error("name", format!("{text:?}"), error.to_string()))
    }

    fn text(&self, key: &str) -> Result<Option<&str>, SpecError> {
        match self.table.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.wrong(key, value, "write it in quotes")),
        }
    }

    fn word<W: Copy>(&self, key: &str, words: &[(&str, W)]) -> Result<Option<W>, SpecError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, word)) => Ok(Some(*word)),
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(self.error(key, format!("{text:?}"), format!("write {}", known.join(" or "))))
            }
        }
    }

    fn span_of_time(&self, key: &str) -> Result<Option<Millis>, SpecError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let remedy = |why: &str| self.wrong(key, value, format!("{why}: write for example \"2h\", \"90s\""));
        let text =
            value.as_str().ok_or_else(|| remedy("a span of time is written in quotes, with its unit"))?;
        parse_span(text).map(Some).map_err(|error: UnitError| remedy(&error.to_string()))
    }

    fn whole<N: TryFrom<i64>>(&self, key: &str) -> Result<Option<N>, SpecError> {
        self.table.get(key).map(|value| self.whole_value(key, value)).transpose()
    }

    fn whole_value<N: TryFrom<i64>>(&self, key: &str, value: &Value) -> Result<N, SpecError> {
        let number = value.as_integer().ok_or_else(|| self.wrong(key, value, "write a whole number"))?;
        N::try_from(number).map_err(|_| self.wrong(key, value, "the number is out of range"))
    }

    fn cpus_value(&self, key: &str, value: &Value) -> Result<u32, SpecError> {
        let milli = match value {
            Value::Integer(number) => u32::try_from(*number).ok().and_then(|cpus| cpus.checked_mul(1000)),
            Value::Float(number) => cpus_from_float(*number),
            _ => return Err(self.wrong(key, value, "write a number of CPUs: 2 or 0.5")),
        };
        milli.ok_or_else(|| self.wrong(key, value, "the number is out of range"))
    }

    fn size_value(&self, key: &str, value: &Value) -> Result<u64, SpecError> {
        let remedy = |why: &str| self.wrong(key, value, format!("{why}: write for example \"256MiB\""));
        let text = value.as_str().ok_or_else(|| remedy("a size is written in quotes, with its unit"))?;
        parse_size(text).map_err(|error| remedy(&error.to_string()))
    }

    /// One value, or a table of `min` and `max`.
    fn range<N: Copy>(
        &self,
        key: &str,
        read: impl Fn(&Self, &str, &Value) -> Result<N, SpecError>,
    ) -> Result<Option<Span<N>>, SpecError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let Value::Table(table) = value else {
            return read(self, key, value).map(|value| Some(Span::exactly(value)));
        };
        let inner = Self { path: self.field(key), table: table.clone() };
        inner.known(&["min", "max"])?;
        let bound = |key: &str| {
            let value =
                inner.table.get(key).ok_or_else(|| inner.missing(key, "a range has a min and a max"))?;
            read(&inner, key, value)
        };
        Ok(Some(Span { min: bound("min")?, max: bound("max")? }))
    }

    fn list<T, const MAX: usize>(
        &self,
        key: &str,
        read: impl Fn(&Self, &Value) -> Result<T, SpecError>,
    ) -> Result<List<T, MAX>, SpecError> {
        let Some(value) = self.table.get(key) else { return Ok(List::new()) };
        let values =
            value.as_array().ok_or_else(|| self.wrong(key, value, "write a list: [\"a\", \"b\"]"))?;
        if values.len() > MAX {
            return Err(self.error(key, format!("{} elements", values.len()), format!("at most {MAX} fit")));
        }
        let items = values.iter().map(|value| read(self, value)).collect::<Result<Vec<T>, _>>()?;
        Ok(List::first_of(items))
    }

    fn names<const MAX: usize>(&self, key: &str) -> Result<List<Name, MAX>, SpecError> {
        self.list(key, |section, value| {
            let text = value.as_str().ok_or_else(|| section.wrong(key, value, "write names in quotes"))?;
            Name::from_str(text).map_err(|error| section.wrong(key, value, error.to_string()))
        })
    }

    fn sections<T, const MAX: usize>(
        &self,
        key: &str,
        read: impl Fn(Name, &Self) -> Result<T, SpecError>,
    ) -> Result<List<T, MAX>, SpecError> {
        let Some(value) = self.table.get(key) else { return Ok(List::new()) };
        let example = format!("write a table for each: [{key}.NAME]");
        let table = value.as_table().ok_or_else(|| self.wrong(key, value, example.clone()))?;
        if table.len() > MAX {
            return Err(self.error(key, format!("{} of them", table.len()), format!("at most {MAX} fit")));
        }
        let read_one = |(name, value): (&String, &Value)| {
            let inner = value
                .as_table()
                .ok_or_else(|| self.wrong(&format!("{key}.{name}"), value, example.clone()))?;
            let named = name.parse().map_err(|error: super::id::NotAName| {
                SpecError::new(format!("{key}.{name}"), format!("{name:?}"), error.to_string())
            })?;
            read(named, &Self { path: format!("{key}.{name}"), table: inner.clone() })
        };
        Ok(List::first_of(table.iter().map(read_one).collect::<Result<Vec<T>, _>>()?))
    }

    fn wanted<A: FromStr, R>(
        &self,
        key: &str,
        example: &str,
        range: impl Fn(A, u8) -> Option<R>,
    ) -> Result<Wanted<R>, SpecError> {
        match self.text(key)? {
            None | Some("auto") => Ok(Wanted::Auto),
            Some("off") => Ok(Wanted::Off),
            Some(text) => text
                .split_once('/')
                .and_then(|(first, prefix)| range(first.parse().ok()?, prefix.parse().ok()?))
                .map(Wanted::Range)
                .ok_or_else(|| {
                    self.error(
                        key,
                        format!("{text:?}"),
                        format!("write a range such as \"{example}\", \"auto\" or \"off\""),
                    )
                }),
        }
    }
}

/// Thousandths of a CPU from what was written as a decimal fraction, rounded to the nearest.
fn cpus_from_float(cpus: f64) -> Option<u32> {
    let milli = (cpus * 1000.0).round();
    let fits = milli.is_finite() && milli >= 0.0 && milli <= f64::from(u32::MAX);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    fits.then_some(milli as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = r#"
name = "mpi"
term = "2h"
priority = 10
[machine.worker]
count = { min = 2, max = 8 }
category = "sandbox"
cpus = { min = 1, max = 2 }
memory = "256MiB"
disk = "2GiB"
image = "mini"
networks = ["lan"]
run = ["/bin/app", "--serve"]
[network.lan]
ipv4 = "10.7.0.0/24"
ipv6 = "auto"
[network.dmz]
[router.gw]
networks = ["lan", "dmz"]
"#;

    #[test]
    fn the_contracts_example_is_read_and_what_is_not_there_yet_is_named() {
        let spec = parse(CONTRACT).unwrap();
        assert_eq!(spec.term, Millis::from_secs(7200));
        assert_eq!(spec.lease, LEASE_DEFAULT);
        let worker = &spec.groups[0];
        assert_eq!(worker.count, Span { min: 2, max: 8 });
        assert_eq!(worker.cpus_milli, Span { min: 1000, max: 2000 });
        assert_eq!(worker.memory_bytes, Span::exactly(256 << 20));
        assert_eq!(worker.run[1].as_str(), "--serve");
        let ranges: Vec<_> = spec.networks.iter().map(|network| network.ipv4).collect();
        let lan = Ipv4Range { first: Ipv4Addr::new(10, 7, 0, 0), prefix: 24 };
        assert_eq!(ranges, [Wanted::Auto, Wanted::Range(lan)]);
        assert_eq!(spec.not_yet().unwrap_err().field, "router.gw");
    }

    /// The fuzz target's body, for a moment: the contract's example with bytes changed, cut and doubled.
    #[test]
    fn hostile_files_are_refused_and_nothing_else() {
        use rand_core::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        let below = |rng: &mut rand_chacha::ChaCha8Rng, bound: usize| {
            usize::try_from(rng.next_u64() % bound as u64).unwrap()
        };
        for _ in 0..500 {
            let mut bytes = CONTRACT.as_bytes().to_vec();
            for _ in 0..1 + below(&mut rng, 4) {
                let at = below(&mut rng, bytes.len());
                match below(&mut rng, 3) {
                    0 => bytes[at] = b"[]{}=\"\n0-az.,#"[below(&mut rng, 14)],
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, bytes[at]),
                }
            }
            fuzz(&bytes);
        }
    }

    fn refused(text: &str) -> SpecError {
        parse(text).expect_err(text)
    }

    fn with_machine(line: &str) -> String {
        format!("name = \"a\"\n[machine.m]\nimage = \"mini\"\n{line}\n[network.lan]\n")
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let error = refused(&with_machine("memroy = \"1GiB\""));
        assert_eq!(error.field, "machine.m.memroy");
        assert_eq!(error.value, "\"1GiB\"");
        assert!(error.remedy.contains("`memory`"), "{}", error.remedy);
        assert_eq!(refused("nmae = \"a\"").field, "nmae");
        assert_eq!(
            refused(&with_machine("count = { min = 1, maximum = 2 }")).field,
            "machine.m.count.maximum"
        );
    }

    #[test]
    fn each_wrong_value_names_field_value_and_remedy() {
        for (line, field, remedy) in [
            ("memory = \"1GB\"", "memory", "MiB"),
            ("memory = 7", "memory", "256MiB"),
            ("memory = \"1KiB\"", "memory", "8MiB"),
            ("cpus = \"many\"", "cpus", "0.5"),
            ("cpus = nan", "cpus", "range"),
            ("cpus = 0", "cpus", "0.01"),
            ("count = 65", "count", "1 to 64"),
            ("count = -1", "count", "range"),
            ("count = { min = 3, max = 2 }", "count", "min be at most max"),
            ("count = { min = 3 }", "count.max", "a min and a max"),
            ("category = \"docker\"", "category", "sandbox or vm"),
            ("networks = [\"lna\"]", "networks", "\"lan\""),
            ("networks = [\"lan\", \"lan\"]", "networks", "once"),
            ("networks = [\"a\", \"b\", \"c\", \"d\", \"e\"]", "networks", "at most 4"),
            ("run = [1]", "run", "words"),
        ] {
            let error = refused(&with_machine(line));
            assert_eq!(error.field, format!("machine.m.{field}"), "{line}: {error}");
            assert!(error.remedy.contains(remedy), "{line}: {error}");
        }
    }

    #[test]
    fn whole_file_faults_are_named_too() {
        assert_eq!(refused("").field, "name");
        assert_eq!(refused("name = \"A B\"\n[machine.m]\nimage = \"x\"").field, "name");
        assert_eq!(refused("name = \"a\"").field, "machine");
        assert_eq!(refused("name = \"a\"\n[machine.m]").field, "machine.m.image");
        assert_eq!(refused("name = \"a\"\nterm = \"2\"\n[machine.m]\nimage = \"x\"").field, "term");
        assert_eq!(refused("name = \"a\"\nlease = \"1s\"\n[machine.m]\nimage = \"x\"").field, "lease");
        assert_eq!(refused("name = \"a\"\nname = \"b\"").field, "line 2");
        let many = format!("name = \"a\"\n{}", "[machine.m]\n".repeat(9000));
        assert_eq!(refused(&many).field, "file");
        let deep = format!("name = {}", "[".repeat(20_000));
        assert!(refused(&deep).field.starts_with("line"));
    }

    #[test]
    fn network_ranges_are_checked() {
        for (line, remedy) in [
            ("ipv4 = \"10.7.0.5/24\"", "10.7.0.0/24"),
            ("ipv4 = \"10.7.0.0/30\"", "8 to 29"),
            ("ipv4 = \"127.0.0.0/8\"", "cannot have"),
            ("ipv4 = \"10.7.0.0\"", "\"10.7.0.0/24\""),
            ("ipv6 = \"fd00::/48\"", "/64"),
            ("ipv6 = \"fe80::/64\"", "fd00::/8"),
            ("ipv4 = \"off\"\nipv6 = \"off\"", "at least one"),
        ] {
            let error =
                refused(&format!("name = \"a\"\n[machine.m]\nimage = \"mini\"\n[network.lan]\n{line}"));
            assert!(error.field.starts_with("network.lan"), "{line}: {error}");
            assert!(error.remedy.contains(remedy), "{line}: {error}");
        }
        let two = "name = \"a\"\n[machine.m]\nimage = \"mini\"\n[network.a]\nipv4 = \"10.0.0.0/8\"\n[network.b]\nipv4 = \"10.7.0.0/24\"";
        assert_eq!(refused(two).field, "network.b.ipv4");
        let tight =
            "name = \"a\"\n[machine.m]\nimage = \"mini\"\ncount = 6\n[network.a]\nipv4 = \"10.0.0.0/29\"";
        assert!(refused(tight).remedy.contains("no room for 6"));
    }
}
