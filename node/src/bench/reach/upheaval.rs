//! What becomes of a network when nodes end and come again, and when it falls into two halves: time to the first frame again, and what
//! the TCP connections inside make of it.
//!
//! ```text
//!  half of the hosts: in the open        the other half: a site with routed addresses
//!        └────────────── one network of all hosts ──────────────┘
//!  SIGTERM to one node, SIGKILL to one, SIGKILL to all, no datagram between the halves for a while
//! ```
//! Each pair of hosts that an upheaval concerns asks until it is answered, on the hosts' own sockets. A ring of TCP connections, with as many across as
//! within the halves, stands before the first upheaval, and each asks and answers all the time: a connection that is reset, closed or does not go on is
//! counted.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use consort_lab::case::{Case, World};
use consort_lab::firewall::Rules;
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::crew::Crew;
use super::pair::{address, create, ignore_refusals, join, milliseconds};
use crate::demo::stage::{awaited, lab_failure};
use crate::failure::Failure;

/// The name of the site, and of the network.
const SITE: &str = "far";
const NETWORK: &str = "meadow";
/// Any ports: nothing else is on the network.
const ECHO_PORT: u16 = 7;
const TALK_PORT: u16 = 8;
/// Between two rounds of questions: a few hundred pairs that asked more often would be most of what the nodes have to do.
const STEP: Duration = Duration::from_millis(100);
/// Between two questions on a TCP connection.
const TALK_EVERY: Duration = Duration::from_millis(200);
/// Until a pair that is not answered counts as cut off.
const ANSWERED_MAX: Duration = Duration::from_secs(90);
/// How long TCP connections have to go on after an upheaval: the kernel's pauses double, and after half a minute the next is as long.
const GO_ON_MAX: Duration = Duration::from_secs(90);

/// What came of one upheaval.
#[derive(Debug, Clone, Serialize)]
pub struct Upheaval {
    /// What was done.
    pub what: String,
    /// Pairs it concerns.
    pub pairs: usize,
    /// Of those, how many were never answered again.
    pub cut_off: usize,
    /// From the end of it (the start of the node, the healing) to the first answer, the median pair's, the last's.
    pub first_ms: u64,
    /// The median pair's.
    pub median_ms: u64,
    /// The last pair's.
    pub last_ms: u64,
    /// TCP connections that ended so far.
    pub tcp_ended: usize,
    /// TCP connections that had not gone on in time.
    pub tcp_silent: usize,
    /// The longest that a TCP connection was without an answer in this upheaval.
    pub tcp_pause_ms: u64,
}

/// All of them.
#[derive(Debug, Clone, Serialize)]
pub struct Upheavals {
    /// Hosts.
    pub hosts: usize,
    /// TCP connections inside the network.
    pub connections: usize,
    /// One after the other.
    pub upheavals: Vec<Upheaval>,
}

impl Upheavals {
    /// Whether every pair was answered again, and no connection ended.
    #[must_use]
    pub fn all_well(&self) -> bool {
        self.upheavals.iter().all(|one| one.cut_off + one.tcp_ended + one.tcp_silent == 0)
    }

    pub(super) fn for_people(&self) -> String {
        let mut text = format!(
            "{} hosts on one network, {} TCP connections inside it\n\n\
             | upheaval | pairs | first frame again: first, median, last pair | cut off | TCP: ended, silent, longest pause |\n|--|--|--|--|--|\n",
            self.hosts, self.connections
        );
        for one in &self.upheavals {
            text += &format!(
                "| {} | {} | {}, {}, {} ms | {} | {}, {}, {} ms |\n",
                one.what,
                one.pairs,
                one.first_ms,
                one.median_ms,
                one.last_ms,
                one.cut_off,
                one.tcp_ended,
                one.tcp_silent,
                one.tcp_pause_ms
            );
        }
        text
    }
}

/// One after the other, with a partition of so long.
///
/// # Errors
/// If the lab cannot be made, or a node does not start.
pub async fn measure(hosts: u32, partition: Duration) -> Result<Upheavals, Failure> {
    let mut network = Gathering::begin(hosts).await?;
    let mut upheavals = Vec::new();
    let last = network.members.len() - 1;
    upheavals.push(network.restart("SIGTERM, one node", &[last], Signal::SIGTERM).await?);
    upheavals.push(network.restart("SIGKILL, one node", &[last], Signal::SIGKILL).await?);
    let all: Vec<usize> = (0..=last).collect();
    upheavals.push(network.restart("SIGKILL, all nodes", &all, Signal::SIGKILL).await?);
    upheavals.push(network.partition(partition).await?);
    Ok(Upheavals { hosts: network.members.len(), connections: network.talks.len(), upheavals })
}

