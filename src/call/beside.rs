//! A supervisor's voice beside the one source of a leg: laid over the source's packets as they pass, so that these wait
//! for nobody.
//!
//! ```text
//!   supervisor's packet ──► jitter ──► frame, read when the source's packet passes ──► its rate ──► added
//! ```
//!
//! The jitter buffer takes the passing of the source's packets for its clock: what lies ready goes with the next of
//! them. When the source is silent, the call's ticks are the clock.

use crate::call::mode::{self, Party, Source};
use crate::call::packets::mark;
use crate::call::voice::Reading;
use crate::call::watch::Whisperer;
use crate::event::Mode;
use crate::id::LegId;
use crate::media::codec::Codec;
use crate::media::jitter::{Ear, Jitter, SLIP};
use crate::media::pcm::Rate;
use crate::media::sender::Origin;
use crate::time::{MediaTime, Samples};

/// Frames after which the beat follows a clock that is slower than ours: 1 s.
const FOLLOW: u8 = 50;
/// A beat that is missed by more than this begins anew.
const HOLE: Samples = Samples::from_millis(60);

/// One supervisor's voice for one leg.
pub(crate) struct Beside {
    /// The supervisor.
    pub party: Party,
    codec: Codec,
    /// Of the stream that the buffer knows.
    generation: u32,
    rate: Rate,
    jitter: Jitter,
    reading: Reading,
    /// Samples of the present frame that have been heard.
    used: usize,
    beat: Beat,
    /// Where what it whispers goes on, for the guard on the listener's line.
    whispered: i64,
}

impl Beside {
    /// For a listener at `rate`. Allocates.
    pub fn new(party: Party, codec: Codec, origin: Origin, rate: Rate) -> Self {
        let mut reading = Reading::default();
        [rate, Rate::Narrow].into_iter().for_each(|rate| reading.prepare(codec.rate(), rate, true));
        let jitter = Jitter::new(codec.rate(), codec.clock());
        let generation = origin.generation;
        let (used, beat, whispered) = (rate.frame(), Beat::default(), i64::MIN / 2);
        Beside { party, codec, generation, rate, jitter, reading, used, beat, whispered }
    }

    /// Whether it is still what it was made for.
    pub fn fits(&self, party: Party, codec: Codec, rate: Rate) -> bool {
        (self.party, self.codec, self.rate) == (party, codec, rate)
    }

    /// Whose voice it is.
    pub fn source(&self) -> LegId {
        self.party.leg
    }

    /// The supervisor said something.
    pub fn push(&mut self, now: MediaTime, origin: Origin, timestamp: u32, pcm: &[i16], mark: u8) {
        if origin.generation != self.generation {
            self.generation = origin.generation;
            self.jitter.restart();
        }
        self.jitter.push(now, timestamp, pcm, mark);
    }

    /// Adds the next samples to `out`, as far as `listener` may hear them: those received in a mode that lets it. What
    /// of them is whispered is told besides: as it is heard, and at 8 kHz for the guard on the listener's line.
    pub fn add(
        &mut self,
        now: MediaTime,
        listener: Party,
        out: &mut [i16],
        mut whispered: impl FnMut(&[i16], Whisperer<'_>, &[i16]),
    ) {
        let length = out.len();
        let mut rest = out;
        while !rest.is_empty() {
            if self.used >= self.rate.frame() {
                // A frame that begins within a packet is wanted when its first sample plays.
                let ahead = (length - rest.len()) as i64 * self.rate.clock_per_sample();
                let (tick, in_step) = self.beat.next(now + Samples(ahead));
                if !in_step {
                    self.jitter.retime();
                }
                self.reading.pull(&mut self.jitter, Ear::Mix, tick);
                self.used = 0;
            }
            let (pcm, marks) = self.reading.at(self.codec.rate(), self.rate);
            let ready = pcm.get(self.used..).unwrap_or_default();
            let count = ready.len().min(rest.len());
            let (sums, later) = rest.split_at_mut(count);
            if was_for(listener, self.party, marks) {
                sums.iter_mut().zip(ready).for_each(|(sum, sample)| *sum = sum.saturating_add(*sample));
                if marks & mark(Mode::Whisper) != 0 {
                    let (narrow, _) = self.reading.at(self.codec.rate(), Rate::Narrow);
                    let [from, to] = [self.used, self.used + count].map(|n| n * narrow.len() / self.rate.frame());
                    let narrow = narrow.get(from..to).unwrap_or_default();
                    whispered(&ready[..count], Whisperer::Beside(&mut self.whispered), narrow);
                }
            }
            self.used += count.max(1);
            rest = later;
        }
    }
}

/// Whether all that was received under these marks was received in a mode in which `listener` hears `source`.
pub(super) fn was_for(listener: Party, source: Party, marks: u8) -> bool {
    [Mode::Spy, Mode::Whisper, Mode::Barge]
        .into_iter()
        .filter(|m| marks & mark(*m) != 0)
        .all(|mode| mode::gain(listener, Source::Leg { party: source, mode }).is_heard())
}

/// The clock of a stream, from its packets: a frame apart, at the instants of those that come earliest.
#[derive(Default)]
struct Beat {
    next: Option<MediaTime>,
    /// By how much the earliest was late of late.
    least: Option<Samples>,
    frames: u8,
}

impl Beat {
    /// The time of the next frame, for one that is wanted at `now`, and whether it is in step with those before.
    fn next(&mut self, now: MediaTime) -> (MediaTime, bool) {
        let before = self.next.unwrap_or(now);
        let late = now - before;
        let in_step = (-SLIP.0..=HOLE.0).contains(&late.0);
        let tick = if in_step { before.min(now) } else { now };
        match in_step {
            true => self.follow(Samples(late.0.max(0))),
            false => (self.least, self.frames) = (None, 0),
        }
        let mut step = Samples::FRAME;
        if self.frames == FOLLOW {
            let behind = self.least.take().unwrap_or_default();
            // A slow clock is followed; whole frames, which were missed, are caught up with; both stay in step.
            let whole = behind.0 - behind.0 % Samples::FRAME.0;
            step.0 += if behind.0 <= SLIP.0 { behind.0 } else { whole };
            self.frames = 0;
        }
        self.next = Some(tick + step);
        (tick, in_step)
    }

