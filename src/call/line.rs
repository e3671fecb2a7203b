//! What goes out to one leg, as packets: samples are cut or gathered to the length the peer wishes, encoded once, and
//! stamped so that none is lost or repeated.

use crate::call::{LegMedia, Shape};
use crate::media::codec::{Codec, Encoder};
use crate::media::pcm::Rate;
use crate::media::rtp::HEADER;
use crate::media::sender::{Sender, Stamp};
use crate::time::MediaTime;

/// One leg's outgoing voice.
pub(crate) struct Line {
    codec: Codec,
    shape: Shape,
    encoder: Option<Encoder>,
    /// Samples that wait for more, and when the first of them was due.
    gathered: Vec<i16>,
    since: MediaTime,
}

impl Line {
    pub fn new(media: &LegMedia) -> Self {
        Line { codec: media.codec, shape: media.shape, encoder: None, gathered: Vec::new(), since: MediaTime::ZERO }
    }

    /// Makes ready to encode. Allocates.
    pub fn prepare(&mut self) {
        let Line { codec, shape, encoder, gathered, .. } = self;
        encoder.get_or_insert_with(|| Encoder::new(*codec, shape.opus));
        gathered.reserve(samples(codec.rate(), Shape::LONGEST) + codec.rate().frame());
    }

    /// Samples a packet has at most that is made of one that passes.
    pub fn most(&self) -> usize {
        samples(self.codec.rate(), self.shape.maxptime)
    }
    /// Samples of the packets we make by the clock.
    fn usual(&self) -> usize {
        samples(self.codec.rate(), self.shape.ptime.min(self.shape.maxptime))
    }

    /// Whether samples wait.
    pub fn is_gathering(&self) -> bool {
        !self.gathered.is_empty()
    }
    /// What waits is not sent any more.
    pub fn drop_gathered(&mut self) {
        self.gathered.clear();
    }

    /// Nothing that was said to it until now leaves any more, nor sounds in what does. Stays ready.
    pub fn forget(&mut self) {
        self.gathered.clear();
        if self.encoder.take().is_some() {
            self.prepare();
        }
    }

    /// Takes in the 20 ms of a tick; whole packets are handed to `send` with their stamps.
    pub fn say(
        &mut self,
        at: MediaTime,
        pcm: &[i16],
        sender: &mut Sender,
        mut send: impl FnMut(&mut Encoder, Stamp, &[i16]),
    ) {
        let usual = self.usual();
        if usual <= pcm.len() && self.gathered.is_empty() {
            return self.cut(at, pcm, usual, sender, &mut send);
        }
        if self.gathered.is_empty() {
            self.since = at;
        }
        self.gathered.extend_from_slice(pcm);
        if self.gathered.len() >= usual {
            self.flush(sender, send);
        }
    }

    /// What waits leaves now.
    pub fn flush(&mut self, sender: &mut Sender, mut send: impl FnMut(&mut Encoder, Stamp, &[i16])) {
        let gathered = std::mem::take(&mut self.gathered);
        self.cut(self.since, &gathered, self.most(), sender, &mut send);
        self.gathered = gathered;
        self.gathered.clear();
    }

    fn cut(
        &mut self,
        at: MediaTime,
        pcm: &[i16],
        most: usize,
        sender: &mut Sender,
        send: &mut impl FnMut(&mut Encoder, Stamp, &[i16]),
    ) {
        let Line { codec, shape, encoder, .. } = self;
        let encoder = encoder.get_or_insert_with(|| Encoder::new(*codec, shape.opus));
        let (mut rest, mut first) = (pcm, true);
        while !rest.is_empty() {
            let piece = codec.piece(rest.len(), most);
            let Some((now, later)) = rest.split_at_checked(piece).filter(|(now, _)| !now.is_empty()) else { return };
            let ticks = codec.ticks_of(piece);
            let stamp = if first { sender.next(at, ticks) } else { sender.more(ticks) };
            send(encoder, stamp, now);
            (rest, first) = (later, false);
        }
    }

    /// Appends a packet.
    pub fn write(&mut self, stamp: Stamp, payload_type: u8, pcm: &[i16], out: &mut Vec<u8>) -> usize {
        let Line { codec, shape, encoder, .. } = self;
        let encoder = encoder.get_or_insert_with(|| Encoder::new(*codec, shape.opus));
        write(encoder, stamp, payload_type, pcm, out)
    }
}

/// Appends a packet; answers how long its payload is.
pub(crate) fn write(encoder: &mut Encoder, stamp: Stamp, payload_type: u8, pcm: &[i16], out: &mut Vec<u8>) -> usize {
    let from = out.len() + HEADER;
    out.extend_from_slice(&stamp.header(payload_type).bytes());
    encoder.encode(pcm, out);
    out.len() - from
}

fn samples(rate: Rate, ms: u8) -> usize {
    rate.frame() * usize::from(ms) / 20
}
