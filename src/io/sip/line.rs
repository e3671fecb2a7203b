//! A line: one SIP dialog of a call, from the first INVITE to the BYE.
//!
//! The stack below sets a dialog up and repeats what is lost; how a line ends is ours, because the stack forgets a
//! dialog whose 2xx was not a 200, and sends its BYE to the Contact of long ago.

use crate::call::sdp::Terms;
use crate::config::Credentials;
use crate::io::clock;
use crate::io::sip::challenges;
use crate::io::sip::controller::Message;
use crate::io::sip::digest::Asked;
use crate::io::sip::office::Office;
use rsipstack::dialog::dialog::{DialogSnapshot, DialogState, DialogStateReceiver, TerminatedReason};
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::headers::Route;
use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::typed::{CSeq, Contact};
use rsipstack::sip::{Header, Method, Request, Response, SipMessage, StatusCodeKind, Uri, Version};
use rsipstack::transaction::Transaction;
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::transaction::{TransactionEvent, TransactionEventSender};
use rsipstack::transport::{SipAddr, SipConnection};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::{mpsc, watch};

/// Which end of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who called us.
    Caller,
    /// Whom we called.
    Called,
}

/// Where the peer wants requests of this dialog (RFC 3261 §12.1).
#[derive(Clone)]
struct Peer {
    target: Uri,
    routes: Vec<Route>,
}

/// One dialog.
pub struct Line {
    /// Call-ID and our own tag: what names it on the wire.
    pub key: (String, String),
    /// Which end of the call.
    pub side: Side,
    /// Where it came in or went out.
    pub office: Arc<Office>,
    /// What the peer's descriptions must keep to.
    pub terms: Terms,
    /// The stack's part of it.
    pub dialog: InviteDialog,
    /// The way to the call's controller.
    pub mailbox: mpsc::Sender<Message>,
    /// Held while an offer of the peer is being answered (RFC 3261 §14.2).
    pub renegotiating: tokio::sync::Mutex<()>,
    established: watch::Sender<bool>,
    invite: Option<(TransactionEventSender, TransactionKey)>,
    remote_cseq: AtomicU32,
    peer: Mutex<Option<Peer>>,
    over: AtomicBool,
    flow: Mutex<Option<SipConnection>>,
    login: OnceLock<Credentials>,
}

