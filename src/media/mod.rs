//! Packets and samples: RTP, RTCP, codecs, jitter, and the headers of what leaves.
//! Knows nothing of calls, roles or modes. Everything here is mono at 8 kHz.

pub mod codec;
pub mod decibels;
pub mod dtmf;
pub mod jitter;
pub mod latch;
pub mod leak;
pub mod level;
pub mod limit;
pub mod mix;
pub mod overlay;
pub mod pcm;
pub mod plc;
pub mod reception;
pub mod resample;
pub mod rtcp;
pub mod rtp;
pub mod seed;
pub mod sender;
pub mod tone;

/// Samples in a frame at 8 kHz: 20 ms.
pub const FRAME: usize = 160;

/// Samples of the 48 kHz media clock in one sample at 8 kHz.
pub const CLOCK_PER_SAMPLE: i64 = 6;

/// The largest payload taken in: 180 ms of G.711, what fits an Ethernet frame beside its headers.
pub const MAX_PAYLOAD: usize = 1440;
