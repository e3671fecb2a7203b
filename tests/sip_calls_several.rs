//! A route that names several calls them in turn or together: one has the call, the others ring no more, and the caller is
//! told the reason that says most.

#[path = "peers/sipp/mod.rs"]
mod sipp;

use sipp::{House, free_port};
use std::net::UdpSocket;

fn routes(ports: &[u16], more: &str) -> String {
    let to: Vec<String> = ports.iter().map(|port| format!("\"sip:agent@127.0.0.1:{port}\"")).collect();
    format!("[[route]]\ncalled = '.*'\nsteps = [ {{connect = {{to = [{}]{more}}}}} ]\n", to.join(", "))
}

/// The agents' scenarios and answers, and the caller's with what it expects: why the call ended.
async fn ending(more: &str, agents: &[(&str, &str)], caller: &str, expect: (&str, &str)) -> String {
    let ports: Vec<u16> = agents.iter().map(|_| free_port()).collect();
    let house = House::with(&routes(&ports, more)).await;
    let mut peers = Vec::new();
    for ((scenario, answer), port) in agents.iter().zip(&ports) {
        peers.push(house.agent(scenario, &[("ANSWER", answer)], *port, 1).await);
    }
    let set = [("STATUS", expect.0), ("EXPECT", expect.1)];
    house.caller(caller, "100", &set, 1).await.content().await;
    for peer in peers {
        peer.content().await;
    }
    house.is_quiet().await;
    let endings = house.endings();
    assert_eq!(endings.len(), 1);
    house.close().await;
    endings.into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_is_called_where_one_is_busy_or_does_not_answer() {
    let agents = [("agent_refuses", "486 Busy Here"), ("agent_does_not_answer", ""), ("agent_answers", "200 OK")];
    assert_eq!(ending(", timeout = 1", &agents, "caller_hangs_up", ("", "")).await, "caller hung up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_ring_together_one_has_the_call_and_the_others_ring_no_more() {
    let agents = [("agent_does_not_answer", ""), ("agent_answers", "200 OK"), ("agent_does_not_answer", "")];
    assert_eq!(ending(", together = true", &agents, "caller_hangs_up", ("", "")).await, "caller hung up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_is_told_what_says_most() {
    let agents = [("agent_refuses", "404 Not Found"), ("agent_refuses", "486 Busy Here"), ("agent_refuses", "503 No")];
    for more in ["", ", together = true"] {
        let end = ending(more, &agents, "caller_is_refused", ("486", "called party busy")).await;
        assert_eq!(end, "called party busy");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_declines_everywhere_declines_for_all_who_ring() {
    let agents = [("agent_does_not_answer", ""), ("agent_refuses", "603 Decline")];
    let end = ending(", together = true", &agents, "caller_is_refused", ("603", "called party declined")).await;
    assert_eq!(end, "called party declined");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_called_after_one_who_declines_everywhere() {
    let (first, second) = (free_port(), UdpSocket::bind("127.0.0.1:0").unwrap());
    second.set_nonblocking(true).unwrap();
    let house = House::with(&routes(&[first, second.local_addr().unwrap().port()], "")).await;
    let agent = house.agent("agent_refuses", &[("ANSWER", "603 Decline")], first, 1).await;
    let set = [("STATUS", "603"), ("EXPECT", "called party declined")];
    house.caller("caller_is_refused", "100", &set, 1).await.content().await;
    agent.content().await;
    house.is_quiet().await;
    assert!(second.recv(&mut [0; 2000]).is_err(), "the second was called");
    house.close().await;
}
