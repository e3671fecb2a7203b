//! Which call a supervisor hears: the one they want, those they may go on to, and how they are told which it is.

use crate::call::{Ack, Command, Rights};
use crate::event::{Mode, Role};
use crate::id::{CallId, LegId};
use crate::io::sip::admission::Whom;
use crate::io::sip::controller::End;
use crate::io::sip::named::Named;
use crate::io::sip::policy::{self, Asked, Asker, Denied};
use crate::io::sip::registry::{Entry, Unfound, user};
use crate::io::sip::supervisor::Supervisor;

/// A call they may hear.
pub struct Found {
    /// Which.
    pub call: CallId,
    /// What is known of it.
    pub entry: Entry,
    /// What they may do there.
    pub rights: Rights,
    /// The mode they begin in.
    pub mode: Mode,
    /// The mode they asked for, which may be more than they may.
    pub wanted: Mode,
    /// Whose place they take.
    pub replaces: Option<LegId>,
}

impl Supervisor {
    /// The one call they want to hear, if they may.
    pub(super) async fn find(&self) -> Result<Found, End> {
        let registry = &self.board.host.registry;
        let (call, entry, replaces) = match &self.wanted.whom {
            Whom::Dialled(who) if who.is_empty() => {
                return Err(End::new("dial the agent's number or the call's code after the star code", 484));
            }
            Whom::Dialled(who) => registry.meant(who).map(|(call, entry)| (call, entry, None))?,
            Whom::Named(Named::Call(call)) => (*call, registry.get(*call).ok_or_else(gone_call)?, None),
            Whom::Named(Named::Seat(call, leg)) => (*call, registry.get(*call).ok_or_else(gone_call)?, Some(*leg)),
            Whom::Named(Named::Party(_)) => return Err(gone_call()),
        };
        if entry.agents.is_empty() {
            return Err(End::new("the agent of this call is not on the line yet: try again in a moment", 480));
        }
        let rights = match self.came {
            Some(_) => self.may_hear(&entry).map_err(|denied| End::new(denied.to_string(), 403))?,
            // Whoever had them called answers for that.
            None => Rights::ALL,
        };
        let may = rights.under(entry.consent).unwrap_or_default();
        let wanted = match replaces {
            Some(leg) => mode_of(&entry, call, leg).await.ok_or_else(gone_call)?,
            None => self.wanted.mode,
        };
        // Who may not be heard is let in to hear.
        let mode = if may.be_in(wanted) { wanted } else { Mode::Spy };
        Ok(Found { call, entry, rights, mode, wanted, replaces })
    }

    /// What they may do on a call, if they may hear it.
    pub(super) fn may_hear(&self, entry: &Entry) -> Result<Rights, Denied> {
        let asker = self.asker().ok_or(Denied::Trunk)?;
        policy::may_hear(&self.board.config.supervise, asker, Asked { agents: &entry.agents, consent: entry.consent })
    }

    /// Who they are to the rules.
    pub(super) fn asker(&self) -> Option<Asker<'_>> {
        let trunk = self.board.config.trunks.iter().find(|t| t.name == self.who.trunk)?;
        Some(Asker { trunk, identity: &self.who.identity })
    }

    /// The calls they may hear beside this one: first those that began after it.
    pub(super) fn others(&self, here: CallId) -> Vec<(CallId, Entry, Rights)> {
        let mut calls = self.board.host.registry.list();
        if let Some(at) = calls.iter().position(|(call, _)| *call == here) {
            calls.rotate_left(at);
        }
        let others = calls.into_iter().filter(|(call, entry)| *call != here && !entry.agents.is_empty());
        others.filter_map(|(call, entry)| self.may_hear(&entry).ok().map(|rights| (call, entry, rights))).collect()
    }
}

/// In which mode a supervisor's leg is. One who has taken over gives back when their leg goes.
async fn mode_of(entry: &Entry, call: CallId, leg: LegId) -> Option<Mode> {
    let Ok(Ack::View(view)) = entry.shard.command(call, Command::Describe).await else { return None };
    let leg = view.legs.iter().find(|l| l.id == leg)?;
    Some(if leg.role == Role::Supervisor { leg.mode.unwrap_or_default() } else { Mode::Spy })
}

/// Whom they hear, and who hears them.
pub fn announcement(entry: &Entry, mode: Mode, wanted: Mode) -> String {
    let names: Vec<String> = entry.agents.iter().map(|agent| spoken(user(&agent.0))).collect();
    let refused = match wanted {
        _ if mode == wanted => "",
        Mode::Spy => "",
        Mode::Whisper => "You may not whisper here. ",
        Mode::Barge => "You may not speak to everyone here. ",
    };
    let how = match mode {
        Mode::Spy => "Listening to",
        Mode::Whisper => "Whispering to",
        Mode::Barge => "Speaking on the call of",
    };
    format!("{refused}{how} {}.", names.join(" and "))
}

/// A number is read digit by digit.
fn spoken(name: &str) -> String {
    let digits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    let letters = name.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' });
    if digits { name.chars().flat_map(|c| [c, ' ']).collect::<String>().trim().into() } else { letters.collect() }
}

fn gone_call() -> End {
    End::new("there is no such call (any more)", 481)
}

impl From<Unfound> for End {
    fn from(unfound: Unfound) -> Self {
        let status = match unfound {
            Unfound::Nobody => 404,
            Unfound::Several(_) => 485,
        };
        End::new(unfound.to_string(), status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_digit_by_digit_and_names_as_words() {
        for (name, expected) in [("1001", "1 0 0 1"), ("anna.b", "anna b"), ("call-7", "call 7"), ("", "")] {
            assert_eq!(spoken(name), expected);
        }
    }
}
