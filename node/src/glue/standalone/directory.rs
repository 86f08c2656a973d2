//! What a host knows of networks by themselves: their definitions, and who claims to be on them.
//!
//! Every member of the overlay knows all of them within the bounds below, so any can be asked, and none has to live. A definition lives while
//! somebody is on the network, and [`UNUSED_KEPT_S`] beyond; a claim lives [`CLAIM_LIFETIME_S`] and is renewed by its host. Both
//! times stand in what is signed, so that all hosts forget alike, as far as their clocks agree.
//!
//! Owns: the tables and their bounds, which of two claims of a host counts (the greater number), what two hosts must tell each other to know the
//! same ([`Directory::compare`]). Refuses to know: keys of its own, the clock, who is a member (it asks whoever calls), and what the addresses are for.

use std::collections::BTreeMap;

use consort_overlay::{HostId, OverlayKey};
use consort_vswitch::NetworkId;
use serde::{Deserialize, Serialize};

use super::statement::{Claim, Definition, Refusal, Signed};

/// Networks known at once: a few for each of dozens of people. Each costs about 300 bytes.
pub const NETWORKS_MAX: usize = 256;
/// Networks of one creator, so that one host cannot fill everybody's table.
pub const NETWORKS_PER_CREATOR_MAX: usize = 32;
/// Hosts on one network: each is linked with each, and each frame for all goes once to each.
pub const HOSTS_MAX: usize = 256;
/// Claims known at once, of all networks together: 2 MB.
pub const CLAIMS_MAX: usize = 4_096;
/// How long a claim counts. The address of a host that is switched off is free again after this; a claim renewed thrice in this time survives two
/// lost renewals.
pub const CLAIM_LIFETIME_S: u64 = 30 * 60;
/// How long a network is remembered that nobody is on.
pub const UNUSED_KEPT_S: u64 = 7 * 24 * 3600;
/// How far another host's clock may run ahead: as for host records.
pub const CLOCKS_APART_MAX_S: u64 = consort_overlay::CLOCK_SKEW_MAX.as_secs();

/// A statement as it is told to others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Item {
    /// A definition.
    Network(Signed),
    /// A claim.
    Claim(Signed),
}

impl Item {
    /// The host that a claim speaks of.
    #[must_use]
    pub fn claimant(&self) -> Option<HostId> {
        match self {
            Self::Network(_) => None,
            Self::Claim(signed) => Claim::read(signed.clone()).ok().map(|claim| claim.said.host),
        }
    }
}

/// What a host knows of one network.
#[derive(Debug, Clone)]
pub struct Known {
    /// The network.
    pub definition: Definition,
    /// The newest claim of each host, those that left included.
    pub claims: BTreeMap<HostId, Claim>,
}

impl Known {
    /// A number that two hosts have in common if they know the same.
    fn digest(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for (host, claim) in &self.claims {
            hasher.update(&host.to_bytes()).update(&claim.said.number.to_be_bytes());
        }
        u64::from_be_bytes(*hasher.finalize().as_bytes().first_chunk().expect("a hash is longer"))
    }

    fn items(&self) -> impl Iterator<Item = Item> {
        let claims = self.claims.values().map(|claim| Item::Claim(claim.signed.clone()));
        std::iter::once(Item::Network(self.definition.signed.clone())).chain(claims)
    }

    /// Hosts on it now.
    pub fn joined(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values().filter(|claim| claim.is_joined())
    }
}

/// Networks and what is known of each, as a number.
pub type Digests = Vec<(NetworkId, u64)>;

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It changed what is known of this network.
    New(NetworkId),
    /// Nothing new.
    Known,
}

/// What was over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Networks on which somebody is no more.
    pub changed: Vec<NetworkId>,
    /// Networks that are not known any more.
    pub forgotten: Vec<NetworkId>,
}

/// Why a name does not lead to one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoSuch {
    /// Nobody has told of it.
    Unknown,
    /// Several have the name.
    Ambiguous(Vec<NetworkId>),
}

