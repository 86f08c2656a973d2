//! Networks of this host, with what the switch counts.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use consort_vswitch::Snapshot;
use serde_json::Value;

use super::reply::Answer;
use crate::control::api::{Network, NetworkMember};
use crate::daemon::Node;
use crate::failure::Failure;
use crate::glue::networks::NetworkInfo;

/// The networks of this host.
#[utoipa::path(get, path = "/v1/nets", responses((status = 200, body = Vec<Network>)))]
pub(super) async fn list(State(node): State<Arc<Node>>) -> Answer<Vec<Network>> {
    Ok(Json(networks(&node).await?))
}

/// One network, by its name, its name with its slice (`lan.mpi`), or its id.
#[utoipa::path(get, path = "/v1/nets/{name}", params(("name" = String, Path)), responses((status = 200, body = Network)))]
pub(super) async fn show(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<Network> {
    let named = |network: &Network| {
        name == network.id || name == network.name || name == format!("{}.{}", network.name, network.slice)
    };
    let mut found: Vec<Network> = networks(&node).await?.into_iter().filter(named).collect();
    match found.len() {
        0 => Err(Failure::not_found("no_network", format!("no network {name} is on this host"))
            .remedy("look at `consort net ls`")
            .into()),
        1 => Ok(Json(found.remove(0))),
        _ => Err(Failure::input("ambiguous", format!("several slices have a network {name}"))
            .remedy(format!("name it with its slice, such as {name}.{}", found[0].slice))
            .into()),
    }
}

async fn networks(node: &Arc<Node>) -> Result<Vec<Network>, Failure> {
    let member = node.member()?;
    let networks = member.engine.networks().await?;
    let snapshot = member.data.snapshot();
    Ok(networks.iter().map(|network| show_network(network, node.config.mtu, &snapshot)).collect())
}

fn show_network(network: &NetworkInfo, mtu: u16, snapshot: &Snapshot) -> Network {
    let view = &network.view;
    Network {
        id: view.id.to_string(),
        name: view.name.to_string(),
        slice: network.slice_name.clone(),
        mtu,
        machines: view
            .machines
            .iter()
            .map(|machine| NetworkMember {
                name: machine.name.clone(),
                mac: consort_scheduler::slice::view::mac_text(machine.mac),
                ipv4: machine.ipv4.map(|address| address.to_string()),
                ipv6: machine.ipv6.map(|address| address.to_string()),
                host: machine.host.to_string(),
            })
            .collect(),
        hosts: view.hosts.iter().map(ToString::to_string).collect(),
        counters: counters(view.id.0, snapshot),
    }
}

/// What the switch says of this network.
fn counters(id: [u8; 16], snapshot: &Snapshot) -> Value {
    let network = snapshot.switch.networks.iter().find(|known| known.id.0 == id);
    serde_json::json!({
        "network": network,
        "drops": snapshot.switch.counts.drops,
        "events": snapshot.switch.counts.events,
    })
}
