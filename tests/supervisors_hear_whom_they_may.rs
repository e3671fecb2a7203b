//! Rules say who may hear whom and how: others are refused with the reason, and what is beyond the rules is refused
//! without a hang-up. Who is let in is told, alone, where they are; who takes over has the agent told.

mod desk;
#[path = "desk/floor.rs"]
mod floor;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod support;

pub type Sound = Box<dyn FnMut(u64) -> i16 + Send>;

use floor::{FIRST, Floor, LOW, SECOND};
use sotto::event::{Consent, Listened, Mode, What, Words};
use support::tones;

const RULES: &str = "
[[team]]
name = \"sales\"
agents = [\"anna\", \"b.*\"]
[[supervise]]
supervisor = \"4711\"
teams = [\"sales\"]
modes = [\"spy\", \"whisper\"]
[[supervise]]
supervisor = \"chief@pbx[.]example\"
trunk = \"lab\"
[[supervise]]
supervisor = \"auditor\"
consent = true
";

fn asserted(who: &str) -> String {
    format!("P-Asserted-Identity: \"Somebody, once\" <sip:{who}@pbx.example>\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_and_how() {
    let floor = Floor::open(3, RULES, false).await;
    let no_rule = (403, "no rule lets you listen to this agent".to_owned());
    assert_eq!(floor.refused("*80anna", "").await, no_rule);
    assert_eq!(floor.refused("*80carla", &asserted("4711")).await, no_rule);
    assert_eq!(floor.refused("*80anna", &asserted("47110")).await, no_rule);
    let agreed = (403, "the customer has not agreed to be listened to".to_owned());
    assert_eq!(floor.refused("*80anna", &asserted("auditor")).await, agreed);

    // To be heard by all is beyond what they may: they are let in to listen, and told.
    let mut supervisor = floor.supervisor(FIRST, "*82anna", &asserted("4711")).await;
    floor.house.until("told", |h| h.told("clip.started") == 1).await;
    let said = "You may not speak to everyone here. Listening to anna.";
    assert_eq!(texts(&floor), [said]);
    let [customer, agent] = &floor.calls[0];
    assert_eq!(floor.hear(&[customer, agent]).await, ["a", "A"]);
    floor.press(&supervisor, 5, "mode.changed").await;
    assert_eq!(floor.hear(&[customer, agent, &supervisor]).await, ["a", "A1", "Aa"]);
    for key in [6, 7] {
        floor.press(&supervisor, key, "clip.started").await;
        floor
            .house
            .until("a tone is over", |h| h.told("clip.ended") + h.told("clip.cut") == h.told("clip.started"))
            .await;
    }
    let low = supervisor.heard(0).iter().filter(|(_, s)| tones::amplitude(&[&s[..], s].concat(), LOW) > 1500.0).count();
    assert!(low >= 20, "{low} packets of two tones of 300 ms");
    assert_eq!(floor.hear(&[customer, agent, &supervisor]).await, ["a", "A1", "Aa"], "refused, and nothing else");
    // The next of those they may hear; after that there is only the first again.
    floor.press(&supervisor, 10, "supervisor.joined").await;
    assert_eq!(floor.hear(&[&supervisor]).await, ["Bb"]);
    floor.press(&supervisor, 10, "supervisor.joined").await;
    assert_eq!(floor.hear(&[&supervisor]).await, ["Aa"]);
    let modes: Vec<Mode> = floor
        .house
        .events()
        .iter()
        .filter_map(|e| match &e.event.what {
            What::SupervisorJoined { mode, .. } => Some(*mode),
            _ => None,
        })
        .collect();
    assert_eq!(modes, [Mode::Spy; 3]);
    supervisor.bye().await;
    let mut chief = floor.supervisor(SECOND, "*82carla", &asserted("chief")).await;
    assert_eq!(floor.hear(&[&floor.calls[2][0]]).await, ["c2"]);
    chief.bye().await;
    // Where the customer has agreed, whoever needs that may do what their rule says.
    let mut auditor = floor.supervisor(SECOND, "*81carla", &asserted("auditor")).await;
    assert_eq!(floor.hear(&[&floor.calls[2][0], &floor.calls[2][1]]).await, ["c", "C2"]);
    assert_eq!(floor.house.told("consent.changed"), 1);
    auditor.bye().await;
    floor.close().await;
}

/// What was said to supervisors and agents alone, in order.
fn texts(floor: &Floor) -> Vec<String> {
    let words = |what: &What| match what {
        What::ClipStarted { text: Some(Words(text)), .. } => Some(text.to_string()),
        _ => None,
    };
    floor.house.events().iter().filter_map(|e| words(&e.event.what)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_are_told_where_they_are_until_a_key() {
    let floor = Floor::open(1, "", true).await;
    let mut supervisor = floor.supervisor(FIRST, "*81anna", "").await;
    floor.house.until("told", |h| h.told("clip.started") == 1).await;
    assert_eq!(texts(&floor), ["Whispering to anna."]);
    supervisor.press(4);
    floor.house.until("cut", |h| h.told("clip.cut") == 1).await;
    let started = floor.find(|what| matches!(what, What::ClipStarted { .. }));
    assert!(matches!(&started[0].event.what, What::ClipStarted { audience, .. } if audience.len() == 1));
    let [customer, agent] = &floor.calls[0];
    assert_eq!(floor.hear(&[customer, agent, &supervisor]).await, ["a", "A", "Aa"]);
    supervisor.bye().await;
    floor.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_over_is_the_agent_and_the_agent_is_told() {
    let floor = Floor::open(1, "", false).await;
    let mut supervisor = floor.supervisor(FIRST, "*81anna", "").await;
    let [customer, agent] = &floor.calls[0];
    assert_eq!(floor.hear(&[customer, agent, &supervisor]).await, ["a", "A1", "Aa"]);
    floor.press(&supervisor, 7, "supervisor.took_over").await;
    // A tone for everyone, as before a barge, and a word to the agent.
    floor.house.until("said", |h| h.told("clip.ended") == 2).await;
    assert_eq!(texts(&floor), ["Your supervisor has taken over this call. Please stay on the line."]);
    assert_eq!(floor.hear(&[customer, agent, &supervisor]).await, ["1", "", "A"]);
    floor.press(&supervisor, 7, "supervisor.gave_back").await;
    assert_eq!(floor.hear(&[customer, agent, &supervisor]).await, ["a", "A", "Aa"]);
    // Whoever hangs up having taken over leaves the agent in the call.
    floor.press(&supervisor, 7, "supervisor.took_over").await;
    supervisor.bye().await;
    floor.house.until("the agent is back", |h| h.told("supervisor.gave_back") == 2).await;
    floor.house.until("gone", |h| h.told("supervisor.left") == 1).await;
    assert_eq!(floor.hear(&[customer, agent]).await, ["a", "A"]);
    let left = floor.find(|what| matches!(what, What::SupervisorLeft { .. }));
    let What::SupervisorLeft { whom, listened, .. } = &left[0].event.what else { panic!("{left:?}") };
    assert!(whom.len() == 1 && whom[0].0.starts_with("sip:anna@"), "{}", whom.len());
    let Listened { spy_ms, whisper_ms, barge_ms, took_over_ms } = *listened;
    assert!(whisper_ms > 700 && spy_ms > 700 && took_over_ms > 700 && barge_ms == 0, "{listened:?}");
    let lines: Vec<_> = customer.heard(0).into_iter().map(|(numbers, _)| numbers).collect();
    for pair in lines.windows(2) {
        let passed = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!(pair[1].sequence == pair[0].sequence.wrapping_add(1) && passed < 8 * 100, "a gap: {pair:?}");
    }
    floor.close().await;
}

const CONSENT: &str = "
[[supervise]]
supervisor = \"chief\"
[[supervise]]
supervisor = \"auditor\"
consent = true
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_while_the_customer_agrees_and_all_of_it_is_journalled() {
    let floor = Floor::open(1, CONSENT, false).await;
    let asserted = |who: &str| format!("P-Asserted-Identity: <sip:{who}@pbx.example>\r\n");
    let consent = async |consent| {
        let (call, entry) = floor.house.registry.list().remove(0);
        floor.house.registry.set_consent(call, &entry.shard, consent).await.unwrap();
    };
    assert_eq!(floor.refused("*80anna", &asserted("auditor")).await.0, 403);
    consent(Consent::Given).await;
    let auditor = floor.supervisor(FIRST, "*81anna", &asserted("auditor")).await;
    let chief = floor.supervisor(SECOND, "*80anna", &asserted("chief")).await;
    let [customer, agent] = &floor.calls[0];
    assert_eq!(floor.hear(&[customer, agent, &auditor, &chief]).await, ["a", "A1", "Aa", "Aa1"]);
    consent(Consent::Refused).await;
    assert!(auditor.hung_up().await.contains("does not agree"));
    assert_eq!(floor.hear(&[customer, agent, &chief]).await, ["a", "A", "Aa"]);
    assert_eq!(floor.refused("*80anna", &asserted("auditor")).await.0, 403);
    let left = floor.find(|what| matches!(what, What::SupervisorLeft { .. }));
    let What::SupervisorLeft { whom, listened, reason, .. } = &left[0].event.what else { panic!("{left:?}") };
    assert!(reason.contains("does not agree") && whom.len() == 1 && listened.whisper_ms > 700, "{listened:?}");
    let mut chief = chief;
    chief.bye().await;
    floor.close().await;
}
