//! Messages broken in a few places, from a seed, over real sockets to a server: what is no SIP gets no answer, what is
//! answered gets one message of SIP, nothing of them stays, and a call goes on as before.
//!
//! A thousand; a million with `SOTTO_HOSTILE_INPUTS=1000000`.

#[path = "peers/sipp/phone.rs"]
mod phone;
mod readers;
#[path = "peers/sipp/mod.rs"]
mod sipp;

use phone::{Came, Phone};
use readers::broken::{corpus, input};
use sipp::{House, Plan};
use sotto::io::sip::edge::{self, Outcome};
use sotto::io::sip::{Limits, Timers};
use sotto::media::seed::Seed;
use std::time::Duration;

const ROUTES: &str = r#"
[[route]]
called = '^300$'
steps = [ {answer = {}}, {say = "Hello there, this is a rather long greeting for those who wait."} ]
[[route]]
called = '.*'
steps = [ {reject = {status = 480, reason = "We are closed today"}} ]
"#;
/// Messages between two looks at what came.
const BATCH: u32 = 25;
/// What the process may grow by: its allocator keeps some of what was freed.
const GROWTH: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_udp() {
    let inputs: u32 = std::env::var("SOTTO_HOSTILE_INPUTS").map_or(5_000, |n| n.parse().unwrap());
    // What is never acknowledged is forgotten after 64 of these.
    let timers = Timers { t1: Duration::from_millis(5), ..Timers::default() };
    // As many as there are: what is too much of them is another test's.
    let media = "[load]\ntrunk_messages = 1000000";
    let house = House::open(Plan { routes: ROUTES, timers, media, limits: Limits::default(), ..Plan::default() }).await;
    let good: Vec<_> = corpus("fuzz/corpus/sip").into_iter().chain(corpus("tests/torture")).collect();
    let (mut seed, mut silent, mut answered, mut early) = (Seed::new(20_261_123), Vec::new(), 0, 0);
    let mut phone = Phone::new(house.sip).await;
    for n in 0..inputs {
        let bytes = named(&input(&mut seed, &good, 600), n);
        if edge::datagram(&bytes) == Outcome::Dropped {
            silent.push(n);
        }
        phone.socket.send_to(&bytes, house.sip).await.unwrap();
        if n % BATCH == BATCH - 1 {
            answered += until_read(&phone, n, &silent).await;
            silent.clear();
        }
        if n % 1_000 == 999 {
            // Answers that come late go to a socket that is no more.
            phone = Phone::new(house.sip).await;
            house.forget();
        }
        if n == inputs / 4 {
            early = resident();
        }
    }
    house.is_quiet().await;
    let late = resident();
    println!("{answered} answers to {inputs} messages; {early} bytes, then {late}");
    assert!(answered > inputs as usize / 10, "{answered} answers to {inputs} messages");
    assert!(late.saturating_sub(early) < GROWTH, "{early} bytes, then {late}");
    let caller = house.caller("caller_hangs_up", "300", &[("TALK", "300")], 1).await.content().await;
    assert!(caller.heard().len() >= 10, "the greeting is heard");
    house.is_quiet().await;
    house.close().await;
}

/// With a number in its Call-ID, by which answers to it are known.
fn named(bytes: &[u8], n: u32) -> Vec<u8> {
    let Some(at) = bytes.windows(10).position(|w| w.eq_ignore_ascii_case(b"\r\nCall-ID:")) else {
        return bytes.to_vec();
    };
    [&bytes[..at + 10], format!(" n{n}-").as_bytes(), bytes[at + 10..].trim_ascii_start()].concat()
}

/// Waits until the server has read all that was sent so far, and looks at what it said. Answers how many answers came.
async fn until_read(phone: &Phone, n: u32, silent: &[u32]) -> usize {
    let last = format!("Call-ID: last-{n}-");
    let options = phone.request("OPTIONS", "100", 1, "", "Max-Forwards: 70\r\n", "").replace("Call-ID: ", &last);
    phone.send(&options).await;
    let mut count = 0;
    loop {
        let came = phone.within(Duration::from_secs(10)).await.expect("the server answers");
        if came.0.contains(&last) {
            return count;
        }
        check(&came, silent);
        count += 1;
    }
}

fn check(came: &Came, silent: &[u32]) {
    if came.0 == "\r\n" {
        return; // to an empty message, which is a keep-alive
    }
    assert!((100..=699).contains(&came.status()), "{came:?}");
    assert!(came.0.contains("\r\n\r\n"), "an answer ends with an empty line: {came:?}");
    let number = came.header("Call-ID").and_then(|id| id.strip_prefix('n')?.split_once('-')?.0.parse().ok());
    assert!(number.is_none_or(|n| !silent.contains(&n)), "answered, and is no SIP: {came:?}");
}

/// What this process holds in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
