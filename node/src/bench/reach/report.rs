//! The matrix as a table for people, in the form of docs/reach.md, and as a document for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::faults::Outcome;
use super::pair::Measured;
use crate::why::{Code, Path};

/// All pairs.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// What rows and columns stand for.
    names: Vec<String>,
    cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct Cell {
    first: String,
    second: String,
    #[serde(skip)]
    place: (usize, usize),
    #[serde(flatten)]
    measured: Measured,
}

impl Report {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self { names, cells: Vec::new() }
    }

    pub(super) fn add(&mut self, row: usize, column: usize, measured: Measured) {
        let (first, second) = (self.names[row].clone(), self.names[column].clone());
        self.cells.push(Cell { first, second, place: (row, column), measured });
    }

    /// A table in Markdown: `D 40/210` is a direct path, first frame after 40 ms, direct after 210.
    pub(super) fn for_people(&self) -> String {
        let mut text = format!("| from \\ to | {} |\n", self.names.join(" | "));
        text.push_str(&format!("|--|{}\n", "--|".repeat(self.names.len())));
        for (row, name) in self.names.iter().enumerate() {
            let cells: Vec<String> = (0..self.names.len()).map(|column| self.cell(row, column)).collect();
            let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
        }
        text.push_str(&self.summary());
        text
    }

    fn cell(&self, row: usize, column: usize) -> String {
        let Some(cell) = self.cells.iter().find(|cell| cell.place == (row, column)) else {
            return String::new();
        };
        let Measured { way, first_frame_ms, direct_ms, .. } = cell.measured;
        let first = first_frame_ms.map_or_else(|| "–".to_owned(), |ms| ms.to_string());
        match way {
            Path::Direct => {
                format!("D {first}/{}", direct_ms.map_or_else(|| "–".to_owned(), |ms| ms.to_string()))
            }
            Path::Relay => format!("R {first}"),
            Path::RelayStream => format!("S {first}"),
            Path::None => format!("✗ {first}"),
        }
    }

    fn summary(&self) -> String {
        let count = |way| self.cells.iter().filter(|cell| cell.measured.way == way).count();
        let answered = self.cells.iter().filter(|cell| cell.measured.first_frame_ms.is_some()).count();
        let median = |values: Vec<u64>| {
            let mut sorted = values;
            sorted.sort_unstable();
            sorted.get(sorted.len() / 2).map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"))
        };
        let first = self.cells.iter().filter_map(|cell| cell.measured.first_frame_ms).collect();
        let direct = self.cells.iter().filter_map(|cell| cell.measured.direct_ms).collect();
        format!(
            "\n{} pairs: {answered} exchange frames; {} direct, {} by a relay, {} inside the control plane, {} without a path. \
             Median to the first frame {}, to the direct path {}.\n",
            self.cells.len(),
            count(Path::Direct),
            count(Path::Relay),
            count(Path::RelayStream),
            count(Path::None),
            median(first),
            median(direct),
        )
    }
}

/// The faults as a table in Markdown.
pub(super) fn faults(outcomes: &[Outcome]) -> String {
    let mut text = "| fault | what is wrong | `why` says | after |\n|--|--|--|--|\n".to_owned();
    for outcome in outcomes {
        let said = outcome.said.map_or("nothing", Code::text);
        let said = match outcome.right {
            true => beside(said, outcome),
            false => format!(
                "✗ `{said}`, not `{}`",
                outcome.expected.iter().map(|code| code.text()).collect::<Vec<_>>().join("` or `")
            ),
        };
        let after = outcome.after_ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
        let _ = writeln!(text, "| {} | {} | {said} | {after} |", outcome.fault, outcome.about);
    }
    let right = outcomes.iter().filter(|outcome| outcome.right).count();
    let _ = writeln!(text, "\n{right} of {} right.", outcomes.len());
    text
}

/// What was said, and what stood beside it where the fault wants that.
fn beside(said: &str, outcome: &Outcome) -> String {
    if outcome.expected_beside.is_empty() {
        return format!("`{said}`");
    }
    let beside: Vec<&str> = outcome.expected_beside.iter().map(|code| code.text()).collect();
    format!("`{said}`, beside it `{}`", beside.join("`, `"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_how_and_how_soon() {
        let mut report = Report::new(vec!["x".into(), "y".into()]);
        let direct = Measured {
            way: Path::Direct,
            first_frame_ms: Some(4),
            direct_ms: Some(9),
            search_ms: [None; 2],
            code: None,
        };
        let relay = Measured { way: Path::Relay, direct_ms: None, ..direct.clone() };
        report.add(0, 1, direct);
        report.add(1, 0, relay);
        let text = report.for_people();
        assert!(text.contains("| x |  | D 4/9 |\n| y | R 4 |  |"), "{text}");
        assert!(text.contains("2 pairs: 2 exchange frames; 1 direct, 1 by a relay"), "{text}");
    }
}
