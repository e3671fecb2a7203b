//! The fast way: io_uring. Every socket has one receive that stays (multishot), which takes its buffers from a pool
//! given to the kernel; what is sent waits for the next turn, and a turn is one system call.
//!
//! Needs Linux 6.1, where completions wait until they are asked for. All memory the kernel may touch belongs to this
//! file and lives as long as the ring.
#![allow(unsafe_code)]

mod pool;

use super::{Arrived, DATAGRAM, Key, Sockets, Waker};
use crate::io::clock;
use io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use pool::Pool;
use rustix::process::{Resource, getrlimit};
use slab::Slab;
use socket2::SockAddr;
use std::io::{self, Error, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Instant;

/// Requests in one turn; a fuller turn is two system calls.
const REQUESTS: u32 = 1024;
/// Completions the kernel can put down before it has to keep them aside (which it does: none is lost).
const COMPLETIONS: u32 = 8192;
/// Datagrams that wait to be sent. When all are taken, what waits is handed over first.
const SENDS: usize = 512;
/// What waits to be sent goes when it is so much: nobody waits for the end of a long turn, and on loopback a receiver that
/// is awake need not be woken again for each (measured with 200 calls: a seventh less).
const AT_ONCE: usize = 8;
/// Sockets in the ring's own table, where the process may have so many: two for each leg.
const SOCKETS: u64 = 1 << 16;
/// Room for a sender's address.
const NAME: usize = size_of::<libc::sockaddr_in6>();

/// What a completion is about, in the top two bits of its number. Below: the socket's generation and its key.
const RECEIVED: u64 = 0;
const SENT: u64 = 1;
const WOKEN: u64 = 2;
const CANCELLED: u64 = 3;

/// Sockets behind a ring.
pub(super) struct Ring {
    // First, so that it is dropped first: the kernel lets go of everything below when the ring is closed.
    ring: IoUring,
    pool: Pool,
    sends: Box<[Outgoing]>,
    /// How many of `sends` were handed to the ring in this turn.
    sending: usize,
    /// A socket's key is its place in the ring's table, by which requests name it: the kernel need not look it up.
    sockets: Slab<Socket>,
    /// Sockets nobody asks for any more, perhaps still named by a request the kernel has not seen.
    closing: Vec<Key>,
    generation: u32,
    /// What a receive is told about names and control data; the kernel reads it when a receive begins.
    shape: Box<libc::msghdr>,
    waker: Waker,
    woken: Box<[u8; 8]>,
    unsent: u64,
}

struct Socket {
    socket: UdpSocket,
    generation: u32,
    closing: bool,
}

/// A datagram that waits to be sent.
struct Outgoing {
    to: SockAddr,
    bytes: [u8; DATAGRAM],
}

impl Ring {
    pub fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(COMPLETIONS).setup_submit_all();
        builder.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun();
        let ring = builder.build(REQUESTS).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => Error::new(ErrorKind::Unsupported, "the kernel is older than Linux 6.1"),
            _ => error,
        })?;
        // Saves the kernel a look at its table of files; it is well without.
        let _ = ring.submitter().register_ring_fd();
        let most = getrlimit(Resource::Nofile).current.unwrap_or(SOCKETS).min(SOCKETS);
        ring.submitter().register_files_sparse(most as u32)?;
        let pool = Pool::new(&ring)?;
        let nowhere = SockAddr::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let sends = (0..SENDS).map(|_| Outgoing { to: nowhere.clone(), bytes: [0; DATAGRAM] }).collect();
        // SAFETY: a msghdr is numbers and pointers, for all of which zero is a value (msghdr(3type)).
        let mut shape: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        shape.msg_namelen = NAME as u32;
        let (waker, woken) = (Waker::new()?, Box::new([0; 8]));
        let (sockets, closing) = (Slab::with_capacity(256), Vec::new());
        let mut ring =
            Ring { ring, pool, sends, sending: 0, sockets, closing, generation: 0, shape, waker, woken, unsent: 0 };
        ring.listen_for_waker()?;
        Ok(ring)
    }

    fn listen_for_waker(&mut self) -> io::Result<()> {
        let fd = Fd(self.waker.0.as_raw_fd());
        let read = opcode::Read::new(fd, self.woken.as_mut_ptr(), self.woken.len() as u32).build();
        // SAFETY: the eight bytes are boxed and live as long as the ring; so does the waker's descriptor. One read is
        // under way at a time.
        unsafe { self.push(read.user_data(WOKEN << 62)) }
    }

    fn receive(&mut self, key: Key) -> io::Result<()> {
        let Some(Socket { generation, .. }) = self.sockets.get(key) else { return Ok(()) };
        let number = RECEIVED << 62 | u64::from(*generation) << 32 | key as u64;
        let receive = opcode::RecvMsgMulti::new(Fixed(key as u32), &*self.shape, pool::GROUP).build();
        // SAFETY: the shape is boxed and lives as long as the ring; buffers are the pool's, which does too.
        unsafe { self.push(receive.user_data(number)) }
    }

    /// # Safety
    /// What the entry points to must live until it has completed.
    unsafe fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller's promise.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.hand_over()?;
            // SAFETY: as above.
            unsafe { self.ring.submission().push(&entry) }.map_err(|_| Error::other("the ring takes no more"))?;
        }
        Ok(())
    }

    /// Gives the kernel what is to be done, without waiting. What is to be sent has been sent afterwards.
    fn hand_over(&mut self) -> io::Result<()> {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(_) => {}
                // The kernel is out of memory for requests, or wants its completions to be read: these go later.
                Err(e) if is_passing(&e) => break,
                Err(e) => return Err(e),
            }
        }
        self.handed_over();
        Ok(())
    }

    /// Once the kernel has everything, slots and sockets that requests named are free again.
    fn handed_over(&mut self) {
        if !self.ring.submission().is_empty() {
            return;
        }
        self.sending = 0;
        while let Some(key) = self.closing.pop() {
            // Fails for no place that the table has.
            let _ = self.ring.submitter().register_files_update(key as u32, &[-1]);
            self.sockets.remove(key);
        }
    }

    /// What the kernel wrote about a receive: whether there is a datagram.
    fn received(&mut self, done: &cqueue::Entry, buffer: &mut [u8; DATAGRAM]) -> Option<Arrived> {
        let (key, generation) = (done.user_data() as u32 as Key, (done.user_data() >> 32) as u32 & (u32::MAX >> 2));
        let live = self.sockets.get(key).is_some_and(|s| s.generation == generation && !s.closing);
        let arrived = cqueue::buffer_select(done.flags()).and_then(|number| {
            let length = usize::try_from(done.result()).ok()?;
            let datagram = self.pool.get(number, length).and_then(|bytes| read(bytes, buffer));
            self.pool.give_back(number, length);
            datagram
        });
        if live && !cqueue::more(done.flags()) {
            // The receive has ended: the pool was empty for a moment, or an ICMP error was reported (udp(7)).
            // Begun anew it finds what the socket has kept. Fails only with the ring itself, as `wait` will tell.
            let _ = self.receive(key);
        }
        arrived.filter(|_| live).map(|(from, length)| Arrived { key, from, length })
    }
}

