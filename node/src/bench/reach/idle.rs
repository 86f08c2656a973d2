//! What nodes cost that have nothing to do: many real ones on public hosts, joined, settled, left alone.
//!
//! Settled means that every node is a member and none has gained or lost a connection for [`QUIET_FOR`]. Bytes are those on the hosts' cables,
//! with all headers; CPU time is the processes' own, user and system.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use consort_lab::case::{Case, World};
use consort_lab::usage;
use consort_overlay::NEIGHBOURS_MAX;
use serde::Serialize;

use super::crew::Crew;
use crate::control::api::Status;
use crate::demo::stage::lab_failure;
use crate::failure::Failure;

/// Longer than between two rounds of anything the control plane does every few seconds.
const QUIET_FOR: Duration = Duration::from_secs(10);
/// After that it is measured as it is, and said to be unsettled.
const SETTLE_MAX: Duration = Duration::from_secs(180);
/// Between two looks at all nodes; each look costs them a request.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What was found, per node.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    nodes: usize,
    seconds: f64,
    /// Until the last node was a member.
    joined_s: f64,
    /// Until all were settled; none if they were not in time.
    settled_s: Option<f64>,
    /// Connections of the control plane, the median node's, and those of the node that sends and receives most.
    connections: usize,
    connections_of_busiest: usize,
    /// Sent and received, the mean, and the busiest node's.
    bytes_per_s: f64,
    bytes_per_s_max: f64,
    /// Of one core, the mean, and the busiest node's.
    cpu_percent: f64,
    cpu_percent_max: f64,
    /// Resident, the median node's.
    resident_mib: f64,
}

impl Cost {
    pub(super) fn for_people(&self) -> String {
        let settled = self.settled_s.map_or_else(
            || "not settled in time".to_owned(),
            |seconds| format!("settled after {seconds:.0} s"),
        );
        format!(
            "{} nodes: all joined after {:.0} s, {settled}, {} connections each. Over {:.0} s, a node: {:.0} B/s ({:.0} at most, with {} connections), \
             {:.2} % of a core ({:.2} at most), {:.0} MiB resident.\n",
            self.nodes,
            self.joined_s,
            self.connections,
            self.seconds,
            self.bytes_per_s,
            self.bytes_per_s_max,
            self.connections_of_busiest,
            self.cpu_percent,
            self.cpu_percent_max,
            self.resident_mib,
        )
    }
}

pub(super) async fn measure(nodes: u32, seconds: u32) -> Result<Cost, Failure> {
    let hosts: String = (0..nodes).map(|number| format!("[host.node-{number:03}]\n")).collect();
    let case: Case = super::parse(&format!("about = \"idle nodes\"\n{hosts}"))?;
    let mut crew = Crew::new(World::build(&case).map_err(lab_failure)?);
    let begun = Instant::now();
    crew.start_overlay().await?;
    let joined = begun.elapsed();
    eprintln!("{nodes} nodes are members after {:.0} s", joined.as_secs_f64());
    let (settled, connections) = settle(&mut crew, begun).await?;
    let before = look(&mut crew)?;
    let started = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    let after = look(&mut crew)?;
    let time = started.elapsed().as_secs_f64();
    let rates: Vec<f64> = difference(&before, &after, |look| look.bytes).map(|bytes| bytes / time).collect();
    let shares: Vec<f64> =
        difference(&before, &after, |look| look.cpu_s).map(|cpu| 100.0 * cpu / time).collect();
    let resident: Vec<f64> = after.iter().map(|look| look.resident_mib).collect();
    let busiest = rates.iter().zip(&connections).max_by(|(one, _), (other, _)| one.total_cmp(other));
    Ok(Cost {
        nodes: after.len(),
        seconds: time,
        joined_s: joined.as_secs_f64(),
        settled_s: settled.map(|settled| settled.as_secs_f64()),
        connections: median(connections.clone()),
        connections_of_busiest: busiest.map_or(0, |(_, connections)| *connections),
        bytes_per_s: mean(&rates),
        bytes_per_s_max: rates.iter().copied().fold(0.0, f64::max),
        cpu_percent: mean(&shares),
        cpu_percent_max: shares.iter().copied().fold(0.0, f64::max),
        resident_mib: median(resident),
    })
}

/// Waits until no count of connections changes any more; when that was, and the counts.
async fn settle(crew: &mut Crew, begun: Instant) -> Result<(Option<Duration>, Vec<usize>), Failure> {
    let mut last: Vec<usize> = Vec::new();
    let mut changed = Instant::now();
    loop {
        let mut now = Vec::new();
        for name in crew.names() {
            let status: Status = crew.client(&name)?.get("/v1/status").await?;
            now.push(status.peers_connected);
        }
        let is_changed = now != last;
        if is_changed {
            changed = Instant::now();
            last.clone_from(&now);
        }
        let (least, most) = (now.iter().min().copied(), now.iter().max().copied());
        if is_changed {
            let seconds = begun.elapsed().as_secs_f64();
            let range = [least, Some(median(now.clone())), most].map(Option::unwrap_or_default);
            eprintln!("{seconds:.0} s: connections {range:?} (least, median, most)");
        }
        // Who has more than it keeps closes some of them later.
        if changed.elapsed() >= QUIET_FOR && most <= Some(NEIGHBOURS_MAX) {
            return Ok((Some(changed - begun), now));
        }
        if begun.elapsed() > SETTLE_MAX {
            return Ok((None, now));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a node has spent so far.
#[derive(Debug, Clone, Copy)]
struct Look {
    bytes: f64,
    cpu_s: f64,
    resident_mib: f64,
}

fn look(crew: &mut Crew) -> Result<Vec<Look>, Failure> {
    let mut all = Vec::new();
    for name in crew.names() {
        let link = crew.world().host(&name).map_err(lab_failure)?.router_link.clone();
        let link = link.ok_or_else(|| lab_failure(format!("{name} is not in the open")))?;
        let counted = crew.world().wide().router().link_statistics(&link).map_err(lab_failure)?;
        let spent = usage::of_process(crew.pid(&name)?).map_err(lab_failure)?;
        all.push(Look {
            bytes: approximately(counted.rx_bytes + counted.tx_bytes),
            cpu_s: spent.cpu.as_secs_f64(),
            resident_mib: approximately(spent.resident_bytes) / f64::from(1 << 20),
        });
    }
    Ok(all)
}

fn difference<'a>(
    before: &'a [Look],
    after: &'a [Look],
    of: impl Fn(&Look) -> f64 + 'a,
) -> impl Iterator<Item = f64> + 'a {
    before.iter().zip(after).map(move |(before, after)| of(after) - of(before))
}

fn mean(values: &[f64]) -> f64 {
    let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
    values.iter().sum::<f64>() / f64::from(count.max(1))
}

fn median<T: PartialOrd + Copy + Default>(mut values: Vec<T>) -> T {
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Counters far below 2^53: no byte is lost.
#[expect(clippy::cast_precision_loss, reason = "counters of a lab stay far below 2^53")]
fn approximately(count: u64) -> f64 {
    count as f64
}
