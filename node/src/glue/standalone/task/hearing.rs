//! What other hosts say, and whether who is spoken of is a member of the overlay.
//!
//! Whoever was once known as a member counts as one until somebody is put out; then only who is known at that moment does. A host
//! that is not known is connected to: the overlay connects members only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consort_overlay::{HostId, Reply};

use super::{Task, now};
use crate::glue::standalone::directory::{CLAIMS_MAX, Item};
use crate::glue::standalone::message::{Differ, ITEMS_MAX, Request};

/// How often the members known are asked for again because a stranger was named.
const MEMBERS_AGAIN: Duration = Duration::from_millis(500);
/// Hosts whose membership is being proved by connecting to them.
const PROVING_MAX: usize = 8;

/// Hosts that are known to be members.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) known: BTreeSet<HostId>,
    asked: Option<Instant>,
    proving: BTreeSet<HostId>,
}

impl Task {
    pub(super) async fn request(&mut self, body: &[u8], reply: Reply) {
        match Request::decode(body) {
            Ok(Request::Compare(digests)) => {
                let (tell, wanted) = self.core.directory().compare(&digests);
                let items = self.core.directory().items(&tell, ITEMS_MAX);
                reply.send(Differ { items, wanted }.encode());
            }
            Ok(Request::Tell(items)) => {
                self.hear(&items).await;
                reply.send(Vec::new());
            }
            Err(_) => reply.refuse_malformed(),
        }
    }

    /// Takes what another host told. Hosts it speaks of count when they are known as members.
    pub(super) async fn hear(&mut self, items: &[Item]) {
        let stranger = |item: &Item| item.claimant().is_some_and(|host| !self.members.known.contains(&host));
        let asked_lately = self.members.asked.is_some_and(|at| at.elapsed() < MEMBERS_AGAIN);
        if items.iter().any(stranger) && !asked_lately {
            self.refresh_members().await;
        }
        let known = &self.members.known;
        let unproved = self.core.handle_items(now(), items, |host| known.contains(&host));
        unproved.into_iter().for_each(|host| self.prove(host));
    }

    /// Asks the overlay whom it knows as members; those proved before stay.
    pub(super) async fn refresh_members(&mut self) {
        self.members.asked = Some(Instant::now());
        let members = self.parts.overlay.members().await.unwrap_or_default();
        let mut known: BTreeSet<HostId> = members.into_iter().map(|member| member.host).collect();
        known.insert(self.parts.overlay.local_id());
        if self.members.known.len() > CLAIMS_MAX {
            self.members.known.clear();
        }
        self.members.known.append(&mut known);
    }

    /// Hosts whose claims were kept were members in this node's earlier life, and count as such until it hears that somebody was put out.
    pub(super) fn trust_kept(&mut self) {
        let seats = self.core.joined().flat_map(|id| self.core.seats(id));
        self.members.known.extend(seats.map(|seat| seat.host));
    }

    /// A host that is not known as a member is connected to: whoever is connected has proved it.
    fn prove(&mut self, host: HostId) {
        self.members.proving.retain(|proving| !self.members.known.contains(proving));
        if self.members.proving.len() >= PROVING_MAX {
            // Forgotten all at once: each is tried again when it is named again.
            self.members.proving.clear();
        }
        if !self.members.proving.insert(host) {
            return;
        }
        let Ok(place) = Arc::clone(&self.sends).try_acquire_owned() else { return };
        let overlay = self.parts.overlay.clone();
        tokio::spawn(async move {
            // What comes of it is told as a peer that is up.
            let connected = overlay.connect(host).await;
            drop(place);
            tracing::debug!(%host, ?connected, "a host on a network is not known as a member: connected to it");
        });
    }

    /// Somebody was put out: only who is known as a member now still counts. Others prove it anew.
    pub(super) async fn put_out(&mut self) {
        self.members.known.clear();
        self.members.proving.clear();
        self.refresh_members().await;
        let known = &self.members.known;
        self.core.handle_put_out(|host| known.contains(&host));
    }
}
