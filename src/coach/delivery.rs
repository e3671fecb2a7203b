//! Brings one prompt to the agent: a whisper while the agent is silent, or a line on the screen where there can be none.
//!
//! ```text
//!            agent silent              accepted               last sample sent
//!  Waiting ───────────────► Asked ───────────────► Speaking ───────────────────► spoken
//!     │ its moment passed     │ refused, no answer    │ cut, never ended
//!     └───────────────────────┴───────────────────────┴────────────────────────► shown, with the reason
//! ```
//!
//! In come the time, whether the agent speaks, the call's answer and its clips; out comes one [`Act`] at a time.

use crate::event::Words;
use crate::id::{ClipId, PromptId};
use crate::time::{MediaTime, Samples};
use std::collections::VecDeque;

/// A voice that is not there by then is not coming.
const VOICE_COMES: Samples = Samples::from_millis(10_000);
/// A clip lasts at most a minute and may wait for another: past this its end was lost.
const CLIP_ENDS: Samples = Samples::from_millis(150_000);
/// Clips remembered that ended before the call's answer named them. Full: the oldest is forgotten.
const EARLY_ENDS: usize = 8;

/// One line of advice on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Which.
    pub id: PromptId,
    /// The line.
    pub text: Words,
    /// From when on it is not worth a voice.
    pub useful_until: MediaTime,
}

/// What is to be done, or was.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Whisper it now.
    Whisper { prompt: PromptId, text: Words },
    /// It is a line on the screen; why it was not spoken.
    Show { prompt: PromptId, text: Words, reason: String },
    /// It was spoken to its last sample.
    Spoken { prompt: PromptId, clip: ClipId },
}

/// The prompt under way, if any.
#[derive(Debug, Default)]
pub struct Delivery {
    prompt: Option<(Prompt, Stage)>,
}

#[derive(Debug)]
enum Stage {
    Waiting,
    Asked { since: MediaTime, ended: VecDeque<(ClipId, End)> },
    Speaking { since: MediaTime, clip: ClipId },
}

/// How a clip ended: to its last sample, or cut for a reason.
type End = Result<(), String>;

impl Delivery {
    /// The prompt under way.
    pub fn busy(&self) -> Option<PromptId> {
        self.prompt.as_ref().map(|(prompt, _)| prompt.id)
    }

    /// Takes on a prompt to be whispered. The one before must be done.
    pub fn begin(&mut self, prompt: Prompt) {
        debug_assert!(self.prompt.is_none(), "one prompt at a time");
        self.prompt = Some((prompt, Stage::Waiting));
    }

    /// Time has passed, or the agent began or stopped speaking.
    pub fn advance(&mut self, now: MediaTime, agent_speaks: bool) -> Option<Act> {
        let (prompt, stage) = self.prompt.as_mut()?;
        match stage {
            Stage::Waiting if now >= prompt.useful_until => self.show("the agent spoke until its moment had passed"),
            Stage::Waiting if agent_speaks => None,
            Stage::Waiting => {
                *stage = Stage::Asked { since: now, ended: VecDeque::new() };
                Some(Act::Whisper { prompt: prompt.id, text: prompt.text.clone() })
            }
            Stage::Asked { since, .. } if now >= *since + VOICE_COMES => self.show("no voice was ready in time"),
            Stage::Speaking { since, .. } if now >= *since + CLIP_ENDS => self.show("the end of its clip was lost"),
            Stage::Asked { .. } | Stage::Speaking { .. } => None,
        }
    }

    /// The call took the prompt as a clip, or refused it.
    pub fn answered(&mut self, now: MediaTime, id: PromptId, result: Result<ClipId, String>) -> Option<Act> {
        let (prompt, stage) = self.prompt.as_mut()?;
        let Stage::Asked { ended, .. } = stage else { return None };
        if prompt.id != id {
            return None;
        }
        let clip = match result {
            Ok(clip) => clip,
            Err(reason) => return self.show(&reason),
        };
        // The clip's events and the call's answer come by different ways: its end may have been here first.
        let over = ended.iter().position(|(c, _)| *c == clip).and_then(|place| ended.remove(place));
        *stage = Stage::Speaking { since: now, clip };
        let (clip, end) = over?;
        self.clip_over(clip, end)
    }

