//! Keys in session descriptions (RFC 4568): `a=crypto` read and written, and what is agreed on with a peer about them.
//!
//! Nothing here encrypts: keys come in as text or as the shell's random octets, and go out to whoever protects packets
//! (`io/srtp`). No key is ever shown by `Debug` or kept by the journal.

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose::STANDARD};
use sdp_types::Media;
use std::fmt;

/// Some telephones leave the padding away.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether media with a peer is to be protected by SRTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Srtp {
    /// Never: only plain RTP is offered and taken.
    Off,
    /// Taken where the peer offers it; what we offer is plain.
    #[default]
    Optional,
    /// Always: what we offer is protected, and plain RTP is refused.
    Required,
}

/// How packets are protected: a crypto suite of RFC 4568 §6.2 or RFC 7714 §14.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// `AEAD_AES_256_GCM`.
    Gcm256,
    /// `AEAD_AES_128_GCM`.
    Gcm128,
    /// `AES_CM_128_HMAC_SHA1_80`, which everybody has.
    Counter80,
    /// `AES_CM_128_HMAC_SHA1_32`: the same with shorter tags on RTP.
    Counter32,
}

impl Suite {
    /// All of them, in the order we offer them: the strongest first.
    pub const ALL: [Suite; 4] = [Suite::Gcm256, Suite::Gcm128, Suite::Counter80, Suite::Counter32];

    /// Its name in `a=crypto`.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Gcm256 => "AEAD_AES_256_GCM",
            Suite::Gcm128 => "AEAD_AES_128_GCM",
            Suite::Counter80 => "AES_CM_128_HMAC_SHA1_80",
            Suite::Counter32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// Octets of its master key, and of the master salt after it.
    pub fn lengths(self) -> (usize, usize) {
        match self {
            Suite::Gcm256 => (32, 12),
            Suite::Gcm128 => (16, 12),
            Suite::Counter80 | Suite::Counter32 => (16, 14),
        }
    }

    fn named(name: &str) -> Option<Suite> {
        Suite::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Its place in [`Suite::ALL`].
    fn place(self) -> usize {
        self as usize
    }
}

/// A master key with its salt. Shown by nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MasterKey {
    suite: Suite,
    /// Zero beyond what the suite has.
    octets: [u8; MasterKey::MOST],
}

impl MasterKey {
    /// Octets of the longest key and salt.
    pub const MOST: usize = 44;

    /// Takes as many octets as the suite needs.
    pub fn new(suite: Suite, octets: [u8; MasterKey::MOST]) -> Self {
        let (key, salt) = suite.lengths();
        let mut kept = [0; MasterKey::MOST];
        kept.iter_mut().zip(octets).take(key + salt).for_each(|(to, from)| *to = from);
        MasterKey { suite, octets: kept }
    }

    /// What it is for.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The key, and the salt.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        let (key, salt) = self.suite.lengths();
        let (key, rest) = self.octets.split_at(key);
        (key, rest.split_at(salt).0)
    }

    /// `inline:` with one key and nothing but a lifetime beside it (RFC 4568 §6.1). Keys for lifetimes of packets are not
    /// counted here: the shortest a peer may ask for outlasts a call. A master key identifier is not understood.
    fn read(suite: Suite, parameters: &str) -> Option<MasterKey> {
        let (method, rest) = parameters.split_once(':')?;
        let mut parts = rest.split('|');
        let text = parts.next()?;
        if !method.eq_ignore_ascii_case("inline") || parts.any(|part| part.contains(':')) || rest.contains(';') {
            return None;
        }
        // A little more room than the longest key takes: the decoder reckons in whole groups.
        let mut octets = [0; MasterKey::MOST + 4];
        let length = LENIENT.decode_slice(text, &mut octets).ok()?;
        let (key, salt) = suite.lengths();
        (length == key + salt).then(|| MasterKey::new(suite, *octets.first_chunk().expect("it is longer")))
    }

    fn write(&self) -> String {
        let (key, salt) = self.parts();
        STANDARD.encode([key, salt].concat())
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<key for {}>", self.suite.name())
    }
}

/// One key of our own for each suite: an offer carries them all, an answer the one it takes, and every later offer and
/// answer the same again while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyring([MasterKey; Suite::ALL.len()]);

impl Keyring {
    /// `random` gives octets that nobody can guess, others each time.
    pub fn new(mut random: impl FnMut() -> [u8; MasterKey::MOST]) -> Self {
        Keyring(Suite::ALL.map(|suite| MasterKey::new(suite, random())))
    }

    /// The key for a suite.
    pub fn key(&self, suite: Suite) -> MasterKey {
        self.0[suite.place()]
    }

    /// Another key for a suite.
    pub(super) fn replace(&mut self, suite: Suite, random: [u8; MasterKey::MOST]) {
        if let Some(key) = self.0.get_mut(suite.place()) {
            *key = MasterKey::new(suite, random);
        }
    }

