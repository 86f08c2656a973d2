//! The tenant's end: asks the machine's host, which may be this one.

use std::time::Duration;

use consort_overlay::{HostId, OpenError, Overlay};
use libp2p_identity::Keypair;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::message::{self, Action, MachineName, MachineReport, MessageError, Reply, Request, VERSION};
use super::proof::Proof;
use super::serve::{self, Outcome};
use crate::failure::Failure;
use crate::glue::engine::EngineHandle;
use crate::glue::machines::Machines;
use crate::glue::{clock, protocols};

/// How long a host may take to answer. A start from its image is the slowest thing that can be asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// The longest log that is taken; a host sends at most a MiB.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// A session's bytes, near or far.
pub trait Session: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Session for T {}

/// What came of a request.
pub enum Opened {
    /// It is done.
    Done(MachineReport),
    /// A session begins.
    Session(Box<dyn Session>),
    /// These bytes were printed.
    Log(Vec<u8>),
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Done(_) => "Done",
            Self::Session(_) => "Session",
            Self::Log(_) => "Log",
        })
    }
}

/// Asks hosts about the tenant's machines.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The way to other hosts.
    pub overlay: Overlay,
    /// Signs what is asked.
    pub tenant: Keypair,
    /// For machines of this host.
    pub engine: EngineHandle,
    /// For machines of this host.
    pub machines: Machines,
}

impl Caller {
    /// Asks `host` to do something with a machine.
    ///
    /// # Errors
    /// If the host cannot be reached, or refuses.
    pub async fn ask(&self, host: HostId, machine: MachineName, action: Action) -> Result<Opened, Failure> {
        let me = self.overlay.local_id();
        let proof = Proof::sign(&self.tenant, &machine, host, me, clock::wall_s()).map_err(|error| {
            Failure::failed("signature", format!("the tenant's key cannot sign: {error}"))
        })?;
        let request = Request { version: VERSION, machine, action, proof };
        if host == me {
            return Ok(match serve::perform(request, &self.engine, &self.machines, me, me).await? {
                Outcome::Done(report) => Opened::Done(report),
                Outcome::Session(_, stream) => Opened::Session(Box::new(stream)),
                Outcome::Log(_, log) => Opened::Log(log),
            });
        }
        match tokio::time::timeout(ANSWER_WITHIN, self.ask_far(host, request)).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::failed("host_silent", format!("host {host} did not answer in time"))
                .remedy("look at `consort peers`")),
        }
    }

    async fn ask_far(&self, host: HostId, request: Request) -> Result<Opened, Failure> {
        let mut stream = self.overlay.open_stream(host, protocols::MACHINE).await.map_err(unreachable)?;
        let broke_off = |error: MessageError| {
            Failure::failed("host_silent", format!("host {host} did not answer: {error}"))
                .remedy("look at `consort peers`")
        };
        message::send(&mut stream, &request).await.map_err(broke_off)?;
        let body = message::receive(&mut stream).await.map_err(broke_off)?;
        let report = match message::decode(&body).map_err(broke_off)? {
            Reply::Accepted(report) => report,
            Reply::Refused(refusal) => return Err(refusal.into()),
        };
        Ok(match request.action {
            Action::Exec(_) | Action::Console(_) => Opened::Session(Box::new(stream)),
            Action::Logs => {
                let mut log = Vec::new();
                stream
                    .take(LOG_BYTES_MAX)
                    .read_to_end(&mut log)
                    .await
                    .map_err(|error| broke_off(error.into()))?;
                Opened::Log(log)
            }
            Action::Show | Action::Start | Action::Stop | Action::Pause | Action::Resume => {
                Opened::Done(report)
            }
        })
    }
}

fn unreachable(error: OpenError) -> Failure {
    Failure::failed("host_unreachable", format!("the machine's host cannot be reached: {error}"))
        .remedy("look at `consort peers`")
}
