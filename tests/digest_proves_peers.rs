//! Digests: who calls us proves who they are, once for each answer; and we prove who we are to those whom we call.

#[path = "wire/digest.rs"]
mod digest;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;

use digest::{Who, field, hash};
use phone::{Came, Phone};
use sipp::{House, Plan};
use sotto::io::sip::Timers;
use std::time::Duration;

const TRUNK: &str = "[[trunk]]\nname = \"anna\"\nuser = \"anna\"\npassword = \"open-sesame\"\nmay_call = [\"100\"]\n";
const ANNA: Who<'static> = Who { user: "anna", password: "open-sesame" };

/// A server for which calls of `TRUNK` have no route: 404 tells that somebody was let in.
async fn house(timers: Timers) -> House {
    House::open(Plan { trunk: TRUNK, timers, ..Plan::default() }).await
}

/// An INVITE of its own call, with what proves it.
fn invite(phone: &Phone, number: &str, cseq: u32, proof: &str) -> String {
    phone.request("INVITE", number, cseq, "", &format!("Max-Forwards: 70\r\n{proof}"), &phone.sdp())
}

fn challenges(came: &Came) -> Vec<&str> {
    came.0.lines().filter_map(|line| line.strip_prefix("WWW-Authenticate: ")).collect()
}

/// The target of a request, as its start line has it.
fn uri(request: &str) -> &str {
    request.split(' ').nth(1).unwrap()
}

async fn asks(phone: &Phone, text: &str) -> Came {
    let came = phone.ask(text).await;
    if came.status() >= 300 {
        let (uri, cseq) = (uri(text), text.lines().find_map(|l| l.strip_prefix("CSeq: ")).unwrap());
        let number = cseq.split(' ').next().unwrap();
        let branch = text.lines().find(|l| l.starts_with("Via: ")).unwrap();
        let from = text.lines().find(|l| l.starts_with("From: ")).unwrap();
        phone
            .send(&format!(
                "ACK {uri} SIP/2.0\r\n{branch}\r\n{from}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} ACK\r\n\
                 Content-Length: 0\r\n\r\n",
                came.header("To").unwrap(),
                phone.call_id
            ))
            .await;
    }
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_proves_their_password_is_let_in_once() {
    let house = house(Timers::default()).await;
    let phone = Phone::new(house.sip).await;
    let first = asks(&phone, &invite(&phone, "100", 1, "")).await;
    assert_eq!(first.status(), 401);
    let algorithms: Vec<_> = challenges(&first).into_iter().map(|c| field(c, "algorithm")).collect();
    assert_eq!(algorithms, ["SHA-256", "MD5"]);
    let target = uri(&invite(&phone, "100", 1, "")).to_owned();
    let mut cseq = 1;
    let mut ask = async |proof: String, number: &str| {
        cseq += 1;
        asks(&phone, &invite(&phone, number, cseq, &proof)).await.status()
    };
    for challenge in challenges(&first) {
        let nonces_count = if field(challenge, "algorithm") == "MD5" { 0x1a } else { 9 };
        assert_eq!(ask(ANNA.line(challenge, nonces_count, "INVITE", &target), "100").await, 404, "let in");
        // The same answer once more is a replay, whatever call it is in.
        assert_eq!(ask(ANNA.line(challenge, nonces_count, "INVITE", &target), "100").await, 401, "refused");
    }
    // Counts are hexadecimal: 9, then 1a, then 1b.
    let challenge = challenges(&first)[0];
    assert_eq!(ask(ANNA.line(challenge, 0x19, "INVITE", &target), "100").await, 401);
    assert_eq!(ask(ANNA.line(challenge, 0x1b, "INVITE", &target), "100").await, 404);
    // A trunk calls what it may, not more.
    let other = target.replace("100@", "200@");
    assert_eq!(ask(ANNA.line(challenge, 0x1c, "INVITE", &other), "200").await, 403);
    // Wrong in one way each: the password, the user, the method, another number than that which was asked for.
    for (wrong, method, target) in [
        (Who { password: "open-sesamE", ..ANNA }, "INVITE", &target),
        (Who { user: "eve", ..ANNA }, "INVITE", &target),
        (ANNA, "OPTIONS", &target),
        (ANNA, "INVITE", &other),
    ] {
        assert_eq!(
            ask(wrong.line(challenge, 0x20, method, target), "100").await,
            401,
            "{} {method} {target}",
            wrong.user
        );
    }
    house.is_quiet().await;
    house.close().await;
}

/// A nonce that is too old, or was never ours, is told as stale to who has the password, and to nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonces_expire() {
    // They hold for 1.2 s.
    let timers = Timers { t1: Duration::from_millis(10), ..Timers::default() };
    let house = house(timers).await;
    let phone = Phone::new(house.sip).await;
    let first = asks(&phone, &invite(&phone, "100", 1, "")).await;
    let target = uri(&invite(&phone, "100", 1, "")).to_owned();
    let old = challenges(&first)[0].to_owned();
    tokio::time::sleep(timers.nonce_life() + Duration::from_millis(100)).await;
    let answer = asks(&phone, &invite(&phone, "100", 2, &ANNA.line(&old, 1, "INVITE", &target))).await;
    assert_eq!(answer.status(), 401);
    let fresh = challenges(&answer)[0].to_owned();
    assert_eq!(field(&fresh, "stale"), "true");
    let wrong = Who { password: "guess-and-guess", ..ANNA };
    let refused = asks(&phone, &invite(&phone, "100", 3, &wrong.line(&old, 1, "INVITE", &target))).await;
    assert!(!refused.0.contains("stale"), "{refused:?}");
    let again = asks(&phone, &invite(&phone, "100", 4, &ANNA.line(&fresh, 1, "INVITE", &target))).await;
    assert_eq!(again.status(), 404);
    let forged = fresh.replace(field(&fresh, "nonce"), &"0".repeat(64));
    let refused = asks(&phone, &invite(&phone, "100", 5, &ANNA.line(&forged, 1, "INVITE", &target))).await;
    assert_eq!(refused.status(), 401);
    house.close().await;
}

