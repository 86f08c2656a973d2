//! What was refused, dropped and done, by reason. The driver counts; `status` shows.

use crate::protocol::{member::Refusal, rpc::RpcRefusal};
use serde::Serialize;
use std::collections::BTreeMap;

/// All counts since the start of the node. Each only grows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Connections that stood: the peer had proved its membership.
    pub connections_opened: u64,
    /// Connections that ended; those opened less these are open.
    pub connections_closed: u64,
    /// Hosts this one did not let in or did not go in to, by reason.
    pub refused_here: BTreeMap<Refusal, u64>,
    /// Hosts that did not let this one in, by reason.
    pub refused_by_peers: BTreeMap<Refusal, u64>,
    /// Newcomers this host admitted.
    pub admitted: u64,
    /// Connections that broke, timed out or met a limit before their peer had said who it is.
    pub handshakes_broken: u64,
    /// Dials that led to no connection, for any reason.
    pub dials_failed: u64,
    /// Requests given to node.
    pub requests_taken: u64,
    /// Requests refused, by reason.
    pub requests_refused: BTreeMap<RpcRefusal, u64>,
    /// Requests whose connection or time ended before their answer was out.
    pub requests_broken: u64,
    /// Records taken in as new or newer.
    pub records_taken: u64,
    /// Records that brought nothing new.
    pub records_stale: u64,
    /// Records refused, by reason.
    pub records_refused: BTreeMap<&'static str, u64>,
    /// Revocations taken in.
    pub revocations_taken: u64,
    /// Revocations refused, by reason.
    pub revocations_refused: BTreeMap<&'static str, u64>,
    /// Documents taken in as new or newer.
    pub documents_taken: u64,
    /// Documents that brought nothing new.
    pub documents_stale: u64,
    /// Documents refused, by reason.
    pub documents_refused: BTreeMap<&'static str, u64>,
    /// Members that answered on the local link.
    pub link_found: u64,
    /// Answers on the local link that were no good, by reason.
    pub link_refused: BTreeMap<&'static str, u64>,
    /// News that were not what their kind says.
    pub news_malformed: u64,
    /// Streams taken from peers.
    pub streams_taken: u64,
    /// Streams refused because node was behind with them.
    pub streams_refused: u64,
}

/// One more of `reason`.
pub(crate) fn count<K: Ord>(counts: &mut BTreeMap<K, u64>, reason: K) {
    *counts.entry(reason).or_default() += 1;
}
