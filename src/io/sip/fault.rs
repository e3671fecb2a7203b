//! An answer given outside of a dialog, nearly always a refusal: a status, a reason a person can act on, and the
//! headers that go with it.

use crate::call::sdp::SdpError;
use rsipstack::sip::{Header, StatusCode};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// 400–699 (RFC 3261 §21); 200 only for OPTIONS outside of a call.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// Further headers, name and value.
    pub headers: Vec<(&'static str, String)>,
}

impl Fault {
    /// A refusal without further headers.
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        // The phrase stands in the status line: one line of printable text.
        let reason: String = reason.into().chars().filter(|c| !c.is_control()).take(200).collect();
        Fault { status, reason, headers: Vec::new() }
    }

    /// The request is malformed.
    pub fn bad(reason: impl Into<String>) -> Self {
        Fault::new(400, reason)
    }

    /// With another header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The status with its phrase, for the stack.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::Other(self.status, self.reason.clone())
    }

    /// The headers, for the stack.
    pub fn stack_headers(&self) -> Vec<Header> {
        self.headers.iter().map(|(n, v)| Header::Other((*n).into(), v.clone())).collect()
    }
}

/// Unknown codecs become 488 with a Warning that says what is spoken here (RFC 3261 §20.43), broken text becomes 400.
impl From<SdpError> for Fault {
    fn from(error: SdpError) -> Self {
        match &error {
            SdpError::Broken(_) => Fault::bad(error.to_string()),
            SdpError::NotAcceptable(_) => {
                Fault::new(488, "Not Acceptable Here").with("Warning", format!("305 sotto \"{error}\""))
            }
        }
    }
}
