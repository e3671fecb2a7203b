//! What requests carry, read strictly: the ids of call and leg in the path, JSON in the body, words in the query.

use super::BODY;
use super::problem::Problem;
use crate::id::{CallId, LegId};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

/// The `{id}` of a path.
pub(super) struct Call(pub CallId);

impl<S: Send + Sync> FromRequestParts<S> for Call {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(id) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| Problem::no_such_path())?;
        id.parse().map(Call).map_err(|_| Problem::no_such_call(&id))
    }
}

/// The `{id}` and `{leg}` of a path.
pub(super) struct Leg(pub CallId, pub LegId);

impl<S: Send + Sync> FromRequestParts<S> for Leg {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((id, leg)) = path.map_err(|_| Problem::no_such_path())?;
        let call = id.parse().map_err(|_| Problem::no_such_call(&id))?;
        leg.parse().map(|leg| Leg(call, leg)).map_err(|_| Problem::no_such_path())
    }
}

/// A body of JSON.
pub(super) struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::not_json());
        }
        let body = Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(BODY),
            _ => Problem::unreadable_body(rejection.body_text()),
        })?;
        serde_json::from_slice(&body).map(Json).map_err(|e| Problem::bad_json(&e))
    }
}

/// A query.
pub(super) struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asked = Query::<T>::from_request_parts(parts, state).await;
        asked.map(|Query(asked)| Asked(asked)).map_err(|e| Problem::bad_query(e.body_text()))
    }
}

/// `application/json`, with whatever parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"))
}
