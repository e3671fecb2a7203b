//! A socket whose datagrams carry the time at which the kernel received them, so that a reader who is late does not
//! charge its own delay to whoever sent.
#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// Room for one control message with a time.
const CONTROL: usize = 8;
/// A second of one leg's packets and more: a generator that is kept from its work loses none.
const QUEUE: libc::c_int = 256 * 1024;

/// A socket on loopback, at a free port.
pub struct Stamped(UdpSocket);

impl Stamped {
    /// Fails where the environment has no sockets left.
    pub fn bind() -> io::Result<Stamped> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        option(&socket, libc::SO_TIMESTAMPNS, 1)?;
        option(&socket, libc::SO_RCVBUF, QUEUE)?;
        Ok(Stamped(socket))
    }

    /// Where it receives.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Sends a datagram now.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_to(bytes, to)
    }

    /// A datagram that waits: its length, and when the kernel had it, on the wall clock.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Duration)> {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = [0u64; CONTROL];
        // SAFETY: a msghdr is numbers and pointers, for all of which zero is a value (msghdr(3type)).
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the message points to the buffer and to room for control data, with their lengths; both outlive the call.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the kernel has filled in the message, and what it points to is still there.
        let stamp = unsafe { stamp(&message) };
        Ok((length, stamp.ok_or_else(|| io::Error::other("the kernel stamps no datagrams"))?))
    }
}

impl AsFd for Stamped {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// # Safety
/// `message` was filled in by recvmsg(2), and its control data is still there.
unsafe fn stamp(message: &libc::msghdr) -> Option<Duration> {
    // SAFETY: the caller's promise; CMSG_NXTHDR stays within the control data (cmsg(3)), and the data of a message of
    // this kind is a timespec (socket(7)), which may lie anywhere.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(part) = header.as_ref() {
            if (part.cmsg_level, part.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
                let time = libc::CMSG_DATA(part).cast::<libc::timespec>().read_unaligned();
                return Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?));
            }
            header = libc::CMSG_NXTHDR(message, part);
        }
    }
    None
}

fn option(socket: &UdpSocket, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let (at, length) = ((&raw const value).cast(), size_of_val(&value) as libc::socklen_t);
    // SAFETY: the value is an int and lives through the call, as socket(7) wants for these options.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, at, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock;

    #[test]
    fn a_datagram_is_stamped_when_it_comes_not_when_it_is_read() {
        let socket = Stamped::bind().unwrap();
        let mut buffer = [0; 16];
        // The first socket that wants stamps has the kernel turn them on, which it does a moment later; what comes before
        // is stamped when it is read.
        let stamped = (0..50).any(|_| {
            let before = clock::wall();
            socket.send(socket.address().unwrap(), b"tick").unwrap();
            let after = clock::wall();
            std::thread::sleep(Duration::from_millis(20));
            let (length, stamp) = socket.receive(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"tick");
            (before..=after).contains(&stamp)
        });
        assert!(stamped);
        assert_eq!(socket.receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
