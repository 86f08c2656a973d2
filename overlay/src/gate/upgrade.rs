//! The handshake of [`member`](crate::protocol::member) on a fresh connection: the two sides as two linear functions.
//!
//! Runs between the multiplexer and the swarm. While it waits on its one stream it keeps the multiplexer turning. Every step together is
//! bounded by [`HANDSHAKE_MAX`].

use super::{Passed, SharedDoor};
use crate::{
    bytes::Malformed,
    clock::since_start,
    identity::HostId,
    peers::Direction,
    protocol::member::{
        Answer, FRAME_BYTES_MAX, Hello, MAGIC, Refusal, Verdict, decode_answer, decode_verdict,
        encode_answer, encode_verdict,
    },
};
use libp2p::{
    core::{
        ConnectedPoint,
        muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox},
    },
    futures::{AsyncReadExt, AsyncWriteExt, FutureExt, future::poll_fn},
};
use std::{io, pin::pin, task::Poll, time::Duration};

/// All of the handshake: three messages and 32 signature checks on a slow host over a slow link.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// How long who refuses waits for the refused to hang up, so that the reason arrives before the connection goes.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Why a connection ended at the door.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    #[error("the peer refused: {0}")]
    RefusedByPeer(Refusal),
    #[error("refused here: {0}")]
    RefusedHere(Refusal),
    #[error("this host was admitted")]
    Admitted,
    #[error("the peer was admitted")]
    HasAdmitted,
    #[error("the membership handshake took too long")]
    Timeout,
    #[error("the connection broke during the membership handshake")]
    Io(#[from] io::Error),
}

/// What the transport reports. libp2p wraps it so that only its source can be seen, hence a layer for nothing else.
#[derive(Debug, thiserror::Error)]
#[error("stopped at the door")]
pub(crate) struct AtTheDoor(#[source] GateFailure);

/// Why, and who it was.
#[derive(Debug, thiserror::Error)]
#[error("{cause} ({peer})")]
pub(crate) struct GateFailure {
    pub(crate) peer: HostId,
    pub(crate) cause: GateError,
}

/// Takes the arbiter's mark away when a handshake ends in any way but a connection, being dropped included.
struct Mark<'a> {
    door: &'a SharedDoor,
    peer: HostId,
    direction: Direction,
    stands: bool,
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        if !self.stands {
            self.door.lock().arbiter.ended(self.peer, self.direction);
        }
    }
}

/// Lets the connection pass or not.
pub(crate) async fn pass(
    door: SharedDoor,
    (peer, mut muxer): (HostId, StreamMuxerBox),
    endpoint: ConnectedPoint,
) -> Result<(HostId, StreamMuxerBox), AtTheDoor> {
    let direction = if endpoint.is_dialer() { Direction::Outbound } else { Direction::Inbound };
    let mut mark = Mark { door: &door, peer, direction, stands: false };
    let handshake = async {
        match direction {
            Direction::Outbound => speak(&door, peer, &mut muxer).await,
            Direction::Inbound => listen(&door, peer, &mut muxer).await,
        }
    };
    let outcome = tokio::time::timeout(HANDSHAKE_MAX, handshake).await.unwrap_or(Err(GateError::Timeout));
    mark.stands = outcome.is_ok();
    drop(mark);
    match outcome {
        Ok(()) => Ok((peer, muxer)),
        Err(cause) => Err(AtTheDoor(GateFailure { peer, cause })),
    }
}

