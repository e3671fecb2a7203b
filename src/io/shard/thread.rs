//! The loop of a media thread: wait, read, obey, tick.
//!
//! Where a packet leaves or enters (`Edge::send`, `Thread::packet`) is where SRTP protects and unprotects it (`wire`):
//! behind the kernel's door, and before any call sees it.

use super::wire::{LegIo, Room};
use super::{Joins, Order, Reply, Sinks, Stranded, Traveller};
use crate::call::fallback::{Fallback, Relayed};
use crate::call::sdp::Keys;
use crate::call::{Ack, Call, CallOptions, Command, LegMedia, Output, Port, Refusal, Workbench};
use crate::event::{Event, What};
use crate::id::{CallId, LegId};
use crate::io::clock;
use crate::io::recorder::{self, Line};
use crate::io::rtp::LegSockets;
use crate::io::udp::{Arrived, DATAGRAM, Key, Sockets};
use crate::time::MediaTime;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Timers for which there is room from the start; more calls than that allocate once.
const TIMERS: usize = 4096;

/// How long a tick may wait for packets to wake the thread anyway: with ten calls ticks cost no wake-up of their own,
/// and what they make (frames of 20 ms, for phones that have a jitter buffer) is late by no more than this.
const LEEWAY: Duration = Duration::from_millis(2);

/// The thread's whole state.
pub(super) struct Thread {
    inbox: mpsc::Receiver<Order>,
    edge: Edge,
    slots: Slab<Slot>,
    /// How many calls there are, for whoever places the next.
    load: Arc<AtomicUsize>,
    by_id: HashMap<CallId, usize>,
    /// Which socket a key means.
    endpoints: Vec<Option<Endpoint>>,
    /// When which slot is to be ticked; entries of ended calls are skipped by their id.
    timers: BinaryHeap<Reverse<(Instant, usize, CallId)>>,
    /// When the thread last woke.
    now: Instant,
    buffer: Box<[u8; DATAGRAM]>,
}

/// Everything outside of the calls: where their outputs go.
struct Edge {
    sockets: Box<dyn Sockets>,
    sinks: Sinks,
    /// Datagrams received and sent in this turn, not yet in the metrics.
    received: u64,
    sent: u64,
    /// Those that were refused under SRTP, and those that could not be protected.
    refused: u64,
    unprotected: u64,
    room: Box<Room>,
    /// On which one call at a time works. Lost with a call that panics: the next makes another.
    bench: Option<Box<Workbench>>,
}

#[derive(Clone, Copy)]
struct Endpoint {
    slot: usize,
    leg: LegId,
    port: Port,
}

/// A call on this shard.
struct Slot {
    id: CallId,
    began: Instant,
    logic: Logic,
    legs: Vec<LegIo>,
    recording: Line,
}

/// What decides about the packets of a call.
enum Logic {
    Whole(Box<Call>),
    /// The call's logic panicked: customer and agent are relayed, nothing else.
    Relaying(Box<Fallback>),
}

impl Thread {
    pub(super) fn new(
        sockets: Box<dyn Sockets>,
        inbox: mpsc::Receiver<Order>,
        sinks: Sinks,
        load: Arc<AtomicUsize>,
    ) -> Self {
        Thread {
            inbox,
            edge: Edge::new(sockets, sinks),
            slots: Slab::new(),
            load,
            by_id: HashMap::new(),
            endpoints: Vec::new(),
            timers: BinaryHeap::with_capacity(TIMERS),
            now: clock::now(),
            buffer: Box::new([0; DATAGRAM]),
        }
    }

    /// Until told to stop.
    pub(super) fn run(mut self) {
        loop {
            let due = self.timers.peek().map(|Reverse((at, ..))| *at + LEEWAY);
            if let Err(error) = self.edge.sockets.wait(due) {
                // Waiting fails only for bad arguments (epoll_wait(2), io_uring_enter(2)): we are at fault.
                tracing::error!(%error, "a media thread cannot wait for packets any more");
                return;
            }
            // One look at the clock for all that came while the thread slept.
            self.now = clock::now();
            while let Some(arrived) = self.edge.sockets.next(&mut self.buffer) {
                self.packet(arrived);
            }
            if self.obey() == Inbox::Closed {
                return;
            }
            self.tick();
            self.edge.count();
        }
    }

