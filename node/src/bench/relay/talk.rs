//! Programs that talk over a network while something happens to it: a TCP connection that must live, numbered datagrams of which none may be
//! missing, and a connection as fast as it goes.
//!
//! Owns: the hosts' own sockets, and a thread for each end. Refuses to know: what is between the hosts.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use consort_lab::host::Host;
use nix::sys::socket::{setsockopt, sockopt};

use crate::bench::CONGESTION;
use crate::demo::stage::{DEADLINE, awaited, lab_failure};
use crate::failure::Failure;

/// Between two words of a connection, and two datagrams: a gap of a hundredth of a second shows.
const EVERY: Duration = Duration::from_millis(2);
/// How long one try to connect may take: a frame that is lost while a link forms is tried again.
const TRY: Duration = Duration::from_millis(500);
/// How long a thread waits for bytes before it looks whether it shall end.
const LOOK: Duration = Duration::from_millis(200);
/// Words heard that show that a connection goes on.
const SOME: u64 = 10;

/// A TCP connection on which one end says a number every so often and the other listens.
#[derive(Debug)]
pub struct Connection {
    stop: Arc<AtomicBool>,
    heard: Arc<AtomicU64>,
    /// The longest silence since it was last asked for, in microseconds.
    silence: Arc<AtomicU64>,
    speaking: JoinHandle<io::Result<u64>>,
    listening: JoinHandle<io::Result<()>>,
}

impl Connection {
    /// From a host to a listener on another.
    ///
    /// # Errors
    /// If the two cannot be connected.
    pub fn open(from: &Host, listener: TcpListener) -> Result<Self, Failure> {
        let (speaker, listener) = connected(from, &listener)?;
        let (stop, heard, silence) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let stopped = Arc::clone(&stop);
        let speaking = std::thread::spawn(move || speak(speaker, &stopped));
        let counts = (Arc::clone(&heard), Arc::clone(&silence));
        let listening = std::thread::spawn(move || hear(listener, &counts.0, &counts.1));
        Ok(Self { stop, heard, silence, speaking, listening })
    }

    /// Waits until more is heard than now.
    ///
    /// # Errors
    /// If nothing is heard any more.
    pub async fn goes_on(&self) -> Result<(), Failure> {
        let before = self.heard.load(Relaxed) + SOME;
        awaited("the connection goes on", async || Ok((self.heard.load(Relaxed) > before).then_some(())))
            .await
    }

    /// The longest silence since this was last asked.
    #[must_use]
    pub fn silence(&self) -> Duration {
        Duration::from_micros(self.silence.swap(0, Relaxed))
    }

    /// Ends it; everything that was said was heard in order, and nothing broke.
    ///
    /// # Errors
    /// What broke.
    pub fn end(self) -> Result<(), Failure> {
        self.stop.store(true, Relaxed);
        let said = joined(self.speaking)?;
        joined(self.listening)?;
        let heard = self.heard.load(Relaxed);
        match said == heard {
            true => Ok(()),
            false => Err(lab_failure(format!("{said} words were said on a TCP connection, {heard} heard"))),
        }
    }
}

fn speak(mut stream: TcpStream, stop: &AtomicBool) -> io::Result<u64> {
    stream.set_nodelay(true)?;
    let mut said = 0_u64;
    while !stop.load(Relaxed) {
        stream.write_all(&said.to_be_bytes())?;
        said += 1;
        std::thread::sleep(EVERY);
    }
    Ok(said)
}

fn hear(mut stream: TcpStream, count: &AtomicU64, silence: &AtomicU64) -> io::Result<()> {
    let (mut word, mut last) = ([0; 8], Instant::now());
    loop {
        match stream.read_exact(&mut word) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        if u64::from_be_bytes(word) != count.fetch_add(1, Relaxed) {
            return Err(io::Error::other("words of a TCP connection came in another order"));
        }
        silence.fetch_max(u64::try_from(last.elapsed().as_micros()).unwrap_or(u64::MAX), Relaxed);
        last = Instant::now();
    }
}

/// Numbered datagrams from one host to another.
#[derive(Debug)]
pub struct Numbered {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sending: JoinHandle<io::Result<()>>,
    receiving: JoinHandle<io::Result<BTreeSet<u64>>>,
}

impl Numbered {
    /// From one socket to another; begins once something has arrived.
    ///
    /// # Errors
    /// If nothing arrives.
    pub fn begin(sender: UdpSocket, receiver: UdpSocket) -> Result<Self, Failure> {
        first_arrives(&sender, &receiver).map_err(lab_failure)?;
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let sending = std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                sender.send(&count.load(Relaxed).to_be_bytes())?;
                count.fetch_add(1, Relaxed);
                std::thread::sleep(EVERY);
            }
            Ok(())
        });
        let stopped = Arc::clone(&stop);
        let receiving = std::thread::spawn(move || receive(&receiver, &stopped));
        Ok(Self { stop, sent, sending, receiving })
    }

    /// How many were sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Waits until some more were sent than now.
    ///
    /// # Errors
    /// If none are sent any more.
    pub async fn goes_on(&self) -> Result<(), Failure> {
        let after = self.sent() + SOME * SOME;
        awaited("more datagrams are sent", async || Ok((self.sent() > after).then_some(()))).await
    }

    /// Ends it: how many were sent, and the numbers that did not arrive.
    ///
    /// # Errors
    /// If a socket failed.
    pub fn end(self) -> Result<(u64, BTreeSet<u64>), Failure> {
        self.stop.store(true, Relaxed);
        joined(self.sending)?;
        let arrived = joined(self.receiving)?;
        let sent = self.sent.load(Relaxed);
        Ok((sent, (0..sent).filter(|number| !arrived.contains(number)).collect()))
    }
}

