//! Where a SIP URI leads (RFC 3263): an address as it stands, a name by NAPTR, SRV and addresses.
//!
//! In comes a URI with the transports that we speak; out come places, the first to be tried first. What a name server says
//! is a stranger's word: no more of it is followed than a call has patience for.

use crate::config::Transport;
use crate::io::clock;
use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use rsipstack::sip::uri::ParamsExt;
use rsipstack::sip::{Host, HostWithPort, Scheme, Uri};
use rsipstack::transport::SipAddr;
use rsipstack::transport::transport_layer::DomainResolver;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Places of one URI; who has more has them for others.
const MOST: usize = 16;
/// How long one name server may take, and how often each is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

/// One place that a URI leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// How messages travel there.
    pub transport: Transport,
    /// Where to.
    pub address: SocketAddr,
}

/// Asks name servers.
#[derive(Clone)]
pub struct Resolver(Option<TokioResolver>);

/// One line of a SRV answer (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    priority: u16,
    weight: u16,
    port: u16,
    host: String,
}

impl Resolver {
    /// Asks `servers`, or where there are none whom the system asks.
    pub fn new(servers: &[SocketAddr]) -> Self {
        let mut builder = match servers {
            [] => match TokioResolver::builder_tokio() {
                Ok(builder) => builder,
                Err(error) => {
                    tracing::warn!(%error, "the system names no name servers: only addresses can be called");
                    return Resolver(None);
                }
            },
            named => TokioResolver::builder_with_config(asked(named), TokioRuntimeProvider::default()),
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        (options.timeout, options.attempts) = (PATIENCE, ATTEMPTS);
        // What a name server says holds as long as it says; what it does not know it is asked again soon.
        options.negative_max_ttl = Some(Duration::from_secs(5));
        builder.build().map_or_else(
            |error| {
                tracing::warn!(%error, "name servers cannot be asked: only addresses can be called");
                Resolver(None)
            },
            |resolver| Resolver(Some(resolver)),
        )
    }

    /// The places of `target` that can be reached by the transports that are `spoken`, of which the first is the one that
    /// comes first where nothing else decides.
    pub async fn hops(&self, target: &Uri, spoken: &[Transport]) -> Vec<Hop> {
        let (named, secure) = (transport(target), target.scheme == Some(Scheme::Sips));
        let speaks = |t: Transport| spoken.contains(&t) && (t.is_secure() || !secure);
        let usual = usual(spoken, secure);
        let port = target.host_with_port.port.map(|port| port.value());
        let domain = match target.host() {
            Host::IpAddr(ip) => {
                let transport = named.or(usual).filter(|t| speaks(*t));
                let hop = |t: Transport| Hop { transport: t, address: SocketAddr::new(*ip, port.unwrap_or(t.port())) };
                return transport.map(hop).into_iter().collect();
            }
            Host::Domain(domain) => domain.to_string(),
        };
        // RFC 5626 §4.2, RFC 7118 §8: an address that is none.
        if domain == "invalid" || domain.ends_with(".invalid") {
            return Vec::new();
        }
        let mut hops = Vec::new();
        if port.is_none() && named.is_none() {
            hops = self.by_naptr(&domain, &speaks).await;
        }
        let candidates = [Transport::Udp, Transport::Tcp, Transport::Tls];
        if port.is_none() && hops.is_empty() {
            for transport in candidates.into_iter().filter(|t| speaks(*t) && named.is_none_or(|n| n == *t)) {
                hops.extend(self.by_service(&format!("{}.{domain}", service(transport)), transport).await);
            }
        }
        if hops.is_empty()
            && let Some(transport) = named.or(usual).filter(|t| speaks(*t))
        {
            let port = port.unwrap_or(transport.port());
            let hop = |ip| Hop { transport, address: SocketAddr::new(ip, port) };
            hops = self.addresses(&domain).await.into_iter().map(hop).collect();
        }
        hops.truncate(MOST);
        hops
    }

    /// RFC 3263 §4.1: what the domain wants to be called by.
    async fn by_naptr(&self, domain: &str, speaks: &impl Fn(Transport) -> bool) -> Vec<Hop> {
        let mut offered: Vec<_> = self
            .lookup(domain, RecordType::NAPTR)
            .await
            .into_iter()
            .filter_map(|data| match data {
                RData::NAPTR(found) if found.flags.eq_ignore_ascii_case(b"s") && found.regexp.is_empty() => {
                    let transport = by_name(&found.services).filter(|t| speaks(*t))?;
                    Some((found.order, found.preference, found.replacement.to_string(), transport))
                }
                _ => None,
            })
            .collect();
        offered.sort_by_key(|(order, preference, ..)| (*order, *preference));
        let mut hops = Vec::new();
        for (_, _, name, transport) in offered.into_iter().take(MOST) {
            hops.extend(self.by_service(&name, transport).await);
        }
        hops
    }

    /// RFC 2782.
    async fn by_service(&self, name: &str, transport: Transport) -> Vec<Hop> {
        let services = self.lookup(name, RecordType::SRV).await.into_iter().filter_map(|data| match data {
            RData::SRV(found) => Some(Service {
                priority: found.priority,
                weight: found.weight,
                port: found.port,
                host: found.target.to_string(),
            }),
            _ => None,
        });
        let mut hops = Vec::new();
        // A lone dot says that the service is not there.
        let there = services.filter(|service| service.host != ".").collect();
        for Service { host, port, .. } in in_order(there, clock::random).into_iter().take(MOST) {
            let found = self.addresses(&host).await;
            hops.extend(found.into_iter().map(|ip| Hop { transport, address: SocketAddr::new(ip, port) }));
        }
        hops
    }

    async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let Some(resolver) = &self.0 else { return Vec::new() };
        match resolver.lookup_ip(host).await {
            Ok(found) => found.iter().collect(),
            Err(error) => {
                tracing::debug!(%host, %error, "a name has no address");
                Vec::new()
            }
        }
    }

