//! The SIP server of a test, with the real media thread and journal behind it, and SIPp as its peers.
#![allow(dead_code, reason = "every test uses its own part")]

use sotto::config::Config;
use sotto::config::Way;
use sotto::event::{Recorded, What};
use sotto::id::Tenant;
use sotto::io::clock;
use sotto::io::hep::Mirror;
use sotto::io::journal::{Journal, Published};
use sotto::io::load::Load;
use sotto::io::metrics::Metrics;
use sotto::io::recorder::Recorder;
use sotto::io::shard::{Shard, Sinks};
use sotto::io::sip::{Host, Limits, Registry, SipServer, Timers};
use sotto::io::tts::Synthesiser;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::process::{Child, Command};

/// Longer than any scenario takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that goes with its owner.
pub struct Folder(pub PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("sotto-sip-{:016x}", clock::random()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server.
pub struct House {
    pub server: Option<SipServer>,
    pub registry: Registry,
    /// The first of its media threads, and all of them.
    pub shard: Shard,
    pub shards: Vec<Shard>,
    pub sip: SocketAddr,
    pub metrics: Arc<Metrics>,
    media: (u16, u16),
    told: Arc<Mutex<Vec<Arc<Recorded>>>>,
    folder: Folder,
}

/// How a server is to be.
pub struct Plan<'a> {
    pub routes: &'a str,
    pub trunk: &'a str,
    /// Further lines of `[sip]` and of `[media]`.
    pub sip: &'a str,
    pub media: &'a str,
    /// What `[sip] listen` lists.
    pub listen: &'a str,
    /// Whether supervisors are told where they are.
    pub announce: bool,
    pub limits: Limits,
    pub timers: Timers,
    pub shards: usize,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        let listen = "\"udp://127.0.0.1:0\"";
        let announce = false;
        Plan {
            routes: "",
            trunk: TRUNK,
            sip: "",
            media: "",
            listen,
            announce,
            limits: Limits::default(),
            timers: Timers::default(),
            shards: 1,
        }
    }
}

pub const TRUNK: &str = r#"
[[trunk]]
name = "lab"
sources = ["127.0.0.0/8"]
may_call = [".*"]
"#;

impl House {
    /// A server with these routes.
    pub async fn with(routes: &str) -> House {
        House::open(Plan { routes, ..Plan::default() }).await
    }

    pub async fn open(plan: Plan<'_>) -> House {
        House::mirrored(plan, |_| Mirror::default()).await
    }

    /// The same, with copies of its signalling.
    pub async fn mirrored(plan: Plan<'_>, mirror: impl FnOnce(&Arc<Metrics>) -> Mirror) -> House {
        let folder = Folder::new();
        let first = free_block();
        let media = (first, first + 199);
        let config = Arc::new(configuration(&folder.0, &plan, media));
        let metrics = Arc::new(Metrics::default());
        let (journal, _) = Journal::start(&folder.0, Tenant::default(), metrics.clone()).await.unwrap();
        let (recorder, _) = Recorder::start(&folder.0, Tenant::default(), journal.clone(), metrics.clone()).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(note(journal.subscribe(), told.clone()));
        let sinks = Sinks { journal: journal.clone(), conversations: None, recorder, metrics: metrics.clone() };
        let start = |number| Shard::start(number, plan.shards, Way::Auto, sinks.clone()).unwrap();
        let shards: Vec<Shard> = (0..plan.shards).map(start).collect();
        let registry = Registry::default();
        let host = Host {
            shards: shards.clone(),
            conversations: None,
            synthesiser: Synthesiser::new("en-us").unwrap(),
            journal,
            registry: registry.clone(),
            load: Load::new(metrics.clone()),
            mirror: mirror(&metrics),
        };
        let server = SipServer::start_with(config, host, plan.limits, plan.timers).await.unwrap();
        let sip = server.local_addresses()[0];
        House { server: Some(server), registry, shard: shards[0].clone(), shards, sip, metrics, media, told, folder }
    }

    pub fn server(&self) -> &SipServer {
        self.server.as_ref().unwrap()
    }

    /// Everything that happened so far.
    pub fn events(&self) -> Vec<Arc<Recorded>> {
        self.told.lock().unwrap().clone()
    }

    /// Forgets what happened so far: for tests that look at memory.
    pub fn forget(&self) {
        self.told.lock().unwrap().clear();
    }

