//! The proof from beginning to end, inside the lab.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use consort_lab::wide::Cable;
use tokio::signal::unix::{SignalKind, signal};

use super::DemoArgs;
use super::checks::{file, frames, host_loss, idle, neighbours, reach, throughput, underlay};
use super::report::{Check, Progress, Report, milliseconds};
use super::stage::{Stage, lab_failure};
use crate::cli::output::Output;
use crate::control::api::{Slice, SliceBody};
use crate::failure::{Exit, Failure};

/// Short, so that the loss of a host shows soon; the slice file's default is longer.
const LEASE: Duration = Duration::from_secs(3);
/// Lines of each node's log that are shown when something went wrong.
const LAST_WORDS: usize = 10;

/// Runs the proof; Ctrl-C (which comes as `SIGTERM` through the lab) ends it at any point.
pub(super) async fn run(args: &DemoArgs, json: bool) -> Result<Exit, Failure> {
    let mut ended = signal(SignalKind::terminate()).map_err(lab_failure)?;
    let progress = Progress::new(json);
    let mut report = Report::new(args.hosts, args.machines);
    let cable = Cable { real_wire: true, ..Cable::default() };
    let mut stage = Stage::build(args.hosts as usize, cable)?;
    progress.say(&format!("{} emulated hosts stand on an emulated wide network", args.hosts));
    let mut proof = Proof { args, progress: &progress, report: &mut report, stage: &mut stage };
    tokio::select! {
        proved = proof.prove() => if let Err(failure) = proved {
            proof.record(Check::failed("the demo gets to its end", &failure));
            say_last_words(&stage);
        },
        _ = ended.recv() => {
            progress.say("interrupted; everything is taken away again");
            return Ok(Exit::Failed);
        }
    }
    let exit = report.finish(Output { json })?;
    if args.keep {
        say_how_to_get_in(&progress, &stage);
        ended.recv().await;
        progress.say("everything is taken away again");
    }
    Ok(exit)
}

struct Proof<'a> {
    args: &'a DemoArgs,
    progress: &'a Progress,
    report: &'a mut Report,
    stage: &'a mut Stage,
}

impl Proof<'_> {
    /// Step by step; a check that fails does not end it, a step that fails does.
    async fn prove(&mut self) -> Result<(), Failure> {
        let watch = underlay::Watch::start(self.stage)?;
        self.stage.start_overlay().await?;
        self.progress.say("a real node runs on each, joined by ticket");
        let check = idle::nodes(self.stage).await;
        self.keep("an idle node", check);

        let client = self.stage.hosts[0].client();
        let asked = Instant::now();
        let body = SliceBody { file: slice_file(self.args.machines), wait: true };
        let slice: Slice = client.post("/v1/slices", &body).await?;
        let hosts: BTreeSet<_> = slice.machines.iter().map(|machine| &machine.host).collect();
        self.progress.say(&format!(
            "a slice of {} machines runs on {} hosts",
            slice.machines.len(),
            hosts.len()
        ));
        self.report.timings.slice = slice.timings;

        let check = reach::all_pairs(&client, &slice).await;
        self.report.timings.all_pairs_ms = Some(milliseconds(asked.elapsed()));
        self.keep("every pair, IPv4 and IPv6", check);
        self.keep("a file over HTTP", file::fetched(&client, &slice, &watch.token).await);
        self.keep("1500-byte pings with DF", frames::whole(&client, &slice).await);
        let check = watch.finish(self.stage).await;
        self.keep("no plaintext on the underlay", check);
        let check = neighbours::stay_local(self.stage, &slice).await;
        self.keep("no ARP on the underlay", check);
        self.keep("throughput", throughput::one_flow(&client, &slice).await);
        if self.args.keep {
            self.progress.say("--keep: no host is killed");
        } else {
            let check = host_loss::noticed(self.stage, &slice, LEASE).await;
            self.keep("a killed host is noticed", check);
        }
        Ok(())
    }

    fn keep(&mut self, name: &'static str, check: Result<Check, Failure>) {
        self.record(check.unwrap_or_else(|failure| Check::failed(name, &failure)));
    }

    fn record(&mut self, check: Check) {
        self.progress.check(&check);
        self.report.checks.push(check);
    }
}

/// What the nodes logged last, where something went wrong.
fn say_last_words(stage: &Stage) {
    for host in &stage.hosts {
        let log = std::fs::read_to_string(host.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LAST_WORDS)..] {
            eprintln!("    {}: {line}", host.host.name());
        }
    }
}

fn slice_file(machines: u32) -> String {
    format!(
        "name = \"demo\"\nterm = \"1h\"\nlease = \"{}s\"\n\n[machine.worker]\ncount = {machines}\ncategory = \"sandbox\"\n\
         cpus = 0.25\nmemory = \"64MiB\"\ndisk = \"64MiB\"\nimage = \"mini\"\nnetworks = [\"lan\"]\n\n[network.lan]\n",
        LEASE.as_secs()
    )
}

fn say_how_to_get_in(progress: &Progress, stage: &Stage) {
    progress.say("everything stays until Ctrl-C; from another terminal, for instance:");
    for host in &stage.hosts {
        eprintln!("    consort --socket {} slice ls", host.socket().display());
    }
    let first = stage.hosts[0].socket();
    eprintln!("    consort --socket {} machine exec worker-0 -- ping -c 3 worker-1", first.display());
}
