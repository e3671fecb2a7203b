//! When the other party does not come, the caller learns why: in speech if they were answered, else by the status.

#[path = "peers/sipp/mod.rs"]
mod sipp;

use sipp::{House, free_port};
use sotto::event::What;

/// Number 1 is answered before it is connected, number 2 when the agent answers.
fn routes(port: u16) -> String {
    format!(
        "[[route]]\ncalled = '^1'\nsteps = [ {{answer = {{}}}}, {{connect = {{to = \"sip:a@127.0.0.1:{port}\", timeout = 1}}}} ]\n\
         [[route]]\ncalled = '^2'\nsteps = [ {{connect = {{to = \"sip:a@127.0.0.1:{port}\", timeout = 1}}}} ]\n"
    )
}

/// Everything that was said in clips, in order.
fn said(house: &House) -> Vec<String> {
    let text = |what: &What| match what {
        What::ClipStarted { text: Some(text), .. } => Some(text.0.to_string()),
        _ => None,
    };
    house.events().iter().filter_map(|e| text(&e.event.what)).collect()
}

fn ended(house: &House, name: &str) -> usize {
    house.events().iter().filter(|e| e.event.what.name() == name).count()
}

/// An agent with `scenario` and what a caller of number 1 hears and a caller of number 2 sees.
async fn nobody_comes(agent: Option<(&str, &str)>, status: &str, words: &str, reason: &str) {
    let port = free_port();
    let house = House::with(&routes(port)).await;
    let agents = match agent {
        Some((scenario, answer)) => Some(house.agent(scenario, &[("ANSWER", answer)], port, 2).await),
        None => None,
    };
    let caller = house.caller("caller_waits", "1", &[], 1).await.content().await;
    // The tone, then the words: about four seconds, all sent to where the caller's SDP said.
    assert!(caller.heard().len() > 100, "the caller heard {} packets", caller.heard().len());
    assert_eq!(said(&house).len(), 1);
    assert!(said(&house)[0].contains(words), "{:?}", said(&house));
    assert_eq!(ended(&house, "clip.cut"), 1, "the ringing tone was cut");
    assert_eq!(ended(&house, "clip.ended"), 1, "the words were spoken to their end");
    house.is_quiet().await;

    let set = [("STATUS", status), ("EXPECT", reason)];
    house.caller("caller_is_refused", "2", &set, 1).await.content().await;
    if let Some(agents) = agents {
        agents.content().await;
        house.is_quiet().await;
    }
    house.until("both calls ended", |h| h.endings().len() == 2).await;
    assert_eq!(house.endings(), [reason, reason]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_is_busy() {
    nobody_comes(Some(("agent_refuses", "486 Busy Here")), "486", "busy", "called party busy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_declines() {
    nobody_comes(Some(("agent_refuses", "603 Decline")), "603", "cannot take your call", "called party declined").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_speaks_nothing_we_speak() {
    let refusal = Some(("agent_refuses", "488 Not Acceptable Here"));
    nobody_comes(refusal, "502", "cannot be reached", "called party unreachable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_does_not_answer() {
    let agent = Some(("agent_does_not_answer", ""));
    nobody_comes(agent, "480", "does not answer", "called party did not answer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_gives_up_while_it_rings() {
    let port = free_port();
    let house = House::with(&routes(port).replace("timeout = 1", "timeout = 30")).await;
    let agent = house.agent("agent_does_not_answer", &[], port, 2).await;
    // Before the answer by CANCEL, after it by BYE: the agent's telephone stops ringing both times.
    house.caller("caller_gives_up", "2", &[], 1).await.content().await;
    house.caller("caller_hangs_up", "1", &[("TALK", "800")], 1).await.content().await;
    agent.content().await;
    house.is_quiet().await;
    assert_eq!(house.endings(), ["caller gave up", "caller hung up"]);
    house.close().await;
}
