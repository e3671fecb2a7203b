//! The shell: everything with a socket, a thread, a process, a file or a clock.

pub mod calls;
pub mod clock;
pub mod conversation;
pub mod hep;
pub mod journal;
pub mod load;
pub mod metrics;
pub mod probes;
pub mod recorder;
pub mod rtp;
pub mod shard;
pub mod sip;
pub mod siprec;
pub mod sqlite;
pub mod srtp;
pub mod stt;
pub mod tts;
pub mod udp;
pub mod web;
