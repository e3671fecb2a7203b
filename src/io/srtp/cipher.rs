//! The transforms of SRTP: AES in counter mode with HMAC-SHA1 (RFC 3711 §4), and AES-GCM (RFC 7714). In come the parts of
//! a packet, out comes the same changed in place, and its tag. Knows nothing of numbers and streams.

use crate::call::sdp::{MasterKey, Suite};
use aes::{Aes128, Aes256};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use ctr::cipher::{BlockCipherEncrypt, BlockSizeUser, InnerIvInit, KeyInit, StreamCipherCore, consts::U16};
use ctr::{CtrCore, flavors::Ctr128BE};
use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Octets of the longest tag.
pub(super) const TAG: usize = 16;
/// Octets of the key that authenticates (RFC 3711 §5.2).
const AUTH_KEY: usize = 20;

/// What kind of packets: each has its own keys (RFC 3711 §4.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rtp,
    Rtcp,
}

/// What makes the protection of a packet another than that of every other under the same key.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub ssrc: u32,
    /// Its full number: 48 bits of RTP, 31 of RTCP.
    pub index: u64,
    /// What is authenticated beside the packet: the rollover counter of RTP, the index word of RTCP.
    pub more: [u8; 4],
}

/// What protects one kind of packets in one direction.
pub(super) struct Cipher {
    kind: Kind,
    salt: u128,
    algorithm: Algorithm,
}

enum Algorithm {
    Counter { aes: Box<Aes128>, mac: Box<Hmac<Sha1>>, tag: usize },
    Gcm128(Box<Aes128Gcm>),
    Gcm256(Box<Aes256Gcm>),
}

impl Cipher {
    /// Derives the session's keys (RFC 3711 §4.3.1; the rate of derivation is 0).
    pub fn new(master: &MasterKey, kind: Kind) -> Cipher {
        let (mut key, mut auth, mut salt) = ([0; 32], [0; AUTH_KEY], [0; 14]);
        let (key_length, salt_length) = master.suite().lengths();
        let first = match kind {
            Kind::Rtp => 0,
            Kind::Rtcp => 3,
        };
        let (key, salt) = (&mut key[..key_length], &mut salt[..salt_length]);
        for (label, out) in (first..).zip([&mut *key, &mut auth, &mut *salt]) {
            derive(master, label, out);
        }
        Cipher::of(master.suite(), kind, key, &auth, salt)
    }

    /// From the session's keys. Their lengths are the suite's.
    fn of(suite: Suite, kind: Kind, key: &[u8], auth: &[u8; AUTH_KEY], salt: &[u8]) -> Cipher {
        let counter = |tag| {
            let aes = Box::new(Aes128::new_from_slice(key).expect(LENGTHS));
            let mac = Box::new(<Hmac<Sha1> as KeyInit>::new_from_slice(auth).expect(LENGTHS));
            Algorithm::Counter { aes, mac, tag }
        };
        let algorithm = match (suite, kind) {
            // The short tag is RTP's alone (RFC 4568 §6.2.2).
            (Suite::Counter32, Kind::Rtp) => counter(4),
            (Suite::Counter80, _) | (Suite::Counter32, Kind::Rtcp) => counter(10),
            (Suite::Gcm128, _) => Algorithm::Gcm128(Box::new(Aes128Gcm::new_from_slice(key).expect(LENGTHS))),
            (Suite::Gcm256, _) => Algorithm::Gcm256(Box::new(Aes256Gcm::new_from_slice(key).expect(LENGTHS))),
        };
        Cipher { kind, salt: number(salt), algorithm }
    }

    /// Octets of a tag.
    pub fn tag(&self) -> usize {
        match self.algorithm {
            Algorithm::Counter { tag, .. } => tag,
            Algorithm::Gcm128(_) | Algorithm::Gcm256(_) => TAG,
        }
    }

    /// Whether the tag of a report stands behind its index.
    pub fn tag_is_last(&self) -> bool {
        match self.algorithm {
            Algorithm::Counter { .. } => true,
            Algorithm::Gcm128(_) | Algorithm::Gcm256(_) => false,
        }
    }

