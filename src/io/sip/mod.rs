//! SIP: dialogs with the parties of calls, and the routes that say what to do with them.
//!
//! ```text
//! datagrams, connections ─► door (sound? known? room?) ─► stack ─► desk ─┬─ new call ─► admission ─┬► controller ─► route ─► connect
//!                │                                          │                         ├► supervisor
//!                │                                          │                         └► recording (SIPREC)
//!                │                                          └─ in a call ─► in_dialog ─► controller, supervisor, recording
//!                └─► refusals, kept nowhere                                                  │
//!                                                                  commands to the call's shard
//! ```
//!
//! Of a dialog: `line` is one, from INVITE to BYE, and `ask` what we ask in it; `dial` calls one address, `early` is what is heard
//! before the answer, `reliable` what is sure to arrive of it; `renegotiate` takes and makes offers (holds), `timer` gives signs
//! of life, `silence` notices who has none, and `proof` asks who has become another.
//! Whom a supervisor may hear is `policy`; who waits for a call is in `waiting`; a dialog they name instead of a number is `named`; one whom we call is `summon`.
//! A party is transferred by `transfer`: `refer` is what was asked for, `place` where it leads and who answers there, `news` what
//! whoever asked is told; `join` makes one of two calls, and `replace` is somebody who calls to take a party's place.
//! Calls that nobody dialled here, conferences of others among them, are `outward`.
//!
//! Media never waits for anything here: a shard is told what the parties agreed on, and acknowledges before they hear
//! of it.

mod admission;
mod ask;
mod audio;
mod challenges;
mod cloakroom;
mod communication;
mod connect;
mod controller;
mod datagrams;
mod desk;
mod dial;
mod digest;
mod door;
mod early;
pub mod edge;
mod endings;
mod exchange;
mod fault;
mod flow;
mod fork;
mod frame;
mod in_dialog;
mod inspectors;
mod join;
mod line;
mod message;
mod named;
mod news;
mod nonces;
mod office;
mod outward;
mod place;
mod policy;
mod proof;
mod recording;
mod refer;
mod register;
pub mod registry;
mod reliable;
mod renegotiate;
mod replace;
mod resolve;
mod route;
mod seat;
mod silence;
mod sources;
mod stand_in;
mod strangers;
mod summon;
mod supervisor;
mod switchboard;
mod threshold;
mod timer;
mod tls;
mod transfer;
mod trust;
mod waiting;
mod way;
mod web;
mod whom;

pub use office::Timers;
pub use outward::{Conference, Order, Unbegun};
pub use registry::Registry;
pub use summon::Unsummoned;
pub use switchboard::Limits;
pub use trust::Registrations;

use crate::call::sdp::Srtp;
use crate::config::{Config, Listen, Step};
use crate::io::conversation::Conversations;
use crate::io::hep::Mirror;
use crate::io::journal::Journal;
use crate::io::load::Load;
use crate::io::shard::Shard;
use crate::io::tts::Synthesiser;
use office::Office;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use switchboard::Switchboard;
use tls::Certificates;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How we name ourselves to peers.
const USER_AGENT: &str = concat!("sotto/", env!("CARGO_PKG_VERSION"));

/// What the log filter must say about the SIP stack: below `warn` it writes whole messages, with numbers and
/// credentials, into the log. Its transport layer warns of each listener that it does not read itself.
pub const LOG_FILTER: &str = "rsipstack=warn,rsipstack::transport::transport_layer=error";

/// The rest of the house, as far as a call needs it.
#[derive(Clone)]
pub struct Host {
    /// The media threads, at least one.
    pub shards: Vec<Shard>,
    /// Where calls are listened to; none where there is neither recogniser nor coach.
    pub conversations: Option<Conversations>,
    /// The voice.
    pub synthesiser: Synthesiser,
    /// Tells when clips have ended.
    pub journal: Journal,
    /// Where calls are found by others.
    pub registry: Registry,
    /// Whether there is headroom for another call.
    pub load: Load,
    /// Where copies of messages go.
    pub mirror: Mirror,
}

impl Host {
    /// The shard for a new call: the one with the fewest.
    fn shard_for_next(&self) -> Shard {
        let least = self.shards.iter().min_by_key(|shard| shard.load());
        least.cloned().expect("SipServer::start checked: there is one")
    }
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address of `[sip] listen` cannot be bound.
    #[error("[sip] listen: {0} cannot be bound: {1}")]
    Bind(Listen, io::Error),
    /// The files of TLS are unusable.
    #[error("[sip] {0}")]
    Tls(#[from] crate::config::TlsError),
    /// There is nothing to listen on.
    #[error("[sip] listen names no address")]
    NoAddress,
    /// There is no media thread.
    #[error("[media] shards must be at least 1")]
    NoShard,
}

/// The SIP side of the server.
pub struct SipServer {
    board: Arc<Switchboard>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// Registrations, which are taken out before the rest stops.
    extensions: JoinSet<()>,
    leaving: CancellationToken,
}

impl SipServer {
    /// Binds every address and begins to serve.
    pub async fn start(config: Arc<Config>, host: Host) -> Result<SipServer, StartError> {
        let limits = Limits { calls: config.load.calls, ..Limits::default() };
        SipServer::start_with(config, host, limits, Timers::default()).await
    }

