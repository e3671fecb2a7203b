//! `[load]`: how much the server takes on, and how it goes.

use super::raw::Section;
use std::time::Duration;

/// How much the server takes on, and how it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Calls at once, supervisors' lines and recording sessions among them.
    pub calls: usize,
    /// The share (0 to 1) of its cores that the process may use, and of one core each media thread, before calls are
    /// refused. None: it is not looked at, nor what threads wait for.
    pub cpu: Option<f32>,
    /// The share (0 to 1) of ticks that may come more than 5 ms late before calls are refused. None: as above.
    pub late: Option<f32>,
    /// Messages outside of calls that an address which is no trunk's may send in a second.
    pub messages: u32,
    /// The same of an address of a trunk.
    pub trunk_messages: u32,
    /// How long calls may go on after the first SIGTERM.
    pub drain: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Load {
            calls: 2_000,
            cpu: Some(0.85),
            late: Some(0.02),
            messages: 50,
            trunk_messages: 5_000,
            drain: Duration::from_secs(60),
        }
    }
}

pub(super) fn load(mut section: Section<'_>) -> Load {
    let usual = Load::default();
    let mut share = |key, usual: Option<f32>| match section.whole(key, 0..=100).map(|w| w.value) {
        None => usual,
        Some(0) => None,
        Some(percent) => Some(percent as f32 / 100.0),
    };
    let (cpu, late) = (share("cpu", usual.cpu), share("late", usual.late));
    let calls = section.whole("calls", 1..=100_000).map_or(usual.calls, |w| w.value as usize);
    let mut rate = |key, usual| section.whole(key, 1..=1_000_000).map_or(usual, |w| w.value as u32);
    let (messages, trunk_messages) = (rate("messages", usual.messages), rate("trunk_messages", usual.trunk_messages));
    let drain = section.whole("drain", 0..=86_400).map_or(usual.drain, |w| Duration::from_secs(w.value.unsigned_abs()));
    section.end();
    Load { calls, cpu, late, messages, trunk_messages, drain }
}
