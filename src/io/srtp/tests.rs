//! One end against the other, for every suite. That both do as others do is shown in `cipher`, and by `tests/` with a
//! witness of its own.

use super::*;
use crate::call::sdp::{Keyring, Suite};
use crate::media::rtp::{Header, Packet};

/// Two ends that agreed on a suite.
fn pair(suite: Suite) -> (Session, Session) {
    let ring = |octet: u8| Keyring::new(|| [octet; MasterKey::MOST]).key(suite);
    let keys = Keys { ours: ring(1), theirs: ring(2) };
    (Session::new(keys), Session::new(Keys { ours: keys.theirs, theirs: keys.ours }))
}

fn packet(sequence: u16, ssrc: u32) -> Vec<u8> {
    let header = Header { marker: false, payload_type: 0, sequence, timestamp: 160 * u32::from(sequence), ssrc };
    [&header.bytes()[..], &[0x55; 160]].concat()
}

fn sealed(session: &mut Session, port: Port, plain: &[u8]) -> Vec<u8> {
    let mut room = [plain, &[0; GROWTH]].concat();
    let length = session.seal(port, &mut room, plain.len()).unwrap();
    room.truncate(length);
    room
}

fn opened(session: &mut Session, port: Port, datagram: &[u8]) -> Option<Vec<u8>> {
    let mut datagram = datagram.to_vec();
    let before = datagram.clone();
    match session.open(port, &mut datagram) {
        Some(length) => {
            datagram.truncate(length);
            Some(datagram)
        }
        None => {
            assert_eq!(datagram, before, "what is refused stays as it was");
            None
        }
    }
}

#[test]
fn what_one_end_seals_the_other_opens() {
    for suite in Suite::ALL {
        let (mut a, mut b) = pair(suite);
        // Across the end of sixteen bits.
        for n in 0..200u16 {
            let plain = packet(65_400u16.wrapping_add(n), 7);
            let wire = sealed(&mut a, Port::Rtp, &plain);
            assert_eq!(wire[..12], plain[..12], "headers are in the clear");
            assert_ne!(wire[12..172], plain[12..], "{suite:?}");
            assert_eq!(opened(&mut b, Port::Rtp, &wire), Some(plain), "{suite:?} {n}");
        }
        let report = [&[0x80, 201, 0, 1, 0, 0, 0, 7][..], &[9; 20]].concat();
        for _ in 0..3 {
            let wire = sealed(&mut a, Port::Rtcp, &report);
            assert_ne!(wire[8..28], report[8..]);
            assert_eq!(opened(&mut b, Port::Rtcp, &wire).as_ref(), Some(&report), "{suite:?}");
            assert_eq!(opened(&mut b, Port::Rtcp, &wire), None, "a report that came before");
        }
    }
}

/// Contributing sources and an extension are in the clear too, and authenticated.
#[test]
fn a_long_header_is_no_payload() {
    for suite in Suite::ALL {
        let (mut a, mut b) = pair(suite);
        let mut plain = packet(1, 7);
        plain[0] |= 0x12;
        plain.splice(12..12, [1, 2, 3, 4, 5, 6, 7, 8, 0xBE, 0xDE, 0, 1, 9, 9, 9, 9]);
        let wire = sealed(&mut a, Port::Rtp, &plain);
        assert_eq!(wire[..28], plain[..28]);
        assert_ne!(wire[28..60], plain[28..60]);
        assert!(Packet::parse(&plain).is_ok());
        let mut bent = wire.clone();
        bent[25] ^= 1;
        assert_eq!(opened(&mut b, Port::Rtp, &bent), None);
        assert_eq!(opened(&mut b, Port::Rtp, &wire), Some(plain));
    }
}

