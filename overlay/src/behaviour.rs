//! The swarm's composition: which libp2p behaviours run, and their limits. No decisions.
//!
//! All names carry the overlay's id. Since the door lets nobody else in this is no defence; it keeps captures and logs readable and two overlays
//! apart even in a fault. A host that enters an overlay replaces the behaviours that carry names; it has no connection at that moment.

use crate::{
    config::Limits,
    identity::{HostId, Keypair, OverlayId},
    pinging,
    protocol::{
        news::NEWS_BYTES_MAX,
        rpc::{Protocols, RpcCodec},
    },
    routing, streams,
};
use libp2p::{
    StreamProtocol, connection_limits, gossipsub, identify, kad, memory_connection_limits, relay,
    request_response::{self, ProtocolSupport},
    swarm::NetworkBehaviour,
};
use std::{num::NonZeroU32, time::Duration};

/// A request and its answer together.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests of one connection that are read or answered at once.
const REQUESTS_PER_CONNECTION_MAX: usize = 64;
/// A search for one host.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// One Kademlia message: 20 peers with 8 addresses each.
const KAD_PACKET_BYTES_MAX: usize = 16 * 1024;
/// Gossip's own upkeep. It has to do with how soon a mesh forms, not with how soon news travels.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Addresses that identify may tell us per peer are not believed; it serves to see our own address from outside.
const IDENTIFY_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Hosts behind NATs that may be reached through this one, and control connections through it at once. A circuit carries what a control
/// connection carries, some hundred bytes a second; its buffers are 16 KiB, so all of them take 8 MiB. With fewer, one member that is alone in the open with some hundred
/// others is full of what each of these wants of three more.
const RESERVATIONS_MAX: usize = 128;
const CIRCUITS_MAX: usize = 512;
/// Of them, those of one host: as many as node has last resorts.
const CIRCUITS_PER_PEER_MAX: usize = 64;
/// A circuit ends after so long or so much, and is made anew where it is still needed: neither is an obligation for ever.
const CIRCUIT_AGE_MAX: Duration = Duration::from_secs(12 * 3600);
const CIRCUIT_BYTES_MAX: u64 = 1 << 30;
/// Circuits one member may ask for, and in which time: a node that restarts asks for one per peer.
const CIRCUITS_ASKED_MAX: NonZeroU32 = NonZeroU32::new(120).expect("not zero");
const CIRCUITS_ASKED_WITHIN: Duration = Duration::from_secs(60);

/// Everything on a connection.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: pinging::Behaviour,
    pub(crate) kad: routing::Behaviour,
    pub(crate) gossip: gossipsub::Behaviour,
    pub(crate) rpc: request_response::Behaviour<RpcCodec>,
    pub(crate) streams: streams::Behaviour,
    /// Joins members that cannot reach each other.
    relay: relay::Behaviour,
    /// Is joined to members by others.
    pub(crate) circuits: relay::client::Behaviour,
}

