//! A peer's description read.

use super::codecs::{attribute, printable, shape, spoken, telephone_events, wanted};
use super::crypto::{self, Crypto};
use super::{Direction, Keys, Local, Origin, SdpError, Srtp, Terms};
use crate::call::{LegMedia, Shape};
use crate::media::codec::Codec;
use sdp_types::{Attribute, Connection, Media, NetType, Session};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// Media lines looked at; a telephone has two or three.
const MAX_MEDIA: usize = 16;

/// What a peer's description says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Who wrote it.
    pub origin: Origin,
    /// Which way the audio flows.
    pub direction: Direction,
    /// What we both speak, in the peer's order, with its payload types.
    pub codecs: Vec<(Codec, u8)>,
    /// The payload types of telephone-event, and their units a second.
    dtmf: Vec<(u8, u32)>,
    shape: Shape,
    rtp: SocketAddr,
    rtcp: SocketAddr,
    /// Whether RTCP may share RTP's port (RFC 5761).
    pub(super) mux: bool,
    /// The key by which the peer protects what it sends; none: it sends plain RTP.
    pub(super) crypto: Option<Crypto>,
    pub(super) lines: Vec<Line>,
    pub(super) chosen: usize,
}

/// A media line, kept so that the answer can name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub kind: String,
    pub proto: String,
    pub formats: String,
}

impl Description {
    /// Reads an offer or an answer, which must keep to `terms`.
    pub fn read(body: &[u8], terms: Terms) -> Result<Self, SdpError> {
        let text = std::str::from_utf8(body).map_err(|_| broken("it is not UTF-8"))?;
        let session = session(text)?;
        let found = audio_line(&session, terms.srtp)?;
        Description::of_line(&session, found, terms)
    }

    /// What the description says of one of its lines.
    pub(super) fn of_line(
        session: &Session,
        (chosen, media, crypto): (usize, &Media, Option<Crypto>),
        terms: Terms,
    ) -> Result<Self, SdpError> {
        let codecs = spoken(media);
        if codecs.is_empty() {
            return Err(SdpError::NotAcceptable(format!("no codec of the audio line is known ({})", wanted(media))));
        }
        let opus = codecs.iter().find(|(c, _)| *c == Codec::Opus).map(|(_, pt)| *pt);
        let rtp = SocketAddr::new(address(session, media)?, media.port);
        terms.can_reach(rtp)?;
        Ok(Description {
            origin: origin(session),
            direction: direction(session, media),
            codecs,
            dtmf: telephone_events(media),
            shape: shape(media, opus),
            rtp,
            rtcp: rtcp(media, rtp)?,
            mux: attribute(&media.attributes, "rtcp-mux").is_some(),
            crypto,
            lines: session.medias.iter().map(Line::of).collect(),
            chosen,
        })
    }

    /// Whether the peer speaks `codec`.
    pub fn speaks(&self, codec: Codec) -> bool {
        self.codecs.iter().any(|(c, _)| *c == codec)
    }

    /// Whether the peer says that it sends.
    pub fn sends(&self) -> bool {
        matches!(self.direction, Direction::SendRecv | Direction::SendOnly)
    }

    /// How the peer puts us on hold, if it does: it sends (music) and does not receive, or neither. An unspecified address
    /// is the old way (RFC 3264 §8.4).
    pub fn hold(&self) -> Option<Direction> {
        let nowhere = self.rtp.ip().is_unspecified();
        match self.direction {
            Direction::SendOnly if !nowhere => Some(Direction::SendOnly),
            Direction::SendOnly | Direction::Inactive => Some(Direction::Inactive),
            Direction::SendRecv | Direction::RecvOnly => nowhere.then_some(Direction::Inactive),
        }
    }

    /// What both sides use: `preferred` where the peer has it (so that two legs can relay), else the peer's first.
    pub fn settle(&self, preferred: Option<Codec>) -> Option<LegMedia> {
        let wished = self.codecs.iter().find(|(c, _)| Some(*c) == preferred);
        let (codec, payload_type) = *wished.or(self.codecs.first())?;
        // RFC 4733 §2.1: events count as the sound does; who offers only another clock gets that.
        let dtmf = self.dtmf.iter().find(|(_, clock)| *clock == codec.clock()).or(self.dtmf.first());
        Some(LegMedia {
            codec,
            payload_type,
            dtmf: dtmf.map(|(pt, _)| *pt),
            shape: Shape { dtmf_clock: dtmf.map_or(8_000, |(_, clock)| *clock), ..self.shape },
            remote: self.rtp,
            // Our offers and answers always allow it: where the peer does too, it holds (RFC 5761 §5.1.1).
            remote_rtcp: if self.mux { self.rtp } else { self.rtcp },
            // An unspecified address is the old way to say "on hold" (RFC 3264 §8.4).
            send: self.direction.writer_receives() && !self.rtp.ip().is_unspecified(),
        })
    }
}

impl Description {
    /// The keys of a leg that agrees on this with us; none: its packets are plain.
    pub fn keys(&self, local: &Local) -> Option<Keys> {
        self.crypto.map(|theirs| Keys { ours: local.keyring.key(theirs.key.suite()), theirs: theirs.key })
    }
}

impl Line {
    pub(super) fn of(media: &Media) -> Self {
        Line { kind: media.media.clone(), proto: media.proto.clone(), formats: media.fmt.clone() }
    }
}

/// A description's lines.
pub(super) fn session(text: &str) -> Result<Session, SdpError> {
    let session = Session::parse(mended(text).as_bytes()).map_err(|e| broken(&e.to_string()))?;
    if session.medias.len() > MAX_MEDIA {
        return Err(broken(&format!("it has more than {MAX_MEDIA} media lines")));
    }
    Ok(session)
}

