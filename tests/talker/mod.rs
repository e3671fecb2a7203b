//! Telephones whose media a test sends packet by packet, by hand: plain, or sealed by another maker's SRTP than ours
//! (rtc-srtp), RTCP on a port of its own or on RTP's, over either family of addresses.
#![allow(dead_code, reason = "every test uses its own part")]

use crate::phone::{Came, Phone};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rtc_srtp::context::Context;
use rtc_srtp::option::srtp_replay_protection;
use rtc_srtp::protection_profile::ProtectionProfile;
use sotto::call::sdp::Suite;
use sotto::media::rtp::{Header, Packet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Longer than a packet takes.
const SOON: Duration = Duration::from_secs(5);
/// Long enough to be sure that nothing comes: what does come takes a millisecond.
const NOTHING: Duration = Duration::from_millis(300);

/// What a telephone wants of its media.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub proto: &'static str,
    pub suite: Option<Suite>,
    pub mux: bool,
}

impl Wish {
    pub const PLAIN: Wish = Wish { proto: "RTP/AVP", suite: None, mux: false };

    pub fn sealed(suite: Suite) -> Wish {
        Wish { proto: "RTP/SAVP", suite: Some(suite), mux: false }
    }

    pub fn muxed(self) -> Wish {
        Wish { mux: true, ..self }
    }
}

/// SRTP as others make it.
struct Witness {
    sends: Context,
    receives: Context,
}

impl Witness {
    fn new(suite: Suite, ours: &[u8], theirs: &[u8]) -> Witness {
        let profile = match suite {
            Suite::Gcm256 => ProtectionProfile::AeadAes256Gcm,
            Suite::Gcm128 => ProtectionProfile::AeadAes128Gcm,
            Suite::Counter80 => ProtectionProfile::Aes128CmHmacSha1_80,
            Suite::Counter32 => ProtectionProfile::Aes128CmHmacSha1_32,
        };
        let provider = rtc_srtp::crypto::default_provider().unwrap();
        let context = |key: &[u8]| {
            let (key, salt) = key.split_at(suite.lengths().0);
            Context::new(key, salt, profile, Some(srtp_replay_protection(64)), None, provider.crypto()).unwrap()
        };
        Witness { sends: context(ours), receives: context(theirs) }
    }
}

/// A telephone with one call.
pub struct Talker {
    pub phone: Phone,
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
    pub header: Header,
    pub wish: Wish,
    key: Vec<u8>,
    version: u32,
    witness: Option<Witness>,
    /// Where the server wants RTP, and RTCP.
    pub server: [SocketAddr; 2],
    dialog: (String, String, u32),
}

impl Talker {
    pub async fn new(server: SocketAddr, wish: Wish) -> Talker {
        Talker::at(Ipv4Addr::LOCALHOST.into(), server, wish).await
    }

    pub async fn at(ip: IpAddr, server: SocketAddr, wish: Wish) -> Talker {
        let nowhere = SocketAddr::new(ip, 9);
        let [rtp, rtcp] = [(); 2].map(|()| UdpSocket::bind((ip, 0)).unwrap());
        let ssrc = u32::from(rtp.local_addr().unwrap().port());
        let mut talker = Talker {
            phone: Phone::at(ip, server).await,
            rtp,
            rtcp,
            header: Header { marker: false, payload_type: 0, sequence: 100, timestamp: 0, ssrc },
            wish,
            key: Vec::new(),
            version: 0,
            witness: None,
            server: [nowhere; 2],
            dialog: Default::default(),
        };
        talker.another_key();
        talker
    }

    /// The next description has another key.
    pub fn another_key(&mut self) {
        let (key, salt) = self.wish.suite.map_or((16, 14), Suite::lengths);
        self.key = sotto::io::clock::secret::<64>()[..key + salt].to_vec();
    }

    pub fn sdp(&mut self, extra: &str) -> String {
        let (ip, ports) = (self.phone.address().ip(), [&self.rtp, &self.rtcp].map(|s| s.local_addr().unwrap().port()));
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        self.version += 1;
        let mut text = format!(
            "v=0\r\no=talker 1 {} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {} {} 0\r\na=rtcp:{}\r\n",
            self.version, ports[0], self.wish.proto, ports[1]
        );
        if let Some(suite) = self.wish.suite {
            text += &format!("a=crypto:7 {} inline:{}\r\n", suite.name(), STANDARD.encode(&self.key));
        }
        if self.wish.mux {
            text += "a=rtcp-mux\r\n";
        }
        text + extra
    }

