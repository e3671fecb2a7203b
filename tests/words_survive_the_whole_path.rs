//! The six sample calls over real SIP and RTP through a whole server: what is written down is within two points of
//! word error rate of the same sentences given to whisper.cpp by themselves; and once more over a network that loses
//! 2 % of the packets and delays them by up to 30 ms.
//!
//! Figures: `cargo test --test words_survive_the_whole_path -- --nocapture`.

mod live;
#[path = "support/samples.rs"]
mod samples;
#[path = "support/wer.rs"]
mod wer;

use live::{Folder, Server};
use serde_json::Value;
use sotto::cli::demo::party::{Impairment, Party, PartyOptions};
use sotto::event::Role;
use sotto::id::{LegId, UtteranceId};
use sotto::io::stt::{Options, Recogniser};
use sotto::media::resample::to_16k;
use sotto::speech::Job;
use sotto::time::MediaTime;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use wer::Errors;

const PERFECT: Impairment = Impairment { loss_per_mille: 0, jitter: Duration::ZERO };
const POOR: Impairment = Impairment { loss_per_mille: 20, jitter: Duration::from_millis(30) };

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_calls_through_a_server() {
    let direct = each_by_itself().await;
    let perfect = whole_path("perfect", PERFECT).await;
    let poor = whole_path("poor", POOR).await;
    println!("each sentence by itself, G.711, whisper.cpp straight   {:5.2} %  {direct:?}", direct.percent());
    println!("whole path, no loss                                    {:5.2} %  {perfect:?}", perfect.percent());
    println!("whole path, 2 % loss, jitter to 30 ms                  {:5.2} %  {poor:?}", poor.percent());
    assert!(perfect.words > 500);
    assert!((perfect.percent() - direct.percent()).abs() <= 2.0, "the path costs more than two points");
}

/// Every sentence of the calls, cut out by the manifest, through G.711.
async fn each_by_itself() -> Errors {
    let patience = Duration::from_secs(60);
    let program = Some(Path::new(env!("CARGO_BIN_EXE_sotto")).into());
    let options = Options { program, patience, longest: 2 * patience, ..Options::new(1, &samples::model()) };
    let recogniser = Recogniser::start_with(options).await.unwrap();
    let mut errors = Errors::default();
    for (n, sentence) in samples::manifest().iter().filter(|s| s.role != "utterance").enumerate() {
        let pcm = samples::audio(&sentence.file);
        let position = |ms: i64| ((ms * 8).max(0) as usize).min(pcm.len());
        let cut = samples::through_g711(&pcm[position(sentence.start - 200)..position(sentence.end + 250)]);
        let job = Job {
            utterance: UtteranceId(n as u32),
            leg: LegId(0),
            role: Role::Customer,
            start: MediaTime::from_millis(sentence.start),
            end: MediaTime::from_millis(sentence.end),
            pcm: to_16k(&cut).into(),
        };
        errors += Errors::between(&sentence.text, &recogniser.recognise(job).await.result.unwrap().text);
    }
    errors
}

/// All six calls, three at a time, through one server.
async fn whole_path(name: &str, impairment: Impairment) -> Errors {
    let folder = Folder::new(name);
    let routes = r#"[[route]]
called = 'agent-(\d+)'
steps = [ {connect = {to = "sip:agent@127.0.0.1:$1"}} ]
"#;
    let server = Server::start(&folder.0, live::model().to_str().unwrap(), routes);
    let mut follower = server.follow().await;
    for three in samples::calls().chunks(3) {
        let mut calls = JoinSet::new();
        for (n, call) in three.iter().enumerate() {
            calls.spawn(talk(server.sip, call.clone(), impairment, n as u64));
        }
        let talking = async {
            while let Some(done) = calls.join_next().await {
                done.unwrap();
            }
        };
        // The stream is read while they talk: a reader that does not read is cut off.
        let watching = async {
            for _ in three {
                follower.until("call.ended", Duration::from_secs(90)).await;
            }
        };
        tokio::join!(talking, watching);
    }
    // Words may come after the end of their call, but no later than this.
    follower.read_for(Duration::from_secs(5)).await;
    compare(&follower.seen)
}

/// What the server wrote down, against the manifest. The caller's user part is the sample call's name.
fn compare(events: &[Value]) -> Errors {
    let mut errors = Errors::default();
    for call in samples::calls() {
        let pending = |e: &&Value| {
            e["type"] == "sotto.call.pending" && e["data"]["caller"].as_str().is_some_and(|c| c.contains(&call))
        };
        let id = &events.iter().find(pending).expect("the call was announced")["callid"];
        for role in ["customer", "agent"] {
            let file = format!("{call}_{role}.wav");
            let reference: Vec<String> =
                samples::manifest().into_iter().filter(|s| s.file == file).map(|s| s.text).collect();
            let mut heard: Vec<(i64, &str)> = events
                .iter()
                .filter(|e| e["callid"] == *id && e["type"] == "sotto.speech.final" && e["data"]["role"] == role)
                .map(|e| (e["data"]["start"].as_i64().unwrap(), e["data"]["text"].as_str().unwrap()))
                .collect();
            heard.sort_unstable();
            let heard: Vec<&str> = heard.into_iter().map(|(_, text)| text).collect();
            errors += Errors::between(&reference.join(" "), &heard.join(" "));
        }
    }
    errors
}

/// One call: both parties play their leg of it, and hang up when both are through.
async fn talk(sip: std::net::SocketAddr, call: String, impairment: Impairment, seed: u64) {
    let options = |user: &str, seed| PartyOptions { impairment, ring: Duration::ZERO, ..PartyOptions::new(user, seed) };
    let mut agent = Party::bind(options("agent", 2 * seed + 1)).await.unwrap();
    let mut customer = Party::bind(options(&call, 2 * seed + 2)).await.unwrap();
    let uri = format!("sip:agent-{}@{sip}", agent.sip_addr().port());
    let (called, answered) = tokio::join!(customer.call(&uri), agent.answer(Duration::from_secs(10)));
    called.unwrap();
    answered.unwrap();
    let audio = |role: &str| samples::audio(&format!("{call}_{role}.wav")).into();
    let (a, b) = tokio::join!(customer.say(audio("customer")), agent.say(audio("agent")));
    a.unwrap();
    b.unwrap();
    // The last phrase is heard out, and the party's line goes quiet, before it hangs up.
    customer.say(vec![0; 8_000].into()).await.unwrap();
    customer.finish().await.unwrap();
    agent.hung_up().await;
    agent.finish().await.unwrap();
}
