//! What lies between the door and the stack. The stack reads from a channel that has no bound; here is the bound: whoever
//! reads from a socket waits until there is a place, so that what is too much waits in the kernel, which has bounds.

use async_trait::async_trait;
use rsipstack::sip::SipMessage;
use rsipstack::transaction::endpoint::TransportEventInspector;
use rsipstack::transport::SipConnection;
use rsipstack::transport::connection::TransportEvent;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Messages that passed the door and were not looked at by the stack yet, each of some kilobytes: 50 ms of the most that it
/// looks at in a second. When there are as many, nothing further is read.
const MOST: usize = 1_000;
/// After how long a place counts as lost, because the stack threw its message away unseen.
const LOST: Duration = Duration::from_secs(2);

/// Counts what is on its way to the stack, and keeps out what did not pass a door.
#[derive(Clone)]
pub struct Threshold(Arc<Semaphore>);

impl Default for Threshold {
    fn default() -> Self {
        Threshold(Arc::new(Semaphore::new(MOST)))
    }
}

impl Threshold {
    /// Waits until there is a place for another message.
    pub async fn step_on(&self) {
        match tokio::time::timeout(LOST, self.0.acquire()).await {
            Ok(Ok(place)) => place.forget(),
            // It is never closed.
            Ok(Err(_)) => {}
            Err(_) => {
                tracing::warn!("the SIP stack looks at no messages");
                self.0.add_permits(MOST.saturating_sub(self.0.available_permits()));
            }
        }
    }

    fn step_over(&self) {
        if self.0.available_permits() < MOST {
            self.0.add_permits(1);
        }
    }
}

#[async_trait]
impl TransportEventInspector for Threshold {
    async fn handle(&self, event: TransportEvent) -> Option<TransportEvent> {
        self.step_over();
        // The stack would take requests on connections that it made itself.
        let stray = matches!(&event, TransportEvent::Incoming(SipMessage::Request(_), connection, _)
            if !matches!(connection, SipConnection::Udp(_) | SipConnection::Channel(_)));
        (!stray).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_reads_waits_for_the_stack_and_not_for_ever() {
        let threshold = Threshold::default();
        for _ in 0..MOST {
            threshold.step_on().await;
        }
        let next = threshold.clone();
        let waiting = tokio::spawn(async move { next.step_on().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        threshold.step_over();
        waiting.await.unwrap();
        assert_eq!(threshold.0.available_permits(), 0);
        // Nothing is looked at any more: after a while it goes on as if it were empty.
        threshold.step_on().await;
        assert!(threshold.0.available_permits() > MOST / 2);
        (0..2 * MOST).for_each(|_| threshold.step_over());
        assert_eq!(threshold.0.available_permits(), MOST);
    }
}
