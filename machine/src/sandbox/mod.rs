//! The driver of sandboxes: machines on the host's own kernel.
//!
//! Owns the directory of machines and the choice of user ids; everything else of a machine is its keeper's, to which this driver
//! speaks over `DIR/machines/<id>/keeper.sock`. It holds no state that a restart could lose: [`Driver::recover`] reads everything back
//! from the directories and the keepers.
//!
//! A service manager must let keepers be when it stops the daemon (systemd: `KillMode=process`, and `Delegate=yes` for the limits), and
//! whoever is PID 1 above them must collect orphans, as every init does.
//!
//! | in a machine's directory | meaning |
//! |---|---|
//! | `keeper.sock` | the keeper's socket, 0600 |
//! | `machine.json` | what to sweep up if the keeper is killed |
//! | `keeper.log` | what the keeper could not tell anybody |
//! | `console.log`, `console.log.1` | what the machine printed |
//! | `upper`, `work` | the writable layer, and overlayfs's own directory |
//! | `lower`, `root` | where the image and the root are mounted in the machine's own mount namespace; empty on the host |
//! | `copy` | instead of a layer, a copy of the image where no overlay can be had |

mod birth;
mod client;
mod ranges;
mod sweep;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::driver::{
    Capabilities, Category, ControlError, Driver, Fate, MachineStatus, NicPort, PausedBy, Recovered,
    StartError, Started, Task, Uids,
};
use crate::image::{ImageError, ImageStore};
use crate::session::{ExecRequest, ExecSession, WinSize};
use crate::setup::ids;
use crate::spec::{KeeperCommand, MachineId, MachineSpec};
use crate::wire::message::{Order, PROTOCOL, Reply, Request};
use birth::{Birth, CLEAN_UP_WITHIN, give_up, make_directory, spawn_keeper};
use client::Client;
use ranges::{Ranges, Reserved};
use sweep::sweep;

/// An answer to a question that needs no waiting.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Makes sandboxes.
#[derive(Debug)]
pub struct SandboxDriver {
    directory: PathBuf,
    images: ImageStore,
    guest: PathBuf,
    keeper: KeeperCommand,
    ranges: Option<Ranges>,
}

