//! One listening thread: owns conversations, drives them by their inputs and their own timers, and does what they want.
//!
//! A panic in one of them is caught here: that call loses its coach, which is told as `speech.gap`; the thread and the
//! other calls go on.

use super::{Live, Message, Setting, Surroundings};
use crate::coach::Playbook;
use crate::event::{Event, What};
use crate::id::CallId;
use crate::io::clock;
use crate::session::{Conversation, Input, Options, Output};
use crate::time::MediaTime;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How much a listening thread steps back for media (`nice`): words may come later, packets may not.
const NICENESS: i32 = 5;
/// Inputs taken in before timers are looked at again.
const BATCH: usize = 256;
/// A call that sends nothing for so long has ended without our hearing of it.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// When an answer that found no place is brought again.
const AGAIN: Duration = Duration::from_millis(20);
/// How often such calls are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// The thread's whole state.
pub(super) struct Worker {
    inbox: Receiver<Message>,
    /// Where answers come back.
    queue: Sender<Message>,
    setting: Arc<Setting>,
    surroundings: Arc<dyn Surroundings>,
    live: Arc<Live>,
    runtime: Handle,
    /// No more than there are calls.
    calls: HashMap<CallId, Listened>,
    /// When which call is to be ticked. An entry that its call no longer wants is skipped.
    timers: BinaryHeap<Reverse<(Instant, CallId)>>,
    swept: Instant,
}

/// A call that is listened to.
struct Listened {
    conversation: Conversation,
    /// Where its media clock was nought on ours: the earliest that any of its times allows.
    began: Instant,
    heard_of: Instant,
    due: Option<Instant>,
}

impl Listened {
    /// Media time now; `at` is the time of an input that has just come in, and so has passed.
    fn now(&mut self, now: Instant, at: Option<MediaTime>) -> MediaTime {
        let began = at.and_then(|at| now.checked_sub(at.since_start()));
        self.began = began.map_or(self.began, |began| began.min(self.began));
        self.heard_of = now;
        MediaTime::after(now.saturating_duration_since(self.began))
    }
}

impl Worker {
    pub(super) fn new(
        inbox: Receiver<Message>,
        queue: Sender<Message>,
        setting: Arc<Setting>,
        surroundings: Arc<dyn Surroundings>,
        live: Arc<Live>,
        runtime: Handle,
    ) -> Self {
        let (calls, timers) = (HashMap::new(), BinaryHeap::new());
        Worker { inbox, queue, setting, surroundings, live, runtime, calls, timers, swept: clock::now() }
    }

    /// Until told to stop.
    pub(super) fn run(mut self) {
        step_back();
        while self.take_in() {
            self.tick(clock::now());
            self.sweep(clock::now());
        }
        self.end_all();
    }

    /// Waits for an input or a timer, then takes in what there is. False: stop.
    fn take_in(&mut self) -> bool {
        let due = self.timers.peek().map_or(self.swept + SWEEP, |Reverse((due, _))| *due);
        let first = match self.inbox.recv_deadline(due) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        let mut next = first;
        for _ in 0..BATCH {
            let Some(message) = next else { return true };
            if matches!(message, Message::Stop) {
                return false;
            }
            self.take(message);
            next = self.inbox.try_recv().ok();
        }
        match next {
            Some(Message::Stop) => false,
            Some(message) => {
                self.take(message);
                true
            }
            None => true,
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Open { call, playbook } => self.open(call, &playbook),
            Message::Playbook { call, playbook } => {
                let playbook = self.find(call, &playbook);
                self.drive(call, None, |conversation, now| conversation.use_playbook(now, playbook));
            }
            Message::Heard { call, leg, role, at, rate, pcm } => {
                let pcm = pcm.get(..rate.frame()).unwrap_or(&pcm);
                self.drive(call, Some(at), |c, now| c.handle(now, Input::Heard { leg, role, at, rate, pcm }));
            }
            Message::Event { call, event } => {
                self.drive(call, Some(event.at), |c, now| c.handle(now, Input::Event(&event)));
            }
            Message::Close { call } => self.drive(call, None, |c, now| c.handle(now, Input::Close)),
            Message::Recognised { call, recognised } => {
                self.drive(call, None, |c, now| c.handle(now, Input::Recognised(recognised)));
            }
            Message::Prepared { call, prompt, result } => {
                self.drive(call, None, |c, now| c.handle(now, Input::Prepared { prompt, result }));
            }
            Message::Speaking { call, prompt, result } => {
                self.drive(call, None, |c, now| c.handle(now, Input::Speaking { prompt, result }));
            }
            // Seen to where it is received.
            Message::Stop => {}
        }
    }

