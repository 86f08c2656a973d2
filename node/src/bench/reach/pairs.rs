//! Every two different kinds many times, all pairs at once: how many become direct, how soon, and what their port searches cost.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;

use super::crew::Crew;
use super::kinds::{self, Side};
use super::pair::{self, Conversation, Measured, Patience};
use crate::control::api::{Peer, SearchCost};
use crate::control::client::Client;
use crate::demo::stage::lab_failure;
use crate::failure::Failure;
use crate::why::Path;

/// Within which time the bar wants pairs to be direct.
const BAR: Duration = Duration::from_secs(10);

/// All that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Crowd {
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    first: &'static str,
    second: &'static str,
    pairs: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(flatten)]
    measured: Measured,
    /// What each end spent.
    spent: [Option<SearchCost>; 2],
}

/// Measures `pairs` pairs of every two kinds.
pub(super) async fn measure(
    crew: &mut Crew,
    kinds: &[&'static str],
    pairs: u32,
    patience: Patience,
) -> Result<Crowd, Failure> {
    let mut rows = Vec::new();
    for first in kinds {
        for second in kinds.iter().filter(|second| *second != first) {
            let mut under_way = JoinSet::new();
            for number in 0..pairs {
                let names = (
                    kinds::host_of_many(Side::A, first, number),
                    kinds::host_of_many(Side::B, second, number),
                );
                let clients = (crew.client(&names.0)?, crew.client(&names.1)?);
                // One after the other, so that the first frames do not wait for joins.
                let conversation = Conversation::begin(crew, &names.0, &names.1).await?;
                under_way.spawn(one(clients, conversation, patience));
            }
            let mut row = Row { first, second, pairs: Vec::new() };
            while let Some(outcome) = under_way.join_next().await {
                let outcome = outcome.map_err(lab_failure)??;
                eprintln!("{first} to {second}: {}", outcome.in_words());
                row.pairs.push(outcome);
            }
            rows.push(row);
        }
    }
    Ok(Crowd { rows })
}

async fn one(
    clients: (Client, Client),
    conversation: Conversation,
    patience: Patience,
) -> Result<Outcome, Failure> {
    let hosts = (pair::host_id(&clients.0).await?, pair::host_id(&clients.1).await?);
    let (measured, conversation) = pair::follow(&clients, &hosts, conversation, patience).await?;
    let spent = [spent(&clients.0, &hosts.1).await?, spent(&clients.1, &hosts.0).await?];
    conversation.end().await?;
    Ok(Outcome { measured, spent })
}

async fn spent(client: &Client, peer: &str) -> Result<Option<SearchCost>, Failure> {
    let peers: Vec<Peer> = client.get("/v1/peers").await?;
    Ok(peers.into_iter().find(|entry| entry.host == peer).and_then(|entry| entry.search))
}

impl Outcome {
    fn in_words(&self) -> String {
        let probes = |end: usize| self.spent[end].as_ref().map_or(0, |spent| spent.probes);
        format!("{}; {} and {} probes", self.measured.in_words(), probes(0), probes(1))
    }
}

impl Row {
    fn times(&self, of: impl Fn(&Measured) -> Option<u64>) -> Vec<u64> {
        let mut times: Vec<u64> = self.pairs.iter().filter_map(|pair| of(&pair.measured)).collect();
        times.sort_unstable();
        times
    }

    fn most(&self, of: impl Fn(&SearchCost) -> u32) -> u32 {
        self.pairs.iter().flat_map(|pair| pair.spent.iter().flatten()).map(of).max().unwrap_or(0)
    }
}

impl Crowd {
    /// A table in Markdown.
    pub(super) fn for_people(&self) -> String {
        let mut text = "| from | to | pairs | direct | within 10 s | first frame, median | direct, median | direct, latest | probes, most of a host | mappings, most of a host |\n\
             |--|--|--|--|--|--|--|--|--|--|\n"
            .to_owned();
        let ms = |value: Option<&u64>| value.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
        for row in &self.rows {
            let first = row.times(|measured| measured.first_frame_ms);
            let direct = row.times(|measured| measured.direct_ms);
            let is_direct = |pair: &&Outcome| pair.measured.way == Path::Direct;
            let in_time = direct.iter().filter(|ms| u128::from(**ms) <= BAR.as_millis()).count();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {in_time} | {} | {} | {} | {} | {} |",
                row.first,
                row.second,
                row.pairs.len(),
                row.pairs.iter().filter(is_direct).count(),
                ms(first.get(first.len() / 2)),
                ms(direct.get(direct.len() / 2)),
                ms(direct.last()),
                row.most(|spent| spent.probes),
                row.most(|spent| spent.mappings),
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_how_many_how_soon_and_at_what_cost() {
        let outcome = |direct_ms: Option<u64>, probes| Outcome {
            measured: Measured {
                way: if direct_ms.is_some() { Path::Direct } else { Path::Relay },
                first_frame_ms: Some(50),
                direct_ms,
                search_ms: [None; 2],
                code: None,
            },
            spent: [Some(SearchCost { searches: 1, probes, mappings: 288 }), None],
        };
        let pairs = vec![outcome(Some(3_000), 300), outcome(Some(11_000), 900), outcome(None, 1_100)];
        let text = Crowd { rows: vec![Row { first: "x", second: "y", pairs }] }.for_people();
        assert!(text.contains("| x | y | 3 | 2 | 1 | 50 ms | 11000 ms | 11000 ms | 1100 | 288 |"), "{text}");
    }
}
