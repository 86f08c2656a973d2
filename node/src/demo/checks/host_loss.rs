//! A host's plug is pulled, and the slice says within the promised time that its machines are lost.

use std::time::{Duration, Instant};

use consort_scheduler::limits::loss_notice;
use consort_scheduler::units::Millis;
use serde_json::json;

use crate::control::api::Slice;
use crate::control::client::segment;
use crate::demo::report::{Check, milliseconds};
use crate::demo::stage::{Stage, awaited};
use crate::failure::Failure;

const NAME: &str = "a killed host is noticed";

/// Kills a host that has machines and that can be spared, and waits for the slice to say so.
pub(in crate::demo) async fn noticed(
    stage: &mut Stage,
    slice: &Slice,
    lease: Duration,
) -> Result<Check, Failure> {
    let client = stage.hosts[0].client();
    let Some(victim) = victim(stage, slice).await? else {
        return Ok(Check::measured(
            NAME,
            "needs machines on a host that can be spared",
            serde_json::Value::Null,
        ));
    };
    let (index, id) = victim;
    let lost: Vec<&str> = slice
        .machines
        .iter()
        .filter(|machine| machine.host == id)
        .map(|machine| machine.name.as_str())
        .collect();
    let promised = loss_notice(Millis(milliseconds(lease)));
    stage.hosts[index].kill()?;
    let killed = Instant::now();
    awaited("the slice says that machines are lost", async || {
        let now: Slice = client.get(&format!("/v1/slices/{}", segment(&slice.name))).await?;
        let gone = |name: &&str| {
            now.machines.iter().any(|machine| machine.name == **name && machine.state == "lost")
        };
        Ok(lost.iter().all(gone).then_some(()))
    })
    .await?;
    let took = milliseconds(killed.elapsed());
    let detail = format!(
        "{} with {} lost after {took} ms, promised within {} ms",
        stage.hosts[index].host.name(),
        lost.join(" "),
        promised.0
    );
    Ok(Check::promised(
        NAME,
        took <= promised.0,
        detail,
        json!({ "took_ms": took, "promised_ms": promised.0 }),
    ))
}

/// The last host with machines that is not the one we ask, and without which most stewards still live.
async fn victim(stage: &Stage, slice: &Slice) -> Result<Option<(usize, String)>, Failure> {
    for (index, host) in stage.hosts.iter().enumerate().skip(1).rev() {
        let status: crate::control::api::Status = host.client().get("/v1/status").await?;
        let steward = slice.stewards.contains(&status.host);
        let spared = !steward || slice.stewards.len() > 2;
        if spared && slice.machines.iter().any(|machine| machine.host == status.host) {
            return Ok(Some((index, status.host)));
        }
    }
    Ok(None)
}
