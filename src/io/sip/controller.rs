//! The task that owns a call's signalling: it runs the route and listens to both parties at the same time.
//!
//! In come what the parties do ([`Message`]) and the wish to hang up; out go commands to the call's shard. When either
//! the route or a party ends the call, everything of it is ended here, whatever happened.

use crate::call::sdp::{self, Description, Direction, Local, Origin, Srtp};
use crate::call::{Ack, CallOptions, Command, Digit, LegMedia, LegSpec, Refusal};
use crate::event::{Address, Mode, Place, Role};
use crate::id::{CallCode, CallId, ClipId, LegId};
use crate::io::rtp::{self, LegSockets};
use crate::io::shard::Shard;
use crate::io::sip::admission::Admitted;
use crate::io::sip::fault::Fault;
use crate::io::sip::fork::Update;
use crate::io::sip::join::Yielded;
use crate::io::sip::line::{Key, Line, Side};
use crate::io::sip::office::Office;
use crate::io::sip::refer::Refer;
use crate::io::sip::registry::{Entry, Handle};
use crate::io::sip::replace::Newcomer;
use crate::io::sip::switchboard::{Live, Switchboard};
use crate::io::sip::{join, proof, replace, route, silence, stand_in, transfer};
use crate::io::{clock, probes};
use crate::media::codec::Codec;
use rsipstack::sip::StatusCode;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// What a party does.
pub enum Message {
    /// It hung up, or is gone in another way.
    Gone { line: Key, reason: &'static str },
    /// It offers other media, or wants our offer. The answer goes out when the shard has acknowledged.
    Offer { line: Key, offer: Option<Box<Description>>, reply: oneshot::Sender<Result<Vec<u8>, Fault>> },
    /// Its answer to our offer, in an ACK.
    Answered { line: Key, answer: Vec<u8> },
    /// It wants the other party to talk to somebody else (RFC 3515).
    Refers { line: Key, refer: Box<Refer>, reply: oneshot::Sender<Result<(), Fault>> },
    /// Somebody takes its place (RFC 3891). The reply comes when they are answered, or are not to be.
    Replaces { line: Key, newcomer: Box<Newcomer>, reply: oneshot::Sender<Result<(), Fault>> },
    /// The party that talks to it goes to another call of its own, and this one ends.
    /// A customer stays, unless it is `for_a_customer`: then there is none.
    Yields { line: Key, for_a_customer: bool, reply: oneshot::Sender<Result<Option<Box<Yielded>>, Fault>> },
    /// A party of another call takes its place.
    Adopts { line: Key, yielded: Box<Yielded>, reply: oneshot::Sender<Result<(), Fault>> },
    /// Its recording session changes (SIPREC). The body of the answer may be empty.
    Recorded { update: Box<Update>, reply: oneshot::Sender<Result<Vec<u8>, Fault>> },
    /// It told a key by INFO.
    Pressed(Digit),
    /// What it notifies us of, where we asked for that.
    Notified(Vec<u8>),
}

/// Why a call ends.
#[derive(Clone, Debug)]
pub struct End {
    /// For the event.
    pub reason: String,
    /// What a caller is told who was not answered.
    pub refusal: Fault,
}

impl End {
    /// For a reason; a caller who was not answered gets `status`.
    pub fn new(reason: impl Into<String>, status: u16) -> Self {
        let reason = reason.into();
        End { refusal: Fault::new(status, reason.clone()), reason }
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        End::new(format!("the media side refused: {refusal}"), 500)
    }
}

/// A leg that has media.
pub struct Leg {
    /// Its name in the call.
    pub id: LegId,
    /// What it is to the call.
    pub role: Role,
    pub(super) address: Address,
    pub(super) local: Local,
    pub(super) media: LegMedia,
    pub(super) origin: Option<Origin>,
    /// How it puts us on hold, if it does.
    pub(super) hold: Option<Direction>,
    /// Whether it said that it sends.
    pub(super) speaks: bool,
    /// Which way our last offer or answer let media flow.
    pub(super) told: Direction,
    /// What it hears while the other one holds.
    pub(super) music: Option<ClipId>,
}

/// One call, as its route and its mailbox see it.
pub struct Call {
    /// Which.
    pub id: CallId,
    /// Where its media lives.
    pub shard: Shard,
    /// What all calls share.
    pub board: Arc<Switchboard>,
    /// How it came in.
    pub admitted: Admitted,
    /// The line of who called.
    pub caller: Arc<Line>,
    /// The way to the task that owns it.
    pub mailbox: mpsc::Sender<Message>,
    /// Cancelled when it ends.
    pub over: CancellationToken,
    parties: Mutex<Parties>,
}

/// Who is on the call. Locked for single reads and writes only.
#[derive(Default)]
pub(super) struct Parties {
    caller: Option<Leg>,
    /// The line of who has the caller's place: of who called, until somebody else takes it.
    caller_line: Option<Arc<Line>>,
    /// Our answer to the caller, where they hear something before it; none once they are answered.
    early: Option<Vec<u8>>,
    called: Option<Leg>,
    /// The line of the party that answered.
    called_line: Option<Arc<Line>>,
    /// Those being called. Bounded by the addresses of a `connect`.
    calling: Vec<Arc<Line>>,
    /// Where somebody is about to change.
    pub(super) change: Option<Change>,
}

/// A party is to be replaced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// At this end.
    pub seat: Side,
    /// How it left meanwhile, if it did.
    pub gone: Option<&'static str>,
}

