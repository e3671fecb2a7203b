//! `sotto probe`: a test call through a trunk with telephones of its own at every end, and who really heard whom in it.
//!
//! ```text
//!   a server of its own ─► trunk ─► whoever answers there ─► back to a telephone of ours
//!   a telephone of ours ─► trunk ─► the conference
//!   each in turn plays a marker in each mode; what every telephone heard is searched for each of them
//! ```
//!
//! Never a live customer: a number that does not ring a telephone of ours is hung up on before anything is played, and a
//! conference in which anybody is heard is left. The verdict is written where `proven_only` looks for it.

mod ends;
mod marker;
mod report;

use crate::app::App;
use crate::cli::client::{Client, ClientError};
use crate::cli::demo::party::PartyError;
use crate::cli::scratch::{Scratch, ScratchError};
use crate::config::{Config, ConfigErrors, Listen, Secret, Transport};
use crate::event::Mode;
use crate::io::{clock, probes};
use ends::Ends;
use marker::marker;
use report::{Played, Report};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What follows the help.
pub const EXAMPLES: &str = "\
The numbers must lead back to the telephones of the probe: the agent's or the private line's to the port of --phones, the
customer's to the one above. Whoever else answers is hung up on at once, and a conference must be an empty one.

Examples:
  sotto probe --trunk pbx --phones 192.0.2.5:5090 --agent sip:9001@192.0.2.9 --customer sip:9002@192.0.2.9
  sotto probe --trunk pbx --phones 192.0.2.5:5090 --bridge sip:8000@192.0.2.9 --pin '1234#' --earpiece sip:9001@192.0.2.9
  sotto probe --trunk pbx --bridge sip:8000@192.0.2.9 --json | jq .modes

Exit status: 0 exactly those heard who should, 1 not so or the probe could not be made, 2 wrong usage.";

/// How long anything may take to be set up.
const PATIENCE: Duration = Duration::from_secs(40);
/// After a change of mode, until it is spoken in: a wider mode is muted for 200 ms first.
const SETTLE: Duration = Duration::from_millis(700);
/// After each marker: it may come back late.
const GAP: Duration = Duration::from_millis(1_000);
/// An empty conference is silent for so long; announcements before are waited for, for PATIENCE at most.
const QUIET_MS: i64 = 2_000;
/// The code of the private line: nobody but the probe is to key it in, and it is not said there.
const CODE: &str = "2580";