/// Why a driver cannot work here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenDriverError {
    /// The directory of machines.
    #[error("{path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The guest program could not be placed.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl SandboxDriver {
    /// Opens a driver whose machines live in `directory`, made if needed. Call [`Driver::recover`] before starting machines.
    ///
    /// # Errors
    /// The directory or the guest program's file cannot be made.
    pub fn open(
        directory: &Path,
        images: ImageStore,
        keeper: KeeperCommand,
    ) -> Result<Self, OpenDriverError> {
        let fail = |source| OpenDriverError::Directory { path: directory.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
        let directory = directory.canonicalize().map_err(fail)?;
        let guest = images.guest()?;
        let ranges = ids::ranges_can_be_mapped().then(|| Ranges::of(&directory));
        Ok(Self { directory, images, guest, keeper, ranges })
    }

    fn place(&self, id: &MachineId) -> PathBuf {
        self.directory.join(id.as_str())
    }

    async fn start_machine(&self, spec: &MachineSpec) -> Result<Started, StartError> {
        spec.check()?;
        let image_root = self.images.root(&spec.image).ok_or(StartError::NoImage(spec.image))?;
        let directory = self.place(&spec.id);
        // The directory is the lock of the name: only who made it may take a range for that name.
        make_directory(&directory, &spec.id)?;
        let reserved = match self.ranges.as_ref().map(|ranges| ranges.reserve(&spec.id)).transpose() {
            Ok(reserved) => reserved,
            Err(error) => return Err(give_up(&directory, error)),
        };
        let uids = reserved.as_ref().map_or(Uids::Single, Reserved::uids);
        let order = Order {
            spec: spec.clone(),
            directory: directory.clone(),
            image_root,
            guest: self.guest.clone(),
            uids,
        };
        let keeper = match spawn_keeper(&self.keeper, &spec.id, &directory) {
            Ok(keeper) => keeper,
            Err(error) => return Err(give_up(&directory, error)),
        };
        let mut birth = Birth { keeper: Some(keeper), directory, reserved };
        let within = spec.start_within + CLEAN_UP_WITHIN;
        let outcome = match tokio::time::timeout(within, birth.lead(&order)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StartError::TooLate(spec.start_within)),
        };
        match outcome {
            Ok(started) => {
                birth.keeper = None;
                if let Some(reserved) = birth.reserved.take() {
                    reserved.keep();
                }
                Ok(started)
            }
            Err(error) => {
                birth.undo().await;
                Err(error)
            }
        }
    }

    async fn ask(
        &self,
        id: &MachineId,
        request: Request,
    ) -> Result<(Client, Reply, Vec<OwnedFd>), ControlError> {
        self.ask_within(id, request, ANSWER_WITHIN).await
    }

    async fn ask_within(
        &self,
        id: &MachineId,
        request: Request,
        within: Duration,
    ) -> Result<(Client, Reply, Vec<OwnedFd>), ControlError> {
        let attempt = || format!("ask the keeper of {id}");
        let talk = async {
            let mut client = Client::connect(&self.place(id)).await.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => ControlError::NotFound(id.clone()),
                _ => ControlError::Keeper { attempt: attempt(), source: error },
            })?;
            client.send(&request).await?;
            let (reply, descriptors) = client.reply().await?;
            match reply {
                Reply::Refused(words) => Err(ControlError::Refused(words)),
                reply => Ok((client, reply, descriptors)),
            }
        };
        match tokio::time::timeout(within, talk).await {
            Ok(outcome) => outcome,
            Err(_) => {
                Err(ControlError::Keeper { attempt: attempt(), source: io::ErrorKind::TimedOut.into() })
            }
        }
    }

    async fn session(&self, id: &MachineId, request: Request) -> Result<ExecSession, ControlError> {
        match self.ask(id, request).await? {
            (client, Reply::Done, _) => Ok(client.into_session()),
            (_, other, _) => Err(out_of_turn(&other)),
        }
    }

    async fn done(&self, id: &MachineId, request: Request, within: Duration) -> Result<(), ControlError> {
        match self.ask_within(id, request, within).await? {
            (_, Reply::Done, _) => Ok(()),
            (_, other, _) => Err(out_of_turn(&other)),
        }
    }

    async fn remove_machine(&self, id: &MachineId) -> Result<(), ControlError> {
        let directory = self.place(id);
        match self.done(id, Request::Remove, ANSWER_WITHIN).await {
            Ok(()) => {}
            Err(ControlError::NotFound(_)) if !directory.exists() => {}
            // Its keeper is gone or does not answer: do its work.
            Err(ControlError::NotFound(_) | ControlError::Keeper { .. } | ControlError::Protocol(_)) => {
                let left = sweep_apart(directory).await;
                if !left.is_empty() {
                    return Err(ControlError::Refused(format!("what is left of {id}: {}", left.join("; "))));
                }
            }
            Err(error) => return Err(error),
        }
        if let Some(ranges) = &self.ranges {
            ranges.release(id);
        }
        Ok(())
    }

    async fn recover_machines(&self) -> Result<Vec<Recovered>, ControlError> {
        let fail =
            |source| ControlError::Keeper { attempt: format!("read {}", self.directory.display()), source };
        let mut recovered = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<MachineId>().ok()) else {
                continue;
            };
            let fate = match self.find(&id).await {
                Ok((status, nics)) => {
                    if let (Some(ranges), Uids::Range { first, .. }) = (&self.ranges, status.limits.uids) {
                        ranges.note(&id, first);
                    }
                    Fate::Found { status: Box::new(status), nics }
                }
                Err(error) if is_gone(&error) => {
                    tracing::info!(machine = %id, %error, "its keeper is gone; sweeping up");
                    Fate::Dead { left: sweep_apart(entry.path()).await }
                }
                Err(error) => {
                    let words = format!(
                        "its keeper lives but cannot be spoken with ({error}); it ends the machine with its lease"
                    );
                    Fate::Dead { left: vec![words] }
                }
            };
            recovered.push(Recovered { id, fate });
        }
        Ok(recovered)
    }

    async fn find(&self, id: &MachineId) -> Result<(MachineStatus, Vec<NicPort>), ControlError> {
        let status = match self.ask(id, Request::Status).await? {
            (_, Reply::Status(status), _) => *status,
            (_, other, _) => return Err(out_of_turn(&other)),
        };
        match self.ask(id, Request::Attach).await? {
            (_, Reply::Attached { protocol: PROTOCOL, nics }, descriptors) => {
                Ok((status, ports(nics, descriptors)?))
            }
            (_, other, _) => Err(out_of_turn(&other)),
        }
    }
}

