//! When there is no headroom for another call, callers, supervisors, distributors and the API are told so, and when to try
//! again; calls that run are served as ever, and when there is headroom again the next call is taken.

mod live;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;

use live::{Folder, More, Server};
use phone::{Came, Phone};
use serde_json::{Value, json};
use sipp::{House, Plan, TRUNK};
use sotto::io::load::Why;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longer than any test takes.
const ROUTES: &str = r#"
[[route]]
called = '^1'
steps = [ {answer = {}}, {say = "This is a sentence that takes a good while to say."}, {say = "And another one, which takes even longer than the first."},
          {say = "Nobody listens to what is said here."}, {say = "It goes on and on and never comes to any point at all."},
          {say = "This is a sentence that takes a good while to say."}, {say = "And another one, which takes even longer than the first."},
          {say = "Nobody listens to what is said here."}, {say = "It goes on and on and never comes to any point at all."} ]
"#;

/// A call that stands: its telephone, and the answer.
async fn call(server: SocketAddr) -> (Phone, Came) {
    let phone = Phone::new(server).await;
    let answer = phone.ask(&phone.invite("1")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    phone.send(&phone.request("ACK", "1", 1, answer.to_tag(), "", "")).await;
    (phone, answer)
}

fn refused(came: &Came, reason: &str) {
    assert_eq!((came.status(), came.reason()), (503, reason), "{came:?}");
    let after: u64 = came.header("Retry-After").unwrap().parse().unwrap();
    assert!((5..15).contains(&after), "{after}");
}

/// Packets to the media port of an answer, as fast as they can be sent, until told to stop.
fn flood(answer: &Came, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let port = answer.0.lines().find_map(|l| l.strip_prefix("m=audio ")).and_then(|l| l.split(' ').next()).unwrap();
    let to: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let packet = [[0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7].as_slice(), &[0xff; 160]].concat();
        while !stop.load(Ordering::Relaxed) {
            let _ = socket.send_to(&packet, to);
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_media_thread_refuses_further_calls_and_serves_those_that_run() {
    let trunk = format!("{TRUNK}may_supervise = true\n");
    let load = "[load]\ncpu = 8\nlate = 0";
    let house = House::open(Plan { routes: ROUTES, trunk: &trunk, media: load, ..Plan::default() }).await;
    let mut calls = Vec::new();
    for _ in 0..6 {
        calls.push(call(house.sip).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let flood = flood(&calls[0].1, stop.clone());
    house.until("measurements speak against another call", |h| h.registry.room().is_err()).await;
    let why = house.registry.room().unwrap_err();
    assert!(matches!(why, Why::Media | Why::Cpu), "{why:?}");

    let next = Phone::new(house.sip).await;
    let came = next.ask(&next.invite("1")).await;
    refused(&came, if came.reason() == Why::Cpu.to_string() { came.reason() } else { "a media thread is busy" });
    let supervisor = Phone::new(house.sip).await;
    assert_eq!(supervisor.ask(&supervisor.invite("*80anna")).await.status(), 503);
    let options = next.ask(&next.request("OPTIONS", "any", 2, "", "", "")).await;
    assert_eq!(options.status(), 503);
    assert!(options.header("Retry-After").is_some() && options.header("Allow").is_some(), "{options:?}");

    let (phone, answer) = &calls[1];
    for (cseq, method, body) in [(2, "OPTIONS", String::new()), (3, "INVITE", phone.sdp())] {
        let served = phone.ask(&phone.request(method, "1", cseq, answer.to_tag(), "", &body)).await;
        assert_eq!(served.status(), 200, "{method}: {served:?}");
    }
    phone.send(&phone.request("ACK", "1", 3, answer.to_tag(), "", "")).await;
    assert_eq!(phone.ask(&phone.request("BYE", "1", 4, answer.to_tag(), "", "")).await.status(), 200);
    assert!(house.metrics.encode().unwrap().contains("sotto_calls_refused_total{why="));

    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    house.until("there is headroom again", |h| h.registry.room().is_ok()).await;
    let again = Phone::new(house.sip).await;
    assert_eq!(again.ask(&again.request("OPTIONS", "any", 1, "", "", "")).await.status(), 200);
    assert_eq!(again.ask(&again.invite("1")).await.status(), 200);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_has_the_calls_it_may_have() {
    let house =
        House::open(Plan { routes: ROUTES, trunk: &format!("{TRUNK}max_calls = 1\n"), ..Plan::default() }).await;
    let (first, answer) = call(house.sip).await;
    let second = Phone::new(house.sip).await;
    refused(&second.ask(&second.invite("1")).await, "this trunk has all its calls");
    assert_eq!(first.ask(&first.request("BYE", "1", 2, answer.to_tag(), "", "")).await.status(), 200);
    house.is_quiet().await;
    call(house.sip).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_who_asks_is_told_why() {
    let folder = Folder::new("no-room");
    let more = More { coach: "[load]\ncalls = 1", trunk: "may_supervise = true", ..More::default() };
    let server = Server::start_with(&folder.0, "", ROUTES, more);
    assert_eq!(server.get("/readyz").await.status(), 200);
    let mut events = server.follow().await;
    let (phone, answer) = call(server.sip).await;
    let id = events.until("call.pending", Duration::from_secs(10)).await["callid"].as_str().unwrap().to_owned();

    let other = Phone::new(server.sip).await;
    refused(&other.ask(&other.invite("1")).await, "too many calls at once");
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status(), 503);
    let refusing = ready.json::<Value>().await.unwrap()["refusing"].take();
    assert_eq!(refusing, json!({"code": "calls", "detail": "too many calls at once", "calls": 1}));

    let summons = json!({"to": "sip:sue@127.0.0.1:9"});
    let problem = server.post(&format!("/v1/calls/{id}/supervisors"), summons).await;
    assert_eq!(problem.status(), 503);
    let after: u64 = problem.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((5..15).contains(&after), "{after}");
    assert_eq!(problem.headers()["content-type"], "application/problem+json");
    assert_eq!(problem.json::<Value>().await.unwrap()["code"], "no_room");
    let metrics = server.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("sotto_calls_refused_total{why=\"calls\"} 2"), "{metrics}");

    assert_eq!(phone.ask(&phone.request("BYE", "1", 2, answer.to_tag(), "", "")).await.status(), 200);
    events.until("call.ended", Duration::from_secs(10)).await;
    let readily = async {
        while server.get("/readyz").await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), readily).await.expect("ready again");
}