    /// The same with other limits and timers.
    pub async fn start_with(
        config: Arc<Config>,
        host: Host,
        limits: Limits,
        timers: Timers,
    ) -> Result<SipServer, StartError> {
        if host.shards.is_empty() {
            return Err(StartError::NoShard);
        }
        warn_of_readable_keys(&config);
        let listen = config.sip.listen.clone();
        let certificates = config.sip.tls.clone().map(|files| Certificates::read(files, &config.trunks)).transpose()?;
        let certificates = certificates.map(Arc::new);
        let journal = host.journal.subscribe();
        let board = Arc::new(Switchboard::new(config, host, limits, timers.nonce_life()));
        let watch = board.host.load.clone().watch(board.config.load, board.host.shards.clone());
        let (stop, mut tasks, mut offices) = (CancellationToken::new(), JoinSet::new(), Vec::new());
        for address in listen {
            let opened = Office::open(address, &board, certificates.clone(), timers, &stop.child_token()).await;
            let (office, endpoint, incoming) = opened.map_err(|e| StartError::Bind(address, e))?;
            tasks.spawn(desk::run(office.clone(), board.clone(), incoming));
            tasks.spawn(async move { endpoint.serve().await });
            offices.push(office);
        }
        if offices.is_empty() {
            return Err(StartError::NoAddress);
        }
        board.open(offices);
        board.host.registry.serve(Arc::downgrade(&board));
        tasks.extend(certificates.map(Certificates::watch));
        tasks.spawn(board.endings.clone().follow(journal));
        tasks.spawn(watch);
        let (leaving, mut extensions) = (CancellationToken::new(), JoinSet::new());
        for index in 0..board.config.registrations.len() {
            extensions.spawn(register::run(board.clone(), index, leaving.clone()));
        }
        Ok(SipServer { board, stop, tasks, extensions, leaving })
    }

    /// Where it listens, in the order of `[sip] listen`.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.board.offices().iter().map(|o| o.local).collect()
    }

    /// Calls whose controller is running.
    pub fn live(&self) -> usize {
        self.board.live()
    }

    /// SIP dialogs that the server or the stack below remembers.
    pub fn dialogs(&self) -> usize {
        self.board.offices().iter().map(|o| o.dialogs.len()).sum::<usize>().max(self.board.lines())
    }

    /// Where it is registered.
    pub fn registrations(&self) -> Registrations {
        self.board.trust.registrations.clone()
    }

    /// Connections that stand, made to us or by us.
    pub fn connections(&self) -> usize {
        self.board.offices().iter().map(|o| o.connections()).sum()
    }

    /// Calls that have not ended.
    pub fn calls(&self) -> usize {
        self.board.host.registry.len()
    }

    /// Takes no further calls, has nobody sent to us any more, and waits until those that run have ended, for `deadline` at
    /// most. Answers how many have not.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.board.close();
        self.leaving.cancel();
        let _ = tokio::time::timeout(deadline, self.board.idle()).await;
        self.live()
    }

    /// Takes no further calls, hangs up everyone, and waits until that is done, for `deadline` at most.
    pub async fn shutdown(mut self, deadline: Duration) {
        self.board.close();
        self.board.host.registry.stir();
        // Nobody shall be sent to us any more.
        self.leaving.cancel();
        for (_, entry) in self.board.host.registry.list() {
            entry.handle.hangup("the server is shutting down");
        }
        if tokio::time::timeout(deadline, self.board.idle()).await.is_err() {
            tracing::warn!(calls = self.live(), "not every party could be told");
        }
        let gone = async { while self.extensions.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, gone).await.is_err() {
            tracing::warn!("not every registrar could be told");
        }
        self.stop.cancel();
        self.tasks.shutdown().await;
    }
}

/// SRTP's keys are as secret as the SIP they travel in, and only TLS hides that. Who requires SRTP expects more.
fn warn_of_readable_keys(config: &Config) {
    const WHY: &str = "SRTP is required, but its keys travel in SIP over UDP or TCP, unencrypted: who can read the SIP \
                       can listen to the call. Use TLS, or keep the SIP inside a network you trust, or a tunnel";
    if config.sip.listen.iter().all(|listen| listen.transport.is_secure()) {
        return;
    }
    for trunk in config.trunks.iter().filter(|t| t.srtp == Srtp::Required) {
        tracing::warn!(trunk = %trunk.name, "{WHY}");
    }
    let required = |step: &Step| matches!(step, Step::Connect { srtp: Some(Srtp::Required), .. });
    for route in config.routes.iter().filter(|r| r.steps.iter().any(required)) {
        tracing::warn!(route = %route.at, "{WHY}");
    }
}
