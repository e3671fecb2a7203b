//! A party is transferred (RFC 3515, RFC 5589): who asks is put aside, whoever is to come takes their place, and they are
//! hung up; or nobody comes, they are back, and the parties talk on.
//!
//! ```text
//! REFER ─► place (allowed? where? who?) ─► 202 ─► aside ─► dial, or join with another call of ours
//!                                                             │ came: narrow, old leg out, new leg in ─► NOTIFY 200, BYE
//!                                                             └ did not: back in the conversation ─────► NOTIFY with why
//! ```
//!
//! Nothing that is being said passes from one party to the next: who comes is a leg of its own, aside until the one
//! before is out, and what follows the one who leaves (`[sip] follow`) is gone before.

use crate::call::{Ack, Command};
use crate::config::Follow;
use crate::event::{Place, Role};
use crate::io::sip::connect;
use crate::io::sip::controller::{Call, Change, Leg, no_party, release};
use crate::io::sip::dial::{Answered, Target};
use crate::io::sip::early::Early;
use crate::io::sip::fault::Fault;
use crate::io::sip::join::{self, Came};
use crate::io::sip::line::{Key, Line, Side};
use crate::io::sip::news::{Fragment, News};
use crate::io::sip::place::{self, Way};
use crate::io::sip::refer::Refer;
use crate::io::sip::stand_in::stands_in;
use crate::io::sip::timer;
use std::sync::Arc;
use std::time::Duration;

/// How long who has transferred may take to hang up by themselves (RFC 5589 §6.1).
const GRACE: Duration = Duration::from_secs(2);

/// A transfer under way.
struct Transfer {
    call: Arc<Call>,
    /// Whose place is to be taken.
    seat: Side,
    /// The line of who asked.
    line: Arc<Line>,
}

/// Whether a transfer may begin; if so, it does.
pub async fn asked(call: &Arc<Call>, line: &Key, refer: Refer) -> Result<(), Fault> {
    let seat = call.seat_of(line).ok_or_else(no_party)?;
    let line = call.line(seat).ok_or_else(no_party)?;
    let way = place::lead(call, &line, seat, &refer)?;
    may_change(call, seat).await?;
    tokio::spawn(Transfer { call: call.clone(), seat, line }.run(refer, way));
    Ok(())
}

/// Whether somebody may take this place now; from here on nobody else may.
pub async fn may_change(call: &Call, seat: Side) -> Result<(), Fault> {
    if !call.is_connected() {
        return Err(Fault::new(603, "there is nobody yet to be transferred"));
    }
    if stands_in(call).await.is_some() {
        return Err(Fault::new(603, "a supervisor has taken over this call"));
    }
    let mut parties = call.parties();
    if parties.change.is_some() {
        return Err(Fault::new(603, "this call is being transferred already"));
    }
    parties.change = Some(Change { seat, gone: None });
    Ok(())
}

impl Transfer {
    async fn run(self, refer: Refer, way: Way) {
        // Where its answer could not be sent, it goes on all the same.
        let _ = refer.accepted.await;
        let id = Some(refer.cseq).filter(|_| self.line.refers() > 0);
        let news = News::begin(self.line.clone(), id, !refer.quiet);
        news.tell(Fragment::new(100, "Trying")).await;
        self.put(Place::Aside).await;
        // Where the call ends, its lines end with it.
        let Some(outcome) = self.call.over.clone().run_until_cancelled(self.bring(way, &news)).await else { return };
        match outcome {
            Ok(came) => {
                tracing::info!(seat = ?self.seat, "a party was transferred");
                news.tell(Fragment::new(200, "OK")).await;
                self.farewell(news, came).await;
            }
            Err(fault) => {
                tracing::info!(seat = ?self.seat, reason = %fault.reason, "a party was not transferred");
                news.tell(Fragment::from(&fault)).await;
                self.stay().await;
            }
        }
    }

    /// Whoever asked is in the conversation, or not.
    async fn put(&self, place: Place) {
        let Some(leg) = self.call.parties().leg(self.seat).map(|leg| leg.id) else { return };
        // Refused where they have hung up.
        let _ = self.call.command(Command::SetPlace { leg, place }).await;
    }

    async fn bring(&self, way: Way, news: &News) -> Result<Came, Fault> {
        match way {
            Way::Dial { targets, together, role } => self.dial(targets, together, role, news).await,
            Way::Join(other) => join::with(&self.call, self.seat, &other).await,
        }
    }

