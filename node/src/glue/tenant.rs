//! What a tenant asks of slices through this node: each order is signed with the tenant's key and given to the engine.
//!
//! Owns: the tenant's key, and the timings of the slices created here. Refuses to know: how hosts agree (the engine), and HTTP. An answer is
//! given in the API's own words ([`crate::control::api`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use consort_overlay::{HostId, Overlay};
use consort_scheduler::engine::{Answer, Command, OrderFailure, Plan};
use consort_scheduler::identity::TenantId;
use consort_scheduler::limits::HOLD_DEFAULT;
use consort_scheduler::message::{OrderKind, Selector, SignedOrder, SliceHint};
use consort_scheduler::refusal::RequestRefusal;
use consort_scheduler::slice::charter::{Charter, Founded};
use consort_scheduler::slice::file;
use consort_scheduler::slice::id::SliceId;
use consort_scheduler::slice::view::{MachineView, SliceView};
use consort_scheduler::units::Millis;
use libp2p_identity::Keypair;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

use super::candidates;
use super::engine::EngineHandle;
use super::progress::{self, Stage};
use crate::control::api;
use crate::failure::Failure;
use crate::state::keys;

/// Slices whose timings are kept; the oldest are forgotten first.
const TIMINGS_MAX: usize = 256;

/// How long a new slice is followed, and how long `--wait` waits.
const FOLLOW_FOR: Duration = Duration::from_secs(60);

/// A tenant's way to slices. Clones share it.
#[derive(Clone)]
pub struct Tenant {
    keypair: Keypair,
    engine: EngineHandle,
    overlay: Overlay,
    timings: Arc<Mutex<BTreeMap<SliceId, (Instant, api::Timings)>>>,
}

impl std::fmt::Debug for Tenant {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tenant").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// A machine of one of the tenant's slices.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its slice.
    pub slice: SliceId,
    /// Its slice's name.
    pub slice_name: String,
    /// What is known of it.
    pub machine: MachineView,
}

impl Tenant {
    /// The tenant with this key.
    #[must_use]
    pub fn new(keypair: Keypair, engine: EngineHandle, overlay: Overlay) -> Self {
        Self { keypair, engine, overlay, timings: Arc::default() }
    }

    /// The tenant's name.
    #[must_use]
    pub fn id(&self) -> TenantId {
        TenantId(self.keypair.public().to_peer_id())
    }

    /// What would be granted for a slice file; nothing is reserved.
    ///
    /// # Errors
    /// If the file is wrong.
    pub async fn plan(&self, text: &str) -> Result<api::Plan, Failure> {
        let founded = self.found(text).await?;
        let candidates = self.candidates().await;
        match self.engine.command(Command::Plan { founded: Box::new(founded), candidates }).await? {
            Answer::Planned(plan) => Ok(show_plan(&plan)),
            Answer::Refused { reason, plan } => {
                Ok(api::Plan { reason: Some(reason.to_string()), ..show_plan(&plan) })
            }
            other => Err(out_of_turn(&other)),
        }
    }

    /// Creates the slice of a file; with `wait`, answers when every machine can be reached.
    ///
    /// # Errors
    /// If the file is wrong, the slice is refused, or (with `wait`) it did not come to run.
    pub async fn create(&self, text: &str, wait: bool) -> Result<api::Slice, Failure> {
        let begun = Instant::now();
        let founded = self.found(text).await?;
        let candidates = self.candidates().await;
        let create = Command::Create { founded: Box::new(founded), candidates, hold: HOLD_DEFAULT };
        let slice = match self.engine.command(create).await? {
            Answer::Created { slice, .. } => slice,
            Answer::Refused { reason, plan } => {
                return Err(refused(&reason, &plan));
            }
            Answer::Undecided { slice, .. } => {
                return Err(Failure::failed(
                    "undecided",
                    format!("nobody can say yet what became of slice {slice}"),
                )
                .remedy(format!("ask again with `consort slice show {slice}`")));
            }
            other => return Err(out_of_turn(&other)),
        };
        self.note(slice.id, begun, |timings| timings.placed_ms = Some(since(begun)));
        let following = tokio::spawn(self.clone().follow(slice.id, begun, hosts_of(&slice)));
        if !wait {
            return Ok(self.show_view(&slice));
        }
        following.await.map_err(|error| {
            Failure::failed("follow", format!("the slice could not be followed: {error}"))
        })?;
        let slice = self.see(&slice.id.to_string()).await?;
        let shown = self.show_view(&slice);
        if shown.timings.reachable_ms.is_some() {
            return Ok(shown);
        }
        Err(Failure::failed(
            "not_reachable",
            format!(
                "slice {} was created, but not all of it can be reached: {}",
                shown.name,
                not_running(&shown)
            ),
        )
        .remedy(format!(
            "look at `consort slice show {0}`, or give it back with `consort slice rm {0}`",
            shown.name
        )))
    }

