//! What is measured: one media thread with its queues, journal and recorder, exactly as `sotto serve` runs it, but
//! without SIP: calls are opened and legs joined by the same orders that the signalling gives.

use super::BenchError;
use super::party::{Cast, payload_type};
use super::scenario::Scenario;
use super::usage::Thread;
use crate::call::ears::Ears;
use crate::call::sdp::Keys;
use crate::call::{CallOptions, Command, LegMedia, LegSpec, Shape};
use crate::cli::scratch::Scratch;
use crate::config::Way;
use crate::event::{Mode, Place};
use crate::id::{CallId, Tenant};
use crate::io::clock;
use crate::io::journal::Journal;
use crate::io::metrics::Metrics;
use crate::io::recorder::Recorder;
use crate::io::rtp::LegSockets;
use crate::io::shard::{Shard, Sinks};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// A running media thread.
pub struct Host {
    /// The thread.
    pub thread: Thread,
    /// Its counters.
    pub metrics: Arc<Metrics>,
    shard: Shard,
    journal: Journal,
    journal_task: JoinHandle<()>,
    recorder: Recorder,
    recorder_thread: std::thread::JoinHandle<()>,
    /// Where RTCP goes: it is never read, and what does not fit is dropped there.
    reports: UdpSocket,
    calls: Vec<CallId>,
    _scratch: Scratch,
}

impl Host {
    /// Starts it, and lets one call pass through it, so that what is made once is made before anything is measured.
    pub async fn start(way: Way) -> Result<Host, BenchError> {
        let scratch = Scratch::make("bench")?;
        let (tenant, metrics) = (Tenant::default(), Arc::new(Metrics::default()));
        let (journal, journal_task) = Journal::start(scratch.path(), tenant.clone(), metrics.clone()).await?;
        let (recorder, recorder_thread) =
            Recorder::start(scratch.path(), tenant, journal.clone(), metrics.clone()).map_err(BenchError::Thread)?;
        let (journal_sink, recorder_sink) = (journal.clone(), recorder.clone());
        let sinks =
            Sinks { journal: journal_sink, conversations: None, recorder: recorder_sink, metrics: metrics.clone() };
        let shard = Shard::start(0, 1, way, sinks).map_err(BenchError::Thread)?;
        let thread = Thread::named("media-0").map_err(BenchError::Usage)?;
        let reports = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BenchError::Sockets)?;
        let mut host = Host {
            thread,
            metrics,
            shard,
            journal,
            journal_task,
            recorder,
            recorder_thread,
            reports,
            calls: Vec::new(),
            _scratch: scratch,
        };
        host.open(Scenario::Tapped).await?;
        host.end().await?;
        Ok(host)
    }

    /// A call begins, as yet without legs.
    pub async fn open(&mut self, scenario: Scenario) -> Result<(), BenchError> {
        let id = CallId::new(clock::wall_ms().unsigned_abs(), 0, 0, clock::random());
        let options = CallOptions {
            seed: clock::random(),
            caller: "sip:customer@bench".into(),
            called: "sip:agent@bench".into(),
            code: None,
            listen: scenario.is_tapped(),
            record: false,
            // No leak is looked for: that costs what `docs/performance.md` says while somebody whispers, and nothing else.
            ears: Ears::default(),
        };
        self.shard.open(id, options).await?;
        self.calls.push(id);
        Ok(())
    }

    /// A leg joins whose far end is at `remote`; answers where it is to send.
    pub async fn join(&self, scenario: Scenario, cast: &Cast, remote: SocketAddr) -> Result<SocketAddr, BenchError> {
        let call = self.calls.get(cast.call).copied().ok_or(crate::call::Refusal::Ended)?;
        let media = LegMedia {
            codec: cast.codec,
            payload_type: payload_type(cast.codec),
            dtmf: None,
            shape: Shape::default(),
            remote,
            remote_rtcp: self.reports.local_addr().map_err(BenchError::Sockets)?,
            send: true,
        };
        let (place, mode) = (Place::InConversation, scenario.mode().unwrap_or(Mode::Spy));
        let spec = LegSpec { role: cast.role, place, mode, address: "sip:leg@bench".into(), media };
        let sockets = sockets(cast.keys).map_err(BenchError::Sockets)?;
        let local = sockets.local;
        self.shard.add_leg(call, spec, sockets).await?;
        Ok(local)
    }

    /// Every call ends, and what the journal holds of them is written.
    pub async fn end(&mut self) -> Result<(), BenchError> {
        for call in self.calls.drain(..) {
            self.shard.command(call, Command::End { reason: "measured".into() }).await?;
        }
        self.journal.flush().await?;
        Ok(())
    }

    /// Ends all of it.
    pub async fn stop(mut self) -> Result<(), BenchError> {
        self.end().await?;
        self.shard.stop().await;
        self.recorder.close();
        let joined = tokio::task::spawn_blocking(move || self.recorder_thread.join()).await;
        self.journal_task.abort();
        joined.is_ok_and(|ended| ended.is_ok()).then_some(()).ok_or(BenchError::Failed("the recorder"))
    }
}

/// A leg's two sockets, at any free ports.
fn sockets(srtp: Option<Keys>) -> io::Result<LegSockets> {
    let [rtp, rtcp] = [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?];
    rtp.set_nonblocking(true)?;
    rtcp.set_nonblocking(true)?;
    Ok(LegSockets { local: rtp.local_addr()?, rtp, rtcp, srtp })
}
