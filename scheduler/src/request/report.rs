//! What a request came to, in words: who was asked, who refused and why, what is or would be granted.

use super::advice::advise;
use super::create::{Asked, Request};
use crate::engine::{HostVerdict, Plan, PlannedMachine};
use crate::identity::HostId;
use crate::message::Verdict;
use crate::placement::Layout;
use crate::refusal::Refusal;

impl Request {
    /// Everything that was asked and said so far.
    pub(super) fn plan(&self, layout: Option<&Layout>) -> Plan {
        let spec = &self.founded.charter.spec;
        let said = |(host, asked): (&HostId, &Asked)| Some((*host, asked.verdict.clone()?));
        let verdicts: Vec<(HostId, Verdict)> = self.asked.iter().filter_map(said).collect();
        let machines =
            layout.into_iter().flat_map(|layout| &layout.assignments).map(|assignment| PlannedMachine {
                name: format!("{}-{}", spec.groups[usize::from(assignment.group)].name, assignment.number),
                host: assignment.host,
                category: assignment.category,
                size: assignment.size,
            });
        let hosts = verdicts.iter().map(|(host, verdict)| HostVerdict {
            host: *host,
            codes: verdict.refusals.iter().map(Refusal::code).collect(),
            texts: verdict.refusals.iter().map(ToString::to_string).collect(),
            verdict: verdict.clone(),
        });
        Plan {
            fits: layout.is_some(),
            shrunk: layout.is_some_and(|layout| layout.shrunk),
            machines: machines.collect(),
            hosts: hosts.collect(),
            advice: if layout.is_some() { Vec::new() } else { advise(spec, &verdicts) },
        }
    }
}
