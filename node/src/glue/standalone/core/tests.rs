//! The rules of the core, one host at a time, and twenty hosts under a network that loses, repeats, reorders and parts.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

const START: Now = Now(1_795_000_000_000);

fn keys(byte: u8) -> Keypair {
    Keypair::ed25519_from_bytes([byte; 32]).unwrap()
}

fn overlay() -> OverlayKey {
    OverlayKey(keys(200).public().to_peer_id().to_string().parse().unwrap())
}

fn core(byte: u8) -> Core {
    Core::new(keys(byte), overlay())
}

fn later(now: Now, seconds: u64) -> Now {
    Now(now.0 + seconds * 1_000)
}

fn wish(name: &str) -> NetworkWish {
    NetworkWish { name: name.parse().unwrap(), ipv4: Wish::Auto, ipv6: Wish::Auto, mtu: 1500 }
}

fn join_wish(ipv4: Option<&str>) -> JoinWish {
    JoinWish { ipv4: ipv4.map(|text| text.parse().unwrap()), speaks_ipv6: true, device: "lan".into() }
}

/// What a core wants told, all other outputs done with.
fn spread(core: &mut Core) -> Vec<Item> {
    let outputs = std::iter::from_fn(|| core.poll_output());
    let told = |output| match output {
        Output::Spread(item) | Output::PassOn(item) => Some(item),
        Output::Keep { .. } | Output::Changed(_) => None,
    };
    outputs.filter_map(told).collect()
}

/// What a core wants kept, by key.
fn kept(core: &mut Core, disk: &mut BTreeMap<String, Vec<u8>>) {
    while let Some(output) = core.poll_output() {
        if let Output::Keep { key, value } = output {
            match value {
                Some(value) => drop(disk.insert(key, value)),
                None => drop(disk.remove(&key)),
            }
        }
    }
}

fn join(core: &mut Core, now: Now, id: NetworkId, ipv4: Option<&str>) -> Place {
    let place = core.find_place(id, join_wish(ipv4)).unwrap();
    core.join(now, &place);
    place
}

fn seat_of(core: &Core, id: NetworkId) -> Seat {
    core.seats(id).into_iter().find(|seat| seat.host == core.me).unwrap()
}

#[test]
fn a_network_made_here_can_be_joined_elsewhere_by_name() {
    let (mut one, mut other) = (core(1), core(2));
    let id = one.create(START, wish("office"), [1; 16], &[]).unwrap();
    assert!(
        matches!(one.create(START, wish("office"), [2; 16], &[]), Err(CreateRefusal::NameTaken(known)) if known == id)
    );
    other.handle_items(START, &spread(&mut one), |_| true);
    assert_eq!(other.directory().lookup("office"), Ok(id));
    let place = join(&mut other, START, id, None);
    assert!(place.ipv4.is_some() && place.ipv6.is_some());
    assert_eq!(other.find_place(id, join_wish(None)), Err(JoinRefusal::Already));
}

#[test]
fn an_address_that_is_taken_or_not_for_hosts_is_refused() {
    let (mut one, mut other) = (core(1), core(2));
    let given = Wish::Given("10.7.0.0/24".parse().unwrap());
    let id = one.create(START, NetworkWish { ipv4: given, ..wish("office") }, [1; 16], &[]).unwrap();
    join(&mut one, START, id, Some("10.7.0.9"));
    other.handle_items(START, &spread(&mut one), |_| true);
    let refused = |text: &str| other.find_place(id, join_wish(Some(text))).unwrap_err();
    assert_eq!(refused("10.7.0.9"), JoinRefusal::AddressTaken(one.me));
    assert!(matches!(refused("10.7.1.9"), JoinRefusal::Outside(_)));
    assert!(matches!(refused("10.7.0.255"), JoinRefusal::Outside(_)));
    let overlapping = NetworkWish { ipv4: Wish::Given("10.7.0.0/25".parse().unwrap()), ..wish("branch") };
    assert!(matches!(other.create(START, overlapping, [1; 16], &[]), Err(CreateRefusal::PrefixTaken(..))));
    let off = NetworkWish { ipv4: Wish::Off, ..wish("bare") };
    let bare = other.create(START, off, [3; 16], &[]).unwrap();
    assert_eq!(other.find_place(bare, join_wish(Some("10.7.0.8"))), Err(JoinRefusal::NoIpv4));
}

