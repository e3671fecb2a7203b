//! A media thread: owns calls and their sockets outright, driven by packets, commands and the calls' own timers.
//!
//! ```text
//! datagram ─► open (SRTP) ─► Call::packet ─┐                 ┌─► seal (SRTP) ─► socket
//! order    ────────────────► Call::command ┼─► poll ─► Output┼─► ears (conversations), recorder
//! timer    ────────────────► Call::tick ───┘                 └─► events (journal, conversations)
//! ```
//!
//! A panic inside one call is caught here: what is left of it goes on relaying (DESIGN §2.5). Nothing on this thread
//! waits for anything but packets, orders and time.

mod core;
#[cfg(test)]
mod tests;
mod thread;
mod wire;

use crate::call::sdp::Keys;
use crate::call::{Ack, CallOptions, Command, LegMedia, LegSpec, Onward, Refusal, Supervising};
use crate::config::Way;
use crate::id::{CallId, LegId};
use crate::io::conversation::Conversations;
use crate::io::journal::Journal;
use crate::io::metrics::Metrics;
use crate::io::recorder::Recorder;
use crate::io::rtp::LegSockets;
use crate::io::udp::{self, Waker};
use rustix::thread::gettid;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Orders that wait for the shard. When full, whoever orders waits (they are all async tasks): the shard never does.
const ORDERS: usize = 1024;

