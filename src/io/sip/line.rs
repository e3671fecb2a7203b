//! A line: one SIP dialog of a call, from the first INVITE to the BYE.
//!
//! The stack below sets a dialog up and repeats what is lost; how a line ends is ours, because the stack forgets a
//! dialog whose 2xx was not a 200, and sends its BYE to the Contact of long ago.

use crate::call::sdp::Terms;
use crate::config::Credentials;
use crate::io::sip::controller::Message;
use crate::io::sip::office::Office;
use crate::io::sip::reliable::Provisional;
use crate::io::sip::sources::Bucket;
use crate::io::sip::timer::{self, Session};
use crate::io::siprec::Metadata;
use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver, TerminatedReason};
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::headers::Route;
use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::typed::Contact;
use rsipstack::sip::{Header, Method, Request, Response, Uri};
use rsipstack::transaction::key::TransactionKey;
use rsipstack::transaction::transaction::{TransactionEvent, TransactionEventSender};
use rsipstack::transport::SipConnection;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Which end of a call, and of a dialog: who began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who called us.
    Caller,
    /// Whom we called.
    Called,
}

impl Side {
    /// The one at the other end.
    pub fn other(self) -> Self {
        match self {
            Side::Caller => Side::Called,
            Side::Called => Side::Caller,
        }
    }
}

/// Where the peer wants requests of this dialog (RFC 3261 §12.1).
#[derive(Clone)]
pub(super) struct Peer {
    pub target: Uri,
    pub routes: Vec<Route>,
}

impl Peer {
    /// By an answer to the INVITE that began the dialog (RFC 3261 §12.1.2); none if it names no Contact.
    pub fn of(response: &Response) -> Option<Self> {
        let routes = response.record_route_headers();
        let routes = routes.iter().rev().flat_map(|r| crate::io::sip::message::split_list(r.value()).into_iter().rev());
        let routes = routes.map(Route::new).collect();
        let contact = response.typed_contact_headers().ok().and_then(|c| c.into_iter().next())?;
        Some(Peer { target: contact.uri, routes })
    }
}

/// Of a dialog that the peer began: its INVITE.
pub struct Called {
    /// The way to its transaction.
    pub transaction: (TransactionEventSender, TransactionKey),
    /// What we say before we answer it.
    pub provisional: Provisional,
}

/// Call-ID and our own tag.
pub type Key = (String, String);

/// One dialog.
pub struct Line {
    /// What names it on the wire.
    pub key: Key,
    /// Who began it. Where its peer sits in the call is another matter: a transfer seats them anew.
    pub side: Side,
    /// Where it came in or went out.
    pub office: Arc<Office>,
    /// What the peer's descriptions must keep to.
    pub terms: Terms,
    /// The stack's part of it.
    pub dialog: InviteDialog,
    /// Held while an offer of the peer is being answered (RFC 3261 §14.2).
    pub renegotiating: tokio::sync::Mutex<()>,
    /// Whether the offer that is being answered is ours: theirs crosses it (RFC 3261 §14.2).
    pub offering: AtomicBool,
    /// Whether somebody lets the peer know of the other party's holds.
    pub telling: AtomicBool,
    /// What we say before we answer, where the peer called us.
    pub provisional: Option<Provisional>,
    /// Cancelled when nothing is left to do for it.
    pub done: CancellationToken,
    established: watch::Sender<bool>,
    /// The session timer it has agreed on; told anew with every sign of life.
    session: watch::Sender<Option<Session>>,
    /// Whether the peer says that it takes UPDATE.
    updates: AtomicBool,
    invite: Option<(TransactionEventSender, TransactionKey)>,
    /// The number of our last request.
    pub(super) cseq: AtomicU32,
    remote_cseq: AtomicU32,
    peer: Mutex<Option<Peer>>,
    over: AtomicBool,
    /// Cancelled when the peer has hung up.
    left: CancellationToken,
    /// The way to the controller of the call it is in.
    mailbox: Mutex<mpsc::Sender<Message>>,
    /// Cancelled when somebody else gives its signs of life.
    keeper: Mutex<CancellationToken>,
    /// The trunk its peer belongs to.
    trunk: OnceLock<String>,
    /// Transfers it has asked for.
    refers: AtomicU32,
    recording: bool,
    /// What the peer calls the session (RFC 7989): half of its id.
    session_id: Option<String>,
    alone: AtomicBool,
    subscribed: AtomicBool,
    flow: Mutex<Option<SipConnection>>,
    pub(super) login: OnceLock<Credentials>,
    /// How fast the peer may ask.
    pace: Mutex<Bucket>,
}

