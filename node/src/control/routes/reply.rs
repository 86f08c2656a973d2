//! Bodies in and out of the routes: JSON both ways, and one form for whatever goes wrong.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use crate::control::api::{ErrorBody, status_of};
use crate::failure::Failure;

/// What a route returns.
pub(super) type Answer<T> = Result<Json<T>, Refused>;

/// A failure as an answer.
#[derive(Debug)]
pub(super) struct Refused(Failure);

impl<F: Into<Failure>> From<F> for Refused {
    fn from(failure: F) -> Self {
        Self(failure.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(status_of(&self.0)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(ErrorBody::from(self.0))).into_response()
    }
}

/// A JSON body; one that cannot be read is refused in the API's own form.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(Refused(unreadable(&rejection))),
        }
    }
}

fn unreadable(rejection: &JsonRejection) -> Failure {
    let (code, remedy) = match rejection {
        JsonRejection::BytesRejection(_) => ("body_too_large", "send less; slice files have at most 64 KiB"),
        JsonRejection::MissingJsonContentType(_) => ("body_type", "send `Content-Type: application/json`"),
        _ => ("body_malformed", "see /openapi.json for what this route takes"),
    };
    Failure::input(code, rejection.body_text()).remedy(remedy)
}

/// Whatever has no route.
pub(super) async fn no_route(request: Request) -> Refused {
    let what = format!("there is nothing at {} {}", request.method(), request.uri().path());
    Refused(Failure::not_found("no_route", what).remedy("see /openapi.json"))
}
