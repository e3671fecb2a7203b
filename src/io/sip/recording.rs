//! The task that owns a recording session (SIPREC, RFC 7866): every stream that is sent to us becomes a leg of a call, a
//! customer's or an agent's, that can be heard and never spoken to. The same for a line that a route says is one party's copy
//! (`fork`), and for one that leads to an agent's ear: that one alone is spoken to.
//!
//! In come what the client does ([`Message`]) and the wish to hang up; out go commands to the call's shard. The call is
//! opened by the first session of its communication and ends with the last.

use crate::call::sdp::{self, Accepted, Direction, Local, Stream, Streams};
use crate::call::{Ack, CallOptions, CallView, Command, LegMedia, LegSpec, Refusal};
use crate::config::{Siprec, Step};
use crate::event::{Address, Mode, Place, Role};
use crate::id::{CallId, LegId};
use crate::io::clock;
use crate::io::sip::admission::{self, Admitted};
use crate::io::sip::communication::Seat;
use crate::io::sip::controller::{End, Message, open_media, release, wished};
use crate::io::sip::door::ALLOW;
use crate::io::sip::fault::Fault;
use crate::io::sip::fork::{self, OPTION, One, Opening, Update};
use crate::io::sip::line::Line;
use crate::io::sip::registry::{Entry, Handle, user};
use crate::io::sip::switchboard::{Live, Switchboard};
use crate::io::siprec::{self, Metadata, Participant, Speaker};
use crate::media::codec::Codec;
use rsipstack::sip::{Header, Method};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::mpsc;
use tracing::Instrument;

/// How often a client is asked who its streams are: one that does not know it by then does not know.
const QUESTIONS: usize = 3;

/// One recording session.
struct Session {
    board: Arc<Switchboard>,
    line: Arc<Line>,
    admitted: Admitted,
    seat: OnceLock<Seat>,
    /// Its legs, for its end.
    joined: Mutex<Vec<LegId>>,
    /// The route whose steps were taken last.
    route: Mutex<Option<String>>,
    /// How often the client may still be asked.
    questions: AtomicUsize,
}

/// What is agreed on with the client.
struct Agreed {
    people: People,
    /// Names our session and its version; every stream has a port of its own.
    ours: Local,
    received: Vec<Received>,
}

/// What is known of who takes part.
struct People {
    rules: Siprec,
    metadata: Metadata,
    /// Whose every stream is, where a route says so.
    one: Option<One>,
}

/// A stream with its leg.
struct Received {
    leg: LegId,
    cast: Cast,
    stream: Stream,
    local: Local,
    media: LegMedia,
}

/// Who a stream is.
#[derive(Clone)]
struct Cast {
    role: Role,
    /// Their id at the client, as far as that was said.
    speaker: Option<String>,
    address: Address,
    /// Whether nothing they send is meant for us.
    held: bool,
}

/// Runs a recording session from its INVITE to its BYE.
pub async fn run(
    board: Arc<Switchboard>,
    line: Arc<Line>,
    admitted: Admitted,
    opening: Opening,
    messages: mpsc::Receiver<Message>,
    live: Live,
) {
    let questions = AtomicUsize::new(if opening.can_be_asked { QUESTIONS } else { 0 });
    let (joined, route) = (Mutex::default(), Mutex::default());
    let session = Session { board, line, admitted, seat: OnceLock::new(), joined, route, questions };
    let (session, span) = (Arc::new(session), tracing::info_span!("recording session"));
    // In a task of its own, so that a panic in it still ends the session properly.
    let work = tokio::spawn(conduct(session.clone(), opening, messages).instrument(span.clone()));
    let end = work.await.unwrap_or_else(|_| End::new("internal error", 500));
    session.end(end).instrument(span).await;
    drop(live);
}

async fn conduct(session: Arc<Session>, opening: Opening, mut messages: mpsc::Receiver<Message>) -> End {
    let mut agreed = match session.begin(opening).await {
        Ok(agreed) => agreed,
        Err(end) => return end,
    };
    let Some(mut wish) = session.seat.get().map(|seat| seat.wish.clone()) else {
        return End::new("internal error", 500);
    };
    tokio::select! {
        biased;
        reason = wished(&mut wish) => End::new(reason, 480),
        end = session.listen_to(&mut agreed, &mut messages) => end,
    }
}

