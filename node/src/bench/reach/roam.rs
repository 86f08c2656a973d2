//! A host that changes its network while a TCP connection of its programs goes through a link: does the connection live, and how long is it without a path?

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use consort_lab::case::{Case, Home, World};
use serde::Serialize;

use super::crew::Crew;
use super::pair::{self, Conversation};
use crate::control::api::Peer;
use crate::control::client::Client;
use crate::demo::stage::{DEADLINE, awaited, lab_failure};
use crate::failure::Failure;
use crate::why;

/// Any port: nothing else is on the network.
const PORT: u16 = 9;
/// Between two questions, and two bytes of the connection.
const STEP: Duration = Duration::from_millis(2);
/// How long the two talk after a change.
const TALK: Duration = Duration::from_secs(2);
/// How long they talk before one, as hosts do that were not connected a moment ago: within ten seconds a second control connection is taken for a redundant one.
pub const SETTLED: Duration = Duration::from_secs(12);
/// Bytes that come back before a connection is said to go on: more than were on the way.
const ECHOED_MIN: usize = 4096;
/// Who moves, and who stays.
const MOVER: &str = "mover";
const STAYER: &str = "stayer";

/// How long a direct path is waited for after a change, once frames pass again.
const DIRECT: Duration = Duration::from_secs(15);
/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(20);

/// Whether a member relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Relay {
    /// The founder does.
    Founder,
    /// Nobody does.
    Nobody,
}

/// What happens under a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// From the open to a home.
    HomeFromTheOpen,
    /// From that home to another.
    BetweenHomes,
    /// The provider gives the other home's router another address.
    RouterReaddressed,
}

/// All of them, in the order in which they are made.
pub const CHANGES: [Change; 3] = [Change::HomeFromTheOpen, Change::BetweenHomes, Change::RouterReaddressed];

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Roamed {
    /// What was done.
    pub change: Change,
    /// The other end's address of the path before and after, as who stayed sees it.
    pub before: Option<String>,
    /// The same.
    pub after: Option<String>,
    /// From the moment the new network was there until the next question was answered.
    pub without_path_ms: u64,
    /// The same, until who stayed sends directly; none: not within 15 s.
    pub direct_ms: Option<u64>,
    /// Bytes that came back over the connection afterwards; it is one and the same all the time.
    pub echoed_after: usize,
}

/// Who moves begins in the open; who stays is behind a NAT throughout.
fn case(relay: Relay) -> String {
    let relays = match relay {
        Relay::Founder => "config = '''\n[data]\nrelay = true\n'''\n",
        Relay::Nobody => "",
    };
    format!(
        "about = \"a host that moves\"\n[host.founder]\n{relays}[site.home]\nnat = \"port-cone\"\n[site.cafe]\nnat = \"port-cone\"\n\
         lan = \"192.168.7.0/24\"\n[site.office]\nnat = \"port-cone\"\nlan = \"192.168.3.0/24\"\n\
         [host.{STAYER}]\nsite = \"office\"\n[host.{MOVER}]\n"
    )
}

/// Some of [`CHANGES`], in their order, under one connection; before each the two talk so long.
///
/// # Errors
/// If the lab or a node fails, or the connection does not live.
pub async fn measure(
    changes: &[Change],
    settled: Duration,
    relay: Relay,
    logs: Option<&Path>,
) -> Result<Vec<Roamed>, Failure> {
    let case = Case::parse(&case(relay)).map_err(|faults| lab_failure(format!("{faults:?}")))?;
    let mut crew = Crew::new(World::build(&case).map_err(lab_failure)?);
    if let Some(directory) = logs {
        crew.keep_logs(directory).map_err(lab_failure)?;
    }
    crew.will_roam(MOVER);
    crew.start_overlay().await?;
    let mover = pair::host_id(&crew.client(MOVER)?).await?;
    let mut talk = Conversation::begin(&mut crew, MOVER, STAYER).await?;
    let stayer = crew.client(STAYER)?;
    awaited("the path is direct", async || {
        talk.answered().map_err(lab_failure)?;
        Ok((pair::way(&stayer, &mover).await? == why::Path::Direct).then_some(()))
    })
    .await?;
    let mut connection = Connection::open(&mut crew, &talk)?;
    let mut all = Vec::new();
    for change in changes.iter().copied() {
        connection.talk(&mut talk, settled).await?;
        let before = address(&stayer, &mover).await?;
        make(&mut crew, change)?;
        let changed = Instant::now();
        while talk.take_answer().map_err(lab_failure)? {}
        let mut answered_after = None;
        let echoed = connection.echoed;
        awaited(&format!("the connection goes on after {change:?}"), async || {
            connection.step()?;
            if talk.answered().map_err(lab_failure)? {
                answered_after.get_or_insert(changed.elapsed());
            }
            let goes_on = connection.echoed > echoed + ECHOED_MIN;
            Ok(answered_after.filter(|_| goes_on))
        })
        .await?;
        let mut direct_ms = None;
        while direct_ms.is_none() && changed.elapsed() < DIRECT {
            connection.talk(&mut talk, LOOK).await?;
            let is_direct = pair::way(&stayer, &mover).await? == why::Path::Direct;
            direct_ms = is_direct.then(|| milliseconds(changed.elapsed()));
        }
        connection.talk(&mut talk, TALK).await?;
        let without_path = answered_after.unwrap_or_default();
        let roamed = Roamed {
            change,
            before,
            after: address(&stayer, &mover).await?,
            without_path_ms: milliseconds(without_path),
            direct_ms,
            echoed_after: connection.echoed - echoed,
        };
        eprintln!("{change:?}: a path again after {} ms, direct after {direct_ms:?}", roamed.without_path_ms);
        all.push(roamed);
    }
    Ok(all)
}

