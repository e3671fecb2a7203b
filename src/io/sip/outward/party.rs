//! One line of a call that nobody dialled: called, joined to the call when it answers, and served until it is gone.

use crate::call::sdp::{self, Description, Local, Terms};
use crate::call::{Command, LegSpec};
use crate::event::{Address, Mode, Place, Role};
use crate::id::LegId;
use crate::io::clock;
use crate::io::rtp::LegSockets;
use crate::io::sip::connect::{Failure, Refused};
use crate::io::sip::controller::{End, Message, open_media, release};
use crate::io::sip::line::{Line, Side};
use crate::io::sip::outward::Outward;
use crate::io::sip::outward::callee::Callee;
use crate::io::sip::seat::{Agreed, Seat};
use crate::io::sip::switchboard::Switchboard;
use crate::io::sip::way::{Lead, Way};
use crate::io::sip::{dial, timer, trust};
use crate::media::codec::Codec;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::sip::{Header, Response, StatusCodeKind};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// Requests of theirs that wait for their task.
const MAILBOX: usize = 16;
/// Bodies of NOTIFY that wait; when it is full the oldest news is what is missed, and the next full state mends it.
const NEWS: usize = 16;

/// The lines of a call. Locked for single reads and writes only; two at most, and those of the earpiece.
#[derive(Default)]
pub struct Parties(Mutex<Vec<Arc<Line>>>);

impl Parties {
    fn add(&self, line: Arc<Line>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// One line is let go of.
    pub async fn part(&self, board: &Switchboard, line: &Line, why: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other.key != line.key);
        release(board, line, None, why).await;
    }

    /// All of them are.
    pub async fn release(&self, board: &Arc<Switchboard>, why: &str) {
        let lines = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut releases = JoinSet::new();
        for line in lines {
            let (board, why) = (board.clone(), why.to_owned());
            releases.spawn(async move { release(&board, &line, None, &why).await });
        }
        releases.join_all().await;
    }
}

/// Whoever answered.
pub struct Reached {
    /// Their line.
    pub line: Arc<Line>,
    /// Whether they are a conference (`isfocus`, RFC 4579 §5.1).
    pub is_focus: bool,
    to: Address,
    messages: mpsc::Receiver<Message>,
    sockets: LegSockets,
    local: Local,
    answer: Description,
}

impl Reached {
    /// What they settled on.
    pub fn codec(&self) -> Codec {
        self.answer.settle(None).map_or(Codec::Pcmu, |media| media.codec)
    }

    /// Whether they take telephone events.
    pub fn takes_events(&self) -> bool {
        self.answer.settle(None).is_some_and(|media| media.dtmf.is_some())
    }
}

/// When and why a party is gone.
pub struct Gone(watch::Receiver<Option<String>>);

impl Gone {
    /// Waits until it is.
    pub async fn reason(&mut self) -> String {
        let told = self.0.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        told.unwrap_or_else(|| "called party hung up".into())
    }
}

/// Calls somebody until they answer, refuse, or have let it ring for too long.
pub async fn dial(call: &Outward, callee: &Callee, codecs: &[Codec], parties: &Parties) -> Result<Reached, End> {
    let call_id = format!("{:016x}@sotto", clock::random());
    let (way, lead) = callee.way(&call.board, &call_id).await.map_err(Failure::end)?;
    let (sockets, local) = open_media(&way.office, way.peer(), &call.board, callee.srtp)?;
    let (mailbox, messages) = mpsc::channel(MAILBOX);
    let (line, answer) = invite(call, callee, (&way, &lead, call_id), (codecs, &local), mailbox)?;
    parties.add(line.clone());
    call.board.connect(line.clone());
    call.board.belong(&line, (call.id, None));
    let response = match tokio::time::timeout(call.ring, answer).await {
        Ok(Ok(Some(response))) => Ok(response),
        Ok(_) => Err(Failure::Unreachable),
        Err(_) => Err(Failure::NoAnswer),
    };
    match response.and_then(|response| described(&line, &response, &local).map(|answer| (response, answer))) {
        Ok((response, answer)) => {
            let to = callee.to.clone();
            Ok(Reached { is_focus: is_focus(&response), line, to, messages, sockets, local, answer })
        }
        Err(failure) => {
            // A CANCEL may take as long as the other side likes.
            let (board, gone) = (call.board.clone(), line.clone());
            tokio::spawn(async move { release(&board, &gone, None, "nobody waits any more").await });
            Err(failure.end())
        }
    }
}

fn described(line: &Line, response: &Response, local: &Local) -> Result<Description, Failure> {
    if response.status_code.kind() != StatusCodeKind::Successful {
        return Err(Refused::of(response.status_code.code()).failure);
    }
    let known = line.answered(response);
    match Description::read(&response.body, local.terms()) {
        Ok(answer) if known && answer.settle(None).is_some() => Ok(answer),
        Ok(_) => Err(Failure::Unreachable),
        Err(error) => {
            tracing::warn!(%error, "the called party's answer is unusable");
            Err(Failure::Unreachable)
        }
    }
}

