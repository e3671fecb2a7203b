//! Copies of every SIP message for a capture server, as Homer is one, in HEP3
//! (<https://github.com/sipcapture/HEP/blob/master/docs/HEP3Network_Specification_REV_36.pdf>).
//!
//! ```text
//! what came, what goes ─► masked ─► queue with a bound ─► packed ─► one datagram each
//! ```
//!
//! What is secret never leaves (`mask`). Signalling waits for nothing here: when the queue is full, or the server cannot
//! be reached, copies are dropped and counted.

mod mask;
mod pack;

use crate::config;
use crate::config::Transport;
use crate::io::clock;
use crate::io::metrics::Metrics;
use pack::Captured;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// Copies that wait to be sent, each of a few kilobytes: a second of some hundred set-ups. When it is full, copies are
/// dropped and counted.
const QUEUE: usize = 2_048;
/// How long an address of the server holds before its name is looked up anew.
const KNOWN: Duration = Duration::from_secs(60);

/// The way to the capture server; leads nowhere where there is none.
#[derive(Clone, Default)]
pub struct Mirror(Option<Inner>);

#[derive(Clone)]
struct Inner {
    queue: mpsc::Sender<Captured>,
    metrics: Arc<Metrics>,
}

/// Between whom a message travels.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// How.
    pub transport: Transport,
    /// Who sends it.
    pub from: SocketAddr,
    /// Who gets it.
    pub to: SocketAddr,
}

impl Path {
    /// The other way.
    pub fn back(self) -> Self {
        Path { from: self.to, to: self.from, ..self }
    }
}

impl Mirror {
    /// A way to the server that is configured, and the task that goes it, for the life of the server.
    pub fn open(
        config: Option<&config::Hep>,
        metrics: Arc<Metrics>,
    ) -> (Mirror, Option<impl Future<Output = ()> + use<>>) {
        let Some(config) = config.cloned() else { return (Mirror(None), None) };
        let (queue, copies) = mpsc::channel(QUEUE);
        let mirror = Mirror(Some(Inner { queue, metrics: metrics.clone() }));
        (mirror, Some(send(config, copies, metrics)))
    }

    /// A message came or goes. Keep-alives are none.
    pub fn copy(&self, path: Path, message: &[u8]) {
        let Some(inner) = &self.0 else { return };
        if message.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        // Nothing is copied that has no place.
        match inner.queue.try_reserve() {
            Ok(place) => {
                let mut message = message.to_vec();
                mask::mask(&mut message);
                place.send(Captured { path, at: clock::wall(), message });
            }
            Err(_) => drop(inner.metrics.hep.dropped.inc()),
        }
    }
}

async fn send(config: config::Hep, mut copies: mpsc::Receiver<Captured>, metrics: Arc<Metrics>) {
    let (mut way, mut looked_up) = (None, None);
    let mut failing = false;
    while let Some(captured) = copies.recv().await {
        let now = clock::now();
        if looked_up.is_none_or(|at| now.saturating_duration_since(at) > KNOWN) {
            looked_up = Some(now);
            way = reach(&config.server).await.or(way);
        }
        let packed = pack::pack(&captured, config.id, config.password.as_ref());
        let sent = match &way {
            Some(socket) => socket.send(&packed).await.is_ok(),
            None => false,
        };
        if sent {
            metrics.hep.sent.inc();
        } else {
            metrics.hep.dropped.inc();
        }
        if failing == sent {
            failing = !sent;
            let server = &config.server;
            match failing {
                true => tracing::warn!(%server, "the capture server of sip.hep cannot be reached"),
                false => tracing::info!(%server, "the capture server of sip.hep can be reached again"),
            }
        }
    }
}

/// A socket that is connected to the server, as it is known now.
async fn reach(server: &str) -> Option<UdpSocket> {
    for address in tokio::net::lookup_host(server).await.ok()? {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        if let Ok(socket) = UdpSocket::bind(any).await
            && socket.connect(address).await.is_ok()
        {
            return Some(socket);
        }
    }
    None
}
