//! Puts a fault in and asks why, until the answer is right or the time is over. Meanwhile the two hosts want frames of each other.

use std::time::{Duration, Instant};

use consort_lab::case::World;

use super::steps::{Ids, Scene};
use super::{Ask, Before, Fault, Outcome, Step};
use crate::bench::reach::crew::Crew;
use crate::bench::reach::{pair, parse};
use crate::control::api::Peer;
use crate::demo::stage::lab_failure;
use crate::failure::Failure;
use crate::why::{Code, Explanation};

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Between two frames meanwhile: as many as a link needs to tell loss from chance come together in some seconds.
const TALK_EVERY: Duration = Duration::from_millis(10);
/// Between two addresses of an unsteady NAT.
const READDRESS_EVERY: Duration = Duration::from_secs(3);

/// Runs one fault in a lab that is empty; `within` bounds how long the right answer may take.
///
/// # Errors
/// If the lab or a node fails otherwise than by the fault.
pub async fn run(fault: &Fault, within: Duration) -> Result<Outcome, Failure> {
    let case = parse(fault.case)?;
    let mut crew = Crew::new(World::build(&case).map_err(lab_failure)?);
    crew.start_overlay().await?;
    let ids = Ids::of(&crew).await?;
    let mut scene = Scene { crew, ids, talks: Vec::new() };
    if matches!(fault.before, Before::Wanted | Before::Passing) {
        scene.begin("a", "b").await?;
    }
    if fault.before == Before::Passing {
        scene.pass().await?;
    }
    for step in fault.steps {
        scene.happen(step).await?;
    }
    if fault.before == Before::Members {
        scene.begin("a", "b").await?;
    }
    ask(fault, &mut scene, within).await
}

async fn ask(fault: &Fault, scene: &mut Scene, within: Duration) -> Result<Outcome, Failure> {
    let nobody = libp2p_identity::Keypair::generate_ed25519().public().to_peer_id().to_string();
    let about = match fault.ask {
        Ask::A => scene.ids.a.clone(),
        Ask::B => scene.ids.b.clone(),
        Ask::Founder => scene.ids.founder.clone(),
        Ask::Nobody => nobody,
    };
    let client = scene.crew.client("a")?;
    let started = Instant::now();
    let mut readdressed = started;
    let mut outcome = Outcome::open(fault);
    let mut last = None;
    while !outcome.right && started.elapsed() < within {
        if readdressed.elapsed() > READDRESS_EVERY {
            readdressed = Instant::now();
            for step in fault.steps.iter().filter(|step| matches!(step, Step::KeepReaddressing(_))) {
                scene.happen(step).await?;
            }
        }
        // Frames go on while the daemon thinks.
        let said = {
            let mut asked = std::pin::pin!(pair::why(&client, &about));
            loop {
                tokio::select! {
                    said = &mut asked => break said?,
                    () = tokio::time::sleep(TALK_EVERY) => scene.talk()?,
                }
            }
        };
        outcome.right = is_right(fault, &said);
        outcome.said = Some(said.code);
        outcome.beside = said.also.iter().map(|finding| finding.code).collect();
        outcome.words = Some(said.cause.clone());
        last = Some(said);
        let pause = if outcome.right { Duration::ZERO } else { ASK_EVERY };
        let until = Instant::now() + pause;
        while Instant::now() < until {
            scene.talk()?;
            tokio::time::sleep(TALK_EVERY).await;
        }
    }
    if !outcome.right {
        // For whoever mends it: all that was said, and what it was said from.
        let peers: Vec<Peer> = client.get("/v1/peers").await?;
        let all = serde_json::json!({ "why": last, "peers": peers });
        eprintln!("{}: {all}", fault.name);
    }
    if outcome.right {
        outcome.after_ms = Some(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    }
    Ok(outcome)
}

/// The cause is one of the right ones, and beside it stands what has to; where all is well, nothing else.
fn is_right(fault: &Fault, said: &Explanation) -> bool {
    let beside: Vec<Code> = said.also.iter().map(|finding| finding.code).collect();
    let is_well = matches!(said.code, Code::Direct | Code::DirectLocal | Code::SameHost | Code::NotWanted);
    fault.codes.contains(&said.code)
        && fault.beside.iter().all(|code| beside.contains(code))
        && (!is_well || beside.len() == fault.beside.len())
}
