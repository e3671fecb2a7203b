//! Somebody else's conference: called, the PIN keyed in, and listened to until it ends or nobody else is there.
//!
//! Until the PIN is in, what is heard is a machine that asks for it: the leg is aside, and nothing is written down. On such a
//! leg everyone hears everything, so nothing is whispered there (DESIGN §2.4).

use crate::call::{Audience, ClipSpec, Code, Command};
use crate::event::{Event, Place, Role, What};
use crate::id::LegId;
use crate::io::clock;
use crate::io::sip::controller::End;
use crate::io::sip::line::Line;
use crate::io::sip::outward::callee::Callee;
use crate::io::sip::outward::party::{self, Gone, Parties};
use crate::io::sip::outward::pin::{Pin, Way};
use crate::io::sip::outward::roster::{self, Conference, Roster, Told};
use crate::io::sip::outward::{CODECS, Outward, alone, earpiece};
use rsipstack::sip::{Header, Method};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A conference that hangs up so soon after the PIN has refused it.
const REFUSES: Duration = Duration::from_secs(5);
/// After the last key, until what is heard are people: those who let in do so at once.
const LETS_IN: Duration = Duration::from_millis(1500);
/// After the answer, until the first key: those who answer open their ears a moment later.
const OPENS: Duration = Duration::from_millis(500);
/// How long a subscription to who is there holds, seconds.
const SUBSCRIBED: u32 = 600;
/// A focus that makes us ask again and again is asked no more often than this.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Runs the call until the conference is over for us.
pub async fn run(
    call: &Arc<Outward>,
    bridge: Callee,
    private: Option<(Callee, Option<Code>)>,
    parties: &Arc<Parties>,
) -> Result<End, End> {
    let reached = party::dial(call, &bridge, &CODECS, parties).await?;
    let (line, is_focus, events) = (reached.line.clone(), reached.is_focus, reached.takes_events());
    let (leg, mut gone, news) = party::join_for_news(call, reached, Role::Bridge, Place::Aside, parties).await?;
    enter(call, leg, &line, events, &mut gone).await?;
    let entered = clock::now();
    call.command(Command::SetPlace { leg, place: Place::InConversation }).await?;
    // Whoever may hear the agent of this name may hear the conference.
    call.board.host.registry.has_agent(call.id, bridge.to.clone());
    if let Some(text) = &call.order.announce {
        announce(call, leg, text).await;
    }
    if call.order.mode == crate::event::Mode::Barge {
        call.be_in_mode().await;
    }
    if let Some((callee, code)) = private {
        tokio::spawn(earpiece::keep(call.clone(), callee, code, parties.clone()));
    }
    let patience = Duration::from_secs(call.order.alone.unwrap_or(60).into());
    tokio::select! {
        biased;
        reason = gone.reason() => match call.order.pin.is_some() && entered.elapsed() < REFUSES {
            true => Err(refused()),
            false => Ok(End::new(reason.replacen("called party", "the conference", 1), 487)),
        },
        reason = alone::watch(call, leg, patience) => Ok(End::new(reason, 480)),
        () = follow(call, leg, &line, is_focus, news) => Ok(End::new("internal error", 500)),
    }
}

/// Keys in the PIN, where there is one. A conference that hangs up on it has refused it.
async fn enter(call: &Outward, leg: LegId, line: &Line, events: bool, gone: &mut Gone) -> Result<(), End> {
    let Some(pin) = call.order.pin.as_ref().and_then(|pin| Pin::read(pin.reveal())) else { return Ok(()) };
    let way = call.order.keys.unwrap_or(if events { Way::Rfc4733 } else { Way::Inband });
    let pause = Duration::from_secs_f32(call.order.pause.unwrap_or(2.0));
    let keying = async {
        tokio::time::sleep(OPENS).await;
        pin.enter(call, (leg, line), way, pause).await?;
        tokio::time::sleep(LETS_IN).await;
        Ok(())
    };
    tokio::select! {
        biased;
        _ = gone.reason() => Err(refused()),
        keyed = keying => keyed,
    }
}

fn refused() -> End {
    End::new("the conference hung up on the PIN: it is not the right one", 403)
}

async fn announce(call: &Outward, leg: LegId, text: &str) {
    let said = match call.board.host.synthesiser.speak(text, None).await {
        Ok(pcm) => {
            let audience = Audience::Legs(vec![leg]);
            let clip = ClipSpec { pcm, audience, looped: false, text: Some(text.into()) };
            call.command(Command::Play(clip)).await.map(drop).map_err(|refusal| refusal.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = said {
        tracing::warn!(%error, "the conference was not told who listens");
    }
}

/// Follows who is there, where the conference tells; never returns.
async fn follow(call: &Outward, leg: LegId, line: &Line, is_focus: bool, mut news: mpsc::Receiver<Vec<u8>>) {
    if !is_focus {
        return std::future::pending().await;
    }
    let mut roster = Roster::default();
    loop {
        roster.begin();
        line.subscribes(true);
        if !subscribe(line).await {
            tracing::info!("the conference does not tell who is there");
            line.subscribes(false);
            return std::future::pending().await;
        }
        let again = tokio::time::sleep(Duration::from_secs(u64::from(SUBSCRIBED) / 2));
        let mut again = std::pin::pin!(again);
        loop {
            tokio::select! {
                () = &mut again => break,
                body = news.recv() => match body.map(|body| roster.take(&body)) {
                    Some(Told::Known(conference)) => tell(call, leg, conference).await,
                    Some(Told::Nothing) => {}
                    Some(Told::Gap) => {
                        tokio::time::sleep(ASK_AGAIN).await;
                        break;
                    }
                    None => return std::future::pending().await,
                },
            }
        }
    }
}

/// Asks to be told (RFC 4575 §3), in the dialog that there is: who answered it is the focus.
async fn subscribe(line: &Line) -> bool {
    let headers = vec![
        Header::Event("conference".into()),
        Header::Accept(roster::KIND.into()),
        Header::Expires(SUBSCRIBED.into()),
    ];
    let answer = line.ask(Method::Subscribe, headers, None).await;
    answer.is_some_and(|answer| matches!(answer.status_code.code(), 200 | 202))
}

async fn tell(call: &Outward, leg: LegId, conference: Conference) {
    let Ok(crate::call::Ack::View(view)) = call.command(Command::Describe).await else { return };
    let what = What::ConferenceChanged { count: conference.count, people: conference.people.clone() };
    if call.board.host.registry.has_conference(call.id, conference) {
        call.board.host.journal.record(call.id, Event { at: view.media_time, leg: Some(leg), what });
    }
}
