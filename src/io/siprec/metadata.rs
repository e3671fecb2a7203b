//! Recording metadata (RFC 7865): who takes part in which communication session, and whose voice is which stream.
//!
//! A client sends all of it, and later all of it again or what has changed. Elements nobody here asks for are passed over:
//! the model is open (RFC 7865 §5), and clients add their own.

use super::xml::{self, Element};
use super::{BodyError, broken};
use std::fmt;

/// What is known of a recorded communication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Whether this is everything, and not what has changed alone.
    pub complete: bool,
    groups: Vec<String>,
    sessions: Vec<Session>,
    participants: Vec<Participant>,
    streams: Vec<Stream>,
    senders: Vec<Sender>,
}

/// A communication session.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    id: String,
    /// The SIP session of RFC 7989, the same at both ends and at everything between.
    sip: Option<String>,
}

/// Somebody who takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Unique at its client, and the same in every update (RFC 7865 §6.5).
    pub id: String,
    /// What they are called, at least once.
    pub names: Vec<NameId>,
}

impl Participant {
    /// What to call them: their first address, else their name.
    pub fn address(&self) -> Option<&str> {
        let address = self.names.iter().map(|n| n.aor.as_str()).find(|aor| !aor.is_empty());
        address.or_else(|| self.names.iter().find_map(|n| n.name.as_deref()))
    }
}

/// What a participant is called. `Debug` shows nothing of it: numbers and names never reach a log.
#[derive(Clone, PartialEq, Eq)]
pub struct NameId {
    /// Their address of record, as `sip:bob@example.com`. May be empty.
    pub aor: String,
    /// Their name for people to read.
    pub name: Option<String>,
}

impl fmt::Debug for NameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<name>")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stream {
    id: String,
    /// What its media line is called (`a=label`, RFC 4574).
    label: Option<String>,
}

/// Which streams carry a participant's voice.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sender {
    participant: String,
    streams: Vec<String>,
    /// Whether they have left (RFC 7865 §6.9).
    gone: bool,
}

impl Metadata {
    /// Of groups, sessions, participants, streams and senders, as many each are kept at most; what is beyond is passed over.
    pub const MOST: usize = 500;

    /// Reads a document.
    pub fn read(bytes: &[u8]) -> Result<Metadata, BodyError> {
        let root = xml::read(bytes)?;
        if root.name != "recording" {
            return Err(broken("the metadata does not begin with <recording>"));
        }
        let mode = root.text_of("datamode").or(root.text_of("dataMode")).unwrap_or("complete");
        let complete = match mode.to_ascii_lowercase().as_str() {
            "complete" => true,
            "partial" => false,
            _ => return Err(broken("the datamode of the metadata is neither complete nor partial")),
        };
        Ok(Metadata {
            complete,
            groups: each(&root, "group", |e| id(e, "group_id"))?,
            sessions: each(&root, "session", |e| {
                Ok(Session { id: id(e, "session_id")?, sip: e.text_of("sipSessionID").and_then(sip_session) })
            })?,
            participants: each(&root, "participant", participant)?,
            streams: each(&root, "stream", |e| {
                Ok(Stream { id: id(e, "stream_id")?, label: e.text_of("label").map(str::to_owned) })
            })?,
            senders: each(&root, "participantstreamassoc", sender)?,
        })
    }

    /// What is known after an update.
    pub fn update(&mut self, newer: Metadata) {
        if newer.complete {
            *self = newer;
            return;
        }
        merge(&mut self.groups, newer.groups, |a, b| a == b);
        merge(&mut self.sessions, newer.sessions, |a, b| a.id == b.id);
        merge(&mut self.participants, newer.participants, |a, b| a.id == b.id);
        merge(&mut self.streams, newer.streams, |a, b| a.id == b.id);
        // A stream has another voice now, or a participant another stream.
        for sender in &newer.senders {
            for known in self.senders.iter_mut().filter(|s| s.participant != sender.participant) {
                known.streams.retain(|stream| !sender.streams.contains(stream));
            }
        }
        merge(&mut self.senders, newer.senders, |a, b| a.participant == b.participant);
    }

    /// Whose voice the media line of this label carries: the first of them, where several are mixed.
    pub fn speaker(&self, label: &str) -> Option<&Participant> {
        let mut streams = self.streams.iter().filter(|s| s.label.as_deref() == Some(label));
        streams.find_map(|stream| {
            let sender = self.senders.iter().find(|s| s.streams.contains(&stream.id))?;
            self.participants.iter().find(|p| p.id == sender.participant)
        })
    }

    /// Whether a participant is there and sends nothing: they are on hold (RFC 8068 shows such updates).
    pub fn is_on_hold(&self, participant: &str) -> bool {
        self.senders.iter().any(|s| s.participant == participant && s.streams.is_empty() && !s.gone)
    }

