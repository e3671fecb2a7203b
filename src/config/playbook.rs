//! Playbooks from their files: `playbooks/<name>.toml` beside the configuration file.
//!
//! In goes TOML; out comes a [`Playbook`], or faults with `file:line`.

use super::check::one_of;
use super::fault::Faults;
use super::raw::{Section, Written, nearest, parse};
use crate::coach::detect::pattern::Pattern;
use crate::coach::playbook::{Kind, Limits, PROMPT_WORDS, Playbook, Rule, Urgency};
use crate::event::Role;
use crate::time::Samples;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Playbooks by name.
pub type Playbooks = Arc<BTreeMap<String, Arc<Playbook>>>;

/// What a folder holds: the playbooks that are right, and the names of all.
pub(super) struct Folder {
    pub playbooks: Playbooks,
    pub names: Vec<String>,
}

/// The kinds that words alone can show, and whose words they must be (MOMENTS rule 1: whose words).
const KINDS: [(&str, Role); 20] = [
    ("objection.price", Role::Customer),
    ("objection.timing", Role::Customer),
    ("objection.status_quo", Role::Customer),
    ("objection.competitor", Role::Customer),
    ("objection.authority", Role::Customer),
    ("objection.trust", Role::Customer),
    ("signal.buying", Role::Customer),
    ("mention.competitor", Role::Customer),
    ("mention.budget", Role::Customer),
    ("mention.decision_maker", Role::Customer),
    ("mention.timeline", Role::Customer),
    ("mention.procurement", Role::Customer),
    ("mention.renewal", Role::Customer),
    ("intent.cancel", Role::Customer),
    ("opening.upsell", Role::Customer),
    ("state.confusion", Role::Customer),
    ("state.escalation", Role::Customer),
    ("state.frustration", Role::Customer),
    ("compliance.missing", Role::Agent),
    ("compliance.forbidden", Role::Agent),
];

/// Every playbook of a folder. The default must be among them.
pub(super) fn read_all(folder: &Path, default: &Written<String>, faults: &Faults) -> Folder {
    let mut playbooks = BTreeMap::new();
    let mut names = Vec::new();
    for path in toml_files(folder) {
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        names.push(name.to_owned());
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let playbook = read(name, &path.display().to_string(), &text, faults);
                playbooks.insert(name.to_owned(), Arc::new(playbook));
            }
            Err(error) => {
                let at = super::Origin::whole(path.display().to_string());
                faults.add(&at, format!("the playbook cannot be read ({error})"), "mend it, or take it away");
            }
        }
    }
    if !names.contains(&default.value) {
        let what = format!("there is no playbook {:?} in {}", default.value, folder.display());
        faults.add(&default.at, what, nearest(&default.value, names.iter().map(String::as_str)));
    }
    Folder { playbooks: Arc::new(playbooks), names }
}

/// The TOML files of a folder in the order of their names; none where there is no folder.
fn toml_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    files
}

/// A playbook from its text. Where there are faults, what is right is in it all the same.
pub(super) fn read(name: &str, file: &str, text: &str, faults: &Faults) -> Playbook {
    let mut root = Section::new("", parse(file, text, faults), faults);
    let competitors: Vec<Arc<str>> =
        root.texts("competitors").unwrap_or_default().into_iter().map(|written| written.value.into()).collect();
    let limits = limits(root.section("limits"));
    let reader = Reader { competitors: &competitors, faults };
    let at = root.at.clone();
    let moments = root.sections("moment");
    if moments.is_empty() {
        faults.add(&at, "this playbook has no moments", "write at least one [[moment]]");
    }
    let rules = moments.into_iter().filter_map(|section| reader.rule(section)).collect();
    root.end();
    Playbook { name: name.into(), digest: digest(text), competitors, limits, rules }
}

fn digest(text: &str) -> Arc<str> {
    let bytes = Sha256::digest(text);
    bytes.iter().fold(String::from("sha256:"), |hex, byte| hex + &format!("{byte:02x}")).into()
}

fn limits(mut section: Section<'_>) -> Limits {
    // Twenty seconds apart and six in all: a coach that nags is switched off.
    let cooldown = seconds(&mut section, "cooldown_seconds", 0..=3600, 20);
    let max_prompts = section.whole("max_prompts", 0..=1000).map_or(6, |written| written.value);
    section.end();
    Limits { cooldown, max_prompts: u32::try_from(max_prompts).unwrap_or(0) }
}

fn seconds(
    section: &mut Section<'_>,
    key: &'static str,
    range: std::ops::RangeInclusive<i64>,
    default: i64,
) -> Samples {
    Samples::from_millis(1000 * section.whole(key, range).map_or(default, |written| written.value))
}

struct Reader<'a> {
    competitors: &'a [Arc<str>],
    faults: &'a Faults,
}

