//! The loop of a media thread.

use super::{Order, Reply, Sinks};
use crate::call::fallback::{Fallback, Relayed};
use crate::call::{Ack, Call, Command, LegSpec, Output, Port, Refusal};
use crate::event::{Event, What};
use crate::id::{CallId, LegId};
use crate::io::clock;
use crate::io::rtp::LegSockets;
use crate::time::MediaTime;
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

pub(super) const WAKE: Token = Token(usize::MAX);

/// The largest datagram looked at: an Ethernet MTU. What is longer is no audio we negotiated and is cut by the kernel.
const DATAGRAM: usize = 1500;

/// Datagrams taken from one socket before the others have their turn, so that a flood on one port starves nobody.
const TURN: usize = 32;

/// A tick later than this is counted.
const LATE: Duration = Duration::from_millis(5);

/// The thread's whole state.
pub(super) struct Thread {
    poll: Poll,
    inbox: mpsc::Receiver<Order>,
    sinks: Sinks,
    slots: Slab<Slot>,
    by_id: HashMap<CallId, usize>,
    /// Which socket an mio token means.
    endpoints: Slab<Endpoint>,
    /// Sockets that had more than one turn's datagrams.
    unread: Vec<Token>,
    /// When which slot is to be ticked; entries of ended calls are skipped by their id.
    timers: BinaryHeap<Reverse<(Instant, usize, CallId)>>,
    buffer: [u8; DATAGRAM],
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
}

/// What decides about the packets of a call.
enum Logic {
    Whole(Box<Call>),
    /// The call's logic panicked: customer and agent are relayed, nothing else.
    Relaying(Box<Fallback>),
}

/// A leg's sockets and their tokens.
struct LegIo {
    leg: LegId,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    tokens: [usize; 2],
}

impl LegIo {
    fn socket(&self, port: Port) -> &UdpSocket {
        match port {
            Port::Rtp => &self.rtp,
            Port::Rtcp => &self.rtcp,
        }
    }
}

impl Thread {
    pub(super) fn new(poll: Poll, inbox: mpsc::Receiver<Order>, sinks: Sinks) -> Self {
        Thread {
            poll,
            inbox,
            sinks,
            slots: Slab::new(),
            by_id: HashMap::new(),
            endpoints: Slab::new(),
            unread: Vec::with_capacity(1024),
            timers: BinaryHeap::with_capacity(1024),
            buffer: [0; DATAGRAM],
        }
    }

