//! Session descriptions: what a peer offers, what we answer (RFC 3264, RFC 8866).
//!
//! In come the bytes of a body; out come a [`Description`], the [`LegMedia`](crate::call::LegMedia) that both sides
//! agree on, and the text of our offer or answer. Speaks our codecs and telephone-event over RTP/AVP, and over RTP/SAVP
//! with keys by SDES (RFC 4568). Knows nothing of SIP, and encrypts nothing.

mod codecs;
mod crypto;
mod read;
mod reports;
mod streams;
mod write;

pub use crypto::{Keyring, Keys, MasterKey, Srtp, Suite};
pub use read::Description;
pub use streams::{Accepted, Stream, Streams, offer_again};
pub use write::{offer, reoffer};

use std::net::SocketAddr;

/// Why a description cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The text is no SDP: the peer's fault, answered with 400.
    #[error("the session description is broken: {0}")]
    Broken(String),
    /// It is sound, but there is nothing in it that we speak: answered with 488.
    #[error(
        "{0}; Opus, G.722, PCMU, PCMA and L16 over RTP/AVP or, with AES_CM_128 or AES_GCM, RTP/SAVP are spoken here"
    )]
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

    pub(super) fn named(name: &str) -> Option<Self> {
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
            .into_iter()
            .find(|d| d.name().eq_ignore_ascii_case(name))
    }

    /// What is left of it where only `limit` may flow; the same writer's.
    pub fn within(self, limit: Direction) -> Self {
        let sends = |d| matches!(d, Direction::SendRecv | Direction::SendOnly);
        match (sends(self) && sends(limit), self.writer_receives() && limit.writer_receives()) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    pub(super) fn writer_receives(self) -> bool {
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
    keyring: Keyring,
    /// Whether what we offer is protected: where SRTP is required, and where it is in use.
    srtp: bool,
    in_use: Option<Suite>,
}

impl Local {
    /// Before anything was agreed on; `random` gives octets for keys, which nobody can guess and others each time.
    pub fn new(rtp: SocketAddr, session: u64, srtp: Srtp, random: impl FnMut() -> [u8; MasterKey::MOST]) -> Self {
        let (keyring, srtp) = (Keyring::new(random), srtp == Srtp::Required);
        Local { rtp, session, version: 1, keyring, srtp, in_use: None }
    }

    /// What holds from now on. A key that was in use and no longer is goes for ever: taken up again, its counts would begin
    /// anew, and encrypt twice under one number.
    pub fn agree(&mut self, keys: Option<Keys>, random: impl FnOnce() -> [u8; MasterKey::MOST]) {
        let suite = keys.map(|keys| keys.ours.suite());
        if let Some(before) = self.in_use.filter(|_| self.in_use != suite) {
            self.keyring.replace(before, random());
        }
        (self.srtp, self.in_use) = (suite.is_some(), suite);
    }

    /// Whether media is protected now.
    pub fn is_protected(&self) -> bool {
        self.in_use.is_some()
    }

    /// What the answer to an offer of ours must keep to.
    pub fn terms(&self) -> Terms {
        Terms { srtp: if self.srtp { Srtp::Required } else { Srtp::Off }, ipv6: self.rtp.is_ipv6() }
    }
}

/// What a peer's description must keep to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Whether its media is to be protected.
    pub srtp: Srtp,
    /// Whether the sockets it will talk to are those of IPv6; a socket speaks one family.
    pub ipv6: bool,
}

