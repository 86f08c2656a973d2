//! Whom a request may ask, and who keeps a slice's record: chosen from the overlay's view.
//!
//! Everything here is a hint. A host in the view may be gone, full or lying; the engine asks, and only its answer counts.

use consort_overlay::{HostId, Overlay, PeerState};
use consort_scheduler::engine::{Advert, Candidate};
use consort_scheduler::limits::CANDIDATES_MAX;
use consort_scheduler::request::choose_stewards;
use rand_core::Rng;

use super::describe::Description;

/// The hosts of the view with their adverts, and this host.
pub async fn candidates(overlay: &Overlay, own: Option<Advert>) -> Vec<Candidate> {
    let mut all = vec![Candidate { host: overlay.local_id(), advert: own }];
    let records = overlay.view().await.unwrap_or_default();
    all.extend(records.iter().take(CANDIDATES_MAX - 1).map(|record| Candidate {
        host: record.host,
        advert: Description::decode(&record.payload).ok().map(|description| description.advert),
    }));
    all
}

/// The hosts to ask about slices that this node does not know.
pub async fn hosts(overlay: &Overlay) -> Vec<HostId> {
    overlay.view().await.unwrap_or_default().iter().map(|record| record.host).collect()
}

/// Who keeps the record of a slice that this node coordinates: drawn from this host and those it is connected with, since a steward
/// that cannot be reached is none.
pub async fn stewards(overlay: &Overlay, rng: &mut impl Rng) -> Vec<HostId> {
    let peers = overlay.peers().await.unwrap_or_default();
    let connected: Vec<Candidate> = peers
        .into_iter()
        .filter(|peer| matches!(peer.state, PeerState::Connected { .. }))
        .map(|peer| Candidate { host: peer.host, advert: None })
        .collect();
    choose_stewards(overlay.local_id(), &connected, rng)
}
