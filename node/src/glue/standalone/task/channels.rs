//! Channels of the networks this host is on: its claim presented to others, theirs judged.

use std::time::Duration;

use consort_overlay::HostId;
use consort_vswitch::{ChannelRequest, Event, GrantRefusal, NetworkId};

use super::{Attachment, Task, now};
use crate::glue::standalone::directory::{CLAIM_LIFETIME_S, Item};
use crate::glue::standalone::statement::{Claim, Signed};

/// The longest a channel is granted for; it is asked for again before.
const CHANNEL_VALID: Duration = Duration::from_secs(120);

impl Task {
    /// Presents this host's claim to all others on the network.
    pub(super) fn offer_all(&self, id: NetworkId) {
        let me = self.parts.overlay.local_id();
        for seat in self.core.seats(id).iter().filter(|seat| seat.host != me) {
            self.offer(id, seat.host);
        }
    }

    fn offer(&self, id: NetworkId, host: HostId) {
        let Some(own) = self.core.own(id) else { return };
        if let Err(error) = self.parts.data.offer_grant(id, host, own.claim.signed.encode()) {
            tracing::error!(network = %id, %host, %error, "no channel can be opened to the host");
        }
    }

    pub(super) async fn channel(&mut self, event: Event) {
        match event {
            Event::ChannelRequested { request, peer, network, grant } => {
                let verdict = self.judge(peer, network, &grant).await;
                if let Err(refusal) = verdict {
                    tracing::info!(%peer, %network, ?refusal, "a peer's channel is refused");
                }
                self.answer(request, verdict);
            }
            Event::ChannelRefused { peer, network, reason } => {
                tracing::info!(%peer, %network, ?reason, "the peer does not let this host into the network yet");
            }
            Event::LinkUp { peer } => {
                // A link that is new has none of the grants its predecessor had.
                let attached: Vec<NetworkId> = self.attachments.keys().copied().collect();
                for id in attached {
                    if self.core.seats(id).iter().any(|seat| seat.host == peer) {
                        self.offer(id, peer);
                    }
                }
            }
            _ => {}
        }
    }

    fn answer(&self, request: ChannelRequest, verdict: Result<Duration, GrantRefusal>) {
        self.parts.data.answer_channel(request, verdict);
    }

    /// For how long a peer may send frames of a network: as long as its claim counts.
    async fn judge(
        &mut self,
        peer: HostId,
        network: NetworkId,
        grant: &[u8],
    ) -> Result<Duration, GrantRefusal> {
        if !matches!(self.attachments.get(&network), Some(Attachment::Up(_))) {
            return Err(GrantRefusal::NetworkUnknown);
        }
        let signed = Signed::decode(grant).map_err(|_| GrantRefusal::Invalid)?;
        let claim = Claim::read(signed.clone()).map_err(|_| GrantRefusal::Invalid)?;
        if claim.said.host != peer || claim.network() != network {
            return Err(GrantRefusal::NotYours);
        }
        // A peer may be quicker than the news of it.
        self.hear(&[Item::Claim(signed)]).await;
        let _unkept = self.drain().await;
        if !self.members.known.contains(&peer) {
            return Err(GrantRefusal::NotYours);
        }
        let known = self.core.directory().network(network).and_then(|known| known.claims.get(&peer));
        let counts = known.filter(|claim| claim.is_joined()).ok_or(GrantRefusal::Expired)?;
        let left = (counts.said.issued_s + CLAIM_LIFETIME_S).saturating_sub(now().0 / 1_000);
        Ok(Duration::from_secs(left).min(CHANNEL_VALID))
    }
}
