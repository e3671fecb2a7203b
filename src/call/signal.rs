//! What a call does so that people are not taken by surprise, and are spoken to as loudly as they speak: a tone before a
//! barge, a beep while somebody listens, and the coach's voice at the call's loudness.

use crate::call::CallState;
use crate::call::clip::{Clip, Manner};
use crate::call::ears::{Beeped, LeakGuard};
use crate::call::engine::Call;
use crate::call::leg::Leg;
use crate::call::{Sound, Volume};
use crate::event::Role;
use crate::id::LegId;
use crate::media::level::Level;
use crate::media::pcm::Rate;
use crate::media::tone::{BARGING, MEASURING, MONITORED, Tone};
use crate::time::{MediaTime, Samples};
use std::sync::LazyLock;

/// From the tone to the first word of a barge.
const BREATH_MS: usize = 80;
/// Who spoke to everyone this lately is not announced again.
const ANNOUNCED: Samples = Samples::from_millis(5000);

static BEFORE_BARGE: LazyLock<Sound> = LazyLock::new(|| rendered(BARGING, BREATH_MS));
static MEASURE: LazyLock<Sound> =
    LazyLock::new(|| sound(|rate| MEASURING.iter().flat_map(|rise| rise.samples(rate)).collect()));
static BEEP: LazyLock<Sound> = LazyLock::new(|| rendered(MONITORED, 0));

fn rendered(tone: Tone, pause_ms: usize) -> Sound {
    sound(|rate| {
        let mut samples = tone.samples(rate);
        samples.resize(samples.len() + pause_ms * rate as usize / 1000, 0);
        samples
    })
}

fn sound(samples: impl Fn(u32) -> Vec<i16>) -> Sound {
    Sound::rendered(Rate::ALL.map(|rate| samples(rate.hz()).into())).unwrap_or_default()
}

/// When people were last signalled to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signals {
    /// The coach spoke to everyone until then, and needs no tone.
    announced_until: MediaTime,
    next_beep: MediaTime,
}

impl Signals {
    /// Renders what a tick must not.
    pub fn ready() -> Self {
        LazyLock::force(&BEFORE_BARGE);
        LazyLock::force(&BEEP);
        LazyLock::force(&MEASURE);
        Signals::default()
    }
}

impl Call {
    /// How a clip is said that begins now for `audience`.
    pub(super) fn manner(&mut self, clip: usize, audience: &[LegId]) -> Manner {
        let mut manner = Manner::default();
        let Some(clip) = self.clips.get(clip) else { return manner };
        manner.volume = clip.signal.unwrap_or_else(|| self.towards_the_call(clip, audience));
        let barges = clip.by_mode() && !clip.spec.looped && !self.is_private(audience);
        if barges && self.options.ears.barge_tone {
            let length = Samples(clip.spec.pcm.len() as i64 * Rate::Narrow.clock_per_sample());
            if self.signals.announced_until <= self.now {
                manner.prelude = BEFORE_BARGE.clone();
            }
            self.signals.announced_until = self.now + length + ANNOUNCED;
        }
        manner
    }

    /// To the loudness of those who are not spoken to, or of everyone where all are.
    fn towards_the_call(&self, clip: &Clip, audience: &[LegId]) -> Volume {
        if !self.options.ears.level || clip.spec.text.is_none() || clip.spec.looped {
            return Volume::default();
        }
        let level = |others: bool| {
            let heard = |l: &&Leg| l.in_conversation() && !(others && audience.contains(&l.id()));
            Level::of(self.legs.iter().filter(heard).map(|l| l.level))
        };
        let others = level(true);
        clip.spec.pcm.towards(&if others.dbfs().is_some() { others } else { level(false) })
    }

    /// Somebody is about to be heard by everyone: both sides hear a tone first, while the speaker is still muted.
    pub(super) fn announce_barge(&mut self) {
        if self.options.ears.barge_tone {
            // Nothing that is addressed to a leg by name goes to one that may be anybody's.
            let hear = |l: &&Leg| l.in_conversation() && l.party.role != Role::Earpiece && !l.suspended;
            let legs = self.legs.iter().filter(hear).map(Leg::id).collect();
            self.clips.add_signal(BEFORE_BARGE.clone(), Volume::default(), legs);
        }
    }

    /// Agents who have just come into the conversation hear a short tone, unless an echo was looked for already. What they
    /// say meanwhile passes as it is: a tone is nothing to be kept from anybody.
    pub(super) fn measure(&mut self) {
        let ears = &self.options.ears;
        if !ears.leak_tone || ears.leak_guard == LeakGuard::Off {
            return;
        }
        let new = |l: &Leg| l.party.role == Role::Agent && l.in_conversation() && !l.is_forked() && !l.measured;
        for at in 0..self.legs.len() {
            if new(&self.legs[at]) && self.legs[at].can_be_sent_to() {
                self.legs[at].measured = true;
                if self.legs[at].watch.is_none() {
                    self.clips.add_measure(MEASURE.clone(), self.legs[at].id());
                }
            }
        }
    }

    /// People are reminded that somebody listens.
    pub(super) fn beep(&mut self) {
        let Some(beep) = self.options.ears.beep.filter(|_| self.state == CallState::Connected) else { return };
        if self.now < self.signals.next_beep || !self.is_monitored() {
            return;
        }
        self.signals.next_beep = self.now + Samples::from_millis(i64::from(beep.every_s) * 1000);
        let hears = |l: &&Leg| {
            l.in_conversation()
                && !l.suspended
                && match (l.party.role, beep.to) {
                    (Role::Customer, Beeped::Customer | Beeped::Both) => true,
                    (Role::Agent, Beeped::Agent | Beeped::Both) => true,
                    (Role::Customer, Beeped::Agent) | (Role::Agent, Beeped::Customer) => false,
                    (Role::Supervisor | Role::Bridge | Role::Earpiece, _) => false,
                }
        };
        let legs = self.legs.iter().filter(hears).map(Leg::id).collect();
        self.clips.add_signal(BEEP.clone(), beep.volume, legs);
    }

    /// Whether anybody or anything listens in.
    fn is_monitored(&self) -> bool {
        let listens = |l: &Leg| l.party.role == Role::Supervisor && l.in_conversation();
        self.recording() || self.transcribing() || self.legs.iter().any(listens)
    }
}
