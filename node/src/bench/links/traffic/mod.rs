//! Load and what comes of it: TCP flows, round trips, small packets, between two network namespaces.
//!
//! The generators are threads of this process that stand inside the namespaces; what a contender itself spends is measured apart. The same
//! for all: congestion control is cubic, payload is random (a tunnel that compresses shall not win by that), packets are sent one by one
//! (never as super-frames of the generator's making) and the far end takes many at once.

mod round_trips;
mod small;
mod tcp;
mod wake_ups;

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use consort_lab::Netns;

pub(super) use round_trips::round_trips;
pub(super) use small::{flood, highest_rate};
pub(super) use tcp::{Window, tcp};
pub(super) use wake_ups::wake_ups;

/// UDP payload of a 64-byte Ethernet frame: what is left beside Ethernet (14, and 4 of its checksum), IPv4 (20), UDP (8).
const SMALL_PAYLOAD_BYTES: usize = 18;
/// A packet that takes longer is lost.
const SILENCE: Duration = Duration::from_secs(1);

/// Two ends with their addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends<'a> {
    pub(super) namespaces: [&'a Netns; 2],
    pub(super) addresses: [Ipv4Addr; 2],
    /// The largest TCP segment; `None`: what the device takes.
    pub(super) segment_bytes: Option<u32>,
}

impl<'a> Ends<'a> {
    fn there(&self) -> (&'a Netns, Ipv4Addr) {
        (self.namespaces[1], self.addresses[1])
    }

    fn here(&self) -> (&'a Netns, Ipv4Addr) {
        (self.namespaces[0], self.addresses[0])
    }

    /// The same two ends, seen from the other.
    pub(super) fn reversed(self) -> Self {
        let [a, b] = self.namespaces;
        let [x, y] = self.addresses;
        Self { namespaces: [b, a], addresses: [y, x], ..self }
    }

    /// A UDP socket at each end, the near one connected to the far one.
    fn sockets(&self) -> io::Result<[UdpSocket; 2]> {
        let bind =
            |(namespace, address): (&Netns, Ipv4Addr)| namespace.enter(|| UdpSocket::bind((address, 0)))?;
        let (here, there) = (bind(self.here())?, bind(self.there())?);
        here.connect(there.local_addr()?)?;
        there.connect(here.local_addr()?)?;
        Ok([here, there])
    }
}
