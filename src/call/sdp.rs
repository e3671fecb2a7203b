//! Session descriptions: what a peer offers, what we answer (RFC 3264, RFC 8866).
//!
//! In come the bytes of a body; out come a [`Description`], the [`LegMedia`] that both sides agree on, and the text
//! of our offer or answer. Speaks PCMU, PCMA and telephone-event over RTP/AVP. Knows nothing of SIP.

use crate::call::LegMedia;
use crate::media::codec::Codec;
use sdp_types::{Attribute, Connection, Media, NetType, Session};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// Media lines looked at; a telephone has two or three.
const MAX_MEDIA: usize = 16;
/// The payload type we offer for telephone-event: the one nearly everybody uses.
const OUR_DTMF: u8 = 101;

/// Why a description cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The text is no SDP: the peer's fault, answered with 400.
    #[error("the session description is broken: {0}")]
    Broken(String),
    /// It is sound, but there is nothing in it that we speak: answered with 488.
    #[error("{0}; PCMU and PCMA over RTP/AVP are spoken here")]
    NotAcceptable(String),
}

/// Which way media flows, as the one who writes the attribute sees it (RFC 3264 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// From the writer only.
    SendOnly,
    /// To the writer only.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// What the other side answers (RFC 3264 §6.1).
    pub fn mirrored(self) -> Self {
        match self {
            Direction::SendRecv => Direction::SendRecv,
            Direction::SendOnly => Direction::RecvOnly,
            Direction::RecvOnly => Direction::SendOnly,
            Direction::Inactive => Direction::Inactive,
        }
    }

    /// The attribute's name.
    pub fn name(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
            .into_iter()
            .find(|d| d.name().eq_ignore_ascii_case(name))
    }

    fn writer_receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// Who wrote a description, as far as `o=` says. A change of it is a change of the far end (DESIGN §2.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The user's name and the session's id.
    pub session: String,
    /// Where they write from.
    pub address: String,
}

/// Our end of the media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Where we receive RTP; RTCP one port above.
    pub rtp: SocketAddr,
    /// Names the session in `o=`.
    pub session: u64,
    /// Raised by one with every description sent (RFC 3264 §8).
    pub version: u64,
}

/// What a peer's description says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Who wrote it.
    pub origin: Origin,
    /// Which way the audio flows.
    pub direction: Direction,
    /// What we both speak, in the peer's order, with its payload types.
    pub codecs: Vec<(Codec, u8)>,
    dtmf: Option<u8>,
    rtp: SocketAddr,
    rtcp: SocketAddr,
    lines: Vec<Line>,
    chosen: usize,
}

/// A media line, kept so that the answer can name it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    kind: String,
    proto: String,
    formats: String,
}

impl Description {
    /// Reads an offer or an answer.
    pub fn read(body: &[u8]) -> Result<Self, SdpError> {
        let text = std::str::from_utf8(body).map_err(|_| broken("it is not UTF-8"))?;
        let session = Session::parse(mended(text).as_bytes()).map_err(|e| broken(&e.to_string()))?;
        if session.medias.len() > MAX_MEDIA {
            return Err(broken(&format!("it has more than {MAX_MEDIA} media lines")));
        }
        let (chosen, media) = audio_line(&session)?;
        let codecs = spoken(media);
        if codecs.is_empty() {
            return Err(SdpError::NotAcceptable(format!("no codec of the audio line is known ({})", wanted(media))));
        }
        let rtp = SocketAddr::new(address(&session, media)?, media.port);
        Ok(Description {
            origin: origin(&session),
            direction: direction(&session, media),
            codecs,
            dtmf: telephone_event(media),
            rtp,
            rtcp: rtcp(media, rtp)?,
            lines: session.medias.iter().map(Line::of).collect(),
            chosen,
        })
    }

    /// Whether the peer speaks `codec`.
    pub fn speaks(&self, codec: Codec) -> bool {
        self.codecs.iter().any(|(c, _)| *c == codec)
    }

    /// What both sides use: `preferred` where the peer has it (so that two legs can relay), else the peer's first.
    pub fn settle(&self, preferred: Option<Codec>) -> Option<LegMedia> {
        let wished = self.codecs.iter().find(|(c, _)| Some(*c) == preferred);
        let (codec, payload_type) = *wished.or(self.codecs.first())?;
        Some(LegMedia {
            codec,
            payload_type,
            dtmf: self.dtmf,
            shape: Default::default(),
            remote: self.rtp,
            remote_rtcp: self.rtcp,
            // An unspecified address is the old way to say "on hold" (RFC 3264 §8.4).
            send: self.direction.writer_receives() && !self.rtp.ip().is_unspecified(),
        })
    }

