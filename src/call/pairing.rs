//! The proof that an earpiece is the agent's private line, and nobody else's.
//!
//! ```text
//!   a code is said on that line alone ─► somebody keys it in there, once ─┐
//!                                                                         ├─► in conversation: whispers are heard there
//!   nothing said on that line comes back from the conversation ───────────┘
//! ```
//!
//! The code proves that a person is at that line who can hear it: no announcement, mailbox or conference keys anything in. It
//! counts as telephone events of that line or by INFO alone, never by sound. That nobody in the conversation hears the line
//! too is measured as long as it is there: all that is said on it is looked for in all that the parties bring, and one
//! finding ends the proof for good. An earpiece whose far end may be another is asked anew.

use crate::call::engine::Call;
use crate::call::keys::{Digit, Way};
use crate::call::leg::Leg;
use crate::call::{Ack, Refusal};
use crate::event::{Place, Role, What};
use crate::id::LegId;
use crate::media::FRAME;
use crate::media::jitter::Ear;
use crate::media::leak::Overheard;
use crate::media::pcm::Rate;

/// What is told where the line turns out to be heard by others.
const HEARD: &str = "what is said on the private line is heard in the conversation";

/// The digits of a code. Without `Debug`: it reaches no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Vec<Digit>);

impl Code {
    /// Four to twelve digits.
    pub fn read(text: &str) -> Option<Code> {
        let digits: Option<Vec<Digit>> = text.chars().filter(char::is_ascii_digit).map(Digit::of_char).collect();
        let digits = digits.filter(|d| (4..=12).contains(&d.len()) && d.len() == text.chars().count())?;
        Some(Code(digits))
    }
}

/// What is known of an earpiece.
pub(crate) struct Pairing {
    leg: LegId,
    /// While it is asked for.
    code: Option<Code>,
    keyed: Vec<Digit>,
    echo: Overheard,
    /// What was said to it in this tick.
    told: [i16; FRAME],
    /// Whether it was heard elsewhere.
    leaks: bool,
}

impl Pairing {
    pub fn leg(&self) -> LegId {
        self.leg
    }
}

/// What is said to a leg in this tick, if it is an earpiece.
pub(super) fn told(pairings: &mut [Pairing], leg: &Leg, pcm: &[i16]) {
    if leg.rate() == Rate::Narrow
        && let Some(pairing) = pairings.iter_mut().find(|p| p.leg == leg.id())
    {
        pairing.told.iter_mut().zip(pcm).for_each(|(to, from)| *to = *from);
    }
}

impl Call {
    /// Asks at an earpiece: it is aside until the answer is right.
    pub(super) fn pair(&mut self, leg: LegId, code: Code) -> Result<Ack, Refusal> {
        let at = self.place_of(leg).ok_or(Refusal::NoSuchLeg(leg))?;
        if self.legs[at].party.role != Role::Earpiece {
            return Err(Refusal::NotNow("only an earpiece is proven by a code"));
        }
        let known = self.pairings.iter().position(|p| p.leg == leg);
        if known.and_then(|n| self.pairings.get(n)).is_some_and(|p| p.leaks) {
            return Err(Refusal::NotPrivate(HEARD));
        }
        self.set_place(at, Place::Aside);
        // Whoever keys the code in is who is meant, whatever was doubted before.
        self.legs[at].suspended = false;
        match known.and_then(|n| self.pairings.get_mut(n)) {
            Some(pairing) => {
                pairing.code = Some(code);
                pairing.keyed.clear();
            }
            None => {
                let (keyed, echo) = (Vec::with_capacity(12), Overheard::default());
                self.pairings.push(Pairing { leg, code: Some(code), keyed, echo, told: [0; FRAME], leaks: false });
            }
        }
        self.reroute();
        Ok(Ack::Done)
    }

    /// A digit that was told by INFO.
    pub(super) fn keyed(&mut self, leg: LegId, digit: Digit) -> Result<Ack, Refusal> {
        let at = self.place_of(leg).ok_or(Refusal::NoSuchLeg(leg))?;
        let now = self.now;
        if self.legs[at].keyed(now, digit, Way::Signalling) {
            self.key_in(at, digit);
        }
        Ok(Ack::Done)
    }

    pub(super) fn key_in(&mut self, at: usize, digit: Digit) {
        let leg = self.legs[at].id();
        let Some(pairing) = self.pairings.iter_mut().find(|p| p.leg == leg) else { return };
        let Some(code) = &pairing.code else { return };
        pairing.keyed.push(digit);
        if pairing.keyed.len() < code.0.len() {
            return;
        }
        let right = pairing.keyed == code.0;
        pairing.code = None;
        pairing.keyed.clear();
        if right {
            self.set_place(at, Place::InConversation);
            self.tell(Some(leg), What::EarpieceVerified {});
        } else {
            self.tell(Some(leg), What::EarpieceRefused { reason: "the code that was keyed in is not the one".into() });
        }
    }

    /// Nobody knows any more who is at that line.
    pub(super) fn unpair(&mut self, at: usize, reason: &str) {
        let leg = self.legs[at].id();
        let Some(pairing) = self.pairings.iter_mut().find(|p| p.leg == leg) else { return };
        pairing.code = None;
        self.set_place(at, Place::Aside);
        self.tell(Some(leg), What::EarpieceRefused { reason: reason.into() });
    }

    /// Whether what this leg says is looked through for what is said to an earpiece, and for whether anybody is there. An
    /// agent's own line has a guard (`watch`).
    pub(super) fn is_watched(&self, leg: &Leg) -> bool {
        let party = leg.live_party(self.now);
        party.role == Role::Bridge && party.place == Place::InConversation
    }

    /// At the end of a tick.
    pub(super) fn listen_for_echoes(&mut self) {
        for n in 0..self.pairings.len() {
            let mut heard = [0; FRAME];
            for leg in
                self.legs.iter().filter(|l| l.tapped && l.wanted.tap[Rate::Narrow as usize] && self.is_watched(l))
            {
                let (pcm, _) = leg.voice.at(Ear::Tap, Rate::Narrow);
                heard.iter_mut().zip(pcm).for_each(|(sum, s): (&mut i16, _)| *sum = sum.saturating_add(*s));
            }
            let Some(pairing) = self.pairings.get_mut(n) else { return };
            let told = std::mem::replace(&mut pairing.told, [0; FRAME]);
            let found = pairing.echo.hear(&told, &heard).is_some();
            if found && !std::mem::replace(&mut pairing.leaks, true) {
                let leg = pairing.leg;
                self.clips.lose(leg, |_| true);
                if let Some(at) = self.place_of(leg) {
                    self.unpair(at, HEARD);
                }
            }
        }
    }
}
