//! Records of other hosts, kept for this node's next life: of those it shares a network with, so that a node that starts again knows at once where
//! they are and by which key, and asks nobody.
//!
//! Kept soon after this host wants others, and ever more seldom after that, down to once in `EVERY`: what is known of them may come late, and a record
//! is good for minutes only. Owns: when and which. Refuses to know what a record says; the overlay looks at each anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use consort_overlay::{HostId, HostRecord, Overlay};
use tokio::sync::watch;

use crate::failure::Failure;
use crate::state::store::{Change, Room, Store};

/// The key of the records in the overlay's room.
const KEY: &str = "records";
/// Records kept: each at most 4 KiB, as a rule a tenth of it.
const KEPT_MAX: usize = 256;
/// From a change of what is wanted until the first keeping.
const SOON: Duration = Duration::from_secs(2);
/// The longest between two. Records live three times as long and are renewed as often, so that those kept have five minutes left at the least.
const EVERY: Duration = Duration::from_secs(300);

/// The records of an earlier life.
///
/// # Errors
/// If the store cannot be read. Records that cannot be decoded are none.
pub fn read(store: &Store) -> Result<Vec<Vec<u8>>, Failure> {
    let Some(bytes) = store.read(Room::Overlay, KEY)? else { return Ok(Vec::new()) };
    Ok(postcard::from_bytes(&bytes).unwrap_or_else(|error| {
        tracing::warn!(%error, "the records of other hosts that were kept cannot be read");
        Vec::new()
    }))
}

/// Keeps them until the daemon ends.
pub async fn keep(overlay: Overlay, store: Store, mut wanted: watch::Receiver<BTreeSet<HostId>>) {
    let mut kept = Vec::new();
    let mut wait = SOON;
    loop {
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                wait = SOON;
                continue;
            }
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 4).min(EVERY);
        let Ok(view) = overlay.view().await else { return };
        let records = chosen(&view, &wanted.borrow());
        if records == kept {
            continue;
        }
        let value = postcard::to_stdvec(&records).expect("records hold nothing postcard cannot write");
        let change = Change { room: Room::Overlay, key: KEY.to_owned(), value: Some(value) };
        let store = store.clone();
        match tokio::task::spawn_blocking(move || store.write(&[change])).await {
            Ok(Ok(())) => kept = records,
            Ok(Err(error)) => tracing::error!(%error, "records of other hosts could not be kept"),
            Err(error) => tracing::error!(%error, "the store's thread ended"),
        }
    }
}

fn chosen(view: &[Arc<HostRecord>], wanted: &BTreeSet<HostId>) -> Vec<Vec<u8>> {
    let of_wanted = view.iter().filter(|record| wanted.contains(&record.host) && !record.payload.is_empty());
    let mut records: Vec<Vec<u8>> = of_wanted.take(KEPT_MAX).map(|record| record.bytes().to_vec()).collect();
    // The view's order means nothing.
    records.sort_unstable();
    records
}
