//! `[[trunk]] siprec`: who of a recorded communication is the customer, and who the agent.

use super::check::pattern;
use super::fault::Faults;
use super::raw::Section;
use crate::event::Role;
use regex::Regex;

/// How the participants of a trunk's recording sessions (SIPREC) are told apart.
#[derive(Clone, Debug)]
pub struct Siprec {
    /// Who is an agent: by the whole of their address, of its user part, or of their name.
    pub agent: Option<Regex>,
    /// Who is a customer, likewise.
    pub customer: Option<Regex>,
    /// What those are whom neither names, in the order of the streams.
    pub order: [Role; 2],
}

impl Default for Siprec {
    /// The customer's stream comes first.
    fn default() -> Self {
        Siprec { agent: None, customer: None, order: [Role::Customer, Role::Agent] }
    }
}

pub(super) fn siprec(mut section: Section<'_>, faults: &Faults) -> Siprec {
    let mut side =
        |key: &'static str| section.text(key).and_then(|w| pattern(&format!("trunk.siprec.{key}"), &w, faults));
    let (agent, customer) = (side("agent"), side("customer"));
    let at = section.place("order");
    let written = section.texts("order").map(|texts| texts.into_iter().map(|w| w.value).collect::<Vec<_>>());
    section.end();
    let order = match written.as_deref().map(|names| names.iter().map(String::as_str).collect::<Vec<_>>()).as_deref() {
        None | Some(["customer", "agent"]) => [Role::Customer, Role::Agent],
        Some(["agent", "customer"]) => [Role::Agent, Role::Customer],
        Some(_) => {
            let remedy = "write [\"customer\", \"agent\"] or [\"agent\", \"customer\"]";
            faults.add(&at, "trunk.siprec.order does not name both sides once", remedy);
            Siprec::default().order
        }
    };
    Siprec { agent, customer, order }
}
