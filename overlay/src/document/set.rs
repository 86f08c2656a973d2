//! The documents a host holds: of each kind the newest that passed every check.
//!
//! Owns the rules of authority, order and acceptance. Refuses to know what a body says (its kind's check does) and how documents travel.

use super::{Document, DocumentKind, KINDS_MAX, OPERATORS, decode_operators};
use crate::{
    clock::UnixSeconds,
    identity::{Key, OverlayKey},
    membership::Revocations,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// Most operators: each is a person or a machine that may reshape the whole overlay.
pub const OPERATORS_MAX: usize = 16;
/// Most documents remembered as bad, so that they are not fetched again at each exchange; the oldest is forgotten first.
pub(crate) const REFUSED_MAX: usize = 8;

/// Why a document was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentRefusal {
    /// The bytes are no document.
    #[error("its form is not that of a document")]
    Malformed,
    /// This version of node knows no such kind.
    #[error("documents of its kind are not known here")]
    Kind,
    /// Neither the overlay key nor an operator's.
    #[error("its signer {0} is no operator of this overlay")]
    Authority(Key),
    /// The signature is not the signer's.
    #[error("its signature is wrong")]
    Signature,
    /// Signed in the future: one of the clocks is wrong.
    #[error("it was signed in the future ({} s since 1970): one of the two clocks is wrong", .0.0)]
    NotYet(UnixSeconds),
    /// What it says is wrong.
    #[error("{0}")]
    Content(String),
}

impl DocumentRefusal {
    /// For counting.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Kind => "kind",
            Self::Authority(_) => "authority",
            Self::Signature => "signature",
            Self::NotYet(_) => "not-yet",
            Self::Content(_) => "content",
        }
    }
}

/// What became of a document that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TakenDocument {
    /// It holds from now on; documents of these kinds are void by it, being signed by who is no operator any more.
    New { void: Vec<String> },
    /// One as new or newer is held.
    Stale,
}

/// Which document of a kind a host holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) kind: String,
    pub(crate) version: u64,
    pub(crate) digest: [u8; 16],
}

impl Tag {
    /// Of two of one kind, the greater is the newer.
    fn order(&self) -> (u64, [u8; 16]) {
        (self.version, self.digest)
    }
}

#[derive(Debug)]
struct Held {
    document: Arc<Document>,
    tag: Tag,
}

/// All that is held.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    kinds: Vec<DocumentKind>,
    held: BTreeMap<String, Held>,
    refused: VecDeque<[u8; 16]>,
}

impl Documents {
    /// An empty set for these kinds and the list of operators.
    pub(crate) fn new(mut kinds: Vec<DocumentKind>) -> Self {
        kinds.push(DocumentKind { name: OPERATORS, check: check_operators });
        Self { kinds, ..Self::default() }
    }

    /// Takes over what a state file holds, dropping what does not hold any more.
    pub(crate) fn restore(
        &mut self,
        overlay: OverlayKey,
        stored: Vec<Document>,
        now: UnixSeconds,
        revocations: &Revocations,
    ) {
        // The operators first: the others' authority hangs on them.
        let (first, others): (Vec<_>, Vec<_>) =
            stored.into_iter().take(KINDS_MAX).partition(|document| document.kind == OPERATORS);
        for document in first.into_iter().chain(others) {
            let kind = document.kind.clone();
            if let Err(refusal) = self.take(overlay, document, now, revocations) {
                tracing::warn!(kind, %refusal, "a stored document was dropped");
            }
        }
    }

