//! Speech to text: recognisers in child processes, started, fed, watched and replaced.
//!
//! A [`Recogniser`] takes jobs and always answers each: with words, or with the reason there are none. Every process
//! has a supervisor, a task that starts it, hands it one job at a time, and replaces it when it dies or hangs. The
//! processes end when the last `Recogniser` is dropped, and with the server however it ends.

mod engine;
mod process;
mod queue;
mod wire;
pub mod worker;

use crate::io::clock;
use crate::speech::{Job, Recognised};
use process::{NotStarted, Process};
use queue::{OVERLOADED, Queue, Waiting};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// Jobs that may wait. Two legs give at most one every two seconds or so, so this is minutes of talk on a busy node.
/// When it is full the oldest makes room and becomes a gap in the transcript.
const QUEUE: usize = 64;

/// Recognisers a job is given to before it is given up.
const ATTEMPTS: u32 = 2;

/// How often a recogniser that keeps dying is restarted: the first time at once, then after this, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A recogniser that lived this long, or did a job, did not fail at the start.
const SETTLED: Duration = Duration::from_secs(60);

/// What `serve` says when it runs without ears.
pub const NO_EARS: &str = "no speech model: calls are carried, mixed and recorded, but nothing is written down and \
nobody is coached. To give Sotto ears, set `model` in the section [speech] to the path of a whisper.cpp model file in \
ggml format, for example ggml-base.en.bin from https://huggingface.co/ggerganov/whisper.cpp. (The model in \
fixtures/speech knows only the synthetic voices of the demo and the tests.)";

/// How recognisers are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many processes, at least one. Each decodes on one thread.
    pub workers: usize,
    /// A whisper.cpp model in ggml format.
    pub model: PathBuf,
    /// The program that has the verb `speech-worker`: none for this one.
    pub program: Option<PathBuf>,
    /// How long a process may take to load the model.
    pub loading: Duration,
    /// How long a job may take beside three times its audio's length.
    pub patience: Duration,
    /// How long a job may wait and be worked on altogether: then its words are given up.
    pub longest: Duration,
}

impl Options {
    /// What suits a model of whisper's `tiny` to `small` on a busy machine.
    pub fn new(workers: usize, model: &Path) -> Self {
        Options {
            workers: workers.max(1),
            model: model.into(),
            program: None,
            loading: Duration::from_secs(60),
            patience: Duration::from_secs(4),
            longest: Duration::from_secs(30),
        }
    }
}

/// Why there are no ears.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The model cannot be read.
    #[error("the speech model {path} cannot be read: {source}")]
    Unreadable {
        /// The model.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a model, or a damaged one.
    #[error("the speech model {path} cannot be used: {reason}")]
    Unusable {
        /// The model.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The environment does not let us run a process.
    #[error(transparent)]
    Environment(std::io::Error),
}

/// What the recognisers have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Utterances handed in.
    pub jobs: u64,
    /// Utterances for which there are no words, for whatever reason.
    pub failures: u64,
    /// Of those, the ones that had to make room for newer ones.
    pub overloaded: u64,
    /// Recogniser processes that were replaced because they died or hung.
    pub restarts: u64,
    /// Milliseconds from handing in to answer, summed over all utterances.
    pub waited_ms: u64,
    /// Utterances that wait now.
    pub waiting: u64,
    /// Recogniser processes that are ready or at work now.
    pub running: u64,
}

/// The way to the recognisers.
#[derive(Clone)]
pub struct Recogniser {
    shared: Arc<Shared>,
    // Ends the supervisors, and with them the processes, when the last clone goes.
    _supervisors: Arc<Supervisors>,
}

struct Shared {
    options: Options,
    program: PathBuf,
    queue: Queue,
    // One a worker; 0 while it has no process.
    pids: Vec<AtomicU32>,
    jobs: AtomicU64,
    failures: AtomicU64,
    overloaded: AtomicU64,
    restarts: AtomicU64,
    waited_ms: AtomicU64,
}

struct Supervisors(Vec<AbortHandle>);

impl Drop for Supervisors {
    fn drop(&mut self) {
        for supervisor in &self.0 {
            supervisor.abort();
        }
    }
}

impl Recogniser {
    /// Starts `workers` recognisers with this model, inside a tokio runtime. Returns when the first has loaded it,
    /// or with the reason it cannot.
    pub async fn start(workers: usize, model: &Path) -> Result<Recogniser, StartError> {
        Self::start_with(Options::new(workers, model)).await
    }

