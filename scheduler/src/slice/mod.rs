//! A slice: what a tenant asks for, signs, and gets.
//!
//! [`spec`] is the checked wish and [`mod@file`] its text form, [`charter`] the wish as founded and signed,
//! [`record`] what stands in the register and [`change`] the only ways it may change, [`address`] which MAC
//! and IP addresses follow from it, [`view`] what a host or a user sees of it, [`grant`] how a steward lets
//! a member host into a network. Everything here is plain data and pure functions.

pub mod address;
pub mod change;
pub mod charter;
pub mod file;
pub mod grant;
pub mod id;
mod nearest;
mod range;
pub mod record;
pub mod spec;
pub mod view;
