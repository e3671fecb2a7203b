//! Telephones that speak: SIP by single datagrams, a tone each over RTP, keys by RFC 4733, and all they hear kept.
#![allow(dead_code, reason = "every test uses its own part")]

use crate::phone::{Came, Phone};
use crate::{Sound, tones};
use sotto::io::clock;
use sotto::media::codec::g711::Law;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const FRAME: usize = 160;
/// What telephone events are called by every telephone here.
const EVENTS: u8 = 101;
/// No keys: from here on it is another stream, and one from another address.
const ANOTHER: u8 = 255;
const ELSEWHERE: u8 = 254;
/// Packets of one key.
const KEY_PACKETS: u16 = 9;
/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A packet that came: its payload type, its payload, and its header.
type Got = (u8, Vec<u8>, Numbers);

/// What goes on from packet to packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

/// A telephone with one call.
pub struct Desk {
    pub phone: Phone,
    number: String,
    /// The other side's tag.
    tag: String,
    cseq: u32,
    /// What it was called with.
    invite: Option<Came>,
    voice: Voice,
}

impl Desk {
    /// A telephone whose tone has `hz`.
    pub async fn new(server: SocketAddr, hz: f64) -> Desk {
        let phone = Phone::new(server).await;
        Desk { phone, number: String::new(), tag: String::new(), cseq: 1, invite: None, voice: Voice::new(hz) }
    }

    fn sdp(&self) -> String {
        format!(
            "v=0\r\no=desk 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 0 {EVENTS}\r\n\
             a=rtpmap:{EVENTS} telephone-event/8000\r\n",
            self.voice.port
        )
    }

    /// Calls `number`: the final answer, acknowledged, and if it is a 200 the tone begins.
    pub async fn call(&mut self, number: &str) -> Came {
        self.call_with(number, "").await
    }

    /// The same with more header lines.
    pub async fn call_with(&mut self, number: &str, more: &str) -> Came {
        let headers = format!("Max-Forwards: 70\r\n{more}");
        let invite = self.phone.request("INVITE", number, 1, "", &headers, &self.sdp());
        self.phone.send(&invite).await;
        let answer = loop {
            let came = self.phone.next().await;
            if came.status() >= 200 {
                break came;
            }
        };
        (self.number, self.tag) = (number.to_owned(), answer.to_tag().to_owned());
        let ack = self.phone.request("ACK", number, 1, &self.tag, "", "");
        // The ACK of a refusal belongs to the INVITE's transaction (RFC 3261 §17.1.1.3).
        let ack = if answer.status() == 200 { ack } else { ack.replace("branch=z9hG4bK-ACK", "branch=z9hG4bK-INVITE") };
        self.phone.send(&ack).await;
        if answer.status() == 200 {
            self.voice.speak(&answer.0);
        }
        answer
    }

    /// Its dialog as others name it (RFC 3911 §7.1): the server's tag is the one it is sent to.
    pub fn dialog(&self) -> String {
        if let Some(invite) = &self.invite {
            let tag = invite.header("From").and_then(|from| from.split("tag=").nth(1)).unwrap();
            return format!("{};to-tag={tag};from-tag=desk", invite.header("Call-ID").unwrap());
        }
        format!("{};to-tag={};from-tag=phone", self.phone.call_id, self.tag)
    }

    /// The audio that came from packet `since` on: numbers and samples.
    pub fn heard(&self, since: usize) -> Vec<(Numbers, Vec<i16>)> {
        let got = self.voice.got.lock().unwrap();
        let audio = got.iter().skip(since).filter(|(kind, ..)| *kind == 0);
        audio.map(|(_, p, numbers)| (*numbers, p.iter().map(|b| Law::Mu.decode(*b)).collect())).collect()
    }

    /// Is called and answers.
    pub async fn answer(&mut self) {
        let invite = self.phone.next().await;
        assert_eq!(invite.method(), "INVITE", "{invite:?}");
        let copied = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", invite.header(n).unwrap()));
        let (to, port, sdp) = (invite.header("To").unwrap(), self.phone.port(), self.sdp());
        let answer = format!(
            "SIP/2.0 200 OK\r\n{}To: {to};tag=desk\r\nContact: <sip:desk@127.0.0.1:{port}>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            copied.concat(),
            sdp.len()
        );
        self.phone.send(&answer).await;
        self.voice.speak(&invite.0);
        assert_eq!(self.phone.next().await.method(), "ACK");
        self.invite = Some(invite);
    }

    /// Hangs up the call it was called for.
    pub async fn leave(&mut self) {
        let bye = self.inside("BYE", "", "");
        self.invite = None;
        assert_eq!(self.phone.ask(&bye).await.status(), 200);
    }

