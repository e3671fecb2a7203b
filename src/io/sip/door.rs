//! The guard before the SIP stack, the same for datagrams and connections.
//!
//! In come messages; what is sound, from somebody we know, and for a dialog we have, goes on to the stack. Everything
//! else is answered here without keeping anything (RFC 3261 §8.2.7), so that no stranger and no flood can make us
//! remember it.

use crate::io::clock;
use crate::io::load::{Load, Why};
use crate::io::sip::digest::Asked;
use crate::io::sip::fault::Fault;
use crate::io::sip::fork::OPTION;
use crate::io::sip::frame;
use crate::io::sip::line::Line;
use crate::io::sip::message::{self, Head, Read, parameter, split_list};
use crate::io::sip::refer::QUIET;
use crate::io::sip::switchboard::Switchboard;
use crate::io::sip::trust::Look;
use crate::io::siprec::ACCEPT;
use rsipstack::sip::prelude::{HeadersExt, ToTypedHeader};
use rsipstack::sip::{Method, SipMessage};
use rsipstack::transaction::endpoint::EndpointInner;
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock, Weak};

/// The methods we serve.
pub const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY";
/// The extensions a peer may require (RFC 4028, RFC 3262, RFC 3911, RFC 3891, RFC 4488, RFC 7866).
const SERVED: [&str; 6] = ["timer", "100rel", "join", "replaces", QUIET, OPTION];
/// What the stack reads of a datagram; it cuts longer ones without a word.
pub const STACK_LIMIT: usize = 8192;
/// What may come as a datagram: a head that fits there with a ticket for its body, whatever the body has.
pub(super) const DATAGRAM: Limits = Limits { head: STACK_LIMIT - 128, response: STACK_LIMIT };
/// What a connection carries: its framing bounds the body.
pub(super) const STREAM: Limits = Limits { head: frame::MAX_HEAD, response: frame::MAX_HEAD + frame::MAX_BODY };
/// Requests a peer may make in one call in a second; keys told by INFO are some ten.
const PACE: f32 = 50.0;

/// Where a message came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The address.
    pub address: SocketAddr,
    /// The place in `[[trunk]]` of the trunk whose name the connection's certificate carries.
    pub certified: Option<usize>,
}

/// The guard.
pub struct Door {
    board: Weak<Switchboard>,
    endpoint: OnceLock<Weak<EndpointInner>>,
    /// Makes our To tags: the same for every retransmission of a request, unguessable for everyone else.
    tags: RandomState,
    limits: Limits,
    /// Whether nobody on the way can read what comes.
    secure: bool,
}

/// Bytes a message may have.
pub(super) struct Limits {
    /// The head of a request.
    pub head: usize,
    /// A whole response.
    pub response: usize,
}

/// How fast a source sends what belongs to no call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As it may.
    Fine,
    /// A trunk, faster than it may: it is told.
    TooFast,
    /// Somebody else, faster than they may: they are told nothing.
    Flood,
}

/// What becomes of a message.
pub enum Verdict {
    /// The stack gets it.
    Pass,
    /// It is no SIP.
    Noise,
    /// Nobody gets it, and nobody is told.
    Drop,
    /// It is answered here.
    Answer(Head, Fault),
}

impl Door {
    /// Guards datagrams.
    pub fn new(board: Weak<Switchboard>) -> Self {
        Door { board, endpoint: OnceLock::new(), tags: RandomState::new(), limits: DATAGRAM, secure: false }
    }

    /// Guards connections, which carry longer messages.
    pub fn for_streams(self, secure: bool) -> Self {
        Door { limits: STREAM, secure, ..self }
    }

    /// Names the stack whose transactions count.
    pub fn attach(&self, endpoint: Weak<EndpointInner>) {
        let _ = self.endpoint.set(endpoint);
    }

