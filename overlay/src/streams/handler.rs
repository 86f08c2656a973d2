//! The streams of one connection.

use super::{Names, Opening};
use crate::handle::{OpenError, Stream};
use libp2p::{
    StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

/// Negotiates a name and nothing else: the stream is node's from there.
#[derive(Debug)]
pub(crate) struct Named(Vec<StreamProtocol>);

impl UpgradeInfo for Named {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

type Negotiated = (libp2p::Stream, StreamProtocol);

impl InboundUpgrade<libp2p::Stream> for Named {
    type Output = Negotiated;
    type Error = Infallible;
    type Future = Ready<Result<Negotiated, Infallible>>;

    fn upgrade_inbound(self, stream: libp2p::Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

impl OutboundUpgrade<libp2p::Stream> for Named {
    type Output = Negotiated;
    type Error = Infallible;
    type Future = Ready<Result<Negotiated, Infallible>>;

    fn upgrade_outbound(self, stream: libp2p::Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

/// One connection's part.
#[derive(Debug)]
pub(crate) struct Handler {
    names: Names,
    opening: VecDeque<Opening>,
    /// Emptied before the connection negotiates on, so it holds one or two.
    incoming: VecDeque<(libp2p::Stream, &'static str)>,
}

impl Handler {
    pub(super) fn new(names: Names) -> Self {
        Self { names, opening: VecDeque::new(), incoming: VecDeque::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Opening;
    type ToBehaviour = (libp2p::Stream, &'static str);
    type InboundProtocol = Named;
    type OutboundProtocol = Named;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opening;

    fn listen_protocol(&self) -> SubstreamProtocol<Named> {
        SubstreamProtocol::new(Named(self.names.iter().map(|(name, _)| name.clone()).collect()), ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Named, Opening, Self::ToBehaviour>> {
        // Filled only by calls of the connection, which polls again after them: no waker is needed.
        if let Some(incoming) = self.incoming.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(incoming));
        }
        let Some(opening) = self.opening.pop_front() else { return Poll::Pending };
        let protocol = SubstreamProtocol::new(Named(vec![opening.protocol.clone()]), opening);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, opening: Opening) {
        self.opening.push_back(opening);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Named, Named, (), Opening>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, name),
                ..
            }) => {
                let known = self.names.iter().find(|(known, _)| *known == name);
                let (_, protocol) = known.expect("only names that were offered are negotiated");
                self.incoming.push_back((stream, protocol));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info,
            }) => {
                let hold = info.hold.clone();
                info.answer(Ok(Stream::new(stream, hold)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let host = info.host;
                info.answer(Err(match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::UnknownProtocol(host),
                    StreamUpgradeError::Timeout | StreamUpgradeError::Io(_) => OpenError::Lost(host),
                    StreamUpgradeError::Apply(never) => match never {},
                }));
            }
            _ => {}
        }
    }
}