    /// Follows a new slice until its hosts have it running and linked.
    async fn follow(self, slice: SliceId, begun: Instant, hosts: Vec<HostId>) {
        let all_at = async |stage| {
            let asked = hosts.iter().map(|host| {
                let (overlay, host) = (self.overlay.clone(), *host);
                tokio::spawn(async move { progress::reached(&overlay, host, slice, stage).await })
            });
            for asked in asked.collect::<Vec<_>>() {
                if !asked.await.unwrap_or(false) {
                    return false;
                }
            }
            true
        };
        let followed = async {
            for stage in [Stage::Staged, Stage::Running, Stage::Reachable] {
                if !all_at(stage).await {
                    return;
                }
                self.note(slice, begun, |timings| {
                    let reached = match stage {
                        Stage::Staged => &mut timings.staged_ms,
                        Stage::Running => &mut timings.running_ms,
                        _ => &mut timings.reachable_ms,
                    };
                    *reached = Some(since(begun));
                });
            }
        };
        if tokio::time::timeout(FOLLOW_FOR, followed).await.is_err() {
            tracing::warn!(%slice, "the slice was not entirely reachable in time");
        }
    }

    fn note(&self, slice: SliceId, begun: Instant, change: impl FnOnce(&mut api::Timings)) {
        let mut timings = self.timings.lock().unwrap_or_else(PoisonError::into_inner);
        if timings.len() >= TIMINGS_MAX
            && !timings.contains_key(&slice)
            && let Some(oldest) = timings.iter().min_by_key(|(_, (begun, _))| *begun).map(|(slice, _)| *slice)
        {
            timings.remove(&oldest);
        }
        change(&mut timings.entry(slice).or_insert((begun, api::Timings::default())).1);
    }

    /// All slices of the tenant that any host asked knows of.
    ///
    /// # Errors
    /// If the node is stopping.
    pub async fn list(&self) -> Result<Vec<api::Slice>, Failure> {
        let mut slices = Vec::new();
        for hint in self.hints().await? {
            match self.see(&hint.slice.to_string()).await {
                Ok(view) => slices.push(self.show_view(&view)),
                Err(failure) => {
                    tracing::debug!(slice = %hint.slice, %failure, "a slice could not be looked at")
                }
            }
        }
        Ok(slices)
    }

    async fn hints(&self) -> Result<Vec<SliceHint>, Failure> {
        let order = Some(self.sign(Selector::All, OrderKind::See)?);
        let candidates = candidates::hosts(&self.overlay).await;
        match self.engine.command(Command::List { order, candidates }).await? {
            Answer::Listed(hints) => Ok(hints),
            Answer::Failed(failure) => Err(order_failed("", &failure)),
            other => Err(out_of_turn(&other)),
        }
    }

    /// One slice, by name or id.
    ///
    /// # Errors
    /// If there is none, or its stewards cannot be reached.
    pub async fn show(&self, name: &str) -> Result<api::Slice, Failure> {
        Ok(self.show_view(&self.see(name).await?))
    }

    /// What happened to a slice.
    ///
    /// # Errors
    /// As [`Tenant::show`].
    pub async fn events(&self, name: &str) -> Result<Vec<api::Event>, Failure> {
        let view = self.see(name).await?;
        Ok(view
            .events
            .iter()
            .map(|event| api::Event {
                version: event.version,
                after_ms: event.after_ms.0,
                what: event.what.clone(),
                host: event.host.map(|host| host.to_string()),
            })
            .collect())
    }

    /// Gives a slice more time.
    ///
    /// # Errors
    /// As [`Tenant::show`], or if it is over.
    pub async fn extend(&self, name: &str, by: Duration) -> Result<api::Slice, Failure> {
        let view = self.see(name).await?;
        let by = Millis(u64::try_from(by.as_millis()).unwrap_or(u64::MAX));
        self.order(name, selector(&view.id.to_string())?, OrderKind::Extend(view.term_ms.plus(by))).await?;
        self.show(&view.id.to_string()).await
    }

