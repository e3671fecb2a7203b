//! SIP messages out of a stream of bytes (RFC 3261 §18.3, RFC 5626 §3.5.1).
//!
//! In come pieces of any size; out come whole messages and keep-alives, or the reason why the stream cannot be read any
//! further: once its framing is in doubt, everything behind it is. Knows no socket and no clock.

/// Bytes of start line and headers; a request through many proxies has three thousand.
pub const MAX_HEAD: usize = 16 * 1024;
/// Bytes of a body; SIPREC metadata of a conference has some ten thousand.
pub const MAX_BODY: usize = 64 * 1024;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// The peer asks whether the connection is alive: two empty lines, to be answered with one.
    Ping,
    /// A message, whole.
    Message(Vec<u8>),
}

/// Why the stream cannot be read any further.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// No end of the headers within [`MAX_HEAD`].
    #[error("headers of more than {MAX_HEAD} bytes")]
    Head,
    /// A body of more than [`MAX_BODY`].
    #[error("a body of more than {MAX_BODY} bytes")]
    Body,
    /// Nobody can say where the message ends.
    #[error("a Content-Length that cannot be read")]
    Length,
}

/// The bytes that came and are no message yet.
#[derive(Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Bytes in which no end of the headers was found.
    looked: usize,
}

impl Framer {
    /// More bytes came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a message has begun and is not whole.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next of what came. None: more bytes are needed.
    pub fn next(&mut self) -> Result<Option<Frame>, Broken> {
        while self.looked == 0 && self.buffer.starts_with(b"\r") {
            match self.buffer.as_slice() {
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    self.buffer.drain(..4);
                    return Ok(Some(Frame::Ping));
                }
                [b'\r'] | [b'\r', b'\n', b'\r'] => return Ok(None),
                // An answer to a ping, or an empty line before a message (RFC 3261 §7.5).
                [b'\r', b'\n', ..] => drop(self.buffer.drain(..2)),
                _ => return Err(Broken::Length),
            }
        }
        let from = self.looked.saturating_sub(3);
        let end = self.buffer.get(from..).and_then(|rest| rest.windows(4).position(|w| w == b"\r\n\r\n"));
        let Some(end) = end.map(|at| from.saturating_add(at).saturating_add(4)) else {
            self.looked = self.buffer.len();
            return if self.looked > MAX_HEAD { Err(Broken::Head) } else { Ok(None) };
        };
        if end > MAX_HEAD {
            return Err(Broken::Head);
        }
        let whole = end.saturating_add(content_length(self.buffer.get(..end).unwrap_or_default())?);
        if self.buffer.len() < whole {
            self.looked = end.saturating_sub(4);
            return Ok(None);
        }
        self.looked = 0;
        let rest = self.buffer.split_off(whole);
        Ok(Some(Frame::Message(std::mem::replace(&mut self.buffer, rest))))
    }
}

/// What the headers say of the body: nothing means none. Lengths that differ are how one message is hidden in another.
fn content_length(head: &[u8]) -> Result<usize, Broken> {
    let mut lines = head.split(|b| *b == b'\n').peekable();
    let mut found = None;
    while let Some(line) = lines.next() {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let name = name.trim_ascii();
        if !name.eq_ignore_ascii_case(b"content-length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        let folded = lines.peek().is_some_and(|next| next.first().is_some_and(|b| matches!(b, b' ' | b'\t')));
        let digits = value.get(1..).unwrap_or_default().trim_ascii();
        let length = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        let length: usize = length.and_then(|d| d.parse().ok()).filter(|_| !folded).ok_or(Broken::Length)?;
        if found.is_some_and(|other| other != length) {
            return Err(Broken::Length);
        }
        found = Some(length);
    }
    match found {
        Some(length) if length > MAX_BODY => Err(Broken::Body),
        length => Ok(length.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> String {
        format!("INFO sip:a@b SIP/2.0\r\nVia: x\r\nl : {}\r\n\r\n{body}", body.len())
    }

    fn all(framer: &mut Framer) -> Vec<Frame> {
        std::iter::from_fn(|| framer.next().unwrap()).collect()
    }

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let stream = format!("\r\n{}{}\r\n\r\n{}", message("v=0\r\n\r\n"), message(""), message("x"));
        let whole = |body| Frame::Message(message(body).into_bytes());
        let wanted = [whole("v=0\r\n\r\n"), whole(""), Frame::Ping, whole("x")];
        for piece in [1, 2, 3, 5, 7, 64, stream.len()] {
            let mut framer = Framer::default();
            let mut found = Vec::new();
            for bytes in stream.as_bytes().chunks(piece) {
                framer.push(bytes);
                found.extend(all(&mut framer));
            }
            // Cut by one byte, a ping cannot be told from two answers to pings.
            let pinged = found.contains(&Frame::Ping);
            assert_eq!(found.len(), if pinged { 4 } else { 3 }, "{piece}");
            assert!(found.iter().all(|frame| wanted.contains(frame)), "{piece}: {found:?}");
            assert!(!framer.is_partial());
        }
    }

    #[test]
    fn what_cannot_be_framed_is_broken() {
        let head = |length: &str| format!("INFO sip:a@b SIP/2.0\r\n{length}\r\n\r\n");
        for (bytes, broken) in [
            ("x".repeat(MAX_HEAD + 1), Broken::Head),
            (head(&format!("X: {}", "x".repeat(MAX_HEAD))), Broken::Head),
            (head("Content-Length: 65537"), Broken::Body),
            (head("Content-Length: 99999999999999999999999"), Broken::Length),
            (head("Content-Length: -1"), Broken::Length),
            (head("Content-Length: 5\r\nl: 6"), Broken::Length),
            (head("Content-Length:\r\n 5"), Broken::Length),
            ("\rx".into(), Broken::Length),
        ] {
            let mut framer = Framer::default();
            framer.push(bytes.as_bytes());
            assert_eq!(framer.next(), Err(broken), "{}", bytes.get(..60).unwrap_or(&bytes));
        }
    }
}
