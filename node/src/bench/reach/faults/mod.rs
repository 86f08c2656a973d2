//! Faults put into the network on purpose, and the cause that `consort why` must name for each.
//!
//! A fault is data: a case, what is done to it once its nodes run, and the codes that are right. So the list can be read, printed
//! and added to without reading the runner. Some faults leave a choice to the nodes (a port search that may succeed); then more than one
//! code is right. A wall clock cannot be set in a namespace; what a wrong one does (certificates from the future, or ended) is put into a node's state
//! (`tamper`). What no node would start with (a forged membership) is tested from facts, in [`crate::why`].
//!
//! | file | owns |
//! |---|---|
//! | `list` | the faults |
//! | `run` | one fault from its lab to its outcome |
//! | `steps` | what each step does to the lab |
//! | `tamper` | what is done to a node's state while it does not run |

mod list;
mod run;
mod steps;
mod tamper;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::why::Code;

pub use list::ALL;
pub use run::run;
pub use tamper::Tamper;

/// A fault.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Its name.
    pub name: &'static str,
    /// What is wrong.
    pub about: &'static str,
    /// The lab: hosts `a` and `b`, a public host `founder`, others as the case wants.
    pub case: &'static str,
    /// Whether the two are put on a network before it happens, and whether frames have to pass by then.
    pub before: Before,
    /// What happens.
    pub steps: &'static [Step],
    /// About whom `a` is asked.
    pub ask: Ask,
    /// The codes that are right.
    pub codes: &'static [Code],
    /// What has to be said beside it.
    pub beside: &'static [Code],
}

/// How far things are when the fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// All nodes are members, and nobody wants anything, now or later.
    Nothing,
    /// The same; the two want frames of each other as soon as it has happened.
    Members,
    /// The two are on a network, and want frames of each other from now on.
    Wanted,
    /// Frames pass.
    Passing,
}

/// About whom `a` is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// `b`, as it was known when it joined.
    B,
    /// Itself.
    A,
    /// The founder.
    Founder,
    /// A host that nobody ever was.
    Nobody,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// A site's firewall becomes this; `{a}` and `{b}` stand for the hosts' IPv4 addresses.
    Firewall(&'static str, &'static [&'static str]),
    /// A site's cable becomes this: delay, part lost, longest packet that does not vanish.
    Cable(&'static str, Duration, f64, Option<usize>),
    /// A site's NAT gets another outside address, again and again as long as `why` is asked.
    KeepReaddressing(&'static str),
    /// A host's own link goes down.
    LinkDown(&'static str),
    /// A host loses its default routes.
    RoutesGone(&'static str),
    /// A host's node is killed; the host lives.
    KillNode(&'static str),
    /// A host's node is killed, its state is lost, and a new one joins from the same address.
    Reborn(&'static str),
    /// A host's node is killed, something is done to its state, and it starts again.
    Tampered(&'static str, Tamper),
    /// A host begins anew with a ticket of the founder, whose node does not run any more.
    Newcomer(&'static str),
    /// The same with a ticket that ends before the founder's node runs again.
    LateNewcomer(&'static str),
    /// A host's resolver becomes one where nobody answers.
    ResolverGone(&'static str),
    /// The two talk over a relay, and go on.
    Talking(&'static str, &'static str),
    /// The first has heard of the second: nothing is left to chance that joining leaves to it.
    Heard(&'static str, &'static str),
    /// The founder puts a host out.
    Revoke(&'static str),
    /// The founder applies a topology; `{a}`, `{b}`, `{founder}` in it stand for the hosts' ids.
    Topology(&'static str),
}

/// What came of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// The fault's name.
    pub fault: String,
    /// What is wrong.
    pub about: String,
    /// The codes that are right.
    pub expected: Vec<Code>,
    /// What has to be said beside them.
    pub expected_beside: Vec<Code>,
    /// What was said last.
    pub said: Option<Code>,
    /// What was said beside it.
    pub beside: Vec<Code>,
    /// Whether that is right.
    pub right: bool,
    /// Until the right one was said.
    pub after_ms: Option<u64>,
    /// The plain words.
    pub words: Option<String>,
}

impl Outcome {
    /// Nothing was said yet.
    #[must_use]
    pub fn open(fault: &Fault) -> Self {
        Self {
            fault: fault.name.to_owned(),
            about: fault.about.to_owned(),
            expected: fault.codes.to_vec(),
            expected_beside: fault.beside.to_vec(),
            said: None,
            beside: Vec::new(),
            right: false,
            after_ms: None,
            words: None,
        }
    }

    /// The lab or a node failed otherwise; what it said went to standard error.
    #[must_use]
    pub fn failed(fault: &Fault) -> Self {
        Self { words: Some("the lab or a node failed".to_owned()), ..Self::open(fault) }
    }

    /// A line for who watches.
    #[must_use]
    pub fn in_words(&self) -> String {
        let said = self.said.map_or("nothing", Code::text);
        let verdict = if self.right { "right" } else { "wrong" };
        let words = self.words.as_deref().unwrap_or_default();
        format!("{}: {said} ({verdict}) {words}", self.fault)
    }
}

/// The fault of this name.
///
/// # Errors
/// If there is none; with all names.
pub fn named(name: &str) -> Result<&'static Fault, Failure> {
    ALL.iter().find(|fault| fault.name == name).ok_or_else(|| {
        let list: Vec<&str> = ALL.iter().map(|fault| fault.name).collect();
        Failure::input("unknown_fault", format!("--faults {name}"))
            .remedy(format!("the faults are: {}", list.join(", ")))
    })
}
