//! How a peer wants the packets it is sent, beyond their codec.

use crate::media::codec::OpusWish;
use crate::media::xr::Wish;

/// What a peer's description says of the packets it is to be sent, and how it counts its own events and silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// `a=ptime`: milliseconds a packet is to have, 10 to 60 in steps of 10. Kept where we make packets by the clock.
    pub ptime: u8,
    /// `a=maxptime`: milliseconds a packet may have, 10 to 60. Kept wherever we make packets.
    pub maxptime: u8,
    /// Timestamp units a second of telephone-event.
    pub dtmf_clock: u32,
    /// The payload type of its comfort noise (RFC 3389), which we understand and never send.
    pub noise: u8,
    /// What it wants of Opus.
    pub opus: OpusWish,
    /// Which extended reports it wants beside the usual ones.
    #[serde(default)]
    pub reports: Wish,
    /// Whether what it sends is a copy made for us (SIPREC, RFC 7866): it hears nothing, and no voice is ever sent to it.
    #[serde(default)]
    pub forked: bool,
}

impl Shape {
    /// Milliseconds of the shortest packet we make.
    pub const SHORTEST: u8 = 10;
    /// Milliseconds of the longest.
    pub const LONGEST: u8 = 60;
}

impl Default for Shape {
    /// 20 ms (RFC 3551 §4.2), and the static payload type of comfort noise (§6).
    fn default() -> Self {
        Shape {
            ptime: 20,
            maxptime: Shape::LONGEST,
            dtmf_clock: 8_000,
            noise: 13,
            opus: OpusWish::default(),
            reports: Wish::default(),
            forked: false,
        }
    }
}