/// The tables.
#[derive(Debug)]
pub struct Directory {
    overlay: OverlayKey,
    networks: BTreeMap<NetworkId, Known>,
}

impl Directory {
    /// Nothing known of this overlay's networks yet.
    #[must_use]
    pub const fn new(overlay: OverlayKey) -> Self {
        Self { overlay, networks: BTreeMap::new() }
    }

    /// All that is known, by id.
    pub fn networks(&self) -> impl Iterator<Item = &Known> {
        self.networks.values()
    }

    /// What is known of one network.
    #[must_use]
    pub fn network(&self, id: NetworkId) -> Option<&Known> {
        self.networks.get(&id)
    }

    /// The network that a text means: a name, `NAME@ID`, or an id; an id may be cut short.
    ///
    /// # Errors
    /// If it means none, or several.
    pub fn lookup(&self, text: &str) -> Result<NetworkId, NoSuch> {
        let (name, id) = match text.split_once('@') {
            Some((name, id)) => (Some(name), Some(id)),
            None => (Some(text), None),
        };
        let named = |known: &Known| name.is_none_or(|name| known.definition.draft.name.as_str() == name);
        let identified = |known: &Known| id.is_none_or(|id| known.definition.id.to_string().starts_with(id));
        let found = |matches: &dyn Fn(&Known) -> bool| -> Vec<NetworkId> {
            self.networks().filter(|known| matches(known)).map(|known| known.definition.id).collect()
        };
        let mut ids = found(&|known| named(known) && identified(known));
        if ids.is_empty() && id.is_none() {
            ids = found(&|known| known.definition.id.to_string() == text);
        }
        match ids[..] {
            [id] => Ok(id),
            [] => Err(NoSuch::Unknown),
            _ => Err(NoSuch::Ambiguous(ids)),
        }
    }

    /// Takes a definition that was made here or was kept here.
    pub fn put_network(&mut self, definition: Definition) {
        self.networks.entry(definition.id).or_insert(Known { definition, claims: BTreeMap::new() });
    }

    /// Takes a claim that was made here; its network is known.
    pub fn put_claim(&mut self, claim: Claim) {
        if let Some(known) = self.networks.get_mut(&claim.network()) {
            known.claims.insert(claim.said.host, claim);
        }
    }

    /// Forgets a claim.
    pub fn remove_claim(&mut self, network: NetworkId, host: HostId) {
        if let Some(known) = self.networks.get_mut(&network) {
            known.claims.remove(&host);
        }
    }

    /// Takes what another host told.
    ///
    /// # Errors
    /// Says why it is refused.
    pub fn take(
        &mut self,
        now_s: u64,
        item: &Item,
        is_member: impl Fn(HostId) -> bool,
    ) -> Result<Taken, Refusal> {
        match item {
            Item::Network(signed) => self.take_network(now_s, signed),
            Item::Claim(signed) => self.take_claim(now_s, signed, is_member),
        }
    }

    fn take_network(&mut self, now_s: u64, signed: &Signed) -> Result<Taken, Refusal> {
        if self.networks.contains_key(&Definition::id_in(signed)) {
            return Ok(Taken::Known);
        }
        let definition = Definition::open(self.overlay, signed.clone())?;
        if definition.draft.created_s > now_s + CLOCKS_APART_MAX_S {
            return Err(Refusal::Future);
        }
        let creator = definition.draft.creator;
        if self.networks.len() >= NETWORKS_MAX || self.made_by(creator) >= NETWORKS_PER_CREATOR_MAX {
            return Err(Refusal::Full);
        }
        let id = definition.id;
        self.put_network(definition);
        Ok(Taken::New(id))
    }

    /// How many networks a host has made that are remembered.
    #[must_use]
    pub fn made_by(&self, creator: HostId) -> usize {
        self.networks().filter(|known| known.definition.draft.creator == creator).count()
    }

