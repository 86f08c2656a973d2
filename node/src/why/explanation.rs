//! What the person or program gets: the path, the cause, the remedy, and what was tried.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::code::Code;
use super::facts::{Attempt, Facts, Nat, Path, RelayAttempt};
use super::rules;

/// One cause with its words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Its code.
    pub code: Code,
    /// In plain words.
    pub cause: String,
    /// What to do; empty where nothing has to be done.
    #[serde(default)]
    pub remedy: String,
}

/// Why the way between two hosts is as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The host that was asked.
    pub from: String,
    /// The other.
    pub to: String,
    /// How datagrams go.
    pub path: Path,
    /// Where to.
    #[serde(default)]
    pub address: Option<String>,
    /// The first thing that would have to be mended, or that all is well.
    pub code: Code,
    /// It in plain words.
    pub cause: String,
    /// What to do; empty where nothing has to be done.
    pub remedy: String,
    /// What else is not as it should be, whether or not the path is well.
    pub also: Vec<Finding>,
    /// The NAT of the host that was asked.
    pub nat: Nat,
    /// The NAT of the other, as it says; unknown where it could not be asked.
    pub nat_there: Nat,
    /// Whether the other could be asked; what it knows is missing otherwise.
    pub other_asked: bool,
    /// Round trip.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
    /// Part of the datagrams that did not arrive, 0 to 1.
    pub loss: f64,
    /// The largest datagram the path takes; 0 where there is none.
    pub datagram_bytes: u16,
    /// Every address of the other that was tried.
    pub tried: Vec<Attempt>,
    /// Every relay that was asked.
    pub relays: Vec<RelayAttempt>,
}

/// The most causes shown beside the first; more would hide it.
const ALSO_MAX: usize = 4;

/// Says why.
#[must_use]
pub fn explain(facts: &Facts) -> Explanation {
    let mut findings = rules::findings(facts).into_iter();
    // The last rule always holds.
    let first = findings.next().unwrap_or_else(|| rules::unexplained(facts));
    let others = findings.filter(|finding| !rules::is_well(finding.code) && !rules::is_well(first.code));
    let also = others.take(ALSO_MAX).chain(rules::notes(facts)).collect();
    let link = &facts.near.link;
    Explanation {
        from: facts.names.near_id.clone(),
        to: facts.names.far_id.clone(),
        path: facts.path(),
        address: link.address.filter(|_| link.up).map(|address| address.to_string()),
        code: first.code,
        cause: first.cause,
        remedy: first.remedy,
        also,
        nat: facts.near.nat,
        nat_there: facts.far.as_ref().map_or(Nat::Unknown, |far| far.nat),
        other_asked: facts.far.is_some(),
        rtt_ms: link.round_trip_micros.filter(|_| link.up).map(|micros| micros as f64 / 1_000.0),
        loss: f64::from(link.loss_permille) / 1_000.0,
        datagram_bytes: link.datagram_bytes,
        tried: facts.near.tried.to_vec(),
        relays: facts.near.relays.to_vec(),
    }
}
