//! What a tenant does in a machine that may be on another host: programs, console, log, pause and the like.
//!
//! The story: the tenant's node opens a stream to the machine's host and sends one [`message::Request`]: which machine, what to do, and a
//! [`proof::Proof`] that the slice's tenant wants it from exactly this node on exactly that host, now. The host checks the proof against
//! the tenant named in the slice's record it holds, does it, and answers one [`message::Reply`]. For `exec` and `console` the stream then
//! carries the machine's session frames as they are, for `logs` plain bytes to its end. A stream that ends early ends the program; a host
//! that is not asked anything in time hangs up. Nothing is kept between two requests.
//!
//! Owns: the messages, the proof, both ends. Refuses to know: how a stream reaches a host (the overlay), and what is in the
//! session's frames ([`consort_machine::wire`]).

pub mod authority;
pub mod call;
pub mod message;
pub mod proof;
pub mod pump;
pub mod serve;
