//! Every reader of a peer's bytes, with the promises it keeps whatever comes. Each answers whether it understood. Used by
//! the tests, with inputs from a seed, and by `fuzz/`, with inputs that a fuzzer finds.
#![allow(dead_code, reason = "every user uses its own part")]

pub mod broken;

use sotto::call::Shape;
use sotto::call::sdp::{Description, Local, MasterKey, Srtp, Terms};
use sotto::io::sip::edge::{self, Outcome};
use sotto::io::siprec::{Body, BodyError, METADATA};
use sotto::media::codec::{Codec, Decoder, MAX_DECODED};
use sotto::media::noise::Noise;
use sotto::media::rtp::{HEADER, Packet};
use sotto::media::{dtmf, rtcp, xr};
use sotto::time::MediaTime;

/// The statuses that the edge gives itself, to whoever asks (RFC 3261 §21).
const STATUSES: [u16; 8] = [200, 400, 405, 416, 420, 501, 505, 513];
/// The headers of such an answer.
const HEADERS: [&str; 10] =
    ["Via", "From", "To", "Call-ID", "CSeq", "Allow", "Accept", "Supported", "Unsupported", "Server"];

pub fn datagram(bytes: &[u8]) -> bool {
    let outcome = edge::datagram(bytes);
    sound(&outcome, bytes);
    outcome != Outcome::Dropped
}

/// The first byte says into pieces of which size the rest is cut.
pub fn stream(bytes: &[u8]) -> bool {
    let Some((size, bytes)) = bytes.split_first() else { return false };
    let outcomes = edge::stream(bytes.chunks(usize::from(*size).max(1)));
    outcomes.iter().for_each(|outcome| sound(outcome, bytes));
    assert_eq!(outcomes, edge::stream([bytes]), "however it is cut, it is the same messages");
    outcomes.iter().any(|outcome| *outcome != Outcome::Dropped)
}

/// An answer is one message, of the right class, of lines we wrote, and not much longer than what it answers: nobody's
/// bytes become a header of ours, and nobody can have a third party flooded.
fn sound(outcome: &Outcome, asked: &[u8]) {
    let Outcome::Answered { status, bytes } = outcome else { return };
    let text = std::str::from_utf8(bytes).expect("an answer is text");
    let head = text.strip_suffix("\r\n\r\n").expect("an answer ends with an empty line");
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    assert!(first.starts_with(&format!("SIP/2.0 {status} ")) && STATUSES.contains(status), "{first}");
    assert!(*status != 200 || asked.windows(7).any(|w| w == b"OPTIONS"), "only OPTIONS are granted here");
    for line in lines {
        let name = line.split_once(": ").map(|(name, _)| name);
        assert!(name.is_some_and(|n| HEADERS.contains(&n) || n == "Content-Length"), "{line:?}");
        assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
    }
    // What is not UTF-8 is answered with a mark of three bytes.
    assert!(bytes.len() <= 3 * asked.len() + 700, "{} bytes for {}", bytes.len(), asked.len());
}

pub fn session_description(bytes: &[u8]) -> bool {
    let local = Local::new(([192, 0, 2, 9], 20_000).into(), 7, Srtp::Optional, || [7; MasterKey::MOST]);
    let terms = Terms { srtp: Srtp::Optional, ipv6: false };
    let Ok(description) = Description::read(bytes, terms) else { return false };
    let media = description.settle(None).expect("what was read has a codec");
    let Shape { ptime, maxptime, .. } = media.shape;
    assert!((10..=60).contains(&ptime) && (10..=60).contains(&maxptime));
    let answer = String::from_utf8(description.answer(&local, &media)).expect("an answer is text");
    assert!(answer.ends_with("\r\n") && answer.contains("m=audio 20000 "), "{answer}");
    true
}

/// A body of several parts, and metadata alone.
pub fn recording_body(bytes: &[u8]) -> bool {
    let read = |kind| match Body::read(kind, bytes) {
        Ok(_) => true,
        Err(BodyError::Broken(why) | BodyError::Unsupported(why)) => {
            assert!(!why.is_empty() && why.len() < 400, "{why}");
            false
        }
    };
    read("multipart/mixed;boundary=foobar") | read(METADATA)
}

/// A packet, what every codec makes of its payload, and comfort noise.
pub fn rtp(bytes: &[u8]) -> bool {
    let Ok(packet) = Packet::parse(bytes) else { return false };
    assert!(packet.payload.len() + HEADER <= bytes.len());
    assert!(packet.header.payload_type < 128);
    let mut pcm = [0; MAX_DECODED];
    for codec in Codec::ALL {
        let mut decoder = Decoder::new(codec);
        assert!(decoder.decode(packet.payload, &mut pcm) <= pcm.len());
        assert!(decoder.recover(packet.payload, &mut pcm) <= pcm.len());
        assert!(codec != Codec::Opus || codec.ticks(packet.payload) <= 5_760, "no packet is longer than 120 ms");
    }
    comfort_noise(packet.payload);
    true
}

pub fn comfort_noise(payload: &[u8]) -> bool {
    let Some(mut noise) = Noise::read(payload) else { return false };
    let mut pcm = [0; 8];
    noise.fill(&mut pcm);
    // −30 dB below full scale at most, and evenly spread samples peak at √3 times that.
    assert!(pcm.iter().all(|s| s.unsigned_abs() <= 1_795), "{pcm:?}");
    true
}

/// Reports and extended reports.
pub fn rtcp(bytes: &[u8]) -> bool {
    let believed = |trip: Option<sotto::time::Samples>| trip.is_none_or(|t| (0..=30_001).contains(&t.as_millis()));
    let now = MediaTime::from_millis(5000);
    let told = rtcp::read(now, 7, bytes);
    assert!(believed(told.as_ref().and_then(|t| t.of_us.as_ref()).and_then(|o| o.round_trip)));
    let extended = xr::read(now, 7, bytes);
    assert!(believed(extended.round_trip), "{extended:?}");
    told.is_some() || extended.reference.is_some()
}

/// Telephone events (RFC 4733) and the bodies of INFO.
pub fn digits(bytes: &[u8]) -> bool {
    let mut out = Vec::new();
    for (from, to) in [(8_000, 48_000), (48_000, 8_000), (0, u32::MAX)] {
        out.clear();
        dtmf::scaled(bytes, from, to, &mut out);
        assert_eq!(out.len(), bytes.len() / 4 * 4);
    }
    let event = dtmf::is_event(bytes);
    assert!(!event || (bytes.len().is_multiple_of(4) && (4..=64).contains(&bytes.len())));
    event | edge::is_key(bytes)
}
