//! A full disk, and a disk that hangs, under a real call: the people notice nothing, the recording has a hole of silence
//! where nothing could be written and everything else in its place, and events and metrics tell of it.
//!
//! The full disk is a small one of its own, mounted for the server alone (unshare(1)). The hanging one is the recorder's
//! thread stopped by ptrace(2), as it stands in a write that does not return.

mod live;
#[path = "support/playing.rs"]
mod playing;

use live::{Folder, Follower, More, Server};
use playing::{Played, play};
use serde_json::Value;
use sotto::cli::demo::party::{Capture, Party, PartyOptions};
use sotto::config::Format;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// A beep of this length begins this often: what the recording's clock is read from.
const EVERY: usize = 500;
const BEEP: usize = 100;

/// A call in which the customer beeps.
struct Talk {
    server: Server,
    follower: Follower,
    customer: Party,
    agent: Party,
    call: String,
}

impl Talk {
    async fn start(program: &[&str], folder: &Folder, recording: &str) -> Talk {
        let mut agent = Party::bind(PartyOptions::new("agent", 1)).await.unwrap();
        let mut customer = Party::bind(PartyOptions::new("customer", 2)).await.unwrap();
        let to = agent.sip_addr();
        let routes = format!("[[route]]\ncalled = 'agent'\nsteps = [ {{connect = {{to = \"sip:agent@{to}\"}}}} ]\n");
        let server = Server::start_with(&folder.0, "", &routes, More { program, recording, ..More::default() });
        let mut follower = server.follow().await;
        let uri = format!("sip:agent@{}", server.sip);
        let (called, answered) = tokio::join!(customer.call(&uri), agent.answer(PATIENCE));
        called.unwrap();
        answered.unwrap();
        follower.until("recording.started", PATIENCE).await;
        let call = follower.seen[0]["callid"].as_str().unwrap().to_owned();
        Talk { server, follower, customer, agent, call }
    }

    /// Beeps, and waits until the last was sent.
    async fn beep(&self, times: usize) {
        let sample = |n: usize| {
            let beeps = n / 8 % EVERY < BEEP;
            if beeps { ((n as f64 / 8.0 * std::f64::consts::TAU).sin() * 12_000.0) as i16 } else { 0 }
        };
        self.customer.say((0..times * EVERY * 8).map(sample).collect()).await.unwrap();
    }

    /// Hangs up, holds what the agent heard against what the customer said, and answers the events.
    async fn end(mut self) -> (Server, Vec<Value>) {
        let said = self.customer.finish().await.unwrap();
        self.agent.hung_up().await;
        let heard = self.agent.finish().await.unwrap();
        self.follower.until("recording.ended", PATIENCE).await;
        let (compared, differing) = compare(&said, &heard);
        println!("packets compared: {compared}, lost or differing: {differing}");
        assert!(compared > 150 && differing == 0, "{differing} of {compared} packets differ");
        (self.server, self.follower.seen)
    }
}

/// How many packets of the customer's the agent can have got, and how many of them are not what was sent.
fn compare(said: &Capture, heard: &Capture) -> (usize, usize) {
    let arrived: Vec<&[u8]> = heard.received.iter().map(|p| p.payload.as_slice()).collect();
    let sent: Vec<&[u8]> = said.sent.iter().map(|p| p.payload.as_slice()).collect();
    // The agent's first packets before the customer joined are silence of ours; the customer's follow unbroken.
    let start = arrived.iter().position(|p| sent[..50].contains(p)).expect("something arrived");
    let skipped = sent.iter().position(|p| *p == arrived[start]).unwrap();
    let common = (arrived.len() - start).min(sent.len() - skipped);
    (common, (0..common).filter(|n| arrived[start + n] != sent[skipped + n]).count())
}

/// Where beeps begin, in milliseconds.
fn beeps(played: &Played) -> Vec<i64> {
    let step = played.hz as usize / 1000;
    let loud = |ms: usize| played.channels[0][ms * step..][..step].iter().any(|s| s.unsigned_abs() > 3_000);
    let ms = played.length() / step;
    (BEEP..ms).filter(|ms| loud(*ms) && (ms - BEEP / 2..*ms).all(|before| !loud(before))).map(|ms| ms as i64).collect()
}

fn media_ms(event: &Value, field: &str) -> i64 {
    event["data"][field].as_i64().unwrap() / 48
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|e| e["type"] == format!("sotto.{kind}")).collect()
}

