//! From samples to a verdict: smoothed, and with two heights, so that it does not flutter.
//!
//! Calls are refused from the first moment at which something is above its limit, and taken again once everything has been
//! below four fifths of its limit for a second. Knows no clock: samples come five times a second.

use super::Why;

/// How much of each new sample is taken: what lasts half a second is seen, a single hiccup is not.
const TAKEN: f32 = 0.3;
/// Calls are taken again below this share of a limit.
const LOW: f32 = 0.8;
/// Samples in a row that must be low.
const CALM: u32 = 5;
/// With fewer calls nothing that is measured speaks against another: what is wrong then is not ours to mend, and a
/// server that refuses everybody would never find out that it is over.
const FEW: usize = 5;
/// The share of its time that a media thread may wait for a core.
const WAITING: f32 = 0.5;
/// Seconds that signalling may be late.
const LAG: f32 = 0.05;

/// What was measured since the last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Calls that have media.
    pub calls: usize,
    /// What the process used of its cores, 0 to 1.
    pub cpu: f32,
    /// What the busiest media thread used of one, 0 to 1.
    pub media: f32,
    /// For what share of the time a media thread waited for a core, at most, 0 to 1.
    pub waiting: f32,
    /// The share of ticks that came more than 5 ms late, 0 to 1.
    pub late: f32,
    /// By how many seconds a task of the runtime was late.
    pub lag: f32,
}

/// The verdict, and what it rests on.
#[derive(Debug)]
pub struct Judge {
    cpu: Option<f32>,
    late: Option<f32>,
    smooth: Sample,
    refuses: Option<Why>,
    calm: u32,
}

impl Judge {
    /// With these limits; none: not looked at.
    pub fn new(cpu: Option<f32>, late: Option<f32>) -> Self {
        Judge { cpu, late, smooth: Sample::default(), refuses: None, calm: 0 }
    }

    /// Why calls are refused, if they are.
    pub fn refuses(&self) -> Option<Why> {
        self.refuses
    }

    /// What was measured, smoothed.
    pub fn smooth(&self) -> Sample {
        self.smooth
    }

    /// The verdict after another sample.
    pub fn hear(&mut self, new: Sample) -> Option<Why> {
        let old = self.smooth;
        let mean = |old: f32, new: f32| old + TAKEN * (new - old);
        self.smooth = Sample {
            calls: new.calls,
            cpu: mean(old.cpu, new.cpu),
            media: mean(old.media, new.media),
            waiting: mean(old.waiting, new.waiting),
            late: mean(old.late, new.late),
            lag: mean(old.lag, new.lag),
        };
        self.calm = if self.above(LOW).is_some() { 0 } else { self.calm.saturating_add(1) };
        self.refuses = match (self.above(1.0), self.refuses) {
            (Some(why), _) => Some(why),
            (None, Some(_)) if self.calm >= CALM => None,
            (None, refuses) => refuses,
        };
        self.refuses
    }

    /// What is above this share of its limit. What is heard comes first.
    fn above(&self, share: f32) -> Option<Why> {
        let s = &self.smooth;
        if s.calls < FEW {
            return None;
        }
        let limits = [
            (Why::Late, s.late, self.late),
            (Why::Media, s.media, self.cpu),
            (Why::Cpu, s.cpu, self.cpu),
            (Why::Machine, s.waiting, self.cpu.map(|_| WAITING)),
            (Why::Signalling, s.lag, self.cpu.map(|_| LAG)),
        ];
        limits.into_iter().find(|(_, value, limit)| limit.is_some_and(|l| *value > l * share)).map(|(why, ..)| why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM_SAMPLE: Sample = Sample { calls: 50, cpu: 0.3, media: 0.3, waiting: 0.0, late: 0.0, lag: 0.0 };

    fn judge() -> Judge {
        Judge::new(Some(0.85), Some(0.02))
    }

    fn hear(judge: &mut Judge, sample: Sample, times: usize) -> Option<Why> {
        (0..times).fold(None, |_, _| judge.hear(sample))
    }

    #[test]
    fn each_measure_has_its_reason() {
        let busy = [
            (Sample { cpu: 0.95, ..CALM_SAMPLE }, Why::Cpu),
            (Sample { media: 0.95, ..CALM_SAMPLE }, Why::Media),
            (Sample { waiting: 0.8, ..CALM_SAMPLE }, Why::Machine),
            (Sample { late: 0.1, ..CALM_SAMPLE }, Why::Late),
            (Sample { lag: 0.4, ..CALM_SAMPLE }, Why::Signalling),
        ];
        for (sample, why) in busy {
            let mut judge = judge();
            assert_eq!(hear(&mut judge, CALM_SAMPLE, 20), None);
            assert_eq!(hear(&mut judge, sample, 20), Some(why));
            assert_eq!(hear(&mut judge, CALM_SAMPLE, 20), None, "{why:?} passes");
        }
        let mut off = Judge::new(None, None);
        assert_eq!(hear(&mut off, Sample { cpu: 1.0, media: 1.0, late: 1.0, ..CALM_SAMPLE }, 20), None);
    }

    #[test]
    fn one_hiccup_refuses_nobody() {
        let mut judge = judge();
        hear(&mut judge, CALM_SAMPLE, 20);
        assert_eq!(judge.hear(Sample { cpu: 1.0, media: 1.0, ..CALM_SAMPLE }), None);
    }

    #[test]
    fn between_the_heights_it_stays_as_it_was() {
        let between = Sample { media: 0.75, ..CALM_SAMPLE };
        let mut judge = judge();
        assert_eq!(hear(&mut judge, between, 50), None);
        assert_eq!(hear(&mut judge, Sample { media: 0.95, ..CALM_SAMPLE }, 20), Some(Why::Media));
        assert_eq!(hear(&mut judge, between, 50), Some(Why::Media));
        assert_eq!(hear(&mut judge, CALM_SAMPLE, 20), None);
    }

    #[test]
    fn few_calls_are_never_too_many() {
        let mut judge = judge();
        let worst = Sample { calls: FEW - 1, cpu: 1.0, media: 1.0, waiting: 1.0, late: 1.0, lag: 9.0 };
        assert_eq!(hear(&mut judge, worst, 50), None);
        assert_eq!(judge.hear(Sample { calls: FEW, ..worst }), Some(Why::Late));
    }
}
