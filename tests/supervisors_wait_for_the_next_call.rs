//! A supervisor who dials an agent without a call hears it ring until that agent's next one, where a rule lets them; once that
//! call has ended their line ends, whatever call begins then.

mod desk;
#[path = "desk/floor.rs"]
mod floor;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod support;

pub type Sound = Box<dyn FnMut(u64) -> i16 + Send>;

use desk::Desk;
use floor::{CALLS, FIRST, Floor, SECOND};
use phone::Phone;
use sipp::{House, Plan, TRUNK};
use sotto::event::Consent;
use support::tones;

const RULES: &str = "may_supervise = true
[[supervise]]
supervisor = \"chief|auditor\"
agents = [\"anna\"]
[[supervise]]
supervisor = \"chief\"
agents = [\"anna\"]
wait_s = 60
[[supervise]]
supervisor = \"hasty\"
wait_s = 1
[[supervise]]
supervisor = \"careful\"
agents = [\"anna\"]
consent = true
wait_s = 60
";

fn asserted(who: &str) -> String {
    format!("P-Asserted-Identity: <sip:{who}@pbx.example>\r\n")
}

/// A floor whose agents have not been called yet: each with the telephone of its agent.
async fn before_any_call() -> (Floor, Vec<Desk>) {
    let nowhere = ([127, 0, 0, 1], 9).into();
    let (mut agents, mut routes) = (Vec::new(), String::new());
    for (name, _, hz) in CALLS {
        let agent = Desk::new(nowhere, hz).await;
        let to = format!("sip:{name}@127.0.0.1:{}", agent.phone.port());
        routes += &format!("[[route]]\ncalled = '{name}'\nsteps = [ {{connect = {{to = \"{to}\"}}}} ]\n");
        agents.push(agent);
    }
    let trunk = format!("{TRUNK}{RULES}");
    let house = House::open(Plan { routes: &routes, trunk: &trunk, ..Plan::default() }).await;
    agents.iter_mut().for_each(|agent| agent.phone.serve(house.sip));
    (Floor { house, calls: Vec::new() }, agents)
}

impl Floor {
    async fn begins(&mut self, mut agent: Desk) {
        let (name, hz, _) = CALLS[self.calls.len()];
        let mut customer = Desk::new(self.house.sip, hz).await;
        let (answer, ()) = tokio::join!(customer.call(name), agent.answer());
        assert_eq!(answer.status(), 200);
        self.calls.push([customer, agent]);
    }

    async fn somebody_waits(&self, lines: usize) {
        self.house.until("somebody waits", |h| h.server().live() == lines).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_the_agents_next_call_and_no_longer() {
    let (mut floor, mut agents) = before_any_call().await;
    assert_eq!(floor.refused("*80anna", &asserted("auditor")).await.0, 404, "no rule lets them wait");
    assert_eq!(floor.refused("*80berta", &asserted("chief")).await.0, 404, "nor for this agent");
    let mut chief = floor.desk(FIRST).await;
    let waiting = tokio::spawn(async move {
        let answer = chief.call_with("*81anna", &asserted("chief")).await;
        (chief, answer.status())
    });
    floor.somebody_waits(1).await;
    assert!(floor.house.events().is_empty(), "a line that waits is in no call");
    let anna = agents.remove(0);
    floor.begins(anna).await;
    let (chief, status) = waiting.await.unwrap();
    assert_eq!(status, 200);
    floor.house.until("joined", |h| h.told("supervisor.joined") == 1).await;
    let [customer, agent] = &floor.calls[0];
    assert_eq!(floor.hear(&[customer, agent, &chief]).await, ["a", "A1", "Aa"]);
    floor.begins(agents.remove(0)).await;
    let [customer, agent] = &mut floor.calls[0];
    customer.bye().await;
    agent.hung_up().await;
    assert!(chief.hung_up().await.contains("caller hung up"));
    floor.house.until("left", |h| h.told("supervisor.left") == 1).await;
    assert_eq!(floor.house.told("supervisor.joined"), 1, "nobody hops into another call");
    floor.calls.remove(0);
    floor.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_customer_must_agree_until_they_have() {
    let (mut floor, mut agents) = before_any_call().await;
    let mut careful = floor.desk(SECOND).await;
    let waiting = tokio::spawn(async move {
        let answer = careful.call_with("*80anna", &asserted("careful")).await;
        (careful, answer.status())
    });
    floor.somebody_waits(1).await;
    floor.begins(agents.remove(0)).await;
    floor.house.until("connected", |h| h.told("call.connected") == 1).await;
    assert!(!waiting.is_finished() && floor.house.told("supervisor.joined") == 0);
    let (call, entry) = floor.house.registry.list().remove(0);
    floor.house.registry.set_consent(call, &entry.shard, Consent::Given).await.unwrap();
    let (mut careful, status) = waiting.await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(floor.hear(&[&careful]).await, ["Aa"]);
    careful.bye().await;
    floor.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_up_or_waits_too_long_leaves_nothing() {
    let (floor, _agents) = before_any_call().await;
    let refused = floor.refused("*80berta", &asserted("hasty")).await;
    assert_eq!(refused, (480, "no call of this agent has begun".to_owned()));
    let phone = Phone::new(floor.house.sip).await;
    let invite =
        phone.request("INVITE", "*80anna", 1, "", &format!("Max-Forwards: 70\r\n{}", asserted("chief")), &phone.sdp());
    phone.send(&invite).await;
    let rings = loop {
        let came = phone.next().await;
        if came.status() != 100 {
            break came;
        }
    };
    assert_eq!(rings.status(), 180);
    let cancel = phone.request("CANCEL", "*80anna", 1, "", "Max-Forwards: 70\r\n", "");
    phone.send(&cancel.replace("branch=z9hG4bK-CANCEL", "branch=z9hG4bK-INVITE")).await;
    let mut answers = [phone.next().await.status(), phone.next().await.status()];
    answers.sort_unstable();
    assert_eq!(answers, [200, 487]);
    let ack = phone.request("ACK", "*80anna", 1, rings.to_tag(), "", "");
    phone.send(&ack.replace("branch=z9hG4bK-ACK", "branch=z9hG4bK-INVITE")).await;
    floor.house.is_quiet().await;
    // A server that ends lets nobody wait.
    let mut chief = floor.desk(FIRST).await;
    let waiting = tokio::spawn(async move { chief.call_with("*80anna", &asserted("chief")).await.status() });
    floor.somebody_waits(1).await;
    floor.house.close().await;
    assert_eq!(waiting.await.unwrap(), 404);
}
