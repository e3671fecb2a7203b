//! Whoever is refused learns why, in words a person can act on, and is not remembered.

#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;

use phone::Phone;
use sipp::{House, Plan, TRUNK};
use sotto::io::sip::Limits;
use std::sync::LazyLock;

const ROUTES: &str = r#"
[[route]]
called = '^1\d\d$'
steps = [ {answer = {}}, {say = "Hello there, this is a rather long greeting for those who wait."} ]
[[route]]
called = '^2\d\d$'
steps = [ {reject = {status = 480, reason = "We are closed today"}} ]
[[route]]
called = '^3\d\d$'
steps = [ {connect = {to = "sip:agent@127.0.0.1:9"}} ]
"#;

/// A header line that leaves no room for others.
static LONG: LazyLock<String> = LazyLock::new(|| format!("Subject: {}\r\n", "x".repeat(9_000)));

async fn refused(house: &House, number: &str, status: &str, expected: &str, formats: &str) {
    let row = match status {
        "403" => "stranger refused",
        "503" => "overload",
        _ => "",
    };
    let set = [("STATUS", status), ("EXPECT", expected), ("FORMATS", formats), ("MATRIX", row)];
    house.caller("caller_is_refused", number, &set, 1).await.content().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_told_what_is_wrong_with_their_call() {
    let house = House::with(ROUTES).await;
    refused(&house, "999", "404", "404 no route for this number", "0 8 101").await;
    refused(&house, "200", "480", "480 We are closed today", "0 8 101").await;
    refused(&house, "100", "488", "Warning: 305 sotto .*PCMU, PCMA and L16", "18 101").await;
    house.is_quiet().await;
    assert_eq!(house.endings(), ["rejected by the route: We are closed today"]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_forbidden_numbers_are_refused() {
    let elsewhere = TRUNK.replace("127.0.0.0/8", "192.0.2.0/24");
    let house = House::open(Plan { routes: ROUTES, trunk: &elsewhere, ..Plan::default() }).await;
    refused(&house, "100", "403", "403 this address is no configured trunk", "0").await;
    house.close().await;

    let some = TRUNK.replace(".*", r"2\\d\\d");
    let house = House::open(Plan { routes: ROUTES, trunk: &some, ..Plan::default() }).await;
    refused(&house, "100", "403", "403 this trunk may not call this number", "0").await;
    refused(&house, "2000", "403", "403 this trunk may not call this number", "0").await;
    refused(&house, "200", "480", "We are closed today", "0").await;
    house.is_quiet().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_cannot_be_served_say_so() {
    let house = House::with(ROUTES).await;
    let phone = Phone::new(house.sip).await;
    let sdp = phone.sdp();
    let ask = |method: &'static str, number: &'static str, tag: &'static str, extra: &'static str, body: &str| {
        phone.request(method, number, 7, tag, extra, body)
    };
    let broken = sdp.replace("c=IN", "c=XX");
    let table = [
        (ask("INVITE", "100", "", "Require: outbound, gruu\r\n", &sdp), 420, "these extensions are not supported"),
        (ask("REGISTER", "100", "", "", ""), 405, "REGISTER is not served here"),
        (ask("FROBNICATE", "100", "", "", ""), 501, "FROBNICATE is not known here"),
        (ask("BYE", "100", "gone", "", ""), 481, "there is no such call here (any more)"),
        (ask("INFO", "100", "", "", ""), 481, "there is no such call here (any more)"),
        (ask("CANCEL", "100", "", "", ""), 481, "there is no such call here (any more)"),
        (ask("INVITE", "300", "", "Max-Forwards: 0\r\n", &sdp), 483, "the call went through too many hops"),
        (ask("INVITE", "101", "", "", "this is no SDP"), 400, "the session description is broken: "),
        (ask("INVITE", "102", "", "", &broken), 400, "the session description is broken: "),
        (
            ask("INVITE", "103", "", "", "<x/>").replace("application/sdp", "text/xml"),
            415,
            "only application/sdp is understood",
        ),
        (
            ask("INVITE", "104", "", "", &sdp).replace("INVITE sip:", "INVITE sips:"),
            416,
            "sips: addresses are served over TLS",
        ),
        (ask("INVITE", "105", "", "", &"x".repeat(9_000)), 400, "the session description is broken: "),
        (ask("INVITE", "105", "", LONG.as_str(), &sdp), 513, "the headers of a message may have 8064 bytes here"),
    ];
    for (number, (text, status, reason)) in table.iter().enumerate() {
        // Each its own call: the same Call-ID with another body would be a merged request.
        let own = format!("n{number}-");
        let text = text.replace("Call-ID: ", &format!("Call-ID: {own}")).replace("z9hG4bK-", &format!("z9hG4bK-{own}"));
        let came = phone.ask(&text).await;
        assert_eq!(came.status(), *status, "{text}\n{came:?}");
        assert!(came.reason().starts_with(reason), "{reason:?}: {came:?}");
        match status {
            420 => assert_eq!(came.header("Unsupported"), Some("outbound, gruu")),
            405 | 501 => {
                assert_eq!(
                    came.header("Allow"),
                    Some("INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY")
                )
            }
            415 => assert_eq!(came.header("Accept"), Some("application/sdp")),
            _ => {}
        }
        assert!(!came.to_tag().is_empty(), "{came:?}");
    }
    house.is_quiet().await;
    house.caller("asks_options", "any", &[], 1).await.content().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_when_all_lines_are_taken_may_try_again() {
    let limits = Limits { calls: 1, ..Limits::default() };
    let house = House::open(Plan { routes: ROUTES, limits, ..Plan::default() }).await;
    let (first, second) = (Phone::new(house.sip).await, Phone::new(house.sip).await);
    let answer = first.ask(&first.invite("100")).await;
    assert_eq!(answer.status(), 200);
    first.send(&first.request("ACK", "100", 1, answer.to_tag(), "", "")).await;
    let busy = second.ask(&second.invite("100")).await;
    assert_eq!((busy.status(), busy.reason()), (503, "too many calls at once"));
    let after: u64 = busy.header("Retry-After").unwrap().parse().unwrap();
    assert!((5..15).contains(&after), "{after}");
    refused(&house, "100", "503", "Retry-After: [0-9]+", "0").await;
    assert_eq!(house.server().live(), 1);
    assert_eq!(first.ask(&first.request("BYE", "100", 2, answer.to_tag(), "", "")).await.status(), 200);
    house.is_quiet().await;
    let again = second.request("INVITE", "200", 2, "", "", &second.sdp());
    assert_eq!(second.ask(&again).await.status(), 480);
    house.is_quiet().await;
    house.close().await;
}
