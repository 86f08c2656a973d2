//! Three hosts agree on a slice: every message between their schedulers, in the order it is sent.
//!
//! The scheduler is a value: messages, commands and times go in, outputs come out. This program is its whole world: it
//! carries the messages, keeps what is to be kept, says of every machine that it runs, and counts the milliseconds.

use std::collections::{BTreeMap, VecDeque};

use consort_scheduler::engine::{
    Allow, Answer, BootId, Candidate, Capabilities, Command, CommandId, DriverReport, Engine, EngineConfig,
    Images, Output, Share,
};
use consort_scheduler::identity::HostId;
use consort_scheduler::resources::Resources;
use consort_scheduler::slice::charter::Charter;
use consort_scheduler::slice::file;
use consort_scheduler::slice::spec::Category;
use consort_scheduler::units::Millis;
use libp2p_identity::Keypair;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

const SLICE: &str = r#"
name = "trio"
term = "10m"

[machine.worker]
count = 3
memory = "64MiB"
image = "mini"
networks = ["lan"]

[network.lan]
"#;

/// More messages than this slice could need: a loop that does not end is a fault.
const MESSAGES_MAX: usize = 1000;

fn main() -> anyhow::Result<()> {
    let keys: Vec<Keypair> =
        (1..=3).map(|byte| Keypair::ed25519_from_bytes([byte; 32])).collect::<Result<_, _>>()?;
    let ids: Vec<HostId> = keys.iter().map(|key| key.public().to_peer_id()).collect();
    let names: BTreeMap<HostId, char> = ids.iter().copied().zip('A'..).collect();
    let mut engines = BTreeMap::new();
    for (index, key) in keys.iter().enumerate() {
        let seed = [u8::try_from(index)?; 32];
        engines.insert(ids[index], Engine::new(config(key.clone()), None, seed, Millis(0))?);
    }

    let tenant = Keypair::ed25519_from_bytes([9; 32])?;
    let founded =
        Charter::found(file::parse(SLICE)?, &tenant, ids[0], &ids, &mut ChaCha8Rng::seed_from_u64(1))?;
    println!("a tenant asks host A for slice {}\n", founded.charter.spec.name);
    let candidates = ids.iter().map(|host| Candidate { host: *host, advert: None }).collect();
    let create = Command::Create { founded: Box::new(founded), candidates, hold: Millis::from_secs(5) };

    let mut now = Millis(0);
    let asked = engines.get_mut(&ids[0]).expect("host A is there");
    asked.handle_command(now, CommandId(1), create);

    let mut wire: VecDeque<(HostId, HostId, Vec<u8>)> = VecDeque::new();
    for _ in 0..MESSAGES_MAX {
        let mut answer = None;
        for (host, engine) in &mut engines {
            while let Some(output) = engine.poll_output() {
                match output {
                    Output::Send { to, kind, body } => {
                        println!(
                            "{:>4} ms  {} → {}  {kind}, {} bytes",
                            now.0,
                            names[host],
                            names[&to],
                            body.len()
                        );
                        wire.push_back((*host, to, body));
                    }
                    Output::Start(order) => {
                        println!("{:>4} ms  {}      starts {}", now.0, names[host], order.hostname);
                        engine.handle_report(now, order.slice, order.machine, DriverReport::Running);
                    }
                    Output::Answer { answer: given, .. } => answer = Some(*given),
                    // A real node makes these durable, tells its switch and its keepers, and logs.
                    _ => {}
                }
            }
        }
        if let Some(answer) = answer {
            return tell(now, &answer, &names);
        }
        now = Millis(now.0 + 1);
        match wire.pop_front() {
            Some((from, to, body)) => {
                engines.get_mut(&to).expect("only these three are there").handle_message(now, from, &body);
            }
            None => engines.values_mut().for_each(|engine| engine.handle_timeout(now)),
        }
    }
    anyhow::bail!("no answer after {MESSAGES_MAX} steps")
}

/// What each owner gives: two CPUs, one GiB of memory, ten of disk, four machines, to everyone.
fn config(keypair: Keypair) -> EngineConfig {
    EngineConfig {
        keypair,
        share: Share {
            limit: Resources { cpus_milli: 2000, memory_bytes: 1 << 30, disk_bytes: 10 << 30, machines: 4 },
            term_max: Millis::from_secs(3600),
            allow: Allow::Everyone,
        },
        capabilities: Capabilities { categories: [Category::Sandbox].into(), images: Images::Any },
        boot: BootId::of(b"the example's boot"),
    }
}

fn tell(now: Millis, answer: &Answer, names: &BTreeMap<HostId, char>) -> anyhow::Result<()> {
    let Answer::Created { slice, .. } = answer else { anyhow::bail!("not created: {answer:?}") };
    println!("\n{:>4} ms  decided: slice {} is {}", now.0, slice.name, slice.state);
    for machine in &slice.machines {
        let address = machine.interfaces.first().and_then(|nic| nic.ipv4);
        println!(
            "         {} on {}, {}",
            machine.name,
            names[&machine.host],
            address.map_or_else(String::new, |ip| ip.to_string())
        );
    }
    println!("\nThe record is kept by A, B and C; any one of them may die, A too.");
    Ok(())
}
