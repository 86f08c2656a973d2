//! The measurements with one pair of hosts: rates, hops that die, from a relay to the direct path.
//!
//! Owns: what is built and done for each figure. Refuses to know: bars, and how a report looks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::field::{Field, UNCAPPED};
use super::{CAP_MBIT, Failover, Rates, Upgrade};
use crate::failure::Failure;

/// Before it counts, a connection has so many times as long as it is measured to find its speed. Where round trips vary, as over processes that take turns, cubic leaves its slow start
/// early (HyStart): over a relay it was seen to take 2.5 s until it filled 200 Mbit/s.
const WARM_UPS: u32 = 2;

/// Over a relay whose owner allows little.
pub(super) async fn capped(rounds: u32, turn: Duration) -> Result<f64, Failure> {
    let relay = format!("{{ rate = \"{CAP_MBIT}Mbit/s\", peers = 8 }}");
    let mut field = Field::of(3, "", &relay).await?;
    field.shape("shape = \"star\"\nhubs = \"h0\"", "").await?;
    let (_, there) = field.network("pair", "h1", "h2").await?;
    field.over("h1", "h2", 1).await?;
    let mut rates = Vec::new();
    for _ in 0..rounds {
        rates.push(rate(&mut field, there, turn).await?);
    }
    Ok(median(rates))
}

/// What passes where the operator's topology gives the link between two leaves a rate, where it gives the hub's links one, and where it gives the hub one for
/// what it forwards.
pub(super) async fn rates(rounds: u32, turn: Duration) -> Result<Rates, Failure> {
    let mut field = Field::of(3, "", UNCAPPED).await?;
    let (_, there) = field.network("pair", "h1", "h2").await?;
    let (mut link, mut link_relayed, mut transit) = (Vec::new(), Vec::new(), Vec::new());
    let capped =
        |a: &str, b: &str| format!("[[link]]\nbetween = [\"{a}\", \"{b}\"]\nrate = \"{CAP_MBIT}Mbit/s\"");
    for round in 0..rounds {
        field.shape("shape = \"mesh\"", &capped("h1", "h2")).await?;
        field.direct("h1", "h2").await?;
        link.push(rate(&mut field, there, turn).await?);
        field.shape("shape = \"star\"\nhubs = \"h0\"", &capped("h0", "h2")).await?;
        field.over("h1", "h2", 1).await?;
        link_relayed.push(rate(&mut field, there, turn).await?);
        let file = field.file("shape = \"star\"\nhubs = \"h0\"", "");
        let id = format!("h0 = \"{}\"", field.ids["h0"]);
        let file = file
            .replace(&id, &format!("h0 = {{ id = \"{}\", rate = \"{CAP_MBIT}Mbit/s\" }}", field.ids["h0"]));
        field.take(file).await?;
        field.over("h1", "h2", 1).await?;
        transit.push(rate(&mut field, there, turn).await?);
        eprintln!(
            "turn {round}: a link's rate {:.1}, the same on the relay's link {:.1}, the relay's rate {:.1} Mbit/s",
            last(&link),
            last(&link_relayed),
            last(&transit)
        );
    }
    Ok(Rates {
        allowed_mbit: CAP_MBIT,
        link_mbit: median(link),
        link_relayed_mbit: median(link_relayed),
        transit_mbit: median(transit),
    })
}

/// Megabits a second of one TCP connection from h1 to h2.
async fn rate(field: &mut Field, there: IpAddr, turn: Duration) -> Result<f64, Failure> {
    let Steady { bytes, seconds, .. } = steady(field, there, turn, |_| Ok(())).await?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let megabits = bytes as f64 * 8.0 / 1e6;
    Ok(megabits / seconds)
}

/// A TCP connection that has found its speed.
#[derive(Debug)]
pub(super) struct Steady<T> {
    /// What arrived.
    pub(super) bytes: u64,
    /// In which time.
    pub(super) seconds: f64,
    /// What was seen before and after it.
    pub(super) seen: [T; 2],
}

/// One from h1 to h2, looked at for a while.
pub(super) async fn steady<T>(
    field: &mut Field,
    there: IpAddr,
    turn: Duration,
    look: impl Fn(&mut Field) -> Result<T, Failure>,
) -> Result<Steady<T>, Failure> {
    let load = field.load("h1", "h2", there)?;
    tokio::time::sleep(WARM_UPS * turn).await;
    let (before, arrived, begun) = (look(field)?, load.bytes(), Instant::now());
    tokio::time::sleep(turn).await;
    let (bytes, seconds) = (load.bytes() - arrived, begun.elapsed().as_secs_f64());
    let after = look(field)?;
    load.end()?;
    Ok(Steady { bytes, seconds, seen: [before, after] })
}

/// A ring of so many hosts; between opposite ones there are `hops` on either side. The last of the way in use dies, each turn anew.
pub(super) async fn failover(
    hosts: usize,
    hops: usize,
    rounds: u32,
    bar: Duration,
) -> Result<Failover, Failure> {
    let mut field = Field::of(hosts, "", UNCAPPED).await?;
    field.shape("shape = \"ring\"", "").await?;
    let far = format!("h{}", hosts / 2);
    let (_, there) = field.network("across", "h0", &far).await?;
    let talk = field.talk("h0", &far, there)?;
    let mut silences = BTreeMap::new();
    for round in 0..rounds {
        let before = field.over("h0", &far, hops).await?;
        field.has_spare("h0", &far).await?;
        talk.goes_on().await?;
        let _before_it = talk.silence();
        let Some(dies) = before.last() else { continue };
        field.crew.kill_node(dies)?;
        talk.goes_on().await?;
        field.way("h0", &far, "another way", |now| *now != before[..]).await?;
        let silence = talk.silence();
        eprintln!("turn {round}: {} died, silent for {} ms", before.join(", "), silence.as_millis());
        silences.insert(round, silence);
        field.crew.start(dies, &[])?;
        field.crew.member(dies).await?;
    }
    talk.end()?;
    let mut all: Vec<u64> =
        silences.values().map(|silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX)).collect();
    all.sort_unstable();
    Ok(Failover {
        median_ms: all.get(all.len() / 2).copied().unwrap_or_default(),
        worst_ms: all.last().copied().unwrap_or_default(),
        bar_ms: u64::try_from(bar.as_millis()).unwrap_or(u64::MAX),
        turns: all.len(),
    })
}

/// Over a hub, then the operator allows the link.
pub(super) async fn upgrade(rounds: u32) -> Result<Upgrade, Failure> {
    let mut field = Field::of(3, "", UNCAPPED).await?;
    let mut found = Upgrade::default();
    let (here, there) = field.network("pair", "h1", "h2").await?;
    for round in 0..rounds {
        field.shape("shape = \"star\"\nhubs = \"h0\"", "").await?;
        field.over("h1", "h2", 1).await?;
        let numbered = field.numbered(("h1", here), ("h2", there))?;
        numbered.goes_on().await?;
        field.shape("shape = \"mesh\"", "").await?;
        field.direct("h1", "h2").await?;
        numbered.goes_on().await?;
        let (sent, missing) = numbered.end()?;
        eprintln!("turn {round}: {} of {sent} datagrams missing", missing.len());
        found.sent += sent;
        found.missing += missing.len() as u64;
        found.turns += 1;
    }
    Ok(found)
}

fn last(values: &[f64]) -> f64 {
    values.last().copied().unwrap_or_default()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
