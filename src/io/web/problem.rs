//! What is told to a caller whose request was not carried out: RFC 9457 problem details.
//!
//! Every problem has a `code` that stays the same for ever, a title that goes with it, and a detail that names the
//! culprit and what to do next.

use crate::call::Refusal;
use crate::id::{CallId, LegId};
use crate::io::calls::CallError;
use crate::io::clock;
use crate::io::load::{Load, Why};
use crate::io::sip::{Unbegun, Unsummoned};
use crate::io::sqlite::StoreError;
use crate::io::tts::SynthesisError;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Its media type (RFC 9457 §6.1).
const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was not carried out.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    /// One more header, where the status wants it.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

/// As it is written.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Problem { status, code, title, detail: detail.into(), header: None }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some(Box::new((name, HeaderValue::from_static(value))));
        self
    }

    /// 503: there is no room for another call. When to try again is spread, so that not all do so at the same moment.
    pub(super) fn no_room(why: Why) -> Self {
        let detail =
            format!("{why}: try again after the seconds that Retry-After names; /readyz tells when there is room");
        let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_room", "No calls are taken now", detail);
        let seconds = Load::retry_after(clock::random()).into();
        problem.header = Some(Box::new((header::RETRY_AFTER, seconds)));
        problem
    }

    /// 401, as RFC 6750 §3 wants it; `wrong`: a token was sent, and it was not ours.
    pub(super) fn unauthorised(wrong: bool) -> Self {
        let (detail, challenge) = if wrong {
            ("the bearer token is not this server's", r#"Bearer realm="sotto", error="invalid_token""#)
        } else {
            ("the request carries no bearer token", r#"Bearer realm="sotto""#)
        };
        let next = "send the header \"Authorization: Bearer TOKEN\" with the token of [http] token, or, if none is \
                    configured, of the file \"token\" in the store's folder";
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A bearer token is needed", format!("{detail}: {next}"))
            .with(header::WWW_AUTHENTICATE, challenge)
    }

    pub(super) fn no_such_path() -> Self {
        let detail = "there is nothing at this path: calls are at /v1/calls, live events at /v1/events";
        Problem::new(StatusCode::NOT_FOUND, "not_found", "No such path", detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        let detail = "this path does not take this method: the header Allow names those it takes";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", detail)
    }

    pub(super) fn no_such_call(call: &str) -> Self {
        let detail = format!("there is no call {call:.64}: GET /v1/calls lists those that are running");
        Problem::new(StatusCode::NOT_FOUND, "no_such_call", "No such call", detail)
    }

    pub(super) fn ended(call: CallId) -> Self {
        let detail = format!("the call {call} has ended: its transcript, events and recording are still there");
        Problem::new(StatusCode::CONFLICT, "ended", "The call has ended", detail)
    }

    pub(super) fn no_recording(call: CallId) -> Self {
        let detail = format!(
            "there is no recording of the call {call}: recording begins with the first sound and is on when [recording] \
             enabled is true"
        );
        Problem::new(StatusCode::NOT_FOUND, "no_recording", "No recording", detail)
    }

    pub(super) fn no_recording_of_leg(call: CallId, leg: LegId) -> Self {
        let detail = format!(
            "there is no recording of {leg} of the call {call} by itself: customers and agents have one each when \
             [recording] legs is true, and nobody else has"
        );
        Problem::new(StatusCode::NOT_FOUND, "no_recording", "No recording", detail)
    }

    pub(super) fn not_as_opus(call: CallId) -> Self {
        let detail = format!(
            "the call {call} was recorded as WAV: ask for format=wav, and set [recording] format = \"opus\" for later calls"
        );
        Problem::new(StatusCode::NOT_ACCEPTABLE, "no_such_format", "It is not there in this format", detail)
    }

    pub(super) fn out_of_range(length: u64) -> Self {
        let detail = format!("the recording has {length} bytes now: ask for some of them");
        Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "out_of_range", "There is nothing in this range", detail)
    }

    pub(super) fn timeout() -> Self {
        let detail = "the answer took too long and was given up, as was, perhaps, what was asked for: look before you \
                      repeat it";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "It took too long", detail)
            .with(header::RETRY_AFTER, "1")
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let detail = format!("a body may have {limit} bytes here: send less");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body is too large", detail)
    }

    pub(super) fn not_json() -> Self {
        let detail = "the body must be JSON: send it with \"Content-Type: application/json\"";
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type", detail)
    }

    pub(super) fn unreadable_body(why: impl std::fmt::Display) -> Self {
        let detail = format!("the body did not arrive whole: {why}");
        Problem::new(StatusCode::BAD_REQUEST, "unreadable_body", "The body could not be read", detail)
    }

    pub(super) fn bad_json(error: &serde_json::Error) -> Self {
        let detail = format!("the body cannot be understood: {error}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_json", "The JSON is not what is expected", detail)
    }

    pub(super) fn bad_query(why: impl std::fmt::Display) -> Self {
        let detail = format!("the query cannot be understood: {why}");
        Problem::new(StatusCode::BAD_REQUEST, "bad_query", "The query is not what is expected", detail)
    }

    pub(super) fn websocket_expected() -> Self {
        let detail = "live events come over a WebSocket: connect to this path with a WebSocket client, version 13";
        Problem::new(StatusCode::UPGRADE_REQUIRED, "websocket_expected", "A WebSocket is expected", detail)
            .with(header::UPGRADE, "websocket")
    }

    pub(super) fn too_many_readers() -> Self {
        let detail = "all places for live events are taken: close some WebSockets, or try again later";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_readers", "Too many readers", detail)
            .with(header::RETRY_AFTER, "10")
    }

    pub(super) fn internal(why: &dyn std::fmt::Display) -> Self {
        tracing::error!(%why, "a request failed by our fault");
        let detail = "the server failed; its log says why";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: format!("urn:sotto:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
        };
        let text = serde_json::to_string(&body).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response();
        if let Some((name, value)) = self.header.map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoSuchCall(call) => Problem::no_such_call(&call.to_string()),
            CallError::Refused(refusal) => refusal.into(),
            CallError::NoVoice(error) => error.into(),
            CallError::Unsummoned(error) => error.into(),
        }
    }
}

