//! What is keyed in at a conference: digits and pauses, and the three ways to key them in.

use crate::call::{Ack, Audience, ClipSpec, Command, Digit, Refusal, Sound};
use crate::id::LegId;
use crate::io::sip::controller::End;
use crate::io::sip::line::Line;
use crate::io::sip::outward::Outward;
use rsipstack::sip::{Header, Method, StatusCodeKind};
use std::time::Duration;

/// Keys and pauses at most.
const MOST: usize = 64;
/// From key to key: 100 ms of it, what ends it, and silence, together long enough for every gateway.
const KEY: Duration = Duration::from_millis(240);
/// How long a key is heard as a tone, and the silence after it, milliseconds (ITU-T Q.24 asks for 40 of each).
const TONE_MS: u32 = 100;
const GAP_MS: u32 = 80;
/// Of each of a key's two tones.
const AMPLITUDE: f32 = 5_000.0;

/// How keys are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Telephone events.
    Rfc4733,
    /// Sound.
    Inband,
    /// SIP INFO, application/dtmf-relay.
    Info,
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stroke {
    Key(Digit),
    Pause,
}

/// What is to be keyed in. Without `Debug`: it reaches no log.
pub struct Pin(Vec<Stroke>);

impl Pin {
    /// Digits, `*`, `#`, `A` to `D`, and `,` for a pause; spaces and hyphens are for the eye.
    pub fn read(text: &str) -> Option<Pin> {
        let written = text.chars().filter(|c| !matches!(c, ' ' | '-'));
        let stroke = |c| if c == ',' { Some(Stroke::Pause) } else { Digit::of_char(c).map(Stroke::Key) };
        let strokes: Option<Vec<Stroke>> = written.take(MOST + 1).map(stroke).collect();
        strokes.filter(|strokes| !strokes.is_empty() && strokes.len() <= MOST).map(Pin)
    }

    /// Keys it in, with pauses of `pause`.
    pub async fn enter(
        &self,
        call: &Outward,
        (leg, line): (LegId, &Line),
        way: Way,
        pause: Duration,
    ) -> Result<(), End> {
        for stroke in &self.0 {
            match stroke {
                Stroke::Pause => tokio::time::sleep(pause).await,
                Stroke::Key(digit) => {
                    press(call, leg, line, way, *digit).await?;
                    tokio::time::sleep(KEY).await;
                }
            }
        }
        Ok(())
    }
}

async fn press(call: &Outward, leg: LegId, line: &Line, way: Way, digit: Digit) -> Result<(), End> {
    match way {
        Way::Rfc4733 => done(call.command(Command::Dial { leg, digit }).await),
        Way::Inband => {
            let pcm = Sound::new(&tone(digit), 8_000).map_err(|error| End::new(error.to_string(), 500))?;
            let clip = ClipSpec { pcm, audience: Audience::Legs(vec![leg]), looped: false, text: None };
            done(call.command(Command::Play(clip)).await)
        }
        Way::Info => {
            let body = format!("Signal={}\r\nDuration={TONE_MS}\r\n", digit.as_char());
            let kind = Header::ContentType("application/dtmf-relay".into());
            let answer = line.ask(Method::Info, vec![kind], Some(body.into_bytes())).await;
            match answer.map(|answer| answer.status_code) {
                Some(status) if status.kind() == StatusCodeKind::Successful => Ok(()),
                Some(status) => {
                    Err(End::new(format!("the conference takes no keys by INFO: it answers {}", status.code()), 488))
                }
                None => Err(End::new("the conference does not answer INFO", 408)),
            }
        }
    }
}

fn done(outcome: Result<Ack, Refusal>) -> Result<(), End> {
    outcome.map(drop).map_err(|refusal| End::new(format!("the PIN cannot be keyed in: {refusal}"), 488))
}

/// A key as sound (ITU-T Q.23), 8 kHz.
fn tone(digit: Digit) -> Vec<i16> {
    const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
    const COLUMNS: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
    let keys = ["123A", "456B", "789C", "*0#D"];
    let place = keys.iter().enumerate().find_map(|(row, keys)| Some((row, keys.find(digit.as_char())?)));
    let (row, column) = place.unwrap_or_default();
    let [low, high] = [ROWS[row], COLUMNS[column]];
    let samples = |ms: u32| ms * 8;
    let sine = |hz: f32, n: u32| (std::f32::consts::TAU * hz * n as f32 / 8_000.0).sin();
    let sound = (0..samples(TONE_MS)).map(|n| (AMPLITUDE * (sine(low, n) + sine(high, n))) as i16);
    sound.chain((0..samples(GAP_MS)).map(|_| 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_as_they_are_dialled() {
        let strokes = |text: &str| {
            let pin = Pin::read(text)?;
            Some(pin.0.iter().map(|s| if let Stroke::Key(d) = s { d.as_char() } else { ',' }).collect::<String>())
        };
        assert_eq!(strokes(",,12-34 #").as_deref(), Some(",,1234#"));
        assert_eq!(strokes("*a0").as_deref(), Some("*A0"));
        assert_eq!(strokes(&"1".repeat(64)).map(|s| s.len()), Some(64));
        for wrong in ["", " ", "12x", "1;2", &"1".repeat(65)] {
            assert!(strokes(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_key_is_its_two_tones_and_silence() {
        let power = |pcm: &[i16], hz: f32| {
            let turn = |n: usize| std::f32::consts::TAU * hz * n as f32 / 8_000.0;
            let sum = |f: fn(f32) -> f32| pcm.iter().enumerate().map(|(n, s)| f32::from(*s) * f(turn(n))).sum::<f32>();
            (sum(f32::sin).powi(2) + sum(f32::cos).powi(2)).sqrt() * 2.0 / pcm.len() as f32
        };
        for (key, low, high, other) in
            [('1', 697.0, 1209.0, 1336.0), ('#', 941.0, 1477.0, 770.0), ('D', 941.0, 1633.0, 852.0)]
        {
            let pcm = tone(Digit::of_char(key).unwrap());
            let (sound, silence) = pcm.split_at(800);
            assert!(power(sound, low) > 4_500.0 && power(sound, high) > 4_500.0, "{key}");
            assert!(power(sound, other) < 500.0, "{key}");
            assert!(silence.len() == 640 && silence.iter().all(|s| *s == 0));
        }
    }
}
