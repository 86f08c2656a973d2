//! What a machine sees and may do.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use consort_machine::session::{ExecRequest, WinSize};
use consort_machine::wire::Frame;
use tokio::io::AsyncWriteExt;

use crate::Outcome::{self, Passed, Skipped};
use crate::Test;
use crate::world::{World, collect};

pub(crate) const TESTS: &[Test] = &[
    ("host_files_are_out_of_sight", host_files_are_out_of_sight),
    ("host_processes_are_out_of_sight", host_processes_are_out_of_sight),
    ("host_network_is_out_of_sight", host_network_is_out_of_sight),
    ("capabilities_are_the_few_of_a_machine", capabilities_are_the_few_of_a_machine),
    ("forbidden_system_calls_are_refused", forbidden_system_calls_are_refused),
    ("kernel_settings_and_secrets_are_closed", kernel_settings_and_secrets_are_closed),
    ("the_guest_program_cannot_be_written", the_guest_program_cannot_be_written),
    ("init_cannot_be_looked_into", init_cannot_be_looked_into),
    ("the_image_is_not_written", the_image_is_not_written),
    ("no_signal_is_ignored_or_blocked", no_signal_is_ignored_or_blocked),
    ("exit_codes_come_back", exit_codes_come_back),
    ("input_and_both_outputs_are_carried", input_and_both_outputs_are_carried),
    ("a_terminal_is_a_terminal", a_terminal_is_a_terminal),
    ("a_client_that_hangs_up_ends_its_program", a_client_that_hangs_up_ends_its_program),
    ("environment_and_directory_are_as_asked", environment_and_directory_are_as_asked),
];

fn host_files_are_out_of_sight(world: &World) -> Result<Outcome> {
    let secret = world.directory.join("secret");
    fs::write(&secret, "of the host")?;
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        let seen = world
            .shell(id, &format!("cat {} /proc/1/root{} 2>&1; ls /", secret.display(), secret.display()))?;
        ensure!(!seen.stdout.contains("of the host"), "{}", seen.stdout);
        let own = std::env::current_exe()?;
        ensure!(world.shell(id, &format!("test -e {}", own.display()))?.code == 1);
        // The guest program's file is the one mount that the kernel shows with the host's name for it.
        let mounts = world.run(id, &["cat", "/proc/self/mountinfo"])?.stdout;
        let place = world.directory.display().to_string();
        let named: Vec<_> = mounts.lines().filter(|line| line.contains(&place)).collect();
        ensure!(named.len() == 1 && named[0].contains(" /consort/guest ro,"), "{named:?}");
        let sources: Vec<_> = mounts.lines().filter(|line| line.contains("lowerdir")).collect();
        ensure!(sources.iter().all(|line| line.contains("lowerdir=/proc/self/fd/")), "{sources:?}");
        Ok(Passed)
    })
}

fn host_processes_are_out_of_sight(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        let seen =
            world.shell(id, "cd /proc; for p in [0-9]*; do echo $p $(tr '\\0' ' ' < $p/cmdline); done")?;
        let processes: Vec<_> = seen.stdout.lines().collect();
        ensure!(processes.first() == Some(&"1 /consort/guest init"), "{processes:?}");
        ensure!(processes.len() <= 5, "only init, the shell and what it started: {processes:?}");
        // Not even by number: this test's own process cannot be signalled.
        let kill = world.shell(id, &format!("kill -0 {}", std::process::id() + 100_000))?;
        ensure!(kill.code != 0);
        let name = world.run(id, &["cat", "/proc/sys/kernel/hostname"])?.stdout;
        ensure!(name.trim() == spec.hostname, "{name}");
        Ok(Passed)
    })
}

fn host_network_is_out_of_sight(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        let listed = world.run(id, &["/consort/guest", "addr", "--json"])?.stdout;
        let names: Vec<_> =
            listed.split("\"name\":").skip(1).filter_map(|rest| rest.split('"').nth(1)).collect();
        let own: Vec<_> =
            std::iter::once("lo").chain(spec.nics.iter().map(|nic| nic.name.as_str())).collect();
        ensure!(names == own, "{listed}");
        Ok(Passed)
    })
}

