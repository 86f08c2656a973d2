//! Starting, pausing, stopping, losing and finding machines, and that nothing is ever left.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use consort_machine::driver::{Driver, EndReason, Fate, MachineState, RunState, StartError};
use consort_machine::image::ImageId;
use consort_machine::spec::{KeeperCommand, MachineId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Outcome::{self, Passed, Skipped};
use crate::Test;
use crate::checks::{Traces, nothing_new};
use crate::world::World;

pub(crate) const TESTS: &[Test] = &[
    ("a_removed_machine_leaves_nothing", a_removed_machine_leaves_nothing),
    ("many_machines_start_at_once", many_machines_start_at_once),
    ("a_failed_start_leaves_nothing", a_failed_start_leaves_nothing),
    ("a_dropped_start_leaves_nothing", a_dropped_start_leaves_nothing),
    (
        "a_killed_keeper_takes_its_machine_along_and_is_swept_up",
        a_killed_keeper_takes_its_machine_along_and_is_swept_up,
    ),
    ("a_restarted_daemon_finds_its_machines", a_restarted_daemon_finds_its_machines),
    ("a_lapsed_lease_ends_the_machine", a_lapsed_lease_ends_the_machine),
    ("a_paused_machine_stands_still", a_paused_machine_stands_still),
    ("stopping_is_orderly_and_then_not", stopping_is_orderly_and_then_not),
    ("the_command_is_run_and_started_again", the_command_is_run_and_started_again),
    ("the_console_shows_its_past_and_takes_input", the_console_shows_its_past_and_takes_input),
    ("enter_on_the_console_starts_a_shell", enter_on_the_console_starts_a_shell),
    ("each_arrow_may_be_asked_for_again", each_arrow_may_be_asked_for_again),
    ("a_hostile_client_harms_nobody", a_hostile_client_harms_nobody),
    ("a_copy_takes_the_place_of_an_overlay", a_copy_takes_the_place_of_an_overlay),
];

/// Looks again until it holds; a bound for a host that is stuck, not an expectation of time.
fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds()? {
        if Instant::now() > deadline {
            bail!("{what}: not within half a minute");
        }
        std::thread::yield_now();
    }
    Ok(())
}

fn keeper_of(world: &World, id: &MachineId) -> Result<Pid> {
    let text = fs::read_to_string(world.directory.join("machines").join(id.as_str()).join("machine.json"))?;
    let number = text
        .split("\"keeper\":[")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .context("the record names its keeper")?;
    Ok(Pid::from_raw(number.parse()?))
}

fn a_removed_machine_leaves_nothing(world: &World) -> Result<Outcome> {
    let before = Traces::of(world);
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        ensure!(nothing_new(&before, &Traces::of(world)).is_err(), "a machine is seen");
        ensure!(world.run(id, &["/consort/guest", "help"])?.code == 0);
        Ok(())
    })?;
    until("everything is gone", || Ok(nothing_new(&before, &Traces::of(world)).is_ok()))?;
    Ok(Passed)
}

fn many_machines_start_at_once(world: &World) -> Result<Outcome> {
    let before = Traces::of(world);
    let specs: Vec<_> = (0..16).map(|_| world.spec()).collect();
    let begun = Instant::now();
    let started = world.wait(async {
        let starts: Vec<_> = specs.iter().map(|spec| world.driver.start(spec)).collect();
        let mut all = Vec::new();
        for start in join_all(starts).await {
            all.push(start?);
        }
        anyhow::Ok(all)
    })?;
    println!("    {} machines in {:?}", started.len(), begun.elapsed());
    for spec in &specs {
        ensure!(world.run(&spec.id, &["/consort/guest", "addr"])?.code == 0);
    }
    drop(started);
    for spec in &specs {
        world.remove(&spec.id)?;
    }
    until("everything is gone", || Ok(nothing_new(&before, &Traces::of(world)).is_ok()))?;
    Ok(Passed)
}

/// All futures at once on the runtime's threads of one task: polled in turn.
async fn join_all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(value) = std::pin::Pin::new(future).poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

