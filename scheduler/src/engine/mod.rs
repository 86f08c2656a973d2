//! The engine: it finds the role an input is for, hands it over, and forwards what comes out.
//!
//! One engine is one host's whole part in allocation: host, steward, coordinator, and the questions of its users. It
//! reads no clock, draws no chance but from its seed, and does nothing itself: all effects are [`Output`]s. A driver is
//! a loop: take an input, call its `handle_`, act on [`Engine::poll_output`] until it is empty, sleep until
//! [`Engine::poll_timeout`], call [`Engine::handle_timeout`]. The rules a driver obeys stand at the top of the file `api`.
//!
//! Messages to this host itself never leave the engine; they are handled before a `handle_` returns. What they made
//! durable is in the outputs before anything that depends on it.

mod api;
pub(crate) mod changes;
pub(crate) mod context;
mod fuzz;

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use thiserror::Error;

pub use api::*;
pub use fuzz::fuzz_entry;

use crate::host::{self, HostRole, StoredStay};
use crate::identity::HostId;
use crate::message::{self, AskKind, Message, Selector, SignedOrder, SliceHint};
use crate::query::{Queries, Question, Standing};
use crate::register::Accepted;
use crate::request::Requests;
use crate::resources::Resources;
use crate::slice::charter::Founded;
use crate::slice::grant::GrantRefusal;
use crate::slice::id::{NetworkId, SliceId};
use crate::slice::record::Record;
use crate::slice::view::SliceView;
use crate::steward::{self, StewardRole, StoredSeat};
use crate::units::Millis;
use changes::{Applied, Changes, Finished, Owner};
use context::{Context, Outbox};

/// One host's part in allocation.
#[derive(Debug)]
pub struct Engine {
    me: HostId,
    config: EngineConfig,
    rng: ChaCha8Rng,
    host: HostRole,
    steward: StewardRole,
    requests: Requests,
    queries: Queries,
    changes: Changes,
    out: Outbox,
}

/// Why persisted state cannot be taken up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A value cannot be read. Going on without it could break a promise that was made.
    #[error("the state kept under \"{key}\" cannot be read")]
    Unreadable {
        /// Its key.
        key: String,
    },
    /// The key pair is not Ed25519.
    #[error(transparent)]
    Key(#[from] crate::identity::NotEd25519),
}

impl Engine {
    /// An engine, new or after a restart. `seed` must be fresh from the operating system each time: it makes
    /// ballots unique.
    ///
    /// # Errors
    /// When persisted state cannot be read, or the key pair cannot sign.
    pub fn new(
        config: EngineConfig,
        restored: Option<Restored>,
        seed: [u8; 32],
        now: Millis,
    ) -> Result<Self, RestoreError> {
        crate::identity::sign(&config.keypair, crate::identity::Purpose::Grant, b"")?;
        let mut engine = Self {
            me: config.keypair.public().to_peer_id(),
            host: HostRole::new(&config.share),
            config,
            rng: ChaCha8Rng::from_seed(seed),
            steward: StewardRole::default(),
            requests: Requests::default(),
            queries: Queries::default(),
            changes: Changes::default(),
            out: Outbox::default(),
        };
        if let Some(restored) = restored {
            engine.restore(now, restored)?;
        }
        Ok(engine)
    }

    fn restore(&mut self, now: Millis, restored: Restored) -> Result<(), RestoreError> {
        let mut entries = restored.entries;
        entries.sort();
        for (key, value) in entries {
            let mut ctx = context(now, self.me, &self.config, &mut self.rng, &mut self.out);
            let taken_up = if key.starts_with(host::KEY_PREFIX) {
                StoredStay::decode(&value).and_then(|stored| self.host.restore(&mut ctx, stored))
            } else if key.starts_with(steward::KEY_PREFIX) {
                StoredSeat::decode(&value).and_then(|stored| self.steward.restore(&ctx, stored))
            } else {
                None
            };
            taken_up.ok_or(RestoreError::Unreadable { key })?;
        }
        self.pump(now);
        Ok(())
    }

