//! A call and its conversation as one machine on one clock: what a media shard and a listening thread do between them,
//! with no queue in between. For tests, and for replaying what a journal holds.

use super::{Conversation, Input, Options};
use crate::call::{self, Ack, Audience, Call, CallOptions, ClipSpec, Command, Port, Refusal, Sound};
use crate::event::{Event, Mode, Words};
use crate::id::{ClipId, LegId, PromptId};
use crate::media::pcm::Rate;
use crate::speech::{Job, Recognised};
use crate::time::MediaTime;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// A whole call. Driven by `command`, `packet`, `recognised`, `voiced` and `tick`, and drained after each.
pub struct Session {
    call: Call,
    conversation: Conversation,
    /// The voice of the prompt under way.
    voice: Option<(PromptId, Sound)>,
    /// What the coach wants the call to do: a prompt at a time.
    wanted: VecDeque<Wanted>,
}

/// Something the coach wants the call to do.
enum Wanted {
    Speak { prompt: PromptId, text: Words, mode: Mode },
    Cut { clip: ClipId, reason: &'static str },
}

/// What a session wants done.
pub enum Output<'a> {
    /// Send a datagram from a leg's socket.
    Send { leg: LegId, port: Port, to: SocketAddr, bytes: &'a [u8] },
    /// 20 ms of recording.
    Record { at: MediaTime, rate: Rate, customer: &'a [i16], agent: &'a [i16] },
    /// Tell the journal and everyone who listens.
    Event(Event),
    /// Turn this audio into words; answer with `recognised`.
    Recognise(Job),
    /// Synthesise; answer with `voiced`.
    Voice { prompt: PromptId, text: Words },
}

impl Session {
    /// A call without legs, listened to under these options.
    pub fn new(call: CallOptions, coach: Options) -> Self {
        let (voice, wanted) = (None, VecDeque::new());
        Session { call: Call::new(call), conversation: Conversation::new(coach), voice, wanted }
    }

    /// Carry out a command.
    pub fn command(&mut self, now: MediaTime, command: Command) -> Result<Ack, Refusal> {
        let closes = matches!(command, Command::Close);
        let ack = self.call.command(now, command);
        if closes && ack.is_ok() {
            self.conversation.handle(now, Input::Close);
        }
        ack
    }

    /// A datagram arrived on a leg's socket.
    pub fn packet(&mut self, now: MediaTime, leg: LegId, port: Port, from: SocketAddr, bytes: &[u8]) {
        self.call.packet(now, leg, port, from, bytes);
    }

    /// A recogniser answered.
    pub fn recognised(&mut self, now: MediaTime, recognised: Recognised) {
        self.conversation.handle(now, Input::Recognised(recognised));
    }

    /// A prompt was synthesised, or could not be.
    pub fn voiced(&mut self, now: MediaTime, prompt: PromptId, voice: Result<Sound, String>) {
        let result = voice.map(|pcm| self.voice = Some((prompt, pcm)));
        self.conversation.handle(now, Input::Prepared { prompt, result });
    }

    fn carry_out(&mut self, now: MediaTime, wanted: Wanted) {
        match wanted {
            Wanted::Speak { prompt, text, mode } => {
                let result = self.speak(now, prompt, text, mode);
                self.conversation.handle(now, Input::Speaking { prompt, result });
            }
            // It may be over already.
            Wanted::Cut { clip, reason } => drop(self.command(now, Command::Cut { clip, reason: reason.into() })),
        }
    }

    fn speak(&mut self, now: MediaTime, prompt: PromptId, text: Words, mode: Mode) -> Result<ClipId, String> {
        let voice = self.voice.take().filter(|(of, _)| *of == prompt);
        let (_, pcm) = voice.ok_or("its voice is gone")?;
        let clip = ClipSpec { pcm, audience: Audience::Own(mode), looped: false, text: Some(text) };
        match self.command(now, Command::Play(clip)) {
            Ok(Ack::Clip(clip)) => Ok(clip),
            Ok(_) => Err("the call gave the clip no name".into()),
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: MediaTime) {
        if self.call.poll_timeout().is_some_and(|due| due <= now) {
            self.call.tick(now);
        }
        if self.conversation.poll_timeout().is_some_and(|due| due <= now) {
            self.conversation.handle(now, Input::Tick);
        }
    }

    /// When `tick` is due.
    pub fn poll_timeout(&self) -> Option<MediaTime> {
        self.call.poll_timeout().into_iter().chain(self.conversation.poll_timeout()).min()
    }

    /// Whether the call is over, its last words are there, and everything was told.
    pub fn is_idle(&self) -> bool {
        self.conversation.is_idle()
    }

    /// Hands over all there is to do, cause before effect.
    pub fn drain(&mut self, now: MediaTime, mut does: impl FnMut(Output<'_>)) {
        loop {
            while let Some(output) = self.call.poll() {
                match output {
                    call::Output::Send { leg, port, to, bytes } => does(Output::Send { leg, port, to, bytes }),
                    call::Output::Record { at, rate, customer, agent } => {
                        does(Output::Record { at, rate, customer, agent });
                    }
                    // A session keeps what the call as a whole sounds like; who wants a leg alone takes it from the call.
                    call::Output::RecordLeg { .. } => {}
                    call::Output::Heard { leg, role, at, rate, pcm, .. } => {
                        self.conversation.handle(now, Input::Heard { leg, role, at, rate, pcm });
                    }
                    call::Output::Event(event) => {
                        does(Output::Event(event.clone()));
                        self.conversation.handle(now, Input::Event(&event));
                    }
                }
                advise(&mut self.conversation, &mut self.wanted, &mut does);
            }
            advise(&mut self.conversation, &mut self.wanted, &mut does);
            let Some(wanted) = self.wanted.pop_front() else { return };
            self.carry_out(now, wanted);
        }
    }
}

fn advise(conversation: &mut Conversation, wanted: &mut VecDeque<Wanted>, does: &mut impl FnMut(Output<'_>)) {
    while let Some(output) = conversation.poll() {
        match output {
            super::Output::Recognise(job) => does(Output::Recognise(job)),
            super::Output::Event(event) => does(Output::Event(event)),
            super::Output::Prepare { prompt, text } => does(Output::Voice { prompt, text }),
            super::Output::Speak { prompt, text, mode } => wanted.push_back(Wanted::Speak { prompt, text, mode }),
            super::Output::Cut { clip, reason } => wanted.push_back(Wanted::Cut { clip, reason }),
        }
    }
}
