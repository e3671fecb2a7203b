//! A call's recording as a file, also while it is being written: what is there, under a header that is right.

use super::AppState;
use super::problem::Problem;
use super::request::Call;
use crate::io::recorder;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::io::{ErrorKind, SeekFrom};
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

/// Bytes before the samples: the RIFF, fmt and data headers of PCM as the recorder writes them.
const HEADER: u64 = 44;

/// Bytes of a sample of both channels.
const BLOCK: u64 = 4;

pub(super) async fn download(State(api): State<Arc<AppState>>, Call(call): Call) -> Result<Response, Problem> {
    let mut file = match File::open(recorder::path(&api.store, &api.tenant, call)).await {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(Problem::no_recording(call)),
        Err(error) => return Err(Problem::internal(&error)),
    };
    let length = file.metadata().await.map_err(|e| Problem::internal(&e))?.len();
    // The header in the file may be some frames behind the samples.
    let samples = length.saturating_sub(HEADER) / BLOCK * BLOCK;
    let Some(wav) = wav_header(samples) else { return Err(Problem::internal(&"the recording is over 4 GB")) };
    file.seek(SeekFrom::Start(HEADER)).await.map_err(|e| Problem::internal(&e))?;
    let body = std::io::Cursor::new(wav).chain(file.take(samples));
    let headers = [
        (header::CONTENT_TYPE, "audio/wav".to_owned()),
        (header::CONTENT_LENGTH, (HEADER + samples).to_string()),
        (header::CONTENT_DISPOSITION, format!("inline; filename=\"{call}.wav\"")),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(body))).into_response())
}

/// The header of `bytes` of samples: 8 kHz, 16 bit, two channels. None where WAV cannot say so much.
fn wav_header(bytes: u64) -> Option<Vec<u8>> {
    let riff = u32::try_from(bytes + HEADER - 8).ok()?;
    let data = u32::try_from(bytes).ok()?;
    let mut header = Vec::with_capacity(HEADER as usize);
    header.extend_from_slice(b"RIFF");
    header.extend_from_slice(&riff.to_le_bytes());
    header.extend_from_slice(b"WAVEfmt ");
    header.extend_from_slice(&16u32.to_le_bytes());
    // PCM, two channels, samples a second, bytes a second, bytes a block, bits a sample.
    header.extend_from_slice(&1u16.to_le_bytes());
    header.extend_from_slice(&2u16.to_le_bytes());
    header.extend_from_slice(&8_000u32.to_le_bytes());
    header.extend_from_slice(&32_000u32.to_le_bytes());
    header.extend_from_slice(&4u16.to_le_bytes());
    header.extend_from_slice(&16u16.to_le_bytes());
    header.extend_from_slice(b"data");
    header.extend_from_slice(&data.to_le_bytes());
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_one_that_the_recorder_writes() {
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 8_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut file = std::io::Cursor::new(Vec::new());
        let mut wav = hound::WavWriter::new(&mut file, spec).unwrap();
        (0..640).for_each(|n| wav.write_sample(n as i16).unwrap());
        wav.finalize().unwrap();
        assert_eq!(wav_header(1_280).unwrap(), file.get_ref()[..HEADER as usize]);
    }
}