/// Runs a call from its INVITE to its last BYE.
pub async fn run(
    board: Arc<Switchboard>,
    caller: Arc<Line>,
    admitted: Admitted,
    messages: mpsc::Receiver<Message>,
    live: Live,
) {
    let id = CallId::new(clock::wall_ms().max(0) as u64, 0, 0, clock::random());
    let span = tracing::info_span!("call", %id);
    let shard = board.host.shard_for_next();
    let (handle, wish) = Handle::new();
    let (from, to) = (admitted.caller.clone(), admitted.called.clone());
    let code = board.host.registry.insert(id, Entry::new(shard.clone(), handle, from, to));
    board.belong(&caller, (id, None));
    let parties = Mutex::new(Parties { caller_line: Some(caller.clone()), ..Parties::default() });
    let (mailbox, over) = (caller.mailbox(), CancellationToken::new());
    let call = Arc::new(Call { id, shard, board, admitted, caller, mailbox, over, parties });
    // In a task of its own, so that a panic in it still ends the call properly.
    let work = tokio::spawn(conduct(call.clone(), code, messages, wish).instrument(span.clone()));
    let end = work.await.unwrap_or_else(|_| End::new("internal error", 500));
    call.end(end).instrument(span).await;
    drop(live);
}

async fn conduct(
    call: Arc<Call>,
    code: CallCode,
    mut messages: mpsc::Receiver<Message>,
    mut wish: watch::Receiver<Option<String>>,
) -> End {
    let config = &call.board.config;
    let options = CallOptions {
        seed: clock::random(),
        caller: call.admitted.caller.clone(),
        called: call.admitted.called.clone(),
        code: Some(code),
        listen: config.speech.model.is_some() || config.media.tap,
        record: config.recording.enabled,
        ears: config.coach.ears,
    };
    // Watched from before the first clip, so that no ending is missed.
    let mut endings = call.board.endings.watch(call.id);
    let mut changes = call.board.endings.watch(call.id);
    if let Some(conversations) = call.board.host.conversations.as_ref().filter(|_| options.listen) {
        conversations.open(call.id, config.coach.playbook.as_str().into());
    }
    if let Err(refusal) = call.shard.open(call.id, options).await {
        return refusal.into();
    }
    if let Err(refusal) = call.goes_over(&call.admitted.trunk).await {
        return refusal.into();
    }
    tokio::select! {
        biased;
        reason = wished(&mut wish) => End::new(reason, 480),
        end = listen_to(&call, &mut messages) => end,
        end = route::run(&call, &mut endings) => end,
        end = silence::watch(&call) => end,
        end = proof::watch(&call, &mut changes) => end,
    }
}

/// Waits until somebody wishes the call's end, and says why.
pub async fn wished(wish: &mut watch::Receiver<Option<String>>) -> String {
    let told = wish.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    match told {
        Some(reason) => reason,
        // Nobody is left who could wish.
        None => std::future::pending().await,
    }
}

