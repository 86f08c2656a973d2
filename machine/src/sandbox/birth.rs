//! A machine's birth, as its driver sees it: a keeper is started, given its order, heard, and told that the machine is wanted; or
//! everything is undone.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::client::Client;
use super::ranges::Reserved;
use super::{out_of_turn, ports, sweep_apart};
use crate::driver::{StartError, Started};
use crate::image::remove_tree;
use crate::spec::{KeeperCommand, MachineId, Nic};
use crate::wire::message::{ORDER_BYTES_MAX, Order, Reply, Request};

/// Beyond the spec's own limit: how long a keeper has to clean up and say so, before it is killed and swept up after.
pub(super) const CLEAN_UP_WITHIN: Duration = Duration::from_secs(5);
/// A keeper that makes a machine. Dropped before the machine stands (nobody waits for it any more), it is undone by a task of its own.
pub(super) struct Birth {
    pub(super) keeper: Option<(tokio::process::Child, Client)>,
    pub(super) directory: PathBuf,
    /// The machine's users, which are free again when everything is undone.
    pub(super) reserved: Option<Reserved>,
}

impl Birth {
    /// Hands over the order, and takes the machine when it stands.
    pub(super) async fn lead(&mut self, order: &Order) -> Result<Started, StartError> {
        let Some((child, client)) = &mut self.keeper else {
            return Err(StartError::KeeperGone("it was undone".to_owned()));
        };
        let bytes = serde_json::to_vec(order)
            .map_err(|error| StartError::SetUp(format!("write the order: {error}")))?;
        if bytes.len() > ORDER_BYTES_MAX {
            return Err(StartError::SetUp(format!("an order of {} bytes is too large", bytes.len())));
        }
        let told = client.send_order(&bytes).await;
        let answer = match told {
            Ok(()) => client.reply().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok((Reply::Started { limits }, descriptors)) => {
                let nics =
                    order.spec.nics.iter().map(|Nic { name, queues, .. }| (name.clone(), *queues)).collect();
                let nics = ports(nics, descriptors).map_err(|error| StartError::SetUp(error.to_string()))?;
                client.send(&Request::Commit).await.map_err(|error| StartError::SetUp(error.to_string()))?;
                Ok(Started { nics, limits })
            }
            Ok((Reply::Refused(words), _)) => Err(StartError::SetUp(words)),
            Ok((other, _)) => Err(StartError::SetUp(out_of_turn(&other).to_string())),
            Err(error) => {
                let status = tokio::time::timeout(CLEAN_UP_WITHIN, child.wait()).await;
                let how = match status {
                    Ok(Ok(status)) => status.to_string(),
                    Ok(Err(_)) | Err(_) => error.to_string(),
                };
                let log = fs::read_to_string(self.directory.join("keeper.log")).unwrap_or_default();
                let words: String = log.trim().chars().take(500).collect();
                Err(StartError::KeeperGone(if words.is_empty() { how } else { format!("{how}: {words}") }))
            }
        }
    }

    /// Waits until the keeper has undone everything, and does it in its place if it does not.
    pub(super) async fn undo(&mut self) {
        let Some(keeper) = self.keeper.take() else { return };
        undo(keeper, self.directory.clone()).await;
        self.reserved = None;
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        let Some(keeper) = self.keeper.take() else { return };
        let (directory, reserved) = (self.directory.clone(), self.reserved.take());
        // Without a runtime the daemon is ending: the keeper sees its socket closed and undoes everything itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                undo(keeper, directory).await;
                drop(reserved);
            });
        }
    }
}

async fn undo((mut child, client): (tokio::process::Child, Client), directory: PathBuf) {
    drop(client);
    if tokio::time::timeout(CLEAN_UP_WITHIN, child.wait()).await.is_err()
        && let Err(error) = child.kill().await
    {
        tracing::warn!(%error, "a keeper cannot be killed");
    }
    for left in sweep_apart(directory).await {
        tracing::warn!(left, "not removed after a failed start");
    }
}

/// The keeper, with one end of a socket as its standard input.
pub(super) fn spawn_keeper(
    keeper: &KeeperCommand,
    id: &MachineId,
    directory: &Path,
) -> Result<(tokio::process::Child, Client), StartError> {
    let fail = |attempt: String| move |source| StartError::Host { attempt, source };
    let (ours, theirs) =
        std::os::unix::net::UnixStream::pair().map_err(fail("open a socket pair".to_owned()))?;
    let log = directory.join("keeper.log");
    let log_file = fs::File::create(&log).map_err(fail(format!("make {}", log.display())))?;
    let mut command = tokio::process::Command::new(&keeper.program);
    command
        .args(&keeper.arguments)
        .arg(id.as_str())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(log_file)
        .kill_on_drop(false);
    let child = command.spawn().map_err(fail(format!("start the keeper {}", keeper.program.display())))?;
    drop(command);
    let client = Client::over(ours).map_err(fail("speak to the keeper".to_owned()))?;
    Ok((child, client))
}

/// Removes a directory in which nothing was made yet.
pub(super) fn give_up(directory: &Path, error: StartError) -> StartError {
    match remove_tree(directory) {
        Ok(()) => error,
        Err(source) => {
            StartError::Host { attempt: format!("remove {} after: {error}", directory.display()), source }
        }
    }
}

/// Makes the machine's directory, which is the lock of its name.
pub(super) fn make_directory(directory: &Path, id: &MachineId) -> Result<(), StartError> {
    fs::DirBuilder::new().mode(0o700).create(directory).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => StartError::Exists(id.clone()),
        _ => StartError::Host { attempt: format!("make {}", directory.display()), source },
    })
}