fn first_arrives(sender: &UdpSocket, receiver: &UdpSocket) -> io::Result<()> {
    sender.connect(receiver.local_addr()?)?;
    receiver.set_read_timeout(Some(LOOK))?;
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        // The path may not work yet; what is not numbered does not count.
        let _not_yet = sender.send(&[]);
        if receiver.recv(&mut [0; 8]).is_ok() {
            return Ok(());
        }
    }
    Err(io::Error::other("no datagram arrives"))
}

/// Until it shall end and nothing has come for a while.
fn receive(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<BTreeSet<u64>> {
    let (mut arrived, mut word) = (BTreeSet::new(), [0; 8]);
    loop {
        let ending = stop.load(Relaxed);
        match socket.recv(&mut word) {
            Ok(length) if length == word.len() => drop(arrived.insert(u64::from_be_bytes(word))),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if ending {
                    return Ok(arrived);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// A TCP connection as fast as it goes.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    sending: JoinHandle<io::Result<()>>,
    receiving: JoinHandle<io::Result<()>>,
}

/// What is written and read at once.
const PIECE_BYTES: usize = 1 << 17;
/// What is offered comes in pieces, so often.
const PIECE_EVERY: Duration = Duration::from_millis(10);
const PIECES_PER_S: usize = 100;

impl Load {
    /// From a host to a listener on another, as fast as it goes.
    ///
    /// # Errors
    /// If the two cannot be connected.
    pub fn begin(from: &Host, listener: TcpListener) -> Result<Self, Failure> {
        Self::write(from, listener, |sender, stop| {
            let piece = vec![7; PIECE_BYTES];
            while !stop.load(Relaxed) {
                sender.write_all(&piece)?;
            }
            Ok(())
        })
    }

    /// The same with so many bits a second and no more; what could not be sent in its time is not made up for.
    ///
    /// # Errors
    /// If the two cannot be connected.
    pub fn offered(from: &Host, listener: TcpListener, bits_per_s: u64) -> Result<Self, Failure> {
        Self::write(from, listener, move |sender, stop| {
            let bytes = usize::try_from(bits_per_s / 8).unwrap_or(usize::MAX) / PIECES_PER_S;
            let (piece, mut next) = (vec![7; bytes.max(1)], Instant::now());
            while !stop.load(Relaxed) {
                sender.write_all(&piece)?;
                let now = Instant::now();
                next = (next + PIECE_EVERY).max(now.checked_sub(PIECE_EVERY).unwrap_or(now));
                std::thread::sleep(next.saturating_duration_since(now));
            }
            Ok(())
        })
    }

    fn write(
        from: &Host,
        listener: TcpListener,
        write: impl FnOnce(&mut TcpStream, &AtomicBool) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Failure> {
        let (mut sender, mut receiver) = connected(from, &listener)?;
        setsockopt(&sender, sockopt::TcpCongestion, &CONGESTION.into()).map_err(lab_failure)?;
        let (stop, bytes) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let stopped = Arc::clone(&stop);
        let sending = std::thread::spawn(move || write(&mut sender, &stopped));
        let count = Arc::clone(&bytes);
        let receiving = std::thread::spawn(move || {
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                match receiver.read(&mut piece)? {
                    0 => return Ok(()),
                    length => count.fetch_add(length as u64, Relaxed),
                };
            }
        });
        Ok(Self { stop, bytes, sending, receiving })
    }

    /// Bytes that arrived so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it broke.
    pub fn end(self) -> Result<(), Failure> {
        self.stop.store(true, Relaxed);
        joined(self.sending)?;
        joined(self.receiving)
    }
}

/// A TCP listener on a host's address, which the host may have only in a moment.
///
/// # Errors
/// If it cannot be had.
pub fn listen(on: &Host, address: IpAddr) -> Result<TcpListener, Failure> {
    bound(on, || TcpListener::bind((address, 0)))
}

/// A UDP socket on a host's address, which the host may have only in a moment.
///
/// # Errors
/// If it cannot be had.
pub fn socket(on: &Host, address: IpAddr) -> Result<UdpSocket, Failure> {
    bound(on, || UdpSocket::bind((address, 0)))
}

fn bound<T: Send>(on: &Host, bind: impl Fn() -> io::Result<T> + Sync) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        match on.netns().enter(&bind).map_err(lab_failure)? {
            Ok(socket) => return Ok(socket),
            Err(error) if begun.elapsed() > DEADLINE => return Err(lab_failure(error)),
            Err(_) => std::thread::sleep(EVERY),
        }
    }
}

fn connected(from: &Host, listener: &TcpListener) -> Result<(TcpStream, TcpStream), Failure> {
    let address: SocketAddr = listener.local_addr().map_err(lab_failure)?;
    let begun = Instant::now();
    loop {
        match from.netns().enter(|| TcpStream::connect_timeout(&address, TRY)).map_err(lab_failure)? {
            Ok(stream) => return Ok((stream, listener.accept().map_err(lab_failure)?.0)),
            Err(error) if begun.elapsed() > DEADLINE => {
                return Err(lab_failure(format!("{address} is not reached: {error}")));
            }
            Err(_) => {}
        }
    }
}

fn joined<T>(thread: JoinHandle<io::Result<T>>) -> Result<T, Failure> {
    match thread.join() {
        Ok(result) => result.map_err(|error| lab_failure(format!("a connection broke: {error}"))),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
