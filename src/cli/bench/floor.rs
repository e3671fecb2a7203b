//! The floor: the least that relaying two-party calls costs a program that asks the kernel for every packet. One thread,
//! epoll, one receive and one send a packet, nothing else. Every figure of the server is a ratio to it, measured right
//! before, for milliseconds mean nothing on a machine that others use too.

use super::usage::Thread;
use rustix::event::epoll;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Sockets looked at in one turn.
const TURN: usize = 256;

/// A relay that runs.
pub struct Floor {
    /// The thread that does it.
    pub thread: Thread,
    /// Where it receives: two addresses a call, the first leg's and the second's.
    pub addresses: Vec<SocketAddr>,
    running: JoinHandle<()>,
}

impl Floor {
    /// Relays so many calls, between whoever sends to the two addresses of each.
    pub fn start(calls: usize) -> io::Result<Floor> {
        let relay = Relay::new(2 * calls)?;
        let addresses = relay.sockets.iter().map(UdpSocket::local_addr).collect::<io::Result<_>>()?;
        let (tell, told) = mpsc::sync_channel(1);
        let running = std::thread::Builder::new().name("floor".into()).spawn(move || {
            let _ = tell.send(Thread::own());
            relay.run();
        })?;
        let thread = told.recv().map_err(|_| io::Error::other("the floor died at its start"))?;
        Ok(Floor { thread, addresses, running })
    }

    /// Ends it.
    pub fn stop(self) -> io::Result<()> {
        if let Some(first) = self.addresses.first() {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.send_to(&[], first)?;
        }
        self.running.join().map_err(|_| io::Error::other("the floor failed"))
    }
}

struct Relay {
    epoll: OwnedFd,
    sockets: Vec<UdpSocket>,
    /// Who sent to each last.
    peers: Vec<Option<SocketAddr>>,
}

impl Relay {
    fn new(legs: usize) -> io::Result<Relay> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let sockets = (0..legs).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<Vec<_>>>()?;
        for (leg, socket) in sockets.iter().enumerate() {
            socket.set_nonblocking(true)?;
            epoll::add(&epoll, socket, epoll::EventData::new_u64(leg as u64), epoll::EventFlags::IN)?;
        }
        Ok(Relay { epoll, sockets, peers: vec![None; legs] })
    }

    /// Until an empty datagram comes.
    fn run(mut self) {
        let (mut ready, mut buffer) = (Vec::with_capacity(TURN), [0; 1500]);
        loop {
            ready.clear();
            let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), None);
            if waited.is_err_and(|e| e != rustix::io::Errno::INTR) {
                return;
            }
            for event in &ready {
                if self.pass(event.data.u64() as usize, &mut buffer) == Some(0) {
                    return;
                }
            }
        }
    }

    /// One datagram from a leg to the other of its call; answers how long it was.
    fn pass(&mut self, leg: usize, buffer: &mut [u8]) -> Option<usize> {
        let (length, from) = self.sockets.get(leg)?.recv_from(buffer).ok()?;
        *self.peers.get_mut(leg)? = Some(from);
        let other = leg ^ 1;
        if let (Some(socket), Some(Some(to))) = (self.sockets.get(other), self.peers.get(other)) {
            // What the kernel does not take is lost, as on any network; the far end counts it.
            let _ = socket.send_to(buffer.get(..length)?, to);
        }
        Some(length)
    }
}