    /// Calls `number` with a description of one's own; the final answer, acknowledged.
    pub async fn call(&mut self, number: &str) -> Came {
        let sdp = self.sdp("");
        let invite = self.phone.request("INVITE", number, 1, "", "Max-Forwards: 70\r\n", &sdp);
        self.phone.send(&invite).await;
        let answer = self.last().await;
        self.dialog = (number.to_owned(), answer.to_tag().to_owned(), 1);
        let ack = self.phone.request("ACK", number, 1, answer.to_tag(), "", "");
        let ack = if answer.status() == 200 { ack } else { ack.replace("branch=z9hG4bK-ACK", "branch=z9hG4bK-INVITE") };
        self.phone.send(&ack).await;
        if answer.status() == 200 {
            self.agree(&answer.0);
        }
        answer
    }

    async fn last(&self) -> Came {
        loop {
            let came = self.phone.next().await;
            if came.status() >= 200 {
                return came;
            }
        }
    }

    /// Is called, and answers with the key that the offer's line for the suite asks for.
    pub async fn answer(&mut self) -> Came {
        let invite = self.phone.next().await;
        assert_eq!(invite.method(), "INVITE", "{invite:?}");
        let sdp = self.sdp("").replace("a=crypto:7", &format!("a=crypto:{}", self.tag(&invite.0)));
        self.phone.accept_with(&invite, &sdp).await;
        self.agree(&invite.0);
        invite
    }

    fn tag(&self, sdp: &str) -> String {
        let suite = self.wish.suite.map_or("", Suite::name);
        let line = sdp.lines().find_map(|l| l.strip_prefix("a=crypto:").filter(|l| l.contains(suite)));
        line.and_then(|l| l.split(' ').next()).unwrap_or("7").to_owned()
    }

    /// Offers anew within the call; the answer.
    pub async fn offer(&mut self, extra: &str) -> Came {
        let sdp = self.sdp(extra);
        self.dialog.2 += 1;
        let (number, tag, cseq) = self.dialog.clone();
        self.phone.send(&self.phone.request("INVITE", &number, cseq, &tag, "", &sdp)).await;
        let answer = self.last().await;
        self.phone.send(&self.phone.request("ACK", &number, cseq, &tag, "", "")).await;
        answer
    }

    pub async fn bye(&mut self) {
        self.dialog.2 += 1;
        let (number, tag, cseq) = self.dialog.clone();
        let bye = self.phone.request("BYE", &number, cseq, &tag, "", "");
        assert_eq!(self.phone.ask(&bye).await.status(), 200);
    }

    /// Waits to be hung up, and answers.
    pub async fn hung_up(&self) {
        let bye = self.phone.next().await;
        assert_eq!(bye.method(), "BYE", "{bye:?}");
        self.phone.ok(&bye).await;
    }

    /// What the server's description says: where it is, and with which key it sends.
    pub fn agree(&mut self, message: &str) {
        let line = |prefix: &str| message.lines().find_map(|l| l.strip_prefix(prefix).map(str::to_owned));
        let port = line("m=audio ").and_then(|l| l.split(' ').next()?.parse().ok()).unwrap();
        let ip = line("c=IN ").and_then(|l| l.split(' ').nth(1)?.parse().ok()).unwrap();
        let shared = self.wish.mux && line("a=rtcp-mux").is_some();
        self.server = [SocketAddr::new(ip, port), SocketAddr::new(ip, if shared { port } else { port + 1 })];
        self.witness = self.wish.suite.map(|suite| {
            let tag = format!("a=crypto:{} {} inline:", self.tag(message), suite.name());
            let theirs = line(&tag).unwrap_or_else(|| panic!("no {tag} in\n{message}"));
            Witness::new(suite, &self.key, &STANDARD.decode(theirs).unwrap())
        });
    }

