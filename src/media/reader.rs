//! One reader of a line: 20 ms at each tick, at a delay of its own that follows the network.
//!
//! ```text
//!   line ──► present? ─ yes ─► near enough to where it should be? ─ yes ─► frame
//!               │                        └ no ─► frame with a step that is not heard (shift)
//!               └ no ─► something later is there? ─ yes ─► lost: concealed, and on
//!                                └ no ─► late: concealed, and waited for: the delay grows at once
//! ```
//!
//! What is late is not lost: the reader waits where it is, and goes faster afterwards until it is back. It knows no
//! packets and no clock but the tick's.

use crate::media::arrivals::Known;
use crate::media::line::Line;
use crate::media::pcm::{Pcm, Rate};
use crate::media::plc::Concealer;
use crate::media::shift::{self, Steps};
use crate::time::Samples;

/// The furthest a frame may be behind its reception: 200 ms for jitter, 40 for packet and tick. Beyond 200 ms people
/// begin to talk over each other (ITU-T G.114: 150 ms are hardly noticed, 400 ms are the limit), and who jitters more
/// sounds better with a gap.
pub const MOST: Samples = Samples::from_millis(240);

/// What a frame is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// All of it came.
    Heard,
    /// Some of it is made up.
    Concealed,
    /// There is nothing: the leg does not send.
    Silent,
}

/// A frame read. `marks` holds every mark of its samples, joined by `|`, and of those it was made up from.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The samples.
    pub pcm: Pcm,
    /// How it was made.
    pub made: Made,
    /// The marks given at reception.
    pub marks: u8,
}

impl Frame {
    /// Nothing, at a rate.
    pub const fn silent(rate: Rate) -> Self {
        Frame { pcm: Pcm::silence(rate), made: Made::Silent, marks: 0 }
    }
}

impl Default for Frame {
    fn default() -> Self {
        Frame::silent(Rate::Narrow)
    }
}

/// What a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aim {
    /// It is at least so far behind reception; 0 for as little as the network allows.
    pub behind: Samples,
    /// It puts up with being so much further behind: what is read for its time is not moved for every sample.
    pub slack: Samples,
}

/// One reader.
#[derive(Clone, Debug)]
pub struct Reader {
    rate: Rate,
    aim: Aim,
    /// The next sample's place; `None` before anything came, and after ticks without a pull.
    at: Option<i64>,
    /// The last tick, in samples.
    tick: i64,
    /// It waits for what is late; where it was before, relative to the tick.
    waiting: Option<i64>,
    steps: Steps,
    concealer: Concealer,
}

impl Reader {
    /// A reader that has read nothing.
    pub fn new(rate: Rate, aim: Aim) -> Self {
        let (steps, concealer) = (Steps::default(), Concealer::new(rate));
        Reader { rate, aim, at: None, tick: i64::MIN, waiting: None, steps, concealer }
    }

    /// The next frame. Ticks are in samples and a frame apart; after a hole it begins anew.
    pub fn pull(&mut self, tick: i64, line: &Line, known: Option<Known>, frame: &mut Frame) {
        if frame.pcm.rate() != self.rate {
            frame.pcm = Pcm::silence(self.rate);
        }
        let goes_on = self.tick.saturating_add(self.rate.frame() as i64) == tick;
        self.tick = tick;
        let Some(known) = known else {
            *frame = Frame::silent(self.rate);
            return;
        };
        let goal = tick + self.goal(known);
        if !goes_on || self.at.is_none() {
            (self.at, self.waiting) = (Some(goal), None);
            self.concealer.forget();
        }
        let at = self.begin(line, goal, tick + known.best - self.samples(MOST));
        let (heard, marks) = match self.step(line, at, goal) {
            Some(by) => self.take_step(line, at, by, &mut frame.pcm),
            None => self.fill(line, at, &mut frame.pcm),
        };
        self.tell(heard, marks, frame);
    }

    /// Nothing heard until now is to be heard or made up from again.
    pub fn forget(&mut self) {
        self.concealer.forget();
    }

    /// From now on gaps are silent: to measure what concealment is worth.
    pub fn without_concealment(&mut self) {
        self.concealer.turn_off();
    }

    /// How far behind reception what is read now is: the age of a frame's first sample.
    pub fn delay(&self, known: Option<Known>) -> Samples {
        let behind = known.zip(self.at).map_or(0, |(k, at)| self.tick + self.rate.frame() as i64 + k.best - at);
        Samples(behind.max(0) * self.rate.clock_per_sample()).min(MOST)
    }

    /// Where it ought to be, relative to the tick.
    fn goal(&self, known: Known) -> i64 {
        let far = known.best - self.samples(MOST);
        let least = if self.aim.behind.0 > 0 { known.best - self.samples(self.aim.behind) } else { i64::MAX };
        known.there.min(least).max(far)
    }

    /// The place of the tick's first sample: where the last frame ended, unless it waited or is too far behind.
    fn begin(&mut self, line: &Line, goal: i64, furthest: i64) -> i64 {
        let mut at = self.at.unwrap_or(goal);
        if at < furthest {
            at = furthest;
            self.concealer.cut();
        }
        if let (Some(home), Some(gap)) = (self.waiting, line.next(at)) {
            // What was made up while it waited stands for what is missing before the next sample.
            let home = if self.concealer.sounds() { self.tick + home } else { goal };
            at = home.clamp(at, at + gap);
            self.waiting = None;
        }
        at
    }

    /// The step to make in this frame, if one is wanted and found.
    fn step(&mut self, line: &Line, at: i64, goal: i64) -> Option<i64> {
        if self.waiting.is_some() {
            return None;
        }
        let slack = self.samples(self.aim.slack).max(1);
        self.steps.find(line, at, goal - at, slack, self.rate.frame(), self.rate)
    }

    fn take_step(&mut self, line: &Line, at: i64, by: i64, out: &mut [i16]) -> (usize, u8) {
        let marks = shift::take(line, at, by, out, self.rate);
        let marks = self.concealer.heard(out, marks);
        self.at = Some(at + by + out.len() as i64);
        (out.len(), marks)
    }

    /// What is there, and what has to be made up. Answers how many samples are heard, and their marks.
    fn fill(&mut self, line: &Line, mut at: i64, out: &mut [i16]) -> (usize, u8) {
        let home = at - self.tick;
        let (mut heard, mut marks) = (0, 0);
        let mut left = out;
        while !left.is_empty() {
            let there = line.run(at, left.len());
            let gap = if there > 0 { Some(0) } else { line.next(at) };
            let length = match gap {
                None => left.len(),
                Some(0) => there,
                Some(gap) => left.len().min(gap as usize),
            };
            let (now, later) = left.split_at_mut(length);
            match gap {
                None => self.waiting = self.waiting.or(Some(home)),
                Some(_) => at += length as i64,
            }
            if there > 0 {
                let own = line.read(at - length as i64, now);
                marks |= self.concealer.heard(now, own);
                heard += length;
            } else {
                marks |= self.concealer.conceal(now);
            }
            left = later;
        }
        self.at = Some(at);
        (heard, marks)
    }

    fn tell(&self, heard: usize, marks: u8, frame: &mut Frame) {
        frame.marks = marks;
        frame.made = match heard {
            all if all == self.rate.frame() => Made::Heard,
            0 if !self.concealer.sounds() && frame.pcm.iter().all(|s| *s == 0) => Made::Silent,
            _ => Made::Concealed,
        };
    }

    fn samples(&self, time: Samples) -> i64 {
        time.at_rate(self.rate.hz())
    }
}