impl Session {
    /// Finds or opens the call, joins every stream, and answers, in this order.
    async fn begin(&self, opening: Opening) -> Result<Agreed, End> {
        let Opening { trunk, rules, streams, metadata, one, .. } = opening;
        let people = People { rules, metadata: metadata.unwrap_or_default(), one };
        if self.board.routes(&people.metadata) {
            return Err(End::new("this communication goes through here already, and is heard there", 488));
        }
        let (cast, names) = (people.cast(&[], &[], &streams.each), people.communications());
        let seat = self.board.recordings.join(&trunk, names, self.open(&cast, people.one.as_ref())).await?;
        tracing::info!(call = %seat.call, streams = streams.each.len(), "a recording session");
        let _ = self.seat.set(seat);
        let here = SocketAddr::new(self.line.office.address_for(self.admitted.source.ip()), 0);
        let ours = Local::new(here, clock::random() >> 1, self.admitted.terms.srtp, clock::secret);
        let mut agreed = Agreed { people, ours, received: Vec::new() };
        let refused = |fault: Fault| End { reason: fault.reason.clone(), refusal: fault };
        self.follow(&mut agreed, &streams).await.map_err(refused)?;
        self.accept(agreed.answer(&streams))?;
        self.ask_who(&agreed);
        Ok(agreed)
    }

    /// A new call, named by its first participants.
    async fn open(&self, cast: &[Cast], one: Option<&One>) -> Result<Seat, End> {
        let (board, shard) = (&self.board, self.board.host.shard_for_next());
        let call = CallId::new(clock::wall_ms().max(0) as u64, 0, 0, clock::random());
        let named = |role, otherwise: &Address| {
            cast.iter().find(|c| c.role == role).map_or_else(|| otherwise.clone(), |c| c.address.clone())
        };
        // A copied line is called by one party and tells nothing of the other: what it is a part of stands for them.
        let of = one.map(|one| Address::from(one.of.as_str()));
        let caller = named(Role::Customer, of.as_ref().unwrap_or(&self.admitted.caller));
        let called = named(Role::Agent, of.as_ref().unwrap_or(&self.admitted.called));
        let (handle, wish) = Handle::new();
        let code = board.host.registry.insert(call, Entry::new(shard.clone(), handle, caller.clone(), called.clone()));
        let config = &board.config;
        let options = CallOptions {
            seed: clock::random(),
            caller,
            called,
            code: Some(code),
            listen: config.speech.model.is_some() || config.media.tap,
            record: config.recording.enabled,
            ears: config.coach.ears,
        };
        if let Some(conversations) = board.host.conversations.as_ref().filter(|_| options.listen) {
            conversations.open(call, config.coach.playbook.as_str().into());
        }
        if let Err(refusal) = shard.open(call, options).await {
            board.host.registry.remove(call);
            return Err(refusal.into());
        }
        Ok(Seat { call, shard, wish })
    }

    /// RFC 7866 §6.1.2: our Contact says that we are a recording server.
    fn accept(&self, body: Vec<u8>) -> Result<(), End> {
        let headers = vec![
            Header::ContentType("application/sdp".into()),
            Header::Allow(ALLOW.into()),
            Header::Supported(OPTION.into()),
            fork::contact(self.line.office.contact_for(self.admitted.source.ip())),
        ];
        let accepted = self.line.dialog.accept(Some(headers), Some(body));
        accepted.map_err(|error| End::new(format!("cannot answer: {error}"), 500))
    }

