//! What is to be done with one frame: the answer of the switch, as data. It borrows from the worker's view and allocates
//! nothing.

use super::{
    config::{NetworkId, PeerIndex, PortId},
    reason::DropReason,
};
use crate::neighbour::Answer;

/// The fate of one frame.
#[derive(Debug)]
pub enum Decision<'a> {
    /// To one local port, whole: a super-frame goes with its virtio header.
    Port(PortId),
    /// To one other host, on this network's channel.
    Peer(NetworkId, PeerIndex),
    /// To several places, each once.
    Many(Egress<'a>),
    /// The switch itself answers: write this frame to the port the frame came from.
    Answer(Answer),
    /// Nowhere. The reason is already counted.
    Drop(DropReason),
}

/// Where a broadcast, multicast or unknown destination goes. Never the port or link it came from; never a link if it came
/// from one.
#[derive(Debug, Clone, Copy)]
pub struct Egress<'a> {
    /// The network, for the channel towards [`Self::peers`].
    pub network: NetworkId,
    /// Other hosts with members.
    pub peers: &'a [PeerIndex],
    pub(crate) ports: &'a [PortId],
    pub(crate) except: Option<PortId>,
}

impl Egress<'_> {
    /// The local ports.
    pub fn ports(&self) -> impl Iterator<Item = PortId> + '_ {
        self.ports.iter().copied().filter(|port| Some(*port) != self.except)
    }
}
