//! The lab itself, in real namespaces. Each test has a lab of its own and says aloud when it cannot have one.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use consort_lab::capture::{Capture, CaptureOptions, inject};
use consort_lab::host::{Host, command_pid};
use consort_lab::middlebox::Impairment;
use consort_lab::wide::{Cable, HOST_LINK, Place, Wide};
use consort_lab::{Netlink, enter, harness, reexec, usage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_consort-lab");
/// Waiting for something that must come; never asserted as a time.
const DEADLINE: Duration = Duration::from_secs(30);

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn cabled(wide: &mut Wide, names: [&str; 2], cable: Cable) -> [(Host, Place); 2] {
    names.map(|name| {
        let host = Host::start(name).unwrap();
        let place = wide.attach(&host, cable).unwrap();
        (host, place)
    })
}

fn two_hosts(cable: Cable) -> (Wide, [(Host, Place); 2]) {
    let mut wide = Wide::new().unwrap();
    let hosts = cabled(&mut wide, ["a", "b"], cable);
    (wide, hosts)
}

/// A socket of host 1 that receives from a socket of host 0, over IPv4.
fn datagram_pair(hosts: &[(Host, Place); 2]) -> (UdpSocket, UdpSocket) {
    let bind = |index: usize| {
        let (host, place) = &hosts[index];
        host.netns().enter(|| UdpSocket::bind((place.ipv4, 0))).unwrap().unwrap()
    };
    let (sender, receiver) = (bind(0), bind(1));
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    receiver.set_read_timeout(Some(DEADLINE)).unwrap();
    (sender, receiver)
}

/// Sends bytes by TCP from host 0 to host 1 and returns what arrived.
fn transfer(hosts: &[(Host, Place); 2], to: IpAddr, bytes: &[u8]) -> Vec<u8> {
    let listener = hosts[1].0.netns().enter(|| TcpListener::bind((to, 0))).unwrap().unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let mut all = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
            all
        });
        let mut stream = hosts[0].0.netns().enter(|| TcpStream::connect(address)).unwrap().unwrap();
        stream.write_all(bytes).unwrap();
        drop(stream);
        receiver.join().unwrap()
    })
}

#[test]
fn inside_we_are_root_of_an_empty_network() {
    harness::inside(PROGRAM, "inside_we_are_root_of_an_empty_network", || {
        assert!(nix::unistd::geteuid().is_root());
        let links = std::fs::read_to_string("/proc/net/dev").unwrap();
        assert_eq!(links.lines().filter(|line| line.contains(':')).count(), 1, "{links}");
        assert!(Path::new("/proc/1/stat").exists() && enter::directory().unwrap().is_dir());
    });
}

#[test]
fn a_killed_host_takes_its_processes_along_and_keeps_its_disk() {
    harness::inside(PROGRAM, "a_killed_host_takes_its_processes_along_and_keeps_its_disk", || {
        let mut host = Host::start("victim").unwrap();
        std::fs::write(host.state().join("kept"), "yes").unwrap();
        let mut sleeper = host.command("sleep").arg("1000").spawn().unwrap();
        until("the command's start", || command_pid(&sleeper).is_ok());
        host.kill().unwrap();
        assert!(!sleeper.wait().unwrap().success());
        let again = Host::start("victim").unwrap();
        assert_eq!(std::fs::read_to_string(again.state().join("kept")).unwrap(), "yes");
    });
}

#[test]
fn a_command_in_a_host_sees_that_host_alone_and_gives_its_exit_code() {
    harness::inside(PROGRAM, "a_command_in_a_host_sees_that_host_alone_and_gives_its_exit_code", || {
        let host = Host::start("alone").unwrap();
        let script = "hostname; ls -d /proc/[0-9]* | wc -l; exit 7";
        let output = host.command("sh").args(["-c", script]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (name, processes) = text.split_once('\n').unwrap();
        assert_eq!((name, output.status.code()), ("alone", Some(7)));
        // Its init, the shell, ls and wc, whatever runs in the lab beside it.
        assert!(processes.trim().parse::<u32>().unwrap() <= 5, "{text}");
    });
}

#[test]
fn killing_a_commands_stand_in_kills_the_command() {
    harness::inside(PROGRAM, "killing_a_commands_stand_in_kills_the_command", || {
        let host = Host::start("h").unwrap();
        let mut sleeper = host.command("sleep").arg("1000").spawn().unwrap();
        until("the command's start", || command_pid(&sleeper).is_ok());
        let pid = command_pid(&sleeper).unwrap();
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        until("the command's end", || usage::of_process(pid).is_err());
    });
}

#[test]
fn signals_to_a_commands_stand_in_reach_the_command() {
    harness::inside(PROGRAM, "signals_to_a_commands_stand_in_reach_the_command", || {
        let host = Host::start("h").unwrap();
        let mut command = host.command("sh");
        let script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.01; done";
        let mut child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(42));
    });
}

