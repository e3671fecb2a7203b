//! Bodies that are too long for the stack, while it reads their heads.
//!
//! The stack reads 8,192 bytes of a datagram and cuts the rest without a word; a recording client's INVITE is often longer.
//! So the door takes such a body off, leaves a ticket in its place, and gives the stack the head; once the stack has read
//! that, the body is put back before anybody looks at it.

use crate::io::clock;
use rsipstack::sip::{Header, SipMessage};
use rsipstack::transaction::endpoint::MessageInspector;
use rsipstack::transport::SipAddr;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The header that carries a ticket.
const TICKET: &str = "X-Sotto-Body";
/// Bodies that wait at most, each of a datagram at most: 16 MiB. A body waits for the microseconds the stack takes; one that
/// the stack did not ask for, because it dropped the head, goes when others have come. A head whose body is gone is as if
/// the datagram was lost: it has no body, is refused, and asked again.
const MOST: usize = 256;

/// Where bodies wait.
#[derive(Clone, Default)]
pub struct Cloakroom {
    bodies: Arc<Mutex<VecDeque<Waiting>>>,
}

/// A body that waits.
struct Waiting {
    ticket: String,
    body: Vec<u8>,
}

impl Cloakroom {
    /// The head of a request with a ticket instead of its body; `None` where there is no head.
    pub fn take(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        let end = datagram.windows(4).position(|w| w == b"\r\n\r\n")?;
        let (top, body) = (datagram.get(..end)?, datagram.get(end + 4..)?);
        let top = std::str::from_utf8(top).ok()?;
        let length = content_length(top);
        let body = body.get(..length.unwrap_or(body.len()).min(body.len()))?.to_vec();
        // Unguessable: nobody gets the body of another by writing a ticket themselves.
        let ticket = format!("{:016x}{:016x}", clock::random(), clock::random());
        let head = format!("{}{TICKET}: {ticket}\r\nContent-Length: 0\r\n\r\n", without_length(top));
        let mut bodies = self.bodies();
        if bodies.len() >= MOST {
            bodies.pop_front();
        }
        bodies.push_back(Waiting { ticket, body });
        Some(head.into_bytes())
    }

    fn give_back(&self, ticket: &str) -> Option<Vec<u8>> {
        let mut bodies = self.bodies();
        let at = bodies.iter().position(|waiting| waiting.ticket == ticket)?;
        bodies.remove(at).map(|waiting| waiting.body)
    }

    fn bodies(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MessageInspector for Cloakroom {
    fn before_send(&self, message: SipMessage, _to: Option<&SipAddr>) -> SipMessage {
        message
    }

    fn after_received(&self, message: SipMessage, _from: Option<&SipAddr>) -> SipMessage {
        let SipMessage::Request(mut request) = message else { return message };
        let is_ticket = |h: &Header| matches!(h, Header::Other(name, _) if name.eq_ignore_ascii_case(TICKET));
        let ticket = request.headers.iter().find_map(|h| match h {
            Header::Other(_, ticket) if is_ticket(h) => Some(ticket.trim().to_owned()),
            _ => None,
        });
        if let Some(body) = ticket.and_then(|ticket| self.give_back(&ticket)) {
            request.headers.retain(|h| !is_ticket(h) && !matches!(h, Header::ContentLength(_)));
            request.headers.push(Header::ContentLength((body.len() as u32).into()));
            request.body = body;
        }
        SipMessage::Request(request)
    }
}

/// The lines of a head, each with its end, but for Content-Length.
fn without_length(top: &str) -> String {
    let (mut kept, mut dropping) = (String::with_capacity(top.len() + 2), false);
    for line in top.split("\r\n") {
        // A folded line belongs to the one before.
        dropping = if line.starts_with([' ', '\t']) { dropping } else { is_length(line) };
        if !dropping {
            kept.push_str(line);
            kept.push_str("\r\n");
        }
    }
    kept
}

fn is_length(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default().trim();
    name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("l")
}

fn content_length(top: &str) -> Option<usize> {
    top.split("\r\n").find(|line| is_length(line))?.split_once(':')?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "INVITE sip:srs@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
        From: <sip:a@example.com>;tag=1\r\nTo: <sip:srs@example.com>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n";

    fn body_of(message: SipMessage) -> Vec<u8> {
        match message {
            SipMessage::Request(request) => request.body,
            SipMessage::Response(_) => panic!("a request"),
        }
    }

    #[test]
    fn a_body_comes_back_to_its_head_and_to_no_other() {
        let room = Cloakroom::default();
        let long = "x".repeat(30_000);
        for length in [format!("Content-Length: {}\r\n", long.len()), "l :\r\n 9\r\n".into(), String::new()] {
            let head = room.take(format!("{HEAD}{length}\r\n{long}").as_bytes()).unwrap();
            assert!(head.len() < 1_000);
            let message = SipMessage::try_from(&head[..]).unwrap();
            assert!(body_of(message.clone()).is_empty());
            let whole = room.after_received(message.clone(), None);
            assert!(
                !whole.to_string().contains(TICKET)
                    && whole.to_string().contains(&format!("Content-Length: {}", long.len()))
            );
            assert_eq!(body_of(whole), long.as_bytes());
            assert!(body_of(room.after_received(message, None)).is_empty(), "a ticket counts once");
        }
        let forged = format!("{HEAD}{TICKET}: 0\r\n\r\n");
        room.take(format!("{HEAD}\r\n{long}").as_bytes()).unwrap();
        let message = SipMessage::try_from(forged.as_bytes()).unwrap();
        assert!(body_of(room.after_received(message, None)).is_empty());
    }

    #[test]
    fn what_nobody_fetches_goes_in_the_end() {
        let room = Cloakroom::default();
        for _ in 0..2 * MOST {
            room.take(format!("{HEAD}\r\nbody").as_bytes()).unwrap();
        }
        assert_eq!(room.bodies().len(), MOST);
    }
}
