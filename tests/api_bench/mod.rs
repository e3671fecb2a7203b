//! The API over a real journal and recorder on a port of its own, and a client that carries the token.
#![allow(dead_code, reason = "every test uses its own part")]

use serde_json::Value;
use sotto::config::Secret;
use sotto::event::{Event, What};
use sotto::id::{CallId, LegId, Tenant};
use sotto::io::calls::Calls;
use sotto::io::clock;
use sotto::io::journal::Journal;
use sotto::io::metrics::Metrics;
use sotto::io::recorder::Recorder;
use sotto::io::sip::registry::Registry;
use sotto::io::tts::Synthesiser;
use sotto::io::web::{self, AppState, Readiness};
use sotto::time::MediaTime;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "a token for tests";

pub type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

pub struct Bench {
    pub address: SocketAddr,
    pub dir: PathBuf,
    pub journal: Journal,
    pub recorder: Recorder,
    pub metrics: Arc<Metrics>,
    pub registry: Registry,
    pub readiness: Arc<Readiness>,
    pub shutdown: CancellationToken,
    pub served: tokio::task::JoinHandle<()>,
}

impl Bench {
    pub async fn new() -> Self {
        Bench::recording_as(sotto::config::Recording::default()).await
    }

    pub async fn recording_as(setting: sotto::config::Recording) -> Self {
        let dir = std::env::temp_dir().join(format!("sotto-api-{:016x}", clock::random()));
        let metrics = Arc::new(Metrics::default());
        let (journal, _task) = Journal::start(&dir, Tenant::default(), metrics.clone()).await.unwrap();
        let tenant = Tenant::default();
        let (recorder, _thread) =
            Recorder::start_with(setting, &dir, tenant, journal.clone(), metrics.clone()).unwrap();
        let registry = Registry::default();
        let (readiness, shutdown) = (Arc::new(Readiness::default()), CancellationToken::new());
        let state = AppState {
            calls: Calls::new(registry.clone(), Synthesiser::new("en-us").unwrap(), None),
            journal: journal.clone(),
            store: dir.clone(),
            tenant: Tenant::default(),
            token: Secret::new(TOKEN.into()),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            shutdown: shutdown.clone(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(web::serve(listener, state));
        Bench { address, dir, journal, recorder, metrics, registry, readiness, shutdown, served }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request with the token.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        reqwest::Client::new().request(method, self.url(path)).bearer_auth(TOKEN)
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.request(reqwest::Method::GET, path).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &str) -> reqwest::Response {
        let request = self.request(reqwest::Method::POST, path).header("content-type", "application/json");
        request.body(body.to_owned()).send().await.unwrap()
    }

    /// Live events, once they flow.
    pub async fn socket(&self, query: &str) -> Socket {
        let mut request = format!("ws://{}/v1/events{query}", self.address).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        tokio_tungstenite::connect_async(request).await.unwrap().0
    }

    pub fn record(&self, call: CallId, ms: i64, leg: Option<u32>, what: What) {
        let event = Event { at: MediaTime::from_millis(ms), leg: leg.map(LegId), what };
        assert!(self.journal.record(call, event));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub fn new_call() -> CallId {
    CallId::new(clock::wall_ms() as u64, 1, 1, clock::random())
}

/// Holds a response against what RFC 9457 and this API promise of every problem, and answers its detail.
pub async fn problem(response: reqwest::Response, status: u16, code: &str) -> String {
    assert_eq!(response.status(), status, "{code}");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    assert_eq!(body["code"], code);
    assert_eq!(body["type"], format!("urn:sotto:problem:{code}"));
    assert!(body["title"].as_str().is_some_and(|t| !t.is_empty()), "{body}");
    body["detail"].as_str().unwrap().to_owned()
}
