//! Requests in both directions, with their limits; bulk streams.

use super::{CALLS_MAX, Call, Driver, Waiting};
use crate::{
    behaviour::stream_protocol,
    counters::count,
    event::{Event, Reply},
    handle::{Answer, CallError, OpenError, Stream},
    identity::HostId,
    limit::Rate,
    protocol::{
        documents, revocations,
        rpc::{RpcProtocol, RpcRefusal, RpcRequest, RpcResponse},
    },
    streams::{Incoming, Opening},
    view::exchange,
};
use libp2p::{
    futures::FutureExt,
    request_response::{Event as RpcEvent, Message, OutboundFailure, ResponseChannel},
};

/// Swapping records. Once a connection and once in seconds after; the burst is for reconnects.
pub(super) const EXCHANGE: RpcProtocol = RpcProtocol {
    name: "overlay/exchange",
    request_bytes_max: exchange::MESSAGE_BYTES_MAX,
    response_bytes_max: exchange::MESSAGE_BYTES_MAX,
    rate: Rate { per_second: 2, burst: 16 },
};
/// Asking for revocations: follows an exchange at most.
pub(super) const REVOCATIONS: RpcProtocol = RpcProtocol {
    name: "overlay/revocations",
    request_bytes_max: revocations::QUESTION_BYTES_MAX,
    response_bytes_max: revocations::ANSWER_BYTES_MAX,
    rate: Rate { per_second: 1, burst: 16 },
};
/// Asking for documents, and telling which are held: at each new one, and after an exchange.
pub(super) const DOCUMENTS: RpcProtocol = RpcProtocol {
    name: "overlay/documents",
    request_bytes_max: documents::QUESTION_BYTES_MAX,
    response_bytes_max: documents::ANSWER_BYTES_MAX,
    rate: Rate { per_second: 2, burst: 32 },
};
/// What members ask each other below node.
pub(super) const OWN_PROTOCOLS: [RpcProtocol; 3] = [EXCHANGE, REVOCATIONS, DOCUMENTS];

impl Driver {
    fn configured(&self, name: &str) -> Option<RpcProtocol> {
        self.config.protocols.iter().find(|protocol| protocol.name == name).copied()
    }

    /// Node asks `host`.
    pub(super) fn call(
        &mut self,
        host: HostId,
        name: &'static str,
        body: Vec<u8>,
        answer: Answer<Result<Vec<u8>, CallError>>,
    ) {
        // An answer whose asker is gone is nobody's loss, here and below.
        let Some(protocol) = self.configured(name) else {
            return drop(answer.send(Err(CallError::NotConfigured(name))));
        };
        let (bytes, bytes_max) = (body.len(), protocol.request_bytes_max);
        if bytes > bytes_max {
            return drop(answer.send(Err(CallError::TooLarge { bytes, bytes_max })));
        }
        if host == *self.swarm.local_peer_id() {
            self.call_self(protocol, body, answer);
        } else {
            self.when_connected(host, Waiting::Call { protocol, body, answer });
        }
    }

    /// A host is its own peer for node, without a connection.
    fn call_self(
        &mut self,
        protocol: RpcProtocol,
        body: Vec<u8>,
        answer: Answer<Result<Vec<u8>, CallError>>,
    ) {
        let host = *self.swarm.local_peer_id();
        if self.tasks.len() >= CALLS_MAX {
            return drop(answer.send(Err(CallError::Busy)));
        }
        let (reply, answered) = Reply::new();
        match self.tell(Event::Request { from: host, protocol: protocol.name, body, reply }) {
            Err(_) => drop(answer.send(Err(CallError::Refused { host, refusal: RpcRefusal::Busy }))),
            Ok(()) => self.tasks.push(
                async move {
                    let outcome = tokio::time::timeout(crate::behaviour::REQUEST_TIMEOUT, answered).await;
                    let outcome = match outcome {
                        Err(_) => Err(CallError::Timeout(host)),
                        Ok(Err(_)) => Err(CallError::Refused { host, refusal: RpcRefusal::Unanswered }),
                        Ok(Ok(response)) => response.map_err(|refusal| CallError::Refused { host, refusal }),
                    };
                    drop(answer.send(outcome));
                }
                .boxed(),
            ),
        }
    }

    /// Sends a request over a connection that stands.
    pub(super) fn send_call(&mut self, host: HostId, protocol: RpcProtocol, body: Vec<u8>, call: Call) {
        if self.calls.len() >= CALLS_MAX {
            if let Call::Node(answer) = call {
                drop(answer.send(Err(CallError::Busy)));
            }
            return;
        }
        if matches!(call, Call::Node(_)) {
            let now = self.now();
            self.peers.used(&host, now);
        }
        let id = self.swarm.behaviour_mut().rpc.send_request(&host, RpcRequest { protocol, body: Ok(body) });
        self.calls.insert(id, (host, call));
    }

