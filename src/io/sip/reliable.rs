//! Provisional answers that are sure to arrive (RFC 3262), in both roles.
//!
//! As the one who was called we repeat what was said until its PRACK comes, one at a time, and answer the call only then.
//! As the one who calls we acknowledge each to where it came from: the stack would do so too, but to an address of long
//! ago, so what asks for it is hidden from the stack.

use crate::io::sip::door::ALLOW;
use crate::io::sip::fault::Fault;
use crate::io::sip::line::Line;
use crate::io::sip::timer::names;
use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::{Header, Method, Request, Response, SipMessage};
use rsipstack::transaction::endpoint::MessageInspector;
use rsipstack::transport::SipAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::watch;

/// What `Require: 100rel` of an answer is called while the stack sees it.
const HIDDEN: &str = "Sotto-Reliable";
const TAG: &str = "100rel";

/// Hides from the stack that a provisional answer wants a PRACK.
pub struct Hide;

impl MessageInspector for Hide {
    fn before_send(&self, message: SipMessage, _: Option<&SipAddr>) -> SipMessage {
        message
    }

    fn after_received(&self, message: SipMessage, _: Option<&SipAddr>) -> SipMessage {
        let SipMessage::Response(mut response) = message else { return message };
        for header in response.headers.iter_mut() {
            if matches!(header, Header::Require(tags) if names(tags.value(), TAG)) {
                *header = Header::Other(HIDDEN.into(), TAG.into());
            }
        }
        SipMessage::Response(response)
    }
}

/// How a caller wants our provisional answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    /// It does not know of it.
    #[default]
    Plain,
    /// It can: what carries a description is worth it.
    Able,
    /// It wants every one.
    Every,
}

/// Our provisional answers on a line whose INVITE we were sent.
pub struct Provisional {
    wish: Wish,
    /// The CSeq of the INVITE.
    invite: u32,
    /// The number of the last one (RFC 3262 §3).
    number: AtomicU32,
    acknowledged: watch::Sender<bool>,
}

impl Provisional {
    /// For an INVITE; `first` is what its answers are numbered from.
    pub fn new(invite: &Request, first: u32) -> Self {
        let has = |wanted: fn(&Header) -> Option<&str>| invite.headers.iter().filter_map(wanted).any(|v| names(v, TAG));
        let required = has(|h| if let Header::Require(tags) = h { Some(tags.value()) } else { None });
        let supported = has(|h| if let Header::Supported(tags) = h { Some(tags.value()) } else { None });
        let wish = match (required, supported) {
            (true, _) => Wish::Every,
            (false, true) => Wish::Able,
            (false, false) => Wish::Plain,
        };
        let invite = invite.cseq_header().and_then(|c| c.seq()).unwrap_or(0);
        // RFC 3262 §3: from 1 to 2³¹ - 1, and room to count on.
        let number = AtomicU32::new(first % (1 << 30));
        Provisional { wish, invite, number, acknowledged: watch::Sender::new(true) }
    }

    /// Waits until the last one was acknowledged, or given up.
    pub async fn settled(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self.acknowledged.subscribe().wait_for(|yes| *yes).await;
    }

    /// A PRACK: whether it is for the last one (RFC 3262 §3).
    pub fn acknowledge(&self, rack: &str) -> Result<(), Fault> {
        let mut words = rack.split_ascii_whitespace();
        let mut number = || words.next()?.parse::<u32>().ok();
        let named = (number(), number());
        let method = words.next().unwrap_or_default();
        let last = (Some(self.number.load(Ordering::Acquire)), Some(self.invite));
        if named != last || method != "INVITE" {
            return Err(Fault::new(481, "nothing of that number waits to be acknowledged"));
        }
        self.acknowledged.send_replace(true);
        Ok(())
    }

    /// The headers of the next one, and whether it is to be repeated until it is acknowledged.
    fn next(&self, with_body: bool) -> (Vec<Header>, bool) {
        let reliable = match self.wish {
            Wish::Plain => false,
            Wish::Able => with_body,
            Wish::Every => true,
        };
        let mut headers = vec![Header::Allow(ALLOW.into())];
        if reliable {
            self.acknowledged.send_replace(false);
            let number = self.number.fetch_add(1, Ordering::AcqRel).saturating_add(1);
            headers.extend([Header::Require(TAG.into()), Header::RSeq(number.to_string().into())]);
        }
        (headers, reliable)
    }
}

