//! Where a transfer leads, and what whoever answers there is to the call: the policy of transfers.
//!
//! Who is reached through the dialplan is what the route says, as if they had been called by it; who is called where the
//! referrer says, or takes a place by `Replaces`, is an agent if their trunk lists them. Everyone else is a customer, to
//! whom nothing is whispered; and so is everyone who takes a customer's place.

use crate::config::{Step, Trunk};
use crate::event::Role;
use crate::io::sip::admission::{self, expand, in_uri};
use crate::io::sip::controller::Call;
use crate::io::sip::dial::Target;
use crate::io::sip::fault::Fault;
use crate::io::sip::line::{Line, Side};
use crate::io::sip::named;
use crate::io::sip::refer::Refer;
use crate::io::sip::registry::user;
use rsipstack::dialog::dialog::DialogSnapshot;
use rsipstack::sip::{Header, Host, Uri};
use std::sync::Arc;
use std::time::Duration;

/// How long somebody may ring who is called where the referrer says.
const RINGING: Duration = Duration::from_secs(30);

/// Where a transfer leads.
pub enum Way {
    /// To somebody who is called.
    Dial {
        /// Each of these, until one answers.
        targets: Vec<Target>,
        /// At once.
        together: bool,
        /// What whoever answers is.
        role: Role,
    },
    /// To the party at the other end of this line's call, which is ours too.
    Join(Arc<Line>),
}

/// Where `refer` leads, asked for on `line` whose peer has this place in the call.
pub fn lead(call: &Call, line: &Line, seat: Side, refer: &Refer) -> Result<Way, Fault> {
    if let Some(replaces) = &refer.replaces
        && let Some(other) = named::line(&call.board, replaces)?
    {
        return joined(call, line, other).map(Way::Join);
    }
    let config = &call.board.config;
    let trunk = line.trunk().and_then(|name| config.trunks.iter().find(|t| t.name == name));
    let trunk =
        trunk.ok_or_else(|| Fault::new(403, "this line belongs to no trunk, which would say whom it may call"))?;
    let called = refer.to.user().unwrap_or_default();
    if !trunk.may_call.iter().any(|pattern| admission::is_whole(pattern, called)) {
        return Err(Fault::new(403, "this trunk may not call this number"));
    }
    if call.admitted.max_forwards == 0 {
        return Err(Fault::new(483, "the call went through too many hops"));
    }
    match is_here(call, line, &refer.to) {
        true => through_the_dialplan(call, seat, trunk, refer),
        false => there(call, line, seat, refer),
    }
}

/// What somebody is who takes this place: `agent` says whether they would be one.
pub fn role(call: &Call, seat: Side, agent: bool) -> Role {
    let agents = call.parties().leg(seat).is_some_and(|leg| leg.role == Role::Agent);
    if agents && agent { Role::Agent } else { Role::Customer }
}

/// Whether a trunk lists a number as an agent's.
pub fn is_agent(trunk: &Trunk, number: &str) -> bool {
    trunk.agents.iter().any(|pattern| admission::is_whole(pattern, number))
}

/// Two calls of one telephone: of those of another trunk it cannot know.
fn joined(call: &Call, line: &Line, other: Arc<Line>) -> Result<Arc<Line>, Fault> {
    let owner = call.board.belongs(&other).filter(|(_, seat)| seat.is_none() && !other.is_recording());
    match owner {
        Some((id, None)) if id != call.id && other.trunk() == line.trunk() => Ok(other),
        Some(_) | None => Err(Fault::new(603, "the call that is named is none that this one can be joined with")),
    }
}

/// Whether an address is one of ours: an address we listen on, or the one by which a caller has called us.
fn is_here(call: &Call, line: &Line, uri: &Uri) -> bool {
    let snapshot = line.dialog.snapshot();
    let by_name =
        line.side == Side::Caller && ours(&snapshot).is_some_and(|us| us.host_with_port == uri.host_with_port);
    by_name || call.board.offices().iter().any(|office| office.is_at(uri))
}

/// Our own address as the caller wrote it.
fn ours(snapshot: &DialogSnapshot) -> Option<Uri> {
    address(&snapshot.to.to_string())
}

fn address(value: &str) -> Option<Uri> {
    let bare = value.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(value, |(uri, _)| uri);
    Uri::try_from(bare.trim()).ok()
}

fn through_the_dialplan(call: &Call, seat: Side, trunk: &Trunk, refer: &Refer) -> Result<Way, Fault> {
    let (called, caller) = (refer.to.user().unwrap_or_default(), call.address_of(seat));
    let found = admission::find(&call.board.config.routes, called, user(&caller.0), &trunk.name);
    let (route, groups) = found.ok_or_else(|| Fault::new(404, "no route for this number"))?;
    let connects = route.steps.iter().find_map(|step| {
        let Step::Connect { to, together, timeout, srtp } = step else { return None };
        Some((to, *together, *timeout, *srtp))
    });
    let Some((to, together, timeout, srtp)) = connects else {
        return Err(Fault::new(603, "nobody is called at this number"));
    };
    let target = |to: &String| Target { to: expand(to, &groups, in_uri), timeout, srtp, headers: headers(refer) };
    Ok(Way::Dial { targets: to.iter().map(target).collect(), together, role: role(call, seat, !route.caller_is_agent) })
}

/// Called where the referrer says: at a trunk, or in the referrer's own domain. Anything else would let whoever can refer
/// have us call all the world.
fn there(call: &Call, line: &Line, seat: Side, refer: &Refer) -> Result<Way, Fault> {
    let trunk = call.board.trunk_at(&refer.to);
    let domain =
        || matches!(refer.to.host(), Host::Domain(_)) && line.dialog.snapshot().remote_uri.host() == refer.to.host();
    if trunk.is_none() && !domain() {
        return Err(Fault::new(403, "only numbers here and those of trunks can be transferred to"));
    }
    let number = refer.to.user().unwrap_or_default();
    let role = role(call, seat, trunk.is_some_and(|trunk| is_agent(trunk, number)));
    let target = Target { to: refer.to.to_string(), timeout: RINGING, srtp: None, headers: headers(refer) };
    Ok(Way::Dial { targets: vec![target], together: false, role })
}

/// What the INVITE says of who refers (RFC 3892), and whose place it is to take (RFC 3891).
fn headers(refer: &Refer) -> Vec<Header> {
    let by = refer.by.iter().map(|by| Header::ReferredBy(by.as_str().into()));
    by.chain(refer.replaces.iter().map(|dialog| Header::Other("Replaces".into(), dialog.clone()))).collect()
}
