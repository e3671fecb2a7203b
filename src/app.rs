//! Builds the edges and owns the order of their start and end.
//!
//! Started from the inside out, so that nobody asks for what is not there yet: store, ears and voice, media, SIP, API.
//! Ended from the outside in, so that nothing already said is lost: SIP (everyone is told), conversations (the last
//! words), media, recordings, journal, API.

use crate::config::{Config, Secret};
use crate::id::Tenant;
use crate::io::calls::Calls;
use crate::io::conversation::{Conversations, Engines, Setting};
use crate::io::hep::Mirror;
use crate::io::journal::Journal;
use crate::io::load::Load;
use crate::io::metrics::Metrics;
use crate::io::recorder::Recorder;
use crate::io::shard::{Shard, Sinks};
use crate::io::sip::{Host, Registry, SipServer};
use crate::io::stt::{self, Recogniser};
use crate::io::tts::Synthesiser;
use crate::io::web::{AppState, Readiness};
use crate::io::{clock, web};
use anyhow::{Context, bail};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long parties may take to be told that the server goes, conversations to get their last words, and the disk to take
/// the last recordings.
const GOODBYE: Duration = Duration::from_secs(5);

/// A running server.
pub struct App {
    sip: SipServer,
    http: SocketAddr,
    journal: Journal,
    journal_task: JoinHandle<()>,
    recorder: Recorder,
    recorder_thread: std::thread::JoinHandle<()>,
    shards: Vec<Shard>,
    conversations: Option<Conversations>,
    readiness: Arc<Readiness>,
    web: JoinHandle<()>,
    stop: CancellationToken,
    drain: Duration,
}

impl App {
    /// Starts everything, or says what could not be started and why.
    pub async fn start(config: Config) -> anyhow::Result<App> {
        let config = Arc::new(config);
        let tenant = Tenant::default();
        let metrics = Arc::new(Metrics::new(&tenant));
        let readiness = Arc::new(Readiness::default());
        let store = &config.store.dir;
        let (journal, journal_task) = Journal::start(store, tenant.clone(), metrics.clone())
            .await
            .with_context(|| format!("the journal in {} cannot be opened", store.display()))?;
        let (recorder, recorder_thread) =
            Recorder::start_with(config.recording, store, tenant.clone(), journal.clone(), metrics.clone())
                .context("no recorder")?;
        let token = token(&config)?;
        let drain = config.load.drain;

        let synthesiser = Synthesiser::new(&config.speech.voice)?;
        let recogniser = ears(&config, &readiness).await?;
        let registry = Registry::default();
        let conversations = recogniser
            .map(|recogniser| {
                let (synthesiser, registry, journal) = (synthesiser.clone(), registry.clone(), journal.clone());
                let (playbooks, coach) = (config.playbooks.clone(), config.coach.clone());
                let setting = Setting { playbooks, coach, metrics: metrics.clone(), workers: None };
                let engines = Engines { recogniser, synthesiser, registry, journal };
                Conversations::start(setting, Arc::new(engines), &Handle::current())
            })
            .transpose()
            .context("a listening thread could not be started")?;

        let sinks = Sinks {
            journal: journal.clone(),
            conversations: conversations.clone(),
            recorder: recorder.clone(),
            metrics: metrics.clone(),
        };
        let media = &config.media;
        let shards = (0..media.shards)
            .map(|number| Shard::start(number, media.shards, media.io, sinks.clone()))
            .collect::<Result<Vec<_>, _>>()
            .context("a media thread could not be started")?;

        let (mirror, copies) = Mirror::open(config.sip.hep.as_ref(), metrics.clone());
        // Ends with the last way to it.
        copies.map(tokio::spawn);
        let host = Host {
            shards: shards.clone(),
            conversations: conversations.clone(),
            synthesiser: synthesiser.clone(),
            journal: journal.clone(),
            registry: registry.clone(),
            load: Load::new(metrics.clone()),
            mirror,
        };
        let listener = TcpListener::bind(config.http.listen)
            .await
            .with_context(|| format!("[http] listen: {} cannot be bound", config.http.listen))?;
        let http = listener.local_addr()?;
        let sip = SipServer::start(config.clone(), host).await?;
        readiness.set_sip(true);
        readiness.set_registrations(sip.registrations());

        let stop = CancellationToken::new();
        let state = AppState {
            calls: Calls::new(registry, synthesiser, conversations.clone()),
            journal: journal.clone(),
            store: store.clone(),
            tenant,
            token,
            metrics,
            readiness: readiness.clone(),
            shutdown: stop.clone(),
        };
        let web = tokio::spawn(web::serve(listener, state));
        Ok(App {
            sip,
            http,
            journal,
            journal_task,
            recorder,
            recorder_thread,
            shards,
            conversations,
            readiness,
            web,
            stop,
            drain,
        })
    }