    /// Checks and keeps it, if it is newer than what is held.
    pub(crate) fn take(
        &mut self,
        overlay: OverlayKey,
        document: Document,
        now: UnixSeconds,
        revocations: &Revocations,
    ) -> Result<TakenDocument, DocumentRefusal> {
        let kind = self.kinds.iter().find(|kind| kind.name == document.kind).ok_or(DocumentRefusal::Kind)?;
        let digest = document.digest();
        let tag = Tag { kind: document.kind.clone(), version: document.version, digest };
        // What is not new costs no signature check.
        if self.held.get(&document.kind).is_some_and(|held| held.tag.order() >= tag.order()) {
            return Ok(TakenDocument::Stale);
        }
        if !self.has_authority(document.signer, &document.kind, overlay, revocations) {
            return Err(DocumentRefusal::Authority(document.signer));
        }
        if !document.is_signed(overlay) {
            return Err(DocumentRefusal::Signature);
        }
        if document.issued.is_ahead_of(now) {
            return Err(DocumentRefusal::NotYet(document.issued));
        }
        if let Err(reason) = (kind.check)(&document.body) {
            if self.refused.len() >= REFUSED_MAX {
                self.refused.pop_front();
            }
            self.refused.push_back(digest);
            return Err(DocumentRefusal::Content(reason));
        }
        self.held.insert(document.kind.clone(), Held { document: Arc::new(document), tag });
        Ok(TakenDocument::New { void: self.drop_void(overlay, revocations) })
    }

    /// Drops what was signed by who has no authority any more; gives the kinds.
    pub(crate) fn drop_void(&mut self, overlay: OverlayKey, revocations: &Revocations) -> Vec<String> {
        let void: Vec<String> = self
            .held
            .iter()
            .filter(|(kind, held)| !self.has_authority(held.document.signer, kind, overlay, revocations))
            .map(|(kind, _)| kind.clone())
            .collect();
        void.iter().for_each(|kind| drop(self.held.remove(kind)));
        void
    }

    /// Whether `signer` may sign documents of `kind`.
    pub(crate) fn has_authority(
        &self,
        signer: Key,
        kind: &str,
        overlay: OverlayKey,
        revocations: &Revocations,
    ) -> bool {
        let is_operator = || kind != OPERATORS && self.operators().contains(&signer);
        signer == overlay.0 || (is_operator() && !revocations.covers(signer))
    }

    /// Whom the founder made operators.
    pub(crate) fn operators(&self) -> Vec<Key> {
        let list = self.held.get(OPERATORS).and_then(|held| decode_operators(held.document.body()).ok());
        list.unwrap_or_default()
    }

    /// Everything belonged to another overlay.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
        self.refused.clear();
    }

    pub(crate) fn knows_kind(&self, name: &str) -> bool {
        self.kinds.iter().any(|kind| kind.name == name)
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&Arc<Document>> {
        self.held.get(kind).map(|held| &held.document)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.held.values().map(|held| &held.document)
    }

    /// What is held, and what is not wanted.
    pub(crate) fn tags(&self) -> (Vec<Tag>, Vec<[u8; 16]>) {
        (self.held.values().map(|held| held.tag.clone()).collect(), self.refused.iter().copied().collect())
    }

    /// What a host with these tags lacks, the operators first.
    pub(crate) fn lacking(&self, theirs: &[Tag], unwanted: &[[u8; 16]]) -> Vec<Arc<Document>> {
        let is_newer = |held: &&Held| {
            let known = theirs.iter().find(|tag| tag.kind == held.tag.kind);
            known.is_none_or(|tag| tag.order() < held.tag.order()) && !unwanted.contains(&held.tag.digest)
        };
        let mut lacking: Vec<&Held> = self.held.values().filter(is_newer).collect();
        lacking.sort_by_key(|held| held.tag.kind != OPERATORS);
        lacking.into_iter().map(|held| Arc::clone(&held.document)).collect()
    }

    /// Whether a host with these tags has something newer.
    pub(crate) fn lacks(&self, theirs: &[Tag]) -> bool {
        let refused: BTreeSet<&[u8; 16]> = self.refused.iter().collect();
        theirs.iter().any(|tag| {
            let held = self.held.get(&tag.kind);
            let newer = held.is_none_or(|held| held.tag.order() < tag.order());
            newer && self.knows_kind(&tag.kind) && !refused.contains(&tag.digest)
        })
    }

    /// Equal in two hosts exactly when they hold the same.
    pub(crate) fn digest(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_derive_key("consort 2026 documents digest");
        for held in self.held.values() {
            hasher.update(&held.tag.digest);
        }
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        digest
    }
}

fn check_operators(body: &[u8]) -> Result<(), String> {
    decode_operators(body).map(drop).map_err(|_| "it is no list of operators".to_owned())
}
