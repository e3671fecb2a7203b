//! Text to speech: `espeak-ng` as a child process, one a phrase. Text goes in over its standard input, a WAV file comes
//! out of its standard output and becomes mono sound at the loudness of a telephone voice. A phrase rendered before is
//! not rendered again.

use crate::call::Sound;
use crate::media::resample::convert;
use std::collections::VecDeque;
use std::io::Cursor;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Characters a text may have: a minute of speech, and more than anybody whispers.
const LONGEST: usize = 1_000;

/// How long a phrase may take, its wait for others included. The longest takes 0.3 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// Processes at once. More phrases wait their turn, up to [`PATIENCE`].
const AT_ONCE: usize = 4;

/// Bytes taken from the synthesiser: the longest text gives 2 MB, slow voices twice that.
const OUTPUT_LIMIT: u64 = 16 * 1024 * 1024;

/// Samples the cache holds (16 MB, two minutes at all rates). When it is full the phrases used longest ago make room.
const CACHE: usize = 8 * 1024 * 1024;

/// Loudness of the spoken parts, RMS, of full scale: −20 dBFS, where telephone voices lie.
const LOUDNESS: f64 = 0.1;

/// No sample is louder than this, of full scale: −1 dBFS.
const PEAK: f64 = 0.89;

/// The way to the synthesiser.
#[derive(Clone)]
pub struct Synthesiser {
    voice: Arc<str>,
    program: PathBuf,
    patience: Duration,
    turns: Arc<Semaphore>,
    cache: Arc<Mutex<Cache>>,
}

/// Why there is no voice.
#[derive(Debug, thiserror::Error)]
pub enum SynthesisError {
    /// espeak-ng could not be started.
    #[error("espeak-ng could not be started ({0}): install the package espeak-ng")]
    Missing(std::io::Error),
    /// It failed or took too long.
    #[error("espeak-ng failed: {0}")]
    Failed(String),
    /// Nothing to say, or more than 1,000 characters.
    #[error("a text of 1 to 1,000 characters can be spoken, this has {0}")]
    Length(usize),
    /// No name a voice could have.
    #[error("{0:?} is no voice: espeak-ng --voices lists them (en-us, en-gb+f3)")]
    Voice(String),
}

impl Synthesiser {
    /// A synthesiser that speaks with this voice of espeak-ng's (`en-us`, `en-gb+f3`) unless told otherwise.
    pub fn new(voice: &str) -> Result<Self, SynthesisError> {
        Ok(Synthesiser {
            voice: checked(voice)?.into(),
            program: "espeak-ng".into(),
            patience: PATIENCE,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            cache: Arc::default(),
        })
    }

    /// The text as mono sound, silence at both ends trimmed. `voice` is one of espeak-ng's, none the configured one.
    pub async fn speak(&self, text: &str, voice: Option<&str>) -> Result<Sound, SynthesisError> {
        let length = text.trim().chars().count();
        let text = sayable(text);
        if text.is_empty() || length > LONGEST {
            return Err(SynthesisError::Length(if text.is_empty() { 0 } else { length }));
        }
        let voice = checked(voice.unwrap_or(&self.voice))?;
        if let Some(pcm) = self.cached().find(voice, &text) {
            return Ok(pcm);
        }
        let rendered = timeout(self.patience, self.render(&text, voice)).await;
        let wav = rendered.map_err(|_| SynthesisError::Failed(format!("no speech within {:?}", self.patience)))??;
        let rendered = tokio::task::spawn_blocking(move || telephone(&wav)).await;
        let pcm = rendered.map_err(|e| SynthesisError::Failed(e.to_string()))??;
        self.cached().keep(voice, text, pcm.clone());
        Ok(pcm)
    }

