//! What two hosts say to each other about networks by themselves, as requests of the overlay.
//!
//! | byte 0 | then, postcard | answered by |
//! |---|---|---|
//! | 1 | *compare*: up to [`NETWORKS_MAX`] pairs of network (16) and digest (8 as a varint) | *differ*: items the asker may not have, and the networks of which this host may not have all |
//! | 2 | *tell*: up to [`ITEMS_MAX`] items | nothing |
//!
//! The overlay has bounded the length before this decodes; counts are bounded here, and trailing bytes refused.

use consort_scheduler::bounded::List;
use consort_vswitch::NetworkId;
use serde::{Deserialize, Serialize};

use super::directory::{HOSTS_MAX, Item, NETWORKS_MAX};
use super::statement::SIGNED_BYTES_MAX;

/// Items in one message: every network fits whole, with its definition.
pub const ITEMS_MAX: usize = 2 * HOSTS_MAX;
const _: () = assert!(ITEMS_MAX > HOSTS_MAX);
/// An item with its kind.
const ITEM_BYTES_MAX: usize = 1 + SIGNED_BYTES_MAX;
/// The longest message of either way.
pub const BYTES_MAX: usize = 16 + ITEMS_MAX * ITEM_BYTES_MAX + NETWORKS_MAX * 26;

const COMPARE: u8 = 1;
const TELL: u8 = 2;

/// What one host asks of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// "This is what I know; what do you?"
    Compare(Vec<(NetworkId, u64)>),
    /// "Know this."
    Tell(Vec<Item>),
}

/// The answer to [`Request::Compare`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differ {
    /// What the asker may not know.
    pub items: Vec<Item>,
    /// Networks of which the answering host may not know all.
    pub wanted: Vec<NetworkId>,
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be read")]
pub struct Unreadable;

type Pairs = List<([u8; 16], u64), NETWORKS_MAX>;
type Items = List<Item, ITEMS_MAX>;
type Ids = List<[u8; 16], NETWORKS_MAX>;

impl Request {
    /// As it travels. What is beyond the bounds is left out; it is told another time.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Compare(digests) => {
                encode(COMPARE, &Pairs::first_of(digests.iter().map(|(id, digest)| (id.0, *digest))))
            }
            Self::Tell(items) => encode(TELL, &Items::first_of(items.iter().cloned())),
        }
    }

    /// From such bytes.
    ///
    /// # Errors
    /// If they are no request.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        match bytes.split_first() {
            Some((&COMPARE, rest)) => {
                let pairs: Pairs = exactly(rest)?;
                Ok(Self::Compare(pairs.into_iter().map(|(id, digest)| (NetworkId(id), digest)).collect()))
            }
            Some((&TELL, rest)) => Ok(Self::Tell(exactly::<Items>(rest)?.into_vec())),
            Some(_) | None => Err(Unreadable),
        }
    }
}

impl Differ {
    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wanted = Ids::first_of(self.wanted.iter().map(|id| id.0));
        encode(COMPARE, &(Items::first_of(self.items.iter().cloned()), wanted))
    }

    /// From such bytes.
    ///
    /// # Errors
    /// If they are no answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let Some((&COMPARE, rest)) = bytes.split_first() else { return Err(Unreadable) };
        let (items, wanted): (Items, Ids) = exactly(rest)?;
        Ok(Self { items: items.into_vec(), wanted: wanted.into_iter().map(NetworkId).collect() })
    }
}

fn encode(kind: u8, body: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(body, vec![kind]).expect("messages hold nothing postcard cannot write")
}

fn exactly<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Unreadable> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(Unreadable),
    }
}

/// The fuzz target's body: any bytes are a message that encodes to one of the same meaning, or are refused.
pub fn fuzz(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    if let Ok(differ) = Differ::decode(data) {
        assert_eq!(Differ::decode(&differ.encode()), Ok(differ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::statement::Signed;
    use super::*;

    fn item() -> Item {
        // A body of three bytes and a signature.
        Item::Claim(Signed::decode(&[&[3, 1, 2, 3][..], &[7; 64]].concat()).unwrap())
    }

    #[test]
    fn the_bytes_of_each_message_are_fixed() {
        let compare = Request::Compare(vec![(NetworkId([5; 16]), 300)]).encode();
        assert_eq!(compare, [&[COMPARE, 1][..], &[5; 16], &[0xac, 0x02]].concat());
        let tell = Request::Tell(vec![item()]).encode();
        assert_eq!(tell, [&[TELL, 1, 1, 3, 1, 2, 3][..], &[7; 64]].concat());
        let differ = Differ { items: vec![], wanted: vec![NetworkId([5; 16])] }.encode();
        assert_eq!(differ, [&[COMPARE, 0, 1][..], &[5; 16]].concat());
    }

    #[test]
    fn messages_come_out_as_they_went_in_and_nothing_else_does() {
        let messages =
            [Request::Compare(vec![(NetworkId([5; 16]), u64::MAX)]), Request::Tell(vec![item(), item()])];
        for message in messages {
            let bytes = message.encode();
            assert_eq!(Request::decode(&bytes), Ok(message));
            for length in 0..bytes.len() {
                assert_eq!(Request::decode(&bytes[..length]), Err(Unreadable), "{length}");
            }
            assert_eq!(Request::decode(&[bytes, vec![0]].concat()), Err(Unreadable));
        }
    }

    #[test]
    fn a_message_of_the_most_items_stays_within_its_bound() {
        let longest = Signed::decode(&[&[0x80, 0x02][..], &[1; 256], &[7; 64]].concat()).unwrap();
        let items = vec![Item::Claim(longest); ITEMS_MAX + 1];
        let wanted = vec![NetworkId([0xff; 16]); NETWORKS_MAX];
        assert!(Differ { items, wanted }.encode().len() <= BYTES_MAX);
    }

    #[test]
    fn the_fuzz_target_runs_for_a_moment() {
        let valid = [
            Request::Tell(vec![item(), item()]).encode(),
            Differ { items: vec![item()], wanted: vec![NetworkId([5; 16])] }.encode(),
        ];
        crate::testing::fuzz_for_a_moment(&valid, fuzz);
    }
}
