//! A SIP request as it came off the wire, checked more strictly than the stack below does.
//!
//! In come the bytes of a datagram; out comes a [`Head`] that is sound (RFC 3261 §7, §8.1.1, §20, §25), or a
//! [`Fault`] that says what is wrong with it, with what is needed to answer. Knows no socket and no policy.

use crate::io::sip::fault::Fault;

/// Header lines looked at; a request through many proxies has about forty.
const MAX_HEADERS: usize = 256;
/// RFC 3261 §8.1.1.5: a sequence number is below 2³¹.
const MAX_CSEQ: u64 = (1 << 31) - 1;

/// Headers that may stand in a request once only (RFC 3261 §7.3.1 with §25.1).
const SINGLE: [&str; 9] =
    ["from", "to", "call-id", "cseq", "max-forwards", "content-length", "content-type", "content-encoding", "expires"];

/// The start line and headers of a request.
#[derive(Debug, Default)]
pub struct Head {
    /// The method as written.
    pub method: String,
    /// The Request-URI as written.
    pub uri: String,
    /// Long names in lower case, and unfolded values, in order.
    pub headers: Vec<(String, String)>,
    /// How many bytes of body the datagram holds.
    pub body: usize,
}

/// What a datagram turned out to be.
#[derive(Debug)]
pub enum Read {
    /// A sound request.
    Request(Head),
    /// A request with a fault, and as much of it as could be read.
    Faulty(Head, Fault),
    /// A response: the stack matches it to its transaction or drops it.
    Response,
    /// Nothing that could be answered.
    Noise,
}

impl Head {
    /// The first value of a header, by its long name in lower case.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Every value of a header.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The tags of a list header (`Require`, `Supported`).
    pub fn tags<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(|v| v.split(',')).map(str::trim).filter(|t| !t.is_empty())
    }

    /// The To tag: present in requests within a dialog.
    pub fn to_tag(&self) -> Option<&str> {
        parameter(self.first("to")?, "tag")
    }
}

/// Reads a datagram.
pub fn read(datagram: &[u8]) -> Read {
    let end = datagram.windows(4).position(|w| w == b"\r\n\r\n");
    let (top, body) = match end {
        Some(at) => (&datagram[..at], datagram.len().saturating_sub(at + 4)),
        None => (datagram, 0),
    };
    let text = String::from_utf8_lossy(top);
    if text.starts_with("SIP/") {
        return Read::Response;
    }
    let mut head = Head { body, ..Head::default() };
    let parsed = parse(&mut head, &text);
    if head.first("via").is_none() || head.first("cseq").is_none_or(|c| c.trim_end().ends_with("ACK")) {
        // Without a Via there is nowhere to send an answer; an ACK is never answered (RFC 3261 §17.1.1.3).
        return match parsed.and_then(|()| sound(&head)) {
            Ok(()) => Read::Request(head),
            Err(_) => Read::Noise,
        };
    }
    let whole = || match (end, &text) {
        (None, _) => Err(Fault::bad("the message ends before its empty line")),
        (_, std::borrow::Cow::Owned(_)) => Err(Fault::bad("the headers are not UTF-8")),
        _ => Ok(()),
    };
    match whole().and(parsed).and_then(|()| sound(&head)) {
        Ok(()) => Read::Request(head),
        Err(fault) => Read::Faulty(head, fault),
    }
}

/// Splits into start line and unfolded headers. Reads on after a fault, so that the answer finds its headers.
fn parse(head: &mut Head, text: &str) -> Result<(), Fault> {
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default();
    let mut result = start_line(head, start);
    for line in lines {
        if line.starts_with([' ', '\t']) {
            match head.headers.last_mut() {
                Some((_, value)) => *value = format!("{value} {}", line.trim()),
                None => result = result.and(Err(Fault::bad("a header begins with a space"))),
            }
            continue;
        }
        match line.split_once(':') {
            Some((name, value)) if is_token(name.trim_end()) => {
                head.headers.push((long_name(name.trim_end()), value.trim().to_owned()));
            }
            _ => result = result.and(Err(Fault::bad("a header line has no name"))),
        }
        if head.headers.len() > MAX_HEADERS {
            return Err(Fault::bad("too many header lines"));
        }
    }
    result
}

