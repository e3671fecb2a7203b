//! Behind a NAT: peers are told the address that reaches us, which is configured, or which they told us themselves.

#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;

use phone::{Came, Phone};
use sipp::{House, Plan};
use std::net::IpAddr;

const ANSWERS: &str = "[[route]]\nsteps = [ {answer = {}}, {say = \"This takes a while to say.\"} ]\n";

/// A call that is answered and hung up: the answer.
async fn called_by(house: &House, phone: &Phone) -> Came {
    let answer = phone.ask(&phone.invite("100")).await;
    assert_eq!(answer.status(), 200);
    phone.send(&phone.request("ACK", "100", 1, answer.to_tag(), "", "")).await;
    assert_eq!(phone.ask(&phone.request("BYE", "100", 2, answer.to_tag(), "", "")).await.status(), 200);
    house.is_quiet().await;
    answer
}

fn names(came: &Came, ip: &str, port: u16) -> bool {
    let contact = came.header("Contact").unwrap();
    contact.contains(&format!("@{ip}:{port}")) && came.0.contains(&format!("c=IN IP4 {ip}\r\n"))
}

/// The external address is for those outside; who is inside reaches us as we are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_networks_hear_of_the_local_address() {
    let sip = "external_address = \"203.0.113.7\"\nlocal_networks = [\"127.0.0.2/32\", \"10.0.0.0/8\"]\n";
    let house = House::open(Plan { routes: ANSWERS, sip, ..Plan::default() }).await;
    let (outside, inside) = ("127.0.0.1".parse::<IpAddr>().unwrap(), "127.0.0.2".parse::<IpAddr>().unwrap());
    let far = called_by(&house, &Phone::at(outside, house.sip).await).await;
    assert!(names(&far, "203.0.113.7", house.sip.port()), "{far:?}");
    let near = called_by(&house, &Phone::at(inside, house.sip).await).await;
    assert!(names(&near, "127.0.0.1", house.sip.port()), "{near:?}");
    house.close().await;
}

/// A registrar that saw us elsewhere than we are says so in its answer (RFC 3581): it is told that place at once, and the
/// calls with it name it. The Via of the answer is the NAT here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_registrar_saw_is_what_it_is_told() {
    let pbx = Phone::new("127.0.0.1:9".parse().unwrap()).await;
    let trunk = format!(
        "[[register]]\ntrunk = \"pbx\"\nregistrars = [\"sip:{}\"]\nuser = \"200\"\npassword = \"1234\"\n\
         [[trunk]]\nname = \"pbx\"\nmay_call = [\".*\"]\n",
        pbx.address()
    );
    let house = House::open(Plan { routes: ANSWERS, trunk: &trunk, ..Plan::default() }).await;
    pbx.serve(house.sip);
    let first = pbx.next().await;
    assert!(first.header("Via").unwrap().contains(";rport"), "we ask for it: {first:?}");
    let here = format!("<sip:200@{}>", house.sip);
    assert_eq!(first.header("Contact").unwrap(), format!("{here};expires=300"));
    accept(&pbx, &first, ";received=203.0.113.9;rport=40000").await;
    let second = pbx.next().await;
    let there = "<sip:200@203.0.113.9:40000>";
    let contacts: Vec<_> = second.0.lines().filter_map(|line| line.strip_prefix("Contact: ")).collect();
    assert_eq!(contacts, [format!("{there};expires=300"), format!("{here};expires=0")]);
    accept(&pbx, &second, ";received=203.0.113.9;rport=40000").await;
    house.until("it is registered", |h| h.server().registrations().counts() == (1, 1)).await;
    let answer = called_by(&house, &Phone::new(house.sip).await).await;
    assert!(names(&answer, "203.0.113.9", 40_000), "{answer:?}");
    let leaving = tokio::spawn(house.close());
    let last = pbx.next().await;
    assert_eq!(last.header("Contact").unwrap(), format!("{there};expires=0"));
    accept(&pbx, &last, ";received=203.0.113.9;rport=40000").await;
    leaving.await.unwrap();
}

/// 200 to a REGISTER, whose Via says where it was seen.
async fn accept(pbx: &Phone, request: &Came, seen: &str) {
    let copied = ["From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", request.header(n).unwrap()));
    let via = request.header("Via").unwrap().replace(";rport", "");
    let contact = request.header("Contact").unwrap();
    let to = request.header("To").unwrap();
    let answer = format!("SIP/2.0 200 OK\r\nVia: {via}{seen}\r\n{}To: {to};tag=r\r\n", copied.concat());
    pbx.send(&format!("{answer}Contact: {contact}\r\nContent-Length: 0\r\n\r\n")).await;
}
