//! Datagrams to frames, on a worker: opened in place, checked, told apart.

use std::{sync::Arc, time::Instant};

use super::{
    RefusalCounters,
    counters::LinkCounters,
    route::{NotReceivable, Route, Routes},
};
use crate::{
    path::{NoProber, Origin},
    session::{Opened, address, plaintext},
    split::Joiner,
    switch::{NetworkId, PeerIndex},
    wire::{
        self, COMMON_BYTES, DATA_BYTES_MIN, DATA_HEADER_BYTES, DATA_MARK_BYTES, Data, INNER_BYTES, Inner,
        InnerKind, Kind, RELAYED_BYTES, fragment::Fragment, relayed_token,
    },
};

/// What one datagram brought.
#[derive(Debug)]
pub(crate) enum Arrived<'a> {
    /// A frame on an open channel, from `start` in the buffer, opened in place. If `partial`, its transport checksum is to be completed.
    Frame { peer: PeerIndex, network: NetworkId, start: usize, frame: &'a [u8], partial: bool },
    /// A frame on an open channel that came in parts.
    Joined { peer: PeerIndex, network: NetworkId, frame: &'a [u8] },
    /// Not data: for the keeper.
    Handshake { origin: Origin, datagram: &'a [u8] },
    /// A probe or reply that was made with this peer's key: for the keeper.
    Probe { peer: PeerIndex, origin: Origin, datagram: &'a [u8] },
    /// Datagrams of `stride` bytes each (the last maybe shorter) with one token: to be forwarded.
    Relayed { run: &'a mut [u8], stride: usize },
    /// A message of the link itself: for the keeper.
    Control { peer: PeerIndex, body: &'a [u8] },
    /// The session is proved by it, or it came from another address: for the keeper.
    Touched { peer: PeerIndex, index: u32, origin: Origin, newest: bool },
    /// It came on a channel that is not known: for the keeper.
    UnknownChannel { peer: PeerIndex, channel: u32 },
}

/// One worker's half of receiving.
#[derive(Debug)]
pub(crate) struct Ingress {
    joiner: Joiner,
    refusals: Arc<RefusalCounters>,
}

/// What a run of datagrams of one session adds up to.
#[derive(Debug, Default)]
struct Run {
    opened: u64,
    frames: u64,
    frame_bytes: u64,
    touched: bool,
}

/// Where a run of one session's datagrams stands.
#[derive(Debug)]
struct Place {
    /// In the buffer.
    at: usize,
    stride: usize,
    head: usize,
    index: u32,
    origin: Origin,
}

/// What one datagram is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Sealed, behind so many bytes of a relay's, with the token in them.
    Data { head: usize, token: Option<u32>, index: u32 },
    /// For a relay.
    Relayed { token: u32 },
    /// Anything else that is ours, behind so many bytes of a relay's.
    Other { kind: Kind, head: usize, token: Option<u32> },
}

/// By which bytes another datagram is seen to be of the same sort.
#[derive(Debug, Clone, Copy)]
struct ToldBy {
    /// So many of the first ones are the same.
    bytes: usize,
    /// It has at least so many.
    least: usize,
}

impl Sort {
    /// None: such datagrams are taken one by one.
    #[inline]
    fn told_by(self) -> Option<ToldBy> {
        match self {
            Self::Data { head, .. } => {
                Some(ToldBy { bytes: head + DATA_MARK_BYTES, least: head + DATA_BYTES_MIN })
            }
            Self::Relayed { .. } => {
                Some(ToldBy { bytes: RELAYED_BYTES, least: RELAYED_BYTES + COMMON_BYTES })
            }
            Self::Other { .. } => None,
        }
    }

    /// How many bytes are datagrams of this sort, one after the other, of which the first is known to be one.
    #[inline]
    fn run(self, datagrams: &[u8], stride: usize) -> usize {
        let len = stride.min(datagrams.len());
        let Some(told) = self.told_by() else { return len };
        let mark = &datagrams[..told.bytes];
        let alike = |datagram: &&[u8]| datagram.len() >= told.least && datagram[..told.bytes] == *mark;
        len + datagrams[len..].chunks(stride).take_while(alike).map(<[u8]>::len).sum::<usize>()
    }
}

/// Tells a datagram apart.
#[inline]
fn sort(datagram: &[u8]) -> Result<Sort, wire::Refusal> {
    let (kind, head, token) = match wire::kind(datagram)? {
        Kind::Relayed => return relayed_token(datagram).map(|token| Sort::Relayed { token }),
        Kind::Delivered => {
            let token = relayed_token(datagram)?;
            // Relays do not stand inside relays' datagrams: chains are of tokens.
            match wire::kind(&datagram[RELAYED_BYTES..])? {
                Kind::Relayed | Kind::Delivered => return Err(wire::Refusal::Foreign),
                kind => (kind, RELAYED_BYTES, Some(token)),
            }
        }
        kind => (kind, 0, None),
    };
    if kind != Kind::Data {
        return Ok(Sort::Other { kind, head, token });
    }
    let (index, _) = address(&datagram[head..]).ok_or(wire::Refusal::Length)?;
    Ok(Sort::Data { head, token, index })
}

impl Ingress {
    pub(crate) fn new(refusals: Arc<RefusalCounters>) -> Self {
        Self { joiner: Joiner::default(), refusals }
    }

    /// Takes what one receive call gave: datagrams of `stride` bytes each, the last one maybe shorter, all from one address.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        routes: &Routes,
        from: Origin,
        buffer: &mut [u8],
        stride: usize,
        mut sink: impl FnMut(Arrived<'_>),
    ) {
        let stride = stride.max(1);
        let mut at = 0;
        while at < buffer.len() {
            let len = stride.min(buffer.len() - at);
            let first = match sort(&buffer[at..at + len]) {
                Ok(sort) => sort,
                Err(refusal) => {
                    self.refusals.refused(refusal);
                    at += len;
                    continue;
                }
            };
            let run = first.run(&buffer[at..], stride);
            let datagrams = &mut buffer[at..at + run];
            match first {
                Sort::Data { head, token, index } => {
                    let origin = Origin { token, ..from };
                    self.data(now, routes, &Place { at, stride, head, index, origin }, datagrams, &mut sink);
                }
                Sort::Relayed { .. } => sink(Arrived::Relayed { run: datagrams, stride }),
                Sort::Other { kind, head, token } => {
                    let origin = Origin { token, ..from };
                    self.other(routes, kind, origin, &datagrams[head..], &mut sink);
                }
            }
            at += run;
        }
    }

    /// Datagrams of one session, one after the other, under one lock of its window.
    fn data(
        &mut self,
        now: Instant,
        routes: &Routes,
        place: &Place,
        datagrams: &mut [u8],
        sink: &mut impl FnMut(Arrived<'_>),
    ) {
        let &Place { at, stride, head, index, origin } = place;
        let Some(session) = routes.sessions.get(&index) else {
            return self.refusals.session_unknown.add(datagrams.len().div_ceil(stride) as u64);
        };
        let Some(route) = routes.peers.get(&session.peer()) else { return };
        let elsewhere = route.sending.as_ref().is_some_and(|sending| sending.elsewhere(&origin));
        let mut run = Run::default();
        let mut window = session.window();
        for (start, datagram) in (at + head..).step_by(stride).zip(datagrams.chunks_mut(stride)) {
            let datagram = &mut datagram[head..];
            match session.open(&mut window, Data::counter_of(datagram), datagram) {
                Opened::Forged => route.counters.forged.one(),
                Opened::Repeated => route.counters.repeated.one(),
                opened @ (Opened::Newest | Opened::Late) => {
                    run.opened += 1;
                    let newest = opened == Opened::Newest;
                    if !run.touched && (session.unproved() || (elsewhere && newest)) {
                        // Before what it brought: an answer needs the session and the address.
                        run.touched = true;
                        sink(Arrived::Touched { peer: route.peer, index, origin, newest });
                    }
                    self.opened(now, route, start, plaintext(datagram), &mut run, sink);
                }
            }
        }
        drop(window);
        if run.opened > 0 {
            session.note_opened(now, run.opened);
            note(&route.counters, &run);
        }
    }

    /// What the keeper works on, if it is a peer's or may be one's.
    fn other(
        &self,
        routes: &Routes,
        kind: Kind,
        origin: Origin,
        datagram: &[u8],
        sink: &mut impl FnMut(Arrived<'_>),
    ) {
        if !matches!(kind, Kind::Probe | Kind::ProbeReply) {
            return sink(Arrived::Handshake { origin, datagram });
        }
        if let Err(refusal) = wire::Probe::parse(datagram) {
            return self.refusals.refused(refusal);
        }
        match routes.probers.judge(datagram) {
            Ok(peer) => sink(Arrived::Probe { peer, origin, datagram }),
            Err(NoProber::Stranger) => self.refusals.probe_stranger.one(),
            Err(NoProber::Forged) => self.refusals.probe_forged.one(),
        }
    }

    fn opened(
        &mut self,
        now: Instant,
        route: &Route,
        start: usize,
        plaintext: &[u8],
        run: &mut Run,
        sink: &mut impl FnMut(Arrived<'_>),
    ) {
        let (counters, peer) = (&route.counters, route.peer);
        let Ok((inner, body)) = Inner::parse(plaintext) else { return counters.malformed.one() };
        if inner.kind == InnerKind::Control {
            return sink(Arrived::Control { peer, body });
        }
        let network = match route.receive_network(inner.channel, now) {
            Ok(network) => network,
            Err(refused) => {
                counters.no_grant_received.one();
                if refused == NotReceivable::Unknown {
                    sink(Arrived::UnknownChannel { peer, channel: inner.channel });
                }
                return;
            }
        };
        let partial = match inner.kind {
            InnerKind::Fragment => {
                let Ok((part, bytes)) = Fragment::parse(body) else { return counters.malformed.one() };
                let Some(frame) = self.joiner.add(peer, part, bytes) else { return };
                counters.frames_joined.one();
                run.frames += 1;
                run.frame_bytes += frame.len() as u64;
                return sink(Arrived::Joined { peer, network, frame });
            }
            InnerKind::Frame | InnerKind::Control => false,
            InnerKind::Partial => true,
        };
        run.frames += 1;
        run.frame_bytes += body.len() as u64;
        let start = start + DATA_HEADER_BYTES + INNER_BYTES;
        sink(Arrived::Frame { peer, network, start, frame: body, partial });
    }
}

fn note(counters: &LinkCounters, run: &Run) {
    counters.datagrams_received.add(run.opened);
    if run.frames > 0 {
        counters.frames_received.add(run.frames);
        counters.frame_bytes_received.add(run.frame_bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Onward, relayed_header};

    /// One datagram of a run: two of each sort, so that neighbours are often alike, and bytes that are nothing.
    fn datagram(kind: u8, which: u32) -> Vec<u8> {
        let data = [&Data::header(which, 7)[..], &[0xdd; 24]].concat();
        match kind {
            0 | 1 => data,
            2 | 3 => [&relayed_header(Onward::End, which)[..], &data].concat(),
            4 => [&relayed_header(Onward::Relay, which)[..], &data].concat(),
            5 => [&relayed_header(Onward::End, which)[..], &[5, 1, 0, 0], &[0; 36]].concat(),
            _ => vec![u8::try_from(which).unwrap(); 48],
        }
    }

    proptest! {
        /// A run ends where parsing each datagram says so, wherever the last one is cut.
        #[test]
        fn a_run_is_what_sorts_alike(
            datagrams in prop::collection::vec((0_u8..7, 0_u32..2), 1..8),
            cut in 0_usize..48,
        ) {
            const STRIDE: usize = 48;
            let padded = |(kind, which): &(u8, u32)| {
                let mut bytes = datagram(*kind, *which);
                bytes.resize(STRIDE, 0);
                bytes
            };
            let mut buffer: Vec<u8> = datagrams.iter().flat_map(padded).collect();
            buffer.truncate(buffer.len() - cut);
            let Ok(first) = sort(&buffer[..STRIDE.min(buffer.len())]) else { return Ok(()) };
            let alike = |datagram: &&[u8]| sort(datagram) == Ok(first);
            let all: usize = buffer.chunks(STRIDE).take_while(alike).map(<[u8]>::len).sum();
            let expected = if matches!(first, Sort::Other { .. }) { STRIDE.min(buffer.len()) } else { all };
            prop_assert_eq!(first.run(&buffer, STRIDE), expected);
        }
    }
}