    /// Another host's engine sent these bytes. `from` must have been proved by whoever carried them.
    pub fn handle_message(&mut self, now: Millis, from: HostId, body: &[u8]) {
        match message::decode(body) {
            Ok(message) => {
                self.route(now, from, message);
                self.pump(now);
            }
            Err(error) => *self.out.counters.entry(error.counter()).or_default() += 1,
        }
    }

    /// A user of this node wants something. The answer comes once, as [`Output::Answer`].
    pub fn handle_command(&mut self, now: Millis, id: CommandId, command: Command) {
        let mut ctx = context(now, self.me, &self.config, &mut self.rng, &mut self.out);
        match command {
            Command::Plan { founded, candidates } => {
                self.requests.begin(&mut ctx, id, *founded, candidates, AskKind::Plan);
            }
            Command::Create { founded, candidates, hold } => {
                self.requests.begin(&mut ctx, id, *founded, candidates, AskKind::Reserve(hold));
            }
            Command::Order { order, selector, candidates } => {
                let known = known_slices(&self.host, &self.steward, self.me);
                let question = Question { order, selector, list: false };
                self.queries.begin(&mut ctx, id, question, known, &candidates);
            }
            Command::List { order, candidates } => {
                let known = known_slices(&self.host, &self.steward, self.me);
                let question = Question { order, selector: Selector::All, list: true };
                self.queries.begin(&mut ctx, id, question, known, &candidates);
            }
        }
        self.pump(now);
    }

    /// The driver says how the machine at this position of a slice's record fares.
    pub fn handle_report(&mut self, now: Millis, slice: SliceId, machine: u8, report: DriverReport) {
        let mut ctx = context(now, self.me, &self.config, &mut self.rng, &mut self.out);
        self.host.handle_report(&mut ctx, slice, machine, report);
        self.pump(now);
    }

    /// A message to this host could not be delivered. Only a hint: nothing is decided by it, only waiting cut short.
    pub fn handle_unreachable(&mut self, now: Millis, host: HostId) {
        let mut ctx = context(now, self.me, &self.config, &mut self.rng, &mut self.out);
        self.requests.handle_unreachable(&mut ctx, &mut self.changes, host);
        self.queries.handle_unreachable(&mut ctx, host);
        self.pump(now);
    }

    /// The owner changed what he gives.
    pub fn handle_share(&mut self, share: Share) {
        self.host.set_share(&share);
        self.config.share = share;
    }

    /// What the host can do has changed.
    pub fn handle_capabilities(&mut self, capabilities: Capabilities) {
        self.config.capabilities = capabilities;
    }

    /// Time has come.
    pub fn handle_timeout(&mut self, now: Millis) {
        let mut ctx = context(now, self.me, &self.config, &mut self.rng, &mut self.out);
        self.host.handle_timeout(&mut ctx);
        self.steward.handle_timeout(&mut ctx, &mut self.changes);
        self.requests.handle_timeout(&mut ctx, &mut self.changes);
        self.queries.handle_timeout(&mut ctx);
        for finished in self.changes.handle_timeout(&mut ctx) {
            self.conclude(now, &finished);
        }
        self.pump(now);
    }

    /// When to call [`Engine::handle_timeout`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Millis> {
        [
            self.host.poll_timeout(),
            self.steward.poll_timeout(),
            self.requests.poll_timeout(),
            self.queries.poll_timeout(),
            self.changes.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
        .filter(|at| *at < Millis(u64::MAX))
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.outputs.pop_front()
    }

    /// This host's name.
    #[must_use]
    pub const fn host(&self) -> HostId {
        self.me
    }

