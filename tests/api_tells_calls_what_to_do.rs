//! What the API tells a running call reaches it, and a refusal says why, with a code a program can act on.

mod api_bench;

use api_bench::{Bench, new_call, problem};
use reqwest::Method;
use serde_json::{Value, json};
use sotto::call::{CallOptions, LegMedia, LegSpec};
use sotto::config::Way;
use sotto::event::{Mode, Place, Role};
use sotto::id::CallId;
use sotto::io::rtp;
use sotto::io::shard::{Shard, Sinks};
use sotto::io::sip::registry::{Entry, Handle};
use sotto::media::codec::Codec;
use std::net::{IpAddr, Ipv4Addr};
use tokio::sync::watch;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A call on a real shard, with legs in these roles whose peers never send.
struct Running {
    bench: Bench,
    shard: Shard,
    call: CallId,
    wished: watch::Receiver<Option<String>>,
}

impl Running {
    async fn new(roles: &[Role]) -> Self {
        let bench = Bench::new().await;
        let sinks = Sinks {
            journal: bench.journal.clone(),
            conversations: None,
            recorder: bench.recorder.clone(),
            metrics: bench.metrics.clone(),
        };
        let (shard, call) = (Shard::start(0, 1, Way::Auto, sinks).unwrap(), new_call());
        let (caller, called) = ("sip:customer@example.org".into(), "call-1".into());
        shard
            .open(
                call,
                CallOptions {
                    seed: 7,
                    caller,
                    called,
                    code: None,
                    listen: false,
                    record: false,
                    ears: Default::default(),
                },
            )
            .await
            .unwrap();
        for role in roles {
            let sockets = rtp::open(LOOPBACK, &(20_000..=50_000)).unwrap();
            shard.add_leg(call, leg(*role), sockets).await.unwrap();
        }
        let (handle, wished) = Handle::new();
        let (caller, called) = ("sip:customer@example.org".into(), "call-1".into());
        let entry = Entry::new(shard.clone(), handle, caller, called);
        bench.registry.insert(call, entry);
        Running { bench, shard, call, wished }
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/calls/{}{rest}", self.call)
    }

    async fn post(&self, rest: &str, body: &Value) -> reqwest::Response {
        self.bench.post(&self.path(rest), &body.to_string()).await
    }

    async fn mode(&self, mode: &str) -> Value {
        let answer = self.post(&format!("/{mode}"), &json!({})).await;
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }
}

fn leg(role: Role) -> LegSpec {
    // Nobody listens at this port: what is sent there is lost.
    let remote = (LOOPBACK, 9).into();
    let media = LegMedia {
        codec: Codec::Pcmu,
        payload_type: 0,
        dtmf: Some(101),
        shape: Default::default(),
        remote,
        remote_rtcp: remote,
        send: true,
    };
    LegSpec { role, place: Place::InConversation, mode: Mode::Spy, address: "sip:somebody@example.org".into(), media }
}

#[tokio::test]
async fn a_call_is_listed_and_shown() {
    let running = Running::new(&[Role::Customer, Role::Agent]).await;
    let list: Value = running.bench.get("/v1/calls").await.json().await.unwrap();
    let shown: Value = running.bench.get(&running.path("")).await.json().await.unwrap();
    for call in [&list["calls"][0], &shown] {
        assert_eq!(call["id"], running.call.to_string());
        assert_eq!(call["code"], running.bench.registry.get(running.call).unwrap().code.to_string());
        assert_eq!((&call["state"], &call["mode"]), (&json!("connected"), &json!("spy")));
        assert_eq!((&call["caller"], &call["called"]), (&json!("sip:customer@example.org"), &json!("call-1")));
        assert_eq!((&call["legs"][0]["role"], &call["legs"][1]["role"]), (&json!("customer"), &json!("agent")));
    }
    running.shard.stop().await;
}

