//! A host record: what a host says about itself, signed, numbered and ageing.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 2 | length | of the body |
//! | 2 | 1 | version | 2; the body starts here |
//! | 3 | 32 | host | the key of the host described |
//! | 35 | 8 | sequence | the greater is the newer |
//! | 43 | 4 | issued | seconds since 1970 |
//! | 47 | 2 | lifetime | seconds; at most [`LIFETIME_MAX`] |
//! | 49 | 1 + … | addresses | where its control plane listens (QUIC and TCP on each) |
//! | … | 1 + 32 n | relays | the keys of members through which its control plane is reached; at most [`RELAYS_MAX`] |
//! | … | 2 + n | payload | at most [`PAYLOAD_BYTES_MAX`]; opaque here, node fills it |
//! | … | 64 | signature | of the host's key, over the body |
//! | … | … | chain | the host's [`Chain`]: it proves itself, so the signature need not cover it |
//!
//! A record is passed on as the bytes that were received, and those are what is verified. It names a member or it is refused, whoever brings
//! it. Records are hints: a reader must bear that one is minutes old. It refuses to know what the payload means.

use crate::{
    bytes::{Malformed, Reader, put_addresses, put_counted},
    clock::UnixSeconds,
    identity::{HostId, Key, Keypair, OverlayKey, Purpose, SIGNATURE_BYTES, sign},
    membership::{CHAIN_BYTES_MAX, Chain, ChainRefusal, Revocations},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// Most bytes of payload. Exchanges carry several records at about 1 KB/s; a larger payload would age the whole view.
pub const PAYLOAD_BYTES_MAX: usize = 1024;
/// How long a record lives unless renewed. Three times [`RECORD_REFRESH`]: two renewals may be lost; longer keeps the dead in the views.
pub const RECORD_LIFETIME: Duration = Duration::from_secs(900);
/// How often a host renews its own record although nothing has changed. Each renewal costs everybody who holds it the record's bytes twice: with a hundred
/// hosts and one a minute that alone was a kilobyte a second.
pub const RECORD_REFRESH: Duration = Duration::from_secs(300);
/// The longest lifetime that is believed.
pub const LIFETIME_MAX: Duration = Duration::from_secs(900);
/// The largest record in bytes.
pub const RECORD_BYTES_MAX: usize = 4096;
/// Most members named as relays: who asks for a circuit asks these first, and a host keeps no more of them.
pub const RELAYS_MAX: usize = 2;
const VERSION: u8 = 2;

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordRefusal {
    /// Not the layout above.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Issued in the future: a clock is wrong.
    #[error("it comes from the future")]
    NotYet,
    /// It claims to live longer than records may.
    #[error("it claims a lifetime above the limit")]
    Lifetime,
    /// The host did not sign it.
    #[error("its signature is wrong")]
    Signature,
    /// The host is no member.
    #[error("its host is no member: {0}")]
    Membership(#[from] ChainRefusal),
}

/// A record that was verified when it was made or received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecord {
    /// The host described.
    pub host: HostId,
    /// The greater is the newer.
    pub sequence: u64,
    /// When it was signed, by the host's clock.
    pub issued: UnixSeconds,
    /// When it stops counting.
    pub expires: UnixSeconds,
    /// Where its control plane listens.
    pub addresses: Vec<SocketAddr>,
    /// Through whom it is reached where it is not there.
    pub relays: Vec<HostId>,
    /// What node put in.
    pub payload: Vec<u8>,
    /// Its proof of membership.
    pub chain: Chain,
    bytes: Arc<[u8]>,
}

/// What a record says, before it is signed.
#[derive(Debug, Clone)]
pub(crate) struct Draft<'a> {
    pub(crate) sequence: u64,
    pub(crate) issued: UnixSeconds,
    pub(crate) addresses: &'a [SocketAddr],
    pub(crate) relays: &'a [HostId],
    pub(crate) payload: &'a [u8],
    pub(crate) chain: &'a Chain,
}

