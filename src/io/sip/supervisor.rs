//! The task that owns a supervisor's line: finds the call they dialled, joins it as a leg, and stays until they leave or
//! the call ends.
//!
//! A supervisor's dialog belongs to the call it listens to, but its end never ends that call. The call's end is learnt
//! from the journal, as is a leg that was removed by a key or through the API. Nobody is taken to another call.

use crate::call::sdp::{self, Description, Keys, Local, Origin};
use crate::call::{Ack, Command, LegMedia, LegSpec, Refusal};
use crate::event::{Place, Role};
use crate::id::{CallId, LegId};
use crate::io::clock;
use crate::io::rtp::LegSockets;
use crate::io::shard::Shard;
use crate::io::sip::admission::{Admitted, Supervision};
use crate::io::sip::controller::{End, Message, open_media, release};
use crate::io::sip::endings::Watch;
use crate::io::sip::fault::Fault;
use crate::io::sip::line::Line;
use crate::io::sip::registry::Unfound;
use crate::io::sip::switchboard::{Live, Switchboard};
use crate::media::codec::Codec;
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;
use tracing::Instrument;

/// What a supervisor is offered who wants our offer.
const CODECS: [Codec; 2] = [Codec::Pcmu, Codec::Pcma];

/// One supervisor.
pub struct Supervisor {
    board: Arc<Switchboard>,
    line: Arc<Line>,
    admitted: Admitted,
    wanted: Supervision,
    /// From when their leg is in the call.
    seat: OnceLock<Seat>,
}

/// Where they are.
struct Seat {
    call: CallId,
    shard: Shard,
    leg: LegId,
}

/// What was agreed on with their telephone.
struct Agreed {
    local: Local,
    media: LegMedia,
    origin: Origin,
}

/// Runs a supervisor from their INVITE to the last BYE.
pub async fn run(supervisor: Supervisor, messages: mpsc::Receiver<Message>, live: Live) {
    let supervisor = Arc::new(supervisor);
    let span = tracing::info_span!("supervisor");
    // In a task of its own, so that a panic in it still ends the line properly.
    let work = tokio::spawn(listen_in(supervisor.clone(), messages).instrument(span.clone()));
    let end = work.await.unwrap_or_else(|_| End::new("internal error", 500));
    supervisor.end(end).instrument(span).await;
    drop(live);
}

async fn listen_in(supervisor: Arc<Supervisor>, messages: mpsc::Receiver<Message>) -> End {
    let who = &supervisor.wanted.who;
    if who.is_empty() {
        return End::new("dial the agent's number or the call's code after the star code", 484);
    }
    let (call, entry) = match supervisor.board.host.registry.meant(who) {
        Ok((_, entry)) if entry.agents.is_empty() => {
            return End::new("the agent of this call is not on the line yet: try again in a moment", 480);
        }
        Ok(found) => found,
        Err(unfound) => return unfound.into(),
    };
    // Watched from before the leg joins, so that its end is not missed.
    let mut endings = supervisor.board.endings.watch(call);
    match supervisor.join(call, entry.shard).await {
        Ok((seat, agreed)) => supervisor.attend(seat, agreed, &mut endings, messages).await,
        Err(end) => end,
    }
}

impl Supervisor {
    /// Whoever dialled a supervisor's number, before anything is known of the call.
    pub fn new(board: Arc<Switchboard>, line: Arc<Line>, admitted: Admitted, wanted: Supervision) -> Self {
        Supervisor { board, line, admitted, wanted, seat: OnceLock::new() }
    }

    /// Joins the call and answers, in this order wherever the supervisor's own offer allows it.
    async fn join(&self, call: CallId, shard: Shard) -> Result<(&Seat, Agreed), End> {
        let (source, srtp) = (self.admitted.source.ip(), self.admitted.terms.srtp);
        let (sockets, local) = open_media(&self.line.office, source, &self.board, srtp)?;
        match &self.admitted.offer {
            Some(offer) => {
                let (seat, agreed) = self.sit(call, shard, sockets, local, offer).await?;
                self.accept(offer.answer(&local, &agreed.media))?;
                Ok((seat, agreed))
            }
            None => {
                self.accept(sdp::offer(&local, &CODECS))?;
                self.line.established().await;
                let answer = Description::read(&self.line.acknowledged_with(), local.terms());
                let answer = answer.map_err(|e| End::new(format!("the answer in the ACK was unusable: {e}"), 488))?;
                self.sit(call, shard, sockets, local, &answer).await
            }
        }
    }

    async fn sit(
        &self,
        call: CallId,
        shard: Shard,
        mut sockets: LegSockets,
        mut local: Local,
        far_end: &Description,
    ) -> Result<(&Seat, Agreed), End> {
        sockets.srtp = far_end.keys(&local);
        local.agree(sockets.srtp, clock::secret);
        let media = far_end.settle(None).ok_or_else(|| End::new("no common codec", 488))?;
        let spec = LegSpec {
            role: Role::Supervisor,
            place: Place::InConversation,
            mode: self.wanted.mode,
            address: self.admitted.caller.clone(),
            media,
        };
        let leg = shard.add_leg(call, spec, sockets).await.map_err(refused)?;
        let seat = self.seat.get_or_init(|| Seat { call, shard, leg });
        Ok((seat, Agreed { local, media, origin: far_end.origin.clone() }))
    }

    fn accept(&self, body: Vec<u8>) -> Result<(), End> {
        self.line.accept(body).map_err(|e| End::new(format!("cannot answer: {e}"), 500))
    }

