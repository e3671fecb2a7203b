//! Jobs that wait for a recogniser.

use crate::speech::{Job, Recognised};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// A job, and where its answer goes.
pub struct Waiting {
    /// The audio.
    pub job: Job,
    /// Where somebody waits for the words.
    pub answer: oneshot::Sender<Recognised>,
    /// How many recognisers it has been given to.
    pub attempts: u32,
}

impl Waiting {
    /// The words, or why there are none. Whoever no longer waits for them has left.
    pub fn answer(self, result: Result<crate::speech::Text, String>) {
        let _ = self.answer.send(Recognised { utterance: self.job.utterance, result });
    }
}

/// First in, first out, bounded. When it is full the job that has waited longest makes room and is answered with
/// [`OVERLOADED`]: the oldest words come too late to help, the newest may still be in time.
pub struct Queue {
    jobs: Mutex<VecDeque<Waiting>>,
    room: usize,
    arrived: Notify,
}

/// The answer to a job that had to make room.
pub const OVERLOADED: &str = "the recogniser is overloaded";

impl Queue {
    /// Room for so many jobs.
    pub fn new(room: usize) -> Self {
        Queue { jobs: Mutex::new(VecDeque::with_capacity(room)), room, arrived: Notify::new() }
    }

    /// Takes a job in. Returns the one that had to make room.
    pub fn push(&self, waiting: Waiting) -> Option<Waiting> {
        let mut jobs = self.lock();
        let displaced = if jobs.len() >= self.room { jobs.pop_front() } else { None };
        jobs.push_back(waiting);
        drop(jobs);
        self.arrived.notify_one();
        displaced
    }

    /// Puts a job back before all others: it was in work when its recogniser died. May exceed the room by one for
    /// each recogniser.
    pub fn put_back(&self, waiting: Waiting) {
        self.lock().push_front(waiting);
        self.arrived.notify_one();
    }

    /// The next job that somebody still waits for.
    pub async fn next(&self) -> Waiting {
        loop {
            let arrived = self.arrived.notified();
            if let Some(waiting) = self.pop() {
                return waiting;
            }
            arrived.await;
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn pop(&self) -> Option<Waiting> {
        let mut jobs = self.lock();
        while let Some(waiting) = jobs.pop_front() {
            if waiting.answer.is_closed() {
                continue;
            }
            if !jobs.is_empty() {
                // Several may have arrived on one notice; pass it on to the next idle recogniser.
                self.arrived.notify_one();
            }
            return Some(waiting);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        // Nothing panics while it is held, and a queue is whole after every line.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Role;
    use crate::id::{LegId, UtteranceId};
    use crate::time::MediaTime;

    fn waiting(n: u32) -> (Waiting, oneshot::Receiver<Recognised>) {
        let (answer, words) = oneshot::channel();
        let job = Job {
            utterance: UtteranceId(n),
            leg: LegId(1),
            role: Role::Customer,
            start: MediaTime::ZERO,
            end: MediaTime::ZERO,
            pcm: [].into(),
        };
        (Waiting { job, answer, attempts: 0 }, words)
    }

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let queue = Queue::new(2);
        let (a, _a) = waiting(1);
        let (b, _b) = waiting(2);
        let (c, _c) = waiting(3);
        assert!(queue.push(a).is_none() && queue.push(b).is_none());
        assert_eq!(queue.push(c).map(|w| w.job.utterance), Some(UtteranceId(1)));
        assert_eq!(queue.next().await.job.utterance, UtteranceId(2));
        assert_eq!((queue.next().await.job.utterance, queue.len()), (UtteranceId(3), 0));
    }

    #[tokio::test]
    async fn a_job_put_back_is_next_and_one_nobody_waits_for_is_skipped() {
        let queue = Queue::new(4);
        let (a, words) = waiting(1);
        let (b, _b) = waiting(2);
        let (c, _c) = waiting(3);
        queue.push(a);
        queue.push(b);
        queue.put_back(c);
        drop(words);
        assert_eq!(queue.next().await.job.utterance, UtteranceId(3));
        assert_eq!(queue.next().await.job.utterance, UtteranceId(2));
    }
}
