//! News on its way: own to every connected member, others' to a few, and comparisons.
//!
//! Everything here runs in tasks of its own, of which there are at most [`super::SENDS_MAX`]; what finds no place is told by a later comparison.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consort_overlay::HostId;

use super::{COMPARE_MIN, Task};
use crate::glue::protocols;
use crate::glue::standalone::directory::Item;
use crate::glue::standalone::exchange::{connected, exchange, some_of};
use crate::glue::standalone::message::{ITEMS_MAX, Request};

/// News that waits to be told. What is beyond is told by a later comparison.
const NEWS_MAX: usize = ITEMS_MAX;
/// After news, how long the next waits for more: hosts that join together cost two messages, and one that joins alone is known at once. What waited for its
/// address waits no longer than that.
const NEWS_PAUSE: Duration = Duration::from_millis(100);
/// Members that news of others is passed on to. With six each, one in four hundred hears it only by a comparison.
const PASS_ON_TO: usize = 6;

/// What waits to be told.
#[derive(Debug, Default)]
pub(super) struct News {
    own: Vec<Item>,
    of_others: Vec<Item>,
    pub(super) tell_at: Option<Instant>,
    told: Option<Instant>,
}

impl News {
    pub(super) fn push(&mut self, item: Item, own: bool) {
        let list = if own { &mut self.own } else { &mut self.of_others };
        if list.len() < NEWS_MAX {
            list.push(item);
        }
        let now = Instant::now();
        let at = self.told.map_or(now, |told| (told + NEWS_PAUSE).max(now));
        self.tell_at.get_or_insert(at);
    }
}

impl Task {
    /// News to tell; what changed here may have changed elsewhere, so comparisons are soon again.
    pub(super) fn tell_soon(&mut self, item: Item, own: bool) {
        self.news.push(item, own);
        self.compare_wait = COMPARE_MIN;
        self.compare_at = self.compare_at.min(Instant::now() + COMPARE_MIN);
    }

    /// Tells own news to every connected member, others' to some.
    pub(super) async fn tell_news(&mut self) {
        let told = News { told: Some(Instant::now()), ..News::default() };
        let News { own, of_others, .. } = std::mem::replace(&mut self.news, told);
        let members = connected(&self.parts.overlay).await;
        let some: BTreeSet<HostId> = some_of(members.clone(), PASS_ON_TO).into_iter().collect();
        for host in members {
            let items =
                if some.contains(&host) { [own.clone(), of_others.clone()].concat() } else { own.clone() };
            for part in items.chunks(ITEMS_MAX) {
                self.tell(host, part.to_vec());
            }
        }
    }

    fn tell(&self, host: HostId, items: Vec<Item>) {
        let Ok(place) = Arc::clone(&self.sends).try_acquire_owned() else { return };
        let overlay = self.parts.overlay.clone();
        tokio::spawn(async move {
            let told = overlay.call(host, protocols::NETWORKS, Request::Tell(items).encode()).await;
            drop(place);
            if let Err(error) = told {
                tracing::debug!(%host, %error, "a member could not be told of networks");
            }
        });
    }

    pub(super) fn compare_with(&self, host: HostId) {
        let Ok(place) = Arc::clone(&self.sends).try_acquire_owned() else { return };
        let (overlay, own) = (self.parts.overlay.clone(), self.own.clone());
        tokio::spawn(async move {
            let Some(inputs) = own.upgrade() else { return };
            exchange(&overlay, &inputs, host).await;
            drop(place);
        });
    }
}
