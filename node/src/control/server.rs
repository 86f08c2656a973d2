//! Listening, with its limits.
//!
//! Owns: the socket file, the TCP listener and its token, the number of connections, the end of all of them at shutdown.
//! Refuses to know: the routes. One accept loop per listener; one task per connection.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

use super::api::ErrorBody;
use crate::failure::Failure;
use crate::state::{dir, keys};

/// The largest body of a request: a slice file of a thousand machines is a tenth of it.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Connections at once. Each command is one, each `exec` on a machine one; a slice of a hundred machines fits an `exec --all`.
pub const CONNECTIONS_MAX: usize = 256;

/// How long a client may take for its request's head: a local program needs none of it.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Accepting failed for want of descriptors or memory: how long until the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of the token for the API over TCP.
const TOKEN_LEN: usize = 32;

/// The API's socket; its file is removed on drop.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens on `path`, which only the caller's user may open. The caller holds the directory's lock, so a socket file that is
    /// already there is left over.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn bind(path: &Path) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| {
            Failure::failed("socket", format!("cannot listen on {}: {error}", path.display()))
                .remedy("check the state directory's permissions and file system")
        };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(cannot(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(cannot)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(cannot)?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket file was gone already");
        }
    }
}

/// Serves `router` on the socket until `shutdown` turns true.
pub async fn serve_socket(socket: Socket, router: Router, mut shutdown: watch::Receiver<bool>) {
    let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let stop = shutdown.clone();
    let accepting = async {
        loop {
            let place = next_place(&places).await;
            match socket.listener.accept().await {
                Ok((stream, _)) => spawn_connection(stream, router.clone(), stop.clone(), place),
                Err(error) => pause_after(&error).await,
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stopped(&mut shutdown) => {}
    }
}

/// The API on a loopback TCP port, for programs that cannot open a Unix socket.
#[derive(Debug)]
pub struct TcpApi {
    listener: TcpListener,
    token: Arc<str>,
}

impl TcpApi {
    /// Listens on `address` and writes the token that requests must bear to `DIR/api.token`.
    ///
    /// # Errors
    /// If the port is taken or the token cannot be written.
    pub async fn bind(address: SocketAddr, state_dir: &Path) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Failure::failed("port_in_use", format!("cannot listen on {address} (api.tcp): {error}"))
                .remedy("stop what uses the port, or set another in [api] tcp")
        })?;
        let mut secret = [0; TOKEN_LEN];
        keys::fill_random(&mut secret)?;
        let token: String = blake3::hash(&secret).to_hex().to_string();
        let path = state_dir.join("api.token");
        keys::write_whole(&path, format!("{token}\n").as_bytes()).map_err(|error| {
            Failure::failed("api_token", format!("cannot write {}: {error}", path.display()))
                .remedy(dir::remedy(&error))
        })?;
        Ok(Self { listener, token: token.into() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// The token requests must bear.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }
}

/// Serves `router` on the TCP port until `shutdown` turns true; each request must bear the token.
pub async fn serve_tcp(api: TcpApi, router: Router, mut shutdown: watch::Receiver<bool>) {
    let token = Arc::clone(&api.token);
    let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).layer(middleware::from_fn(
        move |request: Request, next: Next| {
            let token = Arc::clone(&token);
            async move { if bears(request.headers(), &token) { next.run(request).await } else { no_token() } }
        },
    ));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let stop = shutdown.clone();
    let accepting = async {
        loop {
            let place = next_place(&places).await;
            match api.listener.accept().await {
                Ok((stream, _)) => spawn_connection(stream, router.clone(), stop.clone(), place),
                Err(error) => pause_after(&error).await,
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stopped(&mut shutdown) => {}
    }
}

/// Compared by hash, so that the time says nothing about how much of a guess was right.
fn bears(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given
        .and_then(|value| value.strip_prefix("Bearer "))
        .is_some_and(|given| blake3::hash(given.as_bytes()) == blake3::hash(token.as_bytes()))
}

fn no_token() -> Response {
    let body = ErrorBody {
        code: "no_token".to_owned(),
        message: "the API over TCP wants the token of this node".to_owned(),
        remedy: Some("send `Authorization: Bearer` with the content of DIR/api.token".to_owned()),
    };
    (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response()
}

/// Until the daemon stops; a daemon that is gone has stopped.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("the daemon went away without saying so");
    }
}

async fn next_place(places: &Arc<Semaphore>) -> tokio::sync::OwnedSemaphorePermit {
    Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed")
}

async fn pause_after(error: &std::io::Error) {
    tracing::warn!(%error, "a connection to the API could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn spawn_connection<S>(
    stream: S,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
    place: tokio::sync::OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let _place = place;
        let service = TowerToHyperService::new(router.into_service::<hyper::body::Incoming>());
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
        let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped(&mut shutdown) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the API ended early");
        }
    });
}
