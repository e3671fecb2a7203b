//! whisper.cpp, as one recogniser process uses it: greedy, one thread, no memory between utterances.

use super::wire::MAX_SAMPLES;
use crate::speech::Text;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use whisper_rs::{FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters, WhisperState};

/// Samples whisper is given at least (1 s at 16 kHz): with less it makes things up.
const SHORTEST: usize = 16_000;

/// Samples of one frame of the encoder (20 ms).
const FRAME: usize = 320;

/// The encoder's context comes in these steps: the flash-attention kernel pads to them with keys nobody masks.
const STEP: usize = 256;

/// The first word of a model in ggml format.
const GGML: u64 = 0x6767_6d6c;

/// Encoder frames of whisper's whole window of 30 s.
const WHOLE: usize = 1_500;

/// A loaded model and the states it decodes in.
pub struct Engine {
    // Dropped before the context they belong to. A state keeps stale keys when its context size changes, so there is
    // one for each size that occurs: at most six, in practice two (5 s and 10 s).
    states: BTreeMap<usize, WhisperState>,
    params: FullParams<'static, 'static>,
    context: WhisperContext,
}

impl Engine {
    /// Loads a model in ggml format and decodes a second of silence with it, so that damage shows now. The error says
    /// in words what is wrong with the file.
    pub fn load(model: &Path) -> Result<Engine, String> {
        whisper_rs::install_logging_hooks();
        check(model)?;
        let context = WhisperContext::new_with_params(model, WhisperContextParameters::default())
            .map_err(|_| "it is damaged, or of a kind that whisper.cpp does not know".to_string())?;
        let mut engine = Engine { states: BTreeMap::new(), params: params(), context };
        engine.recognise(&[0.0; SHORTEST])?;
        Ok(engine)
    }

    /// The words of some audio, 16 kHz.
    pub fn recognise(&mut self, pcm: &[f32]) -> Result<Text, String> {
        let mut pcm = pcm[..pcm.len().min(MAX_SAMPLES)].to_vec();
        pcm.resize(pcm.len().max(SHORTEST), 0.0);
        let frames = context_frames(pcm.len());
        let mut params = self.params.clone();
        params.set_audio_ctx(frames as i32);
        params.set_max_tokens(most_tokens(pcm.len()));
        if !self.states.contains_key(&frames) {
            let state = self.context.create_state().map_err(|e| e.to_string())?;
            self.states.insert(frames, state);
        }
        let state = self.states.get_mut(&frames).ok_or("no state to decode in")?;
        state.full(params, &pcm).map_err(|e| e.to_string())?;
        Ok(words(state, self.context.token_eot()))
    }
}

/// Whether a file is the beginning of a model, and long enough to hold its weights. whisper.cpp takes a file that
/// breaks off before its first weight for a model without any, and would hear nonsense with it.
fn check(model: &Path) -> Result<(), String> {
    // The magic, n_vocab, n_audio_ctx, _state, _head, _layer, n_text_ctx, n_text_state: little-endian words.
    let mut header = [0; 32];
    let mut file = File::open(model).map_err(|e| e.to_string())?;
    let length = file.metadata().map_err(|e| e.to_string())?.len();
    file.read_exact(&mut header).map_err(|_| format!("it is damaged: {length} bytes are no model"))?;
    let word = |n: usize| header.as_chunks::<4>().0.get(n).map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
    if word(0) != GGML {
        return Err("it is not in whisper.cpp's ggml format, or damaged".into());
    }
    // The token embedding alone, at two bits a weight: no quantisation in use is as coarse.
    let least = word(1).saturating_mul(word(7)) / 4;
    if length < least {
        return Err(format!("it is damaged: {length} bytes cannot hold its weights; fetch it again"));
    }
    Ok(())
}

/// Made once: `set_language` leaks its text each time it is called.
fn params() -> FullParams<'static, 'static> {
    let mut params = FullParams::new(SamplingStrategy::Greedy { best_of: 1 });
    params.set_language(Some("en"));
    params.set_n_threads(1);
    params.set_no_context(true);
    params.set_single_segment(true);
    params.set_no_timestamps(true);
    // The fallback decodes again and again at rising temperatures: up to fifteen times the cost, and chance.
    params.set_temperature_inc(0.0);
    params.set_suppress_blank(true);
    // Not suppress_nst: models that say `[BLANK_AUDIO]` for silence would have to spell out words instead.
    params.set_print_special(false);
    params.set_print_progress(false);
    params.set_print_realtime(false);
    params.set_print_timestamps(false);
    params
}

/// Encoder frames for this much audio: audio beyond them would be lost in silence.
fn context_frames(samples: usize) -> usize {
    samples.div_ceil(FRAME).next_multiple_of(STEP).min(WHOLE)
}

/// Nobody says more than six tokens a second for long; a decoder that runs on is repeating itself.
fn most_tokens(samples: usize) -> i32 {
    (samples * 6 / 16_000) as i32 + 8
}

fn words(state: &WhisperState, end_of_text: i32) -> Text {
    let (mut text, mut sum, mut tokens) = (String::new(), 0.0, 0u32);
    for segment in state.as_iter() {
        text.push_str(&segment.to_str_lossy().unwrap_or_default());
        for token in (0..segment.n_tokens()).filter_map(|i| segment.get_token(i)) {
            // Tokens from end-of-text on are marks, not words.
            if token.token_id() < end_of_text {
                sum += token.token_probability();
                tokens += 1;
            }
        }
    }
    let confidence = if tokens == 0 { 0.0 } else { (sum / tokens as f32).clamp(0.0, 1.0) };
    Text { text: text.trim().to_string(), confidence }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_always_holds_the_audio() {
        for (seconds, frames) in [(1.0, 256), (5.12, 256), (5.13, 512), (10.24, 512), (10.3, 768), (30.0, 1_500)] {
            assert_eq!(context_frames((seconds * 16_000.0) as usize), frames, "{seconds} s");
        }
    }
}
