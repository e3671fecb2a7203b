//! What the coach plays: a short queue of clips, each heard by exactly its audience, every sample once by each.
//!
//! An audience is fixed when the first sample leaves. From then on it can only shrink.

use crate::call::mode::{self, Gain, Party, Source};
use crate::call::{Audience, ClipSpec, Refusal, Sound, Volume};
use crate::id::{ClipId, LegId};
use crate::media::pcm::Rate;

/// Clips waiting or playing at most; another is refused.
pub(crate) const MAX_CLIPS: usize = 8;
/// 60 s at 8 kHz.
const MAX_SAMPLES: usize = 60 * 8000;

/// One listener of a playing clip.
#[derive(Clone, Copy, Debug)]
struct Ear {
    leg: LegId,
    /// Of the next sample, counted at 48 kHz whatever the leg's rate.
    position: usize,
    done: bool,
}

/// A clip in the queue.
pub(crate) struct Clip {
    pub id: ClipId,
    pub spec: ClipSpec,
    /// What is heard before it, as it is.
    prelude: Sound,
    /// Brings it to the loudness of the call.
    gain: f32,
    /// A signal, this loud, and not words: nothing to be kept from anybody.
    pub signal: Option<Volume>,
    /// Played to find out whether it comes back.
    pub measures: bool,
    /// Told to one leg alone, until that presses a key.
    pub told: Option<LegId>,
    /// Empty until the first sample leaves.
    ears: Vec<Ear>,
    audience: Vec<LegId>,
    begun: bool,
}

/// How a clip is said.
#[derive(Default)]
pub(crate) struct Manner {
    /// What is heard before it.
    pub prelude: Sound,
    /// How much louder than it was rendered.
    pub volume: Volume,
}

/// What was read of a clip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    /// Samples at the listener's rate.
    pub count: usize,
    /// Where they began, at 48 kHz.
    pub began: usize,
    /// What is left of the clip after them, at 48 kHz; without end where it is played over and over.
    pub left: usize,
}

/// The queue, in the order of commands.
#[derive(Default)]
pub(crate) struct Clips {
    queue: Vec<Clip>,
    named: u32,
    waiting: usize,
}

/// What became of a clip that is over.
pub(crate) enum Over {
    /// Its last sample was sent to the last of its audience.
    Ended,
    /// Nobody of its audience is left.
    Deserted,
}

impl Clip {
    pub fn begun(&self) -> bool {
        self.begun
    }
    /// Those who still hear it, or have heard it to its end.
    pub fn audience(&self) -> &[LegId] {
        &self.audience
    }
    /// Whether its audience comes from a mode rather than from names.
    pub fn by_mode(&self) -> bool {
        match self.spec.audience {
            Audience::Mode | Audience::Own(_) => true,
            Audience::Legs(_) => false,
        }
    }
    fn begin(&mut self, audience: Vec<LegId>, manner: Manner) {
        (self.prelude, self.gain) = (manner.prelude, manner.volume.factor());
        self.ears = audience.iter().map(|leg| Ear { leg: *leg, position: 0, done: false }).collect();
        self.audience = audience;
        self.begun = true;
    }
    /// Whether `listener` hears it now: the one rule, and there is something left.
    pub fn reaches(&self, listener: Party) -> bool {
        mode::gain(listener, Source::Clip { audience: &self.audience }) == Gain::Unity
            && self.ears.iter().any(|e| e.leg == listener.leg && !e.done)
    }
    /// A leg hears it no more.
    pub fn lose(&mut self, leg: LegId) {
        self.audience.retain(|l| *l != leg);
        self.ears.retain(|e| e.leg != leg);
    }
    pub fn over(&self) -> Option<Over> {
        match (self.begun, self.ears.is_empty(), self.ears.iter().all(|e| e.done)) {
            (false, _, _) | (true, false, false) => None,
            (true, true, _) => Some(Over::Deserted),
            (true, false, true) => Some(Over::Ended),
        }
    }

    /// Copies the next samples for `leg` at `rate` into `out`; answers how many there were, and where they began.
    fn read(&mut self, leg: LegId, rate: Rate, out: &mut [i16]) -> (usize, usize) {
        let Clip { spec, prelude, gain, .. } = self;
        let (before, pcm, looped) = (prelude.at(rate), spec.pcm.at(rate), spec.looped);
        let step = rate.clock_per_sample() as usize;
        let Some(ear) = self.ears.iter_mut().find(|e| e.leg == leg && !e.done) else { return (0, 0) };
        let (mut copied, began) = (0, ear.position);
        while copied < out.len() && !ear.done {
            let at = ear.position / step;
            let (left, gain) = match before.get(at..).filter(|left| !left.is_empty()) {
                Some(left) => (left, 1.0),
                None => (pcm.get(at - before.len()..).unwrap_or_default(), *gain),
            };
            let now = left.len().min(out.len() - copied);
            out[copied..copied + now].iter_mut().zip(left).for_each(|(to, from)| *to = scaled(*from, gain));
            copied += now;
            ear.position += now * step;
            if ear.position / step >= before.len() + pcm.len() {
                ear.position = before.len() * step;
                ear.done = !looped;
            }
        }
        (copied, began)
    }

    /// What a leg has yet to hear, at 48 kHz.
    fn left(&self, leg: LegId) -> usize {
        let whole = (self.prelude.len() + self.spec.pcm.len()) * Rate::Narrow.clock_per_sample() as usize;
        match self.ears.iter().find(|e| e.leg == leg && !e.done) {
            Some(_) if self.spec.looped => usize::MAX,
            Some(ear) => whole.saturating_sub(ear.position),
            None => 0,
        }
    }

