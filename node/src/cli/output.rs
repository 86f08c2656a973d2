//! How results reach the person or the program that asked.
//!
//! With `--json`, one JSON document on standard output (one per line for streams) and human text on standard error; without it, human
//! text on standard output. A failure is one line on standard error, and with `--json` also `{"error": ...}` on standard output.

use std::io::Write;

use serde::Serialize;

use crate::control::api::ErrorBody;
use crate::failure::{Exit, Failure};

/// Where and how to print.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Whether the caller is a program.
    pub json: bool,
}

impl Output {
    /// One result, in the form the caller wants.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn document<T: Serialize>(self, value: &T, human: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let mut text = if self.json {
            serde_json::to_string(value).map_err(|error| Failure::failed("output", error.to_string()))?
        } else {
            human(value)
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        write_out(text.as_bytes())
    }

    /// Tells of a failure and says how to exit.
    #[must_use]
    pub fn failure(self, failure: &Failure) -> Exit {
        eprintln!("consort: {failure}");
        if self.json {
            let body = serde_json::json!({ "error": ErrorBody::from(failure.clone()) });
            if write_out(format!("{body}\n").as_bytes()).is_err() {
                return Exit::Failed;
            }
        }
        failure.exit()
    }
}

/// Writes to standard output at once.
///
/// # Errors
/// If it cannot be written.
pub fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::failed("output", format!("cannot write to standard output: {error}")))
}

/// Rows as aligned columns under a heading; nothing but the heading where there are no rows.
#[must_use]
pub fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    std::iter::once(line(heading.to_vec()))
        .chain(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())))
        .collect()
}

/// Something that may be unknown.
#[must_use]
pub fn or_dash<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The word that JSON has for a value without content.
#[must_use]
pub fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_spaces() {
        let text = table(["NAME", "HOST"], &[["worker-0".into(), "a".into()], ["w".into(), "bb".into()]]);
        assert_eq!(text, "NAME      HOST\nworker-0  a\nw         bb\n");
    }
}
