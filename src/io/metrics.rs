//! What `/metrics` tells: one struct, passed in, a sentence a counter.
//!
//! In come increments from anywhere, media threads included: counters and gauges are atomics behind an `Arc`, so
//! `inc`, `inc_by` and `set` neither lock nor allocate, nor does [`Lateness`]. The journal's histogram locks for a moment
//! and belongs to its own task. Out goes the OpenMetrics text. Names on the wire begin with `sotto_`, counters end in
//! `_total` (added when encoded); what concerns calls carries the tenant. Knows nothing of who counts.

use crate::event::What;
use crate::id::Tenant;
use crate::io::stt::Counts;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use std::sync::atomic::{AtomicU64, Ordering};

mod lateness;

pub use lateness::Lateness;

/// The media type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every counter of the process.
#[derive(Debug)]
pub struct Metrics {
    /// Calls, by how they go.
    pub calls: Calls,
    /// Legs that have media now.
    pub legs_live: Gauge,
    /// Packets and the timer that drives them.
    pub media: Media,
    /// Whether there is headroom for another call.
    pub load: Load,
    /// Copies of signalling for a capture server.
    pub hep: Hep,
    /// What is dropped on the way to ears and recordings.
    pub ears: Ears,
    /// Events and the database.
    pub journal: JournalMetrics,
    /// Recordings.
    pub recordings: Recordings,
    /// Recognisers.
    pub speech: Speech,
    /// What the coach made of it.
    pub coach: Coach,
    /// What was played.
    pub clips: Clips,
    /// The API.
    pub http: Http,
    /// What the process itself holds.
    pub process: Process,
    registry: Registry,
}

/// What the process itself holds; looked up when asked for.
#[derive(Debug, Default)]
pub struct Process {
    /// Tasks of the runtime that have not ended.
    pub tasks: Gauge,
    /// Open file descriptors, sockets among them.
    pub open_files: Gauge,
}

/// Calls, by how they go.
#[derive(Debug, Default)]
pub struct Calls {
    /// Calls that have not ended.
    pub live: Gauge,
    /// Calls that began.
    pub began: Counter,
    /// Calls in which customer and agent came into conversation.
    pub connected: Counter,
    /// Calls whose logic failed, and which were relayed from then on.
    pub failed: Counter,
}

/// Packets and the timer that drives them.
#[derive(Debug, Default)]
pub struct Media {
    /// RTP packets received.
    pub packets_in: Counter,
    /// RTP packets sent.
    pub packets_out: Counter,
    /// Datagrams that could not be sent (full socket buffer, unreachable peer).
    pub send_failed: Counter,
    /// Datagrams to legs under SRTP that were not sealed with the peer's key, or came before: forged, replayed, or plain.
    pub srtp_refused: Counter,
    /// How late the calls' 20 ms ticks came, in seconds.
    pub tick_lateness: Lateness,
}