    /// Encrypts `body` and writes the tag of all of it. `tag` is as long as [`Self::tag`] says.
    pub fn seal(&self, place: Place, head: &[u8], body: &mut [u8], tag: &mut [u8]) -> Option<()> {
        match &self.algorithm {
            Algorithm::Counter { aes, mac, .. } => {
                keystream(aes.as_ref(), self.number(place) << 16, body);
                let whole = authenticated(mac, place, head, body).finalize().into_bytes();
                tag.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
                Some(())
            }
            Algorithm::Gcm128(gcm) => self.seal_gcm(gcm.as_ref(), place, head, body, tag),
            Algorithm::Gcm256(gcm) => self.seal_gcm(gcm.as_ref(), place, head, body, tag),
        }
    }

    /// Decrypts `body` if the tag is right; else everything is as it was.
    pub fn open(&self, place: Place, head: &[u8], body: &mut [u8], tag: &[u8]) -> Option<()> {
        match &self.algorithm {
            Algorithm::Counter { aes, mac, .. } => {
                authenticated(mac, place, head, body).verify_truncated_left(tag).ok()?;
                keystream(aes.as_ref(), self.number(place) << 16, body);
                Some(())
            }
            Algorithm::Gcm128(gcm) => self.open_gcm(gcm.as_ref(), place, head, body, tag),
            Algorithm::Gcm256(gcm) => self.open_gcm(gcm.as_ref(), place, head, body, tag),
        }
    }

    fn seal_gcm<G>(&self, gcm: &G, place: Place, head: &[u8], body: &mut [u8], tag: &mut [u8]) -> Option<()>
    where
        G: AeadInOut<NonceSize = aes_gcm::aead::consts::U12, TagSize = U16>,
    {
        let mut room = [0; 12];
        let associated = self.associated(place, head, &mut room);
        let made = gcm.encrypt_inout_detached(&self.nonce(place).into(), associated, body.into()).ok()?;
        tag.iter_mut().zip(made).for_each(|(to, from)| *to = from);
        Some(())
    }

    fn open_gcm<G>(&self, gcm: &G, place: Place, head: &[u8], body: &mut [u8], tag: &[u8]) -> Option<()>
    where
        G: AeadInOut<NonceSize = aes_gcm::aead::consts::U12, TagSize = U16>,
    {
        let mut room = [0; 12];
        let associated = self.associated(place, head, &mut room);
        let tag: [u8; TAG] = tag.try_into().ok()?;
        gcm.decrypt_inout_detached(&self.nonce(place).into(), associated, body.into(), &tag.into()).ok()
    }

    /// RFC 3711 §4.1.1 without its last sixteen zeros, which is also RFC 7714 §8.1 and §9.1.
    fn number(&self, place: Place) -> u128 {
        self.salt ^ u128::from(place.ssrc) << 48 ^ u128::from(place.index)
    }

    fn nonce(&self, place: Place) -> [u8; 12] {
        let [_, _, _, _, nonce @ ..] = self.number(place).to_be_bytes();
        nonce
    }

    /// RFC 7714 §8.2, §9.2: the header, and of a report the index too.
    fn associated<'a>(&self, place: Place, head: &'a [u8], room: &'a mut [u8; 12]) -> &'a [u8] {
        match self.kind {
            Kind::Rtp => head,
            Kind::Rtcp => {
                room.iter_mut().zip(head.iter().chain(&place.more)).for_each(|(to, from)| *to = *from);
                room
            }
        }
    }
}

/// Whoever makes keys makes them as long as the suite says.
const LENGTHS: &str = "keys have the length of their suite";

fn number(octets: &[u8]) -> u128 {
    octets.iter().fold(0, |number, octet| number << 8 | u128::from(*octet))
}

/// RFC 3711 §4.2: over the packet as it goes over the wire, and what is known beside it.
fn authenticated(mac: &Hmac<Sha1>, place: Place, head: &[u8], body: &[u8]) -> Hmac<Sha1> {
    let mut mac = mac.clone();
    mac.update(head);
    mac.update(body);
    mac.update(&place.more);
    mac
}

fn keystream<A: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>>(aes: &A, from: u128, over: &mut [u8]) {
    CtrCore::<&A, Ctr128BE>::inner_iv_init(aes, &from.to_be_bytes().into()).apply_keystream_partial(over.into());
}

