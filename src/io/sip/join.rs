//! Two calls of one telephone become one (RFC 5589 §7): the party at the other end of the one moves to the other, with its
//! line and its media, and hears nothing of it but whom it talks to then.
//!
//! The call that has the customer stays, with all that listens to it; where both or none have one, the one in which the
//! transfer was asked for.

use crate::call::{Command, LegSpec};
use crate::event::{Mode, Place, Role};
use crate::io::shard::Traveller;
use crate::io::sip::controller::{Call, Leg, Message, no_party, release};
use crate::io::sip::fault::Fault;
use crate::io::sip::line::{Key, Line, Side};
use crate::io::sip::place;
use crate::io::sip::switchboard::Switchboard;
use crate::io::sip::transfer::{self, may_change};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Why the call that was given up ends.
pub const JOINED: &str = "its party talks in another call";
/// How long another call may take over an answer.
const DECISION: Duration = Duration::from_secs(5);

/// Where the two talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// In this call.
    Here,
    /// In another one, and this one is to end.
    Elsewhere,
}

/// A party between two calls.
pub struct Yielded {
    board: Arc<Switchboard>,
    leg: Leg,
    line: Arc<Line>,
    traveller: Box<Traveller>,
}

/// Joins the party who talks to `seat` with the one who talks to the peer of `other`, in another call.
pub async fn with(call: &Arc<Call>, seat: Side, other: &Arc<Line>) -> Result<Came, Fault> {
    let is_customer = |side| call.parties().leg(side).is_some_and(|leg| leg.role == Role::Customer);
    let (reply, answer) = oneshot::channel();
    let for_a_customer = is_customer(seat.other());
    other.tell(Message::Yields { line: other.key.clone(), for_a_customer, reply }).await;
    if let Some(yielded) = decided(answer).await? {
        place(call, seat, *yielded).await?;
        return Ok(Came::Here);
    }
    let yielded = Box::new(take(call, seat.other()).await?);
    let (reply, answer) = oneshot::channel();
    other.tell(Message::Adopts { line: other.key.clone(), yielded, reply }).await;
    if let Err(fault) = decided(answer).await {
        // Whoever asked is alone in this call.
        call.hang_up(&fault.reason);
        return Err(fault);
    }
    Ok(Came::Elsewhere)
}

async fn decided<T>(answer: oneshot::Receiver<Result<T, Fault>>) -> Result<T, Fault> {
    let none = || Fault::new(480, "the other call is over, or does not answer");
    tokio::time::timeout(DECISION, answer).await.map_err(|_| none())?.map_err(|_| none())?
}

/// The party who talks to the peer of `line` is given up; not so a customer, but for another one.
pub async fn give(call: &Arc<Call>, line: &Key, for_a_customer: bool) -> Result<Option<Yielded>, Fault> {
    let seat = call.seat_of(line).ok_or_else(no_party)?;
    let is_customer = call.parties().leg(seat.other()).is_some_and(|leg| leg.role == Role::Customer);
    if is_customer && !for_a_customer {
        return Ok(None);
    }
    may_change(call, seat).await?;
    let given = take(call, seat.other()).await;
    if given.is_err() {
        call.parties().change = None;
    }
    given.map(Some)
}

async fn take(call: &Arc<Call>, seat: Side) -> Result<Yielded, Fault> {
    let leg = call.parties().leg(seat).map(|leg| leg.id).ok_or_else(no_party)?;
    let traveller = call.shard.take(call.id, leg, JOINED).await;
    let traveller = traveller.map_err(|refusal| Fault::new(500, refusal.to_string()))?;
    let (leg, line) = call.parties().take(seat).ok_or_else(no_party)?;
    line.kept_by_another();
    Ok(Yielded { board: call.board.clone(), leg, line, traveller })
}

/// A party of another call takes the place of the peer of `line`, who is hung up.
pub async fn adopt(call: &Arc<Call>, line: &Key, yielded: Yielded) -> Result<(), Fault> {
    let seat = match call.seat_of(line) {
        Some(seat) => may_change(call, seat).await.map(|()| seat),
        None => Err(no_party()),
    };
    match seat {
        Ok(seat) => {
            let before = place(call, seat, yielded).await.inspect_err(|_| call.parties().change = None)?;
            let board = call.board.clone();
            tokio::spawn(async move {
                if let Some(before) = before {
                    before.done.cancel();
                    release(&board, &before, None, "transferred").await;
                }
            });
            Ok(())
        }
        Err(fault) => {
            lost(Ok(Some(Box::new(yielded))));
            Err(fault)
        }
    }
}

/// A party that came takes this place. Answers the line of who had it.
async fn place(call: &Arc<Call>, seat: Side, yielded: Yielded) -> Result<Option<Arc<Line>>, Fault> {
    let Yielded { board, leg, line, traveller } = yielded;
    let role = place::role(call, seat, leg.role == Role::Agent);
    let spec = LegSpec { role, place: Place::Aside, mode: Mode::Spy, address: leg.address.clone(), media: leg.media };
    match call.shard.take_in(call.id, spec, traveller).await {
        Ok(id) => {
            line.is_now_of(call.mailbox.clone());
            if leg.hold.is_some() {
                let held = Command::SetHeld { leg: id, place: call.place_on_hold(leg.hold) };
                let _ = call.command(held).await;
            }
            let leg = Leg { id, role, music: None, ..leg };
            Ok(transfer::succeed(call, seat, leg, line).await)
        }
        Err(stranded) => {
            tokio::spawn(async move { release(&board, &line, None, "it cannot be joined").await });
            Err(Fault::new(500, stranded.why.to_string()))
        }
    }
}

/// Nobody takes a party that was given up: it is hung up.
pub fn lost(yielded: Result<Option<Box<Yielded>>, Fault>) {
    if let Ok(Some(yielded)) = yielded {
        tokio::spawn(async move { release(&yielded.board, &yielded.line, None, "it cannot be joined").await });
    }
}
