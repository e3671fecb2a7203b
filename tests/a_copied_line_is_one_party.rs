//! A telephone system that copies each party's voice to a line of its own (ChanSpy, eavesdrop): a route says whose it is, lines
//! of one name are one call, and nobody in it is spoken to, but through a line that leads to the agent's ear alone.

mod desk;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod support;

pub type Sound = Box<dyn FnMut(u64) -> i16 + Send>;

use desk::Desk;
use sipp::{House, Plan, TRUNK};
use sotto::event::Role;
use support::tones;

const CUSTOMER: f64 = 500.0;
const AGENT: f64 = 700.0;
const EAR: f64 = 900.0;
const SUPERVISOR: f64 = 1100.0;

const ROUTES: &str = "
[[route]]
called = 'tap-customer-(.+)'
steps = [ {fork = {as = \"customer\", of = \"$1\"}} ]
[[route]]
called = 'tap-agent-(.+)'
steps = [ {fork = {as = \"agent\", of = \"$1\"}}, {consent = \"given\"} ]
[[route]]
called = 'tap-earpiece-(.+)'
steps = [ {fork = {as = \"earpiece\", of = \"$1\"}} ]
";

async fn house() -> House {
    let trunk = format!("{TRUNK}may_supervise = true\n");
    House::open(Plan { routes: ROUTES, trunk: &trunk, ..Plan::default() }).await
}

async fn line(house: &House, hz: f64, number: &str, who: &str) -> Desk {
    let mut desk = Desk::new(house.sip, hz).await;
    let answer = desk.call_with(number, &format!("P-Asserted-Identity: <sip:{who}@pbx>\r\n")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let way = if number.starts_with("tap-earpiece") { "a=sendrecv" } else { "a=recvonly" };
    assert!(answer.0.contains(way) || way == "a=sendrecv" && !answer.0.contains("only"), "{number}: {answer:?}");
    desk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_is_one_party_and_hears_nothing() {
    let house = house().await;
    let mut customer = line(&house, CUSTOMER, "tap-customer-7.1", "5550100").await;
    let mut agent = line(&house, AGENT, "tap-agent-7.1", "anna").await;
    let mut other = line(&house, EAR, "tap-agent-7.2", "berta").await;
    assert_eq!(house.registry.len(), 2, "lines of one name are one call");
    house.until("connected", |h| h.told("call.connected") == 1).await;
    let mut supervisor = Desk::new(house.sip, SUPERVISOR).await;
    assert_eq!(supervisor.call("*80anna").await.status(), 200);
    let heard = supervisor.listen().await;
    assert!(tones::hears(&heard, CUSTOMER) && tones::hears(&heard, AGENT) && !tones::hears(&heard, EAR));
    assert_eq!(Desk::new(house.sip, SUPERVISOR).await.call("*81anna").await.status(), 488, "there is no way back");
    assert_eq!(customer.count() + agent.count() + other.count(), 0, "nothing is sent on a copy");
    for desk in [&mut supervisor, &mut customer, &mut agent, &mut other] {
        desk.bye().await;
    }
    house.is_quiet().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_the_earpiece_the_agent_alone_is_whispered_to() {
    let house = house().await;
    let mut customer = line(&house, CUSTOMER, "tap-customer-7", "5550100").await;
    let mut agent = line(&house, AGENT, "tap-agent-7", "anna").await;
    let mut ear = line(&house, EAR, "tap-earpiece-7", "anna").await;
    let (_, entry) = house.registry.list().remove(0);
    assert_eq!(entry.agents.len(), 1, "an ear is no agent");
    let mut supervisor = Desk::new(house.sip, SUPERVISOR).await;
    assert_eq!(supervisor.call("*81anna").await.status(), 200);
    let heard = ear.listen().await;
    assert!(tones::hears(&heard, SUPERVISOR), "the agent is whispered to");
    assert!(!tones::hears(&heard, CUSTOMER) && !tones::hears(&heard, AGENT) && !tones::hears(&heard, EAR));
    let heard = supervisor.listen().await;
    assert!(tones::hears(&heard, CUSTOMER) && tones::hears(&heard, AGENT) && !tones::hears(&heard, EAR));
    assert_eq!(customer.count() + agent.count(), 0, "nobody else is sent anything");
    assert_eq!(Desk::new(house.sip, SUPERVISOR).await.call("*82anna").await.status(), 488, "to all there is no way");
    let roles: Vec<Role> = house
        .events()
        .iter()
        .filter_map(|e| match &e.event.what {
            sotto::event::What::LegJoined { role, .. } => Some(*role),
            _ => None,
        })
        .collect();
    assert_eq!(roles, [Role::Customer, Role::Agent, Role::Earpiece, Role::Supervisor]);
    for desk in [&mut supervisor, &mut ear, &mut customer, &mut agent] {
        desk.bye().await;
    }
    house.is_quiet().await;
    house.close().await;
}
