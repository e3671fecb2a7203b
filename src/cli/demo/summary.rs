//! What the demo found out, as JSON and as a few lines to read.

use super::listen::Heard;
use super::measure::{Said, TurnResult, WhisperResult, turns, whispers};
use super::party::Capture;
use super::proof::{Comparison, compare};
use super::screen::name;
use crate::event::{Mode, What};
use crate::io::tts::{SynthesisError, Synthesiser};
use crate::media::pcm::Rate;
use serde::Serialize;
use std::fmt::{self, Display, Write};

/// A whisper with at least this peak is in what was heard …
const FOUND: f64 = 0.7;
/// … and one with at most this is not: unrelated speech of a few seconds stays below.
const ABSENT: f64 = 0.35;

/// Everything that was measured.
#[derive(Serialize)]
pub struct Summary {
    /// Whether all that was to be shown was shown.
    holds: bool,
    turns: Vec<TurnResult>,
    whispers: Vec<WhisperResult>,
    /// What the agent sent and the customer received.
    customer_audio: Comparison,
    /// Whether the coach was in spy or whisper from beginning to end: all of the audio above was to pass untouched.
    never_barged: bool,
}

impl Summary {
    /// All but the correlations.
    pub fn of(said: &[Said], heard: &[Heard], customer: &Capture, agent: &Capture) -> Summary {
        let turns = turns(said, heard);
        let whispers = whispers(&turns, heard, customer, agent);
        let barged = |h: &Heard| matches!(h.event.event.what, What::ModeChanged { to: Mode::Barge, .. });
        Summary {
            holds: false,
            customer_audio: compare(&agent.sent, &customer.received),
            never_barged: !heard.iter().any(barged),
            turns,
            whispers,
        }
    }

    /// Synthesises every whisper once more and looks for it in what each side heard.
    pub async fn find_whispers(
        &mut self,
        tts: &Synthesiser,
        customer: &[i16],
        agent: &[i16],
    ) -> Result<(), SynthesisError> {
        for whisper in &mut self.whispers {
            let clip = tts.speak(&whisper.text, None).await?;
            whisper.find(clip.at(Rate::Narrow), customer, agent);
        }
        self.holds = self.untouched() && self.only_the_agent_heard();
        Ok(())
    }

    /// Whether the proof holds.
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// As JSON.
    pub fn json(&self) -> String {
        // Every field is a plain value: there is nothing in it that has no JSON.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// To be read.
    pub fn text(&self) -> String {
        let mut text = String::from("end of speech →                                      text    prompt  whisper\n");
        for (i, turn) in self.turns.iter().enumerate() {
            let whisper = self.whispers.iter().find(|w| w.turn == Some(i));
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  {:<49}{:>8}{:>9}{:>9}",
                shortened(&format!("{}: {}", name(turn.who.into()), turn.said), 48),
                Ms(turn.to_text_ms),
                Ms(whisper.and_then(|w| w.to_prompt_ms)),
                Ms(whisper.and_then(|w| w.to_first_packet_ms)),
            );
        }
        for whisper in &self.whispers {
            let _ = writeln!(
                text,
                "the whisper “{}”: correlation {:.2} with what the agent heard, {:.2} with what the customer heard",
                whisper.text, whisper.peak_at_agent, whisper.peak_at_customer
            );
        }
        let Comparison { packets_compared, differing_bytes, not_delivered, .. } = self.customer_audio;
        let _ = writeln!(
            text,
            "the agent's audio as the customer received it: packets compared: {packets_compared}, differing bytes: \
             {differing_bytes} (not delivered: {not_delivered})"
        );
        let _ = writeln!(text, "{}", if self.holds { "All as it should be." } else { "NOT as it should be." });
        text
    }

    /// A hundredth of the packets may be lost by a busy machine, but not one byte may be another.
    fn untouched(&self) -> bool {
        let Comparison { packets_compared, differing_bytes, not_delivered, .. } = self.customer_audio;
        packets_compared > 0 && differing_bytes == 0 && self.never_barged && not_delivered * 100 <= packets_compared
    }

    fn only_the_agent_heard(&self) -> bool {
        let private = |w: &&WhisperResult| w.peak_at_agent >= FOUND;
        self.whispers.iter().any(|w| private(&w)) && self.whispers.iter().all(|w| w.peak_at_customer <= ABSENT)
    }
}

fn shortened(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length - 1).chain(['…']).collect()
}

/// Milliseconds, or a dash.
struct Ms(Option<u64>);

impl Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ms) => f.pad(&format!("{ms} ms")),
            None => f.pad("–"),
        }
    }
}
