//! The machine's end: does what is asked, here.

use std::time::Duration;

use consort_overlay::{HostId, Stream};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::authority;
use super::message::{self, Action, MachineReport, Refusal, Reply, Request};
use super::pump::pump;
use crate::failure::Failure;
use crate::glue::engine::EngineHandle;
use crate::glue::machine::Change;
use crate::glue::machines::Machines;

/// How long a peer may take to say what it wants.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// What comes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Done(MachineReport),
    /// A session begins.
    Session(MachineReport, UnixStream),
    /// These bytes were printed.
    Log(MachineReport, Vec<u8>),
}

/// Does what a request wants, if its proof holds.
///
/// # Errors
/// If it does not, or the machine does not do it.
pub async fn perform(
    request: Request,
    engine: &EngineHandle,
    machines: &Machines,
    me: HostId,
    asking: HostId,
) -> Result<Outcome, Failure> {
    let id = authority::machine_for(&request, engine, me, asking).await?;
    let change = async |change| machines.change(&id, change).await.map(Outcome::Done);
    match request.action {
        Action::Show => machines.show(&id).await.map(Outcome::Done),
        Action::Start => change(Change::Start).await,
        Action::Stop => change(Change::Stop).await,
        Action::Pause => change(Change::Pause).await,
        Action::Resume => change(Change::Resume).await,
        Action::Exec(exec) => {
            let session = machines.exec(&id, exec).await?;
            Ok(Outcome::Session(MachineReport::running(), session.stream))
        }
        Action::Console(size) => {
            let session = machines.console(&id, size).await?;
            Ok(Outcome::Session(MachineReport::running(), session.stream))
        }
        Action::Logs => {
            let log = machines.logs(&id).await?;
            Ok(Outcome::Log(machines.show(&id).await?, log))
        }
    }
}

/// Serves one stream of a peer to its end.
pub async fn serve(mut stream: Stream, engine: EngineHandle, machines: Machines, me: HostId, asking: HostId) {
    let body = match tokio::time::timeout(REQUEST_WITHIN, message::receive(&mut stream)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return tracing::debug!(%asking, %error, "a stream brought no request"),
        Err(_) => return tracing::debug!(%asking, "a stream brought no request in time"),
    };
    let outcome = match message::decode_request(&body) {
        Ok(request) => perform(request, &engine, &machines, me, asking).await,
        Err(error) => Err(Failure::input("request", error.to_string())
            .remedy("use the same version of consort on both hosts")),
    };
    if let Err(error) = answer(&mut stream, outcome).await {
        tracing::debug!(%asking, %error, "a stream of a machine ended early");
    }
}

async fn answer(stream: &mut Stream, outcome: Result<Outcome, Failure>) -> Result<(), message::MessageError> {
    match outcome {
        Ok(Outcome::Done(report)) => message::send(stream, &Reply::Accepted(report)).await?,
        Ok(Outcome::Session(report, session)) => {
            message::send(stream, &Reply::Accepted(report)).await?;
            return Ok(pump(stream, session).await?);
        }
        Ok(Outcome::Log(report, log)) => {
            message::send(stream, &Reply::Accepted(report)).await?;
            stream.write_all(&log).await?;
        }
        Err(failure) => message::send(stream, &Reply::Refused(Refusal::from(failure))).await?,
    }
    Ok(stream.shutdown().await?)
}