    pub(super) fn on_rpc_event(&mut self, event: RpcEvent<RpcRequest, RpcResponse>) {
        match event {
            RpcEvent::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.on_request(peer, request, channel);
            }
            RpcEvent::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some((host, call)) = self.calls.remove(&request_id) {
                    self.on_response(
                        host,
                        call,
                        response.map_err(|refusal| CallError::Refused { host, refusal }),
                    );
                }
            }
            RpcEvent::OutboundFailure { request_id, error, .. } => {
                if let Some((host, call)) = self.calls.remove(&request_id) {
                    let error = match error {
                        OutboundFailure::Timeout => CallError::Timeout(host),
                        OutboundFailure::UnsupportedProtocols => {
                            CallError::Refused { host, refusal: RpcRefusal::UnknownProtocol }
                        }
                        OutboundFailure::DialFailure
                        | OutboundFailure::ConnectionClosed
                        | OutboundFailure::Io(_) => CallError::Lost(host),
                    };
                    self.on_response(host, call, Err(error));
                }
            }
            RpcEvent::InboundFailure { peer, error, .. } => {
                self.counters.requests_broken += 1;
                tracing::debug!(%peer, %error, "a request broke");
            }
            RpcEvent::ResponseSent { .. } => {}
        }
    }

    fn on_response(&mut self, host: HostId, call: Call, outcome: Result<Vec<u8>, CallError>) {
        match call {
            Call::Node(answer) => drop(answer.send(outcome)),
            Call::Exchange { told } => self.on_exchange_answer(host, told, outcome.ok().as_deref()),
            Call::Revocations => {
                if let Ok(body) = outcome {
                    self.on_revocations_answer(host, &body);
                }
            }
            Call::Documents => {
                if let Ok(body) = outcome {
                    self.on_documents_answer(host, &body);
                }
            }
        }
    }

    fn on_request(&mut self, peer: HostId, request: RpcRequest, channel: ResponseChannel<RpcResponse>) {
        let now = self.now();
        let protocol = request.protocol;
        let admitted = if self.buckets.allows((peer, protocol.name), protocol.rate, now) {
            request.body
        } else {
            Err(RpcRefusal::TooOften)
        };
        let body = match admitted {
            Ok(body) => body,
            Err(refusal) => return self.respond(channel, Err(refusal)),
        };
        if protocol == EXCHANGE {
            let response = self.on_exchange(peer, &body);
            return self.respond(channel, response);
        }
        if protocol == DOCUMENTS {
            let response = self.on_documents_question(peer, &body);
            return self.respond(channel, response);
        }
        if protocol == REVOCATIONS {
            let response =
                revocations::answer(&self.door.lock().revocations, &body).map_err(|_| RpcRefusal::Malformed);
            return self.respond(channel, response);
        }
        if self.owed.len() >= self.config.limits.requests_open_max {
            return self.respond(channel, Err(RpcRefusal::Busy));
        }
        self.peers.used(&peer, now);
        let (reply, answered) = Reply::new();
        match self.tell(Event::Request { from: peer, protocol: protocol.name, body, reply }) {
            Err(_) => self.respond(channel, Err(RpcRefusal::Busy)),
            Ok(()) => {
                self.counters.requests_taken += 1;
                let owed = async move {
                    let answer = answered.await.unwrap_or(Err(RpcRefusal::Unanswered));
                    (protocol, channel, answer)
                };
                self.owed.push(owed.boxed());
            }
        }
    }

    /// Node has answered, or dropped the request.
    pub(super) fn on_answered(
        &mut self,
        protocol: RpcProtocol,
        channel: ResponseChannel<RpcResponse>,
        answer: RpcResponse,
    ) {
        let response = match answer {
            Ok(body) if body.len() > protocol.response_bytes_max => {
                tracing::error!(
                    protocol = protocol.name,
                    bytes = body.len(),
                    "node's answer is larger than its protocol allows"
                );
                Err(RpcRefusal::ResponseTooLarge)
            }
            other => other,
        };
        self.respond(channel, response);
    }

    fn respond(&mut self, channel: ResponseChannel<RpcResponse>, response: RpcResponse) {
        if let Err(refusal) = response {
            count(&mut self.counters.requests_refused, refusal);
        }
        if self.swarm.behaviour_mut().rpc.send_response(channel, response).is_err() {
            self.counters.requests_broken += 1;
        }
    }

    pub(super) fn on_stream(&mut self, Incoming { host, protocol, stream }: Incoming) {
        let now = self.now();
        self.peers.used(&host, now);
        let stream = Stream::new(stream, self.peers.hold(&host));
        match self.tell(Event::Stream { from: host, protocol, stream }) {
            Ok(()) => self.counters.streams_taken += 1,
            Err(_) => self.counters.streams_refused += 1,
        }
    }

    pub(super) fn open_stream(
        &mut self,
        host: HostId,
        name: &'static str,
        answer: Answer<Result<Stream, OpenError>>,
    ) {
        if self.config.streams.contains(&name) {
            self.when_connected(host, Waiting::Stream(name, answer));
        } else {
            drop(answer.send(Err(OpenError::NotConfigured(name))));
        }
    }

    /// Opens a stream over a connection that stands.
    pub(super) fn send_stream(
        &mut self,
        host: HostId,
        name: &'static str,
        answer: Answer<Result<Stream, OpenError>>,
    ) {
        let now = self.now();
        self.peers.used(&host, now);
        let protocol = stream_protocol(self.overlay.map(|key| key.id()), name);
        let opening = Opening::new(host, protocol, self.peers.hold(&host), answer);
        self.swarm.behaviour_mut().streams.open(opening);
    }
}
