//! A supervisor who has taken over when the agent hangs up: the customer stays with them.

use crate::call::{Ack, Command};
use crate::event::Role;
use crate::id::LegId;
use crate::io::sip::controller::{Call, End, release};
use crate::io::sip::endings::{About, Watch};
use crate::io::sip::line::Side;
use std::sync::Arc;

/// The leg that stands in for the party of `side`, if that is the agent's and one does.
pub async fn of(call: &Call, side: Side) -> Option<LegId> {
    let is_agent = call.parties().leg(side).is_some_and(|leg| leg.role == Role::Agent);
    if is_agent { stands_in(call).await } else { None }
}

pub async fn stands_in(call: &Call) -> Option<LegId> {
    let Ok(Ack::View(view)) = call.command(Command::Describe).await else { return None };
    view.legs.iter().find(|leg| leg.stands_in).map(|leg| leg.id)
}

/// The party is gone, and nothing else.
pub async fn let_go(call: &Arc<Call>, side: Side, reason: &str) {
    tracing::info!(reason, "the agent is gone; who has taken over stays with the customer");
    let Some((leg, line)) = call.part_with(side) else { return };
    // Refused only where the leg or the call is gone already.
    let _ = call.command(Command::RemoveLeg { leg, reason: reason.into() }).await;
    let (call, reason) = (call.clone(), reason.to_owned());
    tokio::spawn(async move { release(&call.board, &line, None, &reason).await });
}

/// Waits until the one who stands in is gone too, or has given back to nobody.
pub async fn left(call: &Call, leg: LegId, endings: &mut Watch) -> End {
    while stands_in(call).await == Some(leg) {
        match endings.about(leg).await {
            About::Left(_) => break,
            About::Did(_) | About::Unknown => {}
        }
    }
    End::new("the supervisor who had taken over left", 480)
}
