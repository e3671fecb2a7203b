//! Where utterances begin and end, from the voice detector's opinion of every 16 ms and from its loudness. Knows frames
//! and their numbers, no audio and no clock.

use super::lively::Lively;

/// A frame is voice from `GOES_ON` on, if there is one beside it that reaches `BEGINS`. The detector says 0.2 in silence,
/// leaps to 0.43 with the first sound, and takes 50 to 100 ms more to reach 0.5.
const BEGINS: f32 = 0.5;
const GOES_ON: f32 = 0.4;

/// The energy of a frame at −60 dBFS: an idle telephone line is fainter (ITU-T G.712 allows −65 dBm0p), speech is
/// louder.
const FAINT: f32 = 256.0 * 1e-6;
/// Frames the detector holds on for after a sound: 96 ms.
const HOLDS_ON: u64 = 6;

/// Frames of mere doubt before a sound that may belong to it.
const DOUBT: u64 = 8;

/// Voiced frames that make speech: the detector holds on for 90 ms after a sound, so this is 120 ms of real sound.
/// Shorter ones are clicks and knocks.
const LEAST: u64 = 13;

/// Voiced frames after which somebody may be speaking already.
const PERHAPS: u64 = 6;

/// Silent frames after which what began was only a blip (96 ms).
const FORGET: u32 = 6;

/// Silent frames that end an utterance (208 ms on top of the 90 the detector holds on). Pauses inside the sample
/// sentences reach 112 ms as the detector sees them; pauses between sentences begin at 240.
const HANGOVER: u64 = 13;

/// Changes of loudness that make voiced frames speech. The sample sentences have these within 0.2 s; tones and noise
/// never. The first frames of any sound change, so they do not count.
const CHANGES: u32 = 3;
const ONSET: u64 = 4;

/// Frames without a change after which it is no speech, whatever the detector says (0.7 s; a drawn-out vowel in the
/// samples lasts 0.58). Of this, so many may still have been voice.
const STEADY: u64 = 44;
const STEADY_VOICE: u64 = 6;

/// Frames of a sound that may yet be the beginning of speech, while nothing in it changes.
const STEADY_BEGINNING: u64 = 24;

/// Frames an utterance has at most: 8 s, what the recogniser's window holds with margins.
const LONGEST: u64 = 500;

/// A long utterance is cut in its last two seconds, but not in the last 0.3, which are not over yet.
const CUT_WINDOW: usize = 125;
const CUT_TOO_LATE: usize = 19;

/// Something the endpointer noticed. Frames count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Speech began with this frame.
    Began { first: u64 },
    /// It goes on, but what was said before the frame `at` is an utterance of its own.
    Cut { first: u64, at: u64 },
    /// It ended: `end` is the first frame of silence.
    Ended { first: u64, end: u64 },
}

enum State {
    Quiet,
    Rising(Rising),
    /// `changed`: the last frame that differed from the one before.
    Speaking {
        first: u64,
        end: u64,
        changed: u64,
    },
}

/// A sound that may become speech.
#[derive(Clone, Copy)]
struct Rising {
    first: u64,
    voiced: u64,
    silent: u32,
    changes: u32,
    changed: u64,
    /// So far a tone or noise.
    steady: bool,
}

/// Follows one leg.
pub struct Endpoint {
    state: State,
    next: u64,
    // Frames up to now without one that is surely silent.
    doubtful: u64,
    // Frames up to now without a sound.
    faint: u64,
    lively: Lively,
    // The energy of the last frames, a ring.
    levels: [f32; CUT_WINDOW],
}

/// One frame: its number, whether it is voice and whether its loudness changed.
#[derive(Clone, Copy)]
struct Frame {
    number: u64,
    probability: f32,
    changed: bool,
}

impl Endpoint {
    /// Hears nothing yet; the first frame is number `next`.
    pub fn new(next: u64) -> Self {
        Endpoint {
            state: State::Quiet,
            next,
            doubtful: 0,
            faint: 0,
            lively: Lively::default(),
            levels: [0.0; CUT_WINDOW],
        }
    }

