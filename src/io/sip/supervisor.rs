//! The task that owns a supervisor's line: finds the call they dialled, joins it as a leg, and stays until they leave or
//! the call ends.
//!
//! A supervisor's dialog belongs to the call it listens to, but its end never ends that call. The call's end is learnt
//! from the journal, as is a leg that was removed by a key or through the API, and what a key asks for that a call cannot
//! do by itself. Nobody is taken to another call unasked: when a call ends, so does the line.

use crate::call::sdp::{self, Description, Local, Srtp};
use crate::call::{Command, Key, LegMedia, Refusal, Rights, Supervising};
use crate::event::{Address, Mode};
use crate::id::{CallId, LegId};
use crate::io::clock;
use crate::io::rtp::LegSockets;
use crate::io::sip::admission::{Admitted, Supervision, Whom};
use crate::io::sip::controller::{End, Message, open_media, release};
use crate::io::sip::endings::{About, Watch, Wish};
use crate::io::sip::line::Line;
use crate::io::sip::named::Named;
use crate::io::sip::registry::Entry;
use crate::io::sip::seat::{Agreed, Seat};
use crate::io::sip::switchboard::{Live, Switchboard};
use crate::io::sip::whom::{Found, announcement};
use crate::media::codec::Codec;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tracing::Instrument;

/// What a supervisor is offered who wants our offer.
const CODECS: [Codec; 2] = [Codec::Pcmu, Codec::Pcma];
/// What an agent hears who was put aside.
const TAKEN_OVER: &str = "Your supervisor has taken over this call. Please stay on the line.";

/// One supervisor.
pub struct Supervisor {
    pub(super) board: Arc<Switchboard>,
    pub(super) line: Arc<Line>,
    pub(super) who: Who,
    /// How they called us; none where we called them.
    pub(super) came: Option<Came>,
    pub(super) wanted: Supervision,
    /// While their leg is in a call.
    seat: Mutex<Option<Seat>>,
}

/// Who they are.
pub struct Who {
    /// For events.
    pub address: Address,
    /// `user@host`, for the rules.
    pub identity: String,
    /// The trunk they belong to.
    pub trunk: String,
}

/// What their INVITE brought.
pub(super) struct Came {
    source: IpAddr,
    srtp: Srtp,
    offer: Option<Description>,
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

async fn listen_in(supervisor: Arc<Supervisor>, mut messages: mpsc::Receiver<Message>) -> End {
    let found = match supervisor.find_or_wait(&mut messages).await {
        Ok(found) => found,
        Err(end) => return end,
    };
    // Watched from before the leg joins, so that its end is not missed.
    let endings = supervisor.board.endings.watch(found.call);
    let agreed = match supervisor.join(&found).await {
        Ok(agreed) => agreed,
        Err(end) => return end,
    };
    if let (Some(leg), Some(seat)) = (found.replaces, supervisor.seat()) {
        // Its own task hangs that line up.
        let reason = "their line goes on at another telephone".into();
        let _ = seat.command(Command::RemoveLeg { leg, reason }).await;
    }
    supervisor.announce(&found.entry, found.mode, found.wanted);
    supervisor.attend(agreed, endings, messages).await
}

/// Runs a supervisor whom we have called, from their answer to the last BYE. Answers why they were never let in, if so.
pub async fn called(
    supervisor: Supervisor,
    answer: (LegSockets, Local, Description),
    endings: Watch,
    messages: mpsc::Receiver<Message>,
    live: Live,
) -> Option<String> {
    let supervisor = Arc::new(supervisor);
    let span = tracing::info_span!("supervisor");
    let work = tokio::spawn(let_in(supervisor.clone(), answer, endings, messages).instrument(span.clone()));
    let end = work.await.unwrap_or_else(|_| End::new("internal error", 500));
    let reason = end.reason.clone();
    supervisor.end(end).instrument(span).await;
    drop(live);
    supervisor.seat().is_none().then_some(reason)
}

async fn let_in(
    supervisor: Arc<Supervisor>,
    (sockets, local, answer): (LegSockets, Local, Description),
    endings: Watch,
    messages: mpsc::Receiver<Message>,
) -> End {
    let found = match supervisor.find().await {
        Ok(found) => found,
        Err(end) => return end,
    };
    match supervisor.sit(&found, sockets, local, &answer).await {
        Ok(agreed) => {
            supervisor.announce(&found.entry, found.mode, found.wanted);
            supervisor.attend(agreed, endings, messages).await
        }
        Err(end) => end,
    }
}

impl Supervisor {
    /// Whoever dialled a supervisor's number, before anything is known of the call.
    pub fn new(board: Arc<Switchboard>, line: Arc<Line>, admitted: Admitted, wanted: Supervision) -> Self {
        let Admitted { caller, identity, trunk, source, terms, offer, .. } = admitted;
        let who = Who { address: caller, identity, trunk };
        let came = Some(Came { source: source.ip(), srtp: terms.srtp, offer });
        Supervisor { board, line, who, came, wanted, seat: Mutex::default() }
    }

