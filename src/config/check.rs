//! From what was written to what holds: every section read, every value checked.

use super::fault::{Faults, Origin};
use super::raw::{Section, Written, nearest};
use super::{
    Coach, Credentials, Digests, Follow, Format, HoldMusic, Http, Listen, Media, Network, Proof, Recording,
    Registration, Secret, Sensitivity, Sip, Speech, Srtp, Store, Tls, TlsError, Transport, Trunk, Way,
};
use super::{hep, reach, siprec};
use crate::call::ears::{Beep, Beeped, Ears, LeakGuard};
use crate::event::Mode;
use crate::media::volume::Volume;
use regex::Regex;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The built-in voice: espeak-ng's American English.
const VOICE: &str = "en-us";

pub(super) fn sip(mut section: Section<'_>, faults: &Faults) -> Sip {
    let external_address = section.text("external_address").and_then(|written| {
        let address = written.value.parse::<IpAddr>().ok();
        if address.is_none() {
            faults.add(&written.at, "sip.external_address is no IP address", "write one, as \"203.0.113.7\"");
        }
        address
    });
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5060));
    let default = vec![Listen { transport: Transport::Udp, address }];
    let at = section.place("listen");
    let listen = section.texts("listen").map_or(default, |texts| {
        if texts.is_empty() {
            faults.add(&at, "sip.listen is empty", "write at least one, as [\"udp://127.0.0.1:5060\"]");
        }
        texts.iter().filter_map(|text| sip_address(text, external_address, faults)).collect()
    });
    let hold_music = section.text("hold_music").map_or(HoldMusic::Theirs, |written| hold_music(written, faults));
    let follow = section.text("follow").and_then(|written| follow("sip.follow", &written, faults)).unwrap_or_default();
    let proofs = [("signalling", Proof::Signalling), ("person", Proof::Person)];
    let proof =
        section.text("proof").and_then(|written| one_of("sip.proof", &written, &proofs, faults)).unwrap_or_default();
    // RFC 4028 §4: 90 s is the least anybody may ask for, half an hour is recommended.
    let session_expires = match section.whole("session_expires", 0..=86_400).map_or(1800, |w| w.value) {
        0 => None,
        seconds @ 1..90 => {
            let what = format!("sip.session_expires is {seconds} s");
            faults.add(&section.place("session_expires"), what, "write 90 or more, or 0 for none");
            None
        }
        seconds => Some(seconds as u32),
    };
    let min_se = section.whole("min_se", 90..=86_400).map_or(90, |w| w.value as u32);
    let announce = section.flag("announce").unwrap_or(true);
    let tls = tls(&mut section, &listen, faults);
    let reach = reach::reach(&mut section, faults);
    let hep = hep::hep(&mut section, faults);
    section.end();
    let session_expires = session_expires.map(|s| s.max(min_se));
    Sip { listen, external_address, hold_music, follow, proof, session_expires, min_se, announce, tls, reach, hep }
}

/// With whom coach and supervisors stay.
pub(super) fn follow(name: &str, written: &Written<String>, faults: &Faults) -> Option<Follow> {
    let options = [("call", Follow::Call), ("agent", Follow::Agent), ("customer", Follow::Customer)];
    one_of(name, written, &options, faults)
}

fn hold_music(written: Written<String>, faults: &Faults) -> HoldMusic {
    match written.value.as_str() {
        "theirs" => HoldMusic::Theirs,
        "none" => HoldMusic::Silence,
        file => {
            if !Path::new(file).is_file() {
                let what = format!("sip.hold_music is {file:?}, and there is no such file");
                faults.add(&written.at, what, "write \"theirs\", \"none\", or name a WAV file");
            }
            HoldMusic::File(file.into())
        }
    }
}

