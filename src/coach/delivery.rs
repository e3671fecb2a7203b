//! Brings one prompt to the agent: a whisper while the agent is silent, or a line on the screen where there can be none.
//!
//! ```text
//!            voice ready          agent silent              accepted               last sample sent
//!  Preparing ───────────► Waiting ───────────────► Asked ───────────────► Speaking ───────────────────► spoken
//!     │ none in time        │ its moment passed      │ refused, no answer   │ cut, never ended, not begun in time
//!     └─────────────────────┴────────────────────────┴──────────────────────┴─────────────────────────► shown, with the reason
//! ```
//!
//! Its voice is made before silence is waited for, so that between the look at the agent and the first sample there is
//! nothing that takes time. In come the time, whether the agent speaks, the call's answer and its clips; out comes one
//! [`Act`] at a time.

use crate::event::Words;
use crate::id::{ClipId, PromptId};
use crate::time::{MediaTime, Samples};
use std::collections::VecDeque;

/// A voice that is not there by then is not coming.
const VOICE_COMES: Samples = Samples::from_millis(10_000);
/// A clip lasts at most a minute and may wait for another: past this its end was lost.
const CLIP_ENDS: Samples = Samples::from_millis(150_000);
/// What is remembered of clips that began or ended before the call's answer named them. Full: the oldest is forgotten.
const EARLY: usize = 16;

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
    /// Make its voice, and answer with `prepared`.
    Prepare { prompt: PromptId, text: Words },
    /// Whisper it now.
    Whisper { prompt: PromptId, text: Words },
    /// This clip is not to be heard (any more).
    Cut { clip: ClipId, reason: &'static str },
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
    /// Its voice is being made.
    Preparing,
    /// The agent speaks.
    Waiting,
    /// The call is to take it as a clip.
    Asked { since: MediaTime, early: VecDeque<(ClipId, Early)> },
    /// It is a clip, heard already or not yet.
    Speaking { since: MediaTime, clip: ClipId, started: bool },
}

/// How a clip ended: to its last sample, or cut for a reason.
type End = Result<(), String>;

/// What became of a clip that may be the prompt's.
#[derive(Debug)]
enum Early {
    Started,
    Over(End),
}

fn remember(early: &mut VecDeque<(ClipId, Early)>, clip: ClipId, told: Early) {
    if early.len() == EARLY {
        early.pop_front();
    }
    early.push_back((clip, told));
}

impl Delivery {
    /// The prompt under way.
    pub fn busy(&self) -> Option<PromptId> {
        self.prompt.as_ref().map(|(prompt, _)| prompt.id)
    }

    /// Takes on a prompt to be whispered: its voice is made while the agent may still speak. The one before must be done.
    pub fn begin(&mut self, prompt: Prompt) -> Act {
        debug_assert!(self.prompt.is_none(), "one prompt at a time");
        let act = Act::Prepare { prompt: prompt.id, text: prompt.text.clone() };
        self.prompt = Some((prompt, Stage::Preparing));
        act
    }

    /// The voice is there, or will never be. `advance` is due.
    pub fn prepared(&mut self, id: PromptId, result: Result<(), String>) -> Option<Act> {
        let (prompt, stage) = self.prompt.as_mut()?;
        if prompt.id != id || !matches!(stage, Stage::Preparing) {
            return None;
        }
        *stage = Stage::Waiting;
        result.err().and_then(|reason| self.show(&reason))
    }

    /// Time has passed, or the agent began or stopped speaking.
    pub fn advance(&mut self, now: MediaTime, agent_speaks: bool) -> Option<Act> {
        let (prompt, stage) = self.prompt.as_mut()?;
        match stage {
            Stage::Preparing if now >= prompt.useful_until => self.show("no voice was ready in time"),
            Stage::Waiting if now >= prompt.useful_until => self.show("the agent spoke until its moment had passed"),
            Stage::Waiting if agent_speaks => None,
            Stage::Waiting => {
                *stage = Stage::Asked { since: now, early: VecDeque::new() };
                Some(Act::Whisper { prompt: prompt.id, text: prompt.text.clone() })
            }
            Stage::Asked { since, .. } if now >= *since + VOICE_COMES => self.show("no voice was ready in time"),
            // Another clip is in its way. Its end tells that it is shown.
            Stage::Speaking { clip, started: started @ false, .. } if now >= prompt.useful_until => {
                *started = true;
                Some(Act::Cut { clip: *clip, reason: "its moment had passed" })
            }
            Stage::Speaking { since, .. } if now >= *since + CLIP_ENDS => self.show("the end of its clip was lost"),
            Stage::Preparing | Stage::Asked { .. } | Stage::Speaking { .. } => None,
        }
    }

