//! What one leg says, as samples: every packet decoded once however many listen, every tick's frame read once, and
//! both at each rate that somebody needs. Does nothing while nobody does.

use crate::media::codec::{Codec, Decoder};
use crate::media::jitter::{Ear, Frame, Jitter, Made};
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
    /// What ears and recording read: what it said `DELAY` before the present tick, or longer ago.
    tap: Reading,
    /// What the mix reads: what it said as lately as the network allows.
    mix: Reading,
    /// What its silence sounds like, since it said so.
    noise: Option<Noise>,
    /// The packet in hand at other rates.
    passing: [Option<Box<Resampler>>; 3],
}

/// Frames that lie ready. Boxes, for they go from hand to hand and one is two kilobytes.
pub(crate) type Frames = Vec<Box<Frame>>;

/// What is read in a tick: a frame, and the same at other rates.
#[derive(Default)]
struct Reading {
    /// There from a tick's beginning to its end.
    frame: Option<Box<Frame>>,
    copies: [Option<Box<FrameCopy>>; 3],
}

/// A frame at another rate. Its first samples are made of the frame before, too.
struct FrameCopy {
    resampler: Resampler,
    pcm: Pcm,
    marks: u8,
    before: u8,
}

/// One packet's samples, at each rate made so far.
pub(crate) struct Passing {
    samples: [Vec<i16>; 3],
    made: [Option<usize>; 3],
}

/// Who needs a leg's voice, by rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Every tick's frame, for ears and recording.
    pub tap: [bool; 3],
    /// Every tick's frame, for a mix.
    pub mix: [bool; 3],
    /// Every packet's samples as it passes.
    pub packets: [bool; 3],
}

impl Wanted {
    fn any(&self) -> bool {
        self.tap.iter().chain(&self.mix).chain(&self.packets).any(|w| *w)
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
            tap: Reading::default(),
            mix: Reading::default(),
            noise: None,
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
        self.tap.forget();
        self.mix.forget();
        self.passing.iter_mut().flatten().for_each(|r| r.reset());
    }

    /// Another stream, on another clock.
    pub fn restart(&mut self) {
        self.jitter.restart();
        self.next = None;
    }

