//! Where names lead (RFC 3263), asked of a real name server on loopback: by which transport, in which order, and whom next
//! when one does not answer or cannot serve; and the proxy that everything goes through (RFC 3261 §8.1.2).

#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod wire;

use phone::{Came, Phone};
use sipp::{House, Plan, free_port};
use sotto::io::sip::Timers;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpListener;
use wire::Wire;

const NOBODY: &str = "127.0.0.1:9";
const QUICK: Timers = Timers { t1: Duration::from_millis(50), second: Duration::from_secs(1) };

/// dnsmasq, which knows nothing but what it is told here.
struct Names {
    process: Child,
    port: u16,
}

impl Names {
    async fn serve(records: &[String]) -> Names {
        let port = free_port();
        let mut command = Command::new("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ]);
        command.args(["--listen-address=127.0.0.1", "--pid-file=", "--user=root", "--local=/example/"]);
        command.arg(format!("--port={port}")).args(records);
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("dnsmasq is there");
        let names = Names { process, port };
        // It serves TCP as soon as it serves UDP.
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return names;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("dnsmasq does not serve");
    }

    fn sip(&self) -> String {
        format!("nameservers = [\"127.0.0.1:{}\"]\n", self.port)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn host(name: &str) -> String {
    format!("--host-record={name},127.0.0.1")
}

fn srv(name: &str, target: &str, port: u16, priority: u16, weight: u16) -> String {
    format!("--srv-host={name},{target},{port},{priority},{weight}")
}

fn to(target: &str) -> String {
    format!("[[route]]\nsteps = [ {{connect = {{to = \"{target}\", timeout = 5}}}} ]\n")
}

async fn refuse(phone: &Phone, invite: &Came, status: &str) {
    let copied = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", invite.header(n).unwrap()));
    let to = invite.header("To").unwrap();
    phone.send(&format!("SIP/2.0 {status}\r\n{}To: {to};tag=no\r\nContent-Length: 0\r\n\r\n", copied.concat())).await;
    let mut ack = phone.next().await;
    while ack.method() != "ACK" {
        ack = phone.next().await;
    }
}

/// The caller is connected, hangs up, and `agent` is told.
async fn talk(caller: &Phone, house: &House) {
    let mut answer = caller.next().await;
    while answer.status() < 200 {
        answer = caller.next().await;
    }
    assert_eq!(answer.status(), 200, "{answer:?}");
    caller.send(&caller.request("ACK", "100", 1, answer.to_tag(), "", "")).await;
    house.until("both are connected", |h| h.told("call.connected") == 1).await;
    assert_eq!(caller.ask(&caller.request("BYE", "100", 2, answer.to_tag(), "", "")).await.status(), 200);
}

/// NAPTR prefers TCP, though UDP is what is spoken where nothing is said; its SRV says which port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_says_how_it_wants_to_be_called() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let udp = Phone::new(NOBODY.parse().unwrap()).await;
    let names = Names::serve(&[
        host("a.pbx.example"),
        srv("_sip._tcp.pbx.example", "a.pbx.example", port, 10, 10),
        srv("_sip._udp.pbx.example", "a.pbx.example", udp.port(), 10, 10),
        "--naptr-record=pbx.example,10,50,S,SIP+D2T,,_sip._tcp.pbx.example".into(),
        "--naptr-record=pbx.example,20,50,S,SIP+D2U,,_sip._udp.pbx.example".into(),
        "--naptr-record=pbx.example,5,50,S,SIPS+D2T,,_sips._tcp.pbx.example".into(),
    ])
    .await;
    let listen = "\"udp://127.0.0.1:0\", \"tcp://127.0.0.1:0\"";
    let routes = to("sip:agent@pbx.example");
    let house = House::open(Plan { routes: &routes, sip: &names.sip(), listen, ..Plan::default() }).await;
    let caller = Phone::new(house.sip).await;
    caller.send(&caller.invite("100")).await;
    let mut agent = Wire::accepted(&listener).await;
    let called = agent.next().await;
    assert!(called.0.starts_with("INVITE sip:agent@pbx.example SIP/2.0"), "{called:?}");
    agent.accept(&called).await;
    assert_eq!(agent.next().await.method(), "ACK");
    talk(&caller, &house).await;
    let bye = agent.next().await;
    assert_eq!(bye.method(), "BYE");
    agent.accept(&bye).await;
    house.is_quiet().await;
    house.close().await;
}

/// The first does not exist, the second is silent, the third cannot serve, the fourth answers: by priority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_is_called_when_one_is_silent_or_cannot_serve() {
    let [silent, full, agent] = [0; 3].map(|_| Phone::new(NOBODY.parse().unwrap()));
    let (silent, full, agent) = (silent.await, full.await, agent.await);
    let names = Names::serve(&[
        host("a.pbx.example"),
        srv("_sip._udp.pbx.example", "gone.pbx.example", 5060, 5, 0),
        srv("_sip._udp.pbx.example", "a.pbx.example", silent.port(), 10, 0),
        srv("_sip._udp.pbx.example", "a.pbx.example", full.port(), 20, 0),
        srv("_sip._udp.pbx.example", "a.pbx.example", agent.port(), 30, 0),
    ])
    .await;
    let routes = to("sip:agent@pbx.example");
    let plan = Plan { routes: &routes, sip: &names.sip(), timers: QUICK, ..Plan::default() };
    let house = House::open(plan).await;
    for phone in [&silent, &full, &agent] {
        phone.serve(house.sip);
    }
    let caller = Phone::new(house.sip).await;
    caller.send(&caller.invite("100")).await;
    assert_eq!(silent.next().await.method(), "INVITE");
    let called = full.next().await;
    refuse(&full, &called, "503 Service Unavailable").await;
    let called = agent.next().await;
    agent.accept(&called).await;
    talk(&caller, &house).await;
    let bye = agent.next().await;
    assert_eq!(bye.method(), "BYE");
    agent.ok(&bye).await;
    house.is_quiet().await;
    assert_eq!(house.told("call.connected"), 1);
    house.close().await;
}

/// Who is there and busy is who was called: nobody else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_busy_is_not_called_elsewhere() {
    let (busy, other) = (Phone::new(NOBODY.parse().unwrap()).await, Phone::new(NOBODY.parse().unwrap()).await);
    let names = Names::serve(&[
        host("a.pbx.example"),
        srv("_sip._udp.pbx.example", "a.pbx.example", busy.port(), 10, 0),
        srv("_sip._udp.pbx.example", "a.pbx.example", other.port(), 20, 0),
    ])
    .await;
    let routes = to("sip:agent@pbx.example");
    let house = House::open(Plan { routes: &routes, sip: &names.sip(), timers: QUICK, ..Plan::default() }).await;
    busy.serve(house.sip);
    let caller = Phone::new(house.sip).await;
    caller.send(&caller.invite("100")).await;
    let called = busy.next().await;
    refuse(&busy, &called, "486 Busy Here").await;
    let mut answer = caller.next().await;
    while answer.status() < 200 {
        answer = caller.next().await;
    }
    assert_eq!(answer.status(), 486);
    assert!(other.within(Duration::from_millis(500)).await.is_none());
    house.close().await;
}

