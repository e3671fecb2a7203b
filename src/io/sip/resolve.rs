//! Where a SIP URI leads (RFC 3263): an address as it stands, a name by NAPTR, SRV and addresses.

use crate::config::Transport;
use crate::io::sip::flow::stack_transport;
use rsipstack::resolver::SipResolver;
use rsipstack::sip::{Host, Uri};
use std::net::SocketAddr;

/// The addresses of a URI over a transport, the first to be tried first.
pub async fn addresses(target: &Uri, transport: Transport) -> Vec<SocketAddr> {
    let secure = transport == Transport::Tls;
    let port = target.host_with_port.port;
    match target.host() {
        Host::IpAddr(ip) => {
            let default = if secure { 5061 } else { 5060 };
            vec![SocketAddr::new(*ip, port.map_or(default, |port| port.value()))]
        }
        Host::Domain(domain) => {
            // It reads the system's configuration, and is asked for once a connection or a registration.
            let found = SipResolver::default().lookup(domain, port, Some(stack_transport(transport)), secure).await;
            found.unwrap_or_default().into_iter().map(|found| found.addr).collect()
        }
    }
}
