//! Whom a supervisor may hear, and what else they may do there: one pure function over the rules of the configuration.

use crate::call::May;
use crate::config::{Supervise, Trunk};
use crate::event::{Address, Consent};
use crate::io::sip::registry::user;

/// Who wants to listen in.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The trunk they come from.
    pub trunk: &'a Trunk,
    /// Who the trunk says they are, or who they say they are: `user@host`.
    pub identity: &'a str,
}

/// What is to be heard.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The agents on the call.
    pub agents: &'a [Address],
    /// Whether its customer has agreed to be listened to.
    pub consent: Consent,
}

/// Why somebody may not listen in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// `may_supervise` of their trunk is not true.
    #[error("this trunk may not listen in on calls: its may_supervise is not true")]
    Trunk,
    /// No rule is for them and for every agent of the call.
    #[error("no rule lets you listen to this agent")]
    Agent,
    /// A rule would, had the customer agreed.
    #[error("the customer has not agreed to be listened to")]
    Consent,
}

/// What `asker` may do on the call that is asked for. Without rules whoever may supervise may do everything; with rules it
/// is what those allow together that are for this asker and for every agent of this call.
pub fn may_hear(rules: &[Supervise], asker: Asker<'_>, asked: Asked<'_>) -> Result<May, Denied> {
    if !asker.trunk.may_supervise {
        return Err(Denied::Trunk);
    }
    if rules.is_empty() {
        return Ok(May::ALL);
    }
    let meant: Vec<&Supervise> = rules.iter().filter(|r| is_for(r, asker) && is_about(r, asked.agents)).collect();
    if meant.is_empty() {
        return Err(Denied::Agent);
    }
    let agreed = |r: &&&Supervise| !r.consent || asked.consent == Consent::Given;
    meant.iter().filter(agreed).map(|r| r.may).reduce(May::or).ok_or(Denied::Consent)
}

fn is_for(rule: &Supervise, asker: Asker<'_>) -> bool {
    let name = asker.identity;
    let matches = |p: &regex::Regex| p.is_match(name) || p.is_match(user(name));
    rule.trunk.as_deref().is_none_or(|t| t == asker.trunk.name) && rule.supervisor.as_ref().is_none_or(matches)
}

fn is_about(rule: &Supervise, agents: &[Address]) -> bool {
    let named = |agent: &Address| rule.agents.iter().any(|p| p.is_match(user(&agent.0)));
    rule.everyone || !agents.is_empty() && agents.iter().all(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;

    const SPY: May = May { whisper: false, barge: false, take_over: false };
    const WHISPER: May = May { whisper: true, ..SPY };

    fn trunk(name: &str, may_supervise: bool) -> Trunk {
        Trunk { name: name.into(), may_supervise, ..Trunk::default() }
    }

    fn rule(supervisor: &str, trunk: &str, agents: &[&str], may: May, consent: bool) -> Supervise {
        let whole = |p: &str| Regex::new(&format!("^(?:{p})$")).unwrap();
        Supervise {
            supervisor: Some(supervisor).filter(|s| !s.is_empty()).map(whole),
            trunk: Some(trunk).filter(|t| !t.is_empty()).map(Into::into),
            agents: agents.iter().map(|a| whole(a)).collect(),
            everyone: agents.is_empty(),
            may,
            consent,
        }
    }

    fn rules() -> Vec<Supervise> {
        vec![
            rule("47..", "", &["10..", "anna"], SPY, false),
            rule("4711", "", &["anna"], WHISPER, false),
            rule("chief@pbx\\.example", "floor", &[], May::ALL, false),
            rule("auditor", "", &[], SPY, true),
        ]
    }

    #[test]
    fn who_may_hear_whom() {
        let (floor, lab) = (trunk("floor", true), trunk("lab", true));
        for (trunk, identity, agents, consent, expected) in [
            (&lab, "4712@pbx", &["sip:1001@pbx"][..], Consent::Unknown, Ok(SPY)),
            (&lab, "4711@pbx", &["sip:anna@pbx:5070"], Consent::Unknown, Ok(WHISPER)),
            (&lab, "4711@pbx", &["sip:1001@pbx"], Consent::Refused, Ok(SPY)),
            (&lab, "4712@pbx", &["sip:berta@pbx"], Consent::Given, Err(Denied::Agent)),
            // Every agent of a call must be one they may hear.
            (&lab, "4711@pbx", &["anna", "berta"], Consent::Given, Err(Denied::Agent)),
            (&lab, "4711@pbx", &["anna", "sip:1001@pbx"], Consent::Given, Ok(SPY)),
            (&lab, "4711@pbx", &[], Consent::Given, Err(Denied::Agent)),
            (&floor, "chief@pbx.example", &["berta"], Consent::Unknown, Ok(May::ALL)),
            (&lab, "chief@pbx.example", &["berta"], Consent::Unknown, Err(Denied::Agent)),
            (&floor, "chief@evil.example", &["berta"], Consent::Unknown, Err(Denied::Agent)),
            (&lab, "auditor@x", &["berta"], Consent::Given, Ok(SPY)),
            (&lab, "auditor@x", &["berta"], Consent::Unknown, Err(Denied::Consent)),
            (&lab, "auditor@x", &["berta"], Consent::Refused, Err(Denied::Consent)),
            (&lab, "47110@pbx", &["anna"], Consent::Given, Err(Denied::Agent)),
            (&lab, "", &["anna"], Consent::Given, Err(Denied::Agent)),
        ] {
            let agents: Vec<Address> = agents.iter().map(|a| (*a).into()).collect();
            let asked = Asked { agents: &agents, consent };
            assert_eq!(may_hear(&rules(), Asker { trunk, identity }, asked), expected, "{identity} {agents:?}");
        }
    }

    #[test]
    fn without_rules_the_trunk_decides_and_no_rule_makes_up_for_it() {
        let asked = Asked { agents: &["anna".into()], consent: Consent::Unknown };
        for (rules, may, expected) in [
            (vec![], true, Ok(May::ALL)),
            (vec![], false, Err(Denied::Trunk)),
            (vec![rule("", "", &[], May::ALL, false)], false, Err(Denied::Trunk)),
            (vec![rule("", "", &[], SPY, false)], true, Ok(SPY)),
        ] {
            let trunk = trunk("lab", may);
            assert_eq!(may_hear(&rules, Asker { trunk: &trunk, identity: "x" }, asked), expected);
        }
    }
}