    /// Our answer: one audio line is accepted, every other line is refused with port 0 (RFC 3264 §6).
    pub fn answer(&self, local: &Local, media: &LegMedia) -> Vec<u8> {
        let mut text = head(local);
        for (i, line) in self.lines.iter().enumerate() {
            if i == self.chosen {
                audio(&mut text, local, &[(media.codec, media.payload_type)], media.dtmf, self.direction.mirrored());
            } else {
                let _ = write!(text, "m={} 0 {} {}\r\n", line.kind, line.proto, line.formats);
            }
        }
        text.into_bytes()
    }
}

/// Our offer, the codecs in the order they are wished for.
pub fn offer(local: &Local, codecs: &[Codec]) -> Vec<u8> {
    let codecs: Vec<_> = codecs.iter().map(|c| (*c, static_type(*c))).collect();
    let mut text = head(local);
    audio(&mut text, local, &codecs, Some(OUR_DTMF), Direction::SendRecv);
    text.into_bytes()
}

impl Line {
    fn of(media: &Media) -> Self {
        Line { kind: media.media.clone(), proto: media.proto.clone(), formats: media.fmt.clone() }
    }
}

fn head(local: &Local) -> String {
    let ip = local.rtp.ip();
    let family = family(ip);
    let (session, version) = (local.session, local.version);
    format!("v=0\r\no=sotto {session} {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n")
}

fn audio(text: &mut String, local: &Local, codecs: &[(Codec, u8)], dtmf: Option<u8>, direction: Direction) {
    let _ = write!(text, "m=audio {} RTP/AVP", local.rtp.port());
    for (_, payload_type) in codecs {
        let _ = write!(text, " {payload_type}");
    }
    if let Some(payload_type) = dtmf {
        let _ = write!(text, " {payload_type}");
    }
    text.push_str("\r\n");
    for (codec, payload_type) in codecs {
        let _ = write!(text, "a=rtpmap:{payload_type} {}/8000\r\n", name(*codec));
    }
    if let Some(payload_type) = dtmf {
        // Events 0–15: the sixteen keys (RFC 4733 §7.1.1).
        let _ = write!(text, "a=rtpmap:{payload_type} telephone-event/8000\r\na=fmtp:{payload_type} 0-15\r\n");
    }
    let _ = write!(text, "a=ptime:20\r\na={}\r\n", direction.name());
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IP4" } else { "IP6" }
}

fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::Pcmu => "PCMU",
        Codec::Pcma => "PCMA",
        _ => "",
    }
}

fn static_type(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        _ => 9,
    }
}

fn broken(why: &str) -> SdpError {
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

/// The first audio line that is not refused and that plain RTP can carry.
fn audio_line(session: &Session) -> Result<(usize, &Media), SdpError> {
    let mut lines = session.medias.iter().enumerate();
    let usable = |m: &Media| m.media == "audio" && m.port != 0 && m.proto.eq_ignore_ascii_case("RTP/AVP");
    if let Some(found) = lines.find(|(_, m)| usable(m)) {
        return Ok(found);
    }
    let why = match session.medias.iter().find(|m| m.media == "audio") {
        None => "there is no audio line".to_owned(),
        Some(m) if m.port == 0 => "the audio line has port 0".to_owned(),
        Some(m) => format!("the audio line wants {}", printable(&m.proto)),
    };
    Err(SdpError::NotAcceptable(why))
}

fn origin(session: &Session) -> Origin {
    let o = &session.origin;
    Origin {
        session: format!("{} {}", o.username.as_deref().unwrap_or("-"), o.sess_id),
        address: o.unicast_address.clone(),
    }
}

fn formats(media: &Media) -> impl Iterator<Item = u8> + '_ {
    media.fmt.split_ascii_whitespace().filter_map(|f| f.parse().ok()).filter(|pt| *pt < 128)
}

/// The encoding of a payload type: by `a=rtpmap`, else by RFC 3551 §6.
fn encoding(media: &Media, payload_type: u8) -> Option<String> {
    let mapped = media.attributes.iter().filter(|a| a.attribute == "rtpmap").find_map(|a| {
        let (number, rest) = a.value.as_deref()?.trim().split_once(' ')?;
        (number.parse() == Ok(payload_type)).then(|| rest.trim().to_ascii_lowercase())
    });
    mapped.or_else(|| match payload_type {
        0 => Some("pcmu/8000".into()),
        8 => Some("pcma/8000".into()),
        _ => None,
    })
}

