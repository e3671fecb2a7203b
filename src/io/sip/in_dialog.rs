//! Requests within a call: BYE, re-INVITE, UPDATE, INFO, REFER, OPTIONS.
//!
//! The stack's own handling would leave a dialog that was asked OPTIONS, or a re-INVITE whose ACK is outstanding, in a
//! state in which it neither answers nor hangs up. So each request is answered on its own transaction, here.

use crate::call::Digit;
use crate::io::sip::admission;
use crate::io::sip::controller::Message;
use crate::io::sip::desk::source;
use crate::io::sip::door::ALLOW;
use crate::io::sip::fault::Fault;
use crate::io::sip::fork;
use crate::io::sip::line::{Line, Side};
use crate::io::sip::message;
use crate::io::sip::refer::Refer;
use crate::io::sip::timer::Session;
use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::typed::Contact;
use rsipstack::sip::{Header, Method, Scheme, SipMessage, StatusCode, Uri};
use rsipstack::transaction::{Transaction, TransactionState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{MutexGuard, oneshot};

/// How long a request that overtook our ACK, or its own, is held.
const HOLD: Duration = Duration::from_secs(2);
/// How long the controller may take over an offer; the media shard answers in milliseconds.
const DECISION: Duration = Duration::from_secs(5);
/// How long an ACK that has come may take to be read.
const ACK_IS_READ: Duration = Duration::from_millis(200);

/// Serves one request.
pub async fn serve(line: Arc<Line>, mut transaction: Transaction) {
    if let Err(fault) = in_turn(&line, &transaction).await {
        return answer(&mut transaction, &line, Err(fault)).await;
    }
    match transaction.original.method {
        Method::Bye => bye(&line, &mut transaction).await,
        Method::Invite => reinvite(&line, &mut transaction).await,
        Method::Update => update(&line, &mut transaction).await,
        Method::PRack => prack(&line, &mut transaction).await,
        Method::Info => info(&line, &mut transaction).await,
        Method::Refer => refer(&line, &mut transaction).await,
        Method::Options => {
            let capabilities = vec![Header::Allow(ALLOW.into()), Header::Accept("application/sdp".into())];
            send(&mut transaction, StatusCode::OK, capabilities, None).await;
        }
        Method::Notify => notify(&line, &mut transaction).await,
        Method::Ack => {}
        _ => answer(&mut transaction, &line, Err(not_served(ALLOW))).await,
    }
}

fn not_served(allow: &str) -> Fault {
    Fault::new(405, "this is not served within a call").with("Allow", allow)
}

/// Right peer, right order, and not before the dialog stands.
async fn in_turn(line: &Line, transaction: &Transaction) -> Result<(), Fault> {
    let request = &transaction.original;
    let tag = request.from_header().ok().and_then(|f| message::parameter(f.value(), "tag"));
    if !line.is_peer(tag.unwrap_or_default()) {
        return Err(Fault::new(481, "there is no such call here (any more)"));
    }
    let cseq = request.cseq_header().and_then(|c| c.seq()).unwrap_or(0);
    if request.method == Method::Ack {
        return Ok(());
    }
    if !line.in_order(cseq) {
        return Err(Fault::new(500, "CSeq is lower than that of an earlier request"));
    }
    if matches!(request.method, Method::Bye | Method::PRack) {
        return Ok(());
    }
    let stands = tokio::time::timeout(HOLD, line.established()).await;
    stands.map_err(|_| Fault::new(500, "the call is not answered yet").with("Retry-After", "2"))
}

async fn bye(line: &Arc<Line>, transaction: &mut Transaction) {
    let settled = line.side == Side::Caller || line.dialog.state().is_confirmed();
    if settled {
        if let Err(error) = line.dialog.clone().handle(transaction).await {
            tracing::warn!(%error, "a BYE could not be answered");
        }
    } else {
        send(transaction, StatusCode::OK, Vec::new(), None).await;
    }
    line.hung_up();
    if line.done.is_cancelled() {
        // One of several that were called, and not the one that has the call.
        return;
    }
    let reason = match line.side {
        Side::Caller => "caller hung up",
        Side::Called => "called party hung up",
    };
    line.gone(reason).await;
}

/// Asks the controller for an answer to the offer in a request, or for an offer of ours where it has none.
async fn decide(line: &Line, transaction: &Transaction) -> Result<Vec<u8>, Fault> {
    let (reply, decided) = oneshot::channel();
    let message = match line.is_recording() {
        true => Message::Recorded { update: Box::new(fork::update(&transaction.original, line.terms)?), reply },
        false => {
            let offer = admission::offer(&transaction.original, line.terms)?.map(Box::new);
            Message::Offer { line: line.key.clone(), offer, reply }
        }
    };
    let ask = async {
        line.tell(message).await.then_some(())?;
        decided.await.ok()
    };
    match tokio::time::timeout(DECISION, ask).await {
        Ok(Some(decision)) => decision,
        Ok(None) => Err(Fault::new(481, "the call is over")),
        Err(_) => Err(Fault::new(500, "no decision in time").with("Retry-After", "2")),
    }
}

/// The turn of an offer, one after the other. RFC 3261 §14.2: who crosses an offer of ours waits a random time, who sends two
/// at once a little; but the ACK to the one before may be here already, and about to be read.
async fn turn(line: &Line) -> Result<MutexGuard<'_, ()>, Fault> {
    if line.offering.load(Ordering::Acquire) {
        return Err(Fault::new(491, "Request Pending"));
    }
    let waited = tokio::time::timeout(ACK_IS_READ, line.renegotiating.lock()).await;
    waited.map_err(|_| Fault::new(500, "another offer is being answered").with("Retry-After", "1"))
}

