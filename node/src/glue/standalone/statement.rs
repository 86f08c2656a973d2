//! What is signed about a network by itself: its *definition*, by the host that made it, and each host's *claim* to be on it.
//!
//! Both travel as the bytes that were signed and a signature, and are verified over the bytes as received. The signed message is a label, the
//! overlay's key as text, a zero byte, and the body; so nothing of one overlay or kind can be taken for something of another.
//!
//! Definition, postcard:
//!
//! | field | meaning |
//! |---|---|
//! | version | 1 |
//! | name | lower-case letters, digits, `-` |
//! | creator | the host that signs it |
//! | created | seconds since 1970 |
//! | nonce | 16 bytes, so that no two networks are the same |
//! | mtu | the largest payload of a frame |
//! | ipv4, ipv6 | none, or a prefix; of IPv6 also: by the id |
//!
//! The network's id is the first 16 bytes of the BLAKE3 hash of these bytes: nobody can give another meaning to an id.
//!
//! Claim, postcard: version 1, network, host, number (the greater is the newer), since (milliseconds since 1970), issued (seconds since
//! 1970), and *joined* with addresses, or *left*. A claim is also the grant that a host presents when it opens a channel: it
//! fits [`GRANT_BYTES_MAX`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use consort_overlay::{HostId, OverlayKey};
use consort_scheduler::bounded::List;
use consort_scheduler::slice::id::Name;
use consort_vswitch::NetworkId;
use libp2p_identity::Keypair;
use serde::{Deserialize, Serialize};

use super::prefix::Prefix;
use crate::config::resolved::MTU_RANGE;
use crate::glue::remote::proof::key_of;

/// The longest body: a definition with the longest name and both prefixes has about 200 bytes.
pub const BODY_BYTES_MAX: usize = 256;
/// The largest grant the data plane takes.
pub const GRANT_BYTES_MAX: usize = consort_vswitch::wire::control::GRANT_BYTES_MAX;
/// The longest signed statement in bytes: length, body, signature.
pub const SIGNED_BYTES_MAX: usize = 2 + BODY_BYTES_MAX + 64;
const _: () = assert!(SIGNED_BYTES_MAX <= GRANT_BYTES_MAX);

const VERSION: u8 = 1;
const DEFINITION: &[u8] = b"consort 1 network definition\0";
const CLAIM: &[u8] = b"consort 1 network claim\0";
const ID_CONTEXT: &str = "consort 2026-11 id of a network by itself";

/// Why a statement is not taken. Each has a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Cannot be decoded.
    #[error("it cannot be decoded")]
    Malformed,
    /// Of another version.
    #[error("it is of another version")]
    Version,
    /// Not signed by whom it names.
    #[error("its signature is wrong")]
    Signature,
    /// Prefixes or MTU that no network can have.
    #[error("no network can be so")]
    Impossible,
    /// Issued in the future: a clock is wrong.
    #[error("it comes from the future")]
    Future,
    /// Its time is over.
    #[error("its time is over")]
    Expired,
    /// The network it is about is not known.
    #[error("its network is not known")]
    NetworkUnknown,
    /// Whom it names is not known to be a member of the overlay.
    #[error("its host is not known as a member of the overlay")]
    NotAMember,
    /// There is no room for it.
    #[error("there is no room for it")]
    Full,
}

/// A body and its signature, as they travel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signed {
    body: List<u8, BODY_BYTES_MAX>,
    signature: [[u8; 32]; 2],
}

impl Signed {
    fn sign(keys: &Keypair, overlay: OverlayKey, label: &[u8], body: Vec<u8>) -> Self {
        let signed =
            keys.sign(&message(overlay, label, &body)).expect("a host's key is Ed25519, which always signs");
        let mut signature = [[0; 32]; 2];
        for (half, bytes) in signature.iter_mut().zip(signed.chunks_exact(32)) {
            half.copy_from_slice(bytes);
        }
        let body = List::try_from(body).expect("bodies are bounded by their fields");
        Self { body, signature }
    }

    fn verify(&self, signer: HostId, overlay: OverlayKey, label: &[u8]) -> Result<(), Refusal> {
        let key = key_of(&signer).ok_or(Refusal::Signature)?;
        let good = key.verify(&message(overlay, label, &self.body), self.signature.as_flattened());
        if good { Ok(()) } else { Err(Refusal::Signature) }
    }

