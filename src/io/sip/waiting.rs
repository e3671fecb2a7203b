//! The waiting room: a supervisor who dials an agent without a call hears it ring until that agent's next one, where a rule
//! lets them wait (`wait_s` of `[[supervise]]`).
//!
//! Their line is not answered meanwhile: a line that rings is not forgotten, has no media that could be heard, and is given
//! up as every call is. Once the call they waited for has ended, so does their line, as everyone's.

use crate::io::sip::admission::Whom;
use crate::io::sip::controller::{End, Message};
use crate::io::sip::policy;
use crate::io::sip::supervisor::{Supervisor, gone};
use crate::io::sip::whom::Found;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often they are told that it still rings. A proxy gives up three minutes after the last time (RFC 3261 §16.6, timer C).
const RINGS: Duration = Duration::from_secs(60);

impl Supervisor {
    /// The call they want to hear: at once, or once there is one.
    pub(super) async fn find_or_wait(&self, messages: &mut mpsc::Receiver<Message>) -> Result<Found, End> {
        // From before the first look, so that no call begins unseen.
        let mut changes = self.board.host.registry.changes();
        let refused = match self.find().await {
            Ok(found) => return Ok(found),
            Err(refused) => refused,
        };
        let patience = Some(&refused).filter(|end| end.refusal.status == 404).and_then(|_| self.patience());
        let Some(patience) = patience else { return Err(refused) };
        tracing::info!(seconds = patience.as_secs(), "a supervisor waits for an agent's next call");
        let mut again = tokio::time::interval(RINGS);
        let too_late = tokio::time::sleep(patience);
        tokio::pin!(too_late);
        loop {
            tokio::select! {
                biased;
                Some(message) = messages.recv() => if let Message::Gone { reason, .. } = message {
                    return Err(gone(reason));
                },
                // The registry outlives every line.
                _ = changes.changed() => match self.find().await {
                    Err(end) if self.goes_on_waiting(&end) => {}
                    found => return found,
                },
                _ = again.tick() => self.line.progress(None).await,
                () = &mut too_late => return Err(End::new("no call of this agent has begun", 480)),
            }
        }
    }

    /// How long they may wait, if they may.
    fn patience(&self) -> Option<Duration> {
        let Whom::Dialled(agent) = &self.wanted.whom else { return None };
        self.came.as_ref()?;
        policy::may_wait(&self.board.config.supervise, self.asker()?, agent)
    }

    /// A call that they may not hear, or not yet, is none that they wait for.
    fn goes_on_waiting(&self, end: &End) -> bool {
        !self.board.is_closing() && matches!(end.refusal.status, 404 | 403)
    }
}