fn a_failed_start_leaves_nothing(world: &World) -> Result<Outcome> {
    let before = Traces::of(world);
    // Late: init cannot set an address that does not fit its device.
    if world.no_taps.is_none() {
        let mut spec = world.spec();
        spec.nics[0].ipv6 = vec![("ff02::1".parse()?, 64)];
        let error = world.start(&spec).expect_err("no device can have this address").to_string();
        ensure!(error.contains("set ff02::1/64 on eth0"), "{error}");
        nothing_new(&before, &Traces::of(world)).context("a late failure")?;
        // Early: refused before anything is made.
        let mut spec = world.spec();
        spec.nics[0].mtu = 68;
        spec.nics[0].ipv6 = vec![("fd00::1".parse()?, 64)];
        ensure!(world.start(&spec).is_err());
        nothing_new(&before, &Traces::of(world)).context("a refused spec")?;
    }
    // No time at all.
    let mut spec = world.spec();
    spec.start_within = Duration::from_nanos(1);
    let error = world.start(&spec).expect_err("nothing starts in no time").to_string();
    ensure!(error.contains("in time"), "{error}");
    nothing_new(&before, &Traces::of(world)).context("no time")?;
    // No image.
    let mut spec = world.spec();
    spec.image = ImageId::from_bytes([1; 32]);
    let error = world.wait(world.driver.start(&spec)).expect_err("there is no such image");
    ensure!(matches!(error, StartError::NoImage(_)), "{error}");
    // No keeper: a program that ends at once, and one that is not there.
    for program in ["/bin/false", "/no/such/keeper"] {
        let keeper = KeeperCommand { program: program.into(), arguments: Vec::new() };
        let driver = world.driver_with(keeper)?;
        ensure!(world.wait(driver.start(&world.spec())).is_err());
        nothing_new(&before, &Traces::of(world)).with_context(|| format!("keeper {program}"))?;
    }
    Ok(Passed)
}

fn a_dropped_start_leaves_nothing(world: &World) -> Result<Outcome> {
    let before = Traces::of(world);
    let mut stages = 0_u32;
    // Polled once more each time before it is given up, so that it is dropped at each of its waits.
    for polls in 1..12 {
        let spec = world.spec();
        let finished = world.wait(async {
            let mut start = world.driver.start(&spec);
            for _ in 0..polls {
                let step = tokio::time::timeout(Duration::from_millis(2), &mut start).await;
                if step.is_ok() {
                    return true;
                }
            }
            false
        });
        if finished {
            world.remove(&spec.id)?;
        } else {
            stages += 1;
        }
        until("everything is gone", || Ok(nothing_new(&before, &Traces::of(world)).is_ok())).with_context(
            || format!("{polls} polls: {:?}", nothing_new(&before, &Traces::of(world)).err()),
        )?;
    }
    println!("    dropped at {stages} moments");
    Ok(Passed)
}

fn a_killed_keeper_takes_its_machine_along_and_is_swept_up(world: &World) -> Result<Outcome> {
    let before = Traces::of(world);
    let spec = world.spec();
    let started = world.start(&spec)?;
    kill(keeper_of(world, &spec.id)?, Signal::SIGKILL)?;
    drop(started);
    let driver = world.restarted()?;
    let recovered = world.wait(driver.recover())?;
    ensure!(recovered.len() == 1 && recovered[0].id == spec.id, "{recovered:?}");
    ensure!(matches!(&recovered[0].fate, Fate::Dead { left } if left.is_empty()), "{recovered:?}");
    until("everything is gone", || Ok(nothing_new(&before, &Traces::of(world)).is_ok()))
        .with_context(|| format!("{:?}", nothing_new(&before, &Traces::of(world)).err()))?;
    Ok(Passed)
}