    /// Serves the supervisor until they are gone, or the call or their leg is.
    async fn attend(
        &self,
        seat: &Seat,
        mut agreed: Agreed,
        endings: &mut Watch,
        mut messages: mpsc::Receiver<Message>,
    ) -> End {
        loop {
            tokio::select! {
                biased;
                left = endings.left(seat.leg) => match left {
                    Some(reason) => return End::new(&*reason, 480),
                    None if seat.is_there().await => {}
                    None => return End::new("the call has ended", 480),
                },
                Some(message) = messages.recv() => match message {
                    Message::Gone { reason } => return gone(reason),
                    Message::Offer { offer, reply, .. } => {
                        // A peer that does not wait for the answer asks again.
                        let _ = reply.send(seat.renegotiate(&mut agreed, offer).await);
                    }
                    Message::Answered { answer, .. } => {
                        if let Err(fault) = seat.answered(&mut agreed, &answer).await {
                            return End::new(format!("the answer in an ACK was unusable: {}", fault.reason), 488);
                        }
                    }
                    // Refused only where the leg is gone, which the endings tell.
                    Message::Pressed(key) => drop(seat.command(Command::Press { leg: seat.leg, key }).await),
                },
            }
        }
    }

    /// Takes the leg out of the call, where it is still in it, and ends the line.
    async fn end(&self, end: End) {
        tracing::info!(reason = %end.reason, "a supervisor's line ends");
        if let Some(seat) = self.seat.get() {
            // Also where the call has taken the leg out itself: this closes its sockets.
            let _ = seat.command(Command::RemoveLeg { leg: seat.leg, reason: end.reason.clone() }).await;
        }
        release(&self.board, &self.line, Some(end.refusal.status_code()), &end.reason).await;
    }
}

impl Seat {
    async fn command(&self, command: Command) -> Result<Ack, Refusal> {
        self.shard.command(self.call, command).await
    }

    async fn is_there(&self) -> bool {
        matches!(self.command(Command::Describe).await, Ok(Ack::View(view)) if view.legs.iter().any(|l| l.id == self.leg))
    }

    /// A new offer (RFC 3264 §8): the shard knows before the supervisor does.
    async fn renegotiate(&self, agreed: &mut Agreed, offer: Option<Box<Description>>) -> Result<Vec<u8>, Fault> {
        agreed.local.version = agreed.local.version.saturating_add(1);
        let (local, codec) = (agreed.local, agreed.media.codec);
        let Some(offer) = offer else { return Ok(sdp::offer(&local, &[codec])) };
        let media = offer.settle(Some(codec)).ok_or_else(|| Fault::new(488, "no common codec"))?;
        self.agree(agreed, media, offer.keys(&local), offer.origin.clone()).await?;
        Ok(offer.answer(&local, &media))
    }

    async fn answered(&self, agreed: &mut Agreed, answer: &[u8]) -> Result<(), Fault> {
        let answer = Description::read(answer, agreed.local.terms())?;
        let media = answer.settle(None).ok_or_else(|| Fault::new(488, "no common codec"))?;
        let keys = answer.keys(&agreed.local);
        self.agree(agreed, media, keys, answer.origin).await
    }

    async fn agree(
        &self,
        agreed: &mut Agreed,
        media: LegMedia,
        keys: Option<Keys>,
        origin: Origin,
    ) -> Result<(), Fault> {
        let leg = self.leg;
        let failed = |refusal: Refusal| Fault::new(500, refusal.to_string());
        if agreed.origin != origin {
            self.command(Command::FarEndChanged { leg }).await.map_err(failed)?;
        }
        self.shard.set_media(self.call, leg, media, keys).await.map_err(failed)?;
        agreed.local.agree(keys, clock::secret);
        (agreed.media, agreed.origin) = (media, origin);
        Ok(())
    }
}

/// The line calls whoever called us the caller.
fn gone(reason: &str) -> End {
    End::new(reason.replacen("caller", "supervisor", 1), 487)
}

impl From<Unfound> for End {
    fn from(unfound: Unfound) -> Self {
        let status = match unfound {
            Unfound::Nobody => 404,
            Unfound::Several(_) => 485,
        };
        End::new(unfound.to_string(), status)
    }
}

/// Why a call does not let a supervisor in.
fn refused(refusal: Refusal) -> End {
    let status = match refusal {
        Refusal::Ended => 404,
        // Another state of the call may allow it.
        Refusal::NotPrivate(_) => 480,
        Refusal::Limit(_) => 486,
        Refusal::NotPermitted(_) => 403,
        Refusal::NotNow(_) => 480,
        Refusal::NoSuchLeg(_)
        | Refusal::NoSuchClip(_)
        | Refusal::NotASupervisor(_)
        | Refusal::Spying
        | Refusal::NobodyListens
        | Refusal::Closed
        | Refusal::Paused
        | Refusal::TooManyClips(_) => 500,
    };
    End::new(refusal.to_string(), status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_status_and_words() {
        for (end, status, words) in [
            (refused(Refusal::Ended), 404, "the call has ended"),
            (
                refused(Refusal::NotPrivate("the agent is aside")),
                480,
                "a whisper cannot be private here: the agent is aside",
            ),
            (refused(Refusal::Limit("a call may have 16 legs at most")), 486, "a call may have 16 legs at most"),
            (Unfound::Nobody.into(), 404, "no agent of that name is on a call, and no call has that code"),
            (Unfound::Several(2).into(), 485, "2 calls match: dial the code of the one you mean"),
        ] {
            assert_eq!((end.refusal.status, end.refusal.reason.as_str()), (status, words));
        }
        assert_eq!(gone("caller gave up").reason, "supervisor gave up");
    }
}