    /// The samples at `rate` of what was read from `began` on for `length` ticks of 48 kHz.
    pub fn told(&self, rate: Rate, began: usize, length: usize) -> impl Iterator<Item = i16> + '_ {
        let (before, pcm) = (self.prelude.at(rate), self.spec.pcm.at(rate));
        let step = rate.clock_per_sample() as usize;
        let (from, until) = (began / step, (began + length) / step);
        let said = |at: usize| scaled(pcm.get((at - before.len()) % pcm.len().max(1)).copied().unwrap_or(0), self.gain);
        (from..until).map(move |at| before.get(at).copied().unwrap_or_else(|| said(at)))
    }
}

/// At a gain of 1 as it is.
fn scaled(sample: i16, gain: f32) -> i16 {
    if gain == 1.0 { sample } else { (f32::from(sample) * gain).round() as i16 }
}

impl Clips {
    /// Takes a clip in, if it is one.
    pub fn add(&mut self, spec: ClipSpec) -> Result<ClipId, Refusal> {
        if spec.pcm.is_empty() {
            return Err(Refusal::Limit("the clip is empty"));
        }
        if spec.pcm.len() > MAX_SAMPLES && !spec.looped {
            return Err(Refusal::Limit("a clip may last 60 s at most"));
        }
        if self.queue.len() >= MAX_CLIPS {
            return Err(Refusal::TooManyClips(self.queue.len()));
        }
        Ok(self.push(spec, None))
    }

    /// Takes a signal in, if there is room.
    pub fn add_signal(&mut self, pcm: Sound, volume: Volume, legs: Vec<LegId>) {
        if self.queue.len() < MAX_CLIPS && !legs.is_empty() {
            self.push(ClipSpec { pcm, audience: Audience::Legs(legs), looped: false, text: None }, Some(volume));
        }
    }

    /// Takes in what is played to one leg to find out whether it comes back, if there is room.
    pub fn add_measure(&mut self, pcm: Sound, leg: LegId) {
        if self.queue.len() < MAX_CLIPS {
            self.add_signal(pcm, Volume::default(), vec![leg]);
            self.queue.last_mut().into_iter().for_each(|clip| clip.measures = true);
        }
    }

    /// Takes in what is told to one leg alone, if it is a clip.
    pub fn add_told(&mut self, spec: ClipSpec, leg: LegId) -> Result<ClipId, Refusal> {
        let id = self.add(spec)?;
        self.queue.last_mut().into_iter().for_each(|clip| clip.told = Some(leg));
        Ok(id)
    }

    fn push(&mut self, spec: ClipSpec, signal: Option<Volume>) -> ClipId {
        self.named += 1;
        self.waiting += 1;
        let id = ClipId(self.named);
        let (prelude, gain) = (Sound::default(), 1.0);
        self.queue.push(Clip {
            id,
            spec,
            prelude,
            gain,
            signal,
            measures: false,
            told: None,
            ears: Vec::new(),
            audience: Vec::new(),
            begun: false,
        });
        id
    }

    pub fn any_waiting(&self) -> bool {
        self.waiting > 0
    }
    /// Whether a clip plays, or has just played to its end.
    pub fn any_begun(&self) -> bool {
        self.queue.iter().any(|c| c.begun)
    }
    pub fn iter(&self) -> impl Iterator<Item = &Clip> {
        self.queue.iter()
    }
    pub fn get(&self, at: usize) -> Option<&Clip> {
        self.queue.get(at)
    }
    /// Whether a clip plays to `listener`.
    pub fn playing_to(&self, listener: Party) -> bool {
        self.queue.iter().any(|c| c.reaches(listener))
    }
    /// Whether a clip that borrows the coach's mode is playing.
    pub fn own_playing(&self) -> bool {
        self.queue.iter().any(|c| c.begun && matches!(c.spec.audience, Audience::Own(_)))
    }
    pub fn begin(&mut self, at: usize, audience: Vec<LegId>, manner: Manner) {
        if let Some(clip) = self.queue.get_mut(at) {
            clip.begin(audience, manner);
            self.waiting = self.waiting.saturating_sub(1);
        }
    }
    /// Removes a clip.
    pub fn remove(&mut self, at: usize) -> Clip {
        let clip = self.queue.remove(at);
        self.waiting -= usize::from(!clip.begun);
        clip
    }
    /// The place in the queue of a clip.
    pub fn find(&self, id: ClipId) -> Option<usize> {
        self.queue.iter().position(|c| c.id == id)
    }
    /// The first clip that is over.
    pub fn over(&self) -> Option<(usize, Over)> {
        self.queue.iter().enumerate().find_map(|(at, c)| c.over().map(|over| (at, over)))
    }
    /// `leg` hears none of the begun clips any more, for which `which` holds.
    pub fn lose(&mut self, leg: LegId, which: impl Fn(&Clip) -> bool) {
        self.queue.iter_mut().filter(|c| c.begun && which(c)).for_each(|c| c.lose(leg));
    }

    /// The next samples of the clip that plays to `listener`, at `rate`: which clip, and what was copied to `out`.
    pub fn read(&mut self, listener: Party, rate: Rate, out: &mut [i16]) -> Option<(usize, Read)> {
        let at = self.queue.iter().position(|c| c.reaches(listener))?;
        let (count, began) = self.queue.get_mut(at)?.read(listener.leg, rate, out);
        let left = self.queue.get(at)?.left(listener.leg);
        Some((at, Read { count, began, left }))
    }
}
