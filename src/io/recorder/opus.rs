//! A recording as Opus in Ogg (RFC 7845): 20 ms a packet, a packet a page, so that a file plays to its last frame however
//! the process dies.
//!
//! Two channels are two streams that know nothing of each other (channel mapping family 1 without coupling): a stereo
//! stream would share what its channels have in common, and something of a whisper in the agent's channel would be in
//! the customer's. Packets lie on a grid on which the call's frames begin, so that none waits for the next; what that puts
//! before media time 0 is skipped with the encoder's own delay.

use super::tail::Tail;
use crate::media::pcm::Rate;
use ogg::{PacketWriteEndInfo, PacketWriter};
use opus::{Application, Bitrate, MSEncoder};
use std::io;
use std::path::Path;

/// The longest packet: two streams of 1,275 bytes (RFC 6716 §3.2.1), and the length of the first.
const MOST: usize = 2 * 1_275 + 2;
/// Of 10. Twice as dear above for a difference few hear in a voice.
const COMPLEXITY: i32 = 5;
/// After a second of silence every packet is like the last: it is written again instead of being encoded.
const SETTLED: u32 = 50;
/// A long silence reaches the kernel in pieces of this many bytes.
const PIECE: usize = 64 * 1024;

/// What the first page says (RFC 7845 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) channels: u8,
    /// Samples at 48 kHz before the first that counts.
    pub(super) skip: u16,
    pub(super) rate: Rate,
}

impl Head {
    /// The magic, then version, channels, pre-skip, rate, gain and mapping family. One channel is family 0; two are family 1:
    /// two streams, none coupled, left is the first.
    fn write(self) -> Vec<u8> {
        let mut head = b"OpusHead\x01".to_vec();
        head.push(self.channels);
        head.extend_from_slice(&self.skip.to_le_bytes());
        head.extend_from_slice(&self.rate.hz().to_le_bytes());
        head.extend_from_slice(&0i16.to_le_bytes());
        match self.channels {
            1 => head.push(0),
            _ => head.extend_from_slice(&[1, 2, 0, 0, 1]),
        }
        head
    }

    /// None where it is not one of ours.
    pub(super) fn read(head: &[u8]) -> Option<Head> {
        let fields = head.strip_prefix(b"OpusHead\x01")?;
        let &[channels, s0, s1, h0, h1, h2, h3] = fields.first_chunk::<7>()?;
        let hz = u32::from_le_bytes([h0, h1, h2, h3]);
        let rate = Rate::ALL.into_iter().find(|rate| rate.hz() == hz)?;
        let head = Head { channels, skip: u16::from_le_bytes([s0, s1]), rate };
        matches!(channels, 1 | 2).then_some(head)
    }
}

/// Who made it, and who is who (RFC 7845 §5.2).
fn tags(channels: u8) -> Vec<u8> {
    const MADE_BY: &str = concat!("ENCODER=sotto ", env!("CARGO_PKG_VERSION"));
    const SIDES: &str = "DESCRIPTION=left: the customer, right: the agent";
    let comments = if channels == 2 { &[MADE_BY, SIDES][..] } else { &[MADE_BY] };
    let mut tags = b"OpusTags".to_vec();
    let text = |tags: &mut Vec<u8>, text: &str| {
        tags.extend_from_slice(&(text.len() as u32).to_le_bytes());
        tags.extend_from_slice(text.as_bytes());
    };
    text(&mut tags, opus::version());
    tags.extend_from_slice(&(comments.len() as u32).to_le_bytes());
    comments.iter().for_each(|comment| text(&mut tags, comment));
    tags
}

/// An Opus file that is being written.
pub(super) struct Opus {
    rate: Rate,
    channels: usize,
    pages: PacketWriter<'static, Tail>,
    serial: u32,
    encoder: MSEncoder,
    /// Samples of all channels in turn that do not fill a packet yet.
    frame: Vec<i16>,
    /// Samples of a channel before media time 0: what puts the call's frames on the grid.
    pad: i64,
    /// Samples of a channel by which the encoder is late.
    lookahead: i64,
    /// Packets written.
    packets: i64,
    /// Samples of each channel so far.
    length: i64,
    /// How many packets of silence were the last, and the last of them.
    silent: u32,
    silence: Vec<u8>,
}

