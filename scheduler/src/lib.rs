//! Placeholder map while the rooms are built.
pub mod bounded;
pub mod engine;
pub mod identity;
pub mod ledger;
pub mod limits;
pub mod message;
pub mod placement;
pub mod refusal;
pub mod register;
pub mod request;
pub mod resources;
pub mod slice;
pub mod units;