    /// The first address of `[sip] listen`, as bound.
    pub fn sip_addr(&self) -> SocketAddr {
        // `SipServer::start` refuses a configuration without addresses.
        self.sip.local_addresses()[0]
    }

    /// Where the API listens.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// The journal, to follow what happens.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// The longest that [`App::drain`] and [`App::shutdown`] take together: five things are waited for at the end.
    pub fn patience(&self) -> Duration {
        self.drain.saturating_add(GOODBYE.saturating_mul(5))
    }

    /// Takes no further calls, tells registrars so, and waits until those that run have ended, for as long as
    /// `[load] drain` says. Answers how many have not. The API goes on.
    pub async fn drain(&self) -> usize {
        self.sip.drain(self.drain).await
    }

    /// Hangs up everyone, waits for last words, completes recordings, commits the journal.
    pub async fn shutdown(self) {
        self.readiness.set_sip(false);
        self.sip.shutdown(GOODBYE).await;
        if let Some(conversations) = &self.conversations {
            let given_up = conversations.shutdown(GOODBYE).await;
            if given_up > 0 {
                tracing::warn!(given_up, "conversations were ended before their last words were there");
            }
        }
        for shard in &self.shards {
            shard.stop().await;
        }
        self.recorder.close();
        complete(self.recorder_thread).await;
        if let Err(error) = self.journal.flush().await {
            tracing::error!(%error, "the journal's last events may be missing");
        }
        self.stop.cancel();
        if self.web.await.is_err() {
            tracing::error!("the API failed");
        }
        // The commit task ends when the last way into the journal is dropped; what it had is committed above.
        self.journal_task.abort();
    }
}

/// Waits until the recorder has completed its files, but not for ever: a disk that hangs must not keep the server.
async fn complete(recorder: std::thread::JoinHandle<()>) {
    let given_up = clock::now() + GOODBYE;
    while !recorder.is_finished() && clock::now() < given_up {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if !recorder.is_finished() {
        tracing::error!("the disk does not take the last recordings: they may lack their end");
    } else if recorder.join().is_err() {
        tracing::error!("the recorder failed: the last recordings may lack their end");
    }
}

/// The recognisers, or none where there is no model.
async fn ears(config: &Config, readiness: &Readiness) -> anyhow::Result<Option<Recogniser>> {
    let Some(model) = &config.speech.model else {
        if let Some(missing) = &config.speech.model_missing {
            tracing::warn!("there is no speech model {} at {}", config.speech.model_name, missing.display());
        }
        tracing::warn!("{}", stt::NO_EARS);
        return Ok(None);
    };
    let recogniser = Recogniser::start(config.speech.workers, model).await?;
    readiness.set_recogniser(recogniser.clone());
    Ok(Some(recogniser))
}

/// The configured token, or the one in `<store>/token`, which is made where there is none.
fn token(config: &Config) -> anyhow::Result<Secret> {
    if let Some(token) = &config.http.token {
        return Ok(token.clone());
    }
    let path = config.store.dir.join("token");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().len() >= 16 => Ok(Secret::new(text.trim().to_owned())),
        Ok(_) => bail!("{} holds no token: remove it, and a new one is made", path.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_token(&path),
        Err(error) => Err(error).with_context(|| format!("the token {} cannot be read", path.display())),
    }
}

fn make_token(path: &Path) -> anyhow::Result<Secret> {
    let token = format!("{:016x}{:016x}", clock::random(), clock::random());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("the token {} cannot be made", path.display()))?;
    writeln!(file, "{token}")?;
    tracing::info!("a token for the API was made: it is in {}", path.display());
    Ok(Secret::new(token))
}
