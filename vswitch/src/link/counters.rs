//! What links count: per link what passed, and for the whole host why datagrams were refused.
//!
//! Atomics, added to once per batch where the rate is high. A count moves for what its doc says and for nothing else.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($(#[$meta:meta])* $vis:vis struct $live:ident => $(#[$shown_meta:meta])* $shown:ident { $($(#[$doc:meta])* $name:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub(crate) struct $live { $($(#[$doc])* pub(crate) $name: Count,)+ }

        $(#[$shown_meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
        pub struct $shown { $($(#[$doc])* pub $name: u64,)+ }

        impl $live {
            pub(crate) fn read(&self) -> $shown {
                $shown { $($name: self.$name.read(),)+ }
            }
        }
    };
}

/// One count.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    #[inline]
    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

counters! {
    /// Of one link.
    pub struct LinkCounters => /// What passed over one link, and what did not.
    LinkCounts {
        /// Frames sealed for the peer (a frame that is cut counts once).
        frames_sent,
        /// Their bytes, as frames.
        frame_bytes_sent,
        /// Frames opened from the peer on an open channel.
        frames_received,
        /// Their bytes, as frames.
        frame_bytes_received,
        /// Datagrams sent with frames in them, and their bytes as UDP payload.
        datagrams_sent,
        /// See `datagrams_sent`.
        datagram_bytes_sent,
        /// Datagrams larger than the base size; what path MTU verification watches.
        large_datagrams_sent,
        /// Datagrams opened.
        datagrams_received,
        /// Frames cut because they exceed the path.
        frames_split,
        /// Frames joined from their parts.
        frames_joined,
        /// Frames not sent for want of an open channel: no grant, refused, or lapsed.
        no_grant_sent,
        /// Frames received on a channel that is not open, dropped.
        no_grant_received,
        /// Frames held until the link or channel opens.
        held,
        /// Held frames that were given up.
        held_dropped,
        /// Frames larger than a link carries.
        frame_too_large,
        /// Frames not sent because the session's counters are used up.
        session_exhausted,
        /// Datagrams the kernel did not take: its queue stayed full, or there is no way to the address.
        send_failed,
        /// Datagrams the local interface refused as too large.
        too_large_here,
        /// Datagrams beyond what the way's first link may carry.
        over_rate,
        /// Datagrams with our index that were not sealed with the session's keys.
        forged,
        /// Datagrams seen before, or too old to know.
        repeated,
        /// Datagrams whose sealed inside has no meaning.
        malformed,
        /// Notes of the peer's node beyond what is passed on in a second.
        notes_dropped,
        /// Handshakes finished, the first one and rekeys.
        handshakes,
        /// Handshakes finished while a session was there.
        rekeys,
        /// Initiations sent.
        initiations_sent,
        /// Initiations answered.
        initiations_answered,
        /// Initiations put aside because our own crossed them.
        initiations_crossed,
        /// Answers to our initiations that do not open: the peer has another secret of the overlay, or they were changed.
        handshakes_forged,
        /// Initiations refused: not newer than one seen before.
        initiations_stale,
        /// Initiations refused: too soon after another.
        initiations_too_soon,
        /// Times the link went another way.
        roamed,
        /// Path MTU probes sent.
        probes_sent,
        /// Times the path was found to have become narrower.
        black_holes,
    }
}

counters! {
    /// Of the whole host.
    pub struct RefusalCounters => /// Datagrams that did nothing but move one of these.
    RefusalCounts {
        /// Unknown kind, or reserved bytes not zero.
        foreign,
        /// Another format version.
        version,
        /// A length that does not fit the kind.
        length,
        /// Sealed for a session that is not there.
        session_unknown,
        /// A handshake message that is not for this host.
        mac1_wrong,
        /// Handshake messages answered with a cookie under load.
        cookie_replies,
        /// Handshake messages beyond an address's share under load.
        address_rate,
        /// Handshake messages that do not open: another overlay, or changed.
        handshake_forged,
        /// Handshakes of hosts that are not our peers.
        peer_unknown,
        /// Handshakes without a common cipher.
        no_common_suite,
        /// Responses and cookies to nothing that is under way.
        unexpected,
        /// Datagrams that were longer than the receive buffer.
        cut_by_kernel,
        /// Datagrams for the keeper of links that found its queue full.
        queue_full,
        /// Probes and replies that name no peer.
        probe_stranger,
        /// Probes and replies that were not made with the peer's key.
        probe_forged,
        /// Probes seen before, or too old to know.
        probe_repeated,
        /// Probes of a peer beyond its rate.
        probe_rate,
        /// What came by a way that is none of the peer's: through a relay by an unknown token, or through this host's own switch.
        way_unknown,
    }
}

counters! {
    /// Of the whole host, as a relay.
    pub struct RelayCounters => /// What was forwarded for others, and what was not.
    RelayCounts {
        /// Datagrams forwarded.
        datagrams,
        /// Their bytes as UDP payload.
        bytes,
        /// Datagrams with a token that is not open.
        token_unknown,
        /// Datagrams that came from another address than the leg's sender has.
        wrong_hop,
        /// Datagrams whose leg had run out.
        expired,
        /// Datagrams for a host of which it is not known where it is.
        no_way,
        /// Datagrams beyond the owner's rate.
        over_rate,
        /// Datagrams beyond what the link they would have left by may carry.
        over_link_rate,
        /// Datagrams the local interface or the kernel did not take.
        send_failed,
    }
}

impl RefusalCounters {
    /// Counts a datagram that did not parse.
    pub(crate) fn refused(&self, refusal: crate::wire::Refusal) {
        use crate::wire::Refusal;
        match refusal {
            Refusal::Foreign => self.foreign.one(),
            Refusal::Version(_) => self.version.one(),
            Refusal::Length => self.length.one(),
        }
    }
}
