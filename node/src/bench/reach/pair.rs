//! One pair of hosts: a network of their own, the first frame both ways, the path, and when it is direct.
//!
//! Time begins when the second host's `join` has returned. A frame counts when its answer has come: both directions work then. The
//! network is left again afterwards, so that pairs do not keep each other's paths warm.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::crew::Crew;
use crate::control::api::{NetCreateBody, NetJoinBody, Network, Peer, Status};
use crate::control::client::{Client, segment};
use crate::demo::stage::{awaited, lab_failure};
use crate::failure::Failure;
use crate::why::{Code, Explanation, Path};

/// Between two tries of a frame, and two looks at the path at first.
const STEP: Duration = Duration::from_millis(10);
/// Later, the path is looked at once in such a part of the time that has passed (one in so many): each look costs the computer, on which all nodes run, more than a
/// probe does, and looks at ten pairs a hundred times a second kept port searches from their rate.
const LOOK_PART: u32 = 50;
/// After so long with frames on another way it is asked whether a direct one can come at all, and then each time after as long.
const HOPELESS_AFTER: Duration = Duration::from_secs(3);
/// Causes that waiting does not mend.
const HOPELESS: [Code; 4] =
    [Code::SymmetricBoth, Code::UdpBlockedHere, Code::UdpBlockedThere, Code::UdpBlockedBoth];
/// Long enough that its datagram is longer than every path takes, and so tells of the path's own size.
const MUCH_BYTES: usize = 1_300;
/// Any port: nothing else is on the network.
const ECHO_PORT: u16 = 7;

/// Pairs that had a network so far, for its name.
static PAIRS: AtomicU32 = AtomicU32::new(0);

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the first frame.
    pub first: Duration,
    /// For a direct path, from the beginning.
    pub direct: Duration,
}

impl Patience {
    /// Waits so long for a direct path, and for a first frame longer: over a relay or not, it has to come.
    #[must_use]
    pub fn until_direct(direct: Duration) -> Self {
        Self { first: direct.max(Duration::from_secs(30)), direct }
    }
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// The path at the end, as the first host's node says.
    pub way: Path,
    /// Until the first answer.
    pub first_frame_ms: Option<u64>,
    /// Until the path was direct.
    pub direct_ms: Option<u64>,
    /// Until each end was seen to search for a port, where it did.
    pub search_ms: [Option<u64>; 2],
    /// What `consort why` calls the cause, where the path is not direct.
    pub code: Option<Code>,
}

impl Measured {
    /// How the path is now at both ends.
    async fn look(
        &mut self,
        clients: &(Client, Client),
        (own, peer): (&str, &str),
        started: Instant,
    ) -> Result<(), Failure> {
        let here = entry(&clients.0, peer).await?;
        self.way = here.as_ref().map_or(Path::None, |entry| entry.path);
        self.note_search(0, here.as_ref(), started);
        let is_direct_here = self.way == Path::Direct;
        // The other end is asked only for what is not known yet.
        let is_half_known = self.search_ms[0].is_some() && self.search_ms[1].is_none();
        if self.direct_ms.is_none() && (is_direct_here || is_half_known) {
            let there = entry(&clients.1, own).await?;
            self.note_search(1, there.as_ref(), started);
            if is_direct_here && there.is_some_and(|entry| entry.path == Path::Direct) {
                self.direct_ms = Some(milliseconds(started.elapsed()));
            }
        }
        Ok(())
    }

    /// Whether an end searches by now.
    fn note_search(&mut self, end: usize, entry: Option<&Peer>, started: Instant) {
        if self.search_ms[end].is_none() && entry.is_some_and(|entry| entry.search.is_some()) {
            self.search_ms[end] = Some(milliseconds(started.elapsed()));
        }
    }

    /// A line for who watches.
    #[must_use]
    pub fn in_words(&self) -> String {
        let way = match self.way {
            Path::Direct => "direct",
            Path::Relay => "relay",
            Path::RelayStream => "relay-stream",
            Path::None => "no path",
        };
        let ms = |value: Option<u64>| value.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
        let code = self.code.map_or_else(String::new, |code| format!(" ({code})"));
        let searches = match self.search_ms {
            [None, None] => String::new(),
            [here, there] => format!(", searching from {} and {}", ms(here), ms(there)),
        };
        format!(
            "{way}{code}, first frame {}, direct {}{searches}",
            ms(self.first_frame_ms),
            ms(self.direct_ms)
        )
    }
}