async fn reinvite(line: &Arc<Line>, transaction: &mut Transaction) {
    let _turn = match turn(line).await {
        Ok(turn) => turn,
        Err(fault) => return answer(transaction, line, Err(fault)).await,
    };
    let _ = transaction.send_trying().await;
    let offered = match line.is_recording() {
        true => fork::offers(&transaction.original),
        false => !transaction.original.body.is_empty(),
    };
    let decision = match alive(line, transaction) {
        Ok(()) => decide(line, transaction).await,
        Err(fault) => Err(fault),
    };
    let accepted = decision.is_ok();
    answer(transaction, line, decision).await;
    if !accepted {
        return;
    }
    line.refreshed(&transaction.original);
    let Some(ack) = acknowledged(transaction).await else {
        if transaction.state == TransactionState::Terminated {
            // RFC 3261 §14.2: without an ACK the session is over.
            let reason = "a re-INVITE was never acknowledged";
            line.gone(reason).await;
            line.bye("the answer never came").await;
        }
        return;
    };
    if !offered {
        line.tell(Message::Answered { line: line.key.clone(), answer: ack }).await;
    }
}

/// A sign of life of the peer (RFC 4028 §9): what it asks for, agreed on, or 422.
fn alive(line: &Line, transaction: &Transaction) -> Result<(), Fault> {
    let headers = || transaction.original.headers.iter();
    let session = line.office.policy.answer(headers())?;
    line.allows(headers());
    line.agree(session);
    Ok(())
}

/// The body of the ACK. The stack repeats the 2xx until it comes or 64 × T1 have passed.
async fn acknowledged(transaction: &mut Transaction) -> Option<Vec<u8>> {
    while let Some(received) = transaction.receive().await {
        if let SipMessage::Request(request) = received
            && request.method == Method::Ack
        {
            return Some(request.body);
        }
    }
    None
}

