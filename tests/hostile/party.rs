//! A telephone: SIP by single datagrams, and PCMU of which no two packets are alike. All it sends and all it gets is
//! kept with its time.

use super::{FRAME, rtp, sleep_until};
use crate::phone::{Came, Phone};
use crate::tones;
use sotto::io::clock;
use sotto::media::codec::g711::Law;
use sotto::media::seed::Seed;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Samples in a packet.
const SAMPLES: u64 = 160;
/// PCMU.
const KIND: u8 = 0;

/// A packet that was sent or that came.
#[derive(Clone)]
pub struct Kept {
    pub at: Instant,
    pub payload: Vec<u8>,
}

/// Both directions of a telephone's audio, and what an attacker may know of it.
pub struct Audio {
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
    pub ssrc: u32,
    /// The number its next packet will have.
    pub next: AtomicU16,
    /// Where the server receives its packets, once that is known.
    pub far: OnceLock<SocketAddr>,
    hz: f64,
    speaks: AtomicBool,
    stops: AtomicBool,
    sent: Mutex<Vec<Kept>>,
    got: Mutex<Vec<Kept>>,
}

/// A telephone with one call.
pub struct Party {
    pub sip: Phone,
    pub audio: Arc<Audio>,
    threads: Vec<JoinHandle<()>>,
    number: String,
    tag: String,
    /// The INVITE it was called by.
    called_by: Option<Came>,
    cseq: u32,
}

impl Party {
    /// A telephone whose tone has `hz`. It is silent until it is told to speak.
    pub async fn new(server: SocketAddr, hz: f64) -> Party {
        let (rtp, rtcp) = pair();
        let (next, ssrc) = (AtomicU16::new(100), 0x5000_0000 + hz as u32);
        let audio = Arc::new(Audio {
            rtp,
            rtcp,
            ssrc,
            next,
            far: OnceLock::new(),
            hz,
            speaks: AtomicBool::new(false),
            stops: AtomicBool::new(false),
            sent: Mutex::default(),
            got: Mutex::default(),
        });
        let (speaking, listening) = (audio.clone(), audio.clone());
        let threads = vec![std::thread::spawn(move || speaking.say()), std::thread::spawn(move || listening.hear())];
        let sip = Phone::new(server).await;
        Party { sip, audio, threads, number: String::new(), tag: String::new(), called_by: None, cseq: 1 }
    }

    fn sdp(&self) -> String {
        let port = self.audio.rtp.local_addr().unwrap().port();
        format!(
            "v=0\r\no=party 1 {} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n",
            self.cseq
        )
    }

    /// Calls `number`, which must answer.
    pub async fn call(&mut self, number: &str) {
        self.number = number.to_owned();
        let answer = self.invite().await;
        self.audio.far.set(media_of(&answer.0)).unwrap();
    }

    /// Is called, and answers.
    pub async fn answer(&mut self) {
        let invite = self.sip.next().await;
        assert_eq!(invite.method(), "INVITE", "{invite:?}");
        self.audio.far.set(media_of(&invite.0)).unwrap();
        let copied = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", invite.header(n).unwrap()));
        let (to, port, sdp) = (invite.header("To").unwrap(), self.sip.port(), self.sdp());
        let answer = format!(
            "SIP/2.0 200 OK\r\n{}To: {to};tag=party\r\nContact: <sip:party@127.0.0.1:{port}>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            copied.concat(),
            sdp.len()
        );
        self.sip.send(&answer).await;
        assert_eq!(self.sip.next().await.method(), "ACK");
        self.called_by = Some(invite);
        self.cseq = 0;
    }

    /// Describes itself once more, with the same words (RFC 3264 §8).
    pub async fn renegotiate(&mut self) {
        self.cseq += 1;
        self.invite().await;
    }

    /// A key by INFO.
    pub async fn key(&mut self, signal: &str) {
        self.cseq += 1;
        let body = format!("Signal={signal}\r\nDuration=160\r\n");
        let info = self.request("INFO", &body).replace("application/sdp", "application/dtmf-relay");
        assert_eq!(self.sip.ask(&info).await.status(), 200);
    }

    /// Hangs up.
    pub async fn bye(&mut self) {
        self.cseq += 1;
        let answer = self.sip.ask(&self.request("BYE", "")).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
    }