fn start_line(head: &mut Head, line: &str) -> Result<(), Fault> {
    let (method, rest) = line.split_once(' ').unwrap_or((line, ""));
    head.method = method.to_owned();
    if !is_token(method) {
        return Err(Fault::bad("the request line has no method"));
    }
    let (uri, version) =
        rest.rsplit_once(' ').ok_or_else(|| Fault::bad("the request line is not METHOD URI SIP/2.0"))?;
    head.uri = uri.to_owned();
    if version.is_empty() || uri.contains([' ', '\t']) || uri.is_empty() {
        return Err(Fault::bad("the request line has stray spaces"));
    }
    if uri.contains(['<', '>', '"']) {
        return Err(Fault::bad("the Request-URI must not stand in brackets or quotes"));
    }
    let place = uri.rsplit_once('@').map_or(uri, |(_, place)| place);
    if place.contains('?') {
        // RFC 3261 §19.1.1: headers have no place in a Request-URI.
        return Err(Fault::bad("the Request-URI must not carry headers"));
    }
    let host = place.trim_start_matches("sips:").trim_start_matches("sip:").split(';').next().unwrap_or_default();
    if !place.contains("//") && !host.starts_with('[') && host.matches(':').count() > 1 {
        return Err(Fault::bad("an IPv6 address in the Request-URI must stand in brackets"));
    }
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(Fault::new(505, "SIP/2.0 is spoken here"));
    }
    Ok(())
}

/// The long name, in lower case, of a header (RFC 3261 §7.3.3).
fn long_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "i" => "call-id",
        "m" => "contact",
        "e" => "content-encoding",
        "l" => "content-length",
        "c" => "content-type",
        "f" => "from",
        "s" => "subject",
        "k" => "supported",
        "t" => "to",
        "v" => "via",
        _ => return lower,
    }
    .to_owned()
}

/// RFC 3261 §25.1.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

/// Everything that must hold for every request.
fn sound(head: &Head) -> Result<(), Fault> {
    for name in SINGLE {
        if head.all(name).nth(1).is_some() {
            return Err(Fault::bad(format!("{} stands there more than once", shown(name))));
        }
    }
    for name in ["via", "from", "to", "call-id", "cseq"] {
        if head.first(name).is_none_or(str::is_empty) {
            return Err(Fault::bad(format!("{} is missing", shown(name))));
        }
    }
    head.all("via").try_for_each(via)?;
    for name in ["from", "to"] {
        address(name, head.first(name).unwrap_or_default())?;
    }
    for contact in head.all("contact").filter(|c| *c != "*") {
        split_list(contact).into_iter().try_for_each(|one| address("contact", one))?;
    }
    if head.first("from").and_then(|f| parameter(f, "tag")).is_none() {
        return Err(Fault::bad("From has no tag"));
    }
    if head.first("call-id").is_some_and(|id| id.contains([' ', '\t', ','])) {
        return Err(Fault::bad("Call-ID has a space or a comma in it"));
    }
    cseq(head)?;
    number(head, "max-forwards", 255)?;
    number(head, "expires", u64::from(u32::MAX))?;
    content_length(head)?;
    if head.method == "INVITE" && head.all("contact").flat_map(split_list).count() != 1 {
        return Err(Fault::bad("an INVITE needs exactly one Contact"));
    }
    Ok(())
}

fn shown(name: &str) -> String {
    match name {
        "call-id" => "Call-ID".into(),
        "cseq" => "CSeq".into(),
        _ => {
            let capital = |part: &str| {
                let (first, rest) = part.split_at_checked(1).unwrap_or((part, ""));
                first.to_ascii_uppercase() + rest
            };
            name.split('-').map(capital).collect::<Vec<_>>().join("-")
        }
    }
}

