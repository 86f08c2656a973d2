//! The operator's topology: what holds, what a file would change, applying it, and who may.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use consort_overlay::{HostId, Key, PublishDocumentError};
use consort_vswitch::LinkState;
use consort_vswitch::path::PathView;

use super::node::stopped;
use super::reply::{Answer, Body, Refused};
use crate::control::api::{Operators, RefusedTopology, TopologyBody, TopologyPlan, TopologyState};
use crate::daemon::Node;
use crate::failure::Failure;
use crate::glue::topology::first_of;
use crate::topology::changes::{changes, cut_off};
use crate::topology::show::{RouteView, Standing, view};
use crate::topology::{Pair, Topology};

/// The topology that holds, with the links of this node as they are.
#[utoipa::path(get, path = "/v1/topology", responses((status = 200, body = TopologyState)))]
pub(super) async fn show(State(node): State<Arc<Node>>) -> Answer<TopologyState> {
    let (document, topology) = node.topologies.held().await;
    let members = members(&node).await?;
    let standing = standing(&node);
    Ok(Json(TopologyState {
        version: document.as_ref().map(|document| document.version()),
        signer: document.as_ref().map(|document| document.signer().to_string()),
        issued_unix_s: document.as_ref().map(|document| u64::from(document.issued().0)),
        file: document.as_ref().map(|document| String::from_utf8_lossy(document.body()).into_owned()),
        view: view(&topology, &members, Some(&standing)),
        ways: sessions(&node)
            .into_iter()
            .filter(|(_, hops)| !hops.is_empty())
            .map(|(peer, hops)| RouteView {
                from: topology.name_of(node.overlay.local_id()),
                to: topology.name_of(peer),
                via: hops.into_iter().map(|hop| topology.name_of(hop)).collect(),
            })
            .collect(),
        cut_off: cut_off(&topology, &members).into_iter().map(|host| topology.name_of(host)).collect(),
        refused: node.topologies.refused().map(|refused| RefusedTopology {
            version: refused.version,
            from: refused.from.map(|host| host.to_string()),
            reason: refused.reason,
        }),
    }))
}

/// What a topology file would change; nothing is changed.
#[utoipa::path(post, path = "/v1/topology/plan", request_body = TopologyBody, responses((status = 200, body = TopologyPlan)))]
pub(super) async fn plan(
    State(node): State<Arc<Node>>,
    Body(body): Body<TopologyBody>,
) -> Answer<TopologyPlan> {
    Ok(Json(planned(&node, &body).await?))
}

/// Sign a topology file and tell it to every member.
#[utoipa::path(post, path = "/v1/topology/apply", request_body = TopologyBody, responses((status = 200, body = TopologyPlan)))]
pub(super) async fn apply(
    State(node): State<Arc<Node>>,
    Body(body): Body<TopologyBody>,
) -> Answer<TopologyPlan> {
    let plan = planned(&node, &body).await?;
    if let Some(first) = plan.changes.cut_off.first().filter(|_| !body.force) {
        let count = plan.changes.cut_off.len();
        let message = format!("{count} members could reach nobody by this topology, {first} among them");
        return Err(Failure::refused("would_cut_off", message)
            .remedy("give them links, or apply it all the same with --force")
            .into());
    }
    let to_version = node.topologies.apply(&body.file).await.map_err(not_published)?;
    Ok(Json(TopologyPlan { to_version, applied: true, ..plan }))
}

/// Who may apply a topology beside the founder.
#[utoipa::path(get, path = "/v1/topology/operators", responses((status = 200, body = Operators)))]
pub(super) async fn operators(State(node): State<Arc<Node>>) -> Answer<Operators> {
    let keys = node.overlay.operators().await.map_err(stopped)?;
    let operators =
        keys.iter().map(|key| key.host().map_or_else(|| key.to_string(), |host| host.to_string()));
    Ok(Json(Operators { operators: operators.collect() }))
}