    /// Whether it describes a SIP session: its Call-ID is a session's id, or one of the halves of its session id (RFC 7989)
    /// is `uuid`.
    pub fn is_of(&self, call_id: &str, uuid: Option<&str>) -> bool {
        let by_uuid = |sip: &String| uuid.is_some_and(|uuid| sip.split(' ').any(|half| half == uuid));
        self.sessions.iter().any(|s| s.id == call_id || s.sip.as_ref().is_some_and(by_uuid))
    }

    /// What names the communication: its groups, its sessions, and what SIP calls them. Two recording sessions that have one
    /// of these in common record the same.
    pub fn communications(&self) -> Vec<String> {
        let groups = self.groups.iter().map(|id| format!("group {id}"));
        let sessions = self.sessions.iter().map(|s| format!("session {}", s.id));
        let sip = self.sessions.iter().filter_map(|s| s.sip.as_ref()).map(|id| format!("sip {id}"));
        groups.chain(sessions).chain(sip).collect()
    }

    /// How many things are kept.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.groups.len() + self.sessions.len() + self.participants.len() + self.streams.len() + self.senders.len()
    }
}

/// Newer ones take the place of those they are the same as; of new ones, as many are taken as there is room for.
fn merge<T>(known: &mut Vec<T>, newer: Vec<T>, same: impl Fn(&T, &T) -> bool) {
    for one in newer {
        match known.iter().position(|k| same(k, &one)) {
            Some(at) => drop(std::mem::replace(&mut known[at], one)),
            None if known.len() < Metadata::MOST => known.push(one),
            None => {}
        }
    }
}

fn each<T>(
    root: &Element,
    name: &'static str,
    read: impl Fn(&Element) -> Result<T, BodyError>,
) -> Result<Vec<T>, BodyError> {
    root.all(name).take(Metadata::MOST).map(read).collect()
}

fn id(element: &Element, name: &str) -> Result<String, BodyError> {
    let id = element.attribute(name).map(str::trim).filter(|id| !id.is_empty());
    id.map(str::to_owned).ok_or_else(|| broken(format!("a <{}> of the metadata has no {name}", element.name)))
}

fn participant(element: &Element) -> Result<Participant, BodyError> {
    let names = element.all("nameID").map(|n| {
        let aor = n.attribute("aor").unwrap_or_default().trim().to_owned();
        NameId { aor, name: n.text_of("name").map(str::to_owned) }
    });
    Ok(Participant { id: id(element, "participant_id")?, names: names.collect() })
}

/// Who is disassociated speaks no more (RFC 7865 §6.9).
fn sender(element: &Element) -> Result<Sender, BodyError> {
    let gone = element.text_of("disassociate-time").is_some();
    let streams = element.all("send").map(|s| s.text().to_owned()).filter(|s| !s.is_empty() && !gone);
    Ok(Sender { participant: id(element, "participant_id")?, streams: streams.collect(), gone })
}

