//! The next call by a key: the line goes on without a break, nothing of one call is heard in the other, and nobody is
//! ever taken to a call they did not ask for.

mod desk;
#[path = "desk/floor.rs"]
mod floor;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod support;

pub type Sound = Box<dyn FnMut(u64) -> i16 + Send>;

use floor::{FIRST, Floor, names};
use sotto::event::{Mode, What};
use support::tones;

/// The key for the next call (RFC 4733 §3.2).
const STAR: u8 = 10;

/// What a packet of 20 ms holds: each tone has whole periods in it.
fn hears(sound: &[i16], hz: f64) -> bool {
    tones::amplitude(&[sound, sound].concat(), hz) > 1500.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_call_to_call_and_round() {
    let mut floor = Floor::open(3, "", false).await;
    let supervisor = floor.supervisor(FIRST, "*81anna", "").await;
    let [[_, anna], [_, berta], [_, carla]] = &floor.calls[..] else { panic!("three calls") };
    assert_eq!(floor.hear(&[&supervisor, anna, berta]).await, ["Aa", "A1", "B"]);
    let (heard, told) = (supervisor.count(), berta.count());
    floor.press(&supervisor, STAR, "supervisor.joined").await;
    assert_eq!(floor.hear(&[&supervisor, anna, berta, carla]).await, ["Bb", "A", "B", "C"], "in spy");
    // No packet has two calls in it, and after the first of the second there is none of the first. Nor has the agent there
    // heard any of what was whispered here.
    let packets: Vec<String> = supervisor.heard(heard).iter().map(|(_, s)| names(s, hears)).collect();
    let first = packets.iter().position(|p| p.contains(['B', 'b'])).expect("the second call is heard");
    assert!(packets[..first].iter().all(|p| !p.contains(['B', 'b'])));
    assert!(packets[first..].iter().all(|p| !p.contains(['A', 'a'])), "{packets:?}");
    assert!(berta.heard(told).iter().all(|(_, s)| !hears(s, FIRST)));

    floor.press(&supervisor, 5, "mode.changed").await;
    assert_eq!(floor.hear(&[&supervisor, berta, anna]).await, ["Bb", "B1", "A"]);
    floor.press(&supervisor, STAR, "supervisor.joined").await;
    assert_eq!(floor.hear(&[&supervisor, berta, carla]).await, ["Cc", "B", "C"]);
    floor.press(&supervisor, STAR, "supervisor.joined").await;
    assert_eq!(floor.hear(&[&supervisor, carla, anna]).await, ["Aa", "C", "A"], "round");

    // One line all the while: not a number is missing, and its clock is that of the wall.
    let numbers: Vec<_> = supervisor.heard(0).into_iter().map(|(numbers, _)| numbers).collect();
    for pair in numbers.windows(2) {
        assert_eq!(pair[1].ssrc, pair[0].ssrc);
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "{pair:?}");
        let passed = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!((160..8 * 1000).contains(&passed), "{pair:?}");
    }
    let left = floor.house.left();
    assert_eq!(left, ["they went on to the next call"; 3]);
    let modes: Vec<Mode> = floor
        .house
        .events()
        .iter()
        .filter_map(|e| match &e.event.what {
            What::SupervisorJoined { mode, .. } => Some(*mode),
            _ => None,
        })
        .collect();
    assert_eq!(modes, [Mode::Whisper, Mode::Spy, Mode::Spy, Mode::Spy]);

    // When a call ends, so does the line: nobody is taken to another.
    let [customer, agent] = &mut floor.calls[0];
    customer.bye().await;
    agent.hung_up().await;
    assert_eq!(supervisor.hung_up().await, "SIP;cause=200;text=\"caller hung up\"");
    floor.house.until("one line less", |h| h.server().live() == 2).await;
    assert_eq!(floor.house.told("supervisor.joined"), 4);
    floor.calls.remove(0);
    floor.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_other_call_they_are_told_and_stay() {
    let floor = Floor::open(1, "", false).await;
    let mut supervisor = floor.supervisor(FIRST, "*81anna", "").await;
    floor.press(&supervisor, STAR, "clip.started").await;
    let told = floor.find(|what| matches!(what, What::ClipStarted { .. }));
    assert!(matches!(&told[0].event.what, What::ClipStarted { audience, text: Some(text), .. }
        if audience.len() == 1 && &*text.0 == "There is no other call that you may hear."));
    assert_eq!(floor.house.told("supervisor.left"), 0);
    let [customer, agent] = &floor.calls[0];
    assert_eq!(floor.hear(&[customer, agent]).await, ["a", "A1"]);
    // The same key by INFO, later, is another press.
    floor.house.until("said", |h| h.told("clip.ended") == 1).await;
    assert_eq!(supervisor.info("*").await, 200);
    floor.house.until("told again", |h| h.told("clip.started") == 2).await;
    supervisor.bye().await;
    floor.close().await;
}
