//! The calls that are alive on this node, for those who act on them from outside.

use crate::event::Address;
use crate::id::CallId;
use crate::io::shard::Shard;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// The way to a call's controller.
#[derive(Clone)]
pub struct Handle {
    wish: Arc<watch::Sender<Option<String>>>,
}

impl Handle {
    /// A handle, and what its controller listens to.
    pub fn new() -> (Self, watch::Receiver<Option<String>>) {
        let (wish, wished) = watch::channel(None);
        (Handle { wish: Arc::new(wish) }, wished)
    }

    /// Hangs up everyone. Never blocks and never fails; the first reason given is the one that counts.
    pub fn hangup(&self, reason: &str) {
        self.wish.send_if_modified(|wish| match wish {
            Some(_) => false,
            None => {
                *wish = Some(reason.to_owned());
                true
            }
        });
    }
}

/// What is known of a call from outside.
#[derive(Clone)]
pub struct Entry {
    /// The shard it lives on.
    pub shard: Shard,
    /// The way to its controller.
    pub handle: Handle,
    /// Who calls.
    pub caller: Address,
    /// What they dialled.
    pub called: Address,
    /// When it began, milliseconds since 1970 UTC.
    pub began_ms: i64,
}

/// Every call that has not ended. Bounded by the number of calls the server takes.
#[derive(Clone, Default)]
pub struct Registry {
    calls: Arc<Mutex<HashMap<CallId, Entry>>>,
}

impl Registry {
    /// A call begins.
    pub fn insert(&self, call: CallId, entry: Entry) {
        self.locked(|calls| calls.insert(call, entry));
    }

    /// A call is over.
    pub fn remove(&self, call: CallId) -> Option<Entry> {
        self.locked(|calls| calls.remove(&call))
    }

    /// One call.
    pub fn get(&self, call: CallId) -> Option<Entry> {
        self.locked(|calls| calls.get(&call).cloned())
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<(CallId, Entry)> {
        let mut all: Vec<_> = self.locked(|calls| calls.iter().map(|(id, e)| (*id, e.clone())).collect());
        all.sort_by_key(|(id, entry)| (entry.began_ms, *id));
        all
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.locked(|calls| calls.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn locked<T>(&self, work: impl FnOnce(&mut HashMap<CallId, Entry>) -> T) -> T {
        work(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
