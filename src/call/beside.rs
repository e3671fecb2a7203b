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

/// What a resampler remembers at most, in samples at 8 kHz: 4 ms.
const MEMORY: usize = 2 * DELAY;

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
            let joined = marks | if self.copy.is_some() { self.marks.all() } else { 0 };
            self.marks.add(marks, own.len(), MEMORY * self.codec.rate().frame() / Rate::Narrow.frame());
            let pcm = at(&mut self.copy, own, copy);
            let narrow = at(&mut self.narrow, own, narrow);
            if !was_for(listener, self.party, joined) || pcm.iter().all(|s| s.saturating_abs() < SILENT) {
                continue;
            }
            piece.iter_mut().zip(pcm).for_each(|(sum, sample)| *sum = sum.saturating_add(*sample));
            if joined & mark(Mode::Whisper) != 0 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Place, Role};

    /// DESIGN §2.1, the second line of defence: what was received in another mode is silence, in what is resampled too, and
    /// so are the first milliseconds after, which are made of both.
    #[test]
    fn what_was_said_in_another_mode_is_silence() {
        let party = |leg, role| Party { leg: LegId(leg), role, place: Place::InConversation };
        let (customer, supervisor) = (party(1, Role::Customer), party(3, Role::Supervisor));
        for rate in Rate::ALL {
            let codec = Codec::Pcmu;
            let mut voice = Jitter::new(codec.rate(), codec.clock());
            let mut beside = Beside::new(MediaTime::ZERO, supervisor, codec, &voice, rate);
            let mut loud = Vec::new();
            for n in 0..15 {
                let mode = if (5..10).contains(&n) { Mode::Whisper } else { Mode::Barge };
                let now = MediaTime::from_millis(n * 20);
                voice.push(now, n as u32 * 160, &[1000; Rate::Narrow.frame()], mark(mode));
                let mut out = vec![0; rate.frame()];
                let now = MediaTime::from_millis(n * 20 + 3);
                beside.add(now, &voice, customer, &mut out, |_| panic!("a whisper for the customer"));
                loud.push(out.iter().any(|s| *s != 0));
            }
            // A resampler remembers 4 ms of the last whispered frame.
            let heard: Vec<bool> = (0..15).map(|n| !(5..10 + usize::from(rate != Rate::Narrow)).contains(&n)).collect();
            assert_eq!(loud, heard, "{rate:?}");
        }
    }
}
