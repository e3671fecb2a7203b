//! Dialplans: which called number leads to which steps.
//!
//! In goes one file's TOML; out come its [`Route`]s, or faults with `file:line`. Knows no SIP.

use super::Follow;
use super::check::{follow, mode, one_of, pattern, srtp};
use super::fault::{Faults, Origin};
use super::raw::{Section, Written, nearest, parse};
use crate::call::sdp::Srtp;
use crate::event::{Consent, Mode, Role};
use regex::Regex;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One `[[route]]` of a dialplan.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where it was written, `file:line`, for messages.
    pub at: String,
    /// Must match the called user part.
    pub called: Option<Regex>,
    /// Must match the caller's user part.
    pub caller: Option<Regex>,
    /// Must be the trunk's name.
    pub trunk: Option<String>,
    /// Whether the caller is the customer or (where the agent dials out) the agent.
    pub caller_is_agent: bool,
    /// Whether it is for recording sessions (SIPREC), and for nothing else: it says what they are listened to with.
    pub recorded: bool,
    /// With whom coach and supervisors stay when a party is transferred, where that is not as everywhere.
    pub follow: Option<Follow>,
    /// What to do, in order.
    pub steps: Vec<Step>,
}

/// One step of a route. Texts may hold `$1` … `$9`, the groups of `called`.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Answer the caller.
    Answer,
    /// Speak to the caller and wait until it is said.
    Say(String),
    /// Play a WAV file to the caller and wait until it is over.
    Play(PathBuf),
    /// Call the other party and join the two.
    Connect {
        /// SIP URIs, one at least.
        to: Vec<String>,
        /// All at once, and whoever answers first has the call; else one after the other.
        together: bool,
        /// How long each may ring.
        timeout: Duration,
        /// Whether its media is to be protected. None: as the trunk says that has the address of `to`, else it may be.
        srtp: Option<Srtp>,
    },
    /// Put the coach into a mode.
    Mode(Mode),
    /// The caller listens in on another call, in a mode, and may speak. Stands alone.
    Supervise {
        /// The agent's user part, or the call's code.
        who: String,
        /// The mode they begin in.
        mode: Mode,
    },
    /// The line is a telephone system's copy of one party's voice, or its way to an agent's ear. Comes first.
    Fork {
        /// Whose: customer, agent, or earpiece.
        role: Role,
        /// What the call is called at its telephone system: lines of the same name are one call.
        of: String,
    },
    /// What the customer says about being listened to is known.
    Consent(Consent),
    /// Use another playbook for this call.
    Playbook(String),
    /// Refuse the call, or end it, with a status and a reason.
    Reject {
        /// 400–699 (RFC 3261 §21).
        status: u16,
        /// What the caller's screen shows.
        reason: String,
    },
}

fn consent(written: &Written<String>, faults: &Faults) -> Option<Consent> {
    let options = [("unknown", Consent::Unknown), ("given", Consent::Given), ("refused", Consent::Refused)];
    one_of("consent", written, &options, faults)
}

/// What routes may name.
pub(super) struct Names<'a> {
    pub playbooks: &'a [String],
    pub trunks: &'a [&'a str],
}

const STEPS: [&str; 10] =
    ["answer", "say", "play", "connect", "mode", "consent", "playbook", "supervise", "fork", "reject"];
/// Steps the design names that come later: told apart from a slip of the finger.
const LATER: [&str; 2] = ["brief", "control"];
/// How long the other party may ring where the route does not say.
const RINGING_S: i64 = 30;
/// Addresses of one `connect`: each that rings together is a dialog, and has sockets of its own.
const MAX_TARGETS: usize = 16;
/// What the synthesiser takes in one piece.
const SAY_CHARS: usize = 1000;

/// The routes of one file.
pub(super) fn read(file: &Path, text: &str, names: &Names<'_>, faults: &Faults) -> Vec<(Origin, Route)> {
    let shown = file.display().to_string();
    let mut root = Section::new("", parse(&shown, text, faults), faults);
    let folder = file.parent().unwrap_or(Path::new(""));
    let reader = Reader { folder, names, faults };
    let routes = root.sections("route").into_iter().map(|section| reader.route(section)).collect();
    root.end();
    routes
}

