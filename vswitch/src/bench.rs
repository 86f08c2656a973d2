//! What the core costs, without devices and sockets: the figures of `consort bench frames`.
//!
//! The questions: what does it cost to find an address among 10,000 and 100,000; to decide about a frame; to seal and open it; to cut a
//! super-frame and to join one? Each is answered beside a plain way of doing the same, in the same run and in turns, as medians, so
//! that a ratio means something on a computer that others use too.

use std::{
    collections::HashMap,
    fmt,
    hint::black_box,
    io::IoSlice,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    HostId,
    frame::{checksum::Sum, ethernet::ethertype, ip::protocol},
    mac::MacAddr,
    offload::{Capabilities, Checksum, Gso, Joiner, Received, Segments, VnetHeader, vnet::ChecksumPlace},
    session::{Aead, Suite},
    switch::{Decision, Guard, MachineBinding, NetworkConfig, NetworkId, PortConfig, PortId, Switch, Worker},
    table::{Lookup, Place, Table},
    wire::TAG_BYTES,
};

/// Turns of each contender.
const ROUNDS: usize = 15;
/// A turn lasts about this long: far above the clock's grain, far below a scheduler's patience.
const TURN: Duration = Duration::from_millis(2);

/// One measurement with its baseline.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was done.
    pub what: String,
    /// What it cost, in nanoseconds each.
    pub nanos: f64,
    /// Bytes handled each time, where that makes sense.
    pub bytes: Option<usize>,
    /// The plain way of doing it.
    pub baseline: &'static str,
    /// What that cost.
    pub baseline_nanos: f64,
}

impl Figure {
    /// How many times faster than the baseline.
    pub fn ratio(&self) -> f64 {
        self.baseline_nanos / self.nanos
    }

    /// Gigabytes in a second, where bytes were handled.
    pub fn gigabytes_per_second(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "at most 64 KiB")]
        self.bytes.map(|bytes| bytes as f64 / self.nanos)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<52} {:>9.1} ns", self.what, self.nanos)?;
        match self.gigabytes_per_second() {
            Some(rate) => write!(f, " {rate:>6.2} GB/s")?,
            None => write!(f, "            ")?,
        }
        write!(f, "   {:>5.1} × {} ({:.1} ns)", self.ratio(), self.baseline, self.baseline_nanos)
    }
}

/// All figures. Takes a few seconds of one core.
pub fn frames() -> Vec<Figure> {
    let mut figures = Vec::new();
    for addresses in [10_000, 100_000] {
        figures.push(lookup(addresses));
        figures.push(decision(addresses));
    }
    for bytes in [64, 576, 1400, 9000] {
        figures.extend(seal_and_open(bytes));
    }
    for size in [536, 1400, 8948] {
        figures.extend(cut_and_join(size));
    }
    figures
}

/// Runs both in turns and takes the medians of the time of one call.
fn compare(mut ours: impl FnMut(), mut baseline: impl FnMut()) -> (f64, f64) {
    let (ours_count, baseline_count) = (calibrate(&mut ours), calibrate(&mut baseline));
    let mut times = ([0.0; ROUNDS], [0.0; ROUNDS]);
    for round in 0..ROUNDS {
        times.0[round] = turn(&mut ours, ours_count);
        times.1[round] = turn(&mut baseline, baseline_count);
    }
    times.0.sort_by(f64::total_cmp);
    times.1.sort_by(f64::total_cmp);
    (times.0[ROUNDS / 2], times.1[ROUNDS / 2])
}

/// How many calls make a turn.
fn calibrate(call: &mut impl FnMut()) -> u32 {
    let mut count = 1;
    while turn(call, count) * f64::from(count) < TURN.as_secs_f64() * 1e9 && count < 1 << 24 {
        count *= 2;
    }
    count
}

