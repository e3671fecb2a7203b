//! Overrides from the environment: `SOTTO__SECTION__KEY` takes the place of `key` in `[section]`.

use super::fault::{Faults, Origin};
use super::raw::{Raw, Table, Written};

const PREFIX: &str = "SOTTO__";

/// Puts every override into the tree, in the order of their names. Its type is settled when its key is read.
pub(super) fn apply(root: &mut Table, env: impl Iterator<Item = (String, String)>, faults: &Faults) {
    let mut overrides: Vec<_> = env.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    overrides.sort();
    for (name, value) in overrides {
        put(root, &name, value, faults);
    }
}

fn put(root: &mut Table, name: &str, value: String, faults: &Faults) {
    let at = Origin::whole(name);
    let path = name.trim_start_matches(PREFIX).to_ascii_lowercase();
    let Some((section, key)) = path.split_once("__").filter(|(s, k)| !s.is_empty() && !k.is_empty()) else {
        faults.add(&at, "an override names a section and a key", "write SOTTO__SECTION__KEY, as SOTTO__HTTP__LISTEN");
        return;
    };
    let Raw::Table(table) = &mut entry(root, section, &at).value else {
        faults.add(&at, format!("{section} is no section that can be overridden"), "write it in the file");
        return;
    };
    table.entries.retain(|(k, _)| k != key);
    table.entries.push((key.into(), Written { at, value: Raw::Untyped(value) }));
}

/// The section, made where the file has none.
fn entry<'t>(root: &'t mut Table, section: &str, at: &Origin) -> &'t mut Written<Raw> {
    let place = root.entries.iter().position(|(key, _)| key == section).unwrap_or_else(|| {
        let table = Table { at: at.clone(), entries: Vec::new() };
        root.entries.push((section.into(), Written { at: at.clone(), value: Raw::Table(table) }));
        root.entries.len() - 1
    });
    &mut root.entries[place].1
}
