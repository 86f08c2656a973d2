//! Puts a fault in and asks why, until the answer is right or the time is over. Meanwhile the two hosts want frames of each other.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use consort_lab::Netlink;
use consort_lab::case::World;
use consort_lab::firewall::Rules;
use consort_lab::middlebox::Impairment;
use consort_lab::netlink::Hop;

use super::{Ask, Before, Fault, Outcome, Step};
use crate::bench::reach::crew::Crew;
use crate::bench::reach::pair::{self, Conversation};
use crate::bench::reach::parse;
use crate::control::api::{RevokeBody, Revoked, TopologyBody, TopologyPlan};
use crate::demo::stage::lab_failure;
use crate::failure::Failure;

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Between two addresses of an unsteady NAT.
const READDRESS_EVERY: Duration = Duration::from_secs(3);
/// How long frames may take to pass before the fault.
const PASSING_WITHIN: Duration = Duration::from_secs(30);

/// Runs one fault in a lab that is empty; `within` bounds how long the right answer may take.
///
/// # Errors
/// If the lab or a node fails otherwise than by the fault.
pub async fn run(fault: &Fault, within: Duration) -> Result<Outcome, Failure> {
    let case = parse(fault.case)?;
    let mut crew = Crew::new(World::build(&case).map_err(lab_failure)?);
    crew.start_overlay().await?;
    let ids = Ids::of(&crew).await?;
    let mut conversation = None;
    if fault.before != Before::Members {
        conversation = Some(Conversation::begin(&mut crew, "a", "b").await?);
    }
    if fault.before == Before::Passing {
        pass(conversation.as_mut()).await?;
    }
    for step in fault.steps {
        happen(&mut crew, &ids, step).await?;
    }
    if fault.before == Before::Members && wants_network(fault) {
        conversation = Some(Conversation::begin(&mut crew, "a", "b").await?);
    }
    ask(fault, &mut crew, &ids, conversation, within).await
}

/// The hosts' ids as they were at the beginning.
#[derive(Debug)]
struct Ids {
    a: String,
    b: String,
    founder: String,
}

impl Ids {
    async fn of(crew: &Crew) -> Result<Self, Failure> {
        let id = async |name: &str| pair::host_id(&crew.client(name)?).await;
        Ok(Self { a: id("a").await?, b: id("b").await?, founder: id("founder").await? })
    }

    fn named(&self, name: &str) -> &str {
        match name {
            "a" => &self.a,
            "b" => &self.b,
            _ => &self.founder,
        }
    }
}

/// With nothing done and nobody a member of a network, that is the fault itself.
fn wants_network(fault: &Fault) -> bool {
    !fault.steps.is_empty()
}

async fn pass(conversation: Option<&mut Conversation>) -> Result<(), Failure> {
    let Some(conversation) = conversation else { return Ok(()) };
    let started = Instant::now();
    while !conversation.answered().map_err(lab_failure)? {
        if started.elapsed() > PASSING_WITHIN {
            return Err(lab_failure("no frame passes before the fault"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn happen(crew: &mut Crew, ids: &Ids, step: &Step) -> Result<(), Failure> {
    match *step {
        Step::Firewall(site, rules) => {
            let rules = Rules::parse(rules.iter().copied()).map_err(lab_failure)?;
            crew.world().gateway(site).map_err(lab_failure)?.set_firewall(rules).map_err(lab_failure)
        }
        Step::Cable(site, delay, loss, hole) => {
            let impairment = Impairment { delay, loss, mtu: hole, ..Impairment::default() };
            crew.world().gateway(site).map_err(lab_failure)?.set_impairment(impairment).map_err(lab_failure)
        }
        Step::KeepReaddressing(site) => crew.world().readdress(site).map(drop).map_err(lab_failure),
        Step::LinkDown(host) => crew.world().set_link(host, false).map_err(lab_failure),
        Step::RoutesGone(host) => routes_gone(crew, host),
        Step::KillNode(host) => crew.kill_node(host),
        Step::Reborn(host) => {
            crew.kill_node(host)?;
            crew.forget(host)?;
            let ticket = crew.invite("founder", Duration::from_secs(600)).await?;
            crew.start(host, &["--join", &ticket])?;
            crew.member(host).await.map(drop)
        }
        Step::Revoke(host) => {
            let body = RevokeBody { key: ids.named(host).to_owned() };
            let _: Revoked = crew.client("founder")?.post("/v1/overlay/revoke", &body).await?;
            Ok(())
        }
        Step::Topology(text) => {
            let file = text.replace("{founder}", &ids.founder).replace("{a}", &ids.a).replace("{b}", &ids.b);
            let body = TopologyBody { file, force: true };
            let _: TopologyPlan = crew.client("founder")?.post("/v1/topology/apply", &body).await?;
            Ok(())
        }
    }
}

fn routes_gone(crew: &mut Crew, host: &str) -> Result<(), Failure> {
    let host = crew.world().host(host).map_err(lab_failure)?;
    let mut netlink = Netlink::open_in(host.host.netns()).map_err(lab_failure)?;
    let (ipv4, ipv6) = (host.ipv4, host.ipv6);
    // A host in the open has the second address of its subnet, the router the first.
    if let Some(own) = ipv4 {
        let router = Ipv4Addr::from_bits(own.to_bits() - 1);
        netlink
            .remove_route(Ipv4Addr::UNSPECIFIED.into(), 0, Hop::Via(router.into()))
            .map_err(lab_failure)?;
    }
    if let Some(own) = ipv6 {
        let router = Ipv6Addr::from_bits(own.to_bits() - 1);
        netlink
            .remove_route(Ipv6Addr::UNSPECIFIED.into(), 0, Hop::Via(router.into()))
            .map_err(lab_failure)?;
    }
    Ok(())
}

async fn ask(
    fault: &Fault,
    crew: &mut Crew,
    ids: &Ids,
    mut conversation: Option<Conversation>,
    within: Duration,
) -> Result<Outcome, Failure> {
    let nobody = libp2p_identity::Keypair::generate_ed25519().public().to_peer_id().to_string();
    let about = match fault.ask {
        Ask::A => &ids.a,
        Ask::B => &ids.b,
        Ask::Nobody => &nobody,
    };
    let client = crew.client("a")?;
    let started = Instant::now();
    let mut readdressed = started;
    let mut outcome = Outcome::open(fault);
    while !outcome.right && started.elapsed() < within {
        if let Some(conversation) = &mut conversation {
            conversation.answered().map_err(lab_failure)?;
        }
        if readdressed.elapsed() > READDRESS_EVERY {
            readdressed = Instant::now();
            for step in fault.steps {
                if let Step::KeepReaddressing(_) = step {
                    happen(crew, ids, step).await?;
                }
            }
        }
        let said = pair::why(&client, about).await?;
        outcome.right = fault.codes.contains(&said.code);
        outcome.said = Some(said.code);
        outcome.words = Some(said.cause);
        tokio::time::sleep(if outcome.right { Duration::ZERO } else { ASK_EVERY }).await;
    }
    if outcome.right {
        outcome.after_ms = Some(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    }
    Ok(outcome)
}
