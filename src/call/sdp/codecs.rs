//! What the formats of a media line mean: `a=rtpmap`, `a=fmtp`, `a=ptime`, or the static types (RFC 3551 §6).

use super::reports;
use crate::call::Shape;
use crate::media::codec::{Codec, OpusWish};
use sdp_types::{Attribute, Media};

/// The encodings we know, as `a=rtpmap` has them. Opus is always called two channels (RFC 7587 §4.1).
const NAMES: [(Codec, &str); 5] = [
    (Codec::Pcmu, "PCMU/8000"),
    (Codec::Pcma, "PCMA/8000"),
    (Codec::G722, "G722/8000"),
    (Codec::Opus, "opus/48000/2"),
    (Codec::L16, "L16/16000"),
];

/// A codec's encoding.
pub(super) fn name(codec: Codec) -> &'static str {
    NAMES.iter().find(|(c, _)| *c == codec).map_or("", |(_, name)| name)
}

fn formats(media: &Media) -> impl Iterator<Item = u8> + '_ {
    media.fmt.split_ascii_whitespace().filter_map(|f| f.parse().ok()).filter(|pt| *pt < 128)
}

/// The value of an attribute about a payload type.
fn about<'a>(media: &'a Media, name: &str, payload_type: u8) -> Option<&'a str> {
    media.attributes.iter().filter(|a| a.attribute.eq_ignore_ascii_case(name)).find_map(|a| {
        let (number, rest) = a.value.as_deref()?.trim().split_once(' ')?;
        (number.parse() == Ok(payload_type)).then_some(rest.trim())
    })
}

/// The encoding of a payload type.
fn encoding(media: &Media, payload_type: u8) -> Option<String> {
    let fixed = match payload_type {
        0 => Some("PCMU/8000"),
        8 => Some("PCMA/8000"),
        9 => Some("G722/8000"),
        13 => Some("CN/8000"),
        _ => None,
    };
    about(media, "rtpmap", payload_type).or(fixed).map(|e| e.trim_end_matches("/1").to_ascii_lowercase())
}

/// What we both speak, in the peer's order.
pub(super) fn spoken(media: &Media) -> Vec<(Codec, u8)> {
    let codec = |pt: u8| {
        let encoding = encoding(media, pt)?;
        NAMES.iter().find(|(_, name)| encoding.eq_ignore_ascii_case(name)).map(|(codec, _)| (*codec, pt))
    };
    formats(media).filter_map(codec).collect()
}

/// The payload types of telephone-event, and their timestamp units a second.
pub(super) fn telephone_events(media: &Media) -> Vec<(u8, u32)> {
    let clock = |pt: u8| Some((pt, encoding(media, pt)?.strip_prefix("telephone-event/")?.parse().ok()?));
    formats(media).filter_map(clock).filter(|(_, clock)| (8_000..=48_000).contains(clock)).collect()
}

/// How the packets are to be that the peer gets, but for its telephone-events.
pub(super) fn shape(media: &Media, opus: Option<u8>) -> Shape {
    let usual = Shape::default();
    let milliseconds = |name: &str| -> Option<u8> {
        let asked: f32 = attribute(&media.attributes, name)?.value.as_deref()?.trim().parse().ok()?;
        // A cast of what is out of range ends at the range's end.
        Some((asked as u8).clamp(Shape::SHORTEST, Shape::LONGEST) / 10 * 10)
    };
    let noise = formats(media).find(|pt| encoding(media, *pt).is_some_and(|e| e.starts_with("cn/")));
    Shape {
        ptime: milliseconds("ptime").unwrap_or(usual.ptime),
        maxptime: milliseconds("maxptime").unwrap_or(usual.maxptime),
        noise: noise.unwrap_or(usual.noise),
        opus: opus.map_or(usual.opus, |pt| opus_wish(about(media, "fmtp", pt).unwrap_or_default())),
        reports: reports::wished(media),
        ..usual
    }
}

/// RFC 7587 §6.1. We are always mono, whatever `stereo` says: that is the peer's preference, not a need.
fn opus_wish(parameters: &str) -> OpusWish {
    let value = |name: &str| {
        let mut pairs = parameters.split(';').filter_map(|p| p.split_once('='));
        pairs.find(|(n, _)| n.trim().eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
    };
    OpusWish {
        bitrate: value("maxaveragebitrate").and_then(|v| v.parse().ok()),
        fec: value("useinbandfec") == Some("1"),
    }
}

/// What was offered instead, for the person who reads the refusal.
pub(super) fn wanted(media: &Media) -> String {
    let name = |pt: u8| encoding(media, pt).map_or_else(|| format!("payload type {pt}"), |e| printable(&e));
    formats(media).take(6).map(name).collect::<Vec<_>>().join(", ")
}

/// A peer's text that can stand in a header of ours.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() && *c != '"' && *c != '\\').take(40).collect()
}

pub(super) fn attribute<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a Attribute> {
    attributes.iter().find(|a| a.attribute.eq_ignore_ascii_case(name))
}
