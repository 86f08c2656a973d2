//! `consort bench frames`: what the core costs, without devices and sockets.

use consort_vswitch::bench::{Figure, frames};
use serde::Serialize;

use crate::cli::output::Output;
use crate::failure::{Exit, Failure};

/// The whole, as it is printed.
#[derive(Debug, Serialize)]
struct Document {
    build: &'static str,
    figures: Vec<Figure>,
}

/// Which build a figure is of; those of a debug build say nothing about the release.
pub(super) fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

pub(super) fn run(json: bool) -> Result<Exit, Failure> {
    let document = Document { build: build(), figures: frames() };
    Output { json }.document(&document, for_people)?;
    Ok(Exit::Done)
}

fn for_people(document: &Document) -> String {
    let lines: Vec<String> = document.figures.iter().map(|figure| format!("{figure}\n")).collect();
    format!(
        "{} build; each: nanoseconds, and how many times as long as each baseline\n{}",
        document.build,
        lines.concat()
    )
}