/// Serves the parties until one of them is gone for whom nobody stands in.
async fn listen_to(call: &Arc<Call>, messages: &mut mpsc::Receiver<Message>) -> End {
    let (side, reason) = match serve(call, messages).await {
        Ok(gone) => gone,
        Err(end) => return end,
    };
    match stand_in::of(call, side).await {
        Some(leg) => {
            let mut endings = call.board.endings.watch(call.id);
            stand_in::let_go(call, side, reason).await;
            tokio::select! {
                end = stand_in::left(call, leg, &mut endings) => end,
                gone = serve(call, messages) => gone.map_or_else(|end| end, |(_, reason)| End::new(reason, 487)),
            }
        }
        None => End::new(reason, 487),
    }
}

/// Serves the parties until one of them is gone: which, and why.
async fn serve(call: &Arc<Call>, messages: &mut mpsc::Receiver<Message>) -> Result<(Side, &'static str), End> {
    while let Some(message) = messages.recv().await {
        match message {
            Message::Gone { line, reason } => {
                if let Some(side) = call.loses(&line, reason).await {
                    return Ok((side, reason));
                }
            }
            // Who asks and does not wait for the answer asks again.
            Message::Offer { line, offer, reply } => {
                let answer = match call.seat_of(&line) {
                    Some(side) => call.renegotiate(side, offer).await,
                    None => Err(no_party()),
                };
                let _ = reply.send(answer);
            }
            Message::Answered { line, answer } => {
                let Some(side) = call.seat_of(&line) else { continue };
                if let Err(fault) = call.answered_late(side, &answer).await {
                    return Err(End::new(format!("the answer in an ACK was unusable: {}", fault.reason), 488));
                }
            }
            Message::Refers { line, refer, reply } => {
                let _ = reply.send(transfer::asked(call, &line, *refer).await);
            }
            Message::Replaces { line, newcomer, reply } => replace::begin(call, &line, *newcomer, reply),
            Message::Adopts { line, yielded, reply } => {
                let _ = reply.send(join::adopt(call, &line, *yielded).await);
            }
            Message::Yields { line, for_a_customer, reply } => {
                let given = join::give(call, &line, for_a_customer).await;
                let over = matches!(given, Ok(Some(_)));
                // Who asked is gone: so is the party, whose line hangs up.
                let _ = reply.send(given.map(|given| given.map(Box::new))).map_err(join::lost);
                if over {
                    return Err(End::new(join::JOINED, 480));
                }
            }
            // The keys of those who talk steer nothing here, and nobody's recording session is a call's.
            Message::Pressed(_) | Message::Notified(_) | Message::Recorded { .. } => {}
        }
    }
    std::future::pending().await
}

/// A line whose peer has no part in the call any more, or none yet.
pub(super) fn no_party() -> Fault {
    Fault::new(481, "there is no such call here (any more)")
}

impl Call {
    /// Where the peer of a line sits, if it is a party.
    pub fn seat_of(&self, line: &Key) -> Option<Side> {
        [Side::Caller, Side::Called].into_iter().find(|side| self.line(*side).is_some_and(|l| l.key == *line))
    }

    /// A line's peer is gone: where the call misses it. Who is about to be replaced is missed only if nobody comes.
    async fn loses(&self, line: &Key, reason: &'static str) -> Option<Side> {
        // Who hangs up as soon as they have answered may not be seated yet.
        let called = |parties: &Parties| parties.change.is_none() && parties.calling.iter().any(|l| l.key == *line);
        let side = self.seat_of(line).or_else(|| called(&self.parties()).then_some(Side::Called))?;
        let leg = {
            let mut parties = self.parties();
            match parties.change.as_mut().filter(|change| change.seat == side) {
                Some(change) => change.gone = Some(reason),
                None => return Some(side),
            }
            parties.leg(side).map(|leg| leg.id)?
        };
        // Refused only where it is out already.
        let _ = self.command(Command::RemoveLeg { leg, reason: reason.into() }).await;
        None
    }

    /// The call goes over this trunk: what may be offered there is all that may be offered.
    pub async fn goes_over(&self, trunk: &str) -> Result<(), Refusal> {
        match probes::proven(&self.board.config, trunk, probes::Kind::Call).await {
            Some(proven) => self.command(Command::Prove(proven)).await.map(drop),
            None => Ok(()),
        }
    }