    async fn lookup(&self, name: &str, kind: RecordType) -> Vec<RData> {
        let Some(resolver) = &self.0 else { return Vec::new() };
        match resolver.lookup(name, kind).await {
            Ok(found) => found.answers().iter().map(|record| record.data.clone()).collect(),
            Err(error) => {
                tracing::debug!(%name, %kind, %error, "a name server knows nothing");
                Vec::new()
            }
        }
    }
}

fn asked(servers: &[SocketAddr]) -> ResolverConfig {
    let mut config = ResolverConfig::default();
    for server in servers {
        let mut asked = NameServerConfig::udp_and_tcp(server.ip());
        asked.connections.iter_mut().for_each(|connection| connection.port = server.port());
        config.add_name_server(asked);
    }
    config
}

/// The transport that a URI names. `sips:` over `tcp` is TLS (RFC 3261 §26.2.2), and so with WebSockets.
fn transport(target: &Uri) -> Option<Transport> {
    use rsipstack::sip::Transport as Named;
    let secure = target.scheme == Some(Scheme::Sips);
    match target.transport()? {
        Named::Udp => Some(Transport::Udp),
        Named::Tcp if secure => Some(Transport::Tls),
        Named::Tcp => Some(Transport::Tcp),
        Named::Tls => Some(Transport::Tls),
        Named::Ws if secure => Some(Transport::Wss),
        Named::Ws => Some(Transport::Ws),
        Named::Wss => Some(Transport::Wss),
        Named::Sctp | Named::TlsSctp => None,
    }
}

/// What is meant where a URI names no transport: UDP, or as the caller's side does (RFC 3263 §4.1).
fn usual(spoken: &[Transport], secure: bool) -> Option<Transport> {
    match secure {
        true => spoken.iter().find(|t| **t == Transport::Tls),
        false => spoken.iter().find(|t| **t == Transport::Udp).or(spoken.first()),
    }
    .copied()
}

/// Where RFC 3263 §4.1 has the services of a transport.
fn service(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
        Transport::Ws => "_sip._ws",
        Transport::Wss => "_sips._ws",
    }
}

/// The service field of a NAPTR record.
fn by_name(services: &[u8]) -> Option<Transport> {
    let is = |name: &&(&str, Transport)| services.eq_ignore_ascii_case(name.0.as_bytes());
    const NAMES: [(&str, Transport); 5] = [
        ("SIP+D2U", Transport::Udp),
        ("SIP+D2T", Transport::Tcp),
        ("SIPS+D2T", Transport::Tls),
        ("SIP+D2W", Transport::Ws),
        ("SIPS+D2W", Transport::Wss),
    ];
    NAMES.iter().find(is).map(|(_, transport)| *transport)
}

