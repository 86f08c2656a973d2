//! The sockets datagrams leave by: a worker's own, and those that port searches opened.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, sync::Arc, time::Instant};

use super::{clock, counters::WorkerCounters, hops, pacer::Pacer, udp::Socket};
use crate::{
    link::{Transmit, Transmitted},
    path::{Line, SocketId, Via},
};

/// The sockets of port searches, and those of the second IP version. Workers receive from them, each from its share.
pub(crate) type Sockets = HashMap<SocketId, Arc<Socket>>;

/// All ways out of one thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out<'a> {
    pub(super) own: &'a Socket,
    pub(super) others: &'a Sockets,
    /// What waits for lines; the keeper's few frames are let through at once.
    pub(super) pacing: Option<Pacing<'a>>,
}

/// A worker's datagrams that wait for their line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pacing<'a> {
    pub(super) now: Instant,
    pub(super) pacer: &'a RefCell<Pacer>,
    pub(super) counters: &'a WorkerCounters,
}

impl<'a> Out<'a> {
    /// Where nothing waits.
    pub(super) fn plain(own: &'a Socket, others: &'a Sockets) -> Self {
        Self { own, others, pacing: None }
    }
}

impl Out<'_> {
    /// Datagrams that may leave at `at`.
    pub(super) fn transmit_at(&self, at: Instant, via: &Via, bytes: &[u8], stride: usize) -> Transmitted {
        let Some(Pacing { now, pacer, counters }) = self.pacing else {
            return self.transmit_now(via, bytes, stride);
        };
        let mut pacer = pacer.borrow_mut();
        if !Pacer::is_due(now, at) {
            return if pacer.keep(at, via, bytes, stride) { Transmitted::Sent } else { Transmitted::Failed };
        }
        // Whatever waits for the same line goes first.
        pacer.send_due(now, self, counters);
        self.transmit_now(via, bytes, stride)
    }

    /// Datagrams as they are.
    pub(super) fn transmit_now(&self, via: &Via, bytes: &[u8], stride: usize) -> Transmitted {
        self.socket(via).map_or(Transmitted::Failed, |socket| socket.transmit_all(via.address, bytes, stride))
    }

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
        self.transmit_now(via, bytes, stride)
    }

    fn transmit_over(&mut self, line: &Line, via: &Via, bytes: &[u8], stride: usize) -> Transmitted {
        let now = self.pacing.map_or_else(clock::now, |pacing| pacing.now);
        match line.admit(now, bytes.len(), bytes.len().div_ceil(stride.max(1)) as u64) {
            Some(at) => self.transmit_at(at, via, bytes, stride),
            None => Transmitted::OverRate,
        }
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
        let Ok(mut second) = Socket::bind_beside("[::1]:0".parse().unwrap(), 1) else {
            return eprintln!("SKIPPED: this computer has no IPv6 on its loopback device");
        };
        let second = Arc::new(second.remove(0));
        let mut others = Sockets::new();
        let to = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let via = Via::direct(to.local_addr().unwrap());
        assert_eq!(Out::plain(&own, &others).send(&via, None, b"x"), Transmitted::Failed);
        others.insert(SocketId::SECOND, Arc::clone(&second));
        assert_eq!(Out::plain(&own, &others).send(&via, None, b"x"), Transmitted::Sent);
        assert_eq!(to.recv_from(&mut [0; 8]).unwrap(), (1, second.local_addr()));
    }

    #[test]
    fn a_way_over_another_socket_leaves_by_that_one() {
        let local = "127.0.0.1:0".parse().unwrap();
        let own = Socket::bind(local, 1).unwrap().remove(0);
        let other = Arc::new(another(own.local_addr()).unwrap());
        let to = std::net::UdpSocket::bind(local).unwrap();
        let others = Sockets::from([(SocketId(7), Arc::clone(&other))]);
        let mut out = Out::plain(&own, &others);
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

    #[test]
    fn over_a_line_datagrams_leave_in_its_time_and_those_beyond_it_not_at_all() {
        use Transmitted::{OverRate, Sent};

        let local = "127.0.0.1:0".parse().unwrap();
        let own = Socket::bind(local, 1).unwrap().remove(0);
        let to = std::net::UdpSocket::bind(local).unwrap();
        let (via, others) = (Via::direct(to.local_addr().unwrap()), Sockets::new());
        let (pacer, counters, now) = (RefCell::default(), WorkerCounters::default(), crate::testing::now());
        let mut out = Out {
            pacing: Some(Pacing { now, pacer: &pacer, counters: &counters }),
            ..Out::plain(&own, &others)
        };
        let line = Line::new(now, 8_000_000);
        let mut send = |word: u8| out.transmit_over(&line, &via, &[word; 20_000], 20_000);
        assert_eq!([send(1), send(2), send(3), send(4), send(5)], [Sent, Sent, Sent, Sent, OverRate]);
        let waits = pacer.borrow().next_at();
        assert_eq!(waits, Some(now + std::time::Duration::from_millis(20)));
        let late = now + std::time::Duration::from_millis(100);
        let mut out = Out {
            pacing: Some(Pacing { now: late, pacer: &pacer, counters: &counters }),
            ..Out::plain(&own, &others)
        };
        assert_eq!(out.transmit_over(&line, &via, &[6; 20_000], 20_000), Sent);
        let mut bytes = [0; 20_000];
        let came: Vec<u8> = (0..5).map(|_| to.recv(&mut bytes).map(|_| bytes[0]).unwrap()).collect();
        assert_eq!((came, pacer.borrow().next_at()), (vec![1, 2, 3, 4, 6], None), "what waited goes first");
    }
}
