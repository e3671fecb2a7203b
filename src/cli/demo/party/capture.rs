//! All that a party sent and received, packet by packet, and the audio in it.

use super::g711;
use super::rtp::FRAME;
use crate::media::codec::g711::Law;
use std::time::Instant;

/// A packet that was to be sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its place on the sender's clock.
    pub at: Instant,
    /// The audio as sent.
    pub payload: [u8; FRAME],
    /// Whether the impairment dropped it.
    pub lost: bool,
}

/// A packet that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP timestamp, at 8 kHz.
    pub timestamp: u32,
    /// Whose.
    pub ssrc: u32,
    /// RTP payload type.
    pub payload_type: u8,
    /// The audio as received.
    pub payload: Vec<u8>,
}

/// Everything of one call, in order of sending and of arrival.
#[derive(Clone, Debug)]
pub struct Capture {
    /// What the payloads are.
    pub codec: Law,
    /// What was sent.
    pub sent: Vec<Sent>,
    /// What was received.
    pub received: Vec<Received>,
}

/// A jump of the timestamps by more samples than this (10 s) is no hole but a new beginning.
const LONGEST_GAP: i32 = 80_000;

impl Capture {
    /// What was heard, mono 8 kHz: each packet where its timestamp says, silence where none came.
    pub fn heard(&self) -> Vec<i16> {
        let mut pcm = Vec::new();
        let mut last: Option<(&Received, usize)> = None;
        for packet in &self.received {
            let start = last.and_then(|(before, at)| follow(before, at, packet)).unwrap_or(pcm.len());
            last = Some((packet, start));
            let end = start + packet.payload.len();
            if pcm.len() < end {
                pcm.resize(end, 0);
            }
            for (sample, byte) in pcm.iter_mut().skip(start).zip(&packet.payload) {
                *sample = g711::decode(self.codec, *byte);
            }
        }
        pcm
    }

    /// What was sent, mono 8 kHz, as a perfect network would have carried it.
    pub fn said(&self) -> Vec<i16> {
        self.sent.iter().flat_map(|p| p.payload).map(|byte| g711::decode(self.codec, byte)).collect()
    }

    /// The audio of one payload.
    pub fn decode<'a>(&self, payload: &'a [u8]) -> impl Iterator<Item = i16> + 'a {
        let codec = self.codec;
        payload.iter().map(move |byte| g711::decode(codec, *byte))
    }
}

/// Where `packet` lies in the audio when `before` lies at `at`; none if its timestamps began anew.
fn follow(before: &Received, at: usize, packet: &Received) -> Option<usize> {
    let step = packet.timestamp.wrapping_sub(before.timestamp) as i32;
    if packet.ssrc != before.ssrc || step.unsigned_abs() > LONGEST_GAP as u32 {
        return None;
    }
    at.checked_add_signed(step as isize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock;

    fn packet(timestamp: u32, sample: i16) -> Received {
        let payload = vec![g711::encode(Law::A, sample); FRAME];
        Received { at: clock::now(), sequence: 0, timestamp, ssrc: 1, payload_type: 8, payload }
    }

    fn heard(received: Vec<Received>) -> Vec<i16> {
        Capture { codec: Law::A, sent: vec![], received }.heard()
    }

    #[test]
    fn a_lost_packet_is_silence_and_a_late_one_is_put_where_it_belongs() {
        let before_the_wrap = u32::MAX - 159;
        let pcm = heard(vec![packet(before_the_wrap, 1000), packet(320, 3000), packet(0, 2000)]);
        let levels: Vec<i16> = pcm.iter().copied().step_by(FRAME).map(|s| (s + 500) / 1000 * 1000).collect();
        assert_eq!(levels, [1000, 2000, 0, 3000]);
    }

    #[test]
    fn timestamps_that_begin_anew_continue_at_the_end() {
        let pcm = heard(vec![packet(0, 1000), packet(2_000_000_000, 2000), packet(2_000_000_160, 3000)]);
        assert_eq!(pcm.len(), 3 * FRAME);
    }
}
