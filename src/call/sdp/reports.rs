//! Which extended reports are wanted: `a=rtcp-xr` (RFC 3611 §5.1).

use super::codecs::attribute;
use crate::media::xr::Wish;
use sdp_types::Media;

/// What a peer asks for. Reports we do not make, and modes and sizes of those we do, are passed over.
pub(super) fn wished(media: &Media) -> Wish {
    let value = attribute(&media.attributes, "rtcp-xr").and_then(|a| a.value.as_deref()).unwrap_or_default();
    let asks = |name: &str| {
        value.split_ascii_whitespace().any(|f| f.split('=').next().unwrap_or(f).eq_ignore_ascii_case(name))
    };
    Wish { round_trip: asks("rcvr-rtt"), summary: asks("stat-summary"), metrics: asks("voip-metrics") }
}

/// Our line: what we ask for, in an answer only what was asked of us. Nothing where that is nothing.
pub(super) fn line(wish: Wish) -> String {
    let formats = [
        (wish.round_trip, " rcvr-rtt=all"),
        (wish.summary, " stat-summary=loss,dup,jitt"),
        (wish.metrics, " voip-metrics"),
    ];
    let asked: String = formats.into_iter().filter(|(asked, _)| *asked).map(|(_, name)| name).collect();
    if asked.is_empty() { asked } else { format!("a=rtcp-xr:{}\r\n", asked.trim_start()) }
}
