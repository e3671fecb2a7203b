//! The torture messages of RFC 4475 and RFC 5118, over UDP and over TCP: each gets the class of answer that its text asks for
//! (`tests/torture/expected.tsv`), a call goes on as before, and nothing of them stays.

#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;

use phone::Phone;
use sipp::{House, Plan};
use sotto::io::sip::Timers;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

const ROUTES: &str = r#"
[[route]]
called = '^1\d\d$'
steps = [ {answer = {}}, {say = "Hello there, this is a rather long greeting for those who wait."} ]
"#;
/// How long an answer may take that is owed, and how long one is waited for that is not.
const OWED: Duration = Duration::from_secs(5);
const NOT_OWED: Duration = Duration::from_millis(300);
/// What the process may grow by over all rounds: its allocator keeps some of what was freed.
const GROWTH: u64 = 8 << 20;

/// What one of these tests takes of memory is no growth of another's.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A message, and the statuses that are right by each transport; `-` is none.
struct Torture {
    name: String,
    bytes: Vec<u8>,
    udp: String,
    tcp: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture")
}

fn all() -> Vec<Torture> {
    let expected = std::fs::read_to_string(folder().join("expected.tsv")).unwrap();
    let read = |line: &str| {
        let mut columns = line.split('\t').map(str::to_owned);
        let (name, udp) = (columns.next().unwrap(), columns.next().unwrap());
        // The answer goes where the topmost Via says; `rport` brings it here (RFC 3581).
        let bytes = with_rport(&std::fs::read(folder().join(&name)).unwrap());
        Torture { name, bytes, tcp: columns.next().unwrap_or_else(|| udp.clone()), udp }
    };
    expected.lines().filter(|l| !l.starts_with('#')).map(read).collect()
}

async fn house() -> House {
    let listen = "\"udp://127.0.0.1:0\", \"tcp://127.0.0.1:0\"";
    // What is never acknowledged is forgotten after 64 of these.
    let timers = Timers { t1: Duration::from_millis(20), ..Timers::default() };
    House::open(Plan { routes: ROUTES, listen, timers, ..Plan::default() }).await
}

async fn serves_a_call(house: &House) {
    let caller = house.caller("caller_hangs_up", "100", &[("TALK", "300")], 1).await.content().await;
    assert!(caller.heard().len() >= 10, "the greeting is heard");
    house.is_quiet().await;
}

#[test]
fn all_of_them_are_here() {
    let names: Vec<String> = all().into_iter().map(|t| t.name).collect();
    // Sections of RFC 4475 begin with 3; RFC 5118 has its messages in section 4.
    let of_4475 = names.iter().filter(|n| n.get(2..4) == Some("3.")).count();
    assert_eq!((of_4475, names.len() - of_4475), (49, 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_datagrams() {
    let _alone = ALONE.lock().await;
    let house = house().await;
    let mut wrong = Vec::new();
    for Torture { name, bytes, udp, .. } in all() {
        // Each from a telephone of its own, so that no answer is taken for another's.
        let phone = Phone::new(house.sip).await;
        phone.socket.send_to(&bytes, house.sip).await.unwrap();
        let mut came = phone.within(if udp == "-" { NOT_OWED } else { OWED }).await;
        if came.as_ref().is_some_and(|c| c.status() == 100) {
            came = phone.within(OWED).await;
        }
        let got = came.as_ref().map_or("-".into(), |c| c.status().to_string());
        if !udp.split(' ').any(|s| s == got) {
            wrong.push(format!("{name}: wanted {udp}, got {got} {:?}", came.map(|c| c.reason().to_owned())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    serves_a_call(&house).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_connections() {
    let _alone = ALONE.lock().await;
    let house = house().await;
    let server = house.server().local_addresses()[1];
    let mut wrong = Vec::new();
    for Torture { name, bytes, tcp, .. } in all() {
        let got = asked_on_a_connection(server, &bytes, if tcp == "-" { NOT_OWED } else { OWED }).await;
        if !tcp.split(' ').any(|s| s == got) {
            wrong.push(format!("{name}: wanted {tcp}, got {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    serves_a_call(&house).await;
    house.close().await;
}

/// The status of the first final answer on a connection of its own; `-` where none came.
async fn asked_on_a_connection(server: SocketAddr, bytes: &[u8], patience: Duration) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut came = Vec::new();
    let read = async {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut chunk).await {
            came.extend_from_slice(&chunk[..count]);
            let text = String::from_utf8_lossy(&came).into_owned();
            let mut statuses = text.lines().filter_map(|l| l.strip_prefix("SIP/2.0 ")?.get(..3).map(str::to_owned));
            if let Some(first) = statuses.find(|s| !s.starts_with('1')) {
                return first;
            }
        }
        "-".into()
    };
    tokio::time::timeout(patience, read).await.unwrap_or("-".into())
}

/// Again and again, as fast as they are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_them_stays() {
    const ROUNDS: usize = 60;
    let _alone = ALONE.lock().await;
    let house = house().await;
    let (messages, mut early) = (all(), 0);
    for round in 0..ROUNDS {
        let phone = Phone::new(house.sip).await;
        for Torture { bytes, .. } in &messages {
            phone.socket.send_to(bytes, house.sip).await.unwrap();
        }
        // Answered last: then all are read.
        let call_id = format!("Call-ID: round-{round}-");
        let options = phone.request("OPTIONS", "100", 1, "", "Max-Forwards: 70\r\n", "").replace("Call-ID: ", &call_id);
        phone.send(&options).await;
        while !phone.next().await.0.contains(&call_id) {}
        if round == ROUNDS / 3 {
            house.is_quiet().await;
            early = resident();
        }
    }
    house.is_quiet().await;
    let late = resident();
    assert!(late.saturating_sub(early) < GROWTH, "{early} bytes, then {late}");
    serves_a_call(&house).await;
    house.close().await;
}

/// What this process holds in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Adds `rport` to the topmost Via, folded or not, as bytes: some messages are no UTF-8.
fn with_rport(message: &[u8]) -> Vec<u8> {
    let lower: Vec<u8> = message.iter().map(u8::to_ascii_lowercase).collect();
    let find = |from: usize, what: &[u8]| lower[from..].windows(what.len()).position(|w| w == what).map(|p| p + from);
    let via = find(0, b"\r\nvia").or_else(|| find(0, b"\r\nv:"));
    let Some(via) = via else { return message.to_vec() };
    let end = find(via + 2, b"\r\n").unwrap_or(message.len());
    let at = find(via, b";").filter(|at| *at < end || message.get(end + 2) == Some(&b' ')).unwrap_or(end);
    [&message[..at], b";rport", &message[at..]].concat()
}
