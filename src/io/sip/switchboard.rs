//! What the parts of the SIP server share: the configuration, the lines that are up, and how many calls there are.

use crate::config::{Config, Proxy, Trunk};
use crate::id::{CallId, LegId};
use crate::io::load::Why;
use crate::io::sip::Host as House;
use crate::io::sip::communication::Communications;
use crate::io::sip::endings::Endings;
use crate::io::sip::line::Line;
use crate::io::sip::office::Office;
use crate::io::sip::resolve::Resolver;
use crate::io::sip::sources::Sources;
use crate::io::sip::trust::Trust;
use crate::io::siprec::Metadata;
use rsipstack::sip::{Host as SipHost, Uri};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How much the server takes on; above it callers are asked to try again (503).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls at once.
    pub calls: usize,
    /// SIP transactions remembered at once, each a few kilobytes; one is kept for half a minute, and a routed call makes
    /// four, so that this is some 470 calls in a second, for as long as it likes.
    pub transactions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { calls: 2_000, transactions: 60_000 }
    }
}

/// Names an INVITE whatever way it came (RFC 3261 §8.2.2.2): Call-ID, From tag, CSeq.
pub type InviteKey = (String, String, u32);

/// A call, and of a supervisor's line the leg and the supervisor's identity.
pub type Owner = (CallId, Option<(LegId, String)>);

/// Shared by every office, desk and controller.
pub struct Switchboard {
    /// The configuration.
    pub config: Arc<Config>,
    /// The rest of the house.
    pub host: House,
    /// Who peers are.
    pub trust: Trust,
    /// Asks where names lead.
    pub resolver: Arc<Resolver>,
    /// How fast they send what belongs to no call.
    pub sources: Sources,
    /// Who waits for which clip.
    pub endings: Endings,
    /// Which calls recording sessions share.
    pub recordings: Communications,
    limits: Limits,
    offices: OnceLock<Vec<Arc<Office>>>,
    /// By Call-ID and our own tag. Bounded by twice the number of calls.
    lines: Mutex<HashMap<(String, String), Arc<Line>>>,
    /// To which call a line belongs, and of a supervisor's to which leg, and whose it is. Bounded as the lines are.
    owners: Mutex<HashMap<(String, String), Owner>>,
    /// Bounded by the number of calls.
    invites: Mutex<HashSet<InviteKey>>,
    /// Calls of each trunk that has a limit. Bounded by the number of trunks.
    of_trunks: Mutex<HashMap<String, usize>>,
    live: AtomicUsize,
    idle: Notify,
    closing: AtomicBool,
}

impl Switchboard {
    /// An empty one; nonces of digests hold for `life`.
    pub fn new(config: Arc<Config>, host: House, limits: Limits, life: Duration) -> Self {
        Switchboard {
            trust: Trust::new(config.clone(), life),
            resolver: Arc::new(Resolver::new(&config.sip.reach.nameservers)),
            sources: Sources::default(),
            config,
            host,
            endings: Endings::default(),
            recordings: Communications::default(),
            limits,
            offices: OnceLock::new(),
            lines: Mutex::default(),
            owners: Mutex::default(),
            invites: Mutex::default(),
            of_trunks: Mutex::default(),
            live: AtomicUsize::new(0),
            idle: Notify::new(),
            closing: AtomicBool::new(false),
        }
    }

    /// Names the offices, once.
    pub fn open(&self, offices: Vec<Arc<Office>>) {
        let _ = self.offices.set(offices);
    }

    /// The offices.
    pub fn offices(&self) -> &[Arc<Office>] {
        self.offices.get().map_or(&[], Vec::as_slice)
    }

    /// The trunk an address belongs to.
    pub fn trunk(&self, source: IpAddr) -> Option<&Trunk> {
        self.config.trunks.iter().find(|t| t.sources.iter().any(|n| n.contains(source)))
    }

