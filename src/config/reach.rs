//! How peers are reached, and how they reach us: `[sip] outbound_proxy`, `nameservers`, `local_networks`, `ws_origins`.

use super::fault::Faults;
use super::raw::{Section, Written};
use super::{Network, check};
use rsipstack::sip::{Scheme, Uri};
use std::net::{IpAddr, SocketAddr};

/// The part of `[sip]` that says so.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Through whom all that we call is called (RFC 3261 §8.1.2); a trunk may have its own. None: straight.
    pub outbound_proxy: Option<Proxy>,
    /// Who is asked for names; none: whom the system asks.
    pub nameservers: Vec<SocketAddr>,
    /// Peers here reach us by the address that we listen on, whatever `external_address` says.
    pub local_networks: Vec<Network>,
    /// Pages whose scripts may connect by WebSocket, as browsers name them (`https://desk.example`), or `*`.
    pub origins: Vec<String>,
}

/// A proxy, by its SIP URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy(pub Uri);

/// Reads it.
pub(super) fn reach(section: &mut Section<'_>, faults: &Faults) -> Reach {
    let outbound_proxy = proxy(section, "sip.outbound_proxy", faults);
    let nameservers = section.texts("nameservers").unwrap_or_default();
    let networks = section.texts("local_networks").unwrap_or_default();
    let origins = section.texts("ws_origins").unwrap_or_default();
    Reach {
        outbound_proxy,
        nameservers: nameservers.iter().filter_map(|written| nameserver(written, faults)).collect(),
        local_networks: networks.iter().filter_map(|w| check::network("sip.local_networks", w, faults)).collect(),
        origins: origins.into_iter().filter_map(|written| page(written, faults)).collect(),
    }
}

/// `outbound_proxy` of a section.
pub(super) fn proxy(section: &mut Section<'_>, name: &str, faults: &Faults) -> Option<Proxy> {
    let written = section.text("outbound_proxy")?;
    let uri = Uri::try_from(written.value.as_str()).ok();
    let is_sip = |uri: &Uri| matches!(uri.scheme, Some(Scheme::Sip | Scheme::Sips));
    let plain = !written.value.contains([' ', '<', '>', '?', '"']);
    let found = uri.filter(|uri| plain && is_sip(uri) && uri.auth.is_none());
    if found.is_none() {
        let remedy = "write sip:HOST, as \"sip:proxy.example\" or \"sip:192.0.2.9:5061;transport=tls\"";
        faults.add(&written.at, format!("{name} is {:?}", written.value), remedy);
    }
    found.map(Proxy)
}

/// An address, with a port where it is not 53.
fn nameserver(written: &Written<String>, faults: &Faults) -> Option<SocketAddr> {
    let with_port = written.value.parse::<SocketAddr>().ok();
    let found = with_port.or_else(|| Some(SocketAddr::new(written.value.parse::<IpAddr>().ok()?, 53)));
    if found.is_none() {
        let what = format!("sip.nameservers has {:?}", written.value);
        faults.add(&written.at, what, "write an address, as \"192.0.2.53\" or \"127.0.0.1:5353\"");
    }
    found
}

/// `scheme://host` without a path, as browsers send it.
fn page(written: Written<String>, faults: &Faults) -> Option<String> {
    let is_origin =
        |text: &str| text.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'));
    if written.value == "*" || is_origin(&written.value) {
        return Some(written.value);
    }
    let what = format!("sip.ws_origins has {:?}", written.value);
    faults.add(&written.at, what, "write what browsers send, as \"https://desk.example\", or \"*\" for every page");
    None
}
