//! This host and the networks by themselves: what it knows, which it made, which it is on. No clock, no socket, no device.
//!
//! ```text
//!  create, join, leave ─▶┐                          ┌─▶ Spread, PassOn: tell connected members at once
//!  items of others ─────▶│ core: directory, own part├─▶ Keep: on disk before anything after it is done
//!  put out, time ───────▶┘                          └─▶ Changed: who is on a network, and with which addresses
//! ```
//!
//! # How all come to know the same
//! A change is told to every connected member, which tells it on to a few if it was news to it. Whoever connects compares ([`Directory::compare`]), and so
//! does everybody with somebody now and then; so what was lost or partitioned is healed. Numbers of claims grow, so order does not matter.
//!
//! # When two chose alike
//! [`super::seats`] settles it: whoever joined later yields, chooses anew among what it knows to be free, claims that, and tells its user. A host
//! whose claim had run out (it was off for longer than [`CLAIM_LIFETIME_S`]) comes back as one that joined just now.
//!
//! # A host that lost its state
//! hears its own claims from others. One that it does not know it answers by *left*, one that is newer than its own by a newer one.

mod kept;
mod wish;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use consort_overlay::{HostId, OverlayKey};
use consort_vswitch::NetworkId;
use libp2p_identity::Keypair;

use super::directory::{CLAIM_LIFETIME_S, Directory, Item, NETWORKS_MAX, NETWORKS_PER_CREATOR_MAX, Taken};
use super::heard::Heard;
use super::prefix::Prefix;
use super::seats::{Seat, choose, choose_ipv4_prefix, mac_of, settle, taken};
use super::statement::{Claim, Definition, Draft, Ipv6Wish, Refusal, Standing, Statement};

use kept::Kept;
pub use wish::{CreateRefusal, JoinRefusal, JoinWish, NetworkWish, Place, Wish};

/// How often a claim is renewed.
pub const RENEW_AFTER_S: u64 = CLAIM_LIFETIME_S / 3;
/// Networks this host is on at once: each has a device, and takes one of the 256 channels of each link.
pub const JOINED_MAX: usize = 64;
/// What a user is told of one network, the latest last.
const NOTICES_MAX: usize = 8;

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(pub u64);

impl Now {
    const fn seconds(self) -> u64 {
        self.0 / 1_000
    }
}

/// What the driver shall do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Tell every connected member: it is this host's own.
    Spread(Item),
    /// Tell some connected members, as others do: it came from another host.
    PassOn(Item),
    /// Keep these bytes under this key, or forget it.
    Keep {
        /// The key.
        key: String,
        /// The bytes.
        value: Option<Vec<u8>>,
    },
    /// Look again who is on this network.
    Changed(NetworkId),
}

/// This host's part in a network.
#[derive(Debug, Clone)]
pub struct Own {
    /// Its newest claim.
    pub claim: Claim,
    /// The device's name.
    pub device: String,
    /// What the user should know, the latest last.
    pub notices: Vec<String>,
}

/// The core.
#[derive(Debug)]
pub struct Core {
    me: HostId,
    keys: Keypair,
    overlay: OverlayKey,
    directory: Directory,
    own: BTreeMap<NetworkId, Own>,
    heard: Heard,
    outputs: VecDeque<Output>,
    refused: BTreeMap<Refusal, u64>,
}

impl Core {
    /// A host that knows nothing yet.
    #[must_use]
    pub fn new(keys: Keypair, overlay: OverlayKey) -> Self {
        Self {
            me: keys.public().to_peer_id(),
            keys,
            overlay,
            directory: Directory::new(overlay),
            own: BTreeMap::new(),
            heard: Heard::default(),
            outputs: VecDeque::new(),
            refused: BTreeMap::new(),
        }
    }

    /// What is known.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// This host's part in a network.
    #[must_use]
    pub fn own(&self, id: NetworkId) -> Option<&Own> {
        self.own.get(&id)
    }

