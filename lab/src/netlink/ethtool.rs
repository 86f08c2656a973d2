//! Offload switches of a link, over generic netlink (`ETHTOOL_MSG_FEATURES_SET`).
//!
//! A veth pair hands whole super-frames and unfinished checksums across; switched off, only what a real wire would carry crosses it.

use nix::errno::Errno;

use super::message::{Message, attribute, short_at};
use super::{Netlink, NetlinkError, acknowledged_request};

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_WANTED: u16 = 3;
const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
const ETHTOOL_A_BITSET_BIT_VALUE: u16 = 3;

/// Bytes of `struct genlmsghdr`.
const GENERIC_HEADER_BYTES: usize = 4;

/// Everything that lets a veth carry what a wire would not: segmentation of TCP and UDP left to the receiver, sums left undone.
const WIRE_OFF: [&str; 7] = [
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-checksum-ip-generic",
    "tx-scatter-gather-fraglist",
];

/// What the driver of a real card does and a veth only when told: hand what came in one poll to the kernel's receive offload.
const WIRE_ON: &str = "rx-gro";

impl Netlink {
    /// Makes a link behave as a card on a real wire: only finished frames of at most its MTU leave it, and those that arrive go through the
    /// kernel's receive offload.
    pub fn set_real_wire(&mut self, link: &str) -> Result<(), NetlinkError> {
        self.set_wire_through(link)?;
        self.set_features(link, &[(WIRE_ON, true)])
    }

    /// Makes a link the end of a real wire inside a box that passes frames on as they came: nothing leaves it that a wire would not carry,
    /// and nothing that arrives is merged, because it could not be sent on whole.
    pub fn set_wire_through(&mut self, link: &str) -> Result<(), NetlinkError> {
        self.set_features(link, &WIRE_OFF.map(|feature| (feature, false)))
    }

    /// Switches offload features by their kernel names.
    pub fn set_features(&mut self, link: &str, features: &[(&str, bool)]) -> Result<(), NetlinkError> {
        let family = self.ethtool_family()?;
        let message = generic_request(family, ETHTOOL_MSG_FEATURES_SET)
            .nested(ETHTOOL_A_FEATURES_HEADER, |header| header.text(ETHTOOL_A_HEADER_DEV_NAME, link))
            .nested(ETHTOOL_A_FEATURES_WANTED, |wanted| {
                wanted.nested(ETHTOOL_A_BITSET_BITS, |bits| {
                    features.iter().fold(bits, |bits, (name, on)| {
                        bits.nested(ETHTOOL_A_BITSET_BITS_BIT, |bit| {
                            let bit = bit.text(ETHTOOL_A_BITSET_BIT_NAME, name);
                            if *on { bit.attribute(ETHTOOL_A_BITSET_BIT_VALUE, &[]) } else { bit }
                        })
                    })
                })
            });
        self.generic.request(&format!("set the offloads of {link}"), message).map(drop)
    }

    fn ethtool_family(&mut self) -> Result<u16, NetlinkError> {
        if let Some(family) = self.ethtool_family {
            return Ok(family);
        }
        let attempted = "find the kernel's ethtool interface";
        let message =
            generic_request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY).text(CTRL_ATTR_FAMILY_NAME, "ethtool");
        let bodies = self.generic.request(attempted, message)?;
        let family = bodies
            .first()
            .and_then(|body| body.get(GENERIC_HEADER_BYTES..))
            .and_then(|attributes| attribute(attributes, CTRL_ATTR_FAMILY_ID))
            .and_then(|id| short_at(id, 0))
            .ok_or_else(|| NetlinkError::new(attempted, Errno::EBADMSG))?;
        self.ethtool_family = Some(family);
        Ok(family)
    }
}

fn generic_request(family: u16, command: u8) -> Message {
    acknowledged_request(family, 0, &[command, 1, 0, 0])
}
