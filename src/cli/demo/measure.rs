//! From the end of what somebody said to the words, the prompt and the first whispered packet.
//!
//! The end of speech is the script's: when the packet with the last voiced sample was sent. The whisper is found at
//! the agent's own socket: the first packet there whose audio is not the customer's.

use super::listen::Heard;
use super::party::{Capture, Spoken};
use super::proof::correlation_peak;
use super::script::{Turn, Who};
use crate::event::{Delivery, What};
use crate::id::{MomentId, PromptId, UtteranceId};
use serde::Serialize;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// The time of one packet.
const PACKET: Duration = Duration::from_millis(20);
/// Samples in it.
const SAMPLES: usize = super::party::FRAME;

/// A turn as it was said.
pub struct Said {
    /// What.
    pub turn: Turn,
    /// When.
    pub spoken: Spoken,
}

impl Said {
    /// When the packet with the last voiced sample was sent.
    pub fn end(&self) -> Instant {
        let packets = self.turn.voiced.saturating_sub(1) / SAMPLES;
        self.spoken.first + PACKET * packets as u32
    }
}

/// What became of one turn.
#[derive(Serialize)]
pub struct TurnResult {
    /// Who spoke.
    pub who: Who,
    /// The script's words.
    pub said: String,
    /// The server's, if any came.
    pub heard: Option<String>,
    /// End of speech → the words.
    pub to_text_ms: Option<u64>,
    #[serde(skip)]
    utterance: Option<UtteranceId>,
    #[serde(skip)]
    end: Instant,
}

/// What became of one prompt that was to be whispered.
#[derive(Serialize)]
pub struct WhisperResult {
    /// The turn it answers, counted from 0; none where the moment rests on no turn.
    pub turn: Option<usize>,
    /// The moment's kind.
    pub kind: String,
    /// The words it rests on.
    pub evidence: String,
    /// The advice.
    pub text: String,
    /// End of that turn → the prompt.
    pub to_prompt_ms: Option<u64>,
    /// … → the first packet at the agent's socket that is not the customer's alone.
    pub to_first_packet_ms: Option<u64>,
    /// Whether its last sample was sent.
    pub spoken: bool,
    /// How well the whisper is found in what the agent heard, 0 to 1.
    pub peak_at_agent: f64,
    /// … and in what the customer heard.
    pub peak_at_customer: f64,
}

/// The turns with the words that were made of them. A final belongs to the last turn of its role that had ended when
/// it came.
pub fn turns(said: &[Said], heard: &[Heard]) -> Vec<TurnResult> {
    said.iter().enumerate().map(|(i, turn)| turn_result(turn, next_end(said, i), heard)).collect()
}

/// When the next turn of the same party ended.
fn next_end(said: &[Said], i: usize) -> Option<Instant> {
    let who = said.get(i)?.turn.who;
    said.iter().skip(i + 1).find(|s| s.turn.who == who).map(Said::end)
}

fn turn_result(said: &Said, until: Option<Instant>, heard: &[Heard]) -> TurnResult {
    let end = said.end();
    let mut mine = heard.iter().filter(|h| h.at >= end && until.is_none_or(|until| h.at < until));
    let found = mine.find_map(|h| match &h.event.event.what {
        What::SpeechFinal { role, utterance, text, .. } if *role == said.turn.who.into() => {
            Some((h.at, *utterance, &text.0))
        }
        _ => None,
    });
    TurnResult {
        who: said.turn.who,
        said: said.turn.text.clone(),
        heard: found.map(|(_, _, text)| text.to_string()),
        to_text_ms: found.map(|(at, _, _)| millis(at - end)),
        utterance: found.map(|(_, utterance, _)| utterance),
        end,
    }
}

/// The prompts that were to be whispered, in order.
pub fn whispers(turns: &[TurnResult], heard: &[Heard], customer: &Capture, agent: &Capture) -> Vec<WhisperResult> {
    let of_the_customer: HashSet<Vec<i16>> =
        customer.sent.iter().map(|p| customer.decode(&p.payload).collect()).collect();
    let foreign: Vec<Instant> = agent
        .received
        .iter()
        .filter(|p| !of_the_customer.contains(&agent.decode(&p.payload).collect::<Vec<i16>>()))
        .map(|p| p.at)
        .collect();
    let offered = heard.iter().filter_map(|h| match &h.event.event.what {
        What::PromptOffered { prompt, moment, text, delivery: Delivery::Whisper } => {
            Some((h.at, *prompt, *moment, text.0.to_string()))
        }
        _ => None,
    });
    offered
        .map(|(at, prompt, moment, text)| {
            let (kind, evidence, utterance) = moment_of(moment, heard).unwrap_or_default();
            let turn = turns.iter().position(|t| utterance.is_some() && t.utterance == utterance);
            let end = turn.and_then(|i| turns.get(i)).map(|t| t.end);
            let first_packet = foreign.iter().find(|packet| **packet >= at);
            WhisperResult {
                turn,
                kind,
                evidence,
                text,
                to_prompt_ms: end.map(|end| millis(at - end)),
                to_first_packet_ms: end.zip(first_packet).map(|(end, packet)| millis(*packet - end)),
                spoken: was_spoken(prompt, heard),
                peak_at_agent: 0.0,
                peak_at_customer: 0.0,
            }
        })
        .collect()
}

