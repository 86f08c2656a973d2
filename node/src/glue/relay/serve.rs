//! This host as a relay: who may have a leg, and the leg.
//!
//! The overlay says who asks, and that it is a member. This file checks that the owner relays, that the route leads through this host, that the
//! operator's topology allows it, and that the two neighbours on the route are known; the data plane keeps the owner's caps, the operator's rate for this
//! host where that is less, and the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use consort_overlay::HostId;
use consort_vswitch::DataPlane;
use consort_vswitch::path::{RelayLeg, RelayPolicy, RelayRefusal, TOKENS_MAX};

use super::message::{Refusal, Response};
use crate::config::resolved;
use crate::glue::peers::PeerNews;
use crate::glue::wanted::{Wanted, Wanter};
use crate::glue::ways::Ways;

/// How long a leg holds unless it is asked for again: long enough for two lost renewals, short enough that who vanished frees his place soon.
pub const LEG_LIFE: Duration = Duration::from_secs(120);

/// Legs per host served: two directions of ways to a dozen others.
const LEGS_PER_PEER: usize = 24;

/// This host as a relay.
#[derive(Debug, Clone)]
pub struct Server {
    me: HostId,
    data: DataPlane,
    peers: PeerNews,
    ways: Ways,
    wanted: Wanted,
    allowed: Option<resolved::Relay>,
    /// Hosts that legs begin or end at, and until when the data plane must know them: at most [`TOKENS_MAX`].
    served: Arc<Mutex<BTreeMap<HostId, Instant>>>,
}

impl Server {
    /// With what its owner allows.
    #[must_use]
    pub fn new(
        me: HostId,
        data: DataPlane,
        peers: PeerNews,
        ways: Ways,
        wanted: Wanted,
        allowed: Option<resolved::Relay>,
    ) -> Self {
        let this = Self { me, data, peers, ways, wanted, allowed, served: Arc::default() };
        this.reshape();
        this
    }

    /// Tells the data plane what the owner and the operator allow now.
    pub fn reshape(&self) {
        self.data.set_relay(policy(self.allowed, self.ways.transit_rate()));
    }

    /// Whether it relays at all.
    #[must_use]
    pub fn relays(&self) -> bool {
        self.allowed.is_some()
    }

    /// Whether two more would be more than half of those whom its owner lets it serve: that half is for hosts that have no other path.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        (self.data.snapshot().relay.hosts + 2) * 2 > policy(self.allowed, None).peers_max
    }

    /// Opens a leg for `asker`, the end that sends, or says why not.
    pub async fn leg(
        &self,
        asker: HostId,
        to: HostId,
        route: &[HostId],
        at: u8,
        onward: Option<u32>,
    ) -> Response {
        match self.open(asker, to, route, at, onward).await {
            Ok(response) => response,
            Err(refusal) => {
                tracing::info!(%asker, %to, ?refusal, "no leg is opened");
                Response::Refused(refusal)
            }
        }
    }

    async fn open(
        &self,
        asker: HostId,
        to: HostId,
        route: &[HostId],
        at: u8,
        onward: Option<u32>,
    ) -> Result<Response, Refusal> {
        if !self.relays() {
            return Err(Refusal::NotAllowed);
        }
        let (from, next) = neighbours(self.me, asker, to, route, at.into(), onward).ok_or(Refusal::Route)?;
        let is_allowed = self.ways.may_relay(self.me)
            && self.ways.allows(from, self.me)
            && self.ways.allows(self.me, next);
        if !is_allowed {
            return Err(Refusal::Topology);
        }
        self.keep([from, next]);
        if !self.peers.learn(from).await || !self.peers.learn(next).await {
            return Err(Refusal::Unknown);
        }
        let leg = RelayLeg { from, to: next, onward, expires: LEG_LIFE };
        let tokens = self.data.relay_open(&leg).map_err(|refusal| match refusal {
            RelayRefusal::TokensFull | RelayRefusal::PeersFull => Refusal::Full,
            RelayRefusal::HostUnknown(_) => Refusal::Unknown,
            _ => Refusal::NotAllowed,
        })?;
        let lives_s = u16::try_from(LEG_LIFE.as_secs()).unwrap_or(u16::MAX);
        Ok(Response::Open { incoming: tokens.incoming, outgoing: tokens.outgoing, lives_s })
    }

    /// The data plane must know both while the leg lives.
    fn keep(&self, hosts: [HostId; 2]) {
        let now = Instant::now();
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.retain(|_, until| *until > now);
        // More than the owner's caps let in would be refused by the data plane a moment later.
        if served.len() + hosts.len() <= TOKENS_MAX {
            served.extend(hosts.map(|host| (host, now + 2 * LEG_LIFE)));
        }
        let all: BTreeSet<HostId> = served.keys().copied().collect();
        drop(served);
        self.wanted.set(Wanter::Relayed, all);
    }
}

