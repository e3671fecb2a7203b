//! Who is in a conference, as its focus tells (RFC 4575): full states, and what has changed since.
//!
//! In come the bodies of NOTIFY, each byte a stranger's; out comes the [`Conference`] as it is now, or that the whole of it
//! has to be asked for again. Knows no dialog.

use crate::event::Present;
use crate::io::siprec::xml::{self, Element};
use serde::Serialize;

/// The media type of what is told.
pub const KIND: &str = "application/conference-info+xml";
/// People who are remembered; of more only their number is known.
const MOST: usize = 500;

/// Who is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Conference {
    /// How many, as it says; else as many as it names.
    pub count: u32,
    /// Those it names.
    pub people: Vec<Present>,
}

/// What came of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is known who is there now.
    Known(Conference),
    /// It was told before.
    Nothing,
    /// Something was missed, or cannot be read: the whole is to be asked for.
    Gap,
}

/// What is known, and up to which version.
#[derive(Default)]
pub struct Roster {
    version: Option<u64>,
    said: Option<u32>,
    people: Vec<Present>,
}

impl Roster {
    /// Everything is told anew: a subscription begins, whose versions count for themselves.
    pub fn begin(&mut self) {
        *self = Roster::default();
    }

    /// Takes a body (§4.4: versions rise by one, and a full state begins anew).
    pub fn take(&mut self, body: &[u8]) -> Told {
        let Ok(root) = xml::read(body) else { return Told::Gap };
        if root.name != "conference-info" {
            return Told::Gap;
        }
        let Some(version) = root.attribute("version").and_then(|v| v.trim().parse::<u64>().ok()) else {
            return Told::Gap;
        };
        let is_full = state(&root) == "full";
        match self.version {
            Some(before) if version <= before => return Told::Nothing,
            Some(before) if !is_full && version > before.saturating_add(1) => return Told::Gap,
            None if !is_full => return Told::Gap,
            Some(_) | None => {}
        }
        self.version = Some(version);
        if is_full {
            (self.said, self.people) = (None, Vec::new());
        }
        match state(&root) {
            "deleted" => (self.said, self.people) = (Some(0), Vec::new()),
            _ => self.apply(&root),
        }
        let named = u32::try_from(self.people.iter().filter(|p| is_there(p)).count()).unwrap_or(u32::MAX);
        Told::Known(Conference { count: self.said.unwrap_or(named), people: self.people.clone() })
    }

    fn apply(&mut self, root: &Element) {
        for told in root.all("conference-state") {
            if let Some(count) = told.text_of("user-count").and_then(|count| count.parse().ok()) {
                self.said = Some(count);
            }
        }
        for users in root.all("users") {
            if state(users) == "full" {
                self.people.clear();
            }
            users.all("user").for_each(|user| self.user(user));
        }
    }

    fn user(&mut self, user: &Element) {
        let Some(entity) = user.attribute("entity").filter(|entity| !entity.is_empty()) else { return };
        let known = self.people.iter().position(|p| &*p.entity.0 == entity);
        if state(user) == "deleted" {
            known.map(|at| self.people.remove(at));
            return;
        }
        let endpoints = || user.all("endpoint").filter(|e| state(e) != "deleted");
        let status = endpoints().find_map(|e| e.text_of("status")).map(str::to_owned);
        let name = user.text_of("display-text").map(|name| name.into());
        match known {
            Some(at) => {
                let Some(person) = self.people.get_mut(at) else { return };
                person.name = name.or(person.name.take());
                person.status = status.or(person.status.take());
            }
            None if self.people.len() < MOST => self.people.push(Present { entity: entity.into(), name, status }),
            None => {}
        }
    }
}

/// Whether somebody takes part: who is being called, or has hung up, does not yet or any more (§5.7.1).
fn is_there(person: &Present) -> bool {
    let away = ["pending", "dialing-out", "dialing-in", "alerting", "disconnecting", "disconnected"];
    person.status.as_deref().is_none_or(|status| !away.contains(&status))
}

/// §4.5: whoever does not say is told of in full.
fn state(element: &Element) -> &str {
    element.attribute("state").unwrap_or("full")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(version: u32, state: &str, inner: &str) -> String {
        format!(
            r#"<?xml version="1.0"?><conference-info xmlns="urn:ietf:params:xml:ns:conference-info" entity="sip:c@x"
               state="{state}" version="{version}">{inner}</conference-info>"#
        )
    }
    fn user(entity: &str, state: &str, status: &str) -> String {
        format!(
            r#"<user entity="{entity}" state="{state}"><display-text>N</display-text><endpoint entity="e">
               <status>{status}</status></endpoint></user>"#
        )
    }
    fn known(told: Told) -> (u32, Vec<String>) {
        let Told::Known(conference) = told else { panic!("{told:?}") };
        (conference.count, conference.people.iter().map(|p| p.entity.0.to_string()).collect())
    }

    #[test]
    fn people_come_and_go_version_by_version() {
        let mut roster = Roster::default();
        let two =
            format!("<users>{}{}</users>", user("sip:a", "full", "connected"), user("sip:b", "full", "dialing-out"));
        assert_eq!(known(roster.take(info(1, "full", &two).as_bytes())), (1, vec!["sip:a".into(), "sip:b".into()]));
        let answered = format!(r#"<users state="partial">{}</users>"#, user("sip:b", "partial", "connected"));
        assert_eq!(known(roster.take(info(2, "partial", &answered).as_bytes())).0, 2);
        assert_eq!(roster.take(info(2, "partial", &answered).as_bytes()), Told::Nothing);
        let gone = r#"<users state="partial"><user entity="sip:a" state="deleted"/></users>"#;
        assert_eq!(known(roster.take(info(3, "partial", gone).as_bytes())), (1, vec!["sip:b".into()]));
        assert_eq!(roster.take(info(5, "partial", gone).as_bytes()), Told::Gap, "4 is missing");
        let count = "<conference-state><user-count>33</user-count></conference-state>";
        assert_eq!(known(roster.take(info(4, "partial", count).as_bytes())).0, 33);
        assert_eq!(known(roster.take(info(9, "full", &two).as_bytes())).0, 1, "a full state mends every gap");
        assert_eq!(known(roster.take(info(10, "deleted", "").as_bytes())), (0, vec![]));
    }

    #[test]
    fn what_cannot_be_read_is_asked_for_again_and_harms_nothing() {
        let mut roster = Roster::default();
        assert_eq!(roster.take(info(1, "partial", "").as_bytes()), Told::Gap, "a change of nothing known");
        let bomb = r#"<!DOCTYPE x [<!ENTITY a "aaaa">]><conference-info version="1">&a;</conference-info>"#;
        let deep = "<conference-info version='1'>".to_owned() + &"<a>".repeat(100_000);
        let endless = info(u32::MAX, "full", &format!("<users>{}</users>", "<user/>".repeat(9)));
        for hostile in ["", "<", bomb, &deep, "<other version='1'/>", "<conference-info/>", "\u{0}\u{ff}"] {
            assert_eq!(roster.take(hostile.as_bytes()), Told::Gap, "{:.40}", hostile);
        }
        assert_eq!(roster.take(&[0xff, 0xfe, 0x00]), Told::Gap);
        assert_eq!(known(roster.take(endless.as_bytes())), (0, vec![]), "users without names are nobody");
        let many: String = (0..900).map(|n| format!(r#"<user entity="sip:{n}"/>"#)).collect();
        roster.begin();
        assert_eq!(known(roster.take(info(1, "full", &format!("<users>{many}</users>")).as_bytes())).1.len(), MOST);
    }
}