#[test]
fn who_joined_later_yields_and_tells_its_user() {
    let (mut one, mut other) = (core(1), core(2));
    let id = one.create(START, wish("office"), [1; 16], &[]).unwrap();
    other.handle_items(START, &spread(&mut one), |_| true);
    let first = join(&mut one, START, id, None).ipv4.unwrap();
    let second = join(&mut other, later(START, 1), id, Some(&first.to_string())).ipv4.unwrap();
    assert_eq!(first, second);
    let (told, heard) = (spread(&mut one), spread(&mut other));
    one.handle_items(later(START, 2), &heard, |_| true);
    other.handle_items(later(START, 2), &told, |_| true);
    assert_eq!(seat_of(&one, id).ipv4, Some(first));
    let yielded = seat_of(&other, id).ipv4.unwrap();
    assert_ne!(yielded, first);
    let notices = &other.own(id).unwrap().notices;
    assert!(
        notices[0].contains(&first.to_string()) && notices[0].contains(&yielded.to_string()),
        "{notices:?}"
    );
    assert!(one.own(id).unwrap().notices.is_empty());
    one.handle_items(later(START, 3), &spread(&mut other), |_| true);
    assert_eq!(one.seats(id), other.seats(id));
}

/// Lets the time pass that claims wait to be kept.
fn keep_all(core: &mut Core, now: Now, disk: &mut BTreeMap<String, Vec<u8>>) {
    core.handle_timeout(later(now, 10));
    kept(core, disk);
}

/// Two hosts on a network; the second's core and disk, and the network.
fn two_on_a_network() -> (Core, BTreeMap<String, Vec<u8>>, Core, NetworkId) {
    let (mut one, mut other) = (core(1), core(2));
    let id = one.create(START, wish("office"), [1; 16], &[]).unwrap();
    join(&mut one, START, id, None);
    other.handle_items(START, &spread(&mut one), |_| true);
    join(&mut other, START, id, None);
    let mut disk = BTreeMap::new();
    keep_all(&mut other, START, &mut disk);
    (other, disk, one, id)
}

#[test]
fn a_restarted_host_knows_who_was_on_its_networks_without_asking() {
    let (_, disk, one, id) = two_on_a_network();
    let restored = |now: Now| {
        let mut after = core(2);
        assert_eq!(after.restore(now, disk.clone().into_iter().collect()), Vec::<String>::new());
        after.seats(id).iter().any(|seat| seat.host == one.me)
    };
    assert!(restored(later(START, 60)));
    assert!(!restored(later(START, CLAIM_LIFETIME_S)), "its claim is over");
}

#[test]
fn claims_that_were_kept_and_changed_are_refused() {
    let (_, mut disk, one, id) = two_on_a_network();
    let heard = disk.get_mut(&format!("{HEARD}{id}")).unwrap();
    *heard.last_mut().unwrap() ^= 1;
    let mut after = core(2);
    assert_eq!(after.restore(START, disk.into_iter().collect()), [format!("{HEARD}{id}")]);
    assert!(after.seats(id).iter().all(|seat| seat.host != one.me));
}

#[test]
fn who_was_put_out_is_not_kept() {
    let (mut other, mut disk, one, id) = two_on_a_network();
    other.handle_put_out(|host| host != one.me);
    kept(&mut other, &mut disk);
    let mut after = core(2);
    after.restore(START, disk.into_iter().collect());
    assert!(after.seats(id).iter().all(|seat| seat.host != one.me));
}

#[test]
fn renewals_alone_are_kept_seldom_and_a_network_that_was_left_is_forgotten() {
    let (mut other, mut disk, mut one, id) = two_on_a_network();
    let key = format!("{HEARD}{id}");
    let before = disk[&key].clone();
    let renewed = later(START, RENEW_AFTER_S);
    one.handle_timeout(renewed);
    other.handle_items(renewed, &spread(&mut one), |_| true);
    keep_all(&mut other, renewed, &mut disk);
    assert_eq!(disk[&key], before);
    keep_all(&mut other, later(renewed, CLAIM_LIFETIME_S / 6), &mut disk);
    assert_ne!(disk[&key], before);
    other.leave(renewed, id);
    kept(&mut other, &mut disk);
    assert!(!disk.contains_key(&key));
}

#[test]
fn a_restarted_host_has_its_place_again_unless_it_was_away_too_long() {
    let mut before = core(1);
    let mut disk = BTreeMap::new();
    let id = before.create(START, wish("office"), [1; 16], &[]).unwrap();
    let place = join(&mut before, START, id, None);
    kept(&mut before, &mut disk);
    let restored = |now: Now| {
        let mut after = core(1);
        assert_eq!(after.restore(now, disk.clone().into_iter().collect()), Vec::<String>::new());
        (after.own(id).unwrap().claim.said, after.own(id).unwrap().device.clone())
    };
    let (soon, device) = restored(later(START, 60));
    assert_eq!((soon.since_ms, device.as_str()), (START.0, "lan"));
    assert_eq!(soon.addresses().next(), place.ipv4.map(IpAddr::from));
    assert!(soon.number > START.0);
    let (late, _) = restored(later(START, CLAIM_LIFETIME_S));
    assert_eq!(late.since_ms, later(START, CLAIM_LIFETIME_S).0);
}

