//! What the tests have in common: a lab for each, its last words when it fails, slices to ask for.

use consort_lab::capture::CaptureOptions;
use consort_lab::{enter, harness};
use consort_node::control::api::{Slice, SliceBody, Status};
use consort_node::control::client::{Client, segment};
use consort_node::demo::exec::exec;
use consort_node::demo::stage::{Stage, awaited};

pub(crate) const GUEST: &str = "/consort/guest";

/// Makes a test of an async body, run in a lab of its own.
macro_rules! in_lab {
    ($(#[$doc:meta])* async fn $name:ident() $body:block) => {
        $(#[$doc])*
        #[test]
        fn $name() {
            crate::support::run(concat!(module_path!(), "::", stringify!($name)), async || $body);
        }
    };
}
pub(crate) use in_lab;

pub(crate) fn run(path: &str, body: impl AsyncFnOnce()) {
    let (_, test) = path.split_once("::").expect("a test is in a module of its binary");
    harness::inside(env!("CARGO_BIN_EXE_consort"), test, || {
        let _words = LastWords;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(body());
    });
}

/// Lines of each node's log that are printed.
const LINES: usize = 40;

/// Prints the ends of all nodes' logs when the test fails; whole ones where `CONSORT_LOG` asks for more than usual.
struct LastWords;

impl Drop for LastWords {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let most = if std::env::var_os("CONSORT_LOG").is_some() { usize::MAX } else { LINES };
        for entry in std::fs::read_dir(enter::directory().unwrap()).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("--- {}\n{}", path.display(), lines[lines.len().saturating_sub(most)..].join("\n"));
            }
        }
    }
}

/// A slice file with one kind of machine on one network. A short lease, so that losses show soon.
pub(crate) fn slice_file(name: &str, machines: usize) -> String {
    format!(
        "name = \"{name}\"\nlease = \"4s\"\n[machine.worker]\ncount = {machines}\ncategory = \"sandbox\"\ncpus = 0.5\n\
         memory = \"64MiB\"\ndisk = \"64MiB\"\nimage = \"mini\"\nnetworks = [\"lan\"]\n[network.lan]\n"
    )
}

/// Asks for a slice and waits until its machines can be reached.
pub(crate) async fn create(client: &Client, file: String) -> Slice {
    client.post("/v1/slices", &SliceBody { file, wait: true }).await.unwrap()
}

pub(crate) async fn show(client: &Client, name: &str) -> Slice {
    client.get(&format!("/v1/slices/{}", segment(name))).await.unwrap()
}

pub(crate) async fn status(client: &Client) -> Status {
    client.get("/v1/status").await.unwrap()
}

/// The addresses of a machine without prefix lengths, IPv4 first.
pub(crate) fn addresses(slice: &Slice, machine: usize) -> Vec<String> {
    let interface = &slice.machines[machine].interfaces[0];
    [&interface.ipv4, &interface.ipv6]
        .into_iter()
        .flatten()
        .map(|address| address.split('/').next().unwrap().to_owned())
        .collect()
}

/// One command of the guest program in a machine; it must succeed. What it said.
pub(crate) async fn guest(client: &Client, slice: &Slice, machine: usize, words: &[&str]) -> String {
    let name = format!("{}.{}", slice.machines[machine].name, slice.name);
    let said = exec(client, &name, &[&[GUEST], words].concat()).await.unwrap();
    assert_eq!(said.code, 0, "{words:?} in {name}: {} {}", said.stdout, said.stderr);
    said.stdout
}

/// Machine 0 reaches machine 1 over both IP versions.
pub(crate) async fn assert_reaches(client: &Client, slice: &Slice) {
    let targets = addresses(slice, 1);
    let mut words = vec!["ping", "--until-answer", "-i", "100", "-w", "20000"];
    words.extend(targets.iter().map(String::as_str));
    guest(client, slice, 0, &words).await;
}

/// A host has given everything back: no machine, all of its share free.
pub(crate) fn is_free(status: &Status) -> bool {
    let share = &status.share;
    status.machines == 0
        && share.free_cpus_milli == share.cpus_milli
        && share.free_memory_bytes == share.memory_bytes
        && share.free_disk_bytes == share.disk_bytes
        && share.free_machines == share.machines_max
}

/// Waits until every host with a node has given everything back, and nothing of a machine is left.
pub(crate) async fn assert_all_free(stage: &Stage) {
    for host in stage.hosts.iter().filter(|host| host.runs_node()) {
        let client = host.client();
        awaited("everything is free again", async || {
            let status: Status = client.get("/v1/status").await?;
            Ok(is_free(&status).then_some(()))
        })
        .await
        .unwrap();
    }
    awaited("no keeper is left", async || Ok(keepers().is_empty().then_some(()))).await.unwrap();
}

/// The processes that keep machines, of all hosts, by number.
pub(crate) fn keepers() -> Vec<u32> {
    let mut found: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(b"machine-keeper")
        })
        .collect();
    found.sort_unstable();
    found
}

/// A capture of all that hosts send, which keeps the latest frames.
pub(crate) fn capture_of(stage: &Stage) -> CaptureOptions {
    CaptureOptions {
        links: stage.hosts.iter().map(|host| host.place.router_link.clone()).collect(),
        keep_recent: true,
        ..CaptureOptions::default()
    }
}
