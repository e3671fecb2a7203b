//! What one leg says, as samples: every packet decoded once however many listen, every tick's frame read once, and
//! both at each rate that somebody needs. Does nothing while nobody does.

use crate::media::codec::{Codec, Decoder};
use crate::media::jitter::{Frame, Jitter, Made};
use crate::media::noise::Noise;
use crate::media::pcm::{Pcm, Rate};
use crate::media::resample::Resampler;
use crate::media::rtp::Packet;
use crate::time::MediaTime;

/// An Opus packet this short says only that its sender is silent (RFC 6716 §2.1.9, DTX).
const DTX: usize = 2;
/// Room for one packet at a rate, in frames: the longest payload taken in is 180 ms of G.711.
const LONGEST: usize = 9;

/// One leg's voice.
pub(crate) struct Voice {
    codec: Codec,
    decoder: Option<Decoder>,
    /// Whether anybody needs its samples.
    needed: bool,
    /// The number after the last packet that was decoded.
    next: Option<u16>,
    pub jitter: Jitter,
    /// What it said in the present tick.
    pub frame: Frame,
    /// What its silence sounds like, since it said so.
    noise: Option<Noise>,
    /// The tick's frame at other rates.
    copies: [Option<Box<FrameCopy>>; 3],
    /// The packet in hand at other rates.
    passing: [Option<Box<Resampler>>; 3],
}

/// A frame at another rate. Its first samples are made of the frame before, too.
struct FrameCopy {
    resampler: Resampler,
    pcm: Pcm,
    marks: u8,
    before: u8,
}

/// One packet's samples, at each rate made so far. One is used by all legs of a call.
#[derive(Default)]
pub(crate) struct Passing {
    samples: [Vec<i16>; 3],
    made: [Option<usize>; 3],
}

/// Who needs a leg's voice, by rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Every tick's frame.
    pub frames: [bool; 3],
    /// Every packet's samples as it passes.
    pub packets: [bool; 3],
}

impl Wanted {
    fn any(&self) -> bool {
        self.frames.iter().chain(&self.packets).any(|w| *w)
    }
}

impl Voice {
    pub fn new(codec: Codec) -> Self {
        Voice {
            codec,
            decoder: None,
            needed: false,
            next: None,
            jitter: Jitter::new(codec.rate(), codec.clock()),
            frame: Frame::default(),
            noise: None,
            copies: Default::default(),
            passing: Default::default(),
        }
    }

    /// Nothing that was said until now is to be heard any more, nor made up from.
    pub fn forget(&mut self) {
        self.jitter.forget();
        self.noise = None;
        self.next = None;
        if let Some(decoder) = &mut self.decoder {
            decoder.reset();
        }
        self.copies.iter_mut().flatten().for_each(|c| c.forget());
        self.passing.iter_mut().flatten().for_each(|r| r.reset());
    }

    /// Another stream, on another clock.
    pub fn restart(&mut self) {
        self.jitter.restart();
        self.next = None;
    }

    /// Makes ready for those who need it, and lets go of what nobody needs. Allocates.
    pub fn prepare(&mut self, wanted: Wanted, passing: &mut Passing) {
        let native = self.codec.rate();
        self.needed = wanted.any();
        if self.needed {
            self.decoder.get_or_insert_with(|| Decoder::new(self.codec));
            passing.fit(native);
        }
        for rate in Rate::ALL {
            let (frames, packets) = (wanted.frames[rate as usize], wanted.packets[rate as usize]);
            let copy = &mut self.copies[rate as usize];
            match frames && rate != native {
                true => drop(copy.get_or_insert_with(|| Box::new(FrameCopy::new(native, rate)))),
                false => *copy = None,
            }
            let resampler = &mut self.passing[rate as usize];
            match packets && rate != native {
                true => drop(resampler.get_or_insert_with(|| Box::new(Resampler::new(native, rate)))),
                false => *resampler = None,
            }
            if packets {
                passing.fit(rate);
            }
        }
    }

