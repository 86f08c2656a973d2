//! When each cause holds, what is said of it, and what to do.
//!
//! The order of [`PARTS`], and in each part that of its table, is the order of mending. In the texts, `{near}` is the host that was asked, `{far}` the other, and
//! the rest are figures of the facts. Thresholds are constants with their reason.
//!
//! | file | causes about |
//! |---|---|
//! | `standing` | who the two are: clocks, memberships, identities, keys |
//! | `presence` | whether the other is there, and may be reached at all |
//! | `datagrams` | what stands before the data plane: firewalls, the exchange of addresses |
//! | `detour` | NATs that let nothing through, and relays |
//! | `quality` | a link that stands and is not as good as it could be |
//! | `rest` | what is well, or under way; and what explains nothing |
//! | `holds` | the questions rules ask of the facts |

mod datagrams;
mod detour;
mod holds;
mod presence;
mod quality;
mod rest;
mod standing;

use super::code::Code;
use super::explanation::Finding;
use super::facts::{Facts, Nat, Path};

/// A record of that age was not renewed three times (`consort_overlay::RECORD_LIFETIME`).
const RECORD_OLD_S: u32 = 900;

pub(super) struct Rule {
    code: Code,
    holds: fn(&Facts) -> bool,
    cause: &'static str,
    remedy: &'static str,
}

/// In the order of mending. The last rule of the last part always holds.
const PARTS: [&[Rule]; 6] =
    [standing::RULES, presence::RULES, datagrams::RULES, detour::RULES, quality::RULES, rest::RULES];

/// What holds, the first to be mended first.
pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    PARTS.iter().copied().flatten().filter(|rule| (rule.holds)(facts)).map(|rule| rule.say(facts)).collect()
}

/// What is no cause of anything, and worth a word all the same.
pub(super) fn notes(facts: &Facts) -> impl Iterator<Item = Finding> {
    rest::NOTES.iter().filter(|rule| (rule.holds)(facts)).map(|rule| rule.say(facts))
}

/// The last word.
pub(super) fn unexplained(facts: &Facts) -> Finding {
    rest::RULES[rest::RULES.len() - 1].say(facts)
}

/// Whether a code says that nothing is wrong.
pub(super) fn is_well(code: Code) -> bool {
    matches!(
        code,
        Code::SameHost
            | Code::Direct
            | Code::DirectLocal
            | Code::NotWanted
            | Code::Unexplained
            | Code::Connecting
    )
}

impl Rule {
    fn say(&self, facts: &Facts) -> Finding {
        Finding { code: self.code, cause: fill(self.cause, facts), remedy: fill(self.remedy, facts) }
    }
}

fn fill(text: &str, facts: &Facts) -> String {
    let link = &facts.near.link;
    let (near, far) = (facts.names.near.clone(), facts.names.far.clone());
    let record =
        facts.near.record_age_s.map_or_else(String::new, |age| format!("; its last word is {age} s old"));
    let nat_far = facts.far.as_ref().map_or(Nat::Unknown, |far| far.nat);
    let detour =
        if facts.path() == Path::RelayStream { "inside the control plane" } else { "through a relay" };
    let whose = if holds::is_about_near(facts) { near.clone() } else { far.clone() };
    let (roamed, is_near_moving) = holds::roamed(facts);
    let mover = if is_near_moving { near.clone() } else { far.clone() };
    [
        ("{mover}", mover),
        ("{near}", near),
        ("{far}", far),
        ("{whose}", whose),
        ("{detour}", detour.to_owned()),
        ("{clock}", holds::clock_difference(facts).to_string()),
        ("{record}", record),
        ("{record_life}", (RECORD_OLD_S / 60).to_string()),
        ("{nat}", facts.near.nat.words().to_owned()),
        ("{nat_far}", nat_far.words().to_owned()),
        ("{grants}", link.grants_refused.to_string()),
        ("{datagram}", link.datagram_bytes.to_string()),
        ("{loss}", format!("{:.1}", f64::from(holds::worst_loss(facts)) / 10.0)),
        ("{roamed}", roamed.to_string()),
        ("{rtt}", (link.round_trip_micros.unwrap_or_default() / 1_000).to_string()),
    ]
    .iter()
    .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}
