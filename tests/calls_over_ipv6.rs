//! Whole calls over IPv6, and between a party of each family: signalling and media.

#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod talker;

use sipp::{House, Plan};
use sotto::call::sdp::Suite;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use talker::{Talker, Wish, talk};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

const TRUNKS: &str = r#"
[[trunk]]
name = "six"
sources = ["::/0"]
may_call = [".*"]
[[trunk]]
name = "four"
sources = ["127.0.0.0/8"]
may_call = [".*"]
"#;

async fn house(listen: &str, routes: &str) -> House {
    House::open(Plan { routes, listen, trunk: TRUNKS, ..Plan::default() }).await
}

/// The listening address of a family.
fn sip(house: &House, ip: IpAddr) -> SocketAddr {
    house.server().local_addresses().into_iter().find(|a| a.ip() == ip).unwrap()
}

/// A call from an address to an address, its talk, a hold, and its end.
async fn whole_call(listen: &str, caller: IpAddr, called: IpAddr, wish: Wish) {
    let mut agent = Talker::at(called, SocketAddr::new(called, 9), wish).await;
    let srtp = if wish.suite.is_some() { ", srtp = \"required\"" } else { "" };
    let routes =
        format!("[[route]]\nsteps = [ {{connect = {{to = \"sip:agent@{}\"{srtp}}}}} ]\n", agent.phone.address());
    let house = house(listen, &routes).await;
    agent.phone.serve(sip(&house, called));
    let mut customer = Talker::at(caller, sip(&house, caller), wish).await;
    let (answer, invite) = tokio::join!(customer.call("100"), agent.answer());
    assert_eq!(answer.status(), 200, "{answer:?}");
    for (message, ip) in [(&answer, caller), (&invite, called)] {
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        assert!(message.0.contains(&format!("c=IN {family} {ip}\r\n")), "{message:?}");
        let contact = SocketAddr::new(ip, sip(&house, ip).port());
        assert!(message.header("Contact").unwrap().contains(&format!("@{contact}")), "{message:?}");
    }
    customer.report(0x0102_0304);
    talk(&mut customer, &mut agent, 10);
    let (held, told) = tokio::join!(customer.offer("a=sendonly\r\n"), agent.answer());
    assert!(held.status() == 200 && told.0.contains("a=sendonly\r\n"), "{held:?} {told:?}");
    let said = customer.say();
    assert_eq!(agent.hear().unwrap().1, said);
    customer.bye().await;
    agent.hung_up().await;
    assert_eq!(customer.last_report(), 0x0102_0304);
    house.is_quiet().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_parties_over_ipv6() {
    whole_call("\"udp://[::1]:0\"", V6, V6, Wish::PLAIN).await;
    whole_call("\"udp://[::1]:0\"", V6, V6, Wish::sealed(Suite::Counter80).muxed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_party_of_each_family() {
    let both = "\"udp://127.0.0.1:0\", \"udp://[::1]:0\"";
    whole_call(both, V4, V6, Wish::PLAIN).await;
    whole_call(both, V6, V4, Wish::PLAIN).await;
}

/// A socket speaks one family: a media address of the other is refused with the reason, and so is a callee nobody can reach.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_reached_is_refused() {
    let house = house("\"udp://[::1]:0\"", "[[route]]\nsteps = [ {connect = {to = \"sip:a@127.0.0.1:9\"}} ]\n").await;
    let caller = phone::Phone::at(V6, house.sip).await;
    // This telephone's own description names an address of IPv4.
    let answer = caller.ask(&caller.invite("100")).await;
    assert_eq!(answer.status(), 488);
    assert!(answer.header("Warning").unwrap().contains("the media address is one of IPv4"), "{answer:?}");
    let answer = Talker::at(V6, house.sip, Wish::PLAIN).await.call("100").await;
    assert_eq!((answer.status(), answer.reason()), (502, "called party unreachable"));
    house.is_quiet().await;
    house.close().await;
}

/// A trunk of IPv6 is known by its addresses, and who is of none is a stranger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trunks_are_known_by_their_addresses() {
    for (sources, status) in [("::1/128", 404), ("2001:db8::/32", 403), ("0.0.0.0/0", 403)] {
        let trunk = format!("[[trunk]]\nname = \"t\"\nsources = [\"{sources}\"]\nmay_call = [\".*\"]\n");
        let plan = Plan { trunk: &trunk, listen: "\"udp://[::1]:0\"", ..Plan::default() };
        let house = House::open(plan).await;
        let answer = Talker::at(V6, house.sip, Wish::PLAIN).await.call("100").await;
        assert_eq!(answer.status(), status, "{sources}");
        house.close().await;
    }
}
