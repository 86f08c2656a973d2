//! Slices of this node's tenant.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};

use super::reply::{Answer, Body};
use crate::control::api::{Event, ExtendBody, Plan, Slice, SliceBody};
use crate::daemon::Node;

/// What would be granted for a slice file; nothing is reserved.
#[utoipa::path(post, path = "/v1/plan", request_body = SliceBody, responses((status = 200, body = Plan)))]
pub(super) async fn plan(State(node): State<Arc<Node>>, Body(body): Body<SliceBody>) -> Answer<Plan> {
    Ok(Json(node.member()?.tenant.plan(&body.file).await?))
}

/// Create the slice of a file.
#[utoipa::path(post, path = "/v1/slices", request_body = SliceBody, responses((status = 200, body = Slice)))]
pub(super) async fn create(State(node): State<Arc<Node>>, Body(body): Body<SliceBody>) -> Answer<Slice> {
    Ok(Json(node.member()?.tenant.create(&body.file, body.wait).await?))
}

/// The tenant's slices.
#[utoipa::path(get, path = "/v1/slices", responses((status = 200, body = Vec<Slice>)))]
pub(super) async fn list(State(node): State<Arc<Node>>) -> Answer<Vec<Slice>> {
    Ok(Json(node.member()?.tenant.list().await?))
}

/// One slice, by name or id.
#[utoipa::path(get, path = "/v1/slices/{name}", params(("name" = String, Path)), responses((status = 200, body = Slice)))]
pub(super) async fn show(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<Slice> {
    Ok(Json(node.member()?.tenant.show(&name).await?))
}

/// What happened to a slice.
#[utoipa::path(get, path = "/v1/slices/{name}/events", params(("name" = String, Path)), responses((status = 200, body = Vec<Event>)))]
pub(super) async fn events(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<Vec<Event>> {
    Ok(Json(node.member()?.tenant.events(&name).await?))
}

/// Give a slice more time.
#[utoipa::path(post, path = "/v1/slices/{name}/extend", params(("name" = String, Path)), request_body = ExtendBody, responses((status = 200, body = Slice)))]
pub(super) async fn extend(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
    Body(body): Body<ExtendBody>,
) -> Answer<Slice> {
    Ok(Json(node.member()?.tenant.extend(&name, Duration::from_millis(body.by_ms)).await?))
}

/// End a slice and give everything back.
#[utoipa::path(delete, path = "/v1/slices/{name}", params(("name" = String, Path)), responses((status = 200, body = Slice)))]
pub(super) async fn remove(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<Slice> {
    Ok(Json(node.member()?.tenant.remove(&name).await?))
}