    /// A request in its dialog, whoever began that; `more` are whole lines.
    pub fn inside(&mut self, method: &str, more: &str, body: &str) -> String {
        self.cseq += 1;
        let Some(invite) = &self.invite else {
            return self.phone.request(method, &self.number, self.cseq, &self.tag, more, body);
        };
        let [from, to, call_id] = ["To", "From", "Call-ID"].map(|name| invite.header(name).unwrap());
        let (here, server) = (self.phone.address(), invite.header("Contact").unwrap().trim_matches(['<', '>']));
        let (cseq, kind) = (self.cseq, if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" });
        format!(
            "{method} {server} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK-{method}-{}-{cseq};rport\r\n\
             From: {from};tag=desk\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\n\
             Contact: <sip:desk@{here}>\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
            here.port(),
            body.len()
        )
    }

    /// Asks for a transfer; `more` are whole lines.
    pub async fn refer(&mut self, to: &str, more: &str) -> Came {
        let refer = self.inside("REFER", &format!("Refer-To: {to}\r\n{more}"), "");
        self.phone.ask(&refer).await
    }

    /// The next it is told of its transfer: the status line, and the state of the subscription.
    pub async fn news(&self) -> (String, String) {
        let notify = self.phone.next().await;
        assert_eq!(notify.method(), "NOTIFY", "{notify:?}");
        assert!(notify.header("Event").unwrap().starts_with("refer"), "{notify:?}");
        assert_eq!(notify.header("Content-Type"), Some("message/sipfrag;version=2.0"));
        self.phone.ok(&notify).await;
        let body = notify.0.split("\r\n\r\n").nth(1).unwrap();
        (body.trim_end().to_owned(), notify.header("Subscription-State").unwrap().to_owned())
    }

    /// What it is told last; nothing before was final.
    pub async fn outcome(&self) -> String {
        loop {
            match self.news().await {
                (line, state) if state == "terminated;reason=noresource" => return line,
                (line, state) => {
                    assert!(line.starts_with("SIP/2.0 1") && state.starts_with("active;"), "{line} {state}")
                }
            }
        }
    }

    /// Offers its media anew, in this direction; the answer, acknowledged.
    pub async fn offer(&mut self, direction: &str) -> Came {
        let sdp = format!("{}a={direction}\r\n", self.sdp());
        let offer = self.inside("INVITE", "", &sdp);
        let answer = self.phone.ask(&offer).await;
        let ack = offer.split("Content-Type").next().unwrap().replace("INVITE", "ACK");
        self.phone.send(&format!("{ack}Content-Length: 0\r\n\r\n")).await;
        answer
    }

    /// Takes an offer as it comes: which direction it has.
    pub async fn is_offered(&self) -> String {
        let offer = self.phone.next().await;
        assert_eq!(offer.method(), "INVITE", "{offer:?}");
        let direction = ["sendonly", "recvonly", "inactive"].into_iter().find(|d| offer.0.contains(&format!("a={d}")));
        let answer = match direction {
            Some("sendonly") => "recvonly",
            Some("recvonly") => "sendonly",
            Some(_) => "inactive",
            None => "sendrecv",
        };
        self.phone.accept_with(&offer, &format!("{}a={answer}\r\n", self.sdp())).await;
        direction.unwrap_or("sendrecv").to_owned()
    }

    /// How loud `hz` ever was in what came from packet `since` on: the most of any 40 ms.
    pub fn most(&self, since: usize, hz: f64) -> f64 {
        let heard: Vec<i16> = self.heard(since).into_iter().flat_map(|(_, pcm)| pcm).collect();
        heard.chunks_exact(2 * FRAME).map(|piece| tones::amplitude(piece, hz)).fold(0.0, f64::max)
    }

    /// Hangs up.
    pub async fn bye(&mut self) {
        self.cseq += 1;
        let bye = self.phone.request("BYE", &self.number, self.cseq, &self.tag, "", "");
        assert_eq!(self.phone.ask(&bye).await.status(), 200);
    }

    /// A key by INFO.
    pub async fn info(&mut self, signal: &str) -> u16 {
        self.cseq += 1;
        let body = format!("Signal={signal}\r\nDuration=160\r\n");
        let info = self.phone.request("INFO", &self.number, self.cseq, &self.tag, "", &body);
        let info = info.replace("application/sdp", "application/dtmf-relay");
        self.phone.ask(&info).await.status()
    }

    /// Waits to be hung up, and answers; why, as the Reason header says.
    pub async fn hung_up(&self) -> String {
        let bye = self.phone.next().await;
        assert_eq!(bye.method(), "BYE", "{bye:?}");
        self.phone.ok(&bye).await;
        bye.header("Reason").unwrap_or_default().to_owned()
    }

    /// Presses a key, as a telephone event.
    pub fn press(&self, event: u8) {
        self.voice.keys.send(event).unwrap();
    }

    /// Goes on as another stream, from another address if it `moves`, without a word to anybody.
    pub fn becomes_another(&self, moves: bool) {
        self.voice.keys.send(if moves { ELSEWHERE } else { ANOTHER }).unwrap();
    }

    /// Whether it was sent a telephone event.
    pub fn got_a_key(&self) -> bool {
        self.voice.got.lock().unwrap().iter().any(|(kind, ..)| *kind == EVENTS)
    }

    /// How many packets came so far.
    pub fn count(&self) -> usize {
        self.voice.got.lock().unwrap().len()
    }

    /// The amplitude of `hz` in the last 400 ms, once 800 ms more have come.
    pub async fn level(&self, hz: f64) -> f64 {
        tones::amplitude(&self.listen().await, hz)
    }

    /// What it hears: the last 400 ms of the next 800.
    pub async fn listen(&self) -> Vec<i16> {
        let enough = self.count() + 40;
        let more = async {
            while self.count() < enough {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, more).await.expect("nothing comes any more");
        let got = self.voice.got.lock().unwrap();
        let audio: Vec<_> = got.iter().filter(|(kind, ..)| *kind == 0).collect();
        audio[audio.len() - 20..].iter().flat_map(|(_, p, _)| p.iter().map(|b| Law::Mu.decode(*b))).collect()
    }
}

/// Both directions of a telephone's audio.
struct Voice {
    port: u16,
    keys: Sender<u8>,
    got: Arc<Mutex<Vec<Got>>>,
    start: Sender<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl Voice {
    fn new(hz: f64) -> Voice {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let ((keys, pressed), (start, started)) = (channel(), channel());
        let got = Arc::new(Mutex::new(Vec::new()));
        let line = Line { socket, ssrc: 7, sound: tones::tone(hz), pressed, got: got.clone(), spoken: 0, sequence: 0 };
        let thread = std::thread::spawn(move || {
            // Nobody who never started has anything to say.
            if let Ok(to) = started.recv() {
                line.run(to, &started);
            }
        });
        Voice { port, keys, got, start, thread: Some(thread) }
    }

    /// Speaks to where a session description wants it.
    fn speak(&self, message: &str) {
        let port = message.lines().find_map(|l| l.strip_prefix("m=audio ")).and_then(|l| l.split(' ').next()).unwrap();
        self.start.send(([127, 0, 0, 1], port.parse().unwrap()).into()).unwrap();
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        // The thread ends when the way to it is gone.
        self.start = channel().0;
        let _ = self.thread.take().unwrap().join();
    }
}

struct Line {
    socket: UdpSocket,
    ssrc: u32,
    sound: Sound,
    pressed: Receiver<u8>,
    got: Arc<Mutex<Vec<Got>>>,
    spoken: u64,
    sequence: u16,
}

impl Line {
    fn run(mut self, to: SocketAddr, owner: &Receiver<SocketAddr>) {
        self.socket.set_nonblocking(true).unwrap();
        let mut next = clock::now();
        // The key being pressed, the timestamp of its beginning, and its packets so far.
        let mut key: Option<(u8, u32, u16)> = None;
        while owner.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
            key = key.or_else(|| self.pressed.try_recv().ok().map(|k| (k, self.spoken as u32, 0)));
            key = match key {
                Some((key @ (ANOTHER | ELSEWHERE), ..)) => self.become_another(key, to),
                Some((event, began, n)) => self.event(to, event, began, n + 1),
                None => self.frame(to),
            };
            self.spoken += FRAME as u64;
            self.keep();
            next += Duration::from_millis(20);
            std::thread::sleep(next.saturating_duration_since(clock::now()));
        }
    }

    fn become_another(&mut self, key: u8, to: SocketAddr) -> Option<(u8, u32, u16)> {
        if key == ELSEWHERE {
            self.socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            self.socket.set_nonblocking(true).unwrap();
        }
        self.ssrc += 1;
        self.frame(to)
    }

    fn frame(&mut self, to: SocketAddr) -> Option<(u8, u32, u16)> {
        let payload: Vec<u8> = (0..FRAME as u64).map(|n| Law::Mu.encode((self.sound)(self.spoken + n))).collect();
        self.send(to, 0, self.spoken as u32, &payload);
        None
    }

    fn event(&mut self, to: SocketAddr, event: u8, began: u32, n: u16) -> Option<(u8, u32, u16)> {
        let end = if n + 3 > KEY_PACKETS { 0x80 } else { 0 };
        let [high, low] = (n * FRAME as u16).to_be_bytes();
        self.send(to, EVENTS, began, &[event, end | 10, high, low]);
        (n < KEY_PACKETS).then_some((event, began, n))
    }

    fn send(&mut self, to: SocketAddr, kind: u8, timestamp: u32, payload: &[u8]) {
        self.sequence += 1;
        let mut packet = vec![0x80, kind];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(payload);
        // A port that is closed already is a packet lost.
        let _ = self.socket.send_to(&packet, to);
    }

    fn keep(&mut self) {
        let mut buffer = [0; 2048];
        // An ICMP error of an earlier packet is told once.
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let numbers = Numbers {
                sequence: u16::from_be_bytes([buffer[2], buffer[3]]),
                timestamp: u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]),
                ssrc: u32::from_be_bytes([buffer[8], buffer[9], buffer[10], buffer[11]]),
            };
            self.got.lock().unwrap().push((buffer[1] & 0x7f, buffer[12..length].to_vec(), numbers));
        }
    }
}
