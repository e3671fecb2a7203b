//! The `connect` step: calls the other party, lets the caller hear that it rings, joins the two, or says why not.

use crate::call::Command;
use crate::call::sdp::{self, Description, Local, Srtp, Terms};
use crate::event::Address;
use crate::id::ClipId;
use crate::io::rtp::LegSockets;
use crate::io::sip::admission::{expand, in_uri};
use crate::io::sip::controller::{Call, End, open_media, release};
use crate::io::sip::endings::Watch;
use crate::io::sip::fault::Fault;
use crate::io::sip::line::{Line, Side};
use crate::io::sip::office::{Office, able_to_reach};
use crate::io::sip::{audio, route};
use rsipstack::dialog::authenticate::Credential;
use rsipstack::dialog::dialog::{DialogState, TerminatedReason};
use rsipstack::dialog::invitation::{InviteAsyncResult, InviteOption};
use rsipstack::sip::{Auth, Header, Host, Response, StatusCode, StatusCodeKind, Uri};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Why the other party did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Busy,
    NoAnswer,
    Declined,
    Unknown,
    Unreachable,
}

impl Failure {
    /// By the final response to our INVITE (RFC 3261 §21).
    fn of(status: u16) -> Self {
        match status {
            486 | 600 => Failure::Busy,
            408 | 480 | 487 => Failure::NoAnswer,
            403 | 603 | 607 => Failure::Declined,
            404 | 410 | 484 | 485 | 604 => Failure::Unknown,
            _ => Failure::Unreachable,
        }
    }

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
    fn end(self) -> End {
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
pub async fn run(call: &Call, endings: &mut Watch, to: &str, timeout: Duration, srtp: Option<Srtp>) -> Result<(), End> {
    if call.is_connected() {
        tracing::warn!(route = %call.admitted.route.at, "a second connect has nobody to join");
        return Ok(());
    }
    let to = expand(to, &call.admitted.groups, in_uri);
    let ringing = ring(call).await;
    let dialled = dial(call, &to, timeout, srtp).await;
    if let Some(clip) = ringing {
        // It may have been cut with its leg.
        let _ = call.command(Command::Cut { clip, reason: "the other party answered or failed".into() }).await;
    }
    match dialled {
        Ok(answered) => join(call, answered).await,
        Err(failure) => {
            if call.caller_leg().is_some() {
                route::say(call, endings, failure.said()).await?;
            }
            Err(failure.end())
        }
    }
}

/// Before the caller is answered their own telephone makes the tone (180); after that we do.
async fn ring(call: &Call) -> Option<ClipId> {
    match call.caller_leg() {
        Some(leg) => route::start(call, leg, audio::ringing(), None, true).await,
        None => {
            if let Err(error) = call.caller.dialog.ringing(None, None) {
                tracing::warn!(%error, "180 could not be sent");
            }
            None
        }
    }
}

/// A party that answered.
struct Answered {
    to: Address,
    line: Arc<Line>,
    description: Description,
    sockets: LegSockets,
    local: Local,
}

async fn dial(call: &Call, to: &str, timeout: Duration, srtp: Option<Srtp>) -> Result<Answered, Failure> {
    let target = Uri::try_from(to).map_err(|_| {
        tracing::error!(route = %call.admitted.route.at, "connect names no SIP URI");
        Failure::Unreachable
    })?;
    let ip = match target.host() {
        Host::IpAddr(ip) => Some(*ip),
        Host::Domain(_) => None,
    };
    let office = able_to_reach(call.board.offices(), &call.caller.office, &target).ok_or_else(|| {
        tracing::error!(route = %call.admitted.route.at, "no [sip] listen address has the address family and the transport of connect");
        Failure::Unreachable
    })?;
    let peer = ip.unwrap_or(office.local.ip());
    // What the step says, else the trunk that is called.
    let srtp = srtp.or_else(|| call.board.trunk(ip?).map(|trunk| trunk.srtp)).unwrap_or_default();
    let (sockets, local) = open_media(&office, peer, &call.board, srtp).map_err(|_| Failure::Unreachable)?;
    let (line, answer) = invite(call, office, target, peer, &local, srtp)?;
    let response = match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(Some(response))) => response,
        Ok(_) => return fail(call, Failure::Unreachable),
        // CANCEL waits for a provisional response (RFC 3261 §9.1), and its answer may take long: the caller is told now.
        Err(_) => return fail(call, Failure::NoAnswer),
    };
    if response.status_code.kind() != StatusCodeKind::Successful {
        return fail(call, Failure::of(response.status_code.code()));
    }
    match Description::read(&response.body, local.terms()) {
        Ok(description) if line.answered(&response) => {
            Ok(Answered { to: to.into(), line, description, sockets, local })
        }
        Ok(_) => fail(call, Failure::Unreachable),
        Err(error) => {
            tracing::warn!(%error, "the called party's answer is unusable");
            line.answered(&response);
            fail(call, Failure::Unreachable)
        }
    }
}

