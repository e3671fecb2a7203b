//! A REFER (RFC 3515): whom the other party is to talk to instead, and whether who asks wants to be told of it.

use crate::io::sip::fault::Fault;
use crate::io::sip::message::split_list;
use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::{Header, Request, Uri};
use tokio::sync::oneshot;

/// The extension that asks for no news (RFC 4488).
pub const QUIET: &str = "norefersub";

/// What is asked for.
pub struct Refer {
    /// Whom to call.
    pub to: Uri,
    /// The dialog whose place is to be taken there (RFC 3891), as the header has it.
    pub replaces: Option<String>,
    /// Who says that they refer (RFC 3892), as the header has it.
    pub by: Option<String>,
    /// Whether no news are wanted.
    pub quiet: bool,
    /// The number of the request.
    pub cseq: u32,
    /// Resolved when its 202 is on its way.
    pub accepted: oneshot::Receiver<()>,
}

impl Refer {
    /// Reads a request; `accepted` tells when it is answered.
    pub fn read(request: &Request, accepted: oneshot::Receiver<()>) -> Result<Refer, Fault> {
        let values = |wanted: fn(&Header) -> Option<&str>| request.headers.iter().filter_map(wanted);
        let mut to = values(|h| if let Header::ReferTo(to) = h { Some(to.value()) } else { None });
        let by = values(|h| if let Header::ReferredBy(by) = h { Some(by.value()) } else { None }).next();
        // RFC 3515 §2.4.1: exactly one.
        let (Some(one), None) = (to.next(), to.next()) else {
            return Err(Fault::bad("a REFER has one Refer-To"));
        };
        let (to, replaces) = target(one)?;
        let sub = |h: &Header| matches!(h, Header::Other(name, value) if name.eq_ignore_ascii_case("refer-sub") && is_false(value));
        let cseq = request.cseq_header().and_then(|c| c.seq()).unwrap_or(0);
        let quiet = request.headers.iter().any(sub);
        Ok(Refer { to, replaces, by: by.map(str::to_owned), quiet, cseq, accepted })
    }
}

fn is_false(value: &str) -> bool {
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("false")
}

/// The address and, of the headers that its INVITE is to have (RFC 3261 §19.1.1), the one we know.
fn target(value: &str) -> Result<(Uri, Option<String>), Fault> {
    let unread = || Fault::bad("Refer-To cannot be read");
    let [value] = split_list(value)[..] else { return Err(Fault::bad("a REFER has one Refer-To")) };
    let address = match value.split_once('<') {
        Some((_, rest)) => rest.split_once('>').ok_or_else(unread)?.0,
        // RFC 3515 §2.1: without brackets what follows are parameters of the header.
        None => value.split(';').next().unwrap_or_default(),
    };
    let (address, headers) = address.trim().split_once('?').unwrap_or((address.trim(), ""));
    if !address.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sip:")) {
        return Err(Fault::new(416, "only sip: addresses are called here"));
    }
    let calls = |p: &str| {
        p.split_once('=').is_none_or(|(n, v)| !n.eq_ignore_ascii_case("method") || v.eq_ignore_ascii_case("INVITE"))
    };
    if !address.split(';').skip(1).all(calls) {
        return Err(Fault::new(403, "only calls are made here"));
    }
    let replaces = headers
        .split('&')
        .filter_map(|header| header.split_once('='))
        .find(|(n, _)| n.eq_ignore_ascii_case("replaces"));
    let replaces = replaces.map(|(_, value)| unescaped(value).ok_or_else(unread)).transpose()?;
    Ok((Uri::try_from(address).map_err(|_| unread())?, replaces))
}

/// RFC 3261 §25.1 `escaped`; nothing that could end a header line.
fn unescaped(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            plain => plain,
        };
        bytes.push(Some(byte).filter(|b| !b.is_ascii_control())?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refer_to_is_read_as_telephones_write_it() {
        let dialog = "a@b;to-tag=1;from-tag=2";
        for (value, to, replaces) in [
            ("<sip:1002@pbx>", "sip:1002@pbx", None),
            ("sip:1002@pbx", "sip:1002@pbx", None),
            ("sip:1002@pbx;x=y", "sip:1002@pbx", None),
            ("\"Anna, B\" <sip:1002@pbx:5070;transport=tcp>;x", "sip:1002@pbx:5070;transport=TCP", None),
            ("<sip:1002@pbx;method=INVITE>", "sip:1002@pbx;method=INVITE", None),
            ("<sip:1@pbx?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>", "sip:1@pbx", Some(dialog)),
            ("<sip:1@pbx?Require=replaces&replaces=a%40b%3bto-tag%3d1%3Bfrom-tag%3D2>", "sip:1@pbx", Some(dialog)),
        ] {
            let (uri, named) = target(value).unwrap();
            assert_eq!((uri.to_string().as_str(), named.as_deref()), (to, replaces), "{value}");
        }
        for (value, status) in [
            ("<tel:+4930>", 416),
            ("<https://x>", 416),
            ("", 416),
            ("<sip:1@a>, <sip:2@a>", 400),
            ("<sip:1@a", 400),
            ("<sip:1@a;method=BYE>", 403),
            ("<sip:1@a?Replaces=x%0D%0AVia:y>", 400),
            ("<sip:1@a?Replaces=x%4>", 400),
            ("<sip:1@a?Replaces=%ff>", 400),
        ] {
            assert_eq!(target(value).map_err(|fault| fault.status).map(drop), Err(status), "{value}");
        }
    }
}
