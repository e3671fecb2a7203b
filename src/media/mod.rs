//! Packets and samples: RTP, RTCP, codecs, jitter, and the headers of what leaves.
//! Knows nothing of calls, roles or modes. Everything here is mono, at one of three rates ([`pcm::Rate`]).

pub mod alongside;
pub mod arrivals;
pub mod blend;
pub mod cancel;
pub mod codec;
pub mod dtmf;
pub mod jitter;
pub mod latch;
pub mod leak;
pub mod level;
pub mod likeness;
pub mod limit;
pub mod line;
pub mod mix;
pub mod noise;
pub mod overlay;
pub mod pcm;
pub mod plc;
pub mod reader;
pub mod reception;
pub mod resample;
pub mod rtcp;
pub mod rtp;
pub mod seed;
pub mod sender;
pub mod shift;
pub mod tally;
pub mod tone;
pub mod translate;
pub mod volume;
pub mod xr;

/// Samples in a frame at 8 kHz: 20 ms.
pub const FRAME: usize = 160;

/// The largest payload taken in: 180 ms of G.711, 45 ms of L16, what fits an Ethernet frame beside its headers.
pub const MAX_PAYLOAD: usize = 1440;
