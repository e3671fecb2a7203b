//! Whom a supervisor may hear, and what else they may do there: one pure function over the rules of the configuration.

use crate::call::{May, Rights, Unagreed};
use crate::config::{Supervise, Trunk};
use crate::event::{Address, Consent};
use crate::io::sip::registry::user;
use std::time::Duration;

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
/// is what those allow together that are for this asker and for every agent of this call. What needs the customer's consent
/// is told apart: it may be given, or withdrawn, while they listen.
pub fn may_hear(rules: &[Supervise], asker: Asker<'_>, asked: Asked<'_>) -> Result<Rights, Denied> {
    if !asker.trunk.may_supervise {
        return Err(Denied::Trunk);
    }
    if rules.is_empty() {
        return Ok(Rights::ALL);
    }
    let meant: Vec<&Supervise> = rules.iter().filter(|r| is_for(r, asker) && is_about(r, asked.agents)).collect();
    let may = meant.iter().map(|r| r.may).reduce(May::or).ok_or(Denied::Agent)?;
    let unagreed = match meant.iter().filter(|r| !r.consent).map(|r| r.may).reduce(May::or) {
        None => Unagreed::Nothing,
        Some(all) if all == may => Unagreed::All,
        Some(some) => Unagreed::Only(some),
    };
    let rights = Rights { may, unagreed };
    rights.under(asked.consent).map(|_| rights).ok_or(Denied::Consent)
}

/// How long somebody who dials an agent without a call may wait for the agent's next one; none: not at all. `agent` is what
/// they dialled.
pub fn may_wait(rules: &[Supervise], asker: Asker<'_>, agent: &str) -> Option<Duration> {
    let agents = [Address::from(agent)];
    let meant = rules.iter().filter(|r| asker.trunk.may_supervise && is_for(r, asker) && is_about(r, &agents));
    meant.filter_map(|r| r.wait).max()
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
            wait: None,
        }
    }

    /// What they may do now.
    fn now(rules: &[Supervise], asker: Asker<'_>, asked: Asked<'_>) -> Result<May, Denied> {
        may_hear(rules, asker, asked).map(|rights| rights.under(asked.consent).unwrap())
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
            assert_eq!(now(&rules(), Asker { trunk, identity }, asked), expected, "{identity} {agents:?}");
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
            assert_eq!(now(&rules, Asker { trunk: &trunk, identity: "x" }, asked), expected);
        }
    }

    #[test]
    fn what_needs_consent_is_told_apart() {
        let trunk = trunk("lab", true);
        let (always, asked) = (rule("chief", "", &["anna"], SPY, false), rule("chief|auditor", "", &[], WHISPER, true));
        let rights = |rules: &[Supervise], identity, agent: &str, consent| {
            let asked = Asked { agents: &[agent.into()], consent };
            may_hear(rules, Asker { trunk: &trunk, identity }, asked)
        };
        let both = [always, asked];
        for consent in [Consent::Unknown, Consent::Given, Consent::Refused] {
            let expected = Rights { may: WHISPER, unagreed: Unagreed::Only(SPY) };
            assert_eq!(rights(&both, "chief@x", "anna", consent), Ok(expected));
        }
        let expected = Rights { may: WHISPER, unagreed: Unagreed::Nothing };
        assert_eq!(rights(&both, "auditor@x", "anna", Consent::Given), Ok(expected));
        assert_eq!(rights(&both, "auditor@x", "anna", Consent::Unknown), Err(Denied::Consent));
        assert_eq!(rights(&both[..1], "chief@x", "anna", Consent::Refused).map(|r| r.unagreed), Ok(Unagreed::All));
    }

    #[test]
    fn who_may_wait_for_whom() {
        let (open, shut) = (trunk("lab", true), trunk("lab", false));
        let wait = |s| Some(Duration::from_secs(s));
        let short = Supervise { wait: wait(60), ..rule("chief", "", &["10..", "anna"], SPY, false) };
        let long = Supervise { wait: wait(600), ..rule("chief", "", &["anna"], SPY, true) };
        let rules = [short, long, rule("", "", &[], May::ALL, false)];
        for (trunk, identity, agent, expected) in [
            (&open, "chief@x", "anna", wait(600)),
            (&open, "chief@x", "1001", wait(60)),
            (&open, "chief@x", "berta", None),
            (&open, "auditor@x", "anna", None),
            (&shut, "chief@x", "anna", None),
        ] {
            assert_eq!(may_wait(&rules, Asker { trunk, identity }, agent), expected, "{identity} {agent}");
        }
        assert_eq!(
            may_wait(&[], Asker { trunk: &open, identity: "chief@x" }, "anna"),
            None,
            "nobody waits without a rule"
        );
    }
}
