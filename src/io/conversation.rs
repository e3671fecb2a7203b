//! Runs the conversations of all calls on worker threads of lower priority, and carries what they want done to the
//! recogniser, the synthesiser, the call's shard and the journal.
//!
//! ```text
//! media thread ─► frames, events ─┐                           ┌─► Job ─► recogniser ──┐
//!                                 ├─► queue ─► worker ────────┼─► Prepare ─► voice ────┤
//!                                 │                           ├─► Speak, Cut ─► shard ─┤
//!           answers (they wait) ──┘    owns its conversations └─► events ─► journal    │
//!                  ▲───────────────────────────────────────────────────────────────────┘
//! ```

mod engines;
mod worker;

pub use engines::{Engines, Surroundings};

use crate::coach::playbook::SLOT;
use crate::config::{self, Playbooks};
use crate::event::{Event, Role, Words};
use crate::id::{CallId, ClipId, LegId, PromptId};
use crate::io::metrics::Metrics;
use crate::media::pcm::Rate;
use crate::speech::Recognised;
use crate::time::MediaTime;
use crossbeam_channel::Sender;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;
use worker::Worker;

/// Inputs that wait for one worker: over a second of frames of eighty legs, 3 MB. When only [`RESERVE`] places are left
/// frames are dropped (counted, heard as silence). When it is full events are dropped too (counted as a warning in the
/// log), and answers wait. Allocated once, at the start: a media thread only writes into it.
const QUEUE: usize = 8_192;
/// Places of the queue that frames leave to events and answers.
const RESERVE: usize = 2_048;

/// Lines rendered ahead at most.
const PREPARED: usize = 32;

/// What conversations are made of.
pub struct Setting {
    /// All there are, by name.
    pub playbooks: Playbooks,
    /// The default playbook, the ceiling and the sensitivity.
    pub coach: config::Coach,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Threads; none takes half of the machine's cores.
    pub workers: Option<usize>,
}

/// The way to the conversations. Nothing here blocks but `shutdown`: safe on a media thread.
#[derive(Clone)]
pub struct Conversations {
    shared: Arc<Shared>,
}

struct Shared {
    queues: Vec<Sender<Message>>,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// How many conversations there are, and a bell for when one ends.
#[derive(Default)]
struct Live {
    count: AtomicUsize,
    ended: Notify,
}

impl Live {
    fn gone(&self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
        self.ended.notify_waiters();
    }
}

/// Samples of a frame at the highest rate ears want.
const WIDEST: usize = Rate::Wide.frame();

/// What a worker is told.
#[allow(clippy::large_enum_variant, reason = "frames are nearly all there is, and no media thread allocates for one")]
enum Message {
    Open { call: CallId, playbook: Arc<str> },
    Playbook { call: CallId, playbook: Arc<str> },
    Heard { call: CallId, leg: LegId, role: Role, at: MediaTime, rate: Rate, pcm: [i16; WIDEST] },
    Event { call: CallId, event: Box<Event> },
    Close { call: CallId },
    Recognised { call: CallId, recognised: Recognised },
    Prepared { call: CallId, prompt: PromptId, result: Result<(), String> },
    Speaking { call: CallId, prompt: PromptId, result: Result<ClipId, String> },
    Stop,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody can tell the workers anything any more. Fails only where they are gone, or too busy to end quietly.
        self.queues.iter().for_each(|queue| drop(queue.try_send(Message::Stop)));
    }
}

