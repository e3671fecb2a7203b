//! While the database refuses, events are still numbered and published; when it takes them again, all are there.

use sotto::event::{Event, What};
use sotto::id::{CallId, Tenant};
use sotto::io::clock;
use sotto::io::journal::{Journal, Published};
use sotto::io::metrics::Metrics;
use sotto::time::MediaTime;
use sqlx::{Connection, SqliteConnection};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn events_are_published_without_the_database_and_committed_once_it_is_back() {
    let dir = std::env::temp_dir().join(format!("sotto-journal-{:016x}", clock::random()));
    let metrics = Arc::new(Metrics::default());
    let (journal, task) = Journal::start(&dir, Tenant::default(), metrics.clone()).await.unwrap();
    let mut published = journal.subscribe();
    let call = CallId::new(clock::wall_ms() as u64, 1, 1, clock::random());

    // Somebody else holds the database for writing.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join("sotto.db"));
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();

    for n in 0..1_000 {
        let what = What::LegChanged { changed: n.to_string() };
        assert!(journal.record(call, Event { at: MediaTime::from_millis(n), leg: None, what }));
    }
    for seq in 1..=1_000 {
        let Published::Event(recorded) = published.recv().await.unwrap() else { panic!("nothing can be committed") };
        assert_eq!(recorded.id.seq, seq);
    }
    until(|| metrics.journal.commit_failures.get() > 0).await;
    assert!(!journal.is_writable());
    assert_eq!(journal.events(call, 0, 10).await.unwrap(), []);

    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    let Published::Committed { seq, .. } = published.recv().await.unwrap() else { panic!("a watermark was due") };
    assert_eq!(seq, 1_000);
    assert!(journal.is_writable());
    assert_eq!(journal.events(call, 0, 2_000).await.unwrap().len(), 1_000);
    assert_eq!(metrics.journal.events_lost.get(), 0);
    drop(journal);
    task.await.unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Waits for something that must come, however slow the machine.
async fn until(done: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("it never came");
}
