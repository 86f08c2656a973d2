//! The client of the API, over the Unix socket. Every command and the demo go through it.
//!
//! One connection per request: a local connection costs less than keeping track of one.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::api::{ErrorBody, STREAM_UPGRADE};
use crate::failure::Failure;

/// The longest answer that is read into memory: a thousand machines with their interfaces are a tenth of it.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A stream to a machine's session: the frames of `exec` or `console`.
pub type Stream = TokioIo<Upgraded>;

/// Where a node's API is.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The API at this socket. Nothing is opened yet.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET path`.
    ///
    /// # Errors
    /// If no daemon answers, or it answers with a failure.
    pub async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, Failure> {
        self.request(Method::GET, path, &()).await
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// If no daemon answers, or it answers with a failure.
    pub async fn post<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<A, Failure> {
        self.request(Method::POST, path, body).await
    }

    /// `DELETE path`.
    ///
    /// # Errors
    /// If no daemon answers, or it answers with a failure.
    pub async fn delete<A: DeserializeOwned>(&self, path: &str) -> Result<A, Failure> {
        self.request(Method::DELETE, path, &()).await
    }

    /// `GET path`, giving each piece of the answer to `piece` as it comes.
    ///
    /// # Errors
    /// If no daemon answers, it answers with a failure, or the answer breaks off.
    pub async fn follow(
        &self,
        path: &str,
        mut piece: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        let request = self.head(Method::GET, path).body(Full::new(Bytes::new())).map_err(not_a_request)?;
        let mut body = self.send(request).await?.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broke_off(&error))?;
            if let Some(data) = frame.data_ref() {
                piece(data).map_err(|error| {
                    Failure::failed("output", format!("cannot write the answer: {error}"))
                })?;
            }
        }
        Ok(())
    }

    /// `POST path` with a JSON body, turning the connection into a stream.
    ///
    /// # Errors
    /// If no daemon answers, or it answers with a failure.
    pub async fn upgrade(&self, path: &str, body: &impl Serialize) -> Result<Stream, Failure> {
        let request = self
            .head(Method::POST, path)
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, STREAM_UPGRADE)
            .header(CONTENT_TYPE, "application/json")
            .body(json(body)?)
            .map_err(not_a_request)?;
        let response = self.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::failed(
                "no_stream",
                format!("the daemon answered {} instead of a stream", response.status()),
            ));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| broke_off(&error))?;
        Ok(TokioIo::new(upgraded))
    }

    async fn request<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<A, Failure> {
        let builder = self.head(method.clone(), path);
        let request = if method == Method::POST {
            builder.header(CONTENT_TYPE, "application/json").body(json(body)?)
        } else {
            builder.body(Full::new(Bytes::new()))
        };
        let response = self.send(request.map_err(not_a_request)?).await?;
        let bytes = collect(response.into_body()).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::failed(
                "answer",
                format!("the daemon's answer to {path} is not what this version expects: {error}"),
            )
            .remedy("use the same version of consort for the daemon and the command")
        })
    }

    fn head(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        Request::builder().method(method).uri(path).header(HOST, "consort")
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(&error))?;
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let bytes = collect(response.into_body()).await?;
        Err(match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => body.into_failure(status.as_u16()),
            Err(_) => Failure::failed(
                "answer",
                format!("the daemon answered {status}: {}", String::from_utf8_lossy(&bytes)),
            ),
        })
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::unreachable(format!("no daemon answers on {}: {error}", self.socket.display()))
            .remedy("start one with `consort node`, or name its socket with --socket or CONSORT_SOCKET")
    }
}

/// One segment of a path, with everything encoded that is not a plain character (RFC 3986 section 2.3).
#[must_use]
pub fn segment(name: &str) -> String {
    use std::fmt::Write;
    name.bytes().fold(String::with_capacity(name.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
        encoded
    })
}

fn json(body: &impl Serialize) -> Result<Full<Bytes>, Failure> {
    serde_json::to_vec(body)
        .map(|bytes| Full::new(Bytes::from(bytes)))
        .map_err(|error| Failure::failed("request", format!("cannot write the request: {error}")))
}

fn not_a_request(error: hyper::http::Error) -> Failure {
    Failure::input("request", format!("this makes no request: {error}"))
}

fn broke_off(error: &dyn std::fmt::Display) -> Failure {
    Failure::failed("answer", format!("the daemon's answer broke off: {error}"))
}

async fn collect(body: Incoming) -> Result<Bytes, Failure> {
    match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::failed(
            "answer",
            format!("the daemon's answer is longer than {ANSWER_BYTES_MAX} bytes"),
        )),
        Err(error) => Err(broke_off(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_daemon_is_exit_code_4_and_names_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(&dir.path().join("consort.sock"));
        let failure = client.get::<serde_json::Value>("/v1/status").await.unwrap_err();
        assert_eq!(failure.exit().number(), 4);
        assert!(failure.message.contains("consort.sock"), "{failure}");
        assert!(failure.to_string().contains("consort node"), "{failure}");
    }

    #[test]
    fn names_cannot_leave_their_segment() {
        assert_eq!(segment("worker-0.mpi"), "worker-0.mpi");
        assert_eq!(segment("../x?y=z#"), "..%2Fx%3Fy%3Dz%23");
    }
}
