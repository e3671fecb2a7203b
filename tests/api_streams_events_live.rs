//! The WebSocket of events: live, in order, with watermarks; fair to those who are too slow.

mod api_bench;

use api_bench::{Bench, Socket, new_call};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use sotto::event::What;
use sotto::time::MediaTime;
use tokio_tungstenite::tungstenite::{self, Message, protocol::CloseFrame};

/// The next event, or why there are no more.
async fn next(socket: &mut Socket) -> Result<Value, Option<CloseFrame>> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(why))) => return Err(why),
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("{error}"),
            None => return Err(None),
        }
    }
}

#[tokio::test]
async fn the_token_is_needed_before_the_upgrade() {
    let bench = Bench::new().await;
    let refused = tokio_tungstenite::connect_async(format!("ws://{}/v1/events", bench.address)).await;
    let Err(tungstenite::Error::Http(response)) = refused else { panic!("it was let in") };
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn events_arrive_in_order_and_then_the_watermark() {
    let bench = Bench::new().await;
    let mut socket = bench.socket("").await;
    let call = new_call();
    bench.record(call, 0, None, What::CallPending { caller: "sip:a@b".into(), called: "c".into(), code: None });
    for ms in 1..100 {
        bench.record(call, ms, Some(1), What::SpeechEdge { speaking: ms % 2 == 0, known: MediaTime::from_millis(ms) });
    }
    let mut seq = 0;
    let committed = loop {
        let event = next(&mut socket).await.unwrap();
        assert_eq!((&event["callid"], &event["tenant"]), (&call.to_string().into(), &"default".into()));
        if event["type"] == "sotto.journal.committed" {
            let up_to = event["data"]["seq"].as_u64().unwrap();
            assert!(up_to <= seq, "a watermark never runs ahead of its events");
            if up_to == 100 {
                break event;
            }
        } else {
            seq += 1;
            assert_eq!(event["id"], format!("{call}:0:{seq}"));
            assert_eq!(event["sequence"], format!("{seq:010}"));
        }
    };
    assert_eq!(committed["id"], format!("{call}:0:100:committed"));
    let stored: Vec<Value> = bench.get(&format!("/v1/calls/{call}/events")).await.json().await.unwrap();
    assert_eq!(stored.len(), 100, "the watermark is the truth");
}

#[tokio::test]
async fn a_reader_of_one_call_sees_no_other() {
    let bench = Bench::new().await;
    let (mine, other) = (new_call(), new_call());
    let mut socket = bench.socket(&format!("?call={mine}")).await;
    for ms in 0..50 {
        bench.record(other, ms, None, What::CallAnswered {});
        bench.record(mine, ms, None, What::CallAnswered {});
    }
    let mut seen = 0;
    while seen < 50 {
        let event = next(&mut socket).await.unwrap();
        assert_eq!(event["callid"], mine.to_string());
        seen += i32::from(event["type"] == "sotto.call.answered");
    }
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_and_closed() {
    let bench = Bench::new().await;
    let mut socket = bench.socket("").await;
    let call = new_call();
    // Far more than the reader's and the kernel's buffers hold while nobody reads.
    let words = "x".repeat(10_000);
    for ms in 0..6_000 {
        bench.record(call, ms, None, What::CallEnded { reason: words.clone() });
        if ms % 100 == 0 {
            bench.journal.flush().await.unwrap();
        }
    }
    bench.journal.flush().await.unwrap();
    let mut seen = 0;
    let why = loop {
        match next(&mut socket).await {
            Ok(_) => seen += 1,
            Err(why) => break why.expect("a reason"),
        }
    };
    assert!(seen < 6_000, "it was fast enough after all");
    assert_eq!(u16::from(why.code), 1013);
    assert!(why.reason.contains("too slow") && why.reason.contains("/events?after="), "{}", why.reason);
    assert_eq!(bench.metrics.http.sockets_too_slow.get(), 1);
    assert_eq!(bench.journal.events(call, 0, 10_000).await.unwrap().len(), 6_000, "the journal lost nothing");
}

#[tokio::test]
async fn what_a_reader_sends_is_ignored_within_bounds() {
    let bench = Bench::new().await;
    let mut socket = bench.socket("").await;
    socket.send(Message::text("hello")).await.unwrap();
    let call = new_call();
    bench.record(call, 0, None, What::CallAnswered {});
    assert_eq!(next(&mut socket).await.unwrap()["callid"], call.to_string());
    socket.send(Message::binary(vec![0u8; 100_000])).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        assert!(!matches!(message, Message::Binary(_)));
    }
    assert_eq!(bench.get("/v1/calls").await.status(), 200);
}

#[tokio::test]
async fn readers_are_told_when_the_server_stops() {
    let mut bench = Bench::new().await;
    let mut socket = bench.socket("").await;
    bench.shutdown.cancel();
    let Err(Some(why)) = next(&mut socket).await else { panic!("no reason given") };
    assert_eq!((u16::from(why.code), why.reason.as_str()), (1001, "the server stops"));
    (&mut bench.served).await.unwrap();
    assert!(tokio::net::TcpStream::connect(bench.address).await.is_err(), "nobody is let in any more");
}