    /// The next frame: how likely it is voice, and its energy (the sum of 256 squares, of full scale).
    pub fn step(&mut self, probability: f32, energy: f32) -> Option<Mark> {
        self.faint = if energy < FAINT { self.faint + 1 } else { 0 };
        // After speech the detector holds on to the noise of an idle line; it may for as long as after any sound. What
        // is faint before speech may be its beginning.
        let over = self.is_speaking() && self.faint > HOLDS_ON;
        let probability = if over { 0.0 } else { probability };
        let frame = Frame { number: self.next, probability, changed: self.lively.changed(energy) };
        self.next += 1;
        self.doubtful = if probability < GOES_ON { 0 } else { self.doubtful + 1 };
        if let Some(level) = self.levels.get_mut(frame.number as usize % CUT_WINDOW) {
            *level = energy;
        }
        match self.state {
            State::Quiet => self.listen(frame),
            State::Rising(rising) => self.rise(frame, rising),
            State::Speaking { first, end, changed } => self.speak(frame, first, end, changed),
        }
    }

    /// Nothing more will come, or not for long: ends what is being said.
    pub fn flush(&mut self) -> Option<Mark> {
        let state = std::mem::replace(&mut self.state, State::Quiet);
        match state {
            State::Quiet | State::Rising(_) => None,
            State::Speaking { first, end, .. } => Some(Mark::Ended { first, end }),
        }
    }

    /// Whether somebody speaks, or seems to begin.
    pub fn is_speaking(&self) -> bool {
        match self.state {
            State::Quiet => false,
            State::Rising(rising) => rising.voiced >= PERHAPS && !rising.steady,
            State::Speaking { .. } => true,
        }
    }

    /// The first frame of what is being said, or may be.
    pub fn first(&self) -> Option<u64> {
        match self.state {
            State::Quiet => None,
            State::Rising(Rising { first, .. }) | State::Speaking { first, .. } => Some(first),
        }
    }

    fn listen(&mut self, frame: Frame) -> Option<Mark> {
        if frame.probability >= BEGINS {
            let voiced = self.doubtful.min(DOUBT);
            let first = frame.number + 1 - voiced;
            self.state = State::Rising(Rising { first, voiced, silent: 0, changes: 0, changed: first, steady: false });
        }
        None
    }

    fn rise(&mut self, frame: Frame, mut rising: Rising) -> Option<Mark> {
        if frame.probability < GOES_ON {
            rising.silent += 1;
            self.state = if rising.silent > FORGET { State::Quiet } else { State::Rising(rising) };
            return None;
        }
        rising.silent = 0;
        rising.voiced = rising.voiced.saturating_add(1);
        if frame.changed && frame.number >= rising.first + ONSET {
            rising.changes += 1;
            rising.changed = frame.number;
            rising.steady = false;
        }
        if rising.voiced >= LEAST && rising.changes >= CHANGES {
            self.state = State::Speaking { first: rising.first, end: frame.number + 1, changed: rising.changed };
            return Some(Mark::Began { first: rising.first });
        }
        if frame.number >= rising.changed + STEADY_BEGINNING {
            // Speech that comes out of it began just now.
            rising.steady = true;
            rising.changes = 0;
            rising.first = frame.number + 1 - LEAST;
        }
        self.state = State::Rising(rising);
        None
    }

    fn speak(&mut self, frame: Frame, first: u64, end: u64, changed: u64) -> Option<Mark> {
        let changed = if frame.changed { frame.number } else { changed };
        let end = if frame.probability >= GOES_ON { frame.number + 1 } else { end };
        if frame.number >= changed + STEADY {
            self.state = State::Quiet;
            return Some(Mark::Ended { first, end: end.min(changed + STEADY_VOICE) });
        }
        if frame.number + 1 - end >= HANGOVER {
            self.state = State::Quiet;
            return Some(Mark::Ended { first, end });
        }
        if frame.number + 1 - first < LONGEST {
            self.state = State::Speaking { first, end, changed };
            return None;
        }
        let at = self.quietest(frame.number);
        self.state = State::Speaking { first: at, end: end.max(at), changed };
        Some(Mark::Cut { first, at })
    }

