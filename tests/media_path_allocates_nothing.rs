//! Once a call runs, no packet and no tick of it allocates: in relay, overlay and mix, with ears and recording open, under
//! SRTP, and on through the queues by which a media thread hands on what it has.

mod support;

use sotto::call::ears::{Ears, LeakGuard};
use sotto::call::sdp::{Keyring, Keys, MasterKey, Suite};
use sotto::call::{Audience, Call, FRAME, Output, Port, Speaker, Volume};
use sotto::config::Way;
use sotto::event::{Mode, Place, Role};
use sotto::id::{CallId, LegId, Tenant};
use sotto::io::clock;
use sotto::io::conversation::{Conversations, Setting, Surroundings};
use sotto::io::journal::Journal;
use sotto::io::metrics::Metrics;
use sotto::io::recorder::Recorder;
use sotto::io::srtp::Session;
use sotto::io::udp::{self, DATAGRAM};
use sotto::media::codec::Codec;
use sotto::media::pcm::Rate;
use sotto::media::rtp::Header;
use sotto::media::seed::Seed;
use sotto::media::xr::Wish;
use sotto::time::{MediaTime, Samples};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use support::{Stage, tones};

/// Counts what the thread that asks allocates, and nobody else.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: everything is the system's allocator's; counting touches a thread-local number without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new([1u8; 64])))), 1);
}

/// A party whose packets lie ready.
struct Party {
    leg: LegId,
    from: SocketAddr,
    packet: Vec<u8>,
    sequence: u16,
}

/// A call that has been set up on a stage, and then runs alone.
struct Running {
    call: Call,
    now: MediaTime,
    parties: Vec<Party>,
    sent: u64,
    heard: u64,
    recorded: u64,
    alone: u64,
}

impl Running {
    /// Lets everything reach its size, and then runs on from where the stage stopped.
    fn warm(mut stage: Stage) -> Running {
        stage.run(3000);
        let parties = stage.phones.values().map(|phone| {
            let mut packet = phone.header.bytes().to_vec();
            packet.extend_from_slice(&[0x55; FRAME]);
            Party { leg: phone.leg, from: phone.from, packet, sequence: phone.header.sequence }
        });
        let parties = parties.collect();
        let mut running =
            Running { call: stage.call, now: stage.now, parties, sent: 0, heard: 0, recorded: 0, alone: 0 };
        running.run(100);
        (running.sent, running.heard, running.recorded, running.alone) = (0, 0, 0, 0);
        running
    }

    /// `frames` times 20 ms: a packet of each party, and the ticks that are due.
    fn run(&mut self, frames: u32) {
        for _ in 0..frames {
            for at in 0..self.parties.len() {
                self.packet(at);
            }
            for _ in 0..4 {
                self.now = self.now + Samples::from_millis(5);
                if self.call.poll_timeout().is_some_and(|due| due <= self.now) {
                    self.call.tick(self.now);
                    self.drain();
                }
            }
        }
    }

    fn packet(&mut self, at: usize) {
        let party = &mut self.parties[at];
        party.packet[2..4].copy_from_slice(&party.sequence.to_be_bytes());
        let timestamp = u32::from(party.sequence) * FRAME as u32;
        party.packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
        party.sequence = party.sequence.wrapping_add(1);
        self.call.packet(self.now, party.leg, Port::Rtp, party.from, &party.packet);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.call.poll() {
            match output {
                Output::Send { .. } => self.sent += 1,
                Output::Heard { .. } => self.heard += 1,
                Output::Record { .. } => self.recorded += 1,
                Output::RecordLeg { .. } => self.alone += 1,
                // Nothing happens in these seconds but talk.
                Output::Event(event) => panic!("{event:?}"),
            }
        }
    }
}

fn stage(agent: Codec) -> (Stage, LegId, LegId) {
    let mut stage = Stage::new(1);
    let customer = stage.join(Role::Customer);
    // Whose far end wants every report there is.
    let mut media = support::media(agent, 4002);
    media.shape.reports = Wish::ALL;
    let agent = stage.join_with(Role::Agent, Place::InConversation, Mode::Spy, media);
    (stage, customer, agent)
}

