//! The `connect` step: calls the other party, or several in turn or together, lets the caller hear that it rings or what
//! is played meanwhile, joins the two, or says why not.

use crate::call::sdp::Srtp;
use crate::io::sip::admission::{expand, in_uri};
use crate::io::sip::controller::{Call, End, release};
use crate::io::sip::dial::{self, Answered, Target};
use crate::io::sip::early::Early;
use crate::io::sip::endings::Watch;
use crate::io::sip::fault::Fault;
use crate::io::sip::line::Side;
use crate::io::sip::{route, timer};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the route says.
pub struct Wanted<'a> {
    /// Whom to call.
    pub to: &'a [String],
    /// All at once.
    pub together: bool,
    /// How long each may ring.
    pub timeout: Duration,
    /// Whether media is to be protected.
    pub srtp: Option<Srtp>,
}

/// Why nobody came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// What follows says more: of several, the caller is told the last of this list.
    Unreachable,
    Unknown,
    NoAnswer,
    Busy,
    Declined,
}

/// How one of them did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub failure: Failure,
    /// Whether that is so wherever else they may be called (6xx, RFC 3261 §21.6).
    pub everywhere: bool,
    /// Whether another place of the same name may do better (RFC 3263 §4.3).
    pub elsewhere: bool,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Refused { failure, everywhere: false, elsewhere: false }
    }
}

impl Refused {
    /// By the final response to our INVITE (RFC 3261 §21).
    pub fn of(status: u16) -> Self {
        let failure = match status {
            486 | 600 => Failure::Busy,
            408 | 480 | 487 => Failure::NoAnswer,
            403 | 603 | 607 => Failure::Declined,
            404 | 410 | 484 | 485 | 604 => Failure::Unknown,
            _ => Failure::Unreachable,
        };
        Refused { failure, everywhere: status >= 600, elsewhere: status == 503 }
    }

    /// Nobody is there.
    pub fn silence() -> Self {
        Refused { failure: Failure::Unreachable, everywhere: false, elsewhere: true }
    }
}

impl Failure {
    fn said(self) -> &'static str {
        match self {
            Failure::Busy => "The person you are calling is busy. Please try again later.",
            Failure::NoAnswer => "The person you are calling does not answer. Please try again later.",
            Failure::Declined => "The person you are calling cannot take your call now.",
            Failure::Unknown => "This number is not in service. Please check it and call again.",
            Failure::Unreachable => "The person you are calling cannot be reached. Please try again later.",
        }
    }

    /// For the call's event, and the status of a caller who was not answered.
    pub fn end(self) -> End {
        let (reason, status) = match self {
            Failure::Busy => ("called party busy", 486),
            Failure::NoAnswer => ("called party did not answer", 480),
            Failure::Declined => ("called party declined", 603),
            Failure::Unknown => ("called party unknown", 404),
            Failure::Unreachable => ("called party unreachable", 502),
        };
        End { reason: reason.into(), refusal: Fault::new(status, reason) }
    }
}

/// Runs the step.
pub async fn run(call: &Arc<Call>, endings: &mut Watch, wanted: Wanted<'_>) -> Result<(), End> {
    if call.is_connected() {
        tracing::warn!(route = %call.admitted.route.at, "a second connect has nobody to join");
        return Ok(());
    }
    let targets: Vec<Target> = wanted.to.iter().map(|to| target(call, to, &wanted)).collect();
    let early = Arc::new(Early::new(call.clone()));
    match reach(call, &early, targets, wanted.together).await {
        Ok(answered) => join(call, &early, answered).await,
        Err(failure) => {
            if call.is_answered() {
                route::say(call, endings, failure.said()).await?;
            }
            Err(failure.end())
        }
    }
}

/// Calls these until somebody answers, while it rings.
pub async fn reach(
    call: &Arc<Call>,
    early: &Arc<Early>,
    targets: Vec<Target>,
    at_once: bool,
) -> Result<Answered, Failure> {
    early.ring().await;
    let reached = match at_once {
        true => together(call, early, targets).await,
        false => in_turn(call, early, targets).await,
    };
    early.fall_silent().await;
    reached
}

fn target(call: &Call, to: &str, wanted: &Wanted<'_>) -> Target {
    let to = expand(to, &call.admitted.groups, in_uri);
    Target { to, timeout: wanted.timeout, srtp: wanted.srtp, headers: Vec::new() }
}

/// One after the other, until somebody answers or is nowhere to be had.
async fn in_turn(call: &Arc<Call>, early: &Arc<Early>, targets: Vec<Target>) -> Result<Answered, Failure> {
    let mut worst = Failure::Unreachable;
    for target in targets {
        // Who was heard before has failed, if this is not the first.
        early.ring().await;
        match dial::run(call.clone(), early.clone(), target, CancellationToken::new()).await {
            Ok(answered) => return Ok(answered),
            Err(refused) => {
                worst = worst.max(refused.failure);
                if refused.everywhere {
                    break;
                }
            }
        }
    }
    Err(worst)
}

/// All at once. Whoever answers first has the call, and the others ring no more; so it is when one refuses for all.
async fn together(call: &Arc<Call>, early: &Arc<Early>, targets: Vec<Target>) -> Result<Answered, Failure> {
    let over = CancellationToken::new();
    let mut calls = JoinSet::new();
    for target in targets {
        calls.spawn(dial::run(call.clone(), early.clone(), target, over.clone()));
    }
    let (mut winner, mut worst) = (None, Failure::Unreachable);
    // A panic in one is a call that did not come.
    while let Some(outcome) = calls.join_next().await {
        match outcome.unwrap_or_else(|_| Err(Failure::Unreachable.into())) {
            Ok(answered) if winner.is_none() => {
                over.cancel();
                winner = Some(answered);
            }
            Ok(too_late) => {
                let board = call.board.clone();
                call.not_calling(&too_late.line);
                tokio::spawn(async move { release(&board, &too_late.line, None, "answered elsewhere").await });
            }
            Err(refused) => {
                worst = worst.max(refused.failure);
                if refused.everywhere {
                    over.cancel();
                }
            }
        }
    }
    winner.ok_or(worst)
}

async fn join(call: &Arc<Call>, early: &Early, answered: Answered) -> Result<(), End> {
    let codec = early.answered(answered).await?;
    call.answer(Some(codec)).await?;
    for side in [Side::Caller, Side::Called] {
        tokio::spawn(timer::keep(call.clone(), side));
        // Either may have begun on hold.
        tokio::spawn(call.clone().tell(side));
    }
    tracing::info!("both parties are connected");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_final_response_has_its_words_and_its_status() {
        for (status, failure, told) in [
            (486, Failure::Busy, 486),
            (600, Failure::Busy, 486),
            (480, Failure::NoAnswer, 480),
            (408, Failure::NoAnswer, 480),
            (603, Failure::Declined, 603),
            (404, Failure::Unknown, 404),
            (488, Failure::Unreachable, 502),
            (503, Failure::Unreachable, 502),
            (302, Failure::Unreachable, 502),
        ] {
            assert_eq!(Refused::of(status).failure, failure, "{status}");
            assert_eq!(Refused::of(status).everywhere, status >= 600);
            assert_eq!(failure.end().refusal.status, told);
        }
    }
}
