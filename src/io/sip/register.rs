//! Being an extension of a telephone system (RFC 3261 §10): registered, kept so, moved to the next registrar when one
//! fails, and taken out at the end.

use crate::config::Registration;
use crate::io::clock;
use crate::io::sip::challenges;
use crate::io::sip::digest::Asked;
use crate::io::sip::message::{parameter, split_list};
use crate::io::sip::switchboard::Switchboard;
use crate::io::sip::way::{Lead, Way};
use rsipstack::sip::typed::{From, To};
use rsipstack::sip::{Auth, Header, HostWithPort, Method, Request, Response, Scheme, SipMessage, StatusCodeKind, Uri};
use rsipstack::transaction::Transaction;
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Times a REGISTER is sent anew with what its answer asked for: credentials, a fresher nonce, a longer time.
const ROUNDS: usize = 4;
/// How long the end may wait to be told.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a registrar would not have us.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it leads nowhere that a [sip] listen address can reach")]
    Office,
    #[error("it is no address")]
    Address,
    #[error("{0} {1}")]
    Status(u16, String),
    #[error("it asks for a proof that is not spoken here, or does not take ours")]
    Proof,
    #[error("it does not answer")]
    Silent,
    #[error("no connection to it could be made: {0}")]
    Connection(#[from] std::io::Error),
    #[error("{0}")]
    Stack(Box<rsipstack::Error>),
}

impl std::convert::From<rsipstack::Error> for Refused {
    fn from(error: rsipstack::Error) -> Self {
        Refused::Stack(Box::new(error))
    }
}

/// One registration: its Call-ID and sequence stay for its life (RFC 3261 §10.2).
struct Extension {
    board: Arc<Switchboard>,
    index: usize,
    what: Registration,
    call_id: String,
    tag: String,
    cseq: u32,
    /// The registrar in use.
    at: usize,
    /// What the registrar insists on, where that is longer than we asked for.
    expires: Duration,
}

/// Keeps the registration at `index` until `leaving`, then takes it out.
pub async fn run(board: Arc<Switchboard>, index: usize, leaving: CancellationToken) {
    let Some(what) = board.config.registrations.get(index).cloned() else { return };
    let id = || format!("{:016x}", clock::random());
    let (call_id, tag, expires) = (format!("{}@sotto", id()), id(), what.expires);
    let mut extension = Extension { board, index, what, call_id, tag, cseq: 0, at: 0, expires };
    let kept = leaving.run_until_cancelled(extension.keep()).await;
    debug_assert!(kept.is_none(), "it is kept until the end");
    extension.leave().await;
}

impl Extension {
    /// Registers, again and again.
    async fn keep(&mut self) {
        let mut failures = 0_u32;
        loop {
            let registrar = self.registrar();
            match self.register(&registrar, self.expires).await {
                Ok((granted, addresses)) => {
                    let held = self.holds();
                    self.board.trust.registrations.set(self.index, addresses);
                    if !held || failures > 0 {
                        tracing::info!(trunk = %self.what.trunk, %registrar, seconds = granted.as_secs(), "registered");
                    }
                    failures = 0;
                    // A fifth of the time is left for attempts here and elsewhere.
                    tokio::time::sleep(granted.mul_f32(0.8)).await;
                }
                Err(why) => {
                    tracing::warn!(trunk = %self.what.trunk, %registrar, %why, "not registered");
                    self.board.trust.registrations.set(self.index, Vec::new());
                    failures = failures.saturating_add(1);
                    self.at = self.at.saturating_add(1) % self.what.registrars.len().max(1);
                    if self.at == 0 {
                        tokio::time::sleep(self.pause(failures)).await;
                    }
                }
            }
        }
    }

    fn registrar(&self) -> String {
        self.what.registrars.get(self.at).cloned().unwrap_or_default()
    }

    fn holds(&self) -> bool {
        self.board.trust.registrations.holds(self.index)
    }

    /// Once every registrar has failed: 5 s, then longer each time, up to two minutes (RFC 5626 §4.5 has the shape).
    fn pause(&self, failures: u32) -> Duration {
        let t1 = self.board.offices().first().map_or(Duration::from_millis(500), |o| o.timers.t1);
        t1.saturating_mul(10).saturating_mul(1 << failures.min(5)).min(t1.saturating_mul(240))
    }

    /// Registers with one registrar, at the first of its places that has us: for how long, and what addresses it has.
    async fn register(&mut self, registrar: &str, expires: Duration) -> Result<(Duration, Vec<IpAddr>), Refused> {
        let registrar = Uri::try_from(registrar).map_err(|_| Refused::Address)?;
        let near = self.board.offices().first().ok_or(Refused::Office)?;
        let ways = Way::all(&self.board, near, &registrar).await;
        let addresses = ways.iter().map(|way| way.peer().to_canonical()).collect();
        let mut refused = Refused::Office;
        for way in ways {
            match self.register_at(&way, &registrar, expires).await {
                Ok(granted) => return Ok((granted, addresses)),
                // RFC 3263 §4.3.
                Err(why @ (Refused::Silent | Refused::Status(503, _) | Refused::Connection(_))) => refused = why,
                Err(why) => return Err(why),
            }
        }
        Err(refused)
    }

