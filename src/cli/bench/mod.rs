//! `sotto bench media`: what media costs on this machine, as JSON.
//!
//! ```text
//!                         ┌─► floor: one receive and one send a packet
//! generator (own thread) ─┤
//!                         └─► one media thread, as `sotto serve` runs it
//! ```
//!
//! Each run measures the floor first and the server right after, over real sockets on loopback: on a machine that is
//! shared only the ratio of the two counts. CPU is that of the thread that moves the media.

mod figures;
mod floor;
mod generator;
mod host;
mod party;
mod scenario;
mod sound;
mod stamped;
mod usage;

use crate::call::sdp::{Keys, MasterKey};
use crate::cli::scratch::ScratchError;
use crate::config::Way;
use crate::io::journal::FlushError;
use crate::io::sqlite::StoreError;
use crate::io::{clock, udp};
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use figures::{Machine, Report, Run, Side, Ticks, rounded};
use floor::Floor;
use generator::{Found, Generator, Length};
use host::Host;
use party::{Cast, Party};
use scenario::Scenario;
use sound::Second;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use usage::Usage;

const EXAMPLES: &str = "\
Examples:
  sotto bench media                                      every kind of call, 50 of each
  sotto bench media --calls 50,100,200 --seconds 20 > figures.json
  sotto bench media --scenarios tapped --calls 500 --io plain
  sotto bench media --json | jq '.runs[] | [.scenario, .ratio_to_floor]'

Build with --release: the development build is slower. Quote ratio_to_floor: milliseconds are those of this machine now.";

/// Not measured, but for shorter measurements as long as they are: latches close, jitter buffers find their depth, the
/// journal writes what it has.
const WARM: Duration = Duration::from_secs(2);

/// What `sotto bench` can measure.
#[derive(clap::Subcommand)]
pub enum What {
    /// CPU, delays, late ticks and memory of calls by kind and number, beside the floor.
    #[command(after_help = EXAMPLES)]
    Media(MediaOptions),
}

/// How `sotto bench media` measures.
#[derive(clap::Args)]
pub struct MediaOptions {
    /// Numbers of calls, each a run of its own.
    #[arg(long, value_delimiter = ',', default_value = "50", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    calls: Vec<u32>,
    /// Seconds measured in each run, after as many of warming up, two at most.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Kinds of calls; all of them unless given.
    #[arg(long, value_delimiter = ',', value_enum)]
    scenarios: Vec<Scenario>,
    /// How datagrams pass the kernel, as `[media] io`.
    #[arg(long, default_value = "auto", value_parser = PossibleValuesParser::new(["auto", "ring", "plain"]).map(way))]
    io: Way,
    /// Print the JSON alone, without a line for each run on standard error.
    #[arg(long)]
    json: bool,
}

