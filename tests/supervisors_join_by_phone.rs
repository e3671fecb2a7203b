//! Supervisors dial in, are heard by whom their mode says and by nobody else, steer by keys, and leave without a trace;
//! who may not, or cannot, is told why.

mod desk;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod support;

pub type Sound = Box<dyn FnMut(u64) -> i16 + Send>;

use desk::Desk;
use futures_util::future::join_all;
use phone::Phone;
use sipp::{House, Plan, TRUNK};
use sotto::event::{Mode, What};
use support::tones;

const CUSTOMER: f64 = 500.0;
const AGENT: f64 = 700.0;
const FIRST: f64 = 1100.0;
const SECOND: f64 = 1500.0;

/// Anna answers at one port, everyone else at another. `spy-NAME` is what the dialplan makes of `*80NAME`.
fn routes(anna: u16, other: u16) -> String {
    format!(
        "[[route]]\ncalled = 'anna'\nsteps = [ {{connect = {{to = \"sip:anna@127.0.0.1:{anna}\"}}}} ]\n\
         [[route]]\ncalled = 'ann[ei]'\nsteps = [ {{connect = {{to = \"sip:anna@127.0.0.1:{other}\"}}}} ]\n\
         [[route]]\ncalled = 'spy-(.*)'\nsteps = [ {{supervise = {{who = \"$1\", mode = \"spy\"}}}} ]\n"
    )
}

/// A house in which supervisors are let in, and a call between a customer and Anna.
struct Scene {
    house: House,
    customer: Desk,
    agent: Desk,
    /// Where nobody answers until somebody does.
    other: Phone,
}

async fn scene() -> Scene {
    let nowhere = ([127, 0, 0, 1], 9).into();
    // Both answer to the server only when it calls them.
    let (mut agent, other) = (Desk::new(nowhere, AGENT).await, Phone::new(nowhere).await);
    let trunk = format!("{TRUNK}may_supervise = true\n");
    let plan = routes(agent.phone.port(), other.port());
    let house = House::open(Plan { routes: &plan, trunk: &trunk, ..Plan::default() }).await;
    agent.phone.serve(house.sip);
    let mut customer = Desk::new(house.sip, CUSTOMER).await;
    let (answer, ()) = tokio::join!(customer.call("anna"), agent.answer());
    assert_eq!(answer.status(), 200);
    house.until("connected", |h| h.told("call.connected") == 1).await;
    Scene { house, customer, agent, other }
}

impl Scene {
    async fn supervisor(&self, hz: f64, number: &str) -> Desk {
        let mut desk = Desk::new(self.house.sip, hz).await;
        let answer = desk.call(number).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        desk
    }

    /// What an INVITE of a stranger to the call is answered with.
    async fn dial(&self, number: &str) -> (u16, String) {
        let answer = Desk::new(self.house.sip, FIRST).await.call(number).await;
        (answer.status(), answer.reason().to_owned())
    }

    /// Who hears whom: customer, agent, and these supervisors.
    async fn hear(&self, supervisors: &[&Desk]) -> Vec<String> {
        let desks = [&self.customer, &self.agent].into_iter().chain(supervisors.iter().copied());
        let sounds = join_all(desks.map(|desk| desk.listen())).await;
        let names = [(CUSTOMER, 'c'), (AGENT, 'a'), (FIRST, '1'), (SECOND, '2')];
        let heard =
            |sound: &Vec<i16>| names.iter().filter(|(hz, _)| tones::hears(sound, *hz)).map(|(_, n)| *n).collect();
        sounds.iter().map(heard).collect()
    }

    /// Presses and waits until it has worked, as the events tell.
    async fn press(&self, desk: &Desk, key: u8, event: &str) {
        let before = self.house.told(event);
        desk.press(key);
        self.house.until(event, |h| h.told(event) > before).await;
    }

    fn code(&self, number: usize) -> String {
        self.house.registry.list()[number].1.code.to_string()
    }