impl Terms {
    fn can_reach(self, rtp: SocketAddr) -> Result<(), SdpError> {
        let family = |ipv6: bool| if ipv6 { "IPv6" } else { "IPv4" };
        // A hold the old way names no address of any family (RFC 3264 §8.4).
        if rtp.is_ipv6() == self.ipv6 || rtp.ip().is_unspecified() {
            return Ok(());
        }
        let (wants, here) = (family(rtp.is_ipv6()), family(self.ipv6));
        Err(SdpError::NotAcceptable(format!("the media address is one of {wants}, and this line speaks {here}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{LegMedia, Shape};
    use crate::media::codec::{Codec, OpusWish};
    use std::net::IpAddr;

    fn local() -> Local {
        let rtp = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9)), 20_000);
        Local::new(rtp, 7, Srtp::Optional, || [7; MasterKey::MOST])
    }

    fn sdp(media: &str) -> String {
        format!("v=0\r\no=alice 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{media}")
    }

    fn read(media: &str) -> Result<Description, SdpError> {
        read_as(Srtp::Optional, media)
    }

    fn read_as(srtp: Srtp, media: &str) -> Result<Description, SdpError> {
        Description::read(sdp(media).as_bytes(), Terms { srtp, ipv6: media.contains("IP6") })
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
            text(offer.answer(&local(), &media)),
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
            assert!(text(offer.answer(&local(), &media)).ends_with(&format!("a={answered}\r\n")));
        }
    }

    #[test]
    fn an_unspecified_address_is_a_hold() {
        let offer = read("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n").unwrap();
        assert!(!offer.settle(None).unwrap().send);
    }

    #[test]
    fn who_receives_nothing_holds() {
        let (plays, silent) = (Some(Direction::SendOnly), Some(Direction::Inactive));
        for (said, here, nowhere) in [
            ("sendrecv", None, silent),
            ("sendonly", plays, silent),
            ("recvonly", None, silent),
            ("inactive", silent, silent),
        ] {
            let hold = |c| read(&format!("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 {c}\r\na={said}\r\n")).unwrap().hold();
            assert_eq!((hold("192.0.2.1"), hold("0.0.0.0")), (here, nowhere), "{said}");
        }
    }

    #[test]
    fn a_new_offer_keeps_the_numbers_in_use() {
        let offer =
            read("m=audio 4000 RTP/AVP 97 96\r\na=rtpmap:97 PCMA/8000/1\r\na=rtpmap:96 telephone-event/8000\r\n");
        let media = offer.unwrap().settle(None).unwrap();
        let again = read_again(&reoffer(&local(), &media, Direction::SendOnly));
        assert_eq!((again.codecs, again.direction), (vec![(Codec::Pcma, 97)], Direction::SendOnly));
    }

    fn read_again(ours: &[u8]) -> Description {
        Description::read(ours, Terms::default()).unwrap()
    }

    #[test]
    fn lines_that_are_not_audio_are_refused_with_port_0() {
        let offer = read("m=video 5000 RTP/AVP 31\r\nm=audio 4000 RTP/AVP 8\r\nm=audio 4002 RTP/AVP 8\r\n").unwrap();
        let answer = text(offer.answer(&local(), &offer.settle(None).unwrap()));
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
        let none = read("m=audio 4000 RTP/AVP 18 111\r\na=rtpmap:111 iLBC/8000\r\n").unwrap_err();
        assert_eq!(
            none.to_string(),
            "no codec of the audio line is known (payload type 18, ilbc/8000); Opus, G.722, PCMU, PCMA and L16 over RTP/AVP or, with AES_CM_128 or AES_GCM, RTP/SAVP are spoken here"
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
            assert!(
                matches!(Description::read(body.as_bytes(), Terms::default()), Err(SdpError::Broken(_))),
                "{body:?}"
            );
        }
        assert!(matches!(Description::read(b"v=0\r\n\xff", Terms::default()), Err(SdpError::Broken(_))));
    }

    #[test]
    fn a_user_name_with_spaces_is_mended() {
        let body = "v=0\no=Front Desk 2 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 4000 RTP/AVP 0\n";
        assert_eq!(Description::read(body.as_bytes(), Terms::default()).unwrap().origin.session, "Front_Desk_2 1");
    }

    #[test]
    fn our_offer_reads_back() {
        let mut local = local();
        local.rtp.set_ip("2001:db8::1".parse().unwrap());
        let ours = Description::read(&offer(&local, &[Codec::Pcma, Codec::Pcmu]), local.terms()).unwrap();
        assert_eq!(ours.codecs, [(Codec::Pcma, 8), (Codec::Pcmu, 0)]);
        let media = ours.settle(None).unwrap();
        assert_eq!((media.dtmf, media.remote), (Some(101), local.rtp));
        assert_eq!(ours.direction, Direction::SendRecv);
    }