    /// The caller's leg, if it has media.
    pub fn caller_leg(&self) -> Option<LegId> {
        self.parties().caller.as_ref().map(|l| l.id)
    }

    /// Whether the caller was answered.
    pub fn is_answered(&self) -> bool {
        let parties = self.parties();
        parties.caller.is_some() && parties.early.is_none()
    }

    /// The codec a party uses, or those the caller would rather use, then all others: what comes first can be relayed.
    pub fn codecs_of(&self, side: Side) -> Vec<Codec> {
        let used = self.parties().leg(side).map(|l| l.media.codec);
        let offered = self.admitted.offer.as_ref().map(|o| o.codecs.iter().map(|(c, _)| *c).collect::<Vec<_>>());
        let mut wished: Vec<Codec> = used.into_iter().chain(offered.unwrap_or_default()).collect();
        wished.extend(Codec::ALL);
        let mut unique = Vec::new();
        wished.into_iter().for_each(|c| {
            if !unique.contains(&c) {
                unique.push(c)
            }
        });
        unique
    }

    /// The other end's address: what a party who is called for them is shown.
    pub fn address_of(&self, side: Side) -> Address {
        self.parties().leg(side).map_or_else(|| self.admitted.caller.clone(), |leg| leg.address.clone())
    }

    /// Whether both parties are there.
    pub fn is_connected(&self) -> bool {
        let parties = self.parties();
        parties.caller.is_some() && parties.early.is_none() && parties.called.is_some() && parties.called_line.is_some()
    }

    /// The line to a party we call, from its INVITE on.
    pub fn calling(&self, line: Arc<Line>) {
        self.board.connect(line.clone());
        self.board.belong(&line, (self.id, None));
        self.parties().calling.push(line);
    }

    /// A party we called does not come: the line is ended elsewhere.
    pub fn not_calling(&self, line: &Line) {
        self.parties().calling.retain(|other| other.key != line.key);
    }

    /// A party we called has answered, and has the call.
    pub fn took(&self, line: &Arc<Line>) {
        self.not_calling(line);
        self.parties().called_line = Some(line.clone());
    }

    /// One party is gone, the other stays: its leg and its line, which are to be ended.
    pub(super) fn part_with(&self, side: Side) -> Option<(LegId, Arc<Line>)> {
        let (leg, line) = self.parties().take(side)?;
        Some((leg.id, line))
    }

    /// Answers the caller, if that was not done yet. Where it can be chosen, the codec is `preferred`.
    pub async fn answer(&self, preferred: Option<Codec>) -> Result<LegId, End> {
        if let Some(provisional) = &self.caller.provisional {
            // RFC 3262 §3: no answer before what was said is known to have arrived.
            provisional.settled().await;
        }
        let early = self.parties().early.take();
        match (self.caller_leg(), early) {
            (Some(leg), None) => Ok(leg),
            (Some(leg), Some(body)) => {
                self.accept(body)?;
                self.command(Command::SetPlace { leg, place: Place::InConversation }).await?;
                Ok(leg)
            }
            (None, _) => {
                let (sockets, local) = self.open_caller()?;
                match &self.admitted.offer {
                    Some(offer) => self.answer_offer(offer, preferred, sockets, local).await,
                    None => self.answer_with_offer(sockets, local).await,
                }
            }
        }
    }

    /// Lets a caller who is not answered yet hear what is played (183). One who offered nothing can hear nothing.
    pub async fn progress(&self, preferred: Option<Codec>) -> Result<(), End> {
        let (None, Some(offer)) = (self.caller_leg(), &self.admitted.offer) else { return Ok(()) };
        let (sockets, local) = self.open_caller()?;
        let media = offer.settle(preferred).ok_or_else(|| End::new("no common codec", 488))?;
        let address = self.admitted.caller.clone();
        let joined = self.join(Side::Caller, address, (media, offer), (sockets, local), Place::Waiting).await?;
        let answer = offer.answer(&joined.local, &media);
        {
            let mut parties = self.parties();
            (parties.caller, parties.early) = (Some(joined), Some(answer.clone()));
        }
        self.caller.progress(Some(answer)).await;
        Ok(())
    }

    fn open_caller(&self) -> Result<(LegSockets, Local), End> {
        open_media(&self.caller.office, self.admitted.source.ip(), &self.board, self.admitted.terms.srtp)
    }