    async fn end(mut self) {
        self.customer.bye().await;
        self.agent.hung_up().await;
        self.house.is_quiet().await;
        self.house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_code_is_a_mode_and_each_key_another() {
    let scene = scene().await;
    for (code, expected) in [("*80", ["a", "c", "ca"]), ("*81", ["a", "c1", "ca"]), ("*82", ["a1", "c1", "ca"])] {
        let mut supervisor = scene.supervisor(FIRST, &format!("{code}anna")).await;
        assert_eq!(scene.hear(&[&supervisor]).await, expected, "{code}");
        supervisor.bye().await;
    }
    let supervisor = scene.supervisor(FIRST, "spy-anna").await;
    for (key, expected) in
        [(5, ["a", "c1", "ca"]), (6, ["a1", "c1", "ca"]), (5, ["a", "c1", "ca"]), (4, ["a", "c", "ca"])]
    {
        scene.press(&supervisor, key, "mode.changed").await;
        assert_eq!(scene.hear(&[&supervisor]).await, expected, "{key}");
    }
    assert!(!scene.customer.got_a_key() && !scene.agent.got_a_key() && !supervisor.got_a_key());
    assert_eq!(scene.house.told("mode.changed"), 4, "each key once");
    let joined: Vec<Mode> = scene.house.events().iter().filter_map(|e| joined(&e.event.what)).collect();
    assert_eq!(joined, [Mode::Spy, Mode::Whisper, Mode::Barge, Mode::Spy]);
    let reasons = scene.house.left();
    assert_eq!(reasons, ["supervisor hung up"; 3]);

    scene.press(&supervisor, 0, "supervisor.left").await;
    assert!(supervisor.hung_up().await.contains("supervisor left"));
    assert_eq!(scene.hear(&[]).await, ["a", "c"], "the two talk on");
    assert_eq!(scene.house.endings(), Vec::<String>::new());
    scene.end().await;
}

fn joined(what: &What) -> Option<Mode> {
    match what {
        What::SupervisorJoined { mode, .. } => Some(*mode),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_supervisors_and_the_calls_end() {
    let mut scene = scene().await;
    let first = scene.supervisor(FIRST, "*81anna").await;
    let mut second = scene.supervisor(SECOND, &format!("*80{}", scene.code(0))).await;
    assert_eq!(scene.hear(&[&first, &second]).await, ["a", "c1", "ca", "ca1"]);
    assert_eq!(second.info("6").await, 200);
    assert_eq!(scene.hear(&[&first, &second]).await, ["a2", "c12", "ca2", "ca1"]);

    // A louder ear is that of one alone. How loud is measured on a virtual clock; here the network has its say.
    let levels = async || join_all([&first, &second].map(|desk| desk.level(AGENT))).await;
    let before = levels().await;
    scene.press(&first, 11, "leg.changed").await;
    let after = levels().await;
    let decibels = [0, 1].map(|n| 20.0 * (after[n] / before[n]).log10());
    assert!(decibels[0] > 3.0 && decibels[1].abs() < 3.0, "{decibels:?}");

    scene.customer.bye().await;
    for desk in [&scene.agent, &first, &second] {
        assert_eq!(desk.hung_up().await, "SIP;cause=200;text=\"caller hung up\"");
    }
    scene.house.is_quiet().await;
    assert_eq!(scene.house.endings(), ["caller hung up"]);
    assert_eq!(scene.house.left(), ["caller hung up"; 2]);
    scene.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_listen_in_is_told_why() {
    let scene = scene().await;
    let nobody = (404, "no agent of that name is on a call, and no call has that code".to_owned());
    assert_eq!(scene.dial("*80berta").await, nobody);
    assert_eq!(scene.dial("spy-berta").await, nobody);
    assert_eq!(scene.dial("*80").await, (484, "dial the agent's number or the call's code after the star code".into()));
    assert_eq!(scene.dial("*83anna").await.0, 404);

    // Another call to an agent of the same name: while it rings there is nobody to hear, then there are two.
    scene.other.serve(scene.house.sip);
    let caller = Phone::new(scene.house.sip).await;
    caller.send(&caller.invite("anni")).await;
    let invite = scene.other.next().await;
    assert_eq!(invite.method(), "INVITE");
    let early = scene.dial(&format!("*80{}", scene.code(1))).await;
    assert_eq!(early, (480, "the agent of this call is not on the line yet: try again in a moment".into()));
    scene.other.accept(&invite).await;
    let answer = caller.next().await;
    let answer = if answer.status() == 180 { caller.next().await } else { answer };
    assert_eq!(answer.status(), 200, "{answer:?}");
    caller.send(&caller.request("ACK", "anni", 1, answer.to_tag(), "", "")).await;
    assert_eq!(scene.dial("*80anna").await, (485, "2 calls match: dial the code of the one you mean".into()));
    let mut one = scene.supervisor(FIRST, &format!("*80{}", scene.code(0))).await;
    assert_eq!(scene.hear(&[&one]).await, ["a", "c", "ca"], "the code names one of the two");
    one.bye().await;
    assert_eq!(caller.ask(&caller.request("BYE", "anni", 2, answer.to_tag(), "", "")).await.status(), 200);
    let bye = scene.other.next().await;
    assert_eq!(bye.method(), "BYE");
    scene.other.ok(&bye).await;
    scene.house.until("one call is left", |h| h.registry.len() == 1).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_may_not_supervise_does_not() {
    let house = House::with(&routes(9, 9)).await;
    for number in ["*80anna", "*81anna", "*82anna", "spy-anna"] {
        let phone = Phone::new(house.sip).await;
        let answer = phone.ask(&phone.invite(number)).await;
        let told = "this trunk may not listen in on calls: its may_supervise is not true";
        assert_eq!((answer.status(), answer.reason()), (403, told), "{number}");
    }
    house.is_quiet().await;
    house.close().await;
}
