//! Datagrams that are nothing, nearly something, or somebody else's: for the ports of RTP and of RTCP.

use super::party::Audio;
use super::{rtcp, rtp, sleep_until};
use sotto::io::clock;
use sotto::media::seed::Seed;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A datagram, and whether it may come from the telephone's own address: it is no packet at all, whoever sends it.
struct Rubbish {
    bytes: Vec<u8>,
    from_anywhere: bool,
}

/// Sends `each` datagrams to the RTP port of every victim, and as many to its RTCP port, one to each every millisecond:
/// from its host with other ports, from other hosts, and what is no packet also from its very own address and port.
pub fn throw(victims: &[Arc<Audio>], each: usize, seed: u64) {
    let strangers = ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|ip| UdpSocket::bind((ip, 0)).unwrap());
    let (mut seed, mut due) = (Seed::new(seed), clock::now());
    for _ in 0..each {
        for victim in victims {
            let far = *victim.far.get().unwrap();
            let reports = SocketAddr::new(far.ip(), far.port() + 1);
            let (sound, report) = (for_rtp(&mut seed, victim), for_rtcp(&mut seed, victim));
            for (rubbish, own, to) in [(sound, &victim.rtp, far), (report, &victim.rtcp, reports)] {
                let stranger = &strangers[seed.below(4) as usize];
                let from = if rubbish.from_anywhere && seed.below(2) == 0 { own } else { stranger };
                from.send_to(&rubbish.bytes, to).unwrap();
            }
        }
        due += Duration::from_millis(1);
        sleep_until(due);
    }
}

fn for_rtp(seed: &mut Seed, victim: &Audio) -> Rubbish {
    let next = victim.next.load(Relaxed);
    let real = rtp(0, next, seed.bits() as u32, victim.ssrc, &[0x55; 160]);
    let with = |flags: u8, rest: &[u8]| {
        let mut bytes = rtp(0, next, 0, victim.ssrc, rest);
        bytes[0] |= flags;
        bytes
    };
    match seed.below(12) {
        // The telephone's own words, in somebody else's mouth.
        0 => stranger(real),
        1 => stranger(rtp(seed.below(128) as u8, next.wrapping_add(seed.below(5) as u16), 0, victim.ssrc, &[1; 160])),
        2 => stranger(rtp(0, seed.bits() as u16, 0, seed.bits() as u32, &[1; 160])),
        3 => stranger(random(seed, 1472)),
        4 => broken(real[..seed.below(12) as usize].to_vec()),
        5 => broken(wrong_version(real, seed)),
        // Fifteen contributing sources, an extension of 256 kB, padding of 255: none of them there.
        6 => broken(with(0x0F, &[0; 59])),
        7 => broken(with(0x10, &[0xBE, 0xDE, 0xFF, 0xFF, 0, 0])),
        8 => broken(with(0x20, &[255; 100])),
        9 => broken(stun(seed)),
        10 => broken(rtcp(200 + seed.below(6) as u8, 1, &[victim.ssrc; 6])),
        _ => broken(Vec::new()),
    }
}

fn for_rtcp(seed: &mut Seed, victim: &Audio) -> Rubbish {
    let ssrc = victim.ssrc;
    let report = rtcp(200, 0, &[ssrc, seed.bits() as u32, seed.bits() as u32, 1, 1, 1]);
    let mut long = report.clone();
    long[2..4].copy_from_slice(&0xFFFFu16.to_be_bytes());
    let mut many = report.clone();
    many[0] |= 31;
    match seed.below(12) {
        0 => stranger(report),
        1 => stranger([rtcp(201, 0, &[ssrc]), rtcp(203, 1, &[ssrc])].concat()),
        2 => stranger(rtcp(201, 1, &[ssrc, seed.bits() as u32, 0xFF00_0001, 9, 9, 9, 9])),
        3 => stranger(random(seed, 1472)),
        4 => broken(report[..seed.below(28) as usize].to_vec()),
        5 => broken(wrong_version(report, seed)),
        6 => broken(long),
        7 => broken(many),
        // As many empty packets as a datagram holds; an extended report whose blocks do not fit.
        8 => broken(rtcp(203, 0, &[]).repeat(368)),
        9 => broken(rtcp(207, 0, &[ssrc, 0x0500_FFFF])),
        10 => broken(stun(seed)),
        _ => broken(Vec::new()),
    }
}

fn stranger(bytes: Vec<u8>) -> Rubbish {
    Rubbish { bytes, from_anywhere: false }
}

fn broken(bytes: Vec<u8>) -> Rubbish {
    Rubbish { bytes, from_anywhere: true }
}

fn random(seed: &mut Seed, most: u64) -> Vec<u8> {
    (0..seed.below(most)).map(|_| seed.bits() as u8).collect()
}

fn wrong_version(mut bytes: Vec<u8>, seed: &mut Seed) -> Vec<u8> {
    bytes[0] = bytes[0] & 0x3F | [0x00, 0x40, 0xC0][seed.below(3) as usize];
    bytes
}

/// A binding request (RFC 8489 §5).
fn stun(seed: &mut Seed) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    bytes.extend((0..12).map(|_| seed.bits() as u8));
    bytes
}