    /// Sends an INVITE, which must be accepted, and acknowledges.
    async fn invite(&mut self) -> Came {
        self.sip.send(&self.request("INVITE", &self.sdp())).await;
        let answer = loop {
            let came = self.sip.next().await;
            if came.status() >= 200 {
                break came;
            }
        };
        assert_eq!(answer.status(), 200, "{answer:?}");
        if self.tag.is_empty() {
            self.tag = answer.to_tag().to_owned();
        }
        self.sip.send(&self.request("ACK", "")).await;
        answer
    }

    /// A request of the dialog, whoever began it.
    fn request(&self, method: &str, body: &str) -> String {
        let forwards = "Max-Forwards: 70\r\n";
        let text = self.sip.request(method, &self.number, self.cseq, &self.tag, forwards, body);
        let Some(invite) = &self.called_by else { return text };
        let ours = |line: &str| {
            let header = |name: &str| invite.header(name).unwrap();
            match line.split(' ').next().unwrap_or_default() {
                "From:" => format!("From: {};tag=party", header("To")),
                "To:" => format!("To: {}", header("From")),
                "Call-ID:" => format!("Call-ID: {}", header("Call-ID")),
                _ => line.to_owned(),
            }
        };
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let target = invite.header("Contact").unwrap().trim_start_matches('<').split('>').next().unwrap();
        let lines: Vec<String> = head.split("\r\n").skip(1).map(ours).collect();
        format!("{method} {target} SIP/2.0\r\n{}\r\n\r\n{body}", lines.join("\r\n"))
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        self.audio.stops.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Audio {
    /// From now on there is a tone, or none any more.
    pub fn speak(&self, speaks: bool) {
        self.speaks.store(speaks, Relaxed);
    }
    /// All it has sent so far.
    pub fn sent(&self) -> Vec<Kept> {
        self.sent.lock().unwrap().clone()
    }
    /// All it got so far.
    pub fn got(&self) -> Vec<Kept> {
        self.got.lock().unwrap().clone()
    }
    /// What it heard between two moments.
    pub fn heard(&self, from: Instant, to: Instant) -> Vec<i16> {
        let got = self.got.lock().unwrap();
        let packets = got.iter().filter(|k| (from..to).contains(&k.at));
        packets.flat_map(|k| k.payload.iter().map(|b| Law::Mu.decode(*b))).collect()
    }

    fn say(&self) {
        let (mut sound, mut seed) = (tones::tone(self.hz), Seed::new(u64::from(self.ssrc)));
        let (mut spoken, mut due) = (0, clock::now());
        while !self.stops.load(Relaxed) {
            if let (true, Some(far)) = (self.speaks.load(Relaxed), self.far.get()) {
                // The last bit of each byte is noise: no two packets are alike, and it is still the tone.
                let byte = |n| Law::Mu.encode(sound(spoken + n)) ^ (seed.bits() & 1) as u8;
                let payload: Vec<u8> = (0..SAMPLES).map(byte).collect();
                let sequence = self.next.fetch_add(1, Relaxed);
                let packet = rtp(KIND, sequence, spoken as u32, self.ssrc, &payload);
                self.sent.lock().unwrap().push(Kept { at: clock::now(), payload });
                // The port is closed when the call is over.
                let _ = self.rtp.send_to(&packet, far);
            }
            spoken += SAMPLES;
            due += FRAME;
            sleep_until(due);
        }
    }

    fn hear(&self) {
        self.rtp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut buffer = [0; 2048];
        while !self.stops.load(Relaxed) {
            // Nothing, or an ICMP error of an earlier packet.
            let Ok(length) = self.rtp.recv(&mut buffer) else { continue };
            let payload = buffer.get(12..length).unwrap_or_default().to_vec();
            self.got.lock().unwrap().push(Kept { at: clock::now(), payload });
        }
    }
}

/// Where a session description wants its audio.
fn media_of(message: &str) -> SocketAddr {
    let line = message.lines().find_map(|l| l.strip_prefix("m=audio ")).unwrap();
    ([127, 0, 0, 1], line.split(' ').next().unwrap().parse().unwrap()).into()
}

/// Two sockets, one above the other.
pub fn pair() -> (UdpSocket, UdpSocket) {
    loop {
        let rtp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Some(above) = rtp.local_addr().unwrap().port().checked_add(1)
            && let Ok(rtcp) = UdpSocket::bind(("127.0.0.1", above))
        {
            return (rtp, rtcp);
        }
    }
}
