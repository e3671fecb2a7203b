//! What a recording client (SRC, RFC 7866) asks for: its INVITE told from others, and the bodies of its requests.

use crate::call::sdp::{Streams, Terms};
use crate::config::{Siprec, Trunk};
use crate::event::{Address, Role};
use crate::io::sip::admission::content_type;
use crate::io::sip::fault::Fault;
use crate::io::sip::message::split_list;
use crate::io::siprec::{ACCEPT, Body, BodyError, METADATA, Metadata};
use rsipstack::sip::typed::Contact;
use rsipstack::sip::uri::{OtherParam, Param};
use rsipstack::sip::{Header, Method, Request, Uri};

/// The option tag that makes an INVITE a recording session (RFC 7866 §12.1).
pub const OPTION: &str = "siprec";
/// What asks a client for its metadata.
const REQUEST: &str = "application/rs-metadata-request";
/// The client's feature tag (RFC 7866 §12.2).
const CLIENT: &str = "+sip.src";
/// Ours.
const SERVER: &str = "+sip.srs";

/// A recording session that may begin.
#[derive(Debug)]
pub struct Opening {
    /// Whose: sessions of one communication are joined within a trunk.
    pub trunk: String,
    /// Who of the participants is what.
    pub rules: Siprec,
    /// What is sent.
    pub streams: Streams,
    /// Who sends it, where that is known already.
    pub metadata: Option<Metadata>,
    /// Whether the client can be asked who that is (RFC 7866 §8).
    pub can_be_asked: bool,
    /// Whose line it is, where a route says so and no metadata is awaited.
    pub one: Option<One>,
}

/// A line that is one party's, by the word of a route.
#[derive(Clone, Debug)]
pub struct One {
    /// Whose.
    pub role: Role,
    /// What they are called.
    pub address: Address,
    /// The name of the call.
    pub of: String,
}

/// What changes in a recording session.
#[derive(Debug)]
pub struct Update {
    /// What is sent from now on, if that was said.
    pub streams: Option<Streams>,
    /// Who sends it, likewise.
    pub metadata: Option<Metadata>,
    /// Whether an offer of ours is asked for: a re-INVITE without one (RFC 3261 §14.1).
    pub wants_offer: bool,
}

/// Whether an INVITE asks for a recording session: it requires the extension, comes from a recording client, or carries
/// metadata.
pub fn is_wanted(request: &Request) -> bool {
    let required = |value: &str| value.split(',').any(|tag| tag.trim().eq_ignore_ascii_case(OPTION));
    let is_client = |value: &str| {
        let parameters = split_list(value).into_iter().flat_map(|c| c.split(';').skip(1)).map(|p| p.trim().to_owned());
        parameters.into_iter().any(|p| p.split('=').next().is_some_and(|n| n.trim().eq_ignore_ascii_case(CLIENT)))
    };
    let by_header = request.headers.iter().any(|header| match header {
        Header::Require(require) => required(require.value()),
        Header::Contact(contact) => is_client(contact.value()),
        _ => false,
    });
    let mark = METADATA.as_bytes();
    let kind = content_type(request).ok().flatten().is_some_and(|kind| kind.to_ascii_lowercase().contains(METADATA));
    by_header || kind || request.body.windows(mark.len()).any(|w| w.eq_ignore_ascii_case(mark))
}

/// Reads the INVITE of a recording session.
pub fn opening(trunk: &Trunk, request: &Request, terms: Terms) -> Result<Opening, Fault> {
    let update = update(request, terms)?;
    let streams = update.streams.filter(|streams| !streams.each.is_empty());
    let streams = streams
        .ok_or_else(|| Fault::new(488, "a recording session needs an offer with an audio line for each participant"))?;
    let asked = |header: &Header| matches!(header, Header::Accept(kinds) if kinds.value().to_ascii_lowercase().contains(REQUEST));
    Ok(Opening {
        trunk: trunk.name.clone(),
        rules: trunk.siprec.clone(),
        streams,
        metadata: update.metadata,
        can_be_asked: request.headers.iter().any(asked),
        one: None,
    })
}

/// Asks for all of the metadata (RFC 7866 §8): the headers and the body of an UPDATE.
pub fn question() -> (Vec<Header>, Vec<u8>) {
    let headers = vec![
        Header::ContentType(REQUEST.into()),
        Header::Other("Content-Disposition".into(), "recording-session".into()),
    ];
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
                <requestsnapshot xmlns=\"urn:ietf:params:xml:ns:recording:1\">\
                <requestreason xml:lang=\"en\">a stream has a label that names nobody</requestreason></requestsnapshot>\r\n";
    (headers, body.into())
}

/// Reads a request of a recording session.
pub fn update(request: &Request, terms: Terms) -> Result<Update, Fault> {
    let body = body(request)?;
    let streams = body.sdp.map(|sdp| Streams::read(sdp, terms)).transpose()?;
    let wants_offer = streams.is_none() && request.method == Method::Invite;
    Ok(Update { streams, metadata: body.metadata, wants_offer })
}

/// Whether a request carries an offer.
pub fn offers(request: &Request) -> bool {
    body(request).is_ok_and(|body| body.sdp.is_some())
}

fn body(request: &Request) -> Result<Body<'_>, Fault> {
    match content_type(request)? {
        Some(kind) => Ok(Body::read(&kind, &request.body)?),
        None => Ok(Body::default()),
    }
}

/// Our Contact, which says what we are (RFC 7866 §6.1).
pub fn contact(uri: Uri) -> Header {
    let mut contact = Contact::from(uri);
    contact.params.push(Param::Other(OtherParam::new(SERVER), None));
    contact.into()
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        match &error {
            BodyError::Broken(_) => Fault::bad(error.to_string()),
            BodyError::Unsupported(_) => Fault::new(415, error.to_string()).with("Accept", ACCEPT),
        }
    }
}