    #[test]
    fn every_codec_is_offered_and_understood() {
        let ours = offer(&local(), &Codec::ALL);
        let theirs = Description::read(&ours, Terms::default()).unwrap();
        assert_eq!(theirs.codecs.iter().map(|(c, _)| *c).collect::<Vec<_>>(), Codec::ALL);
        for codec in Codec::ALL {
            let media = theirs.settle(Some(codec)).unwrap();
            let (dtmf, clock) = if codec == Codec::Opus { (110, 48_000) } else { (101, 8_000) };
            assert_eq!((media.codec, media.dtmf, media.shape.dtmf_clock), (codec, Some(dtmf), clock));
            let answer = Description::read(&theirs.answer(&local(), &media), Terms::default()).unwrap();
            assert_eq!(
                answer.settle(None).unwrap(),
                LegMedia { remote: local().rtp, ..answer.settle(Some(codec)).unwrap() }
            );
            assert_eq!(answer.codecs, [(codec, media.payload_type)]);
        }
    }

    #[test]
    fn what_a_peer_wants_of_its_packets_is_kept() {
        for (attributes, expected) in [
            ("", Shape::default()),
            ("a=ptime:40\r\na=maxptime:30\r\n", Shape { ptime: 40, maxptime: 30, ..Shape::default() }),
            ("a=ptime:5\r\na=maxptime:240\r\n", Shape { ptime: 10, maxptime: 60, ..Shape::default() }),
            ("a=ptime:-1e9\r\na=maxptime:none\r\n", Shape { ptime: 10, ..Shape::default() }),
        ] {
            let media = read(&format!("m=audio 4000 RTP/AVP 0\r\n{attributes}")).unwrap().settle(None).unwrap();
            assert_eq!(media.shape, expected, "{attributes}");
        }
        let opus = "m=audio 4000 RTP/AVP 96 97\r\na=rtpmap:96 OPUS/48000/2\r\na=rtpmap:97 CN/16000\r\n\
                    a=fmtp:96 maxaveragebitrate=20000; useinbandfec=1;stereo=1\r\n";
        let shape = read(opus).unwrap().settle(None).unwrap().shape;
        assert_eq!((shape.opus, shape.noise), (OpusWish { bitrate: Some(20_000), fec: true }, 97));
    }

    #[test]
    fn extended_reports_are_agreed_where_both_know_them() {
        use crate::media::xr::Wish;
        for (asked, wish, answered) in [
            ("", Wish::default(), None),
            ("a=rtcp-xr\r\n", Wish::default(), None),
            ("a=rtcp-xr:pkt-loss-rle=16 unknown\r\n", Wish::default(), None),
            ("a=rtcp-xr:voip-metrics\r\n", Wish { metrics: true, ..Wish::default() }, Some("voip-metrics")),
            (
                "a=rtcp-xr:pkt-rcpt-times rcvr-rtt=sender:60 stat-summary=TTL VOIP-METRICS\r\n",
                Wish::ALL,
                Some("rcvr-rtt=all stat-summary=loss,dup,jitt voip-metrics"),
            ),
        ] {
            let offer = read(&format!("m=audio 4000 RTP/AVP 0\r\n{asked}m=video 0 RTP/AVP 31\r\n")).unwrap();
            let media = offer.settle(None).unwrap();
            assert_eq!(media.shape.reports, wish, "{asked}");
            let answer = text(offer.answer(&local(), &media));
            let audio = answer.split("m=video").next().unwrap();
            assert_eq!(audio.lines().find_map(|l| l.strip_prefix("a=rtcp-xr:")), answered, "{answer}");
        }
        let ours = Description::read(&offer(&local(), &Codec::ALL), Terms::default()).unwrap();
        assert_eq!(ours.settle(None).unwrap().shape.reports, Wish::ALL);
    }