impl WhisperResult {
    /// Looks for the whisper, as synthesised, in what each side heard.
    pub fn find(&mut self, clip: &[i16], customer_heard: &[i16], agent_heard: &[i16]) {
        self.peak_at_agent = correlation_peak(agent_heard, clip);
        self.peak_at_customer = correlation_peak(customer_heard, clip);
    }
}

type Moment = (String, String, Option<UtteranceId>);

fn moment_of(wanted: MomentId, heard: &[Heard]) -> Option<Moment> {
    heard.iter().find_map(|h| match &h.event.event.what {
        What::MomentDetected { moment, kind, utterance, evidence } if *moment == wanted => {
            Some((kind.clone(), evidence.0.to_string(), *utterance))
        }
        _ => None,
    })
}

fn was_spoken(wanted: PromptId, heard: &[Heard]) -> bool {
    heard.iter().any(|h| matches!(h.event.event.what, What::PromptSpoken { prompt, .. } if prompt == wanted))
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::party::{FRAME, Received, Sent};
    use crate::cli::demo::script::Who;
    use crate::event::{Event, EventId, Recorded, Role};
    use crate::id::{CallId, ClipId, Tenant};
    use crate::io::clock;
    use crate::media::codec::g711::Law;
    use crate::time::MediaTime;

    const OBJECTION: UtteranceId = UtteranceId(2);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A turn of a second that began `after` the start and ended with 200 ms of silence.
    fn said(start: Instant, who: Who, after: u64) -> Said {
        let turn = Turn { who, pause: ms(0), text: "words".into(), pcm: vec![0; 8000].into(), voiced: 6400 };
        Said { turn, spoken: Spoken { first: start + ms(after), last: start + ms(after + 980) } }
    }

    fn heard(start: Instant, after: u64, what: What) -> Heard {
        let id = EventId { call: CallId::new(0, 0, 0, 0), epoch: 0, seq: 1 };
        let event = Event { at: MediaTime::ZERO, leg: None, what };
        let recorded = Recorded { tenant: Tenant::default(), id, wall_ms: 0, event };
        Heard { at: start + ms(after), event: recorded.into() }
    }

    fn words(utterance: UtteranceId, role: Role, text: &str) -> What {
        let (start, end) = (MediaTime::ZERO, MediaTime::ZERO);
        What::SpeechFinal { utterance, role, start, end, text: text.into(), confidence: 1.0 }
    }

    #[test]
    fn words_belong_to_the_last_turn_of_their_speaker() {
        let start = clock::now();
        let said = [said(start, Who::Agent, 0), said(start, Who::Customer, 1500), said(start, Who::Customer, 4000)];
        let heard = [
            heard(start, 1180, words(UtteranceId(1), Role::Agent, "good morning")),
            heard(start, 2780, words(OBJECTION, Role::Customer, "too expensive")),
        ];
        let turns = turns(&said, &heard);
        let found: Vec<_> = turns.iter().map(|t| (t.heard.as_deref(), t.to_text_ms)).collect();
        // The last voiced packet of a turn is sent 780 ms after its first.
        assert_eq!(found, [(Some("good morning"), Some(400)), (Some("too expensive"), Some(500)), (None, None)]);
    }

    #[test]
    fn the_whisper_begins_with_the_first_packet_that_is_not_the_customers() {
        let start = clock::now();
        let turns = turns(
            &[said(start, Who::Customer, 0)],
            &[heard(start, 1180, words(OBJECTION, Role::Customer, "too expensive"))],
        );
        let (moment, prompt, text) = (MomentId(1), PromptId(1), "Ask why.");
        let kind = "objection.price".to_owned();
        let events = [
            heard(
                start,
                1190,
                What::MomentDetected { moment, kind, utterance: Some(OBJECTION), evidence: "too expensive".into() },
            ),
            heard(start, 1200, What::PromptOffered { prompt, moment, text: text.into(), delivery: Delivery::Whisper }),
            heard(start, 3000, What::PromptSpoken { prompt, clip: ClipId(1) }),
        ];
        let of_the_customer = [0x55; FRAME];
        let sent = vec![Sent { at: start, payload: of_the_customer, lost: false }];
        let arrived = |after, payload: [u8; FRAME]| Received {
            at: start + ms(after),
            sequence: 0,
            timestamp: 0,
            ssrc: 0,
            payload_type: 0,
            payload: payload.to_vec(),
        };
        // Ringback before, the customer alone, then the whisper over the customer.
        let received = vec![arrived(100, [1; FRAME]), arrived(1380, of_the_customer), arrived(1400, [2; FRAME])];
        let capture = |sent, received| Capture { codec: Law::Mu, sent, received };
        let whispers = whispers(&turns, &events, &capture(sent, vec![]), &capture(vec![], received));
        let found: Vec<_> = whispers
            .iter()
            .map(|w| (w.turn, w.kind.as_str(), w.to_prompt_ms, w.to_first_packet_ms, w.spoken))
            .collect();
        assert_eq!(found, [(Some(0), "objection.price", Some(420), Some(620), true)]);
    }
}
