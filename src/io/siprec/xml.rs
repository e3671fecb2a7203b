//! An XML document as a small tree: names without their prefixes, attributes, text. Depth, elements and the length of
//! every text are bounded, and documents that declare anything of their own (a DTD, entities) are refused.

use super::{BodyError, broken};
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

/// Elements within elements: metadata has four.
const MOST_DEPTH: usize = 16;
/// Elements in all. A communication of two has about twenty.
const MOST_ELEMENTS: usize = 2_000;
/// Attributes of one element.
const MOST_ATTRIBUTES: usize = 32;
/// Bytes of a text, or of an attribute's value.
const LONGEST: usize = 1_024;

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::io) struct Element {
    /// Without its prefix.
    pub name: String,
    attributes: Vec<(String, String)>,
    /// Its own text, without that of its children.
    text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// An attribute's value, by its name without prefix.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Its children of a name.
    pub fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |c| c.name == name)
    }

    /// The text of its first child of a name; none where that is empty.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|c| c.name == name).map(Element::text).filter(|t| !t.is_empty())
    }

    /// Its text, without the space around it.
    pub fn text(&self) -> &str {
        self.text.trim()
    }
}

/// The root of a document.
pub(in crate::io) fn read(bytes: &[u8]) -> Result<Element, BodyError> {
    let text = std::str::from_utf8(bytes).map_err(|_| broken("the metadata is not UTF-8"))?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}').trim());
    // The open elements, outermost first.
    let (mut open, mut root, mut count): (Vec<Element>, Option<Element>, usize) = (Vec::new(), None, 0);
    loop {
        let event =
            reader.read_event().map_err(|e| broken(format!("the metadata is no XML: {}", short(&e.to_string()))))?;
        match event {
            Event::Start(_) | Event::Empty(_) if root.is_some() => return Err(broken("the metadata has two roots")),
            Event::Start(start) => open.push(element(&start, &mut count, open.len())?),
            Event::Empty(start) => {
                let empty = element(&start, &mut count, open.len())?;
                close(empty, &mut open, &mut root);
            }
            Event::End(_) => {
                let ended = open.pop().ok_or_else(|| broken("the metadata ends an element that did not begin"))?;
                close(ended, &mut open, &mut root);
            }
            Event::Text(text) => add(&mut open, &text.xml10_content())?,
            Event::CData(text) => add(&mut open, &text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let name = reference.xml10_content();
                let one = reference.resolve_char_ref().ok().flatten().map(String::from);
                let meant = one.or_else(|| resolve_predefined_entity(&name).map(str::to_owned));
                add(
                    &mut open,
                    &meant.ok_or_else(|| broken("the metadata refers to an entity that is not XML's own"))?,
                )?;
            }
            Event::DocType(_) => return Err(broken("the metadata must not have a document type of its own")),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof if open.is_empty() => return root.ok_or_else(|| broken("the metadata is empty")),
            Event::Eof => return Err(broken("the metadata ends in the middle of an element")),
        }
    }
}

fn element(start: &BytesStart<'_>, count: &mut usize, depth: usize) -> Result<Element, BodyError> {
    *count += 1;
    if depth >= MOST_DEPTH || *count > MOST_ELEMENTS {
        return Err(broken("the metadata has too many elements, or too deep ones"));
    }
    let name = bounded(start.local_name().as_ref())?;
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| broken(format!("the metadata is no XML: {}", short(&e.to_string()))))?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0);
        let value =
            value.map_err(|_| broken("an attribute of the metadata refers to an entity that is not XML's own"))?;
        attributes.push((bounded(attribute.key.local_name().as_ref())?, bounded(&value)?));
        if attributes.len() > MOST_ATTRIBUTES {
            return Err(broken("an element of the metadata has too many attributes"));
        }
    }
    Ok(Element { name, attributes, ..Element::default() })
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

/// Text outside of the root means nothing.
fn add(open: &mut [Element], text: &str) -> Result<(), BodyError> {
    let Some(element) = open.last_mut() else { return Ok(()) };
    if element.text.len() + text.len() > LONGEST {
        return Err(too_long());
    }
    element.text.push_str(text);
    Ok(())
}

fn bounded(text: &str) -> Result<String, BodyError> {
    if text.len() > LONGEST { Err(too_long()) } else { Ok(text.to_owned()) }
}

fn too_long() -> BodyError {
    broken(format!("a text of the metadata has more than {LONGEST} bytes"))
}

/// An error of the parser as one short line: it may quote the peer.
fn short(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii() && !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_a_tree_without_prefixes() {
        let text = "\u{feff}<?xml version='1.0'?><!-- by us --><r:a xmlns:r='urn:x' i='&lt;1&#62;'> x <r:b/>&amp;<![CDATA[<y>]]></r:a>";
        let root = read(text.as_bytes()).unwrap();
        assert_eq!((root.name.as_str(), root.text(), root.attribute("i")), ("a", "x &<y>", Some("<1>")));
        assert_eq!(root.all("b").count(), 1);
    }

    #[test]
    fn what_is_hostile_is_refused() {
        let laughs = "<!DOCTYPE a [<!ENTITY b \"cccccccc\">]><a>&b;</a>";
        for text in [
            "",
            "hello",
            "<a>",
            "</a>",
            "<a></b>",
            "<a/><b/>",
            "<a b='1' b='2'/>",
            "<a b=1/>",
            laughs,
            "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
            "<a>&file;</a>",
            "<a b='&file;'/>",
            "<a>&#0;</a>",
            "<a>&#x110000;</a>",
            &("<a>".repeat(100_000)),
            &("<a>".repeat(17) + &"</a>".repeat(17)),
            &format!("<a>{}</a>", "<b/>".repeat(2_000)),
            &format!("<a>{}</a>", "x".repeat(1_025)),
            &format!("<a b='{}'/>", "x".repeat(1_025)),
            &format!("<a {}/>", (0..40).map(|n| format!("a{n}='1' ")).collect::<String>()),
        ] {
            assert!(matches!(read(text.as_bytes()), Err(BodyError::Broken(_))), "{:.80}", text);
        }
        assert!(read(b"<a>\xff</a>").is_err());
    }
}
