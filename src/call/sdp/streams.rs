//! Descriptions in which every audio line is a stream of its own: those of a recording session (RFC 7866 §7.1).
//!
//! Who describes sends, and who answers only receives, whatever else was offered: no answer made here for a forked stream lets
//! a packet go the other way.

use super::codecs::{attribute, printable};
use super::crypto::{self, Crypto};
use super::read::{Line, broken, is_protected, session, why_no_line};
use super::write::{Audio, head};
use super::{Description, Direction, Local, SdpError, Srtp, Terms, reports};
use crate::call::{LegMedia, Shape};
use crate::media::codec::Codec;
use sdp_types::Media;
use std::fmt::Write;

/// A description of several streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streams {
    /// Those that can be received, in the order of their lines.
    pub each: Vec<Stream>,
    lines: Vec<Line>,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The number of its media line: what names it in every later description (RFC 3264 §8).
    pub line: usize,
    /// What the metadata calls it (`a=label`, RFC 4574).
    pub label: Option<String>,
    /// What its line says.
    pub description: Description,
}

/// A stream that is received.
#[derive(Clone, Copy, Debug)]
pub struct Accepted<'a> {
    /// What it is.
    pub stream: &'a Stream,
    /// Where.
    pub local: &'a Local,
    /// What was settled on.
    pub media: &'a LegMedia,
}

impl Stream {
    /// What both sides use: we receive, and send nothing.
    pub fn settle(&self, preferred: Option<Codec>) -> Option<LegMedia> {
        let media = self.description.settle(preferred)?;
        Some(LegMedia { send: false, shape: Shape { forked: true, ..media.shape }, ..media })
    }

    /// What both sides use of a stream that goes both ways, if it does: a way to an agent's ear.
    pub fn settle_both_ways(&self, preferred: Option<Codec>) -> Option<LegMedia> {
        self.description.settle(preferred)
    }

    /// What we answer, or offer, of its direction.
    fn answered(&self, media: &LegMedia) -> Direction {
        match (self.description.direction, media.shape.forked) {
            (Direction::SendRecv | Direction::SendOnly, true) | (Direction::SendOnly, false) => Direction::RecvOnly,
            (Direction::RecvOnly | Direction::Inactive, true) | (Direction::Inactive, false) => Direction::Inactive,
            (Direction::SendRecv, false) => Direction::SendRecv,
            (Direction::RecvOnly, false) => Direction::SendOnly,
        }
    }
}

impl Streams {
    /// Reads an offer or an answer, whose audio lines must keep to `terms`. Lines with port 0 are none. Where there are
    /// audio lines but none can be received, the error says why the first cannot.
    pub fn read(body: &[u8], terms: Terms) -> Result<Streams, SdpError> {
        let text = std::str::from_utf8(body).map_err(|_| broken("it is not UTF-8"))?;
        let session = session(text)?;
        let audio = || session.medias.iter().enumerate().filter(|(_, m)| m.media == "audio");
        let (mut each, mut refused) = (Vec::new(), None);
        for (line, media) in audio().filter(|(_, m)| m.port != 0) {
            let Some(crypto) = usable(media, terms.srtp) else { continue };
            match Description::of_line(&session, (line, media, crypto), terms) {
                Ok(description) => each.push(Stream { line, label: label(media), description }),
                Err(SdpError::NotAcceptable(why)) => refused = refused.or(Some(why)),
                Err(error @ SdpError::Broken(_)) => return Err(error),
            }
        }
        let silent = audio().next().is_some() && audio().all(|(_, m)| m.port == 0);
        if each.is_empty() && !silent {
            return Err(SdpError::NotAcceptable(refused.unwrap_or_else(|| why_no_line(&session, terms.srtp))));
        }
        Ok(Streams { each, lines: session.medias.iter().map(Line::of).collect() })
    }

