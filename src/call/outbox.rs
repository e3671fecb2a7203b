//! What a call wants done, in order, until it is taken. Packets and frames lie in arenas that are used again.

use crate::call::{Output, Port};
use crate::event::{Event, Role};
use crate::id::LegId;
use crate::media::pcm::Rate;
use crate::time::MediaTime;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Bytes of packets held at most. A tick of 16 legs that catches up 100 ms makes 17 kB; beyond the bound the driver
/// has stopped draining, and what cannot be held is dropped, as a network would.
const MAX_BYTES: usize = 128 * 1024;
/// Samples held at most, dropped beyond: a second of catching up for 16 legs at 8 kHz, a tenth of it at 48. Each leg has two
/// frames in a tick: one for the ears, one for its recording.
const MAX_SAMPLES: usize = 2 * 1024 * 160;

enum Waiting {
    Send { leg: LegId, port: Port, to: SocketAddr, from: usize, until: usize },
    Heard { leg: LegId, role: Role, at: MediaTime, rate: Rate, frame: usize, concealed: bool },
    Record { at: MediaTime, rate: Rate, customer: usize, agent: usize },
    RecordLeg { leg: LegId, at: MediaTime, rate: Rate, frame: usize },
    Event(Event),
}

/// The queue of one call.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Waiting>,
    bytes: Vec<u8>,
    /// Where a frame begins is its place.
    samples: Vec<i16>,
}

impl Outbox {
    /// The arenas are free again once everything was taken, and used from their beginning: there they are warm.
    pub fn reuse(&mut self) {
        if self.waiting.is_empty() {
            self.waiting.clear();
            self.bytes.clear();
            self.samples.clear();
        }
    }

    /// What waits is for nobody any more.
    pub fn forget(&mut self) {
        self.waiting.clear();
        self.reuse();
    }

    /// Events are never dropped: one input makes a few for each leg and clip, of which there are 16 and 8 at most.
    pub fn event(&mut self, event: Event) {
        self.waiting.push_back(Waiting::Event(event));
    }

    /// `write` appends one datagram.
    pub fn send(&mut self, leg: LegId, port: Port, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.bytes.len();
        if from > MAX_BYTES {
            return;
        }
        write(&mut self.bytes);
        self.waiting.push_back(Waiting::Send { leg, port, to, from, until: self.bytes.len() });
    }

    /// `pcm` is a whole frame of `rate`.
    pub fn heard(&mut self, leg: LegId, role: Role, at: MediaTime, (rate, pcm): (Rate, &[i16]), concealed: bool) {
        if let Some(frame) = self.keep(pcm) {
            self.waiting.push_back(Waiting::Heard { leg, role, at, rate, frame, concealed });
        }
    }

    pub fn record(&mut self, at: MediaTime, rate: Rate, customer: &[i16], agent: &[i16]) {
        if let (Some(customer), Some(agent)) = (self.keep(customer), self.keep(agent)) {
            self.waiting.push_back(Waiting::Record { at, rate, customer, agent });
        }
    }

    /// `pcm` is a whole frame of `rate`.
    pub fn record_leg(&mut self, leg: LegId, at: MediaTime, rate: Rate, pcm: &[i16]) {
        if let Some(frame) = self.keep(pcm) {
            self.waiting.push_back(Waiting::RecordLeg { leg, at, rate, frame });
        }
    }

    pub fn take(&mut self) -> Option<Output<'_>> {
        Some(match self.waiting.pop_front()? {
            Waiting::Send { leg, port, to, from, until } => {
                Output::Send { leg, port, to, bytes: self.bytes.get(from..until)? }
            }
            Waiting::Heard { leg, role, at, rate, frame, concealed } => {
                Output::Heard { leg, role, at, rate, pcm: self.frame(frame, rate)?, concealed }
            }
            Waiting::Record { at, rate, customer, agent } => {
                let (customer, agent) = (self.frame(customer, rate)?, self.frame(agent, rate)?);
                Output::Record { at, rate, customer, agent }
            }
            Waiting::RecordLeg { leg, at, rate, frame } => {
                Output::RecordLeg { leg, at, rate, pcm: self.frame(frame, rate)? }
            }
            Waiting::Event(event) => Output::Event(event),
        })
    }

    fn frame(&self, from: usize, rate: Rate) -> Option<&[i16]> {
        self.samples.get(from..from + rate.frame())
    }

    fn keep(&mut self, pcm: &[i16]) -> Option<usize> {
        let from = self.samples.len();
        if from >= MAX_SAMPLES {
            return None;
        }
        self.samples.extend_from_slice(pcm);
        Some(from)
    }
}