fn cseq(head: &Head) -> Result<(), Fault> {
    let value = head.first("cseq").unwrap_or_default();
    let (number, method) = value.split_once([' ', '\t']).ok_or_else(|| Fault::bad("CSeq is not NUMBER METHOD"))?;
    if digits(number).is_none_or(|n| n > MAX_CSEQ) {
        return Err(Fault::bad("the number in CSeq is not below 2147483648"));
    }
    if method.trim() != head.method {
        return Err(Fault::bad("CSeq names another method than the request line"));
    }
    Ok(())
}

fn digits(text: &str) -> Option<u64> {
    let text = text.trim();
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn number(head: &Head, name: &str, max: u64) -> Result<(), Fault> {
    match head.first(name) {
        Some(value) if digits(value).is_none_or(|n| n > max) => {
            Err(Fault::bad(format!("{} is no number from 0 to {max}", shown(name))))
        }
        _ => Ok(()),
    }
}

/// RFC 3261 §18.3: over UDP a body shorter than promised is a cut message.
fn content_length(head: &Head) -> Result<(), Fault> {
    let Some(value) = head.first("content-length") else { return Ok(()) };
    match digits(value) {
        None => Err(Fault::bad("Content-Length is no number")),
        Some(n) if n > head.body as u64 => Err(Fault::bad("the body is shorter than Content-Length")),
        Some(_) => Ok(()),
    }
}

fn via(value: &str) -> Result<(), Fault> {
    for one in split_list(value) {
        let mut parts = one.split(';').map(str::trim);
        let sent = parts.next().unwrap_or_default();
        let (protocol, host) = sent.rsplit_once([' ', '\t']).ok_or_else(|| Fault::bad("Via names no host"))?;
        let protocol: String = protocol.split_whitespace().collect();
        if !protocol.to_ascii_uppercase().starts_with("SIP/2.0/") || host.is_empty() {
            return Err(Fault::bad("Via does not begin with SIP/2.0/"));
        }
        parameters("Via", parts)?;
    }
    Ok(())
}

fn parameters<'a>(name: &str, parts: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
    for part in parts {
        let key = part.split('=').next().unwrap_or_default().trim();
        if !is_token(key) {
            return Err(Fault::bad(format!("{name} has an empty or wrong parameter")));
        }
    }
    Ok(())
}

/// `name-addr` or `addr-spec` with parameters (RFC 3261 §25.1).
fn address(name: &str, value: &str) -> Result<(), Fault> {
    let name = shown(name);
    let after_name = match value.strip_prefix('"') {
        Some(rest) => closing_quote(rest).ok_or_else(|| Fault::bad(format!("{name} has an unbalanced quote")))?,
        None => value,
    };
    let Some((display, rest)) = after_name.split_once('<') else {
        return bare_address(&name, value);
    };
    let unquoted = display.trim();
    if !unquoted.is_empty() && !unquoted.split_whitespace().all(is_token) {
        return Err(Fault::bad(format!("the display name in {name} must stand in quotes")));
    }
    let (uri, tail) = rest.split_once('>').ok_or_else(|| Fault::bad(format!("{name} has no closing bracket")))?;
    uri_of(&name, uri)?;
    let tail = tail.trim();
    match tail.strip_prefix(';') {
        Some(parts) => parameters(&name, outside_quotes(parts, ';').into_iter()),
        None if tail.is_empty() => Ok(()),
        None => Err(Fault::bad(format!("{name} goes on after its closing bracket"))),
    }
}

fn bare_address(name: &str, value: &str) -> Result<(), Fault> {
    let mut parts = value.split(';').map(str::trim);
    let uri = parts.next().unwrap_or_default();
    uri_of(name, uri)?;
    // RFC 3261 §20.10: with a comma, a question mark or a semicolon the address must stand in brackets.
    if uri.contains(['?', ',']) {
        return Err(Fault::bad(format!("the address in {name} must stand in brackets")));
    }
    parameters(name, parts)
}

fn uri_of(name: &str, uri: &str) -> Result<(), Fault> {
    let scheme = uri.split_once(':').map(|(scheme, rest)| (scheme, rest.is_empty()));
    if uri.contains([' ', '\t', '"']) || scheme.is_none_or(|(s, empty)| empty || !is_token(s)) {
        return Err(Fault::bad(format!("the address in {name} is no URI")));
    }
    Ok(())
}

