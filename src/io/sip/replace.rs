//! Somebody calls to take a party's place (RFC 3891): their dialog for the one it names, which gets a BYE.
//!
//! They have our answer when the media side has their leg, aside; they hear and are heard when the one before is out.

use crate::call::LegMedia;
use crate::call::sdp::{self, Description, Local};
use crate::event::Place;
use crate::io::rtp::LegSockets;
use crate::io::sip::admission::Admitted;
use crate::io::sip::controller::{Call, Leg, Message, no_party, open_media, release};
use crate::io::sip::fault::Fault;
use crate::io::sip::line::{Key, Line, Side};
use crate::io::sip::place;
use crate::io::sip::registry::user;
use crate::io::sip::switchboard::{Live, Switchboard};
use crate::io::sip::transfer::{may_change, succeed};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Who calls.
pub struct Newcomer {
    line: Arc<Line>,
    admitted: Admitted,
}

/// Runs an INVITE that names a party's dialog, until its line ends.
pub async fn run(board: Arc<Switchboard>, line: Arc<Line>, admitted: Admitted, named: Key, live: Live) {
    let (reply, answer) = oneshot::channel();
    let newcomer = Newcomer { line: line.clone(), admitted };
    let asked = match board.line(&named.0, &named.1) {
        Some(before) => {
            line.is_now_of(before.mailbox());
            before.tell(Message::Replaces { line: named, newcomer: Box::new(newcomer), reply }).await;
            answer.await.unwrap_or_else(|_| Err(no_party()))
        }
        None => Err(no_party()),
    };
    match asked {
        Ok(()) => line.done.cancelled().await,
        Err(fault) => release(&board, &line, Some(fault.status_code()), &fault.reason).await,
    }
    drop(live);
}

/// Lets somebody take the place of the peer of `line`, in a task of its own.
pub fn begin(call: &Arc<Call>, line: &Key, newcomer: Newcomer, reply: oneshot::Sender<Result<(), Fault>>) {
    let (call, line) = (call.clone(), line.clone());
    tokio::spawn(async move {
        // Where the call ends meanwhile, who asked is told so.
        let taken = call.over.run_until_cancelled(take(&call, &line, newcomer)).await;
        let _ = reply.send(taken.unwrap_or_else(|| Err(no_party())));
    });
}

async fn take(call: &Arc<Call>, line: &Key, newcomer: Newcomer) -> Result<(), Fault> {
    let seat = call.seat_of(line).ok_or_else(no_party)?;
    may_change(call, seat).await?;
    let joined = join(call, seat, &newcomer).await;
    let leg = joined.inspect_err(|_| call.parties().change = None)?;
    if let Some(before) = succeed(call, seat, leg, newcomer.line).await {
        let board = call.board.clone();
        tokio::spawn(async move {
            before.done.cancel();
            release(&board, &before, None, "somebody else has taken its place").await;
        });
    }
    Ok(())
}

/// Their leg, aside, and our answer; or our offer, and their leg by what the ACK says.
async fn join(call: &Arc<Call>, seat: Side, newcomer: &Newcomer) -> Result<Leg, Fault> {
    let Newcomer { line, admitted } = newcomer;
    let (sockets, local) =
        open_media(&line.office, admitted.source.ip(), &call.board, admitted.terms.srtp).map_err(|end| end.refusal)?;
    let codecs = call.codecs_of(seat.other());
    let unanswered = |error: Box<rsipstack::Error>| Fault::new(487, format!("it cannot be answered: {error}"));
    match &admitted.offer {
        Some(offer) => {
            let media = offer.settle(codecs.first().copied()).ok_or_else(|| Fault::new(488, "no common codec"))?;
            let leg = join_leg(call, seat, admitted, (media, offer), (sockets, local)).await?;
            line.accept(offer.answer(&leg.local, &leg.media)).map_err(unanswered)?;
            Ok(leg)
        }
        None => {
            line.accept(sdp::offer(&local, &codecs)).map_err(unanswered)?;
            line.established().await;
            let answer = Description::read(&line.acknowledged_with(), local.terms())?;
            let media = answer.settle(None).ok_or_else(|| Fault::new(488, "no common codec"))?;
            join_leg(call, seat, admitted, (media, &answer), (sockets, local)).await
        }
    }
}

async fn join_leg(
    call: &Arc<Call>,
    seat: Side,
    admitted: &Admitted,
    settled: (LegMedia, &Description),
    ours: (LegSockets, Local),
) -> Result<Leg, Fault> {
    let trunk = call.board.config.trunks.iter().find(|trunk| trunk.name == admitted.trunk);
    let agent = trunk.is_some_and(|trunk| place::is_agent(trunk, user(&admitted.identity)));
    let (role, address) = (place::role(call, seat, agent), admitted.caller.clone());
    let leg = call.join_as(role, address, settled, ours, Place::Aside).await;
    leg.map_err(|end| end.refusal)
}