    /// Serves the client until it is gone.
    async fn listen_to(&self, agreed: &mut Agreed, messages: &mut mpsc::Receiver<Message>) -> End {
        while let Some(message) = messages.recv().await {
            match message {
                // The line calls whoever called us the caller.
                Message::Gone { reason, .. } => return End::new(reason.replacen("caller", "recording client", 1), 487),
                Message::Recorded { update, reply } => {
                    // A client that does not wait for the answer asks again.
                    let _ = reply.send(self.update(agreed, *update).await);
                }
                Message::Answered { answer, .. } => {
                    if let Err(fault) = self.answered(agreed, &answer).await {
                        return End::new(format!("the answer in an ACK was unusable: {}", fault.reason), 488);
                    }
                }
                // Its requests are told as `Recorded`.
                // Nor is anybody there who could be transferred: whoever asks has no answer, which is one.
                Message::Offer { .. }
                | Message::Pressed(_)
                | Message::Notified(_)
                | Message::Refers { .. }
                | Message::Replaces { .. }
                | Message::Yields { .. }
                | Message::Adopts { .. } => {}
            }
        }
        std::future::pending().await
    }

    /// A re-INVITE or an UPDATE: the shard knows before the client does (DESIGN §2.6). Answers the body of the 200, empty
    /// where nothing was offered.
    async fn update(&self, agreed: &mut Agreed, update: Update) -> Result<Vec<u8>, Fault> {
        if let Some(newer) = update.metadata {
            agreed.people.metadata.update(newer);
            if let Some(seat) = self.seat.get() {
                self.board.recordings.learn(seat.call, agreed.people.communications()).await;
            }
        }
        let answer = self.answer_to(agreed, update.streams, update.wants_offer).await?;
        self.ask_who(agreed);
        Ok(answer)
    }

    async fn answer_to(
        &self,
        agreed: &mut Agreed,
        streams: Option<Streams>,
        wants_offer: bool,
    ) -> Result<Vec<u8>, Fault> {
        agreed.ours.version = agreed.ours.version.saturating_add(1);
        match streams {
            Some(streams) => {
                self.follow(agreed, &streams).await?;
                Ok(agreed.answer(&streams))
            }
            None => {
                self.recast_all(agreed).await?;
                Ok(if wants_offer { sdp::offer_again(&agreed.ours, &agreed.accepted()) } else { Vec::new() })
            }
        }
    }

    /// Asks the client for all it knows, where a stream of its is nobody's; it tells by a request of its own.
    fn ask_who(&self, agreed: &Agreed) {
        let known = |r: &Received| r.cast.speaker.is_some();
        let left = |questions: usize| questions.checked_sub(1);
        if agreed.people.one.is_some()
            || agreed.received.iter().all(known)
            || self.questions.fetch_update(Ordering::AcqRel, Ordering::Acquire, left).is_err()
        {
            return;
        }
        let line = self.line.clone();
        tokio::spawn(async move {
            line.established().await;
            let (headers, body) = fork::question();
            let answer = line.ask(Method::Update, headers, Some(body)).await;
            let status = answer.map(|answer| answer.status_code.code());
            tracing::info!(?status, "the recording client was asked who its streams are");
        });
    }

    async fn answered(&self, agreed: &mut Agreed, answer: &[u8]) -> Result<(), Fault> {
        let streams = Streams::read(answer, self.line.terms)?;
        self.follow(agreed, &streams).await
    }

    /// Makes the legs what the client describes: streams that ended go, those that go on are renegotiated, new ones join.
    async fn follow(&self, agreed: &mut Agreed, streams: &Streams) -> Result<(), Fault> {
        let goes_on = |r: &Received| streams.each.iter().any(|s| s.line == r.stream.line);
        let (kept, ended): (Vec<_>, Vec<_>) = std::mem::take(&mut agreed.received).into_iter().partition(goes_on);
        agreed.received = kept;
        for received in ended {
            self.remove(received.leg, "the stream has ended").await;
        }
        let cast = self.cast(agreed, &streams.each).await?;
        for (stream, cast) in streams.each.iter().zip(cast) {
            match agreed.received.iter_mut().find(|r| r.stream.line == stream.line) {
                Some(received) => {
                    self.renegotiate(received, stream).await?;
                    self.recast(received, cast).await?;
                }
                None => {
                    let joined = self.join(stream, cast).await?;
                    agreed.received.push(joined);
                }
            }
        }
        agreed.received.sort_by_key(|r| r.stream.line);
        self.make_known().await
    }

