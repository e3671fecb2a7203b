//! An Opus recording read again: how long it is, and what is to be heard. Also while it is being written: what is there.

use super::opus::Head;
use super::wav::Shape;
use crate::media::pcm::Rate;
use ogg::PacketReader;
use ogg::reading::PageParser;
use opus::MSDecoder;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

/// The last page lies in this much of the file's end: the longest page has 65,307 bytes, and ours a few hundred.
const END: u64 = 128 * 1024;

/// A recording that is being played.
pub struct Playback {
    head: Head,
    packets: PacketReader<File>,
    decoder: MSDecoder,
    /// Samples of a channel to leave out, and then to give.
    skip: usize,
    left: i64,
}

impl Playback {
    /// Looks at the beginning and the end of the file.
    pub fn open(file: File) -> io::Result<Playback> {
        let last = last_page(&file)?.ok_or(ErrorKind::InvalidData)?;
        let mut packets = PacketReader::new(file);
        let first = packets.read_packet_expected().map_err(io::Error::other)?;
        let head = Head::read(&first.data).ok_or(ErrorKind::InvalidData)?;
        // The tags.
        packets.read_packet_expected().map_err(io::Error::other)?;
        let streams: Vec<u8> = (0..head.channels).collect();
        let decoder = MSDecoder::new(head.rate.hz(), head.channels, 0, &streams).map_err(io::Error::other)?;
        let skip = usize::from(head.skip) / head.rate.clock_per_sample() as usize;
        Ok(Playback { head, packets, decoder, skip, left: samples(head, &last) })
    }

    /// Its channels and their rate: that of the call.
    pub fn shape(&self) -> Shape {
        Shape { channels: self.head.channels.into(), hz: self.head.rate.hz() }
    }

    /// Samples of each channel that are still to come; at first its length.
    pub fn left(&self) -> i64 {
        self.left
    }

    /// The next samples of all channels in turn; none at the end.
    pub fn play(&mut self) -> io::Result<Option<Vec<i16>>> {
        let channels = usize::from(self.head.channels);
        while self.left > 0 {
            let Some(packet) = self.packets.read_packet().map_err(io::Error::other)? else { break };
            let mut pcm = vec![0; self.head.rate.frame() * channels];
            let count = self.decoder.decode(&packet.data, &mut pcm, false).map_err(io::Error::other)?;
            let skipped = self.skip.min(count);
            self.skip -= skipped;
            let until = count.min(skipped + usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= (until - skipped) as i64;
            if until > skipped {
                return Ok(Some(pcm[skipped * channels..until * channels].to_vec()));
            }
        }
        Ok(None)
    }
}

/// Takes away what of a last page a dead process left behind. Answers the rate and how many samples of each channel there
/// are.
pub(super) fn mend(file: File) -> io::Result<(Rate, i64)> {
    let last = last_page(&file)?.ok_or(ErrorKind::InvalidData)?;
    file.set_len(last.end)?;
    let playback = Playback::open(file)?;
    Ok((playback.head.rate, playback.left))
}

/// Where a page ends in the file, and the samples at 48 kHz up to its last packet.
struct Page {
    end: u64,
    granule: i64,
}

/// The last whole page, if there is one.
fn last_page(file: &File) -> io::Result<Option<Page>> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(END);
    let mut bytes = vec![0; (length - from) as usize];
    file.read_exact_at(&mut bytes, from)?;
    let starts = bytes.windows(4).enumerate().rev().filter(|(_, magic)| *magic == b"OggS");
    let page = starts.map(|(start, _)| start).find_map(|start| page(bytes.get(start..)?, from + start as u64));
    Ok(page)
}

/// The page with which these bytes begin, if it is whole (RFC 3533 §6).
fn page(bytes: &[u8], at: u64) -> Option<Page> {
    let header = bytes.first_chunk::<27>()?;
    let granule = i64::from_le_bytes(*header.get(6..)?.first_chunk()?);
    let (mut parser, segments) = PageParser::new(*header).ok()?;
    let table = bytes.get(27..27 + segments)?;
    let body = parser.parse_segments(table.to_vec());
    let body = bytes.get(27 + segments..27 + segments + body)?;
    let end = at + (27 + segments + body.len()) as u64;
    // Verifies the checksum.
    parser.parse_packet_data(body.to_vec()).ok().map(|_| Page { end, granule })
}

/// What of a file counts: all up to its last page, but for what is skipped at its beginning.
fn samples(head: Head, last: &Page) -> i64 {
    (last.granule - i64::from(head.skip)).max(0) / head.rate.clock_per_sample()
}
