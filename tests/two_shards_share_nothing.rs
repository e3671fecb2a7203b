//! Two calls on two media threads, a supervisor on each: everyone hears their own call and nothing of the other, keys
//! steer the call they are pressed in, and the end of one is nothing to the other.

mod desk;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod support;

pub type Sound = Box<dyn FnMut(u64) -> i16 + Send>;

use desk::Desk;
use futures_util::future::join_all;
use sipp::{House, Plan, TRUNK};
use support::tones;

/// Customer, agent and supervisor of either call: nobody's tone is a harmonic of another's.
const TONES: [[f64; 3]; 2] = [[500.0, 700.0, 1100.0], [600.0, 850.0, 1350.0]];

/// Two parties in conversation.
struct Talk {
    customer: Desk,
    agent: Desk,
}

async fn talk(house: &House, agent: Desk, number: &str, [hz, ..]: [f64; 3]) -> Talk {
    let (mut customer, mut agent) = (Desk::new(house.sip, hz).await, agent);
    agent.phone.serve(house.sip);
    let before = house.told("call.connected");
    let (answer, ()) = tokio::join!(customer.call(number), agent.answer());
    assert_eq!(answer.status(), 200);
    house.until("connected", |h| h.told("call.connected") > before).await;
    Talk { customer, agent }
}

/// Who of the six each of these hears: `c`, `a`, `s` of the first call, capitals of the second.
async fn heard(desks: &[&Desk]) -> Vec<String> {
    let names = TONES.iter().flatten().zip("casCAS".chars());
    let of = |sound: &Vec<i16>| names.clone().filter(|(hz, _)| tones::hears(sound, **hz)).map(|(_, n)| n).collect();
    join_all(desks.iter().map(|desk| desk.listen())).await.iter().map(of).collect()
}

async fn press(house: &House, desk: &Desk, key: u8) {
    let before = house.told("mode.changed");
    desk.press(key);
    house.until("mode.changed", |h| h.told("mode.changed") > before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_calls_two_supervisors_and_nothing_crosses() {
    let nowhere = ([127, 0, 0, 1], 9).into();
    let (anna, berta) = (Desk::new(nowhere, TONES[0][1]).await, Desk::new(nowhere, TONES[1][1]).await);
    let route = |name: &str, desk: &Desk| {
        let port = desk.phone.port();
        format!("[[route]]\ncalled = '{name}'\nsteps = [ {{connect = {{to = \"sip:{name}@127.0.0.1:{port}\"}}}} ]\n")
    };
    let routes = route("anna", &anna) + &route("berta", &berta);
    let trunk = format!("{TRUNK}may_supervise = true\n");
    let house = House::open(Plan { routes: &routes, trunk: &trunk, shards: 2, ..Plan::default() }).await;
    let mut first = talk(&house, anna, "anna", TONES[0]).await;
    let mut second = talk(&house, berta, "berta", TONES[1]).await;
    let load = || house.shards.iter().map(|s| s.load()).collect::<Vec<_>>();
    assert_eq!(load(), [1, 1], "a new call goes to the thread with the fewest");

    let mut supervisors = [Desk::new(house.sip, TONES[0][2]).await, Desk::new(house.sip, TONES[1][2]).await];
    for (desk, number) in supervisors.iter_mut().zip(["*81anna", "*82berta"]) {
        assert_eq!(desk.call(number).await.status(), 200);
    }
    let [one, other] = &supervisors;
    let all = [&first.customer, &first.agent, one, &second.customer, &second.agent, other];
    assert_eq!(heard(&all).await, ["a", "cs", "ca", "AS", "CS", "CA"], "a whisper here, a barge there");
    press(&house, one, 4).await;
    assert_eq!(heard(&all).await, ["a", "c", "ca", "AS", "CS", "CA"], "a key in the first call");
    press(&house, other, 5).await;
    assert_eq!(heard(&all).await, ["a", "c", "ca", "A", "CS", "CA"], "a key in the second");

    first.customer.bye().await;
    assert_eq!(first.agent.hung_up().await, one.hung_up().await);
    house.until("the first call is gone", |h| h.shards.iter().map(|s| s.load()).sum::<usize>() == 1).await;
    assert_eq!(heard(&[&second.customer, &second.agent, other]).await, ["A", "CS", "CA"], "the second call goes on");
    second.customer.bye().await;
    second.agent.hung_up().await;
    other.hung_up().await;
    house.is_quiet().await;
    assert_eq!(load(), [0, 0]);
    assert_eq!(house.told("leg.left"), 6);
    house.close().await;
}
