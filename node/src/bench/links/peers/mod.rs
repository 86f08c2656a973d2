//! Other programs that join two hosts, through small adapters: how each is told who it is and where the other end is.
//!
//! A [`Peer`] is a description; [`Peer::start`] does the same for all: gets the command lines, starts the processes in the two hosts, waits for
//! their device, gives it an MTU and an address, and sees a datagram through. Keys and settings are files in the lab's own tmpfs. The processes
//! are in the hosts' namespaces and end with them. Whoever does not start is told of with a reason and never left out in silence.
//!
//! Each program runs as its documents advise for two hosts that know each other's address, with its usual cipher, all datagrams whole on the wire.

mod boringtun;
mod fastd;
mod gotatun;
mod n2n;
mod openvpn;
mod tinc;
mod uapi;
mod vpncloud;
mod wireguard_go;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use consort_lab::Netlink;
use consort_lab::host::Host;

use super::contender::{Contender, Daemon, GLANCE, Layer, Role, START_MAX};
use crate::failure::Failure;

/// All that are known.
const ALL: [&Peer; 8] = [
    &tinc::PEER,
    &fastd::PEER,
    &n2n::PEER,
    &openvpn::PEER,
    &vpncloud::PEER,
    &boringtun::PEER,
    &gotatun::PEER,
    &wireguard_go::PEER,
];

/// The end of what a program said, where it failed: enough to know why.
const LOG_TAIL_BYTES: usize = 300;

/// A program, and how it is used.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its name, here and as its device.
    pub(super) name: &'static str,
    pub(super) layer: Layer,
    /// How it seals, as configured here.
    pub(super) cipher: &'static str,
    /// The programs that have to be there, itself first.
    programs: &'static [&'static str],
    /// The arguments that make it tell its version.
    version: &'static [&'static str],
    /// Of its device, so that a full packet makes a datagram of at most the wire's 1500 bytes.
    mtu: u32,
    /// Writes what its two ends need and gives their command lines.
    prepare: fn(&Site) -> io::Result<[Vec<CommandLine>; 2]>,
    /// What is told to the running process of an end.
    configure: Option<Configure>,
}

/// What an adapter gets to know.
#[derive(Debug)]
pub(super) struct Site {
    /// For keys and settings of both ends; goes with the lab.
    directory: PathBuf,
    /// The underlay's addresses.
    wire: [Ipv4Addr; 2],
    /// The addresses of the devices.
    inside: [Ipv4Addr; 2],
}

impl Site {
    /// A file of one end.
    fn file(&self, side: usize, name: &str) -> PathBuf {
        self.directory.join(format!("{side}-{name}"))
    }

    /// Sees that an end has its address.
    fn check_address(&self, host: &Host, side: usize) -> Result<(), String> {
        let address = self.inside[side];
        let bound = host.netns().enter(|| UdpSocket::bind((address, 0))).and_then(|bound| bound);
        bound.map(drop).map_err(|error| format!("its device did not get the address {address}: {error}"))
    }

    /// Writes a file of one end and gives its path.
    fn write(&self, side: usize, name: &str, text: &str) -> io::Result<String> {
        let path = self.file(side, name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }
}

/// Processes of one end: the program, and what it needs beside it.
const DAEMONS_MAX: usize = 2;

/// Where a process of an end says what it has to say.
fn log(side: usize, number: usize) -> String {
    format!("{side}-log{number}")
}

/// Tells the running process of an end (0 or 1) what it has to know.
type Configure = fn(&Site, usize, &Daemon) -> io::Result<()>;

/// A program with its arguments.
type CommandLine = Vec<String>;

/// A command line from words.
fn command_line<const N: usize>(words: [&str; N]) -> CommandLine {
    words.map(str::to_owned).to_vec()
}

/// Runs a program to its end and gives what it said; an error has what it complained of.
fn said_by<const N: usize>(words: [&str; N]) -> io::Result<String> {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{}: {}", words.join(" "), tail(&complaint))))
}

/// Who takes part, and whether it is a failure if one does not.
pub(super) fn chosen(words: &[String]) -> Result<(Vec<&'static Peer>, bool), Failure> {
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["none"] => Ok((Vec::new(), false)),
        ["installed"] => Ok((ALL.to_vec(), false)),
        ["all"] => Ok((ALL.to_vec(), true)),
        ref names => {
            let find = |name: &&str| {
                ALL.into_iter().find(|peer| peer.name == *name).ok_or_else(|| {
                    Failure::input("unknown_peer", format!("--peers {name}: no such program is known"))
                        .remedy(format!(
                            "take all, none, installed, or some of {}",
                            ALL.map(|peer| peer.name).join(",")
                        ))
                })
            };
            Ok((names.iter().map(find).collect::<Result<_, _>>()?, true))
        }
    }
}

