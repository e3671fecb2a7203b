//! Requests that come before their time, and offers that come after theirs: every one is answered, and the call goes on.

#[path = "peers/sipp/mod.rs"]
mod sipp;

use sipp::{House, free_port};

async fn ending(caller: &str, set: &[(&str, &str)]) -> Vec<String> {
    let port = free_port();
    let routes =
        format!("[[route]]\ncalled = '.*'\nsteps = [ {{connect = {{to = \"sip:agent@127.0.0.1:{port}\"}}}} ]\n");
    let house = House::with(&routes).await;
    let agent = house.agent("agent_answers", set, port, 1).await;
    house.caller(caller, "100", &[], 1).await.content().await;
    agent.content().await;
    house.is_quiet().await;
    let endings = house.endings();
    house.close().await;
    endings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_before_the_answer_is_to_come_again() {
    assert_eq!(ending("caller_updates_too_early", &[("RING", "4000")]).await, ["caller hung up"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reinvite_before_the_ack_waits_for_it() {
    assert_eq!(ending("caller_reinvites_before_its_ack", &[]).await, ["caller hung up"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_is_left_to_us_is_made_at_any_time() {
    assert_eq!(ending("caller_leaves_the_offer_to_us", &[]).await, ["caller hung up"]);
}
