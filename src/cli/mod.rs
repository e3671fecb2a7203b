//! The command line.

mod bench;
pub mod client;
pub mod demo;
mod dial;
mod health;
mod log;
mod probe;
mod scratch;
mod serve;
mod supervised;

use clap::{Parser, Subcommand};
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sotto demo                              hear a coached call, and see the proof of who heard what
  sotto demo --json | jq .holds           the same for a script
  sotto serve                             with config/sotto.toml: SIP on 127.0.0.1:5060, API on 127.0.0.1:8080
  SOTTO__SPEECH__MODEL=fixtures/speech/ggml-fixture-q8_0.bin sotto serve
                                          any key of the configuration can be set in the environment
  RUST_LOG=debug sotto serve --config /etc/sotto.toml
  sotto bench media --calls 50,100        what media costs on this machine, beside the least it could
  sotto health                            exit status 0 if the server of config/sotto.toml is well";

const SERVE: &str = "\
How it ends:
  SIGTERM or SIGINT once: new calls, supervisors and OPTIONS get 503 with Retry-After, /readyz says 503 \"draining\", registrations
  are taken back; calls that run may end by themselves for as long as [load] drain says (60 s). Then, or at a second signal at
  once: BYE with a Reason to everybody, last words, recordings and the journal are completed, exit status 0. A third signal ends
  the process at once. systemd: Type=notify; TimeoutStopSec is extended by itself. Docker: set --stop-timeout above drain.";

/// Listens to live calls and coaches the agent, unheard by the customer.
#[derive(Parser)]
#[command(name = "sotto", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the server, until SIGTERM or SIGINT: see below for how it ends.
    #[command(after_help = SERVE)]
    Serve {
        /// The configuration file.
        #[arg(long, default_value = "config/sotto.toml")]
        config: PathBuf,
    },
    /// One whole coached call over real SIP and RTP on loopback.
    Demo {
        /// Where to leave what each side heard, the recording, the transcript and the events.
        #[arg(long, default_value = "demo-out")]
        out: PathBuf,
        /// Print the summary alone, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Have a running server call a conference, or a customer and an agent.
    #[command(after_help = dial::EXAMPLES)]
    Dial(Box<dial::Dial>),
    /// Measure who really hears whom over a trunk, by a test call with telephones of its own at every end.
    #[command(after_help = probe::EXAMPLES)]
    Probe(probe::Probe),
    /// Figures of this machine, as JSON.
    Bench {
        #[command(subcommand)]
        what: bench::What,
    },
    /// Ask a running server whether it is well: exit status 0 if it is.
    Health {
        /// The server's configuration file.
        #[arg(long, default_value = "config/sotto.toml")]
        config: PathBuf,
    },
    /// A recogniser process (started by the server; not for people).
    #[command(hide = true)]
    SpeechWorker {
        /// A whisper.cpp model.
        model: PathBuf,
    },
}

/// Parses the arguments and runs the verb. 0 good, 1 failed, 2 wrong usage.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.verb {
        Verb::Serve { config } => {
            log::start("info");
            run(async { serve::serve(&config).await.map(|()| true) })
        }
        Verb::Demo { out, json } => {
            log::start("error");
            run(async { demo::run(&out, json).await })
        }
        Verb::Dial(dial) => run(dial::run(*dial)),
        Verb::Probe(probe) => {
            log::start("error");
            run(probe::run(probe))
        }
        Verb::Bench { what } => {
            log::start("error");
            run(bench::run(what))
        }
        Verb::Health { config } => run(async { health::health(&config).await.map(|()| true) }),
        Verb::SpeechWorker { model } => crate::io::stt::worker::run(&model),
    }
}

/// Runs a verb: true is good, false is failed without more to say, an error is said.
fn run<E: std::fmt::Display>(verb: impl Future<Output = Result<bool, E>>) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("sotto: {error}");
    ExitCode::FAILURE
}