/// What is probed.
#[derive(clap::Args)]
pub struct Probe {
    /// The trunk's name in the configuration.
    #[arg(long)]
    trunk: String,
    /// A number for the test customer.
    #[arg(long, requires = "agent", conflicts_with = "bridge")]
    customer: Option<String>,
    /// A number for the test agent.
    #[arg(long, requires = "customer")]
    agent: Option<String>,
    /// An empty conference.
    #[arg(long, required_unless_present = "customer")]
    bridge: Option<String>,
    /// Its PIN.
    #[arg(long, requires = "bridge", env = "SOTTO_PIN", hide_env_values = true)]
    pin: Option<String>,
    /// How keys are told to it.
    #[arg(long, requires = "bridge", value_parser = ["rfc4733", "inband", "info"])]
    keys: Option<String>,
    /// A number for the test agent's private line.
    #[arg(long, requires = "bridge")]
    earpiece: Option<String>,
    /// Where the probe's telephones are: the first at this port, the next at the one above.
    #[arg(long, default_value = "127.0.0.1:5090")]
    phones: SocketAddr,
    /// Where the probe's server speaks SIP, by UDP.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The configuration that has the trunk, and the store that gets the verdict.
    #[arg(long, default_value = "config/sotto.toml")]
    config: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The configuration.
    #[error("the configuration cannot be used:\n{0}")]
    Config(#[from] ConfigErrors),
    /// There is no such trunk.
    #[error("the configuration has no trunk named {0:?}")]
    Trunk(String),
    /// A scratch folder could not be made.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The server did not start.
    #[error("the server: {0:#}")]
    Server(anyhow::Error),
    /// It refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A telephone could not do what it was to do.
    #[error("the {0}'s telephone: {1}")]
    Phone(&'static str, PartyError),
    /// The call did not come about, or not with telephones of ours.
    #[error("{0}")]
    Call(String),
    /// The verdict could not be written.
    #[error("the verdict cannot be written: {0}")]
    Verdict(#[from] std::io::Error),
}

/// Runs the probe. True if exactly those heard who should.
pub async fn run(probe: Probe) -> Result<bool, ProbeError> {
    let config = Config::load(&probe.config, std::env::vars())?;
    if !config.trunks.iter().any(|trunk| trunk.name == probe.trunk) {
        return Err(ProbeError::Trunk(probe.trunk));
    }
    let store = config.store.dir.clone();
    let scratch = Scratch::make("probe")?;
    let token = format!("{:016x}{:016x}", clock::random(), clock::random());
    let app = App::start(own(config, &probe, &scratch, &token)).await.map_err(ProbeError::Server)?;
    let client = Client::to(app.http_addr(), token)?;
    let report = measure(&probe, &client).await;
    app.shutdown().await;
    let report = report?;
    let (trunk, wall_ms) = (probe.trunk.clone(), clock::wall_ms());
    let verdict = probes::Verdict { trunk, kind: report.kind, wall_ms, modes: report.modes() };
    let path = probes::write(&store, &verdict)?;
    match probe.json {
        true => println!("{}", report.json(&probe.trunk, &path)),
        false => println!("{}\nThe verdict is in {}.", report.text(), path.display()),
    }
    Ok(report.holds())
}

/// The configuration of a server that knows the trunks and nothing else of the real one.
fn own(mut config: Config, probe: &Probe, scratch: &Scratch, token: &str) -> Config {
    config.sip.listen = vec![Listen { transport: Transport::Udp, address: probe.listen }];
    config.sip.announce = false;
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.http.token = Some(Secret::new(token.to_owned()));
    config.store.dir = scratch.path().join("data");
    (config.speech.model, config.speech.model_missing) = (None, None);
    config.recording.enabled = false;
    config.coach.ears = Default::default();
    config.media.timeout = None;
    (config.registrations, config.supervise, config.routes) = (Vec::new(), Vec::new(), [].into());
    config.trunks.iter_mut().for_each(|trunk| trunk.proven_only = false);
    config
}

async fn measure(probe: &Probe, client: &Client) -> Result<Report, ProbeError> {
    let mut ends = Ends::default();
    let call = match &probe.bridge {
        None => ends.call(probe, client).await,
        Some(bridge) => ends.conference(probe, client, bridge).await,
    };
    let played = match &call {
        Ok(call) => play(&mut ends, client, call).await,
        Err(_) => Ok(Vec::new()),
    };
    // Whatever went wrong, nobody stays on a line.
    let refusal = ends.refusal.take();
    let kind = if probe.bridge.is_some() { probes::Kind::Bridge } else { probes::Kind::Call };
    let prompt = ends.prompt.take();
    let captures = ends.hang_up(client, call.as_ref().ok()).await;
    let (_, played) = (call?, played?);
    Ok(Report::of(kind, played, captures?, prompt, refusal))
}

/// Everybody in turn, in every mode.
async fn play(ends: &mut Ends, client: &Client, call: &str) -> Result<Vec<Played>, ProbeError> {
    let mut played = Vec::new();
    let supervisor = ends.summon(client, call).await?;
    for mode in [Mode::Spy, Mode::Whisper, Mode::Barge] {
        let change = client.patch(&format!("{call}/supervisors/{supervisor}"), &json!({ "mode": mode })).await;
        if let Err(error) = change {
            ends.refuse(mode, error.to_string());
            continue;
        }
        tokio::time::sleep(SETTLE).await;
        for who in ends.everybody() {
            let sound = marker(clock::random());
            let spoken = ends.phone(who)?.say(sound.clone()).await.map_err(|e| ProbeError::Phone(who.name(), e))?;
            played.push(Played { mode, who, sound, spoken });
            tokio::time::sleep(GAP).await;
        }
    }
    Ok(played)
}

/// A field of a JSON answer, as text.
fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
