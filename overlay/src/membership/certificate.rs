//! One link of a chain: an issuer's word that another key belongs to the overlay.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | kind | 1 member, 2 member who came by an invitation, 3 invitation |
//! | 1 | 32 | subject | the key vouched for |
//! | 33 | 4 | issued | seconds since 1970 |
//! | 37 | 4 | until | seconds since 1970; 0: no end |
//! | 41 | 32 | invitation | only kind 2: the invitation it came by, so that revoking a leaked ticket puts out all who used it |
//! | 41 or 73 | 64 | signature | by the issuer, over `issuer ‖` all fields before |
//!
//! The issuer is not in the bytes: it is the subject of the certificate before, or the overlay key. It is in what is signed.

use crate::{
    bytes::{Malformed, Reader},
    clock::UnixSeconds,
    identity::{Key, Keypair, OverlayKey, Purpose, SIGNATURE_BYTES, sign},
};

/// What the issuer vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A host that belongs, and may admit others.
    Member {
        /// The invitation it came by; the founder came by none.
        invitation: Option<Key>,
    },
    /// A key whose holder any member may admit, until the certificate ends.
    Invitation,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The key vouched for.
    pub subject: Key,
    /// As what.
    pub standing: Standing,
    /// When, by the issuer's clock.
    pub issued: UnixSeconds,
    /// Until when; `None`: no end.
    pub until: Option<UnixSeconds>,
    signature: [u8; SIGNATURE_BYTES],
}

impl Certificate {
    pub(super) fn issue(
        pair: &Keypair,
        overlay: OverlayKey,
        subject: Key,
        standing: Standing,
        issued: UnixSeconds,
        until: Option<UnixSeconds>,
    ) -> Self {
        let mut certificate = Self { subject, standing, issued, until, signature: [0; SIGNATURE_BYTES] };
        certificate.signature =
            sign(pair, Purpose::Certificate, overlay, &certificate.signed_body(Key::of(pair)));
        certificate
    }

    pub(super) fn signed_by(&self, issuer: Key, overlay: OverlayKey) -> bool {
        issuer.verifies(Purpose::Certificate, overlay, &self.signed_body(issuer), &self.signature)
    }

    fn signed_body(&self, issuer: Key) -> Vec<u8> {
        let mut body = issuer.as_bytes().to_vec();
        self.put_fields(&mut body);
        body
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        out.push(match self.standing {
            Standing::Member { invitation: None } => 1,
            Standing::Member { invitation: Some(_) } => 2,
            Standing::Invitation => 3,
        });
        out.extend_from_slice(self.subject.as_bytes());
        out.extend_from_slice(&self.issued.0.to_be_bytes());
        out.extend_from_slice(&self.until.map_or(0, |until| until.0).to_be_bytes());
        if let Standing::Member { invitation: Some(invitation) } = self.standing {
            out.extend_from_slice(invitation.as_bytes());
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        self.put_fields(out);
        out.extend_from_slice(&self.signature);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = reader.u8()?;
        let subject = Key::from_bytes(reader.array()?);
        let issued = UnixSeconds(reader.u32()?);
        let until = match reader.u32()? {
            0 => None,
            until => Some(UnixSeconds(until)),
        };
        let standing = match kind {
            1 => Standing::Member { invitation: None },
            2 => Standing::Member { invitation: Some(Key::from_bytes(reader.array()?)) },
            3 => Standing::Invitation,
            _ => return Err(Malformed),
        };
        Ok(Self { subject, standing, issued, until, signature: reader.array()? })
    }
}