    /// Why calls ended, in order.
    pub fn endings(&self) -> Vec<String> {
        let reason = |e: &Arc<Recorded>| match &e.event.what {
            What::CallEnded { reason } => Some(reason.clone()),
            _ => None,
        };
        self.events().iter().filter_map(reason).collect()
    }

    /// How often an event was told so far.
    pub fn told(&self, name: &str) -> usize {
        self.events().iter().filter(|e| e.event.what.name() == name).count()
    }

    /// Why supervisors left, in order.
    pub fn left(&self) -> Vec<String> {
        let reason = |e: &Arc<Recorded>| match &e.event.what {
            What::SupervisorLeft { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        self.events().iter().filter_map(reason).collect()
    }

    /// Waits until `what` is so.
    pub async fn until(&self, wanted: &str, what: impl Fn(&House) -> bool) {
        let so = async {
            while !what(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, so).await.is_err() {
            panic!(
                "never: {wanted}; events: {:?}",
                self.events().iter().map(|e| e.event.what.name()).collect::<Vec<_>>()
            );
        }
    }

    /// Nothing of any call is left: no controller, no dialog, no entry, no media socket.
    pub async fn is_quiet(&self) {
        self.until("no controller is running", |h| h.server().live() == 0).await;
        self.until("no dialog is remembered", |h| h.server().dialogs() == 0).await;
        self.until("no call is registered", |h| h.registry.is_empty()).await;
        self.until("no media socket is open", |h| h.media_sockets() == 0).await;
    }

    /// Open media sockets of this server, as the kernel counts them.
    pub fn media_sockets(&self) -> usize {
        bound_ports().into_iter().filter(|p| (self.media.0..=self.media.1).contains(p)).count()
    }

    /// SIPp with a scenario, calling us: `calls` calls at once from one port.
    pub async fn caller(&self, scenario: &str, number: &str, set: &[(&str, &str)], calls: u32) -> Peer {
        let mut set = set.to_vec();
        set.push(("NUMBER", number));
        Peer::start(&self.folder.0, scenario, &set, Some(self.sip), free_port(), calls).await
    }

    /// SIPp with a scenario, waiting on `port` to be called.
    pub async fn agent(&self, scenario: &str, set: &[(&str, &str)], port: u16, calls: u32) -> Peer {
        Peer::start(&self.folder.0, scenario, set, None, port, calls).await
    }

    /// Ends the server.
    pub async fn close(mut self) {
        self.server.take().unwrap().shutdown(Duration::from_secs(5)).await;
        for shard in &self.shards {
            shard.stop().await;
        }
    }
}

async fn note(mut journal: tokio::sync::broadcast::Receiver<Published>, told: Arc<Mutex<Vec<Arc<Recorded>>>>) {
    while let Ok(published) = journal.recv().await {
        if let Published::Event(recorded) = published {
            told.lock().unwrap().push(recorded);
        }
    }
}

fn configuration(folder: &Path, plan: &Plan<'_>, media: (u16, u16)) -> Config {
    let dialplan = folder.join("routes.toml");
    std::fs::write(&dialplan, plan.routes).unwrap();
    let playbooks = folder.join("playbooks");
    std::fs::create_dir(&playbooks).unwrap();
    let playbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/playbooks/sales-discovery.toml");
    std::fs::copy(playbook, playbooks.join("sales-discovery.toml")).unwrap();
    let file = folder.join("sotto.toml");
    let text = format!(
        "[sip]\nlisten = [{}]\nannounce = {}\n{}\n[media]\nports = \"{}-{}\"\n{}\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [store]\nurl = \"sqlite://{}\"\n[dialplan]\nfiles = [\"{}\"]\n[speech]\nmodel = \"\"\n\
         [recording]\nenabled = false\n[coach]\nduck_db = 0\n{}",
        plan.listen,
        plan.announce,
        plan.sip,
        media.0,
        media.1,
        plan.media,
        folder.join("data").display(),
        dialplan.display(),
        plan.trunk,
    );
    std::fs::write(&file, text).unwrap();
    Config::load(&file, std::iter::empty()).unwrap_or_else(|e| panic!("{e}"))
}

/// A SIPp process.
pub struct Peer {
    child: Child,
    folder: PathBuf,
    pub port: u16,
    /// Where it wants its audio.
    pub media: UdpSocket,
    scenario: String,
}

impl Peer {
    async fn start(
        folder: &Path,
        scenario: &str,
        set: &[(&str, &str)],
        to: Option<SocketAddr>,
        port: u16,
        calls: u32,
    ) -> Peer {
        let media = UdpSocket::bind("127.0.0.1:0").unwrap();
        media.set_nonblocking(true).unwrap();
        let own = folder.join(format!("{scenario}-{port}"));
        std::fs::create_dir(&own).unwrap();
        let file = own.join(format!("{scenario}.xml"));
        std::fs::write(&file, filled(scenario, set, media.local_addr().unwrap().port())).unwrap();
        let mut command = Command::new("sipp");
        command.current_dir(&own).arg("-sf").arg(&file);
        command.args(["-i", "127.0.0.1", "-nostdin", "-trace_err", "-trace_msg", "-timeout", "50s", "-timeout_error"]);
        command.args(["-p", &port.to_string(), "-m", &calls.to_string(), "-l", &calls.to_string()]);
        command.args(["-r", &calls.to_string()]);
        if let Some(to) = to {
            command.arg(to.to_string());
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let peer = Peer { child, folder: own, port, media, scenario: scenario.to_owned() };
        if to.is_none() {
            peer.listens().await;
        }
        peer
    }

    async fn listens(&self) {
        let bound = async {
            while !bound_ports().contains(&self.port) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, bound).await.expect("SIPp never listened");
    }

    /// Waits until it is done, and it must be content with what it met.
    pub async fn content(mut self) -> Peer {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        match status {
            Ok(Ok(status)) if status.success() => {
                self.proves();
                self
            }
            other => panic!("{} ended with {other:?}\n{}", self.scenario, self.log()),
        }
    }

    /// Tells the matrix of behaviours and peers (`tests/peers/matrix.py`) what the scenario says it proves.
    fn proves(&self) {
        let Some(matrix) = std::env::var_os("SOTTO_MATRIX") else { return };
        let text = std::fs::read_to_string(self.folder.join(format!("{}.xml", self.scenario))).unwrap();
        let rows = text.lines().filter_map(|l| l.strip_prefix("<!-- matrix: ")?.strip_suffix(" -->"));
        let rows = rows.flat_map(|rows| rows.split(", ")).filter(|row| !row.is_empty());
        let lines: String = rows.map(|row| format!("{row}\tsipp\n")).collect();
        let file = std::fs::OpenOptions::new().create(true).append(true).open(matrix);
        file.and_then(|mut file| file.write_all(lines.as_bytes())).unwrap();
    }

    /// The datagrams of audio that have come so far.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 1500];
        std::iter::from_fn(|| self.media.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec())).collect()
    }

    /// The processor time and files of a peer that is not wanted any more.
    pub async fn dismiss(mut self) {
        let _ = self.child.kill().await;
    }

    pub fn log(&self) -> String {
        let files = std::fs::read_dir(&self.folder).unwrap().filter_map(Result::ok).map(|f| f.path());
        let logs = files.filter(|p| p.extension().is_some_and(|e| e == "log"));
        logs.map(|p| std::fs::read_to_string(p).unwrap_or_default()).collect::<Vec<_>>().join("\n")
    }
}

fn filled(scenario: &str, set: &[(&str, &str)], media: u16) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/peers/sipp/{scenario}.xml"));
    let mut text = std::fs::read_to_string(path).unwrap();
    let defaults = [("FORMATS", "0 8 101"), ("TALK", "500"), ("RING", "200"), ("ANSWER", "200 OK"), ("MATRIX", "")];
    for (name, value) in set.iter().chain(&defaults) {
        text = text.replace(&format!("@{name}@"), value);
    }
    text.replace("@MEDIA@", &media.to_string())
}

/// A UDP port that was free a moment ago.
pub fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The first of 200 ports of which none is bound, below those that the kernel gives out.
fn free_block() -> u16 {
    let bound = bound_ports();
    loop {
        let first = 10_000 + (clock::random() % 100) as u16 * 200;
        if !bound.iter().any(|p| (first..first + 200).contains(p)) {
            return first;
        }
    }
}

fn bound_ports() -> Vec<u16> {
    let table = |name: &str| std::fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default();
    let tables = [table("udp"), table("udp6")];
    let port = |line: &str| u16::from_str_radix(line.split_whitespace().nth(1)?.rsplit(':').next()?, 16).ok();
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(port).collect()
}
