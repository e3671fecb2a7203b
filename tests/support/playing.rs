//! Recordings as players hear them: WAV by hound, Opus by the packets of the ogg crate and libopus's decoder, read here
//! and not by the code that wrote them.
#![allow(dead_code, reason = "every test uses its own part")]

use sotto::config::Format;
use std::io::Cursor;
use std::path::Path;

/// What a file holds.
pub struct Played {
    pub hz: u32,
    /// One for each channel, all of a length.
    pub channels: Vec<Vec<i16>>,
    /// Whether it says that it is complete. A WAV file never says.
    pub ended: bool,
}

impl Played {
    pub fn length(&self) -> usize {
        self.channels[0].len()
    }

    pub fn ms(&self) -> i64 {
        self.length() as i64 * 1000 / i64::from(self.hz)
    }

    /// A piece of a channel.
    pub fn piece(&self, channel: usize, from_ms: i64, to_ms: i64) -> &[i16] {
        let at = |ms: i64| (ms * i64::from(self.hz) / 1000) as usize;
        &self.channels[channel][at(from_ms)..at(to_ms).min(self.length())]
    }
}

pub fn play(path: &Path, format: Format) -> Played {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    match format {
        Format::Wav => wav(&bytes),
        Format::Opus => opus(&bytes),
    }
}

pub fn wav(bytes: &[u8]) -> Played {
    let wav = hound::WavReader::new(Cursor::new(bytes)).unwrap();
    let (hz, count) = (wav.spec().sample_rate, usize::from(wav.spec().channels));
    assert_eq!(wav.spec().bits_per_sample, 16);
    let samples: Vec<i16> = wav.into_samples().map(Result::unwrap).collect();
    Played { hz, channels: apart(&samples, count), ended: true }
}

/// As RFC 7845 has it: the mapping family, the pre-skip, the granules of every page, and the end.
pub fn opus(bytes: &[u8]) -> Played {
    let mut packets = ogg::PacketReader::new(Cursor::new(bytes));
    let head = packets.read_packet_expected().unwrap();
    assert!(head.first_in_stream() && head.last_in_page() && head.absgp_page() == 0);
    let head = head.data;
    assert_eq!(&head[..9], b"OpusHead\x01");
    let count = usize::from(head[9]);
    let skip = usize::from(u16::from_le_bytes([head[10], head[11]]));
    let hz = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
    let (family, mapping) = (head[18], &head[19..]);
    match count {
        1 => assert_eq!((family, mapping.len()), (0, 0)),
        2 => assert_eq!((family, mapping), (1, &[2, 0, 0, 1][..]), "two streams, none coupled"),
        other => panic!("{other} channels"),
    }
    let tags = packets.read_packet_expected().unwrap();
    assert!(tags.data.starts_with(b"OpusTags") && tags.last_in_page() && tags.absgp_page() == 0);
    let streams: Vec<u8> = (0..count as u8).collect();
    let mut decoder = opus::MSDecoder::new(hz, count as u8, 0, &streams).unwrap();
    let per = 48_000 / hz as usize;
    let (mut samples, mut granule, mut ended) = (Vec::new(), 0, false);
    while let Ok(Some(packet)) = packets.read_packet() {
        assert!(!ended, "nothing comes after the end");
        let mut pcm = vec![0; 5_760 / per * count];
        let length = decoder.decode(&packet.data, &mut pcm, false).unwrap();
        samples.extend_from_slice(&pcm[..length * count]);
        ended = packet.last_in_stream();
        granule = packet.absgp_page() as usize;
        let decoded = samples.len() / count * per;
        if ended {
            assert!(granule <= decoded && granule + 960 > decoded, "{granule} of {decoded}");
        } else {
            assert_eq!(granule, decoded, "a page says how far it goes");
        }
    }
    samples.truncate(granule / per * count);
    samples.drain(..(skip / per * count).min(samples.len()));
    Played { hz, channels: apart(&samples, count), ended }
}

fn apart(samples: &[i16], count: usize) -> Vec<Vec<i16>> {
    (0..count).map(|channel| samples.iter().skip(channel).step_by(count).copied().collect()).collect()
}
