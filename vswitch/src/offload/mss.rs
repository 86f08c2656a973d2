//! The maximum segment size that the ends of a TCP connection tell each other (RFC 9293 section 3.7.1), lowered to what the path takes.
//!
//! A machine's own MTU is its network's, 1500 mostly, whatever its frames' way is. Its segments would each be cut in two, and its super-frames into segments and a
//! rest. The option stands in the two segments that open a connection, and each end's is lowered where it enters the link.

use super::layout::{Layout, TCP_BYTES, TCP_FLAGS, Transport, Version, flag::SYN};
use crate::frame::{
    checksum,
    ethernet::ethertype,
    ip::{IPV4_BYTES, IPV6_BYTES, protocol},
};

/// Kinds of options: the end, a filler, the maximum segment size with its length.
const END: u8 = 0;
const FILLER: u8 = 1;
const MSS: u8 = 2;
const MSS_BYTES: u8 = 4;
/// What machines tell whose network has Ethernet's usual frames.
const USUAL: u16 = 1460;
/// Nobody is told less than what everybody takes (RFC 9293 section 3.7.1): segments that do not fit are cut in parts instead.
const LEAST: u16 = 536;

/// The largest frames that segments shall fit, in bytes.
#[derive(Debug, Clone, Copy)]
pub enum Room {
    /// What the path takes.
    Known(usize),
    /// What most paths take, since this one is not known yet and a connection keeps for ever what it is told as it begins. Where the network has longer frames than usual, so
    /// may the path: nothing is lowered.
    Usual(usize),
}

/// Lowers the option so that segments find room, if the frame opens a connection and tells of larger ones; whether it did. If the checksum is `partial`, it is still
/// to be computed.
#[inline]
pub fn clamp(frame: &mut [u8], room: Room, partial: bool) -> bool {
    may_open(frame) && lower(frame, room, partial)
}

/// A quick look that says no to most frames; what it cannot read it lets pass.
#[inline]
fn may_open(frame: &[u8]) -> bool {
    const NETWORK: usize = 14;
    let has_syn = |upper: usize| frame.get(NETWORK + upper + TCP_FLAGS).is_some_and(|flags| flags & SYN != 0);
    let Some(word) = frame.get(12..NETWORK) else { return false };
    let next = |at: usize| frame.get(NETWORK + at).copied();
    match u16::from_be_bytes([word[0], word[1]]) {
        ethertype::IPV4 if next(9) != Some(protocol::TCP) => false,
        ethertype::IPV4 if next(0) == Some(0x45) => has_syn(IPV4_BYTES),
        ethertype::IPV6 if next(6) == Some(protocol::TCP) => has_syn(IPV6_BYTES),
        ethertype::IPV6 if next(6) == Some(protocol::UDP) => false,
        _ => true,
    }
}

#[cold]
fn lower(frame: &mut [u8], room: Room, partial: bool) -> bool {
    let (frame_max, told_max) = match room {
        Room::Known(bytes) => (bytes, u16::MAX),
        Room::Usual(bytes) => (bytes, USUAL),
    };
    let Some(layout) = Layout::of(frame) else { return false };
    if layout.transport != Transport::Tcp || frame[layout.upper + TCP_FLAGS] & SYN == 0 {
        return false;
    }
    let ip_bytes = match layout.version {
        Version::V4 => IPV4_BYTES,
        Version::V6 => IPV6_BYTES,
    };
    let fits = frame_max.saturating_sub(layout.network + ip_bytes + TCP_BYTES);
    let most = u16::try_from(fits).unwrap_or(u16::MAX).max(LEAST);
    let Some(at) = option(&frame[layout.upper + TCP_BYTES..layout.payload]) else { return false };
    let at = layout.upper + TCP_BYTES + at;
    let told = u16::from_be_bytes([frame[at], frame[at + 1]]);
    if told <= most || told > told_max {
        return false;
    }
    frame[at..at + 2].copy_from_slice(&most.to_be_bytes());
    if !partial {
        let field = layout.checksum();
        let sum = u16::from_be_bytes([frame[field], frame[field + 1]]);
        // Where the value lies across two words, each of its bytes is the other's in the sum.
        let (old, new) = match (at - layout.upper).is_multiple_of(2) {
            true => (told, most),
            false => (told.swap_bytes(), most.swap_bytes()),
        };
        frame[field..field + 2].copy_from_slice(&checksum::updated(sum, old, new).to_be_bytes());
    }
    true
}

