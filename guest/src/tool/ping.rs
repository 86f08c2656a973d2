//! `ping`: ICMP and ICMPv6 echo to many targets at once, with one socket for each family.
//!
//! Uses ping sockets (`SOCK_DGRAM` with ICMP, Linux 3.0), so it needs no capability: the kernel fills identifier and checksum, and
//! hands back only answers to this socket. A request's sequence number says which target and attempt it belongs to. With `-D` the
//! packet carries DF and is never fragmented on this machine either, so one that is too large is an error and not a success.
//!
//! By default each target gets `-c` requests, `-i` milliseconds apart, and the command ends when all answers are in or `-w`
//! milliseconds after the last request. With `--until-answer` a target gets requests until it answers once or `-w` is over: the way
//! to measure when a machine becomes reachable.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recvfrom, sendto, socket_with,
};

use super::Failure;
use crate::text::{Arguments, json, json_list, resolve, unknown};

/// Targets at most: with two families, a slice of 2048 machines from one command.
const TARGETS_MAX: usize = 4096;
/// Requests at most in one run: the sequence number has 16 bits and must not repeat.
const REQUESTS_MAX: usize = 65_535;
/// Payload at most: what an IPv4 packet holds.
const PAYLOAD_MAX: usize = 65_507;
/// Requests sent before answers are read again, so that a burst does not fill the socket's buffer with answers.
const BURST: usize = 64;

#[derive(Debug)]
struct Options {
    count: usize,
    payload: usize,
    interval: Duration,
    wait: Duration,
    dont_fragment: bool,
    until_answer: bool,
    json: bool,
}

