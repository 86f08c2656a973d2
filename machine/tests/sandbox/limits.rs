//! Limits hold where the report says so.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use consort_machine::driver::{Driver, Limit, Mechanism};

use crate::Outcome::{self, Passed, Skipped};
use crate::Test;
use crate::world::World;

pub(crate) const TESTS: &[Test] = &[
    ("a_memory_hog_is_stopped", a_memory_hog_is_stopped),
    ("a_fork_bomb_is_stopped", a_fork_bomb_is_stopped),
    ("cpu_time_is_rationed", cpu_time_is_rationed),
    ("a_file_cannot_outgrow_the_disk", a_file_cannot_outgrow_the_disk),
];

fn enforced(limit: &Limit) -> Option<Mechanism> {
    match limit {
        Limit::Enforced { by } => Some(*by),
        Limit::Partial { .. } | Limit::NotEnforced { .. } => None,
    }
}

fn a_memory_hog_is_stopped(world: &World) -> Result<Outcome> {
    let spec = world.spec();
    world.with_machine(&spec, |id, started| {
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        // tail keeps its whole input, which has no line end: four times the machine's memory.
        let hog = world.shell(id, "head -c 268435456 /dev/zero | tail -n 1 | wc -c")?;
        ensure!(hog.stdout.trim() != "268435456", "{hog:?}");
        let status = world.wait(world.driver.state(id))?;
        // By a resource limit it is refused the memory instead, and ends itself.
        ensure!(status.oom_kills > 0 || enforced(&started.limits.memory).is_none(), "{status:?}");
        ensure!(world.run(id, &["/consort/guest", "addr"])?.code == 0, "the machine lives on");
        Ok(Passed)
    })
}

fn a_fork_bomb_is_stopped(world: &World) -> Result<Outcome> {
    let mut spec = world.spec();
    spec.pids_max = 20;
    world.with_machine(&spec, |id, started| {
        if enforced(&started.limits.pids).is_none() {
            return Ok(Skipped(format!("{:?}", started.limits.pids)));
        }
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        // Each child holds the fifo open; the shell counts those it could start.
        let bomb = world.shell(id, "for i in $(seq 100); do sleep 1000 & done 2>/dev/null; echo never")?;
        let count = world.shell(id, "kill -9 -1")?;
        ensure!(
            !bomb.stdout.contains("never") || bomb.code != 0,
            "100 processes in a machine of 20: {bomb:?} {count:?}"
        );
        ensure!(world.run(id, &["/consort/guest", "addr"])?.code == 0, "the machine lives on");
        Ok(Passed)
    })
}

fn cpu_time_is_rationed(world: &World) -> Result<Outcome> {
    let mut spec = world.spec();
    spec.cpus_milli = 200;
    world.with_machine(&spec, |id, started| {
        if enforced(&started.limits.cpus).is_none() {
            return Ok(Skipped(format!("{:?}", started.limits.cpus)));
        }
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        let before = world.wait(world.driver.state(id))?.cpu_micros;
        let begun = Instant::now();
        world.shell(id, "timeout 1 sh -c 'while :; do :; done'")?;
        let after = world.wait(world.driver.state(id))?.cpu_micros;
        let passed = begun.elapsed();
        let (Some(before), Some(after)) = (before, after) else {
            return Ok(Skipped("this host counts no CPU time".to_owned()));
        };
        // A fifth of the time that passed, however long that was, and what may be begun in one period on each of two CPUs.
        let used = Duration::from_micros(after - before);
        ensure!(used <= passed / 5 + Duration::from_millis(100), "{used:?} in {passed:?}");
        Ok(Passed)
    })
}

fn a_file_cannot_outgrow_the_disk(world: &World) -> Result<Outcome> {
    let mut spec = world.spec();
    spec.disk_bytes = 1 << 20;
    world.with_machine(&spec, |id, _| {
        if !world.has_shell {
            return Ok(Skipped("the host has no shell to take".to_owned()));
        }
        let grown = world.shell(id, "head -c 4194304 /dev/zero > /tmp/large; wc -c < /tmp/large")?;
        ensure!(grown.stdout.trim() == "1048576", "{grown:?}");
        Ok(Passed)
    })
}