/// Twenty seconds: reports fall into them too.
fn twenty_seconds_cost_nothing(name: &str, stage: Stage) {
    let mut running = Running::warm(stage);
    let legs = running.parties.len() as u64;
    assert_eq!(allocations(|| running.run(1000)), 0, "{name}");
    assert!(running.sent >= 1000 * legs, "{name}: {} packets", running.sent);
    let kept = (running.heard, running.recorded, running.alone);
    assert_eq!(kept, (2000, 1000, 2000), "{name}: both are heard and recorded");
}

#[test]
fn relay() {
    twenty_seconds_cost_nothing("relay", stage(Codec::Pcmu).0);
}

#[test]
fn overlay_because_of_a_codec() {
    twenty_seconds_cost_nothing("overlay", stage(Codec::Pcma).0);
}

#[test]
fn overlay_of_a_clip() {
    let (mut stage, ..) = stage(Codec::Pcmu);
    stage.run(500);
    stage.play(tones::beep(900.0, 40_000), Audience::Own(Mode::Whisper)).unwrap();
    twenty_seconds_cost_nothing("a whispered clip", stage);
}

#[test]
fn overlay_of_a_guarded_whisper() {
    let duck = Volume::decibels(-12).unwrap();
    let mut stage = Stage::with(Ears { duck, leak_guard: LeakGuard::Detect, level: true, ..Ears::default() });
    stage.join(Role::Customer);
    stage.join(Role::Agent);
    stage.run(500);
    // Noise, as a voice is: a pure tone is like any other.
    let mut seed = Seed::new(1);
    let noise = (0..40 * 8000).map(|_| seed.bits() as i16 / 8).collect();
    stage.play(noise, Audience::Own(Mode::Whisper)).unwrap();
    twenty_seconds_cost_nothing("a whispered clip that may leak", stage);
}

#[test]
fn mixes_for_everyone() {
    for mode in [Mode::Spy, Mode::Whisper, Mode::Barge] {
        let (mut stage, ..) = stage(Codec::Pcma);
        let supervisor = stage.join(Role::Supervisor);
        stage.set_mode(Speaker::Leg(supervisor), mode).unwrap();
        twenty_seconds_cost_nothing(&format!("{mode:?}"), stage);
    }
}

#[test]
fn what_is_left_of_a_failed_call() {
    let (mut stage, _, agent) = stage(Codec::Pcma);
    stage.run(500);
    let (from, mut packet) = (stage.phone(agent).from, stage.phone(agent).header.bytes().to_vec());
    packet.extend_from_slice(&[0x55; FRAME]);
    let sequence = stage.phone(agent).header.sequence;
    let call = std::mem::replace(&mut stage.call, Call::new(support::options(2)));
    let (mut fallback, mut passed) = (call.into_fallback(), 0);
    let mut pass = |n: u16| {
        packet[2..4].copy_from_slice(&sequence.wrapping_add(n).to_be_bytes());
        let now = stage.now + Samples::from_millis(20 * i64::from(n));
        passed += u32::from(fallback.packet(now, agent, Port::Rtp, from, &packet).is_some());
    };
    pass(0);
    assert_eq!(allocations(|| (1..1000).for_each(&mut pass)), 0);
    assert_eq!(passed, 1000);
}

/// Sealed, opened, and refused the second time.
#[test]
fn srtp() {
    for suite in Suite::ALL {
        let [ours, theirs] = [1, 2].map(|octet| Keyring::new(|| [octet; MasterKey::MOST]).key(suite));
        let mut a = Session::new(Keys { ours, theirs });
        let mut b = Session::new(Keys { ours: theirs, theirs: ours });
        let mut room = [0; DATAGRAM];
        let mut pass = |sequence: u16| {
            let header = Header { marker: false, payload_type: 0, sequence, timestamp: 0, ssrc: 7 };
            for (port, length) in [(Port::Rtp, 172), (Port::Rtcp, 60)] {
                room[..12].copy_from_slice(&header.bytes());
                let sealed = a.seal(port, &mut room, length).unwrap();
                let mut again = room;
                assert_eq!(b.open(port, &mut room[..sealed]), Some(length));
                assert_eq!(b.open(port, &mut again[..sealed]), None);
            }
        };
        pass(0);
        assert_eq!(allocations(|| (1..2000).for_each(&mut pass)), 0, "{suite:?}");
    }
}