    fn packet(&mut self, arrived: Arrived) {
        let Arrived { key, from, length } = arrived;
        let Some(Endpoint { slot, leg, port }) = self.endpoints.get(key).copied().flatten() else { return };
        let (Some(slot), Some(bytes)) = (self.slots.get_mut(slot), self.buffer.get_mut(..length)) else { return };
        self.edge.received += 1;
        let Some((port, bytes)) = slot.wire(leg).and_then(|wire| wire.open(port, bytes)) else {
            self.edge.refused += 1;
            return;
        };
        let now = slot.media_time(self.now);
        match &mut slot.logic {
            Logic::Whole(_) => {
                slot.drive(&mut self.edge, |call| call.packet(now, leg, port, from, bytes));
            }
            Logic::Relaying(fallback) => {
                let (legs, edge) = (&mut slot.legs, &mut self.edge);
                // The other calls of this thread must outlive a fault here too; the packet is lost, the relay goes on.
                let relayed = catch_unwind(AssertUnwindSafe(|| {
                    if let Some(Relayed { leg, port, to, bytes }) = fallback.packet(now, leg, port, from, bytes) {
                        edge.send(legs, leg, port, to, bytes);
                    }
                }));
                if relayed.is_err() {
                    self.edge.sinks.metrics.media.send_failed.inc();
                }
            }
        }
    }

    fn obey(&mut self) -> Inbox {
        loop {
            match self.inbox.try_recv() {
                Ok(Order::Open { call, options, reply }) => {
                    self.open(call, options);
                    answer(reply, Ok(Ack::Done));
                }
                Ok(Order::AddLeg { call, joins, sockets, reply }) => {
                    let result = self.add_leg(call, joins, sockets);
                    answer(reply, result);
                }
                Ok(Order::Arrive { call, joins, traveller, reply }) => {
                    let result = self.arrive(call, joins, traveller);
                    // Who asked is gone: so is the line.
                    let _ = reply.send(result);
                }
                Ok(Order::Take { call, leg, reason, reply }) => {
                    let result = self.take(call, leg, reason);
                    let _ = reply.send(result);
                }
                Ok(Order::SetMedia { call, leg, media, keys, reply }) => {
                    let result = self.set_media(call, leg, media, keys);
                    answer(reply, result);
                }
                Ok(Order::Do { call, command, reply }) => {
                    let result = self.command(call, command);
                    answer(reply, result);
                }
                #[cfg(test)]
                Ok(Order::Break { call, reply }) => {
                    let slot = self.by_id.get(&call).and_then(|index| self.slots.get_mut(*index));
                    let Some(Slot { logic: Logic::Whole(logic), .. }) = slot else { continue };
                    logic.broken = true;
                    answer(reply, Ok(Ack::Done));
                }
                Ok(Order::Stop { reply }) => {
                    answer(reply, Ok(Ack::Done));
                    return Inbox::Closed;
                }
                Err(mpsc::error::TryRecvError::Empty) => return Inbox::Open,
                Err(mpsc::error::TryRecvError::Disconnected) => return Inbox::Closed,
            }
        }
    }

    fn open(&mut self, id: CallId, options: CallOptions) {
        let logic = Logic::Whole(Box::new(Call::on(options, &mut self.edge.bench)));
        let index =
            self.slots.insert(Slot { id, began: clock::now(), logic, legs: Vec::new(), recording: Line::default() });
        self.by_id.insert(id, index);
        self.load.store(self.slots.len(), Ordering::Relaxed);
        self.slots[index].drive(&mut self.edge, |_| ());
        self.schedule(index);
    }

    fn add_leg(&mut self, call: CallId, joins: Joins, sockets: LegSockets) -> Result<Ack, Refusal> {
        let &index = self.by_id.get(&call).ok_or(Refusal::Ended)?;
        let slot = &mut self.slots[index];
        let now = slot.media_time(clock::now());
        let (media, srtp) = (joins.media(), sockets.srtp);
        let added = slot.drive(&mut self.edge, |call| call.command(now, joins.command()));
        let Ack::Leg(leg) = added.unwrap_or(Err(Refusal::Ended))? else { return Err(Refusal::Ended) };
        match self.watch(index, leg, [sockets.rtp, sockets.rtcp]) {
            Ok(keys) => {
                self.slots[index].legs.push(LegIo::new(leg, keys, &media, srtp));
                self.edge.sinks.metrics.legs_live.inc();
                Ok(Ack::Leg(leg))
            }
            Err(error) => {
                tracing::error!(%error, "no more sockets can be watched");
                let _ = self.command(call, Command::RemoveLeg { leg, reason: "out of file descriptors".into() });
                Err(Refusal::Limit("the server is out of file descriptors"))
            }
        }
    }

