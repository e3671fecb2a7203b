//! Inputs from a seed for each reader of a peer's bytes: noise, and good ones broken in a few places. None panics, and what
//! they answer keeps its promises (`readers`). Then as many datagrams into a call whose legs speak every codec.
//!
//! Tens of thousands each; a million with `SOTTO_HOSTILE_INPUTS=1000000`.

mod readers;
mod support;

use readers::broken::{corpus, input, inputs};
use sotto::call::{Port, Speaker};
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use sotto::media::codec::{Codec, Encoder, OpusWish};
use sotto::media::rtp::HEADER;
use sotto::media::seed::Seed;
use sotto::media::xr;
use sotto::time::{MediaTime, Samples};
use support::Stage;

/// Hands all of them to `read`, which says whether it understood; some must have been, or nothing was tried.
fn fuzz(name: &str, good: &[Vec<u8>], longest: u64, mut read: impl FnMut(&[u8]) -> bool) {
    let (mut seed, inputs) = (Seed::new(20_261_121), inputs());
    let understood = (0..inputs).filter(|_| read(&input(&mut seed, good, longest))).count() as u32;
    println!("{name}: {understood} of {inputs} inputs were understood");
    assert!((inputs / 100..inputs / 100 * 99).contains(&understood), "{name}: {understood} of {inputs}");
}

/// What telephones and proxies send, and the torture messages of RFC 4475 and RFC 5118.
fn messages() -> Vec<Vec<u8>> {
    let (ours, theirs) = (corpus("fuzz/corpus/sip"), corpus("tests/torture"));
    ours.into_iter().chain(theirs).collect()
}

#[test]
fn sip_in_datagrams() {
    fuzz("SIP", &messages(), 600, readers::datagram);
}

#[test]
fn sip_on_connections() {
    let mut good = corpus("fuzz/corpus/sip_stream");
    good.extend(messages().into_iter().map(|message| [&[13], &message[..]].concat()));
    fuzz("SIP on connections", &good, 600, readers::stream);
}

#[test]
fn rtp() {
    fuzz("RTP", &corpus("fuzz/corpus/rtp"), 60, readers::rtp);
}

#[test]
fn rtcp() {
    fuzz("RTCP", &reports(), 120, readers::rtcp);
}

#[test]
fn extended_reports() {
    let (begin, end, least, most, mean, deviation) = (100, 350, 1, 90, 20, 7);
    let summary = xr::Summary { of: 7, begin, end, lost: 3, duplicates: 1, least, most, mean, deviation };
    let told = |echo| xr::Report { reference: Some(echo), summary: Some(summary), metrics: None };
    let mut good = Vec::new();
    xr::write(MediaTime::from_millis(2500), 7, &told(None), &mut good);
    let echo = xr::read(MediaTime::from_millis(2600), 7, &good).reference;
    let mut both = Vec::new();
    xr::write(MediaTime::from_millis(2700), 9, &told(echo), &mut both);
    fuzz("RTCP XR", &[good, both], 120, readers::rtcp);
}

#[test]
fn session_descriptions() {
    fuzz("SDP", &corpus("fuzz/corpus/sdp"), 300, readers::session_description);
}

#[test]
fn recording_bodies() {
    fuzz("SIPREC", &corpus("fuzz/corpus/siprec"), 300, readers::recording_body);
}

#[test]
fn digits() {
    fuzz("digits", &corpus("fuzz/corpus/dtmf"), 80, readers::digits);
}

#[test]
fn comfort_noise() {
    fuzz("comfort noise", &[vec![50], vec![0, 1, 2, 3]], 16, readers::comfort_noise);
}

#[test]
fn opus_lengths() {
    let good = [(); 2].map(|()| {
        let mut payload = Vec::new();
        Encoder::new(Codec::Opus, OpusWish::default()).encode(&[500; 960], &mut payload);
        payload
    });
    fuzz("Opus", &good, 40, |payload| {
        let ticks = Codec::Opus.ticks(payload);
        assert!(ticks <= 5_760, "no packet is longer than 120 ms");
        ticks > 0
    });
}