    /// Makes ready for those who need it, and lets go of what nobody needs. Allocates.
    pub fn prepare(&mut self, wanted: Wanted) {
        let native = self.codec.rate();
        self.needed = wanted.any();
        match self.needed {
            true => drop(self.decoder.get_or_insert_with(|| Decoder::new(self.codec))),
            // What it remembers is not to be heard by whoever needs it next.
            false => (self.decoder, self.next) = (None, None),
        }
        for rate in Rate::ALL {
            self.tap.prepare(native, rate, wanted.tap[rate as usize]);
            self.mix.prepare(native, rate, wanted.mix[rate as usize]);
            let packets = wanted.packets[rate as usize];
            let resampler = &mut self.passing[rate as usize];
            match packets && rate != native {
                true => drop(resampler.get_or_insert_with(|| Box::new(Resampler::new(native, rate)))),
                false => *resampler = None,
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

    /// Reads the frame of a tick, into one of those that lie ready.
    pub fn pull(&mut self, ear: Ear, tick: MediaTime, ready: &mut Frames) {
        let reading = match ear {
            Ear::Tap => &mut self.tap,
            Ear::Mix => &mut self.mix,
        };
        let mut frame = reading.frame.take().or_else(|| ready.pop()).unwrap_or_default();
        self.jitter.pull(ear, tick, &mut frame);
        if let (Some(noise), Made::Silent) = (&mut self.noise, frame.made) {
            noise.fill(&mut frame.pcm);
        }
        reading.copies.iter_mut().flatten().for_each(|copy| copy.follow(&frame));
        reading.frame = Some(frame);
    }

    /// The tick is over: nobody reads its frames any more.
    pub fn put_down(&mut self, ready: &mut Frames) {
        ready.extend(self.tap.frame.take());
        ready.extend(self.mix.frame.take());
    }

    /// The tick's frame at a rate that is wanted, and the marks of all it is made of.
    pub fn at(&self, ear: Ear, rate: Rate) -> (&[i16], u8) {
        self.reading(ear).at(self.codec.rate(), rate)
    }

    /// How the tick's frame was made.
    pub fn made(&self, ear: Ear) -> Made {
        self.reading(ear).frame.as_ref().map_or(Made::Silent, |frame| frame.made)
    }

    fn reading(&self, ear: Ear) -> &Reading {
        match ear {
            Ear::Tap => &self.tap,
            Ear::Mix => &self.mix,
        }
    }

    /// As if its mix had been received in these modes.
    #[cfg(test)]
    pub fn mark_mix(&mut self, marks: u8) {
        self.mix.frame.get_or_insert_default().marks = marks;
    }
}

impl Reading {
    fn forget(&mut self) {
        self.copies.iter_mut().flatten().for_each(|c| c.forget());
    }

    /// The frame of a voice of rate `native` at a rate that is wanted, and the marks of all it is made of.
    fn at(&self, native: Rate, rate: Rate) -> (&[i16], u8) {
        match (&self.copies[rate as usize], &self.frame) {
            (Some(copy), Some(_)) => (&copy.pcm, copy.marks),
            (None, Some(frame)) if rate == native && frame.pcm.rate() == rate => (&frame.pcm, frame.marks),
            (Some(_) | None, Some(_) | None) => (silence(rate), 0),
        }
    }

    /// Makes ready for a rate, or lets go of it. Allocates.
    fn prepare(&mut self, native: Rate, rate: Rate, wanted: bool) {
        let copy = &mut self.copies[rate as usize];
        match wanted && rate != native {
            true => drop(copy.get_or_insert_with(|| Box::new(FrameCopy::new(native, rate)))),
            false => *copy = None,
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
    /// Room for a packet at every rate.
    pub fn new() -> Self {
        Passing { samples: Rate::ALL.map(|rate| vec![0; LONGEST * rate.frame()]), made: [None; 3] }
    }
    /// The packet's samples at a rate, where they were made.
    pub fn get(&self, rate: Rate) -> &[i16] {
        let count = self.made[rate as usize].unwrap_or(0);
        self.samples[rate as usize].get(..count).unwrap_or_default()
    }
}

/// 20 ms of nothing.
pub(crate) fn silence(rate: Rate) -> &'static [i16] {
    static SILENCE: [i16; Rate::Full.frame()] = [0; Rate::Full.frame()];
    &SILENCE[..rate.frame()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::{Encoder, OpusWish};
    use crate::media::rtp::Header;

    fn at(ms: i64) -> MediaTime {
        MediaTime::from_millis(ms)
    }
    fn header(sequence: u16, timestamp: u32) -> Header {
        Header { marker: false, payload_type: 0, sequence, timestamp, ssrc: 1 }
    }
    fn wanted(frames: &[Rate], packets: &[Rate]) -> Wanted {
        let mut wanted = Wanted::default();
        frames.iter().for_each(|r| wanted.mix[*r as usize] = true);
        packets.iter().for_each(|r| wanted.packets[*r as usize] = true);
        wanted
    }
    /// Loud noise, 20 ms a packet.
    fn packets(codec: Codec, count: usize, wish: OpusWish) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(codec, wish);
        let mut seed = crate::media::seed::Seed::new(2);
        let packet = |_| {
            let pcm: Vec<i16> = (0..codec.rate().frame()).map(|_| seed.bits() as i16 / 2).collect();
            let mut payload = Vec::new();
            encoder.encode(&pcm, &mut payload);
            payload
        };
        (0..count).map(packet).collect()
    }
    fn loudest(pcm: &[i16]) -> u16 {
        pcm.iter().map(|s| s.unsigned_abs()).max().unwrap_or(0)
    }

    /// A frame at another rate begins with 2 ms of the frame before, and has its marks.
    #[test]
    fn a_copy_is_marked_with_all_it_is_made_of() {
        let (mut voice, mut passing) = (Voice::new(Codec::Pcmu), Passing::new());
        voice.prepare(wanted(&[Rate::Narrow, Rate::Wide], &[]));
        let mut marks = Vec::new();
        for (n, payload) in packets(Codec::Pcmu, 10, OpusWish::default()).iter().enumerate() {
            let header = header(n as u16, n as u32 * 160);
            let mark = if n < 5 { 1 } else { 2 };
            voice.take(at(20 * n as i64), &Packet { header, payload }, Some(mark), &mut passing);
            voice.pull(Ear::Mix, at(20 * n as i64), &mut Vec::new());
            marks.push((voice.at(Ear::Mix, Rate::Narrow).1, voice.at(Ear::Mix, Rate::Wide).1));
        }
        let change = marks.iter().position(|(narrow, _)| *narrow == 2).unwrap();
        assert_eq!(marks[change - 1..change + 2], [(1, 1), (2, 3), (2, 2)]);
    }

    /// What is forgotten sounds in no decoder's and no resampler's memory either.
    #[test]
    fn nothing_is_left_of_what_is_forgotten() {
        for codec in Codec::ALL {
            let (mut voice, mut passing) = (Voice::new(codec), Passing::new());
            let others: Vec<Rate> = Rate::ALL.into_iter().filter(|r| *r != codec.rate()).collect();
            voice.prepare(wanted(&Rate::ALL, &others));
            for (n, payload) in packets(codec, 10, OpusWish::default()).iter().enumerate() {
                let packet = Packet { header: header(n as u16, n as u32 * codec.clock() / 50), payload };
                voice.take(at(20 * n as i64), &packet, Some(1), &mut passing);
                others.iter().for_each(|r| assert!(loudest(voice.passing(*r, &mut passing)) > 3000));
                voice.pull(Ear::Mix, at(20 * n as i64), &mut Vec::new());
            }
            assert!(Rate::ALL.iter().all(|r| loudest(voice.at(Ear::Mix, *r).0) > 3000), "{codec:?}");
            voice.forget();
            // A stream of silence, from an encoder that never heard anything else.
            let mut encoder = Encoder::new(codec, OpusWish::default());
            for n in 10..20i64 {
                let mut payload = Vec::new();
                encoder.encode(&vec![0; codec.rate().frame()], &mut payload);
                let header = header(n as u16, n as u32 * codec.clock() / 50);
                voice.take(at(20 * n), &Packet { header, payload: &payload }, Some(1), &mut passing);
                for rate in &others {
                    assert!(loudest(voice.passing(*rate, &mut passing)) < 20, "{codec:?} {rate:?} passing");
                }
                voice.pull(Ear::Mix, at(20 * n), &mut Vec::new());
                assert!(Rate::ALL.iter().all(|r| loudest(voice.at(Ear::Mix, *r).0) < 20), "{codec:?} by the clock");
            }
        }
    }

    /// RFC 6716 §2.1.7: what a packet says of the lost one before it is heard, at its place, by the ears. The mix on a good
    /// line has gone on by then.
    #[test]
    fn a_lost_opus_packet_is_heard_from_the_next() {
        let wish = OpusWish { bitrate: Some(32_000), fec: true };
        let (mut voice, mut passing) = (Voice::new(Codec::Opus), Passing::new());
        voice.prepare(wanted(&[Rate::Full], &[]));
        for (n, payload) in packets(Codec::Opus, 40, wish).iter().enumerate() {
            let now = 20 * n as i64;
            if n % 10 != 5 {
                let packet = Packet { header: header(n as u16, n as u32 * 960), payload };
                voice.take(at(now), &packet, Some(1), &mut passing);
            }
            voice.pull(Ear::Tap, at(now + 1), &mut Vec::new());
            assert!(n < 5 || voice.made(Ear::Tap) == Made::Heard, "packet {n}");
        }
    }

    /// RFC 3389: after the last voice comes noise of the level that was told, and no silence.
    #[test]
    fn told_noise_is_heard_until_the_voice_comes_back() {
        let (mut voice, mut passing) = (Voice::new(Codec::Pcma), Passing::new());
        voice.prepare(wanted(&[Rate::Narrow], &[]));
        let payloads = packets(Codec::Pcma, 20, OpusWish::default());
        let mut take = |voice: &mut Voice, n: usize| {
            let packet = Packet { header: header(n as u16, n as u32 * 160), payload: &payloads[n % 20] };
            voice.take(at(20 * n as i64), &packet, Some(1), &mut passing);
        };
        (0..10).for_each(|n| {
            take(&mut voice, n);
            voice.pull(Ear::Mix, at(20 * n as i64), &mut Vec::new());
        });
        voice.take_noise(&[50]);
        (10..25).for_each(|n| voice.pull(Ear::Mix, at(20 * n), &mut Vec::new()));
        let level = loudest(voice.at(Ear::Mix, Rate::Narrow).0);
        // −50 dB below full scale is an RMS of 104, whose evenly spread samples reach 180.
        assert!((150..=180).contains(&level), "{level}");
        (25..35).for_each(|n| {
            take(&mut voice, n);
            voice.pull(Ear::Mix, at(20 * n as i64), &mut Vec::new());
        });
        assert!(loudest(voice.at(Ear::Mix, Rate::Narrow).0) > 3000);
        (35..50).for_each(|n| voice.pull(Ear::Mix, at(20 * n), &mut Vec::new()));
        assert_eq!(loudest(voice.at(Ear::Mix, Rate::Narrow).0), 0, "a voice that simply stops leaves silence");
    }

    /// Nobody listens: nothing is decoded.
    #[test]
    fn nothing_is_decoded_for_nobody() {
        let (mut voice, mut passing) = (Voice::new(Codec::G722), Passing::new());
        voice.prepare(wanted(&[Rate::Wide], &[]));
        voice.prepare(Wanted::default());
        let packet = Packet { header: header(1, 1), payload: &[9; 160] };
        voice.take(at(0), &packet, None, &mut passing);
        assert!(passing.get(Rate::Wide).is_empty());
    }
}