    /// What becomes of a message from `from`.
    pub fn judge(&self, datagram: &[u8], from: &Origin) -> Verdict {
        if datagram.iter().all(u8::is_ascii_whitespace) {
            return Verdict::Pass; // a keep-alive (RFC 5626 §3.5.1)
        }
        match message::read(datagram) {
            Read::Noise => Verdict::Noise,
            Read::Response if datagram.len() > self.limits.response || !self.is_awaited(datagram) => Verdict::Drop,
            Read::Response => Verdict::Pass,
            Read::Faulty(head, fault) => match self.pace(from) {
                Pace::Fine if !self.is_silent_to(from) => Verdict::Answer(head, fault),
                Pace::Fine | Pace::TooFast | Pace::Flood => Verdict::Drop,
            },
            Read::Request(head) => {
                let line = self.line(&head);
                // What belongs to a call is served, however much its sender sends besides.
                let pace = if line.is_some() { Pace::Fine } else { self.pace(from) };
                if pace == Pace::Flood || (head.to_tag().is_none() && self.is_silent_to(from)) {
                    return Verdict::Drop;
                }
                match self.admit(&head, datagram, from, (line, pace)) {
                    Ok(()) => Verdict::Pass,
                    Err(_) if head.method == "ACK" => Verdict::Drop,
                    Err(fault) => Verdict::Answer(head, fault),
                }
            }
        }
    }

    fn is_silent_to(&self, from: &Origin) -> bool {
        self.board.upgrade().is_some_and(|board| board.trust.is_silenced(from))
    }

    /// Whether a source that sends what belongs to no call may go on.
    fn pace(&self, from: &Origin) -> Pace {
        let Some(board) = self.board.upgrade() else { return Pace::Fine };
        let (known, limits) = (board.trust.is_known(from), board.config.load);
        let rate = if known { limits.trunk_messages } else { limits.messages };
        if board.sources.may_send(from.address.ip(), rate as f32, clock::now()) {
            return Pace::Fine;
        }
        board.host.load.dropped();
        if known { Pace::TooFast } else { Pace::Flood }
    }

    /// The line of a request within a call.
    fn line(&self, head: &Head) -> Option<Arc<Line>> {
        self.board.upgrade()?.line(head.first("call-id").unwrap_or_default(), head.to_tag()?)
    }

    /// Whether a response answers something we asked: the stack would throw others away, one after the other.
    fn is_awaited(&self, datagram: &[u8]) -> bool {
        let Ok(SipMessage::Response(response)) = SipMessage::try_from(datagram) else { return false };
        TransactionKey::from_response(&response, TransactionRole::Client).is_ok_and(|key| self.in_progress(&key))
    }

    fn admit(
        &self,
        head: &Head,
        datagram: &[u8],
        from: &Origin,
        (line, pace): (Option<Arc<Line>>, Pace),
    ) -> Result<(), Fault> {
        let Some(board) = self.board.upgrade() else { return Err(self.later(head, Why::Draining)) };
        let key = understood(head, datagram, self.limits.head);
        if key.as_ref().is_ok_and(|key| self.in_progress(key)) {
            // Its dialog may be gone while its answer is still owed: a BYE whose 200 was lost (RFC 3261 §17.2.2). And
            // what proved it once is no replay now.
            return Ok(());
        }
        if pace != Pace::Fine {
            return Err(self.later(head, Why::Messages));
        }
        let method = head.method.as_str();
        if board.is_closing() && head.to_tag().is_none() && matches!(method, "INVITE" | "OPTIONS") {
            // Before anybody is asked who they are: a registrar's calls are no trunk's any more once we have left it.
            if method == "INVITE" {
                board.host.load.refused(Why::Draining);
            }
            return Err(self.later(head, Why::Draining));
        }
        outsider(&board, head, from)?;
        if head.to_tag().is_some() && method != "ACK" {
            let line = line.ok_or_else(gone)?;
            if method != "BYE" && !line.may_ask(PACE, clock::now()) {
                return Err(self.later(head, Why::Messages));
            }
        }
        serves(head, key, self.secure)?;
        match method {
            "CANCEL" => Err(gone()),
            "INVITE" if head.to_tag().is_none() => board.room(self.transactions()).map_err(|why| {
                board.host.load.refused(why);
                self.later(head, why)
            }),
            // Who distributes calls asks by this whether there is room (RFC 3261 §11.2).
            "OPTIONS" if head.to_tag().is_none() => {
                let refusal = board.room(self.transactions()).err().map(|why| self.later(head, why));
                Err(able(refusal))
            }
            _ => Ok(()),
        }
    }

    /// Not now: when is told, spread over callers, so that they do not come back at the same moment (RFC 3261 §20.33).
    fn later(&self, head: &Head, why: Why) -> Fault {
        let seconds = Load::retry_after(self.tags.hash_one(head.first("call-id")));
        Fault::new(503, why.to_string()).with("Retry-After", seconds.to_string())
    }