/// Datagrams at both ports of every leg, from the party's own address and from others, while the five of them talk.
#[test]
fn whole_calls() {
    let mut stage = Stage::new(9);
    let roles = [Role::Customer, Role::Agent, Role::Supervisor, Role::Supervisor, Role::Agent];
    let legs: Vec<LegId> = roles
        .into_iter()
        .zip(Codec::ALL)
        .map(|(role, codec)| stage.join_as(role, Place::InConversation, Mode::Spy, codec))
        .collect();
    let supervisor = Speaker::Leg(legs[2]);
    let (mut seed, inputs) = (Seed::new(20_261_122), inputs());
    let mut good = reports();
    good.extend([0x80, 0x90, 0xB0].map(|flags| datagram(flags, 0, &[0x55; 160])));
    for n in 0..inputs {
        let leg = legs[seed.below(5) as usize];
        let phone = stage.phone(leg);
        let (media, header) = (phone.media, phone.header);
        // Not a telephone event: a supervisor's would send them away.
        let own = [media.payload_type, 13, 102, seed.below(101) as u8][seed.below(4) as usize];
        let mut bytes = input(&mut seed, &good, 200);
        // Half of them are of the stream itself, or nearly: what gets past the first look.
        if bytes.len() >= HEADER && seed.below(2) == 0 {
            bytes[0] = 0x80;
            bytes[1] = own;
            bytes[2..4].copy_from_slice(&header.sequence.wrapping_add(seed.below(9) as u16).to_be_bytes());
            bytes[8..12].copy_from_slice(&header.ssrc.to_be_bytes());
        }
        let port = if seed.below(4) == 0 { Port::Rtcp } else { Port::Rtp };
        let from = match (seed.below(3), port) {
            (0, _) => ([192, 0, 2, 66], 6666).into(),
            (_, Port::Rtp) => media.remote,
            (_, Port::Rtcp) => media.remote_rtcp,
        };
        stage.call.packet(stage.now, leg, port, from, &bytes);
        stage.drain();
        if n % 50 == 0 {
            stage.run(5);
        }
        if n % 10_000 == 0 {
            let mode = [Mode::Whisper, Mode::Barge, Mode::Spy][seed.below(3) as usize];
            // Refused once it was sent away by a key that was made of noise.
            let _ = stage.set_mode(supervisor, mode);
            forget(&mut stage);
        }
    }
    assert!(stage.now > MediaTime::ZERO + Samples::from_millis(i64::from(inputs) / 12));
    let view = stage.view();
    println!("received {:?}", view.legs.iter().map(|l| (l.received, l.dropped)).collect::<Vec<_>>());
    let (received, dropped) = (u64::from(inputs / 333), u64::from(inputs / 100));
    assert!(view.legs.iter().all(|l| l.received > received && l.dropped > dropped), "both kinds were tried");
}

/// What the stage keeps for others to look at, and nobody here does.
fn forget(stage: &mut Stage) {
    for phone in stage.phones.values_mut() {
        phone.got.clear();
        phone.sent.clear();
        phone.reports.clear();
    }
    stage.events.clear();
    stage.recorded.clear();
    stage.heard.clear();
}

fn datagram(flags: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
    [&[flags, kind, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7], rest].concat()
}

/// A sender's report about us with its description and goodbye, and a receiver's.
fn reports() -> Vec<Vec<u8>> {
    let block = [7u32, 0x1000_0002, 70_000, 12, 0x2_8000, 65_536];
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
    let name = [0x81, 202, 0, 2, 0, 0, 0, 9, 1, 1, b'a', 0];
    let goodbye = [0x81, 203, 0, 1, 0, 0, 0, 9];
    let sender = [&[0x81, 200, 0, 12][..], &words(&[9, 5, 6, 7, 8, 9]), &words(&block), &name, &goodbye].concat();
    let receiver = [&[0x81, 201, 0, 7][..], &words(&[9]), &words(&block), &name].concat();
    vec![sender, receiver]
}