/// The owner's word counts; the operator may want less.
fn policy(allowed: Option<resolved::Relay>, rate_bits_per_s: Option<u64>) -> RelayPolicy {
    let Some(allowed) = allowed else { return RelayPolicy::default() };
    let peers_max = usize::try_from(allowed.peers_max).unwrap_or(usize::MAX);
    RelayPolicy {
        enabled: true,
        rate_bits_per_s_max: allowed.rate_bits_per_s.min(rate_bits_per_s.unwrap_or(u64::MAX)),
        peers_max,
        tokens_max: peers_max.saturating_mul(LEGS_PER_PEER).min(TOKENS_MAX),
    }
}

/// Who is before and after this host on the route; none if it is no route through this host from `asker` to `to`.
fn neighbours(
    me: HostId,
    asker: HostId,
    to: HostId,
    route: &[HostId],
    at: usize,
    onward: Option<u32>,
) -> Option<(HostId, HostId)> {
    let all: BTreeSet<HostId> = route.iter().copied().chain([asker, to]).collect();
    let is_last = at + 1 == route.len();
    let is_route = route.get(at) == Some(&me) && all.len() == route.len() + 2 && is_last == onward.is_none();
    let from = if at == 0 { asker } else { *route.get(at - 1)? };
    let next = if is_last { to } else { *route.get(at + 1)? };
    is_route.then_some((from, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_leads_from_the_asker_through_this_host_once() {
        let [a, b, me, other] = [(); 4].map(|()| HostId::random());
        assert_eq!(neighbours(me, a, b, &[me], 0, None), Some((a, b)));
        assert_eq!(neighbours(me, a, b, &[me, other], 0, Some(7)), Some((a, other)));
        assert_eq!(neighbours(me, a, b, &[other, me], 1, None), Some((other, b)));
        for (route, at, onward) in [
            (&[me][..], 1, None),
            (&[other], 0, None),
            (&[], 0, None),
            // The last needs no token of another, and those before it do.
            (&[me], 0, Some(7)),
            (&[me, other], 0, None),
            (&[me, me], 0, Some(7)),
            (&[me, a], 0, Some(7)),
            (&[b, me], 1, None),
        ] {
            assert_eq!(neighbours(me, a, b, route, at, onward), None, "{route:?} {at}");
        }
        assert_eq!(neighbours(me, a, a, &[me], 0, None), None);
    }

    #[test]
    fn an_owner_who_says_nothing_lets_nothing_through() {
        assert!(!policy(None, Some(1_000_000)).enabled);
        let allowed = Some(resolved::Relay { rate_bits_per_s: 5_000_000, peers_max: 1_024 });
        let policy = policy(allowed, None);
        assert!(policy.enabled && policy.rate_bits_per_s_max == 5_000_000);
        assert_eq!(policy.tokens_max, TOKENS_MAX);
    }

    #[test]
    fn the_operator_may_want_less_than_the_owner_allows_and_not_more() {
        let allowed = Some(resolved::Relay { rate_bits_per_s: 5_000_000, peers_max: 8 });
        assert_eq!(policy(allowed, Some(1_000_000)).rate_bits_per_s_max, 1_000_000);
        assert_eq!(policy(allowed, Some(9_000_000)).rate_bits_per_s_max, 5_000_000);
    }
}
