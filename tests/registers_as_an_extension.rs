//! An extension of a telephone system: registered with proof, refreshed, moved when a registrar fails, and taken out.

#[path = "wire/digest.rs"]
mod digest;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;

use digest::{field, hash};
use phone::{Came, Phone};
use sipp::{House, Plan};
use sotto::io::sip::Timers;
use std::time::Duration;

fn trunk(registrars: &[&Phone]) -> String {
    let registrars: Vec<_> = registrars.iter().map(|r| format!("\"sip:{}\"", r.address())).collect();
    format!(
        "[[register]]\ntrunk = \"pbx\"\nregistrars = [{}]\nuser = \"200\"\npassword = \"1234\"\n\
         [[trunk]]\nname = \"pbx\"\nmay_call = [\"200\"]\n",
        registrars.join(", ")
    )
}

async fn answer(registrar: &Phone, request: &Came, status: &str, lines: &str) {
    let copied = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", request.header(n).unwrap()));
    let to = request.header("To").unwrap();
    registrar
        .send(&format!("SIP/2.0 {status}\r\n{}To: {to};tag=r\r\n{lines}Content-Length: 0\r\n\r\n", copied.concat()))
        .await;
}

/// The next REGISTER that is no repetition of `last`.
async fn register(registrar: &Phone, last: Option<&Came>) -> Came {
    loop {
        let came = registrar.next().await;
        assert_eq!(came.method(), "REGISTER");
        if last.is_none_or(|last| last.header("CSeq") != came.header("CSeq")) {
            return came;
        }
    }
}

