//! The conversation on a terminal or in a pipe, as it is heard: who, when, what; moments and whispers set apart.

use crate::event::{Delivery, Mode, Recorded, Role, What};
use crate::time::MediaTime;
use std::io::IsTerminal;

/// Prints lines, in colour where somebody can see it.
#[derive(Clone, Copy)]
pub struct Screen {
    shown: bool,
    colour: bool,
}

/// What a line is about, for its colour.
#[derive(Clone, Copy)]
enum Ink {
    Customer,
    Agent,
    Moment,
    Whisper,
    Aside,
}

impl Ink {
    /// An SGR parameter (ECMA-48 §8.3.117).
    fn code(self) -> &'static str {
        match self {
            Ink::Customer => "36",
            Ink::Agent => "32",
            Ink::Moment => "33",
            Ink::Whisper => "1;35",
            Ink::Aside => "2",
        }
    }
}

impl Screen {
    /// Prints to standard output; in colour only on a terminal, and not where `NO_COLOR` is set (no-color.org).
    pub fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen { shown: true, colour: wanted && std::io::stdout().is_terminal() }
    }

    /// Prints nothing.
    pub fn dark() -> Self {
        Screen { shown: false, colour: false }
    }

    /// A line of the demo's own.
    pub fn say(&self, text: &str) {
        if self.shown {
            println!("{text}");
        }
    }

    /// An event, if it is one of those that tell the story.
    pub fn event(&self, recorded: &Recorded) {
        let Some((ink, text)) = line(recorded.event.at, &recorded.event.what) else { return };
        match self.colour {
            true => self.say(&format!("\x1b[{}m{text}\x1b[0m", ink.code())),
            false => self.say(&text),
        }
    }
}

fn line(at: MediaTime, what: &What) -> Option<(Ink, String)> {
    let aside = |text: String| Some((Ink::Aside, spoken(at, "", &text)));
    match what {
        What::SpeechFinal { role, start, text, .. } => Some((ink(*role), spoken(*start, name(*role), &text.0))),
        What::SpeechGap { start, reason, .. } => Some((Ink::Aside, spoken(*start, "?", reason))),
        What::MomentDetected { kind, evidence, .. } if evidence.0.is_empty() => {
            Some((Ink::Moment, spoken(at, "", &format!("◆ {kind}"))))
        }
        What::MomentDetected { kind, evidence, .. } => {
            Some((Ink::Moment, spoken(at, "", &format!("◆ {kind}: “{}”", evidence.0))))
        }
        What::PromptOffered { text, delivery, .. } => {
            Some((Ink::Whisper, spoken(at, "", &format!("▶ {}: “{}”", way(*delivery), text.0))))
        }
        What::PromptShown { reason, .. } => {
            aside(format!("▷ on the agent's screen{}", reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default()))
        }
        What::PromptSuppressed { kind, reason, .. } => aside(format!("◇ {kind}: held back, {reason}")),
        What::CallConnected {} => aside("customer and agent are connected".into()),
        What::ModeChanged { from, to, .. } => aside(format!("the coach: {} → {}", mode(*from), mode(*to))),
        What::CallEnded { reason } => aside(format!("the call has ended: {reason}")),
        What::RecordingPaused {} => aside("paused: nothing is recorded, transcribed or coached".into()),
        What::RecordingResumed {} => aside("resumed".into()),
        What::LeakDetected { .. } => aside("the whisper comes back over the agent's line, which is turned down".into()),
        What::CallPending { .. }
        | What::CommandGiven { .. }
        | What::CommandRefused { .. }
        | What::CoachOpened { .. }
        | What::CallAnswered {}
        | What::LegJoined { .. }
        | What::LegLeft { .. }
        | What::LegChanged { .. }
        | What::LegHeld {}
        | What::LegResumed {}
        | What::SupervisorJoined { .. }
        | What::SupervisorLeft { .. }
        | What::ConsentChanged { .. }
        | What::SupervisorMissed { .. }
        | What::EarpieceVerified {}
        | What::EarpieceRefused { .. }
        | What::ConferenceChanged { .. }
        | What::SupervisorAsked {}
        | What::SupervisorTookOver { .. }
        | What::SupervisorGaveBack { .. }
        | What::ClipStarted { .. }
        | What::ClipEnded { .. }
        | What::ClipCut { .. }
        | What::SpeechEdge { .. }
        | What::PromptSpoken { .. }
        | What::LeakMeasured { .. }
        | What::LeakExpected { .. }
        | What::LeakCleared {}
        | What::CancellingStarted {}
        | What::CancellingEnded {}
        | What::RecordingStarted {}
        | What::RecordingFailed { .. }
        | What::RecordingGap { .. }
        | What::RecordingEnded { .. } => None,
    }
}

fn spoken(at: MediaTime, who: &str, text: &str) -> String {
    format!("{:>6.1} s  {who:<10}{text}", at.as_millis() as f64 / 1000.0)
}

fn ink(role: Role) -> Ink {
    match role {
        Role::Customer => Ink::Customer,
        Role::Agent | Role::Supervisor | Role::Bridge | Role::Earpiece => Ink::Agent,
    }
}

/// A role as people say it.
pub fn name(role: Role) -> &'static str {
    match role {
        Role::Customer => "customer",
        Role::Agent => "agent",
        Role::Supervisor => "supervisor",
        Role::Bridge => "bridge",
        Role::Earpiece => "earpiece",
    }
}

fn way(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Screen => "on the agent's screen",
        Delivery::Whisper => "whispered to the agent",
        Delivery::Barge => "said to both",
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Spy => "spy",
        Mode::Whisper => "whisper",
        Mode::Barge => "barge",
    }
}
