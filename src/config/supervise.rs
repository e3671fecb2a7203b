//! `[[supervise]]` and `[[team]]`: which supervisors may hear which agents.

use super::Supervise;
use super::check::pattern;
use super::fault::Faults;
use super::raw::{Section, Written, nearest};
use crate::call::May;
use regex::Regex;
use std::time::Duration;

/// Agents who are named together.
pub(super) struct Team {
    name: String,
    agents: Vec<Regex>,
}

pub(super) fn teams(sections: Vec<Section<'_>>, faults: &Faults) -> Vec<Team> {
    sections.into_iter().map(|section| team(section, faults)).collect()
}

fn team(mut section: Section<'_>, faults: &Faults) -> Team {
    let at = section.at.clone();
    let name = section.text("name").map_or_else(String::new, |written| written.value);
    if name.is_empty() {
        faults.add(&at, "a team has no name", "write name = \"…\"");
    }
    let agents = section.texts("agents").unwrap_or_default();
    let agents = agents.iter().filter_map(|written| pattern("team.agents", written, faults)).collect();
    section.end();
    Team { name, agents }
}

pub(super) fn rules(sections: Vec<Section<'_>>, teams: &[Team], trunks: &[&str], faults: &Faults) -> Vec<Supervise> {
    sections.into_iter().map(|section| rule(section, teams, trunks, faults)).collect()
}

fn rule(mut section: Section<'_>, teams: &[Team], trunks: &[&str], faults: &Faults) -> Supervise {
    let supervisor = section.text("supervisor").and_then(|w| pattern("supervise.supervisor", &w, faults));
    let trunk = section.text("trunk");
    if let Some(written) = trunk.as_ref().filter(|w| !trunks.contains(&w.value.as_str())) {
        let remedy = nearest(&written.value, trunks.iter().copied());
        faults.add(&written.at, format!("there is no trunk {:?}", written.value), remedy);
    }
    // Who writes an empty list means nobody.
    let everyone = !section.has("agents") && !section.has("teams");
    let agents = section.texts("agents").unwrap_or_default();
    let mut agents: Vec<_> = agents.iter().filter_map(|w| pattern("supervise.agents", w, faults)).collect();
    for written in section.texts("teams").unwrap_or_default() {
        match teams.iter().find(|team| team.name == written.value) {
            Some(team) => agents.extend(team.agents.iter().cloned()),
            None => {
                let remedy = nearest(&written.value, teams.iter().map(|team| team.name.as_str()));
                faults.add(&written.at, format!("there is no team {:?}", written.value), remedy);
            }
        }
    }
    let modes = section.texts("modes");
    let may =
        modes.map_or(May::ALL, |modes| modes.iter().fold(May::default(), |may, mode| may.or(allowed(mode, faults))));
    let consent = section.flag("consent").unwrap_or(false);
    let wait = section.whole("wait_s", 1..=86_400).map(|written| Duration::from_secs(written.value.unsigned_abs()));
    section.end();
    Supervise { supervisor, trunk: trunk.map(|written| written.value), agents, everyone, may, consent, wait }
}

/// What one word of `modes` allows.
fn allowed(written: &Written<String>, faults: &Faults) -> May {
    match written.value.as_str() {
        "spy" => May::default(),
        "whisper" => May { whisper: true, ..May::default() },
        "barge" => May { barge: true, ..May::default() },
        "take_over" => May { take_over: true, ..May::default() },
        other => {
            let remedy = "write one of spy, whisper, barge, take_over";
            faults.add(&written.at, format!("supervise.modes has {other:?}"), remedy);
            May::default()
        }
    }
}