/// Reports routes that can never be reached, because one without conditions stands before them.
pub(super) fn check_order(routes: &[(Origin, Route)], faults: &Faults) {
    let open = |r: &Route| r.called.is_none() && r.caller.is_none() && r.trunk.is_none();
    for recorded in [false, true] {
        let mut before = routes.iter().filter(|(_, r)| r.recorded == recorded).skip_while(|(_, route)| !open(route));
        let Some((taker, _)) = before.next() else { continue };
        for (at, _) in before {
            let what = format!("this route is never reached: the one at {taker} takes every call");
            faults.add(at, what, "put the one without called, caller and trunk last");
        }
    }
}

struct Reader<'a> {
    folder: &'a Path,
    names: &'a Names<'a>,
    faults: &'a Faults,
}

/// A step and where it stands.
type Placed = (Origin, Step);

impl Reader<'_> {
    fn route(&self, mut section: Section<'_>) -> (Origin, Route) {
        let at = section.at.clone();
        let called = section.text("called").and_then(|w| pattern("route.called", &w, self.faults));
        let caller = section.text("caller").and_then(|w| pattern("route.caller", &w, self.faults));
        let trunk = section.text("trunk");
        if let Some(written) = &trunk {
            self.known_trunk(written);
        }
        let roles = [("customer", false), ("agent", true)];
        let caller_is_agent =
            section.text("caller_role").and_then(|w| one_of("route.caller_role", &w, &roles, self.faults));
        let follow = section.text("follow").and_then(|w| follow("route.follow", &w, self.faults));
        let groups = called.as_ref().map_or(0, |regex| regex.captures_len() - 1);
        let steps_at = section.place("steps");
        let written = section.sections("steps");
        if written.is_empty() {
            self.faults.add(&steps_at, "this route has no steps", "write steps = [ {answer = {}}, … ]");
        }
        let steps: Vec<Placed> = written.into_iter().filter_map(|step| self.step(step, groups)).collect();
        let recorded = section.flag("recorded").unwrap_or(false);
        if recorded {
            self.check_recorded(&steps)
        } else {
            self.check_steps(&steps)
        }
        section.end();
        let route = Route {
            at: at.to_string(),
            called,
            caller,
            trunk: trunk.map(|written| written.value),
            caller_is_agent: caller_is_agent.unwrap_or(false),
            recorded,
            follow,
            steps: steps.into_iter().map(|(_, step)| step).collect(),
        };
        (at, route)
    }

    fn known_trunk(&self, written: &Written<String>) {
        if !self.names.trunks.contains(&written.value.as_str()) {
            let remedy = nearest(&written.value, self.names.trunks.iter().copied());
            self.faults.add(&written.at, format!("there is no trunk {:?}", written.value), remedy);
        }
    }

    fn step(&self, mut section: Section<'_>, groups: usize) -> Option<Placed> {
        let at = section.at.clone();
        let name = self.step_name(&section)?;
        let step = match name {
            "answer" => {
                section.section("answer").end();
                Some(Step::Answer)
            }
            "say" => section.text("say").and_then(|w| self.say(w, groups)),
            "play" => section.text("play").and_then(|w| self.play(w)),
            "connect" => self.connect(section.section("connect"), groups),
            "mode" => section.text("mode").and_then(|w| mode("mode", &w, self.faults)).map(Step::Mode),
            "consent" => section.text("consent").and_then(|w| consent(&w, self.faults)).map(Step::Consent),
            "supervise" => self.supervise(section.section("supervise"), groups),
            "fork" => self.fork(section.section("fork"), groups),
            "playbook" => section.text("playbook").map(|w| self.playbook(w)),
            _ => Some(self.reject(section.section("reject"), groups)),
        };
        step.map(|step| (at, step))
    }

    /// The one key of a step.
    fn step_name(&self, section: &Section<'_>) -> Option<&'static str> {
        let keys: Vec<&str> = section.keys().collect();
        let [key] = keys[..] else {
            let what = format!("a step holds {} keys", keys.len());
            self.faults.add(&section.at, what, "write one step in each pair of braces");
            return None;
        };
        let known = STEPS.iter().find(|name| **name == key).copied();
        if known.is_none() {
            let at = section.place(key);
            if LATER.contains(&key) {
                self.faults.add(&at, format!("the step {key} is not supported yet"), "take it out");
            } else {
                self.faults.add(&at, format!("unknown step {key}"), nearest(key, STEPS.into_iter()));
            }
        }
        known
    }

    fn say(&self, written: Written<String>, groups: usize) -> Option<Step> {
        let length = written.value.trim().chars().count();
        if length == 0 || length > SAY_CHARS {
            let what = format!("a text of {length} characters is to be said");
            self.faults.add(&written.at, what, format!("write 1 to {SAY_CHARS}"));
            return None;
        }
        self.check_groups(&written, groups);
        Some(Step::Say(written.value))
    }

    /// A sound file, from the working directory or beside the dialplan.
    fn play(&self, written: Written<String>) -> Option<Step> {
        let places = [PathBuf::from(&written.value), self.folder.join(&written.value)];
        if let Some(found) = places.into_iter().find(|path| path.is_file()) {
            return Some(Step::Play(found));
        }
        let what = format!("there is no file {:?}", written.value);
        self.faults.add(&written.at, what, "name a WAV file, from here or from the dialplan's folder");
        None
    }

    fn connect(&self, mut section: Section<'_>, groups: usize) -> Option<Step> {
        let at = section.at.clone();
        let timeout = section.whole("timeout", 1..=300).map_or(RINGING_S, |written| written.value);
        let srtp = section.text("srtp").and_then(|written| srtp("connect.srtp", &written, self.faults));
        let together = section.flag("together").unwrap_or(false);
        let absent = !section.has("to");
        let to = section.text_or_texts("to");
        section.end();
        if absent {
            self.faults.add(&at, "connect does not say to whom", "write {connect = {to = \"sip:USER@HOST:PORT\"}}");
        }
        let to = to?;
        if to.is_empty() || to.len() > MAX_TARGETS {
            let what = format!("connect.to lists {} addresses", to.len());
            self.faults.add(&at, what, format!("write 1 to {MAX_TARGETS}"));
            return None;
        }
        let to = to.into_iter().map(|to| self.target(to, groups)).collect::<Option<Vec<_>>>()?;
        let timeout = Duration::from_secs(timeout.unsigned_abs());
        Some(Step::Connect { to, together, timeout, srtp })
    }

    fn target(&self, to: Written<String>, groups: usize) -> Option<String> {
        let place = to.value.strip_prefix("sip:").or_else(|| to.value.strip_prefix("sips:"));
        if place.is_none_or(str::is_empty) || to.value.contains(char::is_whitespace) {
            let what = format!("connect.to is {:?}", to.value);
            self.faults.add(&to.at, what, "write a SIP URI, as \"sip:call-$1@127.0.0.1:6070\"");
            return None;
        }
        self.check_groups(&to, groups);
        Some(to.value)
    }

    fn supervise(&self, mut section: Section<'_>, groups: usize) -> Option<Step> {
        let at = section.at.clone();
        let absent = ["who", "mode"].into_iter().find(|key| !section.has(key));
        let who = section.text("who");
        let mode = section.text("mode").and_then(|w| mode("supervise.mode", &w, self.faults));
        section.end();
        if let Some(key) = absent {
            let remedy = "write {supervise = {who = \"$1\", mode = \"spy\"}}";
            self.faults.add(&at, format!("supervise does not say {key}"), remedy);
        }
        let who = who?;
        self.check_groups(&who, groups);
        Some(Step::Supervise { who: who.value, mode: mode? })
    }

    fn fork(&self, mut section: Section<'_>, groups: usize) -> Option<Step> {
        let at = section.at.clone();
        let absent = ["as", "of"].into_iter().find(|key| !section.has(key));
        let roles = [("customer", Role::Customer), ("agent", Role::Agent), ("earpiece", Role::Earpiece)];
        let role = section.text("as").and_then(|w| one_of("fork.as", &w, &roles, self.faults));
        let of = section.text("of");
        section.end();
        if let Some(key) = absent {
            let remedy = "write {fork = {as = \"customer\", of = \"$1\"}}";
            self.faults.add(&at, format!("fork does not say {key}"), remedy);
        }
        let of = of?;
        self.check_groups(&of, groups);
        Some(Step::Fork { role: role?, of: of.value })
    }

    fn playbook(&self, written: Written<String>) -> Step {
        if !self.names.playbooks.contains(&written.value) {
            let remedy = nearest(&written.value, self.names.playbooks.iter().map(String::as_str));
            self.faults.add(&written.at, format!("there is no playbook {:?}", written.value), remedy);
        }
        Step::Playbook(written.value)
    }

    fn reject(&self, mut section: Section<'_>, groups: usize) -> Step {
        // 403: the caller reached us and is not wanted here (RFC 3261 §21.4.4).
        let status = section.whole("status", 400..=699).map_or(403, |written| written.value);
        let reason = section.text("reason");
        section.end();
        let reason = reason.map_or_else(
            || "This number cannot be reached here".into(),
            |written| {
                self.check_groups(&written, groups);
                written.value
            },
        );
        Step::Reject { status: u16::try_from(status).unwrap_or(403), reason }
    }

    /// Every `$n` must be a group of `called`.
    fn check_groups(&self, written: &Written<String>, groups: usize) {
        for pair in written.value.as_bytes().windows(2) {
            let number = match pair {
                [b'$', digit @ b'1'..=b'9'] => usize::from(digit - b'0'),
                _ => continue,
            };
            if number > groups {
                let what = format!("${number} is used, and called has {groups} groups");
                self.faults.add(&written.at, what, "put what it stands for into parentheses in called");
            }
        }
    }

    /// Nobody can be spoken to in what is recorded, nor refused by it: the trunk's `may_call` does that.
    fn check_recorded(&self, steps: &[Placed]) {
        let listens = |step: &Step| matches!(step, Step::Playbook(_) | Step::Consent(_));
        for (at, _) in steps.iter().filter(|(_, step)| !listens(step)) {
            self.faults.add(at, "a route for recordings cannot do this", "let it hold playbook and consent alone");
        }
    }

    /// What the order of steps must hold.
    fn check_steps(&self, steps: &[Placed]) {
        if let Some((_, Step::Fork { .. })) = steps.first() {
            return self.check_recorded(steps.get(1..).unwrap_or_default());
        }
        let (mut answered, mut connected) = (false, false);
        for (i, (at, step)) in steps.iter().enumerate() {
            let fault = |what: &str, remedy: &str| self.faults.add(at, what, remedy);
            match step {
                Step::Answer if answered => fault("the caller is answered already", "take this step out"),
                Step::Answer => answered = true,
                Step::Say(_) | Step::Play(_) if !answered => {
                    fault("nobody hears this: the caller is not answered yet", "put {answer = {}} before it");
                }
                Step::Connect { .. } if connected => fault("a route connects once", "take this step out"),
                Step::Connect { .. } => (answered, connected) = (true, true),
                Step::Reject { .. } if i + 1 < steps.len() => {
                    fault("nothing can follow reject", "put it last, or take out what follows");
                }
                Step::Reject { .. } if connected => {
                    fault("this would end the call just connected", "take reject or connect out");
                }
                Step::Supervise { .. } if steps.len() > 1 => {
                    fault("who listens in on another call has none of their own", "let supervise stand alone");
                }
                Step::Supervise { .. } => {}
                Step::Fork { .. } => fault("a line that is a copy is nothing else", "put fork first"),
                Step::Say(_) | Step::Play(_) | Step::Mode(_) | Step::Consent(_) => {}
                Step::Playbook(_) | Step::Reject { .. } => {}
            }
        }
    }
}