    /// Whether the stack has a transaction for this already: a repetition, or a CANCEL of it.
    fn in_progress(&self, key: &TransactionKey) -> bool {
        let endpoint = self.endpoint.get().and_then(Weak::upgrade);
        endpoint.is_some_and(|e| e.transactions.contains_key(key) || e.finished_transactions.contains_key(key))
    }

    /// What the stack remembers.
    fn transactions(&self) -> usize {
        let endpoint = self.endpoint.get().and_then(Weak::upgrade);
        endpoint.map_or(0, |e| e.transactions.len() + e.finished_transactions.len())
    }

    /// The answer to a refused request, and where a datagram with it goes.
    pub fn response(&self, head: &Head, fault: &Fault, from: SocketAddr) -> (Vec<u8>, SocketAddr) {
        let identity = (head.first("call-id"), head.first("from"), head.first("via"));
        let tag = format!("{:016x}", self.tags.hash_one(identity));
        response(head, fault, &tag, from)
    }
}

fn gone() -> Fault {
    Fault::new(481, "there is no such call here (any more)")
}

/// Within a dialog its tags are the pass; outside of one the source address must belong to a trunk. ACK and CANCEL are
/// matched to a transaction by their branch.
fn outsider(board: &Switchboard, head: &Head, from: &Origin) -> Result<(), Fault> {
    if head.to_tag().is_some() || head.method == "ACK" || head.method == "CANCEL" {
        return Ok(());
    }
    let shown: Vec<&str> = head.all("authorization").collect();
    let asked = Asked { method: &head.method, uri: &head.uri };
    board.trust.recognise(from, asked, &shown, Look::Spend)?;
    match head.method.as_str() {
        "BYE" | "INFO" | "UPDATE" | "PRACK" | "REFER" | "NOTIFY" => Err(gone()),
        _ => Ok(()),
    }
}

/// Whether this is for us at all, whoever asks; `key` is what [`understood`] made of it.
pub(super) fn serves(head: &Head, key: Result<TransactionKey, Fault>, secure: bool) -> Result<(), Fault> {
    known(head, secure)?;
    key?;
    served(head)
}

/// Whether method and scheme are known at all; the stack drops others in silence.
fn known(head: &Head, secure: bool) -> Result<(), Fault> {
    let method = head.method.as_str();
    if !method.parse::<Method>().is_ok_and(|m| m.to_string() == method) {
        return Err(Fault::new(501, format!("{method} is not known here")).with("Allow", ALLOW));
    }
    match head.uri.split_once(':').map_or("", |(scheme, _)| scheme) {
        scheme if scheme.eq_ignore_ascii_case("sip") => Ok(()),
        // RFC 3261 §26.2.2: every part of its way is secured, or it is no such call.
        scheme if scheme.eq_ignore_ascii_case("sips") && secure => Ok(()),
        scheme if scheme.eq_ignore_ascii_case("sips") => Err(Fault::new(416, "sips: addresses are served over TLS")),
        _ => Err(Fault::new(416, "only sip: and sips: addresses are served here")),
    }
}

/// Whether we serve what is asked for.
fn served(head: &Head) -> Result<(), Fault> {
    let method = head.method.as_str();
    if !ALLOW.split(", ").any(|m| m == method) {
        return Err(Fault::new(405, format!("{method} is not served here")).with("Allow", ALLOW));
    }
    let known = |tag: &&str| SERVED.iter().any(|served| tag.eq_ignore_ascii_case(served));
    let unsupported: Vec<_> = head.tags("require").filter(|tag| !known(tag)).collect();
    if !unsupported.is_empty() && method != "ACK" && method != "CANCEL" {
        return Err(Fault::new(420, "these extensions are not supported").with("Unsupported", unsupported.join(", ")));
    }
    Ok(())
}

/// The answer to OPTIONS outside of a call: what we can, and whether an INVITE would be taken now.
pub(super) fn able(refusal: Option<Fault>) -> Fault {
    let answer = refusal.unwrap_or_else(|| Fault::new(200, "OK"));
    answer.with("Allow", ALLOW).with("Accept", ACCEPT).with("Supported", OPTION)
}

