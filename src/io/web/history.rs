//! What a call did, from the journal: its transcript and its events. Running calls too, up to the watermark.

use super::AppState;
use super::cloud_event::{BATCH, CloudEvent};
use super::problem::Problem;
use super::request::{Asked, Call};
use crate::event::{EventId, Role};
use crate::id::CallId;
use crate::io::journal::{Position, Spoken};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::sync::Arc;

/// Events on a page, if nothing else is asked for, and at most.
const PAGE: u32 = 1_000;
const LARGEST_PAGE: u32 = 10_000;

/// What was said in a call.
#[derive(Serialize)]
struct Transcript {
    call: CallId,
    utterances: Vec<Spoken>,
}

/// Which events.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    after: Option<String>,
    limit: Option<u32>,
}

/// JSON, or lines for people where only `text/plain` is accepted.
pub(super) async fn transcript(
    State(api): State<Arc<AppState>>,
    Call(call): Call,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let utterances = api.journal.transcript(call).await?;
    if utterances.is_empty() {
        known(&api, call).await?;
    }
    let vary = [(header::VARY, "accept")];
    if wants_text(&headers) {
        return Ok((vary, text(&utterances)).into_response());
    }
    Ok((vary, axum::Json(Transcript { call, utterances })).into_response())
}

/// A page of CloudEvents; `Link` names the next (RFC 8288).
pub(super) async fn events(
    State(api): State<Arc<AppState>>,
    Call(call): Call,
    Asked(page): Asked<Page>,
) -> Result<Response, Problem> {
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::bad_query(format!("limit is a number from 1 to {LARGEST_PAGE}")));
    }
    let after = page.after.as_deref().map_or(Ok(Position::default()), |text| position(call, text))?;
    let events = api.journal.events(call, after, limit).await?;
    let Some(last) = events.last().map(|r| r.id) else {
        known(&api, call).await?;
        return Ok(([(header::CONTENT_TYPE, BATCH)], "[]").into_response());
    };
    let batch: Vec<CloudEvent> = events.iter().map(CloudEvent::from).collect();
    let mut response = axum::Json(batch).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(BATCH));
    if events.len() == limit as usize {
        let next = format!("</v1/calls/{call}/events?after={}:{}&limit={limit}>; rel=\"next\"", last.epoch, last.seq);
        let next = header::HeaderValue::try_from(next).map_err(|e| Problem::internal(&e))?;
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

/// A number in the first epoch, `epoch:seq`, or the id of an event of this call.
fn position(call: CallId, text: &str) -> Result<Position, Problem> {
    let place = match text.split(':').collect::<Vec<_>>()[..] {
        [seq] => seq.parse().ok().map(|seq| Position { epoch: 0, seq }),
        [epoch, seq] => epoch.parse().ok().zip(seq.parse().ok()).map(|(epoch, seq)| Position { epoch, seq }),
        _ => text
            .parse::<EventId>()
            .ok()
            .filter(|id| id.call == call)
            .map(|id| Position { epoch: id.epoch, seq: id.seq }),
    };
    place.ok_or_else(|| Problem::bad_query("after is a number, epoch:seq, or the id of an event of this call"))
}

/// 404 for a call that neither runs nor ever did.
async fn known(api: &AppState, call: CallId) -> Result<(), Problem> {
    if api.journal.call(call).await?.is_some() || api.calls.get(call).await.is_ok() {
        return Ok(());
    }
    Err(Problem::no_such_call(&call.to_string()))
}

fn wants_text(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    accept.contains("text/plain") && !accept.contains("application/json")
}

/// One line an utterance: when, who, what.
fn text(utterances: &[Spoken]) -> String {
    utterances.iter().fold(String::new(), |mut text, spoken| {
        let ms = spoken.start.as_millis();
        let (minutes, seconds, rest) = (ms / 60_000, ms / 1_000 % 60, ms % 1_000);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{minutes:02}:{seconds:02}.{rest:03} {}: {}", name(spoken.role), line(&spoken.text.0));
        text
    })
}

/// No text of anybody's may look like the next line.
fn line(text: &str) -> String {
    text.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Customer => "customer",
        Role::Agent => "agent",
        Role::Supervisor => "supervisor",
        Role::Bridge => "bridge",
        Role::Earpiece => "earpiece",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_number_or_an_id() {
        let call = CallId::new(1_790_000_000_000, 7, 1, 3);
        let other = CallId::new(1_790_000_000_000, 7, 1, 4);
        let read = |text: &str| position(call, text).ok().map(|p| (p.epoch, p.seq));
        assert_eq!(read("12"), Some((0, 12)));
        assert_eq!(read("2:12"), Some((2, 12)));
        assert_eq!(read(&format!("{call}:2:12")), Some((2, 12)));
        for wrong in ["", "-1", "x", "1:", ":1", "1:2:3:4", &format!("{other}:2:12")] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(line("yes\n00:01.000 agent: no\r\n"), "yes 00:01.000 agent: no");
    }
}