fn spoken(media: &Media) -> Vec<(Codec, u8)> {
    let codec = |pt: u8| match encoding(media, pt)?.trim_end_matches("/1") {
        "pcmu/8000" => Some((Codec::Pcmu, pt)),
        "pcma/8000" => Some((Codec::Pcma, pt)),
        _ => None,
    };
    formats(media).filter_map(codec).collect()
}

fn telephone_event(media: &Media) -> Option<u8> {
    formats(media).find(|pt| encoding(media, *pt).is_some_and(|e| e.trim_end_matches("/1") == "telephone-event/8000"))
}

/// What was offered instead, for the person who reads the refusal.
fn wanted(media: &Media) -> String {
    let name = |pt: u8| encoding(media, pt).map_or_else(|| format!("payload type {pt}"), |e| printable(&e));
    formats(media).take(6).map(name).collect::<Vec<_>>().join(", ")
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() && *c != '"' && *c != '\\').take(40).collect()
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

fn attribute<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a Attribute> {
    attributes.iter().find(|a| a.attribute.eq_ignore_ascii_case(name))
}

/// Of the media line, else of the session, else both ways (RFC 8866 §6.7).
fn direction(session: &Session, media: &Media) -> Direction {
    let of = |attributes: &[Attribute]| attributes.iter().find_map(|a| Direction::named(&a.attribute));
    of(&media.attributes).or_else(|| of(&session.attributes)).unwrap_or(Direction::SendRecv)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Local = Local {
        rtp: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9)), 20_000),
        session: 7,
        version: 1,
    };

    fn sdp(media: &str) -> String {
        format!("v=0\r\no=alice 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{media}")
    }

    fn read(media: &str) -> Result<Description, SdpError> {
        Description::read(sdp(media).as_bytes())
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_offer_is_answered_in_its_own_payload_types() {
        let offer = read("m=audio 4000 RTP/AVP 18 97 0 96\r\na=rtpmap:97 PCMA/8000/1\r\na=rtpmap:96 telephone-event/8000\r\na=sendonly\r\n").unwrap();
        assert_eq!(offer.codecs, [(Codec::Pcma, 97), (Codec::Pcmu, 0)]);
        let media = offer.settle(None).unwrap();
        assert_eq!((media.codec, media.payload_type, media.dtmf), (Codec::Pcma, 97, Some(96)));
        assert_eq!(media.remote, "192.0.2.1:4000".parse().unwrap());
        assert_eq!(media.remote_rtcp, "192.0.2.1:4001".parse().unwrap());
        assert!(!media.send);
        assert_eq!(
            text(offer.answer(&LOCAL, &media)),
            "v=0\r\no=sotto 7 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
             m=audio 20000 RTP/AVP 97 96\r\na=rtpmap:97 PCMA/8000\r\na=rtpmap:96 telephone-event/8000\r\n\
             a=fmtp:96 0-15\r\na=ptime:20\r\na=recvonly\r\n"
        );
    }

    #[test]
    fn the_codec_of_the_other_leg_is_preferred_where_the_peer_has_it() {
        let offer = read("m=audio 4000 RTP/AVP 0 8\r\n").unwrap();
        assert_eq!(offer.settle(Some(Codec::Pcma)).unwrap().codec, Codec::Pcma);
        let only = read("m=audio 4000 RTP/AVP 0\r\n").unwrap();
        assert_eq!(only.settle(Some(Codec::Pcma)).unwrap().codec, Codec::Pcmu);
    }

    #[test]
    fn hold_and_resume_follow_the_direction() {
        for (said, answered, send) in [
            ("sendrecv", "sendrecv", true),
            ("sendonly", "recvonly", false),
            ("recvonly", "sendonly", true),
            ("inactive", "inactive", false),
        ] {
            let offer = read(&format!("m=audio 4000 RTP/AVP 0\r\na={said}\r\n")).unwrap();
            let media = offer.settle(None).unwrap();
            assert_eq!(media.send, send, "{said}");
            assert!(text(offer.answer(&LOCAL, &media)).ends_with(&format!("a={answered}\r\n")));
        }
    }

    #[test]
    fn an_unspecified_address_is_a_hold() {
        let offer = read("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n").unwrap();
        assert!(!offer.settle(None).unwrap().send);
    }

    #[test]
    fn lines_that_are_not_audio_are_refused_with_port_0() {
        let offer = read("m=video 5000 RTP/AVP 31\r\nm=audio 4000 RTP/AVP 8\r\nm=audio 4002 RTP/AVP 8\r\n").unwrap();
        let answer = text(offer.answer(&LOCAL, &offer.settle(None).unwrap()));
        let lines: Vec<_> = answer.lines().filter(|l| l.starts_with("m=")).collect();
        assert_eq!(lines, ["m=video 0 RTP/AVP 31", "m=audio 20000 RTP/AVP 8", "m=audio 0 RTP/AVP 8"]);
    }

    #[test]
    fn media_address_and_rtcp_are_found_where_they_are() {
        let offer =
            read("m=audio 4000 RTP/AVP 0\r\nc=IN IP6 2001:db8::5\r\na=rtcp:4444 IN IP6 2001:db8::6\r\n").unwrap();
        let media = offer.settle(None).unwrap();
        assert_eq!(media.remote, "[2001:db8::5]:4000".parse().unwrap());
        assert_eq!(media.remote_rtcp, "[2001:db8::6]:4444".parse().unwrap());
        let muxed = read("m=audio 4000 RTP/AVP 0\r\na=rtcp:4010\r\n").unwrap().settle(None).unwrap();
        assert_eq!(muxed.remote_rtcp, "192.0.2.1:4010".parse().unwrap());
    }

    #[test]
    fn what_cannot_be_spoken_is_named() {
        let none = read("m=audio 4000 RTP/AVP 18 111\r\na=rtpmap:111 opus/48000/2\r\n").unwrap_err();
        assert_eq!(
            none.to_string(),
            "no codec of the audio line is known (payload type 18, opus/48000/2); PCMU and PCMA over RTP/AVP are spoken here"
        );
        for media in ["", "m=video 4000 RTP/AVP 0\r\n", "m=audio 0 RTP/AVP 0\r\n", "m=audio 4000 RTP/SAVP 0\r\n"] {
            assert!(matches!(read(media), Err(SdpError::NotAcceptable(_))), "{media:?}");
        }
    }

    #[test]
    fn what_is_broken_is_called_broken() {
        let no_address = "v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
        let named = "v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nc=IN IP4 phone.example\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
        for body in ["", "hello", "v=0\r\nm=audio\r\n", no_address, named] {
            assert!(matches!(Description::read(body.as_bytes()), Err(SdpError::Broken(_))), "{body:?}");
        }
        assert!(matches!(Description::read(b"v=0\r\n\xff"), Err(SdpError::Broken(_))));
    }

    #[test]
    fn a_user_name_with_spaces_is_mended() {
        let body = "v=0\no=Front Desk 2 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 4000 RTP/AVP 0\n";
        assert_eq!(Description::read(body.as_bytes()).unwrap().origin.session, "Front_Desk_2 1");
    }

    #[test]
    fn our_offer_reads_back() {
        let mut local = LOCAL;
        local.rtp.set_ip("2001:db8::1".parse().unwrap());
        let ours = Description::read(&offer(&local, &[Codec::Pcma, Codec::Pcmu])).unwrap();
        assert_eq!(ours.codecs, [(Codec::Pcma, 8), (Codec::Pcmu, 0)]);
        assert_eq!(ours.dtmf, Some(101));
        assert_eq!(ours.rtp, local.rtp);
        assert_eq!(ours.direction, Direction::SendRecv);
    }

    #[test]
    fn no_mangled_description_panics() {
        let seed = sdp(
            "m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp:53 IN IP4 192.0.2.1\r\na=sendonly\r\n",
        );
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below.max(1) as u64) as usize
        };
        let mut understood = 0;
        for _ in 0..20_000 {
            let mut bytes = seed.clone().into_bytes();
            for _ in 0..1 + next(4) {
                let at = next(bytes.len());
                match next(3) {
                    0 => bytes[at] = next(256) as u8,
                    1 => drop(bytes.drain(at..(at + 1 + next(20)).min(bytes.len()))),
                    _ => bytes.insert(at, b" \r\n=/:0"[next(7)]),
                }
            }
            if let Ok(d) = Description::read(&bytes) {
                understood += 1;
                assert!(!d.answer(&LOCAL, &d.settle(None).unwrap()).is_empty());
            }
        }
        assert!(understood > 1000, "the fuzz never reached the reader: {understood}");
    }
}
