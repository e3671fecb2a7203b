//! The agent's private line beside a conference: called, proven by a code, and asked anew whenever its far end may be another.
//!
//! What proves it, and that nobody in the conference hears it, is decided by the call (`call/pairing.rs`); here the code is
//! drawn and said. It is never journalled.

use crate::call::{Ack, Audience, ClipSpec, Code, Command, Refusal};
use crate::event::{Event, Place, Role, What};
use crate::id::LegId;
use crate::io::clock;
use crate::io::sip::endings::{About, Watch, Wish};
use crate::io::sip::line::Line;
use crate::io::sip::outward::callee::Callee;
use crate::io::sip::outward::party::{self, Gone, Parties};
use crate::io::sip::outward::{CODECS, Outward};
use std::sync::Arc;
use std::time::Duration;

/// Codes that are asked for before the line is given up: three of ten thousand are guessed by chance.
const TRIES: u32 = 3;
/// How long the agent may take over one, from the first word on.
const PATIENCE: Duration = Duration::from_secs(40);
/// What is told where all tries are over.
const GIVEN_UP: &str = "nobody at the private line keyed in the code";

/// Calls the line and keeps it until it is gone or cannot be proven. The conference goes on without it.
pub async fn keep(call: Arc<Outward>, callee: Callee, code: Option<Code>, parties: Arc<Parties>) {
    let mut endings = call.board.endings.watch(call.id);
    let reached = match party::dial(&call, &callee, &CODECS, &parties).await {
        Ok(reached) => reached,
        Err(end) => return missed(&call, format!("the private line: {}", end.reason)).await,
    };
    let line = reached.line.clone();
    let (leg, mut gone) = match party::join(&call, reached, Role::Earpiece, Place::Aside, &parties).await {
        Ok(joined) => joined,
        Err(end) => return parties.part(&call.board, &line, &end.reason).await,
    };
    let reason = tokio::select! {
        biased;
        reason = gone_from(&mut gone) => reason,
        reason = prove(&call, leg, code, &mut endings) => reason,
    };
    let _ = call.command(Command::RemoveLeg { leg, reason: reason.clone() }).await;
    parties.part(&call.board, &line as &Line, &reason).await;
}

async fn gone_from(gone: &mut Gone) -> String {
    gone.reason().await.replacen("called party", "the private line", 1)
}

/// Asks until the line is proven, and again when it is not any more. Answers why it is given up.
async fn prove(call: &Outward, leg: LegId, code: Option<Code>, endings: &mut Watch) -> String {
    let mut tries = 0;
    loop {
        tries += 1;
        if tries > TRIES {
            missed(call, GIVEN_UP.into()).await;
            return GIVEN_UP.into();
        }
        if let Err(refusal) = ask(call, leg, code.clone()).await {
            return refusal.to_string();
        }
        match tokio::time::timeout(PATIENCE, answer(call, leg, endings)).await {
            Ok(Some(true)) => {
                tries = 0;
                call.be_in_mode().await;
                loop {
                    match answer(call, leg, endings).await {
                        Some(true) => {}
                        Some(false) => break,
                        None => return "the call has ended".into(),
                    }
                }
            }
            Ok(Some(false)) | Err(_) => {}
            Ok(None) => return "the call has ended".into(),
        }
    }
}

/// What came of the last question, or of a proof that held until now; none: the call or the leg is over.
async fn answer(call: &Outward, leg: LegId, endings: &mut Watch) -> Option<bool> {
    loop {
        match endings.about(leg).await {
            About::Did(Wish::Verified) => return Some(true),
            About::Did(Wish::Unverified) => return Some(false),
            About::Did(Wish::Next | Wish::TookOver(_)) => {}
            About::Left(_) => return None,
            // An answer may have been missed: the call knows.
            About::Unknown => {
                let Ok(Ack::View(view)) = call.command(Command::Describe).await else { return None };
                let place = view.legs.iter().find(|l| l.id == leg).map(|l| l.place)?;
                return Some(place == Place::InConversation);
            }
        }
    }
}

/// Asks for a code: for the given one, which the agent reads elsewhere, or for a new one, which is said on this line alone.
async fn ask(call: &Outward, leg: LegId, given: Option<Code>) -> Result<(), Refusal> {
    let (code, text) = match given {
        Some(code) => (code, "This is your private line. Please key in the code that you were shown.".to_owned()),
        None => {
            let digits = format!("{:04}", clock::random() % 10_000);
            let spoken: Vec<String> = digits.chars().map(String::from).collect();
            let spoken = spoken.join(", ");
            let text = format!("This is your private line. Please key in: {spoken}. Once more: {spoken}.");
            (Code::read(&digits).ok_or(Refusal::Limit("no code could be drawn"))?, text)
        }
    };
    let pcm = call.board.host.synthesiser.speak(&text, None).await.map_err(|error| {
        tracing::warn!(%error, "an agent could not be told the code of their private line");
        Refusal::NotNow("there is no voice to say the code with")
    })?;
    call.command(Command::Pair { leg, code }).await?;
    // Without its text: nobody shall read the code in the journal.
    let clip = ClipSpec { pcm, audience: Audience::Legs(vec![leg]), looped: false, text: None };
    call.command(Command::Play(clip)).await.map(drop)
}

async fn missed(call: &Outward, reason: String) {
    if let Ok(Ack::View(view)) = call.command(Command::Describe).await {
        let what = What::EarpieceRefused { reason };
        call.board.host.journal.record(call.id, Event { at: view.media_time, leg: None, what });
    }
}
