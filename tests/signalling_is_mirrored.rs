//! A capture server gets a copy of every message, both ways and over both kinds of transport, as HEP3 lays it down, without
//! what is secret; and signalling waits for nothing of it. The packets are taken apart here by the published specification, and
//! by Kamailio.

#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;

use phone::Phone;
use sipp::{House, Plan};
use sotto::config::{Hep, Secret};
use sotto::io::hep::Mirror;
use sotto::io::metrics::Metrics;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UdpSocket;
use tokio::process::Command;

const ROUTES: &str = r#"
[[route]]
called = '^1'
steps = [ {answer = {}}, {say = "This is a sentence that takes a good while to say."} ]
"#;

/// A packet by the specification: `HEP3`, its length, then chunks of vendor, type, length (its six bytes among it) and value.
struct Packet(HashMap<u16, Vec<u8>>);

impl Packet {
    fn read(bytes: &[u8]) -> Packet {
        let u16_at = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!((&bytes[..4], usize::from(u16_at(4))), (b"HEP3".as_slice(), bytes.len()));
        let (mut chunks, mut at) = (HashMap::new(), 6);
        while at < bytes.len() {
            let (vendor, kind, length) = (u16_at(at), u16_at(at + 2), usize::from(u16_at(at + 4)));
            assert_eq!(vendor, 0, "the generic vendor");
            assert!(length >= 6 && at + length <= bytes.len(), "{length} at {at}");
            assert!(chunks.insert(kind, bytes[at + 6..at + length].to_vec()).is_none(), "{kind} stands there twice");
            at += length;
        }
        Packet(chunks)
    }

    fn number(&self, kind: u16) -> u64 {
        self.0[&kind].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    fn text(&self, kind: u16) -> String {
        String::from_utf8(self.0[&kind].clone()).unwrap()
    }

    fn address(&self, [v4, v6, port]: [u16; 3]) -> SocketAddr {
        let ip: IpAddr = match self.number(1) {
            2 => <[u8; 4]>::try_from(&self.0[&v4][..]).unwrap().into(),
            10 => <[u8; 16]>::try_from(&self.0[&v6][..]).unwrap().into(),
            other => panic!("family {other}"),
        };
        SocketAddr::new(ip, self.number(port) as u16)
    }

    fn from(&self) -> SocketAddr {
        self.address([3, 5, 7])
    }

    fn to(&self) -> SocketAddr {
        self.address([4, 6, 8])
    }

    fn message(&self) -> String {
        self.text(15)
    }
}

struct Homer(UdpSocket);

impl Homer {
    async fn new() -> Homer {
        Homer(UdpSocket::bind("127.0.0.1:0").await.unwrap())
    }

    fn config(&self) -> Hep {
        let server = self.0.local_addr().unwrap().to_string();
        Hep { server, id: 2_001, password: Some(Secret::new("a-password".into())) }
    }

    async fn raw(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let came = tokio::time::timeout(Duration::from_secs(10), self.0.recv(&mut buffer)).await;
        let length = came.expect("no packet came").unwrap();
        buffer.truncate(length);
        buffer
    }