    /// The networks this host is on.
    pub fn joined(&self) -> impl Iterator<Item = NetworkId> {
        self.own.keys().copied()
    }

    /// Who is on a network, with which addresses, the first in rank first.
    #[must_use]
    pub fn seats(&self, id: NetworkId) -> Vec<Seat> {
        self.directory
            .network(id)
            .map(|known| settle(&known.definition, known.joined().map(|claim| &claim.said)))
            .unwrap_or_default()
    }

    /// How often what others told was refused, by reason.
    #[must_use]
    pub const fn refused(&self) -> &BTreeMap<Refusal, u64> {
        &self.refused
    }

    /// Adds to what the user should know of a network.
    pub fn notice(&mut self, id: NetworkId, text: String) {
        if let Some(own) = self.own.get_mut(&id) {
            own.notices.retain(|known| *known != text);
            if own.notices.len() >= NOTICES_MAX {
                own.notices.remove(0);
            }
            own.notices.push(text);
        }
    }

    /// Makes a network; `used` are prefixes this host reaches otherwise.
    ///
    /// # Errors
    /// Says why not.
    pub fn create(
        &mut self,
        now: Now,
        wish: NetworkWish,
        nonce: [u8; 16],
        used: &[Prefix],
    ) -> Result<NetworkId, CreateRefusal> {
        let named = self.directory.networks().find(|known| known.definition.draft.name == wish.name);
        if let Some(known) = named {
            return Err(CreateRefusal::NameTaken(known.definition.id));
        }
        if self.directory.networks().count() >= NETWORKS_MAX {
            return Err(CreateRefusal::TooMany);
        }
        if self.directory.made_by(self.me) >= NETWORKS_PER_CREATOR_MAX {
            return Err(CreateRefusal::TooManyOfThisHost);
        }
        let mut draft = Draft::new(wish.name, self.me, now.seconds(), nonce, wish.mtu);
        draft.ipv4 = self.ipv4_prefix(wish.ipv4, nonce, used)?;
        draft.ipv6 = match wish.ipv6 {
            Wish::Off => Ipv6Wish::Off,
            Wish::Auto => Ipv6Wish::ById,
            Wish::Given(prefix) => {
                self.check_free(prefix)?;
                Ipv6Wish::Given(prefix)
            }
        };
        let definition = Definition::issue(&self.keys, self.overlay, draft);
        let id = definition.id;
        self.outputs
            .push_back(Output::Keep { key: format!("{MADE}{id}"), value: Some(definition.signed.encode()) });
        self.outputs.push_back(Output::Spread(Item::Network(definition.signed.clone())));
        self.directory.put_network(definition);
        Ok(id)
    }

    fn ipv4_prefix(
        &self,
        wish: Wish,
        seed: [u8; 16],
        used: &[Prefix],
    ) -> Result<Option<Prefix>, CreateRefusal> {
        match wish {
            Wish::Off => Ok(None),
            Wish::Given(prefix) => self.check_free(prefix).map(|()| Some(prefix)),
            Wish::Auto => {
                let known = self.directory.networks().flat_map(|known| known.definition.prefixes());
                let used: Vec<Prefix> = used.iter().copied().chain(known).collect();
                choose_ipv4_prefix(seed, &used).map(Some).ok_or(CreateRefusal::NoPrefixFree)
            }
        }
    }

    fn check_free(&self, prefix: Prefix) -> Result<(), CreateRefusal> {
        for known in self.directory.networks() {
            if let Some(taken) = known.definition.prefixes().find(|taken| taken.overlaps(prefix)) {
                return Err(CreateRefusal::PrefixTaken(known.definition.draft.name.clone(), taken));
            }
        }
        Ok(())
    }