impl Peer {
    /// The first of its programs that is not installed.
    fn missing(&self) -> Option<&'static str> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let there =
            |program: &str| std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
        self.programs.iter().copied().find(|program| !there(program))
    }

    /// The first line in which it tells its version; some tell it on standard error, or with an exit code of failure.
    pub(super) fn version(&self) -> Option<String> {
        let output = Command::new(self.programs[0]).args(self.version).stdin(Stdio::null()).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines()
            .map(str::trim)
            .find(|line| line.contains(|c: char| c.is_ascii_digit()))
            .map(str::to_owned)
    }

    /// Where its keys, settings and words are.
    pub(super) fn directory(&self, state: &Path) -> PathBuf {
        state.join(self.name)
    }

    /// Starts its two ends; an error is the reason why it does not take part.
    pub(super) fn start(
        &self,
        number: u8,
        hosts: &[Host; 2],
        links: &mut [Netlink; 2],
        wire: [Ipv4Addr; 2],
        state: &Path,
    ) -> Result<Contender, String> {
        if let Some(program) = self.missing() {
            return Err(format!("{program} is not installed"));
        }
        let inside = [1, 2].map(|end| Ipv4Addr::new(10, 100, number, end));
        let site = Site { directory: self.directory(state), wire, inside };
        fs::create_dir_all(&site.directory).map_err(|error| error.to_string())?;
        let ends = (self.prepare)(&site).map_err(|error| error.to_string())?;
        let mut contender = Contender {
            name: self.name,
            role: Role::Peer,
            layer: self.layer,
            cipher: Some(self.cipher),
            addresses: inside,
            daemons: Vec::new(),
        };
        for (side, lines) in ends.into_iter().enumerate() {
            for (number, line) in lines.iter().enumerate() {
                let daemon = spawn(&hosts[side], line, &site.directory.join(log(side, number)))
                    .map_err(|error| error.to_string())?;
                contender.daemons.push(daemon);
            }
            self.set_up(&site, side, &mut links[side], &mut contender.daemons)?;
            site.check_address(&hosts[side], side)?;
        }
        Ok(contender)
    }

    /// Waits for the device of an end, whose process was started last, and sets both up.
    fn set_up(
        &self,
        site: &Site,
        side: usize,
        link: &mut Netlink,
        daemons: &mut [Daemon],
    ) -> Result<(), String> {
        let began = Instant::now();
        while link.link_index(self.name).is_err() {
            if daemons.iter_mut().any(Daemon::has_ended) || began.elapsed() > START_MAX {
                return Err(format!("it made no device; {}", self.last_words(&site.directory)));
            }
            std::thread::sleep(GLANCE);
        }
        if let (Some(configure), Some(daemon)) = (self.configure, daemons.last()) {
            configure(site, side, daemon)
                .map_err(|error| format!("{error}; {}", self.last_words(&site.directory)))?;
        }
        link.set_mtu(self.name, self.mtu).map_err(|error| error.to_string())?;
        link.set_up(self.name).map_err(|error| error.to_string())?;
        // Some give their device its address themselves; `check_address` sees whether it has it.
        let _there_already = link.add_address(self.name, site.inside[side].into(), 24);
        Ok(())
    }

    /// The end of what its processes said.
    pub(super) fn last_words(&self, directory: &Path) -> String {
        let mut words = String::new();
        for side in [0, 1] {
            for number in 0..DAEMONS_MAX {
                // Not every end has so many processes.
                words += &fs::read_to_string(directory.join(log(side, number))).unwrap_or_default();
            }
        }
        match tail(&words) {
            "" => format!("{} said nothing", self.programs[0]),
            end => format!("{} said: {end}", self.programs[0]),
        }
    }
}

/// Starts a process in a host, what it says going to a file.
fn spawn(host: &Host, line: &CommandLine, log: &Path) -> io::Result<Daemon> {
    let log = fs::File::create(log)?;
    let child = host.command(&line[0]).args(&line[1..]).stdout(log.try_clone()?).stderr(log).spawn()?;
    Daemon::in_host(child)
}

/// The last few words.
fn tail(text: &str) -> &str {
    let text = text.trim();
    let start =
        (text.len().saturating_sub(LOG_TAIL_BYTES)..=text.len()).find(|at| text.is_char_boundary(*at));
    &text[start.unwrap_or(text.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_chosen_as_they_are_written() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            chosen(&words)
                .map(|(peers, required)| (peers.iter().map(|peer| peer.name).collect::<Vec<_>>(), required))
        };
        assert_eq!(names(&["fastd", "tinc"]).unwrap(), (vec!["fastd", "tinc"], true));
        assert_eq!(names(&["none"]).unwrap(), (vec![], false));
        assert_eq!(names(&["all"]).unwrap().0.len(), ALL.len());
        let failure = names(&["fastd", "hamachi"]).unwrap_err();
        assert!(
            failure.message.contains("hamachi") && failure.remedy.unwrap().contains("fastd"),
            "names the remedy"
        );
    }

    #[test]
    fn device_names_fit_the_kernel() {
        assert!(ALL.iter().all(|peer| peer.name.len() < 16 && !peer.programs.is_empty()));
    }

    #[test]
    fn a_tail_does_not_cut_a_letter() {
        let text = "ü".repeat(LOG_TAIL_BYTES);
        assert!(tail(&text).len() <= LOG_TAIL_BYTES && !tail(&text).is_empty());
        assert_eq!(tail(" short \n"), "short");
    }
}
