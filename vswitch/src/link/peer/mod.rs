//! The link to one peer. It routes inputs to its parts ([`Slots`], [`Channel`]s, [`PathMtu`], [`Liveness`], [`Hold`]) and turns
//! what they ask for into sealed messages and events; rules stand in the parts.
//!
//! | file | what it is about |
//! |---|---|
//! | `wishes` | what node wants |
//! | `ways` | which way datagrams go |
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
mod ways;
mod wishes;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use super::{
    channel::Channel, counters::LinkCounters, event::LinkDownReason, hold::Hold, liveness::Liveness,
    path_mtu::PathMtu, slots::Slots, watch::Watch,
};
use crate::{
    HostId,
    path::{Origin, Via, Ways},
    session::{CookieJar, PublicKey},
    switch::{NetworkId, PeerIndex},
    wire::control::{Control, GrantDigest},
};

/// Networks one link carries: more than two hosts of one tenant share; a channel takes about 1 KiB with its grant.
const CHANNELS_MAX: usize = 256;

/// What the host's paths must know of what happened to a link.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The session's datagrams come from there.
    pub(super) heard: Option<Origin>,
    /// The peer began another life.
    pub(super) reborn: bool,
    /// What is sent is not answered.
    pub(super) suspect: bool,
    /// A round trip on the path in use.
    pub(super) sample: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: PeerIndex,
    pub(super) host: HostId,
    pub(super) key: PublicKey,
    ways: Ways,
    /// What is sent goes this way.
    via: Option<Via>,
    /// Where the last initiation went.
    tried: Vec<Via>,
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
    watch: Watch,
    /// Silence before this is none: nothing was asked.
    used_since: Instant,
    asleep: Arc<AtomicBool>,
    notes: Notes,
    hold: Hold,
    counters: Arc<LinkCounters>,
    up: bool,
    /// Wanted and in use, whether frames pass or not.
    kept: bool,
    down: Option<LinkDownReason>,
    idle_since: Option<Instant>,
    unknown_told: Option<Instant>,
    questions: (Instant, u32),
    noted: (Instant, u32),
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
            ways: Ways::default(),
            via: None,
            tried: Vec::new(),
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
            watch: Watch::new(now),
            used_since: now,
            asleep: Arc::default(),
            notes: Notes::default(),
            hold: Hold::default(),
            counters: Arc::default(),
            up: false,
            kept: false,
            down: None,
            idle_since: None,
            unknown_told: None,
            questions: (now, 0),
            noted: (now, 0),
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
