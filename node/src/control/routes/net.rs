//! Networks of slices on this host, and networks by themselves, with what the switch counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use consort_overlay::HostId;
use consort_vswitch::{LinkSnapshot, NetworkId, Snapshot};
use serde_json::{Value, json};

use super::node::show_link;
use super::reply::{Answer, Body, Refused};
use crate::control::api::{
    NetCreateBody, NetJoinBody, Network, NetworkDevice, NetworkHost, NetworkMember, StandaloneNetwork,
    Traffic, TrafficHost,
};
use crate::daemon::Node;
use crate::failure::Failure;
use crate::glue::member::Member;
use crate::glue::networks::NetworkInfo;
use crate::glue::standalone::seats::Seat;
use crate::glue::standalone::{CreateRequest, DeviceState, DeviceStatus, JoinRequest, NetworkStatus};
use crate::glue::traffic::{self, Cell, Matrix};
use crate::topology::Pair;
use crate::topology::adapt::pattern;

/// The networks of slices on this host, and all networks by themselves that are known.
#[utoipa::path(get, path = "/v1/nets", responses((status = 200, body = Vec<Network>)))]
pub(super) async fn list(State(node): State<Arc<Node>>) -> Answer<Vec<Network>> {
    Ok(Json(networks(&node).await?))
}

