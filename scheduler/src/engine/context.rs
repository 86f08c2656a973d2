//! What every role may use while it handles one input: the time, chance, and where outputs go.

use std::collections::{BTreeMap, VecDeque};

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::api::{EngineConfig, Output};
use crate::identity::HostId;
use crate::message::{self, Message};
use crate::units::Millis;

/// Outputs not yet taken, messages to ourselves not yet handled, and counters.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) to_self: VecDeque<Message>,
    pub(crate) counters: BTreeMap<&'static str, u64>,
}

/// Borrowed by a role for the length of one call.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now: Millis,
    pub(crate) me: HostId,
    pub(crate) config: &'a EngineConfig,
    pub(crate) rng: &'a mut ChaCha8Rng,
    pub(crate) out: &'a mut Outbox,
}

impl Context<'_> {
    /// Sends a message, also to this host itself; that one is handled before the engine returns.
    pub(crate) fn send(&mut self, to: HostId, message: Message) {
        if to == self.me {
            self.out.to_self.push_back(message);
            return;
        }
        let (kind, body) = (message.kind(), message::encode(&message));
        self.out.outputs.push_back(Output::Send { to, kind, body });
    }

    pub(crate) fn output(&mut self, output: Output) {
        self.out.outputs.push_back(output);
    }

    /// Moves a counter: something was refused, or is worth knowing how often.
    pub(crate) fn count(&mut self, counter: &'static str) {
        *self.out.counters.entry(counter).or_default() += 1;
    }

    /// A number below `bound`, evenly enough for waits and choices.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }
}
