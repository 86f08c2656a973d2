//! Networks by themselves: virtual LANs without a slice, between all hosts of the overlay that joined.
//!
//! ```text
//!  API ─▶ handle ─▶ task ─▶ core: directory, seats, statement      (no clock, no socket)
//!                    │  ▲
//!  overlay: tell, ───┘  ├── exchange: compare with a member
//!  compare, put out     └── device: TAP, addresses ─▶ data plane: network, port, channels
//! ```
//! | file | owns |
//! |---|---|
//! | [`prefix`] | prefixes and their rules |
//! | [`statement`] | what is signed: definitions and claims |
//! | [`directory`] | what is known, bounded and ageing |
//! | `heard` | when the claims of others are kept for the next life |
//! | [`seats`] | who has which address |
//! | [`core`] | this host's part; what to tell, keep and look at again |
//! | [`message`] | what two hosts say to each other |
//! | `exchange` | one comparison with one member |
//! | `device` | the TAP |
//! | `task` | the core's clock, the devices, the data plane; five files, one for each concern |
//! | `handle` | what the API asks |
//!
//! # Who may
//! Every member of the overlay may make networks and join any. A host's signed claim to be on a network is the grant it presents; the
//! host at the other end takes it if it is on the network itself, the claim is genuine and fresh, and its host a member. Who was put out
//! is on no network any more as soon as the news arrives. A host that did not join knows nothing of the network's channels and opens none.

pub mod core;
mod device;
pub mod directory;
mod exchange;
mod handle;
mod heard;
pub mod message;
pub mod prefix;
pub mod seats;
pub mod statement;
mod task;

pub use handle::{CreateRequest, JoinRequest, Standalone};
pub use task::{DeviceState, DeviceStatus, NetworkStatus, Parts, Task};
