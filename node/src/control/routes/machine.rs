//! Machines of the tenant's slices, wherever they are.

use std::sync::Arc;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use consort_machine::session::{ExecRequest, WinSize};
use hyper_util::rt::TokioIo;

use super::reply::{Answer, Body, Refused};
use crate::control::api::{ExecBody, Machine, MachineDetail, STREAM_UPGRADE, TerminalSize};
use crate::daemon::Node;
use crate::failure::Failure;
use crate::glue::remote::call::{Opened, Session};
use crate::glue::remote::message::{Action, MachineName};
use crate::glue::remote::pump::pump;
use crate::glue::tenant::{self, Found};

/// The tenant's machines.
#[utoipa::path(get, path = "/v1/machines", responses((status = 200, body = Vec<Machine>)))]
pub(super) async fn list(State(node): State<Arc<Node>>) -> Answer<Vec<Machine>> {
    let found = node.member()?.tenant.machines().await?;
    Ok(Json(found.iter().map(|found| show_machine(&node, found)).collect()))
}

/// One machine, with what its host says of it.
#[utoipa::path(get, path = "/v1/machines/{name}", params(("name" = String, Path)), responses((status = 200, body = MachineDetail)))]
pub(super) async fn show(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<MachineDetail> {
    detail(&node, &name, Action::Show).await
}

/// Start a stopped machine again, from its image.
#[utoipa::path(post, path = "/v1/machines/{name}/start", params(("name" = String, Path)), responses((status = 200, body = MachineDetail)))]
pub(super) async fn start(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<MachineDetail> {
    detail(&node, &name, Action::Start).await
}

/// Stop a machine.
#[utoipa::path(post, path = "/v1/machines/{name}/stop", params(("name" = String, Path)), responses((status = 200, body = MachineDetail)))]
pub(super) async fn stop(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<MachineDetail> {
    detail(&node, &name, Action::Stop).await
}

/// Stop giving a machine CPU.
#[utoipa::path(post, path = "/v1/machines/{name}/pause", params(("name" = String, Path)), responses((status = 200, body = MachineDetail)))]
pub(super) async fn pause(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<MachineDetail> {
    detail(&node, &name, Action::Pause).await
}

/// Give a machine CPU again.
#[utoipa::path(post, path = "/v1/machines/{name}/resume", params(("name" = String, Path)), responses((status = 200, body = MachineDetail)))]
pub(super) async fn resume(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer<MachineDetail> {
    detail(&node, &name, Action::Resume).await
}

/// What a machine's console printed and is still kept.
#[utoipa::path(get, path = "/v1/machines/{name}/logs", params(("name" = String, Path)), responses((status = 200, content_type = "application/octet-stream")))]
pub(super) async fn logs(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    let found = node.member()?.tenant.machine(&name).await?;
    let Opened::Log(log) = ask(&node, &found, Action::Logs).await? else { return Err(out_of_turn()) };
    let response = Response::builder().header(header::CONTENT_TYPE, "application/octet-stream");
    response.body(HttpBody::from(log)).map_err(|_| out_of_turn())
}

/// Run a command in a machine; the connection becomes its session (`Upgrade: consort-stream`).
#[utoipa::path(post, path = "/v1/machines/{name}/exec", params(("name" = String, Path)), request_body = ExecBody, responses((status = 101)))]
pub(super) async fn exec(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refused> {
    session(&node, &name, request, |body: ExecBody| {
        Action::Exec(ExecRequest { argv: body.argv, env: body.env, cwd: None, tty: body.tty.map(win_size) })
    })
    .await
}

/// Attach to a machine's console; the connection becomes its session (`Upgrade: consort-stream`).
#[utoipa::path(post, path = "/v1/machines/{name}/console", params(("name" = String, Path)), request_body = Option<TerminalSize>, responses((status = 101)))]
pub(super) async fn console(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refused> {
    session(&node, &name, request, |size: Option<TerminalSize>| Action::Console(size.map(win_size))).await
}

fn win_size(size: TerminalSize) -> WinSize {
    WinSize { rows: size.rows, columns: size.columns }
}

/// Opens a session at the machine's host, and only then lets the connection become it.
async fn session<B: serde::de::DeserializeOwned>(
    node: &Arc<Node>,
    name: &str,
    mut request: Request,
    action: impl FnOnce(B) -> Action,
) -> Result<Response, Refused> {
    let wanted = request.headers().get(header::UPGRADE).is_some_and(|word| word == STREAM_UPGRADE);
    if !wanted {
        let failure = Failure::input("no_upgrade", "this route turns the connection into a stream");
        return Err(failure
            .remedy(format!("send `Connection: upgrade` and `Upgrade: {STREAM_UPGRADE}`"))
            .into());
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let Body(body) = Body::<B>::from_request(request, &()).await?;
    let found = node.member()?.tenant.machine(name).await?;
    let Opened::Session(machine) = ask(node, &found, action(body)).await? else { return Err(out_of_turn()) };
    tokio::spawn(carry(upgrade, machine));
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, STREAM_UPGRADE)
        .body(HttpBody::empty())
        .map_err(|_| out_of_turn())
}

async fn carry(upgrade: hyper::upgrade::OnUpgrade, machine: Box<dyn Session>) {
    let client = match upgrade.await {
        Ok(client) => client,
        Err(error) => return tracing::debug!(%error, "a connection did not become a stream"),
    };
    if let Err(error) = pump(TokioIo::new(client), machine).await {
        tracing::debug!(%error, "a session ended early");
    }
}

async fn detail(node: &Arc<Node>, name: &str, action: Action) -> Answer<MachineDetail> {
    let found = node.member()?.tenant.machine(name).await?;
    let Opened::Done(report) = ask(node, &found, action).await? else { return Err(out_of_turn()) };
    let machine = Machine { state: report.state, reason: report.reason, ..show_machine(node, &found) };
    Ok(Json(MachineDetail { machine, limits: report.limits.into_iter().collect() }))
}

async fn ask(node: &Arc<Node>, found: &Found, action: Action) -> Result<Opened, Failure> {
    let name = MachineName { slice: found.slice.0, machine: found.machine.name.clone() };
    node.member()?.caller.ask(found.machine.host, name, action).await
}

fn show_machine(node: &Node, found: &Found) -> Machine {
    let machine = &found.machine;
    Machine {
        name: machine.name.clone(),
        slice: found.slice_name.clone(),
        host: machine.host.to_string(),
        here: machine.host == node.overlay.local_id(),
        category: machine.category.to_string(),
        state: machine.state.to_owned(),
        reason: machine.detail.clone(),
        interfaces: tenant::interfaces(machine),
    }
}

fn out_of_turn() -> Refused {
    Refused::from(Failure::failed("machine", "the machine's host answered something else than was asked"))
}