    /// Ends a slice.
    ///
    /// # Errors
    /// As [`Tenant::show`], or if it is over.
    pub async fn remove(&self, name: &str) -> Result<api::Slice, Failure> {
        let view = self.see(name).await?;
        self.order(name, selector(&view.id.to_string())?, OrderKind::Remove).await?;
        self.show(&view.id.to_string()).await
    }

    async fn order(&self, name: &str, selector: Selector, kind: OrderKind) -> Result<(), Failure> {
        match self.give(selector, kind).await? {
            Answer::Done { .. } => Ok(()),
            Answer::Failed(failure) => Err(order_failed(name, &failure)),
            other => Err(out_of_turn(&other)),
        }
    }

    async fn see(&self, name: &str) -> Result<SliceView, Failure> {
        match self.give(selector(name)?, OrderKind::See).await? {
            Answer::Shown(view) => Ok(*view),
            Answer::Failed(failure) => Err(order_failed(name, &failure)),
            other => Err(out_of_turn(&other)),
        }
    }

    async fn give(&self, selector: Selector, kind: OrderKind) -> Result<Answer, Failure> {
        let order = Some(self.sign(selector.clone(), kind)?);
        let candidates = candidates::hosts(&self.overlay).await;
        self.engine.command(Command::Order { order, selector, candidates }).await
    }

    fn sign(&self, selector: Selector, kind: OrderKind) -> Result<SignedOrder, Failure> {
        SignedOrder::sign(&self.keypair, self.overlay.local_id(), selector, kind)
            .map_err(|error| Failure::failed("signature", format!("the tenant's key cannot sign: {error}")))
    }

    async fn found(&self, text: &str) -> Result<Founded, Failure> {
        let spec = file::parse(text).map_err(|error| Failure::input("slice_file", error.to_string()))?;
        let mut seed = Zeroizing::new([0; 32]);
        keys::fill_random(&mut seed[..])?;
        let mut rng = ChaCha8Rng::from_seed(*seed);
        let stewards = candidates::stewards(&self.overlay, &mut rng).await;
        Charter::found(spec, &self.keypair, self.overlay.local_id(), &stewards, &mut rng)
            .map_err(|error| Failure::input("slice_file", error.to_string()))
    }

    async fn candidates(&self) -> Vec<consort_scheduler::engine::Candidate> {
        candidates::candidates(&self.overlay, self.engine.advert()).await
    }

    /// The tenant's machines.
    ///
    /// # Errors
    /// If the node is stopping.
    pub async fn machines(&self) -> Result<Vec<Found>, Failure> {
        let mut found = Vec::new();
        for hint in self.hints().await?.into_iter().filter(|hint| !hint.state.is_final()) {
            if let Ok(view) = self.see(&hint.slice.to_string()).await {
                found.extend(view.machines.iter().map(|machine| found_in(&view, machine)));
            }
        }
        Ok(found)
    }

    /// One machine, named `worker-0`, `worker-0.mpi` or `worker-0.ID`.
    ///
    /// # Errors
    /// If there is none, or several.
    pub async fn machine(&self, name: &str) -> Result<Found, Failure> {
        let nothing = || {
            Failure::not_found("no_machine", format!("none of this tenant's slices has a machine {name}"))
                .remedy("look at `consort machine ls`")
        };
        if let Some((machine, slice)) = name.split_once('.') {
            let view = self.see(slice.strip_suffix(".consort").unwrap_or(slice)).await?;
            let named = view.machines.iter().find(|known| known.name == machine).ok_or_else(nothing)?;
            return Ok(found_in(&view, named));
        }
        let mut named: Vec<Found> =
            self.machines().await?.into_iter().filter(|found| found.machine.name == name).collect();
        match named.len() {
            0 => Err(nothing()),
            1 => Ok(named.remove(0)),
            _ => {
                let slices: Vec<&str> = named.iter().map(|found| found.slice_name.as_str()).collect();
                Err(Failure::input(
                    "ambiguous",
                    format!("several slices have a machine {name}: {}", slices.join(", ")),
                )
                .remedy(format!("name it with its slice, such as {name}.{}", slices[0])))
            }
        }
    }

