//! A file fetched over HTTP between two machines on different hosts, its hash compared with what a third party computes.
//!
//! On the way a token that exists nowhere else is asked for by name, so that the underlay can be searched for it.

use serde_json::json;

use super::{GUEST, addresses, between, bracketed, distant_pair, figure, full_name};
use crate::control::api::Slice;
use crate::control::client::Client;
use crate::demo::exec::{Background, exec};
use crate::demo::report::Check;
use crate::failure::Failure;

const NAME: &str = "a file over HTTP";
const PORT: &str = "8080";
/// Long enough to need many frames and to leave TCP's slow start.
const FILE_BYTES: u64 = 16 << 20;

/// Serves, fetches over each IP version, compares; `token` is asked for in between and cannot be found.
pub(in crate::demo) async fn fetched(client: &Client, slice: &Slice, token: &str) -> Result<Check, Failure> {
    let Some((from, to)) = distant_pair(slice) else {
        return Ok(Check::measured(NAME, "needs two machines", serde_json::Value::Null));
    };
    let (server, fetcher) = (full_name(slice, from), full_name(slice, to));
    let _serving =
        Background::start(client, &server, &[GUEST, "http", "serve", "--port", PORT], "serving").await?;
    let length = FILE_BYTES.to_string();
    let wanted = exec(client, &fetcher, &[GUEST, "http", "expect", &length]).await?.stdout.trim().to_owned();
    let mut got = Vec::new();
    let mut rates = Vec::new();
    for address in addresses(from) {
        let place = format!("http://{}:{PORT}", bracketed(&address));
        let secret =
            exec(client, &fetcher, &[GUEST, "http", "fetch", "--json", &format!("{place}/{token}")]).await?;
        if secret.json()?["status"] != 404 {
            return Ok(Check::promised(NAME, false, format!("{place}: {}", secret.last_line()), json!(null)));
        }
        let url = format!("{place}/bytes/{length}");
        let answer = exec(client, &fetcher, &[GUEST, "http", "fetch", "--json", &url]).await?.json()?;
        got.push(answer["sha256"].as_str().unwrap_or("nothing").to_owned());
        rates.push(figure(&answer, "/bytes") * 8.0 / figure(&answer, "/seconds") / 1e9);
    }
    let same = !got.is_empty() && !wanted.is_empty() && got.iter().all(|hash| *hash == wanted);
    let detail = format!(
        "{} MiB {}: sha256 {}",
        FILE_BYTES >> 20,
        between(from, to),
        if same { "the same over each IP version" } else { "DIFFERS" }
    );
    Ok(Check::promised(NAME, same, detail, json!({ "wanted": wanted, "got": got, "gbit_per_s": rates })))
}
