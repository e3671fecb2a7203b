//! `sotto health`: asks the server that a configuration describes whether it is well. For container health checks.

use crate::cli::client::reachable;
use crate::config::{Config, ConfigErrors};
use std::path::Path;
use std::time::Duration;

/// A healthy server answers far sooner.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why the server is not known to be well.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The configuration.
    #[error("the configuration cannot be used:\n{0}")]
    Config(#[from] ConfigErrors),
    /// It does not answer, or not that it is well.
    #[error("{0}")]
    Server(#[from] reqwest::Error),
}

/// Asks `/healthz`.
pub async fn health(config: &Path) -> Result<(), HealthError> {
    let config = Config::load(config, std::env::vars())?;
    let url = format!("http://{}/healthz", reachable(config.http.listen));
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
    client.get(url).send().await?.error_for_status()?;
    Ok(())
}
