//! The link to one peer. It routes inputs to its parts ([`Slots`], [`Channel`]s, [`PathMtu`], [`Liveness`], [`Hold`]) and turns
//! what they ask for into sealed messages and events; rules stand in the parts.
//!
//! | file | what it is about |
//! |---|---|
//! | `wishes` | what node wants |
//! | `handshakes` | initiations, responses, cookies, the beginning and end of sessions |
//! | `opened` | what the peer said inside the seal |
//! | `outgoing` | frames that wait, messages to the peer |
//! | `upkeep` | what time does |
//! | `view` | what workers and people see |

mod handshakes;
mod opened;
mod outgoing;
mod upkeep;
mod view;
mod wishes;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    channel::Channel, counters::LinkCounters, event::LinkDownReason, hold::Hold, liveness::Liveness,
    path_mtu::PathMtu, slots::Slots,
};
use crate::{
    HostId,
    session::{CookieJar, PublicKey},
    switch::{NetworkId, PeerIndex},
    wire::control::{Control, GrantDigest},
};

/// Networks one link carries: more than two hosts of one tenant share; a channel takes about 1 KiB with its grant.
const CHANNELS_MAX: usize = 256;
/// Addresses of a peer that are tried: its own and what others saw of it. A few of them get each initiation.
const ADDRESSES_MAX: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: PeerIndex,
    pub(super) host: HostId,
    pub(super) key: PublicKey,
    addresses: Vec<SocketAddr>,
    endpoint: Option<SocketAddr>,
    slots: Slots,
    jar: CookieJar,
    /// The newest timestamp of the peer's initiations, and when it was taken.
    hello: Option<(u64, Instant)>,
    our_timestamp: u64,
    instance: Option<[u8; 8]>,
    channels: BTreeMap<NetworkId, Channel>,
    channel_serial: u32,
    mtu: PathMtu,
    probes: VecDeque<(u32, u16)>,
    probe_serial: u32,
    live: Liveness,
    hold: Hold,
    counters: Arc<LinkCounters>,
    up: bool,
    down: Option<LinkDownReason>,
    idle_since: Option<Instant>,
    unknown_told: Option<Instant>,
    questions: (Instant, u32),
    /// Workers must see another route.
    changed: bool,
}

impl Link {
    pub(super) fn new(
        peer: PeerIndex,
        host: HostId,
        key: PublicKey,
        now: Instant,
        datagram_limit: u16,
    ) -> Self {
        Self {
            peer,
            host,
            key,
            addresses: Vec::new(),
            endpoint: None,
            slots: Slots::default(),
            jar: CookieJar::default(),
            hello: None,
            our_timestamp: 0,
            instance: None,
            channels: BTreeMap::new(),
            channel_serial: 0,
            mtu: PathMtu::new(now, datagram_limit),
            probes: VecDeque::new(),
            probe_serial: 0,
            live: Liveness::new(now),
            hold: Hold::default(),
            counters: Arc::default(),
            up: false,
            down: None,
            idle_since: None,
            unknown_told: None,
            questions: (now, 0),
            changed: true,
        }
    }
}

/// More networks than a link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChannelsFull;

fn accept(network: NetworkId, grant: GrantDigest, channel: u32, left: Duration) -> Control<'static> {
    let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
    Control::Accept { network, grant, channel, seconds }
}