    async fn join(&self, stream: &Stream, cast: Cast) -> Result<Received, Fault> {
        let (source, srtp) = (self.admitted.source.ip(), self.admitted.terms.srtp);
        let opened = open_media(&self.line.office, source, &self.board, srtp);
        let (mut sockets, mut local) = opened.map_err(|end| end.refusal)?;
        let media = cast.settle(stream, None)?;
        sockets.srtp = stream.description.keys(&local);
        local.agree(sockets.srtp, clock::secret);
        let address = cast.address.clone();
        let spec = LegSpec { role: cast.role, place: Place::InConversation, mode: Mode::Spy, address, media };
        let seat = self.seat.get().ok_or_else(gone)?;
        let leg = seat.shard.add_leg(seat.call, spec, sockets).await.map_err(refused)?;
        self.joined().push(leg);
        if cast.held {
            self.hold(leg, true).await?;
        }
        Ok(Received { leg, cast, stream: stream.clone(), local, media })
    }

    async fn renegotiate(&self, received: &mut Received, stream: &Stream) -> Result<(), Fault> {
        let media = received.cast.settle(stream, Some(received.media.codec))?;
        let keys = stream.description.keys(&received.local);
        let moved = received.stream.description.origin != stream.description.origin;
        let changed = moved || received.stream.description != stream.description;
        received.local.agree(keys, clock::secret);
        (received.stream, received.media) = (stream.clone(), media);
        let leg = received.leg;
        if moved {
            self.command(Command::FarEndChanged { leg }).await?;
        }
        if changed {
            let seat = self.seat.get().ok_or_else(gone)?;
            seat.shard.set_media(seat.call, leg, media, keys).await.map_err(refused)?;
        }
        Ok(())
    }

    /// Makes every leg that of whom the metadata names now.
    async fn recast_all(&self, agreed: &mut Agreed) -> Result<(), Fault> {
        let streams: Vec<Stream> = agreed.received.iter().map(|r| r.stream.clone()).collect();
        let cast = self.cast(agreed, &streams).await?;
        for (received, cast) in agreed.received.iter_mut().zip(cast) {
            self.recast(received, cast).await?;
        }
        self.make_known().await
    }

    /// A voice that was another's until now begins anew.
    async fn recast(&self, received: &mut Received, cast: Cast) -> Result<(), Fault> {
        let (leg, before) = (received.leg, std::mem::replace(&mut received.cast, cast.clone()));
        if before.speaker.is_some() && before.speaker != cast.speaker {
            self.command(Command::FarEndChanged { leg }).await?;
        }
        if before.role != cast.role {
            self.command(Command::SetRole { leg, role: cast.role }).await?;
        }
        if before.address != cast.address {
            self.command(Command::SetAddress { leg, address: cast.address }).await?;
        }
        if before.held != cast.held {
            self.hold(leg, cast.held).await?;
        }
        Ok(())
    }

    /// What is sent while somebody is on hold is a part of no conversation.
    async fn hold(&self, leg: LegId, held: bool) -> Result<(), Fault> {
        let place = held.then_some(Place::Aside);
        self.command(Command::SetHeld { leg, place }).await.map(drop)
    }

    /// Who is on each stream, beside those whom other sessions of the communication brought.
    async fn cast(&self, agreed: &Agreed, streams: &[Stream]) -> Result<Vec<Cast>, Fault> {
        let ours = self.joined().clone();
        let legs = self.view().await?.legs.into_iter();
        let others: Vec<Role> = legs.filter(|l| !ours.contains(&l.id)).map(|l| l.role).collect();
        Ok(agreed.people.cast(&others, &agreed.received, streams))
    }

    /// Supervisors find the call by its agents, and a route chooses what they are listened to with.
    async fn make_known(&self) -> Result<(), Fault> {
        let view = self.view().await?;
        let of = |role| view.legs.iter().filter(move |l| l.role == role).map(|l| l.address.clone()).collect();
        let (agents, customers): (Vec<Address>, Vec<Address>) = (of(Role::Agent), of(Role::Customer));
        if let Some(seat) = self.seat.get() {
            self.board.host.registry.set_agents(seat.call, agents.clone());
        }
        self.take_route(&agents, &customers).await
    }

