//! A million inputs from a seed for each reader of a peer's bytes: noise, and good ones broken in a few places. None
//! panics, and what they answer keeps its promises. Then as many datagrams into a call whose legs speak every codec.

mod support;

use sotto::call::sdp::{self, Description, Local, MasterKey, Srtp, Terms};
use sotto::call::{Port, Speaker};
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use sotto::media::codec::{Codec, Encoder, OpusWish};
use sotto::media::noise::Noise;
use sotto::media::rtp::{HEADER, Packet};
use sotto::media::seed::Seed;
use sotto::media::{dtmf, rtcp, xr};
use sotto::time::{MediaTime, Samples};
use support::Stage;

const INPUTS: u32 = 1_000_000;

/// Noise, or one of the good ones with a few bytes changed, cut out, put in, or cut off.
fn input(seed: &mut Seed, good: &[Vec<u8>], longest: u64) -> Vec<u8> {
    let mut bytes = match good.get(seed.below(good.len() as u64 + 1) as usize) {
        Some(good) => good.clone(),
        None => (0..seed.below(longest)).map(|_| seed.bits() as u8).collect(),
    };
    for _ in 0..seed.below(4) {
        let at = seed.below(bytes.len() as u64 + 1) as usize;
        match seed.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, seed.bits() as u8),
            2 => drop(bytes.drain(at..(at + seed.below(20) as usize).min(bytes.len()))),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = seed.bits() as u8),
        }
    }
    bytes
}

/// Hands `INPUTS` of them to `read`, which says whether it understood; some must have been, or nothing was tried.
fn fuzz(name: &str, good: &[Vec<u8>], longest: u64, mut read: impl FnMut(&[u8]) -> bool) {
    let mut seed = Seed::new(20_261_121);
    let understood = (0..INPUTS).filter(|_| read(&input(&mut seed, good, longest))).count();
    println!("{name}: {understood} of {INPUTS} inputs were understood");
    assert!((10_000..990_000).contains(&understood), "{name}: {understood}");
}

#[test]
fn rtp() {
    let good = [
        datagram(0x80, 0, &[0x55; 160]),
        datagram(0xB3, 96, &[[1; 12].as_slice(), &[0xBE, 0xDE, 0, 1, 1, 2, 3, 4], &[7; 20], &[0, 0, 3]].concat()),
    ];
    fuzz("RTP", &good, 60, |bytes| match Packet::parse(bytes) {
        Ok(packet) => {
            assert!(packet.payload.len() + HEADER <= bytes.len());
            assert!(packet.header.payload_type < 128);
            true
        }
        Err(_) => false,
    });
}

#[test]
fn rtcp() {
    let good = reports();
    fuzz("RTCP", &good, 120, |bytes| {
        let told = rtcp::read(MediaTime::from_millis(5000), 7, bytes);
        let round_trip = told.and_then(|t| t.of_us).and_then(|o| o.round_trip);
        assert!(round_trip.is_none_or(|r| (0..=30_001).contains(&r.as_millis())), "{round_trip:?}");
        told.is_some()
    });
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
    fuzz("RTCP XR", &[good, both], 120, |bytes| {
        let told = xr::read(MediaTime::from_millis(5000), 7, bytes);
        assert!(told.round_trip.is_none_or(|r| (0..=30_001).contains(&r.as_millis())), "{told:?}");
        told.reference.is_some()
    });
}

#[test]
fn session_descriptions() {
    let head = "v=0\r\no=alice 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
    let local = Local::new(([192, 0, 2, 9], 20_000).into(), 7, Srtp::Optional, || [7; MasterKey::MOST]);
    let terms = Terms { srtp: Srtp::Optional, ipv6: false };
    let good = [
        sdp::offer(&local, &Codec::ALL),
        format!("{head}m=video 9 RTP/AVP 31\r\nm=audio 4000 RTP/AVP 0 8 13 101\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp:53 IN IP4 192.0.2.1\r\na=ptime:30\r\na=sendonly\r\n").into_bytes(),
        format!("{head}m=audio 4000 RTP/SAVP 96 97\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4\r\na=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 maxaveragebitrate=20000;useinbandfec=1\r\na=rtpmap:97 L16/16000\r\na=maxptime:60\r\n").into_bytes(),
    ];
    fuzz("SDP", &good, 300, |bytes| {
        let Ok(description) = Description::read(bytes, terms) else { return false };
        let media = description.settle(None).expect("what was read has a codec");
        assert!((10..=60).contains(&media.shape.ptime) && (10..=60).contains(&media.shape.maxptime));
        let answer = String::from_utf8(description.answer(&local, &media)).expect("an answer is text");
        assert!(answer.ends_with("\r\n") && answer.contains("m=audio 20000 "), "{answer}");
        true
    });
}

#[test]
fn telephone_events() {
    let good = [vec![5, 0x8A, 0, 160], [[5, 0x0A, 0xFF, 0xFF]; 3].concat()];
    fuzz("telephone events", &good, 80, |payload| {
        let mut out = Vec::new();
        for (from, to) in [(8_000, 48_000), (48_000, 8_000), (0, u32::MAX)] {
            out.clear();
            dtmf::scaled(payload, from, to, &mut out);
            assert_eq!(out.len(), payload.len() / 4 * 4);
        }
        dtmf::is_event(payload)
    });
}

#[test]
fn comfort_noise() {
    let mut pcm = [0; 8];
    fuzz("comfort noise", &[vec![50], vec![0, 1, 2, 3]], 16, |payload| match Noise::read(payload) {
        Some(mut noise) => {
            noise.fill(&mut pcm);
            // −30 dB below full scale at most, and evenly spread samples peak at √3 times that.
            assert!(pcm.iter().all(|s| s.unsigned_abs() <= 1_795), "{pcm:?}");
            true
        }
        None => false,
    });
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
    let mut seed = Seed::new(20_261_122);
    let mut good = reports();
    good.extend([0x80, 0x90, 0xB0].map(|flags| datagram(flags, 0, &[0x55; 160])));
    for n in 0..INPUTS {
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
    assert!(stage.now > MediaTime::ZERO + Samples::from_millis(90_000));
    let view = stage.view();
    println!("received {:?}", view.legs.iter().map(|l| (l.received, l.dropped)).collect::<Vec<_>>());
    assert!(view.legs.iter().all(|l| l.received > 3_000 && l.dropped > 10_000), "both kinds were tried");
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
