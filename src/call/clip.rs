//! What the coach plays: a short queue of clips, each heard by exactly its audience, every sample once by each.
//!
//! An audience is fixed when the first sample leaves. From then on it can only shrink.

use crate::call::mode::{self, Gain, Party, Source};
use crate::call::{Audience, ClipSpec, Refusal};
use crate::id::{ClipId, LegId};

/// Clips waiting or playing at most; another is refused.
pub(crate) const MAX_CLIPS: usize = 8;
/// 60 s at 8 kHz.
const MAX_SAMPLES: usize = 60 * 8000;

/// One listener of a playing clip.
#[derive(Clone, Copy, Debug)]
struct Ear {
    leg: LegId,
    position: usize,
    done: bool,
}

/// A clip in the queue.
pub(crate) struct Clip {
    pub id: ClipId,
    pub spec: ClipSpec,
    /// Empty until the first sample leaves.
    ears: Vec<Ear>,
    audience: Vec<LegId>,
    begun: bool,
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
    pub fn begin(&mut self, audience: Vec<LegId>) {
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

    /// Copies the next samples for `leg` into `out`; answers how many there were.
    fn read(&mut self, leg: LegId, out: &mut [i16]) -> usize {
        let (pcm, looped) = (&self.spec.pcm, self.spec.looped);
        let Some(ear) = self.ears.iter_mut().find(|e| e.leg == leg && !e.done) else { return 0 };
        let mut copied = 0;
        while copied < out.len() && !ear.done {
            let left = &pcm[ear.position..];
            let now = left.len().min(out.len() - copied);
            out[copied..copied + now].copy_from_slice(&left[..now]);
            copied += now;
            ear.position += now;
            if ear.position == pcm.len() {
                ear.position = 0;
                ear.done = !looped;
            }
        }
        copied
    }
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
        self.named += 1;
        self.waiting += 1;
        let id = ClipId(self.named);
        self.queue.push(Clip { id, spec, ears: Vec::new(), audience: Vec::new(), begun: false });
        Ok(id)
    }

    pub fn any_waiting(&self) -> bool {
        self.waiting > 0
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
    pub fn begin(&mut self, at: usize, audience: Vec<LegId>) {
        if let Some(clip) = self.queue.get_mut(at) {
            clip.begin(audience);
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

    /// The next samples of the clip that plays to `listener`: which clip, and how many were copied to `out`.
    pub fn read(&mut self, listener: Party, out: &mut [i16]) -> Option<(usize, usize)> {
        let at = self.queue.iter().position(|c| c.reaches(listener))?;
        let copied = self.queue.get_mut(at)?.read(listener.leg, out);
        Some((at, copied))
    }
}