    /// Finds a place on a network for this host.
    ///
    /// # Errors
    /// Says why there is none as wished.
    pub fn find_place(&self, id: NetworkId, wish: JoinWish) -> Result<Place, JoinRefusal> {
        let known = self.directory.network(id).ok_or(JoinRefusal::Unknown)?;
        if self.own.contains_key(&id) {
            return Err(JoinRefusal::Already);
        }
        if self.own.len() >= JOINED_MAX {
            return Err(JoinRefusal::TooMany);
        }
        let seats = self.seats(id);
        let taken = taken(&seats);
        let chosen = |prefix: Option<Prefix>| match prefix {
            Some(prefix) => choose(prefix, id, self.me, &taken).map(Some).ok_or(JoinRefusal::Full(prefix)),
            None => Ok(None),
        };
        let ipv4 = match (wish.ipv4, known.definition.draft.ipv4) {
            (None, prefix) => v4(chosen(prefix)?),
            (Some(_), None) => return Err(JoinRefusal::NoIpv4),
            (Some(address), Some(prefix)) if !prefix.is_for_host(address.into()) => {
                return Err(JoinRefusal::Outside(prefix));
            }
            (Some(address), Some(_)) => {
                let owner = seats.iter().find(|seat| seat.ipv4 == Some(address) && seat.host != self.me);
                if let Some(owner) = owner {
                    return Err(JoinRefusal::AddressTaken(owner.host));
                }
                Some(address)
            }
        };
        let ipv6 = if wish.speaks_ipv6 { v6(chosen(known.definition.ipv6)?) } else { None };
        Ok(Place { network: id, device: wish.device, mac: mac_of(id, self.me), ipv4, ipv6 })
    }

    /// Takes a place that was found just now.
    pub fn join(&mut self, now: Now, place: &Place) {
        let (id, standing) = (place.network, Standing::Joined { ipv4: place.ipv4, ipv6: place.ipv6 });
        let number = self.next_number(now, id);
        let said = Statement::new(id, self.me, number, now.0, now.seconds(), standing);
        let claim = Claim::issue(&self.keys, self.overlay, said);
        self.own.insert(id, Own { claim, device: place.device.clone(), notices: Vec::new() });
        self.announce(id);
        self.note_heard(now, id);
    }

    /// Leaves a network; false if this host was not on it.
    pub fn leave(&mut self, now: Now, id: NetworkId) -> bool {
        if self.own.remove(&id).is_none() {
            return false;
        }
        for kept in [JOINED, HEARD] {
            self.outputs.push_back(Output::Keep { key: format!("{kept}{id}"), value: None });
        }
        self.heard.forget(id);
        self.say_left(now, id);
        true
    }

    fn say_left(&mut self, now: Now, id: NetworkId) {
        let number = self.next_number(now, id);
        let said = Statement::new(id, self.me, number, now.0, now.seconds(), Standing::Left);
        let claim = Claim::issue(&self.keys, self.overlay, said);
        self.outputs.push_back(Output::Spread(Item::Claim(claim.signed.clone())));
        self.directory.put_claim(claim);
    }

    /// Greater than every number of this host's claims before, also if its clock went back.
    fn next_number(&self, now: Now, id: NetworkId) -> u64 {
        let own = self.own.get(&id).map(|own| own.claim.said.number);
        let heard = self.directory.network(id).and_then(|known| known.claims.get(&self.me));
        let last = own.into_iter().chain(heard.map(|claim| claim.said.number)).max();
        last.map_or(now.0, |last| now.0.max(last.saturating_add(1)))
    }

    /// This host's claim is known here, kept, and told.
    fn announce(&mut self, id: NetworkId) {
        let (Some(own), Some(known)) = (self.own.get(&id), self.directory.network(id)) else { return };
        let kept = Kept {
            definition: known.definition.signed.clone(),
            claim: own.claim.signed.clone(),
            device: own.device.clone(),
        };
        let value = postcard::to_stdvec(&kept).expect("what is kept holds nothing postcard cannot write");
        let claim = own.claim.clone();
        self.outputs.push_back(Output::Keep { key: format!("{JOINED}{id}"), value: Some(value) });
        self.outputs.push_back(Output::Spread(Item::Claim(claim.signed.clone())));
        self.outputs.push_back(Output::Changed(id));
        self.directory.put_claim(claim);
    }