    /// What this host would say of itself now.
    #[must_use]
    pub fn advert(&self) -> Advert {
        let categories = &self.config.capabilities.categories;
        Advert {
            free: self.host.ledger.free(),
            limit: self.host.ledger.limit(),
            sandbox: categories.contains(&crate::slice::spec::Category::Sandbox),
            vm: categories.contains(&crate::slice::spec::Category::Vm),
        }
    }

    /// What this host has promised in all.
    #[must_use]
    pub const fn promised(&self) -> Resources {
        self.host.ledger.promised()
    }

    /// The slices this host has machines of, as it last read their records, with its own machines' states.
    #[must_use]
    pub fn local_slices(&self) -> Vec<SliceView> {
        self.host.records().map(|(_, record, reports)| SliceView::new(record, &reports, None)).collect()
    }

    /// How many registers this host keeps as a steward.
    #[must_use]
    pub fn registers(&self) -> usize {
        self.steward.len()
    }

    /// How often each thing worth counting happened, by name.
    #[must_use]
    pub const fn counters(&self) -> &BTreeMap<&'static str, u64> {
        &self.out.counters
    }

    /// Judges a grant that another host presents to open a channel for a network, and says for how long the channel may
    /// stay open before it must be judged again.
    ///
    /// # Errors
    /// Says why the channel must not be opened.
    pub fn verify_grant(
        &self,
        now: Millis,
        from: HostId,
        network: NetworkId,
        grant: &[u8],
    ) -> Result<Millis, GrantRefusal> {
        self.host.verify_grant(from, network, grant, now)
    }

    /// Handles what this host sent to itself, until nothing is left.
    fn pump(&mut self, now: Millis) {
        while let Some(message) = self.out.to_self.pop_front() {
            self.route(now, self.me, message);
        }
    }

    fn route(&mut self, now: Millis, from: HostId, message: Message) {
        let mut ctx = context(now, self.me, &self.config, &mut self.rng, &mut self.out);
        let ctx = &mut ctx;
        let (host, steward, changes) = (&mut self.host, &mut self.steward, &mut self.changes);
        let finished = match message {
            Message::Ask { charter, machines, kind } => {
                let name_is_taken = |founded: &Founded| steward.has_living_namesake(founded);
                host.handle_ask(ctx, from, *charter, (machines, kind), name_is_taken);
                None
            }
            Message::Answer { slice, kind, verdict } => {
                self.requests.handle_answer(ctx, changes, from, slice, kind, verdict);
                None
            }
            Message::Cancel { slice } => {
                host.handle_cancel(ctx, from, slice);
                None
            }
            Message::Pledge { slice, machines, taken } => {
                host.handle_pledge(ctx, from, slice, machines, taken);
                None
            }
            Message::Pledged { slice, refusal } => {
                self.requests.handle_pledged(ctx, changes, from, slice, refusal.as_ref());
                None
            }
            Message::News { slice } => {
                host.handle_news(ctx, slice);
                None
            }
            Message::Prepare { charter, ballot } => {
                steward.handle_prepare(ctx, from, *charter, ballot);
                None
            }
            Message::Promise { slice, ballot, accepted } => {
                changes.handle_promise(ctx, from, slice, ballot, accepted.map(|accepted| *accepted))
            }
            Message::Accept { ballot, record } => {
                steward.handle_accept(ctx, from, ballot, *record);
                None
            }
            Message::Accepted { slice, ballot } => changes.handle_accepted(from, slice, ballot),
            Message::Refused { slice, ballot, refusal } => {
                changes.handle_refused(ctx, from, slice, ballot, refusal);
                None
            }
            Message::Read { slice, round, known, reader } => {
                steward.handle_read(ctx, from, slice, round, known, reader);
                None
            }
            Message::Standing { slice, round, held, reports, grants, left, charter } => {
                if self.queries.awaits(from, round) {
                    let charter = charter.map(|charter| *charter);
                    self.queries.handle_standing(ctx, from, Standing { round, held, reports, left, charter });
                } else {
                    host.handle_standing(ctx, from, slice, round, held, &grants);
                }
                None
            }
            Message::Settle { charter, abort } => {
                steward.handle_settle(ctx, changes, from, *charter, abort);
                None
            }
            Message::Release { slice } => {
                steward.handle_release(ctx, changes, from, slice);
                None
            }
            Message::Heard { slice, round } => {
                steward.handle_heard(ctx, from, slice, round);
                None
            }
            Message::HeardAgo { slice, round, ages } => {
                steward.handle_heard_ago(ctx, changes, from, slice, round, &ages);
                None
            }
            Message::Find { round, order, selector } => {
                let slices = find(host, steward, from, order.as_ref(), &selector);
                ctx.send(from, Message::Found { round, slices: crate::bounded::List::first_of(slices) });
                None
            }
            Message::Found { round, slices } => {
                self.queries.handle_found(ctx, from, round, &slices);
                None
            }
            Message::Order { slice, round, order } => {
                steward.handle_order(ctx, changes, from, slice, round, &order);
                None
            }
            Message::Ordered { round, result, .. } => {
                self.queries.handle_ordered(ctx, from, round, result);
                None
            }
        };
        if let Some(finished) = finished {
            self.conclude(now, &finished);
        }
    }

    /// A change is over: whoever wanted it is told, and hosts hear the news.
    fn conclude(&mut self, now: Millis, finished: &Finished) {
        let mut ctx = context(now, self.me, &self.config, &mut self.rng, &mut self.out);
        let slice = finished.founded.slice;
        if let Some((Applied::Written, Some(record))) = &finished.decided {
            let mut hosts: Vec<HostId> = record.machines.iter().map(|machine| machine.host).collect();
            hosts.sort_unstable();
            hosts.dedup();
            hosts.into_iter().for_each(|host| ctx.send(host, Message::News { slice }));
        }
        match finished.owner {
            Owner::Coordinator => self.requests.handle_finished(&mut ctx, &mut self.changes, finished),
            Owner::Watch | Owner::Settle { .. } | Owner::Order { .. } => {
                StewardRole::handle_finished(&mut ctx, finished)
            }
        }
    }
}

