//! Load that can be accounted for: numbered datagrams, as many at once as no queue on their way loses, and what the data planes counted.
//!
//! A sender does not look at the clock. It waits for the receiver to have taken what is under way beyond [`WINDOW`], so the data planes
//! are busy all the time and yet no queue before or behind the tunnel overflows; whatever is missing then, the tunnel lost.

pub(crate) mod loss;
pub(crate) mod order;
pub(crate) mod rekeys;

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use consort_lab::sysctl;

use crate::world::{Site, World, until};

/// Datagrams of one flow under way at once: a socket's usual buffer (208 KiB) holds those of several flows, even if each takes a page.
const WINDOW: u64 = 16;
/// Room for the largest datagram.
const BYTES_MAX: usize = 2048;

/// One way between two machines.
pub(crate) struct Flow {
    from: UdpSocket,
    to: UdpSocket,
    /// Length of the datagram of a number.
    bytes: fn(u64) -> usize,
}

impl Flow {
    pub(crate) fn new(from: &Site, to: &Site, bytes: fn(u64) -> usize) -> Self {
        let flow = Self { from: from.udp(false), to: to.udp(false), bytes };
        flow.from.connect(flow.to.local_addr().unwrap()).unwrap();
        flow.to.connect(flow.from.local_addr().unwrap()).unwrap();
        flow
    }

    /// The numbers of what still comes: whether a datagram is late or lost.
    fn what_follows(&self) -> Vec<u64> {
        self.to.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut place = [0; BYTES_MAX];
        let next =
            |_| self.to.recv(&mut place).ok().map(|_| u64::from_le_bytes(place[..8].try_into().unwrap()));
        (0..WINDOW).map_while(next).collect()
    }

    /// The same two sockets, the other way.
    pub(crate) fn back(&self) -> Self {
        let again = |socket: &UdpSocket| socket.try_clone().unwrap();
        Self { from: again(&self.to), to: again(&self.from), bytes: self.bytes }
    }

    /// Sends datagrams while `more` says so and asserts that they arrive, all, in order and once; gives their number.
    pub(crate) fn run(&self, more: impl Fn(u64) -> bool + Sync) -> u64 {
        let (sent, received, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(u64::MAX));
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                let mut place = [0; BYTES_MAX];
                for number in 0.. {
                    if number == done.load(Relaxed) {
                        return;
                    }
                    let len = self.to.recv(&mut place).unwrap_or_else(|error| {
                        panic!("datagram {number} of {} did not arrive: {error}", sent.load(Relaxed))
                    });
                    let arrived = u64::from_le_bytes(place[..8].try_into().unwrap());
                    assert!(
                        arrived == number,
                        "{number} was due, {arrived} came, then {:?}",
                        self.what_follows()
                    );
                    assert_eq!(len, (self.bytes)(number), "datagram {number} was changed");
                    received.store(number + 1, Relaxed);
                }
            });
            let mut datagram = [0x5a; BYTES_MAX];
            let mut number = 0;
            // The last datagram tells that it is the last before it is sent, so that the receiver waits for no other.
            loop {
                if !more(number + 1) {
                    done.store(number + 1, Relaxed);
                }
                datagram[..8].copy_from_slice(&number.to_le_bytes());
                self.from.send(&datagram[..(self.bytes)(number)]).unwrap();
                number += 1;
                sent.store(number, Relaxed);
                if done.load(Relaxed) == number {
                    break;
                }
                until("room for another datagram", || {
                    number - received.load(Relaxed) < WINDOW || receiver.is_finished()
                });
                if receiver.is_finished() {
                    break;
                }
            }
            receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            number
        })
    }
}

/// Lets the machines say nothing of their own accord any more (router solicitations, group memberships), so that all frames on the
/// links are a test's.
pub(crate) fn hush(world: &World) {
    for site in &world.sites {
        let off = || sysctl::set("net/ipv6/conf/all/disable_ipv6", "1");
        site.machine.netns().enter(off).unwrap().unwrap();
    }
}

/// Lets every machine know the address of every other: while it asks, the kernel itself sends what waits and what comes in any order.
pub(crate) fn introduce(world: &World) {
    for from in &world.sites {
        for to in world.sites.iter().filter(|to| to.id != from.id) {
            let (near, far) = (from.udp(false), to.udp(false));
            near.send_to(b"hello", far.local_addr().unwrap()).unwrap();
            assert_eq!(far.recv(&mut [0; 9]).unwrap(), 5);
        }
    }
}

/// How often anything was given up or refused on a host, by name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GivenUp(BTreeMap<String, u64>);

/// Everything that could be missing a frame, of all hosts; two of them are compared, since links begin with frames that nobody waits for.
pub(crate) fn given_up(world: &World) -> Vec<GivenUp> {
    let of_site = |site: &Site| {
        let snapshot = site.plane.snapshot();
        let mut counts = BTreeMap::new();
        let mut count = |name: &str, value: u64| {
            counts.insert(name.to_owned(), value);
        };
        for link in &snapshot.links {
            let link_counts = link.counts;
            count(&format!("held_dropped {}", link.peer), link_counts.held_dropped);
            count(&format!("frame_too_large {}", link.peer), link_counts.frame_too_large);
            count(&format!("session_exhausted {}", link.peer), link_counts.session_exhausted);
            count(&format!("send_failed {}", link.peer), link_counts.send_failed);
            count(&format!("no_grant_received {}", link.peer), link_counts.no_grant_received);
            count(&format!("forged {}", link.peer), link_counts.forged);
            count(&format!("repeated {}", link.peer), link_counts.repeated);
            count(&format!("malformed {}", link.peer), link_counts.malformed);
        }
        let worker = &snapshot.worker_counts;
        count("no_link", worker.no_link);
        count("hold_full", worker.hold_full);
        count("backlog_full", worker.backlog_full);
        count("backlog_dropped", worker.backlog_dropped);
        count("write_failed", worker.write_failed);
        count("read_failed", worker.read_failed);
        count("receive_failed", worker.receive_failed);
        count("receive_queue_drops", snapshot.receive_queue_drops);
        count("session_unknown", snapshot.refused.session_unknown);
        GivenUp(counts)
    };
    world.sites.iter().map(of_site).collect()
}