/// The dialler's side.
async fn speak(door: &SharedDoor, peer: HostId, muxer: &mut StreamMuxerBox) -> Result<(), GateError> {
    let mut stream = poll_fn(|cx| {
        if let Poll::Ready(stream) = muxer.poll_outbound_unpin(cx) {
            return Poll::Ready(stream);
        }
        turn(muxer, cx).map(Err)
    })
    .await?;
    let hello = door.lock().hello(peer, since_start()).map_err(GateError::RefusedHere)?;
    turning(muxer, async {
        stream.write_all(MAGIC).await?;
        write_frame(&mut stream, &hello.encode()).await
    })
    .await?;
    let frame = turning(muxer, read_frame(&mut stream)).await?;
    let answer: Answer = decode_answer(&frame).unwrap_or_else(|malformed| Err(malformed.into()));
    let welcome = answer.map_err(GateError::RefusedByPeer)?;
    let judged = door.lock().judge(peer, &hello, &welcome);
    let verdict: Verdict = judged.as_ref().map(|_| ()).map_err(|refusal| *refusal);
    turning(muxer, write_frame(&mut stream, &encode_verdict(verdict))).await?;
    match judged {
        Ok(Passed::Member) => Ok(()),
        Ok(Passed::Admission) => {
            farewell(muxer, &mut stream).await;
            Err(GateError::Admitted)
        }
        Err(refusal) => {
            farewell(muxer, &mut stream).await;
            Err(GateError::RefusedHere(refusal))
        }
    }
}

/// The listener's side.
async fn listen(door: &SharedDoor, peer: HostId, muxer: &mut StreamMuxerBox) -> Result<(), GateError> {
    let mut stream = poll_fn(|cx| {
        if let Poll::Ready(stream) = muxer.poll_inbound_unpin(cx) {
            return Poll::Ready(stream);
        }
        turn(muxer, cx).map(Err)
    })
    .await?;
    let mut magic = [0; MAGIC.len()];
    turning(muxer, stream.read_exact(&mut magic)).await?;
    let hello = if magic == *MAGIC {
        let frame = turning(muxer, read_frame(&mut stream)).await?;
        Hello::decode(&frame)
    } else {
        Err(Malformed)
    };
    let answer: Answer = match &hello {
        Ok(hello) => door.lock().answer(peer, hello, since_start()),
        Err(Malformed) => Err(Refusal::Malformed),
    };
    turning(muxer, write_frame(&mut stream, &encode_answer(&answer))).await?;
    let welcome = match answer {
        Ok(welcome) => welcome,
        Err(refusal) => {
            farewell(muxer, &mut stream).await;
            return Err(GateError::RefusedHere(refusal));
        }
    };
    let frame = turning(muxer, read_frame(&mut stream)).await?;
    let verdict = decode_verdict(&frame).unwrap_or_else(|malformed| Err(malformed.into()));
    verdict.map_err(GateError::RefusedByPeer)?;
    if welcome.admission.is_some() {
        // The dialler hangs up first: it has read everything by then.
        farewell(muxer, &mut stream).await;
        return Err(GateError::HasAdmitted);
    }
    Ok(())
}

/// Lets the multiplexer work; ready only when the connection broke.
fn turn(muxer: &mut StreamMuxerBox, cx: &mut std::task::Context<'_>) -> Poll<io::Error> {
    loop {
        match muxer.poll_unpin(cx) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(error),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Runs `step` on a stream while the multiplexer turns.
async fn turning<T>(muxer: &mut StreamMuxerBox, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut step = pin!(step);
    poll_fn(|cx| {
        if let Poll::Ready(done) = step.poll_unpin(cx) {
            return Poll::Ready(done);
        }
        turn(muxer, cx).map(Err)
    })
    .await
}

/// Ends the own direction and waits until the peer hung up.
async fn farewell(muxer: &mut StreamMuxerBox, stream: &mut SubstreamBox) {
    let last = turning(muxer, async {
        stream.close().await?;
        stream.read(&mut [0]).await
    });
    // Nothing is left to say: whether the peer hung up in order, broke off or stayed silent makes no difference.
    tokio::time::timeout(FAREWELL_MAX, last).await.ok();
}

async fn write_frame(stream: &mut SubstreamBox, frame: &[u8]) -> io::Result<()> {
    let len = u16::try_from(frame.len()).expect("frames are bounded by FRAME_BYTES_MAX");
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(frame).await?;
    stream.flush().await
}

async fn read_frame(stream: &mut SubstreamBox) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).await?;
    let len = usize::from(u16::from_be_bytes(len));
    if len > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, Malformed));
    }
    let mut frame = vec![0; len];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}
