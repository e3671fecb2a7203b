//! Session descriptions: what a peer offers, what we answer (RFC 3264, RFC 8866).
//!
//! In come the bytes of a body; out come a [`Description`], the [`LegMedia`](crate::call::LegMedia) that both sides
//! agree on, and the text of our offer or answer. Speaks our codecs and telephone-event over RTP/AVP. Knows nothing of
//! SIP.

mod codecs;
mod read;
mod reports;
mod write;

pub use read::Description;
pub use write::offer;

use std::net::SocketAddr;

/// Why a description cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The text is no SDP: the peer's fault, answered with 400.
    #[error("the session description is broken: {0}")]
    Broken(String),
    /// It is sound, but there is nothing in it that we speak: answered with 488.
    #[error("{0}; Opus, G.722, PCMU, PCMA and L16 over RTP/AVP are spoken here")]
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{LegMedia, Shape};
    use crate::media::codec::{Codec, OpusWish};
    use std::net::IpAddr;

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
        let none = read("m=audio 4000 RTP/AVP 18 111\r\na=rtpmap:111 iLBC/8000\r\n").unwrap_err();
        assert_eq!(
            none.to_string(),
            "no codec of the audio line is known (payload type 18, ilbc/8000); Opus, G.722, PCMU, PCMA and L16 over RTP/AVP are spoken here"
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
        let media = ours.settle(None).unwrap();
        assert_eq!((media.dtmf, media.remote), (Some(101), local.rtp));
        assert_eq!(ours.direction, Direction::SendRecv);
    }

    #[test]
    fn every_codec_is_offered_and_understood() {
        let ours = offer(&LOCAL, &Codec::ALL);
        let theirs = Description::read(&ours).unwrap();
        assert_eq!(theirs.codecs.iter().map(|(c, _)| *c).collect::<Vec<_>>(), Codec::ALL);
        for codec in Codec::ALL {
            let media = theirs.settle(Some(codec)).unwrap();
            let (dtmf, clock) = if codec == Codec::Opus { (110, 48_000) } else { (101, 8_000) };
            assert_eq!((media.codec, media.dtmf, media.shape.dtmf_clock), (codec, Some(dtmf), clock));
            let answer = Description::read(&theirs.answer(&LOCAL, &media)).unwrap();
            assert_eq!(
                answer.settle(None).unwrap(),
                LegMedia { remote: LOCAL.rtp, ..answer.settle(Some(codec)).unwrap() }
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
            let answer = text(offer.answer(&LOCAL, &media));
            let audio = answer.split("m=video").next().unwrap();
            assert_eq!(audio.lines().find_map(|l| l.strip_prefix("a=rtcp-xr:")), answered, "{answer}");
        }
        let ours = Description::read(&offer(&LOCAL, &Codec::ALL)).unwrap();
        assert_eq!(ours.settle(None).unwrap().shape.reports, Wish::ALL);
    }

    #[test]
    fn no_mangled_description_panics() {
        let seed = sdp(
            "m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp:53 IN IP4 192.0.2.1\r\na=rtcp-xr:voip-metrics\r\na=sendonly\r\n",
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