pub(super) fn broken(why: &str) -> SdpError {
    // The reason travels in a SIP header: one line, printable, not endless.
    SdpError::Broken(why.chars().filter(|c| !c.is_control()).take(120).collect())
}

/// Some telephones put spaces into the user name of `o=`; RFC 8866 §5.2 forbids it and the parser refuses it.
fn mended(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        match (line.starts_with("o="), fields.len().checked_sub(5)) {
            (true, Some(names)) if names > 1 => {
                let (user, rest) = fields.split_at(names);
                let _ = write!(out, "{} {}\r\n", user.join("_"), rest.join(" "));
            }
            _ => {
                let _ = write!(out, "{line}\r\n");
            }
        }
    }
    out
}

/// Whether a profile is one of RTP, and if so whether it is protected. The feedback of RFC 4585 and 5124 is an offer to
/// make use of: who makes none keeps to these profiles too.
pub(super) fn is_protected(media: &Media) -> Option<bool> {
    let is = |name: &&str| media.proto.eq_ignore_ascii_case(name);
    let plain = ["RTP/AVP", "RTP/AVPF"].iter().any(is);
    (plain || ["RTP/SAVP", "RTP/SAVPF"].iter().any(is)).then_some(!plain)
}

/// The first audio line with a key we can use, else, where that will do, the first of plain RTP. A key on a line of plain
/// RTP is how many telephones offer to do without one.
fn audio_line(session: &Session, srtp: Srtp) -> Result<(usize, &Media, Option<Crypto>), SdpError> {
    let audio = || session.medias.iter().enumerate().filter(|(_, m)| m.media == "audio" && m.port != 0);
    if srtp != Srtp::Off
        && let Some(found) = audio().filter(|(_, m)| is_protected(m).is_some()).find_map(|(at, m)| {
            let crypto = crypto::usable(m)?;
            Some((at, m, Some(crypto)))
        })
    {
        return Ok(found);
    }
    let plain = audio().find(|(_, m)| is_protected(m) == Some(false));
    match plain.filter(|_| srtp != Srtp::Required) {
        Some((at, media)) => Ok((at, media, None)),
        None => Err(SdpError::NotAcceptable(why_no_line(session, srtp))),
    }
}

pub(super) fn why_no_line(session: &Session, srtp: Srtp) -> String {
    let audio = || session.medias.iter().filter(|m| m.media == "audio");
    let Some(media) = audio().find(|m| m.port != 0) else {
        return if audio().next().is_some() { "the audio line has port 0" } else { "there is no audio line" }.into();
    };
    let proto = printable(&media.proto);
    let suites: Vec<String> = crypto::named(media).into_iter().map(printable).collect();
    match (is_protected(media), srtp) {
        (None, _) => format!("the audio line wants {proto}"),
        (Some(true), Srtp::Off) => format!("the audio line wants {proto}, and SRTP is off here"),
        (Some(false), _) if suites.is_empty() => "the audio line has no key, and SRTP is required here".into(),
        (Some(_), _) if suites.is_empty() => format!("the audio line wants {proto} and has no a=crypto"),
        (Some(_), _) => format!("no key of the audio line can be used ({})", suites.join(", ")),
    }
}

fn origin(session: &Session) -> Origin {
    let o = &session.origin;
    Origin {
        session: format!("{} {}", o.username.as_deref().unwrap_or("-"), o.sess_id),
        address: o.unicast_address.clone(),
    }
}

fn ip(connection: &Connection) -> Result<IpAddr, SdpError> {
    let wrong = || broken(&format!("c= names no IP address ({})", printable(&connection.connection_address)));
    if connection.nettype != NetType::In {
        return Err(wrong());
    }
    let ip = connection.try_address().map_err(|_| wrong())?.ip;
    if ip.is_multicast() {
        return Err(SdpError::NotAcceptable("multicast media".into()));
    }
    Ok(ip)
}

/// `c=` of the media line, else of the session (RFC 8866 §5.7).
fn address(session: &Session, media: &Media) -> Result<IpAddr, SdpError> {
    let connection = media.connections.first().or(session.connection.as_ref());
    ip(connection.ok_or_else(|| broken("it has no c= line"))?)
}

/// Where RTCP goes: `a=rtcp` (RFC 3605), else the port above RTP's.
fn rtcp(media: &Media, rtp: SocketAddr) -> Result<SocketAddr, SdpError> {
    let above = SocketAddr::new(rtp.ip(), rtp.port().saturating_add(1));
    let Some(value) = attribute(&media.attributes, "rtcp").and_then(|a| a.value.as_deref()) else {
        return Ok(above);
    };
    let mut fields = value.split_ascii_whitespace();
    let port = fields.next().and_then(|p| p.parse().ok()).ok_or_else(|| broken("a=rtcp has no port"))?;
    // `IN IP4 address` may follow.
    let ip = match fields.nth(2) {
        Some(text) => text.parse().map_err(|_| broken("a=rtcp names no IP address"))?,
        None => rtp.ip(),
    };
    Ok(SocketAddr::new(ip, port))
}

/// Of the media line, else of the session, else both ways (RFC 8866 §6.7).
fn direction(session: &Session, media: &Media) -> Direction {
    let of = |attributes: &[Attribute]| attributes.iter().find_map(|a| Direction::named(&a.attribute));
    of(&media.attributes).or_else(|| of(&session.attributes)).unwrap_or(Direction::SendRecv)
}