    async fn next(&self) -> Packet {
        Packet::read(&self.raw().await)
    }
}

async fn house(hep: &Hep) -> House {
    let listen = "\"udp://127.0.0.1:0\", \"tcp://127.0.0.1:0\"";
    let mirror = |metrics: &Arc<Metrics>| {
        let (mirror, copies) = Mirror::open(Some(hep), metrics.clone());
        tokio::spawn(copies.unwrap());
        mirror
    };
    House::mirrored(Plan { routes: ROUTES, listen, ..Plan::default() }, mirror).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_seen_whole_and_without_its_secrets() {
    let homer = Homer::new().await;
    let house = house(&homer.config()).await;
    let phone = Phone::new(house.sip).await;
    let secret = "response=\"6629fae49393a05397450978507c4ef1\"";
    let invite = phone.request(
        "INVITE",
        "1",
        1,
        "",
        &format!("Authorization: Digest username=\"u\", {secret}\r\n"),
        &format!(
            "{}a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n",
            phone.sdp()
        ),
    );
    let answer = phone.ask(&invite).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    phone.send(&phone.request("ACK", "1", 1, answer.to_tag(), "", "")).await;
    assert_eq!(phone.ask(&phone.request("BYE", "1", 2, answer.to_tag(), "", "")).await.status(), 200);

    let mut seen = Vec::new();
    while seen.len() < 5
        || !seen.last().is_some_and(|p: &Packet| p.message().contains("BYE\r\n") && p.from() == house.sip)
    {
        seen.push(homer.next().await);
    }
    let first = &seen[0];
    let numbers = [1, 2, 11, 12].map(|kind| first.number(kind));
    assert_eq!(numbers, [2, 17, 1, 2_001], "IPv4, UDP, SIP, and who captured it");
    assert_eq!((first.text(14), first.text(17)), ("a-password".into(), phone.call_id.clone()));
    let seconds = sotto::io::clock::wall().as_secs();
    assert!(first.number(9).abs_diff(seconds) < 60 && first.number(10) < 1_000_000);
    assert_eq!(first.message().len(), invite.len());
    assert!(!first.message().contains("6629fae4") && !first.message().contains("d0Rmdm"), "{}", first.message());
    assert!(first.message().contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:****"), "{}", first.message());
    for packet in &seen {
        let (line, comes) = (packet.message().lines().next().unwrap().to_owned(), packet.from() == phone.address());
        assert_eq!(comes, !line.starts_with("SIP/2.0"), "{line}");
        assert_eq!(if comes { packet.to() } else { packet.from() }, house.sip, "{line}");
        assert_eq!(packet.text(17), phone.call_id);
    }
    let lines: Vec<String> = seen.iter().map(|p| p.message().lines().next().unwrap().to_owned()).collect();
    for wanted in ["INVITE sip:1@", "SIP/2.0 100", "SIP/2.0 200", "ACK ", "BYE "] {
        assert!(lines.iter().any(|line| line.starts_with(wanted)), "{wanted} is missing from {lines:?}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_seen_too() {
    let homer = Homer::new().await;
    let house = house(&homer.config()).await;
    let server = house.server().local_addresses()[1];
    let mut stream = tokio::net::TcpStream::connect(server).await.unwrap();
    let here = stream.local_addr().unwrap();
    let options = format!(
        "OPTIONS sip:{server} SIP/2.0\r\nVia: SIP/2.0/TCP {here};branch=z9hG4bK1\r\nFrom: <sip:a@{here}>;tag=1\r\nTo: <sip:{server}>\r\n\
         Call-ID: over-tcp\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(options.as_bytes()).await.unwrap();
    let mut buffer = [0; 4_096];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    let (asked, answered) = (homer.next().await, homer.next().await);
    assert_eq!((asked.number(2), asked.from(), asked.to(), asked.message()), (6, here, server, options));
    assert_eq!((answered.number(2), answered.from(), answered.to()), (6, server, here));
    assert!(answered.message().starts_with("SIP/2.0 200 OK"), "{}", answered.message());
    assert_eq!(answered.text(17), "over-tcp");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_holds_nobody_up() {
    let homer = Homer::new().await;
    let house = house(&homer.config()).await;
    drop(homer);
    let phone = Phone::new(house.sip).await;
    for n in 0..200 {
        let options = phone.request("OPTIONS", "any", 1, "", "", "").replace("Call-ID: ", &format!("Call-ID: {n}-"));
        assert_eq!(phone.ask(&options.replace("z9hG4bK-", &format!("z9hG4bK-{n}-"))).await.status(), 200);
    }
    house.until("copies are dropped and counted", |h| h.metrics.hep.dropped.get() > 0).await;
    house.close().await;
}

/// Kamailio's capture server, which takes each packet for the message it holds, from where that came.
const KAMAILIO: &str = r#"#!KAMAILIO
debug=1
log_stderror=yes
children=1
disable_tcp=yes
auto_aliases=no
listen=udp:127.0.0.1:PORT
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "db_text.so"
loadmodule "sipcapture.so"
modparam("sipcapture", "hep_capture_on", 1)
modparam("sipcapture", "db_url", "text://FOLDER")
request_route { xlog("L_ERR", "SEEN $rm from $si:$sp $ci\n"); drop; }
onreply_route { xlog("L_ERR", "SEEN $rs from $si:$sp $ci\n"); drop; }
"#;

/// Somebody else's reading of the specification.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kamailio_reads_the_same() {
    let folder = std::env::temp_dir().join(format!("sotto-hep-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let port = sipp::free_port();
    let text = KAMAILIO.replace("PORT", &port.to_string()).replace("FOLDER", folder.to_str().unwrap());
    std::fs::write(folder.join("kamailio.cfg"), text).unwrap();
    let mut command = Command::new("kamailio");
    command.args(["-DD", "-E", "-m", "16", "-M", "4", "-f"]).arg(folder.join("kamailio.cfg"));
    command.arg("-Y").arg(&folder).arg("-P").arg(folder.join("pid")).stdin(Stdio::null()).stdout(Stdio::null());
    let mut kamailio = command.stderr(Stdio::piped()).spawn().expect("Kamailio is installed (scripts/setup test)");
    let mut said = BufReader::new(kamailio.stderr.take().unwrap()).lines();

    let house = house(&Hep { server: format!("127.0.0.1:{port}"), id: 1, password: None }).await;
    let phone = Phone::new(house.sip).await;
    let seen = async {
        let mut seen = Vec::new();
        while let Some(line) = said.next_line().await.unwrap() {
            seen.extend(line.split_once("SEEN ").map(|(_, seen)| seen.trim_end().to_owned()));
            if seen.len() >= 2 {
                break;
            }
        }
        seen
    };
    let asks = async {
        // Until it listens, what is sent to it is lost.
        loop {
            assert_eq!(phone.ask(&phone.request("OPTIONS", "any", 1, "", "", "")).await.status(), 200);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let seen = tokio::select! {
        seen = tokio::time::timeout(Duration::from_secs(20), seen) => seen.expect("Kamailio has seen nothing"),
        () = asks => unreachable!(),
    };
    let id = rustix::process::Pid::from_raw(kamailio.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    kamailio.wait().await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let (here, there, call) = (phone.address(), house.sip, &phone.call_id);
    let mut wanted = [format!("OPTIONS from {here} {call}"), format!("200 from {there} {call}")];
    if seen[0] != wanted[0] {
        wanted.reverse();
    }
    assert_eq!(seen, wanted);
    house.close().await;
}
