//! Whether anybody else is in a conference: by what it tells (RFC 4575), else by silence alone.

use crate::call::{Ack, Command};
use crate::id::LegId;
use crate::io::sip::outward::Outward;
use crate::time::{MediaTime, Samples};
use std::time::Duration;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until nobody else has been there for `patience`. Answers how that is known.
pub async fn watch(call: &Outward, leg: LegId, patience: Duration) -> &'static str {
    let mut alone: Option<MediaTime> = None;
    let mut began: Option<MediaTime> = None;
    let patience = Samples::from_millis(patience.as_millis() as i64);
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(Ack::View(view)) = call.command(Command::Describe).await else { return "the call has ended" };
        let (now, begun) = (view.media_time, *began.get_or_insert(view.media_time));
        let told = call.board.host.registry.get(call.id).and_then(|entry| entry.conference).map(|c| c.count);
        let heard = view.legs.iter().find(|l| l.id == leg).and_then(|l| l.last_sound);
        alone = match told {
            // One is ourselves; who tells of nobody does not count us.
            Some(0 | 1) => alone.or(Some(now)),
            Some(_) => None,
            None => Some(heard.map_or(begun, |heard| heard.max(begun))),
        };
        if alone.is_some_and(|since| now - since >= patience) {
            return if told.is_some() {
                "nobody else is in the conference"
            } else {
                "nothing is heard in the conference"
            };
        }
    }
}
