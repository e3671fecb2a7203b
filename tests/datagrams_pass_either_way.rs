//! The fast way to the kernel and the plain one do the same: what was sent arrives, once, in order, from whom it came.

use sotto::config::Way;
use sotto::io::clock;
use sotto::io::udp::{self, Arrived, DATAGRAM, Sockets};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Both ways; the ring only where the kernel has it, and then it says so.
fn ways() -> Vec<Box<dyn Sockets>> {
    let mut ways = vec![udp::open(Way::Plain).unwrap()];
    match udp::open(Way::Ring) {
        Ok(ring) => ways.push(ring),
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            eprintln!("this kernel has no ring for us: {error}");
        }
        Err(error) => panic!("{error}"),
    }
    ways
}

fn socket(ip: IpAddr) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Everything that comes until `enough` has come, five seconds at most.
fn gather(sockets: &mut dyn Sockets, enough: usize) -> Vec<(Arrived, Vec<u8>)> {
    let (mut got, mut buffer) = (Vec::new(), [0; DATAGRAM]);
    let patience = clock::now() + Duration::from_secs(5);
    while got.len() < enough && clock::now() < patience {
        sockets.wait(Some(patience)).unwrap();
        while let Some(arrived) = sockets.next(&mut buffer) {
            got.push((arrived, buffer[..arrived.length].to_vec()));
        }
    }
    got
}

#[test]
fn all_that_was_sent_arrives_once_and_in_order() {
    for mut sockets in ways() {
        for ip in [V4, V6] {
            let name = sockets.name();
            let ((a, from), (b, to)) = (socket(ip), socket(ip));
            let (a, b) = (sockets.add(a).unwrap(), sockets.add(b).unwrap());
            // In all more than there are buffers, in waves that a socket can hold.
            for wave in 0..40u32 {
                for n in 0..100u32 {
                    let number = (wave * 100 + n).to_be_bytes();
                    sockets.send(a, to, &number.repeat(1 + n as usize));
                }
                let got = gather(&mut *sockets, 100);
                assert_eq!(got.len(), 100, "{name} {ip} wave {wave}");
                for (n, (arrived, bytes)) in (0..).zip(got) {
                    let number: u32 = wave * 100 + n;
                    assert_eq!((arrived.key, arrived.from), (b, from), "{name} {ip}");
                    assert_eq!(bytes, number.to_be_bytes().repeat(1 + n as usize), "{name} {ip}");
                }
            }
            assert_eq!(sockets.unsent(), 0, "{name}");
            sockets.remove(a);
            sockets.remove(b);
        }
    }
}

#[test]
fn a_flood_on_one_port_hides_no_other_and_what_is_too_long_is_cut() {
    for mut sockets in ways() {
        let name = sockets.name();
        let ((flooded, there), (quiet, here)) = (socket(V4), socket(V4));
        let (flooded, quiet) = (sockets.add(flooded).unwrap(), sockets.add(quiet).unwrap());
        let (outside, _) = socket(V4);
        for _ in 0..20_000 {
            // A full socket drops; that is the point.
            let _ = outside.send_to(&[1; 60], there);
        }
        outside.send_to(&[2; 3000], here).unwrap();
        let mut buffer = [0; DATAGRAM];
        let mut heard = None;
        for _ in 0..8 {
            sockets.wait(Some(clock::now() + Duration::from_secs(1))).unwrap();
            while let Some(arrived) = sockets.next(&mut buffer) {
                if arrived.key == quiet {
                    heard = Some((arrived.length, buffer[0]));
                }
            }
        }
        assert_eq!(heard, Some((DATAGRAM, 2)), "{name}");
        sockets.remove(flooded);
        let mut after = gather_for(&mut *sockets, Duration::from_millis(50));
        after.retain(|a| a.key == flooded);
        assert_eq!(after, [], "{name}: nothing comes from a socket that was removed");
    }
}