    fn watch(&mut self, slot: usize, leg: LegId, [rtp, rtcp]: [UdpSocket; 2]) -> io::Result<[Key; 2]> {
        let rtp = self.edge.sockets.add(rtp)?;
        let rtcp = self.edge.sockets.add(rtcp).inspect_err(|_| self.edge.sockets.remove(rtp))?;
        for (key, port) in [(rtp, Port::Rtp), (rtcp, Port::Rtcp)] {
            if key >= self.endpoints.len() {
                self.endpoints.resize(key + 1, None);
            }
            self.endpoints[key] = Some(Endpoint { slot, leg, port });
        }
        Ok([rtp, rtcp])
    }

    /// The call first, so that all it has to say is on its way; then the sockets and what protects them, as they are.
    fn take(&mut self, call: CallId, leg: LegId, reason: String) -> Result<Box<Traveller>, Refusal> {
        let Ack::Onward(onward) = self.command(call, Command::MoveOn { leg, reason })? else {
            return Err(Refusal::NoSuchLeg(leg));
        };
        let slot = self.by_id.get(&call).and_then(|index| self.slots.get_mut(*index)).ok_or(Refusal::Ended)?;
        let at = slot.legs.iter().position(|l| l.leg == leg).ok_or(Refusal::NoSuchLeg(leg))?;
        let io = slot.legs.swap_remove(at);
        io.sockets.iter().for_each(|key| self.endpoints[*key] = None);
        let [rtp, rtcp] = io.sockets.map(|key| self.edge.sockets.take(key));
        self.edge.sinks.metrics.legs_live.dec();
        let (Some(rtp), Some(rtcp)) = (rtp, rtcp) else {
            return Err(Refusal::Limit("the server is out of file descriptors"));
        };
        Ok(Box::new(Traveller { wire: io.loose([rtp, rtcp]), onward, since: clock::now() }))
    }

    /// What came for the line meanwhile was said to another call, and is nobody's here.
    fn arrive(&mut self, call: CallId, joins: Joins, traveller: Box<Traveller>) -> Result<LegId, Box<Stranded>> {
        let stranded = |why, traveller| Box::new(Stranded { why, traveller });
        let Some(&index) = self.by_id.get(&call) else { return Err(stranded(Refusal::Ended, Some(traveller))) };
        let slot = &mut self.slots[index];
        let (real, now) = (clock::now(), slot.media_time(clock::now()));
        let passed = MediaTime::after(real.saturating_duration_since(traveller.since)) - MediaTime::ZERO;
        let command = joins.onward(traveller.onward.after(passed));
        let leg = match slot.drive(&mut self.edge, |call| call.command(now, command)) {
            Some(Ok(Ack::Leg(leg))) => leg,
            Some(Err(why)) => return Err(stranded(why, Some(traveller))),
            Some(Ok(_)) | None => return Err(stranded(Refusal::Ended, Some(traveller))),
        };
        traveller.wire.forget_what_waits();
        let (sockets, wire) = traveller.wire.split();
        match self.watch(index, leg, sockets) {
            Ok(keys) => {
                self.slots[index].legs.push(wire.on(leg, keys));
                self.edge.sinks.metrics.legs_live.inc();
                Ok(leg)
            }
            Err(error) => {
                tracing::error!(%error, "no more sockets can be watched");
                let _ = self.command(call, Command::RemoveLeg { leg, reason: "out of file descriptors".into() });
                Err(stranded(Refusal::Limit("the server is out of file descriptors"), None))
            }
        }
    }

    /// The call first: what it still has to send goes under what was agreed on before.
    fn set_media(&mut self, call: CallId, leg: LegId, media: LegMedia, keys: Option<Keys>) -> Result<Ack, Refusal> {
        let ack = self.command(call, Command::SetMedia { leg, media })?;
        let slot = self.by_id.get(&call).and_then(|index| self.slots.get_mut(*index));
        if let Some(wire) = slot.and_then(|slot| slot.wire(leg)) {
            wire.agree(&media, keys);
        }
        Ok(ack)
    }

