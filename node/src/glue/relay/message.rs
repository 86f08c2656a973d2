//! The messages of `relay/1`: asking a relay for a leg, and asking the other end to join.
//!
//! Version (1 byte), then postcard; trailing bytes refused.
//!
//! | request | to | meaning |
//! |---|---|---|
//! | [`Request::Leg`] | a relay | forward what comes with a token from the one before you on the route to the one after you |
//! | [`Request::Spare`] | a relay | the same beside a direct path, as long as others leave room |
//! | [`Request::Join`] | the other end | datagrams of mine come by this route with that token; open the way back |
//!
//! A way through one or more relays is two directions, each opened by the end that sends on it, from the far relay to the near one, since
//! each must know the token of the next. Nobody opens anything in another's name: the asking host is the sending end.

use consort_overlay::HostId;
use consort_scheduler::bounded::List;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Relays in a row at the most: the operator's routes may be longer, but each adds a round trip and a loss of its own.
pub const HOPS_MAX: usize = 4;

/// The longest message: four names of 39 bytes each, another, and some numbers.
pub const BYTES_MAX: usize = 256;

const VERSION: u8 = 1;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A leg over the relay that is asked.
    Leg {
        /// The end that shall get the datagrams.
        to: HostId,
        /// All relays from the asking host to it.
        route: List<HostId, HOPS_MAX>,
        /// Which of them is asked.
        at: u8,
        /// What the next relay of the route forwards by; none where this is the last.
        onward: Option<u32>,
    },
    /// The way back.
    Join {
        /// All relays from the asking host to the one that is asked.
        route: List<HostId, HOPS_MAX>,
        /// What the asking host's datagrams arrive with.
        arrives: u32,
    },
    /// A leg for hosts that have a direct path: theirs when an address changes. A relay that is half full has none.
    Spare {
        /// As for [`Request::Leg`].
        to: HostId,
        /// The same.
        route: List<HostId, HOPS_MAX>,
        /// The same.
        at: u8,
        /// The same.
        onward: Option<u32>,
    },
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The leg is open.
    Open {
        /// What to send with.
        incoming: u32,
        /// What leaves the relay.
        outgoing: u32,
        /// For how many seconds, unless it is asked for again.
        lives_s: u16,
    },
    /// The way back is open.
    Joined {
        /// What the other end's datagrams arrive with.
        arrives: u32,
    },
    /// No.
    Refused(Refusal),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The owner lets it relay nothing, or nothing more for these.
    NotAllowed,
    /// The operator's topology says otherwise.
    Topology,
    /// It carries as much as its owner allows.
    Full,
    /// It does not know one of the hosts.
    Unknown,
    /// The route is not one.
    Route,
}

/// As it travels.
#[must_use]
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    let body = postcard::to_stdvec(message).expect("a message holds nothing postcard cannot write");
    [&[VERSION], &body[..]].concat()
}

/// From the bytes of a message; none if they are not one of this version.
#[must_use]
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let body = bytes.strip_prefix(&[VERSION]).filter(|_| bytes.len() <= BYTES_MAX)?;
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Some(message),
        Ok(_) | Err(_) => None,
    }
}

/// The fuzz target's body: any bytes are a message that encodes to one of the same meaning, or are refused.
pub fn fuzz(data: &[u8]) {
    if let Some(request) = decode::<Request>(data) {
        assert_eq!(decode(&encode(&request)), Some(request));
    }
    if let Some(response) = decode::<Response>(data) {
        assert_eq!(decode(&encode(&response)), Some(response));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> [Request; 3] {
        let route = || List::first_of((0..HOPS_MAX).map(|_| HostId::random()));
        [
            Request::Leg { to: HostId::random(), route: route(), at: 3, onward: Some(u32::MAX) },
            Request::Join { route: route(), arrives: u32::MAX },
            Request::Spare { to: HostId::random(), route: route(), at: 3, onward: Some(u32::MAX) },
        ]
    }

    #[test]
    fn an_answer_is_a_version_a_kind_and_numbers() {
        assert_eq!(encode(&Response::Open { incoming: 5, outgoing: 6, lives_s: 120 }), [1, 0, 5, 6, 120]);
        assert_eq!(encode(&Response::Refused(Refusal::Full)), [1, 2, 2]);
    }

    #[test]
    fn messages_come_out_as_they_went_in_and_nothing_else_does() {
        for request in requests() {
            let bytes = encode(&request);
            assert!(bytes.len() <= BYTES_MAX, "{}", bytes.len());
            for length in 0..bytes.len() {
                assert_eq!(decode::<Request>(&bytes[..length]), None, "{length}");
            }
            assert_eq!(decode::<Request>(&[&bytes[..], &[0]].concat()), None);
            assert_eq!(decode(&bytes), Some(request));
        }
    }

    #[test]
    fn the_fuzz_target_runs_for_a_moment() {
        let valid = requests().map(|request| encode(&request));
        crate::testing::fuzz_for_a_moment(&valid, fuzz);
    }
}
