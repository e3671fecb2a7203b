//! What the hearing probe found out about trunks: one file each in the store's folder, `probes/<trunk>-<kind>.json`.

use crate::call::Proven;
use crate::config::Config;
use crate::event::Mode;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What was probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A customer and an agent, each on a line of their own.
    Call,
    /// A conference, and a private line beside it.
    Bridge,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Call => "call",
            Kind::Bridge => "bridge",
        }
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Of which trunk.
    pub trunk: String,
    /// Of what.
    pub kind: Kind,
    /// When, milliseconds since 1970 UTC.
    pub wall_ms: i64,
    /// The modes in which exactly those heard who should.
    pub modes: Vec<Mode>,
}

/// Where a verdict lies. Whatever a trunk is called stays in its folder.
pub fn place(store: &Path, trunk: &str, kind: Kind) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '.' };
    let name: String = trunk.chars().map(plain).collect();
    store.join("probes").join(format!("{name}-{}.json", kind.name()))
}

/// Writes a verdict: whole or not at all.
pub fn write(store: &Path, verdict: &Verdict) -> std::io::Result<PathBuf> {
    let path = place(store, &verdict.trunk, verdict.kind);
    let new = path.with_extension("json.new");
    std::fs::create_dir_all(store.join("probes"))?;
    std::fs::write(&new, format!("{:#}\n", serde_json::json!(verdict)))?;
    std::fs::rename(&new, &path)?;
    Ok(path)
}

/// What may be offered over a trunk; none: everything. A verdict that cannot be read proves nothing.
pub async fn proven(config: &Config, trunk: &str, kind: Kind) -> Option<Proven> {
    config.trunks.iter().find(|t| t.name == trunk && t.proven_only)?;
    let read = tokio::fs::read(place(&config.store.dir, trunk, kind)).await.ok();
    let verdict = read.and_then(|bytes| serde_json::from_slice::<Verdict>(&bytes).ok());
    let verdict = verdict.filter(|v| v.trunk == trunk && v.kind == kind);
    let has = |mode| verdict.as_ref().is_some_and(|v| v.modes.contains(&mode));
    let what = match kind {
        Kind::Call => "calls",
        Kind::Bridge => "conferences",
    };
    let reason = match &verdict {
        Some(_) => format!(
            "the hearing probe has not proven this mode for {what} over the trunk {trunk:?}, which offers proven ones only"
        ),
        None => format!(
            "the trunk {trunk:?} offers proven modes only, and {what} over it were never probed: run sotto probe"
        ),
    };
    let refused = |mode| (!has(mode)).then(|| reason.clone());
    Some(Proven { whisper: refused(Mode::Whisper), barge: refused(Mode::Barge) })
}