/// Lets go of the line to a party that did not come, without making the caller wait for it.
fn fail<T>(call: &Call, failure: Failure) -> Result<T, Failure> {
    if let Some(line) = call.not_calling() {
        let board = call.board.clone();
        tokio::spawn(async move { release(&board, &line, None, "nobody waits any more").await });
    }
    Err(failure)
}

type FinalResponse = oneshot::Receiver<Option<Response>>;

fn invite(
    call: &Call,
    office: Arc<Office>,
    callee: Uri,
    peer: IpAddr,
    local: &Local,
    srtp: Srtp,
) -> Result<(Arc<Line>, FinalResponse), Failure> {
    let contact = office.contact_for(peer);
    let admitted = &call.admitted;
    let caller = Uri {
        auth: Some(Auth { user: admitted.caller.0.to_string(), password: None }).filter(|a| !a.user.is_empty()),
        ..contact.clone()
    };
    let hops = admitted.max_forwards.saturating_sub(1);
    let headers = vec![
        Header::MaxForwards(u32::from(hops).into()),
        Header::Allow(crate::io::sip::door::ALLOW.into()),
        Header::Other("Sotto-Call".into(), call.id.to_string()),
    ];
    let login = call.board.trust.login(&callee).cloned();
    let credential = login.clone().map(|login| Credential {
        username: login.user,
        password: login.password.reveal().to_owned(),
        ..Credential::default()
    });
    let options = InviteOption {
        credential,
        caller_display_name: admitted.display_name.clone(),
        caller,
        callee,
        contact,
        content_type: Some("application/sdp".into()),
        offer: Some(sdp::offer(local, &call.caller_codecs())),
        headers: Some(headers),
        ..InviteOption::default()
    };
    // Nothing is to be learnt from its states: the outcome comes by the task, the rest by requests.
    let (states, _) = office.dialogs.new_dialog_state_channel();
    let (dialog, task) = office.dialogs.do_invite_async(options, states).map_err(|error| {
        tracing::warn!(%error, "the other party could not be called");
        Failure::Unreachable
    })?;
    let mailbox: mpsc::Sender<_> = call.caller.mailbox.clone();
    let terms = Terms { srtp, ..local.terms() };
    let line = Arc::new(Line::new(Side::Called, office, terms, dialog, mailbox, None));
    line.may_prove(login);
    call.calling(line.clone());
    let (tell, told) = oneshot::channel();
    tokio::spawn(land(line.clone(), task, tell));
    Ok((line, told))
}

/// Waits for the outcome of an INVITE even when nobody else does any more: an answer that comes too late is a session
/// that must be ended. The stack ends the 200 to an INVITE that it cancelled; other 2xx it takes for failures.
async fn land(line: Arc<Line>, task: JoinHandle<InviteAsyncResult>, tell: oneshot::Sender<Option<Response>>) {
    let response = task.await.ok().and_then(Result::ok).and_then(|(_, response)| response);
    let Err(Some(unclaimed)) = tell.send(response) else { return };
    let cancelled = matches!(line.dialog.state(), DialogState::Terminated(_, TerminatedReason::UacCancel));
    let ended = unclaimed.status_code == StatusCode::OK && cancelled;
    if unclaimed.status_code.kind() == StatusCodeKind::Successful && !ended && line.answered(&unclaimed) {
        line.bye("the answer came too late").await;
    }
    line.office.dialogs.remove_dialog(&line.dialog.id());
}

async fn join(call: &Call, answered: Answered) -> Result<(), End> {
    let Answered { to, line, description, sockets, local } = answered;
    let codec = call.join_called(to, &description, sockets, local).await?;
    call.answer(Some(codec)).await?;
    tracing::info!(side = ?line.side, "both parties are connected");
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
            assert_eq!(Failure::of(status), failure, "{status}");
            assert_eq!(failure.end().refusal.status, told);
        }
    }
}