impl Line {
    /// The line of a dialog.
    pub fn new(
        side: Side,
        office: Arc<Office>,
        terms: Terms,
        dialog: InviteDialog,
        mailbox: mpsc::Sender<Message>,
        called: Option<Called>,
    ) -> Self {
        let id = dialog.id();
        let (invite, provisional) = called.map(|c| (c.transaction, c.provisional)).unzip();
        Line {
            key: (id.call_id, id.local_tag),
            side,
            office,
            terms,
            dialog,
            renegotiating: tokio::sync::Mutex::new(()),
            offering: AtomicBool::new(false),
            telling: AtomicBool::new(false),
            provisional,
            done: CancellationToken::new(),
            established: watch::Sender::new(false),
            session: watch::Sender::new(None),
            updates: AtomicBool::new(false),
            invite,
            cseq: AtomicU32::new(0),
            remote_cseq: AtomicU32::new(0),
            peer: Mutex::new(None),
            over: AtomicBool::new(false),
            left: CancellationToken::new(),
            mailbox: Mutex::new(mailbox),
            keeper: Mutex::default(),
            trunk: OnceLock::new(),
            refers: AtomicU32::new(0),
            recording: false,
            session_id: None,
            alone: AtomicBool::new(false),
            subscribed: AtomicBool::new(false),
            flow: Mutex::default(),
            login: OnceLock::new(),
            pace: Mutex::default(),
        }
    }

    /// The same, of a recording session.
    pub fn of_a_recording(self) -> Self {
        Line { recording: true, ..self }
    }

    /// The same, of a session that the peer's INVITE gave an id (RFC 7989 §5).
    pub fn of_session(self, invite: &Request) -> Self {
        let named = invite.headers.iter().find_map(|header| match header {
            Header::SessionId(id) => Some(id.value()),
            _ => None,
        });
        let half = named.and_then(|value| value.split(';').next()).map(|half| half.trim().to_ascii_lowercase());
        let is_id = |half: &String| half.len() == 32 && half.bytes().all(|b| b.is_ascii_hexdigit());
        Line { session_id: half.filter(is_id), ..self }
    }

    /// Whether `metadata` describes this session, which goes through us.
    pub fn is_described(&self, metadata: &Metadata) -> bool {
        !self.recording && metadata.is_of(&self.key.0, self.session_id.as_deref())
    }