fn make(crew: &mut Crew, change: Change) -> Result<(), Failure> {
    let world = crew.world();
    match change {
        Change::HomeFromTheOpen => world.move_host(MOVER, Home::Site("home".to_owned())),
        Change::BetweenHomes => world.move_host(MOVER, Home::Site("cafe".to_owned())),
        Change::RouterReaddressed => world.readdress("cafe").map(drop),
    }
    .map_err(lab_failure)
}

/// Where who stays sends what is for who moves.
async fn address(stayer: &Client, mover: &str) -> Result<Option<String>, Failure> {
    let peers: Vec<Peer> = stayer.get("/v1/peers").await?;
    let peer = peers.into_iter().find(|peer| peer.host == mover);
    Ok(peer.and_then(|peer| peer.link).and_then(|link| link.address))
}

/// One TCP connection inside the network, whose other end says everything back. Who moves has opened it.
struct Connection {
    near: TcpStream,
    far: TcpStream,
    echoed: usize,
}

impl Connection {
    fn open(crew: &mut Crew, talk: &Conversation) -> Result<Self, Failure> {
        let (_, to) = talk.addresses().map_err(lab_failure)?;
        let listener = crew.world().host(STAYER).map_err(lab_failure)?.host.netns();
        let listener =
            listener.enter(|| TcpListener::bind((to, PORT))).map_err(lab_failure)?.map_err(lab_failure)?;
        let mover = crew.world().host(MOVER).map_err(lab_failure)?.host.netns();
        let target = SocketAddr::new(to, PORT);
        let near = mover.enter(|| TcpStream::connect_timeout(&target, DEADLINE)).map_err(lab_failure)?;
        let near = near.map_err(lab_failure)?;
        let (far, _) = listener.accept().map_err(lab_failure)?;
        for end in [&near, &far] {
            end.set_nonblocking(true).map_err(lab_failure)?;
            end.set_nodelay(true).map_err(lab_failure)?;
        }
        Ok(Self { near, far, echoed: 0 })
    }

    /// Some bytes more, and what came.
    fn step(&mut self) -> Result<(), Failure> {
        let mut bytes = [0; 4096];
        let broken =
            |error: io::Error| lab_failure(format!("the connection inside the network broke: {error}"));
        waiting(self.near.write(&[7; 64])).map_err(broken)?;
        if let Some(length) = waiting(self.far.read(&mut bytes)).map_err(broken)? {
            if length == 0 {
                return Err(lab_failure("the connection inside the network was closed"));
            }
            // As much as its buffer takes; nothing depends on the rest.
            waiting(self.far.write(&bytes[..length])).map_err(broken)?;
        }
        self.echoed += waiting(self.near.read(&mut bytes)).map_err(broken)?.unwrap_or_default();
        Ok(())
    }

    async fn talk(&mut self, talk: &mut Conversation, time: Duration) -> Result<(), Failure> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.step()?;
            talk.answered().map_err(lab_failure)?;
            tokio::time::sleep(STEP).await;
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn waiting<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// A table in Markdown.
pub(super) fn for_people(all: &[Roamed]) -> String {
    let mut text =
        "| change | path before | path after | without a path | direct again | connection |\n|--|--|--|--|--|--|\n".to_owned();
    let shown = |address: &Option<String>| address.clone().unwrap_or_else(|| "–".to_owned());
    for roamed in all {
        let _ = writeln!(
            text,
            "| {:?} | {} | {} | {} ms | {} | lives, {} bytes came back afterwards |",
            roamed.change,
            shown(&roamed.before),
            shown(&roamed.after),
            roamed.without_path_ms,
            roamed.direct_ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms")),
            roamed.echoed_after,
        );
    }
    text
}
