//! `eth0` inside is the TAP whose descriptor the driver handed out.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Outcome::{self, Passed, Skipped};
use crate::Test;
use crate::world::World;

pub(crate) const TESTS: &[Test] = &[
    (
        "what_the_machine_sends_comes_out_of_the_descriptor",
        what_the_machine_sends_comes_out_of_the_descriptor,
    ),
    ("what_goes_into_the_descriptor_reaches_the_machine", what_goes_into_the_descriptor_reaches_the_machine),
    (
        "two_machines_reach_each_other_by_their_descriptors",
        two_machines_reach_each_other_by_their_descriptors,
    ),
    ("address_mtu_and_queues_are_as_asked", address_mtu_and_queues_are_as_asked),
];

/// `struct virtio_net_hdr` before every frame.
const HEADER: usize = 10;

/// The next frame that is wanted, without its header.
fn next_frame(queue: &OwnedFd, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut buffer = vec![0; 65_536 + HEADER];
    while Instant::now() < deadline {
        poll(&mut [PollFd::new(queue, PollFlags::IN)], Some(&Timespec { tv_sec: 1, tv_nsec: 0 }))?;
        while let Ok(length) = rustix::io::read(queue, &mut buffer[..]) {
            let frame = buffer.get(HEADER..length).context("a frame shorter than its header")?;
            if wanted(frame) {
                return Ok(frame.to_vec());
            }
        }
    }
    bail!("no such frame came")
}

fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 6])
}

fn is_echo(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&1)
}

fn write_frame(queue: &OwnedFd, frame: &[u8]) -> Result<()> {
    let mut bytes = vec![0; HEADER];
    bytes.extend_from_slice(frame);
    ensure!(rustix::io::write(queue, &bytes)? == bytes.len());
    Ok(())
}

fn what_the_machine_sends_comes_out_of_the_descriptor(world: &World) -> Result<Outcome> {
    if let Some(why) = &world.no_taps {
        return Ok(Skipped(why.clone()));
    }
    let spec = world.spec();
    let mac = spec.nics[0].mac;
    world.with_machine(&spec, |id, started| {
        ensure!(
            started.nics.len() == 1 && started.nics[0].name == "eth0" && started.nics[0].queues.len() == 1
        );
        let queue = &started.nics[0].queues[0];
        let ping = world.wait(
            world.driver_exec(id, &["/consort/guest", "ping", "--until-answer", "-w", "20000", "10.7.0.9"]),
        )?;
        let frame = next_frame(queue, is_arp)?;
        ensure!(frame[..6] == [0xff; 6] && frame[6..12] == mac, "{frame:02x?}");
        ensure!(frame[38..42] == [10, 7, 0, 9], "it asks for the neighbour");
        drop(ping);
        Ok(Passed)
    })
}

