//! Machines on one host: the drivers that make them, and the images they start from.
//!
//! Owns everything between the description of a machine and its processes. Refuses to know slices, networks between hosts, and who asked:
//! a [`driver::Driver`] is told what to make, and hands back the machine's TAP descriptors.
//!
//! ```text
//! node ── Driver ──▶ SandboxDriver ── keeper.sock ──▶ keeper (one process each) ── clone ──▶ init of the machine
//!   ▲                     │                             │ makes and holds: namespaces, mounts, cgroups, TAPs, console, log
//!   └── TAP descriptors ──┴──────── SCM_RIGHTS ─────────┘
//! ```
//!
//! | room | owns |
//! |---|---|
//! | [`spec`] | what is asked for, checked |
//! | [`driver`] | the trait of all drivers, and its answers |
//! | [`sandbox`] | the driver of machines on the host's kernel |
//! | [`session`] | programs in a machine and its console, as streams of frames |
//! | [`image`] | trees that machines start from; the mini image |
//! | [`keeper`] | the process that makes, holds, serves and ends one machine |
//! | [`wire`] | what is said between the daemon and a keeper |
//! | `setup` | namespaces, mounts, devices, capabilities, the system call filter; the only `unsafe` |
//! | `cgroup` | limits, accounting, freezing |
//!
//! A program that makes machines calls [`keeper::main`] first of all, before it has started any thread, when its first argument is the
//! word that its [`spec::KeeperCommand`] has.

mod cgroup;
pub mod driver;
pub mod image;
pub mod keeper;
mod rights;
pub mod sandbox;
pub mod session;
mod setup;
pub mod spec;
#[cfg(test)]
mod test_dir;
pub mod wire;
