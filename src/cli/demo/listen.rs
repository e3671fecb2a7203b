//! Listens to the server's events as any client does, and notes when each was heard of.

use crate::event::{Recorded, What};
use crate::io::clock;
use crate::io::journal::Published;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// How long nothing must happen after the end of a call for everything to have been told.
const QUIET: Duration = Duration::from_millis(1500);

/// An event, and when it was heard of.
#[derive(Clone)]
pub struct Heard {
    /// On this machine's clock.
    pub at: Instant,
    /// What happened.
    pub event: Arc<Recorded>,
}

/// Why the events are not complete.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// More happened than could be taken in.
    #[error("{0} events were missed")]
    Missed(u64),
}

/// Every event from now until the call has ended, its recording is complete and all is quiet, each shown as it comes.
pub async fn listen(
    mut published: Receiver<Published>,
    mut show: impl FnMut(&Recorded),
) -> Result<Vec<Heard>, ListenError> {
    let mut heard: Vec<Heard> = Vec::new();
    let (mut ended, mut recorded) = (false, false);
    loop {
        let patience = if ended && recorded { QUIET } else { Duration::MAX };
        let event = match tokio::time::timeout(patience, published.recv()).await {
            Ok(Ok(Published::Event(event))) => event,
            Ok(Ok(Published::Committed { .. })) => continue,
            Ok(Err(RecvError::Lagged(missed))) => return Err(ListenError::Missed(missed)),
            Ok(Err(RecvError::Closed)) | Err(_) => return Ok(heard),
        };
        ended |= matches!(event.event.what, What::CallEnded { .. });
        recorded |= matches!(event.event.what, What::RecordingEnded { .. });
        show(&event);
        heard.push(Heard { at: clock::now(), event });
    }
}