fn a_restarted_daemon_finds_its_machines(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    let started = world.start(&spec)?;
    let (names, limits) = (started.nics.len(), started.limits.clone());
    // The daemon's own descriptors are gone with it; the keeper's hold the devices up.
    drop(started);
    let driver = world.restarted()?;
    let mut recovered = world.wait(driver.recover())?;
    ensure!(recovered.len() == 1, "{recovered:?}");
    let found = recovered.remove(0);
    let Fate::Found { status, nics } = found.fate else { bail!("it is alive") };
    ensure!(
        found.id == spec.id && status.state == MachineState::Running && status.limits == limits,
        "{status:?}"
    );
    ensure!(nics.len() == names && nics.iter().all(|nic| nic.queues.len() == 1));
    ensure!(world.run(&spec.id, &["/consort/guest", "addr"])?.stdout.contains("eth0") == (names == 1));
    world.wait(driver.remove(&spec.id))?;
    ensure!(world.wait(driver.recover())?.is_empty());
    Ok(Passed)
}

fn a_lapsed_lease_ends_the_machine(world: &World) -> Result<Outcome> {
    let before = Traces::of(world);
    let spec = world.spec();
    let started = world.start(&spec)?;
    world.wait(world.driver.renew(&spec.id, Duration::from_secs(600)))?;
    let left = world.wait(world.driver.state(&spec.id))?.lease_left;
    ensure!(left > spec.lease, "{left:?}");
    world.wait(world.driver.renew(&spec.id, Duration::ZERO))?;
    drop(started);
    until("everything is gone", || Ok(nothing_new(&before, &Traces::of(world)).is_ok()))
        .with_context(|| format!("{:?}", nothing_new(&before, &Traces::of(world)).err()))?;
    ensure!(world.wait(world.driver.state(&spec.id)).is_err());
    Ok(Passed)
}

fn a_paused_machine_stands_still(world: &World) -> Result<Outcome> {
    let mut spec = world.spec();
    if !world.has_shell {
        return Ok(Skipped("the host has no shell to take".to_owned()));
    }
    spec.run = Some(["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; done"].map(str::to_owned).to_vec());
    world.with_machine(&spec, |id, started| {
        let last = || -> Result<String> {
            let log = world.wait(world.driver.logs(id, 1 << 20))?;
            Ok(String::from_utf8_lossy(&log).lines().last().unwrap_or_default().to_owned())
        };
        until("it counts", || Ok(!last()?.is_empty()))?;
        let by = world.wait(world.driver.pause(id))?;
        ensure!(by == started.limits.pause, "{by:?}");
        ensure!(world.wait(world.driver.state(id))?.state == MachineState::Paused(by));
        // What is in the terminal still comes out; after that nothing does, however often one looks.
        let mut quiet = 0;
        let mut seen = last()?;
        until("it stands still", || {
            let now = last()?;
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
            Ok(quiet >= 100)
        })?;
        ensure!(world.run(id, &["/consort/guest", "help"]).is_err(), "no program starts in a paused machine");
        world.wait(world.driver.resume(id))?;
        until("it counts on", || Ok(last()? != seen))?;
        ensure!(world.run(id, &["/consort/guest", "help"])?.code == 0);
        // A paused machine can be ended as well.
        world.wait(world.driver.pause(id))?;
        Ok(Passed)
    })
}

