//! The door to the kernel for datagrams: all the sockets of one media thread, read and written together.
//!
//! In go sockets and datagrams to send; out come datagrams received, one at a time, and the word that there is something
//! to do. Two ways, chosen at the start, that differ in nothing but their cost: `plain`, safe and portable, one call to
//! the kernel for every datagram; and `ring`, one call for all that is sent and received in a turn.
//! `docs/performance.md` has what each costs. Knows nothing of RTP: what must be done to every datagram between the wire
//! and the calls (SRTP) belongs to whoever calls `next` and `send`.

mod plain;
mod ring;

use crate::config::Way;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

/// The largest datagram looked at: an Ethernet MTU. What is longer is no audio we negotiated and is cut by the kernel.
pub const DATAGRAM: usize = 1500;

/// One of the sockets. Used again after `remove`.
pub type Key = usize;

/// A datagram that lies in the buffer given to `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// At which socket.
    pub key: Key,
    /// From whom.
    pub from: SocketAddr,
    /// How many bytes; never more than [`DATAGRAM`].
    pub length: usize,
}

/// All the sockets of one thread.
pub trait Sockets {
    /// Watches a non-blocking socket. Fails where the kernel has no room for it (the environment).
    fn add(&mut self, socket: UdpSocket) -> io::Result<Key>;

    /// Watches it no longer, and closes it.
    fn remove(&mut self, key: Key);

    /// Watches it no longer, and gives it back, unless the machine is out of descriptors.
    fn take(&mut self, key: Key) -> Option<UdpSocket>;

    /// Sends a datagram now, or with all others at the next `wait`. One that the kernel does not take is lost, as on
    /// any network, and counted by `unsent`.
    fn send(&mut self, key: Key, to: SocketAddr, bytes: &[u8]);

    /// Waits until there is a datagram or the waker was heard, until `until` at most. Fails only if we are at fault.
    fn wait(&mut self, until: Option<Instant>) -> io::Result<()>;

    /// The next datagram that came; `None` once there is reason to `wait` again. No socket is ever read to the
    /// detriment of the others: a flood on one port fills its own queue in the kernel and is dropped there.
    fn next(&mut self, buffer: &mut [u8; DATAGRAM]) -> Option<Arrived>;

    /// How many datagrams were lost in sending since this was last asked.
    fn unsent(&mut self) -> u64;

    /// What wakes the thread that waits.
    fn waker(&self) -> Waker;

    /// Its name, for the log.
    fn name(&self) -> &'static str;
}

/// Opens the way on the thread that is to use it.
pub fn open(way: Way) -> io::Result<Box<dyn Sockets>> {
    match way {
        Way::Plain => Ok(Box::new(plain::Plain::new()?)),
        Way::Ring => Ok(Box::new(ring::Ring::new()?)),
        Way::Auto => match ring::Ring::new() {
            Ok(ring) => Ok(Box::new(ring)),
            Err(error) => {
                tracing::info!(%error, "no io_uring as we need it: media uses one system call for each packet");
                open(Way::Plain)
            }
        },
    }
}

/// Wakes a thread that waits for datagrams. Safe from any thread; never blocks.
#[derive(Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    fn new() -> io::Result<Waker> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Waker(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Wakes it, now or when it next waits.
    pub fn wake(&self) {
        // Fails only when its counter is full: the thread has been woken then, more often than it can have missed.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    fn clear(&self) {
        let mut count = [0; 8];
        // Fails only where nobody has woken us.
        let _ = rustix::io::read(&*self.0, &mut count);
    }
}
