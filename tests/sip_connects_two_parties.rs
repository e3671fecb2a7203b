//! Two SIP parties are connected through a route, talk, and are both told when one of them hangs up.

#[path = "peers/sipp/mod.rs"]
mod sipp;

use sipp::{House, free_port};
use sotto::event::{Role, What};

/// A route that answers, speaks, and connects to an agent on `port`.
fn answered_first(port: u16) -> String {
    format!(
        "[[route]]\ncalled = '^call-(\\d+)$'\nsteps = [ {{answer = {{}}}}, {{say = \"Please hold.\"}}, \
         {{connect = {{to = \"sip:agent-$1@127.0.0.1:{port}\"}}}}, {{mode = \"spy\"}} ]\n"
    )
}

/// A route that answers the caller when the agent answers.
fn connect_first(port: u16) -> String {
    format!("[[route]]\ncalled = '.*'\nsteps = [ {{connect = {{to = \"sip:agent@127.0.0.1:{port}\"}}}} ]\n")
}

fn names(house: &House) -> Vec<&'static str> {
    house.events().iter().map(|e| e.event.what.name()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_hangs_up() {
    let port = free_port();
    let house = House::with(&answered_first(port)).await;
    let agent = house.agent("agent_answers", &[], port, 1).await;
    let caller = house.caller("caller_hangs_up", "call-7", &[("TALK", "8000")], 1).await;
    caller.content().await;
    agent.content().await;
    house.is_quiet().await;
    assert_eq!(house.endings(), ["caller hung up"]);
    let names = names(&house);
    for name in ["call.pending", "call.answered", "clip.ended", "call.connected", "leg.left"] {
        assert!(names.contains(&name), "{name} is missing: {names:?}");
    }
    let roles: Vec<Role> = house
        .events()
        .iter()
        .filter_map(|e| match &e.event.what {
            What::LegJoined { role, .. } => Some(*role),
            _ => None,
        })
        .collect();
    assert_eq!(roles, [Role::Customer, Role::Agent]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_hangs_up() {
    let port = free_port();
    let house = House::with(&connect_first(port)).await;
    let agent = house.agent("agent_hangs_up", &[("TALK", "500")], port, 1).await;
    let caller = house.caller("caller_waits", "100", &[], 1).await;
    caller.content().await;
    agent.content().await;
    house.is_quiet().await;
    assert_eq!(house.endings(), ["called party hung up"]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_calls_at_once_leave_nothing_behind() {
    let port = free_port();
    let house = House::with(&answered_first(port)).await;
    let agents = house.agent("agent_answers", &[], port, 20).await;
    let callers = house.caller("caller_hangs_up", "call-1", &[("TALK", "8000")], 20).await;
    callers.content().await;
    agents.content().await;
    house.is_quiet().await;
    assert_eq!(house.endings().len(), 20);
    assert!(house.endings().iter().all(|reason| reason == "caller hung up"), "{:?}", house.endings());
    let connected = names(&house).iter().filter(|n| **n == "call.connected").count();
    assert_eq!(connected, 20);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_up_from_outside_and_shutting_down_tell_both_parties() {
    let port = free_port();
    let mut house = House::with(&connect_first(port)).await;
    let agents = house.agent("agent_answers", &[], port, 2).await;
    let first = house.caller("caller_waits", "100", &[], 1).await;
    house.until("connected", |h| names(h).contains(&"call.connected")).await;
    let (_, entry) = house.registry.list().remove(0);
    entry.handle.hangup("hung up through the API");
    first.content().await;
    house.is_quiet().await;

    let second = house.caller("caller_waits", "100", &[], 1).await;
    house.until("connected again", |h| names(h).iter().filter(|n| **n == "call.connected").count() == 2).await;
    house.server.take().unwrap().shutdown(std::time::Duration::from_secs(5)).await;
    second.content().await;
    agents.content().await;
    assert_eq!(house.endings(), ["hung up through the API", "the server is shutting down"]);
    assert_eq!(house.media_sockets(), 0);
    house.shard.stop().await;
}
