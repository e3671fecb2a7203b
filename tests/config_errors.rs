//! Whatever is wrong with a configuration is told at once, each with its place, what it is and what to do.

use sotto::call::May;
use sotto::config::{Config, Listen, Step, Transport};
use sotto::event::Mode;
use std::path::{Path, PathBuf};

/// A folder of its own for a test, taken away afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("sotto-config-{}-{name}", std::process::id()));
        let folder = Folder(path);
        for (file, text) in files {
            let path = folder.0.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    /// The faults, with the folder's own path taken out.
    fn faults(&self, env: &[(&str, &str)]) -> String {
        let errors = self.load(env).expect_err("this configuration is wrong").to_string();
        errors.replace(&format!("{}/", self.0.display()), "")
    }

    fn load(&self, env: &[(&str, &str)]) -> Result<Config, sotto::config::ConfigErrors> {
        let env: Vec<_> = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Config::load(&self.0.join("config/sotto.toml"), env.into_iter())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const PLAYBOOK: &str = "[[moment]]\nkind = 'objection.price'\npatterns = ['too expensive']\nprompts = ['Ask why.']\n";
const DIALPLAN: &str = "[[route]]\nsteps = [ {answer = {}} ]\n";

fn folder(name: &str, config: &str) -> Folder {
    Folder::new(
        name,
        &[
            ("config/sotto.toml", config),
            ("config/playbooks/sales-discovery.toml", PLAYBOOK),
            ("plan/default.toml", DIALPLAN),
        ],
    )
}

fn load_shipped() -> Config {
    Config::load(Path::new("config/sotto.toml"), std::iter::empty()).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn what_is_shipped_is_right() {
    let config = load_shipped();
    assert_eq!(
        config.sip.listen,
        ["127.0.0.1:5060".parse().map(|address| Listen { transport: Transport::Udp, address }).unwrap()]
    );
    assert_eq!(config.media.ports, 20_000..=29_999);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert!(config.http.token.is_none() && config.recording.enabled);
    assert_eq!(config.store.dir, Path::new("data"));
    assert_eq!(config.coach.ceiling, Mode::Whisper);
    assert_eq!(config.coach.playbook_dir, Path::new("config/playbooks"));
    assert!(config.playbooks.contains_key(&config.coach.playbook));
    assert_eq!(config.trunks.len(), 1);
    assert!(config.trunks[0].sources[0].contains("127.0.0.1".parse().unwrap()));
    let [route, supervisors @ ..] = &config.routes[..] else { panic!("a route is shipped") };
    let modes = [("spy", Mode::Spy), ("whisper", Mode::Whisper), ("barge", Mode::Barge)];
    assert_eq!(supervisors.len(), modes.len());
    for (route, (name, mode)) in supervisors.iter().zip(modes) {
        assert!(route.called.as_ref().is_some_and(|r| r.is_match(&format!("{name}-17"))), "{name}");
        assert_eq!(route.steps, [Step::Supervise { who: "call-$1".into(), mode }]);
    }
    assert!(route.called.as_ref().is_some_and(|r| r.is_match("call-17") && !r.is_match("call-17x")));
    assert!(!route.caller_is_agent);
    assert_eq!(
        route.steps,
        [
            Step::Answer,
            Step::Say("Please hold.".into()),
            Step::Connect {
                to: vec!["sip:call-$1@127.0.0.1:6070".into()],
                together: false,
                timeout: std::time::Duration::from_secs(30),
                srtp: None,
            },
            Step::Mode(Mode::Spy),
        ]
    );
}

#[test]
fn what_is_left_out_has_the_shipped_value() {
    let empty = folder("empty", "dialplan.files = ['plan/default.toml']\n").load(&[]).unwrap();
    let shipped = load_shipped();
    assert_eq!(format!("{:?}", empty.sip), format!("{:?}", shipped.sip));
    assert_eq!(format!("{:?}", empty.media), format!("{:?}", shipped.media));
    assert_eq!(format!("{:?}", empty.http), format!("{:?}", shipped.http));
    assert_eq!(format!("{:?}", empty.store), format!("{:?}", shipped.store));
    assert_eq!(format!("{:?}", empty.speech), format!("{:?}", shipped.speech));
    assert_eq!(format!("{:?}", empty.recording), format!("{:?}", shipped.recording));
    assert_eq!(empty.coach.playbook, shipped.coach.playbook);
    assert_eq!((empty.coach.ceiling, empty.coach.sensitivity), (shipped.coach.ceiling, shipped.coach.sensitivity));
}

#[test]
fn everything_wrong_is_told_at_once() {
    let folder = folder(
        "wrong",
        r#"
[sip]
lisen = []
listen = ["sctp://127.0.0.1:5060", "udp://0.0.0.0:5060", "udp://localhost", "5060"]
external_adress = "1.2.3.4"
[media]
ports = "20000"
shards = 0
[http]
listen = 8080
token = "abc"
[store]
url = "postgres://localhost/sotto"
[dialplan]
files = ["plan/default.toml", "plan/absent.toml"]
[speech]
workers = "many"
voice = "-f /etc/passwd"
[coach]
playbook = "sales-discovry"
sensitivity = "high"
ceiling = "loud"
[recording]
enabled = 1
[recordings]
[[trunk]]
name = "lab"
sources = ["127.0.0.0/33", 5]
may_call = ["("]
[[trunk]]
name = "lab"
srtp = "maybe"
siprec = { agent = "[", order = ["agent"], agents = "x" }
"#,
    );
    let expected = "\
config/sotto.toml:3: unknown key sip.lisen; did you mean listen?
config/sotto.toml:4: sip.listen over sctp is not supported; use udp://, tcp://, tls://, ws:// or wss://
config/sotto.toml:4: sip.listen on 0.0.0.0 names no address a peer could answer to; write the address of one interface, or 0.0.0.0 together with sip.external_address
config/sotto.toml:4: sip.listen has \"localhost\" as address and port; write them as 127.0.0.1:5060 or [::1]:5060
config/sotto.toml:4: sip.listen has \"5060\"; write udp://ADDRESS:PORT, as \"udp://127.0.0.1:5060\"
config/sotto.toml:5: unknown key sip.external_adress; did you mean external_address?
config/sotto.toml:7: media.ports is \"20000\"; write LOWEST-HIGHEST from 1024 to 65535 with room for two ports, as \"20000-29999\"
config/sotto.toml:8: media.shards is 0; write a whole number from 1 to 64
config/sotto.toml:10: http.listen is a whole number; write a text in quotes
config/sotto.toml:11: http.token is too weak; use 8 or more printable ASCII characters without spaces
config/sotto.toml:13: store.url over postgres is not supported yet; write sqlite://FOLDER, as \"sqlite://data\"
config/sotto.toml:15: the dialplan \"plan/absent.toml\" cannot be read (No such file or directory (os error 2)); create it, or name another in dialplan.files
config/sotto.toml:17: speech.workers is a text; write a whole number from 1 to 64
config/sotto.toml:18: speech.voice is \"-f /etc/passwd\"; write a name that `espeak-ng --voices` lists, as \"en-us\" or \"en-gb+f3\"
config/sotto.toml:20: there is no playbook \"sales-discovry\" in config/playbooks; did you mean sales-discovery?
config/sotto.toml:21: coach.sensitivity is \"high\"; write one of minimal, standard, training
config/sotto.toml:22: coach.ceiling is \"loud\"; write one of spy, whisper, barge
config/sotto.toml:24: recording.enabled is a whole number; write true or false
config/sotto.toml:25: unknown key recordings; did you mean recording?
config/sotto.toml:28: trunk.sources holds a whole number; write a list of texts, each in quotes
config/sotto.toml:28: trunk.sources: \"127.0.0.0/33\" has a prefix longer than its address; write ADDRESS/BITS, as \"127.0.0.0/8\" or \"::1/128\"
config/sotto.toml:29: trunk.may_call \"(\" is no regular expression (unclosed group); see https://docs.rs/regex for the syntax
config/sotto.toml:30: a trunk has no sources; write sources = [\"127.0.0.0/8\"], or tls_names, or user and password_file
config/sotto.toml:31: there is a trunk named \"lab\" already; name each differently
config/sotto.toml:32: trunk.srtp is \"maybe\"; write one of off, optional, required
config/sotto.toml:33: trunk.siprec.agent \"[\" is no regular expression (unclosed character class); see https://docs.rs/regex for the syntax
config/sotto.toml:33: unknown key trunk.siprec.agents; did you mean agent?
config/sotto.toml:33: trunk.siprec.order does not name both sides once; write [\"customer\", \"agent\"] or [\"agent\", \"customer\"]";
    assert_eq!(folder.faults(&[]), expected);
}

#[test]
fn rules_of_supervision_name_what_there_is() {
    let wrong = folder(
        "supervise",
        r#"
dialplan.files = ["plan/default.toml"]
[[trunk]]
name = "lab"
sources = ["127.0.0.0/8"]
[[team]]
agents = ["("]
[[team]]
name = "sales"
[[supervise]]
supervisor = "["
trunk = "lob"
teams = ["sails"]
modes = ["spy", "shout"]
mode = "spy"
consent = "given"
"#,
    );
    let expected = "\
config/sotto.toml:6: a team has no name; write name = \"…\"
config/sotto.toml:7: team.agents \"(\" is no regular expression (unclosed group); see https://docs.rs/regex for the syntax
config/sotto.toml:11: supervise.supervisor \"[\" is no regular expression (unclosed character class); see https://docs.rs/regex for the syntax
config/sotto.toml:12: there is no trunk \"lob\"; did you mean lab?
config/sotto.toml:13: there is no team \"sails\"; did you mean sales?
config/sotto.toml:14: supervise.modes has \"shout\"; write one of spy, whisper, barge, take_over
config/sotto.toml:15: unknown key supervise.mode; did you mean modes?
config/sotto.toml:16: supervise.consent is a text; write true or false";
    assert_eq!(wrong.faults(&[]), expected);

    let text = "dialplan.files = ['plan/default.toml']\n[[team]]\nname = 'sales'\nagents = ['10..']\n\
                [[supervise]]\n[[supervise]]\nsupervisor = '47..'\nteams = ['sales']\nagents = ['anna']\n\
                modes = ['whisper']\nconsent = true\nwait_s = 900\n[[supervise]]\nagents = []\n";
    let config = folder("supervised", text).load(&[]).unwrap();
    let [all, some, none] = &config.supervise[..] else { panic!("three rules") };
    assert!(all.everyone && all.may == May::ALL && !all.consent && all.supervisor.is_none());
    assert!(!some.everyone && some.consent && some.may == May { whisper: true, ..May::default() });
    assert!(all.wait.is_none() && some.wait.is_some_and(|wait| wait.as_secs() == 900));
    let named = |name| some.agents.iter().any(|p| p.is_match(name));
    assert!(named("1001") && named("anna") && !named("10011") && !named("berta"));
    assert!(!none.everyone && none.agents.is_empty(), "an empty list means nobody");
}

#[test]
fn a_file_that_is_no_toml_names_the_line() {
    let folder =
        folder("broken", "dialplan.files = ['plan/default.toml']\n[sip\nlisten = []\n[media]\nshards = 'two'\n");
    let faults = folder.faults(&[]);
    assert!(faults.starts_with("config/sotto.toml:2: this is not TOML: "), "{faults}");
    assert!(faults.contains("config/sotto.toml:5: media.shards is a text"), "the rest is read too: {faults}");
}

#[test]
fn a_file_that_is_absent_says_so() {
    let faults = Config::load(Path::new("no/such/sotto.toml"), std::iter::empty()).unwrap_err().to_string();
    let first = faults.lines().next().unwrap();
    assert_eq!(
        first,
        "no/such/sotto.toml: the configuration cannot be read (No such file or directory (os error 2)); \
         create it, or name another with --config FILE"
    );
}

#[test]
fn the_environment_overrides_the_file_and_is_checked_like_it() {
    let folder =
        folder("env", "dialplan.files = ['plan/default.toml']\n[media]\nshards = 1\n[http]\nlisten = '127.0.0.1:1'\n");
    let config = folder
        .load(&[
            ("SOTTO__MEDIA__SHARDS", "4"),
            ("SOTTO__HTTP__LISTEN", "127.0.0.1:9"),
            ("SOTTO__HTTP__TOKEN", "correct-horse"),
            ("SOTTO__SIP__LISTEN", "udp://127.0.0.1:0, udp://[::1]:0"),
            ("SOTTO__RECORDING__ENABLED", "false"),
            ("SOTTO__SPEECH__MODEL", ""),
            ("SOTTO_HOME", "not ours"),
            ("PATH", "/bin"),
        ])
        .unwrap();
    assert_eq!(config.media.shards, 4);
    assert_eq!(config.http.listen.port(), 9);
    assert!(config.http.token.is_some_and(|token| token.matches("correct-horse")));
    assert_eq!(config.sip.listen.len(), 2);
    assert!(!config.recording.enabled);
    assert_eq!((config.speech.model, config.speech.model_missing), (None, None));

    let expected = "\
SOTTO__TRUNK: an override names a section and a key; write SOTTO__SECTION__KEY, as SOTTO__HTTP__LISTEN
SOTTO__MEDIA__SHARDS: media.shards is a text; write a whole number from 1 to 64
SOTTO__MEDIA__SHARD: unknown key media.shard; did you mean shards?
SOTTO__MEDYA__SHARDS: unknown key medya; did you mean media?";
    let faults = folder.faults(&[
        ("SOTTO__MEDIA__SHARDS", "four"),
        ("SOTTO__MEDIA__SHARD", "4"),
        ("SOTTO__MEDYA__SHARDS", "4"),
        ("SOTTO__TRUNK", "x"),
    ]);
    assert_eq!(faults, expected);
}

#[test]
fn a_secret_may_stand_in_a_file_and_only_once() {
    let folder = Folder::new(
        "secret",
        &[
            ("config/sotto.toml", "dialplan.files = ['plan/default.toml']\n"),
            ("config/playbooks/sales-discovery.toml", PLAYBOOK),
            ("plan/default.toml", DIALPLAN),
            ("token", "from-a-file\n"),
        ],
    );
    let path = folder.0.join("token").display().to_string();
    let config = folder.load(&[("SOTTO__HTTP__TOKEN_FILE", &path)]).unwrap();
    assert!(config.http.token.is_some_and(|token| token.matches("from-a-file")));
    let both = folder.faults(&[("SOTTO__HTTP__TOKEN_FILE", &path), ("SOTTO__HTTP__TOKEN", "another-one")]);
    assert_eq!(both, "SOTTO__HTTP__TOKEN_FILE: both http.token and http.token_file are given; take one of them out");
    let absent = folder.faults(&[("SOTTO__HTTP__TOKEN_FILE", "/no/such/file")]);
    assert_eq!(
        absent,
        "SOTTO__HTTP__TOKEN_FILE: http.token_file \"/no/such/file\" cannot be read (No such file or directory \
         (os error 2)); create it, or name another"
    );
}

#[test]
fn a_model_is_a_name_or_a_path_and_its_absence_is_no_fault() {
    let folder = Folder::new(
        "model",
        &[
            ("config/sotto.toml", "dialplan.files = ['plan/default.toml']\n"),
            ("config/playbooks/sales-discovery.toml", PLAYBOOK),
            ("plan/default.toml", DIALPLAN),
            ("store/models/ggml-small.en.bin", "a model"),
        ],
    );
    let url = format!("sqlite://{}", folder.0.join("store").display());
    let with =
        |model: &str| folder.load(&[("SOTTO__STORE__URL", &url), ("SOTTO__SPEECH__MODEL", model)]).unwrap().speech;
    let there = folder.0.join("store/models/ggml-small.en.bin");
    assert_eq!(with("small.en").model, Some(there.clone()));
    assert_eq!(with(&there.display().to_string()).model, Some(there));
    let absent = with("base.en");
    assert_eq!(absent.model, None);
    assert_eq!(absent.model_missing, Some(folder.0.join("store/models/ggml-base.en.bin")));
    assert_eq!(with("./my.bin").model_missing, Some("./my.bin".into()));
}

/// Transports, proofs and registrations: what is wrong with each, and no secret in what is told of it.
#[test]
fn what_is_wrong_with_transports_and_proofs_is_told() {
    let folder = folder(
        "proofs",
        r#"
[sip]
listen = ["tls://127.0.0.1:5061"]
tls_key = "/no/such/key.pem"
[dialplan]
files = ["plan/default.toml"]
[[trunk]]
name = "a"
tls_names = ["not a name"]
user = "a"
password = "hush"
[[trunk]]
name = "b"
user = "b"
[[trunk]]
name = "c"
sources = ["192.0.2.1"]
login_password = "quiet"
[[register]]
trunk = "d"
registrars = ["pbx.example", "sip:a@pbx.example"]
user = "200"
password = "1234"
expires = 5
[[register]]
"#,
    );
    let expected = "\
config/sotto.toml:3: sip.listen names a tls:// address; name sip.tls_certificate and sip.tls_key too
config/sotto.toml:4: sip.tls_key \"/no/such/key.pem\" is not there; name a file in PEM
config/sotto.toml:9: trunk.tls_names has \"not a name\"; write a host name or an IP address, as the certificate has it
config/sotto.toml:11: trunk.password is too weak; use 8 or more printable ASCII characters without spaces
config/sotto.toml:14: trunk.user has no password; write trunk.password or trunk.password_file
config/sotto.toml:18: trunk.login_password has no name; write trunk.login_user
config/sotto.toml:20: there is no trunk named \"d\"; known here: a, b, c
config/sotto.toml:21: register.registrars has \"pbx.example\"; write sip:HOST, as \"sip:192.0.2.9\" or \"sip:pbx.example:5061;transport=tls\"
config/sotto.toml:21: register.registrars has \"sip:a@pbx.example\"; write sip:HOST, as \"sip:192.0.2.9\" or \"sip:pbx.example:5061;transport=tls\"
config/sotto.toml:24: register.expires is 5; write a whole number from 60 to 86400
config/sotto.toml:25: register has no trunk; write trunk = \"…\", the name of a [[trunk]]
config/sotto.toml:25: register has no registrars; write registrars = [\"sip:pbx.example\"]
config/sotto.toml:25: register has no user; write user = \"…\" and password_file = \"…\"";
    assert_eq!(folder.faults(&[]), expected);
}

/// How peers are reached, and what is in the files of TLS: each with its line.
#[test]
fn what_is_wrong_with_certificates_and_ways_is_told() {
    let folder = folder(
        "ways",
        r#"
[sip]
listen = ["udp://127.0.0.1:5060", "wss://127.0.0.1:7443"]
outbound_proxy = "proxy.example"
nameservers = ["192.0.2.53", "127.0.0.1:5353", "dns.example"]
local_networks = ["10.0.0.0/8", "10.0.0.0/40"]
ws_origins = ["*", "https://desk.example", "desk.example", "https://desk.example/page"]
tls_certificate = "CERTIFICATE"
tls_key = "KEY"
tls_server_ca = "EMPTY"
[dialplan]
files = ["plan/default.toml"]
[[trunk]]
name = "a"
sources = ["192.0.2.1"]
outbound_proxy = "sip:user@192.0.2.9"
"#,
    );
    let config = folder.0.join("config/sotto.toml");
    let file = |name: &str, text: &str| {
        let path = folder.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let own = rcgen::generate_simple_self_signed(["sotto.example".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["sotto.example".to_owned()]).unwrap();
    let certificate = file("certificate.pem", &own.cert.pem());
    let (key, wrong) =
        (file("key.pem", &own.signing_key.serialize_pem()), file("other.pem", &other.signing_key.serialize_pem()));
    let empty = file("empty.pem", "no certificate\n");
    let text = std::fs::read_to_string(&config).unwrap();
    let written = |certificate: &str, key: &str, ca: &str| {
        let text = text.replace("CERTIFICATE", certificate).replace("KEY", key).replace("EMPTY", ca);
        std::fs::write(&config, text).unwrap();
    };
    let others = |line: usize, fault: String| {
        let ways = [
            (4, "sip.outbound_proxy is \"proxy.example\"; write sip:HOST, as \"sip:proxy.example\" or \"sip:192.0.2.9:5061;transport=tls\"".to_owned()),
            (5, "sip.nameservers has \"dns.example\"; write an address, as \"192.0.2.53\" or \"127.0.0.1:5353\"".to_owned()),
            (6, "sip.local_networks: \"10.0.0.0/40\" has a prefix longer than its address; write ADDRESS/BITS, as \"127.0.0.0/8\" or \"::1/128\"".to_owned()),
            (7, "sip.ws_origins has \"desk.example\"; write what browsers send, as \"https://desk.example\", or \"*\" for every page".to_owned()),
            (7, "sip.ws_origins has \"https://desk.example/page\"; write what browsers send, as \"https://desk.example\", or \"*\" for every page".to_owned()),
            (line, fault),
            (16, "trunk.outbound_proxy is \"sip:user@192.0.2.9\"; write sip:HOST, as \"sip:proxy.example\" or \"sip:192.0.2.9:5061;transport=tls\"".to_owned()),
        ];
        ways.map(|(line, fault)| format!("config/sotto.toml:{line}: {fault}")).join("\n")
    };
    let unusable = |file: &str, why: &str| {
        let file = file.strip_prefix(&format!("{}/", folder.0.display())).unwrap();
        format!("{file:?} cannot be used for TLS: {why}; name a file in PEM")
    };
    written(&certificate, &key, &empty);
    assert_eq!(folder.faults(&[]), others(10, unusable(&empty, "there is no certificate in it")));
    written(&empty, &key, &certificate);
    assert_eq!(folder.faults(&[]), others(8, unusable(&empty, "there is no certificate in it")));
    written(&certificate, &empty, &certificate);
    assert_eq!(folder.faults(&[]), others(9, unusable(&empty, "no items found")));
    written(&certificate, &wrong, &certificate);
    let why = "it does not go with tls_certificate (keys may not be consistent: KeyMismatch)";
    assert_eq!(folder.faults(&[]), others(9, unusable(&wrong, why)));
}
