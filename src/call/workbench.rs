//! What a call needs only while it is driven: where it puts down one packet's or one tick's sound, and what it wants done.
//!
//! Of a thousand calls on a thread one works at a time. They share one bench, which stays warm in the processor's cache,
//! where a thousand would each be cold: whoever drives them lends it (`Call::lend_bench`) and takes it back when all is done.
//! A call alone makes its own.

use crate::call::outbox::Outbox;
use crate::call::voice::{Frames, Passing};
use crate::media::mix::Sum;
use crate::media::pcm::Pcm;

/// Samples of a clip taken at once: 180 ms of G.711, and 60 of anything.
const SPOKEN: usize = 2_880;
/// Frames read in a tick: two of each leg, for the ears and for a mix.
const FRAMES: usize = 2 * super::commands::MAX_LEGS;

/// A bench. Empty but for its outbox between one input and the next.
pub struct Workbench {
    pub(super) outbox: Outbox,
    /// One packet's samples, decoded once for all who need them.
    pub(super) passing: Passing,
    /// One packet's worth of a clip.
    pub(super) spoken: Vec<i16>,
    /// What one leg is to hear in a tick, and what two are.
    pub(super) sum: Sum,
    pub(super) mixed: [Pcm; 2],
    /// What legs said in a tick, while nobody reads it.
    pub(super) frames: Frames,
}

impl Workbench {
    /// With room for everything, at every rate.
    fn new() -> Self {
        Workbench {
            outbox: Outbox::default(),
            passing: Passing::new(),
            spoken: vec![0; SPOKEN],
            sum: Sum::default(),
            mixed: Default::default(),
            frames: (0..FRAMES).map(|_| Box::default()).collect(),
        }
    }
}

/// A call's bench, if it has one now. Made when it is needed and nobody lent one.
#[derive(Default)]
pub(super) struct Bench(Option<Box<Workbench>>);

impl Bench {
    /// The bench that the call works on.
    pub fn on(&mut self) -> &mut Workbench {
        self.0.get_or_insert_with(|| Box::new(Workbench::new()))
    }
    /// Takes a bench that is lent. Whoever has one keeps it: something may lie on it.
    pub fn take(&mut self, lent: &mut Option<Box<Workbench>>) {
        if self.0.is_none() {
            self.0 = lent.take();
        }
    }
    /// Gives it back, or away where none is wanted back.
    /// Nothing of this call stays on it: the next is somebody else's.
    pub fn give_back(&mut self, to: &mut Option<Box<Workbench>>) {
        let Some(mut bench) = self.0.take() else { return };
        bench.outbox.forget();
        to.get_or_insert(bench);
    }
}

#[cfg(test)]
mod tests {
    use crate::call::{Call, CallOptions};

    fn options(caller: &str) -> CallOptions {
        CallOptions {
            seed: 1,
            caller: caller.into(),
            called: "b".into(),
            code: None,
            listen: false,
            record: false,
            ears: Default::default(),
        }
    }

    /// What a call left on a bench is never done for another.
    #[test]
    fn a_bench_takes_nothing_from_call_to_call() {
        let mut bench = None;
        let mut first = Call::on(options("first"), &mut bench);
        assert!(first.poll().is_some(), "it has more to say");
        first.take_bench(&mut bench);
        assert!(bench.is_some() && first.poll().is_none());
        let mut second = Call::on(options("second"), &mut bench);
        assert!(bench.is_none());
        let mut said = Vec::new();
        while let Some(output) = second.poll() {
            said.push(format!("{output:?}"));
        }
        assert!(!said.is_empty() && said.iter().all(|s| !s.contains("first")), "{said:?}");
        second.take_bench(&mut bench);
        assert!(bench.is_some());
    }
}
