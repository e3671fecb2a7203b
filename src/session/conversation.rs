//! The ears and the coach of one call.

use super::{Input, Output};
use crate::coach::{self, Coach, Playbook, Sensitivity};
use crate::event::{Event, Mode, What};
use crate::speech::{Heard, Listening};
use crate::time::MediaTime;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a conversation is told when it is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// What counts and what to say.
    pub playbook: Arc<Playbook>,
    /// What the machine may do of its own accord, at most.
    pub ceiling: Mode,
    /// How readily it speaks up.
    pub sensitivity: Sensitivity,
}

/// Listens to one call and coaches its agent. Driven with `handle`, drained with `poll` after each.
pub struct Conversation {
    listening: Listening,
    coach: Coach,
    ended: bool,
    finished: bool,
    /// Drained by `poll` after every input; one input leads to a handful.
    outputs: VecDeque<Output>,
}

impl Conversation {
    /// A conversation in which nothing was said yet.
    pub fn new(options: Options) -> Self {
        Conversation {
            listening: Listening::new(),
            coach: Coach::new(options.playbook, options.ceiling, options.sensitivity),
            ended: false,
            finished: false,
            outputs: VecDeque::new(),
        }
    }

    /// Another playbook from now on.
    pub fn use_playbook(&mut self, now: MediaTime, playbook: Arc<Playbook>) {
        self.coach.use_playbook(now, playbook);
        self.drain(now);
    }

    /// Something happened.
    pub fn handle(&mut self, now: MediaTime, input: Input<'_>) {
        match input {
            // A frame that was under way when the call ended is of no use.
            Input::Heard { .. } if self.ended => {}
            Input::Heard { leg, role, at, rate, pcm } => self.listening.heard(leg, role, at, rate, pcm),
            Input::Event(event) => self.happened(now, event),
            Input::Recognised(recognised) => self.listening.recognised(recognised),
            Input::Prepared { prompt, result } => self.coach.prepared(now, prompt, result),
            Input::Speaking { prompt, result } => self.coach.spoken_as(now, prompt, result),
            Input::Close => self.close(now),
            Input::Tick => self.coach.tick(now),
        }
        self.drain(now);
    }

    /// The next thing to do, until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When `Input::Tick` is due.
    pub fn poll_timeout(&self) -> Option<MediaTime> {
        self.coach.poll_timeout()
    }

    /// Whether the call is over, its last words are there, and everything was told.
    pub fn is_idle(&self) -> bool {
        self.finished && self.outputs.is_empty()
    }

    /// How many utterances wait for their words.
    pub fn pending(&self) -> usize {
        self.listening.pending()
    }

    fn happened(&mut self, now: MediaTime, event: &Event) {
        if let (What::LegLeft { .. }, Some(leg)) = (&event.what, event.leg) {
            self.listening.leg_left(leg, event.at);
        }
        if let What::RecordingPaused {} = event.what {
            // What was being said keeps its words; no ear keeps a sample.
            self.listening.flush_all(event.at);
        }
        if let What::CallEnded { .. } = event.what {
            self.listening.flush_all(event.at);
            self.ended = true;
        }
        // What was being said ends before the event that ended it.
        self.listen(now);
        self.coach.handle(now, event);
    }

    fn close(&mut self, now: MediaTime) {
        self.listening.flush_all(now);
        self.listen(now);
        self.coach.close(now);
    }

    fn drain(&mut self, now: MediaTime) {
        self.listen(now);
        if self.ended && !self.finished && self.listening.pending() == 0 {
            self.finished = true;
            self.coach.finish(now);
        }
        self.advise();
    }

    /// What the ears noticed becomes events, which the coach sees like any others.
    fn listen(&mut self, now: MediaTime) {
        while let Some(heard) = self.listening.poll() {
            let event = match heard {
                Heard::Job(job) => {
                    self.outputs.push_back(Output::Recognise(job));
                    continue;
                }
                Heard::Edge { leg, role, speaking, at } => {
                    self.coach.knows(leg, role);
                    Event { at, leg: Some(leg), what: What::SpeechEdge { speaking, known: now } }
                }
                Heard::Final { utterance, leg, role, start, end, text, confidence } => {
                    let what = What::SpeechFinal { utterance, role, start, end, text, confidence };
                    Event { at: now, leg: Some(leg), what }
                }
                Heard::Gap { leg, start, end, reason } => {
                    Event { at: now, leg: Some(leg), what: What::SpeechGap { start, end, reason } }
                }
            };
            self.outputs.push_back(Output::Event(event.clone()));
            self.coach.handle(now, &event);
            self.advise();
        }
    }

    fn advise(&mut self) {
        while let Some(output) = self.coach.poll() {
            self.outputs.push_back(match output {
                coach::Output::Event(event) => Output::Event(event),
                coach::Output::Prepare { prompt, text } => Output::Prepare { prompt, text },
                coach::Output::Cut { clip, reason } => Output::Cut { clip, reason },
                coach::Output::Speak { prompt, text, mode } => Output::Speak { prompt, text, mode },
            });
        }
    }
}
