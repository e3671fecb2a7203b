//! Where a supervisor sits: their leg in a call, and what was agreed on with their telephone.

use crate::call::sdp::{self, Description, Keys, Local, Origin};
use crate::call::{Ack, Command, LegMedia, Refusal};
use crate::event::Place;
use crate::id::{CallId, LegId};
use crate::io::clock;
use crate::io::shard::Shard;
use crate::io::sip::fault::Fault;
use crate::io::tts::Synthesiser;

/// Where they are.
#[derive(Clone)]
pub struct Seat {
    /// In which call.
    pub call: CallId,
    /// Where its media lives.
    pub shard: Shard,
    /// As which leg.
    pub leg: LegId,
}

/// What was agreed on with their telephone.
pub struct Agreed {
    /// What we say of ourselves.
    pub local: Local,
    /// What was settled.
    pub media: LegMedia,
    /// Whose description it was.
    pub origin: Origin,
}

impl Seat {
    /// A command to the call.
    pub async fn command(&self, command: Command) -> Result<Ack, Refusal> {
        self.shard.command(self.call, command).await
    }

    /// Whether the leg is still in the call.
    pub async fn is_there(&self) -> bool {
        matches!(self.command(Command::Describe).await, Ok(Ack::View(view)) if view.legs.iter().any(|l| l.id == self.leg))
    }

    /// Says something to each of these legs alone. To be run in a task of its own: no line waits for a voice.
    pub async fn say(&self, voice: &Synthesiser, legs: &[LegId], text: &str) {
        match voice.speak(text, None).await {
            Ok(pcm) => {
                for leg in legs {
                    // Refused where it is gone.
                    let told = Command::Tell { leg: *leg, pcm: pcm.clone(), text: text.into() };
                    let _ = self.command(told).await;
                }
            }
            Err(error) => tracing::warn!(%error, "somebody could not be told where they are"),
        }
    }

    /// A new offer (RFC 3264 §8): the shard knows before the supervisor does.
    pub async fn renegotiate(&self, agreed: &mut Agreed, offer: Option<Box<Description>>) -> Result<Vec<u8>, Fault> {
        agreed.local.version = agreed.local.version.saturating_add(1);
        let (local, codec) = (agreed.local, agreed.media.codec);
        let Some(offer) = offer else { return Ok(sdp::offer(&local, &[codec])) };
        let media = offer.settle(Some(codec)).ok_or_else(|| Fault::new(488, "no common codec"))?;
        self.agree(agreed, media, offer.keys(&local), offer.origin.clone()).await?;
        Ok(offer.answer(&local, &media))
    }

    /// Their answer to our offer, in an ACK.
    pub async fn answered(&self, agreed: &mut Agreed, answer: &[u8]) -> Result<(), Fault> {
        let answer = Description::read(answer, agreed.local.terms())?;
        let media = answer.settle(None).ok_or_else(|| Fault::new(488, "no common codec"))?;
        let keys = answer.keys(&agreed.local);
        self.agree(agreed, media, keys, answer.origin).await
    }

    async fn agree(
        &self,
        agreed: &mut Agreed,
        media: LegMedia,
        keys: Option<Keys>,
        origin: Origin,
    ) -> Result<(), Fault> {
        let leg = self.leg;
        let failed = |refusal: Refusal| Fault::new(500, refusal.to_string());
        if agreed.origin != origin {
            self.command(Command::FarEndChanged { leg }).await.map_err(failed)?;
        }
        // A supervisor who holds neither listens nor speaks; whatever their telephone plays is heard by nobody.
        let place = (!media.send).then_some(Place::Aside);
        self.command(Command::SetHeld { leg, place }).await.map_err(failed)?;
        self.shard.set_media(self.call, leg, media, keys).await.map_err(failed)?;
        agreed.local.agree(keys, clock::secret);
        (agreed.media, agreed.origin) = (media, origin);
        Ok(())
    }
}