/// A host on the network.
#[derive(Debug)]
struct Member {
    name: String,
    address: IpAddr,
    is_far: bool,
    socket: UdpSocket,
}

/// Hosts on one network, that ask each other.
#[derive(Debug)]
struct Gathering {
    crew: Crew,
    members: Vec<Member>,
    talks: Vec<Talk>,
    talking: JoinSet<()>,
    rounds: u64,
}

impl Gathering {
    async fn begin(hosts: u32) -> Result<Self, Failure> {
        let mut text = format!("about = \"upheavals\"\n[site.{SITE}]\n");
        for number in 0..hosts {
            // Node 0 is in the open: it founds.
            let site = if number % 2 == 1 { format!("site = \"{SITE}\"\n") } else { String::new() };
            text += &format!("[host.node-{number:03}]\n{site}");
        }
        let case: Case = super::parse(&text)?;
        let mut crew = Crew::new(World::build(&case).map_err(lab_failure)?);
        crew.start_overlay().await?;
        let names = crew.names();
        for (at, name) in names.iter().enumerate() {
            let client = crew.client(name)?;
            if at == 0 {
                create(&client, NETWORK).await?;
            }
            awaited(&format!("{name} hears of the network"), async || match join(&client, NETWORK).await {
                Ok(()) => Ok(Some(())),
                Err(failure) if failure.code == "no_network" => Ok(None),
                Err(failure) => Err(failure),
            })
            .await?;
        }
        // Two that join before they have heard of each other may take one address, and one of them gets another.
        let addresses = awaited("all hosts have addresses of their own", async || {
            let mut all = Vec::new();
            for name in &names {
                all.extend(address(&crew.client(name)?, NETWORK).await?);
            }
            let different: BTreeSet<IpAddr> = all.iter().copied().collect();
            Ok((different.len() == names.len()).then_some(all))
        })
        .await?;
        let mut members: Vec<Member> = Vec::new();
        for (name, address) in names.into_iter().zip(addresses) {
            let host = crew.world().host(&name).map_err(lab_failure)?;
            let is_far = host.home != consort_lab::case::Home::Open;
            // On no address of its own: it outlives the device.
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, ECHO_PORT));
            let bound = host.host.netns().enter(|| UdpSocket::bind(any)).map_err(lab_failure)?;
            let socket = bound.map_err(lab_failure)?;
            socket.set_nonblocking(true).map_err(lab_failure)?;
            members.push(Member { name, address, is_far, socket });
        }
        let mut this = Self { crew, members, talks: Vec::new(), talking: JoinSet::new(), rounds: 0 };
        let pairs = this.pairs(|_, _| true);
        let reached = this.until_answered(&pairs, Instant::now()).await?;
        if reached.len() < pairs.len() {
            let cut_off = pairs.len() - reached.len();
            return Err(lab_failure(format!("{cut_off} of {} pairs were never answered", pairs.len())));
        }
        this.begin_talks()?;
        Ok(this)
    }

    /// A ring, which crosses at every step, and one that never does.
    fn begin_talks(&mut self) -> Result<(), Failure> {
        let count = self.members.len();
        for at in 0..count {
            for step in [1, 2] {
                let to = (at + step) % count;
                if to != at {
                    let talk = Talk::begin(self, at, to)?;
                    self.talks.push(talk);
                }
            }
        }
        Ok(())
    }

    fn pairs(&self, concerned: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
        let count = self.members.len();
        let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        all.filter(|(from, to)| from != to && concerned(*from, *to)).collect()
    }

    /// Asks until each pair was answered since `begun`; when each was.
    async fn until_answered(
        &mut self,
        pairs: &[(usize, usize)],
        begun: Instant,
    ) -> Result<Vec<Duration>, Failure> {
        let mut open: BTreeSet<(usize, usize)> = pairs.iter().copied().collect();
        let mut reached = Vec::new();
        // Answers to questions of before do not count.
        self.rounds += 1;
        let round = self.rounds;
        let asked_from = Instant::now();
        while !open.is_empty() && asked_from.elapsed() < ANSWERED_MAX {
            for (from, to) in &open {
                let question = Question { round, from: *from, to: *to }.encode();
                let to = SocketAddr::new(self.members[*to].address, ECHO_PORT);
                ignore_refusals(self.members[*from].socket.send_to(&question, to)).map_err(lab_failure)?;
            }
            tokio::time::sleep(STEP).await;
            for pair in self.hear(round).map_err(lab_failure)? {
                if open.remove(&pair) {
                    reached.push(begun.elapsed());
                }
            }
        }
        reached.sort_unstable();
        Ok(reached)
    }

    /// Answers what was asked; the pairs that were answered.
    fn hear(&self, round: u64) -> io::Result<Vec<(usize, usize)>> {
        let mut answered = Vec::new();
        let mut buffer = [0; 64];
        for (at, member) in self.members.iter().enumerate() {
            while let Some((length, from)) = ignore_refusals(member.socket.recv_from(&mut buffer))? {
                match Question::decode(&buffer[..length]) {
                    Some(question) if question.round == round && question.from == at => {
                        answered.push((question.from, question.to));
                    }
                    Some(_) => drop(ignore_refusals(member.socket.send_to(&buffer[..length], from))?),
                    None => {}
                }
            }
        }
        Ok(answered)
    }

    async fn restart(&mut self, what: &str, which: &[usize], signal: Signal) -> Result<Upheaval, Failure> {
        eprintln!("{what}");
        self.talks.iter().for_each(Talk::forget);
        let names: Vec<String> = which.iter().map(|at| self.members[*at].name.clone()).collect();
        for name in &names {
            self.crew.end_node(name, signal).await?;
        }
        let begun = Instant::now();
        for name in &names {
            self.crew.start(name, &[])?;
        }
        let pairs = self.pairs(|from, to| which.contains(&from) || which.contains(&to));
        let reached = self.until_answered(&pairs, begun).await?;
        Ok(self.upheaval(what, pairs.len(), &reached).await)
    }

    async fn partition(&mut self, how_long: Duration) -> Result<Upheaval, Failure> {
        let what = format!("two halves for {} s", how_long.as_secs());
        eprintln!("{what}");
        self.talks.iter().for_each(Talk::forget);
        self.set_firewall(&["deny in any", "deny out any"])?;
        tokio::time::sleep(how_long).await;
        let halves: Vec<bool> = self.members.iter().map(|member| member.is_far).collect();
        let within = self.pairs(|from, to| halves[from] == halves[to]);
        let reached = self.until_answered(&within, Instant::now()).await?;
        if reached.len() < within.len() {
            return Err(lab_failure("a half did not hold together while it was cut off from the other"));
        }
        self.set_firewall(&[])?;
        let begun = Instant::now();
        let across = self.pairs(|from, to| halves[from] != halves[to]);
        let reached = self.until_answered(&across, begun).await?;
        Ok(self.upheaval(&what, across.len(), &reached).await)
    }

    fn set_firewall(&mut self, rules: &[&str]) -> Result<(), Failure> {
        let rules = Rules::parse(rules.iter().copied()).map_err(lab_failure)?;
        self.crew.world().gateway(SITE).map_err(lab_failure)?.set_firewall(rules).map_err(lab_failure)
    }

    async fn upheaval(&mut self, what: &str, pairs: usize, reached: &[Duration]) -> Upheaval {
        let begun = Instant::now();
        while begun.elapsed() < GO_ON_MAX && self.talks.iter().any(Talk::is_silent) {
            tokio::time::sleep(TALK_EVERY).await;
        }
        let at = |index: usize| milliseconds(reached.get(index).copied().unwrap_or_default());
        Upheaval {
            what: what.to_owned(),
            pairs,
            cut_off: pairs - reached.len(),
            first_ms: at(0),
            median_ms: at(reached.len() / 2),
            last_ms: at(reached.len().saturating_sub(1)),
            tcp_ended: self.talks.iter().filter(|talk| talk.has_ended()).count(),
            tcp_silent: self.talks.iter().filter(|talk| !talk.has_ended() && talk.is_silent()).count(),
            tcp_pause_ms: self.talks.iter().map(Talk::pause).map(milliseconds).max().unwrap_or_default(),
        }
    }
}

