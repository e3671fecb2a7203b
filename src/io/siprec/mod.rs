//! What a recording client says of the communication it forks to us (SIPREC, RFC 7865 and 7866), read from bytes.
//!
//! In come the body of an INVITE, re-INVITE or UPDATE and its Content-Type; out come the session description in it and
//! the [`Metadata`]: who takes part, and whose voice is which stream. [`roles`] then says who is the customer and who
//! the agent. Knows no socket, no dialog and no call; every byte is a stranger's.

mod cast;
mod metadata;
mod multipart;
pub(in crate::io) mod xml;

pub use cast::{Speaker, roles};
pub use metadata::{Metadata, NameId, Participant};

/// The media type of metadata (RFC 7866 §6.2).
pub const METADATA: &str = "application/rs-metadata+xml";
/// What a body may be made of, for `Accept`.
pub const ACCEPT: &str = "application/sdp, application/rs-metadata+xml, multipart/mixed";

/// Why a body cannot be used. All of them are the peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It breaks the rules of its own type: answered with 400.
    #[error("{0}")]
    Broken(String),
    /// Something in it that must be understood is not: answered with 415.
    #[error("{0}")]
    Unsupported(String),
}

fn broken(why: impl Into<String>) -> BodyError {
    BodyError::Broken(why.into())
}

/// A body, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body<'a> {
    /// The session description, not yet read.
    pub sdp: Option<&'a [u8]>,
    /// The metadata.
    pub metadata: Option<Metadata>,
}

impl<'a> Body<'a> {
    /// Takes a body of this Content-Type apart. At most one description and one piece of metadata are in it; parts that
    /// say they may be passed over are.
    pub fn read(content_type: &str, bytes: &'a [u8]) -> Result<Body<'a>, BodyError> {
        let mut body = Body::default();
        match multipart::kind(content_type).as_str() {
            "multipart/mixed" => {
                for part in multipart::parts(content_type, bytes)? {
                    body.take(&part.kind, part.body, part.required)?;
                }
            }
            kind => body.take(kind, bytes, true)?,
        }
        Ok(body)
    }

    fn take(&mut self, kind: &str, bytes: &'a [u8], required: bool) -> Result<(), BodyError> {
        match kind {
            "application/sdp" if self.sdp.is_none() => self.sdp = Some(bytes),
            METADATA if self.metadata.is_none() => self.metadata = Some(Metadata::read(bytes)?),
            "application/sdp" | METADATA => return Err(broken(format!("the body holds {kind} more than once"))),
            _ if required => {
                let shown: String = kind.chars().filter(char::is_ascii_graphic).take(60).collect();
                return Err(BodyError::Unsupported(format!("a part of type {shown:?} is not understood here")));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seed::Seed;

    pub const KIND: &str = "multipart/mixed;boundary=foobar";

    fn whole(metadata: &str) -> String {
        format!(
            "--foobar\r\nContent-Type: application/sdp\r\n\r\nv=0\r\ns=-\r\n--foobar\r\nContent-Type: \
             application/rs-metadata+xml\r\nContent-Disposition: recording-session\r\n\r\n{metadata}\r\n--foobar--\r\n"
        )
    }

    #[test]
    fn a_body_of_two_parts_is_both() {
        let text = whole(metadata::tests::COMPLETE);
        let body = Body::read(KIND, text.as_bytes()).unwrap();
        assert_eq!(body.sdp, Some(&b"v=0\r\ns=-"[..]));
        assert_eq!(body.metadata.unwrap().speaker("2").unwrap().names[0].aor, "sip:carol@example.com");
    }

    #[test]
    fn one_alone_needs_no_multipart() {
        assert_eq!(Body::read("Application/SDP; x=y", b"v=0").unwrap().sdp, Some(&b"v=0"[..]));
        let alone = Body::read(METADATA, metadata::tests::COMPLETE.as_bytes()).unwrap();
        assert!(alone.sdp.is_none() && alone.metadata.is_some());
    }

    #[test]
    fn what_is_not_understood_is_told_apart_from_what_is_broken() {
        let part = |head: &str| format!("--foobar\r\n{head}\r\n\r\nx\r\n--foobar--");
        for (text, status) in [
            (part("Content-Type: application/isup"), 415),
            (part("Content-Type: application/isup\r\nContent-Disposition: signal;handling=optional"), 200),
            (part("Content-Type: application/sdp\r\nContent-Transfer-Encoding: base64"), 415),
            (part("Content-Type: application/rs-metadata+xml"), 400),
            ("no part at all".into(), 400),
        ] {
            let answered = match Body::read(KIND, text.as_bytes()) {
                Ok(_) => 200,
                Err(BodyError::Unsupported(_)) => 415,
                Err(BodyError::Broken(_)) => 400,
            };
            assert_eq!(answered, status, "{text}");
        }
        assert!(matches!(Body::read("text/plain", b"hello"), Err(BodyError::Unsupported(_))));
        let twice = "--foobar\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n".repeat(2) + "--foobar--";
        assert!(matches!(Body::read(KIND, twice.as_bytes()), Err(BodyError::Broken(_))));
    }

    /// 40,000 bodies with one to eight bytes changed, cut out, doubled or put in: each is read or refused, none panics,
    /// and what is read keeps to its bounds.
    #[test]
    fn damaged_bodies_are_read_or_refused() {
        let good = whole(metadata::tests::COMPLETE).into_bytes();
        let (mut seed, mut read, mut refused) = (Seed::new(7865), 0, 0);
        for _ in 0..40_000 {
            let mut bytes = good.clone();
            for _ in 0..=seed.below(7) {
                damage(&mut bytes, &mut seed);
            }
            match Body::read(KIND, &bytes) {
                Ok(body) => {
                    read += 1;
                    let metadata = body.metadata.unwrap_or_default();
                    assert!(metadata.size() <= 5 * Metadata::MOST, "{}", metadata.size());
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty() && error.to_string().len() < 400, "{error}");
                }
            }
        }
        assert!(read > 1_000 && refused > 1_000, "both happen: {read} read, {refused} refused");
    }

    fn damage(bytes: &mut Vec<u8>, seed: &mut Seed) {
        let at = seed.below(bytes.len().max(1) as u64) as usize;
        let length = (seed.below(40) as usize).min(bytes.len() - at.min(bytes.len()));
        match seed.below(5) {
            0 if at < bytes.len() => bytes[at] = seed.below(256) as u8,
            1 => drop(bytes.drain(at..at + length)),
            2 => {
                let again = bytes[at..at + length].to_vec();
                bytes.splice(at..at, again);
            }
            3 => bytes.insert(at, b"<>&\"'-/=\r\n"[seed.below(10) as usize]),
            _ => bytes.truncate(bytes.len() - length.min(bytes.len() / 8)),
        }
    }
}