fn gather_for(sockets: &mut dyn Sockets, time: Duration) -> Vec<Arrived> {
    let (mut got, mut buffer) = (Vec::new(), [0; DATAGRAM]);
    let until = clock::now() + time;
    while clock::now() < until {
        sockets.wait(Some(until)).unwrap();
        while let Some(arrived) = sockets.next(&mut buffer) {
            got.push(arrived);
        }
    }
    got
}

#[test]
fn a_removed_socket_frees_its_port_and_its_key_means_the_next() {
    for mut sockets in ways() {
        let name = sockets.name();
        let (first, address) = socket(V4);
        let key = sockets.add(first).unwrap();
        gather_for(&mut *sockets, Duration::from_millis(5));
        let (outside, _) = socket(V4);
        outside.send_to(b"for the first", address).unwrap();
        sockets.remove(key);
        let after = gather_for(&mut *sockets, Duration::from_millis(20));
        assert_eq!(after, [], "{name}");
        let second = UdpSocket::bind(address).unwrap_or_else(|e| panic!("{name}: the port is free: {e}"));
        second.set_nonblocking(true).unwrap();
        assert_eq!(sockets.add(second).unwrap(), key, "{name}");
        outside.send_to(b"for the second", address).unwrap();
        let got = gather(&mut *sockets, 1);
        assert_eq!(got.iter().map(|(_, bytes)| &bytes[..]).collect::<Vec<_>>(), [b"for the second"], "{name}");
    }
}

#[test]
fn waiting_ends_in_time_and_when_woken() {
    for mut sockets in ways() {
        let name = sockets.name();
        let began = clock::now();
        sockets.wait(Some(began + Duration::from_millis(30))).unwrap();
        let waited = clock::now() - began;
        assert!(waited >= Duration::from_millis(30), "{name} waited {waited:?}");
        for _ in 0..3 {
            let waker = sockets.waker();
            let other = std::thread::spawn(move || waker.wake());
            // Without the waker this would never return.
            sockets.wait(None).unwrap();
            assert_eq!(sockets.next(&mut [0; DATAGRAM]), None, "{name}");
            other.join().unwrap();
        }
    }
}

#[test]
fn what_cannot_be_sent_is_counted() {
    for mut sockets in ways() {
        let name = sockets.name();
        let (v4, _) = socket(V4);
        let key = sockets.add(v4).unwrap();
        // The wrong family for this socket; and nothing is there at all for a key that never was.
        sockets.send(key, (V6, 9).into(), b"lost");
        sockets.send(key, (V4, 0).into(), b"lost");
        gather_for(&mut *sockets, Duration::from_millis(5));
        assert_eq!(sockets.unsent(), 2, "{name}");
        assert_eq!(sockets.unsent(), 0, "{name}");
    }
}

/// A socket that is given back is as it was: what comes meanwhile waits, and it can be watched elsewhere.
#[test]
fn a_socket_is_given_back_whole() {
    for mut sockets in ways() {
        let name = sockets.name();
        let ((here, to), (there, from)) = (socket(V4), socket(V4));
        let key = sockets.add(here).unwrap();
        there.send_to(b"first", to).unwrap();
        assert_eq!(gather(&mut *sockets, 1)[0].1, b"first", "{name}");
        let taken = sockets.take(key).expect("it was there");
        assert!(sockets.take(key).is_none(), "{name}");
        there.send_to(b"second", to).unwrap();
        let patience = clock::now() + Duration::from_millis(50);
        sockets.wait(Some(patience)).unwrap();
        assert!(sockets.next(&mut [0; DATAGRAM]).is_none(), "{name} still watches it");
        let mut others = ways();
        let other = others.iter_mut().find(|s| s.name() == name).unwrap();
        let key = other.add(taken).unwrap();
        let got = gather(&mut **other, 1);
        assert_eq!((got[0].0.key, got[0].0.from, &got[0].1[..]), (key, from, &b"second"[..]), "{name}");
        other.send(key, from, b"third");
        other.wait(Some(clock::now())).unwrap();
        let mut room = [0; 16];
        there.set_nonblocking(false).unwrap();
        assert_eq!(there.recv_from(&mut room).unwrap(), (5, to), "{name}");
    }
}
