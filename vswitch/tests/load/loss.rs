//! A path that loses and reorders: the tunnel adds nothing to it.
//!
//! Time proves nothing on a computer that others use too. What proves it are counts: all that the machine sent left as a datagram,
//! all datagrams that reached the far host's port were opened, and all that was opened reached the machine. What is missing then
//! was lost between the two hosts' sockets, which is the path.

use std::{net::UdpSocket, time::Duration};

use consort_lab::{middlebox::Impairment, wide::Cable};

use super::{given_up, hush, introduce};
use crate::world::{Options, World, until};

/// What the boxes on both hosts' cables do, each way.
const BAD: Impairment = Impairment {
    delay: Duration::from_millis(1),
    jitter: Duration::ZERO,
    loss: 0.01,
    duplicate: 0.0,
    reorder: 0.02,
    rate: None,
    queue_bytes: 0,
    mtu: None,
};
const DATAGRAMS: u64 = 5_000;
/// Sent at once, before it is seen that they are through: no queue loses so many.
const BATCH: u64 = 32;
/// The path's own loss is asserted nowhere but in this bound, which chance does not reach: 2 % are expected.
const LOST_MAX: u64 = DATAGRAMS / 10;
/// A datagram that marks the end of a batch.
const FENCE: u64 = u64::MAX;
/// How long an answer to a fence is waited for before it is sent again: longer than the path's round trip.
const FENCE_AGAIN: Duration = Duration::from_millis(50);

/// Asserts that frames the path did not lose arrive, and that none is held back or refused for coming late.
pub(crate) fn a_tunnel_adds_no_loss_to_a_bad_path() {
    let cable = Cable { impairment: Some(Impairment::default()), ..Cable::default() };
    let mut world = World::new(&Options::new(cable, 1400));
    world.connected(0, 1);
    hush(&world);
    // The path is good until here, so that nothing of before is under way any more.
    introduce(&world);
    for site in &mut world.sites {
        site.place.middlebox.as_mut().unwrap().change(BAD).unwrap();
    }
    let none = given_up(&world);
    let (near, far) = (world.sites[0].udp(false), world.sites[1].udp(false));
    near.connect(far.local_addr().unwrap()).unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    near.set_read_timeout(Some(FENCE_AGAIN)).unwrap();
    let counts = |from, to| world.link(from, to).counts;
    let before = [counts(0, 1), counts(1, 0)];
    let (sent, tally) = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| answer_fences(&far));
        let sent = send_all(&near);
        (sent, receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let Tally { received, arrived, answered } = tally;
    assert!(received >= DATAGRAMS - LOST_MAX, "{received} of {DATAGRAMS}");
    // The last fences may be on their way still.
    until("all that was sent to leave", || counts(0, 1).frames_sent - before[0].frames_sent == sent);
    until("all answers to leave", || counts(1, 0).frames_sent - before[1].frames_sent == answered);
    let opened = counts(1, 0).frames_received - before[1].frames_received;
    assert!(opened >= arrived, "what arrived was opened: {opened}, {arrived}");
    let late = drain(&far);
    until("all that was opened to arrive", || {
        counts(1, 0).frames_received - before[1].frames_received == arrived + late
    });
    assert_eq!(given_up(&world), none);
}

/// Sends batches, each with a fence behind it that is sent until it is answered; gives the number of all datagrams.
fn send_all(near: &UdpSocket) -> u64 {
    let mut sent = 0;
    let mut send = |number: u64, batch: u64| {
        near.send(&[number.to_le_bytes(), batch.to_le_bytes()].concat()).unwrap();
        sent += 1;
    };
    let mut answer = [0; 16];
    for batch in 0..DATAGRAMS / BATCH {
        (0..BATCH).for_each(|index| send(batch * BATCH + index, batch));
        loop {
            send(FENCE, batch);
            if near.recv(&mut answer).is_ok_and(|_| answer[8..] == batch.to_le_bytes()) {
                break;
            }
        }
    }
    sent
}

struct Tally {
    /// Numbered datagrams.
    received: u64,
    /// All datagrams, fences too.
    arrived: u64,
    answered: u64,
}

/// Counts what comes and answers fences, until the last batch's fence was answered and nothing more comes.
fn answer_fences(far: &UdpSocket) -> Tally {
    let mut tally = Tally { received: 0, arrived: 0, answered: 0 };
    let mut datagram = [0; 16];
    let mut last = false;
    while let Ok(16) = far.recv(&mut datagram) {
        tally.arrived += 1;
        if datagram[..8] == FENCE.to_le_bytes() {
            tally.answered += u64::from(far.send(&datagram).is_ok());
            if datagram[8..] == (DATAGRAMS / BATCH - 1).to_le_bytes() && !last {
                last = true;
                // Answers may be lost; fences come again until one is not.
                far.set_read_timeout(Some(10 * FENCE_AGAIN)).unwrap();
            }
        } else {
            tally.received += 1;
        }
    }
    assert!(last, "the last batch did not arrive");
    tally
}

/// What came after the receiver had gone.
fn drain(far: &UdpSocket) -> u64 {
    far.set_nonblocking(true).unwrap();
    let mut count = 0;
    while far.recv(&mut [0; 16]).is_ok() {
        count += 1;
    }
    count
}
