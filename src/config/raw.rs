//! A TOML file as written: a tree in which every value knows its place, and a reader that asks it for keys.
//!
//! In goes text; out come typed values, or faults with `file:line`. Whoever reads a [`Section`] names each key it
//! knows; [`Section::end`] then reports every key nobody asked for, with the nearest that exists.

use super::fault::{Faults, Origin};
use std::ops::RangeInclusive;
use toml::de::{DeTable, DeValue};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Written<T> {
    pub at: Origin,
    pub value: T,
}

/// What was written.
#[derive(Clone, Debug)]
pub(super) enum Raw {
    Text(String),
    Whole(i64),
    Flag(bool),
    List(Vec<Written<Raw>>),
    Table(Table),
    /// From the environment: text whose type is that of the key it overrides.
    Untyped(String),
    /// A date or a fraction: no key of ours takes one.
    Other(&'static str),
}

impl Raw {
    fn kind(&self) -> &'static str {
        match self {
            Raw::Text(_) | Raw::Untyped(_) => "a text",
            Raw::Whole(_) => "a whole number",
            Raw::Flag(_) => "true or false",
            Raw::List(_) => "a list",
            Raw::Table(_) => "a table",
            Raw::Other(kind) => kind,
        }
    }
}

/// A table: where it begins, and its entries by the place of their keys.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub at: Origin,
    pub entries: Vec<(String, Written<Raw>)>,
}

/// Reads a file's text. What is not TOML is a fault; the rest of the file is still read.
pub(super) fn parse(file: &str, text: &str, faults: &Faults) -> Table {
    let (table, errors) = DeTable::parse_recoverable(text);
    let place = Place { file, text };
    for error in errors {
        let at = place.at(error.span().map_or(0, |s| s.start));
        faults.add(&at, format!("this is not TOML: {}", error.message()), "see https://toml.io for the syntax");
    }
    place.table(0, table.get_ref())
}

struct Place<'a> {
    file: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn at(&self, offset: usize) -> Origin {
        let lines = self.text.bytes().take(offset).filter(|b| *b == b'\n').count();
        Origin::line(self.file, lines + 1)
    }

    fn table(&self, offset: usize, table: &DeTable<'_>) -> Table {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entries = entries.into_iter().map(|(key, value)| {
            let written =
                Written { at: self.at(key.span().start), value: self.raw(value.span().start, value.get_ref()) };
            (key.get_ref().to_string(), written)
        });
        Table { at: self.at(offset), entries: entries.collect() }
    }

    fn raw(&self, offset: usize, value: &DeValue<'_>) -> Raw {
        match value {
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Integer(i) => {
                i64::from_str_radix(i.as_str(), i.radix()).map_or(Raw::Other("so large a number"), Raw::Whole)
            }
            DeValue::Boolean(flag) => Raw::Flag(*flag),
            DeValue::Array(items) => Raw::List(
                items
                    .iter()
                    .map(|v| Written { at: self.at(v.span().start), value: self.raw(v.span().start, v.get_ref()) })
                    .collect(),
            ),
            DeValue::Table(table) => Raw::Table(self.table(offset, table)),
            DeValue::Float(_) => Raw::Other("a fraction"),
            DeValue::Datetime(_) => Raw::Other("a date"),
        }
    }
}

/// A table being read, key by key.
pub(super) struct Section<'a> {
    /// Where it begins.
    pub at: Origin,
    path: String,
    entries: Vec<(String, Written<Raw>)>,
    known: Vec<&'static str>,
    faults: &'a Faults,
}

impl<'a> Section<'a> {
    /// `path`: what to call it in messages, empty for the file itself.
    pub(super) fn new(path: &str, table: Table, faults: &'a Faults) -> Self {
        Section { at: table.at, path: path.into(), entries: table.entries, known: Vec::new(), faults }
    }

    /// The place of a key, or of the section where the key is absent.
    pub(super) fn place(&self, key: &str) -> Origin {
        self.entries.iter().find(|(k, _)| k == key).map_or_else(|| self.at.clone(), |(_, w)| w.at.clone())
    }

    fn take(&mut self, key: &'static str) -> Option<Written<Raw>> {
        self.known.push(key);
        self.entries.iter().find(|(k, _)| k == key).map(|(_, written)| written.clone())
    }

    fn wrong(&self, key: &str, written: &Written<Raw>, want: &str) {
        let what = format!("{} is {}", self.name(key), written.value.kind());
        self.faults.add(&written.at, what, format!("write {want}"));
    }

