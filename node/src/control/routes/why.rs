//! How this host can be reached, and why the way between two hosts is as it is.

use std::collections::BTreeSet;
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
    let member = match node.member() {
        Ok(member) => member,
        // Of its own ways a host can speak that is let in nowhere.
        Err(_) if from == node.overlay.local_id() => {
            return Ok(Json(facts::explain_outside(&node.overlay, to).await));
        }
        Err(failure) => return Err(failure.into()),
    };
    let explained = member.meet.explain_between(from, to).await;
    Ok(Json(explained.map_err(|why| {
        Failure::failed("host_not_asked", format!("{from} cannot be asked: {why}"))
            .remedy(format!("ask on that host itself, or why it is out of reach: consort why {from}"))
    })?))
}

/// A host by its id, by the name the operator's topology gives it, or by the beginning or end of its id if only one host has such. Whoever came to the door
/// and was not let in counts: of him one asks why.
async fn host_called(node: &Node, name: &str) -> Result<HostId, Failure> {
    if let Ok(host) = name.parse() {
        return Ok(host);
    }
    let topology = node.topologies.watch().borrow().clone();
    if let Some(host) = topology.hosts().iter().find(|host| host.name == name) {
        return Ok(host.id);
    }
    let stopping = |error: consort_overlay::Stopped| Failure::failed("stopping", error.to_string());
    let members = node.overlay.members().await.map_err(stopping)?;
    let peers = node.overlay.peers().await.map_err(stopping)?;
    let mut known: BTreeSet<HostId> = members.iter().map(|member| member.host).collect();
    known.extend(peers.iter().map(|peer| peer.host));
    known.insert(node.overlay.local_id());
    one_called(&known, name)
}

fn one_called(known: &BTreeSet<HostId>, name: &str) -> Result<HostId, Failure> {
    let part = name.trim_start_matches('…');
    let mut fit = known.iter().filter(|host| {
        let id = host.to_string();
        part.len() >= NAME_PART_MIN && (id.starts_with(part) || id.ends_with(part))
    });
    match (fit.next(), fit.next()) {
        (Some(host), None) => Ok(*host),
        (Some(_), Some(_)) => Err(Failure::input("ambiguous", format!("several hosts have `{name}` in their id"))
            .remedy("give more of the id; `consort members` lists them")),
        (None, _) => Err(Failure::not_found("no_host", format!("no host is called `{name}`")).remedy(format!(
            "give a HostId as `consort members` and `consort peers` list it, its last {NAME_PART_MIN} characters or more, or a name of the operator's topology"
        ))),
    }
}

/// Characters of an id that say enough: all ids begin alike, so fewer would be a guess.
const NAME_PART_MIN: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_by_the_end_of_its_id_and_nobody_by_less() {
        let known: BTreeSet<HostId> = (0..8).map(|_| HostId::random()).collect();
        let host = *known.first().unwrap();
        let id = host.to_string();
        let end = &id[id.len() - 8..];
        assert_eq!(one_called(&known, end), Ok(host));
        assert_eq!(one_called(&known, &format!("…{end}")), Ok(host), "as the texts of `why` call it");
        assert_eq!(one_called(&known, &id[id.len() - 5..]).unwrap_err().code, "no_host");
        assert_eq!(one_called(&known, "nobody-at-all").unwrap_err().code, "no_host");
        let twins = BTreeSet::from([host, HostId::random()]);
        let common: String = id.chars().take(4).collect();
        assert!(one_called(&twins, &common).is_err());
    }
}
