//! Which hosts the data plane knows, and where: those that share a network with this host, described by their records.
//!
//! [`super::networks`] says which hosts are wanted; this task finds each one's description (the overlay's record, else the host itself is
//! asked) and tells the data plane its key and addresses. The hosts of the overlay's view are told ahead: a link forms only where one is
//! wanted, but the first message of a host that is quicker to want it must not come from a stranger, or it is lost and costs a second.
//! A changed record is told again; a host that is neither wanted nor in view is forgotten.
//! Owns: what the data plane was told of each. Refuses to know: paths and sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use consort_overlay::{HostId, Overlay};
use consort_vswitch::{DataPlane, PeerConfig};
use tokio::sync::{mpsc, watch};

use super::describe::Description;
use super::protocols;

/// How long until a host of which nothing could be learned is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// News of changed records waiting. One that is lost is learned at the next change; records change each minute at the most.
const NEWS_MAX: usize = 256;

/// Where the overlay's news of changed records goes.
#[derive(Debug, Clone)]
pub struct PeerNews(mpsc::Sender<HostId>);

impl PeerNews {
    /// The record of a host changed.
    pub fn changed(&self, host: HostId) {
        if self.0.try_send(host).is_err() {
            tracing::debug!(%host, "the news of a changed record is left out");
        }
    }
}

/// The task.
#[derive(Debug)]
pub struct Peers {
    overlay: Overlay,
    data: DataPlane,
    wanted: watch::Receiver<BTreeSet<HostId>>,
    news: mpsc::Receiver<HostId>,
    told: BTreeSet<HostId>,
}

impl Peers {
    /// The task, and where news goes; `wanted` are the hosts the data plane should know.
    #[must_use]
    pub fn new(
        overlay: Overlay,
        data: DataPlane,
        wanted: watch::Receiver<BTreeSet<HostId>>,
    ) -> (Self, PeerNews) {
        let (sender, news) = mpsc::channel(NEWS_MAX);
        (Self { overlay, data, wanted, news, told: BTreeSet::new() }, PeerNews(sender))
    }

    /// Runs until the daemon ends.
    pub async fn run(mut self) {
        loop {
            let missing = self.tell().await;
            let again = async {
                if missing {
                    tokio::time::sleep(ASK_AGAIN).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                host = self.news.recv() => match host {
                    Some(host) => self.doubt(host).await,
                    None => return,
                },
                () = again => {}
            }
        }
    }

    /// What was told of a host may be wrong now; one of which nothing is known any more may have been put out.
    async fn doubt(&mut self, host: HostId) {
        self.told.remove(&host);
        if matches!(self.overlay.record(host).await, Ok(None)) {
            self.data.remove_peer(host);
        }
    }

    /// Tells the data plane what it should know and does not; true if something wanted could not be learned.
    async fn tell(&mut self) -> bool {
        let wanted = self.wanted.borrow_and_update().clone();
        let view = self.overlay.view().await.unwrap_or_default();
        // A host that has just begun has a record before it has described itself.
        let described = view.iter().filter(|record| !record.payload.is_empty());
        let in_view: BTreeMap<HostId, Vec<u8>> =
            described.map(|record| (record.host, record.payload.clone())).collect();
        let forgotten: Vec<HostId> = self
            .told
            .iter()
            .filter(|host| !wanted.contains(host) && !in_view.contains_key(host))
            .copied()
            .collect();
        for host in forgotten {
            self.told.remove(&host);
            self.data.remove_peer(host);
        }
        for (host, payload) in in_view {
            if !self.told.contains(&host) {
                self.tell_one(host, &payload);
            }
        }
        let mut missing = false;
        for host in wanted {
            if self.told.contains(&host) {
                continue;
            }
            match self.ask(host).await {
                Some(payload) => self.tell_one(host, &payload),
                None => {
                    // Nothing is known of it any more: it may have been put out.
                    self.data.remove_peer(host);
                    missing = true;
                }
            }
        }
        missing
    }

    fn tell_one(&mut self, host: HostId, payload: &[u8]) {
        let told = match Description::decode(payload) {
            Ok(description) => self
                .data
                .set_peer(PeerConfig::at(host, description.data_key, &description.data_addresses))
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = told {
            tracing::warn!(%host, %why, "the host's description is of no use");
        }
        // One that is of no use is not told again before it changes.
        self.told.insert(host);
    }

    /// A host that is not in view is asked itself.
    async fn ask(&self, host: HostId) -> Option<Vec<u8>> {
        let record = self.overlay.record(host).await.ok().flatten();
        if let Some(record) = record.filter(|record| !record.payload.is_empty()) {
            return Some(record.payload.clone());
        }
        match self.overlay.call(host, protocols::DESCRIBE, Vec::new()).await {
            Ok(payload) => Some(payload),
            Err(error) => {
                tracing::debug!(%host, %error, "the host could not be asked for its description");
                None
            }
        }
    }
}
