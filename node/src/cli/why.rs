//! `why`: the path, the cause and the remedy in plain words, then what was tried.

use super::output::{Output, or_dash, table};
use crate::config::args::WhyArgs;
use crate::control::client::{Client, segment};
use crate::failure::{Exit, Failure};
use crate::why::{CandidateKind, Explanation, Outcome, Path, RelayOutcome};

pub(super) async fn why(client: &Client, args: &WhyArgs, output: Output) -> Result<Exit, Failure> {
    // With one name, the way from here to it; with two, the way from the first to the second.
    let path = match &args.host_b {
        None => format!("/v1/why/{}", segment(&args.host_a)),
        Some(to) => format!("/v1/why/{}?from={}", segment(to), segment(&args.host_a)),
    };
    let explanation: Explanation = client.get(&path).await?;
    output.document(&explanation, human)?;
    Ok(Exit::Done)
}

fn human(why: &Explanation) -> String {
    let mut text = format!("from  {}: {}\n", why.from, why.nat.words());
    if why.from != why.to {
        let there = if why.other_asked { why.nat_there.words() } else { "could not be asked" };
        text.push_str(&format!("to    {}: {there}\n", why.to));
    }
    text.push_str(&format!("path  {}\n\n{} [{}]\n", path(why), sentence(&why.cause), why.code));
    if !why.remedy.is_empty() {
        text.push_str(&format!("What to do: {}\n", sentence(&why.remedy)));
    }
    for also in &why.also {
        text.push_str(&format!("Also: {} [{}]\n", sentence(&also.cause), also.code));
        if !also.remedy.is_empty() {
            text.push_str(&format!("      {}\n", sentence(&also.remedy)));
        }
    }
    let tried = tried(why);
    if tried.is_empty() { text } else { format!("{text}\n{tried}") }
}

fn path(why: &Explanation) -> String {
    let address = why.address.as_ref().map(|address| format!(", {address}")).unwrap_or_default();
    let way = match why.path {
        Path::Direct => format!("direct{address}"),
        Path::Relay => format!("through a relay{address}"),
        Path::RelayStream => "inside the control plane (UDP does not pass), slower".to_owned(),
        Path::None => return "none".to_owned(),
    };
    let rtt = or_dash(why.rtt_ms.map(|rtt| format!("{rtt:.1} ms")));
    let loss = why.loss * 100.0;
    format!("{way}; round trip {rtt}, loss {loss:.1} %, datagrams up to {} bytes", why.datagram_bytes)
}

/// With a capital and a full stop: causes are written to stand inside a sentence too.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str())
}

fn tried(why: &Explanation) -> String {
    let addresses = why.tried.iter().map(|attempt| {
        let known = match attempt.kind {
            CandidateKind::Local => "its own address",
            CandidateKind::Observed => "as members see it",
            CandidateKind::Mapped => "opened at its router",
            CandidateKind::Told => "told, or heard from",
        };
        let result = match attempt.outcome {
            Outcome::Waiting => "being tried",
            Outcome::Answered => "answers",
            Outcome::Silent => "no answer",
            Outcome::LeftOut => "not tried",
        };
        let rtt = attempt.round_trip_micros.map(|micros| format!("{:.1} ms", micros as f64 / 1_000.0));
        [attempt.address.to_string(), known.to_owned(), result.to_owned(), or_dash(rtt)]
    });
    let relays = why.relays.iter().map(|attempt| {
        let result = match attempt.outcome {
            RelayOutcome::Ready => "ready",
            RelayOutcome::Unreachable => "could not be asked",
            RelayOutcome::Full => "full: its owner's cap",
            RelayOutcome::Refused => "does not relay for these two",
            RelayOutcome::Silent => "nothing comes through",
        };
        [attempt.relay.to_string(), "relay".to_owned(), result.to_owned(), or_dash(None::<String>)]
    });
    let rows: Vec<[String; 4]> = addresses.chain(relays).collect();
    if rows.is_empty() {
        String::new()
    } else {
        table(["TRIED", "WHAT IT IS", "RESULT", "ROUND TRIP"], &rows)
    }
}