    /// Says again that this host is on a network.
    fn renew(&mut self, now: Now, id: NetworkId) {
        let number = self.next_number(now, id);
        let Some(own) = self.own.get_mut(&id) else { return };
        let said = own.claim.said;
        let lapsed = said.issued_s.saturating_add(CLAIM_LIFETIME_S) <= now.seconds();
        let since_ms = if lapsed { now.0 } else { said.since_ms };
        let said = said.again(number, since_ms, now.seconds());
        own.claim = Claim::issue(&self.keys, self.overlay, said);
        self.announce(id);
    }

    /// Takes what another host told; gives the hosts it speaks of that are not known as members.
    pub fn handle_items(
        &mut self,
        now: Now,
        items: &[Item],
        is_member: impl Fn(HostId) -> bool,
    ) -> Vec<HostId> {
        let mut unproved = Vec::new();
        let mut changed = Vec::new();
        for item in items {
            match self.directory.take(now.seconds(), item, &is_member) {
                Ok(Taken::New(id)) => {
                    self.outputs.push_back(Output::PassOn(item.clone()));
                    changed.push(id);
                }
                Ok(Taken::Known) => {}
                Err(refusal) => {
                    *self.refused.entry(refusal).or_default() += 1;
                    // Honest members pass on what they verified: whoever sends a forgery shall not have us verify a thousand.
                    if refusal == Refusal::Signature {
                        break;
                    }
                    if let (Refusal::NotAMember, Item::Claim(signed)) = (refusal, item) {
                        unproved.extend(Claim::read(signed.clone()).map(|claim| claim.said.host));
                    }
                }
            }
        }
        changed.sort_unstable();
        changed.dedup();
        for id in changed {
            self.hear_of_oneself(now, id);
            self.look_again(now, id);
            self.note_heard(now, id);
        }
        unproved
    }

    fn note_heard(&mut self, now: Now, id: NetworkId) {
        if let (true, Some(known)) = (self.own.contains_key(&id), self.directory.network(id)) {
            self.heard.heard(now, known, self.me);
        }
    }

    fn keep_heard(&mut self, id: NetworkId) {
        let Some(known) = self.directory.network(id) else { return self.heard.forget(id) };
        let value = Some(self.heard.keep(known, self.me));
        self.outputs.push_back(Output::Keep { key: format!("{HEARD}{id}"), value });
    }

    /// Others may know a claim of this host that it does not: it lost its state.
    fn hear_of_oneself(&mut self, now: Now, id: NetworkId) {
        let heard = self.directory.network(id).and_then(|known| known.claims.get(&self.me));
        let Some(heard) = heard.map(|claim| claim.said) else { return };
        match self.own.get(&id) {
            Some(own) if heard.number > own.claim.said.number => self.renew(now, id),
            None if heard.standing != Standing::Left => self.say_left(now, id),
            Some(_) | None => {}
        }
    }