    async fn answer_offer(
        &self,
        offer: &Description,
        preferred: Option<Codec>,
        sockets: LegSockets,
        local: Local,
    ) -> Result<LegId, End> {
        let media = offer.settle(preferred).ok_or_else(|| End::new("no common codec", 488))?;
        let (address, place) = (self.admitted.caller.clone(), Place::InConversation);
        let joined = self.join(Side::Caller, address, (media, offer), (sockets, local), place).await?;
        let (id, answer) = (joined.id, offer.answer(&joined.local, &media));
        self.accept(answer)?;
        self.parties().caller = Some(joined);
        Ok(id)
    }

    /// RFC 3261 §13.2.1: an INVITE without an offer gets ours in the 2xx, and answers it in the ACK.
    async fn answer_with_offer(&self, sockets: LegSockets, local: Local) -> Result<LegId, End> {
        self.accept(sdp::offer(&local, &self.codecs_of(Side::Caller)))?;
        self.caller.established().await;
        let unusable = |fault: String| End::new(format!("the answer in the ACK was unusable: {fault}"), 488);
        let answer = Description::read(&self.caller.acknowledged_with(), local.terms());
        let answer = answer.map_err(|e| unusable(e.to_string()))?;
        let media = answer.settle(None).ok_or_else(|| unusable("no codec".into()))?;
        let (address, place) = (self.admitted.caller.clone(), Place::InConversation);
        let joined = self.join(Side::Caller, address, (media, &answer), (sockets, local), place).await?;
        let id = joined.id;
        self.parties().caller = Some(joined);
        Ok(id)
    }

    fn accept(&self, body: Vec<u8>) -> Result<(), End> {
        self.caller.accept(body).map_err(|e| End::new(format!("cannot answer: {e}"), 500))
    }

    /// The party we called has media.
    pub async fn join_called(
        &self,
        to: Address,
        settled: (LegMedia, &Description),
        sockets: LegSockets,
        local: Local,
        place: Place,
    ) -> Result<(), End> {
        let joined = self.join(Side::Called, to, settled, (sockets, local), place).await?;
        self.parties().called = Some(joined);
        Ok(())
    }

    /// The party that was heard before it answered has answered.
    pub async fn called_is_there(&self, address: Address) -> Result<(), End> {
        let Some(leg) = self.parties().called.as_ref().map(|leg| leg.id) else { return Ok(()) };
        self.command(Command::SetPlace { leg, place: Place::InConversation }).await?;
        self.found_agent(self.role(Side::Called), address);
        Ok(())
    }

    /// The party that was heard before it answered does not come.
    pub async fn drop_called(&self, why: &str) {
        let Some(leg) = self.parties().called.take() else { return };
        // Refused only where the call is over, and its legs with it.
        let _ = self.command(Command::RemoveLeg { leg: leg.id, reason: why.into() }).await;
    }

    fn found_agent(&self, role: Role, address: Address) {
        if role == Role::Agent {
            self.board.host.registry.has_agent(self.id, address);
        }
    }

    /// A party's leg, at its end of the call.
    async fn join(
        &self,
        side: Side,
        address: Address,
        settled: (LegMedia, &Description),
        ours: (LegSockets, Local),
        place: Place,
    ) -> Result<Leg, End> {
        let leg = self.join_as(self.role(side), address.clone(), settled, ours, place).await?;
        if place == Place::InConversation {
            self.found_agent(leg.role, address);
        }
        Ok(leg)
    }

    /// A leg in this role: what was settled on, and the description it was read from.
    pub(super) async fn join_as(
        &self,
        role: Role,
        address: Address,
        (media, far_end): (LegMedia, &Description),
        (mut sockets, mut local): (LegSockets, Local),
        place: Place,
    ) -> Result<Leg, End> {
        sockets.srtp = far_end.keys(&local);
        local.agree(sockets.srtp, clock::secret);
        tracing::info!(?role, codec = ?media.codec, srtp = local.is_protected(), "a party has media");
        let spec = LegSpec { role, place, mode: Mode::Spy, address: address.clone(), media };
        let id = self.shard.add_leg(self.id, spec, sockets).await?;
        let hold = far_end.hold();
        if hold.is_some() {
            self.command(Command::SetHeld { leg: id, place: self.place_on_hold(hold) }).await?;
        }
        let (origin, told, speaks) = (Some(far_end.origin.clone()), Direction::SendRecv, far_end.sends());
        Ok(Leg { id, role, address, local, media, origin, hold, speaks, told, music: None })
    }

