//! No ARP and no neighbour solicitation of a machine crosses the underlay: each host's switch answers them.

use serde_json::json;

use crate::control::api::{Network, Slice};
use crate::demo::report::Check;
use crate::demo::stage::Stage;
use crate::failure::Failure;

const NAME: &str = "no ARP on the underlay";

/// Asks every node's switch how many it answered and how many came from other hosts.
pub(in crate::demo) async fn stay_local(stage: &Stage, slice: &Slice) -> Result<Check, Failure> {
    if slice.machines.len() < 2 {
        return Ok(Check::measured(NAME, "needs two machines", serde_json::Value::Null));
    }
    let (mut answered, mut crossed) = (0, 0);
    for host in &stage.hosts {
        let networks: Vec<Network> = host.client().get("/v1/nets").await?;
        for network in networks
            .iter()
            .filter(|network| network.slice.as_ref().is_some_and(|of| *of == slice.name || *of == slice.id))
        {
            let count = |name: &str| network.counters["events"][name].as_u64();
            answered +=
                count("arp_answered").unwrap_or_default() + count("neighbour_answered").unwrap_or_default();
            crossed += count("neighbour_from_peer").ok_or_else(|| {
                Failure::failed(
                    "counters",
                    "the switch does not count ARP and neighbour discovery from other hosts",
                )
            })?;
        }
    }
    let detail = format!("{crossed} crossed, {answered} answered on the asking machine's host");
    let passed = crossed == 0 && answered > 0;
    Ok(Check::promised(
        "no ARP on the underlay",
        passed,
        detail,
        json!({ "crossed": crossed, "answered": answered }),
    ))
}
