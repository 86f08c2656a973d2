//! The rules of the door, between two doors without a connection.

use super::*;
use crate::{
    membership::Revocation,
    protocol::member::Answer,
    testing::{NOW, chain, key, membership, overlay, pair, ticket},
};
use std::time::Duration;

const T: Duration = Duration::from_secs(1000);

struct Still(UnixSeconds);

impl Clock for Still {
    fn since_epoch(&self) -> Duration {
        Duration::from_secs(u64::from(self.0.0))
    }
}

fn door_at(n: u8, now: UnixSeconds) -> Door {
    Door::new(pair(n), u64::from(n), Arc::new(Still(now)), 8)
}

fn member(members: &[u8]) -> Door {
    let mut door = door_at(*members.last().unwrap(), NOW);
    door.membership = Some(membership(members));
    door
}

fn host(n: u8) -> HostId {
    key(n).host().unwrap()
}

/// The whole handshake: what the listener answered, and what the dialler made of it.
fn meet(dialler: &mut Door, listener: &mut Door) -> (Answer, Option<Result<Passed, Refusal>>) {
    let (from, to) = (dialler.local(), listener.local());
    let hello = dialler.hello(to, T).unwrap();
    let hello = Hello::decode(&hello.encode()).unwrap();
    let answer = listener.answer(from, &hello, T);
    let judged = answer.as_ref().ok().map(|welcome| dialler.judge(to, &hello, welcome));
    (answer, judged)
}

#[test]
fn two_members_of_one_overlay_pass() {
    let (mut one, mut other) = (member(&[1]), member(&[1, 2]));
    let (answer, judged) = meet(&mut one, &mut other);
    assert_eq!(answer.unwrap().admission, None);
    assert_eq!(judged, Some(Ok(Passed::Member)));
    assert_eq!(one.established(host(2), Direction::Outbound, T), Some(chain(&[1, 2])));
    assert_eq!(other.established(host(1), Direction::Inbound, T), Some(chain(&[1])));
    assert_eq!(other.established(host(1), Direction::Inbound, T), None, "a proof serves one connection");
}

#[test]
fn a_newcomer_is_admitted_and_is_a_member_from_then_on() {
    let (mut newcomer, mut inviter) = (door_at(3, NOW), member(&[1, 2]));
    newcomer.tickets.push(ticket(&[1, 2], UnixSeconds(NOW.0 + 60)));
    let (answer, judged) = meet(&mut newcomer, &mut inviter);
    assert!(answer.unwrap().admission.is_some());
    assert_eq!(judged, Some(Ok(Passed::Admission)));
    let got = newcomer.membership.clone().unwrap();
    assert_eq!((got.overlay, got.chain.holder(), got.chain.voucher()), (overlay(), key(3), Some(key(2))));
    assert_eq!(got.link_secret, membership(&[1]).link_secret);
    assert!(newcomer.tickets.is_empty());
    assert_eq!(inviter.issued.back(), Some(&got.chain));
    assert_eq!(meet(&mut newcomer, &mut inviter).1, Some(Ok(Passed::Member)));
    assert_eq!(meet(&mut newcomer, &mut member(&[1])).1, Some(Ok(Passed::Member)), "by every member");
}

#[test]
fn the_listeners_clock_decides_whether_a_ticket_is_still_good() {
    let until = UnixSeconds(NOW.0 + 60);
    let (mut newcomer, mut inviter) = (door_at(3, NOW), door_at(1, until));
    inviter.membership = Some(membership(&[1]));
    newcomer.tickets.push(ticket(&[1], until));
    assert_eq!(meet(&mut newcomer, &mut inviter).0, Err(Refusal::Expired));
    assert!(inviter.issued.is_empty());
}

#[test]
fn a_stolen_claim_or_chain_is_refused() {
    let mut inviter = member(&[1]);
    let mut newcomer = door_at(3, NOW);
    newcomer.tickets.push(ticket(&[1], UnixSeconds(NOW.0 + 60)));
    let hello = newcomer.hello(host(1), T).unwrap();
    assert_eq!(inviter.answer(host(4), &hello, T).err(), Some(Refusal::Claim), "another host repeats it");
    let theirs = Hello { overlay: overlay(), session: 1, proof: Proof::Member(chain(&[1, 2])) };
    assert_eq!(inviter.answer(host(4), &theirs, T).err(), Some(Refusal::Holder));
    let Proof::Newcomer { invitation, .. } = &hello.proof else { unreachable!() };
    let posing = Hello { overlay: overlay(), session: 1, proof: Proof::Member(invitation.clone()) };
    let invited = invitation.holder().host().unwrap();
    assert_eq!(
        inviter.answer(invited, &posing, T).err(),
        Some(Refusal::Standing),
        "an invitation as a member"
    );
}

#[test]
fn another_overlay_is_refused_by_the_listener() {
    let mut stranger = door_at(5, NOW);
    let other = crate::testing::pair(9);
    stranger.membership = Some(Membership {
        overlay: OverlayKey(Key::of(&other)),
        chain: Chain::found(&other, key(5), NOW),
        ..membership(&[1])
    });
    assert_eq!(meet(&mut stranger, &mut member(&[1])).0, Err(Refusal::OtherOverlay));
    // It says it is ours, with its own chain.
    let proof = Proof::Member(Chain::found(&other, key(5), NOW));
    let lying = Hello { overlay: overlay(), session: 1, proof };
    assert_eq!(member(&[1]).answer(host(5), &lying, T).err(), Some(Refusal::Signature));
}