/// Both ways through the kernel's door.
#[test]
fn sockets() {
    for way in [Way::Plain, Way::Auto] {
        let mut sockets = udp::open(way).unwrap();
        let [a, b] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        let to = b.local_addr().unwrap();
        let (a, _b) = (sockets.add(a).unwrap(), sockets.add(b).unwrap());
        let (mut buffer, mut got) = ([0; DATAGRAM], 0);
        let mut turns = |count: usize| {
            for _ in 0..count {
                sockets.send(a, to, &[1; 172]);
                sockets.wait(Some(clock::now() + Duration::from_secs(1))).unwrap();
                while sockets.next(&mut buffer).is_some() {
                    got += 1;
                }
            }
        };
        turns(50);
        assert_eq!(allocations(|| turns(2000)), 0, "{way:?}");
        assert!(got > 2000, "{way:?}: {got} of 2050");
    }
}

/// Ears that hear nothing: only the way there is looked at.
struct Nowhere;

#[async_trait::async_trait]
impl Surroundings for Nowhere {
    async fn recognise(&self, job: sotto::speech::Job) -> sotto::speech::Recognised {
        sotto::speech::Recognised { utterance: job.utterance, result: Err("deaf".into()) }
    }
    async fn speak(&self, _: CallId, _: sotto::event::Words, _: Mode) -> Result<sotto::id::ClipId, String> {
        Err("dumb".into())
    }
    async fn prepare(&self, _: sotto::event::Words) -> Result<(), String> {
        Ok(())
    }
    async fn cut(&self, _: CallId, _: sotto::id::ClipId, _: &'static str) {}
    fn record(&self, _: CallId, _: sotto::event::Event) {}
}

/// More frames than the queues hold, so that a full one is met too: the frame is dropped, and counted.
#[test]
fn frames_on_their_way_to_ears_and_recording() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = std::env::temp_dir().join(format!("sotto-frames-{:016x}", clock::random()));
    let metrics = Arc::new(Metrics::default());
    let _inside = runtime.enter();
    let coach = sotto::config::Coach {
        playbook: "none".into(),
        playbook_dir: "".into(),
        ceiling: Mode::Whisper,
        sensitivity: sotto::config::Sensitivity::Standard,
        ears: Default::default(),
    };
    let setting = Setting { playbooks: Arc::default(), coach, metrics: metrics.clone(), workers: Some(1) };
    let conversations = Conversations::start(setting, Arc::new(Nowhere), runtime.handle()).unwrap();
    let journal = Journal::start(&store, Tenant::default(), metrics.clone());
    let (journal, _task) = runtime.block_on(journal).unwrap();
    let setting = sotto::config::Recording { legs: true, ..Default::default() };
    let tenant = Tenant::default();
    let (recorder, thread) = Recorder::start_with(setting, &store, tenant, journal, metrics.clone()).unwrap();
    let call = CallId::new(1_790_000_000_000, 0, 0, 7);
    conversations.open(call, "none".into());
    let frame = |n: i64| {
        let (at, pcm) = (MediaTime::from_millis(20 * n), [3; FRAME]);
        conversations.heard(call, LegId(1), Role::Customer, at, Rate::Narrow, &pcm);
        conversations.heard(call, LegId(2), Role::Agent, at, Rate::Narrow, &pcm);
        recorder.frame(call, at, Rate::Narrow, &pcm, &pcm);
        recorder.leg(call, LegId(1), at, Rate::Narrow, &pcm);
    };
    (0..100).for_each(frame);
    // As fast as this thread can: the others cannot keep up.
    assert_eq!(allocations(|| (100..60_000).for_each(frame)), 0);
    let dropped = metrics.ears.heard_frames_dropped.get() + metrics.ears.record_frames_dropped.get();
    assert!(dropped > 0, "no queue was ever full: nothing was shown about a full one");
    runtime.block_on(conversations.shutdown(Duration::ZERO));
    recorder.close();
    thread.join().unwrap();
    std::fs::remove_dir_all(&store).unwrap();
}