#[test]
fn what_was_kept_of_another_overlay_is_forgotten() {
    let mut before = core(1);
    let mut disk = BTreeMap::new();
    let id = before.create(START, wish("office"), [1; 16], &[]).unwrap();
    join(&mut before, START, id, None);
    kept(&mut before, &mut disk);
    let other = OverlayKey(keys(201).public().to_peer_id().to_string().parse().unwrap());
    let mut after = Core::new(keys(1), other);
    assert_eq!(after.restore(START, disk.clone().into_iter().collect()).len(), 2);
    kept(&mut after, &mut disk);
    assert!(disk.is_empty() && after.joined().next().is_none());
}

#[test]
fn who_leaves_is_gone_for_all_and_its_address_free() {
    let (mut one, mut other) = (core(1), core(2));
    let id = one.create(START, wish("office"), [1; 16], &[]).unwrap();
    let place = join(&mut one, START, id, None);
    other.handle_items(START, &spread(&mut one), |_| true);
    assert!(one.leave(later(START, 1), id) && !one.leave(later(START, 1), id));
    other.handle_items(later(START, 1), &spread(&mut one), |_| true);
    assert!(other.seats(id).is_empty());
    assert!(other.find_place(id, join_wish(Some(&place.ipv4.unwrap().to_string()))).is_ok());
}

#[test]
fn a_host_without_its_state_takes_back_what_it_hears_of_itself() {
    let (mut one, mut other) = (core(1), core(2));
    let id = one.create(START, wish("office"), [1; 16], &[]).unwrap();
    join(&mut one, START, id, None);
    let told = spread(&mut one);
    other.handle_items(START, &told, |_| true);
    let mut again = core(1);
    again.handle_items(later(START, 5), &told, |_| true);
    other.handle_items(later(START, 5), &spread(&mut again), |_| true);
    assert!(other.seats(id).is_empty());
}

#[test]
fn one_forgery_ends_the_message_it_came_in() {
    let (mut one, mut other) = (core(1), core(2));
    let id = one.create(START, wish("office"), [1; 16], &[]).unwrap();
    other.handle_items(START, &spread(&mut one), |_| true);
    let standing = Standing::Joined { ipv4: None, ipv6: None };
    let claim = |keys: &Keypair, host| {
        let said = Statement::new(id, host, START.0, START.0, START.seconds(), standing);
        Item::Claim(Claim::issue(keys, overlay(), said).signed)
    };
    let (genuine, forged) = (claim(&keys(1), one.me), claim(&keys(3), keys(4).public().to_peer_id()));
    other.handle_items(START, &[forged.clone(), genuine.clone(), forged], |_| true);
    assert_eq!((other.seats(id).len(), other.refused()[&Refusal::Signature]), (0, 1));
    other.handle_items(START, &[genuine], |_| true);
    assert_eq!(other.seats(id).len(), 1);
}

#[test]
fn a_network_nobody_is_on_is_forgotten_on_disk_as_well() {
    let mut one = core(1);
    let mut disk = BTreeMap::new();
    one.create(START, wish("office"), [1; 16], &[]).unwrap();
    kept(&mut one, &mut disk);
    assert_eq!(disk.len(), 1);
    one.handle_timeout(later(START, super::super::directory::UNUSED_KEPT_S));
    kept(&mut one, &mut disk);
    assert!(disk.is_empty());
}

#[test]
fn claims_are_renewed_in_time_and_those_of_silent_hosts_run_out() {
    let (mut one, mut other) = (core(1), core(2));
    let id = one.create(START, wish("office"), [1; 16], &[]).unwrap();
    join(&mut one, START, id, None);
    other.handle_items(START, &spread(&mut one), |_| true);
    // What was heard is kept first.
    let kept_at = one.poll_timeout().unwrap();
    assert!(kept_at < later(START, RENEW_AFTER_S));
    one.handle_timeout(kept_at);
    assert_eq!(one.poll_timeout(), Some(later(START, RENEW_AFTER_S)));
    one.handle_timeout(later(START, RENEW_AFTER_S));
    other.handle_items(later(START, RENEW_AFTER_S), &spread(&mut one), |_| true);
    other.handle_timeout(later(START, CLAIM_LIFETIME_S));
    assert_eq!(other.seats(id).len(), 1);
    other.handle_timeout(later(START, CLAIM_LIFETIME_S + RENEW_AFTER_S));
    assert_eq!(other.seats(id).len(), 0);
    // Its own place a host keeps, however long it slept.
    one.handle_timeout(later(START, 10 * CLAIM_LIFETIME_S));
    assert_eq!(one.seats(id).len(), 1);
}