/// After some tries in vain there is silence; a trunk by address beside it is served on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_hears_nothing_for_a_while() {
    let house = house(Timers::default()).await;
    let phone = Phone::new(house.sip).await;
    let mut answered = 0;
    let target = uri(&invite(&phone, "100", 1, "")).to_owned();
    let first = phone.ask(&invite(&phone, "100", 1, "")).await;
    let challenge = challenges(&first)[0].to_owned();
    for cseq in 2..20 {
        let guess = Who { password: &format!("guess-{cseq}-{cseq}"), ..ANNA };
        phone.send(&invite(&phone, "100", cseq, &guess.line(&challenge, cseq, "INVITE", &target))).await;
        match phone.within(Duration::from_millis(500)).await {
            Some(came) => {
                assert_eq!(came.status(), 401);
                answered += 1;
            }
            None => break,
        }
    }
    assert_eq!(answered, 10);
    // Even what is right is not heard now.
    phone.send(&invite(&phone, "100", 30, &ANNA.line(&challenge, 30, "INVITE", &target))).await;
    assert!(phone.within(Duration::from_millis(500)).await.is_none());
    house.is_quiet().await;
    house.close().await;
}

/// A peer that asks us for a proof: what it asks for, and what answers it.
async fn challenged(status: &str, header: &str, challenges: &[&str], algorithm: &str) {
    let agent = Phone::new("127.0.0.1:9".parse().unwrap()).await;
    let routes = format!("[[route]]\nsteps = [ {{connect = {{to = \"sip:agent@{}\"}}}} ]\n", agent.address());
    let trunk = "[[trunk]]\nname = \"lab\"\nsources = [\"127.0.0.0/8\"]\nmay_call = [\".*\"]\nlogin_user = \"sotto\"\n\
                 login_password = \"1234\"\n";
    let house = House::open(Plan { routes: &routes, trunk, ..Plan::default() }).await;
    agent.serve(house.sip);
    let customer = Phone::new(house.sip).await;
    customer.send(&customer.invite("100")).await;
    let first = agent.next().await;
    assert!(!first.0.contains("Authorization: "), "{first:?}");
    let lines: String = challenges.iter().map(|c| format!("{header}-Authenticate: {c}\r\n")).collect();
    answer(&agent, &first, status, &lines).await;
    let again = loop {
        let came = agent.next().await;
        if came.method() == "INVITE" && came.header("CSeq") != first.header("CSeq") {
            break came;
        }
    };
    let name = if header == "Proxy" { "Proxy-Authorization" } else { "Authorization" };
    proves(again.header(name).unwrap(), algorithm, "INVITE");
    agent.accept(&again).await;
    let mut answered = customer.next().await;
    while answered.status() < 200 {
        answered = customer.next().await;
    }
    assert_eq!(answered.status(), 200);
    customer.send(&customer.request("ACK", "100", 1, answered.to_tag(), "", "")).await;
    let bye = customer.request("BYE", "100", 2, answered.to_tag(), "", "");
    assert_eq!(customer.ask(&bye).await.status(), 200);
    // The BYE is asked for a proof as well.
    let bye = agent.next().await;
    answer(&agent, &bye, status, &lines).await;
    let again = agent.next().await;
    assert_eq!(again.method(), "BYE");
    proves(again.header(name).unwrap(), algorithm, "BYE");
    agent.ok(&again).await;
    house.is_quiet().await;
    house.close().await;
}