    /// Takes the steps of the route that is theirs, unless they were taken already.
    async fn take_route(&self, agents: &[Address], customers: &[Address]) -> Result<(), Fault> {
        let Admitted { route: own, called, caller, trunk, .. } = &self.admitted;
        let route = match own.steps.first() {
            Some(Step::Fork { .. }) => Some(own),
            _ => {
                let named = agents.iter().map(|a| user(&a.0).to_owned());
                let numbers: Vec<String> = std::iter::once(called.0.to_string()).chain(named).collect();
                let caller = customers.first().map_or(&*caller.0, |customer| user(&customer.0));
                admission::recorded(&self.board.config.routes, &numbers, caller, trunk)
            }
        };
        let Some(route) = route else { return Ok(()) };
        let before = self.route.lock().unwrap_or_else(PoisonError::into_inner).replace(route.at.clone());
        if before.as_ref() == Some(&route.at) {
            return Ok(());
        }
        for step in &route.steps {
            self.take(step).await?;
        }
        Ok(())
    }

    async fn take(&self, step: &Step) -> Result<(), Fault> {
        let seat = self.seat.get().ok_or_else(gone)?;
        match step {
            Step::Playbook(name) => {
                if let Some(conversations) = &self.board.host.conversations {
                    conversations.playbook(seat.call, name.as_str().into());
                }
            }
            Step::Consent(consent) => {
                let registry = &self.board.host.registry;
                registry.set_consent(seat.call, &seat.shard, *consent).await.map_err(refused)?;
            }
            // The configuration lets no other step be a recording's; `fork` has been taken.
            Step::Answer | Step::Say(_) | Step::Play(_) | Step::Connect { .. } | Step::Mode(_) => {}
            Step::Supervise { .. } | Step::Fork { .. } | Step::Reject { .. } => {}
        }
        Ok(())
    }

    async fn remove(&self, leg: LegId, reason: &str) {
        // Refused only where the call or its leg is gone already.
        let _ = self.command(Command::RemoveLeg { leg, reason: reason.into() }).await;
        self.joined().retain(|joined| *joined != leg);
    }

    async fn view(&self) -> Result<CallView, Fault> {
        match self.command(Command::Describe).await? {
            Ack::View(view) => Ok(view),
            Ack::Done | Ack::Leg(_) | Ack::Onward(_) | Ack::Clip(_) | Ack::Mode { .. } => Err(gone()),
        }
    }

    async fn command(&self, command: Command) -> Result<Ack, Fault> {
        let seat = self.seat.get().ok_or_else(gone)?;
        seat.shard.command(seat.call, command).await.map_err(refused)
    }

    fn joined(&self) -> std::sync::MutexGuard<'_, Vec<LegId>> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the session's legs out of the call, ends the call where no other session is left in it, and ends the line.
    async fn end(&self, end: End) {
        tracing::info!(reason = %end.reason, "a recording session ends");
        if let Some(seat) = self.seat.get() {
            if self.board.recordings.leave(seat.call).await {
                // Refused only where it is over already.
                let _ = self.command(Command::End { reason: end.reason.clone() }).await;
                self.board.host.registry.remove(seat.call);
            } else {
                let legs = std::mem::take(&mut *self.joined());
                for leg in legs {
                    self.remove(leg, &end.reason).await;
                }
                // Refused only where the call is over.
                let _ = self.make_known().await;
            }
        }
        release(&self.board, &self.line, Some(end.refusal.status_code()), &end.reason).await;
    }
}

impl Agreed {
    fn accepted(&self) -> Vec<Accepted<'_>> {
        self.received.iter().map(|r| Accepted { stream: &r.stream, local: &r.local, media: &r.media }).collect()
    }

    fn answer(&self, streams: &Streams) -> Vec<u8> {
        streams.answer(&self.ours, &self.accepted())
    }
}

impl Cast {
    /// What both sides use. Who is recorded is sent nothing; the way to an agent's ear is nothing but that.
    fn settle(&self, stream: &Stream, preferred: Option<Codec>) -> Result<LegMedia, Fault> {
        let media = match self.role {
            Role::Earpiece => stream.settle_both_ways(preferred),
            Role::Customer | Role::Agent | Role::Supervisor | Role::Bridge => stream.settle(preferred),
        };
        media.ok_or_else(|| Fault::new(488, "no common codec"))
    }

