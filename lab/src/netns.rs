//! A network namespace by its descriptor, and work done inside it.
//!
//! Owns: the descriptor, and the thread that enters. A thread belongs to one namespace; a socket keeps the one it was opened in
//! for good, so sockets opened by [`Netns::enter`] serve from anywhere afterwards.
//! Refuses to know what the work is.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns};

/// A network namespace.
#[derive(Debug)]
pub struct Netns {
    file: OwnedFd,
}

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        Ok(Self { file: File::open("/proc/thread-self/ns/net")?.into() })
    }

    /// The namespace of a process.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Ok(Self { file: File::open(format!("/proc/{pid}/ns/net"))?.into() })
    }

    /// Runs `work` on a thread of its own inside this namespace and waits for it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread inside this namespace; it ends with its work.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<std::thread::JoinHandle<io::Result<T>>> {
        let file = self.file.try_clone()?;
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