    fn take_claim(
        &mut self,
        now_s: u64,
        signed: &Signed,
        is_member: impl Fn(HostId) -> bool,
    ) -> Result<Taken, Refusal> {
        let claim = Claim::read(signed.clone())?;
        let all: usize = self.networks().map(|known| known.claims.len()).sum();
        let known = self.networks.get_mut(&claim.network()).ok_or(Refusal::NetworkUnknown)?;
        let newest = known.claims.get(&claim.said.host);
        if newest.is_some_and(|newest| newest.said.number >= claim.said.number) {
            return Ok(Taken::Known);
        }
        if claim.said.issued_s > now_s + CLOCKS_APART_MAX_S {
            return Err(Refusal::Future);
        }
        if is_over(&claim, now_s) {
            return Err(Refusal::Expired);
        }
        if newest.is_none() && (known.claims.len() >= HOSTS_MAX || all >= CLAIMS_MAX) {
            return Err(Refusal::Full);
        }
        if !is_member(claim.said.host) {
            return Err(Refusal::NotAMember);
        }
        claim.verify(self.overlay)?;
        let id = claim.network();
        known.claims.insert(claim.said.host, claim);
        Ok(Taken::New(id))
    }

    /// Forgets what is over. Networks in `kept` stay known.
    pub fn expire(&mut self, now_s: u64, kept: impl Fn(NetworkId) -> bool) -> Expired {
        let (mut changed, mut forgotten) = (Vec::new(), Vec::new());
        for (id, known) in &mut self.networks {
            let before = known.claims.len();
            known.claims.retain(|_, claim| !is_over(claim, now_s));
            if known.claims.len() != before {
                changed.push(*id);
            }
        }
        self.networks.retain(|id, known| {
            let young = known.definition.draft.created_s + UNUSED_KEPT_S > now_s;
            let stays = young || kept(*id) || known.joined().next().is_some();
            if !stays {
                forgotten.push(*id);
            }
            stays
        });
        Expired { changed, forgotten }
    }

    /// Forgets the claims of hosts that are members no more; gives the networks they were on.
    pub fn keep_members(&mut self, is_member: impl Fn(HostId) -> bool) -> Vec<NetworkId> {
        let mut changed = Vec::new();
        for (id, known) in &mut self.networks {
            let before = known.claims.len();
            known.claims.retain(|host, _| is_member(*host));
            if known.claims.len() != before {
                changed.push(*id);
            }
        }
        changed
    }

    /// What is known of each network, as a number.
    #[must_use]
    pub fn digests(&self) -> Digests {
        self.networks.iter().map(|(id, known)| (*id, known.digest())).collect()
    }

    /// What another host with these digests should be told of, and what this host wants to be told of.
    #[must_use]
    pub fn compare(&self, theirs: &[(NetworkId, u64)]) -> (Vec<NetworkId>, Vec<NetworkId>) {
        let theirs: BTreeMap<NetworkId, u64> = theirs.iter().copied().collect();
        let ours: BTreeMap<NetworkId, u64> = self.digests().into_iter().collect();
        let differs = |(id, digest): (&NetworkId, &u64), others: &BTreeMap<NetworkId, u64>| {
            (others.get(id) != Some(digest)).then_some(*id)
        };
        let tell = ours.iter().filter_map(|entry| differs(entry, &theirs)).collect();
        let want = theirs.iter().filter_map(|entry| differs(entry, &ours)).collect();
        (tell, want)
    }

    /// All of these networks, each whole, as many as `items_max` allows.
    #[must_use]
    pub fn items(&self, ids: &[NetworkId], items_max: usize) -> Vec<Item> {
        let mut items = Vec::new();
        for known in ids.iter().filter_map(|id| self.networks.get(id)) {
            if items.len() + 1 + known.claims.len() > items_max {
                break;
            }
            items.extend(known.items());
        }
        items
    }
}

