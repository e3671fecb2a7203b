//! `sotto bench media` prints JSON of the shape that others read, with figures that can be true. How large they are is
//! nobody's business here: machines differ.

use serde_json::Value;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sotto")).args(["bench", "media"]).args(arguments).output().unwrap()
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {value:#}"))
}

/// Who hears whom in some kinds of calls. (That nobody else does is held by tests that no stall can mislead.)
const HEARD: [(&str, &[&str]); 5] = [
    ("tapped", &["customer->agent", "agent->customer"]),
    ("whispered", &["customer->agent", "customer->supervisor", "agent->supervisor", "supervisor->agent"]),
    ("barged", &["agent->customer", "supervisor->customer", "supervisor->agent"]),
    ("opus", &["customer->agent", "agent->customer"]),
    ("srtp", &["customer->agent", "agent->customer"]),
];

#[test]
fn kinds_of_calls_are_measured_beside_the_floor() {
    let scenarios = HEARD.map(|(scenario, _)| scenario).join(",");
    let output = bench(&["--calls", "2", "--seconds", "1", "--scenarios", &scenarios]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.lines().count(), 1 + HEARD.len(), "a head, and a line for each run: {said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(["io_uring", "plain"].contains(&report["io"].as_str().unwrap()));
    assert!(number(&report, "/machine/cores") >= 1.0);
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), HEARD.len());
    for (run, (scenario, paths)) in runs.iter().zip(HEARD) {
        assert_eq!((&run["scenario"], &run["calls"]), (&scenario.into(), &2.into()));
        let heard = run["server"]["delays_ms"].as_object().unwrap();
        assert!(paths.iter().all(|path| heard.contains_key(*path)), "{scenario}: {heard:?}");
        plausible(run, "/server", number(run, "/legs_per_call"));
        plausible(run, "/floor", 2.0);
        let ticks = number(run, "/ticks/all");
        assert!((50.0..=200.0).contains(&ticks), "two calls, fifty ticks a second: {ticks}");
        let bytes = number(run, "/bytes_per_call");
        assert!((10_000.0..5_000_000.0).contains(&bytes), "{scenario}: {bytes}");
        assert!(number(run, "/ratio_to_floor") > 0.0);
    }
}

/// One side of a run in which two calls of so many legs were measured for a second. A loaded machine may make everyone
/// late, but what is sent comes back.
fn plausible(run: &Value, side: &str, legs: f64) {
    let of = |path: &str| number(run, &format!("{side}{path}"));
    let cpu = of("/cpu_ms_per_call_per_second");
    assert!(cpu > 0.0 && cpu < 500.0, "{cpu} ms: two calls have less than a core");
    let (sent, received) = (of("/packets/sent"), of("/packets/received"));
    assert!((0.5..2.0).contains(&(sent / (2.0 * legs * 50.0))), "{sent} packets of {legs} legs");
    assert!((0.5..1.5).contains(&(received / sent)), "{received} of {sent}");
    let utilisation = of("/generator/utilisation");
    assert!(utilisation > 0.0 && utilisation <= 1.1, "{utilisation}");
    for (path, delay) in run.pointer(&format!("{side}/delays_ms")).unwrap().as_object().unwrap() {
        assert!(number(delay, "/heard") > 0.0 && number(delay, "/heard") <= 2.0, "{path}: {delay}");
        assert!(number(delay, "/p50") > 0.0 && number(delay, "/p50") <= number(delay, "/max"), "{path}: {delay}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for (arguments, told) in [
        (["--calls", "0"], "0 is not in 1..=10000"),
        (["--seconds", "0"], "0 is not in 1..=3600"),
        (["--scenarios", "loud"], "possible values: plain, tapped, spied, whispered, barged, opus, srtp"),
        (["--io", "carrier-pigeon"], "possible values: auto, ring, plain"),
    ] {
        let output = bench(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(told), "{arguments:?}: {output:?}");
    }
}

#[test]
fn json_alone_is_json_alone() {
    let output = bench(&["--calls", "1", "--seconds", "1", "--scenarios", "plain", "--io", "plain", "--json"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["io"], report["runs"].as_array().unwrap().len()), (&"plain".into(), 1));
}
