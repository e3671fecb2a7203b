//! The leak guard: finds a whisper that comes back through the agent's own microphone, and turns the microphone down.
//!
//! ```text
//!   what was whispered ─┐
//!                       ├─► search ─► one lag stands out, again and again? ─► the line leaks: it is attenuated,
//!   what the line says ─┘       and from the first frame of each whisper after that, as long as an echo may come
//! ```
//!
//! Each 20 ms of both at 8 kHz in, at most one finding out; the line's samples, at whatever rate, are attenuated by
//! themselves. What an earlier whisper taught about the line (`Profile`) holds until it was not found again for 3 s of
//! whispering. It does not know what a call, a leg or an event of the journal is.

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
/// 3 s of whispering: an echo that is not found again for so long was none, or the loudspeaker is off.
const DOUBTED: u32 = 150;
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

impl Profile {
    /// The same in milliseconds.
    pub fn delay_ms(self) -> u32 {
        (self.lag / 8) as u32
    }
}

/// The guard of one line.
pub struct Guard {
    search: Search,
    /// So many frames running have agreed about a lag.
    agreed: (usize, u32),
    /// The line is attenuated: an echo was found, or may come on a line that is known to leak.
    held: bool,
    profile: Option<Profile>,
    /// Frames of whispering since an echo was last found, over all whispers.
    doubt: u32,
    gain: f32,
}

impl Default for Guard {
    /// A guard that knows nothing of the line.
    fn default() -> Self {
        Guard { search: Search::default(), agreed: (0, 0), held: false, profile: None, doubt: 0, gain: 1.0 }
    }
}

impl Guard {
    /// What is known of the line; `None` where it is not known to leak.
    pub fn profile(&self) -> Option<Profile> {
        self.profile
    }

    /// A whisper begins: a line that is known to leak is attenuated before the echo can come.
    pub fn expect(&mut self) {
        self.held |= self.profile.is_some();
    }

    /// 20 ms of what was whispered into the line's owner's ear, and of the same instant what the line brought, both at
    /// 8 kHz. `look`: whether there is time to search; else it is only remembered. Answers the lag of a leak, once.
    pub fn hear(&mut self, whispered: &[i16; FRAME], line: &[i16; FRAME], look: bool) -> Option<usize> {
        self.search.take(whispered, line);
        if !look {
            return None;
        }
        let candidate = self.candidate();
        self.agreed = match (candidate, self.agreed) {
            (Some(lag), (before, agreed)) if agreed > 0 && lag.abs_diff(before) <= SAME => (lag, agreed + 1),
            (Some(lag), _) => (lag, 1),
            (None, _) => (0, 0),
        };
        let (lag, agreed) = self.agreed;
        if agreed >= AGREE {
            (self.profile, self.doubt) = (Some(Profile { lag }), 0);
            return (!std::mem::replace(&mut self.held, true)).then_some(lag);
        }
        self.doubt += u32::from(self.held && self.search.could_be_found());
        if self.doubt > DOUBTED {
            self.forget();
            self.release();
        }
        None
    }

    /// The whisper and its echo are over.
    pub fn rest(&mut self) {
        self.search.forget();
        self.release();
    }

    /// Something else takes the echo out from here on: the line passes, and is listened to as it comes out of that.
    pub fn release(&mut self) {
        self.search.forget_heard();
        (self.agreed, self.held) = ((0, 0), false);
    }

    /// The line is another: what was learned does not hold.
    pub fn forget(&mut self) {
        (self.profile, self.doubt) = (None, 0);
    }

    /// Whether the line passes as it is.
    pub fn is_open(&self) -> bool {
        self.gain == 1.0 && !self.is_holding()
    }

    /// Whether the line is being attenuated.
    pub fn is_holding(&self) -> bool {
        self.held
    }

    /// Brings samples of the line to what is to be left of them, `hz` a second.
    pub fn attenuate(&mut self, hz: u32, line: &mut [i16]) {
        let target = if self.is_holding() { LEFT } else { 1.0 };
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
