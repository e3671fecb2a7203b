//! Everything recorded is published at once and in order, committed soon after, and can be read again as it was.

use sotto::event::{Actor, Event, EventId, Mode, Recorded, Role, What};
use sotto::id::{CallId, LegId, Tenant, UtteranceId};
use sotto::io::clock;
use sotto::io::journal::{Journal, Position, Published};
use sotto::io::metrics::Metrics;
use sotto::time::MediaTime;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("sotto-journal-{:016x}", clock::random()));
        std::fs::create_dir(&dir).unwrap();
        Scratch(dir)
    }
}
impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn journal(dir: &Scratch) -> (Journal, tokio::task::JoinHandle<()>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let (journal, task) = Journal::start(&dir.0, Tenant::default(), metrics.clone()).await.unwrap();
    (journal, task, metrics)
}

fn call() -> CallId {
    CallId::new(clock::wall_ms() as u64, 1, 1, clock::random())
}

fn event(ms: i64, leg: Option<u32>, what: What) -> Event {
    Event { at: MediaTime::from_millis(ms), leg: leg.map(LegId), what }
}

fn said(utterance: u32, start: i64, text: &str) -> Event {
    let (start, end) = (MediaTime::from_millis(start), MediaTime::from_millis(start + 900));
    let utterance = UtteranceId(utterance);
    let what = What::SpeechFinal { utterance, role: Role::Agent, start, end, text: text.into(), confidence: 0.75 };
    event(start.as_millis() + 1_500, Some(2), what)
}

/// A call's worth of events of many kinds.
fn story() -> Vec<Event> {
    let effective = [(LegId(1), u32::MAX), (LegId(2), 0)].into();
    vec![
        event(
            0,
            None,
            What::CallPending { caller: "sip:alice@example.org".into(), called: "call-7".into(), code: None },
        ),
        event(20, Some(1), What::LegJoined { role: Role::Customer, address: "sip:alice@example.org".into() }),
        event(40, None, What::CallAnswered {}),
        event(60, None, What::ModeChanged { from: Mode::Spy, to: Mode::Whisper, by: Actor::Person, effective }),
        said(2, 3_000, "the second thing \u{1F4DE} said — \"quoted\"\n"),
        said(1, 1_000, "the first"),
        event(9_000, None, What::CallEnded { reason: "customer hung up".into() }),
        event(9_000, None, What::RecordingEnded { reason: "the call ended".into() }),
    ]
}

