//! Sotto joins live phone calls between a customer and an agent as the third leg.
//!
//! ```text
//! SIP ──► call: legs, places, modes ───────────────────────── gains ──┐
//!                                                                     ▼
//! RTP in ─┬─► relay (header rewritten, payload untouched, at once) ───────────────────► RTP out
//!         └─► decode ─┬─► overlay (decode on arrival, add what is said, encode, send) ►
//!                     ├─► mix (jitter-buffered, only with two or more parties) ───────►
//!                     └─► jitter ─► tap ─► voice activity ─► recogniser ─► transcript
//!                                                                             │
//!           journal ◄── every event ◄──  moments ◄── detectors ◄──────────────┘
//!                                           │
//!                       arbiter ─► delivery ─► whisper ─► synthesiser ─► clip ─► overlay or mix
//! ```
//!
//! It runs one way: media never waits for anything to its right.
//!
//! **The core** (`media call speech coach session`) has no sockets, no clock and no threads. It is driven by
//! inputs that carry the time, and drained until it has nothing more to say. **The shell** (`io app cli`) owns
//! sockets, threads, processes and files.
//!
//! Who may use whom, held by `tests/modules_point_one_way.rs`:
//! `{id, time} ← event ← media ← {call, speech}`, `event ← coach`, all ← `session` ← `io` ← `app` ← `cli`, `main`;
//! `config` is used by the shell only.
#![deny(unsafe_code)]

pub mod app;
pub mod call;
pub mod cli;
pub mod coach;
pub mod config;
pub mod event;
pub mod id;
pub mod io;
pub mod media;
pub mod session;
pub mod speech;
pub mod time;
