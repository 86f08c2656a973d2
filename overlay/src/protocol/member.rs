//! The proof of membership, before anything else on a connection.
//!
//! The story: the connection's encryption has proved each side's host key. The dialler opens a stream, writes [`MAGIC`] and a [`Hello`]: which
//! overlay, and a chain for its host key, or an invitation's chain and its claim. The listener checks and answers with its own chain or a
//! refusal; a newcomer also gets its certificate and the link secret. The dialler checks that and sends its verdict. Only after a good verdict
//! does either side's swarm learn of the connection; after a refusal both sides know the reason, and the connection closes. Nothing is
//! remembered of a handshake that failed but its reason and a count. Loss of any message ends in the handshake's time limit.
//!
//! Each message is a frame: length (2 bytes), then:
//!
//! | message | layout |
//! |---|---|
//! | Hello | overlay key (32), session (8), `1` and a chain, or `2`, a claim (64) and the invitation's chain |
//! | Answer | `0`, session (8), counted chain, then nothing or the link secret (32) and the newcomer's chain; or a refusal's code |
//! | Verdict | `0` or a refusal's code |
//!
//! `session` is drawn anew by each process, and grows when its connections are dead because its address is another: it tells a peer that has
//! begun anew from one that dials twice.

use crate::{
    bytes::{Malformed, Reader, put_counted},
    identity::{Key, OverlayKey, SIGNATURE_BYTES},
    membership::{CHAIN_BYTES_MAX, Chain, ChainRefusal, LinkSecret},
};
use serde::{Deserialize, Serialize};

/// What the dialler writes first. Another program that speaks libp2p starts its first stream with `/multistream`; it is refused at its
/// first bytes.
pub(crate) const MAGIC: &[u8; 18] = b"/consort/member/1\n";
/// The largest frame: an answer with two chains of full depth.
pub(crate) const FRAME_BYTES_MAX: usize = 2 * CHAIN_BYTES_MAX + 64;
const ACCEPTED: u8 = 0;

/// Why a host was not let in, or did not go in. Known to both sides.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Refusal {
    /// Not this protocol, or not its layout.
    #[error("it does not speak this version's membership protocol")]
    Malformed,
    /// The two trust different overlay keys.
    #[error("it belongs to another overlay")]
    OtherOverlay,
    /// A link of the chain does not hold.
    #[error("the membership chain is not signed for this overlay")]
    Signature,
    /// Somebody else's chain.
    #[error("the membership chain belongs to another host")]
    Holder,
    /// An invitation shown as a membership, or the reverse.
    #[error("the chain vouches for something else")]
    Standing,
    /// The ticket, or a certificate, is past its end.
    #[error("the ticket has expired")]
    Expired,
    /// Clocks differ too much.
    #[error("a certificate comes from the future: one of the two clocks is wrong")]
    NotYet,
    /// The host, its ticket, or whoever vouched for it was put out.
    #[error("it was revoked")]
    Revoked,
    /// The ticket's key did not sign for this newcomer.
    #[error("the ticket was not made out to it")]
    Claim,
    /// The listener has as many connections as it allows.
    #[error("as many connections are open as the host allows")]
    Full,
    /// The two dialled each other at once, and the other connection stays.
    #[error("the other connection between the two stays")]
    Redundant,
    /// The listener's own chain cannot be extended.
    #[error("the host stands too far from the founder to admit anyone")]
    TooDeep,
    /// The listener is not in any overlay yet.
    #[error("the host has not joined an overlay yet")]
    NotReady,
}

impl Refusal {
    const CODES: [(u8, Self); 13] = [
        (1, Self::Malformed),
        (2, Self::OtherOverlay),
        (3, Self::Signature),
        (4, Self::Holder),
        (5, Self::Standing),
        (6, Self::Expired),
        (7, Self::NotYet),
        (8, Self::Revoked),
        (9, Self::Claim),
        (10, Self::Full),
        (11, Self::Redundant),
        (12, Self::TooDeep),
        (13, Self::NotReady),
    ];