    /// The frame in the middle of the quietest 80 ms of the last two seconds.
    fn quietest(&self, frame: u64) -> u64 {
        let level =
            |back: usize| self.levels.get((frame as usize).wrapping_sub(back) % CUT_WINDOW).copied().unwrap_or(0.0);
        let around = |back: &usize| (back - 2..=back + 2).map(level).sum::<f32>();
        let quietest = (CUT_TOO_LATE..CUT_WINDOW - 2).min_by(|a, b| around(a).total_cmp(&around(b)));
        frame - quietest.unwrap_or(CUT_TOO_LATE) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loudness that rises and falls four times a second.
    fn syllables(k: usize) -> f32 {
        [1.0, 3.0, 9.0, 16.0, 16.0, 9.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0][k % 15]
    }

    /// Runs stretches of (voiced?, frames) and collects the marks with the frame at which each came.
    fn run(stretches: &[(bool, usize)]) -> Vec<(u64, Mark)> {
        let mut endpoint = Endpoint::new(0);
        let frames = stretches.iter().flat_map(|(voiced, n)| std::iter::repeat_n(*voiced, *n));
        let marks = frames.enumerate().filter_map(|(k, voiced)| {
            let (p, energy) = if voiced { (0.9, syllables(k)) } else { (0.1, 0.01) };
            endpoint.step(p, energy).map(|mark| (k as u64, mark))
        });
        marks.collect()
    }

    #[test]
    fn an_utterance_begins_and_ends_in_bounded_time() {
        let marks = run(&[(false, 50), (true, 60), (false, 50)]);
        assert_eq!(marks, [(62, Mark::Began { first: 50 }), (122, Mark::Ended { first: 50, end: 110 })]);
    }

    #[test]
    fn blips_are_ignored_however_many() {
        let knocking: Vec<_> = [(true, 12), (false, 7)].repeat(20);
        assert_eq!(run(&knocking), []);
    }

    #[test]
    fn a_pause_inside_a_sentence_does_not_end_it() {
        let marks = run(&[(true, 40), (false, 12), (true, 40), (false, 30)]);
        assert_eq!(marks[1..], [(104, Mark::Ended { first: 0, end: 92 })]);
    }

    #[test]
    fn long_speech_is_cut_where_it_is_quietest_and_goes_on() {
        let marks = run(&[(true, 420), (false, 6), (true, 200), (false, 20)]);
        let [_, (when, Mark::Cut { first: 0, at }), (_, Mark::Ended { first, end: 626 })] = marks[..] else {
            panic!("{marks:?}");
        };
        assert_eq!(when, 499);
        assert!((421..425).contains(&at), "cut at {at}");
        assert_eq!(first, at);
    }

    #[test]
    fn endless_speech_is_cut_again_and_again() {
        let marks = run(&[(true, 10_000)]);
        assert!(marks.len() > 19, "{}", marks.len());
    }

    #[test]
    fn what_never_changes_is_no_speech_and_ends_it() {
        let mut endpoint = Endpoint::new(0);
        let steady: Vec<Mark> = (0..5_000).filter_map(|_| endpoint.step(0.9, 4.0)).collect();
        assert_eq!((steady, endpoint.is_speaking()), (vec![], false));
        // Somebody speaks over it, and it goes on.
        let over: Vec<Mark> = (0..100).filter_map(|k| endpoint.step(0.9, 4.0 + syllables(k))).collect();
        let [Mark::Began { first }] = over[..] else { panic!("{over:?}") };
        assert!((4_980..5_005).contains(&first), "{first}");
        let after: Vec<(u64, Mark)> = (0..5_000).filter_map(|k| Some((k, endpoint.step(0.9, 4.0)?))).collect();
        let [(when, Mark::Ended { end, .. })] = after[..] else { panic!("{after:?}") };
        assert!(when < 50 && (5_095..5_110).contains(&end), "{when} {end}");
    }

    #[test]
    fn flushing_ends_what_is_being_said() {
        let mut endpoint = Endpoint::new(7);
        for k in 0..20 {
            endpoint.step(0.9, syllables(k));
        }
        assert!(endpoint.is_speaking());
        assert_eq!(endpoint.flush(), Some(Mark::Ended { first: 7, end: 27 }));
        assert_eq!((endpoint.flush(), endpoint.is_speaking()), (None, false));
    }
}