fn capabilities_are_the_few_of_a_machine(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        // Of capabilities(7): CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7, SETPCAP 8,
        // NET_BIND_SERVICE 10, NET_ADMIN 12, NET_RAW 13, SYS_CHROOT 18, SETFCAP 31.
        let expected: u64 = [0, 1, 3, 4, 5, 6, 7, 8, 10, 12, 13, 18, 31].iter().map(|bit| 1_u64 << bit).sum();
        if !world.has_shell {
            return Ok(Skipped("the host has no cat to take".to_owned()));
        }
        for who in ["self", "1"] {
            let status = world.run(id, &["cat", &format!("/proc/{who}/status")])?.stdout;
            let field = |name: &str| {
                status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
            };
            for set in ["CapBnd:", "CapPrm:", "CapEff:"] {
                ensure!(u64::from_str_radix(&field(set), 16)? == expected, "{who} {set} {}", field(set));
            }
            ensure!(field("NoNewPrivs:") == "1" && field("Seccomp:") == "2", "{status}");
            ensure!(
                field("CapAmb:").trim_matches('0').is_empty()
                    && field("CapInh:").trim_matches('0').is_empty()
            );
        }
        Ok(Passed)
    })
}

fn forbidden_system_calls_are_refused(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    let probe = fs::read(env!("CARGO_BIN_EXE_consort-probe"))?;
    world.with_machine(&spec, |id, _| {
        // The probe is a program of this machine's own: written in from outside through its input, as a tenant would.
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        let write = world.run_with(
            id,
            ExecRequest::of(["sh", "-c", "cat > /tmp/probe && chmod 755 /tmp/probe"]),
            &probe,
        )?;
        ensure!(write.code == 0, "{}", write.stderr);
        // The library that Rust programs need and small tools do not.
        let maps = fs::read_to_string("/proc/self/maps")?;
        if let Some(library) = maps
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5))
            .find(|path| path.contains("libgcc_s"))
        {
            let give = world.run_with(
                id,
                ExecRequest::of(["sh", "-c", "cat > /tmp/libgcc_s.so.1"]),
                &fs::read(library)?,
            )?;
            ensure!(give.code == 0, "{}", give.stderr);
        }
        let ran = world.run(id, &["env", "LD_LIBRARY_PATH=/tmp", "/tmp/probe"])?;
        ensure!(ran.code == 0, "{}{}", ran.stdout, ran.stderr);
        ensure!(
            ran.stdout.lines().count() > 30 && ran.stdout.lines().all(|line| line.ends_with(" refused")),
            "{}",
            ran.stdout
        );
        Ok(Passed)
    })
}

fn kernel_settings_and_secrets_are_closed(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        let attempts = [
            "echo 1 > /proc/sys/vm/drop_caches",
            "echo x > /proc/sys/kernel/core_pattern",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
            "echo x > /sys/x",
            "echo x > /consort/settings",
            "echo x > /consort/new",
            "rm /consort/guest",
        ];
        for attempt in attempts {
            ensure!(world.shell(id, attempt)?.code != 0, "{attempt}");
        }
        let secrets = world.shell(
            id,
            "cat /proc/kcore /proc/keys /proc/kallsyms /proc/timer_list 2>/dev/null | head -c 100",
        )?;
        ensure!(secrets.stdout.is_empty(), "{}", secrets.stdout);
        let counts = world.shell(
            id,
            "cat /proc/sys/user/max_*_namespaces | sort -u; echo 9 > /proc/sys/user/max_user_namespaces",
        )?;
        ensure!(counts.stdout == "0\n" && counts.code != 0, "{counts:?}");
        let devices = world.shell(id, "ls -l /dev | grep ^b; mknod /tmp/disk b 8 0 && echo made")?;
        ensure!(devices.stdout.is_empty(), "{}", devices.stdout);
        Ok(Passed)
    })
}

fn the_guest_program_cannot_be_written(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        // The attack of CVE-2019-5736: a script whose interpreter is the program that starts it.
        let attack = "printf '#!/proc/self/exe\\n' > /bin/bait; chmod 755 /bin/bait; /bin/bait; \
            echo x > /proc/1/exe; exec 3<>/consort/guest && echo open";
        let attacked = world.shell(id, attack)?;
        ensure!(!attacked.stdout.contains("open"), "{}", attacked.stdout);
        let started = world.run(id, &["/bin/bait"])?;
        ensure!(started.code != 0);
        ensure!(world.run(id, &["/consort/guest", "addr"])?.code == 0, "the guest program is whole");
        Ok(Passed)
    })
}

fn init_cannot_be_looked_into(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        for look in [
            "cat /proc/1/environ",
            "readlink /proc/1/fd/0",
            "cat /proc/1/fd/1",
            "dd if=/proc/1/mem bs=1 count=1",
            "readlink /proc/1/exe",
            "cat /proc/1/maps",
        ] {
            let seen = world.shell(id, look)?;
            ensure!(seen.stdout.is_empty(), "{look}: {}", seen.stdout);
        }
        Ok(Passed)
    })
}