/// A name of nothing, and one whose servers answer nothing, are unreachable and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_nowhere_is_unreachable() {
    let names = Names::serve(&[srv("_sip._udp.loop.example", "loop.example", 5060, 1, 1)]).await;
    for target in ["sip:agent@nothing.example", "sip:agent@loop.example", "sip:agent@phone.invalid"] {
        let house = House::open(Plan { routes: &to(target), sip: &names.sip(), ..Plan::default() }).await;
        let caller = Phone::new(house.sip).await;
        let mut answer = caller.ask(&caller.invite("100")).await;
        while answer.status() < 200 {
            answer = caller.next().await;
        }
        assert_eq!(answer.status(), 502, "{target}");
        house.is_quiet().await;
        house.close().await;
    }
}

fn trunk(proxy: SocketAddr) -> String {
    format!(
        "[[trunk]]\nname = \"lab\"\nsources = [\"127.0.0.0/8\"]\nmay_call = [\".*\"]\n\
         [[trunk]]\nname = \"carrier\"\ntls_names = [\"carrier.example\"]\noutbound_proxy = \"sip:{proxy};lr\"\n\
         login_user = \"sotto\"\nlogin_password = \"open-sesame\"\n"
    )
}

/// The proxy of all calls, and that of a trunk, which comes before it: the INVITE goes there with a Route, its address
/// unresolved; what follows goes where the proxy's Record-Route says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_through_the_outbound_proxy() {
    for (target, of_trunk) in [("sip:agent@pbx.example", false), ("sip:agent@carrier.example", true)] {
        let (all, carrier) = (Phone::new(NOBODY.parse().unwrap()).await, Phone::new(NOBODY.parse().unwrap()).await);
        let (routes, trunk) = (to(target), trunk(carrier.address()));
        let sip = format!("outbound_proxy = \"sip:{}\"\n", all.address());
        let house = House::open(Plan { routes: &routes, trunk: &trunk, sip: &sip, ..Plan::default() }).await;
        let proxy = if of_trunk { &carrier } else { &all };
        proxy.serve(house.sip);
        let caller = Phone::new(house.sip).await;
        caller.send(&caller.invite("100")).await;
        let mut called = proxy.next().await;
        assert!(called.0.starts_with(&format!("INVITE {target} SIP/2.0")), "{called:?}");
        assert_eq!(called.header("Route"), Some(format!("<sip:{};lr>", proxy.address()).as_str()));
        if of_trunk {
            let challenge = "407 Proxy Authentication Required\r\nProxy-Authenticate: Digest realm=\"carrier\", nonce=\"n\", qop=\"auth\"";
            refuse(proxy, &called, challenge).await;
            called = proxy.next().await;
            assert!(called.header("Proxy-Authorization").unwrap().contains("username=\"sotto\""), "{called:?}");
            assert_eq!(called.header("Route"), Some(format!("<sip:{};lr>", proxy.address()).as_str()));
        }
        // The proxy stays in the way; the Contact behind it leads nowhere.
        let copied = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", called.header(n).unwrap()));
        let sdp = proxy.sdp();
        proxy
            .send(&format!(
                "SIP/2.0 200 OK\r\n{}To: {};tag=far\r\nRecord-Route: <sip:{};lr>\r\n\
                 Contact: <sip:agent@far.invalid>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
                copied.concat(),
                called.header("To").unwrap(),
                proxy.address(),
                sdp.len()
            ))
            .await;
        let ack = proxy.next().await;
        assert!(ack.0.starts_with("ACK sip:agent@far.invalid SIP/2.0"), "{ack:?}");
        talk(&caller, &house).await;
        let bye = proxy.next().await;
        assert!(bye.0.starts_with("BYE sip:agent@far.invalid SIP/2.0"), "{bye:?}");
        proxy.ok(&bye).await;
        house.is_quiet().await;
        house.close().await;
    }
}
