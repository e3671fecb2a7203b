//! The configuration: what the file and the environment say, read with its lines, checked, and made into a
//! [`Config`] that cannot hold an impossible value.
//!
//! In come a path and the environment; out comes a `Config`, or every fault at once as `file:line: what; what to do`.
//! Used by the shell only.

mod certificates;
mod check;
mod dialplan;
mod environment;
mod fault;
mod hep;
mod listen;
mod load;
mod network;
mod playbook;
mod raw;
mod reach;
mod secret;
mod siprec;
mod supervise;

pub use crate::call::sdp::Srtp;
pub use crate::coach::Sensitivity;
pub use certificates::TlsError;
pub use dialplan::{Route, Step};
pub use fault::{ConfigError, ConfigErrors, Origin};
pub use hep::Hep;
pub use listen::{Listen, Transport};
pub use load::Load;
pub use network::Network;
pub use playbook::Playbooks;
pub use reach::{Proxy, Reach};
pub use secret::Secret;
pub use siprec::Siprec;

use crate::call::May;
use crate::call::ears::Ears;
use crate::event::Mode;
use fault::Faults;
use raw::{Section, Written};
use regex::Regex;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[sip]`
    pub sip: Sip,
    /// `[load]`
    pub load: Load,
    /// `[media]`
    pub media: Media,
    /// `[http]`
    pub http: Http,
    /// `[store]`
    pub store: Store,
    /// `[speech]`
    pub speech: Speech,
    /// `[coach]`
    pub coach: Coach,
    /// `[recording]`
    pub recording: Recording,
    /// `[[supervise]]`; none: whoever comes by a trunk that may supervise may hear everyone.
    pub supervise: Vec<Supervise>,
    /// `[[trunk]]`
    pub trunks: Vec<Trunk>,
    /// `[[register]]`
    pub registrations: Vec<Registration>,
    /// The routes of every file of `[dialplan] files`, in order.
    pub routes: Arc<[Route]>,
    /// Every playbook of `coach.playbook_dir`, by name; `coach.playbook` is among them.
    pub playbooks: Playbooks,
}

/// Where SIP is spoken.
#[derive(Clone, Debug)]
pub struct Sip {
    /// Addresses to bind; explicit, port 0 picks one.
    pub listen: Vec<Listen>,
    /// What to put into SDP and Contact behind NAT.
    pub external_address: Option<IpAddr>,
    /// What the other party hears while one holds.
    pub hold_music: HoldMusic,
    /// With whom coach and supervisors stay when a party is transferred, where the route does not say.
    pub follow: Follow,
    /// Who may say that an agent whose far end has changed is still the agent.
    pub proof: Proof,
    /// How long a call may go on without a sign of life of each peer (RFC 4028), seconds, 90 at least. None: nothing is
    /// asked for; what peers ask for is kept to.
    pub session_expires: Option<u32>,
    /// The shortest such time we agree to, seconds, 90 at least.
    pub min_se: u32,
    /// Whether a supervisor is told whom they hear, and how.
    pub announce: bool,
    /// The files of TLS; there where `listen` names a TLS address.
    pub tls: Option<Tls>,
    /// How peers are reached, and how they reach us.
    pub reach: Reach,
    /// Where copies of every message go.
    pub hep: Option<Hep>,
}

/// Who may say that an agent whose far end has changed is still the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Their telephone, in the dialog it has with us, or a person.
    #[default]
    Signalling,
    /// A person alone.
    Person,
}

/// With whom coach and supervisors stay when a party is transferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follow {
    /// With those who go on talking, whoever they are.
    #[default]
    Call,
    /// With the agent: where that is who leaves, they leave too.
    Agent,
    /// With the customer: likewise.
    Customer,
}

/// What a party hears while the other one holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldMusic {
    /// What the one who holds plays, if they do; else silence.
    Theirs,
    /// Silence, whatever they play.
    Silence,
    /// A WAV file of ours, over and over.
    File(PathBuf),
}

/// Files in PEM that are read again when they change.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Our certificate, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of those who connect to us. None: they need no certificate.
    pub client_ca: Option<PathBuf>,
    /// The authorities of those whom we call.
    pub server_ca: PathBuf,
}

/// A name and the password that proves it.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// Which digests a peer may prove itself by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digests {
    /// Either; both are offered, as RFC 8760 §2.4 has it. Some older telephones give up where they read of SHA-256.
    #[default]
    Any,
    /// MD5 alone.
    Md5,
    /// SHA-256 alone.
    Sha256,
}

/// A telephone system of which we are an extension.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The trunk that its calls come from.
    pub trunk: String,
    /// SIP URIs of its registrars; the next is tried when one fails. At least one.
    pub registrars: Vec<String>,
    /// The extension and its password.
    pub login: Credentials,
    /// For how long we ask.
    pub expires: Duration,
}

/// Where RTP is spoken.
#[derive(Clone, Debug)]
pub struct Media {
    /// RTP takes the even ports, RTCP the odd ones.
    pub ports: RangeInclusive<u16>,
    /// Media threads.
    pub shards: usize,
    /// How they read and write packets.
    pub io: Way,
    /// A party that has sent nothing for so long, and did not say it would not, is gone: the call ends. None: never.
    pub timeout: Option<Duration>,
    /// Whether what both parties say is decoded even where nobody listens, to measure what that costs.
    pub tap: bool,
}

/// How packets are read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// The ring where the kernel has what it needs, else plain.
    #[default]
    Auto,
    /// One system call for every datagram.
    Plain,
    /// io_uring, or no start where the kernel does not have it.
    Ring,
}

/// The API.
#[derive(Clone, Debug)]
pub struct Http {
    /// Where it listens; port 0 picks one.
    pub listen: SocketAddr,
    /// The bearer token. None: one is made at start and left in `<store>/token`, readable by the owner alone.
    pub token: Option<Secret>,
}

/// Where things are kept.
#[derive(Clone, Debug)]
pub struct Store {
    /// The folder that holds `sotto.db`, `recordings/` and `token` (`sqlite://data` is `data`).
    pub dir: PathBuf,
}