    /// What the route says that a party is.
    fn role(&self, side: Side) -> Role {
        match (side, self.admitted.route.caller_is_agent) {
            (Side::Caller, false) | (Side::Called, true) => Role::Customer,
            (Side::Caller, true) | (Side::Called, false) => Role::Agent,
        }
    }

    /// Ends it.
    pub fn hang_up(&self, reason: &str) {
        if let Some(entry) = self.board.host.registry.get(self.id) {
            entry.handle.hangup(reason);
        }
    }

    /// A command to the call's shard.
    pub async fn command(&self, command: Command) -> Result<Ack, Refusal> {
        self.shard.command(self.id, command).await
    }

    /// Ends everything of the call: media first, then both lines side by side.
    async fn end(&self, end: End) {
        tracing::info!(reason = %end.reason, "the call ends");
        // Refused only where the call never began or is over.
        self.over.cancel();
        let _ = self.command(Command::End { reason: end.reason.clone() }).await;
        self.board.host.registry.remove(self.id);
        let (caller, others) = {
            let mut parties = self.parties();
            let others = parties.called_line.take().into_iter().chain(std::mem::take(&mut parties.calling));
            let others: Vec<_> = others.collect();
            (parties.caller_line.take(), others)
        };
        let refusal: StatusCode = end.refusal.status_code();
        let mut releases = JoinSet::new();
        for line in others {
            let (board, why) = (self.board.clone(), end.reason.clone());
            releases.spawn(async move { release(&board, &line, None, &why).await });
        }
        if let Some(caller) = caller {
            release(&self.board, &caller, Some(refusal), &end.reason).await;
        }
        releases.join_all().await;
    }

    /// The line of a party, where there is one.
    pub fn line(&self, side: Side) -> Option<Arc<Line>> {
        let parties = self.parties();
        match side {
            Side::Caller => parties.caller_line.clone(),
            Side::Called => parties.called_line.clone(),
        }
    }

    pub(super) fn parties(&self) -> MutexGuard<'_, Parties> {
        self.parties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parties {
    pub fn leg(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Caller => self.caller.as_mut(),
            Side::Called => self.called.as_mut(),
        }
    }

    /// Takes a party out.
    pub fn take(&mut self, side: Side) -> Option<(Leg, Arc<Line>)> {
        let (leg, line) = match side {
            Side::Caller => (&mut self.caller, &mut self.caller_line),
            Side::Called => (&mut self.called, &mut self.called_line),
        };
        leg.take().zip(line.take())
    }

    /// Seats a party.
    pub fn seat(&mut self, side: Side, leg: Leg, line: Arc<Line>) {
        let (there, its_line) = match side {
            Side::Caller => (&mut self.caller, &mut self.caller_line),
            Side::Called => (&mut self.called, &mut self.called_line),
        };
        (*there, *its_line) = (Some(leg), Some(line));
    }
}

/// Ends a line and forgets it: the stack keeps every dialog until it is told to let go.
pub async fn release(board: &Switchboard, line: &Line, refusal: Option<StatusCode>, why: &str) {
    line.done.cancel();
    line.end(refusal, why).await;
    board.disconnect(line);
    line.office.dialogs.remove_dialog(&line.dialog.id());
}

/// Sockets for a leg, and what SDP says of them.
pub fn open_media(office: &Office, peer: IpAddr, board: &Switchboard, srtp: Srtp) -> Result<(LegSockets, Local), End> {
    let sockets = rtp::open(office.local.ip(), &board.config.media.ports).map_err(|error| {
        tracing::error!(%error, "no sockets for a leg");
        End::new("no media ports are free", 503)
    })?;
    let rtp = SocketAddr::new(office.address_for(peer), sockets.local.port());
    // RFC 8866 §5.2: a number that no other session has; it must fit where peers expect 63 bits.
    let session = clock::random() >> 1;
    Ok((sockets, Local::new(rtp, session, srtp, clock::secret)))
}
