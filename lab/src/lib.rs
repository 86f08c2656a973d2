//! The network lab: emulated hosts on an emulated wide network, without root and without a single installed tool.
//!
//! `consort demo`, the network tests and the benches run *real* node processes here. What is emulated is only what lies under
//! them: computers (namespaces), cables (veth pairs), the wide network (a router namespace) and its faults (a middle box).
//!
//! ```text
//!  caller ──▶ lab-enter (janitor)            new user, pid, net, uts, ipc namespaces; outlives nobody, cleans up after all
//!               └─ lab-init (pid 1)          new mount namespace, own /proc, a tmpfs for all state; reaps
//!                    └─ body                 the demo, a test or a bench: its network namespace is the wide network's router
//!                         ├─ lab-host ─ lab-host-init (pid 1)    one emulated host: net, mount, pid, uts, ipc namespaces
//!                         ├─ lab-spawn ─ command                 a command inside a host, its descriptors the caller's
//!                         ├─ lab-gateway                         one LAN's switch, NAT and firewall
//!                         └─ lab-middlebox                       delay, loss, … on one cable
//! ```
//! Everything below `lab-enter` dies with it, by the death signal of parents and by the end of pid namespaces, so nothing is left
//! behind, whatever was killed.
//!
//! | room | what it owns |
//! |---|---|
//! | [`reexec`] | the internal subcommands by which a program starts itself again, and their dispatch |
//! | [`enter`] | the way in: namespaces, the janitor, the init, reasons why not |
//! | [`host`] | emulated hosts, commands inside them |
//! | [`Netlink`], [`Netns`], [`sysctl`] | links, addresses, routes, offloads, kernel settings of one network namespace |
//! | [`wide`] | the emulated wide network: one subnet for each host, a router between |
//! | [`capture`] | what crosses the underlay: counters, marker search, pcap |
//! | [`middlebox`] | delay, jitter, loss, reorder, duplication, rate and MTU on a cable, by seed |
//! | [`nat`] | a NAT of any kind of RFC 4787, pure |
//! | [`portmap`] | how hosts ask a gateway for a port: PCP, NAT-PMP, UPnP |
//! | [`firewall`] | rules and the memory of who spoke first, pure |
//! | [`gateway`] | the box between a LAN and the world: both of these, an MTU, and an impaired cable |
//! | [`case`] | a lab described in a small file, checked and built |
//! | [`usage`] | memory and processor time of a process |
//! | [`harness`] | tests that run inside a lab of their own |
//!
//! Knows nothing of Consort's planes; other crates of the workspace are not dependencies. Linux only.

pub mod capture;
pub mod case;
pub mod enter;
pub mod firewall;
pub mod gateway;
pub mod harness;
pub mod host;
pub mod middlebox;
pub mod nat;
pub mod netlink;
mod netns;
mod packet;
mod packet_socket;
pub mod portmap;
mod process;
pub mod reexec;
pub mod sysctl;
pub mod usage;
pub mod wide;

pub use netlink::{Netlink, NetlinkError};
pub use netns::Netns;
