//! What is printed: the figures of each run as JSON, and one line of them for people.

use super::generator::Found;
use super::scenario::Scenario;
use super::usage::Usage;
use crate::event::Role;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// A generator whose slots are later than this, one in a hundred, or which is busier than this, has no say about delays.
const LATE_MS: f64 = 2.0;
const BUSY: f64 = 0.8;

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// How datagrams passed the kernel: `io_uring` or `plain`.
    pub io: &'static str,
    /// Seconds measured in each run.
    pub seconds: u64,
    /// One for each scenario and number of calls.
    pub runs: Vec<Run>,
}

/// On what was measured.
#[derive(Debug, Serialize)]
pub struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Machine {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(": "));
        Machine {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: model.map_or(String::new(), |(_, name)| name.trim().into()),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
        }
    }
}

/// One scenario with one number of calls, and the floor in the same sitting.
#[derive(Debug, Serialize)]
pub struct Run {
    pub scenario: Scenario,
    pub calls: usize,
    pub legs_per_call: usize,
    /// Whether both sides are decoded and buffered for ears besides.
    pub tapped: bool,
    /// The server's CPU by the floor's: the figure to quote.
    pub ratio_to_floor: Option<f64>,
    pub server: Side,
    /// Two-legged calls, whatever the scenario.
    pub floor: Side,
    pub ticks: Ticks,
    /// Heap in use for each call; `null` where the allocator does not tell.
    pub bytes_per_call: Option<u64>,
}

/// What was measured of one side.
#[derive(Debug, Serialize)]
pub struct Side {
    /// Of the thread that moves the media, in milliseconds.
    pub cpu_ms_per_call_per_second: f64,
    /// Which part of it the kernel had; `null` below a second of it, for it is sampled a hundred times a second.
    pub system_share: Option<f64>,
    pub context_switches_per_call_per_second: f64,
    /// Milliseconds in each second for which the thread was ready and had no core: the neighbours' doing.
    pub waited_ms_per_second: f64,
    /// From the sending of a pulse to the packet in which it is heard, in milliseconds, by `who->whom`.
    pub delays_ms: BTreeMap<String, Delay>,
    pub packets: Packets,
    pub generator: Generated,
}

/// Who heard whom, and how late.
#[derive(Debug, Serialize)]
pub struct Delay {
    /// Which part of the pulses was heard.
    heard: f64,
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

/// Packets of all legs.
#[derive(Debug, Serialize)]
pub struct Packets {
    sent: u64,
    received: u64,
    lost: u64,
}

/// The calls' 20 ms ticks.
#[derive(Debug, Serialize)]
pub struct Ticks {
    pub all: u64,
    pub over_5_ms_late: u64,
    pub over_20_ms_late: u64,
}

/// The generator itself.
#[derive(Debug, Serialize)]
pub struct Generated {
    /// Which part of a core it used.
    utilisation: f64,
    late_ms_p50: f64,
    late_ms_p99: f64,
    late_ms_max: f64,
    /// It could not keep its own time: delays of this run are not the server's alone.
    pub late: bool,
}

impl Side {
    /// From what the generator found of a thread that was used like this, with so many calls.
    pub fn new<T>(found: &mut Found<T>, used: Usage, calls: usize) -> Side {
        let seconds = found.measured.as_secs_f64();
        let each = |value: f64| rounded(value / seconds / calls as f64);
        let counts = found.counts;
        Side {
            cpu_ms_per_call_per_second: each(ms(used.cpu)),
            system_share: used.system_share().map(rounded),
            context_switches_per_call_per_second: each(used.switches as f64),
            waited_ms_per_second: rounded(ms(used.waited) / seconds),
            delays_ms: delays(found),
            packets: Packets {
                sent: counts.sent,
                received: counts.received,
                lost: counts.expected.saturating_sub(counts.received),
            },
            generator: Generated::new(&mut found.lateness, ms(found.usage.cpu) / 1000.0 / seconds),
        }
    }
}

impl Generated {
    fn new(lateness: &mut [f64], utilisation: f64) -> Generated {
        lateness.sort_by(f64::total_cmp);
        let [late_ms_p50, late_ms_p99, late_ms_max] = [0.5, 0.99, 1.0].map(|part| percentile(lateness, part));
        let late = late_ms_p99 > LATE_MS || utilisation > BUSY;
        Generated { utilisation: rounded(utilisation), late_ms_p50, late_ms_p99, late_ms_max, late }
    }
}

fn delays<T>(found: &mut Found<T>) -> BTreeMap<String, Delay> {
    let Found { delays, pulses, .. } = found;
    let delay = |((from, to), delays): (&(Role, Role), &mut Vec<f64>)| {
        delays.sort_by(f64::total_cmp);
        let sent = pulses.get(from).copied().unwrap_or(0).max(1);
        let [p50, p95, p99, max] = [0.5, 0.95, 0.99, 1.0].map(|part| percentile(delays, part));
        (
            format!("{}->{}", name(*from), name(*to)),
            Delay { heard: rounded(delays.len() as f64 / sent as f64), p50, p95, p99, max },
        )
    };
    delays.iter_mut().map(delay).collect()
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Customer => "customer",
        Role::Agent => "agent",
        Role::Supervisor => "supervisor",
        Role::Bridge => "bridge",
        Role::Earpiece => "earpiece",
    }
}

/// Of sorted values; 0 where there are none.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    rounded(sorted.get(at).copied().unwrap_or(0.0))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// To three places: what is beyond is noise.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Run {
    /// The heads of [`Run::line`].
    pub const HEAD: &str = "scenario   calls  cpu ms/call/s  floor  ratio  worst p99 ms   lost  late ticks  kB/call";

    /// For people.
    pub fn line(&self) -> String {
        let worst = self.server.delays_ms.values().map(|d| d.p99).fold(0.0, f64::max);
        let ratio = self.ratio_to_floor.map_or("-".into(), |r| format!("{r:.2}"));
        let memory = self.bytes_per_call.map_or("-".into(), |bytes| format!("{}", bytes / 1000));
        let late = [&self.server, &self.floor].iter().any(|side| side.generator.late);
        format!(
            "{:<10} {:>5}  {:>13.3}  {:>5.2}  {:>5}  {:>12.2}  {:>5}  {:>10}  {:>7}{}",
            format!("{:?}", self.scenario).to_lowercase(),
            self.calls,
            self.server.cpu_ms_per_call_per_second,
            self.floor.cpu_ms_per_call_per_second,
            ratio,
            worst,
            self.server.packets.lost,
            self.ticks.over_5_ms_late,
            memory,
            if late { "  (the generator was late)" } else { "" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|p| percentile(&values, p)), [0.0, 50.0, 99.0, 100.0]);
        assert_eq!((percentile(&[], 0.5), percentile(&[7.0], 0.99)), (0.0, 7.0));
    }

    #[test]
    fn a_generator_that_cannot_keep_time_is_told_apart() {
        for (lateness, utilisation, late) in [(1.0, 0.3, false), (3.0, 0.3, true), (1.0, 0.9, true)] {
            assert_eq!(Generated::new(&mut [lateness; 50], utilisation).late, late, "{lateness} {utilisation}");
        }
    }
}
