//! The task that owns a recording session (SIPREC, RFC 7866): every stream that is sent to us becomes a leg of a call, a
//! customer's or an agent's, that can be heard and never spoken to.
//!
//! In come what the client does ([`Message`]) and the wish to hang up; out go commands to the call's shard. The call is
//! opened by the first session of its communication and ends with the last.

use crate::call::sdp::{self, Accepted, Local, Stream, Streams};
use crate::call::{Ack, CallOptions, CallView, Command, LegMedia, LegSpec, Refusal};
use crate::config::Siprec;
use crate::event::{Address, Mode, Place, Role};
use crate::id::{CallId, LegId};
use crate::io::clock;
use crate::io::sip::admission::Admitted;
use crate::io::sip::communication::Seat;
use crate::io::sip::controller::{End, Message, open_media, release, wished};
use crate::io::sip::door::ALLOW;
use crate::io::sip::fault::Fault;
use crate::io::sip::fork::{self, OPTION, Opening, Update};
use crate::io::sip::line::Line;
use crate::io::sip::registry::{Entry, Handle};
use crate::io::sip::switchboard::{Live, Switchboard};
use crate::io::siprec::{self, Metadata, Participant, Speaker};
use rsipstack::sip::Header;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::mpsc;
use tracing::Instrument;

/// One recording session.
struct Session {
    board: Arc<Switchboard>,
    line: Arc<Line>,
    admitted: Admitted,
    seat: OnceLock<Seat>,
    /// Its legs, for its end.
    joined: Mutex<Vec<LegId>>,
}

