//! How this host can be reached, and why the way between two hosts is as it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use consort_overlay::HostId;
use serde::Deserialize;

use super::reply::Answer;
use crate::control::api::{Observed, Reach};
use crate::daemon::Node;
use crate::failure::Failure;
use crate::glue::mapping::Mapped;
use crate::glue::meet::facts;
use crate::why::Explanation;

/// From where the way is looked at.
#[derive(Debug, Deserialize)]
pub(super) struct From {
    from: Option<String>,
}

/// How this host can be reached.
#[utoipa::path(get, path = "/v1/reach", responses((status = 200, body = Reach)))]
pub(super) async fn reach(State(node): State<Arc<Node>>) -> Answer<Reach> {
    let member = node.member()?;
    let snapshot = member.data.snapshot();
    let local = &snapshot.paths.local;
    let (mapped, not_mapped) = match member.meet.mapping.state() {
        Mapped::Unasked => (None, None),
        Mapped::Refused { why } => (None, Some(why)),
        Mapped::Open { address, .. } => (Some(address.to_string()), None),
    };
    Ok(Json(Reach {
        nat: facts::nat(local.nat.kind),
        local: local.local.iter().map(ToString::to_string).collect(),
        observed: local
            .observed
            .iter()
            .map(|(address, by)| Observed { address: address.to_string(), by: by.to_string() })
            .collect(),
        mapped,
        not_mapped,
        relays: member.meet.relays.serves(),
        relays_known: member.meet.peers.relays().len(),
        relay: serde_json::to_value(snapshot.relay).unwrap_or_default(),
        dns: facts::names_can_be_looked_up().await,
    }))
}

/// Why the way to a host is as it is; from this host, or from the one given as `from`.
#[utoipa::path(get, path = "/v1/why/{host}", params(("host" = String, Path), ("from" = Option<String>, Query)), responses((status = 200, body = Explanation)))]
pub(super) async fn why(
    State(node): State<Arc<Node>>,
    Path(host): Path<String>,
    Query(From { from }): Query<From>,
) -> Answer<Explanation> {
    let to = host_called(&node, &host).await?;
    let from = match from {
        Some(from) => host_called(&node, &from).await?,
        None => node.overlay.local_id(),
    };
    let member = node.member()?;
    let explained = member.meet.explain_between(from, to).await;
    Ok(Json(explained.map_err(|why| {
        Failure::failed("host_not_asked", format!("{from} cannot be asked: {why}"))
            .remedy(format!("ask on that host itself, or why it is out of reach: consort why {from}"))
    })?))
}

/// A host by its id, by the name the operator's topology gives it, or by the beginning or end of its id if only one member has such.
async fn host_called(node: &Node, name: &str) -> Result<HostId, Failure> {
    if let Ok(host) = name.parse() {
        return Ok(host);
    }
    let topology = node.topologies.watch().borrow().clone();
    if let Some(host) = topology.hosts().iter().find(|host| host.name == name) {
        return Ok(host.id);
    }
    let members =
        node.overlay.members().await.map_err(|error| Failure::failed("stopping", error.to_string()))?;
    let mut fit = members.iter().map(|member| member.host).filter(|host| {
        let id = host.to_string();
        name.len() >= NAME_PART_MIN && (id.starts_with(name) || id.ends_with(name))
    });
    match (fit.next(), fit.next()) {
        (Some(host), None) => Ok(host),
        (Some(_), Some(_)) => {
            Err(Failure::input("ambiguous", format!("several members have `{name}` in their id"))
                .remedy("give more of the id; `consort members` lists them"))
        }
        (None, _) => Err(Failure::not_found("no_host", format!("no member is called `{name}`"))
            .remedy("give a HostId as `consort members` lists it, or a name of the operator's topology")),
    }
}

/// Characters of an id that say enough: all ids begin alike, so fewer would be a guess.
const NAME_PART_MIN: usize = 6;
