//! The sockets datagrams leave by: a worker's own, and those that port searches opened.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use super::{hops, udp::Socket};
use crate::{
    link::{Transmit, Transmitted},
    path::{SocketId, Via},
};

/// The sockets of port searches, and those of the second IP version. Workers receive from them, each from its share.
pub(crate) type Sockets = HashMap<SocketId, Arc<Socket>>;

/// All ways out of one thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out<'a> {
    pub(super) own: &'a Socket,
    pub(super) others: &'a Sockets,
}

impl Out<'_> {
    /// One datagram; with `hops`, it lives so many.
    pub(super) fn send(&self, via: &Via, hops: Option<u8>, datagram: &[u8]) -> Transmitted {
        let Some(socket) = self.socket(via) else { return Transmitted::Failed };
        match hops {
            Some(hops) => hops::send(socket, via.address, datagram, hops),
            None => socket.send(via.address, datagram),
        }
    }

    fn socket(&self, via: &Via) -> Option<&Socket> {
        let other = |id: SocketId| self.others.get(&id).map(|socket| &**socket);
        match via.socket {
            SocketId::MAIN if self.own.reaches(via.address) => Some(self.own),
            SocketId::MAIN => other(SocketId::SECOND),
            id => other(id),
        }
    }
}

impl Transmit for Out<'_> {
    fn transmit(&mut self, via: &Via, bytes: &[u8], stride: usize) -> Transmitted {
        self.socket(via).map_or(Transmitted::Failed, |socket| socket.transmit_all(via.address, bytes, stride))
    }
}

/// Another socket on a port of its own, at the address (not the port) the first one has.
pub(super) fn another(main: SocketAddr) -> std::io::Result<Socket> {
    Ok(Socket::bind(SocketAddr::new(main.ip(), 0), 1)?.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_by_which_ip_version_a_datagram_leaves() {
        let own = Socket::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        let Ok(mut second) = Socket::bind_beside("[::1]:0".parse().unwrap(), 1) else { return };
        let second = Arc::new(second.remove(0));
        let mut others = Sockets::new();
        let to = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let via = Via::direct(to.local_addr().unwrap());
        assert_eq!(Out { own: &own, others: &others }.send(&via, None, b"x"), Transmitted::Failed);
        others.insert(SocketId::SECOND, Arc::clone(&second));
        assert_eq!(Out { own: &own, others: &others }.send(&via, None, b"x"), Transmitted::Sent);
        assert_eq!(to.recv_from(&mut [0; 8]).unwrap(), (1, second.local_addr()));
    }

    #[test]
    fn a_way_over_another_socket_leaves_by_that_one() {
        let local = "127.0.0.1:0".parse().unwrap();
        let own = Socket::bind(local, 1).unwrap().remove(0);
        let other = Arc::new(another(own.local_addr()).unwrap());
        let to = std::net::UdpSocket::bind(local).unwrap();
        let others = Sockets::from([(SocketId(7), Arc::clone(&other))]);
        let mut out = Out { own: &own, others: &others };
        let mut via = Via::direct(to.local_addr().unwrap());
        let mut bytes = [0; 8];
        for (socket, from, sent) in [
            (SocketId::MAIN, own.local_addr(), Transmitted::Sent),
            (SocketId(7), other.local_addr(), Transmitted::Sent),
        ] {
            via.socket = socket;
            assert_eq!(out.transmit(&via, b"x", 1), sent);
            assert_eq!(to.recv_from(&mut bytes).unwrap(), (1, from));
            assert_eq!(out.send(&via, Some(2), b"yz"), sent);
            assert_eq!(to.recv_from(&mut bytes).unwrap(), (2, from));
        }
        via.socket = SocketId(8);
        assert_eq!(out.transmit(&via, b"x", 1), Transmitted::Failed);
    }
}
