//! What a node costs its owner while nothing happens.

use std::time::Duration;

use consort_lab::usage::{self, Usage};
use serde_json::json;

use crate::demo::report::Check;
use crate::demo::stage::{Stage, lab_failure};
use crate::failure::Failure;

/// Long enough for a hundredth of a core to be more than a clock tick.
const WINDOW: Duration = Duration::from_secs(2);

/// Looks at every node at the beginning and the end of a window.
pub(in crate::demo) async fn nodes(stage: &Stage) -> Result<Check, Failure> {
    let before = look(stage)?;
    tokio::time::sleep(WINDOW).await;
    let after = look(stage)?;
    let resident = after.iter().map(|usage| usage.resident_bytes).max().unwrap_or_default();
    let own = after.iter().map(|usage| usage.anonymous_bytes).max().unwrap_or_default();
    let cpu = before.iter().zip(&after).map(|(before, after)| after.cpu.saturating_sub(before.cpu)).max();
    let percent = cpu.unwrap_or_default().as_secs_f64() / WINDOW.as_secs_f64() * 100.0;
    let mebibytes = |bytes: u64| format!("{}.{}", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20);
    let detail = format!(
        "at most {} MiB resident ({} of it not the program's file), {percent:.1} % of a core",
        mebibytes(resident),
        mebibytes(own)
    );
    let figures = json!({ "resident_bytes": resident, "anonymous_bytes": own, "cpu_percent": percent });
    Ok(Check::measured("an idle node", detail, figures))
}

fn look(stage: &Stage) -> Result<Vec<Usage>, Failure> {
    stage.hosts.iter().map(|host| usage::of_process(host.node_pid()?).map_err(lab_failure)).collect()
}