/// By priority, and among equals by weight and chance (RFC 2782).
fn in_order(mut services: Vec<Service>, mut chance: impl FnMut() -> u64) -> Vec<Service> {
    let mut ordered = Vec::with_capacity(services.len());
    // Who has no weight comes first, so that it has a small chance too.
    services.sort_by_key(|service| (service.priority, service.weight));
    while let Some(first) = services.first() {
        let priority = first.priority;
        let equal = || services.iter().take_while(|service| service.priority == priority);
        let sum: u64 = equal().map(|service| u64::from(service.weight)).sum();
        let drawn = chance() % sum.saturating_add(1);
        let mut running = 0_u64;
        let reached = equal().position(|service| {
            running = running.saturating_add(service.weight.into());
            running >= drawn
        });
        ordered.push(services.remove(reached.unwrap_or(0)));
    }
    ordered
}

/// For what the stack below sends by itself, as the ACK to a 2xx: the first place that one transport reaches.
pub struct Names {
    /// Asks.
    pub resolver: Arc<Resolver>,
    /// The only transport.
    pub transport: Transport,
    /// Whether by IPv4.
    pub ipv4: bool,
}

#[async_trait]
impl DomainResolver for Names {
    async fn resolve(&self, target: &SipAddr) -> rsipstack::Result<SipAddr> {
        let uri = Uri { scheme: Some(Scheme::Sip), host_with_port: target.addr.clone(), ..Uri::default() };
        let hops = self.resolver.hops(&uri, &[self.transport]).await;
        let hop = hops.into_iter().find(|hop| hop.address.is_ipv4() == self.ipv4);
        let addr = hop.map(|hop| HostWithPort::from(hop.address));
        let addr = addr.ok_or_else(|| rsipstack::Error::DnsResolutionError(target.addr.to_string()))?;
        Ok(SipAddr { r#type: target.r#type, addr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, port: u16) -> Service {
        Service { priority, weight, port, host: "a".into() }
    }

    #[test]
    fn priorities_come_in_order_and_weights_by_chance() {
        let all = vec![service(20, 0, 4), service(10, 30, 2), service(10, 70, 3), service(5, 0, 1)];
        let mut firsts = [0_u32; 2];
        for seed in 0..1_000_u64 {
            // Every remainder comes about as often.
            let ports: Vec<u16> = in_order(all.clone(), || seed * 7).into_iter().map(|s| s.port).collect();
            assert_eq!((ports[0], ports[3]), (1, 4));
            firsts[usize::from(ports[1] - 2)] += 1;
        }
        assert!((250..350).contains(&firsts[0]), "{firsts:?}");
        let idle = in_order(vec![service(1, 0, 1), service(1, 0, 2)], || 9);
        assert_eq!(idle.len(), 2);
    }

    #[tokio::test]
    async fn an_address_is_taken_as_it_stands() {
        use Transport::{Tcp, Tls, Udp, Ws, Wss};
        let resolver = Resolver(None);
        for (uri, spoken, found) in [
            ("sip:192.0.2.1", &[Tcp, Udp][..], Some((Udp, "192.0.2.1:5060"))),
            ("sip:192.0.2.1", &[Tcp], Some((Tcp, "192.0.2.1:5060"))),
            ("sip:192.0.2.1;transport=tls", &[Udp, Tls], Some((Tls, "192.0.2.1:5061"))),
            ("sip:192.0.2.1:9;transport=tls", &[Udp], None),
            ("sips:192.0.2.1", &[Udp, Tls], Some((Tls, "192.0.2.1:5061"))),
            ("sips:192.0.2.1;transport=tcp", &[Udp, Tls], Some((Tls, "192.0.2.1:5061"))),
            ("sips:192.0.2.1", &[Udp], None),
            ("sips:192.0.2.1;transport=udp", &[Udp, Tls], None),
            ("sip:[2001:db8::1];transport=ws", &[Udp, Ws], Some((Ws, "[2001:db8::1]:80"))),
            ("sips:192.0.2.1;transport=ws", &[Ws, Wss], Some((Wss, "192.0.2.1:443"))),
            ("sip:x.invalid;transport=ws", &[Ws], None),
        ] {
            let hops = resolver.hops(&Uri::try_from(uri).unwrap(), spoken).await;
            let wanted = found.map(|(transport, address)| Hop { transport, address: address.parse().unwrap() });
            assert_eq!(hops, wanted.into_iter().collect::<Vec<_>>(), "{uri}");
        }
    }
}