    /// The full name of a key, as messages show it.
    pub(super) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    /// Whether the key is there; asked for later.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(k, _)| k == key)
    }

    /// The names of all keys written.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.as_str())
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<Written<String>> {
        let written = self.take(key)?;
        match written.value {
            Raw::Text(value) | Raw::Untyped(value) => Some(Written { at: written.at, value }),
            Raw::Whole(_) | Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_) => {
                self.wrong(key, &written, "a text in quotes");
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn whole(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<Written<i64>> {
        let written = self.take(key)?;
        let want = format!("a whole number from {} to {}", range.start(), range.end());
        let value = match &written.value {
            Raw::Whole(value) => Some(*value),
            Raw::Untyped(text) => text.trim().parse().ok(),
            Raw::Text(_) | Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_) => None,
        };
        let Some(value) = value else {
            self.wrong(key, &written, &want);
            return None;
        };
        if !range.contains(&value) {
            self.faults.add(&written.at, format!("{} is {value}", self.name(key)), format!("write {want}"));
            return None;
        }
        Some(Written { at: written.at, value })
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let written = self.take(key)?;
        match &written.value {
            Raw::Flag(value) => return Some(*value),
            Raw::Untyped(text) => {
                if let Ok(value) = text.trim().parse() {
                    return Some(value);
                }
            }
            Raw::Text(_) | Raw::Whole(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_) => {}
        }
        self.wrong(key, &written, "true or false");
        None
    }

    /// A list of texts; from the environment, texts with commas between.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Written<String>>> {
        let written = self.take(key)?;
        match written.value {
            Raw::List(items) => Some(items.into_iter().filter_map(|item| self.item(key, item)).collect()),
            Raw::Untyped(text) => Some(split_list(&written.at, &text)),
            Raw::Text(_) | Raw::Whole(_) | Raw::Flag(_) | Raw::Table(_) | Raw::Other(_) => {
                self.wrong(key, &written, "a list of texts, in brackets");
                None
            }
        }
    }

    /// One text, or a list of them.
    pub(super) fn text_or_texts(&mut self, key: &'static str) -> Option<Vec<Written<String>>> {
        let is_list = self.entries.iter().any(|(k, written)| k == key && matches!(written.value, Raw::List(_)));
        if is_list { self.texts(key) } else { self.text(key).map(|text| vec![text]) }
    }

    fn item(&self, key: &str, item: Written<Raw>) -> Option<Written<String>> {
        let Raw::Text(value) = item.value else {
            self.faults.add(
                &item.at,
                format!("{} holds {}", self.name(key), item.value.kind()),
                "write a list of texts, each in quotes",
            );
            return None;
        };
        Some(Written { at: item.at, value })
    }

    /// A table below this one: empty where it is absent, so that its defaults hold.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let path = self.name(key);
        let empty = Table { at: self.at.clone(), entries: Vec::new() };
        let Some(written) = self.take(key) else { return Section::new(&path, empty, self.faults) };
        let Raw::Table(table) = written.value else {
            self.wrong(key, &written, &format!("a section [{path}]"));
            return Section::new(&path, empty, self.faults);
        };
        Section::new(&path, Table { at: written.at, ..table }, self.faults)
    }

    /// A list of tables: `[[key]]`, or inline ones in brackets.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let path = self.name(key);
        let Some(written) = self.take(key) else { return Vec::new() };
        let Raw::List(items) = written.value else {
            self.wrong(key, &written, &format!("[[{path}]], or a list of tables in brackets"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            match item.value {
                Raw::Table(table) => sections.push(Section::new(&path, Table { at: item.at, ..table }, self.faults)),
                Raw::Text(_) | Raw::Whole(_) | Raw::Flag(_) | Raw::List(_) | Raw::Untyped(_) | Raw::Other(_) => {
                    let what = format!("{path} holds {}", item.value.kind());
                    self.faults.add(&item.at, what, "write a table for each, in braces");
                }
            }
        }
        sections
    }

    /// Reports the keys nobody asked for.
    pub(super) fn end(self) {
        for (key, written) in &self.entries {
            if !self.known.contains(&key.as_str()) {
                let remedy = nearest(key, self.known.iter().copied());
                self.faults.add(&written.at, format!("unknown key {}", self.name(key)), remedy);
            }
        }
    }
}

/// Splits a list from the environment: `a, b`, or as TOML writes it, `["a", "b"]`.
fn split_list(at: &Origin, text: &str) -> Vec<Written<String>> {
    let text = text.trim();
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let bare = |item: &'_ str| -> String { item.trim().trim_matches(['"', '\'']).into() };
    let items = inner.split(',').map(bare).filter(|item| !item.is_empty());
    items.map(|value| Written { at: at.clone(), value }).collect()
}

/// Advice for a name that does not exist: the nearest that does, or all of them.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    let best = known.clone().map(|k| (k, strsim::jaro_winkler(name, k))).max_by(|a, b| a.1.total_cmp(&b.1));
    // 0.75 keeps slips of the finger and drops what is merely as long.
    match best {
        Some((k, likeness)) if likeness > 0.75 => format!("did you mean {k}?"),
        Some(_) => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
        None => "nothing is known here: take it out".into(),
    }
}