#[test]
fn a_listener_that_only_says_it_is_a_member_is_refused_by_the_dialler() {
    let mut dialler = member(&[1]);
    let hello = dialler.hello(host(5), T).unwrap();
    let welcome = Welcome { session: 1, chain: chain(&[1, 2]), admission: None };
    assert_eq!(dialler.judge(host(5), &hello, &welcome), Err(Refusal::Holder));
    let welcome = Welcome { session: 1, chain: Chain::found(&pair(9), key(5), NOW), admission: None };
    assert_eq!(dialler.judge(host(5), &hello, &welcome), Err(Refusal::Signature));
}

#[test]
fn a_newcomer_takes_no_membership_from_a_host_that_has_none() {
    let mut newcomer = door_at(3, NOW);
    newcomer.tickets.push(ticket(&[1], UnixSeconds(NOW.0 + 60)));
    let hello = newcomer.hello(host(1), T).unwrap();
    let genuine = member(&[1]).answer(host(3), &hello, T).unwrap();
    let forged = Welcome { chain: Chain::found(&pair(9), key(1), NOW), ..genuine.clone() };
    assert_eq!(newcomer.judge(host(1), &hello, &forged), Err(Refusal::Signature));
    let empty = Welcome { admission: None, ..genuine.clone() };
    assert_eq!(newcomer.judge(host(1), &hello, &empty), Err(Refusal::Malformed));
    let of_another = Some(Admission { chain: chain(&[1, 2]), link_secret: membership(&[1]).link_secret });
    let swapped = Welcome { admission: of_another, ..genuine };
    assert_eq!(newcomer.judge(host(1), &hello, &swapped), Err(Refusal::Holder));
    assert_eq!(newcomer.membership, None);
}

#[test]
fn a_revoked_host_passes_no_door_in_either_direction() {
    let mut listener = member(&[1]);
    let out = Revocation::issue(&pair(1), overlay(), chain(&[1, 2]), NOW);
    listener.revocations.take(overlay(), out).unwrap();
    assert_eq!(meet(&mut member(&[1, 2]), &mut listener).0, Err(Refusal::Revoked));
    assert_eq!(meet(&mut member(&[1, 2, 3]), &mut listener).0, Err(Refusal::Revoked), "nor whom it admitted");
    assert_eq!(listener.hello(host(2), T).err(), Some(Refusal::Revoked));
    // Not with a new ticket of somebody else's either.
    let mut again = door_at(2, NOW);
    again.tickets.push(ticket(&[1], UnixSeconds(NOW.0 + 60)));
    assert_eq!(meet(&mut again, &mut listener).0, Err(Refusal::Revoked));
}

#[test]
fn who_is_put_out_between_handshake_and_connection_does_not_get_one() {
    let (mut dialler, mut listener) = (member(&[1, 2]), member(&[1]));
    assert_eq!(meet(&mut dialler, &mut listener).1, Some(Ok(Passed::Member)));
    let out = Revocation::issue(&pair(1), overlay(), chain(&[1, 2]), NOW);
    listener.revocations.take(overlay(), out).unwrap();
    assert_eq!(listener.established(host(2), Direction::Inbound, T), None);
}

#[test]
fn who_belongs_nowhere_lets_nobody_in() {
    assert_eq!(meet(&mut member(&[1]), &mut door_at(3, NOW)).0, Err(Refusal::NotReady));
    assert_eq!(door_at(3, NOW).hello(host(1), T).err(), Some(Refusal::NotReady));
}

#[test]
fn a_member_at_full_depth_admits_nobody() {
    let members: Vec<u8> = (1..=16).collect();
    let mut deepest = member(&members);
    let invitation = ticket(&[1], UnixSeconds(NOW.0 + 60));
    let claim = claim(&invitation.invitation_pair(), overlay(), key(30));
    let proof = Proof::Newcomer { claim, invitation: invitation.chain().clone() };
    let hello = Hello { overlay: overlay(), session: 1, proof };
    assert_eq!(deepest.answer(host(30), &hello, T).err(), Some(Refusal::TooDeep));
}

#[test]
fn admissions_remembered_keep_their_bound() {
    let mut inviter = member(&[1]);
    let invitation = ticket(&[1], UnixSeconds(NOW.0 + 60));
    for n in 0..=u8::MAX {
        let claim = claim(&invitation.invitation_pair(), overlay(), key(n));
        let proof = Proof::Newcomer { claim, invitation: invitation.chain().clone() };
        inviter.answer(host(n), &Hello { overlay: overlay(), session: 1, proof }, T).unwrap();
    }
    let again = ticket(&[1], UnixSeconds(NOW.0 + 60));
    let mut newcomer = door_at(7, NOW);
    newcomer.tickets.push(again);
    assert_eq!(meet(&mut newcomer, &mut inviter).1, Some(Ok(Passed::Admission)));
    assert_eq!(inviter.issued.len(), ISSUED_MAX);
    assert_eq!(inviter.issued.back().map(Chain::holder), Some(key(7)));
}

#[test]
fn a_host_that_moved_is_let_in_though_the_others_own_dial_has_just_led_to_a_connection() {
    let (mut mover, mut stayer) = (member(&[1, 2]), member(&[1]));
    assert_eq!(meet(&mut stayer, &mut mover).1, Some(Ok(Passed::Member)));
    assert!(stayer.established(host(2), Direction::Outbound, T).is_some());
    assert!(mover.established(host(1), Direction::Inbound, T).is_some());
    // The mover's end is dead and closed; the other's stands until it hears of it.
    mover.arbiter.closed(&host(1));
    assert_eq!(meet(&mut mover, &mut stayer).0, Err(Refusal::Redundant), "for two dials that crossed");
    mover.arbiter.ended(host(1), Direction::Outbound);
    mover.moved();
    assert_eq!(meet(&mut mover, &mut stayer).1, Some(Ok(Passed::Member)));
}