    /// Runs the synthesiser; it is killed when this is dropped.
    async fn render(&self, text: &str, voice: &str) -> Result<Vec<u8>, SynthesisError> {
        let _turn = self.turns.acquire().await.map_err(|e| SynthesisError::Failed(e.to_string()))?;
        // Without -m there is no markup: `<break/>` is spoken, not obeyed. -b 1: the text is UTF-8.
        let mut child = Command::new(&self.program)
            .args(["--stdin", "--stdout", "-b", "1", "-v", voice])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(SynthesisError::Missing)?;
        let (Some(mut input), Some(output), Some(complaints)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(SynthesisError::Failed("it has no input or output".into()));
        };
        let (mut wav, mut said) = (Vec::new(), Vec::new());
        let (mut output, mut complaints) = (output.take(OUTPUT_LIMIT), complaints.take(1_000));
        let write = async move {
            // A synthesiser that does not read its text says why in its status.
            let _ = input.write_all(text.as_bytes()).await;
        };
        let (_, read, _) = tokio::join!(write, output.read_to_end(&mut wav), complaints.read_to_end(&mut said));
        read.map_err(|e| SynthesisError::Failed(e.to_string()))?;
        let status = child.wait().await.map_err(|e| SynthesisError::Failed(e.to_string()))?;
        if !status.success() {
            let said = String::from_utf8_lossy(&said);
            return Err(SynthesisError::Failed(format!("{status}: {}", said.trim())));
        }
        Ok(wav)
    }

    fn cached(&self) -> std::sync::MutexGuard<'_, Cache> {
        // Nothing panics while it is held, and a cache is whole after every line.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Phrases rendered before, the one used longest ago first.
#[derive(Default)]
struct Cache {
    phrases: VecDeque<Phrase>,
    samples: usize,
}

struct Phrase {
    voice: String,
    text: String,
    pcm: Sound,
}

impl Cache {
    fn find(&mut self, voice: &str, text: &str) -> Option<Sound> {
        let place = self.phrases.iter().position(|p| p.text == text && p.voice == voice)?;
        let phrase = self.phrases.remove(place)?;
        let pcm = phrase.pcm.clone();
        self.phrases.push_back(phrase);
        Some(pcm)
    }

