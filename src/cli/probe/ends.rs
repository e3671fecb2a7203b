//! The probe's telephones, and the call they are in. A number that rings none of them is hung up on.

use super::marker::marker;
use super::{CODE, PATIENCE, Probe, ProbeError, QUIET_MS, text};
use crate::cli::client::Client;
use crate::cli::demo::party::{Capture, Party, PartyError, PartyOptions, Spoken};
use crate::event::Mode;
use crate::io::clock;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);
/// A telephone of ours that is called rings at once; whoever answers while it does not is somebody else.
const RINGS: Duration = Duration::from_millis(1_500);

/// Whose telephone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// The customer, or of a conference whoever else is in it.
    Customer,
    /// The agent.
    Agent,
    /// The agent's private line.
    Earpiece,
    /// The supervisor, who whispers and barges.
    Supervisor,
}

impl Who {
    /// In the report.
    pub fn name(self) -> &'static str {
        match self {
            Who::Customer => "customer",
            Who::Agent => "agent",
            Who::Earpiece => "earpiece",
            Who::Supervisor => "supervisor",
        }
    }
}

/// All of them, and what was refused.
#[derive(Default)]
pub struct Ends {
    phones: BTreeMap<Who, Party>,
    /// Why a mode was refused.
    pub refusal: Option<BTreeMap<String, String>>,
    /// When what is said on the private line alone was said there: whoever else heard it hears whispers.
    pub prompt: Option<(Instant, Instant)>,
}

impl Ends {
    /// A customer and an agent.
    pub async fn call(&mut self, probe: &Probe, client: &Client) -> Result<String, ProbeError> {
        self.take(Who::Agent, probe.phones).await?;
        self.take(Who::Customer, above(probe.phones)).await?;
        let order = json!({ "customer": probe.customer, "agent": probe.agent, "trunk": probe.trunk, "ring": 30 });
        let call = begin(client, order).await?;
        let answered = async {
            self.answers(client, &call, Who::Agent, "agent").await?;
            self.answers(client, &call, Who::Customer, "customer").await?;
            until(client, &call, |call| call["state"] == "connected").await
        };
        guarded(client, &call, answered.await).await
    }

    /// A conference with a telephone of ours in it, and a private line.
    pub async fn conference(&mut self, probe: &Probe, client: &Client, bridge: &str) -> Result<String, ProbeError> {
        self.take(Who::Customer, SocketAddr::new(probe.phones.ip(), 0)).await?;
        if probe.earpiece.is_some() {
            self.take(Who::Earpiece, probe.phones).await?;
        }
        let earpiece = probe.earpiece.as_ref().map(|to| json!({ "to": to, "code": CODE }));
        let mut order = json!({
            "bridge": bridge, "pin": probe.pin, "keys": probe.keys, "earpiece": earpiece, "trunk": probe.trunk,
            "alone": 600, "ring": 90,
        });
        if let Some(fields) = order.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        let call = begin(client, order).await?;
        let joined = self.join(probe, client, bridge, &call).await;
        guarded(client, &call, joined).await
    }

    async fn join(&mut self, probe: &Probe, client: &Client, bridge: &str, call: &str) -> Result<(), ProbeError> {
        until(client, call, |call| call["state"] == "connected").await?;
        // Before anything of ours is heard there.
        is_empty(client, call).await?;
        let failed = |error: PartyError| ProbeError::Phone("customer", error);
        self.phones
            .get_mut(&Who::Customer)
            .ok_or(PartyError::NoCall)
            .map_err(failed)?
            .call(bridge)
            .await
            .map_err(failed)?;
        let guest = self.phone(Who::Customer)?;
        if let Some(pin) = &probe.pin {
            tokio::time::sleep(Duration::from_millis(500)).await;
            guest.press(pin).await.map_err(failed)?;
        }
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        guest.say(marker(clock::random())).await.map_err(failed)?;
        until(client, call, |call| leg(call, "bridge").is_some_and(|leg| since_sound(call, leg) < QUIET_MS))
            .await
            .map_err(|_| {
                ProbeError::Call("what a telephone of ours says in the conference does not come back from it".into())
            })?;
        if probe.earpiece.is_some() {
            // Our own marker is over by then.
            until(client, call, |call| leg(call, "bridge").is_some_and(|leg| since_sound(call, leg) > 500)).await?;
            self.prove(client, call).await?;
        }
        Ok(())
    }