impl Opus {
    /// `start`: the sample at which the first frame will begin, and every other of the call on the same grid.
    pub(super) fn create(
        path: &Path,
        rate: Rate,
        channels: u8,
        (bitrate, serial, start): (u32, u32, i64),
    ) -> io::Result<Self> {
        let streams: Vec<u8> = (0..channels).collect();
        let mut encoder = MSEncoder::new(rate.hz(), channels, 0, &streams, Application::Voip).map_err(refused)?;
        encoder.set_bitrate(Bitrate::Bits(bitrate as i32 * i32::from(channels))).map_err(refused)?;
        encoder.set_complexity(COMPLEXITY).map_err(refused)?;
        let lookahead = i64::from(encoder.get_lookahead().map_err(refused)?);
        let pad = (-start).rem_euclid(rate.frame() as i64);
        let skip = u16::try_from((lookahead + pad) * rate.clock_per_sample()).map_err(io::Error::other)?;
        let mut pages = PacketWriter::new(Tail::create(path)?);
        for header in [Head { channels, skip, rate }.write(), tags(channels)] {
            pages.write_packet(header, serial, PacketWriteEndInfo::EndPage, 0)?;
        }
        let channels = usize::from(channels);
        let frame = vec![0; pad as usize * channels];
        Ok(Opus {
            rate,
            channels,
            pages,
            serial,
            encoder,
            frame,
            pad,
            lookahead,
            packets: 0,
            length: 0,
            silent: 0,
            silence: Vec::new(),
        })
    }

    /// Samples of each channel so far.
    pub(super) fn length(&self) -> i64 {
        self.length
    }

    /// Samples of all channels in turn.
    pub(super) fn append(&mut self, mut pcm: &[i16]) -> io::Result<()> {
        self.length += (pcm.len() / self.channels) as i64;
        while !pcm.is_empty() {
            let (now, later) = pcm.split_at(pcm.len().min(self.room()));
            self.frame.extend_from_slice(now);
            pcm = later;
            self.encode_full()?;
        }
        Ok(())
    }

    /// Silence of `samples` in each channel.
    pub(super) fn silence(&mut self, samples: i64) -> io::Result<()> {
        let until = self.length + samples;
        while self.length < until {
            let room = (self.room() / self.channels) as i64;
            let count = room.min(until - self.length);
            self.frame.resize(self.frame.len() + count as usize * self.channels, 0);
            self.length += count;
            self.encode_full()?;
            if self.pages.inner().pending() > PIECE {
                self.pages.inner_mut().write_out()?;
            }
        }
        Ok(())
    }

    /// Every whole packet reaches the kernel.
    pub(super) fn write_out(&mut self) -> io::Result<()> {
        self.pages.inner_mut().write_out()
    }

    /// The last packets: silence after the last sample, until the encoder has let go of it. The last page says how much of
    /// that is none of the recording's (RFC 7845 §4.4).
    pub(super) fn complete(&mut self) -> io::Result<()> {
        let frame = self.rate.frame() as i64;
        let end = self.pad + self.lookahead + self.length;
        while self.packets * frame < end {
            self.frame.resize(self.rate.frame() * self.channels, 0);
            let packet = self.encode()?;
            let last = self.packets * frame >= end;
            let (info, granule) = if last {
                (PacketWriteEndInfo::EndStream, end)
            } else {
                (PacketWriteEndInfo::EndPage, self.packets * frame)
            };
            self.page(packet, info, granule)?;
        }
        self.pages.inner_mut().close()
    }

    /// How many samples of all channels the present packet has room for.
    fn room(&self) -> usize {
        self.rate.frame() * self.channels - self.frame.len()
    }

    fn encode_full(&mut self) -> io::Result<()> {
        if self.room() > 0 {
            return Ok(());
        }
        let packet = self.encode()?;
        self.page(packet, PacketWriteEndInfo::EndPage, self.packets * self.rate.frame() as i64)
    }

    /// The present frame as a packet; the frame is empty then.
    fn encode(&mut self) -> io::Result<Vec<u8>> {
        self.packets += 1;
        let silent = self.frame.iter().all(|s| *s == 0);
        if silent && self.silent >= SETTLED {
            self.frame.clear();
            return Ok(self.silence.clone());
        }
        let mut packet = vec![0; MOST];
        let length = self.encoder.encode(&self.frame, &mut packet).map_err(refused)?;
        packet.truncate(length);
        self.frame.clear();
        self.silent = if silent { self.silent + 1 } else { 0 };
        if self.silent == SETTLED {
            self.silence.clone_from(&packet);
        }
        Ok(packet)
    }

    /// `granule`: samples of a channel from the first packet to the end of this one. On the page they count at 48 kHz,
    /// whatever the rate (RFC 7845 §4).
    fn page(&mut self, packet: Vec<u8>, info: PacketWriteEndInfo, granule: i64) -> io::Result<()> {
        let granule = (granule * self.rate.clock_per_sample()).unsigned_abs();
        self.pages.write_packet(packet, self.serial, info, granule)
    }
}

/// libopus refuses settings and lengths that we never ask for.
fn refused(error: opus::Error) -> io::Error {
    io::Error::other(format!("libopus: {error}"))
}
