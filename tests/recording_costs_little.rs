//! What a recording takes: bytes a second, which are held here, and CPU, which is printed.
//!
//! Figures: `cargo test --test recording_costs_little -- --nocapture`.

#[path = "support/samples.rs"]
mod samples;

use rand::{RngExt, SeedableRng};
use sotto::call::FRAME;
use sotto::config::{Format, Recording};
use sotto::id::{CallId, Tenant};
use sotto::io::clock;
use sotto::io::journal::Journal;
use sotto::io::metrics::Metrics;
use sotto::io::recorder::{self, Recorder};
use sotto::media::pcm::Rate;
use sotto::time::MediaTime;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const CALLS: u64 = 8;

#[tokio::test]
async fn a_conversation() {
    let sides = ["customer", "agent"].map(|side| noisy(samples::audio(&format!("call2_price_close_{side}.wav"))));
    let frames = sides[0].len().min(sides[1].len()) / FRAME;
    for (format, bitrate, most) in
        [(Format::Wav, 16_000, 32_100), (Format::Opus, 16_000, 6_000), (Format::Opus, 24_000, 8_000)]
    {
        let dir = std::env::temp_dir().join(format!("sotto-costs-{:016x}", clock::random()));
        let metrics = Arc::new(Metrics::default());
        let (journal, _task) = Journal::start(&dir, Tenant::default(), metrics.clone()).await.unwrap();
        let setting = Recording { format, bitrate, ..Recording::default() };
        let (recorder, thread) =
            Recorder::start_with(setting, &dir, Tenant::default(), journal, metrics.clone()).unwrap();
        let calls: Vec<CallId> = (0..CALLS).map(|n| CallId::new(1_790_000_000_000 + n, 1, 1, n)).collect();
        for frame in 0..frames {
            let [customer, agent] = [&sides[0], &sides[1]].map(|pcm| &pcm[frame * FRAME..][..FRAME]);
            let at = MediaTime::from_millis(frame as i64 * 20);
            for call in &calls {
                // Faster than real time: whoever is turned away comes again.
                while !recorder.frame(*call, at, Rate::Narrow, customer, agent) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            // Not all at once: as calls come, a frame at a time.
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        let seconds = frames as f64 / 50.0;
        let used = cpu_of("recorder");
        calls.iter().for_each(|call| recorder.finish(*call, MediaTime::ZERO));
        recorder.close();
        thread.join().unwrap();
        let bytes = std::fs::metadata(recorder::path(&dir, &Tenant::default(), calls[0], None, format)).unwrap().len();
        let a_second = bytes as f64 / seconds;
        let cpu = used.as_secs_f64() * 1e3 / seconds / CALLS as f64;
        println!("{format:?} at {bitrate}: {a_second:.0} bytes and {cpu:.2} ms of CPU a call a second, {CALLS} calls");
        assert!(a_second < f64::from(most), "{a_second} bytes a second");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// A telephone line is never silent: faint noise, about -69 dBFS.
fn noisy(mut pcm: Vec<i16>) -> Vec<i16> {
    let mut dice = rand::rngs::SmallRng::seed_from_u64(7);
    pcm.iter_mut().for_each(|sample| *sample = sample.saturating_add(dice.random_range(-20..=20)));
    pcm
}

/// What a thread of ours has run so far.
fn cpu_of(name: &str) -> Duration {
    let mut threads = std::fs::read_dir("/proc/self/task").unwrap().flatten().map(|t| t.path());
    let is = |path: &Path| std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let thread = threads.find(|path| is(path)).expect("there is such a thread");
    let line = std::fs::read_to_string(thread.join("schedstat")).unwrap();
    Duration::from_nanos(line.split(' ').next().unwrap().parse().unwrap())
}
