//! The calls that are alive on this node, for those who act on them from outside.

use crate::call::{Command, Refusal};
use crate::event::{Address, Consent, Mode};
use crate::id::{CallCode, CallId};
use crate::io::clock;
use crate::io::load::Why;
use crate::io::shard::Shard;
use crate::io::sip::outward::{self, Conference, Order, Unbegun};
use crate::io::sip::summon::{self, Unsummoned};
use crate::io::sip::switchboard::Switchboard;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use tokio::sync::watch;

/// How often a code is drawn until one is free. With a thousand calls the second is, nearly always; beyond that two
/// calls share one, and who dials it is told so.
const DRAWS: usize = 100;

/// The way to a call's controller.
#[derive(Clone)]
pub struct Handle {
    wish: Arc<watch::Sender<Option<String>>>,
}

impl Handle {
    /// A handle, and what its controller listens to.
    pub fn new() -> (Self, watch::Receiver<Option<String>>) {
        let (wish, wished) = watch::channel(None);
        (Handle { wish: Arc::new(wish) }, wished)
    }

    /// Hangs up everyone. Never blocks and never fails; the first reason given is the one that counts.
    pub fn hangup(&self, reason: &str) {
        self.wish.send_if_modified(|wish| match wish {
            Some(_) => false,
            None => {
                *wish = Some(reason.to_owned());
                true
            }
        });
    }
}

/// What is known of a call from outside.
#[derive(Clone)]
pub struct Entry {
    /// The shard it lives on.
    pub shard: Shard,
    /// The way to its controller.
    pub handle: Handle,
    /// Who calls.
    pub caller: Address,
    /// What they dialled.
    pub called: Address,
    /// When it began, milliseconds since 1970 UTC.
    pub began_ms: i64,
    /// What it is called on the phone.
    pub code: CallCode,
    /// The addresses of its agents, from when they are on the line.
    pub agents: Vec<Address>,
    /// Whether the customer has agreed to be listened to.
    pub consent: Consent,
    /// Who is in somebody else's conference, where that tells.
    pub conference: Option<Conference>,
}

impl Entry {
    /// A call that begins now, with a code drawn at random.
    pub fn new(shard: Shard, handle: Handle, caller: Address, called: Address) -> Self {
        let code = CallCode::new(clock::random());
        Entry {
            shard,
            handle,
            caller,
            called,
            began_ms: clock::wall_ms(),
            code,
            agents: Vec::new(),
            consent: Consent::Unknown,
            conference: None,
        }
    }

    /// Whether a supervisor who dials `who` means this call: its code (`who` as one), or the user part of its agent's address.
    fn is_meant(&self, who: &str, code: Option<CallCode>) -> bool {
        code == Some(self.code) || self.agents.iter().any(|agent| user(&agent.0) == who)
    }
}

/// The user part of a SIP address, or all of what is only that.
pub fn user(address: &str) -> &str {
    let address = address.strip_prefix("sip:").unwrap_or(address);
    address.split_once('@').map_or(address, |(user, _)| user)
}

/// Why no single call is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfound {
    /// There is none.
    #[error("no agent of that name is on a call, and no call has that code")]
    Nobody,
    /// There are several.
    #[error("{0} calls match: dial the code of the one you mean")]
    Several(usize),
}

/// Every call that has not ended. Bounded by the number of calls the server takes.
#[derive(Clone, Default)]
pub struct Registry {
    calls: Arc<Mutex<HashMap<CallId, Entry>>>,
    /// Told whenever an agent is on the line, or what a customer says is known: somebody may wait for that.
    changed: Arc<watch::Sender<()>>,
    /// Who can call telephones.
    board: Arc<OnceLock<Weak<Switchboard>>>,
}

impl Registry {
    /// A call begins. Answers its code: another than `entry` has, where that one is taken or an agent's name.
    pub fn insert(&self, call: CallId, mut entry: Entry) -> CallCode {
        self.locked(|calls| {
            for _ in 0..DRAWS {
                let code = entry.code.to_string();
                if !calls.values().any(|other| other.is_meant(&code, Some(entry.code))) {
                    break;
                }
                entry.code = CallCode::new(clock::random());
            }
            let code = entry.code;
            calls.insert(call, entry);
            code
        })
    }

