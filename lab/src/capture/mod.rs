//! What crosses the underlay: all frames that come in over some links of the router, counted, searched, kept in a file if wanted.
//!
//! Owns: the sockets, a thread that reads and one that searches, the counters. Each frame between hosts comes in once, over its sender's link. The kernel drops
//! frames when the reader does not keep up; comparing [`Counters::frames`] with the links' own counters shows how many
//! ([`Capture::finish`] gives both), so that "nothing was seen" can be told from "nobody looked".

mod inspect;
mod pcap;

pub use inspect::{Counters, Inspector};
pub use pcap::PcapWriter;

use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::packet_socket::PacketSocket;
use crate::{Netlink, Netns};

/// Frames read and not yet searched: a second of a fast wire; beyond it the kernel drops, which shows.
const WAITING_FRAMES_MAX: usize = 65_536;
/// How soon the thread sees that it shall end.
const POLL_MILLISECONDS: u16 = 50;
/// A super-frame with its headers; nothing longer crosses a link.
const FRAME_BYTES_MAX: usize = 66_000;
/// Frames kept in memory for a caller that replays them ([`Capture::recent`]): enough for a test, little to hold.
const RECENT_FRAMES_MAX: usize = 4096;

/// What shall be captured.
#[derive(Debug, Default)]
pub struct CaptureOptions {
    /// Links of this namespace.
    pub links: Vec<String>,
    /// Byte strings to search for.
    pub markers: Vec<Vec<u8>>,
    /// Where to keep the frames.
    pub pcap: Option<PathBuf>,
    /// Keep the latest frames in memory too.
    pub keep_recent: bool,
}

/// The end of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// What was seen.
    pub counters: Counters,
    /// How many frames showed each marker, in the order they were given.
    pub marked: Vec<u64>,
    /// What the links counted in the same time: frames that came in.
    pub received_by_links: u64,
    /// The latest frames, oldest first, if they were to be kept.
    pub recent: Vec<Vec<u8>>,
}

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    links: Vec<String>,
    received_before: u64,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    inspector: Inspector,
    recent: std::collections::VecDeque<Vec<u8>>,
}

impl Capture {
    /// Starts capturing on links of the calling thread's namespace; when it returns, nothing is missed any more.
    pub fn start(options: CaptureOptions) -> io::Result<Self> {
        let sockets =
            options.links.iter().map(|link| PacketSocket::open(link)).collect::<io::Result<Vec<_>>>()?;
        let received_before = received(&options.links)?;
        let pcap = match &options.pcap {
            Some(path) => Some(PcapWriter::new(BufWriter::new(File::create(path)?))?),
            None => None,
        };
        let seen =
            Seen { inspector: Inspector::new(&options.markers), recent: std::collections::VecDeque::new() };
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), seen: Mutex::new(seen) });
        let (sender, frames) = sync_channel(WAITING_FRAMES_MAX);
        let reader = std::thread::Builder::new().name("capture-read".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || read(&sockets, &shared, &sender)
        })?;
        let inspector = std::thread::Builder::new().name("capture-search".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || inspect(&frames, &shared, pcap, options.keep_recent)
        })?;
        Ok(Self { shared, threads: vec![reader, inspector], links: options.links, received_before })
    }

    /// What was seen so far.
    pub fn counters(&self) -> Counters {
        self.shared.seen().inspector.counters()
    }

    /// How many frames showed each marker so far.
    pub fn marked(&self) -> Vec<u64> {
        self.shared.seen().inspector.marked()
    }

    /// The latest frames, oldest first, if they were to be kept.
    pub fn recent(&self) -> Vec<Vec<u8>> {
        self.shared.seen().recent.iter().cloned().collect()
    }

    /// Ends the capture when all that has come in by now is read.
    pub fn finish(mut self) -> io::Result<Captured> {
        let received_by_links = received(&self.links)?.saturating_sub(self.received_before);
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        let seen = self.shared.seen();
        let (counters, marked) = (seen.inspector.counters(), seen.inspector.marked());
        let recent = seen.recent.iter().cloned().collect();
        drop(seen);
        Ok(Captured { counters, marked, received_by_links, recent })
    }
}

/// Sends frames over a link of `namespace` as they are: what a hostile neighbour does with frames it has heard.
pub fn inject(namespace: &Netns, link: &str, frames: &[Vec<u8>]) -> io::Result<()> {
    namespace.enter(|| {
        let socket = PacketSocket::open(link)?;
        frames.iter().try_for_each(|frame| socket.send(frame))
    })?
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes frames out of the kernel's queues, and does nothing else: those are short.
fn read(sockets: &[PacketSocket], shared: &Shared, frames: &SyncSender<Vec<u8>>) -> io::Result<()> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let mut watched: Vec<_> =
        sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    loop {
        // Read before the queues are emptied: what came in before the order to stop is still taken.
        let stop = shared.stop.load(Ordering::Acquire);
        for socket in sockets {
            while let Some(length) = socket.receive(&mut buffer)? {
                if frames.send(buffer[..length].to_vec()).is_err() {
                    return Ok(());
                }
            }
        }
        if stop {
            return Ok(());
        }
        poll(&mut watched, PollTimeout::from(POLL_MILLISECONDS))?;
    }
}

/// Counts, searches and keeps frames until no more come.
fn inspect(
    frames: &Receiver<Vec<u8>>,
    shared: &Shared,
    mut pcap: Option<PcapWriter<BufWriter<File>>>,
    keep_recent: bool,
) -> io::Result<()> {
    for frame in frames {
        if let Some(pcap) = &mut pcap {
            pcap.frame(SystemTime::now(), &frame)?;
        }
        let mut seen = shared.seen();
        seen.inspector.inspect(&frame);
        if keep_recent {
            if seen.recent.len() == RECENT_FRAMES_MAX {
                seen.recent.pop_front();
            }
            seen.recent.push_back(frame);
        }
    }
    pcap.map_or(Ok(()), |mut pcap| pcap.flush())
}

fn received(links: &[String]) -> io::Result<u64> {
    let mut netlink = Netlink::open().map_err(io::Error::other)?;
    links.iter().map(|link| Ok(netlink.link_statistics(link).map_err(io::Error::other)?.rx_packets)).sum()
}