#[tokio::test]
async fn events_come_at_once_in_order_and_then_the_watermark() {
    let dir = Scratch::new();
    let (journal, task, metrics) = journal(&dir).await;
    let mut published = journal.subscribe();
    let (a, b) = (call(), call());
    for event in story() {
        assert!(journal.record(a, event.clone()) && journal.record(b, event));
    }
    let mut events = Vec::new();
    let mut committed = Vec::new();
    while !(committed.contains(&(a, 0, 8)) && committed.contains(&(b, 0, 8))) {
        match published.recv().await.unwrap() {
            Published::Event(recorded) => events.push((*recorded).clone()),
            Published::Committed { call, epoch, seq, .. } => committed.push((call, epoch, seq)),
        }
    }
    let of = |call| events.iter().filter(|r| r.id.call == call).cloned().collect::<Vec<_>>();
    for call in [a, b] {
        assert_eq!(of(call).iter().map(|r| r.event.clone()).collect::<Vec<_>>(), story());
        assert_eq!(of(call).iter().map(|r| r.id.seq).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
        assert_eq!(journal.events(call, 0, 100).await.unwrap(), of(call), "what is read is what was published");
    }
    assert_eq!((metrics.journal.events_recorded.get(), metrics.journal.events_pending.get()), (16, 0));
    drop(journal);
    task.await.unwrap();
}

#[tokio::test]
async fn events_are_read_in_pages_across_epochs() {
    let dir = Scratch::new();
    let id = call();
    let before = {
        let (journal, task, _) = journal(&dir).await;
        for event in &story()[..5] {
            journal.record(id, event.clone());
        }
        journal.flush().await.unwrap();
        drop(journal);
        task.await.unwrap();
        5
    };
    // The call was never ended: the next start does it.
    let (journal, _task, _) = journal(&dir).await;
    let mut seen: Vec<Recorded> = Vec::new();
    let mut place = Position::default();
    loop {
        let page = journal.events(id, place, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        place = Position { epoch: last.id.epoch, seq: last.id.seq };
        seen.extend(page);
    }
    let places: Vec<_> = seen.iter().map(|r| (r.id.epoch, r.id.seq)).collect();
    assert_eq!(places, [(0, 1), (0, 2), (0, 3), (0, 4), (0, before), (1, 1)]);
    let past = journal.call(id).await.unwrap().unwrap();
    assert_eq!(past.ended.unwrap().reason, "the server stopped unexpectedly");
    assert_eq!(past.called.unwrap().0.as_ref(), "call-7");
}

#[tokio::test]
async fn the_transcript_is_in_the_order_of_speaking() {
    let dir = Scratch::new();
    let (journal, _task, _) = journal(&dir).await;
    let id = call();
    for event in story() {
        journal.record(id, event);
    }
    journal.flush().await.unwrap();
    let spoken = journal.transcript(id).await.unwrap();
    let texts: Vec<_> = spoken.iter().map(|s| &*s.text.0).collect();
    assert_eq!(texts, ["the first", "the second thing \u{1F4DE} said — \"quoted\"\n"]);
    assert_eq!(journal.transcript(call()).await.unwrap(), []);
    assert_eq!(journal.call(call()).await.unwrap(), None);
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_so() {
    let dir = Scratch::new();
    let (journal, _task, _) = journal(&dir).await;
    let mut published = journal.subscribe();
    let id = call();
    for _ in 0..10_000 {
        assert!(journal.record(id, event(0, None, What::CallAnswered {})));
    }
    journal.flush().await.unwrap();
    use tokio::sync::broadcast::error::RecvError;
    assert!(matches!(published.recv().await, Err(RecvError::Lagged(n)) if n >= 10_000 - 4_096));
    assert_eq!(journal.events(id, 0, u32::MAX).await.unwrap().len(), 10_000, "the database has them all");
}

#[tokio::test]
async fn a_full_queue_loses_what_comes_last_and_says_so() {
    let dir = Scratch::new();
    let (journal, _task, metrics) = journal(&dir).await;
    let id = call();
    // On this runtime of one thread nobody numbers while this loop runs.
    let mut kept = 0;
    while journal.record(id, event(kept, None, What::CallAnswered {})) {
        kept += 1;
    }
    assert_eq!((kept, metrics.journal.events_lost.get()), (65_536, 1));
    journal.flush().await.unwrap();
    let events = journal.events(id, 0, u32::MAX).await.unwrap();
    assert_eq!(events.len(), kept as usize);
    assert!((1..).zip(&events).all(|(seq, r)| r.id.seq == seq), "what is lost leaves no gap in the numbers");
}

#[tokio::test]
async fn a_folder_belongs_to_one_server_and_its_owner() {
    let dir = Scratch::new();
    let (_journal, _task, _) = journal(&dir).await;
    let second = Journal::start(&dir.0, Tenant::default(), Arc::new(Metrics::default())).await;
    assert!(second.err().unwrap().to_string().contains("in use by another sotto"));
    for file in std::fs::read_dir(&dir.0).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
    }
}

#[tokio::test]
async fn one_tenant_never_sees_anothers_calls() {
    let dir = Scratch::new();
    let id = call();
    {
        let (journal, task, _) = journal(&dir).await;
        journal.record(id, story().remove(0));
        drop(journal);
        task.await.unwrap();
    }
    let other = Tenant("other".into());
    let (journal, _task) = Journal::start(&dir.0, other, Arc::new(Metrics::default())).await.unwrap();
    assert_eq!(journal.events(id, 0, 10).await.unwrap(), []);
    assert_eq!(journal.call(id).await.unwrap(), None);
}

#[test]
fn an_event_id_reads_what_it_writes() {
    let id = EventId { call: call(), epoch: 3, seq: 17 };
    assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
}