/// Debian's list of public authorities.
const PUBLIC_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The files of TLS. They must be there, be what they are named as, and go together.
fn tls(section: &mut Section<'_>, listen: &[Listen], faults: &Faults) -> Option<Tls> {
    let at = section.place("listen");
    let secure = listen.iter().find(|l| l.transport.is_secure());
    let keys = ["tls_certificate", "tls_key", "tls_client_ca", "tls_server_ca"];
    let mut all_there = true;
    let files = keys.map(|key| {
        let written = section.text(key)?;
        if !Path::new(&written.value).is_file() {
            faults.add(&written.at, format!("sip.{key} {:?} is not there", written.value), "name a file in PEM");
            all_there = false;
        }
        Some(Written { at: written.at, value: PathBuf::from(written.value) })
    });
    let secure = secure?;
    let named = files.clone().map(|file| file.map(|written| written.value));
    let [Some(certificate), Some(key), client_ca, server_ca] = named else {
        let what = format!("sip.listen names a {}:// address", secure.transport.name());
        faults.add(&at, what, "name sip.tls_certificate and sip.tls_key too");
        return None;
    };
    let tls = Tls { certificate, key, client_ca, server_ca: server_ca.unwrap_or_else(|| PUBLIC_CA.into()) };
    if all_there && let Err(error) = tls.read() {
        let (file, what) = match error {
            TlsError::File { file, what } => (file, what),
            TlsError::Use(what) => (tls.key.clone(), format!("it does not go with tls_certificate ({what})")),
        };
        let at = files.iter().flatten().find(|written| written.value == file).map_or(&at, |written| &written.at);
        faults.add(
            at,
            format!("{:?} cannot be used for TLS: {what}", file.display().to_string()),
            "name a file in PEM",
        );
    }
    Some(tls)
}

fn sip_address(written: &Written<String>, external: Option<IpAddr>, faults: &Faults) -> Option<Listen> {
    let fault = |what: String, remedy: &str| {
        faults.add(&written.at, what, remedy);
        None
    };
    let text = &written.value;
    let Some((scheme, rest)) = text.split_once("://") else {
        return fault(format!("sip.listen has {text:?}"), "write udp://ADDRESS:PORT, as \"udp://127.0.0.1:5060\"");
    };
    let Some((_, transport)) = Transport::NAMES.into_iter().find(|(name, _)| *name == scheme) else {
        return fault(
            format!("sip.listen over {scheme} is not supported"),
            "use udp://, tcp://, tls://, ws:// or wss://",
        );
    };
    let Ok(address) = rest.parse::<SocketAddr>() else {
        return fault(
            format!("sip.listen has {rest:?} as address and port"),
            "write them as 127.0.0.1:5060 or [::1]:5060",
        );
    };
    if address.ip().is_unspecified() && (external.is_none() || address.is_ipv6()) {
        return fault(
            format!("sip.listen on {} names no address a peer could answer to", address.ip()),
            "write the address of one interface, or 0.0.0.0 together with sip.external_address",
        );
    }
    Some(Listen { transport, address })
}

pub(super) fn media(mut section: Section<'_>, faults: &Faults) -> Media {
    let ports = section.text("ports").and_then(|written| {
        let ports = port_range(&written.value);
        if ports.is_none() {
            faults.add(
                &written.at,
                format!("media.ports is {:?}", written.value),
                "write LOWEST-HIGHEST from 1024 to 65535 with room for two ports, as \"20000-29999\"",
            );
        }
        ports
    });
    let shards = section.whole("shards", 1..=64).map_or(1, |written| written.value as usize);
    let io = section.text("io").map_or(Way::Auto, |written| way(&written, faults));
    let tap = section.flag("tap").unwrap_or(false);
    let timeout = section.whole("timeout", 0..=86_400).map_or(0, |w| w.value.unsigned_abs());
    section.end();
    let timeout = (timeout > 0).then(|| Duration::from_secs(timeout));
    Media { ports: ports.unwrap_or(20_000..=29_999), shards, io, timeout, tap }
}

fn way(written: &Written<String>, faults: &Faults) -> Way {
    match written.value.as_str() {
        "auto" => Way::Auto,
        "plain" => Way::Plain,
        "ring" => Way::Ring,
        other => {
            faults.add(&written.at, format!("media.io is {other:?}"), "write \"auto\", \"plain\" or \"ring\"");
            Way::Auto
        }
    }
}

/// A range that holds at least one even port and the odd one above it.
fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (low, high) = text.split_once('-')?;
    let (low, high): (u16, u16) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    let first = low.checked_next_multiple_of(2)?;
    (low >= 1024 && high > first).then_some(low..=high)
}

pub(super) fn http(mut section: Section<'_>, faults: &Faults) -> Http {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let listen = section.text("listen").map_or(default, |written| {
        written.value.parse().unwrap_or_else(|_| {
            faults.add(
                &written.at,
                format!("http.listen is {:?}", written.value),
                "write ADDRESS:PORT, as \"127.0.0.1:8080\" or \"[::1]:8080\"",
            );
            default
        })
    });
    let token = secret(&mut section, "token", "token_file", faults);
    let token = token.filter(|(at, called, token)| is_strong(at, token, called, faults)).map(|(_, _, token)| token);
    section.end();
    Http { listen, token }
}

