//! Somebody who knows everything of a telephone but its address, and sends in its place: faster, and before it does.

use super::party::Audio;
use super::{rtcp, rtp};
use crate::tones;
use sotto::media::codec::g711::Law;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// Four packets for each of the telephone's.
const PACE: Duration = Duration::from_millis(5);

/// One spoofer. Ends when dropped.
pub struct Spoofer {
    tally: Arc<Tally>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Tally {
    sent: AtomicUsize,
    got: AtomicUsize,
    stops: AtomicBool,
}

impl Spoofer {
    /// Sends from this address, with a tone of `hz`, in place of `victim`.
    pub fn new(address: Ipv4Addr, hz: f64, victim: Arc<Audio>) -> Spoofer {
        let tally = Arc::new(Tally::default());
        let (rtp, rtcp) = [(); 2].map(|()| UdpSocket::bind((address, 0)).unwrap()).into();
        for socket in [&rtp, &rtcp] {
            socket.set_nonblocking(true).unwrap();
        }
        let line = Line { rtp, rtcp, hz, victim, tally: tally.clone() };
        Spoofer { tally, thread: Some(std::thread::spawn(move || line.run())) }
    }

    pub fn sent(&self) -> usize {
        self.tally.sent.load(Relaxed)
    }
    /// Datagrams of any kind that came to it.
    pub fn got(&self) -> usize {
        self.tally.got.load(Relaxed)
    }
}

impl Drop for Spoofer {
    fn drop(&mut self) {
        self.tally.stops.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Line {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    hz: f64,
    victim: Arc<Audio>,
    tally: Arc<Tally>,
}

impl Line {
    fn run(self) {
        let mut sound = tones::tone(self.hz);
        let mut round = 0u64;
        while !self.tally.stops.load(Relaxed) {
            if let Some(far) = self.victim.far.get() {
                let payload: Vec<u8> = (0..160).map(|n| Law::Mu.encode(sound(round * 160 + n) * 2)).collect();
                self.send(*far, round, &payload);
                round += 1;
            }
            self.listen();
            std::thread::sleep(PACE);
        }
        self.listen();
    }

    /// Its packets are a stream of their own, or, every other quarter of a second, have the number that the telephone's next
    /// will have.
    fn send(&self, far: SocketAddr, round: u64, payload: &[u8]) {
        let (ssrc, next) = (self.victim.ssrc, self.victim.next.load(Relaxed));
        let sequence = if (round / 50).is_multiple_of(2) { round as u16 } else { next };
        let packet = rtp(0, sequence, round as u32 * 160, ssrc, payload);
        let _ = self.rtp.send_to(&packet, far);
        self.tally.sent.fetch_add(1, Relaxed);
        if round.is_multiple_of(20) {
            let reports = SocketAddr::new(far.ip(), far.port() + 1);
            let report = rtcp(200, 0, &[ssrc, 0xFFFF_FFFF, 0xFFFF_FFFF, 1, 1, 1]);
            let _ = self.rtcp.send_to(&[report, rtcp(203, 1, &[ssrc])].concat(), reports);
        }
    }

    fn listen(&self) {
        let mut buffer = [0; 2048];
        for socket in [&self.rtp, &self.rtcp] {
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                // Whoever reads this in a failed test wants to know what it was.
                eprintln!("the spoofer got a datagram from {from}");
                self.tally.got.fetch_add(1, Relaxed);
            }
        }
    }
}
