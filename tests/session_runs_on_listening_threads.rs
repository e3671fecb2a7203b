//! Listening threads own conversations: calls come and go, last words are waited for, answers are never lost, and an
//! unknown playbook is no reason to be deaf.

#[path = "support/samples.rs"]
mod samples;
#[path = "scene/mod.rs"]
mod scene;

use async_trait::async_trait;
use sotto::call::FRAME;
use sotto::config::Config;
use sotto::event::{Event, Mode, Role, What, Words};
use sotto::id::{CallId, ClipId, LegId};
use sotto::io::conversation::{Conversations, Setting, Surroundings};
use sotto::media::pcm::Rate;
use sotto::speech::{Job, Recognised, Text};
use sotto::time::MediaTime;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Answers every job with one sentence once it is let; takes every whisper; remembers everything.
struct Script {
    may_answer: Semaphore,
    told: Mutex<Vec<(CallId, Event)>>,
    spoken: Mutex<Vec<(CallId, Words, Mode)>>,
}

#[async_trait]
impl Surroundings for Script {
    async fn recognise(&self, job: Job) -> Recognised {
        self.may_answer.acquire().await.unwrap().forget();
        let text = "That is too expensive.".into();
        Recognised { utterance: job.utterance, result: Ok(Text { text, confidence: 0.9 }) }
    }
    async fn speak(&self, call: CallId, text: Words, mode: Mode) -> Result<ClipId, String> {
        self.spoken.lock().unwrap().push((call, text, mode));
        Ok(ClipId(1))
    }
    async fn prepare(&self, _: Words) -> Result<(), String> {
        Ok(())
    }
    async fn cut(&self, _: CallId, _: ClipId, _: &'static str) {}
    fn record(&self, call: CallId, event: Event) {
        self.told.lock().unwrap().push((call, event));
    }
}

impl Script {
    fn names(&self, wanted: CallId) -> Vec<&'static str> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|(call, _)| *call == wanted).map(|(_, event)| event.what.name()).collect()
    }
}

fn start(answers: usize) -> (Conversations, Arc<Script>) {
    let config = Config::load(Path::new("config/sotto.toml"), std::iter::empty()).unwrap();
    let script = Script { may_answer: Semaphore::new(answers), told: Mutex::default(), spoken: Mutex::default() };
    let script = Arc::new(script);
    let setting = Setting {
        playbooks: config.playbooks.clone(),
        coach: config.coach.clone(),
        metrics: Arc::default(),
        workers: Some(2),
    };
    let conversations = Conversations::start(setting, script.clone(), &Handle::current()).unwrap();
    (conversations, script)
}

fn call(n: u64) -> CallId {
    CallId::new(1_790_000_000_000, 0, 0, n)
}

/// A customer who says one sentence, and hangs up at once if told so.
fn speaks(conversations: &Conversations, call: CallId, ends: bool) {
    let happens = |at, what| conversations.event(call, Event { at, leg: Some(LegId(1)), what });
    happens(MediaTime::ZERO, What::LegJoined { role: Role::Customer, address: "sip:x@127.0.0.1".into() });
    let pcm = samples::audio("utt10_price.wav");
    let mut at = MediaTime::ZERO;
    for frame in pcm.chunks_exact(FRAME).chain([[0; FRAME].as_slice(); 100]) {
        conversations.heard(call, LegId(1), Role::Customer, at, Rate::Narrow, frame);
        at = at + sotto::time::Samples::FRAME;
    }
    if ends {
        conversations.event(call, Event { at, leg: None, what: What::CallEnded { reason: "over".into() } });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_words_are_waited_for_and_then_the_conversation_is_gone() {
    let (conversations, script) = start(0);
    for n in 0..8 {
        conversations.open(call(n), "sales-discovery".into());
        speaks(&conversations, call(n), true);
    }
    // The words come only once the shutdown waits for them.
    let (given_up, ()) =
        tokio::join!(conversations.shutdown(Duration::from_secs(60)), async { script.may_answer.add_permits(1_000) });
    assert_eq!(given_up, 0);
    assert_eq!(conversations.live(), 0);
    for n in 0..8 {
        let names = script.names(call(n));
        assert!(names.contains(&"speech.final") && names.contains(&"moment.detected"), "{names:?}");
        assert!(names.contains(&"prompt.suppressed"), "the call was over: {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_never_come_are_not_waited_for_for_ever() {
    let (conversations, script) = start(0);
    conversations.open(call(1), "sales-discovery".into());
    speaks(&conversations, call(1), true);
    assert_eq!(conversations.shutdown(Duration::from_millis(300)).await, 1);
    assert!(!script.names(call(1)).contains(&"speech.final"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_playbook_is_the_default_and_what_belongs_to_no_call_is_nothing() {
    let (conversations, script) = start(1_000);
    conversations.open(call(1), "no-such-playbook".into());
    speaks(&conversations, call(1), false);
    speaks(&conversations, call(2), false);
    let whispered = async {
        while script.spoken.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), whispered).await.expect("something is whispered");
    let spoken = script.spoken.lock().unwrap().clone();
    assert_eq!((spoken[0].0, spoken[0].2), (call(1), Mode::Whisper));
    assert_eq!(conversations.live(), 1);
    assert!(script.names(call(2)).is_empty());
    let end = Event { at: MediaTime::from_millis(9_000), leg: None, what: What::CallEnded { reason: "over".into() } };
    conversations.event(call(1), end);
    assert_eq!(conversations.shutdown(Duration::from_secs(60)).await, 0);
    assert!(script.names(call(1)).contains(&"prompt.shown"), "a whisper that the call's end cut short");
}