/// Where a shard's outputs go. None of these blocks.
#[derive(Clone)]
pub struct Sinks {
    /// Every event.
    pub journal: Journal,
    /// Ears, and events for the coach; none where there is no recogniser and no coach.
    pub conversations: Option<Conversations>,
    /// Recorded frames.
    pub recorder: Recorder,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// A line between two calls.
pub struct Traveller {
    wire: wire::Loose,
    onward: Onward,
    since: std::time::Instant,
}

/// Who was not let in, and still has their line, unless the shard is gone.
pub struct Stranded {
    /// Why.
    pub why: Refusal,
    /// The line.
    pub traveller: Option<Box<Traveller>>,
}

/// The way to a shard. Every method waits for the shard's answer; none blocks it.
#[derive(Clone)]
pub struct Shard {
    orders: mpsc::Sender<Order>,
    waker: Waker,
    load: Arc<AtomicUsize>,
    thread: i32,
}

type Reply = oneshot::Sender<Result<Ack, Refusal>>;

/// Who joins with sockets.
enum Joins {
    Leg(LegSpec),
    Supervisor(Supervising),
}

impl Joins {
    fn media(&self) -> LegMedia {
        match self {
            Joins::Leg(spec) => spec.media,
            Joins::Supervisor(supervising) => supervising.media,
        }
    }
    fn command(self) -> Command {
        match self {
            Joins::Leg(spec) => Command::AddLeg(spec),
            Joins::Supervisor(supervising) => Command::Supervise(supervising),
        }
    }
    /// With a line that another call has left off.
    fn onward(self, onward: Onward) -> Command {
        match self {
            Joins::Leg(spec) => Command::TakeIn { spec, onward },
            Joins::Supervisor(supervising) => Command::Supervise(Supervising { onward: Some(onward), ..supervising }),
        }
    }
}

/// What a shard is told.
enum Order {
    Open {
        call: CallId,
        options: CallOptions,
        reply: Reply,
    },
    AddLeg {
        call: CallId,
        joins: Joins,
        sockets: LegSockets,
        reply: Reply,
    },
    SetMedia {
        call: CallId,
        leg: LegId,
        media: LegMedia,
        keys: Option<Keys>,
        reply: Reply,
    },
    Arrive {
        call: CallId,
        joins: Joins,
        traveller: Box<Traveller>,
        reply: oneshot::Sender<Result<LegId, Box<Stranded>>>,
    },
    Take {
        call: CallId,
        leg: LegId,
        reason: String,
        reply: oneshot::Sender<Result<Box<Traveller>, Refusal>>,
    },
    Do {
        call: CallId,
        command: Command,
        reply: Reply,
    },
    /// The call's logic panics at its next input.
    #[cfg(test)]
    Break {
        call: CallId,
        reply: Reply,
    },
    Stop {
        reply: Reply,
    },
}

impl Shard {
    /// Starts media thread `number` of `of`, on a core of its own where enough are left. It ends at `stop`.
    pub fn start(number: usize, of: usize, way: Way, sinks: Sinks) -> io::Result<Shard> {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let load = Arc::new(AtomicUsize::new(0));
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let shared = load.clone();
        std::thread::Builder::new().name(format!("media-{number}")).spawn(move || {
            if let Err(reason) = core::take(number, of) {
                tracing::warn!(number, %reason, "a media thread runs on whatever core is free");
            }
            // Opened here: a ring belongs to the thread that uses it.
            match udp::open(way) {
                Ok(sockets) => {
                    tracing::info!(number, way = sockets.name(), "a media thread is ready");
                    let _ = ready.send(Ok((sockets.waker(), gettid().as_raw_nonzero().get())));
                    thread::Thread::new(sockets, inbox, sinks, shared).run();
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        let died = || Err(io::Error::other("the thread died at its start"));
        let (waker, thread) = started.recv().unwrap_or_else(|_| died())?;
        Ok(Shard { orders, waker, load, thread })
    }

    /// How many calls it has.
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// The kernel's number of its thread.
    pub fn thread(&self) -> i32 {
        self.thread
    }

    /// A call begins: `call.pending`.
    pub async fn open(&self, call: CallId, options: CallOptions) -> Result<(), Refusal> {
        self.order(|reply| Order::Open { call, options, reply }).await.map(|_| ())
    }

    /// A leg joins with its sockets, which close when it is removed or the call ends.
    pub async fn add_leg(&self, call: CallId, spec: LegSpec, sockets: LegSockets) -> Result<LegId, Refusal> {
        self.join(call, Joins::Leg(spec), sockets).await
    }

    /// The same for a supervisor.
    pub async fn supervise(
        &self,
        call: CallId,
        supervising: Supervising,
        sockets: LegSockets,
    ) -> Result<LegId, Refusal> {
        self.join(call, Joins::Supervisor(supervising), sockets).await
    }

    async fn join(&self, call: CallId, joins: Joins, sockets: LegSockets) -> Result<LegId, Refusal> {
        match self.order(|reply| Order::AddLeg { call, joins, sockets, reply }).await? {
            Ack::Leg(leg) => Ok(leg),
            Ack::Done | Ack::Clip(_) | Ack::Mode { .. } | Ack::View(_) | Ack::Onward(_) => Err(Refusal::Ended),
        }
    }

    /// A leg was renegotiated: `Command::SetMedia`, and with it the keys that hold from now on; none: it is plain.
    pub async fn set_media(
        &self,
        call: CallId,
        leg: LegId,
        media: LegMedia,
        keys: Option<Keys>,
    ) -> Result<Ack, Refusal> {
        self.order(|reply| Order::SetMedia { call, leg, media, keys, reply }).await
    }

    /// A leg leaves its call, with its line still up.
    pub async fn take(&self, call: CallId, leg: LegId, reason: &str) -> Result<Box<Traveller>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Take { call, leg, reason: reason.into(), reply };
        self.orders.send(order).await.map_err(|_| Refusal::Ended)?;
        self.waker.wake();
        answer.await.unwrap_or(Err(Refusal::Ended))
    }

    /// A supervisor's joins a call of this shard. Where that refuses, the line is given back.
    pub async fn arrive(
        &self,
        call: CallId,
        supervising: Supervising,
        traveller: Box<Traveller>,
    ) -> Result<LegId, Box<Stranded>> {
        self.bring(call, Joins::Supervisor(supervising), traveller).await
    }

    /// The same for a party's.
    pub async fn take_in(
        &self,
        call: CallId,
        spec: LegSpec,
        traveller: Box<Traveller>,
    ) -> Result<LegId, Box<Stranded>> {
        self.bring(call, Joins::Leg(spec), traveller).await
    }

    async fn bring(&self, call: CallId, joins: Joins, traveller: Box<Traveller>) -> Result<LegId, Box<Stranded>> {
        let (reply, answer) = oneshot::channel();
        let lost = || Box::new(Stranded { why: Refusal::Ended, traveller: None });
        let order = Order::Arrive { call, joins, traveller, reply };
        self.orders.send(order).await.map_err(|_| lost())?;
        self.waker.wake();
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Any other command. `Refusal::Ended` where there is no such call (any more).
    pub async fn command(&self, call: CallId, command: Command) -> Result<Ack, Refusal> {
        self.order(|reply| Order::Do { call, command, reply }).await
    }

    /// Ends the thread and every call on it.
    pub async fn stop(&self) {
        let _ = self.order(|reply| Order::Stop { reply }).await;
    }

    async fn order(&self, order: impl FnOnce(Reply) -> Order) -> Result<Ack, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_| Refusal::Ended)?;
        self.waker.wake();
        answer.await.unwrap_or(Err(Refusal::Ended))
    }
}
