//! An agent whose far end has changed without a word: their telephone is asked whether that is theirs.
//!
//! In come legs to which nothing is whispered any more; out goes an offer in the agent's dialog, of what the line has
//! already. Its answer says where the telephone is. Where its packets come from there, the call takes its word for it.

use crate::config::Proof;
use crate::io::sip::controller::{Call, End};
use crate::io::sip::endings::Watch;
use crate::io::sip::line::Side;
use std::sync::Arc;

/// Asks, one after the other, for as long as the call lasts. Who changes all the time is asked again when it has answered.
pub async fn watch(call: &Arc<Call>, endings: &mut Watch) -> End {
    loop {
        let leg = endings.suspended().await;
        let is_it = |side: &Side| call.parties().leg(*side).is_some_and(|party| party.id == leg);
        let side = [Side::Caller, Side::Called].into_iter().find(is_it);
        if let Some(line) = side.and_then(|side| call.line(side))
            && call.board.config.sip.proof == Proof::Signalling
        {
            call.reoffer(&line).await;
        }
    }
}