    fn show_view(&self, view: &SliceView) -> api::Slice {
        let timings = self.timings.lock().unwrap_or_else(PoisonError::into_inner);
        api::Slice {
            name: view.name.to_string(),
            id: view.id.to_string(),
            state: view.state.to_owned(),
            reason: view.reason.clone(),
            tenant: view.tenant.to_string(),
            expires_in_ms: view.left_ms.map(|left| left.0),
            stewards: view.stewards.iter().map(ToString::to_string).collect(),
            machines: view.machines.iter().map(show_machine).collect(),
            timings: timings.get(&view.id).map(|(_, timings)| *timings).unwrap_or_default(),
        }
    }
}

fn since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn hosts_of(view: &SliceView) -> Vec<HostId> {
    let mut hosts: Vec<HostId> = view.machines.iter().map(|machine| machine.host).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn found_in(view: &SliceView, machine: &MachineView) -> Found {
    Found { slice: view.id, slice_name: view.name.to_string(), machine: machine.clone() }
}

fn show_machine(machine: &MachineView) -> api::SliceMachine {
    api::SliceMachine {
        name: machine.name.clone(),
        host: machine.host.to_string(),
        category: machine.category.to_string(),
        state: machine.state.to_owned(),
        reason: machine.detail.clone(),
        interfaces: interfaces(machine),
    }
}

/// A machine's interfaces in the API's words.
#[must_use]
pub fn interfaces(machine: &MachineView) -> Vec<api::Interface> {
    machine
        .interfaces
        .iter()
        .map(|interface| api::Interface {
            network: interface.network.to_string(),
            mac: interface.mac.clone(),
            ipv4: interface.ipv4.map(|address| address.to_string()),
            ipv6: interface.ipv6.map(|address| address.to_string()),
        })
        .collect()
}

fn not_running(slice: &api::Slice) -> String {
    let others: Vec<String> = slice
        .machines
        .iter()
        .filter(|machine| machine.state != "running")
        .map(|machine| match &machine.reason {
            Some(reason) => format!("{} is {} ({reason})", machine.name, machine.state),
            None => format!("{} is {}", machine.name, machine.state),
        })
        .collect();
    if others.is_empty() {
        "the links between its hosts are not all there".to_owned()
    } else {
        others.join(", ")
    }
}

fn show_plan(plan: &Plan) -> api::Plan {
    api::Plan {
        fits: plan.fits,
        shrunk: plan.shrunk,
        reason: None,
        machines: plan
            .machines
            .iter()
            .map(|machine| api::PlannedMachine {
                name: machine.name.clone(),
                host: machine.host.to_string(),
                category: machine.category.to_string(),
                cpus_milli: machine.size.cpus_milli,
                memory_bytes: machine.size.memory_bytes,
                disk_bytes: machine.size.disk_bytes,
            })
            .collect(),
        asked: plan.hosts.iter().map(|verdict| verdict.host.to_string()).collect(),
        refusals: refusals(plan),
        would_fit: plan
            .advice
            .iter()
            .map(|advice| api::Advice {
                field: advice.field.clone(),
                from: advice.from.clone(),
                to: advice.to.clone(),
            })
            .collect(),
    }
}

fn refusals(plan: &Plan) -> Vec<api::Refusal> {
    let of_host = |verdict: &consort_scheduler::engine::HostVerdict| {
        let host = verdict.host.to_string();
        verdict
            .codes
            .iter()
            .zip(&verdict.texts)
            .map(move |(code, text)| api::Refusal {
                host: host.clone(),
                code: (*code).to_owned(),
                message: text.clone(),
            })
            .collect::<Vec<_>>()
    };
    plan.hosts.iter().flat_map(of_host).collect()
}

/// A refused request in one line, with what to do about it.
fn refused(reason: &RequestRefusal, plan: &Plan) -> Failure {
    let failure = Failure::refused(reason.code(), reason.to_string());
    match reason {
        RequestRefusal::NotYet { .. } => Failure { code: "not_yet_supported".to_owned(), ..failure },
        RequestRefusal::NameTaken => {
            let message = "this tenant has a slice of this name that is not over";
            Failure { message: message.to_owned(), ..failure }
                .remedy("end it with `consort slice rm`, or choose another name")
        }
        RequestRefusal::TooManyCommands => failure.remedy("try again"),
        RequestRefusal::StewardsUnreachable => failure.remedy("look at `consort peers`, and try again"),
        _ => refused_by_hosts(failure, plan),
    }
}

/// Each distinct reason once, with how many hosts gave it.
fn refused_by_hosts(failure: Failure, plan: &Plan) -> Failure {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for refusal in refusals(plan) {
        *counts.entry(refusal.message).or_default() += 1;
    }
    let hosts = |count| if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") };
    let said: Vec<String> =
        counts.into_iter().map(|(message, count)| format!("{}: {message}", hosts(count))).collect();
    let failure = match said.as_slice() {
        [] => failure,
        said => Failure { message: format!("{} ({})", failure.message, said.join("; ")), ..failure },
    };
    match plan.advice.first() {
        Some(advice) => failure
            .remedy(format!("it would fit with {} {} instead of {}", advice.field, advice.to, advice.from)),
        None => failure.remedy("look at `consort slice plan` and `consort peers`"),
    }
}

fn selector(name: &str) -> Result<Selector, Failure> {
    if let Ok(id) = name.parse() {
        return Ok(Selector::Id(id));
    }
    name.parse().map(Selector::Name).map_err(|error| {
        Failure::input("slice_name", format!("`{name}` is neither the name nor the id of a slice: {error}"))
            .remedy("look at `consort slice ls`")
    })
}

fn order_failed(name: &str, failure: &OrderFailure) -> Failure {
    let message = if name.is_empty() { failure.to_string() } else { format!("slice {name}: {failure}") };
    match failure {
        OrderFailure::NotFound => {
            Failure::not_found("no_slice", message).remedy("look at `consort slice ls`")
        }
        OrderFailure::Ambiguous(ids) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            Failure::input("ambiguous", message).remedy(format!("give one of {}", ids.join(", ")))
        }
        OrderFailure::Forbidden => Failure::refused("forbidden", message),
        OrderFailure::WrongState(_) => Failure::refused("wrong_state", message),
        OrderFailure::TooManyCommands => Failure::refused("too_many_commands", message).remedy("try again"),
        OrderFailure::StewardsUnreachable => {
            Failure::failed("stewards_unreachable", message).remedy("look at `consort peers`, and try again")
        }
        _ => Failure::failed("order", message),
    }
}

