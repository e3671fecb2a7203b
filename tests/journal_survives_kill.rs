//! Whatever the journal called committed is there after the process was killed with SIGKILL, at whatever moment.
//!
//! The test starts itself again as the process that writes, lets it write for a random time, kills it, and looks.

use sotto::event::{Event, Recorded, What};
use sotto::id::{CallId, Tenant};
use sotto::io::clock;
use sotto::io::journal::{Journal, Position, Published};
use sotto::io::metrics::Metrics;
use sotto::time::MediaTime;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const CHILD: &str = "SOTTO_TEST_JOURNAL_DIR";
const ROUNDS: usize = 12;
const CALLS: usize = 4;

#[test]
fn what_was_committed_is_there_after_kill_9() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return write_until_killed(Path::new(&dir));
    }
    let dir = scratch();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut written = 0;
    for round in 0..ROUNDS {
        let promised = kill_a_writer(&dir, Duration::from_millis(20 + clock::random() % 500));
        written += runtime.block_on(check(&dir, &promised, round));
    }
    assert!(written > ROUNDS as u64 * 100, "only {written} events were promised: the writers died too young");
    println!("{ROUNDS} writers killed, {written} promised events found");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The child: records as fast as a busy server, and prints every watermark.
#[tokio::main]
async fn write_until_killed(dir: &Path) {
    let (journal, _task) = Journal::start(dir, Tenant::default(), Arc::new(Metrics::default())).await.unwrap();
    let mut published = journal.subscribe();
    let calls: Vec<CallId> = (0..CALLS).map(|_| CallId::new(clock::wall_ms() as u64, 1, 1, clock::random())).collect();
    tokio::spawn(async move {
        for n in 1.. {
            for call in &calls {
                journal.record(*call, numbered(n));
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    });
    loop {
        // A reader that fell behind misses watermarks, never gets false ones.
        if let Ok(Published::Committed { call, epoch, seq, .. }) = published.recv().await {
            let mut out = std::io::stdout();
            writeln!(out, "committed {call} {epoch} {seq}").unwrap();
            out.flush().unwrap();
        }
    }
}

/// Starts a writer, kills it `life` after its first watermark, and answers the last watermark of each call.
fn kill_a_writer(dir: &Path, life: Duration) -> BTreeMap<CallId, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_was_committed_is_there_after_kill_9", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut promised = BTreeMap::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut read = |promised: &mut BTreeMap<CallId, u64>| -> bool {
        let Some(Ok(line)) = lines.next() else { return false };
        // A line cut short by the death is no promise a reader could have seen.
        if let ["committed", call, "0", seq] = line.split(' ').collect::<Vec<_>>()[..] {
            promised.insert(call.parse().unwrap(), seq.parse().unwrap());
        }
        true
    };
    while promised.is_empty() {
        assert!(read(&mut promised), "the writer ended by itself");
    }
    std::thread::sleep(life);
    child.kill().unwrap();
    while read(&mut promised) {}
    assert!(!child.wait().unwrap().success());
    promised
}

async fn check(dir: &Path, promised: &BTreeMap<CallId, u64>, round: usize) -> u64 {
    assert_eq!(integrity(dir).await, "ok", "round {round}");
    let metrics = Arc::new(Metrics::default());
    let (journal, task) = Journal::start(dir, Tenant::default(), metrics.clone()).await.unwrap();
    assert_eq!(metrics.journal.calls_recovered.get(), CALLS as u64, "round {round}: the calls of this round alone");
    for (call, seq) in promised {
        let events = journal.events(*call, Position::default(), u32::MAX).await.unwrap();
        check_call(&events, *seq);
    }
    drop(journal);
    task.await.unwrap();
    promised.values().sum()
}

fn check_call(events: &[Recorded], promised: u64) {
    let (end, before) = events.split_last().unwrap();
    assert!(before.len() as u64 >= promised, "{promised} were promised, {} are there", before.len());
    for (n, recorded) in (1..).zip(before) {
        assert_eq!((recorded.id.epoch, recorded.id.seq), (0, n));
        assert_eq!(recorded.event, numbered(n));
    }
    assert_eq!((end.id.epoch, end.id.seq), (1, 1), "the recovery opens a new epoch");
    let reason = "the server stopped unexpectedly".to_owned();
    assert_eq!(end.event.what, What::CallEnded { reason });
    assert_eq!(end.event.at, before.last().unwrap().event.at);
}

fn numbered(n: u64) -> Event {
    let what = What::LegChanged { changed: format!("the {n}th thing, told at some length: {}", "x".repeat(100)) };
    Event { at: MediaTime::from_millis(20 * n as i64), leg: Some(sotto::id::LegId(1)), what }
}

async fn integrity(dir: &Path) -> String {
    use sqlx::Connection;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join("sotto.db"));
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let answer = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    answer
}

fn scratch() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("sotto-journal-{:016x}", clock::random()));
    std::fs::create_dir(&dir).unwrap();
    dir
}