    /// Whoever a stream says that it carries, unless it says that it carries nothing.
    fn unless_held(self, stream: &Stream) -> Cast {
        let silent = match (self.role, stream.description.direction) {
            (_, Direction::Inactive) => true,
            // Nothing is expected to come from an ear.
            (Role::Earpiece, Direction::RecvOnly) => false,
            (Role::Customer | Role::Agent | Role::Supervisor | Role::Bridge, Direction::RecvOnly) => true,
            (_, Direction::SendRecv | Direction::SendOnly) => false,
        };
        Cast { held: self.held || silent, ..self }
    }
}

impl People {
    /// What names the communication. A route's name for a call is as a session's, so that a way to the agent's ear finds the
    /// recording session that goes with it.
    fn communications(&self) -> Vec<String> {
        match &self.one {
            Some(one) => vec![format!("session {}", one.of)],
            None => self.metadata.communications(),
        }
    }

    /// Who is on each stream. `others` are the roles of legs that came by other sessions, `before` what the streams were.
    fn cast(&self, others: &[Role], before: &[Received], streams: &[Stream]) -> Vec<Cast> {
        if let Some(One { role, address, .. }) = &self.one {
            let cast = Cast { role: *role, speaker: None, address: address.clone(), held: false };
            return streams.iter().map(|stream| cast.clone().unless_held(stream)).collect();
        }
        let was = |stream: &Stream| before.iter().find(|r| r.stream.line == stream.line).map(|r| &r.cast);
        let speakers: Vec<_> = streams.iter().map(|stream| self.speaker(stream, was(stream))).collect();
        let roles = siprec::roles(&self.rules, others, &speakers);
        let cast = |((role, Speaker { who, .. }), stream): ((Role, Speaker<'_>), &Stream)| {
            if let Some(held) = was(stream).filter(|was| who.is_none() && self.is_on_hold(was)) {
                return Cast { held: true, ..held.clone() };
            }
            let address = who.and_then(Participant::address).map_or_else(|| stream_name(stream), Address::from);
            Cast { role, speaker: who.map(|who| who.id.clone()), address, held: false }.unless_held(stream)
        };
        roles.into_iter().zip(speakers).zip(streams).map(cast).collect()
    }

    fn speaker(&self, stream: &Stream, was: Option<&Cast>) -> Speaker<'_> {
        let who = stream.label.as_deref().and_then(|label| self.metadata.speaker(label));
        let same =
            |was: &&Cast| was.speaker.as_ref() == who.map(|who| &who.id) || who.is_none() && self.is_on_hold(was);
        Speaker { who, was: was.filter(same).map(|was| was.role) }
    }

    /// Whether whoever was on a stream is there still, and silent.
    fn is_on_hold(&self, was: &Cast) -> bool {
        was.speaker.as_ref().is_some_and(|id| self.metadata.is_on_hold(id))
    }
}

/// What a stream is called of whose speaker nothing is known.
fn stream_name(stream: &Stream) -> Address {
    let label = stream.label.clone().unwrap_or_else(|| (stream.line + 1).to_string());
    Address::from(format!("stream {label}"))
}

fn gone() -> Fault {
    Fault::new(481, "the call is over")
}

fn refused(refusal: Refusal) -> Fault {
    let status = match refusal {
        Refusal::Ended => 481,
        Refusal::Limit(_) => 488,
        Refusal::NoSuchLeg(_)
        | Refusal::NoSuchClip(_)
        | Refusal::NotASupervisor(_)
        | Refusal::NotPrivate(_)
        | Refusal::Unproven(_)
        | Refusal::NoWayBack
        | Refusal::NotPermitted(_)
        | Refusal::NotNow(_)
        | Refusal::Spying
        | Refusal::NobodyListens
        | Refusal::Closed
        | Refusal::Paused
        | Refusal::TooManyClips(_) => 500,
    };
    Fault::new(status, refusal.to_string())
}
