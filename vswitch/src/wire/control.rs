//! What the two ends of a link say to each other, sealed, on channel 0.
//!
//! | type | message | fields after the type byte |
//! |---|---|---|
//! | 1 | ping | id u32 |
//! | 2 | pong | id u32 of the ping |
//! | 3 | probe | id u32, then zero bytes up to the size that is probed |
//! | 4 | probe seen | id u32 of the probe |
//! | 5 | open | network 16, grant (1 to [`GRANT_BYTES_MAX`] bytes, to the end) |
//! | 6 | accept | network 16, grant digest 8, channel u32, seconds u32 |
//! | 7 | refuse | network 16, grant digest 8, reason u8 |
//! | 8 | close | network 16 |
//! | 9 | unknown | channel u32 |
//! | 10 | bye | – |
//! | 11 | note | what the other end's node says to this one's (1 to [`NOTE_BYTES_MAX`] bytes, to the end) |
//!
//! Nothing is answered out of order of need: a ping by a pong, a probe by "seen", an open by accept or refuse; a lost message is
//! sent again by whoever misses the answer; a note is not missed here. The digest (first bytes of BLAKE3 of the grant) ties an answer to the grant it is
//! about, so that a late answer to an older grant is not mistaken. Trailing bytes are refused.

use super::{CHANNEL_MAX, Refusal, array_at, u32_at};
use crate::switch::NetworkId;

/// The largest grant: two signatures, names and times; an open message fits the smallest path.
pub const GRANT_BYTES_MAX: usize = 512;
/// The longest note; it fits the smallest path.
pub const NOTE_BYTES_MAX: usize = 512;
/// The largest control message that is not a probe.
pub const CONTROL_BYTES_MAX: usize = 1 + 16 + GRANT_BYTES_MAX;

/// The first bytes of BLAKE3 of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantDigest(pub [u8; 8]);

impl GrantDigest {
    /// Of this grant.
    pub fn of(grant: &[u8]) -> Self {
        Self(array_at(blake3::hash(grant).as_bytes(), 0))
    }
}

/// Why a host does not open a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[repr(u8)]
pub enum GrantRefusal {
    /// The network is not known on that host.
    NetworkUnknown = 1,
    /// The grant is not signed by whoever may sign it, or cannot be read.
    Invalid = 2,
    /// The grant names another host or network.
    NotYours = 3,
    /// The grant has run out.
    Expired = 4,
    /// The host has no room for another channel.
    Full = 5,
    /// Some reason this version does not know.
    Other = 255,
}

impl GrantRefusal {
    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::NetworkUnknown,
            2 => Self::Invalid,
            3 => Self::NotYours,
            4 => Self::Expired,
            5 => Self::Full,
            _ => Self::Other,
        }
    }
}

/// A message between the two ends of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control<'a> {
    /// "Are you there?"
    Ping {
        /// Comes back in the pong.
        id: u32,
    },
    /// "Yes."
    Pong {
        /// Of the ping.
        id: u32,
    },
    /// A datagram of a certain size.
    Probe {
        /// Comes back in the answer.
        id: u32,
        /// Zero bytes behind the id.
        padding: usize,
    },
    /// "That probe arrived."
    ProbeSeen {
        /// Of the probe.
        id: u32,
    },
    /// "Take my frames of this network; this is why you may."
    Open {
        /// Which network.
        network: NetworkId,
        /// Opaque here.
        grant: &'a [u8],
    },
    /// "I take them on this channel for so long."
    Accept {
        /// Which network.
        network: NetworkId,
        /// Of the grant that was accepted.
        grant: GrantDigest,
        /// The number to send with.
        channel: u32,
        /// For how long.
        seconds: u32,
    },
    /// "I do not take them."
    Refuse {
        /// Which network.
        network: NetworkId,
        /// Of the grant that was refused.
        grant: GrantDigest,
        /// Why.
        reason: GrantRefusal,
    },
    /// "I take no more of your frames of this network, and send none."
    Close {
        /// Which network.
        network: NetworkId,
    },
    /// "You send on a channel that I do not know."
    Unknown {
        /// Which channel.
        channel: u32,
    },
    /// "I am leaving."
    Bye,
    /// What node has to say to the peer's, over whatever way the link has.
    Note {
        /// Opaque here.
        body: &'a [u8],
    },
}