impl Line {
    /// The line of a dialog. `invite` is the way to the server transaction, where the peer called us.
    pub fn new(
        side: Side,
        office: Arc<Office>,
        terms: Terms,
        dialog: InviteDialog,
        mailbox: mpsc::Sender<Message>,
        invite: Option<(TransactionEventSender, TransactionKey)>,
    ) -> Self {
        let id = dialog.id();
        Line {
            key: (id.call_id, id.local_tag),
            side,
            office,
            terms,
            dialog,
            mailbox,
            renegotiating: tokio::sync::Mutex::new(()),
            established: watch::Sender::new(false),
            invite,
            remote_cseq: AtomicU32::new(0),
            peer: Mutex::new(None),
            over: AtomicBool::new(false),
            flow: Mutex::default(),
            login: OnceLock::new(),
        }
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
                    let _ = self.mailbox.send(Message::Gone { reason }).await;
                    return;
                }
                _ => {}
            }
        }
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
        let routes = response.record_route_headers();
        let routes = routes.iter().rev().flat_map(|r| crate::io::sip::message::split_list(r.value()).into_iter().rev());
        let routes = routes.map(Route::new).collect();
        let contact = response.typed_contact_headers().ok().and_then(|c| c.into_iter().next());
        let known = contact.is_some();
        if let Some(contact) = contact {
            *self.peer() = Some(Peer { target: contact.uri, routes });
        }
        self.establish();
        known
    }

    /// A request of the peer in this dialog: remembers its Contact (RFC 3261 §12.2.2) where it has one.
    pub fn refreshed(&self, request: &Request) {
        let Some(contact) = request.typed_contact_headers().ok().and_then(|c| c.into_iter().next()) else { return };
        let snapshot = self.dialog.snapshot();
        let mut peer = self.peer();
        let routes = peer.take().map_or(snapshot.route_set, |p| p.routes);
        *peer = Some(Peer { target: contact.uri, routes });
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
        self.establish();
        // A peer that hangs up has our answer, even if its ACK was lost: stop repeating it.
        if let Some((transaction, key)) = &self.invite {
            let _ = transaction.send(TransactionEvent::Terminate(key.clone()));
        }
    }

    /// Answers the INVITE of somebody who called us.
    pub fn accept(&self, body: Vec<u8>) -> Result<(), Box<rsipstack::Error>> {
        let allow = Header::Allow(crate::io::sip::door::ALLOW.into());
        let headers = vec![Header::ContentType("application/sdp".into()), allow];
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
        let Some(request) = self.bye_request(why) else {
            tracing::error!(side = ?self.side, "there is no address to send a BYE from");
            return;
        };
        let mut sent = self.send(request.clone()).await;
        if let Ok(Some(response)) = &sent
            && let Some(again) = self.with_proof(request, response)
        {
            sent = self.send(again).await;
        }
        if let Err(error) = sent {
            tracing::warn!(side = ?self.side, %error, "the BYE could not be sent");
        }
    }

    /// The request once more, with what its 401 or 407 asks for (RFC 3261 §22.1).
    fn with_proof(&self, mut request: Request, response: &Response) -> Option<Request> {
        let challenge =
            Some(response).filter(|r| matches!(r.status_code.code(), 401 | 407)).and_then(challenges::asked)?;
        let (uri, method) = (request.uri.to_string(), request.method.to_string());
        let asked = Asked { method: &method, uri: &uri };
        let value = challenge.answer(self.login.get()?, asked, &format!("{:016x}", clock::random()));
        let seq = request.cseq_header().ok()?.seq().ok()?.saturating_add(1);
        let via = self.office.endpoint.get_via(None, None).ok()?;
        request.headers.unique_push(Header::Via(via.into()));
        request.headers.unique_push(Header::CSeq(CSeq { seq, method: request.method }.into()));
        request.headers.push(match response.status_code.code() {
            407 => Header::ProxyAuthorization(value.into()),
            _ => Header::Authorization(value.into()),
        });
        Some(request)
    }

    fn bye_request(&self, why: &str) -> Option<Request> {
        let s = self.dialog.snapshot();
        let peer = self.peer().clone();
        let Peer { target, routes } =
            peer.unwrap_or(Peer { target: s.remote_uri.clone(), routes: s.route_set.clone() });
        let mut headers = vec![Header::Via(self.office.endpoint.get_via(None, None).ok()?.into())];
        headers.extend(routes.into_iter().map(Header::Route));
        headers.extend(parties(&s));
        let cseq = CSeq { seq: s.local_cseq.saturating_add(1), method: Method::Bye };
        headers.extend([
            Header::CallId(s.id.call_id.clone().into()),
            Header::CSeq(cseq.into()),
            Header::MaxForwards(70.into()),
            Header::UserAgent(crate::io::sip::USER_AGENT.into()),
            Header::Other("Reason".into(), reason(why)),
        ]);
        headers.extend(s.local_contact.map(|uri| Contact::from(uri).into()));
        Some(Request {
            method: Method::Bye,
            uri: target,
            version: Version::V2,
            headers: headers.into(),
            body: Vec::new(),
        })
    }

    /// Sends a request and waits for its final response.
    async fn send(&self, request: Request) -> rsipstack::Result<Option<Response>> {
        let key = TransactionKey::from_request(&request, TransactionRole::Client)?;
        let first_hop = request.route_header().and_then(|r| first_hop(r.value()));
        let mut transaction = Transaction::new_client(key, request, self.office.endpoint.clone(), self.flow());
        transaction.destination = first_hop;
        transaction.send().await?;
        while let Some(message) = transaction.receive().await {
            if let SipMessage::Response(response) = message
                && response.status_code.kind() != StatusCodeKind::Provisional
            {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    fn peer(&self) -> std::sync::MutexGuard<'_, Option<Peer>> {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From and To as we write them: the stack keeps them as the INVITE had them.
fn parties(s: &DialogSnapshot) -> [Header; 2] {
    let (from, to) = (s.from.to_string(), s.to.to_string());
    match s.role {
        TransactionRole::Client => [Header::From(from.into()), Header::To(to.into())],
        TransactionRole::Server => [Header::From(to.into()), Header::To(from.into())],
    }
}

/// RFC 3326 §2: 200 is the status of a session that ends as sessions do.
fn reason(why: &str) -> String {
    let text: String = why.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).take(200).collect();
    format!("SIP;cause=200;text=\"{text}\"")
}

/// Where a request with this Route goes.
fn first_hop(route: &str) -> Option<SipAddr> {
    let uri = route.split_once('<')?.1.split_once('>')?.0;
    SipAddr::try_from(&Uri::try_from(uri).ok()?).ok()
}
