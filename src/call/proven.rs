//! What the hearing probe proved of the trunks that a call goes over: on a trunk that offers only what was proven, a mode
//! that was not is refused, with the reason.

use crate::call::Refusal;
use crate::call::engine::Call;
use crate::event::{Mode, Role};
use crate::id::LegId;
use serde::{Deserialize, Serialize};

/// What may be offered beyond hearing: of each mode why it is refused, or nothing where it is proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// Unless nobody but the agent heard a whisper.
    pub whisper: Option<String>,
    /// Unless everybody heard who spoke to all.
    pub barge: Option<String>,
}

impl Call {
    /// A further trunk narrows what may be offered, and never widens it.
    pub(super) fn prove(&mut self, proven: Proven) {
        self.proven = Some(match self.proven.take() {
            Some(before) => Proven { whisper: before.whisper.or(proven.whisper), barge: before.barge.or(proven.barge) },
            None => proven,
        });
    }

    pub(super) fn is_proven(&self, mode: Mode) -> Result<(), Refusal> {
        let Some(proven) = &self.proven else { return Ok(()) };
        let refused = match mode {
            Mode::Spy => &None,
            Mode::Whisper => &proven.whisper,
            Mode::Barge => &proven.barge,
        };
        refused.clone().map_or(Ok(()), |reason| Err(Refusal::Unproven(reason)))
    }

    /// What is said to one party behind another's back is a whisper by another name.
    pub(super) fn may_be_told_alone(&self, audience: &[LegId]) -> Result<(), Refusal> {
        if self.proven.is_none() {
            return Ok(());
        }
        let there = |told: bool| {
            self.legs.iter().any(|l| {
                let is_party = match l.party.role {
                    Role::Customer | Role::Agent | Role::Bridge => true,
                    Role::Supervisor | Role::Earpiece => false,
                };
                is_party && l.in_conversation() && audience.contains(&l.id()) == told
            })
        };
        if there(true) && there(false) { self.is_proven(Mode::Whisper) } else { Ok(()) }
    }
}