    /// Our answer: every stream of `accepted` is received; every other line is refused with port 0 (RFC 3264 §6). `ours`
    /// names our session and its version.
    pub fn answer(&self, ours: &Local, accepted: &[Accepted<'_>]) -> Vec<u8> {
        let mut text = head(ours);
        for (at, line) in self.lines.iter().enumerate() {
            match accepted.iter().find(|a| a.stream.line == at) {
                Some(accepted) => accepted.write(&line.proto, &mut text),
                None => drop(write!(text, "m={} 0 {} {}\r\n", line.kind, line.proto, line.formats)),
            }
        }
        text.into_bytes()
    }
}

/// What we offer where a client asks for an offer: the streams as they are, by their lines; those that are gone as such.
pub fn offer_again(ours: &Local, accepted: &[Accepted<'_>]) -> Vec<u8> {
    let mut text = head(ours);
    let lines = accepted.iter().map(|a| a.stream.line + 1).max().unwrap_or(0);
    for at in 0..lines {
        match accepted.iter().find(|a| a.stream.line == at) {
            Some(accepted) => accepted.write(accepted.proto(), &mut text),
            None => text.push_str("m=audio 0 RTP/AVP 0\r\n"),
        }
    }
    text.into_bytes()
}

impl Accepted<'_> {
    fn proto(&self) -> &str {
        let description = &self.stream.description;
        description.lines.get(self.stream.line).map_or("RTP/AVP", |line| line.proto.as_str())
    }

    fn write(&self, proto: &str, text: &mut String) {
        let Accepted { stream, local, media } = self;
        let description = &stream.description;
        let crypto = description.crypto.map(|c| Crypto { tag: c.tag, key: local.keyring.key(c.key.suite()) });
        let dtmf = media.dtmf.map(|pt| (pt, media.shape.dtmf_clock));
        let audio = Audio {
            port: local.rtp.port(),
            proto,
            codecs: &[(media.codec, media.payload_type)],
            dtmf: dtmf.as_slice(),
            crypto: crypto.as_slice(),
            mux: description.mux,
            direction: stream.answered(media),
        };
        audio.write(text);
        text.push_str(&reports::line(media.shape.reports));
        if let Some(label) = &stream.label {
            let _ = write!(text, "a=label:{label}\r\n");
        }
    }
}

/// How a line's packets are protected, if that will do: outer none where it will not, inner none where they are plain.
fn usable(media: &Media, srtp: Srtp) -> Option<Option<Crypto>> {
    let protected = is_protected(media)?;
    match crypto::usable(media).filter(|_| srtp != Srtp::Off) {
        Some(key) => Some(Some(key)),
        None if protected || srtp == Srtp::Required => None,
        None => Some(None),
    }
}

fn label(media: &Media) -> Option<String> {
    let label = attribute(&media.attributes, "label").and_then(|a| a.value.as_deref())?;
    Some(printable(label.trim())).filter(|l| !l.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::sdp::MasterKey;
    use std::net::SocketAddr;

    const OFFER: &str = "v=0\r\no=SRC 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 0 8\r\na=sendonly\r\na=label:96\r\nm=video 4002 RTP/AVP 31\r\n\
        m=audio 4004 RTP/AVP 8\r\na=label:97\r\nm=audio 4006 RTP/AVP 18\r\na=label:98\r\n\
        m=audio 0 RTP/AVP 8\r\nm=audio 4008 RTP/AVP 8\r\na=inactive\r\n";

    fn local(port: u16) -> Local {
        Local::new(SocketAddr::from(([192, 0, 2, 9], port)), 7, Srtp::Optional, || [7; MasterKey::MOST])
    }

    fn answer(streams: &Streams, write: impl Fn(&Local, &[Accepted<'_>]) -> Vec<u8>) -> String {
        let locals: Vec<_> = (0..).map(|n| local(20_000 + 2 * n)).take(streams.each.len()).collect();
        let medias: Vec<_> = streams.each.iter().map(|s| s.settle(None).unwrap()).collect();
        let each = streams.each.iter().zip(&locals).zip(&medias);
        let accepted: Vec<_> = each.map(|((stream, local), media)| Accepted { stream, local, media }).collect();
        String::from_utf8(write(&local(20_000), &accepted)).unwrap()
    }

    #[test]
    fn every_audio_line_that_can_be_received_is_and_nothing_is_sent() {
        let streams = Streams::read(OFFER.as_bytes(), Terms::default()).unwrap();
        let found: Vec<_> = streams.each.iter().map(|s| (s.line, s.label.as_deref())).collect();
        assert_eq!(found, [(0, Some("96")), (2, Some("97")), (5, None)]);
        let media = streams.each[1].settle(None).unwrap();
        assert!(!media.send && media.shape.forked, "offered both ways, and still nothing is sent");
        assert_eq!(media.remote, "192.0.2.1:4004".parse().unwrap());
        let text = answer(&streams, |ours, accepted| streams.answer(ours, accepted));
        let line = |at: usize| text.split("m=").nth(at + 1).unwrap();
        assert!(
            line(0).starts_with("audio 20000 RTP/AVP 0\r\n") && line(0).ends_with("a=recvonly\r\na=label:96\r\n"),
            "{text}"
        );
        assert_eq!(line(1), "video 0 RTP/AVP 31\r\n");
        assert!(
            line(2).starts_with("audio 20002 RTP/AVP 8\r\n") && line(2).ends_with("a=recvonly\r\na=label:97\r\n"),
            "{text}"
        );
        assert_eq!((line(3), line(4)), ("audio 0 RTP/AVP 18\r\n", "audio 0 RTP/AVP 8\r\n"));
        assert!(line(5).ends_with("a=inactive\r\n"), "{text}");
    }

    #[test]
    fn our_offer_is_the_streams_by_their_lines() {
        let streams = Streams::read(OFFER.as_bytes(), Terms::default()).unwrap();
        let text = answer(&streams, offer_again);
        let ports: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("m=audio ")?.split(' ').next()).collect();
        assert_eq!(ports, ["20000", "0", "20002", "0", "0", "20004"]);
    }

    #[test]
    fn what_cannot_be_received_is_named() {
        let read = |media: &str, srtp| {
            let head = "v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
            Streams::read(format!("{head}{media}").as_bytes(), Terms { srtp, ipv6: false })
        };
        for (media, srtp) in [
            ("", Srtp::Optional),
            ("m=video 4000 RTP/AVP 31\r\n", Srtp::Optional),
            ("m=audio 4000 RTP/AVP 18\r\n", Srtp::Optional),
            ("m=audio 4000 RTP/AVP 0\r\n", Srtp::Required),
            ("m=audio 4000 RTP/SAVP 0\r\n", Srtp::Off),
        ] {
            assert!(matches!(read(media, srtp), Err(SdpError::NotAcceptable(_))), "{media}");
        }
        assert!(matches!(read("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 nowhere\r\n", Srtp::Off), Err(SdpError::Broken(_))));
        assert!(read("m=audio 0 RTP/AVP 0\r\n", Srtp::Off).unwrap().each.is_empty(), "all streams have ended");
    }
}
