//! Digest authentication (RFC 3261 §22, RFC 7616, RFC 8760): challenges and what answers them.
//!
//! In come header values as peers wrote them; out come what they claim, or the values of ours. Spoken are MD5, because
//! nearly everything that is deployed speaks nothing else, and SHA-256, with `qop=auth`; from servers also the form
//! without `qop` of RFC 2069. Knows no clock and no memory.

use crate::config::{Credentials, Digests, Secret};
use md5::Md5;
use sha2::{Digest, Sha256};

/// What we call ourselves in challenges.
pub const REALM: &str = "sotto";

/// How texts are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// RFC 7616 keeps it for what is deployed.
    Md5,
    /// RFC 8760.
    Sha256,
}

impl Algorithm {
    /// As it stands in headers.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    /// Whether a peer may use it that may use `digests`.
    pub fn is_of(self, digests: Digests) -> bool {
        match digests {
            Digests::Any => true,
            Digests::Md5 => self == Algorithm::Md5,
            Digests::Sha256 => self == Algorithm::Sha256,
        }
    }

    fn of(name: Option<&str>) -> Option<Self> {
        match name {
            None => Some(Algorithm::Md5),
            Some(name) => [Algorithm::Md5, Algorithm::Sha256].into_iter().find(|a| name.eq_ignore_ascii_case(a.name())),
        }
    }

    fn hash(self, text: &str) -> String {
        let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        match self {
            Algorithm::Md5 => hex(&Md5::digest(text)),
            Algorithm::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

/// What a request is, to its digest.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The Request-URI.
    pub uri: &'a str,
}

/// The client's part of `qop=auth`.
#[derive(Clone, Debug)]
struct Count {
    cnonce: String,
    /// Eight hexadecimal digits, as written.
    nc: String,
}

fn response(algorithm: Algorithm, who: [&str; 3], nonce: &str, count: Option<&Count>, asked: Asked<'_>) -> String {
    let [user, realm, password] = who;
    let secret = algorithm.hash(&format!("{user}:{realm}:{password}"));
    let request = algorithm.hash(&format!("{}:{}", asked.method, asked.uri));
    algorithm.hash(&match count {
        Some(Count { cnonce, nc }) => format!("{secret}:{nonce}:{nc}:{cnonce}:auth:{request}"),
        None => format!("{secret}:{nonce}:{request}"),
    })
}

/// What a client claims in `Authorization`. Only `qop=auth` is read: without it nothing could be counted.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who they say they are.
    pub user: String,
    /// To whom.
    pub realm: String,
    /// The challenge they answer.
    pub nonce: String,
    /// How often they have answered it, this one included.
    pub count: u32,
    /// How they prove it.
    pub algorithm: Algorithm,
    uri: String,
    response: String,
    part: Count,
}

impl Claim {
    /// Reads a header value. None: it is no digest, or not one we asked for.
    pub fn read(value: &str) -> Option<Claim> {
        let fields = Fields::read(value)?;
        if !fields.get("qop")?.eq_ignore_ascii_case("auth") {
            return None;
        }
        let part = Count { cnonce: fields.own("cnonce")?, nc: fields.own("nc")? };
        let is_count = part.nc.len() == 8 && part.nc.bytes().all(|b| b.is_ascii_hexdigit());
        Some(Claim {
            user: fields.own("username")?,
            realm: fields.own("realm")?,
            nonce: fields.own("nonce")?,
            count: u32::from_str_radix(&part.nc, 16).ok().filter(|_| is_count)?,
            uri: fields.own("uri")?,
            algorithm: Algorithm::of(fields.get("algorithm"))?,
            response: fields.own("response")?,
            part,
        })
    }

