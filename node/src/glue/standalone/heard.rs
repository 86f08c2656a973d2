//! When the claims of others are kept for this node's next life, and as what.
//!
//! A node that starts anew and knew nothing of who is on its networks would have to hear all of it again, from members that may be starting too, before a
//! frame could pass: twenty that started together took half a minute. So what it heard of the networks it is on is kept: soon after
//! somebody came, left or has other addresses, and now and then while claims are only renewed, so that those kept have not run out. What was kept is no more than
//! what others told and was verified; whoever has said something newer since is heard as ever.
//!
//! Owns: what was kept last of each network, and when that is due again. No clock, no disk.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use consort_overlay::HostId;
use consort_vswitch::NetworkId;

use super::core::Now;
use super::directory::{CLAIM_LIFETIME_S, HOSTS_MAX, Known};
use super::statement::{Claim, Refusal, Signed};

/// Hosts that join together are kept together.
const SOON_MS: u64 = 2_000;
/// Of claims that were only renewed. Renewed thrice in their life and kept twice between, those kept are good for half of it.
const RENEWALS_MS: u64 = CLAIM_LIFETIME_S / 6 * 1_000;

/// What was kept, and when it is due again.
#[derive(Debug, Default)]
pub(super) struct Heard {
    due: BTreeMap<NetworkId, Now>,
    kept: BTreeMap<NetworkId, u64>,
}

impl Heard {
    /// Something was heard of a network this host is on.
    pub(super) fn heard(&mut self, now: Now, known: &Known, me: HostId) {
        let id = known.definition.id;
        let is_kept = self.kept.get(&id) == Some(&digest(known, me));
        let at = Now(now.0 + if is_kept { RENEWALS_MS } else { SOON_MS });
        let due = self.due.entry(id).or_insert(at);
        *due = (*due).min(at);
    }

    /// A network this host is on no more.
    pub(super) fn forget(&mut self, id: NetworkId) {
        self.due.remove(&id);
        self.kept.remove(&id);
    }

    /// Networks that are due.
    pub(super) fn due(&self, now: Now) -> Vec<NetworkId> {
        self.due.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect()
    }

    pub(super) fn poll_timeout(&self) -> Option<Now> {
        self.due.values().min().copied()
    }

    /// What to keep now.
    pub(super) fn keep(&mut self, known: &Known, me: HostId) -> Vec<u8> {
        let id = known.definition.id;
        self.due.remove(&id);
        self.kept.insert(id, digest(known, me));
        let claims: Vec<&Signed> = of_others(known, me).map(|claim| &claim.signed).collect();
        postcard::to_stdvec(&claims).expect("claims hold nothing postcard cannot write")
    }
}

/// The claims that were kept.
///
/// # Errors
/// If the bytes are no claims.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Claim>, Refusal> {
    let (signed, []) = postcard::take_from_bytes::<Vec<Signed>>(bytes).map_err(|_| Refusal::Malformed)?
    else {
        return Err(Refusal::Malformed);
    };
    signed.into_iter().take(HOSTS_MAX).map(Claim::read).collect()
}

fn of_others(known: &Known, me: HostId) -> impl Iterator<Item = &Claim> {
    known.joined().filter(move |claim| claim.said.host != me)
}

/// Of who is on it, with which addresses; renewed claims have the same.
fn digest(known: &Known, me: HostId) -> u64 {
    let mut hasher = DefaultHasher::new();
    for claim in of_others(known, me) {
        claim.said.host.hash(&mut hasher);
        claim.said.standing.hash(&mut hasher);
    }
    hasher.finish()
}