/// A secret as itself or in a file, not both: where it stands, by what key, and what it is.
pub(super) fn secret(
    section: &mut Section<'_>,
    key: &'static str,
    file_key: &'static str,
    faults: &Faults,
) -> Option<(Origin, String, Secret)> {
    let (direct, file) = (section.text(key), section.text(file_key));
    let (name, file_name) = (section.name(key), section.name(file_key));
    match (direct, file) {
        (None, None) => None,
        (Some(_), Some(file)) => {
            faults.add(&file.at, format!("both {name} and {file_name} are given"), "take one of them out");
            None
        }
        (Some(direct), None) => Some((direct.at, name, Secret::new(direct.value))),
        (None, Some(file)) => {
            let found = read_secret(file, &file_name, faults)?;
            Some((found.at, file_name, Secret::new(found.value)))
        }
    }
}

/// Whether others may be held to it. Shorter ones are guessed; a space or a control character would not survive in an
/// Authorization header.
fn is_strong(at: &Origin, secret: &Secret, called: &str, faults: &Faults) -> bool {
    let strong = secret.reveal().len() >= 8 && secret.reveal().bytes().all(|b| b.is_ascii_graphic());
    if !strong {
        faults.add(at, format!("{called} is too weak"), "use 8 or more printable ASCII characters without spaces");
    }
    strong
}

/// A name with its password, by their keys: the name, the password, the file that holds the password.
fn credentials(section: &mut Section<'_>, keys: [&'static str; 3], faults: &Faults) -> Option<(Origin, Credentials)> {
    let [user_key, password_key, file_key] = keys;
    let (user, password) = (section.text(user_key), secret(section, password_key, file_key, faults));
    let (user_name, password_name) = (section.name(user_key), section.name(password_key));
    match (user, password) {
        (None, None) => None,
        (Some(user), Some((at, _, password))) => {
            if user.value.is_empty() || user.value.contains(['"', '\\', ':']) || user.value.contains(char::is_control) {
                faults.add(
                    &user.at,
                    format!("{user_name} is {:?}", user.value),
                    "write a name without quotes or colons",
                );
            }
            Some((at, Credentials { user: user.value, password }))
        }
        (Some(user), None) => {
            // A password that is there but wrong was told already.
            if !section.has(password_key) && !section.has(file_key) {
                faults.add(
                    &user.at,
                    format!("{user_name} has no password"),
                    format!("write {password_name} or {}", section.name(file_key)),
                );
            }
            None
        }
        (None, Some((at, _, _))) => {
            faults.add(&at, format!("{password_name} has no name"), format!("write {user_name}"));
            None
        }
    }
}

fn read_secret(file: Written<String>, name: &str, faults: &Faults) -> Option<Written<String>> {
    match std::fs::read_to_string(&file.value) {
        Ok(text) => Some(Written { at: file.at, value: text.trim().into() }),
        Err(error) => {
            let what = format!("{name} {:?} cannot be read ({error})", file.value);
            faults.add(&file.at, what, "create it, or name another");
            None
        }
    }
}

pub(super) fn store(mut section: Section<'_>, faults: &Faults) -> Store {
    let dir = section.text("url").and_then(|written| {
        let dir = written.value.strip_prefix("sqlite://").filter(|dir| !dir.is_empty());
        if dir.is_none() {
            let what = match written.value.split_once("://") {
                Some((scheme @ ("postgres" | "postgresql"), _)) => {
                    format!("store.url over {scheme} is not supported yet")
                }
                Some(_) | None => "store.url names no store".into(),
            };
            faults.add(&written.at, what, "write sqlite://FOLDER, as \"sqlite://data\"");
        }
        dir.map(PathBuf::from)
    });
    section.end();
    Store { dir: dir.unwrap_or_else(|| "data".into()) }
}

