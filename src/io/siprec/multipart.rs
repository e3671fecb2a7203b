//! Bodies of several parts (RFC 2046 §5.1), as far as SIP has them.
//!
//! In come a Content-Type and the bytes; out come the parts, each with its type. Parts within parts are not opened, and
//! nothing is decoded: SIP carries bodies as they are.

use super::{BodyError, broken};

/// RFC 2046 §5.1.1.
const LONGEST_BOUNDARY: usize = 70;
/// A recording client sends two, perhaps three.
const MOST_PARTS: usize = 16;

/// A part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// Its type and subtype, in lower case.
    pub kind: String,
    /// Whether the body must be refused where the part is not understood (RFC 3204 §5: it must, unless it says otherwise).
    pub required: bool,
    pub body: &'a [u8],
}

/// Type and subtype of a Content-Type, in lower case.
pub(super) fn kind(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The parts of a body, in order.
pub(super) fn parts<'a>(content_type: &str, body: &'a [u8]) -> Result<Vec<Part<'a>>, BodyError> {
    let boundary = boundary(content_type)?;
    let mut parts = Vec::new();
    let mut rest = after_delimiter(body, &boundary).ok_or_else(|| broken("the body has no part of its boundary"))?;
    while let Delimiter::Another(begins) = rest {
        if parts.len() == MOST_PARTS {
            return Err(broken(format!("the body has more than {MOST_PARTS} parts")));
        }
        let (inside, next) =
            split(begins, &boundary).ok_or_else(|| broken("the last part of the body does not end"))?;
        parts.push(part(inside)?);
        rest = next;
    }
    if parts.is_empty() { Err(broken("the body has no part")) } else { Ok(parts) }
}

/// The `boundary` of a Content-Type, quoted or not.
fn boundary(content_type: &str) -> Result<String, BodyError> {
    let parameters = content_type.split_once(';').map_or("", |(_, rest)| rest);
    let lower = parameters.to_ascii_lowercase();
    let named = |at: &usize| {
        lower.get(..*at).is_some_and(|before| before.trim_end().is_empty() || before.trim_end().ends_with(';'))
    };
    let at = lower.match_indices("boundary").map(|(at, _)| at).find(named);
    let value =
        at.and_then(|at| parameters.get(at + "boundary".len()..)).and_then(|v| v.trim_start().strip_prefix('='));
    let value = value.ok_or_else(|| broken("the Content-Type names no boundary"))?.trim_start();
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None => value.split([';', ' ', '\t']).next().unwrap_or_default(),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
    if value.is_empty() || value.len() > LONGEST_BOUNDARY || !value.bytes().all(plain) || value.ends_with(' ') {
        return Err(broken("the boundary of the body is none"));
    }
    Ok(value.to_owned())
}

/// What a delimiter is followed by.
enum Delimiter<'a> {
    Another(&'a [u8]),
    Nothing,
}

/// Looks at a line that begins with two hyphens and the boundary; `None` if it is no delimiter.
fn delimiter<'a>(line: &'a [u8], boundary: &str) -> Option<Delimiter<'a>> {
    let rest = line.strip_prefix(b"--")?.strip_prefix(boundary.as_bytes())?;
    if rest.starts_with(b"--") {
        return Some(Delimiter::Nothing);
    }
    let padding = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let rest = rest.get(padding..).unwrap_or_default();
    rest.strip_prefix(b"\r\n").or(rest.strip_prefix(b"\n")).map(Delimiter::Another)
}

/// The first delimiter: what stands before it is for nobody.
fn after_delimiter<'a>(body: &'a [u8], boundary: &str) -> Option<Delimiter<'a>> {
    delimiter(body, boundary).or_else(|| split(body, boundary).map(|(_, next)| next))
}

/// What stands before the next delimiter, whose line break is a part of it.
fn split<'a>(body: &'a [u8], boundary: &str) -> Option<(&'a [u8], Delimiter<'a>)> {
    // A part may be empty: then the delimiter follows at once.
    if let Some(next) = delimiter(body, boundary) {
        return Some((&[], next));
    }
    body.iter().enumerate().filter(|(_, b)| **b == b'\n').find_map(|(at, _)| {
        let next = delimiter(body.get(at + 1..)?, boundary)?;
        let inside = body.get(..at)?;
        Some((inside.strip_suffix(b"\r").unwrap_or(inside), next))
    })
}

