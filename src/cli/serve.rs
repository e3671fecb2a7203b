//! `sotto serve`: the server, from its configuration to SIGTERM.

use crate::app::App;
use crate::cli::supervised;
use crate::config::{Config, ConfigErrors};
use std::io;
use std::path::Path;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error("the configuration cannot be used:\n{0}")]
    Config(#[from] ConfigErrors),
    /// A part of the server did not start.
    #[error("{0:#}")]
    Start(anyhow::Error),
    /// Signals cannot be waited for.
    #[error("signals cannot be waited for: {0}")]
    Signals(#[from] io::Error),
}

/// Says `ready sip=… http=…` on standard output once calls are taken. Runs until SIGTERM or SIGINT: then no further calls are
/// taken, and those that run may end by themselves for as long as `[load] drain` says. After that, or at a second signal,
/// everyone is hung up on and everything committed. A third ends the process at once.
pub async fn serve(config: &Path) -> Result<(), ServeError> {
    let config = Config::load(config, std::env::vars())?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let app = App::start(config).await.map_err(ServeError::Start)?;
    // For whoever started it, a script perhaps with port 0: the one line on standard output.
    println!("ready sip={} http={}", app.sip_addr(), app.http_addr());
    supervised::ready();
    either(&mut terminate, &mut interrupt).await;
    supervised::stopping(app.patience());
    tracing::info!(
        "stopping: no further calls are taken; those that run may end, until [load] drain has passed or another signal comes"
    );
    tokio::select! {
        left = app.drain() => if left > 0 { tracing::warn!(calls = left, "calls have not ended in time") },
        () = either(&mut terminate, &mut interrupt) => tracing::warn!("calls are not waited for"),
    }
    tracing::info!("stopping: calls are hung up, last words and recordings are completed");
    tokio::select! {
        () = app.shutdown() => {}
        () = either(&mut terminate, &mut interrupt) => tracing::warn!("ended before the calls were"),
    }
    Ok(())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
