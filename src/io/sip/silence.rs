//! Who sends nothing any more: a party whose telephone lost its power or its network says no BYE.
//!
//! In come the packets each leg has received, a few times within the configured time; out comes the end of the call. Who
//! holds, or said that it would send nothing, may be silent for ever.

use crate::call::{Ack, Command};
use crate::id::LegId;
use crate::io::sip::controller::{Call, End};
use crate::io::sip::line::Side;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked within the configured time: it is kept to within an eighth.
const LOOKS: u32 = 8;

/// A party, as it was last found to send.
struct Heard {
    leg: LegId,
    packets: u64,
    at: Instant,
}

/// Waits until a party is silent for too long. For ever, where that is not configured.
pub async fn watch(call: &Call) -> End {
    let Some(limit) = call.board.config.media.timeout else { return std::future::pending().await };
    let mut heard = [None, None];
    loop {
        tokio::time::sleep(limit / LOOKS).await;
        if !call.is_connected() {
            // Who waits, or plays something, need not speak.
            heard = [None, None];
            continue;
        }
        let Ok(Ack::View(view)) = call.command(Command::Describe).await else { continue };
        let received = |leg| view.legs.iter().find(|l| l.id == leg).map(|l| l.received);
        for (side, heard) in [Side::Caller, Side::Called].into_iter().zip(&mut heard) {
            let speaks = call.parties().leg(side).filter(|leg| leg.speaks && leg.hold.is_none()).map(|leg| leg.id);
            let now = speaks.and_then(|leg| Some((leg, received(leg)?)));
            if is_gone(heard, now, limit) {
                return gone(side, limit);
            }
        }
    }
}

fn is_gone(heard: &mut Option<Heard>, now: Option<(LegId, u64)>, limit: Duration) -> bool {
    let Some((leg, packets)) = now else {
        *heard = None;
        return false;
    };
    match heard {
        Some(before) if before.leg == leg && before.packets == packets => before.at.elapsed() >= limit,
        Some(_) | None => {
            *heard = Some(Heard { leg, packets, at: Instant::now() });
            false
        }
    }
}

fn gone(side: Side, limit: Duration) -> End {
    let who = match side {
        Side::Caller => "caller",
        Side::Called => "called party",
    };
    End::new(format!("nothing came from the {who} for {} s", limit.as_secs()), 480)
}