/// Both halves of a session id (RFC 7989 §5), in an order that is the same for both ends; none while one is not known yet.
fn sip_session(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let halves = text.split([';', ',']).map(|half| half.rsplit('=').next().unwrap_or_default().trim());
    let mut halves: Vec<&str> = halves.filter(|h| h.len() == 32 && h.bytes().all(|b| b.is_ascii_hexdigit())).collect();
    halves.sort_unstable();
    let [first, second] = halves.try_into().ok()?;
    let is_nil = |half: &str| half.bytes().all(|b| b == b'0');
    (!is_nil(first) && !is_nil(second)).then(|| format!("{first} {second}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// After the example of RFC 7865 §10.1, with both participants' names.
    pub const COMPLETE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns='urn:ietf:params:xml:ns:recording:1'>
  <datamode>complete</datamode>
  <group group_id="7+OTCyoxTmqmqyA/1weDAg=="><associate-time>2026-11-12T21:00:00Z</associate-time></group>
  <session session_id="hVpd7YQgRW2nD22h7q60JQ==">
    <sipSessionID>ab30317f1a784dc48ff824d0d3715d86;remote=47755a9de7794ba387653f2099600ef2</sipSessionID>
    <group-ref>7+OTCyoxTmqmqyA/1weDAg==</group-ref>
  </session>
  <participant participant_id="srfBElmCRp2QB23b7Mpk0w==">
    <nameID aor="sip:bob@example.com"><name xml:lang="it">Bob &amp; Co</name></nameID>
  </participant>
  <participant participant_id="zSfPoSvdSDCmU3A3TRDxAw==">
    <nameID aor="sip:carol@example.com"/>
  </participant>
  <stream stream_id="UAAMm5GRQKSCMVvLyl4rFw==" session_id="hVpd7YQgRW2nD22h7q60JQ=="><label>1</label></stream>
  <stream stream_id="i1Pz3to5hGk8fuXl+PbwCw==" session_id="hVpd7YQgRW2nD22h7q60JQ=="><label>2</label></stream>
  <participantstreamassoc participant_id="srfBElmCRp2QB23b7Mpk0w==">
    <send>UAAMm5GRQKSCMVvLyl4rFw==</send><recv>i1Pz3to5hGk8fuXl+PbwCw==</recv>
  </participantstreamassoc>
  <participantstreamassoc participant_id="zSfPoSvdSDCmU3A3TRDxAw==">
    <send>i1Pz3to5hGk8fuXl+PbwCw==</send><recv>UAAMm5GRQKSCMVvLyl4rFw==</recv>
  </participantstreamassoc>
</recording>"#;

    fn complete() -> Metadata {
        Metadata::read(COMPLETE.as_bytes()).unwrap()
    }

    fn speaker(metadata: &Metadata, label: &str) -> Option<String> {
        metadata.speaker(label).map(|p| p.names[0].aor.clone())
    }

    fn partial(inside: &str) -> Metadata {
        let text = format!("<recording><datamode>partial</datamode>{inside}</recording>");
        Metadata::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_example_of_the_rfc_says_who_speaks_on_which_stream() {
        let metadata = complete();
        assert_eq!(speaker(&metadata, "1").as_deref(), Some("sip:bob@example.com"));
        assert_eq!(metadata.speaker("1").unwrap().names[0].name.as_deref(), Some("Bob & Co"));
        assert_eq!(speaker(&metadata, "2").as_deref(), Some("sip:carol@example.com"));
        assert_eq!(speaker(&metadata, "3"), None);
        assert_eq!(
            metadata.communications(),
            [
                "group 7+OTCyoxTmqmqyA/1weDAg==",
                "session hVpd7YQgRW2nD22h7q60JQ==",
                "sip 47755a9de7794ba387653f2099600ef2 ab30317f1a784dc48ff824d0d3715d86"
            ]
        );
    }

    #[test]
    fn an_update_changes_what_it_names() {
        let mut metadata = complete();
        metadata.update(partial(
            "<participant participant_id='d'><nameID aor='sip:dave@example.com'/></participant>\
             <participantstreamassoc participant_id='d'><send>i1Pz3to5hGk8fuXl+PbwCw==</send></participantstreamassoc>",
        ));
        assert_eq!(speaker(&metadata, "1").as_deref(), Some("sip:bob@example.com"));
        assert_eq!(speaker(&metadata, "2").as_deref(), Some("sip:dave@example.com"), "Carol handed over to Dave");
        metadata.update(partial(
            "<participantstreamassoc participant_id='srfBElmCRp2QB23b7Mpk0w=='><send>UAAMm5GRQKSCMVvLyl4rFw==</send>\
             <disassociate-time>2026-11-12T21:10:00Z</disassociate-time></participantstreamassoc>",
        ));
        assert_eq!(speaker(&metadata, "1"), None, "Bob has left");
        metadata.update(complete());
        assert_eq!(speaker(&metadata, "2").as_deref(), Some("sip:carol@example.com"), "everything anew");
    }

    #[test]
    fn updates_have_an_end() {
        let mut metadata = complete();
        for round in 0..10 {
            let many: String = (0..900).map(|n| format!("<group group_id='{round}-{n}'/>")).collect();
            metadata.update(partial(&many));
        }
        assert!(metadata.size() <= 5 * Metadata::MOST);
        assert_eq!(speaker(&metadata, "1").as_deref(), Some("sip:bob@example.com"));
    }

    #[test]
    fn both_ends_of_a_sip_session_name_it_alike() {
        let (a, b) = ("a".repeat(32), "B".repeat(32));
        let one = sip_session(&format!("local={a};remote={b}"));
        assert_eq!(one, sip_session(&format!("{b};remote={a}")));
        assert!(one.is_some());
        for unknown in ["", "x", &a, &format!("{a};remote={}", "0".repeat(32)), &format!("{a};{a};{b}")] {
            assert_eq!(sip_session(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn what_is_no_metadata_is_refused() {
        for text in [
            "<record/>",
            "<recording><datamode>some</datamode></recording>",
            "<recording><participant/></recording>",
            "<recording><stream stream_id=' '/></recording>",
            "<recording><participantstreamassoc/></recording>",
        ] {
            assert!(matches!(Metadata::read(text.as_bytes()), Err(BodyError::Broken(_))), "{text}");
        }
        assert!(Metadata::read(b"<recording/>").unwrap().complete, "nothing said is everything");
    }
}