fn stopping_is_orderly_and_then_not(world: &World) -> Result<Outcome> {
    if !world.has_shell {
        return Ok(Skipped("the host has no shell to take".to_owned()));
    }
    let mut polite = world.spec();
    polite.run = Some(
        ["sh", "-c", "trap 'echo farewell; exit 0' TERM; echo up; while :; do sleep 0.01; done"]
            .map(str::to_owned)
            .to_vec(),
    );
    world.with_machine(&polite, |id, _| {
        let log = || -> Result<String> {
            Ok(String::from_utf8_lossy(&world.wait(world.driver.logs(id, 1 << 20))?).into_owned())
        };
        until("it is up", || Ok(log()?.contains("up")))?;
        world.wait(world.driver.stop(id, Duration::from_secs(20)))?;
        let status = world.wait(world.driver.state(id))?;
        ensure!(status.state == MachineState::Stopped(EndReason::Stopped), "{status:?}");
        ensure!(log()?.contains("farewell"), "{}", log()?);
        ensure!(world.run(id, &["/consort/guest", "help"]).is_err());
        Ok(())
    })?;
    let mut stubborn = world.spec();
    stubborn.run =
        Some(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done"].map(str::to_owned).to_vec());
    world.with_machine(&stubborn, |id, _| {
        until("it is up", || Ok(!world.wait(world.driver.logs(id, 100))?.is_empty()))?;
        world.wait(world.driver.stop(id, Duration::from_millis(50)))?;
        let status = world.wait(world.driver.state(id))?;
        ensure!(status.state == MachineState::Stopped(EndReason::Killed), "{status:?}");
        Ok(Passed)
    })
}

fn the_command_is_run_and_started_again(world: &World) -> Result<Outcome> {
    if !world.has_shell {
        return Ok(Skipped("the host has no shell to take".to_owned()));
    }
    let mut once = world.spec();
    once.run = Some(["sh", "-c", "echo output; exit 7"].map(str::to_owned).to_vec());
    world.with_machine(&once, |id, _| {
        until("it ended", || Ok(world.wait(world.driver.state(id))?.run == RunState::Ended(7)))?;
        ensure!(world.wait(world.driver.state(id))?.state == MachineState::Running, "the machine stays");
        ensure!(String::from_utf8_lossy(&world.wait(world.driver.logs(id, 4096))?).contains("output"));
        Ok(())
    })?;
    let mut again = world.spec();
    again.restart = consort_machine::spec::RestartPolicy::OnFailure;
    again.run = Some(
        ["sh", "-c", "echo x >> /tmp/times; test $(wc -l < /tmp/times) = 3"].map(str::to_owned).to_vec(),
    );
    world.with_machine(&again, |id, _| {
        until(
            "the third run succeeds",
            || Ok(world.wait(world.driver.state(id))?.run == RunState::Ended(0)),
        )?;
        ensure!(world.run(id, &["wc", "-l", "/tmp/times"])?.stdout.starts_with('3'));
        Ok(Passed)
    })
}

/// Types into a console until it shows what is wanted; gives all that it showed.
fn type_until(world: &World, id: &MachineId, typed: &str, wanted: &str) -> Result<String> {
    use consort_machine::wire::Frame;
    use consort_machine::wire::frame::Decoder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    world.wait(async {
        let mut stream = world.driver.console(id, None).await?.stream;
        stream.write_all(&Frame::Stdin(typed.as_bytes().to_vec()).encode()).await?;
        let (mut decoder, mut seen, mut buffer) = (Decoder::default(), Vec::new(), vec![0; 4096]);
        let read = async {
            while !String::from_utf8_lossy(&seen).contains(wanted) {
                let length = stream.read(&mut buffer).await?;
                ensure!(length > 0, "the console ended");
                decoder.push(&buffer[..length]);
                while let Some(Frame::Stdout(bytes)) = decoder.next()? {
                    seen.extend_from_slice(&bytes);
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(30), read).await.context("nothing was heard")??;
        Ok(String::from_utf8_lossy(&seen).into_owned())
    })
}

fn the_console_shows_its_past_and_takes_input(world: &World) -> Result<Outcome> {
    if !world.has_shell {
        return Ok(Skipped("the host has no shell to take".to_owned()));
    }
    let mut spec = world.spec();
    spec.run = Some(["sh", "-c", "echo past; read line; echo heard $line"].map(str::to_owned).to_vec());
    world.with_machine(&spec, |id, _| {
        until("it printed", || Ok(!world.wait(world.driver.logs(id, 100))?.is_empty()))?;
        let seen = type_until(world, id, "something\n", "heard something")?;
        ensure!(seen.starts_with("past"), "{seen}");
        Ok(Passed)
    })
}

fn enter_on_the_console_starts_a_shell(world: &World) -> Result<Outcome> {
    if !world.has_shell {
        return Ok(Skipped("the host has no shell to take".to_owned()));
    }
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        type_until(world, id, "\n", "# ")?;
        type_until(world, id, "echo se''en; exit\n", "seen")?;
        // After its end the next Enter starts another.
        type_until(world, id, "\necho ag''ain; exec sleep 1000\n", "again")?;
        world.wait(world.driver.stop(id, Duration::from_secs(20)))?;
        ensure!(world.wait(world.driver.state(id))?.state == MachineState::Stopped(EndReason::Stopped));
        Ok(Passed)
    })
}

fn each_arrow_may_be_asked_for_again(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        let again = world.wait(world.driver.start(&spec)).expect_err("it is there already");
        ensure!(matches!(again, StartError::Exists(_)), "{again}");
        for _ in 0..2 {
            world.wait(world.driver.pause(id))?;
        }
        for _ in 0..2 {
            world.wait(world.driver.resume(id))?;
        }
        for _ in 0..2 {
            world.wait(world.driver.stop(id, Duration::from_secs(10)))?;
        }
        ensure!(world.wait(world.driver.pause(id)).is_err(), "a stopped machine cannot be paused");
        Ok(())
    })?;
    for _ in 0..2 {
        world.remove(&spec.id)?;
    }
    Ok(Passed)
}

