//! The leak guard: finds a whisper that comes back through the agent's own microphone, and turns the microphone down.
//!
//! ```text
//!   what was whispered ─┐
//!                       ├─► search ─► one lag stands out, again and again? ─► leaking: the line is attenuated
//!   what the line says ─┘
//! ```
//!
//! Each 20 ms of both at 8 kHz in, at most one finding out; the line's samples, at whatever rate, are attenuated by
//! themselves. What an earlier whisper taught about the line (`Profile`) narrows the search, and so shortens it. It does
//! not know what a call, a leg or an event of the journal is.

mod search;

use std::ops::Range;

use crate::media::FRAME;
use search::{Peak, Search};

/// 5 ms to 310 ms: the echo path (20 to 250 ms) and its early reflections, and what a packet's place may be off.
const LAGS: Range<usize> = 40..2480;
/// How far a line's delay may wander between two whispers: 10 ms.
const WANDER: usize = 80;
/// Lags of two frames that count as one: a quarter of a millisecond.
const SAME: usize = 2;
/// Heights from which a peak counts, over all lags: by figures of tests/a_leak_is_found_and_stopped.rs.
const HEIGHT: f32 = 8.0;
const SLOW_HEIGHT: f32 = 14.0;
/// And about a known lag, where chance has a twentieth of the places.
const KNOWN_HEIGHT: f32 = 7.0;
/// Frames running that have to agree.
const AGREE: u32 = 2;
/// 3 s: an echo that is not found again for so long was none, or the loudspeaker is off. Longer than a whisper's pauses.
const HOLD: u32 = 150;
/// -40 dB: what is left of the line while its owner's loudspeaker leaks.
const LEFT: f32 = 0.01;
/// From one gain to the other: 5 ms down, so that it does not click, and 50 ms up.
const DOWN_S: f32 = 0.005;
const UP_S: f32 = 0.05;

/// What an echo taught about a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Samples at 8 kHz between whispering and hearing again.
    pub lag: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// So many frames running have agreed about `lag`.
    Watching { lag: usize, agreed: u32 },
    /// The line is attenuated, for so many frames more unless the echo is found again.
    Leaking { left: u32 },
}

/// The guard of one line.
pub struct Guard {
    search: Search,
    state: State,
    profile: Option<Profile>,
    hold: u32,
    gain: f32,
}

impl Guard {
    /// A guard that knows nothing of the line, or what was measured before.
    pub fn new(profile: Option<Profile>) -> Self {
        Guard {
            search: Search::default(),
            state: State::Watching { lag: 0, agreed: 0 },
            profile,
            hold: HOLD,
            gain: 1.0,
        }
    }

    /// What is known of the line.
    pub fn profile(&self) -> Option<Profile> {
        self.profile
    }

    /// 20 ms of what was whispered into the line's owner's ear, and of the same instant what the line brought, both at
    /// 8 kHz. `look`: whether there is time to search; else it is only remembered. Answers the lag of a leak, once.
    pub fn hear(&mut self, whispered: &[i16; FRAME], line: &[i16; FRAME], look: bool) -> Option<usize> {
        self.search.take(whispered, line);
        let lag = if look { self.candidate() } else { return None };
        let (before, agreed) = match self.state {
            State::Leaking { left: 0 } if lag.is_none() => (0, 0),
            State::Leaking { left } => {
                let left = if lag.is_some() { self.hold } else { left - 1 };
                self.state = State::Leaking { left };
                return None;
            }
            State::Watching { lag, agreed } => (lag, agreed),
        };
        let agreed = match lag {
            Some(lag) if agreed > 0 && lag.abs_diff(before) <= SAME => agreed + 1,
            Some(_) => 1,
            None => 0,
        };
        let lag = lag.unwrap_or(0);
        self.state = State::Watching { lag, agreed };
        (agreed >= AGREE).then(|| {
            self.state = State::Leaking { left: self.hold };
            self.profile = Some(Profile { lag });
            lag
        })
    }

    /// The whisper and its echo are over.
    pub fn rest(&mut self) {
        self.search.forget();
        self.state = State::Watching { lag: 0, agreed: 0 };
    }

    /// The line is another: what was learned does not hold.
    pub fn forget(&mut self) {
        self.profile = None;
    }

    /// Whether the line passes as it is.
    pub fn is_open(&self) -> bool {
        self.gain == 1.0 && !self.is_leaking()
    }

    /// Whether the line is being attenuated.
    pub fn is_leaking(&self) -> bool {
        matches!(self.state, State::Leaking { .. })
    }

    /// From the next leak on the line is attenuated for so many frames after the last of the echo: something else is
    /// about to take it out.
    pub fn hold(&mut self, frames: u32) {
        self.hold = frames;
    }

    /// Brings samples of the line to what is to be left of them, `hz` a second.
    pub fn attenuate(&mut self, hz: u32, line: &mut [i16]) {
        let target = if self.is_leaking() { LEFT } else { 1.0 };
        if self.gain == 1.0 && target == 1.0 {
            return;
        }
        let step = |seconds: f32| (1.0 - LEFT) / (hz.max(1) as f32 * seconds);
        let (down, up) = (step(DOWN_S), step(UP_S));
        for sample in line {
            self.gain = match self.gain < target {
                true => (self.gain + up).min(target),
                false => (self.gain - down).max(target),
            };
            *sample = (f32::from(*sample) * self.gain) as i16;
        }
    }

    /// The lag at which an echo seems to be now.
    fn candidate(&mut self) -> Option<usize> {
        let Peak { lag, height, slow_lag, slow_height } = self.search.peak(LAGS);
        if height >= HEIGHT {
            return Some(lag);
        }
        if slow_height >= SLOW_HEIGHT {
            return Some(slow_lag);
        }
        let known = self.profile?.lag;
        let (lag, height) = self.search.highest(known.saturating_sub(WANDER)..known + WANDER);
        (height >= KNOWN_HEIGHT).then_some(lag)
    }
}