    /// The trunk that is called at `target`: by its address, or by a name that its certificate carries.
    pub fn trunk_at(&self, target: &Uri) -> Option<&Trunk> {
        match target.host() {
            SipHost::IpAddr(ip) => self.trunk(*ip),
            SipHost::Domain(name) => {
                let name = name.to_string();
                let carries = |t: &&Trunk| t.tls_names.iter().any(|own| own.eq_ignore_ascii_case(&name));
                self.config.trunks.iter().find(carries)
            }
        }
    }

    /// Through whom `target` is called.
    pub fn proxy_for(&self, target: &Uri) -> Option<&Proxy> {
        let of_trunk = self.trunk_at(target).and_then(|trunk| trunk.outbound_proxy.as_ref());
        of_trunk.or(self.config.sip.reach.outbound_proxy.as_ref())
    }

    /// Whether another call can be taken, with so many SIP transactions; the one place that decides it.
    pub fn room(&self, transactions: usize) -> Result<(), Why> {
        if self.is_closing() {
            return Err(Why::Draining);
        }
        if self.live() >= self.limits.calls {
            return Err(Why::Calls);
        }
        if transactions >= self.limits.transactions {
            return Err(Why::Transactions);
        }
        self.host.load.measured().map_or(Ok(()), Err)
    }

    /// Whether no further calls are taken because the server is about to end.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// No further calls are taken.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Controllers that are running.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    /// SIP dialogs that are up or being set up.
    pub fn lines(&self) -> usize {
        locked(&self.lines).len()
    }

    /// Waits until no controller is running.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.live() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// A line by its Call-ID and our own tag.
    pub fn line(&self, call_id: &str, our_tag: &str) -> Option<Arc<Line>> {
        locked(&self.lines).get(&(call_id.to_owned(), our_tag.to_owned())).cloned()
    }

    /// Whether what `metadata` describes goes through us anyway.
    pub fn routes(&self, metadata: &Metadata) -> bool {
        locked(&self.lines).values().any(|line| line.is_described(metadata))
    }

    /// A line is up, or about to be.
    pub fn connect(&self, line: Arc<Line>) {
        locked(&self.lines).insert(line.key.clone(), line);
    }

    /// A line is gone.
    pub fn disconnect(&self, line: &Line) {
        locked(&self.lines).remove(&line.key);
        locked(&self.owners).remove(&line.key);
    }

    /// A line belongs to a call now; a supervisor's to a leg of it too.
    pub fn belong(&self, line: &Line, owner: Owner) {
        locked(&self.owners).insert(line.key.clone(), owner);
    }

    /// To which call a line belongs.
    pub fn belongs(&self, line: &Line) -> Option<Owner> {
        locked(&self.owners).get(&line.key).cloned()
    }

    /// Counts a controller, unless its INVITE has come already by another way.
    pub fn begin(self: &Arc<Self>, invite: InviteKey) -> Option<Live> {
        if !locked(&self.invites).insert(invite.clone()) {
            return None;
        }
        self.live.fetch_add(1, Ordering::AcqRel);
        Some(Live { board: self.clone(), invite, trunk: None })
    }
}

/// A running controller; uncounted when dropped.
pub struct Live {
    board: Arc<Switchboard>,
    invite: InviteKey,
    /// The trunk it counts for, where that has a limit.
    trunk: Option<String>,
}

impl Live {
    /// Counts it for its trunk too, unless that has all the calls it may have.
    pub fn count_for(&mut self, trunk: &Trunk) -> Result<(), Why> {
        let Some(most) = trunk.max_calls else { return Ok(()) };
        let mut of_trunks = locked(&self.board.of_trunks);
        let calls = of_trunks.entry(trunk.name.clone()).or_default();
        if *calls >= most {
            return Err(Why::Trunk);
        }
        *calls = calls.saturating_add(1);
        self.trunk = Some(trunk.name.clone());
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        locked(&self.board.invites).remove(&self.invite);
        if let Some(trunk) = self.trunk.take()
            && let Some(calls) = locked(&self.board.of_trunks).get_mut(&trunk)
        {
            *calls = calls.saturating_sub(1);
        }
        if self.board.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.board.idle.notify_waiters();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is changed by single calls only: a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
