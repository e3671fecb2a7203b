//! The task that owns a supervisor's line: finds the call they dialled, joins it as a leg, and stays until they leave or
//! the call ends.
//!
//! A supervisor's dialog belongs to the call it listens to, but its end never ends that call. The call's end is learnt
//! from the journal, as is a leg that was removed by a key or through the API, and what a key asks for that a call cannot
//! do by itself. Nobody is taken to another call unasked: when a call ends, so does the line.

use crate::call::sdp::{self, Description, Keys, Local, Origin, Srtp};
use crate::call::{Ack, Command, LegMedia, May, Refusal, Supervising};
use crate::event::{Address, Mode, Role};
use crate::id::{CallId, LegId};
use crate::io::clock;
use crate::io::rtp::LegSockets;
use crate::io::shard::Shard;
use crate::io::sip::admission::{Admitted, Supervision, Whom};
use crate::io::sip::controller::{End, Message, open_media, release};
use crate::io::sip::endings::{About, Watch, Wish};
use crate::io::sip::fault::Fault;
use crate::io::sip::line::Line;
use crate::io::sip::named::Named;
use crate::io::sip::policy::{self, Asked, Asker, Denied};
use crate::io::sip::registry::{Entry, Unfound, user};
use crate::io::sip::switchboard::{Live, Switchboard};
use crate::io::tts::Synthesiser;
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
    board: Arc<Switchboard>,
    line: Arc<Line>,
    who: Who,
    /// How they called us; none where we called them.
    came: Option<Came>,
    wanted: Supervision,
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
struct Came {
    source: IpAddr,
    srtp: Srtp,
    offer: Option<Description>,
}

/// Where they are.
#[derive(Clone)]
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

