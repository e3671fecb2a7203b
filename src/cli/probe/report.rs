//! What a probe found: for each marker who heard it, whether they should have, and how late.

use super::ends::{Who, spoken};
use super::marker::{Heard, find};
use crate::call::mode::{Party, Source, gain};
use crate::cli::demo::party::{Capture, Spoken};
use crate::event::{Mode, Place, Role};
use crate::id::LegId;
use crate::io::probes::Kind;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What is said on a private line for its proof, found again as loud as this or louder, is heard there.
const LOUD: i16 = 500;
/// In so many packets: it is cut short as soon as it is known to be heard elsewhere.
const SOME: usize = 4;

/// A marker that was played.
pub struct Played {
    pub mode: Mode,
    pub who: Who,
    pub sound: Arc<[i16]>,
    pub spoken: Spoken,
}

/// Of one marker and one telephone.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The supervisor's mode.
    pub mode: Mode,
    /// Who played it.
    pub from: Who,
    /// Whose telephone.
    pub to: Who,
    /// Whether it was to be heard there.
    pub should: bool,
    #[serde(flatten)]
    pub found: Heard,
}

/// All of it.
pub struct Report {
    pub kind: Kind,
    cells: Vec<Cell>,
    refused: BTreeMap<String, String>,
    /// Whose telephone heard what was said on the private line alone.
    overheard: Vec<Who>,
}

impl Report {
    pub fn of(
        kind: Kind,
        played: Vec<Played>,
        captures: BTreeMap<Who, Capture>,
        prompt: Option<(Instant, Instant)>,
        refused: Option<BTreeMap<String, String>>,
    ) -> Report {
        let cell = |played: &Played, to: Who, capture: &Capture| Cell {
            mode: played.mode,
            from: played.who,
            to,
            should: should(kind, played.mode, played.who, to),
            found: find(capture, &played.sound, played.spoken),
        };
        let others = |played: &Played| {
            let from = played.who;
            captures.iter().filter(move |(to, _)| **to != from).map(|(to, capture)| (*to, capture)).collect::<Vec<_>>()
        };
        let cells = played
            .iter()
            .flat_map(|p| others(p).into_iter().map(|(to, capture)| cell(p, to, capture)).collect::<Vec<_>>());
        let overheard = prompt.map(|time| overheard(&captures, spoken(time))).unwrap_or_default();
        Report { kind, cells: cells.collect(), refused: refused.unwrap_or_default(), overheard }
    }

    /// The modes that are proven: they could be had, and in them exactly those heard who should.
    pub fn modes(&self) -> Vec<Mode> {
        [Mode::Spy, Mode::Whisper, Mode::Barge].into_iter().filter(|mode| self.is_proven(*mode)).collect()
    }

    fn is_proven(&self, mode: Mode) -> bool {
        let mut cells = self.cells.iter().filter(|cell| cell.mode == mode).peekable();
        let leaks = mode == Mode::Whisper && !self.overheard.is_empty();
        cells.peek().is_some() && cells.all(Cell::holds) && !self.refused.contains_key(name(mode)) && !leaks
    }

    /// Whether everything is as it should be.
    pub fn holds(&self) -> bool {
        self.modes().len() == 3
    }

    pub fn json(&self, trunk: &str, verdict: &Path) -> serde_json::Value {
        json!({
            "trunk": trunk, "kind": self.kind, "modes": self.modes(), "holds": self.holds(), "refused": self.refused,
            "overheard": self.overheard, "cells": self.cells, "verdict": verdict,
        })
    }

    pub fn text(&self) -> String {
        let mut lines =
            vec![format!("{:8} {:11} {:11} {:10} {:>9}", "mode", "who speaks", "who listens", "heard", "after ms")];
        for cell in &self.cells {
            let heard = if cell.found.heard { "yes" } else { "no" };
            let delay = cell.found.delay_ms.map_or(String::new(), |ms| ms.to_string());
            let wrong = if cell.holds() { "" } else { "   WRONG" };
            let (mode, from, to) = (name(cell.mode), cell.from.name(), cell.to.name());
            lines.push(format!("{mode:8} {from:11} {to:11} {heard:10} {delay:>9}{wrong}"));
        }
        for who in &self.overheard {
            lines.push(format!("What was said on the private line alone was heard by the {}.", who.name()));
        }
        for (mode, why) in &self.refused {
            lines.push(format!("{mode} is refused: {why}"));
        }
        let proven: Vec<&str> = self.modes().into_iter().map(name).collect();
        lines.push(format!("Proven: {}.", if proven.is_empty() { "nothing".into() } else { proven.join(", ") }));
        lines.join("\n")
    }
}

impl Cell {
    fn holds(&self) -> bool {
        self.found.heard == self.should
    }
}

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Spy => "spy",
        Mode::Whisper => "whisper",
        Mode::Barge => "barge",
    }
}

/// By the one rule (DESIGN §2). In a conference the customer's telephone is behind the bridge: it hears what the bridge hears.
fn should(kind: Kind, mode: Mode, from: Who, to: Who) -> bool {
    let party = |who: Who, leg: u32| {
        let role = match (who, kind) {
            (Who::Customer, Kind::Call) => Role::Customer,
            (Who::Customer, Kind::Bridge) => Role::Bridge,
            (Who::Agent, Kind::Call | Kind::Bridge) => Role::Agent,
            (Who::Earpiece, Kind::Call | Kind::Bridge) => Role::Earpiece,
            (Who::Supervisor, Kind::Call | Kind::Bridge) => Role::Supervisor,
        };
        Party { leg: LegId(leg), role, place: Place::InConversation }
    };
    gain(party(to, 1), Source::Leg { party: party(from, 2), mode }).is_heard()
}

/// Who but the private line heard anything while its prompt was said and nobody spoke.
fn overheard(captures: &BTreeMap<Who, Capture>, time: Spoken) -> Vec<Who> {
    let loud = |capture: &Capture| {
        let near = capture.received.iter().filter(|p| p.at >= time.first && p.at <= time.last);
        near.filter(|p| capture.decode(&p.payload).any(|s| s.saturating_abs() > LOUD)).count() >= SOME
    };
    let others = captures.iter().filter(|(who, _)| !matches!(who, Who::Earpiece | Who::Supervisor));
    others.filter(|(_, capture)| loud(capture)).map(|(who, _)| *who).collect()
}