fn out_of_turn(answer: &Answer) -> Failure {
    Failure::failed("engine", format!("the scheduler answered out of turn: {answer:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_named_by_name_or_id() {
        assert!(matches!(selector("mpi"), Ok(Selector::Name(_))));
        assert!(matches!(selector("000102030405060708090a0b0c0d0e0f"), Ok(Selector::Id(_))));
        assert_eq!(selector("Not a name").unwrap_err().code, "slice_name");
    }

    #[test]
    fn a_refused_request_says_who_refused_and_what_would_fit() {
        let host = |codes, texts| consort_scheduler::engine::HostVerdict {
            host: HostId::random(),
            verdict: consort_scheduler::message::Verdict::refusing(
                consort_scheduler::refusal::Refusal::Policy,
            ),
            codes,
            texts,
        };
        let advice = consort_scheduler::request::Advice {
            field: "machine.worker.count".to_owned(),
            from: "8".to_owned(),
            to: "4".to_owned(),
            given_up_milli: 500,
        };
        let mut plan = Plan {
            fits: false,
            shrunk: false,
            hosts: vec![
                host(vec!["no_capacity"], vec!["no memory".to_owned()]),
                host(vec!["no_capacity"], vec!["no memory".to_owned()]),
                host(vec!["policy"], vec!["not for you".to_owned()]),
            ],
            machines: Vec::new(),
            advice: vec![advice],
        };
        let failure = refused(&RequestRefusal::NoCapacity, &plan);
        assert_eq!((failure.code.as_str(), failure.exit().number()), ("no_capacity", 3));
        assert!(failure.message.contains("2 hosts: no memory; 1 host: not for you"), "{failure}");
        assert!(
            failure.to_string().ends_with("it would fit with machine.worker.count 4 instead of 8"),
            "{failure}"
        );
        plan.hosts.clear();
        assert!(refused(&RequestRefusal::NameTaken, &plan).to_string().contains("choose another name"));
    }

    #[test]
    fn each_order_that_fails_has_its_exit_code() {
        assert_eq!(order_failed("mpi", &OrderFailure::NotFound).exit().number(), 1);
        assert_eq!(order_failed("mpi", &OrderFailure::Forbidden).exit().number(), 3);
        assert_eq!(order_failed("mpi", &OrderFailure::Ambiguous(vec![])).exit().number(), 2);
        assert!(order_failed("mpi", &OrderFailure::NotFound).message.starts_with("slice mpi: "));
    }
}
