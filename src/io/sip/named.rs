//! An INVITE that names a dialog: `Join` (RFC 3911) of any dialog of a call, to hear that call; `Replaces` (RFC 3891) of a
//! supervisor's, to go on with it at another telephone, or of a party's, to take its place.

use crate::config::Trunk;
use crate::id::{CallId, LegId};
use crate::io::sip::fault::Fault;
use crate::io::sip::line::{Key, Line, Side};
use crate::io::sip::message::parameter;
use crate::io::sip::switchboard::{Owner, Switchboard};
use rsipstack::sip::{Header, Request};
use std::sync::Arc;

/// Where the INVITE leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// To this call.
    Call(CallId),
    /// To this call, in the stead of this supervisor's leg.
    Seat(CallId, LegId),
    /// To the call of this line, in the stead of its peer.
    Party(Key),
}

/// What `request` names, if it names a dialog; `who`: whoever it is by, and their trunk.
pub fn named(board: &Switchboard, request: &Request, who: (&str, &Trunk)) -> Result<Option<Named>, Fault> {
    let (mut joins, mut replaced) = (Vec::new(), Vec::new());
    for header in request.headers.iter() {
        match header {
            Header::Other(name, value) if name.eq_ignore_ascii_case("join") => joins.push(value.clone()),
            Header::Other(name, value) if name.eq_ignore_ascii_case("replaces") => replaced.push(value.clone()),
            Header::Replaces(replaces) => replaced.push(replaces.value().to_owned()),
            _ => {}
        }
    }
    // RFC 3911 §4, RFC 3891 §3.
    match (&joins[..], &replaced[..]) {
        ([], []) => Ok(None),
        ([join], []) => found(board, join)?.map(|(_, (call, _))| Some(Named::Call(call))).ok_or_else(no_dialog),
        ([], [replaces]) => replace(board, replaces, who).map(Some),
        _ => Err(Fault::bad("an INVITE may have one Join or one Replaces")),
    }
}

/// RFC 3891 §3: whoever replaces a dialog must be entitled to. A supervisor's may only they themselves; a party's anybody of
/// its trunk who knows its names, which nobody can guess.
fn replace(board: &Switchboard, replaces: &str, (identity, trunk): (&str, &Trunk)) -> Result<Named, Fault> {
    let Some((line, (call, seat))) = found(board, replaces)? else { return Err(no_dialog()) };
    let named = match seat {
        Some((_, who)) if who != identity => {
            return Err(Fault::new(403, "only the supervisor whose line it is may replace it"));
        }
        Some((leg, _)) => Named::Seat(call, leg),
        None if line.trunk() != Some(&trunk.name) => {
            return Err(Fault::new(403, "only its own trunk may replace a party"));
        }
        None if line.is_over() || line.is_recording() => return Err(Fault::new(603, "this dialog cannot be replaced")),
        // RFC 3891 §3: who has not answered yet can be replaced by nobody but whom they call; and that is for later.
        None if !line.stands() && line.side == Side::Caller => return Err(no_dialog()),
        None if !line.stands() => return Err(Fault::new(603, "who is still being called cannot be replaced")),
        None => Named::Party(line.key.clone()),
    };
    if parameter(replaces, "early-only").is_some() {
        return Err(Fault::new(486, "the dialog was answered already"));
    }
    Ok(named)
}

fn found(board: &Switchboard, value: &str) -> Result<Option<(Arc<Line>, Owner)>, Fault> {
    Ok(line(board, value)?.and_then(|line| board.belongs(&line).map(|owner| (line, owner))))
}

/// The line whose dialog `callid;to-tag=…;from-tag=…` names, if it is one of ours: `to-tag` is ours.
pub fn line(board: &Switchboard, value: &str) -> Result<Option<Arc<Line>>, Fault> {
    let call_id = value.split(';').next().unwrap_or_default().trim();
    let (Some(ours), Some(theirs)) = (parameter(value, "to-tag"), parameter(value, "from-tag")) else {
        return Err(Fault::bad("a dialog is named by its Call-ID, to-tag and from-tag"));
    };
    Ok(board.line(call_id, ours).filter(|line| !theirs.is_empty() && line.is_peer(theirs)))
}

fn no_dialog() -> Fault {
    Fault::new(481, "there is no such dialog here (any more)")
}