    fn open(&mut self, call: CallId, playbook: &str) {
        let coach = &self.setting.coach;
        let options =
            Options { playbook: self.find(call, playbook), ceiling: coach.ceiling, sensitivity: coach.sensitivity };
        let now = clock::now();
        let listened = Listened { conversation: Conversation::new(options), began: now, heard_of: now, due: None };
        // Whoever opened it counted it; one that was there already counts once.
        if self.calls.insert(call, listened).is_some() {
            self.live.gone();
        }
    }

    /// A playbook by its name, else the default.
    fn find(&self, call: CallId, name: &str) -> Arc<Playbook> {
        let setting = &self.setting;
        if let Some(playbook) = setting.playbooks.get(name) {
            return playbook.clone();
        }
        tracing::warn!(%call, playbook = name, default = setting.coach.playbook, "no such playbook: the default is used");
        setting.playbooks.get(&setting.coach.playbook).cloned().unwrap_or_else(|| Arc::new(Playbook::silent()))
    }

    /// Does something to a conversation and then what the conversation wants.
    fn drive(&mut self, call: CallId, at: Option<MediaTime>, act: impl FnOnce(&mut Conversation, MediaTime)) {
        let Some(listened) = self.calls.get_mut(&call) else { return };
        let now = listened.now(clock::now(), at);
        if catch_unwind(AssertUnwindSafe(|| act(&mut listened.conversation, now))).is_err() {
            self.lose(call, now);
            return;
        }
        while let Some(output) = self.calls.get_mut(&call).and_then(|l| l.conversation.poll()) {
            self.carry_out(call, output);
        }
        self.settle(call);
    }

    fn carry_out(&self, call: CallId, output: Output) {
        match output {
            Output::Event(event) => self.surroundings.record(call, event),
            Output::Recognise(job) => {
                let (surroundings, queue) = (self.surroundings.clone(), self.queue.clone());
                self.runtime.spawn(async move {
                    let recognised = surroundings.recognise(job).await;
                    bring(&queue, Message::Recognised { call, recognised }).await;
                });
            }
            Output::Prepare { prompt, text } => {
                let (surroundings, queue) = (self.surroundings.clone(), self.queue.clone());
                self.runtime.spawn(async move {
                    let result = surroundings.prepare(text).await;
                    bring(&queue, Message::Prepared { call, prompt, result }).await;
                });
            }
            Output::Cut { clip, reason } => {
                let surroundings = self.surroundings.clone();
                self.runtime.spawn(async move { surroundings.cut(call, clip, reason).await });
            }
            Output::Speak { prompt, text, mode } => {
                let (surroundings, queue) = (self.surroundings.clone(), self.queue.clone());
                self.runtime.spawn(async move {
                    let result = surroundings.speak(call, text, mode).await;
                    bring(&queue, Message::Speaking { call, prompt, result }).await;
                });
            }
        }
    }

    /// After an input: the conversation is over, or has a timer.
    fn settle(&mut self, call: CallId) {
        let Some(listened) = self.calls.get_mut(&call) else { return };
        if listened.conversation.is_idle() {
            self.forget(call);
            return;
        }
        let due = listened.conversation.poll_timeout().and_then(|t| listened.began.checked_add(t.since_start()));
        if let Some(due) = due.filter(|_| due != listened.due) {
            self.timers.push(Reverse((due, call)));
        }
        listened.due = due;
    }

    fn tick(&mut self, now: Instant) {
        while let Some(Reverse((due, call))) = self.timers.peek().copied().filter(|Reverse((due, _))| *due <= now) {
            self.timers.pop();
            let Some(listened) = self.calls.get_mut(&call).filter(|l| l.due == Some(due)) else { continue };
            listened.due = None;
            self.drive(call, None, |c, now| c.handle(now, Input::Tick));
        }
    }

    /// Lets go of calls whose end was never heard of.
    fn sweep(&mut self, now: Instant) {
        if now < self.swept + SWEEP {
            return;
        }
        self.swept = now;
        let forgotten = |l: &Listened| now.saturating_duration_since(l.heard_of) > FORGOTTEN;
        let lost: Vec<CallId> = self.calls.iter().filter(|(_, l)| forgotten(l)).map(|(call, _)| *call).collect();
        for call in lost {
            tracing::warn!(%call, "nothing was heard of this call for an hour: it is listened to no longer");
            self.forget(call);
        }
    }

    /// The conversation of a call failed: the call goes on without.
    fn lose(&mut self, call: CallId, now: MediaTime) {
        tracing::error!(%call, "listening to this call failed: it goes on without a coach");
        let reason = "listening to this call failed; it goes on without a coach".into();
        let what = What::SpeechGap { start: now, end: now, reason };
        self.surroundings.record(call, Event { at: now, leg: None, what });
        self.forget(call);
    }