#[test]
fn hosts_reach_each_other_over_both_ip_versions_and_the_capture_sees_it() {
    harness::inside(PROGRAM, "hosts_reach_each_other_over_both_ip_versions_and_the_capture_sees_it", || {
        let (_wide, hosts) = two_hosts(Cable::default());
        let marker = b"this crosses in the open".to_vec();
        let pcap = enter::directory().unwrap().join("all.pcap");
        let options = CaptureOptions {
            links: hosts.iter().map(|(_, place)| place.router_link.clone()).collect(),
            markers: vec![marker.clone()],
            pcap: Some(pcap.clone()),
            keep_recent: true,
        };
        let capture = Capture::start(options).unwrap();
        assert_eq!(transfer(&hosts, hosts[1].1.ipv4.into(), &marker), marker);
        assert_eq!(transfer(&hosts, hosts[1].1.ipv6.into(), &marker), marker);
        let captured = capture.finish().unwrap();
        let recent = &captured.recent;
        assert_eq!(captured.marked, [2], "{captured:?}");
        assert!(captured.counters.tcp >= 12 && captured.counters.neighbour >= 2, "{captured:?}");
        assert!(
            captured.counters.frames >= recent.len() as u64
                && captured.counters.frames >= captured.received_by_links
        );
        assert!(std::fs::metadata(pcap).unwrap().len() > captured.counters.bytes);
    });
}

#[test]
fn heard_frames_can_be_sent_again() {
    harness::inside(PROGRAM, "heard_frames_can_be_sent_again", || {
        let (_wide, hosts) = two_hosts(Cable { real_wire: true, ..Cable::default() });
        let options = CaptureOptions {
            links: vec![hosts[0].1.router_link.clone()],
            keep_recent: true,
            ..CaptureOptions::default()
        };
        let capture = Capture::start(options).unwrap();
        let (sender, receiver) = datagram_pair(&hosts);
        sender.send(b"once only").unwrap();
        let mut buffer = [0; 100];
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 9);
        until("the capture", || capture.counters().udp == 1);
        let heard: Vec<_> =
            capture.recent().into_iter().filter(|frame| frame.ends_with(b"once only")).collect();
        inject(hosts[0].0.netns(), HOST_LINK, &heard).unwrap();
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 9);
    });
}

#[test]
fn a_real_wire_carries_no_super_frames() {
    harness::inside(PROGRAM, "a_real_wire_carries_no_super_frames", || {
        let mut wide = Wide::new().unwrap();
        let mut longest = |names, real_wire| {
            let hosts = cabled(&mut wide, names, Cable { real_wire, mtu: 1400, ..Cable::default() });
            // What is listened to is the wire, before a card's driver merges what came in one poll.
            wide.router().set_features(&hosts[0].1.router_link, &[("rx-gro", false)]).unwrap();
            let options = CaptureOptions {
                links: vec![hosts[0].1.router_link.clone()],
                keep_recent: true,
                ..CaptureOptions::default()
            };
            let capture = Capture::start(options).unwrap();
            let bytes = vec![7; 1 << 20];
            assert_eq!(transfer(&hosts, hosts[1].1.ipv4.into(), &bytes).len(), bytes.len());
            capture.finish().unwrap().recent.iter().map(Vec::len).max().unwrap()
        };
        assert_eq!(longest(["a", "b"], true), 1414);
        assert!(longest(["c", "d"], false) > 1414, "otherwise the test above shows nothing");
    });
}

#[test]
fn a_middle_box_loses_doubles_and_hides_what_is_too_long() {
    harness::inside(PROGRAM, "a_middle_box_loses_doubles_and_hides_what_is_too_long", || {
        let cable = Cable { impairment: Some(Impairment::default()), ..Cable::default() };
        let (_wide, mut hosts) = two_hosts(cable);
        let (sender, receiver) = datagram_pair(&hosts);
        let mut buffer = [0; 2000];
        let mut received = || receiver.recv(&mut buffer).unwrap();
        sender.send(&[1; 10]).unwrap();
        assert_eq!(received(), 10);

        let mut order = |impairment| {
            hosts[0].1.middlebox.as_mut().unwrap().change(impairment).unwrap();
        };
        // Orders and frames come by different ways: repeat until the order has its effect.
        order(Impairment { duplicate: 1.0, ..Impairment::default() });
        let mut last = 0;
        for length in 20u8.. {
            sender.send(&vec![2; usize::from(length)]).unwrap();
            let now = received();
            if now == last {
                break;
            }
            last = now;
        }
        order(Impairment { mtu: Some(1000), ..Impairment::default() });
        until("the hole", || {
            sender.send(&[3; 1400]).unwrap();
            sender.send(&[4; 500]).unwrap();
            let mut lengths = Vec::new();
            while lengths.last() != Some(&500) {
                lengths.push(received());
            }
            lengths == [500]
        });
    });
}