/// What follows the closing quote of a quoted string.
fn closing_quote(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return text.get(at + 1..),
            _ => {}
        }
    }
    None
}

/// The elements of a comma-separated header; commas in quotes and brackets do not count.
pub fn split_list(value: &str) -> Vec<&str> {
    outside_quotes(value, ',')
}

fn outside_quotes(value: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped, mut bracket) = (false, false, false);
    value
        .split(move |c| {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '<' if !quoted => bracket = true,
                '>' if !quoted => bracket = false,
                _ => {}
            }
            c == separator && !quoted && !bracket
        })
        .map(str::trim)
        .collect()
}

/// A header parameter, outside the brackets of its address.
pub fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    outside_quotes(value, ';').into_iter().skip(1).find_map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl Fn(String) -> String) -> Vec<u8> {
        let text = "INVITE sip:100@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport\r\n\
                    From: \"A, B\" <sip:a@example.com>;tag=1\r\nTo: <sip:100@example.com>\r\nCall-ID: c@1\r\n\
                    CSeq: 1 INVITE\r\nContact: <sip:a@192.0.2.1>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
        change(text.to_owned()).into_bytes()
    }

    fn fault(change: impl Fn(String) -> String) -> (u16, String) {
        match read(&request(change)) {
            Read::Faulty(_, fault) => (fault.status, fault.reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sound_request_is_read() {
        let Read::Request(head) = read(&request(|t| t.replace("To:", "t :").replace(";tag=1", "\r\n ;tag = 1"))) else {
            panic!()
        };
        assert_eq!((head.method.as_str(), head.uri.as_str()), ("INVITE", "sip:100@example.com"));
        assert_eq!(head.first("to"), Some("<sip:100@example.com>"));
        assert_eq!(parameter(head.first("from").unwrap(), "tag"), Some("1"));
        assert_eq!(head.to_tag(), None);
    }

    #[test]
    fn every_fault_is_named() {
        type Change = fn(String) -> String;
        let table: [(Change, u16, &str); 14] = [
            (
                |t| t.replace("CSeq: 1 INVITE\r\n", "CSeq: 1 BYE\r\n"),
                400,
                "CSeq names another method than the request line",
            ),
            (|t| t.replace("CSeq: 1 ", "CSeq: 2147483648 "), 400, "the number in CSeq is not below 2147483648"),
            (|t| t.replace("Call-ID: c@1\r\n", ""), 400, "Call-ID is missing"),
            (|t| t.replace("Call-ID", "Call-ID: x\r\nCall-ID"), 400, "Call-ID stands there more than once"),
            (|t| t.replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"), 505, "SIP/2.0 is spoken here"),
            (|t| t.replace("Length: 0", "Length: 5"), 400, "the body is shorter than Content-Length"),
            (|t| t.replace("Length: 0", "Length: -1"), 400, "Content-Length is no number"),
            (|t| t.replace("\"A, B\"", "A, B"), 400, "the display name in From must stand in quotes"),
            (|t| t.replace("\"A, B\"", "\"A, B"), 400, "From has an unbalanced quote"),
            (|t| t.replace("Forwards: 70", "Forwards: 300"), 400, "Max-Forwards is no number from 0 to 255"),
            (|t| t.replace(";tag=1", ""), 400, "From has no tag"),
            (|t| t.replace("Contact: <sip:a@192.0.2.1>\r\n", ""), 400, "an INVITE needs exactly one Contact"),
            (|t| t.replace("INVITE sip", "INVITE  sip"), 400, "the request line has stray spaces"),
            (|t| t.trim_end().to_owned(), 400, "the message ends before its empty line"),
        ];
        for (change, status, reason) in table {
            assert_eq!(fault(change), (status, reason.to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_answered_is_noise() {
        assert!(matches!(read(b"hello"), Read::Noise));
        assert!(matches!(read(b"ACK sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nCSeq: 1 ACK\r\n\r\n"), Read::Noise));
        assert!(matches!(read(b"SIP/2.0 200 OK\r\n\r\n"), Read::Response));
    }
}
