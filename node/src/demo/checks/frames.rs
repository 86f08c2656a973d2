//! Full 1500-byte packets pass whole: pings that may not be cut, over both IP versions. Sealed, each is longer than the underlay's MTU,
//! so the link must have split and joined it.

use serde_json::json;

use super::{GUEST, addresses, between, distant_pair, full_name};
use crate::control::api::Slice;
use crate::control::client::Client;
use crate::demo::exec::exec;
use crate::demo::report::Check;
use crate::failure::Failure;

const NAME: &str = "1500-byte pings with DF";
/// What is left of 1500 bytes beside the IP and ICMP headers.
const IPV4_PAYLOAD: &str = "1472";
const IPV6_PAYLOAD: &str = "1452";

/// Sends some over each IP version.
pub(in crate::demo) async fn whole(client: &Client, slice: &Slice) -> Result<Check, Failure> {
    let Some((from, to)) = distant_pair(slice) else {
        return Ok(Check::measured(NAME, "needs two machines", serde_json::Value::Null));
    };
    let mut passed = true;
    let mut seen = Vec::new();
    for target in addresses(to) {
        let payload = if target.contains(':') { IPV6_PAYLOAD } else { IPV4_PAYLOAD };
        let argv = [GUEST, "ping", "-D", "-c", "5", "-s", payload, "--json", &target];
        let said = exec(client, &full_name(slice, from), &argv).await?;
        passed &= said.code == 0;
        seen.push(said.json()?);
    }
    let detail = format!(
        "{} over both IP versions {}",
        if passed { "pass" } else { "do NOT pass" },
        between(from, to)
    );
    Ok(Check::promised(NAME, passed, detail, json!(seen)))
}