impl HostRecord {
    /// Signs a record of this host. The payload has been bounded by the caller.
    pub(crate) fn issue(pair: &Keypair, overlay: OverlayKey, draft: &Draft<'_>) -> Self {
        let lifetime = u16::try_from(RECORD_LIFETIME.as_secs()).expect("minutes fit two bytes");
        let mut body = vec![VERSION];
        body.extend_from_slice(Key::of(pair).as_bytes());
        body.extend_from_slice(&draft.sequence.to_be_bytes());
        body.extend_from_slice(&draft.issued.0.to_be_bytes());
        body.extend_from_slice(&lifetime.to_be_bytes());
        put_addresses(&mut body, draft.addresses);
        put_relays(&mut body, draft.relays);
        put_counted(&mut body, draft.payload);
        let mut bytes = Vec::new();
        put_counted(&mut bytes, &body);
        bytes.extend_from_slice(&sign(pair, Purpose::Record, overlay, &body));
        bytes.extend_from_slice(&draft.chain.encode());
        Unverified::decode(&bytes).expect("what was just encoded decodes").record
    }

    /// The bytes as they were received or made; what is passed on.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: UnixSeconds) -> bool {
        self.expires <= now
    }
}

/// A record whose form is right and whose signatures have not been looked at: enough to see whether it is worth checking.
#[derive(Debug, Clone)]
pub struct Unverified {
    record: HostRecord,
    key: Key,
    body_len: usize,
}

impl Unverified {
    /// Exactly one record; trailing bytes are refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordRefusal> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(Malformed.into());
        }
        let mut outer = Reader::new(bytes);
        let body = outer.counted(RECORD_BYTES_MAX)?;
        outer.array::<SIGNATURE_BYTES>()?;
        let chain_bytes = outer.rest();
        if chain_bytes.len() > CHAIN_BYTES_MAX {
            return Err(Malformed.into());
        }
        let chain = Chain::decode(chain_bytes)?;
        let mut reader = Reader::new(body);
        if reader.u8()? != VERSION {
            return Err(Malformed.into());
        }
        let key = Key::from_bytes(reader.array()?);
        let host = key.host().ok_or(Malformed)?;
        let sequence = reader.u64()?;
        let issued = UnixSeconds(reader.u32()?);
        let lifetime = Duration::from_secs(u64::from(reader.u16()?));
        if lifetime > LIFETIME_MAX {
            return Err(RecordRefusal::Lifetime);
        }
        let addresses = reader.addresses()?;
        let relays = relays(&mut reader)?;
        let payload = reader.counted(PAYLOAD_BYTES_MAX)?.to_vec();
        reader.end()?;
        let expires = issued.after(lifetime);
        let bytes = bytes.into();
        let record = HostRecord { host, sequence, issued, expires, addresses, relays, payload, chain, bytes };
        Ok(Self { record, key, body_len: body.len() })
    }

    /// The host it claims to describe.
    pub fn host(&self) -> HostId {
        self.record.host
    }

    /// The sequence number it claims.
    pub fn sequence(&self) -> u64 {
        self.record.sequence
    }

    /// Checks times, membership and signature. A chain that is the same as `known`, which was verified before, is not verified again.
    pub fn verify(
        self,
        overlay: OverlayKey,
        now: UnixSeconds,
        revocations: &Revocations,
        known: Option<&Chain>,
    ) -> Result<HostRecord, RecordRefusal> {
        if self.record.is_expired(now) {
            return Err(RecordRefusal::Expired);
        }
        if self.record.issued.is_ahead_of(now) {
            return Err(RecordRefusal::NotYet);
        }
        if known == Some(&self.record.chain) {
            self.record.chain.verify_now(now, revocations)?;
        } else {
            self.record.chain.verify_member(overlay, self.key, now, revocations)?;
        }
        let body_end = 2 + self.body_len;
        let (body, signature) =
            (&self.record.bytes[2..body_end], &self.record.bytes[body_end..body_end + SIGNATURE_BYTES]);
        if !self.key.verifies(Purpose::Record, overlay, body, signature) {
            return Err(RecordRefusal::Signature);
        }
        Ok(self.record)
    }
}

/// What exceeds [`RELAYS_MAX`] is left out.
fn put_relays(out: &mut Vec<u8>, relays: &[HostId]) {
    let keys: Vec<Key> = relays.iter().filter_map(Key::of_host).take(RELAYS_MAX).collect();
    out.push(u8::try_from(keys.len()).expect("at most RELAYS_MAX"));
    for key in keys {
        out.extend_from_slice(key.as_bytes());
    }
}

fn relays(reader: &mut Reader<'_>) -> Result<Vec<HostId>, Malformed> {
    let count = usize::from(reader.u8()?);
    if count > RELAYS_MAX {
        return Err(Malformed);
    }
    (0..count).map(|_| Key::from_bytes(reader.array()?).host().ok_or(Malformed)).collect()
}

#[cfg(test)]
mod tests;
