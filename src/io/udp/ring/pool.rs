//! The pool of buffers that receives take from: a ring of descriptions shared with the kernel
//! (io_uring_register_buf_ring(3)), and the memory they describe.

use super::super::DATAGRAM;
use super::NAME;
use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// What the ring calls it.
pub(super) const GROUP: u16 = 0;
/// Datagrams received and not yet dealt with: a turn's worth of hundreds of calls. When there are no more, sockets keep
/// theirs. Taken in turn, so that more of them would only be colder. A power of two.
const COUNT: u16 = 256;
/// One datagram with the kernel's header and its sender's name, in whole cache lines.
const SIZE: usize = (16 + NAME + DATAGRAM).next_multiple_of(64);

/// The buffers.
pub(super) struct Pool {
    descriptions: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
}

// SAFETY: the memory belongs to the pool alone, and to the kernel, which does not mind which thread uses the ring.
unsafe impl Send for Pool {}

fn descriptions() -> Layout {
    // The kernel wants them on a page of their own.
    Layout::array::<BufRingEntry>(usize::from(COUNT)).and_then(|l| l.align_to(4096)).expect("a constant that fits")
}

fn memory() -> Layout {
    Layout::from_size_align(SIZE * usize::from(COUNT), 4096).expect("a constant that fits")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: neither layout is empty.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Pool {
    /// Gives the buffers to the kernel. The pool must be dropped after the ring.
    pub fn new(ring: &IoUring) -> io::Result<Pool> {
        let mut pool = Pool { descriptions: allocate(descriptions()).cast(), memory: allocate(memory()), tail: 0 };
        let at = pool.descriptions.as_ptr() as u64;
        // SAFETY: the descriptions live as long as the pool, which outlives the ring.
        unsafe { ring.submitter().register_buf_ring_with_flags(at, COUNT, GROUP, 0) }?;
        (0..COUNT).for_each(|number| pool.give_back(number, 0));
        Ok(pool)
    }

    /// The first `length` bytes of a buffer that the kernel has filled; `None` for what it cannot have.
    pub fn get(&self, number: u16, length: usize) -> Option<&[u8]> {
        if number >= COUNT || length > SIZE {
            return None;
        }
        // SAFETY: within the memory by the test above; the kernel has named the buffer in a completion, and writes to it
        // again only after `give_back`, which cannot be called while this borrow lives.
        Some(unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(usize::from(number) * SIZE), length) })
    }

    /// The kernel may use the buffer again, of which it has filled `length` bytes. They are gone: a call that is paused
    /// or over leaves nothing of its voices here.
    pub fn give_back(&mut self, number: u16, length: usize) {
        if number >= COUNT {
            return;
        }
        // SAFETY: within the memory by the tests above and here; the kernel has let go of the buffer, and nobody has
        // borrowed it.
        unsafe { self.memory.as_ptr().add(usize::from(number) * SIZE).write_bytes(0, length.min(SIZE)) };
        // SAFETY: within the descriptions and the memory: both indices are below COUNT. An entry is plain numbers, and
        // the kernel reads it only after the tail has been moved past it. The tail lies in the first entry, 16-bit
        // aligned, and the kernel only reads it.
        unsafe {
            let entry = &mut *self.descriptions.as_ptr().add(usize::from(self.tail & (COUNT - 1)));
            entry.set_addr(self.memory.as_ptr().add(usize::from(number) * SIZE) as u64);
            entry.set_len(SIZE as u32);
            entry.set_bid(number);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.descriptions.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: allocated with these layouts, and the ring is closed.
        unsafe {
            dealloc(self.descriptions.as_ptr().cast(), descriptions());
            dealloc(self.memory.as_ptr(), memory());
        }
    }
}