    /// Until told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            if let Err(error) = self.poll.poll(&mut events, self.patience())
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                // epoll_wait fails otherwise only for bad arguments (epoll_wait(2)): we are at fault.
                tracing::error!(%error, "a media thread cannot wait for packets any more");
                return;
            }
            // By number: a socket that is still not empty goes to the end, and nothing is allocated.
            let waiting = self.unread.len();
            for n in 0..waiting {
                self.read(self.unread[n]);
            }
            self.unread.drain(..waiting);
            for event in &events {
                if event.token() != WAKE {
                    self.read(event.token());
                }
            }
            if self.obey() == Inbox::Closed {
                return;
            }
            self.tick();
        }
    }

    /// How long to wait for packets: until the next timer.
    fn patience(&self) -> Option<Duration> {
        if !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.peek().map(|Reverse((at, ..))| at.saturating_duration_since(clock::now()))
    }

    fn read(&mut self, token: Token) {
        let Some(&Endpoint { slot, leg, port }) = self.endpoints.get(token.0) else { return };
        for _ in 0..TURN {
            let Some(socket) = self.slots[slot].legs.iter().find(|l| l.leg == leg).map(|l| l.socket(port)) else {
                return;
            };
            match socket.recv_from(&mut self.buffer) {
                Ok((length, from)) => self.packet(slot, leg, port, from, length),
                // An ICMP error of an earlier send is reported once and cleared (udp(7)): read on.
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
        self.unread.push(token);
    }

    fn packet(&mut self, slot: usize, leg: LegId, port: Port, from: SocketAddr, length: usize) {
        self.sinks.metrics.media.packets_in.inc();
        let Some(bytes) = self.buffer.get(..length) else { return };
        let slot = &mut self.slots[slot];
        let now = slot.media_now();
        match &mut slot.logic {
            Logic::Whole(_) => {
                slot.drive(&self.sinks, |call| call.packet(now, leg, port, from, bytes));
            }
            Logic::Relaying(fallback) => {
                let (legs, sinks) = (&slot.legs, &self.sinks);
                // The other calls of this thread must outlive a fault here too; the packet is lost, the relay goes on.
                let relayed = catch_unwind(AssertUnwindSafe(|| {
                    if let Some(Relayed { leg, port, to, bytes }) = fallback.packet(now, leg, port, from, bytes) {
                        send(legs, sinks, leg, port, to, bytes);
                    }
                }));
                if relayed.is_err() {
                    sinks.metrics.media.send_failed.inc();
                }
            }
        }
    }

    fn obey(&mut self) -> Inbox {
        loop {
            match self.inbox.try_recv() {
                Ok(Order::Open { call, options, reply }) => {
                    let now = clock::now();
                    let call_logic = Box::new(Call::new(options));
                    let slot = self.slots.insert(Slot {
                        id: call,
                        began: now,
                        logic: Logic::Whole(call_logic),
                        legs: Vec::new(),
                    });
                    self.by_id.insert(call, slot);
                    self.slots[slot].drive(&self.sinks, |_| ());
                    self.schedule(slot);
                    answer(reply, Ok(Ack::Done));
                }
                Ok(Order::AddLeg { call, spec, sockets, reply }) => {
                    let result = self.add_leg(call, spec, sockets);
                    answer(reply, result);
                }
                Ok(Order::Do { call, command, reply }) => {
                    let result = self.command(call, command);
                    answer(reply, result);
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

    fn add_leg(&mut self, call: CallId, spec: LegSpec, sockets: LegSockets) -> Result<Ack, Refusal> {
        let &index = self.by_id.get(&call).ok_or(Refusal::Ended)?;
        let (mut rtp, mut rtcp) = (UdpSocket::from_std(sockets.rtp), UdpSocket::from_std(sockets.rtcp));
        let slot = &mut self.slots[index];
        let now = slot.media_now();
        let added = slot.drive(&self.sinks, |call| call.command(now, Command::AddLeg(spec)));
        let Ack::Leg(leg) = added.unwrap_or(Err(Refusal::Ended))? else { return Err(Refusal::Ended) };
        let tokens = [Port::Rtp, Port::Rtcp].map(|port| self.endpoints.insert(Endpoint { slot: index, leg, port }));
        let registry = self.poll.registry();
        let registered = registry
            .register(&mut rtp, Token(tokens[0]), Interest::READABLE)
            .and_then(|()| registry.register(&mut rtcp, Token(tokens[1]), Interest::READABLE));
        let slot = &mut self.slots[index];
        slot.legs.push(LegIo { leg, rtp, rtcp, tokens });
        self.sinks.metrics.legs_live.inc();
        if let Err(error) = registered {
            tracing::error!(%error, "no more sockets can be watched");
            let _ = self.command(call, Command::RemoveLeg { leg, reason: "out of file descriptors".into() });
            return Err(Refusal::Limit("the server is out of file descriptors"));
        }
        Ok(Ack::Leg(leg))
    }

    fn command(&mut self, call: CallId, command: Command) -> Result<Ack, Refusal> {
        let &index = self.by_id.get(&call).ok_or(Refusal::Ended)?;
        let ends = matches!(command, Command::End { .. });
        let leaves = match &command {
            Command::RemoveLeg { leg, .. } => Some(*leg),
            Command::AddLeg(_)
            | Command::SetMedia { .. }
            | Command::SetPlace { .. }
            | Command::SetRole { .. }
            | Command::FarEndChanged { .. }
            | Command::SetMode { .. }
            | Command::Play(_)
            | Command::Cut { .. }
            | Command::Pause
            | Command::Resume
            | Command::Close
            | Command::Describe
            | Command::End { .. } => None,
        };
        let slot = &mut self.slots[index];
        let now = slot.media_now();
        let result = match slot.drive(&self.sinks, |call| call.command(now, command)) {
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
            for token in io.tokens {
                self.endpoints.remove(token);
            }
            self.sinks.metrics.legs_live.dec();
        }
    }

    fn drop_call(&mut self, index: usize, now: MediaTime) {
        let legs: Vec<LegId> = self.slots[index].legs.iter().map(|l| l.leg).collect();
        for leg in legs {
            self.drop_leg(index, leg);
        }
        let slot = self.slots.remove(index);
        self.by_id.remove(&slot.id);
        if let Logic::Relaying(_) = slot.logic {
            let what = What::CallEnded { reason: "ended after an internal failure; the people talked on".into() };
            tell(&self.sinks, slot.id, Event { at: now, leg: None, what });
        }
        self.sinks.recorder.finish(slot.id);
    }

    fn tick(&mut self) {
        let now = clock::now();
        while let Some(&Reverse((at, index, id))) = self.timers.peek() {
            if at > now {
                return;
            }
            self.timers.pop();
            let Some(slot) = self.slots.get_mut(index).filter(|s| s.id == id) else { continue };
            if now.saturating_duration_since(at) > LATE {
                self.sinks.metrics.media.ticks_late.inc();
            }
            let media_now = MediaTime::after(now.saturating_duration_since(slot.began));
            slot.drive(&self.sinks, |call| call.tick(media_now));
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
    fn media_now(&self) -> MediaTime {
        MediaTime::after(clock::now().saturating_duration_since(self.began))
    }

    /// Lets the call do something and carries out all it wants done. `None` if its logic has panicked, now or before.
    fn drive<T>(&mut self, sinks: &Sinks, act: impl FnOnce(&mut Call) -> T) -> Option<T> {
        let Logic::Whole(call) = &mut self.logic else { return None };
        let (id, legs) = (self.id, &self.legs);
        let done = catch_unwind(AssertUnwindSafe(|| {
            let result = act(call);
            while let Some(output) = call.poll() {
                carry_out(sinks, id, legs, output);
            }
            result
        }));
        match done {
            Ok(result) => Some(result),
            Err(_) => {
                self.fall_back(sinks);
                None
            }
        }
    }

    /// The call's logic is gone; its people go on talking.
    fn fall_back(&mut self, sinks: &Sinks) {
        tracing::error!(call = %self.id, "the call's logic failed: it is relayed from now on, the coach is out");
        sinks.metrics.calls.failed.inc();
        let Logic::Whole(call) = std::mem::replace(&mut self.logic, Logic::Relaying(Box::default())) else { return };
        // What the panic left behind is looked at with the same care.
        let Ok(mut fallback) = catch_unwind(AssertUnwindSafe(|| call.into_fallback())) else { return };
        for event in fallback.take_events() {
            tell(sinks, self.id, event);
        }
        self.logic = Logic::Relaying(Box::new(fallback));
        sinks.recorder.finish(self.id);
    }
}

fn carry_out(sinks: &Sinks, call: CallId, legs: &[LegIo], output: Output<'_>) {
    match output {
        Output::Send { leg, port, to, bytes } => send(legs, sinks, leg, port, to, bytes),
        Output::Heard { leg, role, at, pcm, .. } => {
            if let Some(conversations) = &sinks.conversations {
                conversations.heard(call, leg, role, at, pcm);
            }
        }
        Output::Record { at, customer, agent } => sinks.recorder.frame(call, at, customer, agent),
        Output::Event(event) => tell(sinks, call, event),
    }
}

/// The journal first, so that what a conversation makes of an event is numbered after it.
fn tell(sinks: &Sinks, call: CallId, event: Event) {
    sinks.journal.record(call, event.clone());
    if let Some(conversations) = &sinks.conversations {
        conversations.event(call, event);
    }
}

fn send(legs: &[LegIo], sinks: &Sinks, leg: LegId, port: Port, to: SocketAddr, bytes: &[u8]) {
    let Some(io) = legs.iter().find(|l| l.leg == leg) else { return };
    match io.socket(port).send_to(bytes, to) {
        Ok(_) => {
            sinks.metrics.media.packets_out.inc();
        }
        // A full socket buffer or an unreachable peer: a lost packet, as networks lose them.
        Err(_) => {
            sinks.metrics.media.send_failed.inc();
        }
    }
}

fn answer(reply: Reply, result: Result<Ack, Refusal>) {
    // Whoever asked may have stopped waiting; the command holds all the same.
    let _ = reply.send(result);
}
