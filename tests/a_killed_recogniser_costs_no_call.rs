//! `kill -9` of the recogniser in the middle of a call: the people go on talking without a lost packet, and what is
//! said afterwards is written down.

mod live;
#[path = "support/samples.rs"]
mod samples;
#[path = "support/wer.rs"]
mod wer;

use live::{Folder, Server};
use sotto::cli::demo::party::{Party, PartyOptions};
use std::process::Command;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn later_speech_is_written_down() {
    let folder = Folder::new("recogniser");
    let mut agent = Party::bind(PartyOptions::new("agent", 1)).await.unwrap();
    let mut customer = Party::bind(PartyOptions::new("customer", 2)).await.unwrap();
    let routes =
        format!("[[route]]\ncalled = 'agent'\nsteps = [ {{connect = {{to = \"sip:agent@{}\"}}}} ]\n", agent.sip_addr());
    let server = Server::start(&folder.0, live::model().to_str().unwrap(), &routes);
    let mut follower = server.follow().await;
    let uri = format!("sip:agent@{}", server.sip);
    let (called, answered) = tokio::join!(customer.call(&uri), agent.answer(Duration::from_secs(5)));
    called.unwrap();
    answered.unwrap();

    customer.say(samples::audio("utt15_buying.wav").into()).await.unwrap();
    let first = follower.until("speech.final", Duration::from_secs(10)).await;
    says(&first, "We want to start with 100 seats.");
    let before = server.recognisers();
    assert!(!before.is_empty(), "no recogniser process was found");
    // In the middle of a phrase, so that work is lost with the process.
    let speaking = customer.say(samples::audio("utt08_next.wav").into());
    let killing = async {
        follower.until("speech.edge", Duration::from_secs(10)).await;
        for pid in &before {
            assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        }
    };
    let (spoken, ()) = tokio::join!(speaking, killing);
    spoken.unwrap();
    let second = follower.until("speech.final", Duration::from_secs(20)).await;
    says(&second, "I'll book the support for Wednesday.");
    customer.say(samples::audio("utt03_competitor.wav").into()).await.unwrap();
    let third = follower.until("speech.final", Duration::from_secs(10)).await;
    says(&third, "Our contract with Contoso ends on Friday.");
    let after = server.recognisers();
    assert!(!after.is_empty() && after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");

    let said = customer.finish().await.unwrap();
    agent.hung_up().await;
    let heard = agent.finish().await.unwrap();
    let arrived: Vec<&[u8]> = heard.received.iter().map(|p| p.payload.as_slice()).collect();
    let sent: Vec<&[u8]> = said.sent.iter().map(|p| p.payload.as_slice()).collect();
    // The agent's first packets before the customer joined are silence of ours; the customer's follow unbroken.
    let start = arrived.iter().position(|p| *p == sent[0] || sent[..50].contains(p)).unwrap();
    let skipped = sent.iter().position(|p| *p == arrived[start]).unwrap();
    let common = (arrived.len() - start).min(sent.len() - skipped);
    let differing = (0..common).filter(|n| arrived[start + n] != sent[skipped + n]).count();
    println!("packets compared: {common}, lost or differing: {differing}");
    assert!(common > 300 && differing == 0, "{differing} of {common} packets differ");
}

/// The words are there; the line's noise may cost one of them.
fn says(event: &serde_json::Value, expected: &str) {
    let heard = event["data"]["text"].as_str().unwrap();
    assert!(wer::Errors::between(expected, heard).count() <= 1, "{heard:?} instead of {expected:?}");
}
