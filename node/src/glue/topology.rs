//! The topology that holds, told to all who act by it.
//!
//! The operator's file travels as a document of the overlay ([`consort_overlay::Document`]): signed, numbered, checked by each node by itself with
//! [`check`] before it is taken and passed on. What holds is the newest that passed; where there is none, everybody may link with everybody.
//! Owns: the kind's name and check, the parsed form of what holds, the links that adaptation added, the last refusal. Refuses to know: who
//! enforces it; they read [`Topologies::watch`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use consort_overlay::{Document, DocumentKind, HostId, Overlay, PublishDocumentError, Stopped};
use tokio::sync::watch;

use crate::topology::{Fault, Pair, Topology};

/// The overlay's documents that hold the topology.
pub const KIND: DocumentKind = DocumentKind { name: "topology", check };

/// Whether a document is a topology; else why not, by its first fault.
///
/// # Errors
/// What is wrong, with its line and remedy.
pub fn check(body: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("it is no text: {error}"))?;
    Topology::parse(text).map(drop).map_err(|faults| first_of(&faults))
}

/// The first fault, and how many more there are.
#[must_use]
pub fn first_of(faults: &[Fault]) -> String {
    let first = faults.first().map_or_else(|| "it is refused".to_owned(), ToString::to_string);
    match faults.len() {
        0 | 1 => first,
        more => format!("{first} (and {} more)", more - 1),
    }
}

/// A document that was offered and not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its number.
    pub version: u64,
    /// Who offered it.
    pub from: Option<HostId>,
    /// Why it was not taken.
    pub reason: String,
}

/// What holds, and the way to change it. Clones share it.
#[derive(Debug, Clone)]
pub struct Topologies {
    overlay: Overlay,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: watch::Sender<Arc<Topology>>,
    /// What `current` was read from. Whoever changes both holds it from asking the overlay on, so that no older answer comes last.
    document: tokio::sync::Mutex<Option<Arc<Document>>>,
    refused: Mutex<Option<Refused>>,
}

impl Topologies {
    /// Before anything was heard: no topology.
    #[must_use]
    pub fn new(overlay: Overlay) -> Self {
        let (current, _) = watch::channel(Arc::new(Topology::default()));
        Self {
            overlay,
            shared: Arc::new(Shared {
                current,
                document: tokio::sync::Mutex::default(),
                refused: Mutex::default(),
            }),
        }
    }

    /// What holds, now and from then on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Topology>> {
        self.shared.current.subscribe()
    }

    /// What holds now.
    #[must_use]
    pub fn current(&self) -> Arc<Topology> {
        Arc::clone(&self.shared.current.borrow())
    }

    /// What holds now, and the document it was read from.
    pub async fn held(&self) -> (Option<Arc<Document>>, Arc<Topology>) {
        let document = self.shared.document.lock().await;
        (document.clone(), self.current())
    }

    /// The document that the overlay holds; it may be newer than what was read.
    ///
    /// # Errors
    /// If the overlay ended.
    pub async fn document(&self) -> Result<Option<Arc<Document>>, Stopped> {
        self.overlay.document(KIND.name).await
    }

    /// Looks at what the overlay holds now; if that is another than before, links that adaptation added to the other are gone with it.
    pub async fn renew(&self) {
        let mut read = self.shared.document.lock().await;
        let Ok(document) = self.document().await else { return };
        let topology = match document.as_ref().map(|document| std::str::from_utf8(document.body())) {
            None => Topology::default(),
            Some(text) => match text
                .map_err(|error| error.to_string())
                .and_then(|text| Topology::parse(text).map_err(|faults| first_of(&faults)))
            {
                Ok(topology) => topology,
                // The overlay takes none that has not passed the same check.
                Err(reason) => return tracing::error!(reason, "the topology that holds cannot be read"),
            },
        };
        let version = document.as_ref().map(|document| document.version());
        *read = document;
        let changed = self.shared.current.send_if_modified(|held| {
            let same = **held == topology.with_added(held.added().clone());
            if !same {
                *held = Arc::new(topology);
            }
            !same
        });
        if changed {
            tracing::info!(?version, "another topology holds");
        }
    }

    /// A document was offered and not taken.
    pub fn refuse(&self, refused: Refused) {
        let Refused { version, from, reason } = &refused;
        tracing::warn!(version, ?from, reason, "a topology is refused: what held before holds on");
        *self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
    }

    /// The last document that was not taken.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adaptation has these links beyond what the operator wrote, and no others.
    pub fn set_added(&self, added: BTreeSet<Pair>) {
        self.shared.current.send_if_modified(|held| {
            let changes = *held.added() != added;
            if changes {
                *held = Arc::new(held.with_added(added));
            }
            changes
        });
    }

    /// Says to every member that `text` holds from now on; gives its number.
    ///
    /// # Errors
    /// If this host may not, or the text is no topology.
    pub async fn apply(&self, text: &str) -> Result<u64, PublishDocumentError> {
        let version = self.document().await?.map_or(1, |held| held.version().saturating_add(1));
        self.overlay.publish_document(KIND.name, version, text.as_bytes().to_vec()).await?;
        self.renew().await;
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_names_the_first_fault() {
        assert_eq!(check(b"shape = \"mesh\"\n"), Ok(()));
        let said = check(b"shape = \"mehs\"\n").unwrap_err();
        assert_eq!(said, "line 1: `mehs` is no shape; did you mean `mesh`?");
        assert!(check(&[0xff]).unwrap_err().contains("no text"));
    }
}