/// 409 where the same request may succeed in another state of the call, 422 where it names what cannot be.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, code, title) = match &refusal {
            Refusal::NoSuchLeg(_) => (StatusCode::UNPROCESSABLE_ENTITY, "no_such_leg", "No such leg"),
            Refusal::NoSuchClip(_) => (StatusCode::NOT_FOUND, "no_such_clip", "No such clip"),
            Refusal::NotASupervisor(_) => (StatusCode::UNPROCESSABLE_ENTITY, "not_a_supervisor", "No supervisor"),
            Refusal::NotPermitted(_) => (StatusCode::FORBIDDEN, "not_permitted", "The supervisor may not"),
            Refusal::NotNow(_) => (StatusCode::CONFLICT, "not_now", "Not as things are"),
            Refusal::NotPrivate(_) => (StatusCode::CONFLICT, "not_private", "A whisper would not be private"),
            Refusal::Unproven(_) => (StatusCode::CONFLICT, "unproven", "The hearing probe has not proven it"),
            Refusal::NoWayBack => (StatusCode::CONFLICT, "no_way_back", "A forked call has no way back"),
            Refusal::Spying => (StatusCode::CONFLICT, "spying", "The coach is in spy"),
            Refusal::NobodyListens => (StatusCode::CONFLICT, "nobody_listens", "Nobody would hear it"),
            Refusal::Paused => (StatusCode::CONFLICT, "paused", "The call is paused"),
            Refusal::Closed => (StatusCode::CONFLICT, "closed", "The coach has left"),
            Refusal::TooManyClips(_) => (StatusCode::CONFLICT, "too_many_clips", "Too many clips wait"),
            Refusal::Ended => (StatusCode::CONFLICT, "ended", "The call has ended"),
            Refusal::Limit(_) => (StatusCode::UNPROCESSABLE_ENTITY, "limit", "A limit is reached"),
        };
        Problem::new(status, code, title, refusal.to_string())
    }
}

impl From<Unsummoned> for Problem {
    fn from(error: Unsummoned) -> Self {
        let (status, code, title) = match error {
            Unsummoned::Address => (StatusCode::UNPROCESSABLE_ENTITY, "no_address", "This is no address"),
            Unsummoned::Family => (StatusCode::UNPROCESSABLE_ENTITY, "unreachable", "This address cannot be reached"),
            Unsummoned::Full(why) => return Problem::no_room(why),
            Unsummoned::Closed => (StatusCode::SERVICE_UNAVAILABLE, "no_calls", "No calls are taken"),
        };
        Problem::new(status, code, title, error.to_string())
    }
}

impl From<Unbegun> for Problem {
    fn from(error: Unbegun) -> Self {
        let wrong = StatusCode::UNPROCESSABLE_ENTITY;
        let (status, code, title) = match &error {
            Unbegun::Whom => (wrong, "whom", "It is not said whom to call"),
            Unbegun::Address(_) => (wrong, "no_address", "This is no address"),
            Unbegun::NoTrunk(_) => (wrong, "no_trunk", "No trunk leads there"),
            Unbegun::Trunk(_) => (wrong, "no_such_trunk", "No such trunk"),
            Unbegun::NotAllowed(_) => (StatusCode::FORBIDDEN, "not_allowed", "This number may not be called"),
            Unbegun::Family(_) => (wrong, "unreachable", "This address cannot be reached"),
            Unbegun::Written(_) => (wrong, "bad_value", "A value is out of its range"),
            Unbegun::Playbook(_) => (wrong, "no_such_playbook", "No such playbook"),
            Unbegun::NotPrivate => (StatusCode::CONFLICT, "not_private", "A whisper would not be private"),
            Unbegun::Full(why) => return Problem::no_room(*why),
            Unbegun::Closed(_) => (StatusCode::SERVICE_UNAVAILABLE, "no_calls", "No calls are taken"),
        };
        Problem::new(status, code, title, error.to_string())
    }
}

impl From<SynthesisError> for Problem {
    fn from(error: SynthesisError) -> Self {
        let (status, code, title) = match &error {
            SynthesisError::Missing(_) => (StatusCode::SERVICE_UNAVAILABLE, "no_voice", "There is no voice"),
            SynthesisError::Failed(_) => (StatusCode::SERVICE_UNAVAILABLE, "voice_failed", "The voice failed"),
            SynthesisError::Voice(_) => (StatusCode::UNPROCESSABLE_ENTITY, "no_such_voice", "No such voice"),
            SynthesisError::Length(_) => (StatusCode::UNPROCESSABLE_ENTITY, "text_length", "The text cannot be spoken"),
        };
        Problem::new(status, code, title, error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Database(_) => {
                tracing::error!(%error, "the journal could not be read");
                let detail = "the journal's database does not answer: try again, and look at /readyz";
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "journal_unavailable",
                    "The journal cannot be read",
                    detail,
                )
                .with(header::RETRY_AFTER, "1")
            }
            StoreError::File { .. }
            | StoreError::InUse(_)
            | StoreError::Migration(_)
            | StoreError::Unreadable { .. } => Problem::internal(&error),
        }
    }
}
