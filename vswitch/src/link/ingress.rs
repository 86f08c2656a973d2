//! Datagrams to frames, on a worker: opened in place, checked, told apart.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    RefusalCounters,
    counters::LinkCounters,
    route::{NotReceivable, Route, Routes},
};
use crate::{
    session::{Opened, address, plaintext},
    split::Joiner,
    switch::{NetworkId, PeerIndex},
    wire::{self, DATA_HEADER_BYTES, INNER_BYTES, Inner, InnerKind, Kind, fragment::Fragment},
};

/// What one datagram brought.
#[derive(Debug)]
pub(crate) enum Arrived<'a> {
    /// A frame on an open channel, from `start` in the buffer, opened in place. If `partial`, its transport checksum is to be completed.
    Frame { peer: PeerIndex, network: NetworkId, start: usize, frame: &'a [u8], partial: bool },
    /// A frame on an open channel that came in parts.
    Joined { peer: PeerIndex, network: NetworkId, frame: &'a [u8] },
    /// Not data: for the keeper.
    Handshake { datagram: &'a [u8] },
    /// A message of the link itself: for the keeper.
    Control { peer: PeerIndex, body: &'a [u8] },
    /// The session is proved by it, or it came from another address: for the keeper.
    Touched { peer: PeerIndex, index: u32, newest: bool },
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

impl Ingress {
    pub(crate) fn new(refusals: Arc<RefusalCounters>) -> Self {
        Self { joiner: Joiner::default(), refusals }
    }

    /// Takes what one receive call gave: datagrams of `stride` bytes each, the last one maybe shorter, all from one address.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        routes: &Routes,
        from: SocketAddr,
        buffer: &mut [u8],
        stride: usize,
        mut sink: impl FnMut(Arrived<'_>),
    ) {
        let stride = stride.max(1);
        let starts = (0_usize..).step_by(stride);
        let mut datagrams = starts.zip(buffer.chunks_mut(stride)).peekable();
        while let Some((start, datagram)) = datagrams.next() {
            let Some((index, _)) = self.data(datagram, &mut sink) else { continue };
            let Some(session) = routes.sessions.get(&index) else {
                self.refusals.session_unknown.one();
                continue;
            };
            let Some(route) = routes.peers.get(&session.peer()) else { continue };
            // A run: datagrams of the same session, one after the other, under one lock of its window.
            let mut run = Run::default();
            let mut window = session.window();
            let mut current = Some((start, datagram));
            while let Some((start, datagram)) = current.take() {
                let (_, counter) = address(datagram).expect("it parsed as data");
                match session.open(&mut window, counter, datagram) {
                    Opened::Forged => route.counters.forged.one(),
                    Opened::Repeated => route.counters.repeated.one(),
                    opened @ (Opened::Newest | Opened::Late) => {
                        run.opened += 1;
                        let elsewhere =
                            route.sending.as_ref().is_some_and(|sending| sending.endpoint != from);
                        let newest = opened == Opened::Newest;
                        if !run.touched && (session.unproved() || (elsewhere && newest)) {
                            // Before what it brought: an answer needs the session and the address.
                            run.touched = true;
                            sink(Arrived::Touched { peer: route.peer, index, newest });
                        }
                        self.opened(now, route, start, plaintext(datagram), &mut run, &mut sink);
                    }
                }
                current = datagrams.next_if(|(_, next)| address(next).is_some_and(|(next, _)| next == index));
            }
            drop(window);
            if run.opened > 0 {
                session.note_opened(now, run.opened);
                note(&route.counters, &run);
            }
        }
    }

    /// Receiver index and counter, if it is data; what is not goes to the keeper or is refused.
    fn data(&self, datagram: &[u8], sink: &mut impl FnMut(Arrived<'_>)) -> Option<(u32, u64)> {
        match wire::kind(datagram) {
            Ok(Kind::Data) => {
                let address = address(datagram);
                if address.is_none() {
                    self.refusals.length.one();
                }
                address
            }
            Ok(Kind::Initiation | Kind::Response | Kind::CookieReply) => {
                sink(Arrived::Handshake { datagram });
                None
            }
            Err(refusal) => {
                self.refusals.refused(refusal);
                None
            }
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
