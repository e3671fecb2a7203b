//! What the journal keeps of a command: all that a call needs to do the same again, but no audio.

use crate::call::ears::Ears;
use crate::call::{CallOptions, Command};
use crate::event::{Given, What};
use crate::media::seed::Seed;
use serde::Deserialize;

impl Command {
    /// As the journal keeps it; `None` for a question, which changes nothing, and for a key, which is never journalled
    /// by value (DESIGN §2.7): what it led to is.
    pub fn given(&self) -> Option<Given> {
        match self {
            Command::Describe
            | Command::Press { .. }
            | Command::Pair { .. }
            | Command::KeyIn { .. }
            | Command::Dial { .. } => None,
            Command::AddLeg(_)
            | Command::Supervise(_)
            | Command::TakeIn { .. }
            | Command::SetConsent { .. }
            | Command::MoveOn { .. }
            | Command::TakeOver { .. }
            | Command::GiveBack { .. }
            | Command::Tell { .. }
            | Command::SetMedia { .. }
            | Command::SetPlace { .. }
            | Command::SetHeld { .. }
            | Command::SetRole { .. }
            | Command::FarEndChanged { .. }
            | Command::Vouch { .. }
            | Command::SetAddress { .. }
            | Command::RemoveLeg { .. }
            | Command::SetMode { .. }
            | Command::Prove(_)
            | Command::SetVolume { .. }
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
        let (seed, listen, record, ears) = (Seed::written(self.seed), self.listen, self.record, self.ears);
        Given(serde_json::json!({ "do": "open", "seed": seed, "listen": listen, "record": record, "ears": ears }))
    }

    /// From the two events that begin a call: the first command, and `call.pending` with its names.
    pub fn from_given(given: &Given, pending: &What) -> Option<Self> {
        let What::CallPending { caller, called, code } = pending else { return None };
        let open = given.0.as_object().filter(|o| o.get("do").is_some_and(|v| v == "open"))?;
        let flag = |name: &str| open.get(name)?.as_bool();
        let seed = Seed::read(open.get("seed")?.as_str()?)?;
        let (listen, record) = (flag("listen")?, flag("record")?);
        // Journals older than ears have none.
        let ears = open.get("ears").map_or(Ok(Ears::default()), Ears::deserialize).ok()?;
        Some(CallOptions { seed, caller: caller.clone(), called: called.clone(), code: *code, listen, record, ears })
    }
}

/// Audio as its length in samples at 8 kHz.
pub(super) mod length {
    use crate::call::Sound;
    use serde::{Deserialize, Deserializer, Serializer};

    /// As long as a clip may last, and as ringback that is played over and over.
    const MOST: usize = 1 << 20;

    pub fn serialize<S: Serializer>(pcm: &Sound, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(pcm.len() as u64)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Sound, D::Error> {
        let length = usize::deserialize(from)?;
        Ok(vec![0; length.min(MOST)].into())
    }
}
