//! The node and its peers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use consort_overlay::{HostId, PeerState, PeerStatus};
use consort_vswitch::path::PathView;
use consort_vswitch::{LinkSnapshot, LinkState, Snapshot};

use super::reply::{Answer, Refused};
use crate::control::api::{Link, Peer, SearchCost, ShareStatus, Status};
use crate::daemon::Node;
use crate::failure::Failure;
use crate::glue::meet::facts;
use crate::glue::member::Member;
use crate::why::{Nat, Path};

/// The state of this node.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(node): State<Arc<Node>>) -> Answer<Status> {
    let overlay = node.overlay.status().await.map_err(stopped)?;
    let member = node.member().ok();
    let share = &node.config.share;
    let free = member
        .as_ref()
        .and_then(|member| member.engine.advert())
        .map(|advert| advert.free)
        .unwrap_or_default();
    let slices = match &member {
        Some(member) => member.engine.slices().await?,
        None => 0,
    };
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: overlay.host.to_string(),
        overlay: overlay.overlay.map(|overlay| overlay.to_string()).unwrap_or_default(),
        revoked: overlay.revoked,
        addresses: overlay.listen.iter().map(ToString::to_string).collect(),
        data_address: member.as_ref().map(|member| member.data.local_addr().to_string()),
        tenant: node.tenant.clone(),
        state_dir: node.config.state_dir.display().to_string(),
        pid: std::process::id(),
        uptime_ms: u64::try_from(node.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        peers_connected: overlay.connected,
        hosts_known: overlay.view,
        share: ShareStatus {
            cpus_milli: share.cpus_milli.into(),
            free_cpus_milli: free.cpus_milli,
            memory_bytes: share.memory_bytes,
            free_memory_bytes: free.memory_bytes,
            disk_bytes: share.disk_bytes,
            free_disk_bytes: free.disk_bytes,
            machines_max: share.machines_max.into(),
            free_machines: free.machines,
        },
        machines: member.as_ref().map_or(0, |member| member.machines.count()),
        slices,
    }))
}

/// The peers this node knows, connected or why not.
#[utoipa::path(get, path = "/v1/peers", responses((status = 200, body = Vec<Peer>)))]
pub(super) async fn peers(State(node): State<Arc<Node>>) -> Answer<Vec<Peer>> {
    let member = node.member().ok();
    let snapshot = member.as_ref().map(|member| member.data.snapshot());
    let peers = node.overlay.peers().await.map_err(stopped)?;
    let mut shown: Vec<Peer> = peers
        .iter()
        .map(|peer| match (&member, &snapshot) {
            (Some(member), Some(snapshot)) => show_peer(peer, Some((member, snapshot))),
            _ => show_peer(peer, None),
        })
        .collect();
    // Hosts that did not get in are no peers, but who looks for the cause looks here.
    let refused = node.overlay.status().await.map_err(stopped)?.refused;
    shown.extend(refused.iter().map(|refused| Peer {
        host: refused.host.to_string(),
        connected: false,
        reason: Some(refused.failure.reason.to_string()),
        addresses: refused.address.iter().map(ToString::to_string).collect(),
        rtt_ms: None,
        path: Path::None,
        nat: Nat::Unknown,
        relays: Vec::new(),
        search: None,
        link: None,
    }));
    Ok(Json(shown))
}

fn show_peer(peer: &PeerStatus, data: Option<(&Arc<Member>, &Snapshot)>) -> Peer {
    let host = peer.host;
    let link = data.and_then(|(_, snapshot)| snapshot.links.iter().find(|link| link.peer == host));
    let paths = data.and_then(|(_, snapshot)| snapshot.paths.peers.iter().find(|paths| paths.peer == host));
    let mut routes = data.map(|(member, _)| member.meet.relays.routes(host)).unwrap_or_default();
    let chosen = paths.and_then(|paths| paths.chosen.as_ref());
    routes.sort_by_key(|route| !is_way_of(route, chosen));
    let known = data.and_then(|(member, _)| member.meet.peers.known(host));
    let (connected, reason, round_trip, address) = match &peer.state {
        PeerState::Connected { address, round_trip, .. } => (true, None, *round_trip, Some(*address)),
        PeerState::Dialling => (false, Some("being dialled".to_owned()), None, None),
        PeerState::Refused | PeerState::Down { .. } => {
            let why = peer.failure.as_ref().map(|failure| failure.reason.to_string());
            (false, Some(why.unwrap_or_else(|| "not needed now".to_owned())), None, None)
        }
    };
    let others = peer.addresses.iter().filter(|known| Some(**known) != address);
    Peer {
        host: peer.host.to_string(),
        connected,
        reason,
        addresses: address.iter().chain(others).map(ToString::to_string).collect(),
        rtt_ms: round_trip.map(|round_trip| round_trip.as_secs_f64() * 1_000.0),
        path: match link.map(|link| link.state) {
            Some(LinkState::Up) => facts::path(paths.and_then(|paths| paths.chosen.as_ref())),
            _ => Path::None,
        },
        nat: known.map_or(Nat::Unknown, |known| facts::nat(known.whereabouts.nat.kind)),
        relays: routes.iter().map(|route| route.iter().map(ToString::to_string).collect()).collect(),
        search: paths.map(|paths| paths.search).filter(|spent| spent.searches > 0).map(|spent| SearchCost {
            searches: spent.searches,
            probes: spent.probes,
            mappings: spent.mappings,
        }),
        link: link.map(show_link),
    }
}

/// Whether a path leads over these relays.
fn is_way_of(route: &[HostId], path: Option<&PathView>) -> bool {
    matches!(path, Some(PathView::Relay { relay, .. }) if route.first() == Some(relay))
}

pub(super) fn show_link(link: &LinkSnapshot) -> Link {
    Link {
        state: match link.state {
            LinkState::Idle => "idle".to_owned(),
            LinkState::Connecting => "connecting".to_owned(),
            LinkState::Up => "up".to_owned(),
            LinkState::Down(why) => format!("down ({why:?})").to_lowercase(),
        },
        address: link.address.map(|address| address.to_string()),
        rtt_ms: link.round_trip_micros.map(|micros| micros as f64 / 1_000.0),
        loss: link.loss,
        datagram_bytes: link.datagram_bytes,
        sent_datagrams: link.counts.datagrams_sent,
        received_datagrams: link.counts.datagrams_received,
        counts: serde_json::to_value(link.counts).unwrap_or_default(),
    }
}

/// The overlay's driver is gone.
pub(super) fn stopped(error: consort_overlay::Stopped) -> Refused {
    Refused::from(Failure::failed("stopping", error.to_string()).remedy("try again when the node runs"))
}
