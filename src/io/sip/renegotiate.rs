//! Offers within a call, from either end and of our own: what a party changes, the other is told.
//!
//! ```text
//! a party's offer ─► shard (far end, media, hold) ─► our answer ─► the other party's new offer, where its side changes
//! ```
//!
//! A party that sends music, or nothing, and receives nothing, holds: its leg steps out of the conversation before it has
//! our answer. The other party is offered the direction that is left; what it hears meanwhile is configured.

use crate::call::sdp::{self, Description, Direction, Keys, Local, Origin};
use crate::call::{Command, LegMedia, Refusal};
use crate::config::{HoldMusic, Proof};
use crate::event::{Actor, Place};
use crate::io::clock;
use crate::io::sip::controller::Call;
use crate::io::sip::door::ALLOW;
use crate::io::sip::fault::Fault;
use crate::io::sip::line::{Line, Side};
use crate::io::sip::timer::{self, Session};
use crate::io::sip::{audio, route};
use crate::media::codec::Codec;
use rsipstack::sip::{Header, Method, Response, StatusCodeKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often an offer of ours is made anew where the peer's own crosses it.
const GLARES: usize = 5;

impl Call {
    /// A new offer of a party (RFC 3264 §8): the shard knows before the peer does (DESIGN §2.6).
    pub async fn renegotiate(self: &Arc<Self>, side: Side, offer: Option<Box<Description>>) -> Result<Vec<u8>, Fault> {
        let (local, codec) = self.next_version(side).ok_or_else(no_media)?;
        let Some(offer) = offer else {
            self.has_told(side, Direction::SendRecv);
            return Ok(sdp::offer(&local, &[codec]));
        };
        let media = offer.settle(Some(codec)).ok_or_else(|| Fault::new(488, "no common codec"))?;
        self.set_media(side, media, offer.keys(&local), offer.origin.clone()).await?;
        if let Some(leg) = self.parties().leg(side) {
            leg.speaks = offer.sends();
        }
        self.set_hold(side, offer.hold()).await?;
        let limit = self.left_to(side);
        self.has_told(side, limit);
        tokio::spawn(self.clone().tell(side.other()));
        Ok(offer.answer_within(&local, &media, limit))
    }

    /// A party's answer, in an ACK, to the offer it asked us for: of both ways, and so what it leaves out is its own hold.
    pub async fn answered_late(self: &Arc<Self>, side: Side, answer: &[u8]) -> Result<(), Fault> {
        let hold = self.answered(side, answer).await?;
        self.set_hold(side, hold).await?;
        for side in [side, side.other()] {
            tokio::spawn(self.clone().tell(side));
        }
        Ok(())
    }

    /// A party's answer to an offer of ours. Answers how it holds, if the offer let it choose.
    async fn answered(&self, side: Side, answer: &[u8]) -> Result<Option<Direction>, Fault> {
        let local = self.parties().leg(side).map(|leg| leg.local).ok_or_else(no_media)?;
        let answer = Description::read(answer, local.terms())?;
        let media = answer.settle(None).ok_or_else(|| Fault::new(488, "no common codec"))?;
        let hold = answer.hold();
        self.set_media(side, media, answer.keys(&local), answer.origin).await?;
        Ok(hold)
    }

    fn has_told(&self, side: Side, direction: Direction) {
        if let Some(leg) = self.parties().leg(side) {
            leg.told = direction;
        }
    }

    fn next_version(&self, side: Side) -> Option<(Local, Codec)> {
        let mut parties = self.parties();
        let leg = parties.leg(side)?;
        leg.local.version = leg.local.version.saturating_add(1);
        Some((leg.local, leg.media.codec))
    }

    pub(super) async fn set_media(
        &self,
        side: Side,
        media: LegMedia,
        keys: Option<Keys>,
        origin: Origin,
    ) -> Result<(), Fault> {
        let (id, stranger) = {
            let mut parties = self.parties();
            let leg = parties.leg(side).ok_or_else(no_media)?;
            let stranger = leg.origin.as_ref().is_some_and(|before| *before != origin);
            leg.origin = Some(origin);
            leg.media = media;
            leg.local.agree(keys, clock::secret);
            (leg.id, stranger)
        };
        if stranger {
            // DESIGN §2.6: privacy narrows before anything widens.
            self.command(Command::FarEndChanged { leg: id }).await.map_err(refused)?;
        }
        self.shard.set_media(self.id, id, media, keys).await.map_err(refused)?;
        if self.board.config.sip.proof == Proof::Signalling {
            // Refused where its packets come from elsewhere: then it is for a person to say who that is.
            let _ = self.command(Command::Vouch { leg: id, by: Actor::Guard }).await;
        }
        Ok(())
    }

    /// A party holds, or is back.
    async fn set_hold(&self, side: Side, hold: Option<Direction>) -> Result<(), Fault> {
        let leg = {
            let mut parties = self.parties();
            let leg = parties.leg(side).ok_or_else(no_media)?;
            leg.hold = hold;
            leg.id
        };
        self.command(Command::SetHeld { leg, place: self.place_on_hold(hold) }).await.map_err(refused)?;
        Ok(())
    }

    /// Where a party is while it holds in this way.
    pub(super) fn place_on_hold(&self, hold: Option<Direction>) -> Option<Place> {
        hold.map(|direction| match (&self.board.config.sip.hold_music, direction) {
            (HoldMusic::Theirs, Direction::SendOnly) => Place::Playing,
            (HoldMusic::Theirs | HoldMusic::Silence | HoldMusic::File(_), _) => Place::Aside,
        })
    }

    /// Which way media may flow on a party's line, as we write it: both, unless the other party holds.
    fn left_to(&self, side: Side) -> Direction {
        let hold = self.parties().leg(side.other()).and_then(|leg| leg.hold);
        match (hold, &self.board.config.sip.hold_music) {
            (None, _) => Direction::SendRecv,
            (Some(direction), HoldMusic::Theirs) => direction,
            (Some(_), HoldMusic::File(_)) => Direction::SendOnly,
            (Some(_), HoldMusic::Silence) => Direction::Inactive,
        }
    }

    /// Lets a party know what the other one's hold or return leaves of its line. One of these works for each line at a
    /// time, and looks again when it is done.
    pub(super) async fn tell(self: Arc<Self>, side: Side) {
        // Who sits there may be somebody else by the next time.
        while let Some(line) = self.line(side).filter(|_| self.is_to_be_told(side)) {
            if line.telling.swap(true, Ordering::AcqRel) {
                return;
            }
            self.play_music(side).await;
            self.reoffer(&line).await;
            line.telling.store(false, Ordering::Release);
        }
    }

    fn is_to_be_told(&self, side: Side) -> bool {
        let wanted = self.left_to(side);
        self.parties().leg(side).is_some_and(|leg| leg.told != wanted)
    }

    /// Begins or ends the music of ours that a party hears while the other one holds.
    async fn play_music(&self, side: Side) {
        let HoldMusic::File(path) = &self.board.config.sip.hold_music else { return };
        let wanted = self.left_to(side) != Direction::SendRecv;
        let Some((leg, playing)) = self.parties().leg(side).map(|leg| (leg.id, leg.music.take())) else { return };
        let music = match (wanted, playing) {
            (true, None) => match audio::file(path).await {
                Ok(pcm) => route::start(self, leg, pcm, None, true).await,
                Err(error) => {
                    tracing::error!(%error, "the music on hold cannot be played");
                    None
                }
            },
            (false, Some(clip)) => {
                // It may have been cut with its leg.
                let _ = self.command(Command::Cut { clip, reason: "the hold is over".into() }).await;
                None
            }
            (true, Some(_)) | (false, None) => playing,
        };
        if let Some(leg) = self.parties().leg(side) {
            leg.music = music;
        }
    }

    /// Offers a party what its line has, in the direction that is left to it: a hold, a return, or a sign of life (RFC
    /// 4028). Whatever comes of it, it is not offered again unless something changes. Answers the peer's answer.
    pub(super) async fn reoffer(&self, line: &Arc<Line>) -> Option<Response> {
        for _ in 0..GLARES {
            let response = self.offer_once(line).await?;
            match response.status_code.code() {
                // RFC 3261 §14.1: both offered at once. Whoever made the Call-ID waits longer.
                491 => tokio::time::sleep(glare(line.side, clock::random())).await,
                // RFC 3261 §12.2.1.2: the peer has no such dialog any more.
                408 | 481 => {
                    line.gone(gone(line.side)).await;
                    return Some(response);
                }
                _ => return Some(response),
            }
        }
        None
    }

    async fn offer_once(&self, line: &Arc<Line>) -> Option<Response> {
        let _turn = line.renegotiating.lock().await;
        line.offering.store(true, Ordering::Release);
        let response = self.offer_in_turn(line).await;
        line.offering.store(false, Ordering::Release);
        response
    }

    async fn offer_in_turn(&self, line: &Arc<Line>) -> Option<Response> {
        let side = self.seat_of(&line.key)?;
        let direction = self.left_to(side);
        let offer = {
            let mut parties = self.parties();
            let leg = parties.leg(side)?;
            leg.told = direction;
            leg.local.version = leg.local.version.saturating_add(1);
            sdp::reoffer(&leg.local, &leg.media, direction)
        };
        let mut headers = timer::headers(line);
        headers.extend([Header::Allow(ALLOW.into()), Header::ContentType("application/sdp".into())]);
        let response = line.ask(Method::Invite, headers, Some(offer)).await?;
        if response.status_code.kind() == StatusCodeKind::Successful {
            line.redirected(&response);
            line.agree(Session::agreed(&response));
            if let Err(fault) = self.answered(side, &response.body).await {
                tracing::warn!(?side, reason = %fault.reason, "the answer to a new offer is unusable");
            }
        }
        Some(response)
    }
}

fn no_media() -> Fault {
    Fault::new(488, "there is no media to change")
}

fn refused(refusal: Refusal) -> Fault {
    Fault::new(500, refusal.to_string())
}

/// RFC 3261 §14.1: 2.1 to 4 s in steps of 10 ms where we made the Call-ID, else 0 to 2 s.
fn glare(side: Side, random: u64) -> Duration {
    Duration::from_millis(match side {
        Side::Called => 2_100 + 10 * (random % 191),
        Side::Caller => 10 * (random % 201),
    })
}

fn gone(side: Side) -> &'static str {
    match side {
        Side::Caller => "caller is gone: it knows nothing of the call any more",
        Side::Called => "called party is gone: it knows nothing of the call any more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_made_the_call_id_waits_longer() {
        let times = |side| [0, 190, 191, 200, u64::MAX].map(|random| glare(side, random).as_millis());
        assert_eq!(times(Side::Called), [2_100, 4_000, 2_100, 2_190, 2_100 + 10 * (u64::MAX % 191) as u128]);
        assert!((0..1_000).all(|random| glare(Side::Caller, random) <= Duration::from_secs(2)));
    }
}