/// Ears and voice.
#[derive(Clone, Debug)]
pub struct Speech {
    /// The recogniser's model, which was there when the configuration was read. None: no ears.
    pub model: Option<PathBuf>,
    /// The model as it was written (`base.en`, a path, or empty), for messages.
    pub model_name: String,
    /// Where the model was looked for and is not. The server then runs without ears, and says how to get one.
    pub model_missing: Option<PathBuf>,
    /// The voice of espeak-ng.
    pub voice: String,
    /// Recogniser processes.
    pub workers: usize,
}

/// Coaching.
#[derive(Clone, Debug)]
pub struct Coach {
    /// The playbook's name: `playbooks/<name>.toml` beside the configuration file.
    pub playbook: String,
    /// Where playbooks are.
    pub playbook_dir: PathBuf,
    /// What the machine may do of its own accord, at most.
    pub ceiling: Mode,
    /// How readily the coach speaks up.
    pub sensitivity: Sensitivity,
    /// What is done for people's ears.
    pub ears: Ears,
}

/// Recording.
#[derive(Clone, Copy, Debug)]
pub struct Recording {
    /// Whether calls are recorded (`<store>/recordings/<tenant>/<call>.wav`, or `.opus`).
    pub enabled: bool,
    /// As what.
    pub format: Format,
    /// Bits a second for each channel of Opus.
    pub bitrate: u32,
    /// Whether each customer and agent is recorded alone too.
    pub legs: bool,
}

impl Default for Recording {
    fn default() -> Self {
        Recording { enabled: true, format: Format::Wav, bitrate: 16_000, legs: false }
    }
}

/// What a recording is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 16-bit samples: exact, and read by everything.
    Wav,
    /// Opus in Ogg (RFC 7845): a sixth of the size, at the default bitrate and 8 kHz.
    Opus,
}

/// A peer that is trusted, and what it may do.
#[derive(Clone, Debug, Default)]
pub struct Trunk {
    /// Its name.
    pub name: String,
    /// Networks it may send from; none: any, where it is known by something else.
    pub sources: Vec<Network>,
    /// Names of which its TLS certificate must carry one; none: it needs no certificate.
    pub tls_names: Vec<String>,
    /// What it must prove by digest (RFC 3261 §22).
    pub credentials: Option<Credentials>,
    /// How.
    pub digests: Digests,
    /// What we prove to it when it asks.
    pub login: Option<Credentials>,
    /// Numbers it may call, each a whole match.
    pub may_call: Vec<Regex>,
    /// Numbers that may be called over it through the API, each a whole match. None: all.
    pub may_be_called: Option<Vec<Regex>>,
    /// Whether only those modes are offered on it that the hearing probe proved.
    pub proven_only: bool,
    /// Whether its callers may supervise.
    pub may_supervise: bool,
    /// Numbers at which its agents are: who takes an agent's place there, other than by a route, is one. Each a whole match.
    pub agents: Vec<Regex>,
    /// Calls of it at once. None: as many as there are.
    pub max_calls: Option<usize>,
    /// Whether media with it is protected, whoever calls whom.
    pub srtp: Srtp,
    /// Through whom it is called; none: as `[sip]` says.
    pub outbound_proxy: Option<Proxy>,
    /// Who is who in what it has recorded here.
    pub siprec: Siprec,
}

