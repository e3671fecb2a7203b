//! Calls over TCP, and what a peer can do to a connection without harming anybody but itself.

#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod wire;

use sipp::{House, Plan};
use sotto::io::clock;
use sotto::io::sip::Timers;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use wire::Wire;

const BOTH: &str = "\"udp://127.0.0.1:0\", \"tcp://127.0.0.1:0\"";
/// A connection may take 600 ms over a message and 1.8 s until it is of use.
const QUICK: Timers = Timers { t1: Duration::from_millis(30), second: Duration::from_secs(1) };

fn to(agent: SocketAddr, transport: &str) -> String {
    format!("[[route]]\nsteps = [ {{connect = {{to = \"sip:agent@{agent}{transport}\"}}}} ]\n")
}

async fn house(routes: &str, timers: Timers) -> (House, SocketAddr, SocketAddr) {
    let house = House::open(Plan { routes, listen: BOTH, timers, ..Plan::default() }).await;
    let [udp, tcp] = house.server().local_addresses()[..] else { panic!("two addresses") };
    (house, udp, tcp)
}

/// The caller is answered and hears it ringing at somebody who never answers.
const WAITING: &str = "[[route]]\nsteps = [ {answer = {}}, {connect = {to = \"sip:nobody@127.0.0.1:9\"}} ]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_parties_over_tcp() {
    both_parties("127.0.0.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_parties_over_tcp_of_ipv6() {
    both_parties("[::1]").await;
}

async fn both_parties(ip: &str) {
    let listener = TcpListener::bind(format!("{ip}:0")).await.unwrap();
    let routes = to(listener.local_addr().unwrap(), ";transport=tcp");
    let listen = format!("\"tcp://{ip}:0\"");
    let trunk = sipp::TRUNK.replace("\"127.0.0.0/8\"", "\"127.0.0.0/8\", \"::1\"");
    let house = House::open(Plan { routes: &routes, listen: &listen, trunk: &trunk, ..Plan::default() }).await;
    let [tcp] = house.server().local_addresses()[..] else { panic!("one address") };
    let mut customer = Wire::tcp(tcp).await;
    let invite = customer.invite("100");
    customer.send(&invite).await;
    let mut agent = Wire::accepted(&listener).await;
    let called = agent.next().await;
    assert_eq!(called.method(), "INVITE");
    assert!(called.header("Via").unwrap().starts_with(&format!("SIP/2.0/TCP {tcp};")), "{called:?}");
    assert_eq!(called.header("Contact").unwrap(), format!("<sip:sotto@{tcp};transport=TCP>"));
    agent.accept(&called).await;
    assert_eq!(agent.next().await.method(), "ACK");
    let answer = customer.next().await;
    assert_eq!(answer.status(), 200);
    customer.send(&customer.request("ACK", "100", 1, answer.to_tag(), "", "")).await;
    let options = customer.request("OPTIONS", "100", 2, answer.to_tag(), "", "");
    assert_eq!(customer.ask(&options).await.status(), 200);
    // The agent hangs up; the customer hears of it on the connection that the call came by.
    let bye = format!(
        "BYE sip:sotto@{tcp} SIP/2.0\r\nVia: SIP/2.0/TCP {};branch=z9hG4bK-bye\r\nFrom: {};tag=wire\r\nTo: {}\r\n\
         Call-ID: {}\r\nCSeq: 1 BYE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        agent.here,
        called.header("To").unwrap(),
        called.header("From").unwrap(),
        called.header("Call-ID").unwrap()
    );
    assert_eq!(agent.ask(&bye).await.status(), 200);
    let bye = customer.next().await;
    assert_eq!(bye.method(), "BYE");
    customer.accept(&bye).await;
    house.is_quiet().await;
    assert_eq!(house.server().connections(), 2);
    drop((customer, agent));
    house.until("no connection stands", |h| h.server().connections() == 0).await;
    house.close().await;
}

/// One transport to the other, and our BYE on the connection that we made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_udp_to_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (house, udp, _) = house(&to(listener.local_addr().unwrap(), ";transport=tcp"), Timers::default()).await;
    let customer = phone::Phone::new(udp).await;
    customer.send(&customer.invite("100")).await;
    let mut agent = Wire::accepted(&listener).await;
    let called = agent.next().await;
    agent.accept(&called).await;
    assert_eq!(agent.next().await.method(), "ACK");
    let mut answer = customer.next().await;
    while answer.status() < 200 {
        answer = customer.next().await;
    }
    customer.send(&customer.request("ACK", "100", 1, answer.to_tag(), "", "")).await;
    assert_eq!(customer.ask(&customer.request("BYE", "100", 2, answer.to_tag(), "", "")).await.status(), 200);
    let bye = agent.next().await;
    assert_eq!(bye.method(), "BYE");
    agent.accept(&bye).await;
    house.is_quiet().await;
    house.close().await;
}

/// A peer that nobody listens at is known as such at once, not when a timer for lost datagrams ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_connected_to_is_unreachable_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let (house, _, tcp) = house(&to(nobody, ";transport=tcp"), Timers::default()).await;
    let began = clock::now();
    let answer = Wire::tcp(tcp).await.call("100").await;
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    house.is_quiet().await;
    house.close().await;
}

/// Messages that come in one piece, in many, and with keep-alives between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_found_in_the_stream() {
    let (house, _, tcp) = house("", Timers::default()).await;
    let mut peer = Wire::tcp(tcp).await;
    let options = |n| peer.request("OPTIONS", "100", n, "", "", "");
    let three = format!("\r\n\r\n{}{}{}", options(1), options(2), options(3));
    peer.stream.write_all(three.as_bytes()).await.unwrap();
    for number in 1..=3 {
        let answer = peer.next().await;
        assert_eq!((answer.status(), answer.header("CSeq").unwrap()), (200, format!("{number} OPTIONS").as_str()));
    }
    assert_eq!(peer.pongs, 1);
    let fourth = peer.request("OPTIONS", "100", 4, "", "", "");
    for byte in fourth.as_bytes() {
        peer.stream.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(peer.next().await.header("CSeq").unwrap(), "4 OPTIONS");
    house.close().await;
}