#[test]
fn an_unplugged_host_is_silent_until_it_is_plugged_in_again() {
    harness::inside(PROGRAM, "an_unplugged_host_is_silent_until_it_is_plugged_in_again", || {
        let (mut wide, hosts) = two_hosts(Cable::default());
        let before = wide.router().link_statistics(&hosts[0].1.router_link).unwrap();
        wide.unplug(&hosts[0].1).unwrap();
        let (sender, receiver) = datagram_pair(&hosts);
        let _ = sender.send(&[1; 10]);
        assert_eq!(
            wide.router().link_statistics(&hosts[0].1.router_link).unwrap().rx_packets,
            before.rx_packets
        );
        wide.plug(&hosts[0].1).unwrap();
        until("the way back", || sender.send(&[2; 20]).is_ok());
        let mut buffer = [0; 100];
        let mut length = receiver.recv(&mut buffer).unwrap();
        if length == 10 {
            length = receiver.recv(&mut buffer).unwrap();
        }
        assert_eq!(length, 20);
        assert_eq!(transfer(&hosts, hosts[1].1.ipv6.into(), b"six"), b"six");
    });
}

#[test]
fn a_bridge_joins_links_and_a_refusal_names_what_was_attempted() {
    harness::inside(PROGRAM, "a_bridge_joins_links_and_a_refusal_names_what_was_attempted", || {
        let mut netlink = Netlink::open().unwrap();
        netlink.create_bridge("br0").unwrap();
        netlink.create_veth("one", "two", None, 1500).unwrap();
        netlink.set_bridge("one", "br0").unwrap();
        netlink.set_mtu("two", 9000).unwrap();
        let host = Host::start("h").unwrap();
        netlink.move_link("two", host.netns()).unwrap();
        Netlink::open_in(host.netns()).unwrap().set_up("two").unwrap();
        let error = netlink.set_up("two").unwrap_err().to_string();
        assert!(error.contains("two") && error.contains("No such device"), "{error}");
        assert!(netlink.set_features("one", &[("no-such-feature", false)]).is_err());
        assert!(Netlink::open_in(host.netns()).unwrap().link_index(HOST_LINK).is_err());
    });
}

/// From outside: the whole tree of processes, and the directory, are gone after `-9` to the caller, and after Ctrl-C.
#[test]
fn nothing_is_left_when_the_caller_is_killed_or_interrupted() {
    for signal in [nix::sys::signal::Signal::SIGKILL, nix::sys::signal::Signal::SIGINT] {
        // A group made inside is as what a node makes for a machine; where groups may not be written, there is nothing to remove.
        let script = "for d in /sys/fs/cgroup/*/${CONSORT_LAB_DIR#/tmp/} /sys/fs/cgroup/*/*/*/${CONSORT_LAB_DIR#/tmp/}; do \
                      [ -d $d ] && mkdir $d/machine; done; echo $CONSORT_LAB_DIR; sleep 1000";
        let mut caller = Command::new(PROGRAM)
            .args(["sh", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut directory = String::new();
        let mut stdout = std::io::BufReader::new(caller.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut directory).unwrap();
        if directory.is_empty() {
            assert_eq!(caller.wait().unwrap().code(), Some(reexec::EXIT_UNAVAILABLE));
            let _ = std::io::stderr().write_all(b"SKIPPED nothing_is_left: no lab here\n");
            return;
        }
        let directory = PathBuf::from(directory.trim());
        assert!(directory.is_dir(), "outside, the directory is a mount point and no more");
        let name = directory.file_name().unwrap().to_str().unwrap();
        let mut tree = Vec::new();
        // The janitor, the init, the shell, the sleep.
        until("the start of all processes", || {
            tree = descendants(caller.id());
            tree.len() >= 4
        });
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(caller.id().cast_signed()), signal).unwrap();
        caller.wait().unwrap();
        until("the end of all processes", || tree.iter().all(|pid| usage::of_process(*pid).is_err()));
        until("the end of the directory", || !directory.exists());
        until("the end of its control groups", || groups_of(name).is_empty());
    }
}

/// Control groups of a lab, wherever hierarchies are usually mounted.
fn groups_of(lab: &str) -> Vec<PathBuf> {
    let output = Command::new("find").args(["/sys/fs/cgroup", "-name", lab]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect()
}

fn descendants(pid: u32) -> Vec<u32> {
    let children = usage::children(pid).unwrap();
    let further = children.iter().flat_map(|child| descendants(*child)).collect::<Vec<_>>();
    [children, further].concat()
}