    /// Whether this host still has its addresses; what it lost to a host that joined earlier it chooses anew.
    fn look_again(&mut self, now: Now, id: NetworkId) {
        self.outputs.push_back(Output::Changed(id));
        let seats = self.seats(id);
        let Some(seat) = seats.iter().find(|seat| seat.host == self.me) else { return };
        if seat.lost.is_empty() || !self.own.contains_key(&id) {
            return;
        }
        let Some(known) = self.directory.network(id) else { return };
        let (draft_ipv4, prefix_ipv6) = (known.definition.draft.ipv4, known.definition.ipv6);
        let mut taken = taken(&seats);
        taken.extend(seats.iter().flat_map(|seat| seat.lost.iter().map(|(address, _)| *address)));
        let again = |had: Option<IpAddr>, prefix: Option<Prefix>, lost: bool| match (had, lost, prefix) {
            (None, true, Some(prefix)) => choose(prefix, id, self.me, &taken),
            (had, _, _) => had,
        };
        let lost_ipv4 = seat.lost.iter().any(|(address, _)| address.is_ipv4());
        let lost_ipv6 = seat.lost.iter().any(|(address, _)| address.is_ipv6());
        let ipv4 = v4(again(seat.ipv4.map(IpAddr::from), draft_ipv4, lost_ipv4));
        let ipv6 = v6(again(seat.ipv6.map(IpAddr::from), prefix_ipv6, lost_ipv6));
        for (address, owner) in seat.lost.clone() {
            let now_has = if address.is_ipv4() { ipv4.map(IpAddr::from) } else { ipv6.map(IpAddr::from) };
            let instead =
                now_has.map_or_else(|| "none is free".to_owned(), |now| format!("this host has {now} now"));
            self.notice(id, format!("{address} belongs to {owner}, which joined earlier; {instead}"));
        }
        if let Some(own) = self.own.get_mut(&id) {
            own.claim.said.standing = Standing::Joined { ipv4, ipv6 };
        }
        self.renew(now, id);
    }

    /// Somebody was put out of the overlay.
    pub fn handle_put_out(&mut self, is_member: impl Fn(HostId) -> bool) {
        let me = self.me;
        for id in self.directory.keep_members(|host| host == me || is_member(host)) {
            self.outputs.push_back(Output::Changed(id));
            // A crash must not bring it back.
            if self.own.contains_key(&id) {
                self.keep_heard(id);
            }
        }
    }

    /// Renews and forgets what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let due: Vec<NetworkId> = self
            .own
            .iter()
            .filter(|(_, own)| {
                let issued_s = own.claim.said.issued_s;
                // A clock that went back would keep the claim from being renewed while others' clocks let it run out.
                issued_s + RENEW_AFTER_S <= now.seconds() || issued_s > now.seconds()
            })
            .map(|(id, _)| *id)
            .collect();
        due.into_iter().for_each(|id| self.renew(now, id));
        let own = &self.own;
        let expired = self.directory.expire(now.seconds(), |id| own.contains_key(&id));
        for id in expired.changed {
            self.outputs.push_back(Output::Changed(id));
            self.note_heard(now, id);
        }
        self.heard.due(now).into_iter().for_each(|id| self.keep_heard(id));
        let keys = expired.forgotten.into_iter().map(|id| format!("{MADE}{id}"));
        self.outputs.extend(keys.map(|key| Output::Keep { key, value: None }));
    }

    /// When [`Self::handle_timeout`] has something to do, in milliseconds since 1970.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Now> {
        let renewals = self.own.values().map(|own| own.claim.said.issued_s + RENEW_AFTER_S);
        let claims = self.directory.networks().flat_map(|known| known.claims.values());
        let ends = claims.map(|claim| claim.said.issued_s.saturating_add(CLAIM_LIFETIME_S));
        let ends = renewals.chain(ends).min().map(|seconds| Now(seconds.saturating_mul(1_000)));
        ends.into_iter().chain(self.heard.poll_timeout()).min()
    }

    /// What to do, until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// Keys of what is kept: networks made here, networks joined, who else is on these.
const MADE: &str = "made/";
const JOINED: &str = "joined/";
const HEARD: &str = "heard/";

const fn v4(address: Option<IpAddr>) -> Option<Ipv4Addr> {
    match address {
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(_)) | None => None,
    }
}

const fn v6(address: Option<IpAddr>) -> Option<Ipv6Addr> {
    match address {
        Some(IpAddr::V6(address)) => Some(address),
        Some(IpAddr::V4(_)) | None => None,
    }
}

#[cfg(test)]
mod tests;
