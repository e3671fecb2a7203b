//! The leak guard: finds a whisper that comes back through the agent's own microphone, and turns the microphone down.
//!
//! ```text
//!   what was whispered ─┐
//!                       ├─► search ─► one lag stands out, frame after frame? ─► the line leaks: it is attenuated,
//!   what the line says ─┘       and from the first frame of each whisper after that, as long as an echo may come
//! ```
//!
//! Each 20 ms of both at 8 kHz in, at most one finding out; the line's samples, at whatever rate, are attenuated by
//! themselves. What an earlier whisper taught about the line (`Profile`) holds until it was not found again for 3 s of
//! whispering. It does not know what a call, a leg or an event of the journal is.

mod memory;
mod overheard;
mod search;

pub use overheard::Overheard;

use crate::media::FRAME;
use memory::Echo;
use search::Search;

/// How far a line's delay may wander between two whispers: 10 ms.
const WANDER: usize = 80;
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
        Guard { search: Search::default(), held: false, profile: None, doubt: 0, gain: 1.0 }
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
        let known = self.profile.map_or(0..0, |known| known.lag.saturating_sub(WANDER)..known.lag + WANDER);
        if let Some(Echo { lag, .. }) = self.search.look(known) {
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

    /// 20 ms of what was played to find out whether it comes back, and of the line, which passes as it is. Answers an echo's
    /// lag, once.
    pub fn measure(&mut self, played: &[i16; FRAME], line: &[i16; FRAME], look: bool) -> Option<usize> {
        self.search.take(played, line);
        if !look || self.profile.is_some() {
            return None;
        }
        let Echo { lag, .. } = self.search.look(0..0)?;
        (self.profile, self.doubt) = (Some(Profile { lag }), 0);
        Some(lag)
    }

    /// The whisper and its echo are over.
    pub fn rest(&mut self) {
        self.search.forget();
        self.release();
    }

    /// Something else takes the echo out from here on: the line passes, and is listened to as it comes out of that.
    pub fn release(&mut self) {
        self.search.forget_heard();
        self.held = false;
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
}