fn the_image_is_not_written(world: &World) -> Result<Outcome> {
    let (first, second) = (world.spec(), world.spec());
    world.with_machine(&first, |one, _| {
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        ensure!(
            world.shell(one, "echo changed > /etc/passwd; rm -r /bin/ls; mkdir /new; echo x > /tmp/x")?.code
                == 0
        );
        world.with_machine(&second, |two, _| {
            let seen = world.shell(two, "cat /etc/passwd; ls -d /bin/ls /tmp/x /new")?;
            ensure!(
                seen.stdout.starts_with("root:x:0:0") && seen.stdout.ends_with("/bin/ls\n"),
                "{}",
                seen.stdout
            );
            Ok(Passed)
        })
    })
}

/// The worlds ignore `SIGHUP`, as a daemon under nohup(1) does, and `SIGPIPE`, as every Rust program. Of the signals with a name, that is: those
/// above are the C library's own and the tenant's.
fn no_signal_is_ignored_or_blocked(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        let status = world.run(id, &["cat", "/proc/self/status"])?.stdout;
        for field in ["SigIgn:", "SigBlk:"] {
            let set = status.lines().find_map(|line| line.strip_prefix(field)).context("a set of signals")?;
            let named = u64::from_str_radix(set.trim(), 16)? & 0x7fff_ffff;
            ensure!(named == 0, "{field} {named:#x}");
        }
        Ok(Passed)
    })
}

fn exit_codes_come_back(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        ensure!(world.run(id, &["/consort/guest", "help"])?.code == 0);
        ensure!(world.run(id, &["/consort/guest", "no-such-command"])?.code == 2);
        ensure!(world.run(id, &["no-such-program"])?.code == 127);
        ensure!(world.run(id, &["/etc/passwd"])?.code == 126);
        if world.has_shell {
            ensure!(world.shell(id, "exit 41")?.code == 41);
            ensure!(world.shell(id, "kill -9 $$")?.code == 128 + 9);
        }
        Ok(Passed)
    })
}

fn input_and_both_outputs_are_carried(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        // Far more than every buffer on the way, so that each must push back.
        let input: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251).to_le_bytes()[0]).collect();
        let counted = world.run_with(id, ExecRequest::of(["sh", "-c", "wc -c; echo done >&2"]), &input)?;
        ensure!(counted.stdout.trim() == "3000000" && counted.stderr == "done\n", "{counted:?}");
        let many = world.shell(id, "head -c 5000000 /dev/zero | tr '\\0' x; exit 3")?;
        ensure!(many.stdout.len() == 5_000_000 && many.code == 3);
        Ok(Passed)
    })
}

fn a_terminal_is_a_terminal(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        let mut request = ExecRequest::of([
            "sh",
            "-c",
            "test -t 0 && test -t 2 && readlink /proc/self/fd/0; read line; echo got $line",
        ]);
        request.tty = Some(WinSize { rows: 33, columns: 111 });
        let ran = world.run_with(id, request, b"typed\n")?;
        ensure!(ran.stdout.contains("/dev/pts/") && ran.stdout.contains("got typed"), "{ran:?}");
        Ok(Passed)
    })
}

fn a_client_that_hangs_up_ends_its_program(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        let session = world.wait(
            world.driver_exec(id, &["sh", "-c", "mkfifo /tmp/end; sleep 1000; echo never > /tmp/end"]),
        )?;
        drop(session);
        // The sleeper's end is seen by another program in the machine; the tests' own limit bounds the wait.
        let gone = world
            .shell(id, "while ps -e -o args | grep -v grep | grep -q 'sleep 1000'; do :; done; echo gone")?;
        ensure!(gone.stdout.trim() == "gone", "{gone:?}");
        Ok(Passed)
    })
}

fn environment_and_directory_are_as_asked(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, _| {
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        let mut request =
            ExecRequest::of(["sh", "-c", "pwd; echo $COLOUR $HOSTNAME $HOME; env | grep -c CONSORT"]);
        request.env = vec![("COLOUR".into(), "dark red".into()), ("HOME".into(), "/tmp".into())];
        request.cwd = Some("/etc".into());
        let ran = world.run_with(id, request, b"")?;
        ensure!(ran.stdout == format!("/etc\ndark red {} /tmp\n0\n", spec.hostname), "{ran:?}");
        let bad = world.wait(async {
            let mut stream = world.driver_exec(id, &["cat"]).await?.stream;
            stream.write_all(&Frame::Exit(0).encode()).await?;
            collect(stream).await
        });
        ensure!(bad.is_err(), "a client that speaks out of turn is dropped");
        Ok(Passed)
    })
}
