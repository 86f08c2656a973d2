//! A search is hearsay: whoever answers it with a slice and stewards of his own making shows nobody anything, and gets no
//! order carried out.

use consort_scheduler::bounded::List;
use consort_scheduler::engine::{
    Allow, Answer, BootId, Capabilities, Command, CommandId, Engine, EngineConfig, Images, OrderFailure,
    Output, Share,
};
use consort_scheduler::identity::{HostId, TenantId};
use consort_scheduler::limits::TERM_MAX;
use consort_scheduler::message::{
    Held, Message, OrderKind, Selector, SignedOrder, SliceHint, decode, encode,
};
use consort_scheduler::register::{Accepted, Ballot};
use consort_scheduler::resources::Resources;
use consort_scheduler::slice::charter::{Charter, Founded};
use consort_scheduler::slice::file;
use consort_scheduler::slice::record::{Record, State};
use consort_scheduler::units::Millis;
use libp2p_identity::Keypair;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

const NOW: Millis = Millis(1000);

fn keypair(byte: u8) -> Keypair {
    Keypair::ed25519_from_bytes([byte; 32]).unwrap()
}

fn host(byte: u8) -> HostId {
    keypair(byte).public().to_peer_id()
}

const SEARCHER: u8 = 1;
const STEWARD: u8 = 2;
const TENANT: u8 = 9;
const THIEF: u8 = 6;

fn founded(by: u8) -> Founded {
    let spec = file::parse("name = \"wanted\"\n[machine.m]\nimage = \"mini\"").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    Charter::found(spec, &keypair(by), host(STEWARD), &[host(STEWARD)], &mut rng).unwrap()
}

/// Searches for "wanted" with an order of this kind, told of this slice, whose steward shows this charter.
fn searched(kind: OrderKind, hinted: &Founded, shown: &Founded) -> (Option<Answer>, Vec<&'static str>) {
    let config = EngineConfig {
        keypair: keypair(SEARCHER),
        share: Share { limit: Resources::NONE, term_max: TERM_MAX, allow: Allow::Nobody },
        capabilities: Capabilities { categories: [].into(), images: Images::Any },
        boot: BootId::of(b"test"),
    };
    let mut engine = Engine::new(config, None, [3; 32], NOW).unwrap();
    let selector = Selector::Name("wanted".parse().unwrap());
    let order = SignedOrder::sign(&keypair(TENANT), host(SEARCHER), selector.clone(), kind).unwrap();
    let command = Command::Order { order: Some(order), selector, candidates: vec![host(THIEF)] };
    engine.handle_command(NOW, CommandId(0), command);
    let (mut answer, mut sent) = (None, Vec::new());
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Answer { answer: given, .. } => answer = Some(*given),
            Output::Send { to, kind, body } => {
                sent.push(kind);
                if let Some(reply) = reply(&decode(&body).unwrap(), hinted, shown) {
                    engine.handle_message(NOW, to, &encode(&reply));
                }
            }
            _ => {}
        }
    }
    (answer, sent)
}

/// What the thief, and whoever he names, answer.
fn reply(asked: &Message, hinted: &Founded, shown: &Founded) -> Option<Message> {
    match asked {
        Message::Find { round, .. } => {
            let hint = SliceHint {
                slice: hinted.slice,
                name: "wanted".parse().unwrap(),
                tenant: TenantId(host(TENANT)),
                stewards: hinted.charter.stewards.clone(),
                state: State::Active,
                version: 5,
            };
            Some(Message::Found { round: *round, slices: List::first_of([hint]) })
        }
        Message::Read { slice, round, .. } => {
            let value = Record { state: State::Active, slice: *slice, ..Record::forming(shown, &[]) };
            let ballot = Ballot { round: 1, nonce: 1 };
            Some(Message::Standing {
                slice: *slice,
                round: *round,
                held: Held::Value(Box::new(Accepted { ballot, value })),
                reports: List::new(),
                grants: List::new(),
                left: Millis(1),
                charter: Some(Box::new(shown.signed.clone())),
            })
        }
        _ => None,
    }
}

#[test]
fn a_slice_the_tenant_founded_is_shown_and_orders_reach_its_steward() {
    let real = founded(TENANT);
    let (answer, _) = searched(OrderKind::See, &real, &real);
    assert!(matches!(answer, Some(Answer::Shown(view)) if view.id == real.slice));
    let (answer, sent) = searched(OrderKind::Remove, &real, &real);
    assert_eq!((answer, sent), (None, vec!["find", "read", "order"]), "the steward has not answered yet");
}

#[test]
fn a_slice_of_the_thiefs_making_is_neither_shown_nor_given_orders() {
    let (forged, real) = (founded(THIEF), founded(TENANT));
    for kind in [OrderKind::See, OrderKind::Remove] {
        for (hinted, shown) in [(&forged, &forged), (&forged, &real), (&real, &forged)] {
            let (answer, sent) = searched(kind, hinted, shown);
            assert_eq!(answer, Some(Answer::Failed(OrderFailure::NotFound)));
            assert!(!sent.contains(&"order"));
        }
    }
}