#[derive(Debug)]
struct Target {
    name: String,
    address: IpAddr,
    sent: usize,
    next: Instant,
    round_trips: Vec<Duration>,
    error: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Bad usage, or sockets that cannot be had.
pub fn run(words: Vec<String>) -> Result<ExitCode, Failure> {
    let mut arguments = Arguments::new(words);
    let options = read_options(&mut arguments)?;
    let names = arguments.rest();
    if names.is_empty() || names.len() > TARGETS_MAX {
        return Err(Failure::Usage(format!("name 1 to {TARGETS_MAX} targets")));
    }
    if !options.until_answer && names.len() * options.count > REQUESTS_MAX {
        return Err(Failure::Usage(format!("targets times -c is at most {REQUESTS_MAX}")));
    }
    let start = Instant::now();
    let targets = names
        .into_iter()
        .map(|name| {
            let address = resolve(&name)?;
            Ok(Target { name, address, sent: 0, next: start, round_trips: Vec::new(), error: None })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut run = Run::new(options, targets)?;
    run.drive(start)?;
    Ok(run.report(start.elapsed()))
}

fn read_options(arguments: &mut Arguments) -> Result<Options, Failure> {
    let mut options = Options {
        count: 1,
        payload: 56,
        interval: Duration::from_millis(20),
        wait: Duration::from_secs(2),
        dont_fragment: false,
        until_answer: false,
        json: false,
    };
    while let Some(option) = arguments.option() {
        match option.as_str() {
            "-c" => options.count = arguments.value(&option)?,
            "-s" => options.payload = arguments.value(&option)?,
            "-i" => options.interval = Duration::from_millis(arguments.value(&option)?),
            "-w" => options.wait = Duration::from_millis(arguments.value(&option)?),
            "-D" => options.dont_fragment = true,
            "--until-answer" => options.until_answer = true,
            "--json" => options.json = true,
            other => return Err(unknown(other)),
        }
    }
    if options.count == 0 || options.payload > PAYLOAD_MAX {
        return Err(Failure::Usage(format!("-c is at least 1 and -s at most {PAYLOAD_MAX}")));
    }
    Ok(options)
}

struct Run {
    options: Options,
    targets: Vec<Target>,
    sockets: Vec<(bool, OwnedFd)>,
    /// Sequence number → target and time of sending, of requests without an answer.
    open: HashMap<u16, (usize, Instant)>,
    sequence: usize,
    last_sent: Instant,
}

impl Run {
    fn new(options: Options, targets: Vec<Target>) -> Result<Self, Failure> {
        let mut sockets = Vec::new();
        for v4 in [true, false] {
            if targets.iter().any(|target| target.address.is_ipv4() == v4) {
                sockets.push((v4, open_socket(v4, options.dont_fragment)?));
            }
        }
        Ok(Self { options, targets, sockets, open: HashMap::new(), sequence: 0, last_sent: Instant::now() })
    }

    fn wants(&self, target: &Target) -> bool {
        if target.error.is_some() {
            false
        } else if self.options.until_answer {
            target.round_trips.is_empty()
        } else {
            target.sent < self.options.count
        }
    }

    fn drive(&mut self, start: Instant) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            self.send_due(now);
            self.read_answers()?;
            let next =
                self.targets.iter().filter(|target| self.wants(target)).map(|target| target.next).min();
            let end = if self.options.until_answer { start } else { self.last_sent } + self.options.wait;
            let until = match next {
                _ if self.options.until_answer
                    && (next.is_none() || now >= end || self.sequence >= REQUESTS_MAX) =>
                {
                    return Ok(());
                }
                Some(next) => next,
                None if self.open.is_empty() || now >= end => return Ok(()),
                None => end,
            };
            self.wait_until(until)?;
        }
    }

    fn wait_until(&self, until: Instant) -> Result<(), Failure> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut descriptors: Vec<_> =
            self.sockets.iter().map(|(_, socket)| PollFd::new(socket, PollFlags::IN)).collect();
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Failure::Failed(format!("wait for answers: {error}"))),
        }
    }

    fn send_due(&mut self, now: Instant) {
        let mut burst = 0;
        for index in 0..self.targets.len() {
            let target = &self.targets[index];
            if burst >= BURST || self.sequence >= REQUESTS_MAX || target.next > now || !self.wants(target) {
                continue;
            }
            let number = u16::try_from(self.sequence).expect("the run ends before the numbers do");
            let address = target.address;
            let Some((_, socket)) = self.sockets.iter().find(|(v4, _)| *v4 == address.is_ipv4()) else {
                continue;
            };
            let packet = request(address.is_ipv4(), number, self.options.payload);
            let sent_at = Instant::now();
            let outcome = sendto(socket, &packet, SendFlags::DONTWAIT, &SocketAddr::new(address, 0));
            let target = &mut self.targets[index];
            match outcome {
                Ok(_) => {
                    target.sent += 1;
                    target.next = sent_at + self.options.interval;
                    self.open.insert(number, (index, sent_at));
                    self.sequence += 1;
                    self.last_sent = sent_at;
                    burst += 1;
                }
                // The queue is full: the answers in it are read first.
                Err(Errno::AGAIN | Errno::NOBUFS) => return,
                // A route or neighbour that is not there yet may come; what the interface cannot carry will not.
                Err(Errno::NETUNREACH | Errno::HOSTUNREACH) if self.options.until_answer => {
                    target.next = sent_at + self.options.interval
                }
                Err(error) => target.error = Some(words_of(error)),
            }
        }
    }

    fn read_answers(&mut self) -> Result<(), Failure> {
        let mut buffer = vec![0; PAYLOAD_MAX + 8];
        for position in 0..self.sockets.len() {
            loop {
                let (v4, socket) = &self.sockets[position];
                match recvfrom(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                    Ok((length, _, _)) => {
                        let number = answer(*v4, &buffer[..length], self.options.payload);
                        if let Some((target, sent_at)) = number.and_then(|number| self.open.remove(&number)) {
                            self.targets[target].round_trips.push(sent_at.elapsed());
                        }
                    }
                    Err(Errno::AGAIN) => break,
                    // What an ICMP error left on the socket; the request simply gets no answer.
                    Err(
                        Errno::HOSTUNREACH
                        | Errno::NETUNREACH
                        | Errno::CONNREFUSED
                        | Errno::MSGSIZE
                        | Errno::INTR,
                    ) => {}
                    Err(error) => return Err(Failure::Failed(format!("read answers: {error}"))),
                }
            }
        }
        Ok(())
    }

    fn report(&self, took: Duration) -> ExitCode {
        let reached = self.targets.iter().filter(|target| !target.round_trips.is_empty()).count();
        let all = reached == self.targets.len();
        if self.options.json {
            let targets = json_list(self.targets.iter().map(target_json));
            let took = milliseconds(took);
            println!(
                "{{\"targets\":{targets},\"reached\":{reached},\"all_reached\":{all},\"took_ms\":{took}}}"
            );
        } else {
            for target in &self.targets {
                println!("{}", target_text(target));
            }
        }
        if all { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }
}