/// What is agreed on with the client.
struct Agreed {
    rules: Siprec,
    metadata: Metadata,
    /// Names our session and its version; every stream has a port of its own.
    ours: Local,
    received: Vec<Received>,
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
    let session = Session { board, line, admitted, seat: OnceLock::new(), joined: Mutex::default() };
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
        let Opening { trunk, rules, streams, metadata } = opening;
        let metadata = metadata.unwrap_or_default();
        let cast = cast(&rules, &metadata, &[], &[], &streams.each);
        let names = metadata.communications();
        let seat = self.board.recordings.join(&trunk, names, self.open(&cast)).await?;
        tracing::info!(call = %seat.call, streams = streams.each.len(), "a recording session");
        let _ = self.seat.set(seat);
        let here = SocketAddr::new(self.line.office.address_for(self.admitted.source.ip()), 0);
        let ours = Local::new(here, clock::random() >> 1, self.admitted.terms.srtp, clock::secret);
        let mut agreed = Agreed { rules, metadata, ours, received: Vec::new() };
        let refused = |fault: Fault| End { reason: fault.reason.clone(), refusal: fault };
        self.follow(&mut agreed, &streams).await.map_err(refused)?;
        self.accept(agreed.answer(&streams))?;
        Ok(agreed)
    }

    /// A new call, named by its first participants.
    async fn open(&self, cast: &[Cast]) -> Result<Seat, End> {
        let (board, shard) = (&self.board, self.board.host.shard_for_next());
        let call = CallId::new(clock::wall_ms().max(0) as u64, 0, 0, clock::random());
        let named = |role, otherwise: &Address| {
            cast.iter().find(|c| c.role == role).map_or_else(|| otherwise.clone(), |c| c.address.clone())
        };
        let caller = named(Role::Customer, &self.admitted.caller);
        let called = named(Role::Agent, &self.admitted.called);
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
                Message::Offer { .. } | Message::Pressed(_) => {}
            }
        }
        std::future::pending().await
    }

    /// A re-INVITE or an UPDATE: the shard knows before the client does (DESIGN §2.6). Answers the body of the 200, empty
    /// where nothing was offered.
    async fn update(&self, agreed: &mut Agreed, update: Update) -> Result<Vec<u8>, Fault> {
        if let Some(newer) = update.metadata {
            agreed.metadata.update(newer);
            if let Some(seat) = self.seat.get() {
                self.board.recordings.learn(seat.call, agreed.metadata.communications()).await;
            }
        }
        agreed.ours.version = agreed.ours.version.saturating_add(1);
        match update.streams {
            Some(streams) => {
                self.follow(agreed, &streams).await?;
                Ok(agreed.answer(&streams))
            }
            None => {
                self.recast_all(agreed).await?;
                Ok(if update.wants_offer { sdp::offer_again(&agreed.ours, &agreed.accepted()) } else { Vec::new() })
            }
        }
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
        self.name_agents().await
    }

    async fn join(&self, stream: &Stream, cast: Cast) -> Result<Received, Fault> {
        let (source, srtp) = (self.admitted.source.ip(), self.admitted.terms.srtp);
        let opened = open_media(&self.line.office, source, &self.board, srtp);
        let (mut sockets, mut local) = opened.map_err(|end| end.refusal)?;
        let media = stream.settle(None).ok_or_else(|| Fault::new(488, "no common codec"))?;
        sockets.srtp = stream.description.keys(&local);
        local.agree(sockets.srtp, clock::secret);
        let address = cast.address.clone();
        let spec = LegSpec { role: cast.role, place: Place::InConversation, mode: Mode::Spy, address, media };
        let seat = self.seat.get().ok_or_else(gone)?;
        let leg = seat.shard.add_leg(seat.call, spec, sockets).await.map_err(refused)?;
        self.joined().push(leg);
        Ok(Received { leg, cast, stream: stream.clone(), local, media })
    }

    async fn renegotiate(&self, received: &mut Received, stream: &Stream) -> Result<(), Fault> {
        let media = stream.settle(Some(received.media.codec)).ok_or_else(|| Fault::new(488, "no common codec"))?;
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
        self.name_agents().await
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
        Ok(())
    }

    /// Who is on each stream, beside those whom other sessions of the communication brought.
    async fn cast(&self, agreed: &Agreed, streams: &[Stream]) -> Result<Vec<Cast>, Fault> {
        let ours = self.joined().clone();
        let legs = self.view().await?.legs.into_iter();
        let others: Vec<Role> = legs.filter(|l| !ours.contains(&l.id)).map(|l| l.role).collect();
        Ok(cast(&agreed.rules, &agreed.metadata, &others, &agreed.received, streams))
    }

    /// Supervisors find the call by its agents.
    async fn name_agents(&self) -> Result<(), Fault> {
        let view = self.view().await?;
        let agents = view.legs.into_iter().filter(|l| l.role == Role::Agent).map(|l| l.address).collect();
        if let Some(seat) = self.seat.get() {
            self.board.host.registry.set_agents(seat.call, agents);
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
                let _ = self.name_agents().await;
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

/// Who is on each stream. `others` are the roles of legs that came by other sessions, `before` what the streams were.
fn cast(rules: &Siprec, metadata: &Metadata, others: &[Role], before: &[Received], streams: &[Stream]) -> Vec<Cast> {
    let speaker = |stream: &Stream| {
        let who = stream.label.as_deref().and_then(|label| metadata.speaker(label));
        let same = |r: &&Received| r.stream.line == stream.line && r.cast.speaker.as_ref() == who.map(|who| &who.id);
        Speaker { who, was: before.iter().find(same).map(|r| r.cast.role) }
    };
    let speakers: Vec<_> = streams.iter().map(speaker).collect();
    let roles = siprec::roles(rules, others, &speakers);
    let cast = |((role, Speaker { who, .. }), stream): ((Role, Speaker<'_>), &Stream)| {
        let address = who.and_then(Participant::address).map_or_else(|| stream_name(stream), Address::from);
        Cast { role, speaker: who.map(|who| who.id.clone()), address }
    };
    roles.into_iter().zip(speakers).zip(streams).map(cast).collect()
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
