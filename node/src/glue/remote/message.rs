//! The one request and the one reply at the head of a stream.
//!
//! Each is a message of the form
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | length | of the body, little endian, at most [`BODY_BYTES_MAX`] |
//! | 4 | length | body | postcard; trailing bytes are refused |
//!
//! The body of a request begins with [`VERSION`]; another version is refused before anything else is read.

use consort_machine::session::{ExecRequest, WinSize};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::proof::Proof;
use crate::failure::{Failure, Kind};

/// The version of these messages.
pub const VERSION: u8 = 1;

/// The longest body: an `exec` with the longest command the machine's driver takes, twice over.
pub const BODY_BYTES_MAX: usize = 128 * 1024;

/// Bytes of a slice's id.
pub const SLICE_ID_LEN: usize = 16;

/// What is asked of the machine's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u8,
    /// Which machine.
    pub machine: MachineName,
    /// What to do.
    pub action: Action,
    /// That the tenant wants it.
    pub proof: Proof,
}

/// A machine of a slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MachineName {
    /// The slice's id.
    pub slice: [u8; SLICE_ID_LEN],
    /// The machine's name in it.
    pub machine: String,
}

/// What to do in or with the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Say what it is doing.
    Show,
    /// Run a program; a session follows.
    Exec(ExecRequest),
    /// Attach to its console; a session follows.
    Console(Option<WinSize>),
    /// Send what its console printed; plain bytes follow.
    Logs,
    /// Start it again after a stop.
    Start,
    /// Stop it.
    Stop,
    /// Halt it.
    Pause,
    /// Let it go on.
    Resume,
}

/// The host's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done, or the session begins.
    Accepted(MachineReport),
    /// It is not.
    Refused(Refusal),
}

/// What a host says of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineReport {
    /// `running`, `paused`, `stopped`, …
    pub state: String,
    /// Why, where there is more to say.
    pub reason: Option<String>,
    /// Each limit, and how it is enforced or why not.
    pub limits: Vec<(String, String)>,
}

impl MachineReport {
    /// A machine that took a program or a reader of its console.
    #[must_use]
    pub fn running() -> Self {
        Self { state: "running".to_owned(), reason: None, limits: Vec::new() }
    }
}

/// A failure, as it crosses the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    class: Class,
    code: String,
    message: String,
    remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Class {
    Input,
    NotFound,
    Refused,
    Failed,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let class = match failure.kind {
            Kind::Input => Class::Input,
            Kind::NotFound => Class::NotFound,
            Kind::Refused => Class::Refused,
            Kind::Failed | Kind::Unreachable => Class::Failed,
        };
        Self { class, code: failure.code, message: failure.message, remedy: failure.remedy }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.class {
            Class::Input => Kind::Input,
            Class::NotFound => Kind::NotFound,
            Class::Refused => Kind::Refused,
            Class::Failed => Kind::Failed,
        };
        Self { kind, code: refusal.code, message: refusal.message, remedy: refusal.remedy }
    }
}

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The stream ended or failed.
    #[error("the stream failed: {0}")]
    Stream(#[from] std::io::Error),
    /// The body is longer than any message.
    #[error("a message of {0} bytes is announced, more than {BODY_BYTES_MAX}")]
    TooLong(usize),
    /// The body is not a message.
    #[error("the message cannot be decoded")]
    Malformed,
    /// Another version.
    #[error("the message is of version {0}, and this is {VERSION}")]
    Version(u8),
}

/// A message's bytes, with their length before them.
///
/// # Errors
/// If the body is longer than a message may be.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, MessageError> {
    let body = postcard::to_stdvec(message).map_err(|_| MessageError::Malformed)?;
    if body.len() > BODY_BYTES_MAX {
        return Err(MessageError::TooLong(body.len()));
    }
    let length = u32::try_from(body.len()).expect("the bound is below 2^32");
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The message whose body this is.
///
/// # Errors
/// If it is not one, or bytes are left over.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, MessageError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(MessageError::Malformed),
    }
}

