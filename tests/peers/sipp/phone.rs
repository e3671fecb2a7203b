//! A telephone made of single datagrams, for what SIPp does not do: repeat, lose, and break messages.
#![allow(dead_code, reason = "every test uses its own part")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::UdpSocket;

pub struct Phone {
    pub socket: UdpSocket,
    server: Mutex<SocketAddr>,
    pub call_id: String,
    /// Where its audio goes; nobody listens to it here.
    media: UdpSocket,
}

/// A message that came.
#[derive(Clone, Debug)]
pub struct Came(pub String);

impl Came {
    pub fn status(&self) -> u16 {
        self.0.strip_prefix("SIP/2.0 ").and_then(|t| t.get(..3)).and_then(|c| c.parse().ok()).unwrap_or(0)
    }
    pub fn reason(&self) -> &str {
        self.0.lines().next().and_then(|l| l.get(12..)).unwrap_or_default()
    }
    pub fn method(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.0.lines().take_while(|l| !l.is_empty()).find_map(|l| l.strip_prefix(prefix.as_str()))
    }
    pub fn to_tag(&self) -> &str {
        self.header("To").and_then(|t| t.split("tag=").nth(1)).unwrap_or_default()
    }
}

impl Phone {
    pub async fn new(server: SocketAddr) -> Phone {
        Phone::at(Ipv4Addr::LOCALHOST.into(), server).await
    }

    /// At an address of either family.
    pub async fn at(ip: IpAddr, server: SocketAddr) -> Phone {
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let media = UdpSocket::bind((ip, 0)).await.unwrap();
        Phone { socket, server: Mutex::new(server), call_id: format!("phone-{port}@sotto.example"), media }
    }

    /// As SIP names it.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Names the server, where it was not known yet.
    pub fn serve(&self, server: SocketAddr) {
        *self.server.lock().unwrap() = server;
    }

    fn server(&self) -> SocketAddr {
        *self.server.lock().unwrap()
    }

    pub fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    pub fn sdp(&self) -> String {
        format!(
            "v=0\r\no=phone 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\n",
            self.media.local_addr().unwrap().port()
        )
    }

    /// A request with the usual headers; `to_tag` names the dialog, `extra` are whole lines.
    pub fn request(&self, method: &str, number: &str, cseq: u32, to_tag: &str, extra: &str, body: &str) -> String {
        let (port, here, call_id, server) = (self.port(), self.address(), &self.call_id, self.server());
        let tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} sip:{number}@{server} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {here};branch=z9hG4bK-{method}-{cseq}-{port};rport\r\n\
             From: <sip:5550199@127.0.0.1>;tag=phone\r\nTo: <sip:{number}@{server}>{tag}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:phone@{here}>\r\n{extra}{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    pub fn invite(&self, number: &str) -> String {
        self.request("INVITE", number, 1, "", "Max-Forwards: 70\r\n", &self.sdp())
    }

    pub async fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), self.server()).await.unwrap();
    }

    /// The next message, or none within `wait`.
    pub async fn within(&self, wait: Duration) -> Option<Came> {
        let mut buffer = vec![0; 65_536];
        let read = async {
            loop {
                let (len, _) = self.socket.recv_from(&mut buffer).await.ok()?;
                // RTCP of some call may go to the port above its audio, which can be ours.
                if buffer[0].is_ascii() {
                    return Some(len);
                }
            }
        };
        let len = tokio::time::timeout(wait, read).await.ok()??;
        Some(Came(String::from_utf8_lossy(&buffer[..len]).into_owned()))
    }

    /// The next message that is no 100.
    pub async fn next(&self) -> Came {
        loop {
            let came = self.within(Duration::from_secs(10)).await.expect("no message came");
            if came.status() != 100 {
                return came;
            }
        }
    }

    /// What a request is answered with.
    pub async fn ask(&self, text: &str) -> Came {
        self.send(text).await;
        self.next().await
    }

    /// The same, asked again as telephones do (RFC 3261 §17.1.2.2): what comes while a transaction passes from one state to
    /// the next may be lost like any datagram.
    pub async fn ask_again(&self, text: &str) -> Came {
        for _ in 0..8 {
            self.send(text).await;
            if let Some(came) = self.within(Duration::from_millis(500)).await {
                return came;
            }
        }
        panic!("no answer came");
    }

    /// 200 to a request that came.
    pub async fn ok(&self, request: &Came) {
        let copied =
            ["Via", "From", "To", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", request.header(n).unwrap()));
        self.send(&format!("SIP/2.0 200 OK\r\n{}Content-Length: 0\r\n\r\n", copied.concat())).await;
    }

    /// 200 to an INVITE that came, with its ACK.
    pub async fn accept(&self, invite: &Came) {
        self.accept_with(invite, &self.sdp()).await;
    }

    /// The same with a description of one's own.
    pub async fn accept_with(&self, invite: &Came, sdp: &str) {
        let copied = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", invite.header(n).unwrap()));
        let (to, here) = (invite.header("To").unwrap(), self.address());
        let tag = if to.contains(";tag=") { "" } else { ";tag=phone" };
        let answer = format!(
            "SIP/2.0 200 OK\r\n{}To: {to}{tag}\r\nContact: <sip:phone@{here}>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            copied.concat(),
            sdp.len()
        );
        self.send(&answer).await;
        assert_eq!(self.next().await.method(), "ACK");
    }
}
