//! The UDP socket of a SIP stack: what comes is judged at the door before the stack sees it.

use crate::config::Transport;
use crate::io::hep::{Mirror, Path};
use crate::io::sip::cloakroom::Cloakroom;
use crate::io::sip::door::{Door, Origin, STACK_LIMIT, Verdict};
use crate::io::sip::threshold::Threshold;
use async_trait::async_trait;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::sync::Mutex;

/// The socket.
pub struct Datagrams {
    socket: UdpSocket,
    local: SocketAddr,
    buffer: Mutex<Vec<u8>>,
    door: Arc<Door>,
    bodies: Cloakroom,
    threshold: Threshold,
    copies: Mirror,
}

impl Datagrams {
    /// What comes to `socket`, bound to `local`, passes `door` and `threshold`. Long bodies go by way of `bodies`.
    pub fn new(
        socket: UdpSocket,
        local: SocketAddr,
        door: Arc<Door>,
        bodies: Cloakroom,
        threshold: Threshold,
        copies: Mirror,
    ) -> Self {
        Datagrams { socket, local, buffer: Mutex::new(vec![0; 65_536]), door, bodies, threshold, copies }
    }

    fn path_to(&self, to: SocketAddr) -> Path {
        Path { transport: Transport::Udp, from: self.local, to }
    }
}

#[async_trait]
impl rsipstack::platform::net::UdpSocket for Datagrams {
    async fn recv_from(&self, buf: &mut [u8]) -> rsipstack::Result<(usize, SocketAddr)> {
        let mut buffer = self.buffer.lock().await;
        loop {
            let (len, from) = self.socket.recv_from(&mut buffer).await?;
            let datagram = buffer.get(..len).unwrap_or_default();
            let verdict = self.door.judge(datagram, &Origin { address: from, certified: None });
            if !matches!(verdict, Verdict::Noise) {
                self.copies.copy(self.path_to(from).back(), datagram);
            }
            match verdict {
                Verdict::Drop | Verdict::Noise => {}
                Verdict::Answer(head, fault) => {
                    let (bytes, to) = self.door.response(&head, &fault, from);
                    self.copies.copy(self.path_to(to), &bytes);
                    // A datagram that cannot be sent is a datagram lost: the peer asks again.
                    let _ = self.socket.send_to(&bytes, to).await;
                }
                Verdict::Pass => {
                    // A keep-alive the stack answers at once.
                    if !datagram.iter().all(u8::is_ascii_whitespace) {
                        self.threshold.step_on().await;
                    }
                    let short = if len > STACK_LIMIT { self.bodies.take(datagram) } else { None };
                    let datagram = short.as_deref().unwrap_or(datagram);
                    if let Some(place) = buf.get_mut(..datagram.len()) {
                        place.copy_from_slice(datagram);
                        return Ok((datagram.len(), from));
                    }
                }
            }
        }
    }

    async fn send_to(&self, buf: &[u8], addr: SocketAddr) -> rsipstack::Result<usize> {
        self.copies.copy(self.path_to(addr), buf);
        Ok(self.socket.send_to(buf, addr).await?)
    }

    fn local_addr(&self) -> rsipstack::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }
}
