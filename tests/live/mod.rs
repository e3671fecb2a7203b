//! A server of one's own: `sotto serve` as a child process on free ports, and what its users see of it.
#![allow(dead_code, reason = "every test uses its own part")]

use futures_util::StreamExt;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

pub const TOKEN: &str = "a-token-for-tests";

/// The model of the tests.
pub fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/speech/ggml-fixture-q8_0.bin")
}

/// A folder that goes with its owner.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sotto-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        let playbooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/playbooks");
        std::os::unix::fs::symlink(playbooks, path.join("playbooks")).unwrap();
        Folder(path)
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is not usual about a server.
#[derive(Clone, Copy, Default)]
pub struct More<'a> {
    /// It runs as the arguments of another program.
    pub program: &'a [&'a str],
    /// Further lines of `[coach]`.
    pub coach: &'a str,
    /// Further lines of `[recording]`.
    pub recording: &'a str,
    /// Further lines of its trunk.
    pub trunk: &'a str,
}

/// A running `sotto serve`. Killed when dropped.
pub struct Server {
    child: Child,
    pub sip: SocketAddr,
    pub http: SocketAddr,
}

impl Server {
    /// Starts it in `folder`; `routes` is its dialplan, `model` empty for no ears. Returns when it says it is ready.
    pub fn start(folder: &Path, model: &str, routes: &str) -> Server {
        Server::start_with(folder, model, routes, More::default())
    }

    /// The same, with what is not usual.
    pub fn start_with(folder: &Path, model: &str, routes: &str, more: More<'_>) -> Server {
        let More { program, coach, recording, trunk } = more;
        let config = folder.join("sotto.toml");
        let dialplan = folder.join("routes.toml");
        std::fs::write(&dialplan, routes).unwrap();
        let text = format!(
            r#"
[sip]
listen = ["udp://127.0.0.1:0"]
announce = false
[http]
listen = "127.0.0.1:0"
token = "{TOKEN}"
[store]
url = "sqlite://{data}"
[dialplan]
files = ["{dialplan}"]
[speech]
model = "{model}"
[coach]
playbook = "sales-discovery"
{coach}
[recording]
enabled = true
{recording}
[[trunk]]
name = "lab"
sources = ["127.0.0.0/8"]
may_call = [".*"]
{trunk}
"#,
            data = folder.join("data").display(),
            dialplan = dialplan.display(),
        );
        std::fs::write(&config, text).unwrap();
        let line = [program, &[env!("CARGO_BIN_EXE_sotto"), "serve", "--config"]].concat();
        let mut child = Command::new(line[0])
            .args(&line[1..])
            .arg(&config)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("RUST_LOG", "warn")
            // A machine on which tests run is busy: no reason to refuse them calls.
            .env("SOTTO__LOAD__CPU", "0")
            .env("SOTTO__LOAD__LATE", "0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines
            .find_map(|line| line.ok().and_then(|l| l.strip_prefix("ready ").map(str::to_owned)))
            .expect("the server ended before it was ready");
        // The pipe is read to its end, so that the server never writes into a closed one.
        std::thread::spawn(move || for _ in lines {});
        let field = |name: &str| {
            let prefix = format!("{name}=");
            ready.split(' ').find_map(|f| f.strip_prefix(prefix.as_str())).unwrap().parse().unwrap()
        };
        Server { sip: field("sip"), http: field("http"), child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits until it has ended, for `patience` at most: its exit status, and how long that took.
    pub async fn ended(&mut self, patience: Duration) -> (i32, Duration) {
        let began = sotto::io::clock::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code().expect("it ended by itself"), began.elapsed());
            }
            assert!(began.elapsed() < patience, "the server has not ended within {patience:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Process ids of its recognisers.
    pub fn recognisers(&self) -> Vec<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let is_recogniser = |pid: &u32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|b| *b == 0).any(|a| a == b"speech-worker"))
        };
        all_threads_children(self.pid())
            .into_iter()
            .chain(children.split_whitespace().filter_map(|p| p.parse().ok()))
            .filter(is_recogniser)
            .collect::<std::collections::BTreeSet<u32>>()
            .into_iter()
            .collect()
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        let url = format!("http://{}{path}", self.http);
        reqwest::Client::new().get(url).bearer_auth(TOKEN).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> reqwest::Response {
        let url = format!("http://{}{path}", self.http);
        reqwest::Client::new().post(url).bearer_auth(TOKEN).json(&body).send().await.unwrap()
    }

    /// Follows `/v1/events`.
    pub async fn follow(&self) -> Follower {
        let mut request = format!("ws://{}/v1/events", self.http).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        let (socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        Follower { socket, seen: Vec::new() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Children are listed under the thread that made them.
fn all_threads_children(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// A reader of the event stream that keeps what it saw.
pub struct Follower {
    socket: tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>,
    pub seen: Vec<Value>,
}

impl Follower {
    /// The next event; none when the stream has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            match self.socket.next().await? {
                Ok(Message::Text(text)) => {
                    let event: Value = serde_json::from_str(&text).unwrap();
                    self.seen.push(event.clone());
                    return Some(event);
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Reads until an event of this type, or panics after `patience`.
    pub async fn until(&mut self, kind: &str, patience: Duration) -> Value {
        let wanted = format!("sotto.{kind}");
        let found = tokio::time::timeout(patience, async {
            while let Some(event) = self.next().await {
                if event["type"] == wanted.as_str() {
                    return Some(event);
                }
            }
            None
        });
        match found.await {
            Ok(Some(event)) => event,
            Ok(None) => panic!("the event stream ended before {kind}"),
            Err(_) => panic!("no {kind} within {patience:?}; seen: {:?}", self.kinds()),
        }
    }

    /// Reads until `deadline`, or until the stream ends.
    pub async fn read_for(&mut self, time: Duration) {
        let _ = tokio::time::timeout(time, async { while self.next().await.is_some() {} }).await;
    }

    fn kinds(&self) -> Vec<&str> {
        self.seen.iter().filter_map(|e| e["type"].as_str()).collect()
    }
}
