//! Which call a recording session belongs to: several sessions may record one communication, as when a session border
//! controller forks each side by itself. They are one call here.

use crate::id::CallId;
use crate::io::shard::Shard;
use tokio::sync::{Mutex, watch};

/// A call of recording sessions.
#[derive(Clone)]
pub struct Seat {
    /// Which.
    pub call: CallId,
    /// Where its media lives.
    pub shard: Shard,
    /// Why it is to end, once somebody wishes that.
    pub wish: watch::Receiver<Option<String>>,
}

struct Communication {
    trunk: String,
    /// Its groups and sessions, as the metadata names them.
    names: Vec<String>,
    seat: Seat,
    /// Recording sessions that are up.
    sessions: usize,
}

/// Every communication that is being recorded. Bounded by the number of calls the server takes.
#[derive(Default)]
pub struct Communications {
    /// Held while a call is opened, so that two sessions that come together do not open two.
    open: Mutex<Vec<Communication>>,
}

impl Communications {
    /// The call of a session whose communication has these `names`: that of another session which has one of them too, else
    /// what `open` makes. Names count within a trunk: nobody joins what another trunk has recorded.
    pub async fn join<E>(
        &self,
        trunk: &str,
        names: Vec<String>,
        open: impl Future<Output = Result<Seat, E>>,
    ) -> Result<Seat, E> {
        let mut known = self.open.lock().await;
        let same = |c: &&mut Communication| c.trunk == trunk && c.names.iter().any(|name| names.contains(name));
        if let Some(communication) = known.iter_mut().find(same) {
            communication.sessions += 1;
            communication.learn(names);
            return Ok(communication.seat.clone());
        }
        let seat = open.await?;
        known.push(Communication { trunk: trunk.to_owned(), names, seat: seat.clone(), sessions: 1 });
        Ok(seat)
    }

    /// What names the communication is known better now.
    pub async fn learn(&self, call: CallId, names: Vec<String>) {
        if let Some(communication) = self.open.lock().await.iter_mut().find(|c| c.seat.call == call) {
            communication.learn(names);
        }
    }

    /// A session is over. Whether it was the last of its call.
    pub async fn leave(&self, call: CallId) -> bool {
        let mut known = self.open.lock().await;
        let Some(at) = known.iter().position(|c| c.seat.call == call) else { return true };
        let left = known.get_mut(at).map_or(0, |c| {
            c.sessions = c.sessions.saturating_sub(1);
            c.sessions
        });
        if left == 0 {
            known.swap_remove(at);
        }
        left == 0
    }
}

impl Communication {
    /// A communication has a handful of names; who changes them without end is not followed.
    fn learn(&mut self, names: Vec<String>) {
        const MOST: usize = 1_000;
        let new: Vec<_> = names.into_iter().filter(|name| !self.names.contains(name)).collect();
        let room = MOST.saturating_sub(self.names.len());
        self.names.extend(new.into_iter().take(room));
    }
}
