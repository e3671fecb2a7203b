//! A playbook: which moments count on one kind of call, how they are recognised, and what to say.
//!
//! Plain checked data. The configuration reads it from a file; nothing here knows of files.

use super::detect::pattern::Pattern;
use crate::event::Role;
use crate::time::Samples;
use std::sync::Arc;

/// What a prompt may have at most: as many words as a person takes in while listening to somebody else.
pub const PROMPT_WORDS: usize = 12;

/// Where a prompt names the company that was heard.
pub const SLOT: &str = "{competitor}";

/// One kind of call.
#[derive(Clone, Debug)]
pub struct Playbook {
    /// Its name: that of its file.
    pub name: Arc<str>,
    /// `sha256:` and the digest of its text, so that a replay knows whether it has the same; `none` where there is none.
    pub digest: Arc<str>,
    /// Rival companies, as people write them.
    pub competitors: Vec<Arc<str>>,
    /// How much advice a call may have.
    pub limits: Limits,
    /// What to notice, in the order of the file.
    pub rules: Vec<Rule>,
}

/// How much advice a call may have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Between the end of one prompt and the next, whatever they are about.
    pub cooldown: Samples,
    /// Prompts in one call.
    pub max_prompts: u32,
}

/// One moment and the advice it leads to.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it is.
    pub kind: Kind,
    /// Whose words count.
    pub role: Role,
    /// Any of these is it.
    pub patterns: Vec<Pattern>,
    /// A sentence with any of these is not.
    pub unless: Vec<Pattern>,
    /// Whether a negated or supposed sentence counts all the same (a name is a name).
    pub even_negated: bool,
    /// What to say; one after the other where the moment comes again. `{competitor}` is the name that was heard.
    pub prompts: Vec<Arc<str>>,
    /// How pressing it is.
    pub urgency: Urgency,
    /// Until the same kind may lead to a prompt again.
    pub cooldown: Samples,
    /// How long the advice helps, from the end of the words it rests on.
    pub useful: Samples,
}

/// What a rule looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The words were said: a kind of DESIGN §6 (`objection.price`).
    Said(Arc<str>),
    /// The words were not said in time: `compliance.missing`, and `compliance.met` when they are.
    Missing {
        /// From `call.connected` on.
        within: Samples,
    },
}

impl Kind {
    /// As events name it.
    pub fn name(&self) -> &str {
        match self {
            Kind::Said(name) => name,
            Kind::Missing { .. } => "compliance.missing",
        }
    }
}

/// How pressing a moment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// For those who learn.
    Low,
    /// For most.
    Normal,
    /// For everyone.
    Urgent,
}

/// How readily the coach speaks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sensitivity {
    /// Only what is urgent.
    Minimal,
    /// What is urgent or normal.
    Standard,
    /// Everything.
    Training,
}

impl Sensitivity {
    /// As configuration and events name it.
    pub fn name(self) -> &'static str {
        match self {
            Sensitivity::Minimal => "minimal",
            Sensitivity::Standard => "standard",
            Sensitivity::Training => "training",
        }
    }
    /// Whether something this pressing is let through.
    pub fn admits(self, urgency: Urgency) -> bool {
        urgency
            >= match self {
                Sensitivity::Minimal => Urgency::Urgent,
                Sensitivity::Standard => Urgency::Normal,
                Sensitivity::Training => Urgency::Low,
            }
    }
}

impl Playbook {
    /// One that notices nothing.
    pub fn silent() -> Self {
        let limits = Limits { cooldown: Samples(0), max_prompts: 0 };
        Playbook { name: "silent".into(), digest: "none".into(), competitors: Vec::new(), limits, rules: Vec::new() }
    }
}