/// Nanoseconds of one of so many calls.
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn turn(call: &mut impl FnMut(), count: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        call();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

#[expect(clippy::cast_possible_truncation, reason = "fewer addresses than 2^32")]
fn mac(number: usize) -> MacAddr {
    let [a, b, c, d] = (number as u32).to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

/// Visits addresses in an order that no cache foresees.
fn stride(count: usize) -> impl FnMut() -> usize {
    let mut at = 0;
    move || {
        at = (at + 7_919_993) % count;
        at
    }
}

fn lookup(addresses: usize) -> Figure {
    let table = Table::new(addresses, 1);
    let plain = RwLock::new(HashMap::new());
    #[expect(clippy::cast_possible_truncation, reason = "fewer addresses than 2^32")]
    for number in 0..addresses {
        table.learn(mac(number), Place::Peer(number as u32), Duration::ZERO);
        plain.write().expect("nobody panics").insert(mac(number).0, Place::Peer(number as u32));
    }
    let (mut ours, mut theirs) = (stride(addresses), stride(addresses));
    let (nanos, baseline_nanos) = compare(
        || {
            let found = table.lookup(mac(ours()), Duration::ZERO);
            debug_assert!(found != Lookup::AskedRecently);
            black_box(found);
        },
        || {
            black_box(plain.read().expect("nobody panics").get(&mac(theirs()).0));
        },
    );
    Figure {
        what: format!("find a learned address among {addresses}"),
        nanos,
        bytes: None,
        baseline: "HashMap behind a lock",
        baseline_nanos,
    }
}

/// A network with so many machines, half of them here.
fn network(addresses: usize) -> (Worker, PortId) {
    let (here, there) = (HostId::random(), HostId::random());
    let binding = |number: usize, host| MachineBinding {
        mac: mac(number),
        #[expect(clippy::cast_possible_truncation, reason = "fewer addresses than 2^24")]
        ipv4: vec![(0x0a00_0001 + number as u32).into()],
        ipv6: vec![],
        host,
    };
    let machines =
        (0..addresses).map(|number| binding(number, if number == 0 { here } else { there })).collect();
    let id = NetworkId([1; 16]);
    let switch = Switch::new(here, now(), 1);
    let config = NetworkConfig { id, mtu: 1500, machines, hosts: vec![there], allow_unknown: false };
    switch.set_network(&config).expect("the network has no contradictions");
    let own = binding(0, here);
    let port =
        PortConfig { mac: own.mac, ipv4: own.ipv4, ipv6: own.ipv6, guard: Guard::Strict, vnet_hdr: true };
    let port = switch.attach(id, port).expect("the machine is in the record");
    (Arc::clone(&switch).worker(), port)
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn decision(addresses: usize) -> Figure {
    let (worker, port) = network(addresses);
    let mut plain = HashMap::new();
    for number in 0..addresses {
        plain.insert(mac(number).0, number);
    }
    let plain = RwLock::new(plain);
    let now = now();
    let (mut frame, mut same) = (tcp_frame(&[0; 100]), tcp_frame(&[0; 100]));
    let (mut ours, mut theirs) = (stride(addresses - 1), stride(addresses - 1));
    let (nanos, baseline_nanos) = compare(
        || {
            frame[..6].copy_from_slice(&mac(ours() + 1).0);
            let decision = worker.from_port(now, port, black_box(&frame));
            debug_assert!(matches!(decision, Decision::Peer(..)));
            black_box(&decision);
        },
        || {
            same[..6].copy_from_slice(&mac(theirs() + 1).0);
            let map = plain.read().expect("nobody panics");
            black_box((map.get(&same[..6]), map.get(&same[6..12])));
        },
    );
    Figure {
        what: format!("decide about a frame (guards, switch) among {addresses}"),
        nanos,
        bytes: None,
        baseline: "two lookups in a HashMap behind a lock",
        baseline_nanos,
    }
}

fn seal_and_open(bytes: usize) -> [Figure; 2] {
    let key = Aead::new(Suite::Aes256Gcm, &[7; 32]);
    let text = vec![0x5a; bytes];
    let mut place = vec![0; bytes + TAG_BYTES];
    let mut counter = 0;
    let (seal, plain_seal) = compare(
        || {
            counter += 1;
            key.seal(counter, black_box(&mut place));
        },
        || {
            let mut fresh = Vec::with_capacity(bytes + TAG_BYTES);
            fresh.extend_from_slice(black_box(&text));
            fresh.resize(bytes + TAG_BYTES, 0);
            key.seal(1, &mut fresh);
            black_box(fresh);
        },
    );
    let mut sealed = text.clone();
    sealed.resize(bytes + TAG_BYTES, 0);
    key.seal(1, &mut sealed);
    // Opening in place spoils what was sealed, so both ways copy it first; the copy is what the fresh buffer costs more than.
    let (open, plain_open) = compare(
        || {
            place.copy_from_slice(black_box(&sealed));
            assert!(key.open(1, &mut place));
        },
        || {
            let mut fresh = black_box(&sealed).clone();
            assert!(key.open(1, &mut fresh));
            black_box(fresh);
        },
    );
    let figure = |verb: &str, nanos, baseline_nanos| Figure {
        what: format!("{verb} {bytes} bytes (AES-256-GCM)"),
        nanos,
        bytes: Some(bytes),
        baseline: "in a new buffer",
        baseline_nanos,
    };
    [figure("seal", seal, plain_seal), figure("copy and open", open, plain_open)]
}

/// A TCP frame over IPv4 with right checksums.
fn tcp_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = [mac(1).0, mac(0).0].concat();
    frame.extend(ethertype::IPV4.to_be_bytes());
    frame.extend([0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol::TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(payload);
    finish(&mut frame, |bytes| Sum::default().bytes(bytes).folded());
    frame
}

/// Puts lengths and checksums into a TCP frame over IPv4, summing by `sum`.
#[expect(clippy::cast_possible_truncation, reason = "frames here are shorter than 64 KiB")]
fn finish(frame: &mut [u8], sum: impl Fn(&[u8]) -> u16) {
    let packet_bytes = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&packet_bytes.to_be_bytes());
    frame[24..26].fill(0);
    let header = !sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    frame[50..52].fill(0);
    let addresses = sum(&frame[26..34]);
    let segment = sum(&frame[34..]);
    let whole =
        Sum::default().word(addresses).word(segment).word(packet_bytes - 20).word(u16::from(protocol::TCP));
    frame[50..52].copy_from_slice(&whole.finish().to_be_bytes());
}

/// The internet checksum as RFC 1071 tells it: word by word.
fn plain_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the line above left 16 bits")]
    {
        sum as u16
    }
}

/// A super-frame as a TAP gives it: payload of 45 segments or as many as fit.
fn super_frame(size: usize) -> (VnetHeader, Vec<u8>) {
    let count = (65_000 / size).min(45);
    let mut frame = tcp_frame(&vec![0x5a; count * size]);
    let pseudo = Sum::default().bytes(&frame[26..34]).word(u16::from(protocol::TCP));
    #[expect(clippy::cast_possible_truncation, reason = "shorter than 64 KiB")]
    let pseudo = pseudo.word((frame.len() - 34) as u16).folded();
    frame[50..52].copy_from_slice(&pseudo.to_be_bytes());
    let header = VnetHeader {
        gso: Gso::Tcp4 { ecn: false },
        #[expect(clippy::cast_possible_truncation, reason = "shorter than 64 KiB")]
        gso_size: size as u16,
        header_bytes: 54,
        needs_checksum: Some(ChecksumPlace { start: 34, offset: 16 }),
        checksum_valid: false,
    };
    (header, frame)
}

fn cut_and_join(size: usize) -> Vec<Figure> {
    let (header, frame) = super_frame(size);
    let stride = size + 54;
    let count = (frame.len() - 54) / size;
    let mut out = vec![0; stride * count];
    let mut cut = |checksum| {
        let segments =
            Segments::plan(black_box(&header), &frame, 65_536).expect("the super-frame is well made");
        for (index, place) in out.chunks_exact_mut(stride).enumerate() {
            segments.write(&frame, index, checksum, place);
        }
        black_box(&mut out);
    };
    let plain_cut = || {
        for index in 0..count {
            let mut segment = frame[..54].to_vec();
            segment.extend_from_slice(&frame[54 + index * size..54 + (index + 1) * size]);
            #[expect(clippy::cast_possible_truncation, reason = "shorter than 64 KiB")]
            segment[38..42].copy_from_slice(&(1 + (index * size) as u32).to_be_bytes());
            finish(&mut segment, plain_sum);
            black_box(segment);
        }
    };
    let (complete, plain) = compare(|| cut(Checksum::Complete), plain_cut);
    let (partial, plain_again) = compare(|| cut(Checksum::Partial), plain_cut);
    let mut figures = vec![
        figure("cut", "checksums completed", (size, count), (complete, plain)),
        figure("cut", "checksums left open", (size, count), (partial, plain_again)),
    ];
    for (name, checksum) in
        [("checksums checked", Checksum::Complete), ("checksums left open", Checksum::Partial)]
    {
        cut(checksum);
        let arena = out_of(&header, &frame, checksum, (stride, count));
        figures.push(figure(
            "join",
            name,
            (size, count),
            join(&arena, stride, checksum == Checksum::Partial),
        ));
    }
    figures
}

/// The segments of a super-frame, one after the other.
fn out_of(header: &VnetHeader, frame: &[u8], checksum: Checksum, (stride, count): (usize, usize)) -> Vec<u8> {
    let segments = Segments::plan(header, frame, 65_536).expect("the super-frame is well made");
    let mut arena = vec![0; stride * count];
    for (index, place) in arena.chunks_exact_mut(stride).enumerate() {
        segments.write(frame, index, checksum, place);
    }
    arena
}

fn join(arena: &[u8], stride: usize, partial: bool) -> (f64, f64) {
    let mut joiner = Joiner::new();
    let count = arena.len() / stride;
    compare(
        || {
            let mut pieces = 0;
            let mut deliver = |(), slices: &[IoSlice<'_>]| pieces += black_box(slices).len();
            for index in 0..count {
                let received = Received { start: index * stride, end: (index + 1) * stride, partial };
                joiner
                    .push(black_box(arena), (), Capabilities::ALL, received, &mut deliver)
                    .expect("the segments have a transport");
            }
            joiner.flush(arena, &mut deliver);
            debug_assert_eq!(pieces, count + 2);
            black_box(pieces);
        },
        || {
            let mut whole: Vec<u8> = arena[..54].to_vec();
            for segment in arena.chunks_exact(stride) {
                if !partial {
                    black_box(plain_sum(&segment[34..]));
                }
                whole.extend_from_slice(&segment[54..]);
            }
            black_box(whole);
        },
    )
}

fn figure(
    verb: &str,
    how: &str,
    (size, count): (usize, usize),
    (nanos, baseline_nanos): (f64, f64),
) -> Figure {
    Figure {
        what: format!("{verb} {count} segments of {size} bytes, {how}"),
        nanos,
        bytes: Some(size * count),
        baseline: if verb == "cut" {
            "new buffers, sums by the word"
        } else {
            "copy together, sums by the word"
        },
        baseline_nanos,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_measured_are_the_frames_meant() {
        let (header, frame) = super_frame(1400);
        let segments = Segments::plan(&header, &frame, 65_536).unwrap();
        assert_eq!((segments.count(), segments.frame_bytes_max()), (45, 1454));
        let plain = {
            let mut segment = frame[..54].to_vec();
            segment.extend_from_slice(&frame[54..1454]);
            finish(&mut segment, plain_sum);
            segment
        };
        let mut ours = vec![0; 1454];
        segments.write(&frame, 0, Checksum::Complete, &mut ours);
        assert_eq!(ours, plain, "both ways make the same frame");
        let (worker, port) = network(10);
        let mut frame = tcp_frame(&[0; 10]);
        frame[..6].copy_from_slice(&mac(3).0);
        assert!(matches!(worker.from_port(now(), port, &frame), Decision::Peer(..)));
    }
}
