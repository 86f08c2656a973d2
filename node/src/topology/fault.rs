//! What is wrong with a topology file: where, what, and what to write instead.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Most faults told of one file: who has mended these checks again.
pub const FAULTS_MAX: usize = 50;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Fault {
    pub(super) fn new(line: usize, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { line, message: message.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}: {}; {}", self.line, self.message, self.remedy)
    }
}

/// All faults in the order of their lines, each once, at most [`FAULTS_MAX`].
pub(super) fn ordered(mut faults: Vec<Fault>) -> Vec<Fault> {
    faults.sort_by(|a, b| a.line.cmp(&b.line).then_with(|| a.message.cmp(&b.message)));
    faults.dedup();
    faults.truncate(FAULTS_MAX);
    faults
}

/// Where lines begin, to turn places in a text into numbers of lines.
#[derive(Debug)]
pub(super) struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// The line in which `span` begins, from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.starts.partition_point(|start| *start <= span.start).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_from_one() {
        let lines = Lines::of("a\nbc\n\nd");
        assert_eq!([0, 1, 2, 4, 5, 6].map(|at| lines.line(&(at..at))), [1, 1, 2, 2, 3, 4]);
    }

    #[test]
    fn faults_are_told_in_order_and_once() {
        let told = ordered(vec![Fault::new(2, "b", "r"), Fault::new(1, "a", "r"), Fault::new(2, "b", "r")]);
        assert_eq!(told.iter().map(|fault| fault.line).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(told[0].to_string(), "line 1: a; r");
    }
}
