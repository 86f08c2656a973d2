//! The operator's topology: who may link with whom, over whom the rest goes, and what it may cost.
//!
//! Owns: the file's form, its check, the decision for each pair of hosts, the routes, what changes from one topology to the next, and how all of
//! it is shown. Refuses to know: sockets, clocks, who signed a file and how it travels ([`crate::glue::topology`] and the overlay's documents
//! do that), and whether a path works now: what is up and down is an argument ([`State`]). Everything here is plain data and functions.
//!
//! ```text
//!  text ──▶ written ──▶ build ──▶ Topology ──▶ link(a, b)   routes(a, b, state)   role(host)
//!           (lines)    (names)       │  └────▶ check: faults with line and remedy
//!                                    └───────▶ changes (plan), show (text, JSON, SVG)      adapt: links that follow traffic
//! ```
//! | file | what |
//! |---|---|
//! | [`fault`] | what is wrong with a file, where, and what to do about it |
//! | `written` | the file as it is written, each value with its line |
//! | [`rate`] | bits per second as people write them |
//! | `selector` | the words that choose hosts: names, ids, patterns, attributes |
//! | `build` | from what was written to a [`Topology`] |
//! | `shape` | mesh, star, ring, tree, custom |
//! | [`model`] | the [`Topology`] and its decisions |
//! | [`routes`] | the best routes over costs, roles and caps, and others that share nothing with them |
//! | `check` | hosts that cannot be reached, rates that cannot be met, hops that repeat |
//! | [`changes`] | what a new topology changes |
//! | [`show`] | text, JSON and a drawing |
//! | [`adapt`] | which links to add and drop, as traffic goes |
//!
//! Invariants: a [`Topology`] has passed its check; the same text gives the same answers on every host; every list in it is bounded before it is
//! built, so that a file of [`FILE_BYTES_MAX`] costs a bounded time and memory to read.
//!
//! Sources: Dijkstra 1959 for routes; Suurballe 1974 is the exact form of disjoint pairs, of which the greedy form here is enough for relays;
//! Sundararaj, Gupta, Dinda 2005 ("Increasing application performance in virtual environments through run-time inference and adaptation")
//! for the adaptation.

pub mod adapt;
mod build;
pub mod changes;
mod check;
pub mod fault;
pub mod model;
pub mod rate;
pub mod routes;
mod selector;
mod shape;
pub mod show;
#[cfg(test)]
mod testing;
mod written;

pub use fault::Fault;
pub use model::{HOPS_MAX, HOSTS_MAX, Host, LinkKind, Pair, Roles, Topology};
pub use rate::Rate;
pub use routes::{ROUTES_MAX, Route, State};
pub use shape::Shape;

/// The longest topology file: what one of the overlay's documents holds.
pub const FILE_BYTES_MAX: usize = 64 * 1024;

/// Fuzz entry: no text may panic the reader, and what it reads answers every question.
///
/// # Panics
/// When the reader is wrong.
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Topology::parse(text) {
        Ok(topology) => {
            let hosts: Vec<_> = topology.hosts().iter().map(|host| host.id).collect();
            for pair in hosts.windows(2) {
                assert_eq!(topology.link(pair[0], pair[1]), topology.link(pair[1], pair[0]));
            }
        }
        Err(faults) => assert!(!faults.is_empty(), "what is refused is refused for a reason"),
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{below, file, seeded};
    use super::*;
    use rand_core::Rng;

    const TAIL: &str = "[roles]\nrelay = [\"h0\", \"h1\"]\nexit = \"h*\"\n[[link]]\nbetween = [\"h0\", [\"h1\", \"h2\"]]\nrule = \"static\"\n\
                        cost = 3\nrate = \"5Mbit/s\"\n[[route]]\nfrom = \"h2\"\nto = \"h3\"\nvia = [\"h0\"]\n[[demand]]\nfrom = \"h2\"\n\
                        to = \"h3\"\nrate = \"1Mbit/s\"\n[adapt]\nlinks = 3\nafter = \"2s\"\n";

    /// Flipped, cut, doubled and random text, from a seed that a failure prints.
    #[test]
    fn no_text_panics_the_reader() {
        for (head, seeds) in [
            ("shape = \"star\"\nhubs = \"h0\"", 0..150),
            ("shape = \"tree\"\norder = [\"h0\", \"h1\"]", 150..300),
        ] {
            let sample = file(head, 5, TAIL).into_bytes();
            for seed in seeds {
                let mut rng = seeded(seed);
                let mut bytes = sample.clone();
                for _ in 0..=below(&mut rng, 3) {
                    let at = below(&mut rng, bytes.len());
                    match seed % 4 {
                        0 => bytes.truncate(at.max(1)),
                        1 => bytes[at] = b'!' + u8::try_from(below(&mut rng, 90)).unwrap(),
                        2 => {
                            let end = (at + 40).min(bytes.len());
                            let again = bytes[at..end].to_vec();
                            bytes.splice(at..at, again);
                        }
                        _ => rng.fill_bytes(&mut bytes[at..]),
                    }
                }
                fuzz(&bytes);
            }
            fuzz(&sample);
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_refused_before_it_is_read() {
        let faults = Topology::parse(&"#".repeat(FILE_BYTES_MAX + 1)).unwrap_err();
        assert!(faults[0].remedy.contains("65536"), "{faults:?}");
    }

    #[test]
    fn several_faults_are_told_at_once_with_their_lines() {
        let text = file(
            "shape = \"rign\"",
            2,
            "[[link]]\nbetween = [\"h0\", \"h9\"]\nrule = \"alowed\"\n[[demand]]\nfrom = \"h0\"\nto = \"h0\"\nrate = \"1\"\n",
        );
        let lines: Vec<usize> = Topology::parse(&text).unwrap_err().iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [1, 7, 10, 11]);
    }

    /// The blocks of a page: what stands behind the fence, and the text.
    fn blocks(page: &str) -> Vec<(String, String)> {
        let mut blocks = Vec::new();
        let mut lines = page.lines();
        while let Some(line) = lines.next() {
            let Some(kind) = line.strip_prefix("```") else { continue };
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((kind.to_owned(), body.join("\n")));
        }
        blocks
    }

    /// What docs/topology.md tells operators is so.
    #[test]
    fn the_files_of_the_page_are_in_order_and_its_faults_are_told_as_it_says() {
        let blocks = blocks(include_str!("../../../docs/topology.md"));
        let mut seen = 0;
        for (at, (kind, text)) in blocks.iter().enumerate() {
            match kind.as_str() {
                "toml" => assert_eq!(Topology::parse(text).err(), None, "{text}"),
                "toml wrong" => {
                    let told: Vec<String> =
                        Topology::parse(text).unwrap_err().iter().map(ToString::to_string).collect();
                    assert_eq!(blocks[at + 1].1, told.join("\n"));
                }
                _ => continue,
            }
            seen += 1;
        }
        assert!(seen >= 4);
    }

    #[test]
    fn the_example_files_are_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/topologies");
        let mut read = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let topology = Topology::parse(&std::fs::read_to_string(&path).unwrap());
            let topology = topology.unwrap_or_else(|faults| panic!("{}: {faults:?}", path.display()));
            assert_eq!(topology.name(), path.file_stem().and_then(|stem| stem.to_str()));
            read += 1;
        }
        assert!(read >= 4, "the folder has topology files");
    }
}