    /// The call took the prompt as a clip, or refused it. What was told as shown meanwhile is not to be heard.
    pub fn answered(&mut self, now: MediaTime, id: PromptId, result: Result<ClipId, String>) -> Option<Act> {
        let stage = match &mut self.prompt {
            Some((prompt, stage @ Stage::Asked { .. })) if prompt.id == id => stage,
            Some(_) | None => return result.ok().map(|clip| Act::Cut { clip, reason: "its prompt was shown" }),
        };
        let clip = match result {
            Ok(clip) => clip,
            Err(reason) => return self.show(&reason),
        };
        // The clip's events and the call's answer come by different ways: its end may have been here first.
        let speaking = Stage::Speaking { since: now, clip, started: false };
        let Stage::Asked { early, .. } = std::mem::replace(stage, speaking) else { return None };
        for (_, told) in early.into_iter().filter(|(c, _)| *c == clip) {
            match told {
                Early::Started => self.clip_started(clip),
                Early::Over(end) => return self.clip_over(clip, end),
            }
        }
        None
    }

    /// The first sample of a clip of the call was sent.
    pub fn clip_started(&mut self, clip: ClipId) {
        match &mut self.prompt {
            Some((_, Stage::Speaking { clip: own, started, .. })) if *own == clip => *started = true,
            Some((_, Stage::Asked { early, .. })) => remember(early, clip, Early::Started),
            Some(_) | None => {}
        }
    }

    /// A clip of the call is over.
    pub fn clip_over(&mut self, clip: ClipId, end: End) -> Option<Act> {
        let (prompt, stage) = self.prompt.as_mut()?;
        match stage {
            Stage::Preparing | Stage::Waiting => None,
            Stage::Asked { early, .. } => {
                remember(early, clip, Early::Over(end));
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
            Stage::Preparing | Stage::Waiting | Stage::Speaking { started: false, .. } => prompt.useful_until,
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
        let act = delivery.begin(Prompt { id: PromptId(1), text: "Ask why.".into(), useful_until: at(10) });
        assert!(matches!(act, Act::Prepare { prompt: PromptId(1), .. }));
        assert_eq!(delivery.advance(at(0), false), None, "there is no voice yet");
        assert_eq!(delivery.prepared(PromptId(7), Ok(())), None, "another prompt's voice");
        assert_eq!(delivery.prepared(PromptId(1), Ok(())), None);
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
        assert_eq!(delivery.answered(at(1), PromptId(1), Ok(ClipId(4))), None);
        delivery.clip_started(ClipId(4));
        assert_eq!(delivery.advance(at(11), true), None, "what is heard is heard to its end");
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
        lost.clip_started(ClipId(4));
        assert_eq!(reason(lost.advance(at(151), false)), "the end of its clip was lost");
    }

    /// Whoever was told that a prompt is on the screen is not to hear it as well.
    #[test]
    fn a_clip_of_what_was_shown_is_cut() {
        let mut delivery = asked();
        assert_eq!(reason(delivery.abandon("the call is paused")), "the call is paused");
        let cut = delivery.answered(at(1), PromptId(1), Ok(ClipId(4)));
        assert_eq!(cut, Some(Act::Cut { clip: ClipId(4), reason: "its prompt was shown" }));
        assert_eq!(delivery.answered(at(1), PromptId(1), Err("the call is paused".into())), None);
        assert_eq!(delivery.prepared(PromptId(1), Ok(())), None);
    }

    #[test]
    fn a_clip_that_waits_for_another_until_its_moment_has_passed_is_shown() {
        for early in [false, true] {
            let mut delivery = asked();
            if early {
                delivery.clip_started(ClipId(4));
            }
            assert_eq!(delivery.answered(at(1), PromptId(1), Ok(ClipId(4))), None);
            let cut = delivery.advance(at(10), false);
            assert_eq!(cut.is_some(), !early);
            if let Some(Act::Cut { clip, reason: why }) = cut {
                assert_eq!(reason(delivery.clip_over(clip, Err(why.into()))), "cut: its moment had passed");
            }
        }
    }

    #[test]
    fn a_voice_that_cannot_be_had_or_comes_too_late_is_a_line_on_the_screen() {
        let prompt = || Prompt { id: PromptId(1), text: "Ask why.".into(), useful_until: at(10) };
        let mut delivery = Delivery::default();
        delivery.begin(prompt());
        assert_eq!(delivery.timeout(), Some(at(10)));
        assert_eq!(reason(delivery.advance(at(10), false)), "no voice was ready in time");
        delivery.begin(prompt());
        assert_eq!(reason(delivery.prepared(PromptId(1), Err("espeak-ng failed".into()))), "espeak-ng failed");
    }
}