    fn keep(&mut self, voice: &str, text: String, pcm: Sound) {
        if self.find(voice, &text).is_some() {
            return;
        }
        self.samples += pcm.samples();
        self.phrases.push_back(Phrase { voice: voice.into(), text, pcm });
        while self.samples > CACHE {
            let Some(oldest) = self.phrases.pop_front() else { break };
            self.samples -= oldest.pcm.samples();
        }
    }
}

/// A name that can stand on a command line and names no file.
fn checked(voice: &str) -> Result<&str, SynthesisError> {
    let proper = |c: char| c.is_ascii_alphanumeric() || "+-_".contains(c);
    let begins = voice.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && voice.len() <= 64 && voice.chars().all(proper) {
        Ok(voice)
    } else {
        Err(SynthesisError::Voice(voice.chars().take(64).collect()))
    }
}

/// The text without what espeak-ng would take as commands: control characters, and `[[`, which begins phonemes.
fn sayable(text: &str) -> String {
    let plain = |c: char| if c.is_control() || c == '[' || c == ']' { ' ' } else { c };
    text.chars().map(plain).collect::<String>().trim().to_string()
}

/// A WAV file as mono sound, trimmed, at telephone loudness.
fn telephone(wav: &[u8]) -> Result<Sound, SynthesisError> {
    let failed = |e: String| SynthesisError::Failed(format!("its sound could not be read: {e}"));
    let mut reader = hound::WavReader::new(Cursor::new(wav)).map_err(|e| failed(e.to_string()))?;
    let spec = reader.spec();
    if spec.channels != 1 || spec.bits_per_sample != 16 {
        return Err(failed(format!("{} channels of {} bits", spec.channels, spec.bits_per_sample)));
    }
    // The header was written before the length was known: the samples end where the file does.
    let mut pcm: Vec<i16> = reader.samples().map_while(Result::ok).collect();
    let narrow = convert(&pcm, spec.sample_rate, 8_000).map_err(|e| failed(e.to_string()))?;
    amplify(&mut pcm, gain(&narrow));
    let pcm = trimmed(&pcm, spec.sample_rate);
    if pcm.is_empty() {
        return Err(SynthesisError::Failed("there is nothing in this text to be spoken".into()));
    }
    Sound::new(pcm, spec.sample_rate).map_err(|e| failed(e.to_string()))
}

/// What brings the spoken parts to [`LOUDNESS`], and everything below [`PEAK`]: as a telephone at 8 kHz has it.
fn gain(narrow: &[i16]) -> f64 {
    let Some(loudness) = active_loudness(narrow) else { return 1.0 };
    let peak = narrow.iter().map(|s| f64::from(*s).abs()).fold(0.0, f64::max) / 32_768.0;
    (LOUDNESS / loudness).min(PEAK / peak)
}

fn amplify(pcm: &mut [i16], gain: f64) {
    for sample in pcm {
        *sample = (f64::from(*sample) * gain).round() as i16;
    }
}

/// RMS, of full scale, of the 20 ms frames that are no pauses: within 30 dB of the loudest.
fn active_loudness(pcm: &[i16]) -> Option<f64> {
    let power =
        |frame: &[i16]| frame.iter().map(|s| (f64::from(*s) / 32_768.0).powi(2)).sum::<f64>() / frame.len() as f64;
    let powers: Vec<f64> = pcm.chunks(160).map(power).collect();
    let loudest = powers.iter().copied().fold(0.0, f64::max);
    let spoken: Vec<f64> = powers.into_iter().filter(|p| *p > 0.0 && *p >= loudest / 1_000.0).collect();
    (!spoken.is_empty()).then(|| (spoken.iter().sum::<f64>() / spoken.len() as f64).sqrt())
}

/// Without the silence (below −46 dBFS) at both ends, but for 10 ms, so that no sound begins at its loudest.
fn trimmed(pcm: &[i16], rate: u32) -> &[i16] {
    let margin = rate as usize / 100;
    let audible = |s: &i16| s.unsigned_abs() > 164;
    let Some(first) = pcm.iter().position(audible) else { return &[] };
    let last = pcm.iter().rposition(audible).unwrap_or(first);
    &pcm[first.saturating_sub(margin)..pcm.len().min(last + margin + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::pcm::Rate;
    use std::path::Path;

    fn synthesiser() -> Synthesiser {
        Synthesiser::new("en-us").unwrap()
    }

    async fn milliseconds(text: &str) -> usize {
        synthesiser().speak(text, None).await.unwrap().len() / 8
    }

    #[tokio::test]
    async fn a_phrase_is_as_loud_as_a_telephone_voice_and_begins_at_once() {
        for voice in ["en-us", "en-gb+f3", "en-us+whisper"] {
            let pcm = synthesiser().speak("Mention the annual plan.", Some(voice)).await.unwrap();
            let narrow = pcm.at(Rate::Narrow);
            let peak = narrow.iter().map(|s| s.unsigned_abs()).max().unwrap();
            let loudness = 20.0 * active_loudness(narrow).unwrap().log10();
            assert!(peak < 29_200, "{voice}: peak {peak}");
            assert!((-21.5..-18.5).contains(&loudness) || peak > 28_000, "{voice}: {loudness:.1} dBFS");
            assert!((900..2_500).contains(&(pcm.len() / 8)), "{voice}: {} ms", pcm.len() / 8);
            for end in [&narrow[..240], &narrow[narrow.len() - 240..]] {
                assert!(end.iter().any(|s| s.unsigned_abs() > 164), "{voice}: silence at an end");
            }
        }
    }

    #[tokio::test]
    async fn text_is_spoken_and_never_obeyed() {
        assert!(milliseconds("--help").await < 1_500);
        assert!(milliseconds("-f /etc/passwd").await < 4_000);
        // Obeyed, the pause alone would be ten seconds.
        let broken = milliseconds("Wait <break time=\"10s\"/> here").await;
        assert!(broken < 6_000, "{broken} ms");
        assert_eq!(milliseconds("say [[h@l'oU]]\u{1}5S now\u{7}").await, milliseconds("say   h@l'oU   5S now").await);
    }

    #[tokio::test]
    async fn the_longest_text_is_spoken_and_a_longer_one_refused() {
        let text = "the price is fine ".repeat(56);
        assert!(milliseconds(text.get(..1_000).unwrap()).await > 30_000);
        assert!(matches!(synthesiser().speak(&"a".repeat(1_001), None).await, Err(SynthesisError::Length(1_001))));
        for nothing in ["", "  \n", "\u{1}[]"] {
            assert!(matches!(synthesiser().speak(nothing, None).await, Err(SynthesisError::Length(0))), "{nothing:?}");
        }
        assert!(matches!(synthesiser().speak("\u{2003}…", None).await, Err(SynthesisError::Failed(_))));
    }

    #[tokio::test]
    async fn voices_are_names_and_nothing_else() {
        for name in ["", "-w/tmp/x", "../../etc", "en us", "en-us\n", "+f3", &"x".repeat(65)] {
            assert!(matches!(synthesiser().speak("Hi.", Some(name)).await, Err(SynthesisError::Voice(_))), "{name:?}");
        }
        let unknown = synthesiser().speak("Hi.", Some("nobody-at-all")).await;
        assert!(matches!(&unknown, Err(SynthesisError::Failed(why)) if why.contains("voice")), "{unknown:?}");
    }

    #[tokio::test]
    async fn a_phrase_is_rendered_once_and_voices_are_told_apart() {
        let synthesiser = synthesiser();
        let first = synthesiser.speak("Hello.", None).await.unwrap();
        let again = synthesiser.speak("Hello.", Some("en-us")).await.unwrap();
        assert_eq!(first.at(Rate::Full).as_ptr(), again.at(Rate::Full).as_ptr());
        assert_ne!(first, synthesiser.speak("Hello.", Some("en-gb")).await.unwrap());
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let mut cache = Cache::default();
        for n in 0..6 {
            let quarter = [1, 2, 6].map(|ratio| vec![0; CACHE / 36 * ratio].into());
            cache.keep("v", n.to_string(), Sound::rendered(quarter).unwrap());
            assert!(n == 0 || cache.find("v", "0").is_some());
        }
        assert!(cache.samples <= CACHE && cache.phrases.len() == 4);
        assert!(cache.find("v", "1").is_none() && cache.find("w", "0").is_none());
    }

    #[tokio::test]
    async fn a_synthesiser_that_is_missing_or_mute_is_an_error() {
        let missing = Synthesiser { program: "/nowhere/espeak-ng".into(), ..synthesiser() };
        assert!(matches!(missing.speak("Hi.", None).await, Err(SynthesisError::Missing(_))));
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/mute-voice");
        let mute = Synthesiser { program, patience: Duration::from_millis(200), ..synthesiser() };
        assert!(matches!(mute.speak("Hi.", None).await, Err(SynthesisError::Failed(why)) if why.contains("200ms")));
    }

    #[test]
    fn hostile_sound_is_an_error() {
        let header = |channels: u16, rate: u32, bits: u16| {
            let mut wav = b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0\x01\0".to_vec();
            wav.extend(channels.to_le_bytes());
            wav.extend(rate.to_le_bytes());
            wav.extend((rate * u32::from(channels) * u32::from(bits / 8)).to_le_bytes());
            wav.extend((channels * (bits / 8)).to_le_bytes());
            wav.extend(bits.to_le_bytes());
            wav.extend(b"data\xff\xff\xff\x7f");
            wav
        };
        for wav in [
            vec![],
            b"RIFF".to_vec(),
            header(2, 22_050, 16),
            header(1, 1, 16),
            header(1, 22_050, 8),
            header(1, 22_050, 16),
        ] {
            assert!(matches!(telephone(&wav), Err(SynthesisError::Failed(_))));
        }
    }
}