async fn update(line: &Arc<Line>, transaction: &mut Transaction) {
    if transaction.original.body.is_empty() {
        // A mere refresh of the Contact or a sign of life (RFC 3311 §5.2).
        if let Err(fault) = alive(line, transaction) {
            return answer(transaction, line, Err(fault)).await;
        }
        line.refreshed(&transaction.original);
        let mut headers = vec![contact(line, transaction), Header::Allow(ALLOW.into())];
        headers.extend(line.session().map(Session::as_answer).unwrap_or_default());
        return send(transaction, StatusCode::OK, headers, None).await;
    }
    let turn = match turn(line).await {
        Ok(turn) => turn,
        Err(fault) => return answer(transaction, line, Err(fault)).await,
    };
    let decision = match alive(line, transaction) {
        Ok(()) => decide(line, transaction).await,
        Err(fault) => Err(fault),
    };
    // Whoever has the answer may ask again at once.
    drop(turn);
    if decision.is_ok() {
        line.refreshed(&transaction.original);
    }
    answer(transaction, line, decision).await;
}

/// Our provisional answer has arrived. An offer in it would need an answer before the call has one.
async fn prack(line: &Line, transaction: &mut Transaction) {
    let rack = transaction.original.headers.iter().find_map(|h| match h {
        Header::RAck(rack) => Some(rack.value().to_owned()),
        _ => None,
    });
    let acknowledged = match (&line.provisional, rack) {
        (Some(_), None) => Err(Fault::bad("there is no RAck")),
        (Some(provisional), Some(rack)) => provisional.acknowledge(&rack),
        (None, _) => Err(Fault::new(481, "nothing waits to be acknowledged")),
    };
    match acknowledged {
        Ok(()) if transaction.original.body.is_empty() => send(transaction, StatusCode::OK, Vec::new(), None).await,
        Ok(()) => answer(transaction, line, Err(Fault::new(488, "no offers before the answer"))).await,
        Err(fault) => answer(transaction, line, Err(fault)).await,
    }
}

/// A party wants the other one to talk to somebody else. What becomes of it is told when this is answered (RFC 3515 §2.4.2).
async fn refer(line: &Arc<Line>, transaction: &mut Transaction) {
    let (answered, accepted) = oneshot::channel();
    let asked = match Refer::read(&transaction.original, accepted) {
        Ok(refer) => asked(line, refer).await,
        Err(fault) => Err(fault),
    };
    match asked {
        Ok(quiet) => {
            let mut headers = vec![contact(line, transaction)];
            // RFC 4488 §4.
            headers.extend(quiet.then(|| Header::Other("Refer-Sub".into(), "false".into())));
            send(transaction, StatusCode::Accepted, headers, None).await;
            let _ = answered.send(());
        }
        Err(fault) => answer(transaction, line, Err(fault)).await,
    }
}

/// Asks the controller. Answers whether no news are wanted.
async fn asked(line: &Arc<Line>, refer: Refer) -> Result<bool, Fault> {
    let (reply, decided) = oneshot::channel();
    let quiet = refer.quiet;
    line.tell(Message::Refers { line: line.key.clone(), refer: Box::new(refer), reply }).await;
    match tokio::time::timeout(DECISION, decided).await {
        Ok(Ok(decision)) => decision.map(|()| quiet),
        // Nobody who could be transferred is at the other end of a supervisor's line, or of a recording session's.
        Ok(Err(_)) => Err(Fault::new(603, "nobody can be transferred on this line")),
        Err(_) => Err(Fault::new(500, "no decision in time").with("Retry-After", "2")),
    }
}

/// What the peer tells because we asked (RFC 6665 §4.1.3): who is in its conference.
async fn notify(line: &Line, transaction: &mut Transaction) {
    let event = transaction.original.headers.iter().find_map(|h| match h {
        Header::Event(event) => event.value().split(';').next().map(|e| e.trim().to_ascii_lowercase()),
        _ => None,
    });
    if !line.is_subscribed() {
        let fault = Fault::new(481, "nobody here has subscribed to that");
        return answer(transaction, line, Err(fault)).await;
    }
    if event.as_deref() != Some("conference") {
        let fault = Fault::new(489, "only conference is understood").with("Allow-Events", "conference");
        return answer(transaction, line, Err(fault)).await;
    }
    let body = std::mem::take(&mut transaction.original.body);
    send(transaction, StatusCode::OK, Vec::new(), None).await;
    if !body.is_empty() {
        // A controller that is gone needs no news.
        line.tell(Message::Notified(body)).await;
    }
}