/// A call they may hear.
struct Found {
    call: CallId,
    entry: Entry,
    may: May,
    mode: Mode,
    /// The mode they asked for, which may be more than they may.
    wanted: Mode,
    /// Whose place they take.
    replaces: Option<LegId>,
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
    let found = match supervisor.find().await {
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

/// Runs a supervisor whom we have called, from their answer to the last BYE.
pub async fn called(
    supervisor: Supervisor,
    answer: (LegSockets, Local, Description),
    endings: Watch,
    messages: mpsc::Receiver<Message>,
    live: Live,
) {
    let supervisor = Arc::new(supervisor);
    let span = tracing::info_span!("supervisor");
    let work = tokio::spawn(let_in(supervisor.clone(), answer, endings, messages).instrument(span.clone()));
    let end = work.await.unwrap_or_else(|_| End::new("internal error", 500));
    supervisor.end(end).instrument(span).await;
    drop(live);
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

    /// The one call they want to hear, if they may.
    async fn find(&self) -> Result<Found, End> {
        let registry = &self.board.host.registry;
        let (call, entry, replaces) = match &self.wanted.whom {
            Whom::Dialled(who) if who.is_empty() => {
                return Err(End::new("dial the agent's number or the call's code after the star code", 484));
            }
            Whom::Dialled(who) => registry.meant(who).map(|(call, entry)| (call, entry, None))?,
            Whom::Named(Named::Call(call)) => (*call, registry.get(*call).ok_or_else(gone_call)?, None),
            Whom::Named(Named::Seat(call, leg)) => (*call, registry.get(*call).ok_or_else(gone_call)?, Some(*leg)),
        };
        if entry.agents.is_empty() {
            return Err(End::new("the agent of this call is not on the line yet: try again in a moment", 480));
        }
        let may = match self.came {
            Some(_) => self.may_hear(&entry).map_err(|denied| End::new(denied.to_string(), 403))?,
            // Whoever had them called answers for that.
            None => May::ALL,
        };
        let wanted = match replaces {
            Some(leg) => mode_of(&entry, call, leg).await.ok_or_else(gone_call)?,
            None => self.wanted.mode,
        };
        // Who may not be heard is let in to hear.
        let mode = if may.be_in(wanted) { wanted } else { Mode::Spy };
        Ok(Found { call, entry, may, mode, wanted, replaces })
    }

    fn may_hear(&self, entry: &Entry) -> Result<May, Denied> {
        let config = &self.board.config;
        let trunk = config.trunks.iter().find(|t| t.name == self.who.trunk).ok_or(Denied::Trunk)?;
        let asker = Asker { trunk, identity: &self.who.identity };
        policy::may_hear(&config.supervise, asker, Asked { agents: &entry.agents, consent: entry.consent })
    }

    /// Joins the call and answers, in this order wherever the supervisor's own offer allows it.
    async fn join(&self, found: &Found) -> Result<Agreed, End> {
        let Some(came) = &self.came else { return Err(End::new("nobody called", 500)) };
        let (sockets, local) = open_media(&self.line.office, came.source, &self.board, came.srtp)?;
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
        let supervising = self.supervising(found.may, found.mode, media);
        let shard = found.entry.shard.clone();
        let leg = shard.supervise(found.call, supervising, sockets).await.map_err(refused)?;
        self.sits(Some(Seat { call: found.call, shard, leg }));
        Ok(Agreed { local, media, origin: far_end.origin.clone() })
    }

    fn supervising(&self, may: May, mode: Mode, media: LegMedia) -> Supervising {
        Supervising { address: self.who.address.clone(), mode, may, media, onward: None }
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
            others.extend(self.may_hear(&entry).ok().map(|may| (seat.call, entry, may)));
        }
        let Ok(taken) = seat.shard.take(seat.call, seat.leg, "they went on to the next call").await else {
            // Gone already: the endings tell why.
            return Ok(None);
        };
        self.sits(None);
        let mut traveller = Some(taken);
        for (call, entry, may) in others {
            let Some(line) = traveller.take() else { break };
            let watch = self.board.endings.watch(call);
            let supervising = self.supervising(may, Mode::Spy, agreed.media);
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

    /// The calls they may hear beside this one: first those that began after it.
    fn others(&self, here: CallId) -> Vec<(CallId, Entry, May)> {
        let mut calls = self.board.host.registry.list();
        if let Some(at) = calls.iter().position(|(call, _)| *call == here) {
            calls.rotate_left(at);
        }
        let others = calls.into_iter().filter(|(call, entry)| *call != here && !entry.agents.is_empty());
        others.filter_map(|(call, entry)| self.may_hear(&entry).ok().map(|may| (call, entry, may))).collect()
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

/// In which mode a supervisor's leg is. One who has taken over gives back when their leg goes.
async fn mode_of(entry: &Entry, call: CallId, leg: LegId) -> Option<Mode> {
    let Ok(Ack::View(view)) = entry.shard.command(call, Command::Describe).await else { return None };
    let leg = view.legs.iter().find(|l| l.id == leg)?;
    Some(if leg.role == Role::Supervisor { leg.mode.unwrap_or_default() } else { Mode::Spy })
}

/// Whom they hear, and who hears them.
fn announcement(entry: &Entry, mode: Mode, wanted: Mode) -> String {
    let names: Vec<String> = entry.agents.iter().map(|agent| spoken(user(&agent.0))).collect();
    let refused = if mode == wanted { "" } else { "You may not be heard on this call. " };
    let how = match mode {
        Mode::Spy => "Listening to",
        Mode::Whisper => "Whispering to",
        Mode::Barge => "Speaking on the call of",
    };
    format!("{refused}{how} {}.", names.join(" and "))
}

/// A number is read digit by digit.
fn spoken(name: &str) -> String {
    let digits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    let letters = name.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' });
    if digits { name.chars().flat_map(|c| [c, ' ']).collect::<String>().trim().into() } else { letters.collect() }
}

fn gone_call() -> End {
    End::new("there is no such call (any more)", 481)
}

impl Seat {
    async fn command(&self, command: Command) -> Result<Ack, Refusal> {
        self.shard.command(self.call, command).await
    }

    async fn is_there(&self) -> bool {
        matches!(self.command(Command::Describe).await, Ok(Ack::View(view)) if view.legs.iter().any(|l| l.id == self.leg))
    }

    /// In a task of its own: no line waits for a voice.
    async fn say(&self, voice: &Synthesiser, legs: &[LegId], text: &str) {
        match voice.speak(text, None).await {
            Ok(pcm) => {
                for leg in legs {
                    // Refused where it is gone.
                    let told = Command::Tell { leg: *leg, pcm: pcm.clone(), text: text.into() };
                    let _ = self.command(told).await;
                }
            }
            Err(error) => tracing::warn!(%error, "somebody could not be told where they are"),
        }
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

/// The line calls whoever called us the caller, and whom we called the called party.
fn gone(reason: &str) -> End {
    End::new(reason.replacen("caller", "supervisor", 1).replacen("called party", "supervisor", 1), 487)
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

    #[test]
    fn numbers_are_read_digit_by_digit_and_names_as_words() {
        for (name, expected) in [("1001", "1 0 0 1"), ("anna.b", "anna b"), ("call-7", "call 7"), ("", "")] {
            assert_eq!(spoken(name), expected);
        }
    }
}
