//! What the journal keeps of a command: all that a call needs to do the same again, but no audio.

use crate::call::{CallOptions, Command};
use crate::event::Given;
use crate::media::seed::Seed;

impl Command {
    /// As the journal keeps it; `None` for a question, which changes nothing.
    pub fn given(&self) -> Option<Given> {
        match self {
            Command::Describe => None,
            Command::AddLeg(_)
            | Command::SetMedia { .. }
            | Command::SetPlace { .. }
            | Command::SetRole { .. }
            | Command::FarEndChanged { .. }
            | Command::RemoveLeg { .. }
            | Command::SetMode { .. }
            | Command::Play(_)
            | Command::Cut { .. }
            | Command::Pause
            | Command::Resume
            | Command::Close
            | Command::End { .. } => serde_json::to_value(self).ok().map(Given),
        }
    }

    /// A command from the journal. An error where it is none, as the `open` that begins a call.
    pub fn from_given(given: &Given) -> serde_json::Result<Command> {
        serde_json::from_value(given.0.clone())
    }
}

impl CallOptions {
    /// As the journal keeps it: the first command of a call. The seed is hexadecimal: JSON's numbers have 53 bits.
    pub fn given(&self) -> Given {
        let (seed, listen, record) = (Seed::written(self.seed), self.listen, self.record);
        Given(serde_json::json!({ "do": "open", "seed": seed, "listen": listen, "record": record }))
    }

    /// Seed and purposes from the journal, the addresses from `call.pending`.
    pub fn from_given(given: &Given, caller: crate::event::Address, called: crate::event::Address) -> Option<Self> {
        let open = given.0.as_object().filter(|o| o.get("do").is_some_and(|v| v == "open"))?;
        let flag = |name: &str| open.get(name)?.as_bool();
        let seed = Seed::read(open.get("seed")?.as_str()?)?;
        Some(CallOptions { seed, caller, called, listen: flag("listen")?, record: flag("record")? })
    }
}

/// Audio as its length in samples.
pub(super) mod length {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::sync::Arc;

    /// More than any clip may have.
    const MOST: usize = 1 << 24;

    pub fn serialize<S: Serializer>(pcm: &Arc<[i16]>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(pcm.len() as u64)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[i16]>, D::Error> {
        let length = usize::deserialize(from)?;
        Ok(vec![0; length.min(MOST)].into())
    }
}