    fn body<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Refusal> {
        match self.body.first() {
            Some(&VERSION) => {}
            Some(_) => return Err(Refusal::Version),
            None => return Err(Refusal::Malformed),
        }
        match postcard::take_from_bytes(&self.body) {
            Ok((body, [])) => Ok(body),
            Ok(_) | Err(_) => Err(Refusal::Malformed),
        }
    }

    /// As a grant, or as it is kept.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a statement holds nothing postcard cannot write")
    }

    /// From such bytes; trailing ones are refused.
    ///
    /// # Errors
    /// If they are no signed statement.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        match postcard::take_from_bytes(bytes) {
            Ok((signed, [])) => Ok(signed),
            Ok(_) | Err(_) => Err(Refusal::Malformed),
        }
    }
}

fn message(overlay: OverlayKey, label: &[u8], body: &[u8]) -> Vec<u8> {
    [label, overlay.to_string().as_bytes(), &[0], body].concat()
}

/// IPv6 addresses of a network, as its creator wished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ipv6Wish {
    /// None.
    Off,
    /// A unique local /64 by the network's id (RFC 4193).
    ById,
    /// This prefix.
    Given(Prefix),
}

/// What the creator decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    version: u8,
    /// The network's name.
    pub name: Name,
    /// Who makes it.
    pub creator: HostId,
    /// When, in seconds since 1970.
    pub created_s: u64,
    /// Drawn at random.
    pub nonce: [u8; 16],
    /// The largest payload of a frame.
    pub mtu: u16,
    /// IPv4 addresses.
    pub ipv4: Option<Prefix>,
    /// IPv6 addresses.
    pub ipv6: Ipv6Wish,
}

impl Draft {
    /// A network to be.
    #[must_use]
    pub fn new(name: Name, creator: HostId, created_s: u64, nonce: [u8; 16], mtu: u16) -> Self {
        Self { version: VERSION, name, creator, created_s, nonce, mtu, ipv4: None, ipv6: Ipv6Wish::Off }
    }

    fn check(&self) -> Result<(), Refusal> {
        let ipv6 = match self.ipv6 {
            Ipv6Wish::Given(prefix) => Some(prefix),
            Ipv6Wish::Off | Ipv6Wish::ById => None,
        };
        let versions = self.ipv4.is_none_or(|prefix| prefix.first().is_ipv4())
            && ipv6.is_none_or(|prefix| prefix.first().is_ipv6());
        let prefixes =
            [self.ipv4, ipv6].into_iter().flatten().all(|prefix| prefix.check_for_network().is_ok());
        let mtu = MTU_RANGE.contains(&self.mtu);
        if versions && prefixes && mtu { Ok(()) } else { Err(Refusal::Impossible) }
    }
}

/// A network by itself, as its creator defined it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Names it.
    pub id: NetworkId,
    /// What the creator decided.
    pub draft: Draft,
    /// Its IPv6 addresses.
    pub ipv6: Option<Prefix>,
    /// As it travels.
    pub signed: Signed,
}

impl Definition {
    /// Signs a definition.
    #[must_use]
    pub fn issue(keys: &Keypair, overlay: OverlayKey, draft: Draft) -> Self {
        let body = postcard::to_stdvec(&draft).expect("a definition holds nothing postcard cannot write");
        Self::of(draft, Signed::sign(keys, overlay, DEFINITION, body))
    }

    /// Reads and verifies one.
    ///
    /// # Errors
    /// Says why it is refused.
    pub fn open(overlay: OverlayKey, signed: Signed) -> Result<Self, Refusal> {
        let draft: Draft = signed.body()?;
        draft.check()?;
        signed.verify(draft.creator, overlay, DEFINITION)?;
        Ok(Self::of(draft, signed))
    }

    fn of(draft: Draft, signed: Signed) -> Self {
        let id = id_of(&signed.body);
        let ipv6 = match draft.ipv6 {
            Ipv6Wish::Off => None,
            Ipv6Wish::Given(prefix) => Some(prefix),
            Ipv6Wish::ById => Some(local_prefix(id)),
        };
        Self { id, draft, ipv6, signed }
    }

    /// The id that a definition would have, without looking at it.
    #[must_use]
    pub fn id_in(signed: &Signed) -> NetworkId {
        id_of(&signed.body)
    }

    /// The prefixes of the network.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> {
        [self.draft.ipv4, self.ipv6].into_iter().flatten()
    }
}

fn id_of(body: &[u8]) -> NetworkId {
    let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
    hasher.update(body);
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    NetworkId(id)
}

