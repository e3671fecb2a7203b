//! The task that owns a call's signalling: it runs the route and listens to both parties at the same time.
//!
//! In come what the parties do ([`Message`]) and the wish to hang up; out go commands to the call's shard. When either
//! the route or a party ends the call, everything of it is ended here, whatever happened.

use crate::call::sdp::{self, Description, Keys, Local, Origin, Srtp};
use crate::call::{Ack, CallOptions, Command, Key, LegMedia, LegSpec, Refusal};
use crate::event::{Address, Mode, Place, Role};
use crate::id::{CallCode, CallId, LegId};
use crate::io::clock;
use crate::io::rtp::{self, LegSockets};
use crate::io::shard::Shard;
use crate::io::sip::admission::Admitted;
use crate::io::sip::fault::Fault;
use crate::io::sip::line::{Line, Side};
use crate::io::sip::office::Office;
use crate::io::sip::registry::{Entry, Handle};
use crate::io::sip::route;
use crate::io::sip::switchboard::{Live, Switchboard};
use crate::media::codec::Codec;
use rsipstack::sip::StatusCode;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument;

/// What a party does.
pub enum Message {
    /// It hung up, or is gone in another way.
    Gone { reason: &'static str },
    /// It offers other media, or wants our offer. The answer goes out when the shard has acknowledged.
    Offer { side: Side, offer: Option<Box<Description>>, reply: oneshot::Sender<Result<Vec<u8>, Fault>> },
    /// Its answer to our offer, in an ACK.
    Answered { side: Side, answer: Vec<u8> },
    /// It told a key by INFO.
    Pressed(Key),
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
    local: Local,
    media: LegMedia,
    origin: Option<Origin>,
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
    /// The caller's line.
    pub caller: Arc<Line>,
    parties: Mutex<Parties>,
}

/// Who is on the call. Locked for single reads and writes only.
#[derive(Default)]
struct Parties {
    caller: Option<Leg>,
    called: Option<Leg>,
    called_line: Option<Arc<Line>>,
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
    let call = Arc::new(Call { id, shard, board, admitted, caller, parties: Mutex::default() });
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
    if let Some(conversations) = call.board.host.conversations.as_ref().filter(|_| options.listen) {
        conversations.open(call.id, config.coach.playbook.as_str().into());
    }
    if let Err(refusal) = call.shard.open(call.id, options).await {
        return refusal.into();
    }
    tokio::select! {
        biased;
        reason = wished(&mut wish) => End::new(reason, 480),
        end = listen_to(&call, &mut messages) => end,
        end = route::run(&call, &mut endings) => end,
    }
}

async fn wished(wish: &mut watch::Receiver<Option<String>>) -> String {
    let told = wish.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    match told {
        Some(reason) => reason,
        // Nobody is left who could wish.
        None => std::future::pending().await,
    }
}

/// Serves the parties until one of them is gone.
async fn listen_to(call: &Call, messages: &mut mpsc::Receiver<Message>) -> End {
    while let Some(message) = messages.recv().await {
        match message {
            Message::Gone { reason } => return End::new(reason, 487),
            Message::Offer { side, offer, reply } => {
                // A peer that does not wait for the answer asks again.
                let _ = reply.send(call.renegotiate(side, offer).await);
            }
            Message::Answered { side, answer } => {
                if let Err(fault) = call.answered(side, &answer).await {
                    return End::new(format!("the answer in an ACK was unusable: {}", fault.reason), 488);
                }
            }
            // The keys of those who talk steer nothing here.
            Message::Pressed(_) => {}
        }
    }
    std::future::pending().await
}

impl Call {
    /// The caller's leg, if it was answered.
    pub fn caller_leg(&self) -> Option<LegId> {
        self.parties().caller.as_ref().map(|l| l.id)
    }

