//! `sotto health`: asks the server that a configuration describes whether it is well. For container health checks.

use crate::config::{Config, ConfigErrors};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
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

/// A server that listens on every address is reached on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen {
        SocketAddr::V4(a) if a.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(a) if a.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        SocketAddr::V4(_) | SocketAddr::V6(_) => listen.ip(),
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_every_address_is_asked_on_loopback() {
        for (listen, asked) in [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.1.1.1:80", "10.1.1.1:80")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
