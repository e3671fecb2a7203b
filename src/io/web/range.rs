//! The part of a file that a client asks for (RFC 9110 §14): what players do to jump.

use axum::http::{HeaderMap, header};
use std::ops::Range;

/// What the request's `Range` comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    /// All of it: nothing else is asked for, or something that need not be understood (other units, several ranges).
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Nothing of what is there: 416.
    Nothing,
}

/// Of a file of `length` bytes. `If-Range` can name no version of ours, for there is none: then it is the whole.
pub(super) fn asked(headers: &HeaderMap, length: u64) -> Asked {
    let mut ranges = headers.get_all(header::RANGE).iter();
    let (Some(range), None, false) = (ranges.next(), ranges.next(), headers.contains_key(header::IF_RANGE)) else {
        return Asked::Whole;
    };
    let part = range.to_str().ok().and_then(|text| text.strip_prefix("bytes=")).and_then(|text| text.split_once('-'));
    let Some((first, last)) = part else { return Asked::Whole };
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(length)),
        (Some(first), None) if last.is_empty() => (first, length),
        (None, Some(last)) if first.is_empty() => (length.saturating_sub(last), length),
        _ => return Asked::Whole,
    };
    if first < last { Asked::Part(first..last) } else { Asked::Nothing }
}

/// Digits alone; more than any file has bytes is the end.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_what_is_none_is_the_whole() {
        let rows = [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=10-19", Asked::Part(10..20)),
            ("bytes=10-1000", Asked::Part(10..100)),
            ("bytes=10-99999999999999999999999", Asked::Part(10..100)),
            ("bytes=10-", Asked::Part(10..100)),
            ("bytes=-10", Asked::Part(90..100)),
            ("bytes=-1000", Asked::Part(0..100)),
            ("bytes=100-", Asked::Nothing),
            ("bytes=100-200", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=20-10", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=", Asked::Whole),
            ("bytes=0-1,5-6", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("seconds=0-1", Asked::Whole),
        ];
        for (text, expected) in rows {
            let headers = HeaderMap::from_iter([(header::RANGE, text.parse().unwrap())]);
            assert_eq!(asked(&headers, 100), expected, "{text}");
        }
        assert_eq!(asked(&HeaderMap::new(), 100), Asked::Whole);
        let both = [(header::RANGE, "bytes=0-1"), (header::IF_RANGE, "\"x\"")].map(|(n, v)| (n, v.parse().unwrap()));
        assert_eq!(asked(&HeaderMap::from_iter(both), 100), Asked::Whole);
        assert_eq!(asked(&HeaderMap::from_iter([(header::RANGE, "bytes=0-".parse().unwrap())]), 0), Asked::Nothing);
    }
}
