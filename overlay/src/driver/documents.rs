//! Documents: published here, taken from peers, spread.

use super::{Call, Driver, requests::DOCUMENTS};
use crate::{
    counters::count,
    document::{
        DOCUMENT_BYTES_MAX, Document, DocumentRefusal, OPERATORS, OPERATORS_MAX, TakenDocument,
        encode_operators,
    },
    event::Event,
    handle::PublishDocumentError,
    identity::{HostId, Key, Keypair, OverlayKey, pair_from_seed},
    protocol::{
        documents::{ANSWER_DOCUMENTS_MAX, Question, decode_answer, encode_answer},
        rpc::{RpcRefusal, RpcResponse},
    },
};

impl Driver {
    /// The key with which this host may sign documents of `kind`.
    fn document_signer(&self, kind: &str) -> Result<(Keypair, OverlayKey), PublishDocumentError> {
        let door = self.door.lock();
        let membership = door.membership.as_ref().ok_or(PublishDocumentError::NotAMember)?;
        let overlay = membership.overlay;
        if let Some(seed) = &membership.overlay_seed {
            return Ok((pair_from_seed(&seed.0), overlay));
        }
        let own = Key::of(door.pair());
        if self.documents.has_authority(own, kind, overlay, &door.revocations) {
            return Ok((door.pair().clone(), overlay));
        }
        let operators = self.documents.operators().into_iter().filter_map(|key| key.host()).collect();
        Err(PublishDocumentError::NotAnOperator { operators })
    }

    /// Node says something to every member.
    pub(super) fn publish_document(
        &mut self,
        kind: &str,
        version: u64,
        body: Vec<u8>,
    ) -> Result<(), PublishDocumentError> {
        if !self.documents.knows_kind(kind) {
            return Err(PublishDocumentError::UnknownKind(kind.to_owned()));
        }
        if body.len() > DOCUMENT_BYTES_MAX {
            return Err(PublishDocumentError::TooLarge(body.len()));
        }
        let (signer, overlay) = self.document_signer(kind)?;
        if let Some(held) =
            self.documents.get(kind).map(|held| held.version()).filter(|held| *held >= version)
        {
            return Err(PublishDocumentError::NotNewer { version, held });
        }
        let document = Document::issue(&signer, overlay, kind, version, self.clock.unix(), body);
        match self.take_document(None, document) {
            Ok(TakenDocument::New { .. }) => Ok(()),
            Ok(TakenDocument::Stale) => unreachable!("it is newer than what is held"),
            Err(DocumentRefusal::Content(reason)) => Err(PublishDocumentError::Content(reason)),
            Err(refusal) => unreachable!("a document made here with authority verifies: {refusal}"),
        }
    }

    /// The founder says who its operators are.
    pub(super) fn appoint(&mut self, operators: &[Key]) -> Result<(), PublishDocumentError> {
        if operators.len() > OPERATORS_MAX {
            return Err(PublishDocumentError::TooManyOperators(operators.len()));
        }
        let version = self.documents.get(OPERATORS).map_or(1, |held| held.version().saturating_add(1));
        self.publish_document(OPERATORS, version, encode_operators(operators))
    }

    /// Takes in a document from wherever it came; what is new is told to node and to every connected peer.
    fn take_document(
        &mut self,
        from: Option<HostId>,
        document: Document,
    ) -> Result<TakenDocument, DocumentRefusal> {
        let (kind, version) = (document.kind().to_owned(), document.version());
        let unix = self.clock.unix();
        let door = self.door.lock();
        // Between overlays nobody has a say.
        let Some(overlay) = door.overlay() else { return Ok(TakenDocument::Stale) };
        let taken = self.documents.take(overlay, document, unix, &door.revocations);
        drop(door);
        match &taken {
            Ok(TakenDocument::New { void }) => {
                tracing::info!(kind, version, "a new document holds");
                self.counters.documents_taken += 1;
                self.announce(Event::DocumentChanged(kind));
                for kind in void.clone() {
                    self.announce(Event::DocumentChanged(kind));
                }
                self.save_state();
                self.spread_documents(from);
            }
            Ok(TakenDocument::Stale) => self.counters.documents_stale += 1,
            Err(refusal) => {
                count(&mut self.counters.documents_refused, refusal.name());
                if from.is_some() {
                    tracing::warn!(kind, version, ?from, %refusal, "a document was refused");
                    let reason = refusal.to_string();
                    self.announce(Event::DocumentRefused { kind, version, from, reason });
                }
            }
        }
        taken
    }

    /// Somebody lost his say: what he said is void.
    pub(super) fn void_documents(&mut self) {
        let void = {
            let door = self.door.lock();
            let Some(overlay) = door.overlay() else { return };
            self.documents.drop_void(overlay, &door.revocations)
        };
        for kind in void {
            tracing::warn!(kind, "a document is void: its signer was put out");
            self.announce(Event::DocumentChanged(kind));
        }
    }

    fn own_question(&self) -> Vec<u8> {
        let (held, unwanted) = self.documents.tags();
        Question { held, unwanted }.encode()
    }

    /// Tells all but the one it came from what is held here; who has less asks.
    fn spread_documents(&mut self, but: Option<HostId>) {
        let up: Vec<HostId> = self.peers.up().filter(|host| Some(*host) != but).collect();
        for host in up {
            self.ask_for_documents(host);
        }
    }

    /// Asks a connected peer for what it has beyond this host, which tells it what this host has.
    pub(super) fn ask_for_documents(&mut self, host: HostId) {
        let question = self.own_question();
        self.send_call(host, DOCUMENTS, question, Call::Documents);
    }

    pub(super) fn on_documents_question(&mut self, peer: HostId, body: &[u8]) -> RpcResponse {
        let question = Question::decode(body).map_err(|_| RpcRefusal::Malformed)?;
        if self.documents.lacks(&question.held) {
            self.ask_for_documents(peer);
        }
        Ok(encode_answer(&self.documents.lacking(&question.held, &question.unwanted)))
    }

    pub(super) fn on_documents_answer(&mut self, peer: HostId, body: &[u8]) {
        let Ok(documents) = decode_answer(body) else {
            count(&mut self.counters.documents_refused, DocumentRefusal::Malformed.name());
            tracing::debug!(%peer, "an answer about documents was malformed");
            return;
        };
        let full = documents.len() == ANSWER_DOCUMENTS_MAX;
        let mut news = false;
        for document in documents {
            news |= matches!(self.take_document(Some(peer), document), Ok(TakenDocument::New { .. }));
        }
        // A peer whose full answers bring nothing new has no more to tell.
        if full && news {
            self.ask_for_documents(peer);
        }
    }
}
