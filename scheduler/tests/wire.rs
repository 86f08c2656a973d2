//! Messages as bytes: golden bytes, round trips, hostile input.

use consort_scheduler::bounded::List;
use consort_scheduler::limits::MESSAGE_BYTES_MAX;
use consort_scheduler::message::{
    AskKind, DecodeError, GroupOffer, Held, MachineReport, MachineState, Message, OrderKind, Reader,
    Selector, SignedOrder, Verdict, decode, encode, fuzz,
};
use consort_scheduler::refusal::Refusal;
use consort_scheduler::register::{Accepted, Ballot};
use consort_scheduler::resources::{Resource, Resources};
use consort_scheduler::slice::charter::{Charter, Founded};
use consort_scheduler::slice::id::SliceId;
use consort_scheduler::slice::record::{Assignment, Record};
use consort_scheduler::slice::spec::Category;
use consort_scheduler::slice::{file, grant};
use consort_scheduler::units::Millis;
use libp2p_identity::Keypair;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

const SLICE: SliceId = SliceId([0xaa; 16]);
const BALLOT: Ballot = Ballot { round: 3, nonce: 0x80 };

fn keypair(byte: u8) -> Keypair {
    Keypair::ed25519_from_bytes([byte; 32]).unwrap()
}

fn founded() -> Founded {
    let text =
        "name = \"a\"\n[network.lan]\n[machine.m]\nimage = \"mini\"\nnetworks = [\"lan\"]\ncount = 64\n";
    let spec = file::parse(text).unwrap();
    let hosts: Vec<_> = (1..=3).map(|byte| keypair(byte).public().to_peer_id()).collect();
    Charter::found(spec, &keypair(9), hosts[0], &hosts, &mut ChaCha8Rng::seed_from_u64(1)).unwrap()
}

fn record() -> Record {
    let size = Resources { cpus_milli: 1000, memory_bytes: 1 << 28, disk_bytes: 1 << 30, machines: 1 };
    let assignment = |number| Assignment {
        group: 0,
        number,
        host: keypair(u8::try_from(number).unwrap() + 10).public().to_peer_id(),
        category: Category::Sandbox,
        size,
    };
    Record::forming(&founded(), &(0..64).map(assignment).collect::<Vec<_>>())
}

/// One of each kind.
fn specimens() -> Vec<Message> {
    let charter = Box::new(founded().signed);
    let me = keypair(1).public().to_peer_id();
    let order = SignedOrder::sign(&keypair(9), me, Selector::Id(SLICE), OrderKind::Remove).unwrap();
    let verdict = Verdict {
        offer: Resources { machines: 2, ..Resources::NONE },
        groups: List::first_of([GroupOffer { group: 0, category: Category::Vm }]),
        free: Resources::NONE,
        refusals: List::first_of([
            Refusal::NoCapacity { resource: Resource::Memory, missing: 77 },
            Refusal::ImageUnknown { image: "big".try_into().unwrap() },
            Refusal::TermTooLong { longest: Millis(5) },
        ]),
    };
    let reports = List::first_of([
        MachineReport { machine: 1, state: MachineState::Running },
        MachineReport { machine: 2, state: MachineState::Failed("why".try_into().unwrap()) },
    ]);
    let accepted = Box::new(Accepted { ballot: BALLOT, value: record() });
    let network = record().networks[0].id;
    let grants = List::first_of([(network, grant::issue(&keypair(1), me, &record(), network, me).unwrap())]);
    vec![
        Message::Ask { charter: charter.clone(), machines: 3, kind: AskKind::Reserve(Millis(10_000)) },
        Message::Answer { slice: SLICE, kind: AskKind::Plan, verdict },
        Message::Cancel { slice: SLICE },
        Message::Pledge { slice: SLICE, machines: 1, taken: Resources::NONE },
        Message::Pledged { slice: SLICE, refusal: Some(Refusal::HoldOver) },
        Message::News { slice: SLICE },
        Message::Prepare { charter: charter.clone(), ballot: BALLOT },
        Message::Promise { slice: SLICE, ballot: BALLOT, accepted: Some(accepted.clone()) },
        Message::Accept { ballot: BALLOT, record: Box::new(record()) },
        Message::Accepted { slice: SLICE, ballot: BALLOT },
        Message::Refused {
            slice: SLICE,
            ballot: BALLOT,
            refusal: consort_scheduler::message::AcceptorRefusal::HostAlive(me),
        },
        Message::Read {
            slice: SLICE,
            round: 1,
            known: Some(BALLOT),
            reader: Reader::Renewing(reports.clone()),
        },
        Message::Read { slice: SLICE, round: 1, known: None, reader: Reader::Tenant(order.clone()) },
        Message::Standing {
            slice: SLICE,
            round: 1,
            held: Held::Value(accepted),
            reports,
            grants,
            left: Millis(1),
            charter: Some(charter.clone()),
        },
        Message::Settle { charter, abort: true },
        Message::Release { slice: SLICE },
        Message::Heard { slice: SLICE, round: 2 },
        Message::HeardAgo { slice: SLICE, round: 2, ages: List::first_of([(me, Millis(7))]) },
        Message::Find { round: 3, order: Some(order.clone()), selector: Selector::All },
        Message::Found { round: 3, slices: List::new() },
        Message::Order { slice: SLICE, round: 4, order },
        Message::Ordered { slice: SLICE, round: 4, result: consort_scheduler::message::OrderResult::Done(9) },
    ]
}