/// Whether there is headroom for another call, and what was measured: shares are from 0 to 1.
#[derive(Debug, Default)]
pub struct Load {
    /// 1 where measurements speak for another call, else 0.
    pub taking_calls: Gauge,
    /// What the process uses of its cores.
    pub cpu: Gauge<f64, AtomicU64>,
    /// What the busiest media thread uses of one.
    pub media_cpu: Gauge<f64, AtomicU64>,
    /// For what share of the time a media thread waits for a core.
    pub media_waiting: Gauge<f64, AtomicU64>,
    /// The share of ticks that come more than 5 ms late.
    pub late_ticks: Gauge<f64, AtomicU64>,
    /// By how many seconds signalling is late.
    pub signalling_lateness: Gauge<f64, AtomicU64>,
    /// Messages dropped because their source sends too fast.
    pub messages_dropped: Counter,
    /// Calls refused, by reason. Locks: it is counted by signalling only.
    refused: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Load {
    /// The counter of calls refused for a reason.
    pub fn refused(&self, why: &'static str) -> Counter {
        self.refused.get_or_create_owned(&[("why", why)])
    }
}

/// Copies of signalling for a capture server.
#[derive(Debug, Default)]
pub struct Hep {
    /// Messages sent to it.
    pub sent: Counter,
    /// Messages it never got: the queue was full, or they could not be sent.
    pub dropped: Counter,
}

/// What is dropped on the way to ears and recordings.
#[derive(Debug, Default)]
pub struct Ears {
    /// Frames of 20 ms that never reached the recogniser's side because its queue was full.
    pub heard_frames_dropped: Counter,
    /// Pieces of 160 samples (20 ms at 8 kHz) that no recording got: the queue was full, or the disk refused.
    pub record_frames_dropped: Counter,
}

/// Events and the database.
#[derive(Debug)]
pub struct JournalMetrics {
    /// Events numbered and published.
    pub events_recorded: Counter,
    /// Events that are not, or never will be, in the database: the queue or the store of pending events was full.
    pub events_lost: Counter,
    /// Events published and not yet committed.
    pub events_pending: Gauge,
    /// Batches committed.
    pub commits: Counter,
    /// Attempts to commit that failed and are being repeated.
    pub commit_failures: Counter,
    /// Seconds from a batch's first event to its commit.
    pub commit_seconds: Histogram,
    /// Calls found without an end at start, and closed.
    pub calls_recovered: Counter,
}

/// Recordings.
#[derive(Debug, Default)]
pub struct Recordings {
    /// Recordings being written.
    pub live: Gauge,
    /// Recordings completed.
    pub completed: Counter,
    /// Times that a disk refused a recording, or was too slow for it.
    pub failed: Counter,
    /// Holes in recordings, told as `recording.gap`.
    pub gaps: Counter,
}

/// Recognisers.
#[derive(Debug, Default)]
pub struct Speech {
    /// Utterances handed to a recogniser.
    pub jobs: Counter,
    /// Utterances that got no words.
    pub job_failures: Counter,
    /// Recogniser processes started anew after one died.
    pub worker_restarts: Counter,
}

impl Speech {
    /// Takes over what the recognisers have counted themselves.
    pub fn follow(&self, counts: Counts) {
        for (counter, count) in
            [(&self.jobs, counts.jobs), (&self.job_failures, counts.failures), (&self.worker_restarts, counts.restarts)]
        {
            counter.inner().store(count, Ordering::Relaxed);
        }
    }
}

/// What the coach made of it.
#[derive(Debug, Default)]
pub struct Coach {
    /// Moments detected.
    pub moments: Counter,
    /// Prompts let through.
    pub prompts_offered: Counter,
    /// Moments whose advice was held back.
    pub prompts_suppressed: Counter,
    /// Prompts spoken to the last sample.
    pub prompts_spoken: Counter,
}

/// What was played.
#[derive(Debug, Default)]
pub struct Clips {
    /// Clips whose first sample was sent.
    pub started: Counter,
    /// Clips sent to their last sample.
    pub ended: Counter,
    /// Clips stopped before their end, or never begun.
    pub cut: Counter,
    /// Whispers that came back over the agent's line.
    pub leaked: Counter,
}

/// The API.
#[derive(Debug, Default)]
pub struct Http {
    /// Requests answered.
    pub requests: Counter,
    /// Requests refused for want of the token.
    pub unauthorised: Counter,
    /// WebSockets that are open.
    pub sockets_live: Gauge,
    /// WebSockets closed because their reader was too slow.
    pub sockets_too_slow: Counter,
}

impl Default for JournalMetrics {
    fn default() -> Self {
        // Commits start 50 ms after a batch's first event; what matters is whether they stay under 100 ms.
        let commit_seconds = Histogram::new([0.025, 0.05, 0.06, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0, 30.0]);
        JournalMetrics {
            events_recorded: Counter::default(),
            events_lost: Counter::default(),
            events_pending: Gauge::default(),
            commits: Counter::default(),
            commit_failures: Counter::default(),
            commit_seconds,
            calls_recovered: Counter::default(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new(&Tenant::default())
    }
}

impl Metrics {
    /// Every counter at nought, for one tenant.
    pub fn new(tenant: &Tenant) -> Self {
        let mut metrics = Metrics {
            calls: Calls::default(),
            legs_live: Gauge::default(),
            media: Media::default(),
            load: Load::default(),
            hep: Hep::default(),
            ears: Ears::default(),
            journal: JournalMetrics::default(),
            recordings: Recordings::default(),
            speech: Speech::default(),
            coach: Coach::default(),
            clips: Clips::default(),
            http: Http::default(),
            process: Process::default(),
            registry: Registry::with_prefix("sotto"),
        };
        let mut registry = std::mem::take(&mut metrics.registry);
        metrics.register_process(&mut registry);
        metrics.register_tenant(registry.sub_registry_with_label(("tenant".into(), tenant.0.to_string().into())));
        metrics.registry = registry;
        metrics
    }

    /// The OpenMetrics text ([`CONTENT_TYPE`]).
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts what an event tells: the journal sees every one of them.
    pub fn saw(&self, what: &What) {
        match what {
            What::CallPending { .. } => {
                self.calls.began.inc();
                self.calls.live.inc();
            }
            What::CallConnected {} => drop(self.calls.connected.inc()),
            What::CallEnded { .. } => drop(self.calls.live.dec()),
            What::ClipStarted { .. } => drop(self.clips.started.inc()),
            What::ClipEnded { .. } => drop(self.clips.ended.inc()),
            What::ClipCut { .. } => drop(self.clips.cut.inc()),
            What::LeakDetected { .. } => drop(self.clips.leaked.inc()),
            What::MomentDetected { .. } => drop(self.coach.moments.inc()),
            What::PromptOffered { .. } => drop(self.coach.prompts_offered.inc()),
            What::PromptSuppressed { .. } => drop(self.coach.prompts_suppressed.inc()),
            What::PromptSpoken { .. } => drop(self.coach.prompts_spoken.inc()),
            What::RecordingFailed { .. } => drop(self.recordings.failed.inc()),
            What::RecordingGap { .. } => drop(self.recordings.gaps.inc()),
            What::CommandGiven { .. }
            | What::CommandRefused { .. }
            | What::CoachOpened { .. }
            | What::CallAnswered {}
            | What::LegJoined { .. }
            | What::LegLeft { .. }
            | What::LegChanged { .. }
            | What::LegHeld {}
            | What::LegResumed {}
            | What::ModeChanged { .. }
            | What::SupervisorJoined { .. }
            | What::SupervisorLeft { .. }
            | What::ConsentChanged { .. }
            | What::SupervisorMissed { .. }
            | What::EarpieceVerified {}
            | What::EarpieceRefused { .. }
            | What::ConferenceChanged { .. }
            | What::SupervisorAsked {}
            | What::SupervisorTookOver { .. }
            | What::SupervisorGaveBack { .. }
            | What::SpeechEdge { .. }
            | What::SpeechFinal { .. }
            | What::SpeechGap { .. }
            | What::PromptShown { .. }
            | What::LeakMeasured { .. }
            | What::LeakExpected { .. }
            | What::LeakCleared {}
            | What::CancellingStarted {}
            | What::CancellingEnded {}
            | What::RecordingStarted {}
            | What::RecordingPaused {}
            | What::RecordingResumed {}
            | What::RecordingEnded { .. } => {}
        }
    }

    fn register_process(&self, r: &mut Registry) {
        r.add("rtp_packets_received", "RTP packets received", &self.media.packets_in);
        r.add("rtp_packets_sent", "RTP packets sent", &self.media.packets_out);
        r.add("packets_unsent", "Datagrams that could not be sent", &self.media.send_failed);
        r.add("srtp_refused", "Datagrams under SRTP that were forged, replayed or plain", &self.media.srtp_refused);
        r.add("tick_lateness_seconds", "How late the calls' ticks came", &self.media.tick_lateness);
        r.add("taking_calls", "1 where measurements speak for another call", &self.load.taking_calls);
        r.add("calls_refused", "Calls refused for want of room, by reason", &self.load.refused);
        r.add("cpu_ratio", "What the process uses of its cores", &self.load.cpu);
        r.add("media_cpu_ratio", "What the busiest media thread uses of a core", &self.load.media_cpu);
        r.add("media_waiting_ratio", "Time that a media thread waits for a core", &self.load.media_waiting);
        r.add("late_ticks_ratio", "Ticks that come more than 5 ms late", &self.load.late_ticks);
        r.add("signalling_lateness_seconds", "How late signalling is", &self.load.signalling_lateness);
        r.add("sip_messages_dropped", "Messages of sources that send too fast", &self.load.messages_dropped);
        r.add("hep_messages", "Messages copied to the capture server", &self.hep.sent);
        r.add("hep_messages_dropped", "Messages the capture server never got", &self.hep.dropped);
        r.add("heard_frames_dropped", "Frames of 20 ms the ears never got", &self.ears.heard_frames_dropped);
        r.add("record_frames_dropped", "Pieces of 160 samples no recording got", &self.ears.record_frames_dropped);
        r.add("journal_events", "Events numbered and published", &self.journal.events_recorded);
        r.add("journal_events_lost", "Events that will not be in the database", &self.journal.events_lost);
        r.add("journal_commits", "Batches of events committed", &self.journal.commits);
        r.add("journal_commit_failures", "Attempts to commit that failed", &self.journal.commit_failures);
        r.add("journal_calls_recovered", "Calls without an end, closed at start", &self.journal.calls_recovered);
        r.add("recogniser_jobs", "Utterances handed to a recogniser", &self.speech.jobs);
        r.add("recogniser_failures", "Utterances that got no words", &self.speech.job_failures);
        r.add("recogniser_restarts", "Recogniser processes replaced after death", &self.speech.worker_restarts);
        r.add("http_requests", "Requests answered", &self.http.requests);
        r.add("http_unauthorised", "Requests refused for want of the token", &self.http.unauthorised);
        r.add("sockets_too_slow", "WebSockets closed for a slow reader", &self.http.sockets_too_slow);
        r.add("journal_events_pending", "Events published and not yet committed", &self.journal.events_pending);
        r.add("sockets_live", "WebSockets that are open", &self.http.sockets_live);
        r.add("tasks", "Tasks of the runtime that have not ended", &self.process.tasks);
        r.add("open_files", "Open file descriptors, sockets among them", &self.process.open_files);
        r.add("journal_commit_seconds", "From a batch's first event to its commit", &self.journal.commit_seconds);
    }

    fn register_tenant(&self, r: &mut Registry) {
        r.add("calls", "Calls that began", &self.calls.began);
        r.add("calls_connected", "Calls in which customer and agent came into conversation", &self.calls.connected);
        r.add("calls_failed", "Calls whose logic failed: relayed from then on", &self.calls.failed);
        r.add("recordings_completed", "Recordings completed", &self.recordings.completed);
        r.add("recordings_failed", "Times a disk refused a recording or was too slow", &self.recordings.failed);
        r.add("recording_gaps", "Holes in recordings", &self.recordings.gaps);
        r.add("moments", "Moments detected", &self.coach.moments);
        r.add("prompts_offered", "Prompts let through", &self.coach.prompts_offered);
        r.add("prompts_suppressed", "Moments whose advice was held back", &self.coach.prompts_suppressed);
        r.add("prompts_spoken", "Prompts spoken to the last sample", &self.coach.prompts_spoken);
        r.add("clips_started", "Clips whose first sample was sent", &self.clips.started);
        r.add("clips_ended", "Clips sent to their last sample", &self.clips.ended);
        r.add("clips_cut", "Clips stopped early or never begun", &self.clips.cut);
        r.add("clips_leaked", "Whispers found to come back over an agent's line", &self.clips.leaked);
        r.add("calls_live", "Calls that have not ended", &self.calls.live);
        r.add("legs_live", "Legs that have media", &self.legs_live);
        r.add("recordings_live", "Recordings being written", &self.recordings.live);
    }
}

/// Registering a metric that goes on sharing its value with the struct.
trait Add {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: &M);
}

impl Add for Registry {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: &M) {
        self.register(name, help, metric.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_shows_what_was_counted_and_whose_it_is() {
        let metrics = Metrics::default();
        metrics.calls.began.inc();
        metrics.calls.live.set(3);
        metrics.media.packets_in.inc_by(50);
        metrics.journal.commit_seconds.observe(0.07);
        let text = metrics.encode().unwrap();
        for line in [
            "sotto_calls_total{tenant=\"default\"} 1",
            "sotto_calls_live{tenant=\"default\"} 3",
            "sotto_rtp_packets_received_total 50",
            "sotto_journal_commit_seconds_bucket{le=\"0.075\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing from\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
