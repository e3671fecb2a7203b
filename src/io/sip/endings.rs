//! Tells each call's route when a clip has ended: one reader of the journal for all calls.

use crate::event::What;
use crate::id::{CallId, ClipId};
use crate::io::journal::Published;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast::{self, error::RecvError};

/// Endings kept for a route that is not looking. A route plays one clip at a time and looks from before the clip is
/// asked for, so only clips of other speakers can fill this; the oldest are dropped, and a route that misses its own
/// ending goes on when the clip's length has passed.
const KEPT: usize = 32;

/// Who waits for clips of which call.
#[derive(Clone, Default)]
pub struct Endings {
    calls: Arc<Mutex<HashMap<CallId, broadcast::Sender<ClipId>>>>,
}

/// The endings of one call; forgotten when dropped.
pub struct Watch {
    call: CallId,
    ended: broadcast::Receiver<ClipId>,
    endings: Endings,
}

impl Endings {
    /// The endings of `call` from now on.
    pub fn watch(&self, call: CallId) -> Watch {
        let (sender, ended) = broadcast::channel(KEPT);
        self.locked(|calls| calls.insert(call, sender));
        Watch { call, ended, endings: self.clone() }
    }

    /// Reads the journal until it closes.
    pub async fn follow(self, mut journal: broadcast::Receiver<Published>) {
        loop {
            match journal.recv().await {
                Ok(Published::Event(recorded)) => match &recorded.event.what {
                    What::ClipEnded { clip } | What::ClipCut { clip, .. } => self.tell(recorded.id.call, *clip),
                    _ => {}
                },
                Ok(Published::Committed { .. }) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn tell(&self, call: CallId, clip: ClipId) {
        if let Some(sender) = self.locked(|calls| calls.get(&call).cloned()) {
            // Nobody listening is nobody waiting.
            let _ = sender.send(clip);
        }
    }

    fn locked<T>(&self, work: impl FnOnce(&mut HashMap<CallId, broadcast::Sender<ClipId>>) -> T) -> T {
        work(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Watch {
    /// Waits until `clip` has ended or was cut.
    pub async fn ended(&mut self, clip: ClipId) {
        loop {
            match self.ended.recv().await {
                Ok(over) if over == clip => return,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.endings.locked(|calls| calls.remove(&self.call));
    }
}
