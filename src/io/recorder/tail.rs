//! The end of a file that grows: what has not reached the kernel yet, and where it belongs.
//!
//! Writes are positioned, so that one that fails or is cut short is simply made again from where it stopped: nothing is
//! lost, and nothing is in the wrong place.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// A file that is being written.
pub(super) struct Tail {
    file: File,
    /// Where the first byte of `pending` belongs.
    at: u64,
    pending: Vec<u8>,
}

impl Tail {
    /// Makes the file, which must not be there yet, and the folders above it, for the owner alone.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Tail { file, at: 0, pending: Vec::new() })
    }

    /// Bytes that have not reached the kernel.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Appends to what is pending.
    pub(super) fn extend(&mut self, bytes: impl Iterator<Item = u8>) {
        self.pending.extend(bytes);
    }

    /// Everything reaches the kernel, or stays pending from the first byte that did not.
    pub(super) fn write_out(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.file.write_at(&self.pending, self.at) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.pending.drain(..count);
                    self.at += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Leaves `bytes` zeros behind what is written, which take no room on the disk.
    pub(super) fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.write_out()?;
        self.at += bytes;
        Ok(())
    }

    /// Writes over the beginning.
    pub(super) fn write_head(&mut self, head: &[u8]) -> io::Result<()> {
        self.file.write_all_at(head, 0)
    }

    /// Ends the file where its last byte is, or would be.
    pub(super) fn close(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.file.set_len(self.at)
    }
}

/// Pages are appended to what is pending, too; `write_out` brings them to the kernel.
impl Write for Tail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
