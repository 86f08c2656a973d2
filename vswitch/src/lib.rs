//! Placeholder map; see the crate's rooms.

pub mod frame;
pub mod mac;
pub mod neighbour;
pub mod switch;

pub use libp2p_identity::PeerId as HostId;
