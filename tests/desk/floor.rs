//! Several calls at once, each of a customer and an agent with a name, in a house that lets supervisors in.
#![allow(dead_code, reason = "every test uses its own part")]

use crate::desk::Desk;
use crate::sipp::{House, Plan, TRUNK};
use crate::tones;
use futures_util::future::join_all;
use sotto::event::{Recorded, What};
use std::sync::Arc;

/// The names of agents and the tones of their calls: customer, agent.
pub const CALLS: [(&str, f64, f64); 3] = [("anna", 500.0, 700.0), ("berta", 900.0, 1300.0), ("carla", 1700.0, 1900.0)];
/// Whose customer has agreed to be listened to.
const AGREED: &str = "carla";
/// The supervisors' tones.
pub const FIRST: f64 = 1100.0;
pub const SECOND: f64 = 1500.0;
/// What a refused key is answered with.
pub const LOW: f64 = 250.0;

pub struct Floor {
    pub house: House,
    /// Customer and agent of each call.
    pub calls: Vec<[Desk; 2]>,
}

impl Floor {
    /// So many calls; `rules` follow the trunk in the configuration.
    pub async fn open(calls: usize, rules: &str, announce: bool) -> Floor {
        let nowhere = ([127, 0, 0, 1], 9).into();
        let mut agents = join_all(CALLS.iter().take(calls).map(|(_, _, hz)| Desk::new(nowhere, *hz))).await;
        let routes: String = (CALLS.iter().zip(&agents))
            .map(|((name, ..), agent)| {
                let to = format!("sip:{name}@127.0.0.1:{}", agent.phone.port());
                let said = if *name == AGREED { "{consent = \"given\"}, " } else { "" };
                format!("[[route]]\ncalled = '{name}'\nsteps = [ {said}{{connect = {{to = \"{to}\"}}}} ]\n")
            })
            .collect();
        let trunk = format!("{TRUNK}may_supervise = true\n{rules}");
        let house = House::open(Plan { routes: &routes, trunk: &trunk, announce, shards: 2, ..Plan::default() }).await;
        let mut floor = Floor { house, calls: Vec::new() };
        for (n, (mut agent, (name, hz, _))) in agents.drain(..).zip(CALLS).enumerate() {
            agent.phone.serve(floor.house.sip);
            let mut customer = Desk::new(floor.house.sip, hz).await;
            let (answer, ()) = tokio::join!(customer.call(name), agent.answer());
            assert_eq!(answer.status(), 200);
            floor.house.until("connected", |h| h.told("call.connected") == n + 1).await;
            floor.calls.push([customer, agent]);
        }
        floor
    }

    pub async fn desk(&self, hz: f64) -> Desk {
        Desk::new(self.house.sip, hz).await
    }

    /// A supervisor who is let in.
    pub async fn supervisor(&self, hz: f64, number: &str, headers: &str) -> Desk {
        let mut desk = self.desk(hz).await;
        let answer = desk.call_with(number, headers).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        desk
    }

    /// What an INVITE is refused with.
    pub async fn refused(&self, number: &str, headers: &str) -> (u16, String) {
        let answer = self.desk(FIRST).await.call_with(number, headers).await;
        (answer.status(), answer.reason().to_owned())
    }

    /// Which tones each of `desks` hears now: `a`, `b`, `c` for agents, capitals for their customers, `1`, `2`, and `!`.
    pub async fn hear(&self, desks: &[&Desk]) -> Vec<String> {
        join_all(desks.iter().map(|desk| desk.listen())).await.iter().map(|sound| names(sound, tones::hears)).collect()
    }

    /// Presses and waits until an event has told what came of it.
    pub async fn press(&self, desk: &Desk, key: u8, event: &str) {
        let before = self.house.told(event);
        desk.press(key);
        self.house.until(event, |h| h.told(event) > before).await;
    }

    pub fn find(&self, wanted: impl Fn(&What) -> bool) -> Vec<Arc<Recorded>> {
        self.house.events().into_iter().filter(|e| wanted(&e.event.what)).collect()
    }

    /// The customers hang up, and nothing is left.
    pub async fn close(mut self) {
        for [customer, agent] in &mut self.calls {
            customer.bye().await;
            agent.hung_up().await;
        }
        self.house.is_quiet().await;
        self.house.close().await;
    }
}

/// The names of the tones in a sound.
pub fn names(sound: &[i16], hears: impl Fn(&[i16], f64) -> bool) -> String {
    let calls = CALLS.iter().flat_map(|(name, customer, agent)| {
        let letter = name.chars().next().unwrap_or('?');
        [(*customer, letter.to_ascii_uppercase()), (*agent, letter)]
    });
    let all = calls.chain([(FIRST, '1'), (SECOND, '2'), (LOW, '!')]);
    all.filter(|(hz, _)| hears(sound, *hz)).map(|(_, name)| name).collect()
}