impl Reader<'_> {
    fn rule(&self, mut section: Section<'_>) -> Option<Rule> {
        let kind = self.kind(&mut section);
        let role = kind.as_ref().map_or(Role::Customer, |(_, role)| *role);
        self.leg(&mut section, role);
        let rule = Rule {
            kind: kind.map_or(Kind::Said("".into()), |(kind, _)| kind),
            role,
            patterns: self.patterns(&mut section, "patterns", true),
            unless: self.patterns(&mut section, "unless", false),
            even_negated: section.flag("even_negated").unwrap_or(false),
            prompts: self.prompts(&mut section),
            urgency: self.urgency(&mut section),
            cooldown: seconds(&mut section, "cooldown_seconds", 0..=3600, 60),
            useful: seconds(&mut section, "useful_seconds", 1..=600, 12),
        };
        section.end();
        Some(rule).filter(|rule| !rule.kind.name().is_empty())
    }

    fn kind(&self, section: &mut Section<'_>) -> Option<(Kind, Role)> {
        let Some(written) = section.text("kind") else {
            self.faults.add(&section.at, "a moment has no kind", "write kind = \"objection.price\" or another");
            return None;
        };
        let within_at = section.place("within_seconds");
        let within = section.whole("within_seconds", 1..=3600).map(|w| Samples::from_millis(1000 * w.value));
        let Some((name, role)) = KINDS.iter().find(|(name, _)| *name == written.value) else {
            let remedy = nearest(&written.value, KINDS.iter().map(|(name, _)| *name));
            self.faults.add(&written.at, format!("there is no kind {:?}", written.value), remedy);
            return None;
        };
        match (*name, within) {
            ("compliance.missing", Some(within)) => Some((Kind::Missing { within }, *role)),
            ("compliance.missing", None) => {
                let what = "compliance.missing does not say by when";
                self.faults.add(&section.at, what, "write within_seconds = 30, counted from when both are connected");
                None
            }
            (name, None) => Some((Kind::Said(name.into()), *role)),
            (_, Some(_)) => {
                self.faults.add(&within_at, format!("{name} has no deadline"), "take within_seconds out");
                None
            }
        }
    }

    /// Whose words: may be left out, and may not be wrong.
    fn leg(&self, section: &mut Section<'_>, role: Role) {
        let Some(written) = section.text("leg") else { return };
        let roles = [("customer", Role::Customer), ("agent", Role::Agent)];
        let given = one_of("moment.leg", &written, &roles, self.faults);
        if given.is_some_and(|given| given != role) {
            let right = if role == Role::Customer { "customer" } else { "agent" };
            let what = format!("this kind is never heard from the {}", written.value);
            self.faults.add(&written.at, what, format!("write leg = {right:?}"));
        }
    }

    fn patterns(&self, section: &mut Section<'_>, key: &'static str, needed: bool) -> Vec<Pattern> {
        let at = section.place(key);
        let written = section.texts(key).unwrap_or_default();
        if needed && written.is_empty() {
            self.faults.add(&at, format!("a moment has no {key}"), format!("write {key} = [\"too expensive\", …]"));
        }
        written.iter().filter_map(|w| self.pattern(w)).collect()
    }

    fn pattern(&self, written: &Written<String>) -> Option<Pattern> {
        let pattern = match Pattern::parse(&written.value) {
            Ok(pattern) => pattern,
            Err(error) => {
                let what = format!("the pattern {:?} {error}", written.value);
                self.faults.add(&written.at, what, "write words, a|b, word?, ..., {competitor} or {amount}");
                return None;
            }
        };
        if pattern.names_competitor() && self.competitors.is_empty() {
            let what = "{competitor} is used and the playbook names none";
            self.faults.add(&written.at, what, "write competitors = [\"…\"] at the top");
        }
        Some(pattern)
    }

    fn prompts(&self, section: &mut Section<'_>) -> Vec<Arc<str>> {
        let at = section.place("prompts");
        let written = section.texts("prompts").unwrap_or_default();
        if written.is_empty() {
            self.faults.add(&at, "a moment has no prompts", "write prompts = [\"Ask what they compare it with.\"]");
        }
        written.iter().for_each(|w| self.check_prompt(w));
        written.into_iter().map(|w| w.value.into()).collect()
    }

    /// Short enough to be taken in, with the longest name in its slot.
    fn check_prompt(&self, written: &Written<String>) {
        let longest = self.competitors.iter().map(|name| name.split_whitespace().count()).max().unwrap_or(1);
        let words: usize =
            written.value.split_whitespace().map(|w| if w.contains("{competitor}") { longest } else { 1 }).sum();
        if words == 0 || words > PROMPT_WORDS {
            let what = format!("a prompt has {words} words");
            self.faults.add(&written.at, what, format!("write 1 to {PROMPT_WORDS}: more cannot be taken in on a call"));
        }
        if written.value.replace("{competitor}", "").contains(['{', '}']) {
            self.faults.add(&written.at, "a prompt holds an unknown slot", "only {competitor} is known");
        }
    }

    fn urgency(&self, section: &mut Section<'_>) -> Urgency {
        let urgencies = [("low", Urgency::Low), ("normal", Urgency::Normal), ("urgent", Urgency::Urgent)];
        let given = section.text("priority").and_then(|w| one_of("moment.priority", &w, &urgencies, self.faults));
        given.unwrap_or(Urgency::Normal)
    }
}