/// The request whose body this is.
///
/// # Errors
/// If it is of another version, or not a request.
pub fn decode_request(body: &[u8]) -> Result<Request, MessageError> {
    match body.first() {
        Some(&VERSION) => decode(body),
        Some(version) => Err(MessageError::Version(*version)),
        None => Err(MessageError::Malformed),
    }
}

/// Sends a message.
///
/// # Errors
/// If the stream fails.
pub async fn send<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), MessageError> {
    stream.write_all(&encode(message)?).await?;
    Ok(stream.flush().await?)
}

/// Receives a message's body.
///
/// # Errors
/// If the stream fails or announces more than a message may have.
pub async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, MessageError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > BODY_BYTES_MAX {
        return Err(MessageError::TooLong(length));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// The fuzz target's body: any bytes are a request that encodes to the same bytes, or are refused.
pub fn fuzz(data: &[u8]) {
    if let Ok(request) = decode_request(data) {
        let again = encode(&request).expect("what was decoded can be encoded");
        // Varints may come longer than needed, so the bytes may differ; the meaning may not.
        let back: Request = decode(&again[4..]).expect("what was encoded can be decoded");
        assert_eq!(back, request);
    }
    let _either_way: Result<Reply, _> = decode(data);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use libp2p_identity::Keypair;

    pub(crate) fn example() -> Request {
        let tenant = Keypair::ed25519_from_bytes([1; 32]).unwrap();
        let host = Keypair::ed25519_from_bytes([2; 32]).unwrap().public().to_peer_id();
        let machine = MachineName { slice: [7; SLICE_ID_LEN], machine: "worker-0".to_owned() };
        let proof = Proof::sign(&tenant, &machine, host, host, 1_000).unwrap();
        Request { version: VERSION, machine, action: Action::Exec(ExecRequest::of(["true"])), proof }
    }

    #[test]
    fn the_head_of_a_request_is_fixed() {
        let bytes = encode(&example()).unwrap();
        let body = &bytes[4..];
        assert_eq!(usize::try_from(u32::from_le_bytes(bytes[..4].try_into().unwrap())).unwrap(), body.len());
        assert_eq!(body[0], VERSION);
        // The slice's id, then the machine's name with its length.
        assert_eq!(body[1..17], [7; SLICE_ID_LEN]);
        assert_eq!(body[17], 8);
        assert_eq!(&body[18..26], b"worker-0");
        // Exec is the second action; one word of four bytes.
        assert_eq!(body[26..33], [1, 1, 4, b't', b'r', b'u', b'e']);
    }

    #[test]
    fn requests_come_out_as_they_went_in() {
        let request = example();
        let bytes = encode(&request).unwrap();
        assert_eq!(decode_request(&bytes[4..]).unwrap(), request);
    }

    #[test]
    fn another_version_trailing_bytes_and_cut_bytes_are_refused() {
        let bytes = encode(&example()).unwrap();
        let mut other = bytes[4..].to_vec();
        other[0] = 9;
        assert!(matches!(decode_request(&other), Err(MessageError::Version(9))));
        let mut longer = bytes[4..].to_vec();
        longer.push(0);
        assert!(matches!(decode_request(&longer), Err(MessageError::Malformed)));
        for length in 1..bytes.len() - 4 {
            assert!(decode_request(&bytes[4..4 + length]).is_err(), "{length}");
        }
    }

    #[tokio::test]
    async fn a_length_above_the_bound_is_refused_before_anything_is_allocated() {
        let announced = u32::try_from(BODY_BYTES_MAX + 1).unwrap().to_le_bytes();
        assert!(matches!(receive(&mut announced.as_slice()).await, Err(MessageError::TooLong(_))));
    }

    #[test]
    fn the_fuzz_target_runs_for_a_moment() {
        let valid = encode(&example()).unwrap()[4..].to_vec();
        crate::testing::fuzz_for_a_moment(&[valid], fuzz);
    }
}
