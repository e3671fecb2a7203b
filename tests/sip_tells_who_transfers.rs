//! A telephone that transfers is told how it goes, NOTIFY by NOTIFY (RFC 3515 §2.4.5), and whom they are sent on to sees who
//! calls.

#[path = "peers/sipp/mod.rs"]
mod sipp;

use sipp::{House, Plan, free_port};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_transfers_is_told_how_it_goes() {
    let (desk, third) = (free_port(), free_port());
    let route = |name: &str, port: u16| {
        format!("[[route]]\ncalled = '{name}'\nsteps = [ {{connect = {{to = \"sip:agent@127.0.0.1:{port}\"}}}} ]\n")
    };
    let routes = route("100", desk) + &route("third", third);
    let house = House::open(Plan { routes: &routes, ..Plan::default() }).await;
    let to = format!("sip:third@{}", house.sip);
    let agent = house.agent("agent_transfers", &[("TO", &to)], desk, 1).await;
    // It checks that the caller is shown to it.
    let other = house.agent("agent_answers", &[], third, 1).await;
    let caller = house.caller("caller_hangs_up", "100", &[("TALK", "3000")], 1).await;
    agent.content().await;
    caller.content().await;
    other.content().await;
    house.is_quiet().await;
    assert_eq!(house.endings(), ["caller hung up"]);
    house.close().await;
}