    fn command(&mut self, call: CallId, command: Command) -> Result<Ack, Refusal> {
        let &index = self.by_id.get(&call).ok_or(Refusal::Ended)?;
        let ends = matches!(command, Command::End { .. });
        let leaves = match &command {
            Command::RemoveLeg { leg, .. } => Some(*leg),
            Command::AddLeg(_)
            | Command::Supervise(_)
            | Command::TakeIn { .. }
            | Command::SetConsent { .. }
            | Command::MoveOn { .. }
            | Command::TakeOver { .. }
            | Command::GiveBack { .. }
            | Command::Tell { .. }
            | Command::SetMedia { .. }
            | Command::SetPlace { .. }
            | Command::SetHeld { .. }
            | Command::SetRole { .. }
            | Command::FarEndChanged { .. }
            | Command::Vouch { .. }
            | Command::SetAddress { .. }
            | Command::SetMode { .. }
            | Command::SetVolume { .. }
            | Command::Press { .. }
            | Command::Pair { .. }
            | Command::KeyIn { .. }
            | Command::Dial { .. }
            | Command::Prove(_)
            | Command::Play(_)
            | Command::Cut { .. }
            | Command::Pause
            | Command::Resume
            | Command::Close
            | Command::Describe
            | Command::End { .. } => None,
        };
        let slot = &mut self.slots[index];
        let now = slot.media_time(clock::now());
        let result = match slot.drive(&mut self.edge, |call| call.command(now, command)) {
            Some(result) => result,
            // What is left of a call that panicked can only lose legs and end.
            None if ends || leaves.is_some() => Ok(Ack::Done),
            None => Err(Refusal::Ended),
        };
        if let Some(leg) = leaves {
            self.drop_leg(index, leg);
        }
        if ends {
            self.drop_call(index, now);
        }
        result
    }

    fn drop_leg(&mut self, index: usize, leg: LegId) {
        let slot = &mut self.slots[index];
        if let Logic::Relaying(fallback) = &mut slot.logic {
            fallback.remove(leg);
        }
        if let Some(at) = slot.legs.iter().position(|l| l.leg == leg) {
            let io = slot.legs.swap_remove(at);
            for key in io.sockets {
                self.endpoints[key] = None;
                self.edge.sockets.remove(key);
            }
            self.edge.sinks.metrics.legs_live.dec();
        }
    }

    fn drop_call(&mut self, index: usize, now: MediaTime) {
        let legs: Vec<LegId> = self.slots[index].legs.iter().map(|l| l.leg).collect();
        for leg in legs {
            self.drop_leg(index, leg);
        }
        let slot = self.slots.remove(index);
        self.by_id.remove(&slot.id);
        self.load.store(self.slots.len(), Ordering::Relaxed);
        if let Logic::Relaying(_) = slot.logic {
            let what = What::CallEnded { reason: "ended after an internal failure; the people talked on".into() };
            self.edge.tell(slot.id, Event { at: now, leg: None, what });
        }
        self.edge.sinks.recorder.finish(slot.id, slot.recording.until);
    }

    fn tick(&mut self) {
        let now = clock::now();
        while let Some(&Reverse((at, index, id))) = self.timers.peek() {
            if at > now {
                return;
            }
            self.timers.pop();
            let Some(slot) = self.slots.get_mut(index).filter(|s| s.id == id) else { continue };
            self.edge.sinks.metrics.media.tick_lateness.observe(now.saturating_duration_since(at));
            let media_now = slot.media_time(now);
            slot.drive(&mut self.edge, |call| call.tick(media_now));
            self.schedule(index);
        }
    }

    fn schedule(&mut self, index: usize) {
        let slot = &self.slots[index];
        if let Logic::Whole(call) = &slot.logic
            && let Some(at) = call.poll_timeout()
        {
            self.timers.push(Reverse((slot.began + at.since_start(), index, slot.id)));
        }
    }
}

#[derive(PartialEq)]
enum Inbox {
    Open,
    Closed,
}

impl Slot {
    fn media_time(&self, now: Instant) -> MediaTime {
        MediaTime::after(now.saturating_duration_since(self.began))
    }

    fn wire(&mut self, leg: LegId) -> Option<&mut LegIo> {
        self.legs.iter_mut().find(|l| l.leg == leg)
    }

