//! The datagrams of the data plane: their bytes, and nothing else.
//!
//! # What it owns
//! Layouts, one file per datagram kind, each with its table. It refuses to know keys, sessions and time: what is sealed is
//! opaque here. Views are checked once, when they are made, and cannot fail afterwards; nothing here allocates on decoding.
//!
//! # Every datagram
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | kind | [`Kind`] |
//! | 1 | 1 | version | [`VERSION`]; any other is refused |
//! | 2 | 2 | reserved | zero; anything else is refused, so that no bit of a datagram is without effect |
//!
//! All numbers are little-endian. A datagram of unknown kind, version or length is refused with a [`Refusal`], which has a
//! counter each; nothing is ever answered to it.
//!
//! | kind | datagram | size |
//! |---|---|---|
//! | 1 | [`Initiation`] | exactly [`INITIATION_BYTES`] |
//! | 2 | [`Response`] | exactly [`RESPONSE_BYTES`] |
//! | 3 | [`CookieReply`] | exactly [`COOKIE_REPLY_BYTES`] |
//! | 4 | [`Data`] | at least [`DATA_BYTES_MIN`] |
//! | 5, 6 | [`Probe`] and its reply | exactly [`PROBE_BYTES`] |
//! | 7, 8 | any of the above [behind a relay's header](relayed_header) | at least [`RELAYED_BYTES`] and four more |
//!
//! Sources: Noise revision 34 section 7.5 (IK, psk2), the WireGuard paper section 5.4 (the shape of these four messages, mac1,
//! mac2 and the cookie), which we follow except for BLAKE3 as keyed hash and a salted key in place of XChaCha's long nonce.

pub mod control;
mod cookie;
mod data;
pub mod fragment;
mod initiation;
mod probe;
mod relayed;
mod response;

pub use cookie::{COOKIE_REPLY_BYTES, CookieReply};
pub use data::{
    CHANNEL_MAX, DATA_BYTES_MIN, DATA_HEADER_BYTES, DATA_MARK_BYTES, DATA_OVERHEAD, Data, INNER_BYTES, Inner,
    InnerKind, TAG_BYTES,
};
pub use initiation::{HELLO_BYTES, Hello, INITIATION_BYTES, INITIATION_NOISE_BYTES, Initiation};
pub use probe::{PROBE_BYTES, Probe, ProbeFlags, ProbeKind, TAG_BYTES as PROBE_TAG_BYTES};
pub(crate) use probe::{covered as probe_covered, tag as probe_tag};
pub use relayed::{Onward, RELAYED_BYTES, relayed_header, relayed_token};
pub use response::{RESPONSE_BYTES, RESPONSE_NOISE_BYTES, Response, WELCOME_BYTES, Welcome};

/// The version of the format this crate speaks.
pub const VERSION: u8 = 1;
/// Kind, version and reserved bytes.
pub const COMMON_BYTES: usize = 4;
/// mac1 and mac2 each.
pub const MAC_BYTES: usize = 16;
/// The largest UDP payload over IPv4; nothing larger can be received.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// The kinds of datagram; the only place where their numbers stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// First message of a handshake.
    Initiation = 1,
    /// Second message of a handshake.
    Response = 2,
    /// "Prove that you can receive at your address", instead of a response.
    CookieReply = 3,
    /// Anything sealed by a session.
    Data = 4,
    /// Asks whether a path works.
    Probe = 5,
    /// Says that it does.
    ProbeReply = 6,
    /// Any other datagram, to be forwarded by its token.
    Relayed = 7,
    /// Any other datagram that came through relays.
    Delivered = 8,
}

/// Why a datagram is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The kind is none of [`Kind`], or reserved bytes are not zero.
    #[error("not a datagram of this protocol")]
    Foreign,
    /// Another version.
    #[error("format version {0}, this node speaks {VERSION}")]
    Version(u8),
    /// The length does not fit the kind.
    #[error("length does not fit the kind of datagram")]
    Length,
}