/// Measures a pair.
///
/// # Errors
/// If a node does not answer, or the two cannot be put on one network.
pub async fn measure(
    crew: &mut Crew,
    first: &str,
    second: &str,
    patience: Patience,
) -> Result<Measured, Failure> {
    let clients = (crew.client(first)?, crew.client(second)?);
    let hosts = (host_id(&clients.0).await?, host_id(&clients.1).await?);
    let conversation = Conversation::begin(crew, first, second).await?;
    let (measured, conversation) = follow(&clients, &hosts, conversation, patience).await?;
    conversation.end().await?;
    Ok(measured)
}

/// Follows a conversation that has begun until the path is direct, or patience ends, or the node says that none can become direct; what was found, and the
/// conversation again.
///
/// # Errors
/// If a node does not answer.
pub async fn follow(
    clients: &(Client, Client),
    (own, peer): &(String, String),
    mut conversation: Conversation,
    patience: Patience,
) -> Result<(Measured, Conversation), Failure> {
    let started = conversation.begun;
    let mut measured =
        Measured { way: Path::None, first_frame_ms: None, direct_ms: None, search_ms: [None; 2], code: None };
    let (mut look_at, mut ask_after) = (Duration::ZERO, HOPELESS_AFTER);
    loop {
        let passed = started.elapsed();
        if measured.first_frame_ms.is_none() && conversation.answered().map_err(lab_failure)? {
            measured.first_frame_ms = Some(milliseconds(started.elapsed()));
        }
        if passed >= look_at {
            measured.look(clients, (own, peer), started).await?;
            look_at = passed + STEP.max(passed / LOOK_PART);
        }
        let (has_first, has_direct) = (measured.first_frame_ms.is_some(), measured.direct_ms.is_some());
        let mut is_settled = has_first && (has_direct || passed > patience.direct);
        if has_first && !is_settled && measured.way != Path::Direct && passed > ask_after {
            ask_after = passed + HOPELESS_AFTER;
            is_settled = HOPELESS.contains(&why(&clients.0, peer).await?.code);
        }
        if is_settled || passed > patience.first {
            break;
        }
        tokio::time::sleep(STEP).await;
    }
    if measured.way != Path::Direct {
        measured.code = Some(why(&clients.0, peer).await?.code);
    }
    Ok((measured, conversation))
}

/// The path from one node to another, as the first says now.
///
/// # Errors
/// If the node does not answer.
pub async fn way(client: &Client, peer: &str) -> Result<Path, Failure> {
    Ok(entry(client, peer).await?.map_or(Path::None, |entry| entry.path))
}

async fn entry(client: &Client, peer: &str) -> Result<Option<Peer>, Failure> {
    let peers: Vec<Peer> = client.get("/v1/peers").await?;
    Ok(peers.into_iter().find(|entry| entry.host == peer))
}

/// What `consort why` says.
///
/// # Errors
/// If the node does not answer.
pub async fn why(client: &Client, peer: &str) -> Result<Explanation, Failure> {
    client.get(&format!("/v1/why/{}", segment(peer))).await
}

/// The `HostId` of the host on which a node runs.
///
/// # Errors
/// If the node does not answer.
pub async fn host_id(client: &Client) -> Result<String, Failure> {
    let status: Status = client.get("/v1/status").await?;
    Ok(status.host)
}

/// Two hosts on a network of their own, and a question that one of them asks the other again and again.
#[derive(Debug)]
pub struct Conversation {
    clients: [Client; 2],
    network: String,
    asking: UdpSocket,
    answering: UdpSocket,
    to: SocketAddr,
    tries: u32,
    /// When both had joined.
    pub begun: Instant,
}

impl Conversation {
    /// Puts the two on a network that nobody else knows of.
    ///
    /// # Errors
    /// If one of them refuses, or does not hear of the network.
    pub async fn begin(crew: &mut Crew, first: &str, second: &str) -> Result<Self, Failure> {
        let clients = (crew.client(first)?, crew.client(second)?);
        // Names of hosts may be too long for one of a network together.
        let network = format!("pair-{}", PAIRS.fetch_add(1, Ordering::Relaxed));
        let (own, other) = join_both(&clients, &network).await?;
        let begun = Instant::now();
        let (asking, answering) = (bind(crew, first, own).await?, bind(crew, second, other).await?);
        let to = SocketAddr::new(other, ECHO_PORT);
        let clients = <[Client; 2]>::from(clients);
        Ok(Self { clients, network, asking, answering, to, tries: 0, begun })
    }

    /// Asks, lets the other answer what has come, and looks for an answer.
    ///
    /// # Errors
    /// If a socket fails otherwise than by a network that does not work yet.
    pub fn answered(&mut self) -> io::Result<bool> {
        self.asks(size_of::<u32>())
    }

