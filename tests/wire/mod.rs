//! A telephone on a connection, TCP or TLS: single messages, and what no telephone does with them.
#![allow(dead_code, reason = "every test uses its own part")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A message that came.
#[derive(Clone, Debug)]
pub struct Came(pub String);

impl Came {
    pub fn status(&self) -> u16 {
        self.0.strip_prefix("SIP/2.0 ").and_then(|t| t.get(..3)).and_then(|c| c.parse().ok()).unwrap_or(0)
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

/// One end of a connection.
pub struct Wire {
    pub stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// Answers to keep-alives that came.
    pub pongs: usize,
    pub here: SocketAddr,
    pub there: SocketAddr,
    /// `TCP` or `TLS`.
    pub transport: &'static str,
    pub call_id: String,
    media: UdpSocket,
}

impl Wire {
    pub async fn tcp(there: SocketAddr) -> Wire {
        Wire::over(TcpStream::connect(there).await.unwrap(), "TCP")
    }

    /// The connection that somebody makes to `listener`.
    pub async fn accepted(listener: &TcpListener) -> Wire {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        Wire::over(accepted.expect("nobody connected").unwrap().0, "TCP")
    }

    pub fn over(stream: TcpStream, transport: &'static str) -> Wire {
        let (here, there) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        Wire::inside(Box::new(stream), here, there, transport)
    }

    pub fn inside(stream: Box<dyn Stream>, here: SocketAddr, there: SocketAddr, transport: &'static str) -> Wire {
        let media = UdpSocket::bind((here.ip(), 0)).unwrap();
        let call_id = format!("wire-{}-{}@sotto.example", here.port(), there.port());
        Wire { stream, buffer: Vec::new(), pongs: 0, here, there, transport, call_id, media }
    }

    pub fn sdp(&self) -> String {
        let (ip, family) = (self.here.ip(), if self.here.is_ipv4() { "IP4" } else { "IP6" });
        format!(
            "v=0\r\no=wire 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\n",
            self.media.local_addr().unwrap().port()
        )
    }

    /// A request; `to_tag` names its dialog, `extra` are whole lines.
    pub fn request(&self, method: &str, number: &str, cseq: u32, to_tag: &str, extra: &str, body: &str) -> String {
        let Wire { here, there, transport, call_id, .. } = self;
        let tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} sip:{number}@{there} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {here};branch=z9hG4bK-{method}-{cseq}-{};rport\r\n\
             From: <sip:5550199@127.0.0.1>;tag=wire\r\nTo: <sip:{number}@{there}>{tag}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:wire@{here};transport={transport}>\r\nMax-Forwards: 70\r\n\
             {extra}{kind}Content-Length: {}\r\n\r\n{body}",
            here.port(),
            body.len()
        )
    }

    pub fn invite(&self, number: &str) -> String {
        self.request("INVITE", number, 1, "", "", &self.sdp())
    }

    pub async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next message, or none: the other end closed the connection.
    pub async fn came(&mut self) -> Option<Came> {
        loop {
            if let Some(message) = self.whole() {
                return Some(message);
            }
            let mut chunk = vec![0; 65_536];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut chunk)).await;
            match read.expect("nothing came, and the connection stands") {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
            }
        }
    }

    fn whole(&mut self) -> Option<Came> {
        while self.buffer.starts_with(b"\r\n") {
            self.buffer.drain(..2);
            self.pongs += 1;
        }
        let end = self.buffer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let length =
            head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).map_or(0, |l| l.trim().parse().unwrap());
        if self.buffer.len() < end + length {
            return None;
        }
        let rest = self.buffer.split_off(end + length);
        let message = std::mem::replace(&mut self.buffer, rest);
        Some(Came(String::from_utf8(message).unwrap()))
    }

    /// The next message that is neither 100 nor 180.
    pub async fn next(&mut self) -> Came {
        loop {
            let came = self.came().await.expect("the connection was closed");
            if !(100..200).contains(&came.status()) {
                return came;
            }
        }
    }

    pub async fn ask(&mut self, text: &str) -> Came {
        self.send(text).await;
        self.next().await
    }

    /// Whether the other end closes the connection before anything comes.
    pub async fn is_closed(&mut self) -> bool {
        self.came().await.is_none()
    }

    /// 200 to a request that came, with a description where it is an INVITE.
    pub async fn accept(&mut self, request: &Came) {
        let copied = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", request.header(n).unwrap()));
        let (to, here, transport) = (request.header("To").unwrap(), self.here, self.transport);
        let tag = if to.contains("tag=") { "" } else { ";tag=wire" };
        let (kind, body) = match request.method() {
            "INVITE" => ("Content-Type: application/sdp\r\n", self.sdp()),
            _ => ("", String::new()),
        };
        let answer = format!(
            "SIP/2.0 200 OK\r\n{}To: {to}{tag}\r\nContact: <sip:wire@{here};transport={transport}>\r\n{kind}\
             Content-Length: {}\r\n\r\n{body}",
            copied.concat(),
            body.len()
        );
        self.send(&answer).await;
    }

    /// A call that stands: the answer to the INVITE, acknowledged.
    pub async fn call(&mut self, number: &str) -> Came {
        let answer = self.ask(&self.invite(number)).await;
        if answer.status() == 200 {
            let ack = self.request("ACK", number, 1, answer.to_tag(), "", "");
            self.send(&ack).await;
        }
        answer
    }
}