    /// A clip of the call is over.
    pub fn clip_over(&mut self, clip: ClipId, end: End) -> Option<Act> {
        let (prompt, stage) = self.prompt.as_mut()?;
        match stage {
            Stage::Waiting => None,
            Stage::Asked { ended, .. } => {
                if ended.len() == EARLY_ENDS {
                    ended.pop_front();
                }
                ended.push_back((clip, end));
                None
            }
            Stage::Speaking { clip: own, .. } if *own != clip => None,
            Stage::Speaking { .. } => match end {
                Ok(()) => {
                    let spoken = Act::Spoken { prompt: prompt.id, clip };
                    self.prompt = None;
                    Some(spoken)
                }
                Err(reason) => self.show(&format!("cut: {reason}")),
            },
        }
    }

    /// Nothing will be spoken any more.
    pub fn abandon(&mut self, reason: &str) -> Option<Act> {
        self.show(reason)
    }

    /// When `advance` is due.
    pub fn timeout(&self) -> Option<MediaTime> {
        let (prompt, stage) = self.prompt.as_ref()?;
        Some(match stage {
            Stage::Waiting => prompt.useful_until,
            Stage::Asked { since, .. } => *since + VOICE_COMES,
            Stage::Speaking { since, .. } => *since + CLIP_ENDS,
        })
    }

    fn show(&mut self, reason: &str) -> Option<Act> {
        let (prompt, _) = self.prompt.take()?;
        Some(Act::Show { prompt: prompt.id, text: prompt.text, reason: reason.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> MediaTime {
        MediaTime::from_millis(seconds * 1000)
    }

    fn waiting() -> Delivery {
        let mut delivery = Delivery::default();
        delivery.begin(Prompt { id: PromptId(1), text: "Ask why.".into(), useful_until: at(10) });
        delivery
    }

    fn asked() -> Delivery {
        let mut delivery = waiting();
        assert!(matches!(delivery.advance(at(0), false), Some(Act::Whisper { prompt: PromptId(1), .. })));
        delivery
    }

    fn reason(act: Option<Act>) -> String {
        match act {
            Some(Act::Show { prompt: PromptId(1), reason, .. }) => reason,
            other => panic!("{other:?} is not shown"),
        }
    }

    #[test]
    fn a_whisper_waits_for_silence_and_not_for_ever() {
        let mut delivery = waiting();
        assert_eq!(delivery.advance(at(1), true), None);
        assert_eq!(delivery.timeout(), Some(at(10)));
        assert_eq!(reason(delivery.advance(at(10), true)), "the agent spoke until its moment had passed");
        assert_eq!((delivery.busy(), delivery.timeout()), (None, None));
    }

    #[test]
    fn it_is_spoken_when_its_own_clip_ends() {
        let mut delivery = asked();
        assert_eq!(delivery.answered(at(1), PromptId(7), Ok(ClipId(9))), None, "another prompt's answer");
        assert_eq!(delivery.answered(at(1), PromptId(1), Ok(ClipId(4))), None);
        assert_eq!(delivery.clip_over(ClipId(3), Ok(())), None, "another clip");
        let spoken = delivery.clip_over(ClipId(4), Ok(()));
        assert_eq!(spoken, Some(Act::Spoken { prompt: PromptId(1), clip: ClipId(4) }));
        assert_eq!(delivery.busy(), None);
    }

    #[test]
    fn an_end_that_overtakes_the_answer_counts() {
        let mut delivery = asked();
        assert_eq!(delivery.clip_over(ClipId(4), Ok(())), None);
        let spoken = delivery.answered(at(1), PromptId(1), Ok(ClipId(4)));
        assert_eq!(spoken, Some(Act::Spoken { prompt: PromptId(1), clip: ClipId(4) }));
    }

    #[test]
    fn what_cannot_be_spoken_is_shown_with_the_reason() {
        let refused = asked().answered(at(1), PromptId(1), Err("nobody would hear it".into()));
        assert_eq!(reason(refused), "nobody would hear it");
        assert_eq!(reason(asked().advance(at(10), false)), "no voice was ready in time");
        let mut speaking = asked();
        assert_eq!(speaking.answered(at(1), PromptId(1), Ok(ClipId(4))), None);
        assert_eq!(reason(speaking.clip_over(ClipId(4), Err("the agent left".into()))), "cut: the agent left");
        assert_eq!(reason(asked().abandon("the call is over")), "the call is over");
        let mut lost = asked();
        assert_eq!(lost.answered(at(1), PromptId(1), Ok(ClipId(4))), None);
        assert_eq!(reason(lost.advance(at(151), false)), "the end of its clip was lost");
    }
}
