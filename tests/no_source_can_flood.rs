//! Whoever sends more than they may is told so or told nothing, and takes nothing from calls that run.

#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;

use phone::{Came, Phone};
use sipp::{House, Plan, TRUNK};
use std::time::Duration;

const ROUTES: &str = r#"
[[route]]
called = '^1'
steps = [ {answer = {}}, {say = "This is a sentence that takes a good while to say."}, {say = "And another one, which takes even longer than the first."},
          {say = "Nobody listens to what is said here."}, {say = "It goes on and on and never comes to any point at all."} ]
"#;

/// Everything that comes until nothing does for a while.
async fn all(phone: &Phone) -> Vec<Came> {
    let mut all = Vec::new();
    while let Some(came) = phone.within(Duration::from_millis(500)).await {
        all.push(came);
    }
    all
}

async fn statuses(phone: &Phone) -> Vec<u16> {
    all(phone).await.iter().map(Came::status).collect()
}

/// `phone`'s own request, as another one.
fn again(text: &str, n: usize) -> String {
    text.replace("Call-ID: ", &format!("Call-ID: {n}-")).replace("z9hG4bK-", &format!("z9hG4bK-{n}-"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_sends_too_fast_is_told_and_its_calls_are_served() {
    let load = "[load]\ntrunk_messages = 5";
    let house = House::open(Plan { routes: ROUTES, media: load, ..Plan::default() }).await;
    let phone = Phone::new(house.sip).await;
    let answer = phone.ask(&phone.invite("1")).await;
    assert_eq!(answer.status(), 200);
    phone.send(&phone.request("ACK", "1", 1, answer.to_tag(), "", "")).await;
    let flood = Phone::new(house.sip).await;
    for n in 0..100 {
        flood.send(&again(&flood.request("OPTIONS", "any", 1, "", "", ""), n)).await;
    }
    let came = all(&flood).await;
    let count = |status| came.iter().filter(|c| c.status() == status).count();
    assert_eq!(count(200) + count(503), 100, "{came:?}");
    assert!((1..20).contains(&count(200)), "{} of 100 were served at 5 a second", count(200));
    assert!(came.iter().all(|c| c.status() == 200 || c.header("Retry-After").is_some()), "{came:?}");
    for n in 100..200 {
        flood.send(&again(&flood.request("OPTIONS", "any", 1, "", "", ""), n)).await;
    }
    // Requests of a call are not counted.
    let sdp = phone.sdp();
    let reinvite = phone.ask(&phone.request("INVITE", "1", 2, answer.to_tag(), "", &sdp)).await;
    assert_eq!(reinvite.status(), 200, "{reinvite:?}");
    phone.send(&phone.request("ACK", "1", 2, answer.to_tag(), "", "")).await;
    assert_eq!(phone.ask(&phone.request("BYE", "1", 3, answer.to_tag(), "", "")).await.status(), 200);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_send_too_fast_hear_nothing() {
    let elsewhere = TRUNK.replace("127.0.0.0/8", "192.0.2.0/24");
    let load = "[load]\nmessages = 1";
    let house = House::open(Plan { routes: ROUTES, trunk: &elsewhere, media: load, ..Plan::default() }).await;
    let phone = Phone::new(house.sip).await;
    for n in 0..50 {
        phone.send(&again(&phone.request("OPTIONS", "any", 1, "", "", ""), n)).await;
    }
    let came = statuses(&phone).await;
    assert!((1..=4).contains(&came.len()) && came.iter().all(|s| *s == 403), "{came:?}");
    let dropped = house.metrics.load.messages_dropped.get();
    assert!((46..=49).contains(&dropped), "{dropped}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialog_has_a_pace_too() {
    let house = House::with(ROUTES).await;
    let phone = Phone::new(house.sip).await;
    let answer = phone.ask(&phone.invite("1")).await;
    assert_eq!(answer.status(), 200);
    phone.send(&phone.request("ACK", "1", 1, answer.to_tag(), "", "")).await;
    for cseq in 2..402 {
        phone.send(&phone.request("OPTIONS", "1", cseq, answer.to_tag(), "", "")).await;
    }
    let came = statuses(&phone).await;
    assert!(came.contains(&200) && came.contains(&503), "{came:?}");
    assert_eq!(phone.ask(&phone.request("BYE", "1", 402, answer.to_tag(), "", "")).await.status(), 200);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_waits_for_end_at_the_door() {
    let house = House::with(ROUTES).await;
    let phone = Phone::new(house.sip).await;
    let here = phone.address();
    for n in 0..20_000 {
        let forged = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{n}\r\nFrom: <sip:a@{here}>;tag=1\r\nTo: <sip:b@{here}>;tag=2\r\n\
             Call-ID: {n}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
            house.sip
        );
        phone.send(&forged).await;
    }
    let answer = phone.ask_again(&phone.request("OPTIONS", "any", 1, "", "", "")).await;
    assert_eq!(answer.status(), 200);
    house.is_quiet().await;
    house.close().await;
}
