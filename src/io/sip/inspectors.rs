//! The stack asks one inspector; we have several.

use crate::io::sip::challenges::Challenges;
use crate::io::sip::cloakroom::Cloakroom;
use crate::io::sip::reliable::Hide;
use rsipstack::sip::SipMessage;
use rsipstack::transaction::endpoint::MessageInspector;
use rsipstack::transport::SipAddr;

/// Each sees what the one before it has made of a message, either way.
pub struct Inspectors(Vec<Box<dyn MessageInspector>>);

impl Inspectors {
    /// All that there are; long bodies wait in `bodies`.
    pub fn new(bodies: Cloakroom) -> Self {
        Inspectors(vec![Box::new(bodies), Box::new(Challenges), Box::new(Hide)])
    }
}

impl MessageInspector for Inspectors {
    fn before_send(&self, message: SipMessage, to: Option<&SipAddr>) -> SipMessage {
        self.0.iter().fold(message, |message, inspector| inspector.before_send(message, to))
    }

    fn after_received(&self, message: SipMessage, from: Option<&SipAddr>) -> SipMessage {
        self.0.iter().fold(message, |message, inspector| inspector.after_received(message, from))
    }
}
