//! A supervisor's voice beside the one party that a leg hears: laid over the party's packets as they pass, so that these
//! wait for nobody.
//!
//! ```text
//!   supervisor's packet ──► line of their voice ──► read as the party's packet passes ──► listener's rate ──► added
//! ```
//!
//! Of what was received only that is added which the listener may hear by the mode it was received in.

use crate::call::mode::{self, Party, Source};
use crate::call::packets::mark;
use crate::call::watch::Whisperer;
use crate::event::Mode;
use crate::id::LegId;
use crate::media::alongside::Alongside;
use crate::media::codec::Codec;
use crate::media::jitter::Jitter;
use crate::media::pcm::{Pcm, Rate};
use crate::media::plc::Marks;
use crate::media::resample::{DELAY, Resampler};
use crate::time::MediaTime;

/// Samples smaller than this are silence: A-law's zero is 8, G.722 never quite rests. For silence nothing is added, so that
/// a supervisor who says nothing changes no byte.
const SILENT: i16 = 16;

/// One supervisor's voice for one leg.
pub(crate) struct Beside {
    /// The supervisor.
    party: Party,
    codec: Codec,
    /// The listener's.
    rate: Rate,
    reader: Alongside,
    /// To the listener's rate, and to that of the guard on the listener's line.
    copy: Option<Resampler>,
    narrow: Option<Resampler>,
    /// Of what resamplers remember.
    marks: Marks,
    /// Where what they whisper goes on, for the guard.
    whispered: i64,
}

/// What is whispered, as it is heard and at 8 kHz.
pub(crate) struct Whisper<'a> {
    pub pcm: &'a [i16],
    pub narrow: &'a [i16],
    pub who: Whisperer<'a>,
}

impl Beside {
    /// For a listener at `rate`: what comes from `now` on. Allocates.
    pub fn new(now: MediaTime, party: Party, codec: Codec, voice: &Jitter, rate: Rate) -> Self {
        let to = |rate: Rate| (codec.rate() != rate).then(|| Resampler::new(codec.rate(), rate));
        let (reader, marks) = (voice.alongside(now), Marks::default());
        Beside { party, codec, rate, reader, copy: to(rate), narrow: to(Rate::Narrow), marks, whispered: i64::MIN / 2 }
    }

    /// Whether it is still what it was made for.
    pub fn fits(&self, party: Party, codec: Codec, rate: Rate) -> bool {
        (self.party, self.codec, self.rate) == (party, codec, rate)
    }

    /// Whose voice it is.
    pub fn source(&self) -> LegId {
        self.party.leg
    }

    /// Adds the next samples of `voice` to `out`, as far as `listener` may hear them; of what is whispered `tell` is told.
    pub fn add(
        &mut self,
        now: MediaTime,
        voice: &Jitter,
        listener: Party,
        out: &mut [i16],
        mut tell: impl FnMut(Whisper<'_>),
    ) {
        let length = self.native(out.len());
        voice.begin(&mut self.reader, now, length);
        for piece in out.chunks_mut(self.rate.frame()) {
            let mut frames = [Pcm::silence(self.codec.rate()), Pcm::silence(self.rate), Pcm::silence(Rate::Narrow)];
            let [own, copy, narrow] = &mut frames;
            let own = &mut own[..self.native(piece.len())];
            let marks = voice.read(&mut self.reader, own);
            self.marks.add(marks, own.len(), 2 * DELAY * self.codec.rate().frame() / Rate::Narrow.frame());
            let pcm = at(&mut self.copy, own, copy);
            let narrow = at(&mut self.narrow, own, narrow);
            let marks = marks | if self.copy.is_some() { self.marks.all() } else { 0 };
            if !was_for(listener, self.party, marks) || pcm.iter().all(|s| s.saturating_abs() < SILENT) {
                continue;
            }
            piece.iter_mut().zip(pcm).for_each(|(sum, sample)| *sum = sum.saturating_add(*sample));
            if marks & mark(Mode::Whisper) != 0 {
                tell(Whisper { pcm, narrow, who: Whisperer::Beside(&mut self.whispered) });
            }
        }
    }

    /// So many of the listener's samples in those of the supervisor.
    fn native(&self, samples: usize) -> usize {
        samples * self.codec.rate().frame() / self.rate.frame()
    }
}

/// Samples at another rate, if they are wanted at another.
fn at<'a>(resampler: &mut Option<Resampler>, own: &'a [i16], copy: &'a mut [i16]) -> &'a [i16] {
    match resampler {
        None => own,
        Some(resampler) => {
            let made = resampler.process(own, copy);
            copy.get(..made).unwrap_or_default()
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