/// One network, by its name, its name with its slice (`lan.mpi`) or its id (`office@ID`), or its id.
#[utoipa::path(get, path = "/v1/nets/{name}", params(("name" = String, Path)), responses((status = 200, body = Network)))]
pub(super) async fn show(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<Network> {
    Ok(Json(find(&node, &name).await?))
}

/// What hosts send each other on a network, now and in all; each host of the network is asked, which takes a second.
#[utoipa::path(get, path = "/v1/nets/{name}/traffic", params(("name" = String, Path)), responses((status = 200, body = Traffic)))]
pub(super) async fn traffic(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<Traffic> {
    let network = find(&node, &name).await?;
    let member = node.member()?;
    let (id, others) = places(&member, &network).await?;
    let matrix = traffic::ask_all(&node.overlay, &member.data, id, &others).await;
    let mut hosts: Vec<HostId> = others.into_iter().take(traffic::HOSTS_MAX).chain([member.me()]).collect();
    hosts.sort_unstable();
    let topology = member.topology.borrow().clone();
    Ok(Json(show_traffic(&network, &hosts, &matrix, |host| topology.name_of(host))))
}

/// The network that a name means.
async fn find(node: &Arc<Node>, name: &str) -> Result<Network, Refused> {
    let mut found: Vec<Network> =
        networks(node).await?.into_iter().filter(|network| is_called(network, name)).collect();
    match found.len() {
        0 => {
            Err(Failure::not_found("no_network", format!("no network {name} is on this host or known to it"))
                .remedy("look at `consort net ls`")
                .into())
        }
        1 => Ok(found.remove(0)),
        count => {
            let choices: Vec<String> = found.iter().map(full_name).collect();
            Err(Failure::input("ambiguous", format!("{count} networks are called {name}"))
                .remedy(format!("say which: {}", choices.join(" or ")))
                .into())
        }
    }
}

/// A network's id, and the other hosts on it; this host must be on it.
async fn places(member: &Member, network: &Network) -> Result<(NetworkId, Vec<HostId>), Refused> {
    let of_slices = member.engine.networks().await?;
    if let Some(known) = of_slices.iter().find(|known| known.view.id.to_string() == network.id) {
        return Ok((NetworkId(known.view.id.0), known.view.hosts.clone()));
    }
    let all = member.standalone.list().await?;
    let known = all.iter().find(|known| known.definition.id.to_string() == network.id);
    let seats = known.map(|known| known.seats.iter().map(|seat| seat.host).collect::<Vec<_>>());
    match (known, seats) {
        (Some(known), Some(seats)) if seats.contains(&member.me()) => {
            let me = member.me();
            Ok((known.definition.id, seats.into_iter().filter(|host| *host != me).collect()))
        }
        _ => Err(Failure::refused(
            "not_on_network",
            format!(
                "this host is not on the network {}: the others do not tell it their traffic",
                network.name
            ),
        )
        .remedy("ask on a host that is, or join it with `consort net join`")
        .into()),
    }
}

fn show_traffic(
    network: &Network,
    hosts: &[HostId],
    matrix: &Matrix,
    name_of: impl Fn(HostId) -> String,
) -> Traffic {
    let cell = |from: &HostId, to: &HostId| {
        matrix.rows.get(from).and_then(|row| row.iter().find(|cell| cell.to == *to))
    };
    let table = |value: fn(&Cell) -> u64| -> Vec<Vec<u64>> {
        let row = |from: &HostId| -> Vec<u64> {
            hosts.iter().map(|to| cell(from, to).map(value).unwrap_or_default()).collect()
        };
        hosts.iter().map(row).collect()
    };
    let mut rates: BTreeMap<Pair, f64> = BTreeMap::new();
    for (from, row) in &matrix.rows {
        for cell in row {
            let rate = f64::from(u32::try_from(cell.bytes_per_s).unwrap_or(u32::MAX));
            *rates.entry(Pair::new(*from, cell.to)).or_default() += rate;
        }
    }
    let pattern = pattern::recognise(&rates, &name_of);
    Traffic {
        network: full_name(network),
        id: network.id.clone(),
        hosts: hosts
            .iter()
            .map(|host| TrafficHost {
                host: host.to_string(),
                name: name_of(*host),
                silent: matrix.silent.contains(host),
            })
            .collect(),
        bytes_per_s: table(|cell| cell.bytes_per_s),
        bytes: table(|cell| cell.bytes),
        pattern_words: pattern.to_string(),
        pattern,
        left_out: matrix.left_out,
    }
}

/// Make a network by itself, which every host of the overlay may join.
#[utoipa::path(post, path = "/v1/nets", request_body = NetCreateBody, responses((status = 200, body = Network)))]
pub(super) async fn create(
    State(node): State<Arc<Node>>,
    Body(body): Body<NetCreateBody>,
) -> Answer<Network> {
    let member = node.member()?;
    let NetCreateBody { name, ipv4, ipv6, mtu } = body;
    let request = CreateRequest { name, ipv4, ipv6, mtu: mtu.unwrap_or(node.config.mtu) };
    let status = member.standalone.create(&request).await?;
    Ok(Json(show_standalone(&member, &member.data.snapshot(), &status)))
}

/// Put this host on a network by itself: its name, `NAME@ID` or its id.
#[utoipa::path(post, path = "/v1/nets/{name}/join", params(("name" = String, Path)), request_body = NetJoinBody, responses((status = 200, body = Network)))]
pub(super) async fn join(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
    Body(body): Body<NetJoinBody>,
) -> Answer<Network> {
    let member = node.member()?;
    let request = JoinRequest { ipv4: body.ipv4, device: body.device };
    let status = member.standalone.join(&name, &request).await?;
    Ok(Json(show_standalone(&member, &member.data.snapshot(), &status)))
}

/// Take this host off a network by itself; its device is gone when this answers.
#[utoipa::path(post, path = "/v1/nets/{name}/leave", params(("name" = String, Path)), responses((status = 200, body = Network)))]
pub(super) async fn leave(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<Network> {
    let member = node.member()?;
    let status = member.standalone.leave(&name).await?;
    Ok(Json(show_standalone(&member, &member.data.snapshot(), &status)))
}

async fn networks(node: &Arc<Node>) -> Result<Vec<Network>, Failure> {
    let member = node.member()?;
    let (of_slices, standalone) = (member.engine.networks().await?, member.standalone.list().await?);
    let snapshot = member.data.snapshot();
    let of_slices = of_slices.iter().map(|network| show_network(network, node.config.mtu, &snapshot));
    let standalone = standalone.iter().map(|status| show_standalone(&member, &snapshot, status));
    Ok(of_slices.chain(standalone).collect())
}

fn is_called(network: &Network, text: &str) -> bool {
    let with_id = text
        .split_once('@')
        .is_some_and(|(name, id)| name == network.name && !id.is_empty() && network.id.starts_with(id));
    text == network.id || text == network.name || text == full_name(network) || with_id
}

/// A name that no other network has.
fn full_name(network: &Network) -> String {
    match &network.slice {
        Some(slice) => format!("{}.{slice}", network.name),
        None => format!("{}@{}", network.name, network.id),
    }
}

fn show_network(network: &NetworkInfo, mtu: u16, snapshot: &Snapshot) -> Network {
    let view = &network.view;
    Network {
        id: view.id.to_string(),
        name: view.name.to_string(),
        slice: Some(network.slice_name.clone()),
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
        standalone: None,
        counters: counters(view.id.0, snapshot),
    }
}

fn show_standalone(member: &Member, snapshot: &Snapshot, status: &NetworkStatus) -> Network {
    let definition = &status.definition;
    let me = member.me();
    let members: Vec<NetworkHost> = status
        .seats
        .iter()
        .map(|seat| {
            let link = snapshot.links.iter().find(|link| link.peer == seat.host);
            show_host(seat, seat.host == me, definition.id, link)
        })
        .collect();
    let mut counters = counters(definition.id.0, snapshot);
    counters["refused"] = json!(status.refused);
    Network {
        id: definition.id.to_string(),
        name: definition.draft.name.to_string(),
        slice: None,
        mtu: definition.draft.mtu,
        machines: Vec::new(),
        hosts: members.iter().filter(|member| !member.here).map(|member| member.host.clone()).collect(),
        standalone: Some(StandaloneNetwork {
            creator: definition.draft.creator.to_string(),
            created_unix_s: definition.draft.created_s,
            ipv4: definition.draft.ipv4.map(|prefix| prefix.to_string()),
            ipv6: definition.ipv6.map(|prefix| prefix.to_string()),
            device: status.device.as_ref().map(|device| show_device(device, status, &members)),
            members,
            notices: status.notices.clone(),
        }),
        counters,
    }
}

fn show_device(device: &DeviceStatus, status: &NetworkStatus, members: &[NetworkHost]) -> NetworkDevice {
    let (state, reason) = match &device.state {
        DeviceState::Up => ("up", None),
        DeviceState::Down(why) => ("down", Some(why.clone())),
    };
    let own = members.iter().find(|member| member.here);
    let with_length = |address: &Option<String>, prefix: Option<_>| {
        let prefix: crate::glue::standalone::prefix::Prefix = prefix?;
        address.as_ref().map(|address| format!("{address}/{}", prefix.length()))
    };
    NetworkDevice {
        name: device.name.clone(),
        state: state.to_owned(),
        reason,
        mac: own.map(|own| own.mac.clone()),
        ipv4: own.and_then(|own| with_length(&own.ipv4, status.definition.draft.ipv4)),
        ipv6: own.and_then(|own| with_length(&own.ipv6, status.definition.ipv6)),
        counters: device.counters,
    }
}

fn show_host(seat: &Seat, here: bool, network: NetworkId, link: Option<&LinkSnapshot>) -> NetworkHost {
    let channel = link.and_then(|link| link.channels.iter().find(|channel| channel.network == network));
    let shown = link.map(show_link);
    NetworkHost {
        host: seat.host.to_string(),
        here,
        mac: seat.mac.to_string(),
        ipv4: seat.ipv4.map(|address| address.to_string()),
        ipv6: seat.ipv6.map(|address| address.to_string()),
        open: channel.is_some_and(|channel| channel.outbound == "open" && channel.inbound == "open"),
        rtt_ms: shown.as_ref().and_then(|link| link.rtt_ms),
        loss: shown.as_ref().map(|link| link.loss),
        link: shown.map(|link| link.state),
    }
}

/// What the switch says of this network.
fn counters(id: [u8; 16], snapshot: &Snapshot) -> Value {
    let network = snapshot.switch.networks.iter().find(|known| known.id.0 == id);
    json!({
        "network": network,
        "drops": snapshot.switch.counts.drops,
        "events": snapshot.switch.counts.events,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, id: &str, slice: Option<&str>) -> Network {
        Network {
            id: id.to_owned(),
            name: name.to_owned(),
            slice: slice.map(ToOwned::to_owned),
            mtu: 1500,
            machines: Vec::new(),
            hosts: Vec::new(),
            standalone: None,
            counters: Value::Null,
        }
    }

    #[test]
    fn a_network_is_called_by_its_name_alone_with_its_slice_or_with_its_id() {
        let (of_slice, standalone) = (network("lan", "aa11", Some("mpi")), network("lan", "bb22", None));
        for text in ["lan", "lan.mpi", "aa11", "lan@aa11"] {
            assert!(is_called(&of_slice, text), "{text}");
        }
        for text in ["lan", "bb22", "lan@bb22", "lan@bb"] {
            assert!(is_called(&standalone, text), "{text}");
        }
        for text in ["lan.mpi", "lan@", "lan@aa", "wan@bb22", "bb"] {
            assert!(!is_called(&standalone, text), "{text}");
        }
    }
}
