//! Sessions: two hosts that proved who they are, and the keys they then share.
//!
//! # What it owns
//! The handshake, the cookie that guards it, the AEAD, counters, the replay window and the limits of a session's life. It
//! refuses to know links, networks, sockets and clocks.
//!
//! # The story
//! ```text
//!   initiator                                    responder
//!      │ initiation (mac1, mac2)                     │ mac1 wrong: one hash, dropped
//!      │────────────────────────────────────────────▶│ under load and mac2 wrong: cookie reply, no public-key work
//!      │                                             │ static key unknown, timestamp not newer: dropped
//!      │ response (mac1, mac2)                       │ session *next*: may receive, does not send yet
//!      │◀────────────────────────────────────────────│
//!      │ session *current*: sends at once (a ping, if nothing else)
//!      │────────────────────────────────────────────▶│ first datagram that opens: *next* becomes *current*
//! ```
//! - The initiator is authenticated by its static key with the first message, but only the first sealed datagram proves that it is
//!   there now and not a recording; until then the responder sends on the session before, if there is one.
//! - A lost initiation or response is healed by a *new* initiation; a lost first datagram by the next one.
//! - A recorded initiation is refused by its timestamp. After a restart of the responder it is answered once, and leads nowhere.
//! - Simultaneous opening, rekey and what is kept of old sessions: `link`.
//! - Keys for sending and receiving come from Noise's split, run through BLAKE3 with the suite's name; see `cipher`.
//!
//! Sources: Noise revision 34 (sections 5.2, 7.5, 9, 11.2), WireGuard paper sections 5 and 6, RFC 6479 (window), RFC 9001
//! appendix B (limits of AEADs).

mod cipher;
mod cookie;
mod handshake;
mod keys;
mod one_pass;
mod rekey;
mod replay;
mod transport;

pub(crate) use cipher::{Aead, Maker};
pub use cipher::{Costs, SUITES, Suite};
pub(crate) use cookie::{CALM_PER_SECOND, CookieJar, Cookies, Judgement};
pub(crate) use handshake::{Identity, Initiator, Received};
pub use keys::{PublicKey, SharedSecret, StaticSecret};
pub(crate) use rekey::Due;
pub use rekey::SessionLimits;
pub use replay::ReplayWindow;
pub(crate) use replay::Verdict;
pub(crate) use transport::{Opened, Role, Session, address, plaintext};
