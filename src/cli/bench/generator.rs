//! The load: a thread of its own, with a clock of its own, that lets every far end send a packet each 20 ms, spread over
//! the interval, and finds in what they hear who was heard by whom and how late.
//!
//! Delay is the time between sending a pulse and the kernel's stamp on the packet in which it comes out again, so that a
//! generator that is late itself blames nobody else for it. How late it was is told all the same.

use super::party::{Counts, Party, Pulse, place};
use super::sound::BEATS;
use super::usage::{Thread, Usage};
use crate::event::Role;
use crate::io::clock;
use crate::media::seed::Seed;
use rustix::event::{Timespec, epoll};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Legs send in slots of 1 ms, of which a packet's interval has twenty.
const SLOT: Duration = Duration::from_millis(1);
const SLOTS: usize = 20;
/// Sockets read in one turn.
const TURN: usize = 512;
/// Pulses sent in the measured time may come out this much later.
const TAIL: Duration = Duration::from_millis(500);
/// A pulse is that of whoever sent one last, if it is not older than this: those of a call are 320 ms apart.
const LONGEST: Duration = Duration::from_secs(2);

/// How long a run lasts.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// Not measured: latches close, buffers find their depth.
    pub warm: Duration,
    /// Measured.
    pub measured: Duration,
}

/// What was found.
#[derive(Debug)]
pub struct Found<T> {
    /// What the probe told at the beginning and the end of the measured time.
    pub probes: [T; 2],
    /// How long that was.
    pub measured: Duration,
    /// Packets of all legs.
    pub counts: Counts,
    /// By who spoke and who heard: the delays of pulses in milliseconds.
    pub delays: BTreeMap<(Role, Role), Vec<f64>>,
    /// Pulses sent by each role.
    pub pulses: BTreeMap<Role, u64>,
    /// How late slots were sent, in milliseconds.
    pub lateness: Vec<f64>,
    /// What the generator itself used.
    pub usage: Usage,
}

/// A load that is ready to run.
pub struct Generator {
    parties: Vec<Party>,
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    /// Which parties send in which slot.
    wheel: Vec<Vec<usize>>,
    /// The last pulse of each role in each call, and whether it counts.
    sent: Vec<[Option<(Pulse, bool)>; 3]>,
    measuring: bool,
    delays: BTreeMap<(Role, Role), Vec<f64>>,
    pulses: BTreeMap<Role, u64>,
    lateness: Vec<f64>,
}

impl Generator {
    /// Legs are dealt to the slots at random, from a seed.
    pub fn new(parties: Vec<Party>) -> io::Result<Generator> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, party) in parties.iter().enumerate() {
            epoll::add(&epoll, party.socket(), epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        }
        let calls = parties.iter().map(|p| p.cast().call + 1).max().unwrap_or(0);
        let wheel = deal(parties.len(), &mut Seed::new(1));
        Ok(Generator {
            parties,
            epoll,
            ready: Vec::with_capacity(TURN),
            wheel,
            sent: vec![[None; 3]; calls],
            measuring: false,
            delays: BTreeMap::new(),
            pulses: BTreeMap::new(),
            lateness: Vec::new(),
        })
    }

    /// Runs to the end. Blocks its thread.
    pub fn run<T>(mut self, length: Length, probe: impl Fn() -> io::Result<T>) -> io::Result<Found<T>> {
        let begin = clock::now();
        let mut slot = 0;
        slot = self.until(begin, slot, begin + length.warm)?;
        self.parties.iter_mut().for_each(Party::count_anew);
        self.measuring = true;
        let (from, used, before) = (clock::now(), Thread::own().usage()?, probe()?);
        slot = self.until(begin, slot, from + length.measured)?;
        let (measured, usage, after) = (from.elapsed(), Thread::own().usage()? - used, probe()?);
        self.measuring = false;
        let counts = self.counts();
        self.until(begin, slot, clock::now() + TAIL)?;
        let Generator { delays, pulses, lateness, .. } = self;
        Ok(Found { probes: [before, after], measured, counts, delays, pulses, lateness, usage })
    }

    /// Sends and hears until `end`; answers the next slot.
    fn until(&mut self, begin: Instant, mut slot: u32, end: Instant) -> io::Result<u32> {
        loop {
            let due = begin + SLOT * slot;
            self.hear(due)?;
            let now = clock::now();
            if now >= end {
                return Ok(slot);
            }
            if now >= due {
                self.say(slot, now - due)?;
                slot += 1;
            }
        }
    }

    /// What comes until `due`, or what is there.
    fn hear(&mut self, due: Instant) -> io::Result<()> {
        let left = due.saturating_duration_since(clock::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        self.ready.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.ready), Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for at in 0..self.ready.len() {
            let number = self.ready.get(at).map_or(u64::MAX, |event| event.data.u64());
            let Some(party) = self.parties.get_mut(number as usize) else { continue };
            if let Some(heard) = party.hear()? {
                self.found(heard);
            }
        }
        Ok(())
    }

    fn say(&mut self, slot: u32, late: Duration) -> io::Result<()> {
        let (beat, slot) = (slot as usize / SLOTS, slot as usize % SLOTS);
        let numbers = self.wheel.get(slot).map_or(&[][..], Vec::as_slice);
        if self.measuring && !numbers.is_empty() {
            self.lateness.push(late.as_secs_f64() * 1000.0);
        }
        for number in numbers {
            let Some(party) = self.parties.get_mut(*number) else { continue };
            let Some(pulse) = party.say(beat % BEATS)? else { continue };
            if self.measuring {
                *self.pulses.entry(pulse.role).or_default() += 1;
            }
            if let Some(sent) = self.sent.get_mut(pulse.call) {
                sent[place(pulse.role)] = Some((pulse, self.measuring));
            }
        }
        Ok(())
    }

    /// A pulse was heard: it is the last that anybody of the call has sent.
    fn found(&mut self, heard: Pulse) {
        let Some(sent) = self.sent.get(heard.call) else { return };
        let before = sent.iter().flatten().filter(|(p, _)| p.at <= heard.at);
        let Some((pulse, true)) = before.max_by_key(|(p, _)| p.at) else { return };
        let delay = heard.at - pulse.at;
        if delay < LONGEST {
            self.delays.entry((pulse.role, heard.role)).or_default().push(delay.as_secs_f64() * 1000.0);
        }
    }

    fn counts(&self) -> Counts {
        let add = |a: Counts, b: Counts| Counts {
            sent: a.sent + b.sent,
            received: a.received + b.received,
            expected: a.expected + b.expected,
        };
        self.parties.iter().map(|p| p.counts).fold(Counts::default(), add)
    }
}

/// So many legs over the slots, evenly and in random order.
fn deal(legs: usize, seed: &mut Seed) -> Vec<Vec<usize>> {
    let mut wheel = vec![Vec::new(); SLOTS];
    let mut slots: Vec<usize> = (0..legs.max(SLOTS)).map(|n| n % SLOTS).collect();
    for last in (1..slots.len()).rev() {
        slots.swap(last, seed.below(last as u64 + 1) as usize);
    }
    for (leg, slot) in slots.into_iter().enumerate().take(legs) {
        wheel[slot].push(leg);
    }
    wheel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legs_are_spread_over_the_interval() {
        for legs in [1, 3, 40, 250] {
            let wheel = deal(legs, &mut Seed::new(3));
            let mut all: Vec<usize> = wheel.iter().flatten().copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..legs).collect::<Vec<_>>());
            assert!(wheel.iter().all(|slot| slot.len() <= legs.div_ceil(SLOTS)));
        }
    }
}