/// RFC 4193: `fd`, 40 bits that nobody else has, a subnet.
fn local_prefix(id: NetworkId) -> Prefix {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&id.0[..7]);
    Prefix::around(Ipv6Addr::from(octets).into(), 64).expect("64 is a length")
}

/// What a host says of itself and a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Standing {
    /// It is on the network, with these addresses.
    Joined {
        /// Its IPv4 address.
        ipv4: Option<Ipv4Addr>,
        /// Its IPv6 address.
        ipv6: Option<Ipv6Addr>,
    },
    /// It is on it no more.
    Left,
}

/// The body of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    version: u8,
    /// The network.
    pub network: [u8; 16],
    /// Who says so.
    pub host: HostId,
    /// The greater is the newer.
    pub number: u64,
    /// When the host joined, in milliseconds since 1970, by its clock.
    pub since_ms: u64,
    /// When this was signed, in seconds since 1970.
    pub issued_s: u64,
    /// What it says.
    pub standing: Standing,
}

/// A host's claim to be on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What it says.
    pub said: Statement,
    /// As it travels, and as the grant that opens channels.
    pub signed: Signed,
}

impl Statement {
    /// A statement of this version.
    #[must_use]
    pub fn new(
        network: NetworkId,
        host: HostId,
        number: u64,
        since_ms: u64,
        issued_s: u64,
        standing: Standing,
    ) -> Self {
        Self { version: VERSION, network: network.0, host, number, since_ms, issued_s, standing }
    }

    /// The same, said anew.
    #[must_use]
    pub const fn again(self, number: u64, since_ms: u64, issued_s: u64) -> Self {
        Self { number, since_ms, issued_s, ..self }
    }

    /// The addresses it claims.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (ipv4, ipv6) = match self.standing {
            Standing::Joined { ipv4, ipv6 } => (ipv4, ipv6),
            Standing::Left => (None, None),
        };
        ipv4.map(IpAddr::from).into_iter().chain(ipv6.map(IpAddr::from))
    }
}

impl Claim {
    /// Signs a claim.
    #[must_use]
    pub fn issue(keys: &Keypair, overlay: OverlayKey, said: Statement) -> Self {
        let body = postcard::to_stdvec(&said).expect("a claim holds nothing postcard cannot write");
        Self { said, signed: Signed::sign(keys, overlay, CLAIM, body) }
    }

    /// Reads one without looking at its signature: enough to see whether it is worth checking.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(signed: Signed) -> Result<Self, Refusal> {
        Ok(Self { said: signed.body()?, signed })
    }

    /// Checks that the host it names signed it.
    ///
    /// # Errors
    /// If not.
    pub fn verify(&self, overlay: OverlayKey) -> Result<(), Refusal> {
        self.signed.verify(self.said.host, overlay, CLAIM)
    }

    /// The network.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        NetworkId(self.said.network)
    }

    /// Whether it says that the host is on the network.
    #[must_use]
    pub const fn is_joined(&self) -> bool {
        matches!(self.said.standing, Standing::Joined { .. })
    }
}

