//! Which hosts the data plane knows, and where: those that share a network with this host, described by their records.
//!
//! [`super::networks`] says which hosts are wanted; this task finds each one's description (the overlay's record, else the host itself is
//! asked) and tells the data plane its key and addresses. A changed record is told again; a host that shares no network any more is
//! forgotten. Owns: what the data plane was told of each. Refuses to know: paths and sessions.

use std::collections::BTreeSet;
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
                    Some(host) => self.forget_if_wanted(host),
                    None => return,
                },
                () = again => {}
            }
        }
    }

    /// A host whose record changed is told anew.
    fn forget_if_wanted(&mut self, host: HostId) {
        self.told.remove(&host);
    }

    /// Tells the data plane what it should know and does not; true if something could not be learned.
    async fn tell(&mut self) -> bool {
        let wanted = self.wanted.borrow_and_update().clone();
        let unwanted: Vec<HostId> = self.told.difference(&wanted).copied().collect();
        for host in unwanted {
            self.told.remove(&host);
            self.data.remove_peer(host);
        }
        let mut missing = false;
        for host in wanted {
            if self.told.contains(&host) {
                continue;
            }
            match self.learn(host).await {
                Some(peer) => {
                    if let Err(error) = self.data.set_peer(peer) {
                        tracing::error!(%host, %error, "the data plane does not take the host");
                    }
                    self.told.insert(host);
                }
                None => {
                    // Nothing is known of it any more: it may have been put out.
                    self.data.remove_peer(host);
                    missing = true;
                }
            }
        }
        missing
    }

    async fn learn(&self, host: HostId) -> Option<PeerConfig> {
        let record = self.overlay.record(host).await.ok().flatten();
        let payload = match record {
            Some(record) => record.payload.clone(),
            None => match self.overlay.call(host, protocols::DESCRIBE, Vec::new()).await {
                Ok(payload) => payload,
                Err(error) => {
                    tracing::debug!(%host, %error, "the host could not be asked for its description");
                    return None;
                }
            },
        };
        match Description::decode(&payload) {
            Ok(description) => Some(PeerConfig {
                host,
                static_key: description.data_key,
                addresses: description.data_addresses.to_vec(),
            }),
            Err(error) => {
                tracing::warn!(%host, %error, "the host's description is of no use");
                None
            }
        }
    }
}
