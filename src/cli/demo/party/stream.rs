//! A party's audio: one thread sends 20 ms every 20 ms, one keeps what arrives.
//!
//! Between its words a party sends faint line noise, as telephones do, which also makes every packet unlike every
//! other: a packet found at the far end can be told from all the rest.

use super::capture::{Capture, Received, Sent};
use super::rtp::{self, FRAME, Header};
use super::{PartyOptions, g711, sdp};
use crate::io::clock;
use crate::io::rtp::LegSockets;
use crate::media::codec::g711::Law;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The time between two packets.
const PACE: Duration = Duration::from_millis(20);
/// How loud the noise between the words is at most: about −69 dBFS, far below speech, above G.711's smallest step.
const NOISE: i16 = 20;
/// How often the receiver looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Packets kept in each direction: half an hour. Later ones still go out and come in, but are not kept.
const KEPT: usize = 90_000;
/// Phrases waiting to be said. A ninth waits with its caller.
const WAITING: usize = 8;

/// What the network does to the packets a party sends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Impairment {
    /// How many of a thousand packets are lost.
    pub loss_per_mille: u16,
    /// Each packet is delayed by up to this much, so that packets may overtake each other.
    pub jitter: Duration,
}

/// When something was said.
#[derive(Clone, Copy, Debug)]
pub struct Spoken {
    /// When the first packet was due on the wire.
    pub first: Instant,
    /// When the packet with the last sample was.
    pub last: Instant,
}

/// Both directions of a party's audio.
pub(super) struct Stream {
    phrases: SyncSender<Phrase>,
    stop: Arc<AtomicBool>,
    codec: Law,
    sender: JoinHandle<Vec<Sent>>,
    receiver: JoinHandle<Vec<Received>>,
    /// Open until the end, so that the far end's reports do not bounce.
    _rtcp: UdpSocket,
}

struct Phrase {
    pcm: Arc<[i16]>,
    /// Keys to be pressed instead (RFC 4733 §3.2).
    keys: Arc<[u8]>,
    said: oneshot::Sender<Spoken>,
}

impl Stream {
    pub(super) fn start(sockets: LegSockets, to: SocketAddr, options: &PartyOptions) -> io::Result<Stream> {
        let LegSockets { rtp: socket, rtcp, .. } = sockets;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(LOOK))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (phrases, waiting) = sync_channel(WAITING);
        let sender = Sender::new(socket.try_clone()?, to, waiting, options);
        let (stop_sending, stop_receiving) = (stop.clone(), stop.clone());
        let name = |what| format!("{}-{what}", options.user);
        Ok(Stream {
            phrases,
            codec: options.codec,
            sender: thread::Builder::new().name(name("says")).spawn(move || sender.run(&stop_sending))?,
            receiver: thread::Builder::new().name(name("hears")).spawn(move || receive(&socket, &stop_receiving))?,
            stop,
            _rtcp: rtcp,
        })
    }

    /// Returns when the last packet has gone; none if the stream is at its end.
    pub(super) async fn say(&self, pcm: Arc<[i16]>) -> Option<Spoken> {
        self.queue(pcm, [].into()).await
    }

    /// The same for keys.
    pub(super) async fn press(&self, keys: Arc<[u8]>) -> Option<Spoken> {
        self.queue([].into(), keys).await
    }

    async fn queue(&self, pcm: Arc<[i16]>, keys: Arc<[u8]>) -> Option<Spoken> {
        let (said, spoken) = oneshot::channel();
        let phrases = self.phrases.clone();
        tokio::task::spawn_blocking(move || phrases.send(Phrase { pcm, keys, said })).await.ok()?.ok()?;
        spoken.await.ok()
    }

    /// Stops both threads and gives out what they kept. Blocks for at most 50 ms.
    pub(super) fn finish(self) -> Capture {
        self.stop.store(true, Ordering::Relaxed);
        let (sent, received) = (self.sender.join(), self.receiver.join());
        Capture { codec: self.codec, sent: sent.unwrap_or_default(), received: received.unwrap_or_default() }
    }
}

/// Keeps every RTP packet that arrives until it is stopped.
fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Vec<Received> {
    let mut kept = Vec::new();
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // Nothing within the timeout, or the far end's port is closed already: go on until told to stop.
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let at = clock::now();
        let Some((header, payload)) = buffer.get(..length).and_then(rtp::read) else { continue };
        // Keys are no sound.
        if kept.len() < KEPT && header.payload_type != sdp::EVENTS {
            let Header { sequence, timestamp, ssrc, payload_type, .. } = header;
            kept.push(Received { at, sequence, timestamp, ssrc, payload_type, payload: payload.to_vec() });
        }
    }
    kept
}

/// The sending thread.
struct Sender {
    socket: UdpSocket,
    to: SocketAddr,
    codec: Law,
    waiting: Receiver<Phrase>,
    saying: Option<Saying>,
    header: Header,
    random: StdRng,
    impairment: Impairment,
    /// Packets the impairment holds back, by when they are due. No more than fit into its jitter.
    delayed: BTreeMap<(Instant, u16), Vec<u8>>,
    sent: Vec<Sent>,
}

struct Saying {
    phrase: Phrase,
    next: usize,
    first: Instant,
    /// The timestamp of the key that is down.
    began: u32,
}