fn a_hostile_client_harms_nobody(world: &World) -> Result<Outcome> {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        let place = fs::File::open(world.directory.join("machines").join(id.as_str()))?;
        let socket = format!("/proc/self/fd/{}/keeper.sock", std::os::fd::AsRawFd::as_raw_fd(&place));
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket)?.permissions());
        ensure!(mode & 0o777 == 0o600, "{mode:o}");
        let json = |text: &str| {
            [&[1], &u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
        };
        let hostile: [Vec<u8>; 8] = [
            vec![0; 100],
            vec![0xff; 70_000],
            vec![1, 0xff, 0xff, 0xff, 0xff],
            vec![1, 0xff, 0xff, 0, 0, b'{'],
            json("{}"),
            json("\"commit\""),
            json(r#"{"exec":{"argv":[],"env":[],"cwd":null,"tty":null}}"#),
            [json("\"status\""), vec![21, 4, 0, 0, 0, 0, 0, 0, 0]].concat(),
        ];
        for bytes in &hostile {
            let mut stream = UnixStream::connect(&socket)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            // It may hang up before it has read everything, and then says so as an error.
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
        // More connections than it serves, none of which says anything, and others that do not read their answers.
        let silent: Vec<_> = (0..100).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
        ensure!(silent.len() >= 64, "{}", silent.len());
        drop(silent);
        let mut deaf = UnixStream::connect(&socket)?;
        deaf.set_nonblocking(true)?;
        while deaf.write(&json("\"status\"")).is_ok() {}
        ensure!(world.run(id, &["/consort/guest", "addr"])?.code == 0, "it serves others");
        Ok(Passed)
    })
}

fn a_copy_takes_the_place_of_an_overlay(world: &World) -> Result<Outcome> {
    use consort_machine::driver::RootLayer;
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    if !crate::world::has_own_mounts(&world.name) {
        return Ok(Skipped("it mounts, and only the other worlds have mounts of their own".to_owned()));
    }
    // An overlay cannot be the upper layer of another.
    let base = world.directory.join("no-overlay");
    let [lower, upper, work, whole] = ["lower", "upper", "work", "whole"].map(|name| base.join(name));
    for directory in [&lower, &upper, &work, &whole] {
        fs::create_dir_all(directory)?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        lower.display(),
        upper.display(),
        work.display()
    );
    mount(Some("overlay"), &whole, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .context("mount an overlay")?;
    let body = || -> Result<()> {
        let driver = world.driver_in(&whole.join("machines"))?;
        let spec = world.spec();
        let started = world.wait(driver.start(&spec))?;
        ensure!(matches!(started.limits.root, RootLayer::Copy { .. }), "{:?}", started.limits.root);
        if world.has_shell {
            let session = world.wait(driver.exec(
                &spec.id,
                consort_machine::session::ExecRequest::of(["sh", "-c", "rm /etc/passwd && ls /etc"]),
            ))?;
            let ran = world.wait(crate::world::collect(session.stream))?;
            ensure!(ran.code == 0 && !ran.stdout.contains("passwd"), "{ran:?}");
        }
        world.wait(driver.remove(&spec.id))?;
        ensure!(fs::read_dir(whole.join("machines"))?.next().is_none(), "nothing is left");
        Ok(())
    };
    let outcome = body();
    umount2(&whole, MntFlags::MNT_DETACH)?;
    outcome.map(|()| Passed)
}