impl<'a> Control<'a> {
    /// Reads a message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let Some((kind, rest)) = bytes.split_first() else { return Err(Refusal::Length) };
        let exact = |len: usize| if rest.len() == len { Ok(()) } else { Err(Refusal::Length) };
        let network = |rest: &[u8]| NetworkId(array_at(rest, 0));
        Ok(match kind {
            1 => {
                exact(4)?;
                Self::Ping { id: u32_at(rest, 0) }
            }
            2 => {
                exact(4)?;
                Self::Pong { id: u32_at(rest, 0) }
            }
            3 => {
                let Some((id, padding)) = rest.split_at_checked(4) else { return Err(Refusal::Length) };
                if padding.iter().any(|byte| *byte != 0) {
                    return Err(Refusal::Foreign);
                }
                Self::Probe { id: u32_at(id, 0), padding: padding.len() }
            }
            4 => {
                exact(4)?;
                Self::ProbeSeen { id: u32_at(rest, 0) }
            }
            5 => {
                let Some((id, grant)) = rest.split_at_checked(16) else { return Err(Refusal::Length) };
                if grant.is_empty() || grant.len() > GRANT_BYTES_MAX {
                    return Err(Refusal::Length);
                }
                Self::Open { network: network(id), grant }
            }
            6 => {
                exact(32)?;
                let channel = u32_at(rest, 24);
                if channel == 0 || channel > CHANNEL_MAX {
                    return Err(Refusal::Foreign);
                }
                Self::Accept {
                    network: network(rest),
                    grant: GrantDigest(array_at(rest, 16)),
                    channel,
                    seconds: u32_at(rest, 28),
                }
            }
            7 => {
                exact(25)?;
                Self::Refuse {
                    network: network(rest),
                    grant: GrantDigest(array_at(rest, 16)),
                    reason: GrantRefusal::from_byte(rest[24]),
                }
            }
            8 => {
                exact(16)?;
                Self::Close { network: network(rest) }
            }
            9 => {
                exact(4)?;
                Self::Unknown { channel: u32_at(rest, 0) }
            }
            10 => {
                exact(0)?;
                Self::Bye
            }
            11 => {
                if rest.is_empty() || rest.len() > NOTE_BYTES_MAX {
                    return Err(Refusal::Length);
                }
                Self::Note { body: rest }
            }
            _ => return Err(Refusal::Foreign),
        })
    }

    /// Writes a message behind what is there.
    pub fn encode(&self, into: &mut Vec<u8>) {
        match *self {
            Self::Ping { id } => {
                into.push(1);
                into.extend(id.to_le_bytes());
            }
            Self::Pong { id } => {
                into.push(2);
                into.extend(id.to_le_bytes());
            }
            Self::Probe { id, padding } => {
                into.push(3);
                into.extend(id.to_le_bytes());
                into.resize(into.len() + padding, 0);
            }
            Self::ProbeSeen { id } => {
                into.push(4);
                into.extend(id.to_le_bytes());
            }
            Self::Open { network, grant } => {
                into.push(5);
                into.extend(network.0);
                into.extend(grant);
            }
            Self::Accept { network, grant, channel, seconds } => {
                into.push(6);
                into.extend(network.0);
                into.extend(grant.0);
                into.extend(channel.to_le_bytes());
                into.extend(seconds.to_le_bytes());
            }
            Self::Refuse { network, grant, reason } => {
                into.push(7);
                into.extend(network.0);
                into.extend(grant.0);
                into.push(reason as u8);
            }
            Self::Close { network } => {
                into.push(8);
                into.extend(network.0);
            }
            Self::Unknown { channel } => {
                into.push(9);
                into.extend(channel.to_le_bytes());
            }
            Self::Bye => into.push(10),
            Self::Note { body } => {
                into.push(11);
                into.extend(body);
            }
        }
    }
}

