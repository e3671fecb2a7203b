//! Packets of 10 to 60 ms on either side: whatever comes is heard whole, what we make by the clock is as long as the peer
//! asked for, what we make of a packet is no longer than it allows, and a relayed packet is not touched. A digit takes
//! as long in the units of the other clock.

mod support;

use sotto::call::{Audience, LegMedia, Shape};
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use sotto::media::codec::Codec;
use sotto::media::rtp::Header;
use support::{Got, Stage, tones};

const TONES: [f64; 3] = [400.0, 850.0, 1450.0];

fn join(stage: &mut Stage, role: Role, codec: Codec, hz: f64, shape: impl Fn(&mut Shape)) -> LegId {
    let mut media = support::media(codec, 4000 + 2 * stage.phones.len() as u16);
    shape(&mut media.shape);
    let leg = stage.join_with(role, Place::InConversation, Mode::Spy, media);
    stage.phone(leg).sound = tones::tone_at(hz, codec.rate());
    leg
}

fn hears(stage: &Stage, leg: LegId, hz: f64) -> bool {
    tones::hears_at(&stage.sounds(leg, 300), hz, stage.phones[&leg].media.codec.rate())
}

/// Milliseconds of the packets a leg was sent lately.
fn lengths(stage: &Stage, leg: LegId, last: usize) -> Vec<u32> {
    let phone = &stage.phones[&leg];
    let codec = phone.media.codec;
    let ms = |g: &Got| codec.ticks(&g.payload) * 1000 / codec.clock();
    phone.got.iter().rev().take(last).map(ms).collect()
}

fn goes_on(stage: &Stage, leg: LegId, last: usize) {
    let phone = &stage.phones[&leg];
    let codec = phone.media.codec;
    for pair in phone.got[phone.got.len() - last..].windows(2) {
        let played = codec.ticks(&pair[0].payload);
        assert_eq!(pair[1].header.sequence, pair[0].header.sequence.wrapping_add(1));
        assert_eq!(pair[1].header.timestamp, pair[0].header.timestamp.wrapping_add(played));
    }
}

#[test]
fn what_comes_is_heard_whole_and_relayed_as_it_is() {
    for codec in Codec::ALL {
        for ms in [10, 20, 30, 40, 60] {
            if ms == 30 && codec == Codec::Opus || ms == 60 && codec == Codec::L16 {
                continue;
            }
            let mut stage = Stage::new(1);
            let customer = join(&mut stage, Role::Customer, codec, TONES[0], |_| ());
            let agent = join(&mut stage, Role::Agent, codec, TONES[1], |_| ());
            let supervisor = join(&mut stage, Role::Supervisor, Codec::Pcmu, TONES[2], |_| ());
            stage.phone(agent).ptime = ms;
            stage.run(900);
            let (sent, got) = (&stage.phones[&agent].sent, &stage.phones[&customer].got);
            assert!((0..10).all(|n| sent[sent.len() - 1 - n] == got[got.len() - 1 - n].payload), "{codec:?} {ms} ms");
            assert!(hears(&stage, supervisor, TONES[1]), "{codec:?} {ms} ms in a mix");
            let lately = stage.heard[&agent].iter().rev().take(20);
            assert!(lately.clone().all(|(_, _, concealed)| !concealed), "{codec:?} {ms} ms");
        }
    }
}

#[test]
fn what_is_made_by_the_clock_is_as_long_as_was_asked() {
    for codec in Codec::ALL {
        for ptime in [10, 20, 40, 60] {
            let mut stage = Stage::new(2);
            join(&mut stage, Role::Customer, Codec::Pcmu, TONES[0], |_| ());
            join(&mut stage, Role::Agent, Codec::Pcma, TONES[1], |_| ());
            let supervisor = join(&mut stage, Role::Supervisor, codec, TONES[2], |s| s.ptime = ptime);
            stage.run(900);
            // 60 ms of L16 do not fit an Ethernet frame: they are packets of 40 and 20.
            let expected = if codec == Codec::L16 && ptime == 60 { [20, 40, 20, 40] } else { [u32::from(ptime); 4] };
            let mut got = lengths(&stage, supervisor, 5);
            if got[0] == 40 && expected[0] == 20 {
                got.remove(0);
            }
            assert_eq!(got[..4], expected, "{codec:?}");
            goes_on(&stage, supervisor, 8);
            assert!(hears(&stage, supervisor, TONES[0]) && hears(&stage, supervisor, TONES[1]), "{codec:?} {ptime}");
        }
    }
}

#[test]
fn what_is_made_of_a_packet_is_no_longer_than_the_peer_allows() {
    for codec in [Codec::G722, Codec::Opus, Codec::L16] {
        let mut stage = Stage::new(3);
        let customer = join(&mut stage, Role::Customer, codec, TONES[0], |s| s.maxptime = 20);
        let agent = join(&mut stage, Role::Agent, Codec::Pcmu, TONES[1], |_| ());
        stage.phone(agent).ptime = 60;
        stage.run(900);
        assert_eq!(lengths(&stage, customer, 6), [20; 6], "{codec:?}");
        goes_on(&stage, customer, 9);
        assert!(hears(&stage, customer, TONES[1]), "{codec:?}");
    }
}

/// A clip's end does not wait for a packet to fill, and none of it is lost.
#[test]
fn a_clip_in_long_packets_is_whole() {
    let mut stage = Stage::new(4);
    let customer = join(&mut stage, Role::Customer, Codec::Pcmu, TONES[0], |s| s.ptime = 60);
    stage.phone(customer).speaks = false;
    stage.run(200);
    let before = stage.phones[&customer].got.len();
    let pcm: Vec<i16> = (0..8 * 250).map(|n| 1000 + n).collect();
    stage.play(pcm.clone(), Audience::Legs(vec![customer])).unwrap();
    stage.run(280);
    assert_eq!(stage.told("clip.ended").len(), 1);
    let law = Codec::Pcmu.law().unwrap();
    let got: Vec<u8> = stage.phones[&customer].got[before..].iter().flat_map(|g| g.payload.clone()).collect();
    let wanted: Vec<u8> = pcm.iter().map(|s| law.encode(*s)).collect();
    assert_eq!(got.iter().copied().filter(|b| *b != 0xFF).collect::<Vec<_>>(), wanted);
}

#[test]
fn a_digit_takes_as_long_on_another_clock() {
    for (from, to, theirs, ours) in
        [(Codec::Pcmu, Codec::Opus, 800u16, 4_800u16), (Codec::Opus, Codec::Pcmu, 4_800, 800)]
    {
        let mut stage = Stage::new(5);
        let customer = join(&mut stage, Role::Customer, from, TONES[0], |_| ());
        let agent = join(&mut stage, Role::Agent, to, TONES[1], |_| ());
        stage.run(300);
        let LegMedia { dtmf, remote, .. } = stage.phones[&customer].media;
        let header = Header { payload_type: dtmf.unwrap(), marker: true, ..stage.phones[&customer].header };
        let [d0, d1] = theirs.to_be_bytes();
        let bytes = [&header.bytes()[..], &[5, 0x8A, d0, d1]].concat();
        let now = stage.now;
        stage.call.packet(now, customer, sotto::call::Port::Rtp, remote, &bytes);
        stage.drain();
        let got = stage.phones[&agent].got.last().unwrap();
        assert_eq!((got.header.payload_type, &got.payload[..2]), (101, &[5, 0x8A][..]));
        assert_eq!(u16::from_be_bytes([got.payload[2], got.payload[3]]), ours);
    }
}
