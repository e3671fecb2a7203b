//! An INVITE that names a dialog: `Join` (RFC 3911) of any dialog of a call, to hear that call; `Replaces` (RFC 3891) of a
//! supervisor's, to go on with it at another telephone.

use crate::id::{CallId, LegId};
use crate::io::sip::fault::Fault;
use crate::io::sip::message::parameter;
use crate::io::sip::switchboard::Switchboard;
use rsipstack::sip::{Header, Request};

/// Where the INVITE leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// To this call.
    Call(CallId),
    /// To this call, in the stead of this supervisor's leg.
    Seat(CallId, LegId),
}

/// What `request` names, if it names a dialog. A `Replaces` of somebody who is no supervisor is none of ours.
pub fn named(board: &Switchboard, request: &Request, identity: &str) -> Result<Option<Named>, Fault> {
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
        ([join], []) => find(board, join)?.map(|(call, _)| Some(Named::Call(call))).ok_or_else(no_dialog),
        ([], [replaces]) => replace(board, replaces, identity),
        _ => Err(Fault::bad("an INVITE may have one Join or one Replaces")),
    }
}

/// RFC 3891 §3: whoever replaces a dialog must be entitled to; here only its own party is.
fn replace(board: &Switchboard, replaces: &str, identity: &str) -> Result<Option<Named>, Fault> {
    let Some((call, seat)) = find(board, replaces)? else { return Err(no_dialog()) };
    let Some((leg, who)) = seat else { return Ok(None) };
    if who != identity {
        return Err(Fault::new(403, "only the supervisor whose line it is may replace it"));
    }
    if parameter(replaces, "early-only").is_some() {
        return Err(Fault::new(486, "the dialog was answered already"));
    }
    Ok(Some(Named::Seat(call, leg)))
}

type Found = Option<(CallId, Option<(LegId, String)>)>;

/// The dialog that `callid;to-tag=…;from-tag=…` names: `to-tag` is ours.
fn find(board: &Switchboard, value: &str) -> Result<Found, Fault> {
    let call_id = value.split(';').next().unwrap_or_default().trim();
    let (Some(ours), Some(theirs)) = (parameter(value, "to-tag"), parameter(value, "from-tag")) else {
        return Err(Fault::bad("a dialog is named by its Call-ID, to-tag and from-tag"));
    };
    let line = board.line(call_id, ours).filter(|line| !theirs.is_empty() && line.is_peer(theirs));
    Ok(line.and_then(|line| board.belongs(&line)))
}

fn no_dialog() -> Fault {
    Fault::new(481, "there is no such dialog here (any more)")
}
