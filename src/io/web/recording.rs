//! A call's recording as a file, or that of one of its legs, also while it is being written: what is there, under a header
//! that is right.

use super::AppState;
use super::problem::Problem;
use super::range;
use super::request::{Asked, Call};
use crate::config::Format;
use crate::id::{CallId, LegId};
use crate::io::recorder::{self, HEADER, Playback, Shape};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::io::{Cursor, ErrorKind, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::task::spawn_blocking;
use tokio_util::io::ReaderStream;

/// Packets decoded at once: about a second.
const CHUNK: usize = 50;

/// Whose, and as what.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    leg: Option<LegId>,
    format: Option<As>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum As {
    Wav,
    Opus,
}

/// In the format in which it was recorded, if no other is asked for.
pub(super) async fn download(
    State(api): State<Arc<AppState>>,
    Call(call): Call,
    Asked(wanted): Asked<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = wanted.leg.map_or_else(|| call.to_string(), |leg| format!("{call}.{leg}"));
    match (find(&api, call, wanted.leg).await?, wanted.format) {
        ((Format::Wav, _), Some(As::Opus)) => Err(Problem::not_as_opus(call)),
        ((Format::Wav, file), _) => wav_file(file, &name, &headers).await,
        ((Format::Opus, file), Some(As::Wav)) => decoded(file, &name).await,
        ((Format::Opus, file), _) => {
            let length = length(&file).await?;
            part(Vec::new(), (file, 0, length), ("audio/ogg", &format!("{name}.opus")), &headers).await
        }
    }
}

/// The same as WAV, however it was recorded.
pub(super) async fn wav(
    api: State<Arc<AppState>>,
    call: Call,
    Asked(wanted): Asked<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    download(api, call, Asked(Wanted { format: Some(As::Wav), ..wanted }), headers).await
}

/// The file, and what it is written as.
async fn find(api: &AppState, call: CallId, leg: Option<LegId>) -> Result<(Format, File), Problem> {
    for format in [Format::Wav, Format::Opus] {
        match File::open(recorder::path(&api.store, &api.tenant, call, leg, format)).await {
            Ok(file) => return Ok((format, file)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Problem::internal(&error)),
        }
    }
    Err(leg.map_or_else(|| Problem::no_recording(call), |leg| Problem::no_recording_of_leg(call, leg)))
}

/// What is there, under a header of our own: the one in the file may be some frames behind.
async fn wav_file(mut file: File, name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let mut header = [0; HEADER as usize];
    // A file that was made this moment, or that the disk did not take, has no header yet: nothing was recorded.
    let shape = match file.read_exact(&mut header).await {
        Ok(_) => Shape::read(&header).ok_or_else(|| Problem::internal(&"a recording is no WAV file of ours"))?,
        Err(_) => Shape { channels: 2, hz: 8_000 },
    };
    let samples = (length(&file).await?.saturating_sub(HEADER) / shape.block()).min(shape.longest().unsigned_abs());
    let header = shape.header(samples as i64).to_vec();
    part(header, (file, HEADER, samples * shape.block()), ("audio/wav", &format!("{name}.wav")), headers).await
}

/// A beginning and then so many bytes of a file from a place on, or of that the part that is asked for.
async fn part(
    beginning: Vec<u8>,
    (mut file, from, length): (File, u64, u64),
    (kind, name): (&str, &str),
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let begins = beginning.len() as u64;
    let whole = begins + length;
    let (status, Range { start, end }) = match range::asked(headers, whole) {
        range::Asked::Whole => (StatusCode::OK, 0..whole),
        range::Asked::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        range::Asked::Nothing => {
            let mut response = Problem::out_of_range(whole).into_response();
            response.headers_mut().insert(header::CONTENT_RANGE, value(&format!("bytes */{whole}"))?);
            return Ok(response);
        }
    };
    let of_beginning = beginning.get(start.min(begins) as usize..end.min(begins) as usize).unwrap_or_default();
    let (skip, until) = (start.max(begins) - begins, end.max(begins) - begins);
    file.seek(SeekFrom::Start(from + skip)).await.map_err(|e| Problem::internal(&e))?;
    let body = Cursor::new(of_beginning.to_vec()).chain(file.take(until - skip));
    let mut response = Response::new(Body::from_stream(ReaderStream::new(body)));
    *response.status_mut() = status;
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {start}-{}/{whole}", end - 1);
        response.headers_mut().insert(header::CONTENT_RANGE, value(&range)?);
    }
    describe(response, (kind, name), end - start, "bytes")
}

/// An Opus file as WAV at the rate of its call. Always the whole: who wants to jump takes the file as it is.
async fn decoded(file: File, name: &str) -> Result<Response, Problem> {
    let file = file.into_std().await;
    let playback = spawn_blocking(move || Playback::open(file)).await.map_err(|e| Problem::internal(&e))?;
    let playback = playback.map_err(|e| Problem::internal(&e))?;
    let (shape, samples) = (playback.shape(), playback.left().min(playback.shape().longest()));
    let header = std::io::Result::Ok(shape.header(samples).to_vec());
    let pcm = futures_util::stream::unfold(playback, |mut playback| async {
        let decode =
            move || (0..CHUNK).try_fold(Vec::new(), |bytes, _| decode(&mut playback, bytes)).map(|b| (b, playback));
        match spawn_blocking(decode).await.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            Ok((bytes, _)) if bytes.is_empty() => None,
            Ok((bytes, playback)) => Some((Ok(bytes), playback)),
            Err(_) => None,
        }
    });
    let body = futures_util::StreamExt::chain(futures_util::stream::iter([header]), pcm);
    let length = HEADER + samples.unsigned_abs() * shape.block();
    describe(Response::new(Body::from_stream(body)), ("audio/wav", &format!("{name}.wav")), length, "none")
}

/// The next packet's samples behind `bytes`.
fn decode(playback: &mut Playback, mut bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    bytes.extend(playback.play()?.unwrap_or_default().iter().flat_map(|sample| sample.to_le_bytes()));
    Ok(bytes)
}

fn describe(
    mut response: Response,
    (kind, name): (&str, &str),
    length: u64,
    ranges: &str,
) -> Result<Response, Problem> {
    let disposition = format!("inline; filename=\"{name}\"");
    for (field, text) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_LENGTH, &length.to_string()),
        (header::CONTENT_DISPOSITION, &disposition),
        (header::ACCEPT_RANGES, ranges),
    ] {
        response.headers_mut().insert(field, value(text)?);
    }
    Ok(response)
}

fn value(text: &str) -> Result<header::HeaderValue, Problem> {
    header::HeaderValue::from_str(text).map_err(|e| Problem::internal(&e))
}

async fn length(file: &File) -> Result<u64, Problem> {
    Ok(file.metadata().await.map_err(|e| Problem::internal(&e))?.len())
}
