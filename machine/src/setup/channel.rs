//! The packet socket between a keeper and the child that becomes a machine's init, and later init itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};

use super::SetUpError;
use crate::rights::{receive_with, send_with};

/// A packet at most: an error's words.
const PACKET_MAX: usize = 4096;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Two ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Sends one packet.
    pub(crate) fn send(&self, words: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let end = words.floor_char_boundary(PACKET_MAX);
        send_with(&self.0, &words.as_bytes()[..end], descriptors, SendFlags::empty()).map(drop)
    }

    /// Waits for one packet; an empty one means that the other end is gone.
    pub(crate) fn receive(&self, deadline: Option<Instant>) -> io::Result<(String, Vec<OwnedFd>)> {
        loop {
            let timeout =
                deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return self.take(RecvFlags::empty()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes a packet that is there.
    pub(crate) fn take(&self, flags: RecvFlags) -> io::Result<(String, Vec<OwnedFd>)> {
        let mut buffer = [0; PACKET_MAX];
        let (length, descriptors) = receive_with(&self.0, &mut buffer, flags)?;
        Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), descriptors))
    }

    /// Waits for a packet that begins with `word`; anything else is the other end's failure.
    pub(crate) fn expect(&self, word: &str, deadline: Option<Instant>) -> Result<Vec<OwnedFd>, SetUpError> {
        let (words, descriptors) = self.receive(deadline).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => SetUpError(format!("the machine did not say {word:?} in time")),
            _ => SetUpError(format!("wait for {word:?}: {error}")),
        })?;
        if words == word {
            Ok(descriptors)
        } else if let Some(error) = words.strip_prefix("error ") {
            Err(SetUpError(error.to_owned()))
        } else if words.is_empty() {
            Err(SetUpError(format!("the machine ended before it said {word:?}")))
        } else {
            Err(SetUpError(format!("the machine said {words:?} for {word:?}")))
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A duration for the kernel.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_keep_their_bounds_and_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let (extra, _) = Channel::pair().unwrap();
        one.send("first", &[]).unwrap();
        one.send("second", &[extra.as_fd()]).unwrap();
        assert_eq!(other.receive(None).unwrap().0, "first");
        assert_eq!(other.expect("second", None).unwrap().len(), 1);
        drop(one);
        assert_eq!(other.expect("third", None).unwrap_err().0, "the machine ended before it said \"third\"");
    }

    #[test]
    fn an_error_is_passed_on_in_its_own_words_and_cut_at_a_character() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&format!("error {}", "é".repeat(3000)), &[]).unwrap();
        let error = other.expect("ready", None).unwrap_err();
        assert!(error.0.starts_with("éé") && error.0.len() < PACKET_MAX, "{}", error.0.len());
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let (_one, other) = Channel::pair().unwrap();
        let error = other.expect("ready", Some(Instant::now())).unwrap_err();
        assert_eq!(error.0, "the machine did not say \"ready\" in time");
    }
}