/// Whether the stack below can work with it; it drops in silence what it cannot read.
pub(super) fn understood(head: &Head, datagram: &[u8], limit: usize) -> Result<TransactionKey, Fault> {
    let unread = |what: &str| Fault::bad(format!("{what} cannot be read"));
    if datagram.len().saturating_sub(head.body) > limit {
        return Err(Fault::new(513, format!("the headers of a message may have {limit} bytes here")));
    }
    let Ok(SipMessage::Request(request)) = SipMessage::try_from(datagram) else {
        return Err(unread("the message"));
    };
    request.top_via_header().and_then(|v| v.typed()).map_err(|_| unread("Via"))?;
    request.from_header().and_then(|f| f.clone().typed()).map_err(|_| unread("From"))?;
    request.to_header().and_then(|t| t.clone().typed()).map_err(|_| unread("To"))?;
    request.typed_contact_headers().map_err(|_| unread("Contact"))?;
    if head.all("record-route").flat_map(split_list).any(|r| !r.starts_with('<')) {
        return Err(unread("Record-Route"));
    }
    TransactionKey::from_request(&request, TransactionRole::Server).map_err(|_| unread("the message"))
}

/// The answer, and where it goes (RFC 3261 §18.2.2, RFC 3581 §4).
pub(super) fn response(head: &Head, fault: &Fault, tag: &str, from: SocketAddr) -> (Vec<u8>, SocketAddr) {
    let mut text = format!("SIP/2.0 {} {}\r\n", fault.status, fault.reason);
    let mut to = from;
    let mut line = |name: &str, value: &str| {
        text.push_str(name);
        text.push_str(": ");
        text.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
        text.push_str("\r\n");
    };
    for (i, via) in head.all("via").enumerate() {
        if i == 0 {
            let (stamped, port) = stamp(via, from);
            to.set_port(port);
            line("Via", &stamped);
        } else {
            line("Via", via);
        }
    }
    for (long, name) in [("from", "From"), ("to", "To"), ("call-id", "Call-ID"), ("cseq", "CSeq")] {
        match head.first(long) {
            Some(value) if long == "to" && head.to_tag().is_none() => line(name, &format!("{value};tag={tag}")),
            Some(value) => line(name, value),
            None => {}
        }
    }
    for (name, value) in &fault.headers {
        line(name, value);
    }
    line("Server", crate::io::sip::USER_AGENT);
    line("Content-Length", "0");
    text.push_str("\r\n");
    (text.into_bytes(), to)
}

/// The topmost Via with the address it came from, and the port the answer goes to.
fn stamp(via: &str, from: SocketAddr) -> (String, u16) {
    let elements = split_list(via);
    let (first, rest) = elements.split_first().map_or((via, &[][..]), |(f, r)| (*f, r));
    let ip = match from.ip() {
        IpAddr::V6(ip) => ip.to_canonical(),
        v4 => v4,
    };
    let mut stamped: Vec<String> =
        first.split(';').map(str::trim).filter(|p| !is(p, "received") && !is(p, "rport")).map(Into::into).collect();
    stamped.push(format!("received={ip}"));
    let port = match parameter(first, "rport") {
        Some(_) => {
            stamped.push(format!("rport={}", from.port()));
            from.port()
        }
        None => sent_by_port(first),
    };
    let mut whole = stamped.join(";");
    for element in rest {
        whole = format!("{whole}, {element}");
    }
    (whole, port)
}

fn is(part: &str, name: &str) -> bool {
    part.split('=').next().is_some_and(|key| key.trim().eq_ignore_ascii_case(name))
}

/// The port after the host of a Via, which may be an IPv6 reference.
fn sent_by_port(via: &str) -> u16 {
    let sent = via.split(';').next().unwrap_or_default().trim();
    let host = sent.rsplit([' ', '\t']).next().unwrap_or_default();
    let after = host.rsplit(']').next().unwrap_or_default();
    after.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(5060)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_where_the_via_says() {
        let from: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        assert_eq!(
            stamp("SIP/2.0/UDP pc.example:5066;branch=z9hG4bK1;rport", from),
            ("SIP/2.0/UDP pc.example:5066;branch=z9hG4bK1;received=192.0.2.7;rport=4711".into(), 4711)
        );
        assert_eq!(stamp("SIP/2.0/UDP [::1]:5066;branch=z, SIP/2.0/TCP b", from).1, 5066);
        assert_eq!(stamp("SIP/2.0/UDP [2001:db8::9]", from).1, 5060);
    }
}