    /// Whether it was made with that password, for that request. The URI may be written another way, but must name the
    /// same user: a claim for one number must not call another.
    pub fn proves(&self, password: &Secret, asked: Asked<'_>) -> bool {
        let asked_as_written = Asked { method: asked.method, uri: &self.uri };
        let who = [self.user.as_str(), self.realm.as_str(), password.reveal()];
        let right = response(self.algorithm, who, &self.nonce, Some(&self.part), asked_as_written);
        // Compared as secrets are, in a time that tells nothing.
        Secret::new(right).matches(&self.response.to_ascii_lowercase()) && user_of(&self.uri) == user_of(asked.uri)
    }
}

/// The user part of a SIP URI.
fn user_of(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    rest.split_once('@').map_or("", |(user, _)| user)
}

/// A value of our `WWW-Authenticate`.
pub fn challenge(algorithm: Algorithm, nonce: &str, stale: bool) -> String {
    let stale = if stale { ", stale=true" } else { "" };
    format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\", algorithm={}, qop=\"auth\"{stale}", algorithm.name())
}

/// What a server asks of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    /// Whether `qop=auth` is offered; else there is none at all.
    counted: bool,
    /// Whether only the nonce of an earlier answer was wrong.
    pub stale: bool,
}

impl Challenge {
    /// Reads a header value. None: it asks for what we do not speak, `auth-int` alone among it.
    pub fn read(value: &str) -> Option<Challenge> {
        let fields = Fields::read(value)?;
        let counted = match fields.get("qop") {
            None => false,
            Some(offered) if offered.split(',').any(|q| q.trim().eq_ignore_ascii_case("auth")) => true,
            Some(_) => return None,
        };
        Some(Challenge {
            realm: fields.own("realm")?,
            nonce: fields.own("nonce")?,
            opaque: fields.own("opaque"),
            algorithm: Algorithm::of(fields.get("algorithm"))?,
            counted,
            stale: fields.get("stale").is_some_and(|s| s.eq_ignore_ascii_case("true")),
        })
    }

    /// Of several, the strongest that we speak.
    pub fn best<'a>(values: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let readable: Vec<_> = values.filter_map(Challenge::read).collect();
        // Of equals the first, as the server would have it.
        readable.into_iter().rev().max_by_key(|c| c.algorithm)
    }

    /// The answer for one request; `cnonce` is fresh and random.
    pub fn answer(&self, login: &Credentials, asked: Asked<'_>, cnonce: &str) -> String {
        let Challenge { realm, nonce, opaque, algorithm, counted, .. } = self;
        let count = counted.then(|| Count { cnonce: cnonce.into(), nc: "00000001".into() });
        let who = [login.user.as_str(), realm, login.password.reveal()];
        let response = response(*algorithm, who, nonce, count.as_ref(), asked);
        let mut text = format!(
            "Digest username={}, realm={}, nonce={}, uri=\"{}\", response=\"{response}\", algorithm={}",
            quoted(&login.user),
            quoted(realm),
            quoted(nonce),
            asked.uri,
            algorithm.name()
        );
        if let Some(Count { cnonce, nc }) = count {
            text += &format!(", qop=auth, nc={nc}, cnonce=\"{cnonce}\"");
        }
        text + &opaque.as_ref().map_or_else(String::new, |o| format!(", opaque={}", quoted(o)))
    }

    /// The same challenge as the stack below can read it.
    pub fn for_stack(&self) -> String {
        let algorithm = match self.algorithm {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA256",
        };
        let mut text = format!("Digest realm=\"{}\", nonce=\"{}\", algorithm={algorithm}", self.realm, self.nonce);
        if self.counted {
            text += ", qop=\"auth\"";
        }
        if let Some(opaque) = &self.opaque {
            text += &format!(", opaque=\"{opaque}\"");
        }
        text + if self.stale { ", stale=true" } else { "" }
    }
}

/// What the stack below wrote, as RFC 7616 §3.4 and RFC 8760 want it.
pub fn from_stack(value: &str) -> String {
    value.replace("algorithm=SHA256", "algorithm=SHA-256").replace("qop=\"auth\"", "qop=auth")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// `Digest name=value, name="value"`, by name in lower case. What stands there twice counts for nothing.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn read(value: &str) -> Option<Fields> {
        let (scheme, mut rest) = value.trim().split_once([' ', '\t'])?;
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let mut fields: Vec<(String, String)> = Vec::new();
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let Some((name, after)) = rest.split_once('=') else { break };
            let (value, after) = match after.trim_start().strip_prefix('"') {
                Some(inner) => unquoted(inner)?,
                None => {
                    let end = after.find(',').unwrap_or(after.len());
                    let (value, after) = after.split_at(end);
                    (value.trim().to_owned(), after)
                }
            };
            let name = name.trim().to_ascii_lowercase();
            if fields.iter().any(|(other, _)| *other == name) {
                return None;
            }
            fields.push((name, value));
            rest = after;
        }
        rest.is_empty().then_some(Fields(fields))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    fn own(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }
}

