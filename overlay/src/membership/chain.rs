//! A chain of certificates from the overlay key to a holder: the proof of membership.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | version | 1 |
//! | 1 | 1 | count | 1 to [`DEPTH_MAX`] |
//! | 2 | … | certificates | nearest to the overlay key first, see [`Certificate`] |
//!
//! Each certificate is signed by the subject of the one before, the first by the overlay key. Only the last may be an invitation.
//! Anyone with the overlay key can check a chain alone; no server is asked. What a chain cannot say is that a key was put out later: that is
//! what [`Revocations`] are for. A revoked key ends every chain in which it is a subject or the invitation somebody came by.

use super::{
    certificate::{Certificate, Standing},
    revocation::Revocations,
};
use crate::{
    bytes::{Malformed, Reader},
    clock::UnixSeconds,
    identity::{Key, Keypair, OverlayKey},
};
use serde::{Deserialize, Serialize};

/// Most certificates in one chain. Each member that admits adds one; deeper would cost each handshake more signature checks, shallower
/// would end the growth of overlays in which newcomers invite newcomers.
pub const DEPTH_MAX: usize = 16;
/// The largest chain in bytes: what a reader must be ready for.
pub(crate) const CHAIN_BYTES_MAX: usize = 2 + DEPTH_MAX * 137;
const VERSION: u8 = 1;

/// Why a chain proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ChainRefusal {
    /// A certificate is not signed by the one before it, or the first not by the overlay key.
    #[error("certificate {at} is not signed by its issuer for this overlay")]
    Signature {
        /// Its place, from the overlay key.
        at: u8,
    },
    /// The chain ends in another key than the one that shows it.
    #[error("the chain belongs to another key")]
    Holder,
    /// An invitation stands where a member must, or the reverse.
    #[error("certificate {at} vouches for something else than needed")]
    Standing {
        /// Its place, from the overlay key.
        at: u8,
    },
    /// Past its end.
    #[error("expired at {} s since 1970", until.0)]
    Expired {
        /// Its end.
        until: UnixSeconds,
    },
    /// Issued in the future: one of the clocks is wrong.
    #[error("issued in the future ({} s since 1970): one of the two clocks is wrong", issued.0)]
    NotYet {
        /// The time it carries.
        issued: UnixSeconds,
    },
    /// A key in it was put out.
    #[error("{0} was revoked")]
    Revoked(Key),
}

/// The chain is as long as chains may be; its holder can admit nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this member's own chain is {DEPTH_MAX} certificates long, the longest there is: a member nearer to the founder has to invite"
)]
pub struct TooDeep;

/// The proof. Its form has been checked, its signatures have not: see [`Self::verify_member`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    certificates: Vec<Certificate>,
}

impl Chain {
    /// The founder's: one certificate by the overlay key itself.
    pub(crate) fn found(overlay_pair: &Keypair, founder: Key, now: UnixSeconds) -> Self {
        let overlay = OverlayKey(Key::of(overlay_pair));
        let standing = Standing::Member { invitation: None };
        Self { certificates: vec![Certificate::issue(overlay_pair, overlay, founder, standing, now, None)] }
    }

    /// This holder's chain and one more certificate, signed by `holder`, which must be this chain's.
    pub(crate) fn extended(
        &self,
        holder: &Keypair,
        overlay: OverlayKey,
        subject: Key,
        standing: Standing,
        now: UnixSeconds,
        until: Option<UnixSeconds>,
    ) -> Result<Self, TooDeep> {
        debug_assert_eq!(self.holder(), Key::of(holder), "only the holder extends a chain");
        if self.certificates.len() >= DEPTH_MAX {
            return Err(TooDeep);
        }
        let mut certificates = self.certificates.clone();
        certificates.push(Certificate::issue(holder, overlay, subject, standing, now, until));
        Ok(Self { certificates })
    }

    /// The key it ends in.
    pub fn holder(&self) -> Key {
        self.last().subject
    }

    /// The certificates, nearest to the overlay key first; never empty.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The last certificate: the one about the holder.
    pub fn last(&self) -> &Certificate {
        self.certificates.last().expect("a chain has at least one certificate")
    }