/// RFC 4579 §5.1: a focus says so in its Contact.
fn is_focus(response: &Response) -> bool {
    response.headers.iter().any(|header| match header {
        Header::Contact(contact) => {
            contact.value().split([';', '>']).any(|part| part.trim().eq_ignore_ascii_case("isfocus"))
        }
        _ => false,
    })
}

type Invited = (Arc<Line>, oneshot::Receiver<Option<Response>>);

fn invite(
    call: &Outward,
    callee: &Callee,
    (way, lead, call_id): (&Way, &Lead, String),
    (codecs, local): (&[Codec], &Local),
    mailbox: mpsc::Sender<Message>,
) -> Result<Invited, End> {
    let office = &way.office;
    let contact = way.contact(&callee.uri);
    let login = way.login(&call.board, &callee.uri);
    let options = InviteOption {
        credential: login.as_ref().map(trust::for_stack),
        caller: contact.clone(),
        callee: callee.uri.clone(),
        destination: lead.destination.clone(),
        route_set: way.routes(),
        call_id: Some(call_id),
        contact,
        content_type: Some("application/sdp".into()),
        offer: Some(sdp::offer(local, codecs)),
        headers: Some(vec![
            Header::MaxForwards(70.into()),
            Header::Allow(crate::io::sip::door::ALLOW.into()),
            Header::Other("Sotto-Call".into(), call.id.to_string()),
        ]),
        ..InviteOption::default()
    };
    let (states, _) = office.dialogs.new_dialog_state_channel();
    let invited = office.dialogs.do_invite_async(options, states);
    let (dialog, task) = invited.map_err(|error| End::new(format!("cannot be called: {error}"), 480))?;
    let terms = Terms { srtp: callee.srtp, ..local.terms() };
    let line = Arc::new(Line::new(Side::Called, office.clone(), terms, dialog, mailbox, None));
    line.may_prove(login);
    line.stands_alone();
    tokio::spawn(timer::keep_alone(line.clone()));
    let (tell, told) = oneshot::channel();
    tokio::spawn(dial::land(line.clone(), task, tell));
    Ok((line, told))
}

/// They are a leg of the call, and served until they are gone.
pub async fn join(
    call: &Outward,
    reached: Reached,
    role: Role,
    place: Place,
    parties: &Parties,
) -> Result<(LegId, Gone), End> {
    let (leg, gone, _) = join_for_news(call, reached, role, place, parties).await?;
    Ok((leg, gone))
}

/// The same; the bodies of what they notify us of come too.
pub async fn join_for_news(
    call: &Outward,
    reached: Reached,
    role: Role,
    place: Place,
    _parties: &Parties,
) -> Result<(LegId, Gone, mpsc::Receiver<Vec<u8>>), End> {
    let Reached { line, to, messages, mut sockets, mut local, answer, .. } = reached;
    sockets.srtp = answer.keys(&local);
    local.agree(sockets.srtp, clock::secret);
    let media = answer.settle(None).ok_or_else(|| End::new("no common codec", 488))?;
    let spec = LegSpec { role, place, mode: Mode::Spy, address: to, media };
    let leg = call.shard.add_leg(call.id, spec, sockets).await?;
    let seat = Seat { call: call.id, shard: call.shard.clone(), leg };
    if !media.send {
        seat.command(Command::SetHeld { leg, place: Some(Place::Aside) }).await?;
    }
    let agreed = Agreed { local, media, origin: answer.origin.clone() };
    let (tell, gone) = watch::channel(None);
    let (news, told) = mpsc::channel(NEWS);
    tokio::spawn(async move {
        let reason = serve(&seat, agreed, messages, news, &line).await;
        tell.send_replace(Some(reason));
    });
    Ok((leg, Gone(gone), told))
}

/// Serves a party until it is gone, or its line is let go of. Answers why.
async fn serve(
    seat: &Seat,
    mut agreed: Agreed,
    mut messages: mpsc::Receiver<Message>,
    news: mpsc::Sender<Vec<u8>>,
    line: &Line,
) -> String {
    let done = line.done.clone();
    while let Some(Some(message)) = done.run_until_cancelled(messages.recv()).await {
        match message {
            Message::Gone { reason, .. } => return reason.into(),
            Message::Offer { offer, reply, .. } => {
                // A peer that does not wait for the answer asks again.
                let _ = reply.send(seat.renegotiate(&mut agreed, offer).await);
            }
            Message::Answered { answer, .. } => {
                if let Err(fault) = seat.answered(&mut agreed, &answer).await {
                    return format!("the answer in an ACK was unusable: {}", fault.reason);
                }
            }
            // Refused by all but earpieces, to which alone it means something.
            Message::Pressed(digit) => drop(seat.command(Command::KeyIn { leg: seat.leg, digit }).await),
            Message::Notified(body) => drop(news.try_send(body)),
            // No line of ours is a recording session, and nobody on it can be transferred: whoever asks has no answer, which
            // is one.
            Message::Recorded { .. }
            | Message::Refers { .. }
            | Message::Replaces { .. }
            | Message::Yields { .. }
            | Message::Adopts { .. } => {}
        }
    }
    "the line was let go of".into()
}
