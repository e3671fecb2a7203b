//! DESIGN §2.3: in spy and in whisper what the customer gets is what the agent sent, payload for payload, in order of
//! arrival, while the coach whispers, a supervisor whispers, and the network is bad.

mod support;

use sotto::call::{Audience, Speaker};
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use sotto::media::codec::Codec;
use sotto::media::codec::g711::Law;
use sotto::media::seed::Seed;
use support::network::Network;
use support::{Stage, tones};

/// Every byte there is, in an order of its own: nothing a codec would leave alone by luck.
fn noise(codec: Codec, seed: u64) -> support::Sound {
    let mut seed = Seed::new(seed);
    Box::new(move |_| codec.law().unwrap().decode(seed.bits() as u8))
}

fn payloads(stage: &Stage, leg: LegId) -> Vec<Vec<u8>> {
    stage.phones[&leg].got.iter().map(|g| g.payload.clone()).collect()
}

fn two(stage: &mut Stage, codec: Codec) -> (LegId, LegId) {
    let customer = stage.join_as(Role::Customer, Place::InConversation, Mode::Spy, codec);
    let agent = stage.join_as(Role::Agent, Place::InConversation, Mode::Spy, codec);
    stage.phone(customer).sound = noise(codec, 1);
    stage.phone(agent).sound = noise(codec, 2);
    (customer, agent)
}

#[test]
fn in_spy_and_under_whispers() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        let mut stage = Stage::new(1);
        let (customer, agent) = two(&mut stage, codec);
        // Full-scale noise and a whisper together would be limited in the agent's ear.
        stage.phone(customer).sound = tones::tone(400.0);
        let supervisor = stage.join(Role::Supervisor);
        stage.phone(supervisor).sound = tones::tone(700.0);
        // Until the agent's first packet the customer's line is fed by the clock.
        stage.phone(customer).got.clear();
        stage.run(1000);
        stage.set_mode(Speaker::Coach, Mode::Whisper).unwrap();
        stage.play(tones::beep(1000.0, 800), Audience::Mode).unwrap();
        stage.set_mode(Speaker::Leg(supervisor), Mode::Whisper).unwrap();
        stage.run(1500);
        stage.play(tones::beep(1000.0, 300), Audience::Own(Mode::Whisper)).unwrap();
        stage.run(1000);
        assert!(tones::hears(&stage.sounds(agent, 500), 700.0), "the whisper was heard by the agent");
        // What a phone's own encoder would never say: both zeros of μ-law, and every other byte.
        stage.phone(agent).speaks = false;
        stage.run(20);
        let all: Vec<u8> = (0..=255).collect();
        stage.send(agent, &all[..160]);
        stage.send(agent, &all[96..]);
        let got = payloads(&stage, customer);
        assert!(got.len() > 170 && got.last().unwrap() == &all[96..]);
        assert_eq!(got, stage.phones[&agent].sent[..got.len()]);
    }
}

#[test]
fn loss_and_reordering_stay_as_they_came() {
    let mut stage = Stage::new(2);
    let (customer, agent) = two(&mut stage, Codec::Pcmu);
    stage.phone(agent).network = Network::bad(9, 50, 0, 45);
    stage.run(20_000);
    let phone = &stage.phones[&customer];
    let offset = phone.got[0].header.timestamp;
    let mut reordered = 0;
    for pair in phone.got.windows(2) {
        let [a, b] = [&pair[0].header, &pair[1].header];
        let (seq, ts) = (b.sequence.wrapping_sub(a.sequence) as i16, b.timestamp.wrapping_sub(a.timestamp) as i32);
        assert_eq!(i32::from(seq) * 160, ts, "number and timestamp move together, as they came");
        reordered += usize::from(seq < 0);
    }
    assert!(reordered > 20, "{reordered}");
    // By its timestamp, every payload is the one the agent sent at that time.
    for got in &phone.got {
        let at = got.header.timestamp.wrapping_sub(offset) as i32 / 160;
        let first = stage.phones[&agent].sent.iter().position(|p| *p == phone.got[0].payload).unwrap();
        assert_eq!(got.payload, stage.phones[&agent].sent[(first as i32 + at) as usize]);
    }
    let lost = stage.phones[&agent].sent.len() - phone.got.len();
    assert!((20..90).contains(&lost), "{lost} of 1000 lost, 50 wanted");
}

/// A clip of silence to the customer makes an overlay, and leaves every byte.
#[test]
fn silence_over_the_agent_changes_no_byte() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        let mut stage = Stage::new(3);
        let (customer, agent) = two(&mut stage, codec);
        // Both zeros of μ-law are among the agent's bytes.
        stage.run(200);
        stage.play(vec![0; 8000], Audience::Legs(vec![customer])).unwrap();
        let (from, sent) = (stage.phones[&customer].got.len(), stage.phones[&agent].sent.len());
        stage.phone(agent).speaks = false;
        stage.run(5);
        for i in 0..30u8 {
            let payload: Vec<u8> = (0..160u32).map(|n| (n as u8).wrapping_mul(3).wrapping_add(i)).collect();
            stage.send(agent, &payload);
            stage.run(20);
        }
        assert_eq!(stage.view().legs[0].path, "overlay");
        assert_eq!(payloads(&stage, customer)[from..], stage.phones[&agent].sent[sent..]);
    }
}

/// Other codecs are changed on arrival, without waiting for the clock.
#[test]
fn a_change_of_codec_is_made_on_arrival() {
    let mut stage = Stage::new(4);
    let customer = stage.join_as(Role::Customer, Place::InConversation, Mode::Spy, Codec::Pcma);
    let agent = stage.join_as(Role::Agent, Place::InConversation, Mode::Spy, Codec::Pcmu);
    stage.phone(agent).sound = tones::tone(1000.0);
    stage.run(500);
    assert!(tones::hears(&stage.sounds(customer, 300), 1000.0));
    stage.phone(agent).speaks = false;
    stage.run(100);
    let before = stage.phones[&customer].got.len();
    stage.send(agent, &[0x80; 160]);
    assert_eq!(stage.phones[&customer].got.len(), before + 1);
    assert!(stage.phones[&customer].got[before].payload.iter().all(|b| Law::A.decode(*b) > 31_000));
}
