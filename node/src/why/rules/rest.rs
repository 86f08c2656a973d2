//! What is well, or under way; and what explains nothing.

use super::Rule;
use super::holds::{dead, is_private, used_kind, waiting, wanted};
use crate::why::Code;
use crate::why::facts::{CandidateKind, Path};

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: Code::Connecting,
        holds: |facts| dead(facts) && wanted(facts) && (facts.near.link.searching || waiting(&facts.near)),
        cause: "the addresses of {far} are being tried",
        remedy: "wait some seconds",
    },
    Rule {
        code: Code::NotWanted,
        holds: |facts| dead(facts) && !wanted(facts),
        cause: "there is no link because {near} and {far} share no network; nothing is known to stand in its way",
        remedy: "",
    },
    Rule {
        code: Code::DirectLocal,
        holds: |facts| {
            facts.near.link.up
                && facts.path() == Path::Direct
                && used_kind(facts) == Some(CandidateKind::Local)
                && is_private(facts)
        },
        cause: "the link is direct, over a network both are in",
        remedy: "",
    },
    Rule {
        code: Code::Direct,
        holds: |facts| facts.near.link.up && facts.path() == Path::Direct,
        cause: "the link is direct",
        remedy: "",
    },
    Rule {
        code: Code::Unexplained,
        holds: |_| true,
        cause: "there is no path, and what is known does not say why",
        remedy: "see `consort peers --json` on both hosts; the log of the nodes with --log debug says more",
    },
];

/// What is said beside any cause.
pub(super) const NOTES: &[Rule] = &[Rule {
    code: Code::DnsGone,
    holds: |facts| facts.near.dns == Some(false),
    cause: "{near} cannot look names up; nothing of Consort needs them",
    remedy: "check the resolver of {near} (/etc/resolv.conf)",
}];