impl Conversations {
    /// Starts the workers. Answers of engines are awaited on `runtime`.
    pub fn start(
        setting: Setting,
        surroundings: Arc<dyn Surroundings>,
        runtime: &tokio::runtime::Handle,
    ) -> io::Result<Conversations> {
        // Half the cores: recognisers and media want theirs.
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get() / 2);
        let workers = setting.workers.unwrap_or_else(cores).max(1);
        let (setting, live) = (Arc::new(setting), Arc::new(Live::default()));
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for number in 0..workers {
            let (queue, inbox) = crossbeam_channel::bounded(QUEUE);
            let worker =
                Worker::new(inbox, queue.clone(), setting.clone(), surroundings.clone(), live.clone(), runtime.clone());
            let thread = std::thread::Builder::new().name(format!("listen-{number}"));
            threads.push(thread.spawn(move || worker.run())?);
            queues.push(queue);
        }
        let (metrics, lines) = (setting.metrics.clone(), lines(&setting));
        runtime.spawn(async move {
            for line in lines {
                // What fails now fails again when it is needed, and says so then.
                let _ = surroundings.prepare(line).await;
            }
        });
        Ok(Conversations { shared: Arc::new(Shared { queues, live, metrics, threads: Mutex::new(threads) }) })
    }

    /// A call begins and is to be listened to, with this playbook.
    pub fn open(&self, call: CallId, playbook: Arc<str>) {
        // Counted from here, so that a shutdown waits for what the worker has yet to take in.
        self.shared.live.count.fetch_add(1, Ordering::AcqRel);
        if !self.tell(call, Message::Open { call, playbook }) {
            self.shared.live.gone();
        }
    }

    /// Another playbook for a running call.
    pub fn playbook(&self, call: CallId, playbook: Arc<str>) {
        self.tell(call, Message::Playbook { call, playbook });
    }

    /// What the ears heard: 20 ms at 8 or 16 kHz. A full queue drops the frame, which is counted and heard as silence.
    pub fn heard(&self, call: CallId, leg: LegId, role: Role, at: MediaTime, rate: Rate, pcm: &[i16]) {
        let queue = self.queue(call);
        let mut held = [0; WIDEST];
        held.iter_mut().zip(pcm).for_each(|(to, from)| *to = *from);
        let kept = queue.len() < QUEUE - RESERVE
            && queue.try_send(Message::Heard { call, leg, role, at, rate, pcm: held }).is_ok();
        if !kept {
            self.shared.metrics.ears.heard_frames_dropped.inc();
        }
    }

    /// Something happened in the call. `call.ended` ends the conversation once its last utterance has its words.
    pub fn event(&self, call: CallId, event: Event) {
        self.tell(call, Message::Event { call, event: Box::new(event) });
    }

    /// The coach is taken away: what was said so far still gets its words, and leads to nothing.
    pub fn close(&self, call: CallId) {
        self.tell(call, Message::Close { call });
    }

    /// How many conversations there are.
    pub fn live(&self) -> usize {
        self.shared.live.count.load(Ordering::Acquire)
    }

    /// Waits until every conversation has ended and has its last words, `patience` at most, and ends the workers.
    /// Answers how many were given up. The calls themselves must have ended before.
    pub async fn shutdown(&self, patience: Duration) -> usize {
        let quiet = async {
            loop {
                let ended = self.shared.live.ended.notified();
                if self.live() == 0 {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(patience, quiet).await;
        let given_up = self.live();
        let threads = std::mem::take(&mut *self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let queues = self.shared.queues.clone();
        let joined = tokio::task::spawn_blocking(move || {
            // Waits for a place; fails only if the worker is gone already.
            queues.iter().for_each(|queue| drop(queue.send(Message::Stop)));
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        let _ = joined.await;
        given_up
    }

    /// False if the queue is full.
    fn tell(&self, call: CallId, message: Message) -> bool {
        let kept = self.queue(call).try_send(message).is_ok();
        if !kept {
            tracing::warn!(%call, "the queue of a listening thread is full: an event did not reach the coach");
        }
        kept
    }

    /// A call stays with one worker.
    fn queue(&self, call: CallId) -> &Sender<Message> {
        let mut hasher = DefaultHasher::new();
        call.hash(&mut hasher);
        let queues = &self.shared.queues;
        // `start` makes one queue at least, and the remainder is smaller than their number.
        &queues[(hasher.finish() % queues.len() as u64) as usize]
    }
}

/// Every line of the default playbook, with every name in its slot: rendered ahead they are spoken sooner.
fn lines(setting: &Setting) -> Vec<Words> {
    let Some(playbook) = setting.playbooks.get(&setting.coach.playbook) else { return Vec::new() };
    let mut lines = Vec::new();
    for line in playbook.rules.iter().flat_map(|rule| &rule.prompts) {
        if line.contains(SLOT) {
            lines.extend(playbook.competitors.iter().map(|name| Words::from(line.replace(SLOT, name))));
        } else {
            lines.push(Words(line.clone()));
        }
    }
    lines.truncate(PREPARED);
    lines
}
