//! A failure on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::failure::{Failure, Kind};

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// A short stable word for programs.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl From<Failure> for ErrorBody {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code, message: failure.message, remedy: failure.remedy }
    }
}

impl ErrorBody {
    /// The failure this told of, given the HTTP status it came with.
    #[must_use]
    pub fn into_failure(self, status: u16) -> Failure {
        let kind = match status {
            404 => Kind::NotFound,
            403 | 409 | 501 | 507 => Kind::Refused,
            400..=499 => Kind::Input,
            _ => Kind::Failed,
        };
        Failure { kind, code: self.code, message: self.message, remedy: self.remedy }
    }
}

/// The HTTP status of a failure.
#[must_use]
pub fn status_of(failure: &Failure) -> u16 {
    match failure.kind {
        Kind::Input => 400,
        Kind::NotFound => 404,
        Kind::Refused if failure.code == "not_yet_supported" => 501,
        Kind::Refused => 409,
        Kind::Failed => 500,
        Kind::Unreachable => 502,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_comes_out_of_the_api_with_the_exit_code_it_went_in_with() {
        for failure in [
            Failure::input("a", "b"),
            Failure::not_found("a", "b"),
            Failure::refused("a", "b").remedy("c"),
            Failure::not_yet_supported("x"),
            Failure::failed("a", "b"),
        ] {
            let status = status_of(&failure);
            let body = serde_json::to_string(&ErrorBody::from(failure.clone())).unwrap();
            let back: ErrorBody = serde_json::from_str(&body).unwrap();
            assert_eq!(back.into_failure(status), failure);
        }
    }
}