/// What a probe is longer than its padding, inside the seal.
pub(crate) const PROBE_BYTES_MIN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NetworkId = NetworkId([0x11; 16]);
    const DIGEST: GrantDigest = GrantDigest([0x22; 8]);

    fn golden() -> Vec<(Control<'static>, Vec<u8>)> {
        let network = |kind: u8, rest: &[u8]| [&[kind][..], &[0x11; 16], rest].concat();
        vec![
            (Control::Ping { id: 0x0403_0201 }, vec![1, 1, 2, 3, 4]),
            (Control::Pong { id: 0x0403_0201 }, vec![2, 1, 2, 3, 4]),
            (Control::Probe { id: 0x0403_0201, padding: 3 }, vec![3, 1, 2, 3, 4, /* padding */ 0, 0, 0]),
            (Control::ProbeSeen { id: 0x0403_0201 }, vec![4, 1, 2, 3, 4]),
            (Control::Open { network: NETWORK, grant: &[7, 8] }, network(5, &[7, 8])),
            (
                Control::Accept { network: NETWORK, grant: DIGEST, channel: 0x03_0201, seconds: 0x0807_0605 },
                network(
                    6,
                    &[
                        0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, /* channel */ 1, 2, 3, 0, 5, 6,
                        7, 8,
                    ],
                ),
            ),
            (
                Control::Refuse { network: NETWORK, grant: DIGEST, reason: GrantRefusal::Expired },
                network(7, &[0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, /* reason */ 4]),
            ),
            (Control::Close { network: NETWORK }, network(8, &[])),
            (Control::Unknown { channel: 0x0403_0201 }, vec![9, 1, 2, 3, 4]),
            (Control::Bye, vec![10]),
            (Control::Note { body: &[7, 8] }, vec![11, 7, 8]),
        ]
    }

    #[test]
    fn golden_bytes_and_exact_length_of_each_message() {
        for (message, bytes) in golden() {
            let mut encoded = Vec::new();
            message.encode(&mut encoded);
            assert_eq!(encoded, bytes, "{message:?}");
            assert_eq!(Control::parse(&bytes), Ok(message));
            let longer = [&bytes[..], &[1]].concat();
            if !matches!(message, Control::Open { .. } | Control::Note { .. }) {
                assert!(Control::parse(&longer).is_err(), "{message:?} with a trailing byte");
            }
            if !matches!(message, Control::Open { .. } | Control::Probe { .. } | Control::Note { .. }) {
                assert!(Control::parse(&bytes[..bytes.len() - 1]).is_err(), "{message:?} cut");
            }
        }
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        assert_eq!(Control::parse(&[]), Err(Refusal::Length));
        assert_eq!(Control::parse(&[0]), Err(Refusal::Foreign));
        assert_eq!(Control::parse(&[12]), Err(Refusal::Foreign));
        assert_eq!(Control::parse(&[11]), Err(Refusal::Length)); // nothing said
        let mut note = vec![11; 1 + NOTE_BYTES_MAX];
        assert!(Control::parse(&note).is_ok());
        note.push(1);
        assert_eq!(Control::parse(&note), Err(Refusal::Length));
        assert_eq!(Control::parse(&[3, 1, 2, 3, 4, 0, 1]), Err(Refusal::Foreign)); // padding is zero
        let mut open = vec![5; 17];
        assert_eq!(Control::parse(&open), Err(Refusal::Length)); // no grant
        open.resize(17 + GRANT_BYTES_MAX, 1);
        assert!(Control::parse(&open).is_ok());
        open.push(1);
        assert_eq!(Control::parse(&open), Err(Refusal::Length));
        let mut accept = Vec::new();
        Control::Accept { network: NETWORK, grant: DIGEST, channel: 0, seconds: 1 }.encode(&mut accept);
        assert_eq!(Control::parse(&accept), Err(Refusal::Foreign)); // channel 0 is control
    }
}