/// Say who may apply a topology beside the founder: all of them, instead of those who might before. Only the founder's node can.
#[utoipa::path(post, path = "/v1/topology/operators", request_body = Operators, responses((status = 200, body = Operators)))]
pub(super) async fn appoint(State(node): State<Arc<Node>>, Body(body): Body<Operators>) -> Answer<Operators> {
    let mut keys: Vec<Key> = Vec::with_capacity(body.operators.len());
    for written in &body.operators {
        let key = written.trim().parse().map_err(|error: consort_overlay::ParseKeyError| {
            Failure::input("bad_key", format!("`{written}` is {error}"))
                .remedy("give host ids as `consort members` shows them")
        })?;
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    node.overlay.appoint(keys).await.map_err(not_published)?;
    operators(State(node)).await
}

async fn planned(node: &Node, body: &TopologyBody) -> Result<TopologyPlan, Refused> {
    let wanted = Topology::parse(&body.file).map_err(|faults| {
        Failure::input("topology_file", first_of(&faults))
            .remedy("`consort topology check FILE` tells all of them")
    })?;
    let from_version = node.topologies.document().await.map_err(stopped)?.map(|document| document.version());
    let held = node.topologies.current();
    Ok(TopologyPlan {
        from_version,
        to_version: from_version.map_or(1, |version| version.saturating_add(1)),
        applied: false,
        changes: changes(&held, &wanted, &members(node).await?, &links(node)),
    })
}

async fn members(node: &Node) -> Result<BTreeSet<HostId>, Refused> {
    let members = node.overlay.members().await.map_err(stopped)?;
    Ok(members.into_iter().map(|member| member.host).collect())
}

/// What this node knows of the links that stand.
fn standing(node: &Node) -> Standing {
    let snapshot = node.member().ok().map(|member| member.data.snapshot());
    let lines = snapshot.iter().flat_map(|snapshot| snapshot.lines.iter());
    Standing {
        own: node.overlay.local_id(),
        up: links(node),
        beyond_link: lines.map(|line| (line.peer, line.dropped)).collect(),
        beyond_transit: snapshot.map_or(0, |snapshot| snapshot.relay.counts.over_rate),
    }
}

/// The direct links of this node that stand.
fn links(node: &Node) -> BTreeSet<Pair> {
    let own = node.overlay.local_id();
    sessions(node).iter().filter(|(_, hops)| hops.is_empty()).map(|(peer, _)| Pair::new(own, *peer)).collect()
}

/// The hosts that this node has a session with, and the relays on the way to each; none for a direct link.
fn sessions(node: &Node) -> Vec<(HostId, Vec<HostId>)> {
    let Ok(member) = node.member() else { return Vec::new() };
    let snapshot = member.data.snapshot();
    let up = snapshot.links.iter().filter(|link| link.state == LinkState::Up);
    let with_hops = up.filter_map(|link| {
        let paths = snapshot.paths.peers.iter().find(|paths| paths.peer == link.peer)?;
        match paths.chosen.as_ref()? {
            PathView::Direct { .. } => Some((link.peer, Vec::new())),
            PathView::Relay { relay, .. } => {
                let routes = member.meet.relays.routes(link.peer);
                let route = routes.into_iter().find(|route| route.first() == Some(relay));
                Some((link.peer, route.unwrap_or_else(|| vec![*relay])))
            }
        }
    });
    with_hops.collect()
}

fn not_published(error: PublishDocumentError) -> Failure {
    let message = error.to_string();
    match error {
        PublishDocumentError::NotAnOperator { .. } => Failure::refused("not_an_operator", message).remedy(
            "do it on the founder's node, or let the founder appoint this host with `consort topology operators --add`",
        ),
        PublishDocumentError::NotAMember => Failure::refused("not_a_member", message),
        PublishDocumentError::TooLarge(_) | PublishDocumentError::Content(_) => {
            Failure::input("topology_file", message)
        }
        PublishDocumentError::TooManyOperators(_) => Failure::input("too_many_operators", message),
        PublishDocumentError::NotNewer { .. } => {
            Failure::failed("topology_changed", message).remedy("look at `consort topology plan` and apply it again")
        }
        _ => Failure::failed("topology", message),
    }
}
