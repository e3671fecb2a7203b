//! Digests as RFC 7616 has them, written once more: a witness must not repeat the error of the accused.
#![allow(dead_code, reason = "every test uses its own part")]

use md5::Md5;
use sha2::{Digest, Sha256};

pub fn hash(algorithm: &str, text: &str) -> String {
    let bytes = match algorithm {
        "MD5" => Md5::digest(text).to_vec(),
        "SHA-256" => Sha256::digest(text).to_vec(),
        other => panic!("{other}"),
    };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A field of a challenge or an answer.
pub fn field<'a>(header: &'a str, name: &str) -> &'a str {
    let mut fields = header.trim_start_matches("Digest ").split(", ");
    let value = fields.find_map(|f| f.strip_prefix(&format!("{name}="))).unwrap_or_else(|| panic!("{name}: {header}"));
    value.trim_matches('"')
}

/// Whoever answers a challenge.
pub struct Who<'a> {
    pub user: &'a str,
    pub password: &'a str,
}

impl Who<'_> {
    pub fn response(&self, algorithm: &str, realm: &str, nonce: &str, nc: &str, method: &str, uri: &str) -> String {
        let secret = hash(algorithm, &format!("{}:{realm}:{}", self.user, self.password));
        let request = hash(algorithm, &format!("{method}:{uri}"));
        hash(algorithm, &format!("{secret}:{nonce}:{nc}:wire:auth:{request}"))
    }

    /// The whole header line.
    pub fn line(&self, challenge: &str, nc: u32, method: &str, uri: &str) -> String {
        let [realm, nonce, algorithm] = ["realm", "nonce", "algorithm"].map(|name| field(challenge, name));
        let nc = format!("{nc:08x}");
        let response = self.response(algorithm, realm, nonce, &nc, method, uri);
        format!(
            "Authorization: Digest username=\"{}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm={algorithm}, qop=auth, nc={nc}, cnonce=\"wire\"\r\n",
            self.user
        )
    }
}