    /// Whoever was called for a call.
    pub fn called(board: Arc<Switchboard>, line: Arc<Line>, who: Who, (call, mode): (CallId, Mode)) -> Self {
        let wanted = Supervision { whom: Whom::Named(Named::Call(call)), mode };
        Supervisor { board, line, who, came: None, wanted, seat: Mutex::default() }
    }

    fn seat(&self) -> Option<Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// They are there now; in between two calls nowhere.
    fn sits(&self, seat: Option<Seat>) {
        if let Some(seat) = &seat {
            let owner = (seat.call, Some((seat.leg, self.who.identity.clone())));
            self.board.belong(&self.line, owner);
        }
        *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = seat;
    }

    /// Joins the call and answers, in this order wherever the supervisor's own offer allows it.
    async fn join(&self, found: &Found) -> Result<Agreed, End> {
        let Some(came) = &self.came else { return Err(End::new("nobody called", 500)) };
        let (sockets, local) = open_media(&self.line.office, came.source, &self.board, came.srtp)?;
        if let Some(provisional) = &self.line.provisional {
            // RFC 3262 §3: no answer before what was said is known to have arrived.
            provisional.settled().await;
        }
        match &came.offer {
            Some(offer) => {
                let agreed = self.sit(found, sockets, local, offer).await?;
                self.accept(offer.answer(&local, &agreed.media))?;
                Ok(agreed)
            }
            None => {
                self.accept(sdp::offer(&local, &CODECS))?;
                self.line.established().await;
                let answer = Description::read(&self.line.acknowledged_with(), local.terms());
                let answer = answer.map_err(|e| End::new(format!("the answer in the ACK was unusable: {e}"), 488))?;
                self.sit(found, sockets, local, &answer).await
            }
        }
    }

    async fn sit(
        &self,
        found: &Found,
        mut sockets: LegSockets,
        mut local: Local,
        far_end: &Description,
    ) -> Result<Agreed, End> {
        sockets.srtp = far_end.keys(&local);
        local.agree(sockets.srtp, clock::secret);
        let media = far_end.settle(None).ok_or_else(|| End::new("no common codec", 488))?;
        let supervising = self.supervising(found.rights, found.mode, media);
        let shard = found.entry.shard.clone();
        let leg = shard.supervise(found.call, supervising, sockets).await.map_err(refused)?;
        self.sits(Some(Seat { call: found.call, shard, leg }));
        Ok(Agreed { local, media, origin: far_end.origin.clone() })
    }

    fn supervising(&self, rights: Rights, mode: Mode, media: LegMedia) -> Supervising {
        Supervising { address: self.who.address.clone(), mode, rights, media, onward: None }
    }

    fn accept(&self, body: Vec<u8>) -> Result<(), End> {
        self.line.accept(body).map_err(|e| End::new(format!("cannot answer: {e}"), 500))
    }

    /// Serves the supervisor until they are gone, or the call or their leg is.
    async fn attend(&self, mut agreed: Agreed, mut endings: Watch, mut messages: mpsc::Receiver<Message>) -> End {
        while let Some(seat) = self.seat() {
            tokio::select! {
                biased;
                about = endings.about(seat.leg) => match about {
                    About::Left(reason) => return End::new(&*reason, 480),
                    About::Unknown if seat.is_there().await => {}
                    About::Unknown => break,
                    About::Did(Wish::Next) => match self.go_on(&seat, &agreed).await {
                        Ok(Some(watch)) => endings = watch,
                        Ok(None) => {}
                        Err(end) => return end,
                    },
                    About::Did(Wish::TookOver(aside)) => self.prompt(&seat, aside),
                    // Of earpieces alone.
                    About::Did(Wish::Verified | Wish::Unverified) => {}
                },
                Some(message) = messages.recv() => match message {
                    Message::Gone { reason, .. } => return gone(reason),
                    Message::Offer { offer, reply, .. } => {
                        // A peer that does not wait for the answer asks again.
                        let _ = reply.send(seat.renegotiate(&mut agreed, offer).await);
                    }
                    // No supervisor's line is a recording session, and no party: whoever asks has no answer, which is one.
                    Message::Recorded { .. }
                    | Message::Notified(_)
                    | Message::Refers { .. }
                    | Message::Replaces { .. }
                    | Message::Yields { .. }
                    | Message::Adopts { .. } => {}
                    Message::Answered { answer, .. } => {
                        if let Err(fault) = seat.answered(&mut agreed, &answer).await {
                            return End::new(format!("the answer in an ACK was unusable: {}", fault.reason), 488);
                        }
                    }
                    // Refused only where the leg is gone, which the endings tell.
                    Message::Pressed(digit) => {
                        if let Some(key) = Key::of(digit) {
                            drop(seat.command(Command::Press { leg: seat.leg, key }).await);
                        }
                    }
                },
            }
        }
        End::new("the call has ended", 480)
    }

