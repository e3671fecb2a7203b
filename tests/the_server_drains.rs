//! SIGTERM refuses what is new and lets go on what runs, until it ends or the time is over; whatever was begun is kept whole,
//! and the exit status is 0.

mod live;
#[path = "peers/sipp/phone.rs"]
mod phone;

use live::{Folder, More, Server};
use phone::{Came, Phone};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const ROUTES: &str = r#"
[[route]]
called = '^1'
steps = [ {answer = {}}, {say = "This is a sentence that takes a good while to say."}, {say = "And another one, which takes even longer than the first."},
          {say = "Nobody listens to what is said here."}, {say = "It goes on and on and never comes to any point at all."},
          {say = "This is a sentence that takes a good while to say."}, {say = "And another one, which takes even longer than the first."} ]
"#;
const PATIENCE: Duration = Duration::from_secs(20);

fn server(folder: &Folder, drain: u32) -> Server {
    let load = format!("[load]\ndrain = {drain}");
    Server::start_with(&folder.0, "", ROUTES, More { coach: &load, ..More::default() })
}

/// A call that stands, and its id.
async fn call(server: &Server) -> (Phone, Came, String) {
    let mut events = server.follow().await;
    let phone = Phone::new(server.sip).await;
    let answer = phone.ask(&phone.invite("1")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    phone.send(&phone.request("ACK", "1", 1, answer.to_tag(), "", "")).await;
    let id = events.until("clip.started", PATIENCE).await["callid"].as_str().unwrap().to_owned();
    (phone, answer, id)
}

/// What is kept of a call after the end, as another server reads it: nothing needed to be mended.
async fn is_kept_whole(folder: &Folder, id: &str, reason: &str) {
    let after = Server::start(&folder.0, "", "");
    let events: Value = after.get(&format!("/v1/calls/{id}/events")).await.json().await.unwrap();
    let events = events.as_array().unwrap();
    let one =
        |kind: &str| events.iter().find(|e| e["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {events:?}"));
    assert_eq!(one("sotto.call.ended")["data"]["reason"], reason);
    one("sotto.recording.ended");
    let metrics = after.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("sotto_journal_calls_recovered_total 0"), "nothing was left to be closed: {metrics}");
    let wav = folder.0.join(format!("data/recordings/default/{id}.wav"));
    let reader = hound::WavReader::open(Path::new(&wav)).unwrap();
    assert!(reader.duration() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_goes_on_and_what_is_new_is_refused() {
    let folder = Folder::new("drains");
    let mut server = server(&folder, 30);
    let (phone, answer, id) = call(&server).await;
    server.terminate();
    let ready = async {
        loop {
            let ready = server.get("/readyz").await;
            if ready.status() == 503 {
                return ready.json::<Value>().await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ready = tokio::time::timeout(PATIENCE, ready).await.expect("it says that it drains");
    assert_eq!((&ready["refusing"]["code"], &ready["refusing"]["calls"]), (&"draining".into(), &1.into()), "{ready}");

    let other = Phone::new(server.sip).await;
    for came in [other.ask(&other.invite("1")).await, other.ask(&other.request("OPTIONS", "x", 2, "", "", "")).await] {
        assert_eq!((came.status(), came.reason()), (503, "the server is going down"), "{came:?}");
        assert!(came.header("Retry-After").is_some());
    }
    // The API is there, and so is the call; it is held and asked like any other.
    assert_eq!(server.get(&format!("/v1/calls/{id}")).await.status(), 200);
    let sdp = phone.sdp();
    assert_eq!(phone.ask(&phone.request("INVITE", "1", 2, answer.to_tag(), "", &sdp)).await.status(), 200);
    phone.send(&phone.request("ACK", "1", 2, answer.to_tag(), "", "")).await;
    assert_eq!(phone.ask(&phone.request("BYE", "1", 3, answer.to_tag(), "", "")).await.status(), 200);
    assert_eq!(server.ended(PATIENCE).await.0, 0);
    is_kept_whole(&folder, &id, "caller hung up").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_still_there_at_the_deadline_is_told_why() {
    let folder = Folder::new("deadline");
    let mut server = server(&folder, 1);
    let (phone, _, id) = call(&server).await;
    server.terminate();
    let bye = phone.next().await;
    assert_eq!(bye.method(), "BYE");
    let reason = bye.header("Reason").unwrap();
    assert_eq!(reason, "SIP;cause=200;text=\"the server is shutting down\"");
    phone.ok(&bye).await;
    let (status, took) = server.ended(PATIENCE).await;
    assert_eq!(status, 0);
    assert!(took < Duration::from_secs(10), "{took:?}");
    is_kept_whole(&folder, &id, "the server is shutting down").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_waits_for_nobody() {
    let folder = Folder::new("second");
    let mut server = server(&folder, 3600);
    let (phone, _, id) = call(&server).await;
    server.terminate();
    assert!(phone.within(Duration::from_millis(500)).await.is_none(), "the call goes on");
    server.terminate();
    let bye = phone.next().await;
    assert_eq!(bye.method(), "BYE");
    phone.ok(&bye).await;
    assert_eq!(server.ended(PATIENCE).await.0, 0);
    is_kept_whole(&folder, &id, "the server is shutting down").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_told() {
    let folder = Folder::new("systemd");
    let path = folder.0.join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let variable = format!("NOTIFY_SOCKET={}", path.display());
    let more = More { program: &["env", &variable], coach: "[load]\ndrain = 7", ..More::default() };
    let mut server = Server::start_with(&folder.0, "", ROUTES, more);
    let told = || {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(told().starts_with("READY=1\n"));
    server.terminate();
    assert!(told().starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=32000000\n"));
    assert_eq!(server.ended(PATIENCE).await.0, 0);
}
