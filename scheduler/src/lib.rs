//! Consort's allocation without a head node: what hosts promise, how a gang is found room for, and who keeps the record.
//!
//! Pure: no clock, no socket, no runtime. An [`Engine`](engine::Engine) is one host's whole part; its driver hands in
//! time, messages and reports, and acts on its outputs.
//!
//! | room | what it is |
//! |---|---|
//! | [`units`], [`resources`], [`bounded`], [`limits`] | words: time and sizes, amounts, bounded lists, every bound |
//! | [`identity`], [`refusal`] | who signs; why someone says no |
//! | [`mod@slice`] | a slice: its file, spec, charter, record, changes, addresses, grants, views |
//! | [`register`] | the fenced register on which a slice's fate is decided, free of clocks and slices |
//! | [`message`] | what engines say to each other, and the bytes |
//! | [`ledger`], `host` | what this host has promised; its part in slices |
//! | `steward` | its share of other slices' registers, and the watch over them |
//! | [`placement`], [`request`] | whom to ask, where machines go; requests this node coordinates |
//! | `query`, `reader` | questions and orders of this node's users; reading a record |
//! | `stored` | values as they are persisted |
//! | [`engine`] | routes between them; what goes in and comes out |
//!
//! # The story of a slice
//! A tenant writes a slice file ([`slice::file`]), draws stewards ([`request::choose_stewards`]) and founds the slice
//! ([`slice::charter`]): the charter is signed, and the slice's name is its hash. The coordinator asks hosts, who hold what
//! they offer for seconds; it lays the gang out, writes Forming into the register, and has the chosen hosts pledge. When all
//! have, it writes Active: that is the decision, and the end of its part. Hosts read the record, find themselves in it, and
//! start their machines; they renew their leases by reading it again. Stewards notice who does not, and declare its machines
//! lost once its lease must have run out by its own clock. The term or the tenant ends the slice; hosts read that, stop their
//! machines, and free the ledger when nothing is left.
//!
//! Whoever dies before the decision leaves nothing: holds lapse, and a pledged host whose hold runs out has the register
//! moved to Aborted. Whoever dies after it is missed only for what it hosted.

pub mod bounded;
pub mod engine;
mod host;
pub mod identity;
pub mod ledger;
pub mod limits;
pub mod message;
pub mod placement;
mod query;
mod reader;
pub mod refusal;
pub mod register;
pub mod request;
pub mod resources;
pub mod slice;
#[cfg(test)]
mod specimen;
mod steward;
mod stored;
pub mod units;