    async fn register_at(&mut self, way: &Way, registrar: &Uri, expires: Duration) -> Result<Duration, Refused> {
        let lead = way.open(&self.call_id).await?;
        let (mut proof, mut wanted, mut answered, mut old) = (None, expires, false, None);
        for _ in 0..ROUNDS {
            let contact = self.contact(way);
            let request = self.request(way, registrar, (&contact, old.as_ref()), wanted, proof.take())?;
            let response = send(way, &lead, request).await?;
            let moved = way.office.learn(way.peer(), &response);
            match response.status_code.code() {
                // It has us where nobody finds us: once more, as it sees us.
                200..300 if moved && old.is_none() && !expires.is_zero() => old = Some(contact),
                200..300 => return Ok(granted(&response, &contact, wanted)),
                status @ (401 | 407) => {
                    let challenge = challenges::asked(&response).ok_or(Refused::Proof)?;
                    if answered && !challenge.stale {
                        return Err(Refused::Proof);
                    }
                    answered = true;
                    let uri = registrar.to_string();
                    let asked = Asked { method: "REGISTER", uri: &uri };
                    let value = challenge.answer(&self.what.login, asked, &format!("{:016x}", clock::random()));
                    proof = Some(match status {
                        407 => Header::ProxyAuthorization(value.into()),
                        _ => Header::Authorization(value.into()),
                    });
                    continue;
                }
                423 => {
                    let least = seconds(other(&response, "Min-Expires")).filter(|least| *least > wanted);
                    wanted = least.ok_or(Refused::Status(423, "without a longer Min-Expires".into()))?;
                    self.expires = wanted;
                }
                status => return Err(Refused::Status(status, response.status_code.text().into())),
            }
            answered = false;
        }
        Err(Refused::Proof)
    }

    fn contact(&self, way: &Way) -> Uri {
        let user = self.what.login.user.clone();
        Uri { auth: Some(Auth { user, password: None }), ..way.office.contact_for(way.peer()) }
    }

    /// `contacts`: where we are, and where we were for this registrar before.
    fn request(
        &mut self,
        way: &Way,
        registrar: &Uri,
        (contact, old): (&Uri, Option<&Uri>),
        expires: Duration,
        proof: Option<Header>,
    ) -> Result<Request, Refused> {
        self.cseq = self.cseq.saturating_add(1);
        let own = Uri {
            scheme: Some(Scheme::Sip),
            auth: Some(Auth { user: self.what.login.user.clone(), password: None }),
            host_with_port: HostWithPort { host: registrar.host().clone(), port: None },
            ..Uri::default()
        };
        let from = From { display_name: None, uri: own.clone(), params: Vec::new() }.with_tag(self.tag.clone().into());
        let to = To { display_name: None, uri: own, params: Vec::new() };
        let endpoint = &way.office.endpoint;
        let via = endpoint.get_via(None, None)?;
        let call_id = Some(self.call_id.clone().into());
        let mut request = endpoint.make_request(Method::Register, registrar.clone(), via, from, to, self.cseq, call_id);
        request.headers.extend(way.routes().into_iter().map(|route| Header::Route(route.into())).collect());
        let seconds = expires.as_secs();
        request.headers.push(Header::Contact(format!("<{contact}>;expires={seconds}").into()));
        request
            .headers
            .extend(old.map(|old| Header::Contact(format!("<{old}>;expires=0").into())).into_iter().collect());
        request.headers.push(Header::Expires((seconds as u32).into()));
        request.headers.push(Header::Allow(crate::io::sip::door::ALLOW.into()));
        request.headers.extend(proof.into_iter().collect());
        Ok(request)
    }

    /// Takes the registration out, where there is one.
    async fn leave(&mut self) {
        if !self.holds() {
            return;
        }
        self.board.trust.registrations.set(self.index, Vec::new());
        let registrar = self.registrar();
        match tokio::time::timeout(FAREWELL, self.register(&registrar, Duration::ZERO)).await {
            Ok(Ok(_)) => tracing::info!(trunk = %self.what.trunk, %registrar, "unregistered"),
            Ok(Err(why)) => tracing::warn!(trunk = %self.what.trunk, %registrar, %why, "not unregistered"),
            Err(_) => tracing::warn!(trunk = %self.what.trunk, %registrar, "the registrar could not be told in time"),
        }
    }
}

async fn send(way: &Way, lead: &Lead, request: Request) -> Result<Response, Refused> {
    let key = TransactionKey::from_request(&request, TransactionRole::Client)?;
    let office = &way.office;
    let mut transaction = Transaction::new_client(key, request, office.endpoint.clone(), lead.connection.clone());
    transaction.destination = lead.destination.clone();
    transaction.send().await?;
    let answer = async {
        while let Some(message) = transaction.receive().await {
            if let SipMessage::Response(response) = message
                && response.status_code.kind() != StatusCodeKind::Provisional
            {
                return Some(response);
            }
        }
        None
    };
    let answer = tokio::time::timeout(office.timers.patience(), answer).await;
    answer.ok().flatten().ok_or(Refused::Silent)
}

/// For how long: what the registrar says of our Contact, else of all, else what we asked for.
fn granted(response: &Response, contact: &Uri, wanted: Duration) -> Duration {
    let ours = contact.host_with_port.to_string();
    let contacts = response.headers.iter().filter_map(|h| match h {
        Header::Contact(value) => Some(value.value()),
        _ => None,
    });
    let expires = response.headers.iter().find_map(|h| match h {
        Header::Expires(value) => Some(value.value()),
        _ => None,
    });
    let own = contacts.flat_map(split_list).filter(|c| c.contains(&ours)).find_map(|c| parameter(c, "expires"));
    // Nobody is kept busy by a registrar that grants next to nothing.
    seconds(own).or(seconds(expires)).unwrap_or(wanted).max(Duration::from_secs(1))
}

fn other<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.iter().find_map(|header| match header {
        Header::MinExpires(value) if name == "Min-Expires" => Some(value.value()),
        Header::Other(other, value) if other.eq_ignore_ascii_case(name) => Some(value.as_str()),
        _ => None,
    })
}

fn seconds(text: Option<&str>) -> Option<Duration> {
    text?.trim().parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()))
}
