//! `why`: the cause and the remedy in plain words, then what was tried.

use super::output::{Output, or_dash, table, word};
use crate::config::args::WhyArgs;
use crate::control::client::{Client, segment};
use crate::failure::{Exit, Failure};
use crate::why::{Explanation, Path};

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
    let address = why.address.as_ref().map(|address| format!(", {address}")).unwrap_or_default();
    let path = match why.path {
        Path::Direct => format!("direct{address}"),
        Path::Relay => format!("through a relay{address}"),
        Path::RelayStream => "inside the control plane (UDP does not pass), slower".to_owned(),
        Path::None => "none".to_owned(),
    };
    let mut text = format!("{} to {}: {path}\n  {} [{}]\n", why.from, why.to, why.cause, why.code);
    if !why.remedy.is_empty() {
        text.push_str(&format!("  What to do: {}\n", why.remedy));
    }
    for also in &why.also {
        text.push_str(&format!("  Also: {} [{}]\n", also.cause, also.code));
    }
    text.push_str(&format!("  NAT: {} here; {} there\n", why.nat.words(), why.nat_there.words()));
    if why.path != Path::None {
        let rtt = or_dash(why.rtt_ms.map(|rtt| format!("{rtt:.1} ms")));
        text.push_str(&format!(
            "  Round trip {rtt}, loss {:.1} %, datagrams up to {} bytes\n",
            why.loss * 100.0,
            why.datagram_bytes
        ));
    }
    if !why.other_asked && why.from != why.to {
        text.push_str("  The other host could not be asked; what it knows is missing here.\n");
    }
    text.push_str(&tried(why));
    text
}

fn tried(why: &Explanation) -> String {
    let addresses = why.tried.iter().map(|attempt| {
        let rtt = attempt.round_trip_micros.map(|micros| format!("{:.1}ms", micros as f64 / 1_000.0));
        [attempt.address.to_string(), word(&attempt.kind), word(&attempt.outcome), or_dash(rtt)]
    });
    let relays = why.relays.iter().map(|attempt| {
        [attempt.relay.to_string(), "relay".to_owned(), word(&attempt.outcome), or_dash(None::<String>)]
    });
    let rows: Vec<[String; 4]> = addresses.chain(relays).collect();
    if rows.is_empty() { String::new() } else { table(["TRIED", "KIND", "RESULT", "RTT"], &rows) }
}