    /// Lets the call do something and carries out all it wants done. `None` if its logic has panicked, now or before.
    fn drive<T>(&mut self, edge: &mut Edge, act: impl FnOnce(&mut Call) -> T) -> Option<T> {
        let Logic::Whole(call) = &mut self.logic else { return None };
        let (id, legs, recording) = (self.id, &mut self.legs, &mut self.recording);
        let done = catch_unwind(AssertUnwindSafe(|| {
            call.lend_bench(&mut edge.bench);
            let result = act(call);
            while let Some(output) = call.poll() {
                edge.carry_out(id, legs, recording, output);
            }
            call.take_bench(&mut edge.bench);
            result
        }));
        match done {
            Ok(result) => Some(result),
            Err(_) => {
                self.fall_back(edge);
                None
            }
        }
    }

    /// The call's logic is gone; its people go on talking.
    fn fall_back(&mut self, edge: &mut Edge) {
        tracing::error!(call = %self.id, "the call's logic failed: it is relayed from now on, the coach is out");
        edge.sinks.metrics.calls.failed.inc();
        let Logic::Whole(call) = std::mem::replace(&mut self.logic, Logic::Relaying(Box::default())) else { return };
        // What the panic left behind is looked at with the same care.
        let Ok(mut fallback) = catch_unwind(AssertUnwindSafe(|| call.into_fallback())) else { return };
        for event in fallback.take_events() {
            edge.tell(self.id, event);
        }
        self.logic = Logic::Relaying(Box::new(fallback));
        edge.sinks.recorder.finish(self.id, self.recording.until);
    }
}

impl Edge {
    fn new(sockets: Box<dyn Sockets>, sinks: Sinks) -> Self {
        let room = Box::new([0; DATAGRAM]);
        Edge { sockets, sinks, received: 0, sent: 0, refused: 0, unprotected: 0, room, bench: None }
    }

    fn carry_out(&mut self, call: CallId, legs: &mut [LegIo], recording: &mut Line, output: Output<'_>) {
        match output {
            Output::Send { leg, port, to, bytes } => self.send(legs, leg, port, to, bytes),
            Output::Heard { leg, role, at, rate, pcm, .. } => {
                if let Some(conversations) = &self.sinks.conversations {
                    conversations.heard(call, leg, role, at, rate, pcm);
                }
            }
            Output::Record { at, rate, customer, agent } => {
                let whole = self.sinks.recorder.frame(call, at, rate, customer, agent);
                if recording.handed_over(at, whole) {
                    let what = What::RecordingFailed { reason: recorder::TOO_SLOW.into() };
                    self.tell(call, Event { at, leg: None, what });
                }
            }
            Output::RecordLeg { leg, at, rate, pcm } => self.sinks.recorder.leg(call, leg, at, rate, pcm),
            Output::Event(event) => self.tell(call, event),
        }
    }

    /// The journal first, so that what a conversation makes of an event is numbered after it.
    fn tell(&self, call: CallId, event: Event) {
        self.sinks.journal.record(call, event.clone());
        if let Some(conversations) = &self.sinks.conversations {
            conversations.event(call, event);
        }
    }

    fn send(&mut self, legs: &mut [LegIo], leg: LegId, port: Port, to: SocketAddr, bytes: &[u8]) {
        let Some(wire) = legs.iter_mut().find(|l| l.leg == leg) else { return };
        let Some((socket, datagram)) = wire.seal(port, bytes, &mut self.room) else {
            self.unprotected += 1;
            return;
        };
        self.sent += 1;
        self.sockets.send(socket, to, datagram);
    }

    /// What was counted in a turn, once a turn: shards share the counters.
    fn count(&mut self) {
        let media = &self.sinks.metrics.media;
        let unsent = self.sockets.unsent();
        media.packets_in.inc_by(std::mem::take(&mut self.received));
        media.packets_out.inc_by(std::mem::take(&mut self.sent).saturating_sub(unsent));
        // A full socket buffer or an unreachable peer: a lost packet, as networks lose them.
        media.send_failed.inc_by(unsent + std::mem::take(&mut self.unprotected));
        media.srtp_refused.inc_by(std::mem::take(&mut self.refused));
    }
}

fn answer(reply: Reply, result: Result<Ack, Refusal>) {
    // Whoever asked may have stopped waiting; the command holds all the same.
    let _ = reply.send(result);
}
