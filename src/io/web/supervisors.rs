//! Supervisors of a running call: calling one, another mode, another volume, taking over, sending them away; and what they
//! know of the others in it.

use super::AppState;
use super::calls::refused;
use super::problem::Problem;
use super::request::{Call, Json, Leg};
use crate::call::Volume;
use crate::event::Mode;
use crate::id::LegId;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

type Api = State<Arc<AppState>>;

/// What is to be another.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    mode: Option<Mode>,
    /// In decibels.
    volume: Option<Volume>,
    /// True: they become the agent; false: they are a supervisor again, in spy.
    take_over: Option<bool>,
}

/// What was changed; of a mode, from which outgoing RTP timestamp it holds on each leg.
#[derive(Serialize)]
pub(super) struct Changed {
    leg: LegId,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effective: Option<BTreeMap<LegId, u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<Volume>,
    #[serde(skip_serializing_if = "Option::is_none")]
    take_over: Option<bool>,
}

/// What can be refused comes first: who is the agent, then the mode.
pub(super) async fn change(
    State(api): Api,
    Leg(call, leg): Leg,
    Json(change): Json<Change>,
) -> Result<axum::Json<Changed>, Problem> {
    if let Err(error) = api.calls.supervisor(call, leg).await {
        return Err(refused(&api, call, error).await);
    }
    let mut changed = Changed { leg, mode: None, effective: None, volume: change.volume, take_over: change.take_over };
    if let Some(take_over) = change.take_over
        && let Err(error) = api.calls.take_over(call, leg, take_over).await
    {
        return Err(refused(&api, call, error).await);
    }
    if let Some(mode) = change.mode {
        match api.calls.set_supervisor(call, leg, mode).await {
            Ok((mode, effective)) => (changed.mode, changed.effective) = (Some(mode), Some(effective)),
            Err(error) => return Err(refused(&api, call, error).await),
        }
    }
    if let Some(volume) = change.volume
        && let Err(error) = api.calls.set_volume(call, leg, volume).await
    {
        return Err(refused(&api, call, error).await);
    }
    Ok(axum::Json(changed))
}

/// An agent whose far end had changed is known to be the agent: a person has made sure.
pub(super) async fn vouch(State(api): Api, Leg(call, leg): Leg) -> Result<StatusCode, Problem> {
    match api.calls.vouch(call, leg).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(refused(&api, call, error).await),
    }
}

pub(super) async fn remove(State(api): Api, Leg(call, leg): Leg) -> Result<StatusCode, Problem> {
    match api.calls.remove_supervisor(call, leg).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(refused(&api, call, error).await),
    }
}

/// Whom to call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Summons {
    to: String,
    /// Without one: spy.
    #[serde(default)]
    mode: Mode,
}

/// Answers before their telephone rings; `supervisor.joined` or `supervisor.missed` tells the rest.
pub(super) async fn summon(
    State(api): Api,
    Call(call): Call,
    Json(Summons { to, mode }): Json<Summons>,
) -> Result<(StatusCode, axum::Json<serde_json::Value>), Problem> {
    match api.calls.summon(call, &to, mode) {
        Ok(()) => Ok((StatusCode::ACCEPTED, axum::Json(serde_json::json!({ "to": to, "mode": mode })))),
        Err(error) => Err(refused(&api, call, error).await),
    }
}