#[test]
fn who_is_put_out_is_seen_no_more() {
    let (mut one, mut other) = (core(1), core(2));
    let id = one.create(START, wish("office"), [1; 16], &[]).unwrap();
    join(&mut one, START, id, None);
    other.handle_items(START, &spread(&mut one), |_| true);
    join(&mut other, START, id, None);
    spread(&mut other);
    other.handle_put_out(|_| false);
    assert_eq!(other.poll_output(), Some(Output::Changed(id)));
    assert_eq!(other.seats(id).len(), 1, "itself");
    let unproved =
        other.handle_items(START, &[Item::Claim(one.own(id).unwrap().claim.signed.clone())], |_| false);
    assert_eq!(unproved, [one.me]);
}

/// Twenty hosts that join one small network at about the same time, with messages lost, repeated, late and cut off; then all is healed.
struct World {
    rng: ChaCha8Rng,
    cores: Vec<Core>,
    /// To whom, and what; taken in any order.
    under_way: Vec<(usize, Vec<Item>)>,
    /// Which side of the cut each is on.
    side: Vec<bool>,
    now: Now,
}

impl World {
    fn chance(&mut self, of: u64) -> bool {
        self.rng.next_u64().is_multiple_of(of)
    }

    fn pick(&mut self, of: usize) -> usize {
        usize::try_from(self.rng.next_u64() % u64::try_from(of).unwrap()).unwrap()
    }

    /// What a core wants told goes to all on its side.
    fn send(&mut self, from: usize) {
        let items = spread(&mut self.cores[from]);
        if items.is_empty() {
            return;
        }
        for to in 0..self.cores.len() {
            if to == from || self.side[to] != self.side[from] || self.chance(4) {
                continue;
            }
            self.under_way.push((to, items.clone()));
            if self.chance(8) {
                self.under_way.push((to, items.clone()));
            }
        }
    }

    fn deliver(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let at = self.pick(self.under_way.len());
        let (to, items) = self.under_way.swap_remove(at);
        self.cores[to].handle_items(self.now, &items, |_| true);
        self.send(to);
    }

    fn exchange(&mut self, one: usize, other: usize) {
        if self.side[one] != self.side[other] {
            return;
        }
        let (tell, want) = self.cores[other].directory().compare(&self.cores[one].directory().digests());
        let answer = self.cores[other].directory().items(&tell, 1_000);
        self.cores[one].handle_items(self.now, &answer, |_| true);
        let told = self.cores[one].directory().items(&want, 1_000);
        self.cores[other].handle_items(self.now, &told, |_| true);
        self.send(one);
        self.send(other);
    }
}

#[test]
fn hosts_that_join_at_once_end_with_distinct_addresses_whatever_the_network_does() {
    const HOSTS: u8 = 20;
    for seed in 0..12 {
        let mut world = World {
            rng: ChaCha8Rng::seed_from_u64(seed),
            cores: (1..=HOSTS).map(core).collect(),
            under_way: Vec::new(),
            side: vec![true; usize::from(HOSTS)],
            now: START,
        };
        let narrow = NetworkWish { ipv4: Wish::Given("10.7.0.0/27".parse().unwrap()), ..wish("office") };
        let id = world.cores[0].create(START, narrow, [1; 16], &[]).unwrap();
        let definition = spread(&mut world.cores[0]);
        for core in &mut world.cores[1..] {
            core.handle_items(START, &definition, |_| true);
            spread(core);
        }
        for host in 0..usize::from(HOSTS) {
            world.side[host] = !world.chance(3);
        }
        for host in 0..usize::from(HOSTS) {
            world.now = Now(world.now.0 + u64::from(world.chance(2)));
            let now = world.now;
            join(&mut world.cores[host], now, id, None);
            world.send(host);
            for _ in 0..3 {
                world.deliver();
            }
        }
        for _ in 0..200 {
            world.now = Now(world.now.0 + 20);
            world.deliver();
        }
        // All is healed: whoever meets somebody tells him what he does not know.
        world.side.fill(true);
        for _ in 0..8 {
            for one in 0..usize::from(HOSTS) {
                world.now = Now(world.now.0 + 20);
                let other = world.pick(usize::from(HOSTS));
                world.exchange(one, other);
            }
            while !world.under_way.is_empty() {
                world.deliver();
            }
        }
        let seats = world.cores[0].seats(id);
        let addresses: BTreeSet<_> = seats.iter().filter_map(|seat| seat.ipv4).collect();
        assert_eq!(addresses.len(), usize::from(HOSTS), "seed {seed}: {seats:?}");
        assert!(seats.iter().all(|seat| seat.lost.is_empty()), "seed {seed}: {seats:?}");
        for core in &world.cores {
            assert_eq!(core.seats(id), seats, "seed {seed}");
        }
    }
}
