//! The middle box as a process in a network namespace of its own: reads frames, asks the lines, sends.
//!
//! It learns its impairment, also a later one, as a line of numbers on standard input.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;

use super::{INNER, Impairment, Line, OUTER};
use crate::packet_socket::PacketSocket;
use crate::process::{attempted, follow};
use crate::reexec::{Arguments, EXIT_FAILED};
use crate::sysctl;

/// A super-frame with its headers; on a real wire all are far shorter.
const FRAME_BYTES_MAX: usize = 66_000;
/// Frames taken from one side before the other has its turn.
const BURST: usize = 64;

/// `lab-middlebox --seed N`: prints "ready" when its namespace stands, waits for an impairment, prints "running", runs until killed.
pub(crate) fn main(arguments: &Arguments<'_>) -> i32 {
    match start(arguments) {
        Ok(()) => 0,
        Err(reason) => {
            eprintln!("consort: the middle box failed: {reason}");
            EXIT_FAILED
        }
    }
}

fn start(arguments: &Arguments<'_>) -> Result<(), String> {
    follow(Signal::SIGKILL, arguments)?;
    let seed = arguments.value::<u64>("--seed").ok_or("a middle box needs a seed")?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(attempted("make its namespace"))?;
    // The box is a cable: it has no addresses and says nothing itself.
    sysctl::set("net/ipv6/conf/default/disable_ipv6", "1").map_err(|error| error.to_string())?;
    say("ready")?;
    let mut control = BufReader::new(io::stdin());
    let mut first = String::new();
    control.read_line(&mut first).map_err(attempted("read its orders"))?;
    let impairment = decode(&first).ok_or("its orders make no sense")?;
    let sides = [INNER, OUTER].map(PacketSocket::open);
    let [Ok(inner), Ok(outer)] = sides else { return Err("its links are not there".to_owned()) };
    say("running")?;
    let lines = [Line::new(impairment, seed), Line::new(impairment, !seed)];
    run(&[inner, outer], lines, control).map_err(attempted("move frames"))
}

fn say(line: &str) -> Result<(), String> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(attempted("report to the lab"))
}

/// Line 0 leads from side 0 to side 1, line 1 back.
fn run(sides: &[PacketSocket; 2], mut lines: [Line; 2], control: BufReader<io::Stdin>) -> io::Result<()> {
    let mut orders = Orders { control, pending: Vec::new() };
    fcntl(orders.control.get_ref(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let started = Instant::now();
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    loop {
        if let Some(impairment) = orders.latest()? {
            lines.iter_mut().for_each(|line| line.change(impairment));
        }
        let mut waiting = false;
        for (side, line) in sides.iter().zip(&mut lines) {
            let mut taken = 0;
            while taken < BURST
                && let Some(length) = side.receive(&mut buffer)?
            {
                line.handle_frame(started.elapsed(), &buffer[..length]);
                taken += 1;
            }
            waiting |= taken == BURST;
        }
        for (line, side) in lines.iter_mut().zip(sides.iter().rev()) {
            while let Some(frame) = line.poll_output(started.elapsed()) {
                side.send(&frame)?;
            }
        }
        if !waiting {
            let next = lines.iter().filter_map(Line::poll_timeout).min();
            wait(sides, &orders, next.map(|at| at.saturating_sub(started.elapsed())))?;
        }
    }
}

fn wait(sides: &[PacketSocket; 2], orders: &Orders, timeout: Option<Duration>) -> io::Result<()> {
    let stdin = orders.control.get_ref();
    let mut watched =
        [sides[0].as_fd(), sides[1].as_fd(), stdin.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    nix::poll::ppoll(&mut watched, timeout.map(TimeSpec::from_duration), None)?;
    Ok(())
}

/// Orders that come while frames move; the last complete one counts.
struct Orders {
    control: BufReader<io::Stdin>,
    pending: Vec<u8>,
}

impl Orders {
    fn latest(&mut self) -> io::Result<Option<Impairment>> {
        let mut bytes = [0; 512];
        match self.control.read(&mut bytes) {
            // The lab is gone; its death signal is on the way.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => self.pending.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let Some(end) = self.pending.iter().rposition(|byte| *byte == b'\n') else { return Ok(None) };
        let complete: Vec<u8> = self.pending.drain(..=end).collect();
        Ok(String::from_utf8_lossy(&complete).lines().last().and_then(decode))
    }
}

/// An impairment as a line of numbers.
pub(super) fn encode(impairment: &Impairment) -> String {
    format!(
        "{} {} {} {} {} {} {} {}",
        impairment.delay.as_nanos(),
        impairment.jitter.as_nanos(),
        impairment.loss,
        impairment.duplicate,
        impairment.reorder,
        impairment.rate.unwrap_or(0),
        impairment.queue_bytes,
        impairment.mtu.unwrap_or(0)
    )
}

fn decode(line: &str) -> Option<Impairment> {
    let mut words = line.split_ascii_whitespace();
    let mut word = || words.next();
    Some(Impairment {
        delay: Duration::from_nanos(word()?.parse().ok()?),
        jitter: Duration::from_nanos(word()?.parse().ok()?),
        loss: word()?.parse().ok()?,
        duplicate: word()?.parse().ok()?,
        reorder: word()?.parse().ok()?,
        rate: Some(word()?.parse().ok()?).filter(|rate| *rate > 0),
        queue_bytes: word()?.parse().ok()?,
        mtu: Some(word()?.parse().ok()?).filter(|mtu| *mtu > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_the_way_as_text() {
        let orders = Impairment {
            delay: Duration::from_millis(20),
            jitter: Duration::from_micros(3),
            loss: 0.015,
            rate: Some(10_000_000),
            mtu: Some(1280),
            ..Impairment::default()
        };
        assert_eq!(decode(&encode(&orders)), Some(orders));
        assert_eq!(decode(&encode(&Impairment::default())), Some(Impairment::default()));
        assert_eq!(decode("1 2 3"), None);
    }
}
