//! Requests and answers, by protocol name.
//!
//! One libp2p request-response protocol carries all of node's protocols, each with its own limits; a request names its protocol first, so that
//! its size is judged before its body is read.
//!
//! | message | layout |
//! |---|---|
//! | request | name length (1, at most [`NAME_BYTES_MAX`]), name, body length (4), body |
//! | answer | `0`, body length (4), body; or a refusal's code |
//!
//! A body is read as it arrives: a peer that promises much and sends little costs little.

use crate::{bytes::Malformed, limit::Rate};
use libp2p::{
    StreamProtocol,
    futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    request_response::Codec,
};
use std::{collections::BTreeMap, io, sync::Arc};

/// The longest protocol name.
pub const NAME_BYTES_MAX: usize = 32;
/// No protocol may allow larger bodies: what is larger is a stream's business.
pub const BODY_BYTES_MAX: usize = 1 << 20;
const ANSWERED: u8 = 0;

/// One of node's request protocols, and what its peers may ask of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RpcProtocol {
    /// Lower-case letters, digits, `/`, `-` and `.`; at most [`NAME_BYTES_MAX`]; not starting with `overlay/`.
    pub name: &'static str,
    /// The largest request body in bytes.
    pub request_bytes_max: usize,
    /// The largest answer body in bytes.
    pub response_bytes_max: usize,
    /// How often one peer may ask.
    pub rate: Rate,
}

/// Why a peer did not answer a request with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RpcRefusal {
    /// It does not know the protocol.
    #[error("the host does not know this protocol")]
    UnknownProtocol,
    /// This host asks too often.
    #[error("asked more often than the host allows")]
    TooOften,
    /// It has as many requests at hand as it can take.
    #[error("the host is busy")]
    Busy,
    /// The request is larger than the protocol allows.
    #[error("the request is larger than the protocol allows")]
    RequestTooLarge,
    /// Its answer would have been larger than the protocol allows.
    #[error("the host's answer was larger than the protocol allows")]
    ResponseTooLarge,
    /// It dropped the request.
    #[error("the host dropped the request without an answer")]
    Unanswered,
    /// The body is not what the protocol says.
    #[error("the host could not read the request")]
    Malformed,
}

impl RpcRefusal {
    const CODES: [(u8, Self); 7] = [
        (1, Self::UnknownProtocol),
        (2, Self::TooOften),
        (3, Self::Busy),
        (4, Self::RequestTooLarge),
        (5, Self::ResponseTooLarge),
        (6, Self::Unanswered),
        (7, Self::Malformed),
    ];

    fn code(self) -> u8 {
        let found = Self::CODES.iter().find(|(_, refusal)| *refusal == self);
        found.expect("every refusal has a code").0
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        Self::CODES.iter().find(|(known, _)| *known == code).map(|(_, refusal)| *refusal).ok_or(Malformed)
    }
}

/// What arrives at the driver. A request that names an unknown protocol or is too large arrives as its refusal, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RpcRequest {
    pub(crate) protocol: RpcProtocol,
    pub(crate) body: Result<Vec<u8>, RpcRefusal>,
}

pub(crate) type RpcResponse = Result<Vec<u8>, RpcRefusal>;

/// All protocols this node answers, by name.
pub(crate) type Protocols = Arc<BTreeMap<&'static str, RpcProtocol>>;

/// Stands in for the protocol of a request that named none of ours: nothing of it was read.
const UNKNOWN: RpcProtocol = RpcProtocol {
    name: "unknown",
    request_bytes_max: 0,
    response_bytes_max: 0,
    rate: Rate { per_second: 1, burst: 1 },
};

/// One request's codec; libp2p clones it for each stream, so it remembers what the answer to its own request may hold.
#[derive(Debug, Clone)]
pub(crate) struct RpcCodec {
    protocols: Protocols,
    response_bytes_max: usize,
}

impl RpcCodec {
    pub(crate) fn new(protocols: Protocols) -> Self {
        Self { protocols, response_bytes_max: 0 }
    }
}

/// Reads exactly `len` bytes, growing with what arrives and not with what was promised.
async fn read_exactly<T: AsyncRead + Unpin + Send>(io: &mut T, len: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let limit = u64::try_from(len).expect("usize fits 64 bits");
    io.take(limit).read_to_end(&mut body).await?;
    if body.len() == len { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn read_len<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<usize> {
    let mut len = [0; 4];
    io.read_exact(&mut len).await?;
    usize::try_from(u32::from_be_bytes(len)).map_err(io::Error::other)
}

async fn write_counted<T: AsyncWrite + Unpin + Send>(io: &mut T, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len()).expect("bodies are bounded by BODY_BYTES_MAX");
    io.write_all(&len.to_be_bytes()).await?;
    io.write_all(body).await
}

impl Codec for RpcCodec {
    type Protocol = StreamProtocol;
    type Request = RpcRequest;
    type Response = RpcResponse;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<RpcRequest>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut name_len = [0];
        io.read_exact(&mut name_len).await?;
        let name_len = usize::from(name_len[0]);
        if name_len > NAME_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Malformed));
        }
        let mut name = [0; NAME_BYTES_MAX];
        let name = &mut name[..name_len];
        io.read_exact(name).await?;
        let known = std::str::from_utf8(name).ok().and_then(|name| self.protocols.get(name));
        let Some(protocol) = known.copied() else {
            return Ok(RpcRequest { protocol: UNKNOWN, body: Err(RpcRefusal::UnknownProtocol) });
        };
        let len = read_len(io).await?;
        if len > protocol.request_bytes_max {
            return Ok(RpcRequest { protocol, body: Err(RpcRefusal::RequestTooLarge) });
        }
        Ok(RpcRequest { protocol, body: Ok(read_exactly(io, len).await?) })
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<RpcResponse>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut code = [0];
        io.read_exact(&mut code).await?;
        if code[0] != ANSWERED {
            let refusal = RpcRefusal::from_code(code[0]);
            return refusal
                .map(Err)
                .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed));
        }
        let len = read_len(io).await?;
        if len > self.response_bytes_max {
            return Ok(Err(RpcRefusal::ResponseTooLarge));
        }
        Ok(Ok(read_exactly(io, len).await?))
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: RpcRequest,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.response_bytes_max = request.protocol.response_bytes_max;
        let name = request.protocol.name.as_bytes();
        io.write_all(&[u8::try_from(name.len()).expect("names are bounded by NAME_BYTES_MAX")]).await?;
        io.write_all(name).await?;
        write_counted(io, &request.body.map_err(io::Error::other)?).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: RpcResponse,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match response {
            Ok(body) => {
                io.write_all(&[ANSWERED]).await?;
                write_counted(io, &body).await
            }
            Err(refusal) => io.write_all(&[refusal.code()]).await,
        }
    }
}

#[cfg(test)]
mod tests;
