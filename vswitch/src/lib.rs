//! Placeholder map; see the crate's rooms.

pub mod frame;
mod guard;
mod hash;
mod inspect;
pub mod mac;
pub mod neighbour;
#[cfg(test)]
mod specimen;
pub mod switch;
pub mod table;
pub mod offload;
mod tally;

pub use libp2p_identity::PeerId as HostId;