/// What is no SIP, too long, or hides one message in another ends the connection; a call beside it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_its_own_connection_alone() {
    let (house, _, tcp) = house(WAITING, Timers::default()).await;
    let mut caller = Wire::tcp(tcp).await;
    let answer = caller.call("100").await;
    let long = "X: ".to_owned() + &"x".repeat(17_000) + "\r\n";
    let peer = Wire::tcp(tcp).await;
    for garbage in [
        "GET / HTTP/1.1\r\nHost: sotto\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        peer.request("OPTIONS", "100", 1, "", &long, ""),
        peer.request("OPTIONS", "100", 1, "", "", "").replace("Length: 0", "Length: 999999"),
        peer.request("OPTIONS", "100", 1, "", "Content-Length: 9\r\n", ""),
    ] {
        let mut peer = Wire::tcp(tcp).await;
        peer.send(&garbage).await;
        assert!(peer.is_closed().await, "{}", &garbage[..40.min(garbage.len())]);
    }
    let bye = caller.request("BYE", "100", 2, answer.to_tag(), "", "");
    assert_eq!(caller.ask(&bye).await.status(), 200);
    house.is_quiet().await;
    house.close().await;
}

/// Who dawdles over a message, or never says anything of use, loses the connection; who is known may be silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_silent_connections_are_closed() {
    let (house, _, tcp) = house("", QUICK).await;
    let began = clock::now();
    let mut silent = Wire::tcp(tcp).await;
    let mut slow = Wire::tcp(tcp).await;
    let text = slow.request("OPTIONS", "100", 1, "", "", "");
    let dripping = async {
        for byte in text.as_bytes() {
            if slow.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(QUICK.whole() / 20).await;
        }
        slow.is_closed().await
    };
    assert!(dripping.await);
    assert!(began.elapsed() >= QUICK.whole());
    assert!(silent.is_closed().await);
    assert!(began.elapsed() >= QUICK.unproven());
    house.until("no connection stands", |h| h.server().connections() == 0).await;
    house.close().await;
}

/// A peer that asks without end and reads nothing is cut off, and meanwhile others are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_stalls_nobody() {
    let (house, _, tcp) = house("", QUICK).await;
    let mut deaf = Wire::tcp(tcp).await;
    let options: String = (1..200).map(|n| deaf.request("OPTIONS", "100", n, "", "", "")).collect();
    let flood = tokio::spawn(async move {
        let mut bytes = 0;
        while deaf.stream.write_all(options.as_bytes()).await.is_ok() {
            bytes += options.len();
        }
        bytes
    });
    let mut other = Wire::tcp(tcp).await;
    for number in 1..=50 {
        let asked = clock::now();
        let options = other.request("OPTIONS", "100", number, "", "", "");
        assert_eq!(other.ask(&options).await.status(), 200);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    let sent = tokio::time::timeout(wire::PATIENCE, flood).await.expect("it is never cut off").unwrap();
    assert!(sent > 0);
    drop(other);
    house.until("no connection stands", |h| h.server().connections() == 0).await;
    house.close().await;
}

/// Strangers are told so, and cannot take more than a few connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_403_and_few_connections() {
    let trunk = "[[trunk]]\nname = \"t\"\nsources = [\"192.0.2.0/24\"]\nmay_call = [\".*\"]\n";
    let house = House::open(Plan { trunk, listen: "\"tcp://127.0.0.1:0\"", ..Plan::default() }).await;
    let mut peers = Vec::new();
    for _ in 0..32 {
        peers.push(Wire::tcp(house.sip).await);
    }
    for peer in &mut peers[..10] {
        let invite = peer.invite("100");
        assert_eq!(peer.ask(&invite).await.status(), 403);
    }
    assert!(Wire::tcp(house.sip).await.is_closed().await);
    house.is_quiet().await;
    house.close().await;
}

/// A call outlives its connection: the far end's next request comes by another, and ours follow it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_outlives_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (house, _, tcp) = house(&to(listener.local_addr().unwrap(), ";transport=tcp"), Timers::default()).await;
    let mut customer = Wire::tcp(tcp).await;
    customer.send(&customer.invite("100")).await;
    let mut agent = Wire::accepted(&listener).await;
    let called = agent.next().await;
    agent.accept(&called).await;
    assert_eq!(agent.next().await.method(), "ACK");
    let answer = customer.next().await;
    customer.send(&customer.request("ACK", "100", 1, answer.to_tag(), "", "")).await;
    // The customer's connection breaks, and they ask for something by a new one.
    let call_id = customer.call_id.clone();
    drop(customer);
    house.until("one connection stands", |h| h.server().connections() == 1).await;
    let mut again = Wire::tcp(tcp).await;
    again.call_id = call_id;
    let options = again.request("OPTIONS", "100", 2, answer.to_tag(), "", "");
    assert_eq!(again.ask(&options).await.status(), 200);
    for (_, entry) in house.registry.list() {
        entry.handle.hangup("the test is over");
    }
    let byes = (again.next().await, agent.next().await);
    assert_eq!((byes.0.method(), byes.1.method()), ("BYE", "BYE"));
    again.accept(&byes.0).await;
    agent.accept(&byes.1).await;
    house.is_quiet().await;
    house.close().await;
}
