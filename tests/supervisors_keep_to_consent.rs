//! What the customer says about being listened to holds before the first frame, and from the moment it changes: whoever may
//! not hear any more hears nothing more, whoever may not speak as they do is in spy, and the people talk on.

mod support;

use sotto::call::{Command, LegMedia, May, Refusal, Rights, Supervising, Unagreed};
use sotto::event::{Actor, Consent, Mode, Place, Role, What};
use sotto::id::LegId;
use sotto::media::codec::Codec;
use support::{Stage, tones};

const AGENT: f64 = 700.0;
const SUPERVISOR: f64 = 1100.0;
const AWAY: &str = "the customer does not agree to be listened to";

fn supervising(unagreed: Unagreed, mode: Mode, port: u16) -> Supervising {
    let media: LegMedia = support::media(Codec::Pcmu, port);
    Supervising { address: "4711".into(), mode, rights: Rights { may: May::ALL, unagreed }, media, onward: None }
}

fn say(stage: &mut Stage, consent: Consent) {
    stage.command(Command::SetConsent { consent }).unwrap();
}

fn call() -> (Stage, LegId, LegId) {
    let mut stage = Stage::new(11);
    let [customer, agent] = [Role::Customer, Role::Agent].map(|role| stage.join(role));
    stage.phone(agent).sound = tones::tone(AGENT);
    stage.run(500);
    (stage, customer, agent)
}

#[test]
fn nobody_is_let_in_before_the_customer_agrees() {
    let (mut stage, ..) = call();
    for consent in [Consent::Unknown, Consent::Refused] {
        say(&mut stage, consent);
        let refused = stage.command(Command::Supervise(supervising(Unagreed::Nothing, Mode::Spy, 4100)));
        assert_eq!(refused, Err(Refusal::NotPermitted("listen: the customer has not agreed to it")), "{consent:?}");
        let less = Unagreed::Only(May::default());
        let refused = stage.command(Command::Supervise(supervising(less, Mode::Whisper, 4100)));
        assert!(matches!(refused, Err(Refusal::NotPermitted(_))), "{consent:?}: {refused:?}");
    }
    assert!(stage.told("supervisor.joined").is_empty());
    say(&mut stage, Consent::Given);
    assert_eq!(stage.view().consent, Consent::Given);
    assert!(stage.command(Command::Supervise(supervising(Unagreed::Nothing, Mode::Barge, 4100))).is_ok());
}

/// Not one packet that was received after the withdrawal is sent to whoever may not hear it.
#[test]
fn what_is_withdrawn_is_heard_by_nobody_from_then_on() {
    let (mut stage, customer, agent) = call();
    say(&mut stage, Consent::Given);
    let gone = stage.join_supervisor(supervising(Unagreed::Nothing, Mode::Whisper, 4100));
    let narrowed = stage.join_supervisor(supervising(Unagreed::Only(May::default()), Mode::Barge, 4102));
    let free = stage.join_supervisor(supervising(Unagreed::All, Mode::Whisper, 4104));
    stage.run(1_000);
    assert!(tones::hears(&stage.sounds(gone, 300), AGENT));
    let before = stage.phones[&gone].got.len();
    say(&mut stage, Consent::Refused);
    stage.run(1_000);
    assert_eq!(stage.phones[&gone].got.len(), before, "a packet went out after the withdrawal");
    let left: Vec<_> = stage.told("supervisor.left").iter().map(|e| e.what.clone()).collect();
    assert!(matches!(&left[..], [What::SupervisorLeft { reason, .. }] if reason == AWAY), "{left:?}");
    let changed: Vec<_> = stage.told("mode.changed").iter().map(|e| (e.leg, e.what.clone())).collect();
    let [(leg, What::ModeChanged { to: Mode::Spy, by: Actor::Guard, .. })] = &changed[..] else {
        panic!("{changed:?}")
    };
    assert_eq!(*leg, Some(narrowed));
    let modes: Vec<_> = stage.view().legs.iter().filter_map(|l| Some((l.id, l.mode?))).collect();
    assert_eq!(modes, [(narrowed, Mode::Spy), (free, Mode::Whisper)]);
    assert!(tones::hears(&stage.sounds(narrowed, 300), AGENT) && tones::hears(&stage.sounds(customer, 300), AGENT));
    // Given again, it widens nobody's mode, but what was theirs to choose is so again.
    say(&mut stage, Consent::Given);
    assert_eq!(stage.told("mode.changed").len(), 1);
    stage.command(Command::TakeOver { leg: narrowed }).unwrap();
    say(&mut stage, Consent::Unknown);
    assert_eq!(stage.told("supervisor.gave_back").len(), 1, "to be the agent was theirs with consent alone");
    assert!(stage.view().legs.iter().any(|l| l.id == agent && l.place == Place::InConversation));
    assert_eq!(stage.told("consent.changed").len(), 4);
}

#[test]
fn who_is_the_only_one_left_for_the_customer_stays() {
    let (mut stage, customer, agent) = call();
    say(&mut stage, Consent::Given);
    let leg = stage.join_supervisor(supervising(Unagreed::Nothing, Mode::Spy, 4100));
    stage.phone(leg).sound = tones::tone(SUPERVISOR);
    stage.command(Command::TakeOver { leg }).unwrap();
    stage.command(Command::RemoveLeg { leg: agent, reason: "hung up".into() }).unwrap();
    say(&mut stage, Consent::Refused);
    stage.run(700);
    assert!(stage.told("supervisor.left").is_empty());
    assert!(tones::hears(&stage.sounds(customer, 300), SUPERVISOR), "the customer is not left alone");
}
