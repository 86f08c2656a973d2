//! What the demo says: lines while it works, and at the end a table for people or one JSON document for programs.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::output::{Output, table};
use crate::control::api::Timings;
use crate::failure::{Exit, Failure};

/// One thing that was to be shown.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    /// What, in a few words.
    pub(super) name: &'static str,
    /// Whether it holds; none for what is only measured.
    pub(super) passed: Option<bool>,
    /// What was seen.
    pub(super) detail: String,
    /// The figures behind it.
    pub(super) figures: serde_json::Value,
}

impl Check {
    /// Something promised.
    pub(super) fn promised(
        name: &'static str,
        passed: bool,
        detail: impl Into<String>,
        figures: serde_json::Value,
    ) -> Self {
        Self { name, passed: Some(passed), detail: detail.into(), figures }
    }

    /// Something measured.
    pub(super) fn measured(
        name: &'static str,
        detail: impl Into<String>,
        figures: serde_json::Value,
    ) -> Self {
        Self { name, passed: None, detail: detail.into(), figures }
    }

    /// A promise that could not even be tried.
    pub(super) fn failed(name: &'static str, failure: &Failure) -> Self {
        Self::promised(name, false, failure.to_string(), serde_json::Value::Null)
    }

    fn verdict(&self) -> &'static str {
        match self.passed {
            Some(true) => "ok",
            Some(false) => "FAILED",
            None => "measured",
        }
    }
}

/// From the request; the last is the demo's own measurement.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct DemoTimings {
    #[serde(flatten)]
    pub(super) slice: Timings,
    /// Every pair of machines has answered each other over IPv4 and IPv6.
    pub(super) all_pairs_ms: Option<u64>,
}

/// Everything that was seen.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) hosts: u32,
    pub(super) machines: u32,
    /// Of what the figures are: a build for development is much slower.
    pub(super) build: &'static str,
    pub(super) timings: DemoTimings,
    pub(super) checks: Vec<Check>,
    pub(super) passed: bool,
}

impl Report {
    pub(super) fn new(hosts: u32, machines: u32) -> Self {
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        Self { hosts, machines, build, timings: DemoTimings::default(), checks: Vec::new(), passed: false }
    }

    /// Prints the end.
    pub(super) fn finish(&mut self, output: Output) -> Result<Exit, Failure> {
        self.passed = !self.checks.is_empty() && self.checks.iter().all(|check| check.passed != Some(false));
        output.document(self, Self::for_people)?;
        Ok(if self.passed { Exit::Done } else { Exit::Failed })
    }

    fn for_people(&self) -> String {
        let timings = self.timings;
        let steps = [
            ("placed", timings.slice.placed_ms),
            ("staged", timings.slice.staged_ms),
            ("running", timings.slice.running_ms),
            ("reachable", timings.slice.reachable_ms),
            ("all pairs reached", timings.all_pairs_ms),
        ];
        let steps: Vec<String> =
            steps.iter().filter_map(|(step, ms)| ms.map(|ms| format!("{step} {ms} ms"))).collect();
        let rows: Vec<[String; 3]> = self
            .checks
            .iter()
            .map(|check| [check.name.to_owned(), check.verdict().to_owned(), check.detail.clone()])
            .collect();
        format!(
            "\n{}\nfrom the request: {}\n{} hosts, {} machines, {} build: {}\n",
            table(["WHAT", "RESULT", "SEEN"], &rows),
            if steps.is_empty() { "no timings".to_owned() } else { steps.join(", ") },
            self.hosts,
            self.machines,
            self.build,
            if self.passed { "everything holds" } else { "NOT everything holds" }
        )
    }
}

/// Lines while it works.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    json: bool,
}

impl Progress {
    pub(super) fn new(json: bool) -> Self {
        Self { started: Instant::now(), json }
    }

    /// One line, with the time since the start.
    pub(super) fn say(&self, line: &str) {
        let line = format!("[{:>6.2} s] {line}", self.started.elapsed().as_secs_f64());
        if self.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    /// One line for a check.
    pub(super) fn check(&self, check: &Check) {
        self.say(&format!("{}: {}, {}", check.name, check.verdict(), check.detail));
    }
}

/// Whole milliseconds.
pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
