//! A pause: nothing is recorded, transcribed or coached, and what was said in it is nowhere afterwards.
//!
//! Ears and recording lag behind the line. So the pause holds at both edges for more than its commands: it begins with
//! all that the buffers hold, and after it everything counts as of the pause that was received in it, whatever place its
//! timestamps give it, and everything whose place is before its end, whenever it was received. Supervisors go on hearing
//! the people: to listen in is another purpose, with a permission of its own.

use crate::call::engine::Call;
use crate::call::{Ack, Audience, Refusal};
use crate::event::What;
use crate::time::MediaTime;

/// The mark of samples that were received in a pause, beside the mode's (`packets::mark`).
const RECEIVED: u8 = 8;

/// Whether a call is paused, and since when it is not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    on: bool,
    /// When the last pause ended.
    until: MediaTime,
}

impl Pause {
    /// Whether it lasts.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// What samples received now are marked with, beside the mode.
    pub fn mark(&self) -> u8 {
        if self.on { RECEIVED } else { 0 }
    }

    /// Whether a frame that begins at `at` and bears these marks has anything of a pause in it.
    pub fn touches(&self, at: MediaTime, marks: u8) -> bool {
        self.on || at < self.until || marks & RECEIVED != 0
    }
}

impl Call {
    pub(super) fn pause(&mut self) -> Result<Ack, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if self.pause.on {
            return Ok(Ack::Done);
        }
        self.pause.on = true;
        self.cut_own("the call is paused");
        self.tracks.iter_mut().flatten().for_each(|t| t.clear());
        self.tell(None, What::RecordingPaused {});
        self.reroute();
        Ok(Ack::Done)
    }

    pub(super) fn resume(&mut self) -> Result<Ack, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if self.pause.on {
            self.pause = Pause { on: false, until: self.now };
            self.tell(None, What::RecordingResumed {});
            self.reroute();
        }
        Ok(Ack::Done)
    }

    /// What the coach says of its own accord ends, begun or not; what people have it say goes on.
    fn cut_own(&mut self, reason: &str) {
        let own = |call: &Call| call.clips.iter().find(|c| matches!(c.spec.audience, Audience::Own(_))).map(|c| c.id);
        while let Some(clip) = own(self) {
            if self.cut(clip, reason.into()).is_err() {
                return;
            }
        }
    }
}