#[tokio::test]
async fn each_mode_is_acknowledged_with_the_timestamps_from_which_it_holds() {
    let running = Running::new(&[Role::Customer, Role::Agent]).await;
    for mode in ["whisper", "barge", "spy"] {
        let answer = running.mode(mode).await;
        assert_eq!(answer["mode"], mode);
        let effective = answer["effective"].as_object().unwrap();
        assert_eq!(effective.keys().collect::<Vec<_>>(), ["leg-1", "leg-2"]);
        assert!(effective.values().all(|t| t.as_u64().is_some_and(|t| u32::try_from(t).is_ok())), "{answer}");
    }
    running.shard.stop().await;
}

#[tokio::test]
async fn what_is_refused_says_why() {
    let running = Running::new(&[Role::Customer, Role::Agent]).await;
    let say = json!({"text": "Mention the annual plan."});
    let detail = problem(running.post("/say", &say).await, 409, "spying").await;
    assert!(detail.contains("whisper or barge first"), "{detail}");
    let nobody = json!({"text": "hello", "audience": ["leg-9"]});
    problem(running.post("/say", &nobody).await, 422, "no_such_leg").await;
    problem(running.post("/say", &json!({"text": " ", "audience": "agent"})).await, 422, "text_length").await;
    let voice = json!({"text": "hello", "audience": "agent", "voice": "../etc"});
    problem(running.post("/say", &voice).await, 422, "no_such_voice").await;
    running.shard.stop().await;

    let alone = Running::new(&[Role::Customer]).await;
    problem(alone.post("/whisper", &json!({})).await, 409, "not_private").await;
    let to_agent = json!({"text": "hello", "audience": "agent"});
    problem(alone.post("/say", &to_agent).await, 409, "nobody_listens").await;
    alone.shard.stop().await;
}

#[tokio::test]
async fn what_is_said_is_a_clip() {
    let running = Running::new(&[Role::Customer, Role::Agent]).await;
    running.mode("whisper").await;
    for (n, audience) in [json!("mode"), json!("agent"), json!("customer"), json!(["leg-2"])].into_iter().enumerate() {
        let answer = running.post("/say", &json!({"text": "Mention the plan.", "audience": audience})).await;
        assert_eq!(answer.status(), 202);
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({"clip": format!("clip-{}", n + 1)}));
    }
    running.shard.stop().await;
}

#[tokio::test]
async fn a_call_is_paused_and_resumed() {
    let running = Running::new(&[Role::Customer, Role::Agent]).await;
    for (command, paused) in [("/pause", true), ("/pause", true), ("/resume", false)] {
        assert_eq!(running.post(command, &json!({})).await.status(), 204);
        let shown: Value = running.bench.get(&running.path("")).await.json().await.unwrap();
        assert_eq!(shown["paused"], paused);
    }
    assert_eq!(running.post("/close", &json!({})).await.status(), 204);
    problem(running.post("/pause", &json!({})).await, 409, "closed").await;
    running.shard.stop().await;
}

#[tokio::test]
async fn the_coach_leaves_and_everyone_is_hung_up() {
    let mut running = Running::new(&[Role::Customer, Role::Agent]).await;
    assert_eq!(running.post("/close", &json!({})).await.status(), 204);
    let shown: Value = running.bench.get(&running.path("")).await.json().await.unwrap();
    assert_eq!((&shown["closed"], &shown["state"]), (&json!(true), &json!("connected")));
    let say = json!({"text": "hello", "audience": "agent"});
    problem(running.post("/say", &say).await, 409, "closed").await;

    let hangup = running.bench.request(Method::DELETE, &running.path("")).send().await.unwrap();
    assert_eq!(hangup.status(), 204);
    running.wished.changed().await.unwrap();
    assert_eq!(running.wished.borrow().as_deref(), Some("hung up through the API"));
    running.shard.stop().await;
}