/// Where the value of the option is among the options.
fn option(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *options.get(at)? {
            END => return None,
            FILLER => at += 1,
            MSS => {
                let is_whole =
                    options.get(at + 1) == Some(&MSS_BYTES) && options.len() >= at + usize::from(MSS_BYTES);
                return is_whole.then_some(at + 2);
            }
            _ => match usize::from(*options.get(at + 1)?) {
                0 | 1 => return None,
                bytes => at += bytes,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        offload::tests::{Recipe, plain},
        specimen,
    };

    const ROOM: Room = Room::Known(1400);

    /// What opens a connection: fillers before the option, behind it those that Linux sends.
    fn opening(fillers: usize, mss: u16) -> Recipe {
        let [high, low] = mss.to_be_bytes();
        let mut options = vec![FILLER; fillers];
        options.extend([MSS, MSS_BYTES, high, low, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0]);
        options.resize(options.len().next_multiple_of(4), FILLER);
        Recipe { flags: SYN, options, payload: vec![], ..plain() }
    }

    fn kinds(fillers: usize, mss: u16) -> impl Iterator<Item = Recipe> {
        let shapes = [
            (false, vec![], None),
            (true, vec![], None),
            (false, vec![5], None),
            (true, vec![7, 5], Some(1)),
        ];
        shapes.into_iter().map(move |(v6, tags, extension)| Recipe {
            v6,
            tags,
            extension,
            ..opening(fillers, mss)
        })
    }

    #[test]
    fn what_is_told_is_what_fits_and_the_checksum_is_right_wherever_the_option_stands() {
        for fillers in 0..4 {
            for recipe in kinds(fillers, 1460) {
                let mut frame = recipe.frame();
                assert!(clamp(&mut frame, ROOM, false));
                let ip_bytes = if recipe.v6 { IPV6_BYTES } else { IPV4_BYTES };
                let fits = u16::try_from(1400 - 14 - 4 * recipe.tags.len() - ip_bytes - TCP_BYTES).unwrap();
                let [high, low] = fits.to_be_bytes();
                let mut lowered = recipe.clone();
                lowered.options[fillers + 2..fillers + 4].copy_from_slice(&[high, low]);
                assert_eq!(frame, lowered.frame(), "{recipe:?}");
                assert!(!clamp(&mut frame, ROOM, false), "it fits now");
            }
        }
    }

    #[test]
    fn an_open_checksum_is_left_as_it_is() {
        for recipe in kinds(0, 1460) {
            let mut frame = recipe.partial();
            assert!(clamp(&mut frame, ROOM, true));
            let field = Layout::of(&frame).unwrap().checksum();
            assert_eq!(frame[field..field + 2], recipe.partial()[field..field + 2]);
        }
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let mut frame = opening(0, 1460).frame();
        let field = Layout::of(&frame).unwrap().checksum();
        frame[field] ^= 0x40;
        assert!(clamp(&mut frame, ROOM, false));
        let right = Recipe {
            options: [&[MSS, MSS_BYTES, 5, 66][..], &opening(0, 0).options[4..]].concat(),
            ..opening(0, 0)
        };
        assert_ne!(frame[field..field + 2], right.frame()[field..field + 2]);
    }

    #[test]
    fn all_else_is_left_alone() {
        let smaller = opening(0, 1200);
        let later = Recipe { flags: 0x10, ..opening(0, 1460) };
        let without = Recipe { flags: SYN, options: vec![], ..plain() };
        let ended = Recipe { flags: SYN, options: vec![END, MSS, MSS_BYTES, 5, 180, 1, 1, 1], ..plain() };
        let cut = Recipe { flags: SYN, options: vec![1, 1, MSS, MSS_BYTES], ..plain() };
        let endless = Recipe { flags: SYN, options: vec![8, 0, MSS, MSS_BYTES, 5, 180, 1, 1], ..plain() };
        let udp = Recipe { udp: true, ..plain() };
        for recipe in [smaller, later, without, ended, cut, endless, udp] {
            let mut frame = recipe.frame();
            assert!(!clamp(&mut frame, ROOM, false), "{recipe:?}");
            assert_eq!(frame, recipe.frame());
        }
    }

    #[test]
    fn before_the_path_is_known_only_usual_frames_are_thought_too_large() {
        for (told, is_lowered) in [(1460, true), (1461, false), (8960, false)] {
            let mut frame = opening(0, told).frame();
            assert_eq!(clamp(&mut frame, Room::Usual(1400), false), is_lowered, "{told}");
            assert!(clamp(&mut opening(0, told).frame(), ROOM, false));
        }
    }

    #[test]
    fn nobody_is_told_less_than_what_everybody_takes() {
        let mut frame = opening(0, 1460).frame();
        assert!(clamp(&mut frame, Room::Known(100), false));
        let at = Layout::of(&frame).unwrap().upper + TCP_BYTES + 2;
        assert_eq!(frame[at..at + 2], LEAST.to_be_bytes());
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let look = |bytes: &[u8]| {
            clamp(&mut bytes.to_vec(), ROOM, false);
        };
        specimen::hostile(20_000, look);
        specimen::damaged(&opening(1, 1460).frame(), 80, 5_000, look);
    }
}