/// A quoted string from behind its opening quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, text.get(at.saturating_add(1)..)?)),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'static> = Asked { method: "GET", uri: "/dir/index.html" };

    /// RFC 7616 §3.9.1.
    #[test]
    fn responses_are_those_of_the_rfc() {
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ".to_owned();
        let count = Count { cnonce, nc: "00000001".into() };
        let who = ["Mufasa", "http-auth@example.org", "Circle of Life"];
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        for (algorithm, wanted) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            assert_eq!(response(algorithm, who, nonce, Some(&count), ASKED), wanted);
        }
    }

    /// RFC 2617 §3.5, without qop as RFC 2069 has it.
    #[test]
    fn a_server_without_qop_is_answered() {
        let challenge =
            Challenge::read("Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"")
                .unwrap();
        let login = Credentials { user: "Mufasa".into(), password: Secret::new("CircleOfLife".into()) };
        let answer = challenge.answer(&login, ASKED, "x");
        assert!(answer.contains("response=\"1949323746fe6a43ef61f9606e7febea\""), "{answer}");
        assert!(!answer.contains("nc="));
    }

    #[test]
    fn of_several_challenges_the_strongest_that_we_speak_is_answered() {
        let values = [
            "Digest realm=\"r\", nonce=\"a\", algorithm=SHA-512-256, qop=\"auth\"",
            "Digest realm=\"r\", nonce=\"b\", qop=\"auth,auth-int\"",
            "Digest realm=\"r\", nonce=\"c\", algorithm=SHA-256, qop=\"auth-int, auth\", opaque=\"o\\\"p\"",
            "Digest realm=\"r\", nonce=\"d\", algorithm=SHA-256, qop=\"auth\"",
            "Digest realm=\"r\", nonce=\"e\", algorithm=SHA-256, qop=\"auth-int\"",
            "Basic realm=\"r\"",
        ];
        let best = Challenge::best(values.into_iter()).unwrap();
        assert_eq!((best.nonce.as_str(), best.opaque.as_deref()), ("c", Some("o\"p")));
        let md5 = Challenge::best(values[..2].iter().copied()).unwrap();
        assert_eq!((md5.nonce.as_str(), md5.algorithm, md5.counted), ("b", Algorithm::Md5, true));
        assert_eq!(Challenge::best(values[4..].iter().copied()), None);
    }

    #[test]
    fn a_claim_proves_itself_for_its_request_alone() {
        let challenge = Challenge::read(&challenge(Algorithm::Sha256, "n", false)).unwrap();
        let login = Credentials { user: "anna".into(), password: Secret::new("open sesame".into()) };
        let asked = Asked { method: "INVITE", uri: "sip:100@192.0.2.1" };
        let value = challenge.answer(&login, asked, "c0");
        let claim = Claim::read(&value).unwrap();
        assert_eq!((claim.user.as_str(), claim.realm.as_str(), claim.count), ("anna", REALM, 1));
        let (right, wrong) = (Secret::new("open sesame".into()), Secret::new("open sesamE".into()));
        assert!(claim.proves(&right, asked));
        assert!(claim.proves(&right, Asked { uri: "sip:100@sotto.example;transport=tcp", ..asked }));
        assert!(!claim.proves(&wrong, asked));
        assert!(!claim.proves(&right, Asked { method: "BYE", ..asked }));
        assert!(!claim.proves(&right, Asked { uri: "sip:900@192.0.2.1", ..asked }));
        // The count is hexadecimal, and eight digits of it.
        assert_eq!(Claim::read(&value.replace("00000001", "0000001a")).unwrap().count, 26);
        for broken in
            [value.replace("00000001", "1"), value.replace("qop=auth", "qop=auth-int"), value + ", nc=00000002"]
        {
            assert!(Claim::read(&broken).is_none(), "{broken}");
        }
    }
}
