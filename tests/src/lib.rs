//! Placeholder map; see the crate's rooms.
