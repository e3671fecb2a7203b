//! Who a peer is: by the name in its certificate, by digest, by its address, or because we registered with it.

use crate::config::{Config, Credentials, Trunk};
use crate::io::clock;
use crate::io::sip::digest::{self, Algorithm, Asked, Claim};
use crate::io::sip::door::Origin;
use crate::io::sip::fault::Fault;
use crate::io::sip::nonces::{Nonces, Worth};
use crate::io::sip::strangers::{Strangers, Try};
use rsipstack::dialog::authenticate::Credential;
use rsipstack::sip::{Host, Uri};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// What is known of peers.
pub struct Trust {
    config: Arc<Config>,
    nonces: Nonces,
    strangers: Strangers,
    /// Where we are registered.
    pub registrations: Registrations,
}

/// Where we are registered, in the order of `[[register]]`: the addresses of the registrar, none while we are not.
#[derive(Clone)]
pub struct Registrations(Arc<[RwLock<Vec<IpAddr>>]>);

impl Registrations {
    fn new(count: usize) -> Self {
        Registrations((0..count).map(|_| RwLock::default()).collect())
    }

    /// How many there are, and how many of them hold.
    pub fn counts(&self) -> (usize, usize) {
        (self.0.len(), (0..self.0.len()).filter(|index| self.holds(*index)).count())
    }

    /// Whether one of them holds.
    pub fn holds(&self, index: usize) -> bool {
        self.0.get(index).is_some_and(|at| !at.read().unwrap_or_else(PoisonError::into_inner).is_empty())
    }

    /// One of them holds with a registrar of these addresses; with none it does not hold.
    pub fn set(&self, index: usize, addresses: Vec<IpAddr>) {
        if let Some(place) = self.0.get(index) {
            *place.write().unwrap_or_else(PoisonError::into_inner) = addresses;
        }
    }

    /// The first that holds with `ip`.
    fn with(&self, ip: IpAddr) -> Option<usize> {
        self.0.iter().position(|at| at.read().unwrap_or_else(PoisonError::into_inner).contains(&ip))
    }
}

/// Whether a claim is used up by being looked at: once a request, at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is.
    Spend,
    /// It was.
    Again,
}

impl Trust {
    /// Nonces hold for `life`.
    pub fn new(config: Arc<Config>, life: Duration) -> Self {
        let registrations = Registrations::new(config.registrations.len());
        Trust { config, nonces: Nonces::new(clock::secret(), life), strangers: Strangers::default(), registrations }
    }

    /// The trunk a request comes from, `shown` being what its Authorization headers hold; or what to answer.
    pub fn recognise(&self, origin: &Origin, asked: Asked<'_>, shown: &[&str], look: Look) -> Result<&Trunk, Fault> {
        let ip = origin.address.ip();
        let mut stale = false;
        for claim in shown.iter().filter_map(|value| Claim::read(value)).filter(|c| c.realm == digest::REALM) {
            match self.proven(origin, asked, &claim, look) {
                Proof::Of(trunk) => {
                    self.strangers.welcome(ip, clock::now());
                    return Ok(trunk);
                }
                Proof::Stale => stale = true,
                Proof::None => {}
            }
        }
        if let Some(trunk) = self.known(origin) {
            return Ok(trunk);
        }
        let refusal = self.refusal(origin, stale);
        if look == Look::Spend && !stale {
            // Who has shown nothing yet is only being asked: a telephone system asks anew for each of its calls.
            let asked = refusal.status == 401 && shown.is_empty();
            self.strangers.tried(ip, if asked { Try::Asked } else { Try::Wrong }, clock::now());
        }
        Err(refusal)
    }

    /// What to answer to who is not recognised: how to prove who they are, where they could be somebody.
    fn refusal(&self, origin: &Origin, stale: bool) -> Fault {
        let candidates: Vec<_> = self.candidates(origin).map(|trunk| trunk.digests).collect();
        if candidates.is_empty() {
            return Fault::new(403, "this address is no configured trunk");
        }
        let nonce = self.nonces.issue(wall_ms(), clock::random());
        // The better one first (RFC 8760 §2.4).
        let offered = [Algorithm::Sha256, Algorithm::Md5].into_iter();
        let offered = offered.filter(|algorithm| candidates.iter().any(|digests| algorithm.is_of(*digests)));
        let fault = Fault::new(401, "Unauthorized");
        offered.fold(fault, |f, algorithm| f.with("WWW-Authenticate", digest::challenge(algorithm, &nonce, stale)))
    }