    /// An agent is on the line.
    pub fn has_agent(&self, call: CallId, agent: Address) {
        self.locked(|calls| calls.get_mut(&call).map(|entry| entry.agents.push(agent)));
        self.stir();
    }

    /// These are its agents now.
    pub fn set_agents(&self, call: CallId, agents: Vec<Address>) {
        self.locked(|calls| calls.get_mut(&call).map(|entry| entry.agents = agents));
        self.stir();
    }

    /// What the customer says about being listened to. Of a withdrawal whoever dials is told first, of a consent the call:
    /// nobody is let in by one whom the other refuses.
    pub async fn set_consent(&self, call: CallId, shard: &Shard, consent: Consent) -> Result<(), Refusal> {
        if consent != Consent::Given {
            self.has_consent(call, consent);
        }
        shard.command(call, Command::SetConsent { consent }).await?;
        self.has_consent(call, consent);
        Ok(())
    }

    fn has_consent(&self, call: CallId, consent: Consent) {
        self.locked(|calls| calls.get_mut(&call).map(|entry| entry.consent = consent));
        self.stir();
    }

    /// From now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whoever waits looks again.
    pub(super) fn stir(&self) {
        self.changed.send_replace(());
    }

    /// Who is in its conference now. Answers whether that is news.
    pub fn has_conference(&self, call: CallId, conference: Conference) -> bool {
        self.locked(|calls| match calls.get_mut(&call) {
            Some(entry) if entry.conference.as_ref() != Some(&conference) => {
                entry.conference = Some(conference);
                true
            }
            Some(_) | None => false,
        })
    }

    /// The one call that a supervisor means who dials `who`.
    pub fn meant(&self, who: &str) -> Result<(CallId, Entry), Unfound> {
        self.locked(|calls| {
            let code = who.parse().ok();
            let mut meant = calls.iter().filter(|(_, entry)| entry.is_meant(who, code));
            let Some((id, entry)) = meant.next() else { return Err(Unfound::Nobody) };
            match meant.count() {
                0 => Ok((*id, entry.clone())),
                more => Err(Unfound::Several(1 + more)),
            }
        })
    }

    /// Names who can call telephones, once.
    pub(super) fn serve(&self, board: Weak<Switchboard>) {
        let _ = self.board.set(board);
    }

    /// Calls a supervisor's telephone and lets them into a call in `mode`. Answers before it rings; events tell the rest.
    pub fn summon(&self, call: CallId, entry: Entry, to: &str, mode: Mode) -> Result<(), Unsummoned> {
        let board = self.board.get().and_then(Weak::upgrade).ok_or(Unsummoned::Closed)?;
        summon::begin(board, call, entry, to, mode)
    }

    /// Whether another call can be taken; where there is no SIP, nothing speaks against it.
    pub fn room(&self) -> Result<(), Why> {
        self.board.get().and_then(Weak::upgrade).map_or(Ok(()), |board| board.room(0))
    }

    /// Begins a call that nobody dialled here. Answers before anything rings; events tell the rest.
    pub fn originate(&self, order: Order) -> Result<CallId, Unbegun> {
        let board = self.board.get().and_then(Weak::upgrade).ok_or(Unbegun::Closed("there is no SIP"))?;
        outward::begin(board, order)
    }

    /// A call is over.
    pub fn remove(&self, call: CallId) -> Option<Entry> {
        self.locked(|calls| calls.remove(&call))
    }

    /// One call.
    pub fn get(&self, call: CallId) -> Option<Entry> {
        self.locked(|calls| calls.get(&call).cloned())
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<(CallId, Entry)> {
        let mut all: Vec<_> = self.locked(|calls| calls.iter().map(|(id, e)| (*id, e.clone())).collect());
        all.sort_by_key(|(id, entry)| (entry.began_ms, *id));
        all
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.locked(|calls| calls.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn locked<T>(&self, work: impl FnOnce(&mut HashMap<CallId, Entry>) -> T) -> T {
        work(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