    fn forget(&mut self, call: CallId) {
        let Some(listened) = self.calls.remove(&call) else { return };
        // What it held may be broken after a panic: its end must not be another.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(listened)));
        self.live.gone();
    }

    fn end_all(&mut self) {
        for call in self.calls.keys().copied().collect::<Vec<_>>() {
            tracing::warn!(%call, "the server stops before the last words of this call are there");
            self.forget(call);
        }
    }
}

/// Brings an answer to the worker. Waits for a place; does nothing when the worker is gone.
async fn bring(queue: &Sender<Message>, mut answer: Message) {
    while let Err(TrySendError::Full(returned)) = queue.try_send(answer) {
        answer = returned;
        tokio::time::sleep(AGAIN).await;
    }
}

/// Gives way to media.
#[allow(unsafe_code)]
fn step_back() {
    // SAFETY: nice(2) takes a number and touches no memory of ours; on Linux it concerns the calling thread alone
    // (pthreads(7), "nice value"). It fails only where a sandbox forbids it, and then nothing is lost.
    unsafe { libc::nice(NICENESS) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coach::Sensitivity;
    use crate::config::Coach;
    use crate::event::{Mode, Role, Words};
    use crate::id::{ClipId, LegId};
    use crate::speech::{Job, Recognised};
    use async_trait::async_trait;
    use std::sync::Mutex;
    use std::sync::atomic::Ordering;

    #[derive(Default)]
    struct Notebook(Mutex<Vec<(CallId, Event)>>);

    #[async_trait]
    impl Surroundings for Notebook {
        async fn recognise(&self, job: Job) -> Recognised {
            Recognised { utterance: job.utterance, result: Err("deaf".into()) }
        }
        async fn speak(&self, _: CallId, _: Words, _: Mode) -> Result<ClipId, String> {
            Err("dumb".into())
        }
        async fn prepare(&self, _: Words) -> Result<(), String> {
            Ok(())
        }
        async fn cut(&self, _: CallId, _: ClipId, _: &'static str) {}
        fn record(&self, call: CallId, event: Event) {
            self.0.lock().unwrap().push((call, event));
        }
    }

    fn worker(runtime: &tokio::runtime::Runtime) -> (Worker, Arc<Notebook>) {
        let (queue, inbox) = crossbeam_channel::bounded(8);
        let coach = Coach {
            playbook: "none".into(),
            playbook_dir: "".into(),
            ceiling: Mode::Whisper,
            sensitivity: Sensitivity::Standard,
            ears: Default::default(),
        };
        let setting = Setting { playbooks: Arc::default(), coach, metrics: Arc::default(), workers: Some(1) };
        let notebook = Arc::new(Notebook::default());
        let handle = runtime.handle().clone();
        (Worker::new(inbox, queue, Arc::new(setting), notebook.clone(), Arc::default(), handle), notebook)
    }

    fn call(n: u64) -> CallId {
        CallId::new(1_790_000_000_000, 0, 0, n)
    }

    #[test]
    fn a_panic_costs_one_call_its_coach_and_nobody_else_anything() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (mut worker, notebook) = worker(&runtime);
        worker.live.count.store(2, Ordering::Release);
        worker.open(call(1), "none");
        worker.open(call(2), "none");
        worker.drive(call(1), Some(MediaTime::from_millis(500)), |_, _| panic!("a bug"));
        assert_eq!(worker.live.count.load(Ordering::Acquire), 1);
        assert!(worker.calls.contains_key(&call(2)));
        let told = notebook.0.lock().unwrap().clone();
        let [(lost, Event { what: What::SpeechGap { reason, .. }, .. })] = &told[..] else { panic!("{told:?}") };
        assert_eq!((*lost, reason.as_str()), (call(1), "listening to this call failed; it goes on without a coach"));
        // What still comes in for it is nothing to anybody.
        let (pcm, rate) = ([0; 320], crate::media::pcm::Rate::Narrow);
        let (leg, role, at) = (LegId(1), Role::Customer, MediaTime::ZERO);
        worker.take(Message::Heard { call: call(1), leg, role, at, rate, pcm });
        assert_eq!(notebook.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn media_time_never_runs_behind_what_came_in() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (mut worker, _) = worker(&runtime);
        worker.open(call(1), "none");
        let late = MediaTime::from_millis(60_000);
        let mut seen = Vec::new();
        worker.drive(call(1), Some(late), |_, now| seen.push(now));
        worker.drive(call(1), Some(MediaTime::ZERO), |_, now| seen.push(now));
        worker.drive(call(1), None, |_, now| seen.push(now));
        assert!(seen[0] >= late && seen[1] >= seen[0] && seen[2] >= seen[1], "{seen:?}");
    }
}
