//! A dialplan that cannot work is told before the first call, with the line of each step that is wrong.

use sotto::config::{Config, ConfigErrors, Srtp, Step};
use sotto::event::{Consent, Mode, Role};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Loads a configuration whose dialplan is `plan`.
fn load(plan: &str) -> Result<Config, ConfigErrors> {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let root = std::env::temp_dir().join(format!("sotto-dialplan-{}-{number}", std::process::id()));
    let write = |file: &str, text: &str| {
        let path: PathBuf = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("config/sotto.toml", "dialplan.files = ['plan/p.toml']\n[[trunk]]\nname = 'lab'\nsources = ['::1']\n");
    let playbook = "[[moment]]\nkind = 'objection.price'\npatterns = ['too expensive']\nprompts = ['Ask why.']\n";
    write("config/playbooks/sales-discovery.toml", playbook);
    write("plan/hello.wav", "sound");
    write("plan/p.toml", plan);
    let loaded = Config::load(&root.join("config/sotto.toml"), std::iter::empty());
    std::fs::remove_dir_all(&root).unwrap();
    loaded
}

/// The faults of a dialplan, without the folder it lay in.
fn faults(plan: &str) -> String {
    let errors = load(plan).expect_err("this dialplan is wrong").to_string();
    let lines = errors.lines().map(|line| line.split_once("plan/").map_or(line, |(_, rest)| rest));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_step_is_read() {
    let config = load(
        r#"
[[route]]
called = '(\d+)-(\d+)'
caller = 'a.*'
trunk = "lab"
caller_role = "agent"
steps = [
    {answer = {}},
    {say = "You dialled $1 and $2."},
    {play = "hello.wav"},
    {playbook = "sales-discovery"},
    {mode = "whisper"},
    {consent = "given"},
    {connect = {to = "sip:$1@[::1]:5070", timeout = 45, srtp = "required"}},
    {mode = "barge"},
]
[[route]]
called = "gone"
steps = [ {reject = {status = 410, reason = "Gone"}} ]
[[route]]
steps = [ {connect = {to = "sip:desk@127.0.0.1"}} ]
"#,
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let [first, second, third] = &config.routes[..] else { panic!("three routes") };
    assert!(first.caller_is_agent && first.at.ends_with("p.toml:2"), "{}", first.at);
    assert!(first.called.as_ref().unwrap().is_match("1-2") && !first.called.as_ref().unwrap().is_match("1-2-3"));
    assert!(matches!(&first.steps[2], Step::Play(path) if path.ends_with("plan/hello.wav")));
    let Step::Connect { to, together, timeout, srtp } = &first.steps[6] else { panic!("connect") };
    assert_eq!(first.steps[5], Step::Consent(Consent::Given));
    assert!(!together);
    assert_eq!(
        (to.as_slice(), timeout.as_secs(), *srtp),
        (&["sip:$1@[::1]:5070".to_owned()][..], 45, Some(Srtp::Required))
    );
    assert_eq!(second.steps, [Step::Reject { status: 410, reason: "Gone".into() }]);
    assert!(matches!(&third.steps[..], [Step::Connect { timeout, srtp: None, .. }] if timeout.as_secs() == 30));
    assert!(third.called.is_none() && third.caller.is_none() && third.trunk.is_none());
}

#[test]
fn a_pattern_matches_the_whole_number() {
    let config = load("[[route]]\ncalled = '1|22'\nsteps = [ {answer = {}} ]\n").unwrap();
    let called = config.routes[0].called.as_ref().unwrap();
    for (number, matches) in [("1", true), ("22", true), ("11", false), ("122", false), ("1\n", false), ("", false)] {
        assert_eq!(called.is_match(number), matches, "{number:?}");
    }
}

#[test]
fn what_cannot_work_is_told() {
    let plan = r#"[[route]]
called = '['
caller_role = "boss"
trunk = "lap"
colour = "red"
steps = [
    {say = "Hello."},
    {answer = {}},
    {answer = {now = true}},
    {conect = {}},
    {brief = {}},
    {answer = {}, say = "both"},
    {connect = {srtp = "yes"}},
    {connect = {to = "tel:+1", timeout = 0}},
    {connect = {to = "sip:$1@127.0.0.1"}},
    {mode = "loud"},
    {playbook = "sales"},
    {play = "absent.wav"},
    {say = ""},
    {reject = {status = 200}},
    {mode = "spy"},
    "answer",
]
[[route]]
called = 'x'
[[route]]
called = 'y(.)'
steps = [ {connect = {to = "sip:$2@h"}}, {reject = {status = 404, reason = "No"}} ]
[[route]]
steps = [ {reject = {}} ]
[[route]]
called = 'z'
steps = [ {reject = {}} ]
"#;
    let expected = "\
p.toml:2: route.called \"[\" is no regular expression (unclosed character class); see https://docs.rs/regex for the syntax
p.toml:3: route.caller_role is \"boss\"; write one of customer, agent
p.toml:4: there is no trunk \"lap\"; did you mean lab?
p.toml:5: unknown key route.colour; known here: called, caller, trunk, caller_role, follow, steps, recorded
p.toml:7: nobody hears this: the caller is not answered yet; put {answer = {}} before it
p.toml:9: unknown key route.steps.answer.now; nothing is known here: take it out
p.toml:9: the caller is answered already; take this step out
p.toml:10: unknown step conect; did you mean connect?
p.toml:11: the step brief is not supported yet; take it out
p.toml:12: a step holds 2 keys; write one step in each pair of braces
p.toml:13: connect.srtp is \"yes\"; write one of off, optional, required
p.toml:13: connect does not say to whom; write {connect = {to = \"sip:USER@HOST:PORT\"}}
p.toml:14: route.steps.connect.timeout is 0; write a whole number from 1 to 300
p.toml:14: connect.to is \"tel:+1\"; write a SIP URI, as \"sip:call-$1@127.0.0.1:6070\"
p.toml:15: $1 is used, and called has 0 groups; put what it stands for into parentheses in called
p.toml:16: mode is \"loud\"; write one of spy, whisper, barge
p.toml:17: there is no playbook \"sales\"; did you mean sales-discovery?
p.toml:18: there is no file \"absent.wav\"; name a WAV file, from here or from the dialplan's folder
p.toml:19: a text of 0 characters is to be said; write 1 to 1000
p.toml:20: route.steps.reject.status is 200; write a whole number from 400 to 699
p.toml:20: nothing can follow reject; put it last, or take out what follows
p.toml:22: route.steps holds a text; write a table for each, in braces
p.toml:24: this route has no steps; write steps = [ {answer = {}}, … ]
p.toml:28: $2 is used, and called has 1 groups; put what it stands for into parentheses in called
p.toml:28: this would end the call just connected; take reject or connect out
p.toml:31: this route is never reached: the one at p.toml:29 takes every call; put the one without called, caller and trunk last";
    // The place named inside a message lies in the folder too.
    let got = faults(plan);
    let got: Vec<_> = got
        .lines()
        .map(|line| match line.split_once("the one at ") {
            Some((head, tail)) => format!("{head}the one at {}", tail.rsplit_once('/').map_or(tail, |(_, t)| t)),
            None => line.to_owned(),
        })
        .collect();
    assert_eq!(got.join("\n"), expected);
}

#[test]
fn a_supervisors_step_stands_alone_and_says_whom_and_how() {
    let config = load("[[route]]\ncalled = 'spy-(.+)'\nsteps = [ {supervise = {who = \"$1\", mode = \"spy\"}} ]\n");
    let steps = &config.unwrap_or_else(|errors| panic!("{errors}")).routes[0].steps;
    assert_eq!(steps[..], [Step::Supervise { who: "$1".into(), mode: Mode::Spy }]);
    let plan = r#"[[route]]
called = 'a'
steps = [
    {answer = {}},
    {supervise = {who = "x", mode = "spy"}},
]
[[route]]
called = 'b'
steps = [ {supervise = {}} ]
[[route]]
called = 'c'
steps = [ {supervise = {who = "$1", mode = "loud"}} ]
"#;
    let expected = "\
p.toml:5: who listens in on another call has none of their own; let supervise stand alone
p.toml:9: supervise does not say who; write {supervise = {who = \"$1\", mode = \"spy\"}}
p.toml:12: supervise.mode is \"loud\"; write one of spy, whisper, barge
p.toml:12: $1 is used, and called has 0 groups; put what it stands for into parentheses in called";
    assert_eq!(faults(plan), expected);
}

#[test]
fn what_is_forked_and_recorded_is_listened_to_and_nothing_else() {
    let good = "[[route]]\ncalled = 'tap-(.+)'\nsteps = [ {fork = {as = 'earpiece', of = '$1'}}, {consent = 'given'} ]\n\
                [[route]]\nrecorded = true\nsteps = [ {playbook = 'sales-discovery'}, {consent = 'unknown'} ]\n";
    let config = load(good).unwrap_or_else(|errors| panic!("{errors}"));
    let [forked, recorded] = &config.routes[..] else { panic!("two routes") };
    assert_eq!(forked.steps[0], Step::Fork { role: Role::Earpiece, of: "$1".into() });
    assert!(recorded.recorded && !forked.recorded);
    let wrong = "[[route]]\ncalled = 'tap'\nsteps = [ {fork = {as = 'bridge', of = '$1'}} ]\n\
                 [[route]]\ncalled = 'tap'\nsteps = [ {fork = {as = 'agent'}} ]\n\
                 [[route]]\ncalled = 'tap'\nsteps = [ {fork = {as = 'agent', of = '7'}}, {answer = {}} ]\n\
                 [[route]]\ncalled = 'tap'\nsteps = [ {answer = {}}, {fork = {as = 'agent', of = '7'}} ]\n\
                 [[route]]\ncalled = 'tap'\nrecorded = true\nsteps = [ {reject = {}} ]\n";
    let told = faults(wrong);
    for (line, words) in [
        (3, "fork.as"),
        (3, "$1 is used, and called has 0 groups"),
        (6, "fork does not say of"),
        (9, "a route for recordings cannot do this"),
        (12, "a line that is a copy is nothing else"),
        (16, "a route for recordings cannot do this"),
    ] {
        let is_told = |l: &str| l.starts_with(&format!("p.toml:{line}:")) && l.contains(words);
        assert!(told.lines().any(is_told), "{line} {words}: {told}");
    }
}

/// Those that tell others what to write are read as they stand.
#[test]
fn the_routes_beside_telephone_systems_are_sound() {
    for system in ["asterisk", "freeswitch", "kamailio"] {
        let text = std::fs::read_to_string(format!("dialplans/{system}/routes.toml")).unwrap();
        let config = load(&text.replace(&format!("trunk = \"{system}\""), "trunk = \"lab\""));
        assert!(!config.unwrap_or_else(|errors| panic!("{system}: {errors}")).routes.is_empty());
    }
}