    /// What an offer says of them: a tag for each, from 1.
    pub(super) fn offered(&self) -> Vec<Crypto> {
        self.0.into_iter().zip(1..).map(|(key, tag)| Crypto { tag, key }).collect()
    }
}

/// The keys of a leg, for whoever protects its packets. Both are for the same suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// For what we send.
    pub ours: MasterKey,
    /// For what the peer sends.
    pub theirs: MasterKey,
}

/// One `a=crypto` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crypto {
    /// Names the line in offer and answer (RFC 4568 §4.1).
    pub tag: u32,
    pub key: MasterKey,
}

impl Crypto {
    /// `tag suite key-parameters [session-parameters]`; `None` if it is not to be used here.
    fn read(value: &str) -> Option<Crypto> {
        let mut fields = value.split_ascii_whitespace();
        let tag = fields.next().filter(|tag| tag.len() <= 9 && tag.bytes().all(|b| b.is_ascii_digit()))?;
        let suite = Suite::named(fields.next()?)?;
        let key = MasterKey::read(suite, fields.next()?)?;
        // RFC 4568 §6.3: what changes the protection must be understood. A window's size is a hint, and a parameter
        // after a minus sign (§6.3.7) may be ignored.
        let harmless = |field: &str| field.starts_with('-') || field.to_ascii_uppercase().starts_with("WSH=");
        fields.all(harmless).then_some(Crypto { tag: tag.parse().ok()?, key })
    }

    /// The line.
    pub fn line(&self) -> String {
        format!("a=crypto:{} {} inline:{}\r\n", self.tag, self.key.suite.name(), self.key.write())
    }
}

fn lines(media: &Media) -> impl Iterator<Item = &str> {
    let crypto = media.attributes.iter().filter(|a| a.attribute.eq_ignore_ascii_case("crypto"));
    crypto.filter_map(|a| a.value.as_deref())
}

/// The first line of a media description that can be used: the peer's order is its preference (RFC 4568 §5.1.2).
pub(super) fn usable(media: &Media) -> Option<Crypto> {
    lines(media).find_map(Crypto::read)
}

/// The suites it names, for the person who reads the refusal.
pub(super) fn named(media: &Media) -> Vec<&str> {
    lines(media).filter_map(|line| line.split_ascii_whitespace().nth(1)).take(4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key of RFC 4568's examples.
    const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

    #[test]
    fn lines_are_read_as_peers_write_them() {
        let gcm = STANDARD.encode([7; 28]);
        for (line, read) in [
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"), Some((1, Suite::Counter80))),
            (format!("2 aes_cm_128_hmac_sha1_32 INLINE:{KEY}|2^20"), Some((2, Suite::Counter32))),
            (
                format!("999999999 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1048576 WSH=64 -X"),
                Some((999_999_999, Suite::Counter80)),
            ),
            (format!("7 AEAD_AES_128_GCM inline:{gcm}"), Some((7, Suite::Gcm128))),
            (format!("7 AEAD_AES_128_GCM inline:{}", gcm.trim_end_matches('=')), Some((7, Suite::Gcm128))),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4"), None),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}"), None),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP"), None),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=1"), None),
            (format!("1 AES_CM_128_HMAC_SHA1_80 prompt:{KEY}"), None),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{gcm}"), None),
            (format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"), None),
            (format!("+1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"), None),
            (format!("1234567890 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"), None),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:".into(), None),
            ("1 AES_CM_128_HMAC_SHA1_80".into(), None),
            (String::new(), None),
            (format!("1 AEAD_AES_256_GCM inline:{}", "A".repeat(5_000)), None),
        ] {
            assert_eq!(Crypto::read(&line).map(|c| (c.tag, c.key.suite())), read, "{line}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let ring = Keyring::new(|| std::array::from_fn(|n| n as u8 + 1));
        for crypto in ring.offered() {
            let line = crypto.line();
            assert_eq!(Crypto::read(line.trim_start_matches("a=crypto:").trim_end()), Some(crypto));
            let (key, salt) = crypto.key.parts();
            assert_eq!((key.len(), salt.len()), crypto.key.suite().lengths());
            assert_eq!(ring.key(crypto.key.suite()), crypto.key);
        }
    }

    #[test]
    fn no_key_is_shown() {
        let ring = Keyring::new(|| [0xAB; MasterKey::MOST]);
        let keys = Keys { ours: ring.key(Suite::Gcm128), theirs: ring.key(Suite::Gcm128) };
        let shown = format!("{ring:?} {keys:?} {:?}", ring.offered());
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("abab") && !shown.contains("q6ur"), "{shown}");
        assert!(shown.contains("<key for AEAD_AES_256_GCM>"));
    }
}
