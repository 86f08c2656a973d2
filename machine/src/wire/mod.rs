//! What is said between the daemon and a machine's keeper.
//!
//! Two layers: [`frame`] cuts a stream of bytes into bounded frames and is all that a session's client needs; [`message`] is what the
//! frames of the control kind hold. Both sides are one program of one version in the usual case, and of two versions after an upgrade
//! of the daemon, since keepers live on: hence [`message::PROTOCOL`].

pub mod frame;
pub mod message;

pub use frame::Frame;
