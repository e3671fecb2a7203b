//! Tells those who wait for it that a clip has ended, that a leg is gone, or what a supervisor wants: one reader of the
//! journal for all calls.

use crate::event::What;
use crate::id::{CallId, ClipId, LegId};
use crate::io::journal::Published;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast::{self, error::RecvError};

/// Endings kept for somebody who is not looking. A route plays one clip at a time and looks from before the clip is
/// asked for, and a supervisor's controller looks all the time, so only clips of other speakers can fill this; the
/// oldest are dropped. A route that misses its own ending goes on when the clip's length has passed; a controller that
/// missed something asks the call.
const KEPT: usize = 32;

/// Something of a call is over.
#[derive(Clone)]
enum Ending {
    Clip(ClipId),
    Leg(LegId, Arc<str>),
    Supervisor(LegId, Wish),
    Call(Arc<str>),
    /// Nothing is whispered to a leg whose far end may be somebody else.
    Suspended(LegId),
    /// Something may have been missed.
    Unknown,
}

/// What a supervisor did by a key that asks for more than the call can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// They want the next call.
    Next,
    /// They have taken over from these.
    TookOver(Vec<LegId>),
    /// Of an earpiece: it is proven.
    Verified,
    /// It is not, or not any more.
    Unverified,
}

/// What became of a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// It is gone.
    Left(Arc<str>),
    /// It is a supervisor's, and they did this.
    Did(Wish),
    /// That may have been missed: whoever asks looks for themselves.
    Unknown,
}

/// Who waits for endings of which call.
#[derive(Clone, Default)]
pub struct Endings {
    calls: Arc<Mutex<HashMap<CallId, broadcast::Sender<Ending>>>>,
}

/// The endings of one call; forgotten when the last of its watches is dropped.
pub struct Watch {
    call: CallId,
    ended: Option<broadcast::Receiver<Ending>>,
    endings: Endings,
}

impl Endings {
    /// The endings of `call` from now on.
    pub fn watch(&self, call: CallId) -> Watch {
        let ended = self.locked(|calls| calls.entry(call).or_insert_with(|| broadcast::channel(KEPT).0).subscribe());
        Watch { call, ended: Some(ended), endings: self.clone() }
    }

    /// Reads the journal until it closes.
    pub async fn follow(self, mut journal: broadcast::Receiver<Published>) {
        loop {
            match journal.recv().await {
                Ok(Published::Event(recorded)) => {
                    let event = &recorded.event;
                    if let Some(ending) = ending(event.leg, &event.what) {
                        self.tell(recorded.id.call, ending);
                    }
                }
                Ok(Published::Committed { .. }) => {}
                Err(RecvError::Lagged(_)) => self.locked(|calls| calls.values().for_each(|c| say(c, Ending::Unknown))),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn tell(&self, call: CallId, ending: Ending) {
        self.locked(|calls| calls.get(&call).map(|waiting| say(waiting, ending)));
    }

    fn locked<T>(&self, work: impl FnOnce(&mut HashMap<CallId, broadcast::Sender<Ending>>) -> T) -> T {
        work(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn say(waiting: &broadcast::Sender<Ending>, ending: Ending) {
    // Nobody listening is nobody waiting.
    let _ = waiting.send(ending);
}

/// What is over by an event, if anything is.
fn ending(leg: Option<LegId>, what: &What) -> Option<Ending> {
    match what {
        What::ClipEnded { clip } | What::ClipCut { clip, .. } => Some(Ending::Clip(*clip)),
        What::SupervisorAsked {} => Some(Ending::Supervisor(leg?, Wish::Next)),
        What::SupervisorTookOver { aside } => Some(Ending::Supervisor(leg?, Wish::TookOver(aside.clone()))),
        What::EarpieceVerified {} => Some(Ending::Supervisor(leg?, Wish::Verified)),
        What::EarpieceRefused { .. } => Some(Ending::Supervisor(leg?, Wish::Unverified)),
        What::LegLeft { reason, .. } => Some(Ending::Leg(leg?, reason.as_str().into())),
        What::CallEnded { reason } => Some(Ending::Call(reason.as_str().into())),
        What::LegChanged { changed } if changed == "suspended" => Some(Ending::Suspended(leg?)),
        _ => None,
    }
}

impl Watch {
    /// Waits until `clip` has ended or was cut.
    pub async fn ended(&mut self, clip: ClipId) {
        loop {
            match self.next().await {
                Some(Ending::Clip(over)) if over == clip => return,
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Waits until `leg` has left its call, or its supervisor wants something.
    pub async fn about(&mut self, leg: LegId) -> About {
        loop {
            match self.next().await {
                Some(Ending::Leg(gone, reason)) if gone == leg => return About::Left(reason),
                Some(Ending::Call(reason)) => return About::Left(reason),
                Some(Ending::Supervisor(who, wish)) if who == leg => return About::Did(wish),
                Some(Ending::Unknown) | None => return About::Unknown,
                Some(Ending::Clip(_) | Ending::Leg(..) | Ending::Supervisor(..) | Ending::Suspended(_)) => {}
            }
        }
    }

    /// Waits until a leg's far end may be somebody else: which.
    pub async fn suspended(&mut self) -> LegId {
        loop {
            match self.next().await {
                Some(Ending::Suspended(leg)) => return leg,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// None when the journal is closed.
    async fn next(&mut self) -> Option<Ending> {
        match self.ended.as_mut()?.recv().await {
            Ok(ending) => Some(ending),
            Err(RecvError::Lagged(_)) => Some(Ending::Unknown),
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended = None;
        self.endings.locked(|calls| {
            if calls.get(&self.call).is_some_and(|waiting| waiting.receiver_count() == 0) {
                calls.remove(&self.call);
            }
        });
    }
}
