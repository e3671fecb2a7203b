//! `sotto dial`: has a running server call a conference, or a customer and an agent, and says what came of it.

use crate::cli::client::{Client, ClientError, Server};
use serde_json::{Value, json};
use std::time::Duration;

/// How often it is asked whether the call stands.
const LOOK: Duration = Duration::from_millis(250);

/// How often a call may be unknown in a row of looks: 5 s.
const UNSEEN: u32 = 20;

/// What follows the help.
pub const EXAMPLES: &str = "\
Examples:
  sotto dial sip:8000@pbx.example --trunk pbx --pin ',1234#'      dial into a conference, two seconds after the answer the PIN
  sotto dial sip:8000@192.0.2.9 --announce 'This call is coached.' --alone 120
  sotto dial sip:8000@192.0.2.9 --earpiece sip:anna@192.0.2.9 --mode whisper
                                                                  whispers are heard on anna's other line, once she has
                                                                  keyed in the code that she hears there
  sotto dial --customer sip:5550100@192.0.2.9 --agent sip:anna@192.0.2.9
  sotto dial sip:8000@192.0.2.9 --json | jq -r .id

Exit status: 0 the call stands, 1 it does not (the reason is said), 2 wrong usage.";

/// Whom to call, and how.
#[derive(clap::Args)]
pub struct Dial {
    /// The address of a conference.
    #[arg(required_unless_present_all = ["customer", "agent"], conflicts_with_all = ["customer", "agent"])]
    bridge: Option<String>,
    /// Call this customer, once the agent has answered.
    #[arg(long, requires = "agent")]
    customer: Option<String>,
    /// Call this agent.
    #[arg(long, requires = "customer")]
    agent: Option<String>,
    /// What is keyed in at the conference: digits, * and #, and a comma for each pause.
    #[arg(long, env = "SOTTO_PIN", hide_env_values = true)]
    pin: Option<String>,
    /// How keys are told; else telephone events where they were agreed on, else tones.
    #[arg(long, value_parser = ["rfc4733", "inband", "info"])]
    keys: Option<String>,
    /// Seconds of a comma.
    #[arg(long)]
    pause: Option<f32>,
    /// A sentence said to the conference; without it Sotto is silent.
    #[arg(long)]
    announce: Option<String>,
    /// Leave when nobody else has been there for so many seconds.
    #[arg(long)]
    alone: Option<u32>,
    /// The agent's private line, where whispers are heard.
    #[arg(long)]
    earpiece: Option<String>,
    /// A code that the agent was shown, to be keyed in there; else one is drawn and said on that line.
    #[arg(long, requires = "earpiece", env = "SOTTO_CODE", hide_env_values = true)]
    code: Option<String>,
    /// The coach's mode.
    #[arg(long, value_parser = ["spy", "whisper", "barge"])]
    mode: Option<String>,
    /// The playbook.
    #[arg(long)]
    playbook: Option<String>,
    /// The trunk that leads there, where its address does not tell.
    #[arg(long)]
    trunk: Option<String>,
    /// Seconds it may ring.
    #[arg(long)]
    ring: Option<u32>,
    /// Do not wait until the call stands.
    #[arg(long)]
    no_wait: bool,
    /// Print the call as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Dials, and waits until the call stands or has ended. True if it stands.
pub async fn run(dial: Dial) -> Result<bool, ClientError> {
    let client = Client::new(&dial.server)?;
    let begun = client.post("/v1/calls", &dial.order()).await?;
    let path = format!("/v1/calls/{}", begun["id"].as_str().unwrap_or_default());
    let call = if dial.no_wait { client.get(&path).await? } else { stands(&client, &path).await? };
    let ended = call["state"] == "ended";
    match dial.json {
        true => println!("{call}"),
        false if ended => {}
        false => println!("{} {}", call["id"].as_str().unwrap_or_default(), call["state"].as_str().unwrap_or_default()),
    }
    if ended && !dial.json {
        return Err(ClientError::Refused(call["reason"].as_str().unwrap_or("the call has ended").to_owned()));
    }
    Ok(!ended)
}

impl Dial {
    fn order(&self) -> Value {
        let earpiece = self.earpiece.as_ref().map(|to| match &self.code {
            Some(code) => json!({ "to": to, "code": code }),
            None => json!({ "to": to }),
        });
        let mut order = json!({
            "bridge": self.bridge, "customer": self.customer, "agent": self.agent, "pin": self.pin, "keys": self.keys,
            "pause": self.pause, "announce": self.announce, "alone": self.alone, "earpiece": earpiece, "mode": self.mode,
            "playbook": self.playbook, "trunk": self.trunk, "ring": self.ring,
        });
        if let Some(fields) = order.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        order
    }
}

/// The call as it is when it stands or is over. It ends by itself where nobody answers.
async fn stands(client: &Client, path: &str) -> Result<Value, ClientError> {
    let mut unseen = 0;
    loop {
        let call = match client.get(path).await {
            // A call that ended at once is known again when its journal is on disk.
            Err(ClientError::Refused(_)) if unseen < UNSEEN => {
                unseen += 1;
                Value::Null
            }
            answer => answer?,
        };
        // So is why it has ended.
        let untold = call["state"] == "ended" && call["reason"].is_null() && unseen < UNSEEN;
        unseen += u32::from(untold);
        if matches!(call["state"].as_str(), Some("connected" | "ended")) && !untold {
            return Ok(call);
        }
        tokio::time::sleep(LOOK).await;
    }
}
