//! Checked views over the bytes of a frame: what the switch and the offloads must know, and no more.
//!
//! A view is made once, checks every length it will use, and then cannot fail. Nothing here allocates, and nothing here decides.
//! Sources: IEEE 802.3 and 802.1Q (framing, tags), RFC 826 and 5227 (ARP), RFC 791, RFC 8200, RFC 4861 (neighbour discovery).

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod ip;
pub mod neighbour_discovery;
