//! What a caller hears before anybody answers (RFC 3960): what the called party plays, if it plays something, else the
//! ringing tone.
//!
//! Who plays before the answer is nobody yet: its leg is heard and hears nothing, is not listened to, and cannot be
//! whispered to. Of several that ring, the first to play something is heard until it fails or somebody answers.

use crate::call::sdp::{Description, Local};
use crate::call::{Command, LegMedia};
use crate::event::{Address, Place};
use crate::id::ClipId;
use crate::io::rtp::LegSockets;
use crate::io::sip::controller::{Call, End};
use crate::io::sip::dial::Answered;
use crate::io::sip::line::{Line, Side};
use crate::io::sip::news::Fragment;
use crate::io::sip::{audio, route};
use crate::media::codec::Codec;
use rsipstack::sip::Response;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};

/// What the caller of one call hears.
pub struct Early {
    call: Arc<Call>,
    /// The party who hears it.
    hears: Side,
    /// Who wants to know of provisional answers; nothing else is done with them then.
    told: Option<mpsc::Sender<Fragment>>,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    /// Our tone.
    ringing: Option<ClipId>,
    /// Whether their own telephone was told to make it.
    told: bool,
    /// The line of the one who plays something, and what it last said of its media.
    playing: Option<((String, String), Description)>,
}

impl Early {
    /// Nothing, so far.
    pub fn new(call: Arc<Call>) -> Self {
        Early { call, hears: Side::Caller, told: None, now: Mutex::default() }
    }

    /// What a party hears who is being transferred: our tone alone, as its place beside them is taken until somebody
    /// answers.
    pub fn of_transfer(call: Arc<Call>, hears: Side, told: mpsc::Sender<Fragment>) -> Self {
        Early { call, hears, told: Some(told), now: Mutex::default() }
    }

    /// The party who hears it.
    pub fn listener(&self) -> Side {
        self.hears
    }

    /// Before the caller is answered their own telephone makes the tone (180); after that we do.
    pub async fn ring(&self) {
        let mut now = self.now.lock().await;
        let listener = self.call.parties().leg(self.hears).map(|leg| (leg.id, leg.music.is_some()));
        match listener {
            // Who holds has them hear our music.
            Some((_, true)) => {}
            Some((leg, false)) if now.ringing.is_none() => {
                now.ringing = route::start(&self.call, leg, audio::ringing(), None, true).await;
            }
            None if !now.told => {
                now.told = true;
                self.call.caller.progress(None).await;
            }
            Some(_) | None => {}
        }
    }

    /// No tone any more.
    pub async fn fall_silent(&self) {
        self.stop(&mut *self.now.lock().await).await;
    }

    async fn stop(&self, now: &mut Now) {
        if let Some(clip) = now.ringing.take() {
            // It may have been cut with its leg.
            let _ = self.call.command(Command::Cut { clip, reason: "something else is to be heard".into() }).await;
        }
    }

    /// A provisional answer of `line`: where it describes media, that is heard. `ours` is our end of it.
    pub async fn hear(
        &self,
        line: &Arc<Line>,
        to: &Address,
        response: &Response,
        (ours, local): (&mut Option<(LegSockets, Local)>, &Local),
    ) {
        if let Some(told) = &self.told {
            // Who is slow to hear of it misses some; the outcome is told apart.
            let _ = told.try_send(Fragment::of(response));
            return;
        }
        if response.body.is_empty() {
            return;
        }
        let mut now = self.now.lock().await;
        let Ok(description) = Description::read(&response.body, local.terms()) else { return };
        let Some(media) = description.settle(None) else { return };
        match &now.playing {
            // Another fork behind the same INVITE, or other media of the same; who only says it again has changed nothing.
            Some((key, before)) if *key == line.key => {
                if *before != description && self.settle(&description, media, local).await.is_ok() {
                    now.playing = Some((line.key.clone(), description));
                }
            }
            Some(_) => {}
            None => {
                let Some((sockets, local)) = ours.take() else { return };
                let joined = self.call.join_called(to.clone(), (media, &description), sockets, local, Place::Playing);
                if joined.await.is_err() {
                    return;
                }
                now.playing = Some((line.key.clone(), description));
                self.stop(&mut now).await;
                if let Err(end) = self.call.progress(Some(media.codec)).await {
                    tracing::warn!(reason = %end.reason, "the caller cannot hear what is played before the answer");
                }
            }
        }
    }

    /// A party does not come: what it played is over.
    pub async fn gone(&self, line: &Line) {
        let mut now = self.now.lock().await;
        if now.playing.as_ref().is_some_and(|(key, _)| *key == line.key) {
            now.playing = None;
            self.call.drop_called("it did not answer").await;
        }
    }

    /// A party answered: it is in conversation, on the leg it was heard on or on one of its own.
    pub async fn answered(&self, answered: Answered) -> Result<Codec, End> {
        let Answered { to, line, description, media: ours } = answered;
        let media = description.settle(None).ok_or_else(|| End::new("no common codec", 488))?;
        let mut now = self.now.lock().await;
        let heard = now.playing.take();
        self.call.took(&line);
        match ours {
            None => {
                let local = self.call.parties().leg(Side::Called).map(|leg| leg.local);
                let local = local.ok_or_else(|| End::new("its leg is gone", 500))?;
                let unusable = |fault: crate::io::sip::fault::Fault| End::new(fault.reason, 500);
                if heard.is_none_or(|(_, before)| before != description) {
                    self.settle(&description, media, &local).await.map_err(unusable)?;
                }
                self.call.called_is_there(to).await?;
            }
            Some((sockets, local)) => {
                if heard.is_some() {
                    self.call.drop_called("somebody else answered").await;
                }
                let place = Place::InConversation;
                self.call.join_called(to, (media, &description), sockets, local, place).await?;
            }
        }
        Ok(media.codec)
    }

    async fn settle(
        &self,
        description: &Description,
        media: LegMedia,
        local: &Local,
    ) -> Result<(), crate::io::sip::fault::Fault> {
        let keys = description.keys(local);
        self.call.set_media(Side::Called, media, keys, description.origin.clone()).await
    }
}
