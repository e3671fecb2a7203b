//! Messages that are lost, repeated, late, or odd change nothing but the time it takes.

#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;

use phone::Phone;
use sipp::{House, Plan, free_port};
use sotto::io::sip::Timers;
use std::time::Duration;

const ROUTES: &str = "[[route]]\ncalled = '^1'\nsteps = [ {answer = {}}, {say = \"This is a sentence that takes a good while to say.\"}, \
                      {say = \"And this is another one.\"} ]\n";

/// Ten times faster than real time: 64 × T1 are 3.2 s.
fn hasty() -> Timers {
    Timers { t1: Duration::from_millis(50), ..Timers::default() }
}

async fn house(routes: &str) -> House {
    House::open(Plan { routes, timers: hasty(), ..Plan::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_invite_is_the_same_call() {
    let house = house(ROUTES).await;
    let phone = Phone::new(house.sip).await;
    let invite = phone.invite("1");
    phone.send(&invite).await;
    phone.send(&invite).await;
    phone.send(&invite).await;
    let answer = phone.next().await;
    phone.send(&invite).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(house.server().live(), 1);
    // The same request by another way, through another proxy: its branch differs.
    let merged = invite.replace("branch=z9hG4bK-", "branch=z9hG4bK-other-");
    let mut came = phone.ask(&merged).await;
    while came.status() == 200 {
        assert_eq!(came.to_tag(), answer.to_tag());
        came = phone.next().await;
    }
    assert_eq!((came.status(), came.reason()), (482, "this call is here already, by another way"));
    phone.send(&phone.request("ACK", "1", 1, answer.to_tag(), "", "")).await;
    let mut bye = phone.request("BYE", "1", 3, answer.to_tag(), "", "");
    // Out of order, then in order.
    let old = phone.request("INFO", "1", 0, answer.to_tag(), "", "");
    assert_eq!(phone.ask(&old).await.status(), 500);
    assert_eq!(phone.ask(&bye).await.status(), 200);
    assert_eq!(phone.ask_again(&bye).await.status(), 200, "a repeated BYE gets its answer again");
    house.is_quiet().await;
    bye = phone.request("BYE", "1", 4, answer.to_tag(), "", "");
    assert_eq!(phone.ask(&bye).await.status(), 481);
    assert_eq!(house.endings(), ["caller hung up"]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_ack_the_answer_is_repeated_and_then_the_call_ends() {
    let house = house(ROUTES).await;
    let phone = Phone::new(house.sip).await;
    let answer = phone.ask(&phone.invite("1")).await;
    assert_eq!(answer.status(), 200);
    let mut repeated = 0;
    let bye = loop {
        let came = phone.next().await;
        if came.method() == "BYE" {
            break came;
        }
        assert_eq!((came.status(), came.to_tag()), (200, answer.to_tag()));
        repeated += 1;
    };
    assert!(repeated >= 4, "{repeated} repetitions in 64 × T1");
    phone.ok(&bye).await;
    house.is_quiet().await;
    assert_eq!(house.endings().len(), 1);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_bye_stops_the_repetitions() {
    let house = house(ROUTES).await;
    let phone = Phone::new(house.sip).await;
    let answer = phone.ask(&phone.invite("1")).await;
    // The ACK is lost, the BYE is not.
    let bye = phone.request("BYE", "1", 2, answer.to_tag(), "", "");
    phone.send(&bye).await;
    let mut came = phone.next().await;
    while came.header("CSeq") != Some("2 BYE") {
        came = phone.next().await;
    }
    assert_eq!(came.status(), 200);
    house.is_quiet().await;
    assert!(phone.within(Duration::from_millis(500)).await.is_none(), "the 200 to the INVITE is repeated no more");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_without_an_offer_is_answered_with_ours() {
    let house = house(ROUTES).await;
    let phone = Phone::new(house.sip).await;
    let answer = phone.ask(&phone.request("INVITE", "1", 1, "", "", "")).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.0.contains("RTP/AVP 111 9 0 8 96 101 110"), "{answer:?}");
    phone.send(&phone.request("ACK", "1", 1, answer.to_tag(), "", &phone.sdp())).await;
    house.until("it speaks", |h| h.events().iter().any(|e| e.event.what.name() == "clip.started")).await;
    assert_eq!(phone.ask(&phone.request("BYE", "1", 2, answer.to_tag(), "", "")).await.status(), 200);
    house.is_quiet().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_re_invite_without_an_ack_ends_the_call() {
    let house =
        house(&ROUTES.replace("This is", "This is, as you may have guessed by now, for the patient among us,")).await;
    let phone = Phone::new(house.sip).await;
    let answer = phone.ask(&phone.invite("1")).await;
    phone.send(&phone.request("ACK", "1", 1, answer.to_tag(), "", "")).await;
    let again = phone.ask(&phone.request("INVITE", "1", 2, answer.to_tag(), "", &phone.sdp())).await;
    assert_eq!(again.status(), 200);
    let mut came = phone.next().await;
    while came.method() != "BYE" {
        came = phone.next().await;
    }
    phone.ok(&came).await;
    house.is_quiet().await;
    assert_eq!(house.endings(), ["a re-INVITE was never acknowledged"]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_accepts_with_202_is_connected_and_hung_up() {
    let port = free_port();
    let route = format!("[[route]]\ncalled = '.*'\nsteps = [ {{connect = {{to = \"sip:a@127.0.0.1:{port}\"}}}} ]\n");
    let house = House::with(&route).await;
    let agent = house.agent("agent_answers", &[("ANSWER", "202 Accepted")], port, 1).await;
    house.caller("caller_hangs_up", "1", &[("TALK", "800")], 1).await.content().await;
    agent.content().await;
    house.is_quiet().await;
    let connected = house.events().iter().filter(|e| e.event.what.name() == "call.connected").count();
    assert_eq!(connected, 1);
    house.close().await;
}
