//! What becomes of a peer's bytes before anyone asks who sent them: every reader of the edge, one after the other, as a
//! server runs them.
//!
//! In come a datagram, a stream or a body; out comes what would be done with it. Knows no socket, no call and no
//! configuration: it is here so that the readers can be given anything (`fuzz/`, `tests/hostile_bytes_never_panic.rs`).

use crate::call::sdp::{Description, Srtp, Terms};
use crate::io::sip::cloakroom::Cloakroom;
use crate::io::sip::digest::Claim;
use crate::io::sip::door::{self, DATAGRAM, Limits, STACK_LIMIT, STREAM};
use crate::io::sip::fault::Fault;
use crate::io::sip::frame::{Frame, Framer};
use crate::io::sip::inspectors::Inspectors;
use crate::io::sip::message::{self, Head, Read};
use crate::io::sip::reliable::Provisional;
use crate::io::sip::timer::{self, Policy, Session};
use crate::io::sip::{admission, challenges, fork, in_dialog};
use rsipstack::sip::{Header, Request, Response, SipMessage, Transport};
use rsipstack::transaction::endpoint::MessageInspector;
use rsipstack::transport::SipConnection;
use std::net::{Ipv4Addr, SocketAddr};

/// Where everything comes from: an address of RFC 5737, which is nobody's.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5060);
const TAG: &str = "edge";
const POLICY: Policy = Policy { expires: Some(1800), min_se: 90 };

/// What is done with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing, and nobody is told.
    Dropped,
    /// It is answered, and forgotten.
    Answered {
        /// The status.
        status: u16,
        /// The whole answer.
        bytes: Vec<u8>,
    },
    /// The calls get it.
    Passed,
}

/// What becomes of a datagram.
pub fn datagram(bytes: &[u8]) -> Outcome {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Outcome::Dropped; // a keep-alive
    }
    let bodies = Cloakroom::default();
    judged(bytes, &DATAGRAM, |bytes| {
        let short = if bytes.len() > STACK_LIMIT { bodies.take(bytes) } else { None };
        passed(short.as_deref().unwrap_or(bytes), Transport::Udp, bodies.clone())
    })
}

/// What becomes of what comes on one connection, in pieces of any size: an outcome a message, until the connection is
/// closed because its bytes cannot be told apart any more, or are no SIP.
pub fn stream<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Outcome> {
    let (mut framer, mut outcomes) = (Framer::default(), Vec::new());
    for piece in pieces {
        framer.push(piece);
        loop {
            let message = match framer.next() {
                Ok(Some(Frame::Message(message))) => message,
                Ok(Some(Frame::Ping)) => continue,
                Ok(None) => break,
                Err(_) => return outcomes,
            };
            if matches!(message::read(&message), Read::Noise) {
                return outcomes;
            }
            outcomes.push(judged(&message, &STREAM, |bytes| passed(bytes, Transport::Tcp, Cloakroom::default())));
        }
    }
    outcomes
}

/// Whether the body of an INFO names a key that means something here.
pub fn is_key(body: &[u8]) -> bool {
    in_dialog::key(body).is_some()
}

fn judged(bytes: &[u8], limits: &Limits, pass: impl FnOnce(&[u8]) -> Outcome) -> Outcome {
    match message::read(bytes) {
        Read::Noise => Outcome::Dropped,
        Read::Response if bytes.len() > limits.response => Outcome::Dropped,
        Read::Response => pass(bytes),
        Read::Faulty(head, fault) => answered(&head, &fault),
        Read::Request(head) => match door::serves(&head, door::understood(&head, bytes, limits.head), false) {
            Ok(()) if head.method == "OPTIONS" && head.to_tag().is_none() => answered(&head, &door::able(None)),
            Ok(()) => pass(bytes),
            Err(_) if head.method == "ACK" => Outcome::Dropped,
            Err(fault) => answered(&head, &fault),
        },
    }
}

fn answered(head: &Head, fault: &Fault) -> Outcome {
    let (bytes, _) = door::response(head, fault, TAG, PEER);
    Outcome::Answered { status: fault.status, bytes }
}

/// The stack's reader, what we mend for it, and then all that calls read of a message.
fn passed(bytes: &[u8], transport: Transport, bodies: Cloakroom) -> Outcome {
    let message = SipMessage::try_from(bytes).ok();
    let message = message.and_then(|message| SipConnection::update_msg_received(message, PEER, transport).ok());
    let Some(message) = message else { return Outcome::Dropped };
    match Inspectors::new(bodies).after_received(message, None) {
        SipMessage::Request(request) => read_request(&request),
        SipMessage::Response(response) => read_response(&response),
    }
    Outcome::Passed
}

// What the readers make of it is for their own tests; here they are only to survive it.

fn read_request(request: &Request) {
    let terms = Terms { srtp: Srtp::Optional, ipv6: false };
    let _ = request.headers.iter().filter_map(admission::authorization).filter_map(Claim::read).count();
    let _ = (admission::identity(request), POLICY.answer(request.headers.iter()));
    let _ = (fork::is_wanted(request), fork::update(request, terms), admission::offer(request, terms));
    let provisional = Provisional::new(request, 1);
    for header in request.headers.iter() {
        if let Header::RAck(rack) = header {
            let _ = provisional.acknowledge(rack.value());
        }
    }
    let _ = in_dialog::key(&request.body);
}

fn read_response(response: &Response) {
    let terms = Terms { srtp: Srtp::Optional, ipv6: false };
    let _ = (Session::agreed(response), timer::wanted(response), challenges::asked(response));
    let _ = Description::read(&response.body, terms);
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &str = "OPTIONS sip:a@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
        From: <sip:b@example.com>;tag=1\r\nTo: <sip:a@example.com>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\
        Content-Length: 0\r\n\r\n";

    #[test]
    fn each_gets_what_a_server_would_do() {
        let status = |outcome| match outcome {
            Outcome::Answered { status, .. } => status,
            Outcome::Dropped => 0,
            Outcome::Passed => 1,
        };
        let invite = OPTIONS.replace("OPTIONS", "INVITE").replace("Call-ID", "Contact: <sip:b@192.0.2.1>\r\nCall-ID");
        for (text, expected) in [
            (OPTIONS.to_owned(), 200),
            (OPTIONS.replace("CSeq: 1", "CSeq: x"), 400),
            (OPTIONS.replace("OPTIONS", "REGISTER"), 405),
            (OPTIONS.replace("OPTIONS", "ACK"), 1),
            (OPTIONS.replace("OPTIONS", "ACK").replace("Call-ID: c\r\n", ""), 0),
            (invite, 1),
            ("hello".into(), 0),
            ("\r\n\r\n".into(), 0),
        ] {
            assert_eq!(status(datagram(text.as_bytes())), expected, "{text}");
            if text != "hello" && text != "\r\n\r\n" {
                let both = format!("{text}{OPTIONS}");
                let outcomes: Vec<u16> = stream(both.as_bytes().chunks(7)).into_iter().map(status).collect();
                // What is no SIP closes a connection.
                let noise = matches!(message::read(text.as_bytes()), Read::Noise);
                assert_eq!(outcomes, if noise { vec![] } else { vec![expected, 200] }, "{text}");
            }
        }
        assert!(stream([&b"hello\r\n\r\n"[..], OPTIONS.as_bytes()]).is_empty());
        assert!(is_key(b"Signal=5") && !is_key(b"Signal=55"));
    }
}