pub(super) fn speech(mut section: Section<'_>, store: &Store, faults: &Faults) -> Speech {
    let model_name = section.text("model").map_or_else(|| "base.en".into(), |written| written.value);
    let place = model_place(&model_name, &store.dir);
    let (model, model_missing) = match place {
        Some(path) if path.is_file() => (Some(path), None),
        missing => (None, missing),
    };
    let voice = section.text("voice").map_or_else(|| VOICE.into(), |written| voice(written, faults));
    let workers = section.whole("workers", 1..=64).map_or(1, |written| written.value as usize);
    section.end();
    Speech { model, model_name, model_missing, voice, workers }
}

/// Where a model is looked for: what looks like a file is one, anything else is a name in the store.
fn model_place(name: &str, store: &Path) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    if name.contains('/') || name.ends_with(".bin") {
        return Some(name.into());
    }
    Some(store.join("models").join(format!("ggml-{name}.bin")))
}

/// A voice becomes an argument of another program: nothing but what its names are made of.
fn voice(written: Written<String>, faults: &Faults) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'_');
    if written.value.starts_with(|c: char| c.is_ascii_alphabetic()) && written.value.bytes().all(plain) {
        return written.value;
    }
    let what = format!("speech.voice is {:?}", written.value);
    faults.add(&written.at, what, "write a name that `espeak-ng --voices` lists, as \"en-us\" or \"en-gb+f3\"");
    VOICE.into()
}

pub(super) fn coach(mut section: Section<'_>, config_dir: &Path, faults: &Faults) -> (Coach, Written<String>) {
    let at = section.place("playbook");
    let playbook = section.text("playbook").unwrap_or(Written { at, value: "sales-discovery".into() });
    let sensitivity = section.text("sensitivity").and_then(|written| {
        let options = [
            ("minimal", Sensitivity::Minimal),
            ("standard", Sensitivity::Standard),
            ("training", Sensitivity::Training),
        ];
        one_of("coach.sensitivity", &written, &options, faults)
    });
    let ceiling = section.text("ceiling").and_then(|written| mode("coach.ceiling", &written, faults));
    let ears = ears(&mut section, faults);
    section.end();
    let coach = Coach {
        ears,
        playbook: playbook.value.clone(),
        playbook_dir: config_dir.join("playbooks"),
        ceiling: ceiling.unwrap_or(Mode::Whisper),
        sensitivity: sensitivity.unwrap_or(Sensitivity::Standard),
    };
    (coach, playbook)
}

/// What is done for people's ears.
fn ears(section: &mut Section<'_>, faults: &Faults) -> Ears {
    let decibels = |written: Option<Written<i64>>, otherwise: i8| {
        Volume::decibels(written.map_or(otherwise, |w| w.value as i8)).unwrap_or_default()
    };
    let guards = [
        ("off", LeakGuard::Off),
        ("detect", LeakGuard::Detect),
        ("cancel", LeakGuard::Cancel),
        ("auto", LeakGuard::Auto),
    ];
    let leak_guard = section.text("leak_guard").and_then(|w| one_of("coach.leak_guard", &w, &guards, faults));
    let beeped = [
        ("off", None),
        ("agent", Some(Beeped::Agent)),
        ("customer", Some(Beeped::Customer)),
        ("both", Some(Beeped::Both)),
    ];
    let to = section.text("beep").and_then(|w| one_of("coach.beep", &w, &beeped, faults)).flatten();
    let every_s = section.whole("beep_every_s", 2..=3600).map_or(15, |w| w.value as u16);
    let volume = decibels(section.whole("beep_db", -24..=12), 0);
    Ears {
        duck: decibels(section.whole("duck_db", -24..=0), -12),
        leak_guard: leak_guard.unwrap_or_default(),
        leak_tone: section.flag("leak_tone").unwrap_or(false),
        level: section.flag("level").unwrap_or(true),
        barge_tone: section.flag("barge_tone").unwrap_or(true),
        beep: to.map(|to| Beep { to, every_s, volume }),
    }
}

/// A mode by its name.
pub(super) fn mode(name: &str, written: &Written<String>, faults: &Faults) -> Option<Mode> {
    let options = [("spy", Mode::Spy), ("whisper", Mode::Whisper), ("barge", Mode::Barge)];
    one_of(name, written, &options, faults)
}

/// Whether media is protected.
pub(super) fn srtp(name: &str, written: &Written<String>, faults: &Faults) -> Option<Srtp> {
    let options = [("off", Srtp::Off), ("optional", Srtp::Optional), ("required", Srtp::Required)];
    one_of(name, written, &options, faults)
}

