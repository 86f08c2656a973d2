//! What hosts send each other on one network: the traffic matrix, from the switches' own counters.
//!
//! Each host counts, for each other host on a network, the bytes of frames that its switch sends it. Whoever wants the matrix asks each host of the
//! network for its row by `traffic/1`; a host looks at its counters twice, [`WINDOW`] apart, and answers with totals and rates. So nothing is kept and
//! nothing runs while nobody asks.
//!
//! | message | layout |
//! |---|---|
//! | request | network id (16) |
//! | response | version (1), then postcard: a list of [`Cell`] |
//!
//! Only a host that is on the network itself is answered: who talks to whom is the tenant's business. Owns: the question, the answer, the bytes.
//! Refuses to know: how it is shown, and what follows from it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use consort_overlay::{HostId, Overlay};
use consort_scheduler::bounded::List;
use consort_vswitch::{DataPlane, NetworkId, Snapshot};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::protocols;

/// Over which time rates are measured: what programs send in rounds evens out, and a person waits no longer.
pub const WINDOW: Duration = Duration::from_secs(1);

/// Hosts that are asked, and in an answer: as many as a slice has machines. Those beyond are counted and left out.
pub const HOSTS_MAX: usize = 256;

/// Bytes of a request.
pub const REQUEST_BYTES: usize = 16;

/// The longest answer: a name of 39 bytes with its length and two numbers of 10 for each host.
pub const RESPONSE_BYTES_MAX: usize = 1 + 3 + HOSTS_MAX * (40 + 10 + 10);

const VERSION: u8 = 1;

/// What one host sent another on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// To whom.
    pub to: HostId,
    /// Since the two share the network.
    pub bytes: u64,
    /// In the last [`WINDOW`].
    pub bytes_per_s: u64,
}

/// All rows that were answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matrix {
    /// What each host sent.
    pub rows: BTreeMap<HostId, Vec<Cell>>,
    /// Hosts that did not answer.
    pub silent: Vec<HostId>,
    /// Hosts that were not asked: too many.
    pub left_out: usize,
}

/// This host's row.
pub async fn row(data: &DataPlane, network: NetworkId) -> Vec<Cell> {
    let (before, since) = (sent(&data.snapshot(), network), Instant::now());
    tokio::time::sleep(WINDOW).await;
    let (now, seconds) = (sent(&data.snapshot(), network), since.elapsed().as_secs_f64());
    let cell = |(to, bytes): (&HostId, &u64)| {
        let more = bytes.saturating_sub(before.get(to).copied().unwrap_or_default());
        Cell { to: *to, bytes: *bytes, bytes_per_s: per_second(more, seconds) }
    };
    now.iter().map(cell).take(HOSTS_MAX).collect()
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people; the time is that of a wait"
)]
fn per_second(bytes: u64, seconds: f64) -> u64 {
    (bytes as f64 / seconds) as u64
}

fn sent(snapshot: &Snapshot, network: NetworkId) -> BTreeMap<HostId, u64> {
    let channels = snapshot.links.iter().flat_map(|link| {
        let of = link.channels.iter().filter(|channel| channel.network == network);
        of.map(|channel| (link.peer, channel.frame_bytes_sent))
    });
    channels.collect()
}

/// Asks every host of a network, this one included, at the same time.
pub async fn ask_all(overlay: &Overlay, data: &DataPlane, network: NetworkId, others: &[HostId]) -> Matrix {
    let mut asking = JoinSet::new();
    for host in others.iter().take(HOSTS_MAX).copied() {
        let overlay = overlay.clone();
        asking.spawn(async move {
            let answer = overlay.call(host, protocols::TRAFFIC, network.0.to_vec()).await;
            (host, answer.ok().and_then(|bytes| decode(&bytes)))
        });
    }
    let mut matrix = Matrix { left_out: others.len().saturating_sub(HOSTS_MAX), ..Matrix::default() };
    matrix.rows.insert(overlay.local_id(), row(data, network).await);
    while let Some(answered) = asking.join_next().await {
        match answered {
            Ok((host, Some(cells))) => drop(matrix.rows.insert(host, cells)),
            Ok((host, None)) => matrix.silent.push(host),
            Err(error) => tracing::error!(%error, "a question about traffic ended"),
        }
    }
    matrix.silent.sort_unstable();
    matrix
}

/// The network a request is about; none if it is not one.
#[must_use]
pub fn decode_request(body: &[u8]) -> Option<NetworkId> {
    body.try_into().ok().map(NetworkId)
}

/// A row as it travels.
#[must_use]
pub fn encode(cells: &[Cell]) -> Vec<u8> {
    let cells = List::<Cell, HOSTS_MAX>::first_of(cells.iter().copied());
    let body = postcard::to_stdvec(&cells).expect("a row holds nothing postcard cannot write");
    [&[VERSION], &body[..]].concat()
}

/// From the bytes of an answer; none if they are not one of this version.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Vec<Cell>> {
    let body = bytes.strip_prefix(&[VERSION]).filter(|_| bytes.len() <= RESPONSE_BYTES_MAX)?;
    match postcard::take_from_bytes::<List<Cell, HOSTS_MAX>>(body) {
        Ok((cells, [])) => Some(cells.to_vec()),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(count: usize) -> Vec<Cell> {
        let cell = |_| Cell { to: HostId::random(), bytes: u64::MAX, bytes_per_s: u64::MAX };
        (0..count).map(cell).collect()
    }

    #[test]
    fn rows_come_out_as_they_went_in_and_nothing_else_does() {
        for count in [0, 1, HOSTS_MAX] {
            let row = cells(count);
            let bytes = encode(&row);
            assert!(bytes.len() <= RESPONSE_BYTES_MAX, "{}", bytes.len());
            assert_eq!(decode(&bytes), Some(row));
            for cut in (0..bytes.len()).step_by(7) {
                assert_eq!(decode(&bytes[..cut]), None, "{cut}");
            }
            assert_eq!(decode(&[&bytes[..], &[0]].concat()), None, "trailing bytes");
        }
        assert_eq!(decode(&[2, 0]), None, "another version");
        assert_eq!(
            encode(&cells(HOSTS_MAX + 1)).len(),
            encode(&cells(HOSTS_MAX)).len(),
            "the rest is left out"
        );
        assert_eq!(decode_request(&[7; 16]), Some(NetworkId([7; 16])));
        assert_eq!(decode_request(&[7; 15]), None);
    }
}