#[tokio::test]
async fn a_supervisor_is_steered_and_sent_away() {
    let running = Running::new(&[Role::Customer, Role::Agent, Role::Supervisor]).await;
    let path = running.path("/supervisors/leg-3");
    let patch = async |path: &str, body: Value| {
        let request = running.bench.request(Method::PATCH, path).header("content-type", "application/json");
        request.body(body.to_string()).send().await.unwrap()
    };
    let answer: Value = patch(&path, json!({"mode": "whisper", "volume": -12})).await.json().await.unwrap();
    assert_eq!((&answer["leg"], &answer["mode"], &answer["volume"]), (&json!("leg-3"), &json!("whisper"), &json!(-12)));
    assert_eq!(answer["effective"].as_object().unwrap().len(), 3);
    let shown: Value = running.bench.get(&running.path("")).await.json().await.unwrap();
    assert_eq!((&shown["legs"][2]["mode"], &shown["legs"][2]["volume"]), (&json!("whisper"), &json!(-12)));
    assert_eq!(shown["mode"], "spy", "the coach's is another");

    problem(patch(&path, json!({"volume": 25})).await, 422, "bad_json").await;
    problem(patch(&path, json!({"mode": "loud"})).await, 422, "bad_json").await;
    let agent = running.path("/supervisors/leg-2");
    problem(patch(&agent, json!({"volume": 6})).await, 422, "not_a_supervisor").await;
    problem(patch(&running.path("/supervisors/leg-9"), json!({})).await, 422, "no_such_leg").await;
    problem(patch(&running.path("/supervisors/anna"), json!({})).await, 404, "not_found").await;
    problem(running.bench.request(Method::DELETE, &agent).send().await.unwrap(), 422, "not_a_supervisor").await;

    // They become the agent, and are a supervisor again; either can be refused.
    let shown = async || running.bench.get(&running.path("")).await.json::<Value>().await.unwrap()["legs"][2].clone();
    problem(patch(&path, json!({"take_over": false})).await, 409, "not_now").await;
    let answer: Value = patch(&path, json!({"take_over": true})).await.json().await.unwrap();
    assert_eq!(answer["take_over"], true);
    assert_eq!((&shown().await["role"], &shown().await["stands_in"]), (&json!("agent"), &json!(true)));
    assert_eq!(patch(&path, json!({"take_over": false})).await.status(), 200);
    assert_eq!((&shown().await["role"], &shown().await["mode"]), (&json!("supervisor"), &json!("spy")));
    // Nobody can be called where there is no SIP.
    let call = json!({"to": "sip:4711@127.0.0.1", "mode": "whisper"});
    problem(running.post("/supervisors", &call).await, 503, "no_calls").await;
    problem(running.post("/supervisors", &json!({"mode": "whisper"})).await, 422, "bad_json").await;
    problem(running.bench.post("/v1/calls/nobody/supervisors", &call.to_string()).await, 404, "no_such_call").await;

    assert_eq!(running.bench.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
    problem(running.bench.request(Method::DELETE, &path).send().await.unwrap(), 422, "no_such_leg").await;
    let shown: Value = running.bench.get(&running.path("")).await.json().await.unwrap();
    assert_eq!(shown["legs"].as_array().unwrap().len(), 2);
    running.shard.stop().await;
}

#[tokio::test]
async fn what_the_customer_says_about_being_listened_to_is_known() {
    let running = Running::new(&[Role::Customer, Role::Agent]).await;
    for said in ["given", "refused", "refused", "unknown"] {
        assert_eq!(running.post("/consent", &json!({ "consent": said })).await.status(), 204);
        let shown: Value = running.bench.get(&running.path("")).await.json().await.unwrap();
        assert_eq!(shown["consent"], said);
        let kept = serde_json::to_value(running.bench.registry.get(running.call).unwrap().consent).unwrap();
        assert_eq!(kept, said, "whoever dials now is held to it");
    }
    for wrong in [json!({}), json!({ "consent": "perhaps" }), json!({ "consent": true })] {
        assert!(running.post("/consent", &wrong).await.status().is_client_error(), "{wrong}");
    }
}
