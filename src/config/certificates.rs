//! The files of TLS, read: what we show to peers, and whom we believe.
//!
//! Read when the configuration is checked, so that a wrong file is told with its line, and again whenever they change.

use super::Tls;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is no PEM, or not what is needed.
    #[error("{}: {what}", .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The files do not go together.
    #[error("tls_certificate and tls_key cannot be used: {0}")]
    Use(String),
}

impl Tls {
    /// What to serve and to make connections with.
    pub fn read(&self) -> Result<(ServerConfig, ClientConfig), TlsError> {
        let wrong = |error: tokio_rustls::rustls::Error| TlsError::Use(error.to_string());
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| unusable(&self.key, e))?;
        let server = ServerConfig::builder_with_provider(provider.clone());
        let server = server.with_safe_default_protocol_versions().map_err(wrong)?;
        let server = match &self.client_ca {
            None => server.with_no_client_auth(),
            Some(file) => {
                let roots = Arc::new(roots(file)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
                server.with_client_cert_verifier(verifier.map_err(|e| unusable(file, e))?)
            }
        };
        let server = server.with_single_cert(chain.clone(), key.clone_key()).map_err(wrong)?;
        let client = ClientConfig::builder_with_provider(provider);
        let client = client.with_safe_default_protocol_versions().map_err(wrong)?;
        let client = client.with_root_certificates(roots(&self.server_ca)?);
        let client = client.with_client_auth_cert(chain, key).map_err(wrong)?;
        Ok((server, client))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(unusable(file, "there is no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(file, error)),
    }
}

/// The authorities in a file; those that nobody can read are left out, as there are always some among many.
fn roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(file)?);
    if added == 0 { Err(unusable(file, "there is no authority in it")) } else { Ok(roots) }
}

fn unusable(file: &Path, what: impl ToString) -> TlsError {
    TlsError::File { file: file.into(), what: what.to_string() }
}