    /// The next packet, with a payload of its own, as it goes over the wire.
    pub fn packet(&mut self) -> (Vec<u8>, Vec<u8>) {
        let n = self.header.sequence;
        let payload: Vec<u8> = (0..160u16).map(|i| (n.wrapping_mul(31) ^ i.wrapping_mul(7) ^ 0x55) as u8).collect();
        let plain = [&self.header.bytes()[..], &payload].concat();
        self.header.sequence = n.wrapping_add(1);
        self.header.timestamp = self.header.timestamp.wrapping_add(160);
        let wire = match &mut self.witness {
            Some(witness) => witness.sends.encrypt_rtp(&plain).unwrap().to_vec(),
            None => plain,
        };
        (wire, payload)
    }

    /// Sends it; its payload.
    pub fn say(&mut self) -> Vec<u8> {
        let (wire, payload) = self.packet();
        self.send(&wire);
        payload
    }

    pub fn send(&self, wire: &[u8]) {
        self.rtp.send_to(wire, self.server[0]).unwrap();
    }

    /// The next packet of RTP, opened.
    pub fn hear(&mut self) -> Option<(Header, Vec<u8>)> {
        let wire = loop {
            let wire = receive(&self.rtp, SOON)?;
            if !is_report(&wire) {
                break wire;
            }
        };
        if let Some(witness) = &mut self.witness {
            let plain = witness.receives.decrypt_rtp(&wire).expect("it was sealed with the key of the answer");
            assert!(Packet::parse(&wire).unwrap().payload[..16] != Packet::parse(&plain).unwrap().payload[..16]);
            return Some(read(&plain));
        }
        Some(read(&wire))
    }

    pub fn hears_nothing(&self) -> bool {
        receive(&self.rtp, NOTHING).is_none()
    }

    /// Tells the time `middle` (NTP's middle 32 bits) in a sender's report.
    pub fn report(&mut self, middle: u32) {
        let mut plain = vec![0x80, 200, 0, 6];
        plain.extend(self.header.ssrc.to_be_bytes());
        plain.extend((u64::from(middle) << 16).to_be_bytes());
        plain.extend([0; 12]);
        let wire = match &mut self.witness {
            Some(witness) => witness.sends.encrypt_rtcp(&plain).unwrap().to_vec(),
            None => plain,
        };
        let socket = if self.server[0] == self.server[1] { &self.rtp } else { &self.rtcp };
        socket.send_to(&wire, self.server[1]).unwrap();
    }

    /// The next report, from where it is to come: what it says of when our last report was (LSR).
    pub fn last_report(&mut self) -> u32 {
        let shared = self.server[0] == self.server[1];
        let wire = loop {
            let wire = receive(if shared { &self.rtp } else { &self.rtcp }, SOON).expect("a report comes");
            if is_report(&wire) {
                break wire;
            }
        };
        let plain = match &mut self.witness {
            Some(witness) => witness.receives.decrypt_rtcp(&wire).expect("a report is sealed too").to_vec(),
            None => wire,
        };
        let block = if plain[1] == 200 { 28 } else { 8 };
        u32::from_be_bytes(*plain[block + 16..].first_chunk().unwrap())
    }
}

fn is_report(wire: &[u8]) -> bool {
    (192..=223).contains(&wire[1])
}

fn read(plain: &[u8]) -> (Header, Vec<u8>) {
    let packet = Packet::parse(plain).unwrap();
    (packet.header, packet.payload.to_vec())
}

fn receive(socket: &UdpSocket, patience: Duration) -> Option<Vec<u8>> {
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut bytes = [0; 2000];
    let length = socket.recv(&mut bytes).ok()?;
    Some(bytes[..length].to_vec())
}

/// What one says the other hears, octet for octet, both ways, so many times.
pub fn talk(a: &mut Talker, b: &mut Talker, times: usize) {
    for _ in 0..times {
        let said = a.say();
        assert_eq!(next_said(b), said);
        let said = b.say();
        assert_eq!(next_said(a), said);
    }
}

/// The next packet that is not the silence which who is alone in a call is sent.
fn next_said(talker: &mut Talker) -> Vec<u8> {
    loop {
        let (_, payload) = talker.hear().expect("a packet comes");
        if payload.iter().any(|sample| *sample != 0xFF) {
            return payload;
        }
    }
}