    async fn dial(&self, targets: Vec<Target>, together: bool, role: Role, news: &News) -> Result<Came, Fault> {
        let early = Arc::new(Early::of_transfer(self.call.clone(), self.seat.other(), news.teller()));
        let reached = connect::reach(&self.call, &early, targets, together).await;
        let Answered { to, line, description, media } = reached.map_err(|failure| failure.end().refusal)?;
        let joined = async {
            let ours = media.ok_or_else(|| Fault::new(500, "its media is gone"))?;
            let settled = description.settle(None).ok_or_else(|| Fault::new(488, "no common codec"))?;
            let leg = self.call.join_as(role, to, (settled, &description), ours, Place::Aside).await;
            leg.map_err(|end| end.refusal)
        };
        match joined.await {
            Ok(leg) => {
                succeed(&self.call, self.seat, leg, line).await;
                Ok(Came::Here)
            }
            Err(fault) => {
                self.call.not_calling(&line);
                let board = self.call.board.clone();
                tokio::spawn(async move { release(&board, &line, None, "it cannot be joined").await });
                Err(fault)
            }
        }
    }

    /// Nothing of their line concerns the call any more. They know that it is over, and say so (RFC 5589); who does not is
    /// told.
    async fn farewell(&self, news: News, came: Came) {
        match came {
            Came::Here => {
                self.line.done.cancel();
                news.delivered(GRACE).await;
                let _ = tokio::time::timeout(GRACE, self.line.left()).await;
                release(&self.call.board, &self.line, None, "transferred").await;
            }
            Came::Elsewhere => {
                news.delivered(GRACE).await;
                self.call.hang_up(join::JOINED);
            }
        }
    }

    /// Nobody came: all is as it was, unless who asked has hung up meanwhile.
    async fn stay(&self) {
        let change = self.call.parties().change.take();
        match change.and_then(|change| change.gone) {
            Some(reason) => self.line.gone(reason).await,
            None => self.put(Place::InConversation).await,
        }
    }
}

/// A leg that has joined, aside, takes a place. Nobody hears anything new before all who are to go are gone. Answers the
/// line of who had the place before.
pub async fn succeed(call: &Arc<Call>, seat: Side, leg: Leg, line: Arc<Line>) -> Option<Arc<Line>> {
    let id = leg.id;
    part(call, seat).await;
    let before = {
        let mut parties = call.parties();
        let before = parties.take(seat);
        parties.seat(seat, leg, line.clone());
        parties.change = None;
        before
    };
    if let Some((leg, _)) = &before {
        // Refused where they had hung up.
        let _ = call.command(Command::RemoveLeg { leg: leg.id, reason: "somebody else has their place".into() }).await;
    }
    let _ = call.command(Command::SetPlace { leg: id, place: Place::InConversation }).await;
    call.not_calling(&line);
    call.board.belong(&line, (call.id, None));
    know_agents(call).await;
    tokio::spawn(timer::keep(call.clone(), seat));
    tokio::spawn(settle(call.clone(), seat, line));
    before.map(|(_, line)| line)
}

/// Whoever came, and whoever they talk to, is told what the other's hold leaves of their line: a transfer ends holds.
async fn settle(call: Arc<Call>, seat: Side, line: Arc<Line>) {
    line.established().await;
    if line.is_over() {
        // They hung up before they had a place that anybody could miss.
        return line.gone("transferred party hung up").await;
    }
    tokio::spawn(call.clone().tell(seat));
    call.tell(seat.other()).await;
}

/// The coach and the supervisors go, if they follow the one who leaves this place.
async fn part(call: &Call, seat: Side) {
    let leaves = call.parties().leg(seat).map(|leg| leg.role);
    let followed = call.admitted.route.follow.unwrap_or(call.board.config.sip.follow);
    let reason = match (followed, leaves) {
        (Follow::Agent, Some(Role::Agent)) => "the agent was transferred",
        (Follow::Customer, Some(Role::Customer)) => "the customer was transferred",
        (Follow::Call | Follow::Agent | Follow::Customer, _) => return,
    };
    if let Ok(Ack::View(view)) = call.command(Command::Describe).await {
        for supervisor in view.legs.iter().filter(|leg| leg.role == Role::Supervisor) {
            // Their own task hangs the line up.
            let _ = call.command(Command::RemoveLeg { leg: supervisor.id, reason: reason.into() }).await;
        }
    }
    let _ = call.command(Command::Close).await;
}

/// By whom the call is found, and whom supervisors may hear.
async fn know_agents(call: &Call) {
    let Ok(Ack::View(view)) = call.command(Command::Describe).await else { return };
    let agents = view.legs.into_iter().filter(|leg| leg.role == Role::Agent && !leg.stands_in).map(|leg| leg.address);
    call.board.host.registry.set_agents(call.id, agents.collect());
}
