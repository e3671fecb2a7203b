//! Our offers and answers written.

use super::codecs::name;
use super::crypto::Crypto;
use super::{Description, Direction, Local, reports};
use crate::call::LegMedia;
use crate::media::codec::Codec;
use crate::media::xr::Wish;
use std::fmt::Write;
use std::net::IpAddr;

impl Description {
    /// Our answer: one audio line is accepted, with a key where it has one (RFC 4568 §5.1.2); every other line is refused
    /// with port 0 (RFC 3264 §6).
    pub fn answer(&self, local: &Local, media: &LegMedia) -> Vec<u8> {
        self.answer_within(local, media, Direction::SendRecv)
    }

    /// The same where no more than `limit` is to flow, because somebody else holds.
    pub fn answer_within(&self, local: &Local, media: &LegMedia, limit: Direction) -> Vec<u8> {
        let mut text = head(local);
        let dtmf = media.dtmf.map(|pt| (pt, media.shape.dtmf_clock));
        let crypto = self.crypto.map(|c| Crypto { tag: c.tag, key: local.keyring.key(c.key.suite()) });
        for (i, line) in self.lines.iter().enumerate() {
            if i == self.chosen {
                let audio = Audio {
                    port: local.rtp.port(),
                    proto: &line.proto,
                    codecs: &[(media.codec, media.payload_type)],
                    dtmf: dtmf.as_slice(),
                    crypto: crypto.as_slice(),
                    mux: self.mux,
                    direction: self.direction.mirrored().within(limit),
                };
                audio.write(&mut text);
                text.push_str(&reports::line(media.shape.reports));
            } else {
                let _ = write!(text, "m={} 0 {} {}\r\n", line.kind, line.proto, line.formats);
            }
        }
        text.into_bytes()
    }
}

/// Our offer, the codecs in the order they are wished for. RTCP on RTP's port is always offered: who does not know it
/// does not answer it.
pub fn offer(local: &Local, codecs: &[Codec]) -> Vec<u8> {
    let numbered: Vec<_> = codecs.iter().map(|c| (*c, payload_type(*c))).collect();
    // The types nearly everybody uses, for sound of 8 kHz and of 48.
    let mut dtmf = vec![(101, 8_000)];
    if codecs.contains(&Codec::Opus) {
        dtmf.push((110, 48_000));
    }
    let mut text = head(local);
    let (proto, crypto) = if local.srtp { ("RTP/SAVP", local.keyring.offered()) } else { ("RTP/AVP", Vec::new()) };
    let direction = Direction::SendRecv;
    let port = local.rtp.port();
    let audio = Audio { port, proto, codecs: &numbered, dtmf: &dtmf, crypto: &crypto, mux: true, direction };
    audio.write(&mut text);
    text.push_str(&reports::line(Wish::ALL));
    text.into_bytes()
}

/// A new offer on a line that has media (RFC 3264 §8.3): what is in use and no more, one way or both.
pub fn reoffer(local: &Local, media: &LegMedia, direction: Direction) -> Vec<u8> {
    let dtmf = media.dtmf.map(|pt| (pt, media.shape.dtmf_clock));
    let (proto, crypto) = if local.srtp { ("RTP/SAVP", local.keyring.offered()) } else { ("RTP/AVP", Vec::new()) };
    let (codecs, dtmf) = (&[(media.codec, media.payload_type)], dtmf.as_slice());
    let (mut text, port) = (head(local), local.rtp.port());
    Audio { port, proto, codecs, dtmf, crypto: &crypto, mux: true, direction }.write(&mut text);
    text.push_str(&reports::line(Wish::ALL));
    text.into_bytes()
}

/// RFC 3551 §6, and of the dynamic ones those that others use too.
fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        Codec::G722 => 9,
        Codec::Opus => 111,
        Codec::L16 => 96,
    }
}

pub(super) fn head(local: &Local) -> String {
    let ip = local.rtp.ip();
    let family = family(ip);
    let (session, version) = (local.session, local.version);
    format!("v=0\r\no=sotto {session} {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n")
}

/// An audio line of ours.
pub(super) struct Audio<'a> {
    pub port: u16,
    pub proto: &'a str,
    pub codecs: &'a [(Codec, u8)],
    pub dtmf: &'a [(u8, u32)],
    pub crypto: &'a [Crypto],
    pub mux: bool,
    pub direction: Direction,
}

impl Audio<'_> {
    pub fn write(&self, text: &mut String) {
        let _ = write!(text, "m=audio {} {}", self.port, self.proto);
        for payload_type in self.codecs.iter().map(|(_, pt)| pt).chain(self.dtmf.iter().map(|(pt, _)| pt)) {
            let _ = write!(text, " {payload_type}");
        }
        text.push_str("\r\n");
        self.crypto.iter().for_each(|crypto| text.push_str(&crypto.line()));
        for (codec, payload_type) in self.codecs {
            let _ = write!(text, "a=rtpmap:{payload_type} {}\r\n", name(*codec));
            if *codec == Codec::Opus {
                // What we can use (RFC 7587 §6.1); mono is the default.
                let _ = write!(text, "a=fmtp:{payload_type} useinbandfec=1\r\n");
            }
        }
        for (payload_type, clock) in self.dtmf {
            // Events 0–15: the sixteen keys (RFC 4733 §7.1.1).
            let _ = write!(text, "a=rtpmap:{payload_type} telephone-event/{clock}\r\na=fmtp:{payload_type} 0-15\r\n");
        }
        if self.mux {
            text.push_str("a=rtcp-mux\r\n");
        }
        let _ = write!(text, "a=ptime:20\r\na={}\r\n", self.direction.name());
    }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IP4" } else { "IP6" }
}