/// What is asked, and answered as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Question {
    round: u64,
    from: usize,
    to: usize,
}

impl Question {
    fn encode(self) -> [u8; 12] {
        let index = |at: usize| u16::try_from(at).unwrap_or(u16::MAX).to_be_bytes();
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.round.to_be_bytes());
        bytes[8..10].copy_from_slice(&index(self.from));
        bytes[10..].copy_from_slice(&index(self.to));
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (round, rest) = bytes.split_first_chunk()?;
        let (from, to) = rest.split_first_chunk()?;
        let index = |bytes: &[u8; 2]| usize::from(u16::from_be_bytes(*bytes));
        Some(Self { round: u64::from_be_bytes(*round), from: index(from), to: index(to.try_into().ok()?) })
    }
}

/// A TCP connection inside the network.
#[derive(Debug)]
struct Talk {
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug)]
struct Heard {
    last: Instant,
    /// The longest pause since the last upheaval began.
    pause: Duration,
    ended: bool,
}

impl Talk {
    fn begin(gathering: &mut Gathering, from: usize, to: usize) -> Result<Self, Failure> {
        let address = SocketAddr::new(gathering.members[to].address, TALK_PORT);
        let (near, far) = (gathering.members[from].name.clone(), gathering.members[to].name.clone());
        let far = gathering.crew.world().host(&far).map_err(lab_failure)?.host.netns();
        let listener = far.enter(|| TcpListener::bind(address)).map_err(lab_failure)?.map_err(lab_failure)?;
        let near = gathering.crew.world().host(&near).map_err(lab_failure)?.host.netns();
        let connect = || std::net::TcpStream::connect_timeout(&address, ANSWERED_MAX);
        let asking = near.enter(connect).map_err(lab_failure)?.map_err(lab_failure)?;
        let (answering, _) = listener.accept().map_err(lab_failure)?;
        let heard = Arc::new(Mutex::new(Heard { last: Instant::now(), pause: Duration::ZERO, ended: false }));
        let (mut asking, mut answering) = (in_runtime(asking)?, in_runtime(answering)?);
        let noted = Arc::clone(&heard);
        gathering.talking.spawn(async move {
            let mut question = 0_u32;
            let outcome: io::Result<()> = async {
                loop {
                    question = question.wrapping_add(1);
                    asking.write_all(&question.to_be_bytes()).await?;
                    if asking.read_u32().await? != question {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    note(&noted);
                    tokio::time::sleep(TALK_EVERY).await;
                }
            }
            .await;
            locked(&noted).ended = outcome.is_err();
        });
        gathering.talking.spawn(async move {
            while let Ok(question) = answering.read_u32().await {
                if answering.write_u32(question).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { heard })
    }

    /// A new upheaval begins.
    fn forget(&self) {
        locked(&self.heard).pause = Duration::ZERO;
    }

    /// Whether nothing was heard for some questions' time.
    fn is_silent(&self) -> bool {
        let heard = locked(&self.heard);
        !heard.ended && heard.last.elapsed() > 5 * TALK_EVERY
    }

    fn has_ended(&self) -> bool {
        locked(&self.heard).ended
    }

    fn pause(&self) -> Duration {
        let heard = locked(&self.heard);
        heard.pause.max(heard.last.elapsed())
    }
}

fn locked(heard: &Mutex<Heard>) -> std::sync::MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(heard: &Mutex<Heard>) {
    let mut heard = locked(heard);
    heard.pause = heard.pause.max(heard.last.elapsed());
    heard.last = Instant::now();
}

fn in_runtime(stream: std::net::TcpStream) -> Result<tokio::net::TcpStream, Failure> {
    stream.set_nonblocking(true).map_err(lab_failure)?;
    tokio::net::TcpStream::from_std(stream).map_err(lab_failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_come_out_as_they_went_in_and_nothing_else_does() {
        let question = Question { round: 7, from: 3, to: 300 };
        assert_eq!(Question::decode(&question.encode()), Some(question));
        for length in 0..12 {
            assert_eq!(Question::decode(&question.encode()[..length]), None);
        }
        assert_eq!(Question::decode(&[0; 13]), None);
    }
}