    /// Who vouched for the holder; `None`: the overlay key itself.
    pub fn voucher(&self) -> Option<Key> {
        self.certificates.iter().rev().nth(1).map(|certificate| certificate.subject)
    }

    /// Whether `key` is a subject anywhere in it.
    pub fn has_subject(&self, key: Key) -> bool {
        self.certificates.iter().any(|certificate| certificate.subject == key)
    }

    /// Whether it proves that `holder` is a member now.
    pub fn verify_member(
        &self,
        overlay: OverlayKey,
        holder: Key,
        now: UnixSeconds,
        revocations: &Revocations,
    ) -> Result<(), ChainRefusal> {
        // The cheapest check first: a stranger who shows somebody else's chain costs no signature check.
        if self.holder() != holder {
            return Err(ChainRefusal::Holder);
        }
        self.verify_last(|standing| matches!(standing, Standing::Member { .. }))?;
        self.verify_now(now, revocations)?;
        self.verify_signatures(overlay)
    }

    /// Whether it proves that its holder is an invitation that is still good now.
    pub fn verify_invitation(
        &self,
        overlay: OverlayKey,
        now: UnixSeconds,
        revocations: &Revocations,
    ) -> Result<(), ChainRefusal> {
        self.verify_last(|standing| standing == Standing::Invitation)?;
        self.verify_now(now, revocations)?;
        self.verify_signatures(overlay)
    }

    fn verify_last(&self, fits: impl Fn(Standing) -> bool) -> Result<(), ChainRefusal> {
        if fits(self.last().standing) {
            Ok(())
        } else {
            Err(ChainRefusal::Standing { at: place(self.certificates.len() - 1) })
        }
    }

    /// The part of the check that time can change: ends, clocks, revocations.
    pub(crate) fn verify_now(&self, now: UnixSeconds, revocations: &Revocations) -> Result<(), ChainRefusal> {
        for certificate in &self.certificates {
            if let Some(until) = certificate.until.filter(|until| *until <= now) {
                return Err(ChainRefusal::Expired { until });
            }
            if certificate.issued.is_ahead_of(now) {
                return Err(ChainRefusal::NotYet { issued: certificate.issued });
            }
        }
        self.revoked_by(revocations).map_or(Ok(()), |key| Err(ChainRefusal::Revoked(key)))
    }

    /// The first key in it that was put out.
    pub(crate) fn revoked_by(&self, revocations: &Revocations) -> Option<Key> {
        self.certificates.iter().find_map(|certificate| {
            let by_invitation = match certificate.standing {
                Standing::Member { invitation } => invitation,
                Standing::Invitation => None,
            };
            [Some(certificate.subject), by_invitation]
                .into_iter()
                .flatten()
                .find(|key| revocations.covers(*key))
        })
    }

    /// The part of the check that never changes: every link, and members all the way but for the last.
    pub(crate) fn verify_signatures(&self, overlay: OverlayKey) -> Result<(), ChainRefusal> {
        let mut issuer = overlay.0;
        let last = self.certificates.len() - 1;
        for (at, certificate) in self.certificates.iter().enumerate() {
            if at != last && certificate.standing == Standing::Invitation {
                return Err(ChainRefusal::Standing { at: place(at) });
            }
            if !certificate.signed_by(issuer, overlay) {
                return Err(ChainRefusal::Signature { at: place(at) });
            }
            issuer = certificate.subject;
        }
        Ok(())
    }

    /// The bytes of the table above.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, place(self.certificates.len())];
        for certificate in &self.certificates {
            certificate.put(&mut out);
        }
        out
    }

    /// Exactly one chain; trailing bytes are refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Malformed);
        }
        let count = usize::from(reader.u8()?);
        if !(1..=DEPTH_MAX).contains(&count) {
            return Err(Malformed);
        }
        let certificates =
            (0..count).map(|_| Certificate::read(&mut reader)).collect::<Result<Vec<_>, Malformed>>()?;
        reader.end()?;
        Ok(Self { certificates })
    }
}

fn place(at: usize) -> u8 {
    u8::try_from(at).expect("a chain is at most DEPTH_MAX long")
}

impl Serialize for Chain {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.encode())
    }
}

impl<'de> Deserialize<'de> for Chain {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Self::decode(&bytes).map_err(serde::de::Error::custom)
    }
}