fn way(name: String) -> Way {
    match name.as_str() {
        "ring" => Way::Ring,
        "plain" => Way::Plain,
        _ => Way::Auto,
    }
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No folder for the journal.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The journal did not start.
    #[error(transparent)]
    Journal(#[from] StoreError),
    /// Or did not end.
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// A thread did not start, or the kernel has not what `--io` wants.
    #[error("a thread could not be started: {0}")]
    Thread(io::Error),
    /// Too many calls for the process.
    #[error("sockets: {0} (each call needs up to nine: see ulimit -n)")]
    Sockets(io::Error),
    /// /proc is not there, or not as expected.
    #[error("what threads use cannot be read from /proc: {0}")]
    Usage(io::Error),
    /// Sending or receiving failed.
    #[error("the generator: {0}")]
    Generator(io::Error),
    /// The media thread refused what it was told.
    #[error("the media thread: {0}")]
    Refused(#[from] crate::call::Refusal),
    /// The report is no JSON: us.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A thread panicked: us.
    #[error("{0} failed")]
    Failed(&'static str),
}

/// Measures and prints. Ctrl-C ends it.
pub async fn run(what: What) -> Result<bool, BenchError> {
    let What::Media(options) = what;
    tokio::select! {
        result = media(&options) => result.map(|()| true),
        _ = tokio::signal::ctrl_c() => Ok(false),
    }
}

async fn media(options: &MediaOptions) -> Result<(), BenchError> {
    let all = Scenario::value_variants();
    let scenarios: &[Scenario] = if options.scenarios.is_empty() { all } else { &options.scenarios };
    let io = udp::open(options.io).map_err(BenchError::Thread)?.name();
    let measured = Duration::from_secs(options.seconds);
    let length = Length { warm: WARM.min(measured), measured };
    let say = |line: &str| {
        if !options.json {
            eprintln!("{line}");
        }
    };
    say(Run::HEAD);
    let mut runs = Vec::new();
    for calls in &options.calls {
        for scenario in scenarios {
            let run = measure(*scenario, *calls as usize, options.io, length).await?;
            say(&run.line());
            runs.push(run);
        }
    }
    let report = Report { machine: Machine::here(), io, seconds: options.seconds, runs };
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

async fn measure(scenario: Scenario, calls: usize, way: Way, length: Length) -> Result<Run, BenchError> {
    let floor = measure_floor(calls, length).await?;
    let mut host = Host::start(way).await?;
    let mut parties = cast(scenario, calls)?;
    let before = usage::heap();
    for _ in 0..calls {
        host.open(scenario).await?;
    }
    for party in &mut parties {
        let remote = party.socket().address().map_err(BenchError::Sockets)?;
        let server = host.join(scenario, party.cast(), remote).await?;
        party.call(server);
    }
    let (thread, metrics) = (host.thread, host.metrics.clone());
    let late = move |ms| metrics.media.tick_lateness.beyond(Duration::from_millis(ms));
    let probe = move || Ok((thread.usage()?, usage::heap(), [late(0), late(5), late(20)]));
    let mut found = generate(parties, length, probe).await?;
    host.stop().await?;
    let [(used, heap, ticks), (used_then, _, ticks_then)] = found.probes;
    let [all, over_5_ms_late, over_20_ms_late] = std::array::from_fn(|n| ticks_then[n] - ticks[n]);
    let server = Side::new(&mut found, used_then - used, calls);
    let ratio = server.cpu_ms_per_call_per_second / floor.cpu_ms_per_call_per_second;
    Ok(Run {
        scenario,
        calls,
        legs_per_call: scenario.legs().len(),
        tapped: scenario.is_tapped(),
        ratio_to_floor: ratio.is_finite().then(|| rounded(ratio)),
        server,
        floor,
        ticks: Ticks { all, over_5_ms_late, over_20_ms_late },
        bytes_per_call: heap.zip(before).map(|(now, before)| now.saturating_sub(before) / calls as u64),
    })
}

async fn measure_floor(calls: usize, length: Length) -> Result<Side, BenchError> {
    let floor = Floor::start(calls).map_err(BenchError::Sockets)?;
    let mut parties = cast(Scenario::Plain, calls)?;
    for (party, address) in parties.iter_mut().zip(&floor.addresses) {
        party.call(*address);
    }
    let thread = floor.thread;
    let mut found: Found<Usage> = generate(parties, length, move || thread.usage()).await?;
    floor.stop().map_err(BenchError::Thread)?;
    let [before, after] = found.probes;
    Ok(Side::new(&mut found, after - before, calls))
}

/// The far ends of so many calls, leg by leg.
fn cast(scenario: Scenario, calls: usize) -> Result<Vec<Party>, BenchError> {
    let legs: Vec<_> =
        scenario.legs().into_iter().map(|(role, codec)| (role, codec, Arc::new(Second::new(codec)))).collect();
    let party = |number: usize| {
        let (call, (role, codec, says)) = (number / legs.len(), &legs[number % legs.len()]);
        // Every stream its own: numbers apart enough for sequence numbers to differ too.
        let ssrc = (number as u32 + 1).wrapping_mul(0x9E37_79B1);
        let key = |suite| MasterKey::new(suite, clock::secret());
        let keys = scenario.suite().map(|suite| Keys { ours: key(suite), theirs: key(suite) });
        Party::new(Cast { call, role: *role, codec: *codec, ssrc, says: says.clone(), keys })
    };
    (0..calls * legs.len()).map(party).collect::<io::Result<_>>().map_err(BenchError::Sockets)
}

/// Lets the generator run on a thread of its own.
async fn generate<T: Send + 'static>(
    parties: Vec<Party>,
    length: Length,
    probe: impl Fn() -> io::Result<T> + Send + 'static,
) -> Result<Found<T>, BenchError> {
    let run = move || Generator::new(parties)?.run(length, probe);
    let thread = std::thread::Builder::new().name("generator".into()).spawn(run).map_err(BenchError::Thread)?;
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    let ended = joined.map_err(|_| BenchError::Failed("the generator"))?;
    ended.map_err(|_| BenchError::Failed("the generator"))?.map_err(BenchError::Generator)
}