/// Reads an entry persisted by a steward: what it has accepted in a register. For tools and tests that look at a store from
/// outside; none when the entry is of another kind or cannot be read.
#[must_use]
pub fn inspect_register(key: &str, value: &[u8]) -> Option<(SliceId, Option<Accepted<Record>>)> {
    key.strip_prefix(steward::KEY_PREFIX)?;
    Some(StoredSeat::decode(value)?.into_accepted())
}

fn context<'a>(
    now: Millis,
    me: HostId,
    config: &'a EngineConfig,
    rng: &'a mut ChaCha8Rng,
    out: &'a mut Outbox,
) -> Context<'a> {
    Context { now, me, config, rng, out }
}

/// Slices this host knows of itself: as a steward and as a host.
fn known_slices(host: &HostRole, steward: &StewardRole, me: HostId) -> Vec<SliceHint> {
    steward.hints(me, None, &Selector::All).into_iter().chain(host.hints()).collect()
}

/// What another host may find here.
fn find(
    host: &HostRole,
    steward: &StewardRole,
    from: HostId,
    order: Option<&SignedOrder>,
    selector: &Selector,
) -> Vec<SliceHint> {
    let order = order.and_then(|order| order.open(from).ok());
    let of_tenant = |hint: &SliceHint| order.as_ref().is_some_and(|order| order.tenant == hint.tenant);
    let hosted = host.hints().filter(|hint| of_tenant(hint) && selector.selects(hint.slice, &hint.name));
    let mut hints = steward.hints(from, order.as_ref(), selector);
    for hint in hosted {
        if !hints.iter().any(|known| known.slice == hint.slice) {
            hints.push(hint);
        }
    }
    hints
}
