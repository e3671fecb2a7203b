//! Who of a recorded communication is the customer, and who the agent.

use super::{NameId, Participant};
use crate::config::Siprec;
use crate::event::Role;

/// Whose voice a stream carries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Speaker<'a> {
    /// Who, as far as the client has said.
    pub who: Option<&'a Participant>,
    /// What they were until now.
    pub was: Option<Role>,
}

/// The roles of streams, in the order of their media lines, by whose voice each carries. `taken` are the roles of streams
/// of the same communication that came by other recording sessions.
///
/// Whom a pattern names is that. Who was something already stays it. Of the others each becomes the first of the
/// configured order that nobody is yet. Who is left cannot be placed, and is a customer (DESIGN §2.6).
pub fn roles(rules: &Siprec, taken: &[Role], speakers: &[Speaker<'_>]) -> Vec<Role> {
    let named = |s: &Speaker<'_>| s.who.and_then(|who| by_pattern(rules, who)).or(s.was);
    let named: Vec<_> = speakers.iter().map(named).collect();
    let mut taken: Vec<Role> = taken.iter().copied().chain(named.iter().flatten().copied()).collect();
    let place = |named: Option<Role>| {
        let role = named.or(rules.order.into_iter().find(|r| !taken.contains(r))).unwrap_or(Role::Customer);
        taken.push(role);
        role
    };
    named.into_iter().map(place).collect()
}

fn by_pattern(rules: &Siprec, speaker: &Participant) -> Option<Role> {
    let is = |pattern: &regex::Regex| {
        let names = |n: &NameId| [Some(n.aor.clone()), Some(user(&n.aor).to_owned()), n.name.clone()];
        speaker.names.iter().flat_map(names).flatten().any(|name| pattern.is_match(&name))
    };
    match (&rules.agent, &rules.customer) {
        (Some(pattern), _) if is(pattern) => Some(Role::Agent),
        (_, Some(pattern)) if is(pattern) => Some(Role::Customer),
        (Some(_) | None, Some(_) | None) => None,
    }
}

/// The user part of an address of record, or the number of a `tel:` one.
pub(super) fn user(aor: &str) -> &str {
    let rest = aor.split_once(':').map_or(aor, |(_, rest)| rest);
    let user = rest.split_once('@').map_or(rest, |(user, _)| user);
    user.split(';').next().unwrap_or(user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;

    fn person(aor: &str, name: &str) -> Participant {
        let name = (!name.is_empty()).then(|| name.to_owned());
        Participant { id: aor.into(), names: vec![NameId { aor: aor.into(), name }] }
    }

    #[test]
    fn patterns_come_before_the_order() {
        use Role::{Agent, Customer};
        let pattern = |text: &str| (!text.is_empty()).then(|| Regex::new(&format!("^(?:{text})$")).unwrap());
        let (bob, carol) = (person("sip:bob@example.com", ""), person("tel:+4930;x=1", "Carol, Support"));
        for (agent, customer, order, taken, expected, why) in [
            ("", "", [Customer, Agent], &[][..], [Customer, Agent], "the order"),
            ("", "", [Agent, Customer], &[], [Agent, Customer], "the other order"),
            ("bob", "", [Customer, Agent], &[], [Agent, Customer], "by the user part"),
            ("sip:bob@.*", "", [Customer, Agent], &[], [Agent, Customer], "by the whole address"),
            (".*Support", "", [Agent, Customer], &[], [Customer, Agent], "by the name"),
            (r"\+\d+", "", [Agent, Customer], &[], [Customer, Agent], "by the number"),
            ("bo", "", [Customer, Agent], &[], [Customer, Agent], "a pattern is for the whole"),
            ("", "bob", [Agent, Customer], &[], [Customer, Agent], "who is the customer"),
            (".*", "", [Customer, Agent], &[], [Agent, Agent], "both are agents"),
            ("", "", [Customer, Agent], &[Customer], [Agent, Customer], "the customer came by another session"),
            ("", "", [Customer, Agent], &[Customer, Agent], [Customer, Customer], "who cannot be placed"),
        ] {
            let rules = Siprec { agent: pattern(agent), customer: pattern(customer), order };
            let speakers = [&bob, &carol].map(|who| Speaker { who: Some(who), was: None });
            assert_eq!(roles(&rules, taken, &speakers), expected, "{why}");
        }
        let was = Speaker { was: Some(Agent), ..Speaker::default() };
        assert_eq!(roles(&Siprec::default(), &[], &[was]), [Agent], "who was the agent stays that");
        assert_eq!(roles(&Siprec::default(), &[], &[Speaker::default(), was]), [Customer, Agent]);
        let nobody = roles(&Siprec::default(), &[], &[Speaker::default(); 3]);
        assert_eq!(nobody, [Customer, Agent, Customer], "streams that nobody is known to speak on");
    }
}
