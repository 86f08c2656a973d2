//! What workers need to know of links: never changed, replaced as a whole.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use super::counters::{Count, LinkCounters};
use crate::{
    path::{Line, Origin, Probers, RelayTable, Via},
    session::Session,
    switch::{NetworkId, PeerIndex},
};

/// All links, as workers see them until the next publication.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// By the index in a datagram.
    pub(crate) sessions: HashMap<u32, Arc<Session>>,
    /// By peer.
    pub(crate) peers: HashMap<PeerIndex, Arc<Route>>,
    /// Whose a probe is.
    pub(crate) probers: Arc<Probers>,
    /// What is forwarded for others.
    pub(crate) relay: Arc<RelayTable>,
}

/// The way to one peer.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) peer: PeerIndex,
    /// Present while the link is up.
    pub(crate) sending: Option<Sending>,
    /// Sorted by network: channels that are open or may become so; for any other network frames are refused.
    pub(crate) send: Vec<SendChannel>,
    /// Sorted by number: what the peer may send.
    pub(crate) receive: Vec<(u32, NetworkId, Instant)>,
    pub(crate) counters: Arc<LinkCounters>,
    /// Nobody looks after the link: the next one who sends shall say so, and take this away.
    pub(crate) asleep: Arc<AtomicBool>,
}

/// What a network's frames to the peer need.
#[derive(Debug)]
pub(crate) struct SendChannel {
    pub(crate) network: NetworkId,
    pub(crate) state: SendState,
    /// Bytes of frames sent on it.
    pub(crate) frame_bytes: Arc<Count>,
}

/// With what and where to.
#[derive(Debug, Clone)]
pub(crate) struct Sending {
    pub(crate) session: Arc<Session>,
    pub(crate) via: Via,
    /// Where the peer's datagrams come from if they tell nothing new.
    pub(crate) known: Vec<Origin>,
    /// The largest datagram the path takes, with what stands before it.
    pub(crate) datagram_bytes: usize,
    /// What bounds the rate of the way's first link, if anything does.
    pub(crate) line: Option<Arc<Line>>,
}

impl Sending {
    /// Whether a datagram came by a way that is not known.
    #[inline]
    pub(crate) fn elsewhere(&self, origin: &Origin) -> bool {
        !self.known.iter().any(|known| known.same(origin))
    }
}

/// Whether frames of a network may go to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendState {
    Open {
        channel: u32,
        until: Instant,
    },
    /// Hold the frame: the link or channel is being opened.
    Waiting,
}

impl Route {
    /// Whether frames of this network may go to the peer; none: not as things are.
    #[inline]
    pub(crate) fn send_channel(&self, network: NetworkId) -> Option<&SendChannel> {
        let place = self.send.binary_search_by_key(&network, |channel| channel.network).ok()?;
        Some(&self.send[place])
    }

    /// The network of a channel number, if the peer may send on it now.
    #[inline]
    pub(crate) fn receive_network(&self, channel: u32, now: Instant) -> Result<NetworkId, NotReceivable> {
        let place = self
            .receive
            .binary_search_by_key(&channel, |(number, ..)| *number)
            .map_err(|_| NotReceivable::Unknown)?;
        let (_, network, until) = self.receive[place];
        if now < until { Ok(network) } else { Err(NotReceivable::Lapsed) }
    }
}

/// Why a frame is not taken from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotReceivable {
    /// No such channel: the peer should be told.
    Unknown,
    /// Its time is over; the peer knows.
    Lapsed,
}
