//! RFC 4733 digits pass between customer and agent with the payload type mapped, on all three paths; a supervisor's
//! are swallowed; nobody hears them, and none is told of.

mod support;

use sotto::call::{Audience, Command, LegMedia, Speaker};
use sotto::event::{Mode, Role};
use sotto::id::LegId;
use support::{Stage, tones};

/// One digit as a phone sends it: three packets with one timestamp, the last marked as the end.
fn press(stage: &mut Stage, leg: LegId) {
    let named = stage.phones[&leg].media.dtmf.unwrap();
    let voice = stage.phones[&leg].header;
    for (n, end) in [(1u16, 0u8), (2, 0), (3, 0x80)] {
        let phone = stage.phone(leg);
        (phone.header.payload_type, phone.header.marker, phone.header.timestamp) = (named, n == 1, voice.timestamp);
        stage.send(leg, &[5, end | 10, 0, n as u8 * 40]);
        stage.run(20);
    }
    let phone = stage.phone(leg);
    (phone.header.payload_type, phone.header.marker) = (voice.payload_type, false);
    phone.header.timestamp = voice.timestamp.wrapping_add(3 * 160);
}

fn digits(stage: &Stage, leg: LegId) -> Vec<support::Got> {
    let named = stage.phones[&leg].media.dtmf.unwrap();
    stage.phones[&leg].got.iter().filter(|g| g.header.payload_type == named).cloned().collect()
}

fn scene() -> (Stage, LegId, LegId, LegId) {
    let mut stage = Stage::new(1);
    let (customer, agent) = (stage.join(Role::Customer), stage.join(Role::Agent));
    let media = LegMedia { dtmf: Some(96), ..stage.phones[&agent].media };
    stage.phone(agent).media = media;
    stage.command(Command::SetMedia { leg: agent, media }).unwrap();
    let supervisor = stage.join(Role::Supervisor);
    stage.run(300);
    for leg in [customer, agent, supervisor] {
        stage.phone(leg).speaks = false;
    }
    stage.run(100);
    (stage, customer, agent, supervisor)
}

#[test]
fn on_every_path() {
    for (path, under) in [("relay", ""), ("overlay", "clip"), ("overlay", "supervisor"), ("mix", "")] {
        let (mut stage, customer, agent, supervisor) = scene();
        match (path, under) {
            ("overlay", "clip") => drop(stage.play(tones::beep(900.0, 900), Audience::Legs(vec![agent])).unwrap()),
            ("overlay", _) => drop(stage.set_mode(Speaker::Leg(supervisor), Mode::Barge).unwrap()),
            ("mix", _) => {
                let another = stage.join(Role::Customer);
                stage.phone(another).speaks = false;
            }
            _ => {}
        }
        stage.run(250);
        let before = stage.phones[&agent].got.len();
        press(&mut stage, customer);
        assert_eq!(stage.view().legs[1].path, path);
        let got = digits(&stage, agent);
        assert_eq!(got.len(), 3, "{path}");
        assert_eq!(got[2].payload, [5, 0x80 | 10, 0, 120]);
        assert!(got[0].header.marker && !got[1].header.marker, "{path}");
        assert!(got.windows(2).all(|w| w[0].header.timestamp == w[1].header.timestamp), "{path}");
        assert!(digits(&stage, supervisor).is_empty());
        let mut numbers: Vec<u16> = stage.phones[&agent].got[before..].iter().map(|g| g.header.sequence).collect();
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|w| w[1] == w[0].wrapping_add(1)), "{path}: {numbers:?}");
    }
}

#[test]
fn a_supervisors_are_swallowed_and_nobody_hears_any() {
    let (mut stage, customer, agent, supervisor) = scene();
    stage.set_mode(Speaker::Leg(supervisor), Mode::Barge).unwrap();
    stage.run(300);
    press(&mut stage, supervisor);
    assert!(digits(&stage, customer).is_empty() && digits(&stage, agent).is_empty());
    press(&mut stage, agent);
    stage.run(200);
    assert_eq!(digits(&stage, customer).len(), 3);
    for leg in [customer, agent, supervisor] {
        assert!(stage.sounds(leg, 600).iter().all(|s| s.abs() < 16));
    }
    let told = format!("{:?}", stage.events);
    assert!(!told.contains("digit") && !told.contains("dtmf"));
}

/// What is swallowed leaves no hole in the numbers of who hears the supervisor alone.
#[test]
fn a_swallowed_digit_does_not_look_like_loss() {
    let mut stage = Stage::new(2);
    let (agent, supervisor) = (stage.join(Role::Agent), stage.join(Role::Supervisor));
    stage.set_mode(Speaker::Leg(supervisor), Mode::Whisper).unwrap();
    stage.run(500);
    stage.phone(supervisor).speaks = false;
    press(&mut stage, supervisor);
    stage.phone(supervisor).speaks = true;
    stage.run(300);
    assert_eq!(stage.view().legs[0].path, "relay");
    let numbers: Vec<u16> = stage.phones[&agent].got.iter().map(|g| g.header.sequence).collect();
    assert!(numbers.windows(2).all(|w| w[1] == w[0].wrapping_add(1)));
}
