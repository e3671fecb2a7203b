//! Runs the steps of a dialplan route on a call.

use crate::call::{Ack, Audience, ClipSpec, Command, FRAME, Sound, Speaker};
use crate::config::Step;
use crate::event::{Actor, Words};
use crate::id::{ClipId, LegId};
use crate::io::sip::admission::expand;
use crate::io::sip::connect::Wanted;
use crate::io::sip::controller::{Call, End};
use crate::io::sip::endings::Watch;
use crate::io::sip::fault::Fault;
use crate::io::sip::{audio, connect};
use std::sync::Arc;
use std::time::Duration;

/// Beyond its length, how long a clip may wait for others before the route goes on without it.
const CLIP_GRACE: Duration = Duration::from_secs(10);

/// Runs every step. Ends when the route ends the call; once both parties are connected the route is over and the call
/// is theirs.
pub async fn run(call: &Arc<Call>, endings: &mut Watch) -> End {
    for step in &call.admitted.route.steps {
        if let Err(end) = take(call, endings, step).await {
            return end;
        }
    }
    if call.is_connected() {
        return std::future::pending().await;
    }
    End::new("the route is over", 480)
}

async fn take(call: &Arc<Call>, endings: &mut Watch, step: &Step) -> Result<(), End> {
    let groups = &call.admitted.groups;
    match step {
        Step::Answer => call.answer(None).await.map(drop),
        Step::Say(text) => say(call, endings, &expand(text, groups, str::to_owned)).await,
        Step::Play(path) => play(call, endings, path).await,
        Step::Connect { to, together, timeout, srtp } => {
            let wanted = Wanted { to, together: *together, timeout: *timeout, srtp: *srtp };
            connect::run(call, endings, wanted).await
        }
        Step::Mode(mode) => {
            let command = Command::SetMode { speaker: Speaker::Coach, mode: *mode, by: Actor::Route };
            if let Err(refusal) = call.command(command).await {
                // What cannot be private is refused (DESIGN §2.4); the people talk on.
                tracing::warn!(route = %call.admitted.route.at, %refusal, "the route's mode was refused");
            }
            Ok(())
        }
        Step::Consent(consent) => {
            // Refused only where the call is over.
            let _ = call.board.host.registry.set_consent(call.id, &call.shard, *consent).await;
            Ok(())
        }
        // It comes first, and its caller is taken to their call before a route runs.
        Step::Supervise { .. } | Step::Fork { .. } => Err(End::new("who listens has no call of their own", 500)),
        Step::Playbook(name) => {
            if let Some(conversations) = &call.board.host.conversations {
                conversations.playbook(call.id, name.as_str().into());
            }
            Ok(())
        }
        Step::Reject { status, reason } => {
            let reason = expand(reason, groups, str::to_owned);
            Err(End { reason: format!("rejected by the route: {reason}"), refusal: Fault::new(*status, reason) })
        }
    }
}

/// Speaks to the caller and waits until it is said. Without a voice the route goes on: the step after it may be the
/// one that matters.
pub async fn say(call: &Call, endings: &mut Watch, text: &str) -> Result<(), End> {
    let leg = call.answer(None).await?;
    match call.board.host.synthesiser.speak(text, None).await {
        Ok(pcm) => to_the_end(call, endings, leg, pcm, Some(text.into())).await,
        Err(error) => {
            tracing::error!(%error, "a text of the route cannot be spoken");
            Ok(())
        }
    }
}

async fn play(call: &Call, endings: &mut Watch, path: &std::path::Path) -> Result<(), End> {
    let leg = call.answer(None).await?;
    match audio::file(path).await {
        Ok(pcm) => to_the_end(call, endings, leg, pcm, None).await,
        Err(error) => {
            tracing::error!(%error, "a file of the route cannot be played");
            Ok(())
        }
    }
}

async fn to_the_end(call: &Call, endings: &mut Watch, leg: LegId, pcm: Sound, text: Option<Words>) -> Result<(), End> {
    let length = Duration::from_millis(20).saturating_mul(pcm.len().div_ceil(FRAME) as u32);
    if let Some(clip) = start(call, leg, pcm, text, false).await {
        let ended = endings.ended(clip);
        if tokio::time::timeout(length.saturating_add(CLIP_GRACE), ended).await.is_err() {
            tracing::warn!(%clip, "the end of a clip was never told");
        }
    }
    Ok(())
}

/// Begins a clip for one leg. None if the call refuses it.
pub async fn start(call: &Call, leg: LegId, pcm: Sound, text: Option<Words>, looped: bool) -> Option<ClipId> {
    let spec = ClipSpec { pcm, audience: Audience::Legs(vec![leg]), looped, text };
    match call.command(Command::Play(spec)).await {
        Ok(Ack::Clip(clip)) => Some(clip),
        Ok(_) => None,
        Err(refusal) => {
            tracing::warn!(%refusal, "a clip of the route was refused");
            None
        }
    }
}