impl Sockets for Ring {
    fn add(&mut self, socket: UdpSocket) -> io::Result<Key> {
        self.generation = (self.generation + 1) & (u32::MAX >> 2);
        let place = self.sockets.vacant_entry();
        let key = place.key();
        self.ring.submitter().register_files_update(key as u32, &[socket.as_raw_fd()])?;
        place.insert(Socket { socket, generation: self.generation, closing: false });
        self.receive(key)?;
        Ok(key)
    }

    fn remove(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key).filter(|s| !s.closing) else { return };
        socket.closing = true;
        let receive = RECEIVED << 62 | u64::from(socket.generation) << 32 | key as u64;
        // SAFETY: a cancellation points to nothing.
        let _ = unsafe { self.push(opcode::AsyncCancel::new(receive).build().user_data(CANCELLED << 62)) };
        // Closed only when the kernel has all requests: what is still to be sent means this socket, not the next in its place.
        self.closing.push(key);
        let _ = self.hand_over();
    }

    /// A descriptor of its own: requests that name the old one may still be under way.
    fn take(&mut self, key: Key) -> Option<UdpSocket> {
        let again = self.sockets.get(key)?.socket.try_clone();
        self.remove(key);
        again.ok()
    }

    fn send(&mut self, key: Key, to: SocketAddr, bytes: &[u8]) {
        // Room for the request before a slot is taken: no slot may be given away while a request that names it waits.
        if (self.sending >= self.sends.len() || self.ring.submission().is_full())
            && (self.hand_over().is_err() || self.ring.submission().is_full())
        {
            self.unsent += 1;
            return;
        }
        let slot = self.sends.get_mut(self.sending).filter(|_| self.sockets.contains(key));
        let Some((room, slot_to)) = slot.and_then(|s| Some((s.bytes.get_mut(..bytes.len())?, &mut s.to))) else {
            self.unsent += 1;
            return;
        };
        room.copy_from_slice(bytes);
        *slot_to = to.into();
        let send = opcode::Send::new(Fixed(key as u32), room.as_ptr(), room.len() as u32)
            .flags(libc::MSG_DONTWAIT)
            .dest_addr(slot_to.as_ptr().cast())
            .dest_addr_len(slot_to.len())
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SENT << 62);
        self.sending += 1;
        // SAFETY: the slot is boxed and not written again before `hand_over` or `wait` has given the request to the
        // kernel, and with MSG_DONTWAIT the kernel is done with it when that returns: it never waits for room.
        if unsafe { self.push(send) }.is_err() {
            self.unsent += 1;
        }
        if self.ring.submission().len() >= AT_ONCE {
            // Fails only with the ring itself, as `wait` will tell.
            let _ = self.hand_over();
        }
    }

    fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        if !self.ring.completion().is_empty() {
            return self.hand_over();
        }
        let left = until.map(|at| Timespec::from(at.saturating_duration_since(clock::now())));
        let entered = match &left {
            Some(left) => self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(left)),
            None => self.ring.submit_and_wait(1),
        };
        self.handed_over();
        match entered {
            Ok(_) => Ok(()),
            Err(e) if is_passing(&e) || e.raw_os_error() == Some(libc::ETIME) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn next(&mut self, buffer: &mut [u8; DATAGRAM]) -> Option<Arrived> {
        while let Some(done) = { self.ring.completion().next() } {
            match done.user_data() >> 62 {
                RECEIVED => {
                    if let Some(arrived) = self.received(&done, buffer) {
                        return Some(arrived);
                    }
                }
                // Only what failed says so.
                SENT => self.unsent += 1,
                // A failure would be one of the ring, as `wait` will tell.
                WOKEN => drop(self.listen_for_waker()),
                _ => {}
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
        "io_uring"
    }
}

/// An error of the environment that is over at the next turn: a signal, completions to be read first, a lack of memory.
fn is_passing(error: &Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

/// A completed receive as the kernel lays it out (io_uring_prep_recvmsg_multishot(3)): a header of four numbers, room for
/// the name, the payload. The payload goes into `buffer`.
fn read(bytes: &[u8], buffer: &mut [u8; DATAGRAM]) -> Option<(SocketAddr, usize)> {
    let (_header, rest) = bytes.split_at_checked(16)?;
    let (name, payload) = rest.split_at_checked(NAME)?;
    let length = payload.len().min(DATAGRAM);
    buffer.get_mut(..length)?.copy_from_slice(payload.get(..length)?);
    Some((address(name)?, length))
}

/// A `sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7)).
fn address(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => Some((Ipv4Addr::from(*rest.first_chunk::<4>()?), port).into()),
        libc::AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk::<4>()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, u32::from_ne_bytes(*flow), scope).into())
        }
        _ => None,
    }
}
