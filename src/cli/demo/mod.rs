//! `sotto demo`: one whole coached call over real SIP and RTP on loopback, and the proof of who heard what.
//!
//! In come the script and the recordings of `fixtures/`; out come the conversation on the screen, files in `--out`,
//! and a summary that fails if the customer's audio was touched. It knows the server as its peers do: through its
//! SIP port and its events.

mod keep;
mod listen;
mod measure;
pub mod party;
pub(super) mod proof;
mod screen;
mod script;
mod summary;

use crate::app::App;
use crate::cli::scratch::{Scratch, ScratchError};
use crate::config::{Config, Format};
use crate::event::Recorded;
use crate::io::clock;
use keep::Folder;
use listen::{Heard, listen};
use measure::Said;
use party::{Capture, Party, PartyOptions};
use screen::Screen;
use script::{Script, Turn, Who};
use std::path::{Path, PathBuf};
use std::time::Duration;
use summary::Summary;

/// How long a call may take to be set up, and its end to be told.
const PATIENCE: Duration = Duration::from_secs(10);
/// Silence after the last words, so that they become text while the call is up.
const AFTERGLOW: Duration = Duration::from_millis(1500);

/// Why there was no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Something of the source tree is missing.
    #[error("{0} is neither here nor in {1}: run the demo in a clone of the project")]
    Missing(&'static str, &'static str),
    /// A scratch folder could not be made.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The script.
    #[error(transparent)]
    Script(#[from] script::ScriptError),
    /// The configuration the demo makes for itself.
    #[error("the demo's own configuration: {0}")]
    Config(#[from] crate::config::ConfigErrors),
    /// The server did not start, or did not end well.
    #[error("the server: {0:#}")]
    Server(anyhow::Error),
    /// A party could not do what it was to do.
    #[error("the {0}: {1}")]
    Party(&'static str, party::PartyError),
    /// The events are incomplete.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// The call did not end, or its recording was not completed, in time.
    #[error("the end of the call was not told within {} s", PATIENCE.as_secs())]
    NoEnd,
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// A task panicked.
    #[error("the demo itself: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The whisper could not be synthesised once more.
    #[error(transparent)]
    Voice(#[from] crate::io::tts::SynthesisError),
    /// A file could not be left behind.
    #[error(transparent)]
    Keep(#[from] keep::KeepError),
}

/// Runs the demo and leaves its files in `out`. True if the proof holds. Ctrl-C ends it and takes its data with it.
pub async fn run(out: &Path, json: bool) -> Result<bool, DemoError> {
    tokio::select! {
        result = demonstrate(out, json) => result,
        _ = tokio::signal::ctrl_c() => Err(DemoError::Interrupted),
    }
}

async fn demonstrate(out: &Path, json: bool) -> Result<bool, DemoError> {
    let screen = if json { Screen::dark() } else { Screen::new() };
    let folder = Folder::make(out)?;
    let script = Script::load(&find("fixtures/demo/conversation.toml")?, &find("fixtures/speech/samples")?)?;
    let scratch = Scratch::make("demo")?;
    let mut agent = Party::bind(PartyOptions::new("agent", clock::random())).await.map_err(of_agent)?;
    let mut customer = Party::bind(PartyOptions::new("customer", clock::random())).await.map_err(of_customer)?;
    let config = configure(&scratch, &agent)?;
    let (voice, store) = (config.speech.voice.clone(), config.store.dir.clone());

    screen.say("Starting the server and its recogniser …");
    let app = App::start(config).await.map_err(DemoError::Server)?;
    screen.say(&format!("SIP on {}, API on http://{}.", app.sip_addr(), app.http_addr()));
    screen.say(&format!("A customer calls; the conversation takes {} s.\n", script.length().as_secs()));

    let events = tokio::spawn(listen(app.journal().subscribe(), move |event| screen.event(event)));
    let uri = format!("sip:sales@{}", app.sip_addr());
    let (called, answered) = tokio::join!(customer.call(&uri), agent.answer(PATIENCE));
    called.map_err(of_customer)?;
    answered.map_err(of_agent)?;
    let said = converse(script.turns, &customer, &agent).await?;
    let captures = hang_up(customer, agent).await?;
    let heard = tokio::time::timeout(PATIENCE, events).await.map_err(|_| DemoError::NoEnd)???;

    let mut summary = Summary::of(&said, &heard, &captures.0, &captures.1);
    let tts = crate::io::tts::Synthesiser::new(&voice)?;
    summary.find_whispers(&tts, &captures.0.heard(), &captures.1.heard()).await?;
    app.shutdown().await;
    leave(&folder, &store, &heard, &captures, &summary)?;
    match json {
        true => println!("{}", summary.json()),
        false => screen.say(&format!("\n{}\nLeft in {}: {FILES}", summary.text(), out.display())),
    }
    Ok(summary.holds())
}

/// What is left in `--out`.
const FILES: &str =
    "customer-heard.wav agent-heard.wav recording.wav transcript.txt transcript.json events.jsonl summary.json";

fn of_customer(error: party::PartyError) -> DemoError {
    DemoError::Party("customer", error)
}

fn of_agent(error: party::PartyError) -> DemoError {
    DemoError::Party("agent", error)
}

/// Says the turns, each after the pause before it.
async fn converse(turns: Vec<Turn>, customer: &Party, agent: &Party) -> Result<Vec<Said>, DemoError> {
    let mut said = Vec::new();
    for turn in turns {
        tokio::time::sleep(turn.pause).await;
        let spoken = match turn.who {
            Who::Customer => customer.say(turn.pcm.clone()).await.map_err(of_customer)?,
            Who::Agent => agent.say(turn.pcm.clone()).await.map_err(of_agent)?,
        };
        said.push(Said { turn, spoken });
    }
    tokio::time::sleep(AFTERGLOW).await;
    Ok(said)
}

/// The customer hangs up; the server hangs up on the agent.
async fn hang_up(customer: Party, mut agent: Party) -> Result<(Capture, Capture), DemoError> {
    let customer = customer.finish().await.map_err(of_customer)?;
    tokio::time::timeout(PATIENCE, agent.hung_up()).await.map_err(|_| DemoError::NoEnd)?;
    Ok((customer, agent.finish().await.map_err(of_agent)?))
}

fn leave(
    folder: &Folder,
    store: &Path,
    heard: &[Heard],
    (customer, agent): &(Capture, Capture),
    summary: &Summary,
) -> Result<(), DemoError> {
    folder.wav("customer-heard.wav", &customer.heard())?;
    folder.wav("agent-heard.wav", &agent.heard())?;
    if let Some(Recorded { tenant, id, .. }) = heard.first().map(|h| h.event.as_ref()) {
        let recording = crate::io::recorder::path(store, tenant, id.call, None, Format::Wav);
        folder.copy("recording.wav", &recording)?;
    }
    let (text, json) = keep::transcript(heard);
    folder.text("transcript.txt", &text)?;
    folder.text("transcript.json", &format!("{json:#}\n"))?;
    let events: String = heard.iter().map(|h| keep::cloud_event(&h.event)).collect();
    folder.text("events.jsonl", &events)?;
    folder.text("summary.json", &format!("{}\n", summary.json()))?;
    Ok(())
}

/// The server's configuration: free ports on loopback, data in `scratch`, and one route that calls the agent.
fn configure(scratch: &Scratch, agent: &Party) -> Result<Config, DemoError> {
    let model = find("fixtures/speech/ggml-fixture-q8_0.bin")?;
    let dir = scratch.path().display();
    let dialplan = format!(
        "[[route]]\ncalled = '^sales$'\nsteps = [ {{answer = {{}}}}, {{connect = {{to = \"sip:agent@{}\"}}}}, {{mode = \"spy\"}} ]\n",
        agent.sip_addr()
    );
    let config = format!(
        "[sip]\nlisten = [\"udp://127.0.0.1:0\"]\n\
         [http]\nlisten = \"127.0.0.1:0\"\n\
         [store]\nurl = \"sqlite://{dir}/data\"\n\
         [dialplan]\nfiles = [\"{dir}/demo.toml\"]\n\
         [speech]\nmodel = \"{}\"\n\
         [coach]\nplaybook = \"sales-discovery\"\n\
         [[trunk]]\nname = \"demo\"\nsources = [\"127.0.0.0/8\"]\nmay_call = ['.*']\n",
        model.display()
    );
    scratch.file("demo.toml", &dialplan)?;
    // Playbooks are found beside the configuration.
    scratch.link("playbooks", &find("config/playbooks")?)?;
    let path = scratch.file("sotto.toml", &config)?;
    // The environment's overrides are for `serve`: they could send the demo's audio to a real trunk.
    Ok(Config::load(&path, std::iter::empty())?)
}

/// A file or folder of the source tree: here, or where this program was built.
fn find(path: &'static str) -> Result<PathBuf, DemoError> {
    const BUILT: &str = env!("CARGO_MANIFEST_DIR");
    let places = [std::env::current_dir().unwrap_or_default().join(path), Path::new(BUILT).join(path)];
    places.into_iter().find(|p| p.exists()).ok_or(DemoError::Missing(path, BUILT))
}
