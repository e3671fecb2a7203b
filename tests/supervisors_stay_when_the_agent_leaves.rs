//! A supervisor who has taken over keeps the customer when the agent hangs up, and the call is over when either is gone.

mod desk;
#[path = "desk/floor.rs"]
mod floor;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod support;

pub type Sound = Box<dyn FnMut(u64) -> i16 + Send>;

use floor::{FIRST, Floor};
use support::tones;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_customer_stays_with_whoever_has_taken_over() {
    for customer_ends in [true, false] {
        let mut floor = Floor::open(1, "", false).await;
        let mut supervisor = floor.supervisor(FIRST, "*81anna", "").await;
        floor.press(&supervisor, 7, "supervisor.took_over").await;
        let [mut customer, mut agent] = floor.calls.remove(0);
        assert_eq!(floor.hear(&[&customer, &supervisor]).await, ["1", "A"]);
        agent.leave().await;
        floor.house.until("the agent's leg is gone", |h| h.told("leg.left") == 1).await;
        assert_eq!(floor.hear(&[&customer, &supervisor]).await, ["1", "A"], "they talk on");
        assert_eq!(floor.house.told("call.ended"), 0);
        if customer_ends {
            customer.bye().await;
            assert_eq!(supervisor.hung_up().await, "SIP;cause=200;text=\"caller hung up\"");
        } else {
            supervisor.bye().await;
            let why = customer.hung_up().await;
            assert_eq!(why, "SIP;cause=200;text=\"the supervisor who had taken over left\"");
        }
        floor.close().await;
    }
}

/// Where nobody has taken over, or somebody has given back, the agent's end is the call's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn otherwise_the_call_ends_with_the_agent() {
    let mut floor = Floor::open(1, "", false).await;
    let supervisor = floor.supervisor(FIRST, "*81anna", "").await;
    floor.press(&supervisor, 7, "supervisor.took_over").await;
    floor.press(&supervisor, 7, "supervisor.gave_back").await;
    let [customer, mut agent] = floor.calls.remove(0);
    agent.leave().await;
    assert_eq!(customer.hung_up().await, "SIP;cause=200;text=\"called party hung up\"");
    supervisor.hung_up().await;
    floor.close().await;
}