    /// Whether the peer may ask something more in this dialog, `rate` times in a second.
    pub fn may_ask(&self, rate: f32, now: Instant) -> bool {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).take(rate, now)
    }

    /// Whether it is the line of a recording session: its bodies are of another kind (SIPREC).
    pub fn is_recording(&self) -> bool {
        self.recording
    }

    /// Follows the dialog of somebody who called us: tells when it stands, and when it ends other than by BYE.
    pub async fn follow(self: Arc<Self>, mut states: DialogStateReceiver) {
        // The stack's channel has no bound, but a dialog changes its state a handful of times in its life.
        let removed = self.dialog.cancel_token().clone();
        while let Some(Some(state)) = removed.run_until_cancelled(states.recv()).await {
            match state {
                DialogState::Confirmed(..) => self.establish(),
                DialogState::Terminated(_, why) => {
                    let reason = match why {
                        TerminatedReason::UacCancel => "caller gave up",
                        TerminatedReason::Timeout => "caller never acknowledged the answer",
                        _ => "caller hung up",
                    };
                    self.over.store(true, Ordering::Release);
                    self.establish();
                    self.left.cancel();
                    self.gone(reason).await;
                    return;
                }
                _ => {}
            }
        }
    }

    /// The way to the controller of the call it is in.
    pub fn mailbox(&self) -> mpsc::Sender<Message> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It belongs to another call from now on.
    pub fn is_now_of(&self, mailbox: mpsc::Sender<Message>) {
        *self.mailbox.lock().unwrap_or_else(PoisonError::into_inner) = mailbox;
    }

    /// Tells the controller something. Answers whether there is one.
    pub async fn tell(&self, message: Message) -> bool {
        self.mailbox().send(message).await.is_ok()
    }

    /// Tells the controller that the peer is gone.
    pub async fn gone(&self, reason: &'static str) {
        self.tell(Message::Gone { line: self.key.clone(), reason }).await;
    }

    /// Whoever gave its signs of life until now does so no more: until when the next one may.
    pub fn kept_by_another(&self) -> CancellationToken {
        let next = self.done.child_token();
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *keeper, next.clone()).cancel();
        next
    }

    /// The peer belongs to this trunk.
    pub fn is_of_trunk(&self, name: &str) {
        let _ = self.trunk.set(name.to_owned());
    }

    /// The trunk that the peer belongs to, if it is known.
    pub fn trunk(&self) -> Option<&str> {
        self.trunk.get().map(String::as_str)
    }

    /// Counts a transfer that it asks for: how many there were before.
    pub fn refers(&self) -> u32 {
        self.refers.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the dialog stands, and is not over.
    pub fn stands(&self) -> bool {
        *self.established.borrow() && !self.is_over()
    }

    /// Whether either end has hung up.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Waits until the peer has hung up.
    pub async fn left(&self) {
        self.left.cancelled().await;
    }

    /// The dialog stands: requests in it can be served.
    pub fn establish(&self) {
        self.established.send_replace(true);
    }

    /// Waits until the dialog stands, or is over.
    pub async fn established(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self.established.subscribe().wait_for(|up| *up).await;
    }

    /// The body of the ACK that answered our offer.
    pub fn acknowledged_with(&self) -> Vec<u8> {
        self.dialog.last_remote_ack().map(|ack| ack.body).unwrap_or_default()
    }

    /// The peer's 2xx: from now on requests go where it says. False if it names no Contact.
    pub fn answered(&self, response: &Response) -> bool {
        let peer = Peer::of(response);
        let known = peer.is_some();
        self.allows(response.headers.iter());
        self.agree(Session::agreed(response));
        if peer.is_some() {
            *self.peer() = peer;
        }
        self.establish();
        known
    }

    /// A request of the peer in this dialog: remembers its Contact (RFC 3261 §12.2.2) where it has one.
    pub fn refreshed(&self, request: &Request) {
        self.moved_to(request.typed_contact_headers().ok().and_then(|c| c.into_iter().next()));
    }

    /// The same for its 2xx to a request of ours.
    pub fn redirected(&self, response: &Response) {
        self.moved_to(response.typed_contact_headers().ok().and_then(|c| c.into_iter().next()));
    }

    fn moved_to(&self, contact: Option<Contact>) {
        let Some(contact) = contact else { return };
        let snapshot = self.dialog.snapshot();
        let mut peer = self.peer();
        let routes = peer.take().map_or(snapshot.route_set, |p| p.routes);
        *peer = Some(Peer { target: contact.uri, routes });
    }

    /// What the peer says it serves, in any of its messages.
    pub fn allows<'a>(&self, headers: impl Iterator<Item = &'a Header>) {
        for header in headers {
            if let Header::Allow(methods) = header {
                self.updates.store(timer::names(methods.value(), "UPDATE"), Ordering::Relaxed);
            }
        }
    }

    /// Whether the peer said that it takes UPDATE.
    pub fn takes_update(&self) -> bool {
        self.updates.load(Ordering::Relaxed)
    }

    /// The session timer that holds.
    pub fn session(&self) -> Option<Session> {
        *self.session.borrow()
    }

    /// Its changes, and every sign of life.
    pub fn sessions(&self) -> watch::Receiver<Option<Session>> {
        self.session.subscribe()
    }

    /// A session timer holds from now on, as far as it can be kept.
    pub fn agree(&self, session: Option<Session>) {
        let alone = self.alone.load(Ordering::Relaxed);
        let kept = |session: Session| if alone { session.without_offers(self.takes_update()) } else { Some(session) };
        self.session.send_replace(session.and_then(kept));
    }

    /// Nothing of ours is offered on it again: it is no party's of a routed call.
    pub fn stands_alone(&self) {
        self.alone.store(true, Ordering::Relaxed);
    }

    /// We have asked the peer to tell us of something, or it does not.
    pub fn subscribes(&self, so: bool) {
        self.subscribed.store(so, Ordering::Release);
    }

    /// Whether we have.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed.load(Ordering::Acquire)
    }

    /// Something of the peer came by this connection.
    pub fn came_by(&self, connection: SipConnection) {
        *self.flow.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    /// What we prove to the peer when it asks.
    pub fn may_prove(&self, login: Option<Credentials>) {
        login.into_iter().for_each(|login| drop(self.login.set(login)));
    }

    /// The connection that our requests go by, while it stands (RFC 5626 §5.3); none over UDP.
    pub fn flow(&self) -> Option<SipConnection> {
        let flow = self.flow.lock().unwrap_or_else(PoisonError::into_inner).clone();
        flow.filter(|f| f.is_reliable() && !f.cancel_token().is_some_and(|token| token.is_cancelled()))
    }

    /// Whether a sequence number of the peer is in order (RFC 3261 §12.2.2).
    pub fn in_order(&self, cseq: u32) -> bool {
        self.remote_cseq.fetch_max(cseq, Ordering::AcqRel) <= cseq
    }

    /// Whether the other side's tag is the one of this dialog: a fork we did not take has another.
    pub fn is_peer(&self, tag: &str) -> bool {
        let known = self.dialog.id().remote_tag;
        known.is_empty() || known == tag
    }

    /// The peer hung up; no BYE is owed any more.
    pub fn hung_up(&self) {
        self.over.store(true, Ordering::Release);
        self.left.cancel();
        self.establish();
        // A peer that hangs up has our answer, even if its ACK was lost: stop repeating it.
        if let Some((transaction, key)) = &self.invite {
            let _ = transaction.send(TransactionEvent::Terminate(key.clone()));
        }
    }

    /// Answers the INVITE of somebody who called us.
    pub fn accept(&self, body: Vec<u8>) -> Result<(), Box<rsipstack::Error>> {
        let allow = Header::Allow(crate::io::sip::door::ALLOW.into());
        let mut headers = vec![Header::ContentType("application/sdp".into()), allow];
        let session = self.session();
        headers.extend(session.map(Session::as_answer).unwrap_or_default());
        self.agree(session);
        self.dialog.accept(Some(headers), Some(body)).map_err(Box::new)
    }

    /// Ends the line the way its state asks for: CANCEL, refusal or BYE, with `why` for those who may read it. Takes as
    /// long as the peer takes.
    pub async fn end(&self, refusal: Option<rsipstack::sip::StatusCode>, why: &str) {
        match self.dialog.state() {
            DialogState::Calling(_) | DialogState::Trying(_) | DialogState::Early(..) => match self.side {
                Side::Caller => drop(self.dialog.reject(refusal, None)),
                Side::Called => drop(self.dialog.cancel().await),
            },
            // The stack takes a 2xx other than 200 for a failure; the peer takes it for a call (RFC 3261 §13.2.2.4).
            DialogState::Terminated(..) if self.side == Side::Caller || self.peer().is_none() => {}
            _ => self.bye(why).await,
        }
    }

    /// Sends BYE, once, and waits for its answer. A caller's ACK is waited for first (RFC 3261 §15).
    pub async fn bye(&self, why: &str) {
        if tokio::time::timeout(self.office.timers.patience(), self.established()).await.is_err() {
            return; // no ACK: the stack sends the BYE (RFC 3261 §13.3.1.4)
        }
        if self.over.swap(true, Ordering::AcqRel) {
            return;
        }
        self.ask(Method::Bye, vec![Header::Other("Reason".into(), reason(why))], None).await;
    }

    pub(super) fn peer(&self) -> std::sync::MutexGuard<'_, Option<Peer>> {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 3326 §2: 200 is the status of a session that ends as sessions do.
fn reason(why: &str) -> String {
    let text: String = why.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).take(200).collect();
    format!("SIP;cause=200;text=\"{text}\"")
}
