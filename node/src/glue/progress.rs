//! How far a slice's hosts are: the timings of `slice create`, and what `--wait` waits for.
//!
//! After a slice is decided, its coordinator asks each of its hosts by the protocol `progress/1` until all are there, or the time is over.
//!
//! | message | layout |
//! |---|---|
//! | request | slice id (16) |
//! | response | version (1), stage (1): [`Stage`] |
//!
//! A host is *reachable* when its machines run and each channel to the slice's other hosts is open both ways. Whoever asks learns no more than a
//! stage, so every member may.

use std::time::Duration;

use consort_overlay::{HostId, Overlay};
use consort_scheduler::slice::id::SliceId;

use super::protocols;

/// Bytes of a request.
pub const REQUEST_BYTES: usize = 16;

/// The longest response.
pub const RESPONSE_BYTES_MAX: usize = 2;

const VERSION: u8 = 1;

/// Between two questions to one host. Less costs messages; more blurs the timings.
const ASK_EVERY: Duration = Duration::from_millis(25);

/// How far a host is with its part of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It knows nothing of the slice, or has machines of it that do not run.
    Failed,
    /// It has not begun.
    Placed,
    /// Every machine has its image and its interfaces.
    Staged,
    /// Every machine runs.
    Running,
    /// And every channel to the slice's other hosts is open.
    Reachable,
}

impl Stage {
    const ALL: [Self; 5] = [Self::Failed, Self::Placed, Self::Staged, Self::Running, Self::Reachable];

    /// As it travels.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        vec![VERSION, self as u8]
    }

    /// From a response; none if it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [VERSION, stage] => Self::ALL.into_iter().find(|known| *known as u8 == *stage),
            _ => None,
        }
    }
}

/// The slice a request is about; none if it is not one.
#[must_use]
pub fn decode_request(body: &[u8]) -> Option<SliceId> {
    body.try_into().ok().map(SliceId)
}

/// Waits until `host` is at least at `stage`; false if it failed.
pub async fn reached(overlay: &Overlay, host: HostId, slice: SliceId, stage: Stage) -> bool {
    loop {
        let answer = overlay.call(host, protocols::PROGRESS, slice.0.to_vec()).await;
        match answer.ok().and_then(|bytes| Stage::decode(&bytes)) {
            Some(Stage::Failed) => return false,
            Some(now) if now >= stage => return true,
            // Not that far, or out of reach for the moment: the caller says how long it will wait.
            Some(_) | None => tokio::time::sleep(ASK_EVERY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_come_out_as_they_went_in_and_nothing_else_does() {
        for stage in Stage::ALL {
            assert_eq!(Stage::decode(&stage.encode()), Some(stage));
        }
        for bytes in [&[][..], &[1], &[2, 0], &[1, 9], &[1, 0, 0]] {
            assert_eq!(Stage::decode(bytes), None, "{bytes:?}");
        }
        assert_eq!(decode_request(&[7; 16]), Some(SliceId([7; 16])));
        assert_eq!(decode_request(&[7; 15]), None);
    }
}
