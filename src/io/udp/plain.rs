//! The portable way: epoll, and one call to the kernel for each datagram. Safe code only.
//!
//! Level-triggered, so that one successful read needs no second one to find the socket empty.

use super::{Arrived, DATAGRAM, Key, Sockets, Waker};
use crate::io::clock;
use rustix::event::{Timespec, epoll};
use slab::Slab;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// What epoll calls the waker.
const WAKER: u64 = u64::MAX;
/// Sockets looked at in one turn; the rest has the next.
const TURN: usize = 1024;

/// Sockets behind epoll.
pub(super) struct Plain {
    epoll: OwnedFd,
    waker: Waker,
    sockets: Slab<UdpSocket>,
    ready: Vec<epoll::Event>,
    /// The next of `ready` to be read.
    next: usize,
    unsent: u64,
}

impl Plain {
    pub fn new() -> io::Result<Plain> {
        let (epoll, waker) = (epoll::create(epoll::CreateFlags::CLOEXEC)?, Waker::new()?);
        epoll::add(&epoll, &*waker.0, epoll::EventData::new_u64(WAKER), epoll::EventFlags::IN)?;
        let (sockets, ready) = (Slab::new(), Vec::with_capacity(TURN));
        Ok(Plain { epoll, waker, sockets, ready, next: 0, unsent: 0 })
    }
}

impl Sockets for Plain {
    fn add(&mut self, socket: UdpSocket) -> io::Result<Key> {
        let entry = self.sockets.vacant_entry();
        let key = entry.key();
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(key as u64), epoll::EventFlags::IN)?;
        entry.insert(socket);
        Ok(key)
    }

    fn remove(&mut self, key: Key) {
        if let Some(socket) = self.sockets.try_remove(key) {
            // Closing would do; a descriptor that somebody duplicated would not.
            let _ = epoll::delete(&self.epoll, &socket);
        }
    }

    fn take(&mut self, key: Key) -> Option<UdpSocket> {
        let socket = self.sockets.try_remove(key)?;
        epoll::delete(&self.epoll, &socket).ok()?;
        Some(socket)
    }

    fn send(&mut self, key: Key, to: SocketAddr, bytes: &[u8]) {
        let Some(socket) = self.sockets.get(key) else { return };
        if socket.send_to(bytes, to).is_err() {
            self.unsent += 1;
        }
    }

    fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        // No pace is kept here: sleeping is a call and a switch of its own, and was measured to cost more than it gathers.
        // Rounded up to whole milliseconds where the kernel knows nothing finer: a tick does not mind.
        let timeout = until.map(|at| at.saturating_duration_since(clock::now()));
        let timeout = timeout.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: i64::from(t.subsec_nanos()) });
        self.ready.clear();
        self.next = 0;
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.ready), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn next(&mut self, buffer: &mut [u8; DATAGRAM]) -> Option<Arrived> {
        while let Some(event) = self.ready.get(self.next) {
            self.next += 1;
            let key = event.data.u64();
            if key == WAKER {
                self.waker.clear();
                continue;
            }
            let key = key as Key;
            let Some(socket) = self.sockets.get(key) else { continue };
            match socket.recv_from(buffer) {
                Ok((length, from)) => return Some(Arrived { key, from, length }),
                // An ICMP error of an earlier send is reported once and cleared (udp(7)): the next turn reads on.
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => {}
            }
        }
        None
    }

    fn unsent(&mut self) -> u64 {
        std::mem::take(&mut self.unsent)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn name(&self) -> &'static str {
        "plain"
    }
}