impl Line {
    /// Tells the caller that it rings (180), or, with a description, what can be heard meanwhile (183).
    pub async fn progress(self: &Arc<Self>, body: Option<Vec<u8>>) {
        let Some(provisional) = &self.provisional else { return };
        provisional.settled().await;
        let (mut headers, reliable) = provisional.next(body.is_some());
        if body.is_some() {
            headers.push(Header::ContentType("application/sdp".into()));
        }
        if let Err(error) = self.dialog.ringing(Some(headers.clone()), body.clone()) {
            tracing::warn!(%error, "a provisional answer could not be sent");
        }
        if reliable {
            tokio::spawn(self.clone().repeat(headers, body));
        }
    }

    /// RFC 3262 §3: after T1, then after twice as long each time, for 64 × T1; then the call is refused.
    async fn repeat(self: Arc<Self>, headers: Vec<Header>, body: Option<Vec<u8>>) {
        let Some(provisional) = &self.provisional else { return };
        let timers = self.office.timers;
        let again = async {
            let mut wait = timers.t1;
            loop {
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2);
                let _ = self.dialog.ringing(Some(headers.clone()), body.clone());
            }
        };
        let over = async {
            tokio::select! {
                () = provisional.settled() => {}
                () = self.done.cancelled() => {}
                () = self.established() => {}
                () = again => {}
            }
        };
        if tokio::time::timeout(timers.patience(), over).await.is_err() {
            let reason = "caller never acknowledged a provisional answer";
            self.gone(reason).await;
        }
    }

    /// Acknowledges a provisional answer to our INVITE, if it wants that, in the dialog it came from.
    pub async fn acknowledge_provisional(&self, response: &Response) {
        let wanted = response.headers.iter().any(|h| matches!(h, Header::Other(name, _) if name == HIDDEN));
        let number = response.headers.iter().find_map(|h| match h {
            Header::RSeq(number) => number.value().trim().parse::<u32>().ok(),
            _ => None,
        });
        let (true, Some(number)) = (wanted, number) else { return };
        let Ok(invite) = response.cseq_header().and_then(|c| c.seq()) else { return };
        let rack = Header::RAck(format!("{number} {invite} INVITE").into());
        self.ask_early(response, Method::PRack, vec![rack]).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provisional(header: &str) -> Provisional {
        let text = format!(
            "INVITE sip:1@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:2@127.0.0.1>;tag=a\r\n\
             To: <sip:1@127.0.0.1>\r\nCall-ID: x\r\nCSeq: 7 INVITE\r\n{header}Content-Length: 0\r\n\r\n"
        );
        let Ok(SipMessage::Request(request)) = SipMessage::try_from(text.as_bytes()) else { panic!("{text}") };
        Provisional::new(&request, 40)
    }

    #[test]
    fn a_caller_gets_what_it_can_acknowledge() {
        for (header, ringing, described) in
            [("", false, false), ("Supported: timer, 100rel\r\n", false, true), ("Require: 100rel\r\n", true, true)]
        {
            assert_eq!(provisional(header).next(false).1, ringing, "{header}");
            assert_eq!(provisional(header).next(true).1, described, "{header}");
        }
    }

    #[test]
    fn only_the_last_one_can_be_acknowledged() {
        let provisional = provisional("Require: 100rel\r\n");
        assert!(provisional.next(true).1);
        for wrong in ["40 7 INVITE", "42 7 INVITE", "41 8 INVITE", "41 7 UPDATE", "41 7", "", "-1 7 INVITE"] {
            assert!(provisional.acknowledge(wrong).is_err() && !*provisional.acknowledged.borrow(), "{wrong}");
        }
        assert!(provisional.acknowledge("41 7 INVITE").is_ok() && *provisional.acknowledged.borrow());
    }
}
