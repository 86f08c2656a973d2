//! What a person or a script is told when something did not work.
//!
//! Owns: the [`Failure`] (a code for programs, a sentence for people, the remedy) and the exit codes of the contract.
//! Refuses to know: which part failed; parts have error types of their own and say here what they mean to the user.
//! Invariants: a failure prints as one line; its kind alone decides exit code and HTTP status, so the same refusal
//! looks the same through the API, the command line and the demo.

use std::fmt;
use std::process::ExitCode;

/// How a command ended (design.md section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked was done.
    Done,
    /// It was tried and did not work.
    Failed,
    /// The command line or an input file is wrong.
    Usage,
    /// It was understood and refused: policy, capacity, or not supported yet.
    Refused,
    /// No daemon answered.
    Unreachable,
    /// A program in a machine ended with this code, which `machine exec` passes on as it is.
    Program(u8),
}

impl Exit {
    /// The number the shell sees.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unreachable => 4,
            Self::Program(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// What kind of failure it is, as far as exit codes and HTTP statuses tell kinds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The user's input is wrong.
    Input,
    /// Nothing has that name.
    NotFound,
    /// Understood and refused.
    Refused,
    /// Tried, and failed.
    Failed,
    /// No daemon answered.
    Unreachable,
}

/// One failure: what, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides exit code and HTTP status.
    pub kind: Kind,
    /// A short stable word for programs, such as `unknown_key`.
    pub code: String,
    /// One sentence for people, naming the thing.
    pub message: String,
    /// What to do about it, where that is known.
    pub remedy: Option<String>,
}

impl Failure {
    fn new(kind: Kind, code: &str, message: impl Into<String>) -> Self {
        Self { kind, code: code.to_owned(), message: message.into(), remedy: None }
    }

    /// The user's input is wrong.
    pub fn input(code: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Input, code, message)
    }

    /// Nothing has that name.
    pub fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, code, message)
    }

    /// Understood and refused.
    pub fn refused(code: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, code, message)
    }

    /// Tried, and failed.
    pub fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, code, message)
    }

    /// No daemon answered.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unreachable, "daemon_unreachable", message)
    }

    /// Part of the contract that this version cannot do.
    pub fn not_yet_supported(what: &str) -> Self {
        Self::refused("not_yet_supported", format!("{what} is not supported yet by this version of consort"))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The exit code of a command that ends with this.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.kind {
            Kind::Input => Exit::Usage,
            Kind::NotFound | Kind::Failed => Exit::Failed,
            Kind::Refused => Exit::Refused,
            Kind::Unreachable => Exit::Unreachable,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(out, "{}", line(&self.message))?;
        match &self.remedy {
            Some(remedy) => write!(out, "; {}", line(remedy)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_its_parts_contain() {
        let failure = Failure::failed("io", "cannot read\n  it").remedy("try\nagain");
        assert_eq!(failure.to_string(), "cannot read it; try again");
    }

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        assert_eq!(Failure::input("a", "b").exit().number(), 2);
        assert_eq!(Failure::not_found("a", "b").exit().number(), 1);
        assert_eq!(Failure::refused("a", "b").exit().number(), 3);
        assert_eq!(Failure::failed("a", "b").exit().number(), 1);
        assert_eq!(Failure::unreachable("b").exit().number(), 4);
        assert_eq!(Failure::not_yet_supported("x").exit().number(), 3);
    }
}
