//! How fast one TCP flow is between two machines on different hosts, and how far away they are.

use serde_json::json;

use super::{GUEST, addresses, between, distant_pair, figure, full_name};
use crate::control::api::Slice;
use crate::control::client::Client;
use crate::demo::exec::{Background, exec};
use crate::demo::report::Check;
use crate::failure::Failure;

const NAME: &str = "throughput";
const SECONDS: &str = "2";

/// Measures one flow; a round trip before it, while nothing else moves.
pub(in crate::demo) async fn one_flow(client: &Client, slice: &Slice) -> Result<Check, Failure> {
    let Some((from, to)) = distant_pair(slice) else {
        return Ok(Check::measured(NAME, "needs two machines", serde_json::Value::Null));
    };
    let target = addresses(to).into_iter().next().unwrap_or_default();
    let sender = full_name(slice, from);
    let ping =
        exec(client, &sender, &[GUEST, "ping", "-c", "50", "-i", "10", "--json", &target]).await?.json()?;
    let rtt_ms = figure(&ping, "/targets/0/rtt_ms/avg");
    let receiver = full_name(slice, to);
    let _serving = Background::start(client, &receiver, &[GUEST, "throughput", "serve"], "serving").await?;
    let argv = [GUEST, "throughput", "send", "--seconds", SECONDS, "--json", &target];
    let gbit_per_s = figure(&exec(client, &sender, &argv).await?.json()?, "/bits_per_second") / 1e9;
    let detail = format!(
        "{gbit_per_s:.2} Gb/s, one TCP flow {}; round trip {rtt_ms:.3} ms when idle",
        between(from, to)
    );
    Ok(Check::measured(NAME, detail, json!({ "gbit_per_s": gbit_per_s, "rtt_ms": rtt_ms })))
}