    fn follow(&mut self, late: Samples) {
        self.frames += 1;
        self.least = Some(self.least.map_or(late, |least| Samples(least.0.min(late.0))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Place, Role};

    const FRAME: usize = Rate::Narrow.frame();

    fn party(leg: u32, role: Role) -> Party {
        Party { leg: LegId(leg), role, place: Place::InConversation }
    }
    fn origin() -> Origin {
        Origin { leg: LegId(3), generation: 0, clock: 8000 }
    }
    fn at(us: i64) -> MediaTime {
        MediaTime::ZERO + Samples(us * 48 / 1000)
    }

    /// The supervisor's packets come at one phase, the source's at another: what is said goes with the next of the
    /// source's, whole and in order, however long its packets are, and whichever clock is faster.
    #[test]
    fn what_is_said_goes_with_the_next_packet_that_passes() {
        for (packet_ms, phase_ms, drift_ppm) in
            [(20, 1, 0), (20, 10, 0), (20, 19, 0), (10, 7, 0), (40, 7, 0), (60, 13, 0), (20, 5, 300), (20, 5, -300)]
        {
            let supervisor = party(3, Role::Supervisor);
            let agent = party(2, Role::Agent);
            let mut beside = Beside::new(supervisor, Codec::Pcmu, origin(), Rate::Narrow);
            let (mut heard, mut waited) = (Vec::new(), Vec::new());
            let (mut said, mut passed) = (0i64, 0i64);
            while passed < 20_000 {
                let speaks = said * 1000;
                let passes = (passed + phase_ms) * 1000 + passed * drift_ppm / 1000;
                if speaks <= passes {
                    // A ramp: every sample tells when it was said.
                    let pcm: [i16; FRAME] = std::array::from_fn(|i| (1 + (said * 8 + i as i64) % 30_000) as i16);
                    beside.push(at(speaks), origin(), said as u32 * 8, &pcm, mark(Mode::Whisper));
                    said += 20;
                } else {
                    let mut out = vec![0; packet_ms as usize * 8];
                    beside.add(at(passes), agent, &mut out, |_, _, _| ());
                    if passed > 2000 {
                        // A packet's last sample lies 20 ms after the packet came: what is late counts from there.
                        let last = i64::from(*out.last().unwrap()) - 1;
                        let now = passes * 8 / 1000 + 20 * 8 - 1;
                        waited.push((now - last).rem_euclid(30_000) / 8);
                        heard.extend(out);
                    }
                    passed += packet_ms;
                }
            }
            let most = *waited.iter().max().unwrap();
            assert!(
                most <= 20 + packet_ms / 2 || drift_ppm != 0 && most <= 25,
                "{packet_ms} {phase_ms} {drift_ppm}: {most} ms"
            );
            // Drift is met by steps that are blended: on a ramp a step is a slope.
            let jump = heard.windows(2).map(|w| (w[1] - w[0] - 1).abs()).filter(|d| *d < 20_000).max().unwrap();
            assert!(jump <= if drift_ppm == 0 { 0 } else { 3 }, "{packet_ms} {phase_ms} {drift_ppm}: {jump}");
        }
    }

    #[test]
    fn what_was_said_in_another_mode_is_silence() {
        let (customer, supervisor) = (party(1, Role::Customer), party(3, Role::Supervisor));
        let mut beside = Beside::new(supervisor, Codec::Pcmu, origin(), Rate::Narrow);
        let mut loud = 0;
        for n in 0..10 {
            let mode = if n < 5 { Mode::Barge } else { Mode::Whisper };
            beside.push(MediaTime::from_millis(n * 20), origin(), n as u32 * 160, &[1000; FRAME], mark(mode));
            let mut out = [0; FRAME];
            beside.add(MediaTime::from_millis(n * 20 + 3), customer, &mut out, |_, _, _| ());
            loud += i32::from(out[FRAME / 2] != 0);
            assert!(n <= 5 || out == [0; FRAME], "frame {n}");
        }
        assert!(loud >= 4);
    }
}
