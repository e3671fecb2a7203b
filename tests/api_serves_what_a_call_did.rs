//! Transcript and events of a call, while it runs and afterwards.

mod api_bench;

use api_bench::{Bench, new_call};
use serde_json::Value;
use sotto::event::{Role, What};
use sotto::id::UtteranceId;
use sotto::time::MediaTime;

fn said(utterance: u32, role: Role, start: i64, text: &str) -> What {
    let (start, end) = (MediaTime::from_millis(start), MediaTime::from_millis(start + 700));
    What::SpeechFinal { utterance: UtteranceId(utterance), role, start, end, text: text.into(), confidence: 0.5 }
}

#[tokio::test]
async fn the_transcript_comes_as_json_and_as_lines() {
    let bench = Bench::new().await;
    let call = new_call();
    bench.record(call, 0, None, What::CallAnswered {});
    bench.record(call, 3_000, Some(2), said(2, Role::Agent, 1_250, "How can\nI help?"));
    bench.record(call, 3_100, Some(1), said(1, Role::Customer, 61_000, "It is too dear."));
    bench.journal.flush().await.unwrap();
    let path = format!("/v1/calls/{call}/transcript");
    let json: Value = bench.get(&path).await.json().await.unwrap();
    assert_eq!(json["call"], call.to_string());
    let first = serde_json::json!({"utterance": "utt-2", "leg": "leg-2", "role": "agent", "start": 60_000,
        "end": 93_600, "text": "How can\nI help?", "confidence": 0.5});
    assert_eq!(json["utterances"][0], first);
    assert_eq!(json["utterances"].as_array().unwrap().len(), 2);
    let lines = bench.request(reqwest::Method::GET, &path).header("accept", "text/plain").send().await.unwrap();
    assert!(lines.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    let expected = "00:01.250 agent: How can I help?\n01:01.000 customer: It is too dear.\n";
    assert_eq!(lines.text().await.unwrap(), expected);
}

#[tokio::test]
async fn events_come_in_pages_that_name_the_next() {
    let bench = Bench::new().await;
    let call = new_call();
    for ms in 0..25 {
        bench.record(call, ms, None, What::CallAnswered {});
    }
    bench.journal.flush().await.unwrap();
    let mut path = format!("/v1/calls/{call}/events?limit=10");
    let mut ids = Vec::new();
    let mut pages = 0;
    loop {
        let page = bench.get(&path).await;
        pages += 1;
        assert_eq!(page.headers()["content-type"], "application/cloudevents-batch+json");
        let next = page.headers().get("link").map(|l| l.to_str().unwrap().to_owned());
        for event in page.json::<Vec<Value>>().await.unwrap() {
            assert_eq!((&event["specversion"], &event["type"]), (&"1.0".into(), &"sotto.call.answered".into()));
            ids.push(event["id"].as_str().unwrap().to_owned());
        }
        let Some(link) = next else { break };
        path = link.strip_prefix('<').unwrap().split_once(">; rel=\"next\"").unwrap().0.to_owned();
    }
    assert_eq!(pages, 3);
    assert_eq!(ids, (1..=25).map(|seq| format!("{call}:0:{seq}")).collect::<Vec<_>>());
    let after: Vec<Value> =
        bench.get(&format!("/v1/calls/{call}/events?after={}", ids[22])).await.json().await.unwrap();
    assert_eq!(after.len(), 2);
    let none: Vec<Value> = bench.get(&format!("/v1/calls/{call}/events?after=25")).await.json().await.unwrap();
    assert!(none.is_empty());
}
