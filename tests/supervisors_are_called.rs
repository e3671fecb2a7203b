//! Who is wanted in a call is called, and lets themselves in by answering; who does not come is told of, with the reason.

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
use phone::{Came, Phone};
use sotto::event::{Mode, What};
use sotto::io::sip::Unsummoned;
use support::tones;

impl Floor {
    fn summon(&self, to: &str, mode: Mode) -> Result<(), Unsummoned> {
        let (call, entry) = self.house.registry.list().remove(0);
        self.house.registry.summon(call, entry, to, mode)
    }

    fn missed(&self) -> Vec<String> {
        let reason = |what: &What| match what {
            What::SupervisorMissed { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        self.house.events().iter().filter_map(|e| reason(&e.event.what)).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_answers_is_let_in() {
    // A rule that is for nobody: whoever has somebody called answers for them.
    let floor = Floor::open(1, "[[supervise]]\nsupervisor = \"nobody\"\n", false).await;
    let [customer, agent] = &floor.calls[0];
    let mut supervisor = floor.desk(FIRST).await;
    floor.summon(&format!("sip:4711@127.0.0.1:{}", supervisor.phone.port()), Mode::Whisper).unwrap();
    supervisor.answer().await;
    floor.house.until("joined", |h| h.told("supervisor.joined") == 1).await;
    assert_eq!(floor.hear(&[customer, agent, &supervisor]).await, ["a", "A1", "Aa"]);
    floor.press(&supervisor, 4, "mode.changed").await;
    assert_eq!(floor.hear(&[customer, agent, &supervisor]).await, ["a", "A", "Aa"]);
    floor.press(&supervisor, 0, "supervisor.left").await;
    assert!(supervisor.hung_up().await.contains("supervisor left"));
    assert_eq!(floor.house.endings(), Vec::<String>::new());
    floor.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_come_is_told_of() {
    let mut floor = Floor::open(1, "", false).await;
    for (to, why) in [
        ("4711", Unsummoned::Address),
        ("sip:127.0.0.1", Unsummoned::Address),
        ("tel:4711", Unsummoned::Address),
        ("sip:4711@[::1]", Unsummoned::Family),
    ] {
        assert_eq!(floor.summon(to, Mode::Spy), Err(why), "{to}");
    }
    let busy = Phone::new(floor.house.sip).await;
    floor.summon(&format!("sip:4711@127.0.0.1:{}", busy.port()), Mode::Spy).unwrap();
    let invite = busy.next().await;
    busy.send(&reply(&invite, "486 Busy Here")).await;
    assert_eq!(busy.next().await.method(), "ACK");
    floor.house.until("told", |h| h.told("supervisor.missed") == 1).await;
    assert_eq!(floor.missed(), ["refused with 486"]);

    // The call ends while their telephone rings.
    let slow = Phone::new(floor.house.sip).await;
    floor.summon(&format!("sip:4711@127.0.0.1:{}", slow.port()), Mode::Spy).unwrap();
    let invite = slow.next().await;
    slow.send(&reply(&invite, "180 Ringing")).await;
    let [customer, agent] = &mut floor.calls[0];
    customer.bye().await;
    agent.hung_up().await;
    let cancel = slow.next().await;
    assert_eq!(cancel.method(), "CANCEL");
    slow.send(&reply(&cancel, "200 OK")).await;
    slow.send(&reply(&invite, "487 Request Terminated")).await;
    assert_eq!(slow.next().await.method(), "ACK");
    floor.calls.clear();
    floor.close().await;
}

/// A response to a request that came.
fn reply(request: &Came, status: &str) -> String {
    let copied = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", request.header(n).unwrap()));
    let to = request.header("To").unwrap();
    let to = if to.contains(";tag=") { to.to_owned() } else { format!("{to};tag=phone") };
    format!("SIP/2.0 {status}\r\n{}To: {to}\r\nContent-Length: 0\r\n\r\n", copied.concat())
}