pub(super) fn one_of<T: Copy>(
    name: &str,
    written: &Written<String>,
    options: &[(&'static str, T)],
    faults: &Faults,
) -> Option<T> {
    let found = options.iter().find(|(word, _)| *word == written.value).map(|(_, value)| *value);
    if found.is_none() {
        let words: Vec<_> = options.iter().map(|(word, _)| *word).collect();
        faults.add(&written.at, format!("{name} is {:?}", written.value), format!("write one of {}", words.join(", ")));
    }
    found
}

pub(super) fn recording(mut section: Section<'_>, faults: &Faults) -> Recording {
    let default = Recording::default();
    let formats = [("wav", Format::Wav), ("opus", Format::Opus)];
    let format = section.text("format").and_then(|written| one_of("recording.format", &written, &formats, faults));
    let recording = Recording {
        enabled: section.flag("enabled").unwrap_or(default.enabled),
        format: format.unwrap_or(default.format),
        // RFC 6716 §2.1.1: below 8 kbit/s a voice is narrow and rough, above 64 nothing is gained for one.
        bitrate: section.whole("bitrate", 8_000..=64_000).map_or(default.bitrate, |written| written.value as u32),
        legs: section.flag("legs").unwrap_or(default.legs),
    };
    section.end();
    recording
}

/// `[[register]]`, each with its place.
pub(super) fn registrations(sections: Vec<Section<'_>>, faults: &Faults) -> Vec<(Origin, Registration)> {
    sections.into_iter().filter_map(|section| registration(section, faults)).collect()
}

fn registration(mut section: Section<'_>, faults: &Faults) -> Option<(Origin, Registration)> {
    let at = section.place("trunk");
    let trunk = section.text("trunk").map(|written| written.value);
    if trunk.is_none() {
        faults.add(&at, "register has no trunk", "write trunk = \"…\", the name of a [[trunk]]");
    }
    let place = section.place("registrars");
    let registrars = section.texts("registrars").unwrap_or_default();
    if registrars.is_empty() {
        faults.add(&place, "register has no registrars", "write registrars = [\"sip:pbx.example\"]");
    }
    let registrars = registrars.into_iter().filter_map(|written| registrar(written, faults)).collect();
    let login = credentials(&mut section, ["user", "password", "password_file"], faults);
    if login.is_none() && !section.has("user") {
        faults.add(&section.at, "register has no user", "write user = \"…\" and password_file = \"…\"");
    }
    // Below a minute a registrar is kept busy by us alone, beyond a day it would forget us before it says so.
    let expires = section.whole("expires", 60..=86_400).map_or(300, |written| written.value as u64);
    section.end();
    let (login, expires) = (login?.1, Duration::from_secs(expires));
    Some((at, Registration { trunk: trunk?, registrars, login, expires }))
}

fn registrar(written: Written<String>, faults: &Faults) -> Option<String> {
    let host = written.value.strip_prefix("sip:").or_else(|| written.value.strip_prefix("sips:"));
    let host = host.filter(|rest| !rest.contains(['@', ' ', '<', '?']));
    if host.is_some() && rsipstack::sip::Uri::try_from(written.value.as_str()).is_ok() {
        return Some(written.value);
    }
    let what = format!("register.registrars has {:?}", written.value);
    faults.add(&written.at, what, "write sip:HOST, as \"sip:192.0.2.9\" or \"sip:pbx.example:5061;transport=tls\"");
    None
}

/// Every registration names a trunk that there is.
pub(super) fn registrations_have_trunks(all: &[(Origin, Registration)], trunks: &[Trunk], faults: &Faults) {
    for (at, registration) in all {
        if !trunks.iter().any(|trunk| trunk.name == registration.trunk) {
            let remedy = nearest(&registration.trunk, trunks.iter().map(|trunk| trunk.name.as_str()));
            faults.add(at, format!("there is no trunk named {:?}", registration.trunk), remedy);
        }
    }
}

/// `registered`: the trunks that are known because we register with them.
pub(super) fn trunks(sections: Vec<Section<'_>>, registered: &[&str], faults: &Faults) -> Vec<Trunk> {
    let mut trunks: Vec<Trunk> = Vec::new();
    for section in sections {
        let at = section.place("name");
        let trunk = trunk(section, registered, faults);
        if trunks.iter().any(|other| other.name == trunk.name) {
            faults.add(&at, format!("there is a trunk named {:?} already", trunk.name), "name each differently");
        }
        trunks.push(trunk);
    }
    trunks
}

fn trunk(mut section: Section<'_>, registered: &[&str], faults: &Faults) -> Trunk {
    let at = section.at.clone();
    let name = section.text("name").map_or_else(String::new, |written| written.value);
    if name.is_empty() {
        faults.add(&at, "a trunk has no name", "write name = \"…\"");
    }
    let sources = section.texts("sources").unwrap_or_default();
    let tls_names = section.texts("tls_names").unwrap_or_default();
    let proof = credentials(&mut section, ["user", "password", "password_file"], faults);
    let proof = proof.filter(|(at, found)| is_strong(at, &found.password, "trunk.password", faults));
    let digests = [("any", Digests::Any), ("md5", Digests::Md5), ("sha-256", Digests::Sha256)];
    let digests = section.text("digest").and_then(|written| one_of("trunk.digest", &written, &digests, faults));
    let login = credentials(&mut section, ["login_user", "login_password", "login_password_file"], faults);
    let (credentials, login) = (proof.map(|(_, c)| c), login.map(|(_, c)| c));
    let is_known = !tls_names.is_empty() || section.has("user") || registered.contains(&name.as_str());
    if sources.is_empty() && !is_known {
        let remedy = "write sources = [\"127.0.0.0/8\"], or tls_names, or user and password_file";
        faults.add(&section.place("sources"), "a trunk has no sources", remedy);
    }
    let sources = sources.iter().filter_map(|written| network("trunk.sources", written, faults)).collect();
    let tls_names = tls_names.into_iter().filter_map(|written| tls_name(written, faults)).collect();
    let may_call = section.texts("may_call").unwrap_or_default();
    let may_call = may_call.iter().filter_map(|written| pattern("trunk.may_call", written, faults)).collect();
    let agents = section.texts("agents").unwrap_or_default();
    let agents = agents.iter().filter_map(|written| pattern("trunk.agents", written, faults)).collect();
    let may_be_called = section.texts("may_be_called").map(|all| {
        all.iter().filter_map(|written| pattern("trunk.may_be_called", written, faults)).collect::<Vec<_>>()
    });
    let proven_only = section.flag("proven_only").unwrap_or(false);
    let may_supervise = section.flag("may_supervise").unwrap_or(false);
    let max_calls = section.whole("max_calls", 1..=100_000).map(|w| w.value as usize);
    let srtp = section.text("srtp").and_then(|written| srtp("trunk.srtp", &written, faults)).unwrap_or_default();
    let outbound_proxy = reach::proxy(&mut section, "trunk.outbound_proxy", faults);
    let siprec = siprec::siprec(section.section("siprec"), faults);
    section.end();
    Trunk {
        name,
        sources,
        tls_names,
        credentials,
        digests: digests.unwrap_or_default(),
        login,
        may_call,
        may_be_called,
        proven_only,
        may_supervise,
        agents,
        max_calls,
        srtp,
        outbound_proxy,
        siprec,
    }
}

fn tls_name(written: Written<String>, faults: &Faults) -> Option<String> {
    if tokio_rustls::rustls::pki_types::ServerName::try_from(written.value.as_str()).is_ok() {
        return Some(written.value);
    }
    let what = format!("trunk.tls_names has {:?}", written.value);
    faults.add(&written.at, what, "write a host name or an IP address, as the certificate has it");
    None
}

pub(super) fn network(name: &str, written: &Written<String>, faults: &Faults) -> Option<Network> {
    let parsed = written.value.parse();
    let fault = |why| {
        let what = format!("{name}: {:?} {why}", written.value);
        faults.add(&written.at, what, "write ADDRESS/BITS, as \"127.0.0.0/8\" or \"::1/128\"");
    };
    parsed.map_err(fault).ok()
}

/// A regular expression that must match the whole of a text.
pub(super) fn pattern(name: &str, written: &Written<String>, faults: &Faults) -> Option<Regex> {
    // On its own first: what only balances inside our parentheses is wrong.
    let parsed = Regex::new(&written.value).and_then(|_| Regex::new(&format!("^(?:{})$", written.value)));
    let fault = |error: regex::Error| {
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let what = format!("{name} {:?} is no regular expression ({why})", written.value);
        faults.add(&written.at, what, "see https://docs.rs/regex for the syntax");
    };
    parsed.map_err(fault).ok()
}
