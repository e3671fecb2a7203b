//! What the stack below cannot read or write of digests, mended on the way in and out: it knows neither `SHA-256` nor
//! lists of `qop`, and answers the first of several challenges whatever that asks for.

use crate::io::sip::digest::{self, Challenge};
use rsipstack::sip::{Header, Response, SipMessage};
use rsipstack::transaction::endpoint::MessageInspector;
use rsipstack::transport::SipAddr;

/// Mends.
pub struct Challenges;

impl MessageInspector for Challenges {
    fn before_send(&self, mut message: SipMessage, _to: Option<&SipAddr>) -> SipMessage {
        if let SipMessage::Request(request) = &mut message {
            request.headers.iter_mut().for_each(|header| match header {
                Header::Authorization(value) => *value = digest::from_stack(value.value()).into(),
                Header::ProxyAuthorization(value) => *value = digest::from_stack(value.value()).into(),
                _ => {}
            });
        }
        message
    }

    fn after_received(&self, mut message: SipMessage, _from: Option<&SipAddr>) -> SipMessage {
        if let SipMessage::Response(response) = &mut message
            && matches!(response.status_code.code(), 401 | 407)
        {
            let best = asked(response);
            response.headers.retain(|h| !matches!(h, Header::WwwAuthenticate(_) | Header::ProxyAuthenticate(_)));
            // Where we speak none of them the refusal stands.
            if let Some(challenge) = best {
                response.headers.push(match response.status_code.code() {
                    407 => Header::ProxyAuthenticate(challenge.for_stack().into()),
                    _ => Header::WwwAuthenticate(challenge.for_stack().into()),
                });
            }
        }
        message
    }
}

/// The best challenge of a 401 or 407 that we can answer.
pub fn asked(response: &Response) -> Option<Challenge> {
    let values = response.headers.iter().filter_map(|header| match header {
        Header::WwwAuthenticate(value) => Some(value.value()),
        Header::ProxyAuthenticate(value) => Some(value.value()),
        _ => None,
    });
    // What the stack has been given comes back from it so written.
    let values: Vec<String> = values.map(|v| v.replace("algorithm=SHA256", "algorithm=SHA-256")).collect();
    Challenge::best(values.iter().map(String::as_str))
}