async fn metric(server: &Server, name: &str) -> u64 {
    let text = server.get("/metrics").await.text().await.unwrap();
    let line = text.lines().find(|l| l.split([' ', '{']).next() == Some(name));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

/// What was late on the media thread: for people to look at, for a busy machine is late by itself.
async fn print_lateness(server: &Server) {
    let text = server.get("/metrics").await.text().await.unwrap();
    text.lines().filter(|l| l.contains("tick_lateness_seconds_bucket")).for_each(|l| println!("{l}"));
}

/// Fills the disk that the server sees under `folder`, until the file is taken away.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("ballast");
    let mut ballast = File::create(&path).unwrap();
    let full = loop {
        if let Err(error) = ballast.write_all(&[1; 4096]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    for format in [Format::Wav, Format::Opus] {
        full(format).await;
    }
}

async fn full(format: Format) {
    let name = if format == Format::Wav { "wav" } else { "opus" };
    let folder = Folder::new(&format!("full-{name}"));
    let disk = folder.0.join("data/recordings");
    std::fs::create_dir_all(&disk).unwrap();
    let disk = disk.to_str().unwrap();
    let mount = r#"mount -t tmpfs -o size=1m small "$0" && exec "$@""#;
    let unshare = |flags| [&["unshare", flags, "sh", "-c", mount, disk][..]].concat();
    // Root may mount; others may in a user namespace of their own.
    let root = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|s| s.success());
    let program = unshare(if root { "-m" } else { "-rm" });
    let talk = Talk::start(&program, &folder, &format!("format = \"{name}\"")).await;
    let disk = PathBuf::from(format!("/proc/{}/root{disk}", talk.server.pid()));
    let trouble = async {
        tokio::time::sleep(Duration::from_millis(2_200)).await;
        let ballast = fill(&disk);
        tokio::time::sleep(Duration::from_millis(3_000)).await;
        std::fs::remove_file(ballast).unwrap();
    };
    tokio::join!(talk.beep(18), trouble);

    print_lateness(&talk.server).await;
    let call = talk.call.clone();
    let (server, events) = talk.end().await;
    let [failed, gap] = ["recording.failed", "recording.gap"].map(|kind| {
        let told = of_kind(&events, kind);
        assert_eq!(told.len(), 1, "{kind}: {told:?}");
        told[0].clone()
    });
    assert!(failed["data"]["reason"].as_str().unwrap().contains("No space left"), "{failed}");
    let (start, end) = (media_ms(&gap, "start"), media_ms(&gap, "end"));
    println!("{name}: nothing was recorded from {start} to {end} ms");
    assert!((1_500..4_600).contains(&(end - start)), "full for 3 s, and tried again every second: {gap}");
    let dropped = metric(&server, "sotto_record_frames_dropped_total").await;
    assert_eq!(dropped as i64, (end - start) / 20, "what was dropped is what is missing");
    assert_eq!(metric(&server, "sotto_recordings_failed_total").await, 1);
    assert_eq!(metric(&server, "sotto_recording_gaps_total").await, 1);
    assert_eq!(metric(&server, "sotto_recordings_completed_total").await, 1);

    let played = play(&disk.join("default").join(format!("{call}.{name}")), format);
    // Opus blends its frames: at the hole's ends it rings for the length of one.
    let edge = if format == Format::Wav { 5 } else { 25 };
    let loudest = played.piece(0, start + edge, end - edge).iter().map(|s| s.unsigned_abs()).max().unwrap();
    assert!(loudest <= 4, "a hole is silence: {loudest}");
    in_their_places(&played, |ms| !(start - BEEP as i64..end + 1).contains(&ms));
    assert!(played.ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs() {
    let folder = Folder::new("hangs");
    let talk = Talk::start(&[], &folder, "legs = true").await;
    let disk = folder.0.join("data/recordings/default");
    let recorder = thread_of(talk.server.pid(), "recorder");
    let written = || std::fs::metadata(disk.join(format!("{}.wav", talk.call))).unwrap().len();
    let trouble = async {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let hang = tokio::task::spawn_blocking(move || hang(recorder, Duration::from_secs(3)));
        // The thread is stopped somewhere in these 100 ms.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = written();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(written(), before, "the disk hangs");
        hang.await.unwrap();
    };
    tokio::join!(talk.beep(12), trouble);
    print_lateness(&talk.server).await;
    let call = talk.call.clone();
    let (server, events) = talk.end().await;
    assert!(of_kind(&events, "recording.gap").is_empty(), "the queue has room for 3 s: nothing is lost");
    assert_eq!(metric(&server, "sotto_record_frames_dropped_total").await, 0);
    let customer = of_kind(&events, "leg.joined").into_iter().find(|e| e["data"]["role"] == "customer").unwrap();
    let leg = customer["leg"].as_str().unwrap();
    for file in [format!("{call}.wav"), format!("{call}.{leg}.wav")] {
        in_their_places(&play(&disk.join(file), Format::Wav), |_| true);
    }
}

/// The thread of a process that bears this name.
fn thread_of(pid: u32, name: &str) -> i32 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut named = threads.filter(|t| std::fs::read_to_string(t.path().join("comm")).is_ok_and(|c| c.trim() == name));
    named.next().expect("there is such a thread").file_name().to_str().unwrap().parse().unwrap()
}

/// Stops one thread of another process for a while.
#[allow(unsafe_code)]
fn hang(thread: i32, time: Duration) {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    let mut status = 0;
    // SAFETY: these calls touch no memory of ours but `status`, which lives here.
    unsafe {
        assert_eq!(
            libc::ptrace(libc::PTRACE_SEIZE, thread, nothing, nothing),
            0,
            "{}",
            std::io::Error::last_os_error()
        );
        assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, thread, nothing, nothing), 0);
        assert_eq!(libc::waitpid(thread, &mut status, libc::__WALL), thread);
    }
    std::thread::sleep(time);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::ptrace(libc::PTRACE_DETACH, thread, nothing, nothing) }, 0);
}

/// Beeps begin every so often, but for those that are missing.
fn in_their_places(played: &Played, is_there: impl Fn(i64) -> bool) {
    let found = beeps(played);
    let first = found[0];
    let late: Vec<i64> = found.iter().map(|ms| (ms - first + 250).rem_euclid(EVERY as i64) - 250).collect();
    println!("{} beeps, at most {} ms from their places", found.len(), late.iter().map(|ms| ms.abs()).max().unwrap());
    assert!(late.iter().all(|ms| ms.abs() <= 5), "{found:?}");
    let all = (0..).map(|n| first + n * EVERY as i64).take_while(|ms| *ms <= found[found.len() - 1]);
    let missing: Vec<i64> = all.filter(|ms| is_there(*ms) && !found.iter().any(|f| (f - ms).abs() <= 5)).collect();
    assert!(missing.is_empty(), "missing at {missing:?}");
}
