//! A recording as WAV: 16-bit samples behind a header of 44 bytes, at whatever rate the call has.
//!
//! Samples reach the kernel before the header that tells of them, so that the file plays at every moment. Silence between
//! is a hole in the file, which costs neither time nor room.

use super::tail::Tail;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes before the samples.
pub const HEADER: u64 = 44;

/// What a header says beside the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Channels: 1 or 2.
    pub channels: u16,
    /// Samples a second in each of them.
    pub hz: u32,
}

impl Shape {
    /// Bytes of one sample of every channel.
    pub const fn block(self) -> u64 {
        2 * self.channels as u64
    }

    /// The most samples of a channel that a header can tell of: it counts bytes in 32 bits.
    pub const fn longest(self) -> i64 {
        ((u32::MAX as u64 - HEADER) / self.block()) as i64
    }

    /// The header of so many samples of each channel; of as many as it can tell of, where there are more.
    pub fn header(self, samples: i64) -> [u8; HEADER as usize] {
        let data = (samples.clamp(0, self.longest()) as u64 * self.block()) as u32;
        let second = u64::from(self.hz) * self.block();
        let mut header = [0; HEADER as usize];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"RIFF");
        put(4, &(data + HEADER as u32 - 8).to_le_bytes());
        put(8, b"WAVEfmt ");
        put(16, &16u32.to_le_bytes());
        // PCM, channels, samples a second, bytes a second, bytes a block, bits a sample.
        put(20, &1u16.to_le_bytes());
        put(22, &self.channels.to_le_bytes());
        put(24, &self.hz.to_le_bytes());
        put(28, &(second as u32).to_le_bytes());
        put(32, &(self.block() as u16).to_le_bytes());
        put(34, &16u16.to_le_bytes());
        put(36, b"data");
        put(40, &data.to_le_bytes());
        header
    }

    /// What a header of ours says.
    pub fn read(header: &[u8; HEADER as usize]) -> Option<Shape> {
        let &[.., c0, c1, h0, h1, h2, h3] = header.first_chunk::<28>()?;
        let shape = Shape { channels: u16::from_le_bytes([c0, c1]), hz: u32::from_le_bytes([h0, h1, h2, h3]) };
        let ours = header.starts_with(b"RIFF") && matches!(shape.channels, 1 | 2) && shape.hz > 0;
        ours.then_some(shape)
    }
}

/// A WAV file that is being written.
pub(super) struct Wav {
    shape: Shape,
    tail: Tail,
    length: i64,
}

impl Wav {
    pub(super) fn create(path: &Path, shape: Shape) -> io::Result<Self> {
        let mut tail = Tail::create(path)?;
        tail.extend(shape.header(0).into_iter());
        Ok(Wav { shape, tail, length: 0 })
    }

    /// Samples of each channel so far.
    pub(super) fn length(&self) -> i64 {
        self.length
    }

    /// Samples of all channels in turn.
    pub(super) fn append(&mut self, pcm: &[i16]) {
        self.tail.extend(pcm.iter().flat_map(|sample| sample.to_le_bytes()));
        self.length += pcm.len() as i64 / i64::from(self.shape.channels);
    }

    /// Silence of `samples` in each channel.
    pub(super) fn silence(&mut self, samples: i64) -> io::Result<()> {
        self.tail.skip(samples.unsigned_abs() * self.shape.block())?;
        self.length += samples;
        Ok(())
    }

    /// What is there reaches the kernel, and then its length.
    pub(super) fn write_out(&mut self) -> io::Result<()> {
        if self.tail.pending() == 0 {
            return Ok(());
        }
        self.tail.write_out()?;
        self.tail.write_head(&self.shape.header(self.length))
    }

    pub(super) fn complete(&mut self) -> io::Result<()> {
        self.tail.close()?;
        self.tail.write_head(&self.shape.header(self.length))
    }
}

/// Mends a file that a dead process left behind: whole samples, and a header that tells of all of them. Answers what it
/// holds and how many samples of each channel.
pub(super) fn mend(file: &File) -> io::Result<(Shape, i64)> {
    let mut header = [0; HEADER as usize];
    file.read_exact_at(&mut header, 0)?;
    let shape = Shape::read(&header).ok_or(ErrorKind::InvalidData)?;
    let samples = (file.metadata()?.len().saturating_sub(HEADER) / shape.block()) as i64;
    file.set_len(HEADER + samples.unsigned_abs() * shape.block())?;
    file.write_all_at(&shape.header(samples), 0)?;
    Ok((shape, samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_others_write_and_read() {
        for shape in [(1, 8_000), (2, 8_000), (2, 48_000)].map(|(channels, hz)| Shape { channels, hz }) {
            let spec = hound::WavSpec {
                channels: shape.channels,
                sample_rate: shape.hz,
                bits_per_sample: 16,
                sample_format: hound::SampleFormat::Int,
            };
            let mut file = std::io::Cursor::new(Vec::new());
            let mut wav = hound::WavWriter::new(&mut file, spec).unwrap();
            (0..640).for_each(|n| wav.write_sample(n as i16).unwrap());
            wav.finalize().unwrap();
            let header = shape.header(640 / i64::from(shape.channels));
            assert_eq!(header, file.get_ref()[..HEADER as usize]);
            assert_eq!(Shape::read(&header), Some(shape));
        }
        assert_eq!(Shape::read(&[0; HEADER as usize]), None);
    }
}
