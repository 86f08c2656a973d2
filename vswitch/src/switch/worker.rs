//! One thread's part of the switch: decides about frames with the view it holds, counts in cells of its own.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{
    Switch,
    config::{Guard, NetworkId, PeerIndex, PortId},
    decision::{Decision, Egress},
    reason::{Counters, DropReason, Happened},
    view::{Network, Place, Port, Rates, View},
};
use crate::{
    frame::ethernet::Ethernet,
    guard,
    inspect::Inspected,
    mac::MacAddr,
    neighbour::{self, Verdict},
    table::{Learn, Lookup, Place as Heard},
};

/// What one thread needs to decide about frames. `Send`; owned by one thread.
#[derive(Debug)]
pub struct Worker {
    switch: Arc<Switch>,
    seen: u64,
    view: Arc<View>,
    counters: Arc<Counters>,
}

impl Worker {
    pub(super) fn new(switch: Arc<Switch>, counters: Arc<Counters>) -> Self {
        let (seen, view) = switch.published();
        Self { switch, seen, view, counters }
    }

    /// Takes the newest configuration if it changed (one atomic load when it did not). Call it once per batch. True if it changed.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        if self.switch.generation.load(Ordering::Acquire) == self.seen {
            return false;
        }
        (self.seen, self.view) = self.switch.published();
        true
    }

    /// What to do with a frame read from a local port (given without its virtio header; a super-frame as it is).
    #[inline]
    pub fn from_port(&self, now: Instant, port: PortId, frame: &[u8]) -> Decision<'_> {
        self.counted(self.decide_port(now, port, frame))
    }

    /// What to do with a frame that a peer sent on a network's channel.
    #[inline]
    pub fn from_peer(&self, now: Instant, peer: PeerIndex, network: NetworkId, frame: &[u8]) -> Decision<'_> {
        self.counted(self.decide_peer(now, peer, network, frame))
    }

    /// So many more frames went to the port that [`Self::from_peer`] gave for the one before: same peer and network, same Ethernet header,
    /// addresses, protocol and transport ports, no [`Self::refresh`] in between. The answer would be the same; asking takes
    /// as long as all else that is done with such a frame.
    #[inline]
    pub fn alike(&self, count: u64) {
        self.counters.happened_often(Happened::ToPort, count);
    }

    /// A network's MTU, if it is configured.
    pub fn mtu(&self, network: NetworkId) -> Option<u16> {
        self.view.network(network).map(|network| network.mtu)
    }

    /// The network of a port, if it is attached.
    pub fn network_of(&self, port: PortId) -> Option<NetworkId> {
        self.view.ports.get(&port.0).map(|(_, network)| network.id)
    }

    /// Whether the peer is a member host of the network as configured here.
    pub fn is_member(&self, network: NetworkId, peer: PeerIndex) -> bool {
        self.view.network(network).is_some_and(|network| network.member(peer).is_some())
    }

    #[inline]
    fn counted<'a>(&self, decision: Result<Decision<'a>, DropReason>) -> Decision<'a> {
        match decision {
            Ok(decision) => {
                match decision {
                    Decision::Port(_) => self.counters.happened(Happened::ToPort),
                    Decision::Peer(..) => self.counters.happened(Happened::ToPeer),
                    Decision::Many(_) => self.counters.happened(Happened::Flooded),
                    // Answers are counted by kind where they are made.
                    Decision::Answer(_) | Decision::Drop(_) => {}
                }
                decision
            }
            Err(reason) => {
                self.counters.dropped(reason);
                Decision::Drop(reason)
            }
        }
    }

    #[inline]
    fn decide_port(&self, now: Instant, port: PortId, frame: &[u8]) -> Result<Decision<'_>, DropReason> {
        let (port, network) = self.view.ports.get(&port.0).ok_or(DropReason::PortGone)?;
        let inspected = Inspected::of(frame)?;
        let header = &inspected.ethernet;
        check_stations(header)?;
        if header.source != port.mac {
            self.foreign_source(now, header.source, port, network)?;
        }
        guard::port(&inspected, port, network)?;
        match neighbour::judge(frame, &inspected, network) {
            Verdict::Pass => {}
            Verdict::Absorb => return Err(DropReason::Absorbed),
            Verdict::TargetUnknown => return Err(DropReason::TargetUnknown),
            Verdict::AnswerArp(answer) => {
                self.counters.happened(Happened::ArpAnswered);
                return Ok(Decision::Answer(answer));
            }
            Verdict::AnswerNeighbour(answer) => {
                self.counters.happened(Happened::NeighbourAnswered);
                return Ok(Decision::Answer(answer));
            }
        }
        let everywhere = Decision::Many(Egress {
            network: network.id,
            peers: &network.peers,
            ports: &network.ports,
            except: Some(port.id),
        });
        match self.destination(now, header.destination, frame.len(), network, &port.rates)? {
            None => Ok(everywhere),
            Some(Place::Port(to)) if to == port.id => Err(DropReason::DestinationIsSource),
            Some(Place::Port(to)) => Ok(Decision::Port(to)),
            Some(Place::Peer(to)) => Ok(Decision::Peer(network.id, to)),
            Some(Place::Absent) => Err(DropReason::MachineAbsent),
        }
    }

    #[inline]
    fn decide_peer(
        &self,
        now: Instant,
        peer: PeerIndex,
        network: NetworkId,
        frame: &[u8],
    ) -> Result<Decision<'_>, DropReason> {
        let network = self.view.network(network).ok_or(DropReason::NetworkUnknown)?;
        let rates = network.member(peer).ok_or(DropReason::PeerNotMember)?;
        let inspected = Inspected::of(frame)?;
        if inspected.is_neighbour() {
            self.counters.happened(Happened::NeighbourFromPeer);
        }
        let header = &inspected.ethernet;
        check_stations(header)?;
        match network.known_place(header.source) {
            Some(Place::Peer(home)) if home == peer => {}
            Some(_) => return Err(DropReason::MacSpoofed),
            None => self.learn(now, header.source, Heard::Peer(peer.0), network, rates)?,
        }
        guard::peer(&inspected, network)?;
        let local =
            Decision::Many(Egress { network: network.id, peers: &[], ports: &network.ports, except: None });
        match self.destination(now, header.destination, frame.len(), network, rates)? {
            None => Ok(local),
            Some(Place::Port(to)) => Ok(Decision::Port(to)),
            Some(Place::Peer(_)) => Err(DropReason::SplitHorizon),
            Some(Place::Absent) => Err(DropReason::MachineAbsent),
        }
    }

    /// A source that is not the port's own: nested or bridged guests, where the port and the network allow them.
    #[cold]
    fn foreign_source(
        &self,
        now: Instant,
        source: MacAddr,
        port: &Port,
        network: &Network,
    ) -> Result<(), DropReason> {
        if network.known_place(source).is_some() {
            return Err(DropReason::MacSpoofed);
        }
        match port.guard {
            Guard::Strict => Err(DropReason::MacNotOwn),
            Guard::AllowUnknown => self.learn(now, source, Heard::Port(port.id.0), network, &port.rates),
        }
    }

    fn learn(
        &self,
        now: Instant,
        source: MacAddr,
        heard: Heard,
        network: &Network,
        rates: &Rates,
    ) -> Result<(), DropReason> {
        let table = network.learned.as_ref().ok_or(DropReason::MacUnknown)?;
        let now = self.switch.since_start(now);
        // Only what changes the table counts against the rate; beyond it frames pass, but teach nothing.
        if table.refresh(source, heard, now) || !rates.learn.allows(now, 1) {
            return Ok(());
        }
        match table.learn(source, heard, now) {
            Learn::Kept | Learn::Busy => {}
            Learn::Learned => self.counters.happened(Happened::Learned),
            Learn::Moved => self.counters.happened(Happened::Moved),
            Learn::Evicted(_) => {
                self.counters.happened(Happened::Learned);
                self.counters.happened(Happened::Evicted);
            }
        }
        Ok(())
    }

    /// Where a destination is; `None` means everywhere.
    #[inline]
    fn destination(
        &self,
        now: Instant,
        destination: MacAddr,
        bytes: usize,
        network: &Network,
        rates: &Rates,
    ) -> Result<Option<Place>, DropReason> {
        let storm = |allowed: bool| if allowed { Ok(None) } else { Err(DropReason::Storm) };
        if destination.is_group() {
            return storm(rates.group.allows(self.switch.since_start(now), bytes));
        }
        if let Some(place) = network.known_place(destination) {
            return Ok(Some(place));
        }
        let now = self.switch.since_start(now);
        let table = network.learned.as_ref().ok_or(DropReason::DestinationUnknown)?;
        match table.lookup(destination, now) {
            Lookup::Known(heard) => {
                if let Some(place) = network.heard_place(heard) {
                    return Ok(Some(place));
                }
                storm(rates.group.allows(now, bytes))
            }
            Lookup::Unknown => {
                let asked = storm(rates.group.allows(now, bytes));
                if asked.is_ok() {
                    table.asked(destination, now);
                }
                asked
            }
            Lookup::AskedRecently => storm(rates.asked_again.allows(now, bytes)),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.switch.retire(&self.counters);
    }
}

/// A source is one station; a destination is a station or a group that bridges forward.
#[inline]
fn check_stations(header: &Ethernet) -> Result<(), DropReason> {
    if !header.source.is_station() {
        Err(DropReason::SourceNotStation)
    } else if header.destination.0 == [0; 6] || header.destination.is_link_constrained() {
        Err(DropReason::DestinationReserved)
    } else {
        Ok(())
    }
}
