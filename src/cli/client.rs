//! A running server, through its API: where it is, the token, and what it answers.

use crate::config::{Config, ConfigErrors};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The slowest that is asked for is a voice.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which server, and who asks.
#[derive(clap::Args)]
pub struct Server {
    /// The API's address, as http://HOST:PORT; else that of the configuration.
    #[arg(long, env = "SOTTO_URL")]
    url: Option<String>,
    /// The API's token; else that of --token-file, of the configuration, or of the file `token` in its store.
    #[arg(long, env = "SOTTO_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file that holds it.
    #[arg(long, env = "SOTTO_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The server's configuration file.
    #[arg(long, default_value = "config/sotto.toml")]
    config: PathBuf,
}

/// Why a server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The configuration, where it is needed.
    #[error("the configuration cannot be used:\n{0}")]
    Config(#[from] ConfigErrors),
    /// There is no token.
    #[error("the token cannot be read from {0}: {1}")]
    Token(PathBuf, std::io::Error),
    /// It does not answer.
    #[error("the server does not answer: {0}")]
    Server(#[from] reqwest::Error),
    /// It refuses (RFC 9457).
    #[error("{0}")]
    Refused(String),
}

/// A way to a server.
pub struct Client {
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Client {
    /// Reads the configuration only where the options leave something open.
    pub fn new(server: &Server) -> Result<Client, ClientError> {
        let token = match (&server.token, &server.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(file)) => Some(read(file)?),
            (None, None) => None,
        };
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        if let (Some(url), Some(token)) = (&server.url, &token) {
            return Ok(Client { url: url.trim_end_matches('/').to_owned(), token: token.clone(), http });
        }
        let config = Config::load(&server.config, std::env::vars())?;
        let of_config = || match &config.http.token {
            Some(token) => Ok(token.reveal().to_owned()),
            None => read(&config.store.dir.join("token")),
        };
        let token = token.map_or_else(of_config, Ok)?;
        let url = server.url.clone().unwrap_or_else(|| format!("http://{}", reachable(config.http.listen)));
        Ok(Client { url: url.trim_end_matches('/').to_owned(), token, http })
    }

    /// A way to this address with this token.
    pub fn to(http: SocketAddr, token: String) -> Result<Client, ClientError> {
        let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        Ok(Client { url: format!("http://{http}"), token, http: client })
    }

    /// `GET`: the answer's JSON, or what the server says is wrong.
    pub async fn get(&self, path: &str) -> Result<serde_json::Value, ClientError> {
        self.ask(self.http.get(format!("{}{path}", self.url))).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Result<serde_json::Value, ClientError> {
        self.ask(self.http.post(format!("{}{path}", self.url)).json(body)).await
    }

    /// `PATCH` of JSON.
    pub async fn patch(&self, path: &str, body: &serde_json::Value) -> Result<serde_json::Value, ClientError> {
        self.ask(self.http.patch(format!("{}{path}", self.url)).json(body)).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Result<serde_json::Value, ClientError> {
        self.ask(self.http.delete(format!("{}{path}", self.url))).await
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<serde_json::Value, ClientError> {
        let answer = request.bearer_auth(&self.token).send().await?;
        let status = answer.status();
        let body = serde_json::from_slice(&answer.bytes().await?).unwrap_or(serde_json::Value::Null);
        if status.is_success() {
            return Ok(body);
        }
        let detail = body["detail"].as_str().map_or_else(|| format!("it answers {status}"), str::to_owned);
        Err(ClientError::Refused(detail))
    }
}

fn read(file: &std::path::Path) -> Result<String, ClientError> {
    let text = std::fs::read_to_string(file).map_err(|error| ClientError::Token(file.to_owned(), error))?;
    Ok(text.trim().to_owned())
}

/// A server that listens on every address is reached on loopback.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
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