    /// Decodes a packet; `keep` puts it into the jitter buffer under this mark. Late ones are heard only where the
    /// decoder does not mind.
    pub fn take(&mut self, now: MediaTime, packet: &Packet<'_>, keep: Option<u8>, passing: &mut Passing) {
        passing.made = [None; 3];
        let Some(decoder) = self.decoder.as_mut().filter(|_| self.needed) else { return };
        let header = &packet.header;
        let ahead = self.next.map_or(0, |next| header.sequence.wrapping_sub(next) as i16);
        if ahead < 0 && self.codec == Codec::Opus {
            return;
        }
        let pcm = &mut passing.samples[self.codec.rate() as usize][..];
        if let (1, Some(mark)) = (ahead, keep) {
            // The packet before was lost, and this one may say what was in it.
            let ticks = self.codec.ticks(packet.payload);
            let length = ticks as usize;
            let count = pcm.get_mut(..length).map_or(0, |pcm| decoder.recover(packet.payload, pcm));
            if count > 0 {
                self.jitter.push(now, header.timestamp.wrapping_sub(ticks), &pcm[..count], mark);
            }
        }
        let count = decoder.decode(packet.payload, pcm);
        if ahead >= 0 {
            self.next = Some(header.sequence.wrapping_add(1));
        }
        self.noise = (self.codec == Codec::Opus && packet.payload.len() <= DTX).then(|| Noise::like(&pcm[..count]));
        if let Some(mark) = keep.filter(|_| count > 0) {
            self.jitter.push(now, header.timestamp, &pcm[..count], mark);
        }
        passing.made[self.codec.rate() as usize] = Some(count);
    }

    /// The leg says how its silence sounds (RFC 3389).
    pub fn take_noise(&mut self, payload: &[u8]) {
        self.noise = Noise::read(payload).or(self.noise.take());
    }

    /// The samples of the packet in hand at a rate that is wanted; none if it could not be decoded.
    pub fn passing<'a>(&mut self, rate: Rate, passing: &'a mut Passing) -> &'a [i16] {
        let (native, wanted) = (self.codec.rate() as usize, rate as usize);
        if let (None, Some(count), Some(resampler)) =
            (passing.made[wanted], passing.made[native], &mut self.passing[wanted])
        {
            let mut out = std::mem::take(&mut passing.samples[wanted]);
            passing.made[wanted] = Some(resampler.process(&passing.samples[native][..count], &mut out));
            passing.samples[wanted] = out;
        }
        passing.get(rate)
    }

    /// Reads the frame of a tick.
    pub fn pull(&mut self, tick: MediaTime) {
        self.jitter.pull(tick, &mut self.frame);
        if let (Some(noise), Made::Silent) = (&mut self.noise, self.frame.made) {
            noise.fill(&mut self.frame.pcm);
        }
        for copy in self.copies.iter_mut().flatten() {
            copy.follow(&self.frame);
        }
    }

    /// The tick's frame at a rate that is wanted, and the marks of all it is made of.
    pub fn at(&self, rate: Rate) -> (&[i16], u8) {
        match &self.copies[rate as usize] {
            Some(copy) => (&copy.pcm, copy.marks),
            None if rate == self.codec.rate() && self.frame.pcm.rate() == rate => (&self.frame.pcm, self.frame.marks),
            None => (silence(rate), 0),
        }
    }
}

impl FrameCopy {
    fn new(from: Rate, to: Rate) -> Self {
        FrameCopy { resampler: Resampler::new(from, to), pcm: Pcm::silence(to), marks: 0, before: 0 }
    }

    fn forget(&mut self) {
        self.resampler.reset();
        self.pcm.fill(0);
        (self.marks, self.before) = (0, 0);
    }

    fn follow(&mut self, frame: &Frame) {
        let made = self.resampler.process(&frame.pcm, &mut self.pcm);
        if let Some(rest) = self.pcm.get_mut(made..) {
            rest.fill(0);
        }
        self.marks = frame.marks | self.before;
        self.before = frame.marks;
    }
}

impl Passing {
    /// The packet's samples at a rate, where they were made.
    pub fn get(&self, rate: Rate) -> &[i16] {
        let count = self.made[rate as usize].unwrap_or(0);
        self.samples[rate as usize].get(..count).unwrap_or_default()
    }
    fn fit(&mut self, rate: Rate) {
        self.samples[rate as usize].resize(LONGEST * rate.frame(), 0);
    }
}

/// 20 ms of nothing.
pub(crate) fn silence(rate: Rate) -> &'static [i16] {
    static SILENCE: [i16; Rate::Full.frame()] = [0; Rate::Full.frame()];
    &SILENCE[..rate.frame()]
}
