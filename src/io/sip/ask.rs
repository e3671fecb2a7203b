//! Requests of ours within a dialog: BYE, and everything that is asked of a party while the call goes on.
//!
//! The stack's own requests go to the Contact of long ago and count on their own; these go where the peer last said, one
//! number after the other, and every outcome is an answer or none.

use crate::io::clock;
use crate::io::sip::challenges;
use crate::io::sip::digest::Asked;
use crate::io::sip::line::{Line, Peer};
use rsipstack::dialog::dialog::DialogSnapshot;
use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::typed::{CSeq, Contact};
use rsipstack::sip::{Header, Method, Request, Response, SipMessage, StatusCodeKind, Uri, Version};
use rsipstack::transaction::Transaction;
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transport::SipAddr;
use std::sync::atomic::Ordering;

impl Line {
    /// Asks the peer something: its final answer, 408 where none came; none where nothing could be sent.
    pub async fn ask(&self, method: Method, headers: Vec<Header>, body: Option<Vec<u8>>) -> Option<Response> {
        let s = self.dialog.snapshot();
        let known = self.peer().clone();
        let peer = known.unwrap_or_else(|| Peer { target: s.remote_uri.clone(), routes: s.route_set.clone() });
        self.ask_at(method, (peer, parties(&s)), headers, body).await
    }

    /// Asks in the early dialog of a provisional answer to our INVITE (RFC 3261 §12.1.2): several may ring, each in its own.
    pub async fn ask_early(&self, early: &Response, method: Method, headers: Vec<Header>) -> Option<Response> {
        let s = self.dialog.snapshot();
        let peer = Peer::of(early).unwrap_or_else(|| Peer { target: s.remote_uri.clone(), routes: Vec::new() });
        let to = early.to_header().ok()?.clone();
        let [from, _] = parties(&s);
        self.ask_at(method, (peer, [from, Header::To(to)]), headers, None).await
    }

    async fn ask_at(
        &self,
        method: Method,
        way: (Peer, [Header; 2]),
        headers: Vec<Header>,
        body: Option<Vec<u8>>,
    ) -> Option<Response> {
        let Some(request) = self.request(method, way, headers, body) else {
            tracing::error!(side = ?self.side, %method, "there is no address to send from");
            return None;
        };
        let mut sent = self.send(request.clone()).await;
        if let Ok(Some(response)) = &sent
            && let Some(again) = self.with_proof(request, response)
        {
            sent = self.send(again).await;
        }
        match sent {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(side = ?self.side, %method, %error, "a request could not be sent");
                None
            }
        }
    }

    /// The number of our next request. The INVITE of a dialog that we began was counted by the stack.
    fn next_cseq(&self, snapshot: &DialogSnapshot) -> u32 {
        self.cseq.fetch_max(snapshot.local_cseq, Ordering::AcqRel);
        self.cseq.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    fn request(
        &self,
        method: Method,
        (Peer { target, routes }, parties): (Peer, [Header; 2]),
        more: Vec<Header>,
        body: Option<Vec<u8>>,
    ) -> Option<Request> {
        let s = self.dialog.snapshot();
        let mut headers = vec![Header::Via(self.office.endpoint.get_via(None, None).ok()?.into())];
        headers.extend(routes.into_iter().map(Header::Route));
        headers.extend(parties);
        headers.extend([
            Header::CallId(s.id.call_id.clone().into()),
            Header::CSeq(CSeq { seq: self.next_cseq(&s), method }.into()),
            Header::MaxForwards(70.into()),
            Header::UserAgent(crate::io::sip::USER_AGENT.into()),
        ]);
        headers.extend(s.local_contact.map(|uri| Contact::from(uri).into()));
        headers.extend(more);
        let body = body.unwrap_or_default();
        Some(Request { method, uri: target, version: Version::V2, headers: headers.into(), body })
    }

    /// The request once more, with what its 401 or 407 asks for (RFC 3261 §22.1).
    fn with_proof(&self, mut request: Request, response: &Response) -> Option<Request> {
        let challenge =
            Some(response).filter(|r| matches!(r.status_code.code(), 401 | 407)).and_then(challenges::asked)?;
        let (uri, method) = (request.uri.to_string(), request.method.to_string());
        let asked = Asked { method: &method, uri: &uri };
        let value = challenge.answer(self.login.get()?, asked, &format!("{:016x}", clock::random()));
        let seq = self.next_cseq(&self.dialog.snapshot());
        let via = self.office.endpoint.get_via(None, None).ok()?;
        request.headers.unique_push(Header::Via(via.into()));
        request.headers.unique_push(Header::CSeq(CSeq { seq, method: request.method }.into()));
        request.headers.push(match response.status_code.code() {
            407 => Header::ProxyAuthorization(value.into()),
            _ => Header::Authorization(value.into()),
        });
        Some(request)
    }

    /// Sends a request and waits for its final response.
    async fn send(&self, request: Request) -> rsipstack::Result<Option<Response>> {
        let key = TransactionKey::from_request(&request, TransactionRole::Client)?;
        let first_hop = request.route_header().and_then(|r| first_hop(r.value()));
        let mut transaction = Transaction::new_client(key, request, self.office.endpoint.clone(), self.flow());
        transaction.destination = first_hop;
        transaction.send().await?;
        while let Some(message) = transaction.receive().await {
            let SipMessage::Response(response) = message else { continue };
            match response.status_code.kind() {
                StatusCodeKind::Provisional => continue,
                // RFC 6026 §7.2: a 2xx to an INVITE is repeated until our ACK arrives, and acknowledged each time.
                StatusCodeKind::Successful if transaction.original.method == Method::Invite => {
                    tokio::spawn(async move { while transaction.receive().await.is_some() {} });
                }
                _ => {}
            }
            return Ok(Some(response));
        }
        Ok(None)
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

/// Where a request with this Route goes.
fn first_hop(route: &str) -> Option<SipAddr> {
    let uri = route.split_once('<')?.1.split_once('>')?.0;
    SipAddr::try_from(&Uri::try_from(uri).ok()?).ok()
}