async fn accept(registrar: &Phone, request: &Came, seconds: u32) {
    let contact = request.header("Contact").unwrap().split(';').next().unwrap();
    answer(registrar, request, "200 OK", &format!("Contact: {contact};expires={seconds}\r\n")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_drains_is_taken_out_while_calls_go_on() {
    let pbx = Phone::new("127.0.0.1:9".parse().unwrap()).await;
    let routes = "[[route]]\ncalled = '^200'\nsteps = [ {answer = {}}, {say = \"This is a sentence that takes a while.\"}, {say = \"And this is another one, which takes even longer.\"} ]\n";
    let house = House::open(Plan { trunk: &trunk(&[&pbx]), routes, ..Plan::default() }).await;
    pbx.serve(house.sip);
    let first = register(&pbx, None).await;
    accept(&pbx, &first, 300).await;
    house.until("it is registered", |h| h.server().registrations().counts() == (1, 1)).await;
    let caller = Phone::new(house.sip).await;
    let answered = caller.ask(&caller.invite("200")).await;
    assert_eq!(answered.status(), 200);
    caller.send(&caller.request("ACK", "200", 1, answered.to_tag(), "", "")).await;
    let (left, ()) = tokio::join!(house.server().drain(Duration::from_secs(30)), async {
        let farewell = register(&pbx, Some(&first)).await;
        assert!(farewell.header("Contact").unwrap().ends_with(";expires=0"), "{farewell:?}");
        assert_eq!(house.server().live(), 1, "the call goes on");
        let next = Phone::new(house.sip).await;
        assert_eq!(next.ask(&next.invite("200")).await.status(), 503);
        accept(&pbx, &farewell, 0).await;
        assert_eq!(caller.ask(&caller.request("BYE", "200", 2, answered.to_tag(), "", "")).await.status(), 200);
    });
    assert_eq!(left, 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_registers_with_proof_refreshes_and_leaves() {
    let pbx = Phone::new("127.0.0.1:9".parse().unwrap()).await;
    let house = House::open(Plan { trunk: &trunk(&[&pbx]), ..Plan::default() }).await;
    pbx.serve(house.sip);
    // Before it is registered, calls from there are a stranger's.
    let caller = Phone::new(house.sip).await;
    assert_eq!(caller.ask(&caller.invite("200")).await.status(), 403);
    let first = register(&pbx, None).await;
    assert_eq!(first.header("Contact").unwrap(), format!("<sip:200@{}>;expires=300", house.sip));
    assert_eq!(first.header("To").unwrap(), "<sip:200@127.0.0.1>");
    let challenge = "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"\r\n";
    answer(&pbx, &first, "401 Unauthorized", challenge).await;
    let second = register(&pbx, Some(&first)).await;
    assert_eq!(second.header("Call-ID"), first.header("Call-ID"));
    let proof = second.header("Authorization").unwrap();
    let secret = hash("SHA-256", "200:pbx:1234");
    let asked = hash("SHA-256", &format!("REGISTER:{}", field(proof, "uri")));
    let counted = format!("n:{}:{}:auth", field(proof, "nc"), field(proof, "cnonce"));
    assert_eq!(field(proof, "response"), hash("SHA-256", &format!("{secret}:{counted}:{asked}")), "{proof}");
    answer(&pbx, &second, "423 Interval Too Brief", "Min-Expires: 600\r\n").await;
    let third = register(&pbx, Some(&second)).await;
    assert!(third.header("Contact").unwrap().ends_with(";expires=600"), "{third:?}");
    accept(&pbx, &third, 2).await;
    house.until("it is registered", |h| h.server().registrations().counts() == (1, 1)).await;
    // Now calls from the registrar's address are those of its trunk, and what that may call it may, no more.
    let caller = Phone::new(house.sip).await;
    assert_eq!(caller.ask(&caller.invite("200")).await.status(), 404);
    let caller = Phone::new(house.sip).await;
    assert_eq!(caller.ask(&caller.invite("900")).await.status(), 403);
    let refresh = register(&pbx, Some(&third)).await;
    accept(&pbx, &refresh, 300).await;
    house.is_quiet().await;
    let registrations = house.server().registrations();
    house.until("it is registered", |h| h.server().registrations().counts() == (1, 1)).await;
    let leaving = tokio::spawn(house.close());
    let last = register(&pbx, Some(&refresh)).await;
    assert!(last.header("Contact").unwrap().ends_with(";expires=0"), "{last:?}");
    accept(&pbx, &last, 0).await;
    leaving.await.unwrap();
    assert_eq!(registrations.counts(), (1, 0));
}

/// A registrar that refuses, and one that dies, are left for the next; who has both of them failing is no trunk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_moves_to_the_second_registrar_and_back() {
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let (first, second) = (Phone::new(nowhere).await, Phone::new(nowhere).await);
    // A registrar that does not answer is given up after 1.3 s.
    let timers = Timers { t1: Duration::from_millis(20), ..Timers::default() };
    let house = House::open(Plan { trunk: &trunk(&[&first, &second]), timers, ..Plan::default() }).await;
    first.serve(house.sip);
    second.serve(house.sip);
    let refused = register(&first, None).await;
    answer(&first, &refused, "503 Service Unavailable", "").await;
    let taken = register(&second, None).await;
    accept(&second, &taken, 2).await;
    house.until("it is registered", |h| h.server().registrations().counts() == (1, 1)).await;
    // The second says nothing more: its time runs out, and the first is asked again.
    let back = register(&first, Some(&refused)).await;
    assert_eq!(house.server().registrations().counts(), (1, 0));
    accept(&first, &back, 300).await;
    house.until("it is registered", |h| h.server().registrations().counts() == (1, 1)).await;
    house.close().await;
}

/// A wrong password is not tried again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_password_is_not_repeated() {
    let pbx = Phone::new("127.0.0.1:9".parse().unwrap()).await;
    let house = House::open(Plan { trunk: &trunk(&[&pbx]), ..Plan::default() }).await;
    pbx.serve(house.sip);
    let challenge = "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"n\", qop=\"auth\"\r\n";
    let first = register(&pbx, None).await;
    answer(&pbx, &first, "401 Unauthorized", challenge).await;
    let second = register(&pbx, Some(&first)).await;
    answer(&pbx, &second, "401 Unauthorized", challenge).await;
    assert!(pbx.within(Duration::from_secs(2)).await.is_none(), "ten seconds pass before the next attempt");
    assert_eq!(house.server().registrations().counts(), (1, 0));
    house.close().await;
}