    /// The private line rings until now: a telephone in the conference hears whether its prompt is heard there too. Then the
    /// code is keyed in.
    async fn prove(&mut self, client: &Client, call: &str) -> Result<(), ProbeError> {
        let began = clock::now();
        self.answers(client, call, Who::Earpiece, "earpiece").await?;
        prompted(client, call).await?;
        self.prompt = Some((began, clock::now()));
        let phone = self.phone(Who::Earpiece)?;
        phone.press(CODE).await.map_err(|error| ProbeError::Phone("earpiece", error))?;
        let there = |call: &Value| leg(call, "earpiece").is_some_and(|leg| leg["place"] == "in_conversation");
        let given_up = tokio::time::timeout(Duration::from_secs(3), until(client, call, there)).await;
        if !matches!(given_up, Ok(Ok(()))) {
            self.refuse(Mode::Whisper, why_refused(client, call).await);
        }
        Ok(())
    }

    /// A mode cannot be had.
    pub fn refuse(&mut self, mode: Mode, why: String) {
        let name = json!(mode).as_str().unwrap_or_default().to_owned();
        self.refusal.get_or_insert_default().entry(name).or_insert(why);
    }

    /// The supervisor's telephone is called and let in: its leg.
    pub async fn summon(&mut self, client: &Client, call: &str) -> Result<String, ProbeError> {
        self.take(Who::Supervisor, SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let phone = self.phones.get_mut(&Who::Supervisor).ok_or_else(|| ProbeError::Call("no telephone".into()))?;
        let to = format!("sip:supervisor@{}", phone.sip_addr());
        client.post(&format!("{call}/supervisors"), &json!({ "to": to, "mode": "spy" })).await?;
        phone.answer(PATIENCE).await.map_err(|error| ProbeError::Phone("supervisor", error))?;
        until(client, call, |call| leg(call, "supervisor").is_some()).await?;
        let view = client.get(call).await?;
        Ok(leg(&view, "supervisor").map(|leg| text(leg, "id")).unwrap_or_default())
    }

    /// Whoever has a telephone in the call.
    pub fn everybody(&self) -> Vec<Who> {
        self.phones.keys().copied().collect()
    }

    /// A telephone.
    pub fn phone(&self, who: Who) -> Result<&Party, ProbeError> {
        self.phones.get(&who).ok_or_else(|| ProbeError::Call(format!("there is no telephone of the {}", who.name())))
    }

    async fn take(&mut self, who: Who, at: SocketAddr) -> Result<(), ProbeError> {
        let ring = Duration::from_millis(100);
        let options =
            PartyOptions { address: at.ip(), port: at.port(), ring, ..PartyOptions::new(who.name(), clock::random()) };
        let phone = Party::bind(options).await.map_err(|error| ProbeError::Phone(who.name(), error))?;
        self.phones.insert(who, phone);
        Ok(())
    }

    /// Waits until this telephone is called, and answers. Whoever answers in its stead is somebody else.
    async fn answers(&mut self, client: &Client, call: &str, who: Who, role: &str) -> Result<(), ProbeError> {
        let until = clock::now() + PATIENCE;
        let mut taken: Option<Instant> = None;
        loop {
            let phone = self.phones.get_mut(&who).ok_or_else(|| ProbeError::Call("no telephone".into()))?;
            if phone.is_called() {
                return phone.answer(PATIENCE).await.map_err(|error| ProbeError::Phone(who.name(), error));
            }
            // A call that has just ended is known again when its journal is on disk.
            let view = client
                .get(call)
                .await
                .or_else(|error| if clock::now() > until { Err(error) } else { Ok(Value::Null) })?;
            ended(&view)?;
            if leg(&view, role).is_some() && clock::now() > *taken.get_or_insert(clock::now()) + RINGS {
                let what =
                    "was answered by somebody else than the probe's telephone: it was hung up, and nothing was played";
                return Err(ProbeError::Call(format!("the number of the {} {what}", who.name())));
            }
            if clock::now() > until {
                return Err(ProbeError::Call(format!("the number of the {} rings no telephone of ours", who.name())));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends the call and all telephones: what each heard.
    pub async fn hang_up(self, client: &Client, call: Option<&String>) -> Result<BTreeMap<Who, Capture>, ProbeError> {
        if let Some(call) = call {
            // It may have ended by itself.
            let _ = client.delete(call).await;
        }
        let mut captures = BTreeMap::new();
        for (who, phone) in self.phones {
            match phone.finish().await {
                Ok(capture) => drop(captures.insert(who, capture)),
                // It never had a call, or its line is gone.
                Err(error) => tracing::debug!(%error, who = who.name(), "a telephone has nothing to tell"),
            }
        }
        Ok(captures)
    }
}

/// The time between two instants, as something that was said.
pub fn spoken((first, last): (Instant, Instant)) -> Spoken {
    Spoken { first, last }
}

fn above(phones: SocketAddr) -> SocketAddr {
    SocketAddr::new(phones.ip(), phones.port().saturating_add(u16::from(phones.port() != 0)))
}

async fn begin(client: &Client, order: Value) -> Result<String, ProbeError> {
    let begun = client.post("/v1/calls", &order).await?;
    Ok(format!("/v1/calls/{}", text(&begun, "id")))
}

/// A call that did not come about as it should is hung up.
async fn guarded(client: &Client, call: &str, outcome: Result<(), ProbeError>) -> Result<String, ProbeError> {
    if outcome.is_err() {
        let _ = client.delete(call).await;
    }
    outcome.map(|()| call.to_owned())
}

fn ended(view: &Value) -> Result<(), ProbeError> {
    match view["state"].as_str() {
        Some("ended") => Err(ProbeError::Call(format!("the test call has ended: {}", text(view, "reason")))),
        _ => Ok(()),
    }
}

async fn until(client: &Client, call: &str, so: impl Fn(&Value) -> bool) -> Result<(), ProbeError> {
    let until = clock::now() + PATIENCE;
    loop {
        let view =
            client.get(call).await.or_else(|error| if clock::now() > until { Err(error) } else { Ok(Value::Null) })?;
        if so(&view) {
            return Ok(());
        }
        ended(&view)?;
        if clock::now() > until {
            return Err(ProbeError::Call("the test call does not come about".into()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Nobody is there but us.
async fn is_empty(client: &Client, call: &str) -> Result<(), ProbeError> {
    let quiet = until(client, call, |call| leg(call, "bridge").is_some_and(|leg| since_sound(call, leg) >= QUIET_MS));
    quiet.await.map_err(|_| {
        ProbeError::Call("somebody or something is heard in the conference: it must be an empty one".into())
    })?;
    let view = client.get(call).await?;
    match view["conference"]["count"].as_u64() {
        Some(count) if count > 1 => {
            Err(ProbeError::Call(format!("{count} people are in the conference: it must be an empty one")))
        }
        Some(_) | None => Ok(()),
    }
}

fn leg<'a>(call: &'a Value, role: &str) -> Option<&'a Value> {
    call["legs"].as_array()?.iter().find(|leg| leg["role"] == role)
}

/// Milliseconds since something was heard of a leg; since its call began, if nothing was.
fn since_sound(call: &Value, leg: &Value) -> i64 {
    let now = call["media_time"].as_i64().unwrap_or(0);
    (now - leg["last_sound"].as_i64().unwrap_or(0)) / 48
}

/// Waits until the private line's prompt was said, or cut short because it is heard elsewhere.
async fn prompted(client: &Client, call: &str) -> Result<(), ProbeError> {
    let until = clock::now() + PATIENCE;
    let over = |events: &Value| {
        let kinds = ["sotto.clip.ended", "sotto.clip.cut", "sotto.earpiece.refused"];
        events.as_array().is_some_and(|all| all.iter().any(|e| kinds.iter().any(|kind| e["type"] == *kind)))
    };
    while !over(&client.get(&format!("{call}/events")).await?) {
        if clock::now() > until {
            return Err(ProbeError::Call("nothing is said on the private line: is there a voice (espeak-ng)?".into()));
        }
        tokio::time::sleep(LOOK).await;
    }
    // What was said last is still on its way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

async fn why_refused(client: &Client, call: &str) -> String {
    let events = client.get(&format!("{call}/events")).await.unwrap_or_default();
    let mut reasons = events.as_array().into_iter().flatten().filter(|event| event["type"] == "sotto.earpiece.refused");
    reasons.next_back().map_or("the private line could not be proven".into(), |event| text(&event["data"], "reason"))
}
