//! The API of a running node: HTTP on `DIR/consort.sock`, and on a loopback TCP port where configured.
//!
//! Owns: the bodies ([`api`]), the routes and what they call ([`routes`]), listening with its limits ([`server`]), and the client that
//! every command and the demo use ([`client`]). Refuses to know: how anything is done; routes ask the handles of the parts.
//! Invariants: whoever can open the socket is the owner (directory 0700, socket 0600); over TCP a bearer token from the state
//! directory is required; bodies, connections and header time are bounded; each failure is JSON `{code, message, remedy}`.
//!
//! `exec` and `console` are HTTP upgrades (`Upgrade: consort-stream`): the answer 101 is given once the far end has accepted, and
//! from then on the connection carries the frames of the machine's session as they are.

pub mod api;
pub mod client;
pub mod routes;

pub mod server;