    /// To the next call of those they may hear, in the order in which calls began, in spy: what they would say in another
    /// mode was meant for people they leave. None where there is no other.
    async fn go_on(&self, seat: &Seat, agreed: &Agreed) -> Result<Option<Watch>, End> {
        let mut others = self.others(seat.call);
        if others.is_empty() {
            self.tell(seat, "There is no other call that you may hear.".into());
            return Ok(None);
        }
        // Whoever finds no way in elsewhere comes back.
        if let Some(entry) = self.board.host.registry.get(seat.call) {
            others.extend(self.may_hear(&entry).ok().map(|rights| (seat.call, entry, rights)));
        }
        let Ok(taken) = seat.shard.take(seat.call, seat.leg, "they went on to the next call").await else {
            // Gone already: the endings tell why.
            return Ok(None);
        };
        self.sits(None);
        let mut traveller = Some(taken);
        for (call, entry, rights) in others {
            let Some(line) = traveller.take() else { break };
            let watch = self.board.endings.watch(call);
            let supervising = self.supervising(rights, Mode::Spy, agreed.media);
            match entry.shard.arrive(call, supervising, line).await {
                Ok(leg) => {
                    self.sits(Some(Seat { call, shard: entry.shard.clone(), leg }));
                    self.announce(&entry, Mode::Spy, Mode::Spy);
                    return Ok(Some(watch));
                }
                Err(stranded) => traveller = stranded.traveller,
            }
        }
        Err(End::new("there is no call left that you may hear", 480))
    }

    /// Says whom they hear, and how; and what they wanted and may not.
    fn announce(&self, entry: &Entry, mode: Mode, wanted: Mode) {
        let Some(seat) = self.seat() else { return };
        if self.board.config.sip.announce || mode != wanted {
            self.tell(&seat, announcement(entry, mode, wanted));
        }
    }

    /// Says something to the supervisor alone.
    fn tell(&self, seat: &Seat, text: String) {
        let (seat, voice) = (seat.clone(), self.board.host.synthesiser.clone());
        tokio::spawn(async move { seat.say(&voice, &[seat.leg], &text).await });
    }

    /// Tells the agents who were put aside what has happened.
    fn prompt(&self, seat: &Seat, aside: Vec<LegId>) {
        let (seat, voice) = (seat.clone(), self.board.host.synthesiser.clone());
        tokio::spawn(async move { seat.say(&voice, &aside, TAKEN_OVER).await });
    }

    /// Takes the leg out of the call, where it is still in it, and ends the line.
    async fn end(&self, end: End) {
        tracing::info!(reason = %end.reason, "a supervisor's line ends");
        if let Some(seat) = self.seat() {
            // Also where the call has taken the leg out itself: this closes its sockets.
            let _ = seat.command(Command::RemoveLeg { leg: seat.leg, reason: end.reason.clone() }).await;
        }
        release(&self.board, &self.line, Some(end.refusal.status_code()), &end.reason).await;
    }
}

/// The line calls whoever called us the caller, and whom we called the called party.
pub(super) fn gone(reason: &str) -> End {
    End::new(reason.replacen("caller", "supervisor", 1).replacen("called party", "supervisor", 1), 487)
}

/// Why a call does not let a supervisor in.
fn refused(refusal: Refusal) -> End {
    let status = match refusal {
        Refusal::Ended => 404,
        // Another state of the call may allow it.
        Refusal::NotPrivate(_) | Refusal::Unproven(_) => 480,
        // No state of a forked call will.
        Refusal::NoWayBack => 488,
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
    use crate::io::sip::registry::Unfound;

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