/// Which supervisors may hear which agents, and what else they may do there.
#[derive(Clone, Debug)]
pub struct Supervise {
    /// Matches the whole of their identity: the user part, or `user@host`. None: everyone's.
    pub supervisor: Option<Regex>,
    /// The trunk they come by. None: any that may supervise.
    pub trunk: Option<String>,
    /// Each matches the whole of the user part of an agent's address; those of teams are among them.
    pub agents: Vec<Regex>,
    /// Whether every agent is meant, whatever `agents` says.
    pub everyone: bool,
    /// What is allowed beyond hearing.
    pub may: May,
    /// Only where the customer has agreed.
    pub consent: bool,
    /// How long they may wait for the next call of an agent who has none. None: not at all.
    pub wait: Option<Duration>,
}

impl Config {
    /// Reads the file at `path`, what it names, and the overrides in `env` (see [`std::env::vars`]).
    pub fn load(path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigErrors> {
        let faults = Faults::default();
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let what = format!("the configuration cannot be read ({error})");
            let remedy = "create it, or name another with --config FILE".into();
            ConfigErrors(vec![ConfigError { at: Origin::whole(&shown), what, remedy }])
        })?;
        let mut root = raw::parse(&shown, &text, &faults);
        environment::apply(&mut root, env, &faults);
        let config = Config::read(Section::new("", root, &faults), path, &faults);
        faults.settle(config)
    }

    fn read(mut root: Section<'_>, path: &Path, faults: &Faults) -> Config {
        let dir = path.parent().unwrap_or(Path::new(""));
        let store = check::store(root.section("store"), faults);
        let (coach, default_playbook) = check::coach(root.section("coach"), dir, faults);
        let playbooks = playbook::read_all(&coach.playbook_dir, &default_playbook, faults);
        let registrations = check::registrations(root.sections("register"), faults);
        let registered: Vec<_> = registrations.iter().map(|(_, r)| r.trunk.as_str()).collect();
        let trunks = check::trunks(root.sections("trunk"), &registered, faults);
        check::registrations_have_trunks(&registrations, &trunks, faults);
        let trunk_names: Vec<&str> = trunks.iter().map(|trunk| trunk.name.as_str()).collect();
        let teams = supervise::teams(root.sections("team"), faults);
        let supervise = supervise::rules(root.sections("supervise"), &teams, &trunk_names, faults);
        let names = dialplan::Names { playbooks: &playbooks.names, trunks: &trunk_names };
        let routes = routes(root.section("dialplan"), dir, &names, faults);
        let config = Config {
            sip: check::sip(root.section("sip"), faults),
            load: load::load(root.section("load")),
            media: check::media(root.section("media"), faults),
            http: check::http(root.section("http"), faults),
            speech: check::speech(root.section("speech"), &store, faults),
            recording: check::recording(root.section("recording"), faults),
            store,
            coach,
            routes,
            playbooks: playbooks.playbooks,
            supervise,
            trunks,
            registrations: registrations.into_iter().map(|(_, registration)| registration).collect(),
        };
        root.end();
        config
    }
}

/// The routes of every dialplan, in order.
fn routes(mut section: Section<'_>, dir: &Path, names: &dialplan::Names<'_>, faults: &Faults) -> Arc<[Route]> {
    let at = section.place("files");
    let default = || vec![Written { at, value: "dialplans/default.toml".into() }];
    let files = section.texts("files").unwrap_or_else(default);
    section.end();
    let mut routes = Vec::new();
    for file in files {
        let path = dialplan_place(&file.value, dir);
        match std::fs::read_to_string(&path) {
            Ok(text) => routes.extend(dialplan::read(&path, &text, names, faults)),
            Err(error) => {
                let what = format!("the dialplan {:?} cannot be read ({error})", file.value);
                faults.add(&file.at, what, "create it, or name another in dialplan.files");
            }
        }
    }
    dialplan::check_order(&routes, faults);
    routes.into_iter().map(|(_, route)| route).collect()
}

/// A dialplan is named from the working directory. Where it is not found there it is looked for beside the folder of
/// the configuration file, as `config/` and `dialplans/` stand side by side, then in that folder.
fn dialplan_place(file: &str, dir: &Path) -> PathBuf {
    let beside = dir.parent().unwrap_or(Path::new("")).join(file);
    let places = [PathBuf::from(file), beside, dir.join(file)];
    places.into_iter().find(|path| path.is_file()).unwrap_or_else(|| file.into())
}
