//! The leak guard: finds a whisper that comes back through the agent's own microphone, and turns the microphone down.
//!
//! Each 20 ms: what a clip put into the agent's ear, and what the agent's line brought, in; the line, attenuated where a
//! leak was found, and at most one event, out. An echo is believed when it stands out at one and the same lag twice
//! running. What an earlier clip taught about the line (`Profile`) narrows the search, and so shortens it.
//! Everything is mono at 8 kHz. It does not know what a call, a leg or an event of the journal is.

mod search;

use std::ops::Range;

use crate::media::FRAME;
use search::{Peak, Search};

/// 19 ms to 290 ms: the echo path (20 to 250 ms) and its early reflections.
const LAGS: Range<usize> = 150..2320;
/// How far a line's delay may wander between two clips: 10 ms.
const WANDER: usize = 80;
/// Lags of two frames that count as one: a quarter of a millisecond.
const SAME: usize = 2;
/// Heights from which a peak counts, over all lags: by figures of tests/leak_guard_finds_the_whisper.rs.
const HEIGHT: f32 = 8.0;
const SLOW_HEIGHT: f32 = 24.0;
/// And about a known lag, where chance has a twentieth of the places.
const KNOWN_HEIGHT: f32 = 7.0;
/// Frames running that have to agree.
const AGREE: u32 = 2;
/// -40 dB: what is left of the line while its owner's loudspeaker leaks.
const LEFT: f32 = 0.01;
/// Samples from one gain to the other: 5 ms down, so that it does not click, and 50 ms up.
const DOWN: f32 = (1.0 - LEFT) / 40.0;
const UP: f32 = (1.0 - LEFT) / 400.0;
/// 500 ms after the last of the echo: the room dies away.
const TAIL: u32 = 25;
/// Sent samples smaller than this are silence: a clip's dither.
const SILENT: i16 = 16;

/// What an echo taught about a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Samples at 8 kHz between sending and hearing again.
    pub lag: usize,
}

/// What the guard tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found {
    /// The whisper comes back, `lag` samples at 8 kHz late. The line is attenuated from here on.
    Leak {
        /// Samples at 8 kHz.
        lag: usize,
    },
    /// The whisper and its echo are over; the line is as before.
    Cleared,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Nothing was sent lately.
    Idle,
    /// Something was; so many frames running have agreed about `lag`.
    Watching { lag: usize, agreed: u32 },
    /// The line is attenuated.
    Leaking,
}

/// The guard of one leg.
pub struct Guard {
    search: Search,
    state: State,
    profile: Option<Profile>,
    /// Frames until what was sent last has come back and died away.
    left: u32,
    gain: f32,
}

impl Guard {
    /// A guard that knows nothing of the line, or what was measured before.
    pub fn new(profile: Option<Profile>) -> Self {
        Guard { search: Search::default(), state: State::Idle, profile, left: 0, gain: 1.0 }
    }

    /// What is known of the line.
    pub fn profile(&self) -> Option<Profile> {
        self.profile
    }

    /// 20 ms: what a clip put into the leg's ear (empty where none played), and what the leg's line brought.
    pub fn frame(&mut self, sent: &[i16], line: &mut [i16]) -> Option<Found> {
        if sent.iter().any(|s| s.saturating_abs() >= SILENT) {
            self.left = TAIL + (LAGS.end / FRAME) as u32;
        }
        let found = match (self.left, self.state) {
            (0, State::Idle) => None,
            (0, state) => self.end(state),
            (_, _) => self.watch(sent, line),
        };
        self.left = self.left.saturating_sub(1);
        self.attenuate(line);
        found
    }

    fn end(&mut self, was: State) -> Option<Found> {
        self.search.forget();
        self.state = State::Idle;
        (was == State::Leaking).then_some(Found::Cleared)
    }

    fn watch(&mut self, sent: &[i16], line: &[i16]) -> Option<Found> {
        self.search.take(sent, line);
        let (before, agreed) = match self.state {
            State::Leaking => return None,
            State::Idle => (0, 0),
            State::Watching { lag, agreed } => (lag, agreed),
        };
        let lag = self.candidate();
        let agreed = match lag {
            Some(lag) if agreed > 0 && lag.abs_diff(before) <= SAME => agreed + 1,
            Some(_) => 1,
            None => 0,
        };
        let lag = lag.unwrap_or(0);
        self.state = State::Watching { lag, agreed };
        (agreed >= AGREE).then(|| {
            self.state = State::Leaking;
            self.profile = Some(Profile { lag });
            Found::Leak { lag }
        })
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

    fn attenuate(&mut self, line: &mut [i16]) {
        let target = if self.state == State::Leaking { LEFT } else { 1.0 };
        if self.gain == 1.0 && target == 1.0 {
            return;
        }
        for sample in line {
            self.gain = match self.gain < target {
                true => (self.gain + UP).min(target),
                false => (self.gain - DOWN).max(target),
            };
            *sample = (f32::from(*sample) * self.gain) as i16;
        }
    }
}
