//! What the owner wants of this node: the configuration file, the command line, and what both mean together.
//!
//! Owns: the words of the file ([`mod@file`]) and of the command line ([`args`]), their units ([`units`]), and the one function
//! that gives them meaning ([`resolved::resolve`]), which alone validates and fills in defaults.
//! Refuses to know: what the daemon does with any of it.
//! Invariants: what was written ([`file::ConfigFile`]) and what it means ([`resolved::NodeConfig`]) are two types; an unknown
//! key is refused, with the nearest known one; each refusal names file, line, key and value.

pub mod args;
pub mod file;
pub mod nearest;
pub mod paths;
pub mod resolved;
pub mod units;