    /// The same, with every choice open.
    pub async fn start_with(options: Options) -> Result<Recogniser, StartError> {
        let path = || options.model.clone();
        readable(&options.model).map_err(|source| StartError::Unreadable { path: path(), source })?;
        let program = match &options.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(StartError::Environment)?,
        };
        let first = Process::start(&program, &options.model, options.loading).await.map_err(|e| match e {
            NotStarted::Spawn(e) => StartError::Environment(e),
            NotStarted::Model(_) | NotStarted::Died(_) => StartError::Unusable { path: path(), reason: e.to_string() },
        })?;
        Ok(Self::supervised(options, program, first))
    }

    fn supervised(options: Options, program: PathBuf, first: Process) -> Recogniser {
        let shared = Arc::new(Shared {
            queue: Queue::new(QUEUE),
            pids: (0..options.workers).map(|_| AtomicU32::new(0)).collect(),
            options,
            program,
            jobs: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            waited_ms: AtomicU64::new(0),
        });
        if let (Some(slot), Some(pid)) = (shared.pids.first(), first.pid()) {
            slot.store(pid, Ordering::Relaxed);
        }
        let mut first = Some(first);
        let supervisors = (0..shared.pids.len())
            .map(|slot| tokio::spawn(supervise(shared.clone(), slot, first.take())).abort_handle())
            .collect();
        Recogniser { shared, _supervisors: Arc::new(Supervisors(supervisors)) }
    }

    /// Queues a job; its answer, words or the reason there are none, always comes. A process that dies is replaced
    /// and the job it had in work is tried once more.
    pub async fn recognise(&self, job: Job) -> Recognised {
        let (shared, utterance, began) = (&self.shared, job.utterance, clock::now());
        shared.jobs.fetch_add(1, Ordering::Relaxed);
        let (answer, words) = oneshot::channel();
        if let Some(oldest) = shared.queue.push(Waiting { job, answer, attempts: 0 }) {
            shared.overloaded.fetch_add(1, Ordering::Relaxed);
            oldest.answer(Err(OVERLOADED.into()));
        }
        let recognised = match timeout(shared.options.longest, words).await {
            Ok(Ok(recognised)) => recognised,
            Ok(Err(_)) => failed(utterance, "the recognisers were stopped".into()),
            Err(_) => {
                failed(utterance, format!("no recogniser had time within {} s", shared.options.longest.as_secs()))
            }
        };
        shared.waited_ms.fetch_add(began.elapsed().as_millis() as u64, Ordering::Relaxed);
        if recognised.result.is_err() {
            shared.failures.fetch_add(1, Ordering::Relaxed);
        }
        recognised
    }

    /// The processes that are ready or at work.
    pub fn pids(&self) -> Vec<u32> {
        self.shared.pids.iter().map(|pid| pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0).collect()
    }

    /// What they have done so far.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        Counts {
            jobs: shared.jobs.load(Ordering::Relaxed),
            failures: shared.failures.load(Ordering::Relaxed),
            overloaded: shared.overloaded.load(Ordering::Relaxed),
            restarts: shared.restarts.load(Ordering::Relaxed),
            waited_ms: shared.waited_ms.load(Ordering::Relaxed),
            waiting: shared.queue.len() as u64,
            running: self.pids().len() as u64,
        }
    }
}

fn readable(model: &Path) -> std::io::Result<()> {
    if std::fs::File::open(model)?.metadata()?.is_file() {
        return Ok(());
    }
    Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no file"))
}

fn failed(utterance: crate::id::UtteranceId, reason: String) -> Recognised {
    Recognised { utterance, result: Err(reason) }
}

/// Keeps one recogniser running for ever.
async fn supervise(shared: Arc<Shared>, slot: usize, mut ready: Option<Process>) {
    let mut failures = 0;
    loop {
        let process = match ready.take() {
            Some(process) => Ok(process),
            None => Process::start(&shared.program, &shared.options.model, shared.options.loading).await,
        };
        match process {
            Ok(process) => {
                let began = clock::now();
                let done = work(&shared, slot, process).await;
                if done > 0 || began.elapsed() > SETTLED {
                    failures = 0;
                }
            }
            Err(error) => tracing::error!(%error, "a recogniser could not be started"),
        }
        shared.restarts.fetch_add(1, Ordering::Relaxed);
        sleep(pause(failures)).await;
        failures += 1;
    }
}

/// Hands a process one job after the other until it is of no more use. Answers how many it did.
async fn work(shared: &Shared, slot: usize, mut process: Process) -> u64 {
    let publish = |pid| {
        if let Some(place) = shared.pids.get(slot) {
            place.store(pid, Ordering::Relaxed);
        }
    };
    publish(process.pid().unwrap_or(0));
    let mut done = 0;
    let lost = loop {
        let mut waiting = tokio::select! {
            waiting = shared.queue.next() => waiting,
            () = process.ended() => break "it ended while idle".to_string(),
        };
        let audio = Duration::from_secs_f32(waiting.job.pcm.len() as f32 / 16_000.0);
        let patience = shared.options.patience + 3 * audio;
        match process.recognise(&waiting.job.pcm, patience).await {
            Ok(result) => {
                waiting.answer(result);
                done += 1;
            }
            Err(lost) => {
                waiting.attempts += 1;
                again_or_never(shared, waiting);
                break lost.to_string();
            }
        }
    };
    publish(0);
    tracing::warn!(%lost, "a recogniser is replaced");
    process.kill().await;
    done
}

/// The audio of a job whose recogniser was lost is still here: it is tried once more.
fn again_or_never(shared: &Shared, waiting: Waiting) {
    if waiting.attempts < ATTEMPTS {
        return shared.queue.put_back(waiting);
    }
    waiting.answer(Err(format!("{ATTEMPTS} recognisers were lost over this utterance")));
}

/// How long to wait before the next start, after so many failures in a row.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => FIRST_PAUSE.saturating_mul(2u32.saturating_pow(n - 1)).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_the_pauses_are_bounded() {
        let pauses: Vec<u128> = (0..9).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