    /// The codec the caller uses, or those they would rather use, then all others: what comes first can be relayed.
    pub fn caller_codecs(&self) -> Vec<Codec> {
        let used = self.parties().caller.as_ref().map(|l| l.media.codec);
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

    /// Whether both parties have media.
    pub fn is_connected(&self) -> bool {
        let parties = self.parties();
        parties.caller.is_some() && parties.called.is_some()
    }

    /// The line to the party we call, from its INVITE on.
    pub fn calling(&self, line: Arc<Line>) {
        self.board.connect(line.clone());
        self.board.belong(&line, (self.id, None));
        self.parties().called_line = Some(line);
    }

    /// The party we called does not come: the line is ended elsewhere.
    pub fn not_calling(&self) -> Option<Arc<Line>> {
        self.parties().called_line.take()
    }

    /// Answers the caller, if that was not done yet. Where it can be chosen, the codec is `preferred`.
    pub async fn answer(&self, preferred: Option<Codec>) -> Result<LegId, End> {
        if let Some(leg) = self.caller_leg() {
            return Ok(leg);
        }
        let (source, srtp) = (self.admitted.source.ip(), self.admitted.terms.srtp);
        let (sockets, local) = open_media(&self.caller.office, source, &self.board, srtp)?;
        match &self.admitted.offer {
            Some(offer) => self.answer_offer(offer, preferred, sockets, local).await,
            None => self.answer_with_offer(sockets, local).await,
        }
    }

    async fn answer_offer(
        &self,
        offer: &Description,
        preferred: Option<Codec>,
        sockets: LegSockets,
        local: Local,
    ) -> Result<LegId, End> {
        let media = offer.settle(preferred).ok_or_else(|| End::new("no common codec", 488))?;
        let joined = self.join(Side::Caller, self.admitted.caller.clone(), (media, offer), sockets, local).await?;
        let (id, answer) = (joined.id, offer.answer(&joined.local, &media));
        self.accept(answer)?;
        self.parties().caller = Some(joined);
        Ok(id)
    }

    /// RFC 3261 §13.2.1: an INVITE without an offer gets ours in the 2xx, and answers it in the ACK.
    async fn answer_with_offer(&self, sockets: LegSockets, local: Local) -> Result<LegId, End> {
        self.accept(sdp::offer(&local, &self.caller_codecs()))?;
        self.caller.established().await;
        let unusable = |fault: String| End::new(format!("the answer in the ACK was unusable: {fault}"), 488);
        let answer = Description::read(&self.caller.acknowledged_with(), local.terms());
        let answer = answer.map_err(|e| unusable(e.to_string()))?;
        let media = answer.settle(None).ok_or_else(|| unusable("no codec".into()))?;
        let joined = self.join(Side::Caller, self.admitted.caller.clone(), (media, &answer), sockets, local).await?;
        let id = joined.id;
        self.parties().caller = Some(joined);
        Ok(id)
    }

    fn accept(&self, body: Vec<u8>) -> Result<(), End> {
        self.caller.accept(body).map_err(|e| End::new(format!("cannot answer: {e}"), 500))
    }

    /// The party we called has answered.
    pub async fn join_called(
        &self,
        to: Address,
        answer: &Description,
        sockets: LegSockets,
        local: Local,
    ) -> Result<Codec, End> {
        let media = answer.settle(None).ok_or_else(|| End::new("no common codec", 488))?;
        let joined = self.join(Side::Called, to, (media, answer), sockets, local).await?;
        self.parties().called = Some(joined);
        Ok(media.codec)
    }

    /// A party's leg: what was settled on, and the description it was read from.
    async fn join(
        &self,
        side: Side,
        address: Address,
        (media, far_end): (LegMedia, &Description),
        mut sockets: LegSockets,
        mut local: Local,
    ) -> Result<Leg, End> {
        sockets.srtp = far_end.keys(&local);
        local.agree(sockets.srtp, clock::secret);
        let (role, place) = (self.role(side), Place::InConversation);
        tracing::info!(?side, codec = ?media.codec, srtp = local.is_protected(), "a party has media");
        let spec = LegSpec { role, place, mode: Mode::Spy, address: address.clone(), media };
        let id = self.shard.add_leg(self.id, spec, sockets).await?;
        if role == Role::Agent {
            self.board.host.registry.has_agent(self.id, address);
        }
        Ok(Leg { id, local, media, origin: Some(far_end.origin.clone()) })
    }

    fn role(&self, side: Side) -> Role {
        match (side, self.admitted.route.caller_is_agent) {
            (Side::Caller, false) | (Side::Called, true) => Role::Customer,
            (Side::Caller, true) | (Side::Called, false) => Role::Agent,
        }
    }

    /// A command to the call's shard.
    pub async fn command(&self, command: Command) -> Result<Ack, Refusal> {
        self.shard.command(self.id, command).await
    }

    /// A new offer of a party (RFC 3264 §8): the shard knows before the peer does (DESIGN §2.6).
    async fn renegotiate(&self, side: Side, offer: Option<Box<Description>>) -> Result<Vec<u8>, Fault> {
        let (local, codec) = self.next_version(side).ok_or_else(|| Fault::new(488, "there is no media to change"))?;
        let Some(offer) = offer else { return Ok(sdp::offer(&local, &[codec])) };
        let media = offer.settle(Some(codec)).ok_or_else(|| Fault::new(488, "no common codec"))?;
        self.set_media(side, media, offer.keys(&local), offer.origin.clone()).await?;
        Ok(offer.answer(&local, &media))
    }

    async fn answered(&self, side: Side, answer: &[u8]) -> Result<(), Fault> {
        let local = self.parties().leg(side).map(|leg| leg.local);
        let local = local.ok_or_else(|| Fault::new(488, "there is no media to change"))?;
        let answer = Description::read(answer, local.terms())?;
        let media = answer.settle(None).ok_or_else(|| Fault::new(488, "no common codec"))?;
        self.set_media(side, media, answer.keys(&local), answer.origin).await
    }

    fn next_version(&self, side: Side) -> Option<(Local, Codec)> {
        let mut parties = self.parties();
        let leg = parties.leg(side)?;
        leg.local.version = leg.local.version.saturating_add(1);
        Some((leg.local, leg.media.codec))
    }

    async fn set_media(&self, side: Side, media: LegMedia, keys: Option<Keys>, origin: Origin) -> Result<(), Fault> {
        let (id, stranger) = {
            let mut parties = self.parties();
            let Some(leg) = parties.leg(side) else { return Err(Fault::new(488, "there is no media to change")) };
            let stranger = leg.origin.as_ref().is_some_and(|before| *before != origin);
            leg.origin = Some(origin);
            leg.media = media;
            leg.local.agree(keys, clock::secret);
            (leg.id, stranger)
        };
        let refused = |r: Refusal| Fault::new(500, r.to_string());
        if stranger {
            // DESIGN §2.6: privacy narrows before anything widens.
            self.command(Command::FarEndChanged { leg: id }).await.map_err(refused)?;
        }
        self.shard.set_media(self.id, id, media, keys).await.map_err(refused)?;
        Ok(())
    }

    /// Ends everything of the call: media first, then both lines side by side.
    async fn end(&self, end: End) {
        tracing::info!(reason = %end.reason, "the call ends");
        // Refused only where the call never began or is over.
        let _ = self.command(Command::End { reason: end.reason.clone() }).await;
        self.board.host.registry.remove(self.id);
        let called = self.parties().called_line.take();
        let refusal: StatusCode = end.refusal.status_code();
        tokio::join!(release(&self.board, &self.caller, Some(refusal), &end.reason), async {
            if let Some(line) = &called {
                release(&self.board, line, None, &end.reason).await;
            }
        });
    }

    fn parties(&self) -> MutexGuard<'_, Parties> {
        self.parties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parties {
    fn leg(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Caller => self.caller.as_mut(),
            Side::Called => self.called.as_mut(),
        }
    }
}

/// Ends a line and forgets it: the stack keeps every dialog until it is told to let go.
pub async fn release(board: &Switchboard, line: &Line, refusal: Option<StatusCode>, why: &str) {
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
