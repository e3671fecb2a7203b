//! The names of things. Every id is unique where it is used and never used again.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// One supervised conversation. A UUIDv7 (RFC 9562 §5.7) whose random part begins with the node and the epoch in
/// which the call was made, so that any node can tell where a call lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(Uuid);

impl CallId {
    /// `unix_ms`: wall clock in milliseconds; `node` and `epoch`: of the server that makes the call; `random`: a seed.
    pub fn new(unix_ms: u64, node: u16, epoch: u16, random: u64) -> Self {
        let mut tail = [0u8; 10];
        tail[..2].copy_from_slice(&(random as u16).to_be_bytes());
        // The first byte of the variant half loses two bits to the variant, so node and epoch start after it.
        tail[2] = (random >> 16) as u8;
        tail[3..5].copy_from_slice(&node.to_be_bytes());
        tail[5..7].copy_from_slice(&epoch.to_be_bytes());
        tail[7..].copy_from_slice(&(random >> 24).to_be_bytes()[5..]);
        CallId(uuid::Builder::from_unix_timestamp_millis(unix_ms, &tail).into_uuid())
    }

    /// The node that made the call.
    pub fn node(self) -> u16 {
        let b = self.0.as_bytes();
        u16::from_be_bytes([b[9], b[10]])
    }

    /// The epoch of that node in which the call was made.
    pub fn epoch(self) -> u16 {
        let b = self.0.as_bytes();
        u16::from_be_bytes([b[11], b[12]])
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl FromStr for CallId {
    type Err = uuid::Error;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(s).map(CallId)
    }
}

macro_rules! counted {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = UnknownId;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.strip_prefix($prefix).and_then(|n| n.parse().ok()).map($name).ok_or_else(|| UnknownId(s.into()))
            }
        }
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

counted! {
    /// A leg of one call, written `leg-1`.
    LegId = "leg-";
    /// A clip of one call, written `clip-1`.
    ClipId = "clip-";
    /// An utterance of one call, written `utt-1`.
    UtteranceId = "utt-";
    /// A moment of one call, written `moment-1`.
    MomentId = "moment-";
    /// A prompt of one call, written `prompt-1`.
    PromptId = "prompt-";
}

/// What a call is called on the phone: five digits, unlike those of every other call that is alive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CallCode(u32);

impl CallCode {
    /// One of the 90,000 there are: 10000 to 99999. `random`: a seed.
    pub fn new(random: u64) -> Self {
        CallCode(10_000 + (random % 90_000) as u32)
    }
}

impl fmt::Display for CallCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl FromStr for CallCode {
    type Err = UnknownId;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let digits = Some(s).filter(|s| s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit()) && !s.starts_with('0'));
        digits.and_then(|s| s.parse().ok()).map(CallCode).ok_or_else(|| UnknownId(s.into()))
    }
}
impl Serialize for CallCode {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for CallCode {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is no id of the kind asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an id of this kind")]
pub struct UnknownId(String);

/// One business; nothing crosses from one to another.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tenant(pub std::sync::Arc<str>);

impl Default for Tenant {
    fn default() -> Self {
        Tenant("default".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_id_carries_its_node_and_epoch() {
        let id = CallId::new(1_790_000_000_000, 0xBEEF, 0x1234, u64::MAX);
        assert_eq!((id.node(), id.epoch()), (0xBEEF, 0x1234));
        assert_eq!(id.to_string().parse::<CallId>().unwrap(), id);
        assert_eq!(id.to_string().as_bytes()[14], b'7');
    }

    #[test]
    fn counted_ids_read_what_they_write() {
        assert_eq!("leg-7".parse::<LegId>().unwrap(), LegId(7));
        assert!("clip-7".parse::<LegId>().is_err());
    }

    #[test]
    fn a_code_is_five_digits_whatever_the_seed() {
        for seed in [0, 1, 89_999, 90_000, u64::MAX] {
            let code = CallCode::new(seed);
            assert_eq!(code.to_string().len(), 5, "{seed}");
            assert_eq!(code.to_string().parse::<CallCode>().unwrap(), code);
        }
        for text in ["", "1234", "01234", "123456", "1234x", "+1234"] {
            assert!(text.parse::<CallCode>().is_err(), "{text}");
        }
    }
}