    fn code(self) -> u8 {
        let found = Self::CODES.iter().find(|(_, refusal)| *refusal == self);
        found.expect("every refusal has a code").0
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        Self::CODES.iter().find(|(known, _)| *known == code).map(|(_, refusal)| *refusal).ok_or(Malformed)
    }
}

impl From<ChainRefusal> for Refusal {
    fn from(refusal: ChainRefusal) -> Self {
        match refusal {
            ChainRefusal::Signature { .. } => Self::Signature,
            ChainRefusal::Holder => Self::Holder,
            ChainRefusal::Standing { .. } => Self::Standing,
            ChainRefusal::Expired { .. } => Self::Expired,
            ChainRefusal::NotYet { .. } => Self::NotYet,
            ChainRefusal::Revoked(_) => Self::Revoked,
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// What the dialler shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    Member(Chain),
    Newcomer { claim: [u8; SIGNATURE_BYTES], invitation: Chain },
}

/// The dialler's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) overlay: OverlayKey,
    pub(crate) session: u64,
    pub(crate) proof: Proof,
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.overlay.0.as_bytes().to_vec();
        out.extend_from_slice(&self.session.to_be_bytes());
        match &self.proof {
            Proof::Member(chain) => {
                out.push(1);
                out.extend_from_slice(&chain.encode());
            }
            Proof::Newcomer { claim, invitation } => {
                out.push(2);
                out.extend_from_slice(claim);
                out.extend_from_slice(&invitation.encode());
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let overlay = OverlayKey(Key::from_bytes(reader.array()?));
        let session = reader.u64()?;
        let proof = match reader.u8()? {
            1 => Proof::Member(Chain::decode(reader.rest())?),
            2 => {
                let claim = reader.array()?;
                Proof::Newcomer { claim, invitation: Chain::decode(reader.rest())? }
            }
            _ => return Err(Malformed),
        };
        Ok(Self { overlay, session, proof })
    }
}

/// What a newcomer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admission {
    pub(crate) chain: Chain,
    pub(crate) link_secret: LinkSecret,
}

/// The listener's good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) session: u64,
    pub(crate) chain: Chain,
    pub(crate) admission: Option<Admission>,
}

/// The listener's message.
pub(crate) type Answer = Result<Welcome, Refusal>;

pub(crate) fn encode_answer(answer: &Answer) -> Vec<u8> {
    match answer {
        Err(refusal) => vec![refusal.code()],
        Ok(welcome) => {
            let mut out = vec![ACCEPTED];
            out.extend_from_slice(&welcome.session.to_be_bytes());
            put_counted(&mut out, &welcome.chain.encode());
            if let Some(admission) = &welcome.admission {
                out.extend_from_slice(admission.link_secret.expose());
                out.extend_from_slice(&admission.chain.encode());
            }
            out
        }
    }
}

pub(crate) fn decode_answer(bytes: &[u8]) -> Result<Answer, Malformed> {
    let mut reader = Reader::new(bytes);
    let code = reader.u8()?;
    if code != ACCEPTED {
        reader.end()?;
        return Refusal::from_code(code).map(Err);
    }
    let session = reader.u64()?;
    let chain = Chain::decode(reader.counted(CHAIN_BYTES_MAX)?)?;
    let rest = reader.rest();
    let admission = if rest.is_empty() {
        None
    } else {
        let mut reader = Reader::new(rest);
        let link_secret = LinkSecret::new(reader.array()?);
        Some(Admission { chain: Chain::decode(reader.rest())?, link_secret })
    };
    Ok(Ok(Welcome { session, chain, admission }))
}

/// The dialler's last word.
pub(crate) type Verdict = Result<(), Refusal>;

pub(crate) fn encode_verdict(verdict: Verdict) -> Vec<u8> {
    vec![verdict.map_or_else(Refusal::code, |()| ACCEPTED)]
}

pub(crate) fn decode_verdict(bytes: &[u8]) -> Result<Verdict, Malformed> {
    match bytes {
        [ACCEPTED] => Ok(Ok(())),
        [code] => Refusal::from_code(*code).map(Err),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests;