/// Packets of a key: while it is down, when it is up, and until the next.
const DOWN: usize = 5;
const UP: usize = 3;
const KEY: usize = 12;

/// A packet of a key.
struct Event {
    code: u8,
    packet: usize,
    began: u32,
}

impl Event {
    /// RFC 4733 §2.3.
    fn block(&self) -> [u8; 4] {
        let duration = ((self.packet + 1).min(DOWN) * FRAME) as u16;
        let [high, low] = duration.to_be_bytes();
        [self.code, if self.packet >= DOWN { 0x8A } else { 0x0A }, high, low]
    }
}

impl Sender {
    fn new(socket: UdpSocket, to: SocketAddr, waiting: Receiver<Phrase>, options: &PartyOptions) -> Self {
        let mut random = StdRng::seed_from_u64(options.seed);
        let header = Header {
            marker: true,
            payload_type: sdp::payload_type(options.codec),
            sequence: random.random(),
            timestamp: random.random(),
            ssrc: random.random(),
        };
        let (codec, impairment) = (options.codec, options.impairment);
        let (delayed, sent) = (BTreeMap::new(), Vec::new());
        Sender { socket, to, codec, waiting, saying: None, header, random, impairment, delayed, sent }
    }

    fn run(mut self, stop: &AtomicBool) -> Vec<Sent> {
        let mut next = clock::now();
        while !stop.load(Ordering::Relaxed) {
            if clock::now() >= next {
                self.frame(next);
                next += PACE;
            }
            self.release(clock::now());
            let wake = self.delayed.keys().next().map_or(next, |(due, _)| next.min(*due));
            thread::sleep(wake.saturating_duration_since(clock::now()));
        }
        self.sent
    }

    /// The next 20 ms: words, a key, or only noise, onto the wire or into the impairment.
    fn frame(&mut self, now: Instant) {
        if let Some(event) = self.key(now) {
            let (marker, timestamp) = (event.packet == 0, event.began);
            let header = Header { marker, timestamp, payload_type: sdp::EVENTS, ..self.header };
            // A datagram that cannot be sent is a datagram lost.
            let _ = self.socket.send_to(&rtp::write(header, &event.block()), self.to);
            self.header.sequence = self.header.sequence.wrapping_add(1);
            self.header.timestamp = self.header.timestamp.wrapping_add(FRAME as u32);
            return;
        }
        let payload = self.speech(now).map(|sample| g711::encode(self.codec, sample));
        let packet = rtp::write(self.header, &payload);
        let lost = self.random.random_range(0..1000) < self.impairment.loss_per_mille;
        if !lost {
            let jitter = self.impairment.jitter.as_micros() as u64;
            let due = now + Duration::from_micros(self.random.random_range(0..=jitter));
            self.delayed.insert((due, self.header.sequence), packet);
        }
        if self.sent.len() < KEPT {
            self.sent.push(Sent { at: now, payload, lost });
        }
        self.header.marker = false;
        self.header.sequence = self.header.sequence.wrapping_add(1);
        self.header.timestamp = self.header.timestamp.wrapping_add(FRAME as u32);
    }

    fn look_for_words(&mut self, now: Instant) {
        if self.saying.is_none() {
            self.saying = match self.waiting.try_recv() {
                Ok(phrase) => Some(Saying { phrase, next: 0, first: now, began: 0 }),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
            };
        }
    }

    /// The packet of the key that is down, if one is.
    fn key(&mut self, now: Instant) -> Option<Event> {
        self.look_for_words(now);
        let timestamp = self.header.timestamp;
        let saying = self.saying.as_mut().filter(|saying| !saying.phrase.keys.is_empty())?;
        let (key, packet) = (saying.next / KEY, saying.next % KEY);
        saying.next += 1;
        if packet == 0 {
            saying.began = timestamp;
        }
        let event = Event { code: saying.phrase.keys.get(key).copied().unwrap_or(0), packet, began: saying.began };
        if saying.next == saying.phrase.keys.len() * KEY
            && let Some(saying) = self.saying.take()
        {
            // Nobody may be waiting to hear of it any more.
            let _ = saying.phrase.said.send(Spoken { first: saying.first, last: now });
        }
        (packet < DOWN + UP).then_some(event)
    }

    fn speech(&mut self, now: Instant) -> [i16; FRAME] {
        let mut frame = [0; FRAME];
        frame.fill_with(|| self.random.random_range(-NOISE..=NOISE));
        self.look_for_words(now);
        let Some(mut saying) = self.saying.take_if(|saying| saying.phrase.keys.is_empty()) else { return frame };
        let words = saying.phrase.pcm.iter().skip(saying.next);
        for (sample, word) in frame.iter_mut().zip(words) {
            *sample = sample.saturating_add(*word);
        }
        saying.next += FRAME;
        if saying.next < saying.phrase.pcm.len() {
            self.saying = Some(saying);
        } else {
            // Nobody may be waiting to hear of it any more.
            let _ = saying.phrase.said.send(Spoken { first: saying.first, last: now });
        }
        frame
    }

    fn release(&mut self, now: Instant) {
        while let Some(packet) = self.delayed.first_entry().filter(|packet| packet.key().0 <= now) {
            // A datagram that cannot be sent is a datagram lost.
            let _ = self.socket.send_to(&packet.remove(), self.to);
        }
    }
}
