//! The routes: which path does what, and the OpenAPI document that says so.
//!
//! Owns: paths and methods; each route asks one handle and answers in the words of [`super::api`]. Refuses to know: how it is done.

mod machine;
mod net;
mod node;
mod overlay;
mod reply;
mod slice;
mod topology;
mod why;

use std::sync::Arc;

use axum::routing::{delete, get, post};
use axum::{Json, Router};
use utoipa::OpenApi;

use super::api;
use crate::daemon::Node;

/// All routes of a node.
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/openapi.json", get(openapi))
        .route("/v1/status", get(node::status))
        .route("/v1/peers", get(node::peers))
        .route("/v1/reach", get(why::reach))
        .route("/v1/why/{host}", get(why::why))
        .route("/v1/overlay/invite", post(overlay::invite))
        .route("/v1/overlay/join", post(overlay::join))
        .route("/v1/overlay/members", get(overlay::members))
        .route("/v1/overlay/revoke", post(overlay::revoke))
        .route("/v1/plan", post(slice::plan))
        .route("/v1/slices", get(slice::list).post(slice::create))
        .route("/v1/slices/{name}", get(slice::show))
        .route("/v1/slices/{name}", delete(slice::remove))
        .route("/v1/slices/{name}/events", get(slice::events))
        .route("/v1/slices/{name}/extend", post(slice::extend))
        .route("/v1/machines", get(machine::list))
        .route("/v1/machines/{name}", get(machine::show))
        .route("/v1/machines/{name}/start", post(machine::start))
        .route("/v1/machines/{name}/stop", post(machine::stop))
        .route("/v1/machines/{name}/pause", post(machine::pause))
        .route("/v1/machines/{name}/resume", post(machine::resume))
        .route("/v1/machines/{name}/logs", get(machine::logs))
        .route("/v1/machines/{name}/exec", post(machine::exec))
        .route("/v1/machines/{name}/console", post(machine::console))
        .route("/v1/nets", get(net::list).post(net::create))
        .route("/v1/nets/{name}", get(net::show))
        .route("/v1/nets/{name}/traffic", get(net::traffic))
        .route("/v1/topology", get(topology::show))
        .route("/v1/topology/plan", post(topology::plan))
        .route("/v1/topology/apply", post(topology::apply))
        .route("/v1/topology/operators", get(topology::operators).post(topology::appoint))
        .route("/v1/nets/{name}/join", post(net::join))
        .route("/v1/nets/{name}/leave", post(net::leave))
        .fallback(reply::no_route)
        .method_not_allowed_fallback(reply::no_route)
        .with_state(node)
}

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Consort",
        description = "The API of one node, on DIR/consort.sock. A failure is an `ErrorBody`, whatever the route.",
    ),
    paths(
        node::status,
        node::peers,
        why::reach,
        why::why,
        overlay::invite,
        overlay::join,
        overlay::members,
        overlay::revoke,
        slice::plan,
        slice::list,
        slice::create,
        slice::show,
        slice::remove,
        slice::events,
        slice::extend,
        machine::list,
        machine::show,
        machine::start,
        machine::stop,
        machine::pause,
        machine::resume,
        machine::logs,
        machine::exec,
        machine::console,
        net::list,
        net::show,
        net::traffic,
        topology::show,
        topology::plan,
        topology::apply,
        topology::operators,
        topology::appoint,
        net::create,
        net::join,
        net::leave,
    ),
    components(schemas(api::ErrorBody))
)]
struct Document;

async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_path_is_versioned_and_says_what_it_does() {
        let document = Document::openapi();
        assert!(document.paths.paths.len() >= 20);
        let json = serde_json::to_value(&document).unwrap();
        for (path, item) in json["paths"].as_object().unwrap() {
            assert!(path.starts_with("/v1/"), "{path}");
            for (method, operation) in item.as_object().unwrap() {
                let said = operation["summary"].as_str().or(operation["description"].as_str());
                assert!(said.is_some_and(|text| !text.is_empty()), "{method} {path} says nothing");
            }
        }
    }
}