fn open_socket(v4: bool, dont_fragment: bool) -> Result<OwnedFd, Failure> {
    let (family, protocol) =
        if v4 { (AddressFamily::INET, ipproto::ICMP) } else { (AddressFamily::INET6, ipproto::ICMPV6) };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(protocol))
        .map_err(Failure::at("open a ping socket (net.ipv4.ping_group_range must include this group)"))?;
    if dont_fragment {
        let set = if v4 {
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)
        } else {
            set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO)
        };
        set.map_err(Failure::at("forbid fragments"))?;
    }
    Ok(socket)
}

/// An echo request: type, code, checksum and identifier left to the kernel, sequence number, payload.
fn request(v4: bool, number: u16, payload: usize) -> Vec<u8> {
    let mut packet = vec![if v4 { 8 } else { 128 }, 0, 0, 0, 0, 0];
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend((0..payload).map(|index| payload_byte(number, index)));
    packet
}

fn payload_byte(number: u16, index: usize) -> u8 {
    u8::try_from(index % 251).expect("251 fits a byte") ^ number.to_be_bytes()[1]
}

/// The sequence number of a whole and unaltered answer.
fn answer(v4: bool, packet: &[u8], payload: usize) -> Option<u16> {
    let (header, data) = packet.split_at_checked(8)?;
    let number = u16::from_be_bytes([header[6], header[7]]);
    let right = header[0] == if v4 { 0 } else { 129 }
        && data.len() == payload
        && data.iter().enumerate().all(|(index, byte)| *byte == payload_byte(number, index));
    right.then_some(number)
}

fn words_of(error: Errno) -> String {
    match error {
        Errno::MSGSIZE => "too large for the interface without fragments".to_owned(),
        other => other.to_string(),
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64() * 1000.0)
}

fn bounds(target: &Target) -> Option<(Duration, Duration, Duration)> {
    let fastest = target.round_trips.iter().min()?;
    let slowest = target.round_trips.iter().max()?;
    let count = u32::try_from(target.round_trips.len()).ok()?;
    Some((*fastest, target.round_trips.iter().sum::<Duration>() / count, *slowest))
}

fn target_json(target: &Target) -> String {
    let times = bounds(target).map_or_else(
        || "null".to_owned(),
        |(min, avg, max)| {
            format!(
                "{{\"min\":{},\"avg\":{},\"max\":{}}}",
                milliseconds(min),
                milliseconds(avg),
                milliseconds(max)
            )
        },
    );
    let error = target.error.as_deref().map_or_else(|| "null".to_owned(), json);
    format!(
        "{{\"target\":{},\"address\":{},\"sent\":{},\"received\":{},\"rtt_ms\":{times},\"error\":{error}}}",
        json(&target.name),
        json(&target.address.to_string()),
        target.sent,
        target.round_trips.len()
    )
}

fn target_text(target: &Target) -> String {
    let outcome = match (bounds(target), &target.error) {
        (_, Some(error)) => error.clone(),
        (Some((min, avg, max)), None) => {
            format!("min {} avg {} max {} ms", milliseconds(min), milliseconds(avg), milliseconds(max))
        }
        (None, None) => "no answer".to_owned(),
    };
    format!(
        "{} ({}): {} sent, {} received, {outcome}",
        target.name,
        target.address,
        target.sent,
        target.round_trips.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_rfc_792_has_it() {
        assert_eq!(request(true, 0x0102, 3), [8, 0, 0, 0, 0, 0, 1, 2, 2, 3, 0]);
        assert_eq!(request(false, 0, 1), [128, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn only_whole_and_unaltered_answers_count() {
        let mut packet = request(true, 7, 20);
        packet[0] = 0;
        assert_eq!(answer(true, &packet, 20), Some(7));
        assert_eq!(answer(false, &packet, 20), None);
        assert_eq!(answer(true, &packet, 21), None);
        packet[20] ^= 1;
        assert_eq!(answer(true, &packet, 20), None);
        assert_eq!(answer(true, &packet[..7], 20), None);
    }
}
