//! What must not leave in a copy is written over with asterisks, of the same length, so that the copy stays a sound message.
//!
//! Masked are: the values of Authorization and Proxy-Authorization (what proves somebody is theirs), the keys of SDES
//! (`a=crypto`, RFC 4568, everything after `inline:`) and of `k=` (RFC 4566 §5.12), and bodies of the kinds that carry keys
//! pressed (`application/dtmf-relay`, `application/dtmf`): a PIN is one. Everything else is as it was.

/// Headers whose values are masked.
const HEADERS: [&[u8]; 2] = [b"authorization", b"proxy-authorization"];
/// What stands in the place of a secret.
const STAR: u8 = b'*';

/// Masks a message where it lies.
pub fn mask(message: &mut [u8]) {
    let end = message.windows(4).position(|w| w == b"\r\n\r\n").map_or(message.len(), |at| at.saturating_add(4));
    let (head, body) = message.split_at_mut(end);
    let (mut secret, mut pressed) = (false, false);
    for line in head.split_mut(|b| *b == b'\n') {
        if line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
            // It goes on with the header before (RFC 3261 §7.3.1).
            if secret {
                hide(line);
            }
            continue;
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let (name, value) = line.split_at_mut(colon);
        let name = name.trim_ascii();
        secret = HEADERS.iter().any(|header| name.eq_ignore_ascii_case(header));
        if secret {
            hide(value.get_mut(1..).unwrap_or_default());
        }
        if name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"c") {
            pressed = value.to_ascii_lowercase().windows(16).any(|w| w == b"application/dtmf");
        }
    }
    if pressed {
        return hide(body);
    }
    for line in body.split_mut(|b| *b == b'\n') {
        if line.starts_with(b"k=") {
            hide(line.get_mut(2..).unwrap_or_default());
        } else if line.starts_with(b"a=crypto:") {
            keys(line);
        }
    }
}

/// Everything but what separates words and lines.
fn hide(text: &mut [u8]) {
    text.iter_mut().filter(|b| !b.is_ascii_whitespace()).for_each(|b| *b = STAR);
}

/// Of each `inline:` what follows, up to the next.
fn keys(line: &mut [u8]) {
    const INLINE: &[u8] = b"inline:";
    let mut rest = line;
    while let Some(at) = rest.windows(INLINE.len()).position(|w| w.eq_ignore_ascii_case(INLINE)) {
        let (_, from) = std::mem::take(&mut rest).split_at_mut(at.saturating_add(INLINE.len()));
        let end = from.iter().position(|b| *b == b';' || b.is_ascii_whitespace()).unwrap_or(from.len());
        let (key, after) = from.split_at_mut(end);
        hide(key);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        mask(&mut bytes);
        assert_eq!(bytes.len(), text.len());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn proofs_and_keys_are_hidden_and_nothing_else() {
        let message = |proof: &str, key: &str| {
            format!(
                "INVITE sip:1@h SIP/2.0\r\nVia: SIP/2.0/TLS h\r\nAUTHORIZATION : {proof}\r\nCall-ID: a\r\n\
                 Proxy-Authorization:{proof}\r\n {proof}\r\nSubject: k=1 inline:visible\r\n\
                 Content-Type: application/sdp\r\n\r\nv=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key};inline:{key} KDR=1\r\n\
                 k={key}\r\na=rtpmap:0 PCMU/8000\r\n"
            )
        };
        assert_eq!(masked(&message("Digest_x", "abcd|2^20|1:4")), message("********", "*************"));
    }

    #[test]
    fn keys_that_were_pressed_are_hidden() {
        let message = |body: &str| format!("INFO sip:1@h SIP/2.0\r\nc: application/dtmf-relay;x\r\n\r\n{body}");
        assert_eq!(masked(&message("Signal=5\r\nDuration=160\r\n")), message("********\r\n************\r\n"));
        let other = "INFO sip:1@h SIP/2.0\r\nContent-Type: text/plain\r\n\r\nSignal=5\r\n";
        assert_eq!(masked(other), other);
    }

    #[test]
    fn whatever_comes_stays_as_long() {
        for text in
            ["", ":", "\r\n\r\n", "a=crypto:1 inline:", "x\r\n\r\na=crypto:inline:inline:;inline:", "Authorization:"]
        {
            masked(text);
        }
    }
}