/// The fuzz target's body: any bytes are a statement that encodes to the same, a body of one kind or the other, or are refused.
pub fn fuzz(data: &[u8]) {
    if let Ok(signed) = Signed::decode(data) {
        assert_eq!(Signed::decode(&signed.encode()), Ok(signed));
    }
    let Ok(body) = List::try_from(data.to_vec()) else { return };
    let signed = Signed { body, signature: [[0; 32]; 2] };
    if let Ok(claim) = Claim::read(signed.clone()) {
        assert!(claim.said.addresses().count() <= 2);
    }
    if let Ok(draft) = signed.body::<Draft>()
        && draft.check().is_ok()
    {
        let definition = Definition::of(draft, signed);
        assert!(definition.prefixes().all(|prefix| prefix.check_for_network().is_ok()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn overlay(byte: u8) -> OverlayKey {
        let key = keys(byte).public().to_peer_id().to_string();
        OverlayKey(key.parse().unwrap())
    }

    fn keys(byte: u8) -> Keypair {
        Keypair::ed25519_from_bytes([byte; 32]).unwrap()
    }

    fn draft() -> Draft {
        let mut draft = Draft::new(
            "office".parse().unwrap(),
            keys(1).public().to_peer_id(),
            1_795_000_000,
            [7; 16],
            1500,
        );
        draft.ipv4 = Some("10.7.0.0/24".parse().unwrap());
        draft.ipv6 = Ipv6Wish::ById;
        draft
    }

    fn statement() -> Statement {
        let standing = Standing::Joined { ipv4: Some([10, 7, 0, 2].into()), ipv6: None };
        Statement::new(NetworkId([3; 16]), keys(2).public().to_peer_id(), 9, 8, 7, standing)
    }

    #[test]
    fn a_definition_has_the_id_of_its_bytes_and_the_local_prefix_of_its_id() {
        let made = Definition::issue(&keys(1), overlay(9), draft());
        assert_eq!(Definition::open(overlay(9), made.signed.clone()), Ok(made.clone()));
        assert_eq!(made.id, Definition::id_in(&made.signed));
        let IpAddr::V6(first) = made.ipv6.unwrap().first() else { panic!("IPv6 expected") };
        assert_eq!((first.octets()[0], &first.octets()[1..8]), (0xfd, &made.id.0[..7]));
        let other = Definition::issue(&keys(1), overlay(9), Draft { nonce: [8; 16], ..draft() });
        assert_ne!(other.id, made.id, "the same name twice is two networks");
    }

    #[test]
    fn a_statement_holds_in_its_overlay_for_its_signer_and_its_kind_only() {
        let made = Definition::issue(&keys(1), overlay(9), draft());
        assert_eq!(Definition::open(overlay(8), made.signed.clone()), Err(Refusal::Signature));
        let forged = Definition::issue(&keys(2), overlay(9), draft());
        assert_eq!(Definition::open(overlay(9), forged.signed), Err(Refusal::Signature));
        let claim = Claim::issue(&keys(2), overlay(9), statement());
        assert_eq!(claim.verify(overlay(9)), Ok(()));
        assert_eq!(claim.verify(overlay(8)), Err(Refusal::Signature));
        let body = postcard::to_stdvec(&statement()).unwrap();
        let other_kind = Claim::read(Signed::sign(&keys(2), overlay(9), DEFINITION, body)).unwrap();
        assert_eq!(other_kind.verify(overlay(9)), Err(Refusal::Signature));
    }

    #[test]
    fn what_no_network_can_be_is_refused() {
        let open = |draft: Draft| {
            Definition::open(overlay(9), Definition::issue(&keys(1), overlay(9), draft).signed)
        };
        let six = "fd00::/64".parse().unwrap();
        assert_eq!(open(Draft { mtu: 100, ..draft() }).unwrap_err(), Refusal::Impossible);
        assert_eq!(open(Draft { ipv4: Some(six), ..draft() }).unwrap_err(), Refusal::Impossible);
        let loopback = Some("127.0.0.0/8".parse().unwrap());
        assert_eq!(open(Draft { ipv4: loopback, ..draft() }).unwrap_err(), Refusal::Impossible);
        assert_eq!(open(Draft { version: 2, ..draft() }).unwrap_err(), Refusal::Version);
        assert!(open(Draft { ipv6: Ipv6Wish::Given(six), ..draft() }).is_ok());
    }

    #[test]
    fn the_fuzz_target_runs_for_a_moment() {
        let definition = postcard::to_stdvec(&draft()).unwrap();
        let valid = [Claim::issue(&keys(2), overlay(9), statement()).signed.encode(), definition];
        crate::testing::fuzz_for_a_moment(&valid, fuzz);
    }

    #[test]
    fn the_bytes_of_a_claim_are_fixed_and_it_fits_a_grant() {
        let claim = Claim::issue(&keys(2), overlay(9), statement());
        let bytes = claim.signed.encode();
        let body_len = 1 + 16 + (1 + 38) + 1 + 1 + 1 + (1 + 1 + 4 + 1);
        assert_eq!(usize::from(bytes[0]), body_len);
        assert_eq!(bytes[1], VERSION);
        assert_eq!(bytes[2..18], [3; 16], "network");
        assert_eq!(bytes[18], 38, "length of the host's name");
        assert_eq!(bytes[57..60], [9, 8, 7], "number, since, issued");
        assert_eq!(bytes[60..67], [0, 1, 10, 7, 0, 2, 0], "joined, with IPv4, without IPv6");
        assert_eq!(bytes.len(), 1 + body_len + 64);
        assert!(bytes.len() <= GRANT_BYTES_MAX);
        assert_eq!(Signed::decode(&bytes).and_then(Claim::read), Ok(claim));
        for length in 0..bytes.len() {
            assert_eq!(Signed::decode(&bytes[..length]), Err(Refusal::Malformed), "{length}");
        }
        assert_eq!(Signed::decode(&[bytes, vec![0]].concat()), Err(Refusal::Malformed));
    }
}