impl Behaviour {
    pub(crate) fn new(
        pair: &Keypair,
        limits: &Limits,
        overlay: Option<OverlayId>,
        protocols: Protocols,
        stream_names: &[&'static str],
        circuits: relay::client::Behaviour,
    ) -> Self {
        let keypair = libp2p_identity::Keypair::from(pair.clone());
        let local = keypair.public().to_peer_id();
        let identify = identify::Config::new("/consort/1".to_owned(), keypair.public())
            .with_agent_version(concat!("consort/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_interval(IDENTIFY_INTERVAL)
            .with_cache_size(0);
        let bounds = connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(limits.connections_pending_max))
            .with_max_pending_outgoing(Some(limits.connections_pending_max))
            // The door refuses at the limit itself, with a reason; one more of each pair may stand for the moment in which one replaces the other.
            .with_max_established(Some(limits.connections_max.saturating_mul(2)))
            .with_max_established_per_peer(Some(2));
        Self {
            limits: connection_limits::Behaviour::new(bounds),
            memory: memory_connection_limits::Behaviour::with_max_bytes(limits.process_memory_bytes_max),
            identify: identify::Behaviour::new(identify),
            ping: pinging::Behaviour::new(),
            kad: kad(local, overlay),
            gossip: gossip(&keypair, overlay),
            rpc: rpc(overlay, protocols),
            streams: streams(overlay, stream_names),
            relay: relaying(local),
            circuits,
        }
    }

    /// Replaces what carries an overlay's name. There must be no connection.
    pub(crate) fn enter(
        &mut self,
        pair: &Keypair,
        overlay: OverlayId,
        protocols: Protocols,
        stream_names: &[&'static str],
    ) {
        let keypair = libp2p_identity::Keypair::from(pair.clone());
        self.kad = kad(keypair.public().to_peer_id(), Some(overlay));
        self.gossip = gossip(&keypair, Some(overlay));
        self.rpc = rpc(Some(overlay), protocols);
        self.streams = streams(Some(overlay), stream_names);
    }
}

fn named(overlay: Option<OverlayId>, rest: &str) -> StreamProtocol {
    let overlay = overlay.map_or_else(|| "none".to_owned(), |overlay| overlay.to_string());
    StreamProtocol::try_from_owned(format!("/consort/{overlay}/{rest}/1")).expect("it starts with a slash")
}

/// The libp2p name of one of node's stream protocols.
pub(crate) fn stream_protocol(overlay: Option<OverlayId>, name: &str) -> StreamProtocol {
    named(overlay, &format!("stream/{name}"))
}

fn streams(overlay: Option<OverlayId>, names: &[&'static str]) -> streams::Behaviour {
    streams::Behaviour::new(names.iter().map(|name| (stream_protocol(overlay, name), *name)).collect())
}

/// Every member joins others: those it can, which are those that connected to it. The door has let nobody else in.
fn relaying(local: HostId) -> relay::Behaviour {
    let config = relay::Config {
        max_reservations: RESERVATIONS_MAX,
        max_circuits: CIRCUITS_MAX,
        max_circuits_per_peer: CIRCUITS_PER_PEER_MAX,
        max_circuit_duration: CIRCUIT_AGE_MAX,
        max_circuit_bytes: CIRCUIT_BYTES_MAX,
        reservation_rate_limiters: Vec::new(),
        circuit_src_rate_limiters: Vec::new(),
        ..relay::Config::default()
    };
    let config = config
        .reservation_rate_per_peer(CIRCUITS_ASKED_MAX, CIRCUITS_ASKED_WITHIN)
        .circuit_src_per_peer(CIRCUITS_ASKED_MAX, CIRCUITS_ASKED_WITHIN);
    let mut behaviour = relay::Behaviour::new(local, config);
    behaviour.set_status(Some(relay::Status::Enable));
    behaviour
}

/// Where news are spread.
pub(crate) fn news_topic(overlay: Option<OverlayId>) -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new(named(overlay, "news").to_string())
}

/// Finds hosts by name; keeps no records and no providers for others (the view is the directory).
fn kad(local: HostId, overlay: Option<OverlayId>) -> routing::Behaviour {
    let mut config = kad::Config::new(named(overlay, "kad"));
    config
        .set_query_timeout(QUERY_TIMEOUT)
        .set_max_packet_size(KAD_PACKET_BYTES_MAX)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_periodic_bootstrap_interval(None);
    let mut behaviour = kad::Behaviour::with_config(local, kad::store::MemoryStore::new(local), config);
    behaviour.set_mode(Some(kad::Mode::Server));
    routing::Behaviour::new(behaviour)
}

fn gossip(keypair: &libp2p_identity::Keypair, overlay: Option<OverlayId>) -> gossipsub::Behaviour {
    let config = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(named(overlay, "gossip").to_string())
        .heartbeat_interval(HEARTBEAT)
        .mesh_n(4)
        .mesh_n_low(3)
        .mesh_n_high(8)
        .mesh_outbound_min(1)
        .max_transmit_size(NEWS_BYTES_MAX + 512)
        .validation_mode(gossipsub::ValidationMode::Strict)
        .validate_messages()
        // News are passed on once they were checked, and are the same whoever passes them on.
        .message_id_fn(|message| gossipsub::MessageId::from(blake3::hash(&message.data).as_bytes().to_vec()))
        .connection_handler_queue_len(64)
        .build()
        .expect("these settings do not contradict each other");
    let authenticity = gossipsub::MessageAuthenticity::Signed(keypair.clone());
    let mut behaviour =
        gossipsub::Behaviour::new(authenticity, config).expect("signing fits strict validation");
    behaviour.subscribe(&news_topic(overlay)).expect("no filter forbids the topic");
    behaviour
}

fn rpc(overlay: Option<OverlayId>, protocols: Protocols) -> request_response::Behaviour<RpcCodec> {
    let config = request_response::Config::default()
        .with_request_timeout(REQUEST_TIMEOUT)
        .with_max_concurrent_streams(REQUESTS_PER_CONNECTION_MAX);
    let names = [(named(overlay, "rpc"), ProtocolSupport::Full)];
    request_response::Behaviour::with_codec(RpcCodec::new(protocols), names, config)
}
