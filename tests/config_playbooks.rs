//! A playbook that cannot work is told with the line of each mistake.

use sotto::config::Config;

/// The faults of a playbook.
fn faults(playbook: &str) -> String {
    let root = std::env::temp_dir().join(format!("sotto-playbook-{}", std::process::id()));
    std::fs::create_dir_all(root.join("config/playbooks")).unwrap();
    let write = |file: &str, text: &str| std::fs::write(root.join(file), text).unwrap();
    write("config/sotto.toml", "[dialplan]\nfiles = []\n[coach]\nplaybook = 'p'\n");
    write("config/playbooks/p.toml", playbook);
    let loaded = Config::load(&root.join("config/sotto.toml"), std::iter::empty());
    std::fs::remove_dir_all(&root).unwrap();
    let errors = loaded.expect_err("this playbook is wrong").to_string();
    errors.replace(&format!("{}/config/playbooks/", root.display()), "")
}

#[test]
fn every_mistake_is_told() {
    let playbook = r#"competitor = ["Acme"]
[limits]
cooldown_seconds = -1
max_promts = 3
[[moment]]
kind = "objection.prize"
patterns = ["too expensive"]
prompts = ["Ask why."]
[[moment]]
kind = "objection.price"
leg = "agent"
patterns = ["too, expensive", "...", "{competitor} is cheaper", "{price}"]
unless = []
prompts = ["Ask them what it is that they compare our very fair price with today.", "", "Say {amount}."]
priority = "high"
within_seconds = 3
[[moment]]
kind = "compliance.missing"
prompts = []
[[moment]]
patterns = ["hello"]
prompts = ["Say hello."]
useful_seconds = 0
"#;
    let expected = "\
p.toml:1: unknown key competitor; did you mean competitors?
p.toml:3: limits.cooldown_seconds is -1; write a whole number from 0 to 3600
p.toml:4: unknown key limits.max_promts; did you mean max_prompts?
p.toml:6: there is no kind \"objection.prize\"; did you mean objection.price?
p.toml:11: this kind is never heard from the agent; write leg = \"customer\"
p.toml:12: the pattern \"too, expensive\" holds \"too,\", which is no word; write words, a|b, word?, ..., {competitor} or {amount}
p.toml:12: the pattern \"...\" holds no word that must be there; write words, a|b, word?, ..., {competitor} or {amount}
p.toml:12: {competitor} is used and the playbook names none; write competitors = [\"…\"] at the top
p.toml:12: the pattern \"{price}\" holds {price}, which is neither {competitor} nor {amount}; write words, a|b, word?, ..., {competitor} or {amount}
p.toml:14: a prompt has 14 words; write 1 to 12: more cannot be taken in on a call
p.toml:14: a prompt has 0 words; write 1 to 12: more cannot be taken in on a call
p.toml:14: a prompt holds an unknown slot; only {competitor} is known
p.toml:15: moment.priority is \"high\"; write one of low, normal, urgent
p.toml:16: objection.price has no deadline; take within_seconds out
p.toml:17: compliance.missing does not say by when; write within_seconds = 30, counted from when both are connected
p.toml:17: a moment has no patterns; write patterns = [\"too expensive\", …]
p.toml:19: a moment has no prompts; write prompts = [\"Ask what they compare it with.\"]
p.toml:20: a moment has no kind; write kind = \"objection.price\" or another
p.toml:23: moment.useful_seconds is 0; write a whole number from 1 to 600";
    assert_eq!(faults(playbook), expected);
    assert_eq!(faults(""), "p.toml:1: this playbook has no moments; write at least one [[moment]]");
}
