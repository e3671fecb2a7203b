//! Whatever is wrong with a request, the answer is a problem (RFC 9457) that says what to do next.

mod api_bench;

use api_bench::{Bench, TOKEN, new_call, problem};
use reqwest::Method;
use sotto::event::What;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn without_the_token_nothing_is_told() {
    let bench = Bench::new().await;
    let client = reqwest::Client::new();
    let call = new_call();
    let paths = ["/v1/calls", "/v1/nothing", "/", "/v1", "/v1/events", &format!("/v1/calls/{call}/recording.wav")];
    for path in paths {
        let missing = client.get(bench.url(path)).send().await.unwrap();
        assert_eq!(missing.headers()["www-authenticate"], r#"Bearer realm="sotto""#, "{path}");
        assert!(problem(missing, 401, "unauthorized").await.contains("Authorization: Bearer"), "{path}");
    }
    for wrong in ["x", &TOKEN[1..], &format!("{TOKEN}x")] {
        let refused = client.get(bench.url("/v1/calls")).bearer_auth(wrong).send().await.unwrap();
        assert!(refused.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"), "{wrong:?}");
        problem(refused, 401, "unauthorized").await;
    }
    let query = client.get(bench.url(&format!("/v1/calls?access_token={TOKEN}"))).send().await.unwrap();
    problem(query, 401, "unauthorized").await;
    assert_eq!(bench.metrics.http.unauthorised.get(), paths.len() as u64 + 4);
}

#[tokio::test]
async fn with_the_token_the_list_of_calls_is_there() {
    let bench = Bench::new().await;
    let list = bench.get("/v1/calls").await;
    assert_eq!(list.status(), 200);
    assert_eq!(list.headers()["cache-control"], "no-store");
    assert_eq!(list.json::<serde_json::Value>().await.unwrap(), serde_json::json!({"calls": []}));
}

#[tokio::test]
async fn unknown_paths_methods_and_calls_are_named() {
    let bench = Bench::new().await;
    problem(bench.get("/v1/nothing").await, 404, "not_found").await;
    let wrong = bench.request(Method::PUT, "/v1/calls").send().await.unwrap();
    assert!(wrong.headers()["allow"].to_str().unwrap().contains("GET"));
    problem(wrong, 405, "method_not_allowed").await;
    let call = new_call();
    for path in ["", "/transcript", "/events"] {
        let detail = problem(bench.get(&format!("/v1/calls/{call}{path}")).await, 404, "no_such_call").await;
        assert!(detail.contains(&call.to_string()), "{detail}");
    }
    for path in ["spy", "whisper", "barge", "close"] {
        problem(bench.post(&format!("/v1/calls/{call}/{path}"), "").await, 404, "no_such_call").await;
    }
    problem(bench.get("/v1/calls/not-an-id").await, 404, "no_such_call").await;
    problem(bench.get(&format!("/v1/calls/{call}/recording.wav")).await, 404, "no_recording").await;
    problem(bench.get("/v1/calls/..%2F..%2Fetc%2Fpasswd/recording.wav").await, 404, "no_such_call").await;
    let hangup = bench.request(Method::DELETE, &format!("/v1/calls/{call}")).send().await.unwrap();
    problem(hangup, 404, "no_such_call").await;
}

#[tokio::test]
async fn a_call_that_ended_is_told_apart_from_one_that_never_was() {
    let bench = Bench::new().await;
    let call = new_call();
    bench.record(call, 0, None, What::CallPending { caller: "sip:a@b".into(), called: "call-1".into(), code: None });
    bench.record(call, 4_000, None, What::CallEnded { reason: "customer hung up".into() });
    bench.journal.flush().await.unwrap();
    problem(bench.post(&format!("/v1/calls/{call}/whisper"), "").await, 409, "ended").await;
    let hangup = bench.request(Method::DELETE, &format!("/v1/calls/{call}")).send().await.unwrap();
    problem(hangup, 409, "ended").await;
    let shown: serde_json::Value = bench.get(&format!("/v1/calls/{call}")).await.json().await.unwrap();
    assert_eq!((&shown["state"], &shown["reason"]), (&"ended".into(), &"customer hung up".into()));
    assert_eq!((&shown["caller"], &shown["media_time"]), (&"sip:a@b".into(), &192_000.into()));
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_told_where() {
    let bench = Bench::new().await;
    let say = format!("/v1/calls/{}/say", new_call());
    let post = || bench.request(Method::POST, &say);
    problem(post().body("text=hello").send().await.unwrap(), 415, "unsupported_media_type").await;
    let form = post().header("content-type", "text/plain").body("{}").send().await.unwrap();
    problem(form, 415, "unsupported_media_type").await;

    let detail = problem(bench.post(&say, "{\"text\": \"hel\nlo\"").await, 422, "bad_json").await;
    assert!(detail.contains("line 2 column 0"), "{detail}");
    let detail = problem(bench.post(&say, "{\"txt\": \"hello\"}").await, 422, "bad_json").await;
    assert!(detail.contains("unknown field `txt`") && detail.contains("line 1 column 6"), "{detail}");
    let detail = problem(bench.post(&say, r#"{"text": "hello", "audience": "everyone"}"#).await, 422, "bad_json").await;
    assert!(detail.contains("\"customer\""), "{detail}");
    problem(bench.post(&say, "\u{0}\u{1}").await, 422, "bad_json").await;

    let large = format!("{{\"text\": \"{}\"}}", "x".repeat(70_000));
    problem(bench.post(&say, &large).await, 413, "too_large").await;
    for audience in [r#""mode""#, r#""customer""#, r#""agent""#, r#"["leg-1", "leg-2"]"#] {
        let body = format!(r#"{{"text": "hello", "voice": "en", "audience": {audience}}}"#);
        problem(bench.post(&say, &body).await, 404, "no_such_call").await;
    }
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_told_why() {
    let bench = Bench::new().await;
    let events = format!("/v1/calls/{}/events", new_call());
    for query in ["after=x", "after=-1", "after=1:2:3", "limit=0", "limit=1000000", "limit=x", "aftr=1"] {
        problem(bench.get(&format!("{events}?{query}")).await, 400, "bad_query").await;
    }
    problem(bench.get("/v1/events?call=7").await, 400, "bad_query").await;
    problem(bench.get("/v1/events").await, 426, "websocket_expected").await;
}

#[tokio::test]
async fn health_readiness_and_metrics_need_no_token() {
    let bench = Bench::new().await;
    let client = reqwest::Client::new();
    let open = async |path: &str| client.get(bench.url(path)).send().await.unwrap();
    let alive = open("/healthz").await;
    assert_eq!(alive.status(), 200);
    assert_eq!(alive.json::<serde_json::Value>().await.unwrap()["status"], "ok");

    let expected = serde_json::json!({"ready": false, "journal": "writable", "sip": "down", "ears": "none"});
    let ready = open("/readyz").await;
    assert_eq!(ready.status(), 503);
    assert_eq!(ready.json::<serde_json::Value>().await.unwrap(), expected);
    bench.readiness.set_sip(true);
    let expected = serde_json::json!({"ready": true, "journal": "writable", "sip": "up", "ears": "none"});
    let ready = open("/readyz").await;
    assert_eq!(ready.status(), 200);
    assert_eq!(ready.json::<serde_json::Value>().await.unwrap(), expected);

    let metrics = open("/metrics").await;
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = metrics.text().await.unwrap();
    assert!(text.contains("\nsotto_http_requests_total 3\n"), "{text}");
}

#[tokio::test]
async fn heads_without_measure_are_refused() {
    let bench = Bench::new().await;
    for head in [
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(200)),
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(100_000)),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(100_000)),
        "\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned(),
    ] {
        let mut stream = tokio::net::TcpStream::connect(bench.address).await.unwrap();
        // The server may close before it has read everything.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let status = answer.get(9..12).map(|s| String::from_utf8_lossy(s).into_owned());
        assert!(status.as_deref().is_none_or(|s| s.starts_with('4')), "{status:?}");
    }
    assert_eq!(bench.get("/v1/calls").await.status(), 200);
}
