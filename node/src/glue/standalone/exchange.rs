//! One comparison with one member: what it knows of networks and this host does not, and the other way round.
//!
//! Owns the order of the messages. Anything may fail on the way; then the next comparison does the rest.

use std::time::Duration;

use consort_overlay::{HostId, Overlay};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use tokio::sync::mpsc;

use super::message::{Differ, ITEMS_MAX, Request};
use super::task::{Input, ask};
use crate::glue::protocols;
use crate::state::keys::fill_random;

/// Comparisons until two hosts know the same: one, unless a message could not hold everything.
const ROUNDS_MAX: usize = 8;
/// How long one may take that somebody waits for.
const WITHIN: Duration = Duration::from_secs(2);
/// Members compared with at once when somebody waits: with this many, whoever joined lately is heard of.
const MEMBERS_MAX: usize = 16;

/// Compares with `host` until both know the same; false if it could not be reached.
pub(super) async fn exchange(overlay: &Overlay, inputs: &mpsc::Sender<Input>, host: HostId) -> bool {
    for _ in 0..ROUNDS_MAX {
        let Some(digests) = ask(inputs, Input::Digests).await else { return false };
        let answer = overlay.call(host, protocols::NETWORKS, Request::Compare(digests).encode()).await;
        let differ = match answer.map(|bytes| Differ::decode(&bytes)) {
            Ok(Ok(differ)) => differ,
            Ok(Err(error)) => {
                tracing::warn!(%host, %error, "the member's answer about networks is of no use");
                return false;
            }
            Err(error) => {
                tracing::debug!(%host, %error, "the member could not be asked about networks");
                return false;
            }
        };
        let Differ { items, wanted } = differ;
        let heard = items.len();
        let _stopping = ask(inputs, |reply| Input::Hear { items, reply }).await;
        let told = ask(inputs, |reply| Input::Items { ids: wanted, items_max: ITEMS_MAX, reply }).await;
        let told = told.unwrap_or_default();
        let nothing_told = told.is_empty();
        if !nothing_told
            && let Err(error) = overlay.call(host, protocols::NETWORKS, Request::Tell(told).encode()).await
        {
            tracing::debug!(%host, %error, "the member could not be told of networks");
            return false;
        }
        if heard == 0 && nothing_told {
            break;
        }
    }
    true
}

/// Compares with every member that is connected, all at once; those that take too long are left.
pub(super) async fn exchange_with_all(overlay: &Overlay, inputs: &mpsc::Sender<Input>) {
    let mut comparisons = tokio::task::JoinSet::new();
    for host in some_of(connected(overlay).await, MEMBERS_MAX) {
        let (overlay, inputs) = (overlay.clone(), inputs.clone());
        comparisons.spawn(async move { exchange(&overlay, &inputs, host).await });
    }
    let all = async { while comparisons.join_next().await.is_some() {} };
    if tokio::time::timeout(WITHIN, all).await.is_err() {
        tracing::debug!("some members did not compare their networks in time");
    }
}

/// The members that are connected.
pub(super) async fn connected(overlay: &Overlay) -> Vec<HostId> {
    let peers = overlay.peers().await.unwrap_or_default();
    let up =
        |state: &consort_overlay::PeerState| matches!(state, consort_overlay::PeerState::Connected { .. });
    peers.into_iter().filter(|peer| up(&peer.state)).map(|peer| peer.host).collect()
}

/// Some of them, by lot.
pub(super) fn some_of(mut hosts: Vec<HostId>, count: usize) -> Vec<HostId> {
    let mut rng = random();
    for at in 0..count.min(hosts.len()) {
        let left = u64::try_from(hosts.len() - at).unwrap_or(1);
        let offset = usize::try_from(rng.next_u64() % left).unwrap_or(0);
        hosts.swap(at, at + offset);
    }
    hosts.truncate(count);
    hosts
}

/// A generator for whom to tell: it decides nothing that anybody could gain by.
fn random() -> ChaCha8Rng {
    let mut seed = [0; 32];
    if let Err(failure) = fill_random(&mut seed) {
        tracing::warn!(%failure, "no randomness: the same members are told again");
    }
    ChaCha8Rng::from_seed(seed)
}
