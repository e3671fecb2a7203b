//! Running calls: list, show, change mode, speak, pause, resume, close, hang up.

use super::AppState;
use super::problem::Problem;
use super::request::{Call, Json};
use crate::event::{Address, Consent, Mode};
use crate::id::{CallId, ClipId, LegId};
use crate::io::calls::{CallError, NamedCall, SayTo};
use crate::io::journal::PastCall;
use crate::io::sip::Order;
use crate::time::MediaTime;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

type Api = State<Arc<AppState>>;

/// Every call that runs.
#[derive(Serialize)]
pub(super) struct List {
    calls: Vec<NamedCall>,
}

/// A call that has ended.
#[derive(Serialize)]
struct Ended {
    id: CallId,
    caller: Option<Address>,
    called: Option<Address>,
    began_ms: i64,
    state: &'static str,
    ended_ms: Option<i64>,
    reason: Option<String>,
    media_time: Option<MediaTime>,
}

/// The mode, and from which outgoing RTP timestamp it holds on each leg.
#[derive(Serialize)]
pub(super) struct Effective {
    mode: Mode,
    effective: BTreeMap<LegId, u32>,
}

/// Something to say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Say {
    text: String,
    voice: Option<String>,
    #[serde(default)]
    audience: Audience,
}

/// For whom.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an audience is \"mode\", \"customer\", \"agent\" or a list of legs such as [\"leg-2\"]")]
enum Audience {
    Named(Named),
    Legs(Vec<LegId>),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Named {
    Mode,
    Customer,
    Agent,
}

/// The clip that was accepted.
#[derive(Serialize)]
struct Accepted {
    clip: ClipId,
}

impl Default for Audience {
    fn default() -> Self {
        Audience::Named(Named::Mode)
    }
}

impl From<Audience> for SayTo {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Named(Named::Mode) => SayTo::Mode,
            Audience::Named(Named::Customer) => SayTo::Customer,
            Audience::Named(Named::Agent) => SayTo::Agent,
            Audience::Legs(legs) => SayTo::Legs(legs),
        }
    }
}

impl From<PastCall> for Ended {
    fn from(past: PastCall) -> Self {
        let PastCall { id, caller, called, began_ms, ended } = past;
        let (ended_ms, media_time) = ended.as_ref().map(|e| (e.wall_ms, e.at)).unzip();
        let reason = ended.map(|e| e.reason);
        Ended { id, caller, called, began_ms, state: "ended", ended_ms, reason, media_time }
    }
}

pub(super) async fn list(State(api): Api) -> axum::Json<List> {
    axum::Json(List { calls: api.calls.list().await })
}

pub(super) async fn show(State(api): Api, Call(call): Call) -> Result<Response, Problem> {
    if let Ok(named) = api.calls.get(call).await {
        return Ok(axum::Json(named).into_response());
    }
    let past = api.journal.call(call).await?.ok_or_else(|| Problem::no_such_call(&call.to_string()))?;
    Ok(axum::Json(Ended::from(past)).into_response())
}

/// Answers before anything rings: `call.connected` or `call.ended` tells the rest.
pub(super) async fn originate(State(api): Api, Json(order): Json<Order>) -> Result<Response, Problem> {
    let call = api.calls.originate(order)?;
    let place = [(header::LOCATION, format!("/v1/calls/{call}"))];
    Ok((StatusCode::ACCEPTED, place, axum::Json(serde_json::json!({ "id": call }))).into_response())
}

pub(super) async fn hangup(State(api): Api, Call(call): Call) -> Result<StatusCode, Problem> {
    match api.calls.hangup(call).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(refused(&api, call, error).await),
    }
}

pub(super) async fn spy(api: Api, call: Call) -> Result<axum::Json<Effective>, Problem> {
    set_mode(api, call, Mode::Spy).await
}

pub(super) async fn whisper(api: Api, call: Call) -> Result<axum::Json<Effective>, Problem> {
    set_mode(api, call, Mode::Whisper).await
}

pub(super) async fn barge(api: Api, call: Call) -> Result<axum::Json<Effective>, Problem> {
    set_mode(api, call, Mode::Barge).await
}

async fn set_mode(State(api): Api, Call(call): Call, mode: Mode) -> Result<axum::Json<Effective>, Problem> {
    match api.calls.set_mode(call, mode).await {
        Ok((mode, effective)) => Ok(axum::Json(Effective { mode, effective })),
        Err(error) => Err(refused(&api, call, error).await),
    }
}

pub(super) async fn say(State(api): Api, Call(call): Call, Json(say): Json<Say>) -> Result<Response, Problem> {
    match api.calls.say(call, &say.text, say.voice.as_deref(), say.audience.into()).await {
        Ok(clip) => Ok((StatusCode::ACCEPTED, axum::Json(Accepted { clip })).into_response()),
        Err(error) => Err(refused(&api, call, error).await),
    }
}

/// What the customer says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    consent: Consent,
}

pub(super) async fn consent(
    State(api): Api,
    Call(call): Call,
    Json(Said { consent }): Json<Said>,
) -> Result<StatusCode, Problem> {
    match api.calls.set_consent(call, consent).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(refused(&api, call, error).await),
    }
}

pub(super) async fn pause(State(api): Api, Call(call): Call) -> Result<StatusCode, Problem> {
    match api.calls.pause(call).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(refused(&api, call, error).await),
    }
}

pub(super) async fn resume(State(api): Api, Call(call): Call) -> Result<StatusCode, Problem> {
    match api.calls.resume(call).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(refused(&api, call, error).await),
    }
}

pub(super) async fn close(State(api): Api, Call(call): Call) -> Result<StatusCode, Problem> {
    match api.calls.close(call).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(refused(&api, call, error).await),
    }
}

/// A call that ran once is told apart from one that never did.
pub(super) async fn refused(api: &AppState, call: CallId, error: CallError) -> Problem {
    match error {
        CallError::NoSuchCall(_) => match api.journal.call(call).await {
            Ok(Some(_)) => Problem::ended(call),
            Ok(None) => Problem::no_such_call(&call.to_string()),
            Err(error) => error.into(),
        },
        error @ (CallError::Refused(_) | CallError::NoVoice(_) | CallError::Unsummoned(_)) => error.into(),
    }
}
