//! What runs inside a machine: the guest program, and the parts of it that a driver uses as well.
//!
//! The program (`consort-guest`, linked statically) is PID 1 of every sandbox and later of a VM's initramfs, and a few small tools for
//! proving that a network works. It holds no `unsafe` and needs nothing of the image it runs in.
//!
//! | room | owns |
//! |---|---|
//! | [`settings`] | the file that tells a machine its name, devices, addresses and command |
//! | [`netlink`] | links, addresses and routes by rtnetlink |
//! | [`sysctl`] | the few kernel settings of a machine's own network |
//! | [`hash`] | SHA-256, for comparing what was fetched |
//! | [`text`] | JSON strings and the arguments of a command |
//! | [`tool`] | the commands: `init`, `ping`, `http`, `throughput`, `addr`, `wait`, `session`, `enter` |

pub mod hash;
pub mod netlink;
pub mod settings;
pub mod sysctl;
pub mod text;
pub mod tool;
