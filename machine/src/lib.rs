//! Machines on one host: the drivers that make them, and the images they start from.
//!
//! Owns everything between the description of a machine and its processes. Refuses to know slices, networks between hosts, and who asked:
//! a [`driver::Driver`] is told what to make, and hands back the machine's TAP descriptors.
//!
//! | room | owns |
//! |---|---|
//! | [`spec`] | what is asked for, checked |
//! | [`driver`] | the trait of all drivers, and its answers |
//! | [`session`] | programs in a machine and its console, as streams of frames |
//! | [`image`] | trees that machines start from; the mini image |
//! | [`wire`] | what is said between the daemon and a machine's keeper |

pub mod driver;
pub mod image;
pub mod session;
pub mod spec;
#[cfg(test)]
mod test_dir;
pub mod wire;