    /// The trunks that prove themselves by digest and could be at `origin`.
    fn candidates(&self, origin: &Origin) -> impl Iterator<Item = &Trunk> {
        let trunks = self.config.trunks.iter().enumerate().filter(|(_, trunk)| trunk.credentials.is_some());
        trunks.filter(|(at, trunk)| may_be(trunk, *at, origin)).map(|(_, trunk)| trunk)
    }

    /// Whether a source has asked in vain so often that it gets no answers for a while.
    pub fn is_silenced(&self, origin: &Origin) -> bool {
        self.strangers.is_silenced(origin.address.ip(), clock::now()) && self.known(origin).is_none()
    }

    /// Whether a source is a trunk's without a proof, or has proven to be one lately.
    pub fn is_known(&self, origin: &Origin) -> bool {
        self.known(origin).is_some() || self.strangers.is_welcome(origin.address.ip(), clock::now())
    }

    /// Without a password: what a certificate proves comes before what an address does.
    fn known(&self, origin: &Origin) -> Option<&Trunk> {
        let trunks = &self.config.trunks;
        let open = |at: usize| trunks.get(at).filter(|t| t.credentials.is_none());
        let certified = origin.certified.and_then(open).filter(|t| t.sources.is_empty() || covers(t, origin));
        let by_address =
            || trunks.iter().find(|t| t.credentials.is_none() && t.tls_names.is_empty() && covers(t, origin));
        let registered = || {
            let at = self.registrations.with(origin.address.ip().to_canonical())?;
            let name = &self.config.registrations.get(at)?.trunk;
            trunks.iter().find(|t| t.name == *name)
        };
        certified.or_else(by_address).or_else(registered)
    }

    fn proven(&self, origin: &Origin, asked: Asked<'_>, claim: &Claim, look: Look) -> Proof<'_> {
        let proves = |c: &Credentials| c.user == claim.user && claim.proves(&c.password, asked);
        let is_it = |t: &&Trunk| claim.algorithm.is_of(t.digests) && t.credentials.as_ref().is_some_and(proves);
        let found = self.candidates(origin).find(is_it);
        let Some(trunk) = found else { return Proof::None };
        let now = wall_ms();
        match (self.nonces.worth(&claim.nonce, now), look) {
            (Worth::Fresh, Look::Again) => Proof::Of(trunk),
            (Worth::Fresh, Look::Spend) if self.nonces.spend(&claim.nonce, claim.count, now) => Proof::Of(trunk),
            // The password was right, the nonce is used up or not ours, or no longer: another one is all that it takes.
            (Worth::Fresh | Worth::Stale | Worth::Forged, _) => Proof::Stale,
        }
    }

    /// What we prove to whom we call at `target`, when they ask.
    pub fn login(&self, target: &Uri) -> Option<&Credentials> {
        let host = target.host().to_string();
        let is_there = |trunk: &&Trunk| match target.host() {
            Host::IpAddr(ip) => trunk.sources.iter().any(|n| n.contains(*ip)),
            Host::Domain(_) => trunk.tls_names.iter().any(|name| name.eq_ignore_ascii_case(&host)),
        };
        let of_trunk = self.config.trunks.iter().filter(is_there).find_map(|trunk| trunk.login.as_ref());
        let registrar = |text: &String| {
            Uri::try_from(text.as_str()).is_ok_and(|uri| uri.host().to_string().eq_ignore_ascii_case(&host))
        };
        let registrations = || self.config.registrations.iter().find(|r| r.registrars.iter().any(registrar));
        of_trunk.or_else(|| registrations().map(|registration| &registration.login))
    }
}

/// A login as the stack proves it to whoever challenges an INVITE.
pub fn for_stack(login: &Credentials) -> Credential {
    let (username, password) = (login.user.clone(), login.password.reveal().to_owned());
    Credential { username, password, ..Credential::default() }
}

/// What a claim came to.
enum Proof<'a> {
    /// It is that trunk.
    Of(&'a Trunk),
    /// The password is right, the nonce is not.
    Stale,
    /// Nothing.
    None,
}

fn covers(trunk: &Trunk, origin: &Origin) -> bool {
    trunk.sources.iter().any(|n| n.contains(origin.address.ip()))
}

/// Whether a trunk could be at `origin`, apart from its password.
fn may_be(trunk: &Trunk, at: usize, origin: &Origin) -> bool {
    let there = trunk.sources.is_empty() || covers(trunk, origin);
    there && (trunk.tls_names.is_empty() || origin.certified == Some(at))
}

fn wall_ms() -> u64 {
    clock::wall().as_millis() as u64
}