async fn answer(agent: &Phone, request: &Came, status: &str, lines: &str) {
    let copied = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", request.header(n).unwrap()));
    let to = request.header("To").unwrap();
    let tag = if to.contains("tag=") { "" } else { ";tag=refused" };
    agent
        .send(&format!("SIP/2.0 {status}\r\n{}To: {to}{tag}\r\n{lines}Content-Length: 0\r\n\r\n", copied.concat()))
        .await;
}

fn proves(header: &str, algorithm: &str, method: &str) {
    let [nonce, realm, uri] = ["nonce", "realm", "uri"].map(|name| field(header, name));
    assert_eq!((field(header, "username"), field(header, "algorithm")), ("sotto", algorithm));
    let secret = hash(algorithm, &format!("sotto:{realm}:1234"));
    let request = hash(algorithm, &format!("{method}:{uri}"));
    let counted = format!("{nonce}:{}:{}:auth", field(header, "nc"), field(header, "cnonce"));
    assert_eq!(field(header, "response"), hash(algorithm, &format!("{secret}:{counted}:{request}")), "{header}");
    assert!(header.contains("qop=auth,") || header.contains("qop=auth, ") || header.ends_with("qop=auth"), "{header}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_answer_the_strongest_challenge() {
    let several = [
        "Digest realm=\"r\", nonce=\"n1\", algorithm=SHA-512-256, qop=\"auth\"",
        "Digest realm=\"r\", nonce=\"n2\", algorithm=MD5, qop=\"auth\"",
        "Digest realm=\"r\", nonce=\"n3\", algorithm=SHA-256, qop=\"auth,auth-int\"",
    ];
    challenged("401 Unauthorized", "WWW", &several, "SHA-256").await;
    challenged("407 Proxy Authentication Required", "Proxy", &several[1..2], "MD5").await;
}

/// Where only `auth-int` is offered the call fails cleanly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_do_not_speak_is_not_answered() {
    let agent = Phone::new("127.0.0.1:9".parse().unwrap()).await;
    let routes = format!("[[route]]\nsteps = [ {{connect = {{to = \"sip:agent@{}\"}}}} ]\n", agent.address());
    let house = House::with(&routes).await;
    agent.serve(house.sip);
    let customer = Phone::new(house.sip).await;
    customer.send(&customer.invite("100")).await;
    let first = agent.next().await;
    answer(
        &agent,
        &first,
        "401 Unauthorized",
        "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"\r\n",
    )
    .await;
    let mut answered = customer.next().await;
    while answered.status() < 200 {
        answered = customer.next().await;
    }
    assert_eq!(answered.status(), 502);
    house.is_quiet().await;
    house.close().await;
}