/// Whether a claim counts no more.
pub(super) const fn is_over(claim: &Claim, now_s: u64) -> bool {
    claim.said.issued_s.saturating_add(CLAIM_LIFETIME_S) <= now_s
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::super::statement::{Draft, Standing, Statement};
    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn keys(byte: u8) -> Keypair {
        Keypair::ed25519_from_bytes([byte; 32]).unwrap()
    }

    fn host(byte: u8) -> HostId {
        keys(byte).public().to_peer_id()
    }

    fn overlay() -> OverlayKey {
        OverlayKey(host(9).to_string().parse().unwrap())
    }

    fn network(name: &str, creator: u8, nonce: u8) -> Definition {
        let draft = Draft::new(name.parse().unwrap(), host(creator), NOW, [nonce; 16], 1500);
        Definition::issue(&keys(creator), overlay(), draft)
    }

    fn claim(network: &Definition, byte: u8, number: u64, issued_s: u64) -> Item {
        let standing = Standing::Joined { ipv4: None, ipv6: None };
        let said = Statement::new(network.id, host(byte), number, 1, issued_s, standing);
        Item::Claim(Claim::issue(&keys(byte), overlay(), said).signed)
    }

    fn directory(networks: &[Definition]) -> Directory {
        let mut directory = Directory::new(overlay());
        for network in networks {
            let item = Item::Network(network.signed.clone());
            assert_eq!(directory.take(NOW, &item, |_| true), Ok(Taken::New(network.id)));
        }
        directory
    }

    #[test]
    fn of_two_claims_of_a_host_the_greater_number_counts() {
        let lan = network("lan", 1, 0);
        let mut known = directory(std::slice::from_ref(&lan));
        assert_eq!(known.take(NOW, &claim(&lan, 2, 5, NOW), |_| true), Ok(Taken::New(lan.id)));
        assert_eq!(known.take(NOW, &claim(&lan, 2, 5, NOW), |_| true), Ok(Taken::Known));
        assert_eq!(known.take(NOW, &claim(&lan, 2, 4, NOW), |_| true), Ok(Taken::Known));
        assert_eq!(known.take(NOW, &claim(&lan, 2, 6, NOW), |_| true), Ok(Taken::New(lan.id)));
    }

    #[test]
    fn claims_of_strangers_of_the_past_and_of_the_future_are_refused() {
        let lan = network("lan", 1, 0);
        let mut known = directory(std::slice::from_ref(&lan));
        let mut take = |item: &Item, member: bool| known.take(NOW, item, |_| member);
        assert_eq!(take(&claim(&lan, 2, 1, NOW), false), Err(Refusal::NotAMember));
        assert_eq!(take(&claim(&lan, 2, 1, NOW - CLAIM_LIFETIME_S), true), Err(Refusal::Expired));
        assert_eq!(take(&claim(&lan, 2, 1, NOW + CLOCKS_APART_MAX_S + 1), true), Err(Refusal::Future));
        assert_eq!(take(&claim(&network("other", 1, 1), 2, 1, NOW), true), Err(Refusal::NetworkUnknown));
        let forged = Statement::new(lan.id, host(2), 1, 1, NOW, Standing::Left);
        let forged = Item::Claim(Claim::issue(&keys(3), overlay(), forged).signed);
        assert_eq!(take(&forged, true), Err(Refusal::Signature));
        assert_eq!(take(&claim(&lan, 2, 1, NOW), true), Ok(Taken::New(lan.id)));
    }

    #[test]
    fn a_name_two_networks_have_leads_to_neither_but_their_ids_do() {
        let (one, other) = (network("lan", 1, 0), network("lan", 2, 1));
        let known = directory(&[one.clone(), other.clone(), network("wan", 1, 2)]);
        let Err(NoSuch::Ambiguous(ids)) = known.lookup("lan") else { panic!("ambiguous expected") };
        assert_eq!(ids.len(), 2);
        assert_eq!(known.lookup(&format!("lan@{}", one.id)), Ok(one.id));
        assert_eq!(known.lookup(&format!("lan@{}", &other.id.to_string()[..8])), Ok(other.id));
        assert_eq!(known.lookup(&other.id.to_string()), Ok(other.id));
        assert_eq!(known.lookup(&format!("wan@{}", one.id)), Err(NoSuch::Unknown));
        assert_eq!(known.lookup("nothing"), Err(NoSuch::Unknown));
    }

    #[test]
    fn a_network_lives_while_somebody_is_on_it_and_a_week_beyond() {
        let lan = network("lan", 1, 0);
        let mut known = directory(std::slice::from_ref(&lan));
        let late = NOW + UNUSED_KEPT_S;
        assert!(known.take(late, &claim(&lan, 2, 1, late), |_| true).is_ok());
        assert_eq!(known.expire(late, |_| false), Expired { changed: vec![], forgotten: vec![] });
        assert!(known.network(lan.id).is_some());
        let later = late + CLAIM_LIFETIME_S;
        assert_eq!(known.expire(later, |_| true), Expired { changed: vec![lan.id], forgotten: vec![] });
        assert!(known.network(lan.id).is_some(), "this host keeps it");
        assert_eq!(known.expire(later, |_| false), Expired { changed: vec![], forgotten: vec![lan.id] });
        assert!(known.network(lan.id).is_none());
    }

    #[test]
    fn no_creator_and_no_crowd_fills_the_tables() {
        let mut known = Directory::new(overlay());
        let mut outcomes = Vec::new();
        for nonce in 0..=u8::try_from(NETWORKS_PER_CREATOR_MAX).unwrap() {
            outcomes.push(known.take(NOW, &Item::Network(network("lan", 1, nonce).signed), |_| true));
        }
        assert_eq!(outcomes.pop().unwrap(), Err(Refusal::Full));
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(known.made_by(host(1)), NETWORKS_PER_CREATOR_MAX);
    }

    #[test]
    fn two_directories_know_the_same_after_telling_each_other_what_differs() {
        let (lan, wan) = (network("lan", 1, 0), network("wan", 2, 1));
        let (mut one, mut other) =
            (directory(std::slice::from_ref(&lan)), directory(&[lan.clone(), wan.clone()]));
        one.take(NOW, &claim(&lan, 3, 1, NOW), |_| true).unwrap();
        let (tell, want) = other.compare(&one.digests());
        assert_eq!((tell.len(), want.len()), (2, 1));
        for item in other.items(&tell, 100) {
            one.take(NOW, &item, |_| true).unwrap();
        }
        for item in one.items(&want, 100) {
            other.take(NOW, &item, |_| true).unwrap();
        }
        assert_eq!(one.digests(), other.digests());
        assert_eq!(one.compare(&other.digests()), (vec![], vec![]));
    }

    #[test]
    fn a_network_is_told_whole_or_not_at_all() {
        let (lan, wan) = (network("lan", 1, 0), network("wan", 2, 1));
        let mut known = directory(&[lan.clone(), wan.clone()]);
        known.take(NOW, &claim(&lan, 3, 1, NOW), |_| true).unwrap();
        assert_eq!(known.items(&[lan.id, wan.id], 3).len(), 3);
        assert_eq!(known.items(&[lan.id, wan.id], 2).len(), 2);
        assert_eq!(known.items(&[lan.id, wan.id], 1).len(), 0);
    }

    #[test]
    fn who_is_put_out_is_on_no_network() {
        let lan = network("lan", 1, 0);
        let mut known = directory(std::slice::from_ref(&lan));
        known.take(NOW, &claim(&lan, 3, 1, NOW), |_| true).unwrap();
        assert_eq!(known.keep_members(|_| true), []);
        assert_eq!(known.keep_members(|member| member != host(3)), [lan.id]);
        assert_eq!(known.network(lan.id).unwrap().joined().count(), 0);
    }
}
