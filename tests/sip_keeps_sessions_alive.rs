//! Session timers (RFC 4028) in both roles with either party: signs of life are given, asked for, and missed, and who is
//! dead does not stay in a call.

#[path = "peers/sipp/mod.rs"]
mod sipp;

use sipp::{House, Plan, free_port};
use sotto::io::sip::Timers;
use std::time::Duration;

/// A call of two scenarios, in which a second of a session timer lasts 10 ms: why it ended.
async fn ending(sip: &str, caller: &str, agent: &str, set: &[(&str, &str)]) -> String {
    let port = free_port();
    let routes =
        format!("[[route]]\ncalled = '.*'\nsteps = [ {{connect = {{to = \"sip:agent@127.0.0.1:{port}\"}}}} ]\n");
    let timers = Timers { second: Duration::from_millis(10), ..Timers::default() };
    let house = House::open(Plan { routes: &routes, sip, timers, ..Plan::default() }).await;
    let agent = house.agent(agent, &[], port, 1).await;
    house.caller(caller, "100", set, 1).await.content().await;
    agent.content().await;
    house.is_quiet().await;
    let endings = house.endings();
    assert_eq!(endings.len(), 1);
    house.close().await;
    endings.into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_gives_no_sign_is_gone() {
    let end = ending("", "caller_gives_no_sign_of_life", "agent_answers", &[]).await;
    assert_eq!(end, "caller gave no sign of life in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_gives_signs_stays() {
    assert_eq!(ending("", "caller_gives_signs_of_life", "agent_answers", &[]).await, "caller hung up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_is_asked_by_update() {
    assert_eq!(ending("", "caller_is_asked_by_update", "agent_answers", &[]).await, "caller hung up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_takes_no_update_is_asked_by_reinvite() {
    assert_eq!(ending("", "caller_is_asked_by_reinvite", "agent_answers", &[]).await, "caller hung up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_short_a_session_is_refused() {
    let house = House::with("[[route]]\nsteps = [ {answer = {}} ]\n").await;
    house.caller("caller_asks_for_too_short_a_session", "100", &[], 1).await.content().await;
    house.is_quiet().await;
    assert_eq!(house.endings(), [""; 0], "it never was a call");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_who_wants_a_longer_session_gets_it() {
    assert_eq!(ending("", "caller_hangs_up", "agent_wants_longer_sessions", &[]).await, "caller hung up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_asked_for_signs() {
    let set = [("TALK", "1200")];
    let end = ending("session_expires = 90", "caller_hangs_up", "agent_is_asked_for_signs_of_life", &set).await;
    assert_eq!(end, "caller hung up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_who_falls_silent_is_gone() {
    let end = ending("session_expires = 90", "caller_waits", "agent_falls_silent", &[]).await;
    assert_eq!(end, "called party gave no sign of life in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_no_packet_for_the_configured_time_is_gone() {
    let port = free_port();
    let routes =
        format!("[[route]]\ncalled = '.*'\nsteps = [ {{connect = {{to = \"sip:agent@127.0.0.1:{port}\"}}}} ]\n");
    let house = House::open(Plan { routes: &routes, media: "timeout = 1", ..Plan::default() }).await;
    let agent = house.agent("agent_answers", &[], port, 1).await;
    house.caller("caller_waits", "100", &[], 1).await.content().await;
    agent.content().await;
    house.is_quiet().await;
    assert_eq!(house.endings(), ["nothing came from the caller for 1 s"]);
    house.close().await;
}