    #[test]
    fn no_mangled_description_panics() {
        let seed = sdp(
            "m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp:53 IN IP4 192.0.2.1\r\n\
             a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\na=rtcp-mux\r\na=rtcp-xr:voip-metrics\r\na=sendonly\r\n",
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
            if let Ok(d) = Description::read(&bytes, Terms::default()) {
                understood += 1;
                assert!(!d.answer(&local(), &d.settle(None).unwrap()).is_empty());
            }
        }
        assert!(understood > 1000, "the fuzz never reached the reader: {understood}");
    }

    const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

    fn crypto(tag: u32, suite: &str) -> String {
        format!("a=crypto:{tag} {suite} inline:{KEY}\r\n")
    }

    /// The first key that can be used is taken under its own tag, and answered with one of ours.
    #[test]
    fn an_offer_with_keys_is_answered_with_the_one_we_take() {
        let (f8, cm32, cm80) = ("F8_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AES_CM_128_HMAC_SHA1_80");
        for proto in ["RTP/SAVP", "RTP/AVP", "RTP/SAVPF", "RTP/AVPF"] {
            let keys = [crypto(1, f8), crypto(20, cm32), crypto(3, cm80)].concat();
            let offer = read(&format!("m=audio 4000 {proto} 0\r\n{keys}a=rtcp-mux\r\n")).unwrap();
            let media = offer.settle(None).unwrap();
            assert_eq!(media.remote_rtcp, media.remote);
            let keys = offer.keys(&local()).unwrap();
            assert_eq!((keys.ours, keys.theirs.suite()), (local().keyring.key(Suite::Counter32), Suite::Counter32));
            let answer = text(offer.answer(&local(), &media));
            let ours = format!("m=audio 20000 {proto} 0\r\na=crypto:20 {cm32} inline:{}\r\n", "BwcH".repeat(10));
            assert!(answer.contains(&ours) && answer.contains("a=rtcp-mux\r\n"), "{answer}");
            assert_eq!(answer.matches("a=crypto").count(), 1);
        }
    }

    #[test]
    fn who_may_do_without_keys_and_who_may_not() {
        let key = crypto(1, "AES_CM_128_HMAC_SHA1_80");
        let (plain, protected) = ("m=audio 4000 RTP/AVP 0\r\n", format!("m=audio 4002 RTP/SAVP 0\r\n{key}"));
        let either = format!("{plain}{key}");
        let both = format!("{plain}{protected}");
        for (srtp, media, expected) in [
            (Srtp::Off, plain, Ok((0, false))),
            (Srtp::Off, &either, Ok((0, false))),
            (Srtp::Off, &both, Ok((0, false))),
            (Srtp::Off, &protected, Err("the audio line wants RTP/SAVP, and SRTP is off here")),
            (Srtp::Optional, plain, Ok((0, false))),
            (Srtp::Optional, &either, Ok((0, true))),
            (Srtp::Optional, &both, Ok((1, true))),
            (Srtp::Optional, &protected, Ok((0, true))),
            (Srtp::Optional, "m=audio 4000 RTP/SAVP 0\r\n", Err("the audio line wants RTP/SAVP and has no a=crypto")),
            (
                Srtp::Optional,
                "m=audio 4000 RTP/SAVP 0\r\na=crypto:1 F8_128_HMAC_SHA1_80 inline:AAAA\r\n",
                Err("no key of the audio line can be used (F8_128_HMAC_SHA1_80)"),
            ),
            (Srtp::Required, plain, Err("the audio line has no key, and SRTP is required here")),
            (Srtp::Required, &either, Ok((0, true))),
            (Srtp::Required, &both, Ok((1, true))),
            (Srtp::Optional, "m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n", Err("the audio line wants UDP/TLS/RTP/SAVPF")),
        ] {
            match (read_as(srtp, media), expected) {
                (Ok(read), Ok(expected)) => {
                    assert_eq!((read.chosen, read.crypto.is_some()), expected, "{srtp:?} {media}")
                }
                (Err(error), Err(expected)) => assert!(error.to_string().starts_with(expected), "{error}"),
                (read, expected) => panic!("{srtp:?} {media} is {read:?}, not {expected:?}"),
            }
        }
    }

