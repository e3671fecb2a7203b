//! A party holds and comes back, from either end and in every way telephones do it: the other is told, nobody who holds is
//! taken for somebody who listens, and what the other hears meanwhile is what the configuration says.

#[path = "peers/sipp/mod.rs"]
mod sipp;

use sipp::{House, Plan, free_port};

fn route(port: u16) -> String {
    format!("[[route]]\ncalled = '.*'\nsteps = [ {{connect = {{to = \"sip:agent@127.0.0.1:{port}\"}}}} ]\n")
}

/// A call of two scenarios: the holds and returns that were told, leg by leg, in order.
async fn holds(sip: &str, caller: &str, agent: &str, set: &[(&str, &str)]) -> Vec<(u32, &'static str)> {
    let port = free_port();
    let house = House::open(Plan { routes: &route(port), sip, ..Plan::default() }).await;
    let agent = house.agent(agent, set, port, 1).await;
    house.caller(caller, "100", &[], 1).await.content().await;
    agent.content().await;
    house.is_quiet().await;
    let told = |e: &std::sync::Arc<sotto::event::Recorded>| {
        let name = e.event.what.name();
        ["leg.held", "leg.resumed"].contains(&name).then(|| (e.event.leg.unwrap().0, name))
    };
    let told = house.events().iter().filter_map(told).collect();
    house.close().await;
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_is_told_that_the_caller_holds_and_is_back() {
    let told = holds("", "caller_holds", "agent_is_told_of_holds", &[]).await;
    // The called party is the first leg that has media.
    assert_eq!(told, [(2, "leg.held"), (2, "leg.resumed"), (2, "leg.held")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_is_told_that_the_agent_holds_and_is_back() {
    let told = holds("", "caller_is_told_of_a_hold", "agent_holds_and_resumes", &[]).await;
    assert_eq!(told, [(1, "leg.held"), (1, "leg.resumed")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_that_names_no_address_is_a_hold() {
    let told = holds("", "caller_holds_the_old_way", "agent_is_told_of_an_old_hold", &[]).await;
    assert_eq!(told, [(2, "leg.held"), (2, "leg.resumed")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_crosses_anothers_is_made_again() {
    let told = holds("", "caller_crosses_an_offer", "agent_holds", &[("TALK", "5000")]).await;
    assert_eq!(told, [(1, "leg.held")]);
}
