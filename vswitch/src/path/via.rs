//! Where a datagram is sent and where one came from, as drivers and workers see it.

use std::net::SocketAddr;

use crate::wire::{Onward, RELAYED_BYTES, relayed_header};

const HEAD: u16 = 8;
const _: () = assert!(HEAD as usize == RELAYED_BYTES);
const _: () = assert!(u16::MAX as usize - SocketId::SECOND.0 as usize + 1 == crate::WORKERS_MAX);

/// One of this host's sockets: [`SocketId::MAIN`] stands for the ports all know, others were opened by port searches. Where the port all know has a socket
/// for each IP version, an address says which one is meant; drivers number the second as [`SocketId::SECOND`], and no path ever has that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SocketId(pub(crate) u16);

impl SocketId {
    pub(crate) const MAIN: Self = Self(0);
    /// The first worker's socket of the second IP version; those of other workers follow.
    pub(crate) const SECOND: Self = Self(0xffc0);

    /// Of the second IP version's sockets, the one of this worker.
    pub(crate) fn second(worker: usize) -> Self {
        let worker = u16::try_from(worker).expect("workers are few");
        Self(Self::SECOND.0 + worker)
    }

    /// Whose of the second IP version's sockets it is; none: it is another socket.
    pub(crate) fn second_of(self) -> Option<usize> {
        self.0.checked_sub(Self::SECOND.0).map(usize::from)
    }

    /// What paths know it as.
    pub(crate) fn known_as(self) -> Self {
        if self.second_of().is_some() { Self::MAIN } else { self }
    }
}

/// Where a datagram is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Via {
    pub(crate) socket: SocketId,
    pub(crate) address: SocketAddr,
    /// The relay's token, where `address` is a relay.
    pub(crate) token: Option<u32>,
}

/// Where a datagram came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) socket: SocketId,
    pub(crate) address: SocketAddr,
    /// What the last relay put on it.
    pub(crate) token: Option<u32>,
}

impl Via {
    pub(crate) fn direct(address: SocketAddr) -> Self {
        Self { socket: SocketId::MAIN, address, token: None }
    }

    /// Bytes before each datagram that goes this way.
    #[inline]
    pub(crate) fn head_bytes(&self) -> usize {
        if self.token.is_some() { RELAYED_BYTES } else { 0 }
    }

    /// The same, as sizes of datagrams are counted.
    pub(crate) fn head(&self) -> u16 {
        if self.token.is_some() { HEAD } else { 0 }
    }

    /// Writes what stands before each datagram.
    #[inline]
    pub(crate) fn write_head(&self, datagram: &mut [u8]) {
        if let Some(token) = self.token {
            datagram[..RELAYED_BYTES].copy_from_slice(&relayed_header(Onward::Relay, token));
        }
    }

    /// A datagram as it is sent this way.
    pub(crate) fn wrap(&self, datagram: &[u8]) -> Vec<u8> {
        let mut wrapped = vec![0; self.head_bytes()];
        self.write_head(&mut wrapped);
        wrapped.extend_from_slice(datagram);
        wrapped
    }
}

impl Origin {
    pub(crate) fn direct(address: SocketAddr) -> Self {
        Self { socket: SocketId::MAIN, address, token: None }
    }

    /// Whether two datagrams came the same way. Through relays the token alone says so: a relay with several addresses may send from any.
    #[inline]
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self.token, other.token) {
            (None, None) => self.socket == other.socket && self.address == other.address,
            (mine, theirs) => mine == theirs,
        }
    }

    /// The way back, where that is the same address.
    pub(crate) fn back(&self) -> Option<Via> {
        self.token.is_none().then_some(Via { socket: self.socket, address: self.address, token: None })
    }
}
