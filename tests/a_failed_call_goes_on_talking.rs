//! DESIGN §2.5: when a call's logic has failed, customer and agent go on hearing each other with unbroken headers, and
//! supervisors hear and say nothing.

mod support;

use sotto::call::fallback::Fallback;
use sotto::call::{Audience, Call, Port, Speaker};
use sotto::event::{Actor, Mode, Place, Role, What};
use sotto::id::LegId;
use sotto::media::codec::Codec;
use sotto::media::codec::g711::Law;
use sotto::media::rtp::{Header, Packet};
use sotto::media::seed::Seed;
use sotto::time::{MediaTime, Samples};
use support::{Stage, tones};

struct After {
    fallback: Fallback,
    now: MediaTime,
    customer: LegId,
    agent: LegId,
    supervisor: LegId,
    heads: [Header; 3],
    last: Header,
}

fn fail(codec: Codec) -> After {
    let mut stage = Stage::new(1);
    let customer = stage.join_as(Role::Customer, Place::InConversation, Mode::Spy, codec);
    let agent = stage.join(Role::Agent);
    let supervisor = stage.join(Role::Supervisor);
    stage.run(500);
    stage.set_mode(Speaker::Leg(supervisor), Mode::Barge).unwrap();
    stage.play(tones::beep(900.0, 5000), Audience::Own(Mode::Whisper)).unwrap();
    stage.run(500);
    let heads = [customer, agent, supervisor].map(|l| stage.phones[&l].header);
    let last = stage.phones[&customer].got.last().unwrap().header;
    let call = std::mem::replace(&mut stage.call, Call::new(support::options(9)));
    After { fallback: call.into_fallback(), now: stage.now, customer, agent, supervisor, heads, last }
}

fn datagram(header: Header, payload: &[u8]) -> Vec<u8> {
    [&header.bytes()[..], payload].concat()
}

#[test]
fn both_go_on_and_the_headers_too() {
    let After { mut fallback, now, customer, agent, heads, mut last, .. } = fail(Codec::Pcmu);
    for n in 0..50u16 {
        let now = now + Samples::from_millis(20 * i64::from(n));
        let head = Header {
            sequence: heads[1].sequence.wrapping_add(n),
            timestamp: heads[1].timestamp.wrapping_add(160 * u32::from(n)),
            ..heads[1]
        };
        let sent = datagram(head, &[n as u8; 160]);
        let out = fallback.packet(now, agent, Port::Rtp, ([127, 0, 0, 1], 4002).into(), &sent).unwrap();
        assert_eq!((out.leg, out.port, out.to), (customer, Port::Rtp, ([127, 0, 0, 1], 4000).into()));
        let packet = Packet::parse(out.bytes).unwrap();
        assert_eq!(packet.payload, [n as u8; 160]);
        assert_eq!((packet.header.ssrc, packet.header.sequence), (last.ssrc, last.sequence.wrapping_add(1)));
        assert!((packet.header.timestamp.wrapping_sub(last.timestamp) as i32) >= 160);
        last = packet.header;
    }
    let back = datagram(heads[0], &[1; 160]);
    let out = fallback.packet(now, customer, Port::Rtp, ([127, 0, 0, 1], 4000).into(), &back).unwrap();
    assert_eq!(out.leg, agent);
}

#[test]
fn a_supervisor_says_nothing_and_hears_nothing() {
    let After { mut fallback, now, supervisor, agent, heads, .. } = fail(Codec::Pcmu);
    let sent = datagram(heads[2], &[1; 160]);
    assert_eq!(fallback.packet(now, supervisor, Port::Rtp, ([127, 0, 0, 1], 4004).into(), &sent), None);
    let events = fallback.take_events();
    let spied = |leg, from| {
        events.iter().any(|e| {
            matches!(&e.what, What::ModeChanged { from: f, to: Mode::Spy, by: Actor::Guard, .. } if *f == from)
                && e.leg == leg
        })
    };
    assert!(spied(Some(supervisor), Mode::Barge) && spied(None, Mode::Whisper));
    assert!(events.iter().any(|e| matches!(e.what, What::ClipCut { .. })));
    fallback.remove(agent);
    let sent = datagram(heads[1], &[1; 160]);
    assert_eq!(fallback.packet(now, agent, Port::Rtp, ([127, 0, 0, 1], 4002).into(), &sent), None);
}

#[test]
fn codecs_are_still_changed_and_strangers_still_dropped() {
    let After { mut fallback, now, agent, heads, .. } = fail(Codec::Pcma);
    let sent = datagram(heads[1], &[0x80; 160]);
    assert_eq!(fallback.packet(now, agent, Port::Rtp, ([10, 0, 0, 1], 4002).into(), &sent), None);
    let out = fallback.packet(now, agent, Port::Rtp, ([127, 0, 0, 1], 4002).into(), &sent).unwrap();
    let packet = Packet::parse(out.bytes).unwrap();
    assert_eq!(packet.header.payload_type, 8);
    assert!(packet.payload.iter().all(|b| Law::A.decode(*b) > 31_000));
}

#[test]
fn garbage_does_nothing() {
    let After { mut fallback, now, agent, .. } = fail(Codec::Pcmu);
    let mut seed = Seed::new(5);
    for _ in 0..50_000 {
        let bytes: Vec<u8> = (0..seed.below(64)).map(|_| seed.bits() as u8).collect();
        fallback.packet(now, agent, Port::Rtp, ([127, 0, 0, 1], 4002).into(), &bytes);
    }
}