#[test]
fn what_was_forged_or_replayed_is_refused() {
    for suite in Suite::ALL {
        let (mut a, mut b) = pair(suite);
        let wires: Vec<_> = (0..150).map(|n| sealed(&mut a, Port::Rtp, &packet(n, 7))).collect();
        for wire in &wires {
            for at in 0..wire.len() {
                let mut bent = wire.clone();
                bent[at] ^= 0x80;
                assert_eq!(opened(&mut b, Port::Rtp, &bent), None, "{suite:?} octet {at}");
            }
            for length in 0..wire.len().min(40) {
                assert_eq!(opened(&mut b, Port::Rtp, &wire[..length]), None);
            }
            assert_eq!(opened(&mut b, Port::Rtp, &packet(900, 7)), None, "what is plain");
            assert!(opened(&mut b, Port::Rtp, wire).is_some());
            assert_eq!(opened(&mut b, Port::Rtp, wire), None, "{suite:?} the same again");
        }
        assert!(wires.iter().all(|wire| opened(&mut b, Port::Rtp, wire).is_none()));
        let report = sealed(&mut a, Port::Rtcp, &[0x80, 201, 0, 1, 0, 0, 0, 7]);
        for at in 0..report.len() {
            let mut bent = report.clone();
            bent[at] ^= 0x80;
            assert_eq!(opened(&mut b, Port::Rtcp, &bent), None, "{suite:?} octet {at} of a report");
        }
        assert!(opened(&mut b, Port::Rtcp, &report).is_some());
    }
}

/// To encrypt twice under one number would give both away.
#[test]
fn no_number_is_sent_twice() {
    let (mut a, _) = pair(Suite::Counter80);
    sealed(&mut a, Port::Rtp, &packet(5, 7));
    let mut room = [packet(5, 7), vec![0; GROWTH]].concat();
    assert_eq!(a.seal(Port::Rtp, &mut room, 172), None);
    assert_eq!(a.seal(Port::Rtp, &mut room, 5), None, "and what is no packet, never");
    assert_eq!(a.seal(Port::Rtp, &mut room[..172], 172), None, "nor what has no room for its tag");
}

#[test]
fn another_key_takes_over_without_a_gap() {
    let key = |octet: u8| MasterKey::new(Suite::Gcm128, [octet; MasterKey::MOST]);
    let (mut a, mut b) = pair(Suite::Gcm128);
    let first = sealed(&mut a, Port::Rtp, &packet(1, 7));
    let second = sealed(&mut a, Port::Rtp, &packet(2, 7));
    let third = sealed(&mut a, Port::Rtp, &packet(3, 7));
    assert!(opened(&mut b, Port::Rtp, &first).is_some());
    b.rekey(Keys { ours: key(2), theirs: key(3) });
    assert_eq!(opened(&mut b, Port::Rtp, &first), None, "a replay under the key before");
    assert!(opened(&mut b, Port::Rtp, &second).is_some(), "under way when the key changed");
    a.rekey(Keys { ours: key(3), theirs: key(2) });
    assert!(opened(&mut b, Port::Rtp, &sealed(&mut a, Port::Rtp, &packet(4, 7))).is_some());
    assert_eq!(opened(&mut b, Port::Rtp, &third), None, "the key before is over");
    // What b sends was never changed: its numbers are not begun again.
    let answer = sealed(&mut b, Port::Rtp, &packet(1, 9));
    assert!(opened(&mut a, Port::Rtp, &answer).is_some());
    b.rekey(Keys { ours: key(2), theirs: key(3) });
    assert_eq!(b.seal(Port::Rtp, &mut [packet(1, 9), vec![0; GROWTH]].concat(), 172), None);
}

#[test]
fn noise_never_panics() {
    let mut seed = crate::media::seed::Seed::new(1);
    for suite in Suite::ALL {
        let (mut a, _) = pair(suite);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..seed.below(80)).map(|_| seed.bits() as u8).collect();
            if let Some(first) = bytes.first_mut() {
                *first = *first & 0x3F | 0x80;
            }
            for port in [Port::Rtp, Port::Rtcp] {
                assert_eq!(a.open(port, &mut bytes), None);
            }
            let length = seed.below(90) as usize;
            let _ = a.seal(Port::Rtp, &mut bytes, length);
        }
    }
}