/// Sweeping kills and waits; it is done on a thread that may block.
async fn sweep_apart(directory: PathBuf) -> Vec<String> {
    match tokio::task::spawn_blocking(move || sweep(&directory)).await {
        Ok(left) => left,
        Err(error) => vec![error.to_string()],
    }
}

/// Whether nobody is behind a keeper's socket, rather than somebody who is slow or of another version.
fn is_gone(error: &ControlError) -> bool {
    match error {
        ControlError::NotFound(_) => true,
        ControlError::Keeper { source, .. } => {
            matches!(
                source.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::UnexpectedEof
            )
        }
        ControlError::Refused(_) | ControlError::Request(_) | ControlError::Protocol(_) => false,
    }
}

fn out_of_turn(reply: &Reply) -> ControlError {
    ControlError::Protocol(format!("{reply:?}"))
}

fn ports(nics: Vec<(String, u16)>, descriptors: Vec<OwnedFd>) -> Result<Vec<NicPort>, ControlError> {
    let wanted: usize = nics.iter().map(|(_, queues)| usize::from(*queues)).sum();
    if wanted != descriptors.len() {
        return Err(ControlError::Protocol(format!("{} descriptors for {wanted} queues", descriptors.len())));
    }
    let mut descriptors = descriptors.into_iter();
    Ok(nics
        .into_iter()
        .map(|(name, queues)| NicPort { name, queues: descriptors.by_ref().take(queues.into()).collect() })
        .collect())
}

impl Driver for SandboxDriver {
    fn category(&self) -> Category {
        Category::Sandbox
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::PAUSE.with(Capabilities::EXEC).with(Capabilities::CONSOLE)
    }

    fn start<'a>(&'a self, spec: &'a MachineSpec) -> Task<'a, Started, StartError> {
        Box::pin(self.start_machine(spec))
    }

    fn renew<'a>(&'a self, id: &'a MachineId, lease: Duration) -> Task<'a, (), ControlError> {
        Box::pin(self.done(id, Request::Renew(lease), ANSWER_WITHIN))
    }

    fn pause<'a>(&'a self, id: &'a MachineId) -> Task<'a, PausedBy, ControlError> {
        Box::pin(async move {
            match self.ask(id, Request::Pause).await? {
                (_, Reply::Paused(by), _) => Ok(by),
                (_, other, _) => Err(out_of_turn(&other)),
            }
        })
    }

    fn resume<'a>(&'a self, id: &'a MachineId) -> Task<'a, (), ControlError> {
        Box::pin(self.done(id, Request::Resume, ANSWER_WITHIN))
    }

    fn stop<'a>(&'a self, id: &'a MachineId, grace: Duration) -> Task<'a, (), ControlError> {
        Box::pin(self.done(id, Request::Stop { grace }, grace + ANSWER_WITHIN))
    }

    fn remove<'a>(&'a self, id: &'a MachineId) -> Task<'a, (), ControlError> {
        Box::pin(self.remove_machine(id))
    }

    fn state<'a>(&'a self, id: &'a MachineId) -> Task<'a, MachineStatus, ControlError> {
        Box::pin(async move {
            match self.ask(id, Request::Status).await? {
                (_, Reply::Status(status), _) => Ok(*status),
                (_, other, _) => Err(out_of_turn(&other)),
            }
        })
    }

    fn exec<'a>(&'a self, id: &'a MachineId, request: ExecRequest) -> Task<'a, ExecSession, ControlError> {
        Box::pin(async move {
            request.check()?;
            self.session(id, Request::Exec(request)).await
        })
    }

    fn console<'a>(
        &'a self,
        id: &'a MachineId,
        size: Option<WinSize>,
    ) -> Task<'a, ExecSession, ControlError> {
        Box::pin(self.session(id, Request::Console(size)))
    }

    fn logs<'a>(&'a self, id: &'a MachineId, bytes_max: usize) -> Task<'a, Vec<u8>, ControlError> {
        Box::pin(async move {
            let (client, reply, _) = self.ask(id, Request::Logs { bytes_max }).await?;
            match reply {
                Reply::Done => client.collect_output().await,
                other => Err(out_of_turn(&other)),
            }
        })
    }

    fn recover(&self) -> Task<'_, Vec<Recovered>, ControlError> {
        Box::pin(self.recover_machines())
    }
}