/// One received datagram, told apart.
#[derive(Debug)]
pub enum Datagram<'a> {
    /// See [`Initiation`].
    Initiation(Initiation<'a>),
    /// See [`Response`].
    Response(Response<'a>),
    /// See [`CookieReply`].
    CookieReply(CookieReply<'a>),
    /// See [`Data`].
    Data(Data<'a>),
    /// See [`Probe`].
    Probe(Probe),
    /// Behind a relay's header: its token and what is inside.
    Relayed(u32, &'a [u8]),
}

impl<'a> Datagram<'a> {
    /// Tells a datagram apart and checks its length.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        match kind(bytes)? {
            Kind::Initiation => Initiation::parse(bytes).map(Self::Initiation),
            Kind::Response => Response::parse(bytes).map(Self::Response),
            Kind::CookieReply => CookieReply::parse(bytes).map(Self::CookieReply),
            Kind::Data => Data::parse(bytes).map(Self::Data),
            Kind::Probe | Kind::ProbeReply => Probe::parse(bytes).map(Self::Probe),
            Kind::Relayed | Kind::Delivered => {
                relayed_token(bytes).map(|token| Self::Relayed(token, &bytes[RELAYED_BYTES..]))
            }
        }
    }
}

/// The kind of a datagram, if its first four bytes are right.
#[inline]
pub fn kind(bytes: &[u8]) -> Result<Kind, Refusal> {
    let Some([kind, version, reserved @ ..]) = bytes.first_chunk::<COMMON_BYTES>() else {
        return Err(Refusal::Length);
    };
    let kind = match kind {
        1 => Kind::Initiation,
        2 => Kind::Response,
        3 => Kind::CookieReply,
        4 => Kind::Data,
        5 => Kind::Probe,
        6 => Kind::ProbeReply,
        7 => Kind::Relayed,
        8 => Kind::Delivered,
        _ => return Err(Refusal::Foreign),
    };
    if *version != VERSION {
        return Err(Refusal::Version(*version));
    }
    if *reserved != [0, 0] {
        return Err(Refusal::Foreign);
    }
    Ok(kind)
}

/// The first four bytes of a datagram of this kind.
pub(crate) const fn common(kind: Kind) -> [u8; COMMON_BYTES] {
    [kind as u8, VERSION, 0, 0]
}

/// The little-endian number at `offset`; the caller has checked the length.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

/// As [`u32_at`].
#[inline]
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}

/// As [`u32_at`].
#[inline]
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

/// The bytes at `offset`; the caller has checked the length.
#[inline]
pub(crate) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[offset..offset + N]);
    array
}

/// Fuzz entry: decodes whatever comes as a datagram, and as the inside of one.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(Datagram::Data(data)) = Datagram::parse(bytes) {
        assert!(data.sealed().len() >= INNER_BYTES + TAG_BYTES);
    }
    if let Ok(probe) = Probe::parse(bytes) {
        let again = probe.encode(|_| array_at(bytes, PROBE_BYTES - MAC_BYTES));
        assert_eq!(Probe::parse(&again), Ok(probe));
    }
    if let Ok(Datagram::Relayed(_, inner)) = Datagram::parse(bytes) {
        assert_eq!(inner.len() + RELAYED_BYTES, bytes.len());
    }
    if let Ok((inner, body)) = Inner::parse(bytes) {
        assert_eq!(body.len() + INNER_BYTES, bytes.len());
        assert_eq!(inner.encode()[..], bytes[..INNER_BYTES]);
        if let Ok((fragment, part)) = fragment::Fragment::parse(body) {
            assert_eq!(fragment.part_bytes(), part.len());
        }
    }
    if let Ok(message) = control::Control::parse(bytes) {
        let mut again = Vec::new();
        message.encode(&mut again);
        assert_eq!(control::Control::parse(&again), Ok(message));
    }
    if let Some(bytes) = bytes.first_chunk::<HELLO_BYTES>() {
        let _ = Hello::parse(bytes);
    }
    if let Some(bytes) = bytes.first_chunk::<WELCOME_BYTES>() {
        let _ = Welcome::parse(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_kind_version_reserved_and_length_each_have_their_refusal() {
        assert_eq!(kind(&[4, 1, 0]), Err(Refusal::Length));
        assert_eq!(kind(&[0, 1, 0, 0]), Err(Refusal::Foreign));
        assert_eq!(kind(&[9, 1, 0, 0]), Err(Refusal::Foreign));
        assert_eq!(kind(&[4, 2, 0, 0]), Err(Refusal::Version(2)));
        assert_eq!(kind(&[4, 1, 1, 0]), Err(Refusal::Foreign));
        assert_eq!(kind(&[4, 1, 0, 1]), Err(Refusal::Foreign));
        assert_eq!(kind(&[4, 1, 0, 0]), Ok(Kind::Data));
        for (kind, exact) in [
            (1, INITIATION_BYTES),
            (2, RESPONSE_BYTES),
            (3, COOKIE_REPLY_BYTES),
            (5, PROBE_BYTES),
            (6, PROBE_BYTES),
        ] {
            let mut bytes = vec![0; exact + 1];
            bytes[..4].copy_from_slice(&[kind, 1, 0, 0]);
            assert!(matches!(Datagram::parse(&bytes), Err(Refusal::Length)));
            assert!(Datagram::parse(&bytes[..exact]).is_ok());
            assert!(matches!(Datagram::parse(&bytes[..exact - 1]), Err(Refusal::Length)));
        }
    }

    #[test]
    fn random_flipped_and_cut_input_never_panics() {
        crate::testing::hostile_bytes(20_000, 640, fuzz);
    }
}