fn what_goes_into_the_descriptor_reaches_the_machine(world: &World) -> Result<Outcome> {
    if let Some(why) = &world.no_taps {
        return Ok(Skipped(why.clone()));
    }
    let spec = world.spec();
    let mac = spec.nics[0].mac;
    world.with_machine(&spec, |id, started| {
        let queue = &started.nics[0].queues[0];
        let work = world.wait(world.driver_exec(
            id,
            &["/consort/guest", "ping", "--until-answer", "-D", "-s", "1372", "-w", "20000", "10.7.0.9"],
        ))?;
        let us = [2, 0, 0, 0, 0xff, 9];
        let ask = next_frame(queue, is_arp)?;
        // ARP reply (RFC 826): sender and target change places.
        let mut answer =
            [&mac[..], &us[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &us[..], &[10, 7, 0, 9], &ask[22..32]]
                .concat();
        answer.resize(60, 0);
        write_frame(queue, &answer)?;
        let mut echo = next_frame(queue, is_echo)?;
        ensure!(echo.len() == 14 + 1400, "a packet as large as the MTU, whole: {}", echo.len());
        ensure!(echo[20] & 0x40 != 0, "it carries DF");
        echo[..6].copy_from_slice(&mac);
        echo[6..12].copy_from_slice(&us);
        let (source, target): (Vec<u8>, Vec<u8>) = (echo[26..30].to_vec(), echo[30..34].to_vec());
        echo[26..30].copy_from_slice(&target);
        echo[30..34].copy_from_slice(&source);
        // From request to reply: the type falls from 8 to 0, so the checksum rises by 8 in its upper byte.
        echo[34] = 0;
        let sum = u32::from(u16::from_be_bytes([echo[36], echo[37]])) + 0x800;
        let sum = u16::try_from((sum & 0xffff) + (sum >> 16))?;
        echo[36..38].copy_from_slice(&sum.to_be_bytes());
        write_frame(queue, &echo)?;
        let ran = world.wait(crate::world::collect(work.stream))?;
        ensure!(ran.code == 0 && ran.stdout.contains("1 received"), "{ran:?}");
        Ok(Passed)
    })
}

fn two_machines_reach_each_other_by_their_descriptors(world: &World) -> Result<Outcome> {
    if let Some(why) = &world.no_taps {
        return Ok(Skipped(why.clone()));
    }
    let (mut one, mut two) = (world.spec(), world.spec());
    one.nics[0].ipv4 = vec![("10.7.0.10".parse()?, 24)];
    one.nics[0].ipv6 = vec![("fd00:7::10".parse()?, 64)];
    two.nics[0].ipv4 = vec![("10.7.0.11".parse()?, 24)];
    two.nics[0].ipv6 = vec![("fd00:7::11".parse()?, 64)];
    one.hosts = vec![("10.7.0.11".parse()?, "two".into())];
    two.run = Some(["/consort/guest", "http", "serve", "--port", "8080"].map(str::to_owned).to_vec());
    world.with_machine(&one, |first, started_one| {
        world.with_machine(&two, |_, started_two| {
            let ends = [&started_one.nics[0].queues[0], &started_two.nics[0].queues[0]];
            let done = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| cross(ends, &done));
                let work = || -> Result<()> {
                    let pings = [
                        "/consort/guest",
                        "ping",
                        "--json",
                        "--until-answer",
                        "-w",
                        "20000",
                        "two",
                        "fd00:7::11",
                    ];
                    let ran = world.run(first, &pings)?;
                    ensure!(ran.code == 0 && ran.stdout.contains("\"all_reached\":true"), "{ran:?}");
                    ensure!(world.run(first, &["/consort/guest", "wait", "tcp", "two:8080"])?.code == 0);
                    let fetched = world.run(
                        first,
                        &["/consort/guest", "http", "fetch", "--json", "http://two:8080/bytes/300000"],
                    )?;
                    let expected = world.run(first, &["/consort/guest", "http", "expect", "300000"])?.stdout;
                    ensure!(fetched.stdout.contains(expected.trim()), "{fetched:?}");
                    Ok(())
                };
                let outcome = work();
                done.store(true, std::sync::atomic::Ordering::Relaxed);
                outcome
            })?;
            Ok(Passed)
        })
    })
}

/// A wire: what comes from either end goes into the other, header and all.
fn cross(ends: [&OwnedFd; 2], done: &std::sync::atomic::AtomicBool) {
    let mut buffer = vec![0; 65_536 + HEADER];
    while !done.load(std::sync::atomic::Ordering::Relaxed) {
        let mut watched = [PollFd::new(ends[0], PollFlags::IN), PollFd::new(ends[1], PollFlags::IN)];
        let _ = poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 }));
        for (from, to) in [(0, 1), (1, 0)] {
            while let Ok(length) = rustix::io::read(ends[from], &mut buffer[..]) {
                let _ = rustix::io::write(ends[to], &buffer[..length]);
            }
        }
    }
}

fn address_mtu_and_queues_are_as_asked(world: &World) -> Result<Outcome> {
    if let Some(why) = &world.no_taps {
        return Ok(Skipped(why.clone()));
    }
    let mut spec = world.spec();
    spec.nics[0].queues = 3;
    let mut second = spec.nics[0].clone();
    second.name = "eth1".into();
    second.mac = [2, 0, 0, 0, 0xaa, 1];
    second.mtu = 9000;
    second.ipv4 = vec![("10.8.0.2".parse()?, 24)];
    second.ipv6 = Vec::new();
    second.queues = 1;
    spec.nics.push(second);
    world.with_machine(&spec, |id, started| {
        let queues: Vec<_> = started.nics.iter().map(|nic| (nic.name.as_str(), nic.queues.len())).collect();
        ensure!(queues == [("eth0", 3), ("eth1", 1)], "{queues:?}");
        let listed = world.run(id, &["/consort/guest", "addr", "--json"])?.stdout;
        let eth1 = "{\"name\":\"eth1\",\"mac\":\"02:00:00:00:aa:01\",\"mtu\":9000,\"up\":true,\"addresses\":[\"10.8.0.2/24\"";
        ensure!(listed.contains(eth1), "{listed}");
        ensure!(listed.contains("\"mtu\":1400") && listed.contains("\"fd00:7::2/64\""), "{listed}");
        ensure!(world.run(id, &["/consort/guest", "wait", "addr"])?.code == 0);
        let hosts = world.run(id, &["/consort/guest", "ping", "-w", "1", "neighbour"])?;
        ensure!(hosts.stdout.contains("neighbour (10.7.0.3)"), "{hosts:?}");
        let too_large = world.run(id, &["/consort/guest", "ping", "-D", "-s", "1373", "10.7.0.9"])?;
        ensure!(too_large.code == 1 && too_large.stdout.contains("too large"), "{too_large:?}");
        Ok(Passed)
    })
}
