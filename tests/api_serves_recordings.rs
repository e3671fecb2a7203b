//! A recording as players take it from the API: whole or in parts, of the call or of a leg, as WAV whatever it was written
//! as, while it is being written and afterwards.

mod api_bench;
#[path = "support/playing.rs"]
mod playing;

use api_bench::{Bench, new_call, problem};
use playing::Played;
use reqwest::Method;
use sotto::call::FRAME;
use sotto::config::{Format, Recording};
use sotto::id::{CallId, LegId};
use sotto::media::pcm::Rate;
use sotto::time::MediaTime;

const LEG: LegId = LegId(1);

/// What both sides say at `ms`: tones that an encoder keeps.
fn said(ms: i64, pitch: f64) -> [i16; FRAME] {
    let at = |n: usize| (ms * 8 + n as i64) as f64 / 8_000.0;
    std::array::from_fn(|n| ((at(n) * pitch * std::f64::consts::TAU).sin() * 8_000.0) as i16)
}

fn frame(bench: &Bench, call: CallId, n: i64) {
    let (at, leg) = (MediaTime::from_millis(n * 20), said(n * 20, 400.0));
    bench.recorder.frame(call, at, Rate::Narrow, &leg, &said(n * 20, 600.0));
    bench.recorder.leg(call, LEG, at, Rate::Narrow, &leg);
}

/// A bench that has recorded `frames` of a call, which has ended.
async fn recorded(format: Format, frames: i64) -> (Bench, CallId) {
    let bench = Bench::recording_as(Recording { format, legs: true, ..Recording::default() }).await;
    let call = new_call();
    (0..frames).for_each(|n| frame(&bench, call, n));
    bench.recorder.finish(call, MediaTime::from_millis(frames * 20));
    while bench.metrics.recordings.completed.get() < 2 {
        tokio::task::yield_now().await;
    }
    (bench, call)
}

#[tokio::test]
async fn while_it_is_written_and_after() {
    for rate in [Rate::Narrow, Rate::Full] {
        let bench = Bench::new().await;
        let call = new_call();
        let path = format!("/v1/calls/{call}/recording.wav");
        for n in 0..100 {
            let (customer, agent) = (vec![n as i16; rate.frame()], vec![-5; rate.frame()]);
            bench.recorder.frame(call, MediaTime::from_millis(n * 20), rate, &customer, &agent);
        }
        let mut length = 0;
        // The recorder's thread writes on in its own time: every download must be a whole file, the last one complete.
        while length < 100 * rate.frame() {
            let Some(played) = download(&bench, &path).await else { continue };
            // A file that was made this moment says nothing of its rate yet.
            assert!(played.length() >= length && (played.length() == 0 || played.hz == rate.hz()));
            for (index, sample) in played.channels[0].iter().enumerate() {
                assert_eq!((*sample, played.channels[1][index]), ((index / rate.frame()) as i16, -5));
            }
            length = played.length();
        }
        bench.recorder.finish(call, MediaTime::from_millis(2_000));
        assert_eq!(download(&bench, &path).await.unwrap().length(), 100 * rate.frame());
    }
}

async fn download(bench: &Bench, path: &str) -> Option<Played> {
    let response = bench.get(path).await;
    if response.status() == 404 {
        return None;
    }
    assert_eq!(response.headers()["content-type"], "audio/wav");
    let told: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let bytes = response.bytes().await.unwrap();
    assert_eq!(bytes.len(), told);
    let played = playing::wav(&bytes);
    assert_eq!(played.length() * played.channels.len() * 2 + 44, told, "the header tells of all that is there");
    Some(played)
}

#[tokio::test]
async fn in_parts() {
    for (format, kind) in [(Format::Wav, "audio/wav"), (Format::Opus, "audio/ogg")] {
        let (bench, call) = recorded(format, 100).await;
        let path = format!("/v1/calls/{call}/recording");
        let whole = bench.get(&path).await;
        assert_eq!(
            (&whole.headers()["content-type"], &whole.headers()["accept-ranges"]),
            (&kind.parse().unwrap(), &"bytes".parse().unwrap())
        );
        let whole = whole.bytes().await.unwrap();
        let length = whole.len();
        for (range, from, to) in
            [("0-0", 0, 1), ("10-99", 10, 100), ("43-44", 43, 45), ("100-", 100, length), ("-7", length - 7, length)]
        {
            let part =
                bench.request(Method::GET, &path).header("range", format!("bytes={range}")).send().await.unwrap();
            assert_eq!(part.status(), 206, "{range}");
            let told = part.headers()["content-range"].to_str().unwrap().to_owned();
            assert_eq!(told, format!("bytes {from}-{}/{length}", to - 1));
            assert_eq!(part.headers()["content-length"].to_str().unwrap(), (to - from).to_string());
            assert_eq!(part.bytes().await.unwrap(), whole[from..to]);
        }
        let beyond =
            bench.request(Method::GET, &path).header("range", format!("bytes={length}-")).send().await.unwrap();
        assert_eq!(beyond.headers()["content-range"].to_str().unwrap(), format!("bytes */{length}"));
        problem(beyond, 416, "out_of_range").await;
        let head = bench.request(Method::HEAD, &path).send().await.unwrap();
        assert_eq!(head.headers()["content-length"].to_str().unwrap(), length.to_string());
    }
}

#[tokio::test]
async fn as_wav_whatever_it_was_written_as() {
    let (bench, call) = recorded(Format::Opus, 300).await;
    let path = format!("/v1/calls/{call}/recording");
    let native = playing::opus(&bench.get(&path).await.bytes().await.unwrap());
    assert!(native.ended);
    for asked in [format!("{path}.wav"), format!("{path}?format=wav")] {
        let decoded = download(&bench, &asked).await.unwrap();
        assert_eq!((decoded.ms(), decoded.channels.len()), (6_000, 2));
        assert_eq!(decoded.channels, native.channels);
    }
    let (bench, call) = recorded(Format::Wav, 10).await;
    problem(bench.get(&format!("/v1/calls/{call}/recording?format=opus")).await, 406, "no_such_format").await;
    problem(bench.get(&format!("/v1/calls/{call}/recording?format=mp3")).await, 400, "bad_query").await;
}

#[tokio::test]
async fn of_a_leg_that_has_one() {
    for format in [Format::Wav, Format::Opus] {
        let (bench, call) = recorded(format, 100).await;
        let alone = download(&bench, &format!("/v1/calls/{call}/recording.wav?leg={LEG}")).await.unwrap();
        let whole = download(&bench, &format!("/v1/calls/{call}/recording.wav")).await.unwrap();
        assert_eq!((alone.channels.len(), alone.ms()), (1, 2_000));
        if format == Format::Wav {
            assert_eq!(alone.channels[0], whole.channels[0]);
        }
        let other = bench.get(&format!("/v1/calls/{call}/recording?leg=leg-9")).await;
        assert!(problem(other, 404, "no_recording").await.contains("leg-9"));
        problem(bench.get(&format!("/v1/calls/{call}/recording?leg=../x")).await, 400, "bad_query").await;
    }
}