#[test]
fn each_kind_reads_back_as_written_and_fits() {
    for message in specimens() {
        let bytes = encode(&message);
        assert!(bytes.len() <= MESSAGE_BYTES_MAX, "{} takes {}", message.kind(), bytes.len());
        assert_eq!(decode(&bytes), Ok(message));
    }
}

#[test]
fn golden_bytes() {
    let accepted = [
        &[1][..],      // version
        &[9],          // kind: Accepted is the tenth
        &[0xaa; 16],   // slice
        &[3],          // round, varint
        &[0x80, 0x01], // nonce 0x80, varint
    ]
    .concat();
    assert_eq!(encode(&Message::Accepted { slice: SLICE, ballot: BALLOT }), accepted);
    let pledge = [
        &[1, 3][..],         // version, kind: Pledge
        &[0xaa; 16],         // slice
        &[2],                // machines
        &[0xd0, 0x0f],       // 2000 thousandths of a CPU
        &[0x80, 0x80, 0x40], // 2^20 bytes of memory
        &[0],                // disk
        &[2],                // machines
    ]
    .concat();
    let taken = Resources { cpus_milli: 2000, memory_bytes: 1 << 20, disk_bytes: 0, machines: 2 };
    assert_eq!(encode(&Message::Pledge { slice: SLICE, machines: 2, taken }), pledge);
    let read = [
        &[1, 11][..],     // version, kind: Read
        &[0xaa; 16],      // slice
        &[5],             // round
        &[1, 3, 0x80, 1], // known: some, round, nonce
        &[0],             // reader: Renewing
        &[1],             // one report
        &[7],             // of machine 7
        &[2],             // state: Running
    ]
    .concat();
    let reports = List::first_of([MachineReport { machine: 7, state: MachineState::Running }]);
    let message =
        Message::Read { slice: SLICE, round: 5, known: Some(BALLOT), reader: Reader::Renewing(reports) };
    assert_eq!(encode(&message), read);
}

#[test]
fn each_refusal_of_bytes_has_its_reason() {
    let good = encode(&Message::Release { slice: SLICE });
    assert_eq!(decode(&[]), Err(DecodeError::Empty));
    assert_eq!(decode(&[&[2], &good[1..]].concat()), Err(DecodeError::Version));
    assert_eq!(decode(&good[..good.len() - 1]), Err(DecodeError::Malformed));
    assert_eq!(decode(&[&good[..], &[0]].concat()), Err(DecodeError::TrailingBytes));
    assert_eq!(decode(&[1, 200, 1]), Err(DecodeError::Malformed), "an unknown kind");
    assert_eq!(decode(&vec![1; MESSAGE_BYTES_MAX + 1]), Err(DecodeError::TooLong));
}

#[test]
fn a_declared_length_allocates_nothing() {
    // Found: round, then 2^56 slices declared.
    let bomb = [1, 19, 3, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    assert_eq!(decode(&bomb), Err(DecodeError::Malformed));
}

/// The fuzz target's body, for a moment: random, flipped and cut bytes.
#[test]
fn hostile_bytes_are_refused_and_nothing_else() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let below = |rng: &mut ChaCha8Rng, bound: usize| usize::try_from(rng.next_u64() % bound as u64).unwrap();
    let specimens: Vec<Vec<u8>> = specimens().iter().map(encode).collect();
    for round in 0..4000 {
        let mut bytes = match round % 4 {
            0 => {
                let mut bytes = vec![0; below(&mut rng, 300)];
                rng.fill_bytes(&mut bytes);
                bytes
            }
            _ => specimens[below(&mut rng, specimens.len())].clone(),
        };
        if round % 4 == 0 && bytes.len() > 1 {
            bytes[0] = 1;
            bytes[1] %= 21;
        }
        for _ in 0..below(&mut rng, 4) {
            let at = below(&mut rng, bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << below(&mut rng, 8);
            }
        }
        if round % 3 == 0 {
            bytes.truncate(below(&mut rng, bytes.len() + 1));
        }
        fuzz(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz(&bytes);
    }
}