/// Keys by INFO are acknowledged and told to the controller. Anything else is not understood (RFC 6086 §4.2.2).
async fn info(line: &Arc<Line>, transaction: &mut Transaction) {
    let kind = transaction.original.headers.iter().find_map(|h| match h {
        Header::ContentType(kind) => Some(kind.value().trim().to_ascii_lowercase()),
        _ => None,
    });
    match kind.as_deref() {
        None | Some("application/dtmf-relay" | "application/dtmf") => {
            let key = key(&transaction.original.body);
            send(transaction, StatusCode::OK, Vec::new(), None).await;
            if let Some(key) = key {
                // A controller that is gone needs no keys.
                line.tell(Message::Pressed(key)).await;
            }
        }
        Some(_) => {
            let fault = Fault::new(415, "only digits are understood").with("Accept", "application/dtmf-relay");
            answer(transaction, line, Err(fault)).await;
        }
    }
}

/// The key of a body: `Signal=5` with other lines (application/dtmf-relay, as phones write it), or the digit alone
/// (application/dtmf).
pub(super) fn key(body: &[u8]) -> Option<Digit> {
    let text = std::str::from_utf8(body).ok()?;
    let named = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        name.trim().eq_ignore_ascii_case("signal").then(|| value.trim())
    });
    match named.unwrap_or(text.trim()) {
        "*" => Digit::of_event(10),
        "#" => Digit::of_event(11),
        // 10 and 11 are how some phones write the two above.
        digits => Digit::of_event(digits.parse().ok()?),
    }
}

fn contact(line: &Line, transaction: &Transaction) -> Header {
    let peer = source(transaction).map_or(line.office.local.ip(), |from| from.ip());
    // What it began with it goes on with: sip or sips (RFC 3261 §12.1.1).
    let scheme = line.dialog.snapshot().local_contact.and_then(|contact| contact.scheme);
    let uri = Uri { scheme: scheme.or(Some(Scheme::Sip)), ..line.office.contact_for(peer) };
    if line.is_recording() { fork::contact(uri) } else { Contact::from(uri).into() }
}

async fn answer(transaction: &mut Transaction, line: &Line, decision: Result<Vec<u8>, Fault>) {
    match decision {
        Ok(body) => {
            let mut headers = vec![contact(line, transaction), Header::Allow(ALLOW.into())];
            // Metadata may change where media does not (RFC 7866 §9.1).
            let body = Some(body).filter(|body| !body.is_empty());
            headers.extend(body.as_ref().map(|_| Header::ContentType("application/sdp".into())));
            headers.extend(line.session().map(Session::as_answer).unwrap_or_default());
            send(transaction, StatusCode::OK, headers, body).await;
        }
        Err(fault) => send(transaction, fault.status_code(), fault.stack_headers(), None).await,
    }
}

async fn send(transaction: &mut Transaction, status: StatusCode, headers: Vec<Header>, body: Option<Vec<u8>>) {
    if transaction.original.method == Method::Ack {
        return;
    }
    if let Err(error) = transaction.reply_with(status, headers, body).await {
        tracing::warn!(%error, "an answer could not be sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_phones_write_them() {
        let [five, hash, star, zero] = [5, 11, 10, 0].map(Digit::of_event);
        for (body, expected) in [
            ("Signal=5\r\nDuration=160\r\n", five),
            ("Signal= 5\nDuration= 250\n", five),
            ("signal=5", five),
            ("5", five),
            (" 5\r\n", five),
            ("Signal=#\r\n", hash),
            ("Signal=11", hash),
            ("*", star),
            ("Signal=10", star),
            ("Signal=0", zero),
            ("Signal=", None),
            ("Signal=555", None),
            ("Signal=-5", None),
            ("Duration=5", None),
            ("", None),
            ("five", None),
        ] {
            assert!(key(body.as_bytes()) == expected, "{body:?}");
        }
        assert!(key(&[0xff, 0xfe]).is_none());
    }
}
