//! TLS for SIP connections: our certificate, whom we believe, and whose certificate a peer showed.
//!
//! The files are read again when they change, or at once by SIGHUP. Connections that stand keep what they began with, so
//! no call is lost; files that cannot be used are told of, and the last good ones stay.

use crate::config::{self, TlsError, Trunk};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What connections are made with.
pub struct Certificates {
    files: config::Tls,
    /// The names of each trunk, in the order of `[[trunk]]`.
    names: Vec<Vec<ServerName<'static>>>,
    current: RwLock<Current>,
}

#[derive(Clone)]
struct Current {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

/// What tells that a file has changed.
type Stamps = Vec<Option<(SystemTime, u64)>>;

impl Certificates {
    /// Reads the files.
    pub fn read(files: config::Tls, trunks: &[Trunk]) -> Result<Self, TlsError> {
        let name = |name: &String| ServerName::try_from(name.clone()).ok();
        let names = trunks.iter().map(|trunk| trunk.tls_names.iter().filter_map(name).collect()).collect();
        let current = RwLock::new(Current::read(&files)?);
        Ok(Certificates { files, names, current })
    }

    /// Serves a connection that was made to us; with it, the trunk that its certificate names.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<usize>)> {
        let stream: TlsStream<_> = self.current().acceptor.accept(stream).await?.into();
        let trunk = self.trunk(&stream);
        Ok((stream, trunk))
    }

    /// Makes a connection to the one who is called `host`, an address or a name.
    pub async fn connect(&self, stream: TcpStream, host: &str) -> io::Result<(TlsStream<TcpStream>, Option<usize>)> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream: TlsStream<_> = self.current().connector.connect(name, stream).await?.into();
        let trunk = self.trunk(&stream);
        Ok((stream, trunk))
    }

    /// Whose certificate, which was verified, the peer showed.
    fn trunk(&self, stream: &TlsStream<TcpStream>) -> Option<usize> {
        let shown = stream.get_ref().1.peer_certificates()?.first()?;
        let shown = webpki::EndEntityCert::try_from(shown).ok()?;
        let carries = |name: &ServerName<'_>| shown.verify_is_valid_for_subject_name(name).is_ok();
        self.names.iter().position(|names| names.iter().any(carries))
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again whenever they change, and at SIGHUP.
    pub async fn watch(self: Arc<Self>) {
        let mut hangups = signal(SignalKind::hangup()).ok();
        let (mut seen, mut timer) = (self.stamps(), tokio::time::interval(LOOK));
        loop {
            let asked = async {
                match &mut hangups {
                    Some(hangups) => drop(hangups.recv().await),
                    None => std::future::pending().await,
                }
            };
            let told = tokio::select! {
                () = asked => true,
                _ = timer.tick() => false,
            };
            let stamps = self.stamps();
            if !told && stamps == seen {
                continue;
            }
            seen = stamps;
            match Current::read(&self.files) {
                Ok(fresh) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                    tracing::info!("the certificates were read again");
                }
                Err(error) => tracing::error!(%error, "the certificates cannot be used; the old ones stay"),
            }
        }
    }

    fn stamps(&self) -> Stamps {
        let files = [Some(&self.files.certificate), Some(&self.files.key), self.files.client_ca.as_ref()];
        let stamp = |file: &PathBuf| {
            let about = std::fs::metadata(file).ok()?;
            Some((about.modified().ok()?, about.len()))
        };
        files.into_iter().flatten().chain([&self.files.server_ca]).map(stamp).collect()
    }
}

impl Current {
    fn read(files: &config::Tls) -> Result<Self, TlsError> {
        let (server, client) = files.read()?;
        Ok(Current { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() })
    }
}
