//! The ways to whom we call: through the outbound proxy or straight, one for each place that the name leads to.

use crate::config::{Credentials, Proxy, Transport};
use crate::io::sip::exchange::Steered;
use crate::io::sip::flow::sip_address;
use crate::io::sip::office::Office;
use crate::io::sip::resolve::Hop;
use crate::io::sip::switchboard::Switchboard;
use rsipstack::sip::typed::Route;
use rsipstack::sip::{Param, Scheme, Uri};
use rsipstack::transport::{SipAddr, SipConnection};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// One way.
#[derive(Clone)]
pub struct Way {
    /// Whose stack it begins at.
    pub office: Arc<Office>,
    /// Its first stop.
    hop: Hop,
    /// The name of that, which its certificate must carry.
    host: String,
    proxy: Option<Proxy>,
}

/// What a way needs while a request goes by it.
pub struct Lead {
    /// Where a datagram goes.
    pub destination: Option<SipAddr>,
    /// The connection, where there are any.
    pub connection: Option<SipConnection>,
    _steered: Option<Steered>,
}

impl Way {
    /// The ways to `target`, the best first; of equals one that begins `near`.
    pub async fn all(board: &Switchboard, near: &Arc<Office>, target: &Uri) -> Vec<Way> {
        let proxy = board.proxy_for(target).cloned();
        let first = proxy.as_ref().map_or(target, |proxy| &proxy.0);
        let offices = || [near].into_iter().chain(board.offices());
        let spoken: Vec<Transport> = offices().map(|office| office.transport).collect();
        let host = first.host().to_string();
        let hops = board.resolver.hops(first, &spoken).await;
        let way = |hop: Hop| {
            let able = |o: &&Arc<Office>| o.transport == hop.transport && o.local.is_ipv4() == hop.address.is_ipv4();
            Some(Way { office: offices().find(able)?.clone(), hop, host: host.clone(), proxy: proxy.clone() })
        };
        hops.into_iter().filter_map(way).collect()
    }

    /// Who is met first.
    pub fn peer(&self) -> IpAddr {
        self.hop.address.ip()
    }

    /// What a first request carries, that it goes this way (RFC 3261 §8.1.2).
    pub fn routes(&self) -> Vec<Route> {
        self.proxy.iter().map(|proxy| Route::from(loose(proxy.0.clone()))).collect()
    }

    /// What we prove on it: to whom we call, or to the proxy.
    pub fn login(&self, board: &Switchboard, target: &Uri) -> Option<Credentials> {
        let to_proxy = || self.proxy.as_ref().and_then(|proxy| board.trust.login(&proxy.0));
        board.trust.login(target).or_else(to_proxy).cloned()
    }

    /// Our Contact to `target` on it: `sips` for `sips` (RFC 3261 §8.1.1.8).
    pub fn contact(&self, target: &Uri) -> Uri {
        let scheme = if target.scheme == Some(Scheme::Sips) { Scheme::Sips } else { Scheme::Sip };
        Uri { scheme: Some(scheme), ..self.office.contact_for(self.peer()) }
    }

    /// Opens it for requests of this Call-ID.
    pub async fn open(&self, call_id: &str) -> io::Result<Lead> {
        let Some(exchange) = self.office.exchange() else {
            let destination = Some(sip_address(self.hop.transport, self.hop.address));
            return Ok(Lead { destination, connection: None, _steered: None });
        };
        let flow = exchange.reach(self.hop.address, &self.host).await?;
        let connection = flow.connection();
        let steered = exchange.steer(call_id, connection.clone());
        Ok(Lead { destination: None, connection: Some(connection), _steered: Some(steered) })
    }
}

/// RFC 3261 §16.12: without `lr` a proxy would take the place of whom we call.
fn loose(mut uri: Uri) -> Uri {
    if !uri.params.iter().any(|param| matches!(param, Param::Lr)) {
        uri.params.push(Param::Lr);
    }
    uri
}