    /// Every suite is offered with a key of its own, and whichever comes back names both keys.
    #[test]
    fn a_protected_offer_of_ours_reads_back() {
        let mut count = 0;
        let keyring = Keyring::new(|| {
            count += 1;
            [count; MasterKey::MOST]
        });
        let ours = Local { keyring, ..Local::new(local().rtp, 7, Srtp::Required, || [0; MasterKey::MOST]) };
        let text = text(offer(&ours, &[Codec::Pcmu]));
        assert_eq!((text.matches("a=crypto").count(), text.matches("RTP/SAVP 0").count()), (4, 1), "{text}");
        for suite in Suite::ALL {
            let lines: String =
                text.split_inclusive('\n').filter(|l| !l.contains("crypto") || l.contains(suite.name())).collect();
            let theirs = Description::read(lines.as_bytes(), ours.terms()).unwrap();
            let answer = theirs.answer(&local(), &theirs.settle(None).unwrap());
            let answer = Description::read(&answer, ours.terms()).unwrap();
            let keys = answer.keys(&ours).unwrap();
            assert_eq!((keys.ours, keys.theirs), (keyring.key(suite), local().keyring.key(suite)));
            assert_eq!(theirs.keys(&local()), Some(Keys { ours: keys.theirs, theirs: keys.ours }));
        }
        let plain = Description::read(&offer(&local(), &[Codec::Pcmu]), Terms::default()).unwrap();
        let answer = plain.answer(&local(), &plain.settle(None).unwrap());
        assert!(Description::read(&answer, ours.terms()).is_err(), "an answer without a key to an offer of keys");
    }

    #[test]
    fn a_key_put_aside_is_never_taken_up_again() {
        let (mut local, theirs) = (local(), Keyring::new(|| [9; MasterKey::MOST]));
        let keys = |local: &Local, suite| Some(Keys { ours: local.keyring.key(suite), theirs: theirs.key(suite) });
        let first = local.keyring.key(Suite::Gcm128);
        let mut count = 100;
        let mut agree = |local: &mut Local, suite: Option<Suite>| {
            count += 1;
            let agreed = suite.and_then(|suite| keys(local, suite));
            local.agree(agreed, || [count; MasterKey::MOST]);
        };
        agree(&mut local, Some(Suite::Gcm128));
        agree(&mut local, Some(Suite::Gcm128));
        assert_eq!(local.keyring.key(Suite::Gcm128), first, "a hold keeps it");
        agree(&mut local, None);
        let second = local.keyring.key(Suite::Gcm128);
        assert!(second != first && !local.is_protected());
        agree(&mut local, Some(Suite::Gcm128));
        agree(&mut local, Some(Suite::Counter80));
        assert!(![first, second].contains(&local.keyring.key(Suite::Gcm128)) && local.is_protected());
        assert!(text(offer(&local, &[Codec::Pcmu])).contains("RTP/SAVP"), "what is protected stays so");
    }

    #[test]
    fn rtcp_keeps_its_own_port_where_the_peer_does_not_share_it() {
        let offer = read("m=audio 4000 RTP/AVP 0\r\n").unwrap();
        assert_eq!(offer.settle(None).unwrap().remote_rtcp.port(), 4001);
        assert!(!text(offer.answer(&local(), &offer.settle(None).unwrap())).contains("rtcp-mux"));
        assert!(text(super::offer(&local(), &[Codec::Pcmu])).contains("a=rtcp-mux\r\n"));
    }

    #[test]
    fn a_line_speaks_one_family() {
        let v6 = "m=audio 4000 RTP/AVP 0\r\nc=IN IP6 2001:db8::5\r\n";
        for (media, ipv6, good) in [
            ("m=audio 4000 RTP/AVP 0\r\n", false, true),
            ("m=audio 4000 RTP/AVP 0\r\n", true, false),
            (v6, true, true),
            (v6, false, false),
            ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n", true, true),
        ] {
            let read = Description::read(sdp(media).as_bytes(), Terms { ipv6, ..Terms::default() });
            assert_eq!(read.is_ok(), good, "{media} {ipv6}");
        }
    }
}
