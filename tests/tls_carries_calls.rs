//! Calls inside TLS: whose certificate counts, that it is read again when it changes, and that no call is lost by that.

#[path = "peers/sipp/mod.rs"]
mod sipp;
mod wire;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sipp::{House, Plan};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use wire::{PATIENCE, Wire};

/// An authority, and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Shown {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn signs(&self, names: &[&str]) -> Shown {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.iter().map(|n| n.to_string()).collect::<Vec<_>>()).unwrap();
        Shown { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

impl Shown {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
    /// Into the files that the server reads.
    fn write(&self, folder: &Path) {
        std::fs::write(folder.join("certificate.pem"), self.certificate.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), self.key.serialize_pem()).unwrap();
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(authority: &Authority, shown: &Shown) -> Self {
        let path = std::env::temp_dir().join(format!("sotto-tls-{:016x}", sotto::io::clock::random()));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("ca.pem"), authority.0.pem()).unwrap();
        shown.write(&path);
        Folder(path)
    }

    /// What `[sip] listen` lists, and the keys behind it. The list of the test's frame is closed and opened around them.
    fn listen(&self, mutual: bool) -> String {
        let file = |name: &str| self.0.join(name).display().to_string();
        let client = if mutual { format!("tls_client_ca = \"{}\"\n", file("ca.pem")) } else { String::new() };
        format!(
            "\"tls://127.0.0.1:0\"]\ntls_certificate = \"{}\"\ntls_key = \"{}\"\ntls_server_ca = \"{}\"\n{client}#",
            file("certificate.pem"),
            file("key.pem"),
            file("ca.pem")
        )
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A connection to the server under the name it is asked for; with a certificate or without.
async fn connect(to: SocketAddr, authority: &Authority, name: &str, shown: Option<&Shown>) -> std::io::Result<Wire> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(authority.roots());
    let config = match shown {
        Some(shown) => config.with_client_auth_cert(shown.chain(), shown.key()).unwrap(),
        None => config.with_no_client_auth(),
    };
    let stream = TcpStream::connect(to).await?;
    let here = stream.local_addr()?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(Wire::inside(Box::new(stream), here, to, "TLS"))
}

/// Who calls a server of TLS, and whom it calls, over it; each proves to the other who it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_parties_inside_tls() {
    let authority = Authority::new();
    let folder = Folder::new(&authority, &authority.signs(&["127.0.0.1", "sotto.example"]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let routes = format!(
        "[[route]]\nsteps = [ {{connect = {{to = \"sip:agent@{};transport=tls\"}}}} ]\n",
        listener.local_addr().unwrap()
    );
    let house = House::open(Plan { routes: &routes, listen: &folder.listen(false), ..Plan::default() }).await;
    let mut customer = connect(house.sip, &authority, "sotto.example", None).await.unwrap();
    customer.send(&customer.invite("100")).await;
    let mut agent = serve(&listener, &authority.signs(&["127.0.0.1"])).await.expect("the server connects");
    let called = agent.next().await;
    assert!(called.header("Via").unwrap().starts_with("SIP/2.0/TLS 127.0.0.1:"), "{called:?}");
    assert!(called.header("Contact").unwrap().ends_with(";transport=TLS>"), "{called:?}");
    agent.accept(&called).await;
    assert_eq!(agent.next().await.method(), "ACK");
    let answer = customer.next().await;
    customer.send(&customer.request("ACK", "100", 1, answer.to_tag(), "", "")).await;
    let bye = customer.request("BYE", "100", 2, answer.to_tag(), "", "");
    assert_eq!(customer.ask(&bye).await.status(), 200);
    let bye = agent.next().await;
    assert_eq!(bye.method(), "BYE");
    agent.accept(&bye).await;
    house.is_quiet().await;
    house.close().await;
}

async fn serve(listener: &TcpListener, shown: &Shown) -> std::io::Result<Wire> {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(shown.chain(), shown.key()).unwrap();
    let (stream, there) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("nobody connected")?;
    let here = stream.local_addr()?;
    let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
    Ok(Wire::inside(Box::new(stream), here, there, "TLS"))
}

/// Whom we call must be who the target says: another name, or another authority, gets nothing of the call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_called_must_have_the_right_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = Folder::new(&authority, &authority.signs(&["127.0.0.1"]));
    for wrong in [authority.signs(&["elsewhere.example"]), other.signs(&["127.0.0.1"])] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let routes = format!(
            "[[route]]\nsteps = [ {{connect = {{to = \"sip:agent@{};transport=tls\"}}}} ]\n",
            listener.local_addr().unwrap()
        );
        let house = House::open(Plan { routes: &routes, listen: &folder.listen(false), ..Plan::default() }).await;
        let mut customer = connect(house.sip, &authority, "127.0.0.1", None).await.unwrap();
        customer.send(&customer.invite("100")).await;
        let heard = match serve(&listener, &wrong).await {
            Ok(mut agent) => agent.came().await,
            Err(_) => None,
        };
        assert!(heard.is_none(), "{heard:?}");
        assert_eq!(customer.next().await.status(), 502);
        house.is_quiet().await;
        house.close().await;
    }
}