    /// The same with a question as long as frames of a file are.
    ///
    /// # Errors
    /// As [`Self::answered`].
    pub fn says_much(&mut self) -> io::Result<bool> {
        self.asks(MUCH_BYTES)
    }

    fn asks(&mut self, bytes: usize) -> io::Result<bool> {
        let mut buffer = [0; MUCH_BYTES];
        self.tries = self.tries.wrapping_add(1);
        buffer[..size_of::<u32>()].copy_from_slice(&self.tries.to_be_bytes());
        ignore_refusals(self.asking.send_to(&buffer[..bytes], self.to))?;
        while let Some((length, from)) = ignore_refusals(self.answering.recv_from(&mut buffer))? {
            ignore_refusals(self.answering.send_to(&buffer[..length], from))?;
        }
        Ok(ignore_refusals(self.asking.recv_from(&mut buffer))?.is_some())
    }

    /// Takes an answer that has come already, without asking; whether there was one.
    ///
    /// # Errors
    /// As [`Self::answered`].
    pub fn take_answer(&mut self) -> io::Result<bool> {
        Ok(ignore_refusals(self.asking.recv_from(&mut [0; 64]))?.is_some())
    }

    /// The two addresses on the network: of who asks, and of who answers.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn addresses(&self) -> io::Result<(IpAddr, IpAddr)> {
        Ok((self.asking.local_addr()?.ip(), self.to.ip()))
    }

    /// Takes both off the network again.
    ///
    /// # Errors
    /// If one of them refuses.
    pub async fn end(self) -> Result<(), Failure> {
        for client in &self.clients {
            let _: Network = client.post(&format!("/v1/nets/{}/leave", segment(&self.network)), &()).await?;
        }
        Ok(())
    }
}

/// Puts two hosts on a network that is made for them; their addresses on it.
///
/// # Errors
/// If one of them refuses, or the second does not hear of the network.
pub async fn join_both(clients: &(Client, Client), network: &str) -> Result<(IpAddr, IpAddr), Failure> {
    create(&clients.0, network).await?;
    join(&clients.0, network).await?;
    awaited(&format!("the other host hears of {network}"), async || {
        match join(&clients.1, network).await {
            Ok(()) => Ok(Some(())),
            // The news has not come yet.
            Err(failure) if failure.code == "no_network" => Ok(None),
            Err(failure) => Err(failure),
        }
    })
    .await?;
    // Who joins before it has heard of the other may have taken the same address, and gets another.
    awaited(&format!("both hosts have addresses of their own on {network}"), async || {
        let both = (address(&clients.0, network).await?, address(&clients.1, network).await?);
        Ok(both.0.zip(both.1).filter(|(first, second)| first != second))
    })
    .await
}

/// Makes a network.
pub(in crate::bench) async fn create(client: &Client, name: &str) -> Result<(), Failure> {
    let body = NetCreateBody { name: name.to_owned(), ipv4: None, ipv6: None, mtu: None };
    let _: Network = client.post("/v1/nets", &body).await?;
    Ok(())
}

/// Puts a host on a network it has heard of.
pub(in crate::bench) async fn join(client: &Client, name: &str) -> Result<(), Failure> {
    let body = NetJoinBody { ipv4: None, device: None };
    let _: Network = client.post(&format!("/v1/nets/{}/join", segment(name)), &body).await?;
    Ok(())
}

/// A host's address on a network, as it is now.
pub(in crate::bench) async fn address(client: &Client, name: &str) -> Result<Option<IpAddr>, Failure> {
    let network: Network = client.get(&format!("/v1/nets/{}", segment(name))).await?;
    let device = network.standalone.and_then(|standalone| standalone.device);
    let address = device.and_then(|device| device.ipv4);
    Ok(address.and_then(|with_length| with_length.split('/').next()?.parse().ok()))
}

/// A socket on the host's address on the network, which may change hands a moment after the join.
async fn bind(crew: &mut Crew, host: &str, address: IpAddr) -> Result<UdpSocket, Failure> {
    let host = crew.world().host(host).map_err(lab_failure)?;
    awaited(&format!("{address} can be used"), async || {
        let bound = host.host.netns().enter(|| UdpSocket::bind((address, ECHO_PORT))).map_err(lab_failure)?;
        Ok(bound.ok())
    })
    .await
    .and_then(|socket| socket.set_nonblocking(true).map(|()| socket).map_err(lab_failure))
}

/// What a network says that does not work yet, and a socket that has nothing.
pub(super) fn ignore_refusals<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable, WouldBlock,
    };
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if [
                AddrNotAvailable,
                ConnectionRefused,
                HostUnreachable,
                NetworkDown,
                NetworkUnreachable,
                WouldBlock,
            ]
            .contains(&error.kind()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
