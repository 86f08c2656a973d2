//! The core, driven: its clock, what it wants told and kept, the devices, and what the data plane knows of the networks.
//!
//! One task owns all of it. It waits for the disk and for the kernel, never for a member: comparisons and messages run in tasks of their own, of
//! which there are at most [`SENDS_MAX`], and come back as inputs. With the task everything it made ends: networks are
//! taken from the data plane, which closes the devices' queues, and the kernel removes the devices.
//!
//! | file | owns |
//! |---|---|
//! | `devices` | devices, and what the data plane knows of the networks |
//! | `channels` | channels: the claim presented, those of others judged |
//! | `hearing` | what others say, and who is a member |
//! | `telling` | news and comparisons |
//! | `status` | what is shown |

mod channels;
mod devices;
mod hearing;
mod status;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use consort_overlay::{HostId, Overlay, Reply};
use consort_vswitch::{DataPlane, Event, NetworkId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::core::{Core, JoinWish, NetworkWish, Now, Output};
use super::device::{self, Device};
use super::directory::{Digests, Item, NoSuch};
use super::exchange::{connected, some_of};
use super::handle::create_failure;
use crate::failure::Failure;
use crate::glue::wanted::Wanted;
use crate::state::keys::fill_random;
use crate::state::store::{Change, Room, Store};
use hearing::Members;
pub use status::{DeviceState, DeviceStatus, NetworkStatus};
use telling::News;

/// Inputs waiting for the task. A burst is twenty hosts joining at once, each telling each.
pub(super) const INPUTS_MAX: usize = 512;
/// Messages and comparisons on their way at once. What finds no place is told by a later comparison.
const SENDS_MAX: usize = 64;
/// Between two tries to keep what the disk refused.
const KEEP_AGAIN: Duration = Duration::from_secs(5);
/// How often this host looks whether its devices are still there.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How soon this host compares with a member at random after something changed: what was lost is healed within some of these.
const COMPARE_MIN: Duration = Duration::from_secs(10);
/// While nothing changes the wait doubles up to this: others compare with this host as often, and who comes into the overlay compares at once.
const COMPARE_MAX: Duration = Duration::from_secs(80);
/// How long until a device that could not be made is tried again.
const DEVICE_AGAIN: Duration = Duration::from_secs(10);

/// What the task takes.
#[derive(Debug)]
pub(super) enum Input {
    Lookup { text: String, reply: oneshot::Sender<Result<NetworkId, NoSuch>> },
    Create { wish: NetworkWish, reply: oneshot::Sender<Result<NetworkId, Failure>> },
    Join { id: NetworkId, wish: JoinWish, reply: oneshot::Sender<Result<(), Failure>> },
    Leave { id: NetworkId, reply: oneshot::Sender<Option<String>> },
    Show(oneshot::Sender<Vec<NetworkStatus>>),
    Digests(oneshot::Sender<Digests>),
    Items { ids: Vec<NetworkId>, items_max: usize, reply: oneshot::Sender<Vec<Item>> },
    Hear { items: Vec<Item>, reply: oneshot::Sender<()> },
    Request { body: Vec<u8>, reply: Reply },
    Channel(Event),
    PeerUp(HostId),
    PutOut,
}

/// Asks the task; nothing if it has ended.
pub(super) async fn ask<T>(
    inputs: &mpsc::Sender<Input>,
    input: impl FnOnce(oneshot::Sender<T>) -> Input,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    inputs.send(input(reply)).await.ok()?;
    answer.await.ok()
}

/// A network this host is on, as far as its device goes.
#[derive(Debug)]
enum Attachment {
    Up(Device),
    Down { why: String, again: Instant },
}

/// What the task acts on.
#[derive(Debug)]
pub struct Parts {
    /// Who is there.
    pub overlay: Overlay,
    /// Moves frames.
    pub data: DataPlane,
    /// Keeps what must be kept.
    pub store: Store,
    /// Where it says which hosts it wants linked.
    pub wanted: Wanted,
}

/// The task.
#[derive(Debug)]
pub struct Task {
    core: Core,
    parts: Parts,
    inputs: mpsc::Receiver<Input>,
    own: mpsc::WeakSender<Input>,
    /// The networks this host is on, for whoever sorts the data plane's events.
    joined: watch::Sender<BTreeSet<NetworkId>>,
    attachments: BTreeMap<NetworkId, Attachment>,
    news: News,
    members: Members,
    sends: Arc<Semaphore>,
    look_at: Instant,
    compare_at: Instant,
    compare_wait: Duration,
    /// What is to be kept and is not yet, since the disk refused; when it is tried again. As many as there are networks.
    unkept: BTreeMap<String, Option<Vec<u8>>>,
    keep_at: Option<Instant>,
}

impl Task {
    pub(super) fn new(
        core: Core,
        parts: Parts,
        inputs: mpsc::Receiver<Input>,
        own: mpsc::WeakSender<Input>,
        joined: watch::Sender<BTreeSet<NetworkId>>,
    ) -> Self {
        Self {
            core,
            parts,
            inputs,
            own,
            joined,
            attachments: BTreeMap::new(),
            news: News::default(),
            members: Members::default(),
            sends: Arc::new(Semaphore::new(SENDS_MAX)),
            look_at: Instant::now() + LOOK_EVERY,
            compare_at: Instant::now() + COMPARE_MIN,
            compare_wait: COMPARE_MIN,
            unkept: BTreeMap::new(),
            keep_at: None,
        }
    }

    /// Runs until the daemon ends.
    pub async fn run(mut self) {
        self.begin().await;
        loop {
            let due = self.due();
            let input = tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => Some(input),
                    None => return,
                },
                () = tokio::time::sleep(due) => None,
            };
            if let Some(input) = input {
                self.take(input).await;
            }
            self.time_passes().await;
            // Told in the log, and tried again.
            let _unkept = self.drain().await;
        }
    }

    /// Takes up what was kept, with the devices of before.
    async fn begin(&mut self) {
        let store = self.parts.store.clone();
        let read = tokio::task::spawn_blocking(move || store.read_all(Room::Networks)).await;
        let kept = match read {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => return tracing::error!(%error, "the networks of before cannot be read"),
            Err(error) => return tracing::error!(%error, "the store's thread ended"),
        };
        for key in self.core.restore(now(), kept) {
            tracing::warn!(%key, "what was kept of a network is not of this overlay, or of no use; it is forgotten");
        }
        self.refresh_members().await;
        self.trust_kept();
        self.tell_inside(None);
        let joined: Vec<NetworkId> = self.core.joined().collect();
        for id in joined {
            self.revive(id).await;
        }
        for host in connected(&self.parts.overlay).await {
            self.compare_with(host);
        }
        let _unkept = self.drain().await;
    }

    /// How long until something is due.
    fn due(&self) -> Duration {
        let again = self.attachments.values().filter_map(|attachment| match attachment {
            Attachment::Down { again, .. } => Some(*again),
            Attachment::Up(_) => None,
        });
        let instants =
            again.chain(self.news.tell_at).chain(self.keep_at).chain([self.look_at, self.compare_at]);
        let present = Instant::now();
        let next = instants.min().map_or(LOOK_EVERY, |at| at.saturating_duration_since(present));
        let core = self.core.poll_timeout().map(|at| Duration::from_millis(at.0.saturating_sub(now().0)));
        core.map_or(next, |core| core.min(next))
    }

    async fn time_passes(&mut self) {
        self.core.handle_timeout(now());
        let present = Instant::now();
        if self.news.tell_at.is_some_and(|at| at <= present) {
            self.tell_news().await;
        }
        if self.look_at <= present {
            self.look_at = present + LOOK_EVERY;
            self.look_for_devices();
        }
        if self.compare_at <= present {
            self.compare_wait = (self.compare_wait * 2).min(COMPARE_MAX);
            self.compare_at = present + self.compare_wait;
            let members = connected(&self.parts.overlay).await;
            if let Some(host) = some_of(members, 1).pop() {
                self.compare_with(host);
            }
        }
        let due = |attachment: &Attachment| matches!(attachment, Attachment::Down { again, .. } if *again <= present);
        let again: Vec<NetworkId> =
            self.attachments.iter().filter(|(_, attachment)| due(attachment)).map(|(id, _)| *id).collect();
        for id in again {
            self.revive(id).await;
        }
    }

    async fn take(&mut self, input: Input) {
        match input {
            // Whoever asked may be gone.
            Input::Lookup { text, reply } => drop(reply.send(self.core.directory().lookup(&text))),
            Input::Create { wish, reply } => {
                let created = self.create(wish);
                let kept = self.drain().await;
                drop(reply.send(created.and_then(|id| kept.map(|()| id))));
            }
            Input::Join { id, wish, reply } => {
                let joined = self.join(id, wish).await;
                let kept = self.drain().await;
                drop(reply.send(joined.and(kept)));
            }
            Input::Leave { id, reply } => {
                let device = self.leave(id);
                let _unkept = self.drain().await;
                drop(reply.send(device));
            }
            Input::Show(reply) => drop(reply.send(self.show())),
            Input::Digests(reply) => drop(reply.send(self.core.directory().digests())),
            Input::Items { ids, items_max, reply } => {
                drop(reply.send(self.core.directory().items(&ids, items_max)));
            }
            Input::Hear { items, reply } => {
                self.hear(&items).await;
                let _unkept = self.drain().await;
                // Whoever told may be gone.
                let _gone = reply.send(());
            }
            Input::Request { body, reply } => self.request(&body, reply).await,
            Input::Channel(event) => self.channel(event).await,
            Input::PeerUp(host) => {
                self.members.known.insert(host);
                self.compare_with(host);
            }
            Input::PutOut => self.put_out().await,
        }
    }

    fn create(&mut self, wish: NetworkWish) -> Result<NetworkId, Failure> {
        let mut nonce = [0; 16];
        fill_random(&mut nonce)?;
        let used: Vec<_> = device::routes().into_iter().map(|(prefix, _)| prefix).collect();
        let name = wish.name.clone();
        let id =
            self.core.create(now(), wish, nonce, &used).map_err(|refusal| create_failure(&name, &refusal))?;
        tracing::info!(network = %id, "the network {name} is made");
        Ok(id)
    }

    /// Does what the core wants; what is to be kept is on disk before anything after it is done, unless the disk refuses.
    async fn drain(&mut self) -> Result<(), Failure> {
        let (mut changed, mut is_new) = (BTreeSet::new(), false);
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Spread(item) => self.tell_soon(item, true),
                Output::PassOn(item) => self.tell_soon(item, false),
                Output::Keep { key, value } => {
                    self.unkept.insert(key, value);
                    is_new = true;
                }
                Output::Changed(id) => drop(changed.insert(id)),
            }
        }
        let kept = match is_new || self.keep_at.is_some_and(|at| at <= Instant::now()) {
            true => self.keep().await,
            false => Ok(()),
        };
        for id in changed {
            self.look_again(id).await;
        }
        kept
    }

    async fn keep(&mut self) -> Result<(), Failure> {
        let change = |(key, value): (&String, &Option<Vec<u8>>)| Change {
            room: Room::Networks,
            key: key.clone(),
            value: value.clone(),
        };
        let changes: Vec<Change> = self.unkept.iter().map(change).collect();
        let store = self.parts.store.clone();
        let error = match tokio::task::spawn_blocking(move || store.write(&changes)).await {
            Ok(Ok(())) => {
                self.unkept.clear();
                self.keep_at = None;
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!("the store's thread ended: {error}"),
        };
        tracing::error!(
            error,
            "this host's networks could not be kept; it is tried again, and a restart before may forget them"
        );
        self.keep_at = Some(Instant::now() + KEEP_AGAIN);
        Err(Failure::failed(
            "not_kept",
            format!("it is done, but a restart may forget it, since {error}; it is tried again"),
        )
        .remedy("free some space on the disk that holds the state directory, or mend it"))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        for id in self.attachments.keys() {
            self.parts.data.remove_network(*id);
        }
    }
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