/// A trunk that is known by the name in its certificate: that name, of our authority, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_is_known_by_the_name_in_its_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = Folder::new(&authority, &authority.signs(&["127.0.0.1"]));
    let trunk = "[[trunk]]\nname = \"carrier\"\ntls_names = [\"sbc.carrier.example\"]\nmay_call = [\"100\"]\n";
    let house = House::open(Plan { trunk, listen: &folder.listen(true), ..Plan::default() }).await;
    for (shown, number, status) in [
        (authority.signs(&["sbc.carrier.example"]), "100", 404),
        (authority.signs(&["sbc.carrier.example"]), "900", 403),
        (authority.signs(&["*.carrier.example"]), "100", 404),
        (authority.signs(&["elsewhere.example"]), "100", 403),
    ] {
        let mut peer = connect(house.sip, &authority, "127.0.0.1", Some(&shown)).await.unwrap();
        let answer = peer.call(number).await;
        assert_eq!(answer.status(), status, "{number} {answer:?}");
    }
    for shown in [Some(other.signs(&["sbc.carrier.example"])), None] {
        // TLS 1.3 lets a client believe that it is through before its certificate was looked at.
        let refused = match connect(house.sip, &authority, "127.0.0.1", shown.as_ref()).await {
            Ok(mut peer) => peer.is_closed().await,
            Err(_) => true,
        };
        assert!(refused);
    }
    house.is_quiet().await;
    house.close().await;
}

/// New files are taken up without losing a call; bad ones leave the old in force.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_read_again_and_calls_go_on() {
    let authority = Authority::new();
    let folder = Folder::new(&authority, &authority.signs(&["first.example"]));
    let routes = "[[route]]\nsteps = [ {answer = {}}, {connect = {to = \"sip:nobody@127.0.0.1:9;transport=tls\", timeout = 60}} ]\n";
    let agent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let routes = routes.replace("127.0.0.1:9", &agent.local_addr().unwrap().to_string());
    let house = House::open(Plan { routes: &routes, listen: &folder.listen(false), ..Plan::default() }).await;
    let mut caller = connect(house.sip, &authority, "first.example", None).await.unwrap();
    let answer = caller.call("100").await;
    assert_eq!(answer.status(), 200);
    let mut agent = serve(&agent, &authority.signs(&["127.0.0.1"])).await.unwrap();
    let called = agent.next().await;
    agent.accept(&called).await;
    std::fs::write(folder.0.join("certificate.pem"), "no certificate at all").unwrap();
    authority.signs(&["second.example"]).write(&folder.0);
    let taken_up = async {
        while connect(house.sip, &authority, "second.example", None).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken_up).await.expect("the new certificate is taken up");
    assert!(connect(house.sip, &authority, "first.example", None).await.is_err());
    std::fs::write(folder.0.join("certificate.pem"), "no certificate at all").unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(connect(house.sip, &authority, "second.example", None).await.is_ok());
    let bye = caller.request("BYE", "100", 2, answer.to_tag(), "", "");
    assert_eq!(caller.ask(&bye).await.status(), 200);
    assert_eq!(agent.next().await.method(), "ACK");
    let bye = agent.next().await;
    assert_eq!(bye.method(), "BYE");
    agent.accept(&bye).await;
    house.is_quiet().await;
    house.close().await;
}

/// A connection that never begins its TLS is closed, and so is one that speaks something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_speak_tls_is_not_heard() {
    let authority = Authority::new();
    let folder = Folder::new(&authority, &authority.signs(&["127.0.0.1"]));
    let house = House::open(Plan { listen: &folder.listen(false), ..Plan::default() }).await;
    let mut silent = Wire::tcp(house.sip).await;
    let mut plain = Wire::tcp(house.sip).await;
    let invite = plain.invite("100");
    plain.send(&invite).await;
    assert!(plain.is_closed().await);
    assert!(silent.is_closed().await);
    let mut proper = connect(house.sip, &authority, "127.0.0.1", None).await.unwrap();
    let options = proper.request("OPTIONS", "100", 1, "", "", "");
    assert_eq!(proper.ask(&options).await.status(), 200);
    house.close().await;
}