/// RFC 3711 §4.3.3; with 256 bits RFC 6188 §3; a shorter salt is filled up with zeros (RFC 7714 §11).
fn derive(master: &MasterKey, label: u128, out: &mut [u8]) {
    let (key, salt) = master.parts();
    let filled = number(salt) << (8 * (14 - salt.len()));
    let from = (filled ^ label << 48) << 16;
    match key.len() {
        32 => keystream(&Aes256::new_from_slice(key).expect(LENGTHS), from, out),
        _ => keystream(&Aes128::new_from_slice(key).expect(LENGTHS), from, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn master(suite: Suite, octets: &str) -> MasterKey {
        let octets = hex(octets);
        MasterKey::new(suite, std::array::from_fn(|n| octets.get(n).copied().unwrap_or(0)))
    }

    /// RFC 3711 B.3.
    #[test]
    fn session_keys_are_derived_as_in_the_rfc() {
        let master = master(Suite::Counter80, "E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6");
        for (label, expected) in [
            (0, "C61E7A93744F39EE10734AFE3FF7A087"),
            (2, "30CBBC08863D8C85D49DB34A9AE1"),
            (
                1,
                "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4 8F0A0ACF3C34E2359E6CDBCEE049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC256D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2DC68",
            ),
        ] {
            let expected = hex(expected);
            let mut out = vec![0; expected.len()];
            derive(&master, label, &mut out);
            assert_eq!(out, expected, "{label}");
        }
    }

    /// The vector that libsrtp checks itself with, whose keys are those of RFC 3711 B.3.
    #[test]
    fn counter_mode_is_as_others_do_it() {
        let master = master(Suite::Counter80, "E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6");
        let cipher = Cipher::new(&master, Kind::Rtp);
        let (head, plain) = (hex("800f1234decafbadcafebabe"), hex("abababababababababababababababab"));
        let place = Place { ssrc: 0xcafe_babe, index: 0x1234, more: [0; 4] };
        let (mut body, mut tag) = (plain.clone(), [0; 10]);
        cipher.seal(place, &head, &mut body, &mut tag).unwrap();
        assert_eq!([&body[..], &tag].concat(), hex("4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb"));
        cipher.open(place, &head, &mut body, &tag).unwrap();
        assert_eq!(body, plain);
    }

    /// RFC 7714 §16.1.1 and §17.1: these are of session keys.
    #[test]
    fn gcm_is_as_in_the_rfc() {
        let (key, salt) = (hex("000102030405060708090a0b0c0d0e0f"), hex("51756964 2070726f 2071756f"));
        let cipher = |kind| Cipher::of(Suite::Gcm128, kind, &key, &[0; AUTH_KEY], &salt);
        let plain = hex("47616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573");
        let sealed = hex("f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833
             899d7f27beb16a9152cf765ee4390cce");
        let head = hex("8040f17b8041f8d35501a0b2");
        let place = Place { ssrc: 0x5501_a0b2, index: 0xf17b, more: [0; 4] };
        let (mut body, mut tag) = (plain.clone(), [0; TAG]);
        cipher(Kind::Rtp).seal(place, &head, &mut body, &mut tag).unwrap();
        assert_eq!([&body[..], &tag].concat(), sealed);
        cipher(Kind::Rtp).open(place, &head, &mut body, &tag).unwrap();
        assert_eq!(body, plain);

        let head = hex("81c8000d4d617273");
        let sealed =
            hex("63e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0bb9275bc84aa458
             96cf4d2fc5abf87245d9eade");
        let place = Place { ssrc: 0x4d61_7273, index: 0x5d4, more: 0x8000_05d4u32.to_be_bytes() };
        let (body, tag) = sealed.split_at(sealed.len() - TAG);
        let mut body = body.to_vec();
        cipher(Kind::Rtcp).open(place, &head, &mut body, tag).unwrap();
        let began = hex("4e5450314e54503252545020 0000042a 0000e930 4c756e61");
        assert_eq!(body[..began.len()], began);
        assert_eq!(body[began.len()..], hex("deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"));
    }
}