fn part(bytes: &[u8]) -> Result<Part<'_>, BodyError> {
    let (head, body) = head(bytes).ok_or_else(|| broken("a part of the body has no empty line after its headers"))?;
    let head = std::str::from_utf8(head).map_err(|_| broken("the headers of a part are not UTF-8"))?;
    let unfolded = head.replace("\r\n", "\n").replace("\n ", " ").replace("\n\t", " ");
    let header = |name: &str| {
        let lines = unfolded.lines().filter_map(|l| l.split_once(':'));
        lines.filter(|(n, _)| n.trim().eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned()).next()
    };
    let coding = header("content-transfer-encoding").unwrap_or_default().to_ascii_lowercase();
    if !["", "7bit", "8bit", "binary"].contains(&coding.as_str()) {
        return Err(BodyError::Unsupported("a part of the body is encoded: send it as binary".into()));
    }
    let optional = header("content-disposition").is_some_and(|d| {
        let plain: String = d.to_ascii_lowercase().split_whitespace().collect();
        plain.split(';').skip(1).any(|p| p.trim_matches('"') == "handling=optional")
    });
    // RFC 2046 §5.1: a part that does not say is plain text.
    let kind = header("content-type").map_or_else(|| "text/plain".into(), |v| kind(&v));
    Ok(Part { kind, required: !optional, body })
}

/// The headers of a part, and what follows the empty line after them.
fn head(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    for empty in [&b"\r\n"[..], b"\n"] {
        if let Some(body) = bytes.strip_prefix(empty) {
            return Some((&[], body));
        }
    }
    let breaks = |mark: &'static [u8]| bytes.windows(mark.len()).position(|w| w == mark).map(|at| (at, mark.len()));
    let (at, length) = [breaks(b"\r\n\r\n"), breaks(b"\n\n")].into_iter().flatten().min()?;
    Some((bytes.get(..at)?, bytes.get(at + length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(content_type: &str, body: &'a str) -> Vec<(String, bool, &'a str)> {
        let parts = parts(content_type, body.as_bytes()).unwrap();
        parts.into_iter().map(|p| (p.kind, p.required, std::str::from_utf8(p.body).unwrap())).collect()
    }

    #[test]
    fn parts_are_what_stands_between_the_delimiters() {
        let body = "for nobody\r\n--b 1\r\nContent-Type: Application/SDP; x=1\r\n\r\nv=0\r\n\r\n--b 1 \r\ncontent-type :\r\n \
                    a/b\r\nContent-Disposition: x; handling = optional\r\n\r\n--b\r\n--b 12\r\n--b 1\r\n\r\nplain\r\n--b 1--\r\nfor nobody";
        assert_eq!(
            read("multipart/mixed; x=boundary; Boundary = \"b 1\"", body),
            [
                ("application/sdp".into(), true, "v=0\r\n"),
                ("a/b".into(), false, "--b\r\n--b 12"),
                ("text/plain".into(), true, "plain")
            ]
        );
    }

    #[test]
    fn bare_line_feeds_will_do() {
        let body = "--b\nContent-Type: a/b\n\nx\n--b\nContent-Type: c/d\n\n\n--b--";
        assert_eq!(read("multipart/mixed;boundary=b", body), [("a/b".into(), true, "x"), ("c/d".into(), true, "")]);
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        let whole = "--b\r\n\r\nx\r\n--b--";
        for (content_type, body) in [
            ("multipart/mixed", whole),
            ("multipart/mixed;boundary=", whole),
            ("multipart/mixed;boundary=\"\"", whole),
            ("multipart/mixed;xboundary=b", whole),
            ("multipart/mixed;boundary=\"b\u{e9}\"", whole),
            ("multipart/mixed;boundary=c", whole),
            ("multipart/mixed;boundary=b", ""),
            ("multipart/mixed;boundary=b", "--b--"),
            ("multipart/mixed;boundary=b", "--b"),
            ("multipart/mixed;boundary=b", "--b\r\nContent-Type: a/b\r\n--b--"),
            ("multipart/mixed;boundary=b", "--b\r\n\r\nx"),
            ("multipart/mixed;boundary=b", &"--b\r\n\r\nx\r\n".repeat(17)),
            (&format!("multipart/mixed;boundary={}", "b".repeat(71)), whole),
        ] {
            assert!(matches!(parts(content_type, body.as_bytes()), Err(BodyError::Broken(_))), "{content_type} {body}");
        }
    }
}
