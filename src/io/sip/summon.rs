//! Calls a supervisor's telephone, where somebody asks for it through the API, and lets them in when they answer.
//!
//! In come a call, an address and a mode; what came of it is told by events: `supervisor.joined`, or `supervisor.missed`
//! with the reason. Whoever asks answers for whom they let in: the rules of `[[supervise]]` are for those who call us.

use crate::call::sdp::{self, Description, Local, Terms};
use crate::call::{Ack, Command};
use crate::event::{Address, Event, Mode, What};
use crate::id::{CallId, LegId};
use crate::io::clock;
use crate::io::load::Why;
use crate::io::rtp::LegSockets;
use crate::io::sip::controller::{End, Message, open_media, release};
use crate::io::sip::dial;
use crate::io::sip::endings::{About, Watch};
use crate::io::sip::line::{Line, Side};
use crate::io::sip::office::Office;
use crate::io::sip::registry::Entry;
use crate::io::sip::supervisor::{self, Supervisor, Who};
use crate::io::sip::switchboard::Switchboard;
use crate::io::sip::trust;
use crate::io::sip::way::{Lead, Way};
use crate::media::codec::Codec;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::sip::{Header, Host, Response, Scheme, StatusCodeKind, Uri};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long their telephone may ring.
const RINGING: Duration = Duration::from_secs(30);
/// Requests of theirs that wait for their task.
const MAILBOX: usize = 16;
/// What they are offered.
const CODECS: [Codec; 2] = [Codec::Pcmu, Codec::Pcma];

/// Why nobody can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsummoned {
    /// It is no address.
    #[error("write the address of a telephone as sip:NAME@HOST")]
    Address,
    /// There is no listening address of its family.
    #[error("no [sip] listen address can reach this address")]
    Family,
    /// There is no SIP here.
    #[error("the server takes no calls now")]
    Closed,
    /// There is no room for another call.
    #[error("{0}: try again later")]
    Full(Why),
}

/// Who is to be called.
struct Summons {
    board: Arc<Switchboard>,
    call: CallId,
    entry: Entry,
    to: Address,
    callee: Uri,
    mode: Mode,
    near: Arc<Office>,
}

/// Begins to call `to`. Answers before their telephone rings.
pub fn begin(board: Arc<Switchboard>, call: CallId, entry: Entry, to: &str, mode: Mode) -> Result<(), Unsummoned> {
    let callee = Uri::try_from(to).map_err(|_| Unsummoned::Address)?;
    if !matches!(callee.scheme, Some(Scheme::Sip | Scheme::Sips)) || callee.user().is_none_or(str::is_empty) {
        return Err(Unsummoned::Address);
    }
    board.room(0).map_err(|why| {
        board.host.load.refused(why);
        Unsummoned::Full(why)
    })?;
    let near = board.offices().first().cloned().ok_or(Unsummoned::Closed)?;
    let speaks = |ip: &IpAddr| board.offices().iter().any(|office| office.local.is_ipv4() == ip.is_ipv4());
    if let (Host::IpAddr(ip), None) = (callee.host(), board.proxy_for(&callee))
        && !speaks(ip)
    {
        return Err(Unsummoned::Family);
    }
    let summons = Summons { board, call, entry, to: to.into(), callee, mode, near };
    tokio::spawn(async move {
        if let Err(end) = summons.run().await {
            summons.missed(end.reason).await;
        }
    });
    Ok(())
}

impl Summons {
    /// Until the supervisor's line has ended, or was never up.
    async fn run(&self) -> Result<(), End> {
        let mut endings = self.board.endings.watch(self.call);
        let call_id = format!("{:016x}@sotto", clock::random());
        let (way, lead) = self.way(&call_id).await?;
        let srtp = self.board.trunk(way.peer()).map(|trunk| trunk.srtp).unwrap_or_default();
        let (sockets, local) = open_media(&way.office, way.peer(), &self.board, srtp)?;
        let (mailbox, messages) = mpsc::channel::<Message>(MAILBOX);
        let terms = Terms { srtp, ..local.terms() };
        let (line, answer) = self.invite(&way, (&lead, call_id), (&local, terms), mailbox)?;
        let Some(live) = self.board.begin((line.key.0.clone(), line.key.1.clone(), 0)) else {
            return Err(End::new("another call of the same name", 482));
        };
        self.board.connect(line.clone());
        match self.answered(&line, answer, &mut endings, &local).await {
            Ok(description) => {
                let supervisor = self.supervisor(line, way.peer());
                let answer = (sockets, local, description);
                let kept_out = supervisor::called(supervisor, answer, endings, messages, live).await;
                kept_out.map_or(Ok(()), |reason| Err(End::new(reason, 480)))
            }
            Err(end) => {
                release(&self.board, &line, None, &end.reason).await;
                drop::<LegSockets>(sockets);
                Err(end)
            }
        }
    }

    /// The first way that opens.
    async fn way(&self, call_id: &str) -> Result<(Way, Lead), End> {
        for way in Way::all(&self.board, &self.near, &self.callee).await {
            match way.open(call_id).await {
                Ok(lead) => return Ok((way, lead)),
                Err(error) => tracing::info!(peer = %way.peer(), %error, "a SIP connection could not be made"),
            }
        }
        Err(End::new("unreachable", 480))
    }

    fn supervisor(&self, line: Arc<Line>, peer: IpAddr) -> Supervisor {
        let trunk = self.board.trunk(peer).map(|trunk| trunk.name.clone()).unwrap_or_default();
        let identity = format!("{}@{}", self.callee.user().unwrap_or_default(), self.callee.host());
        let who = Who { address: self.to.clone(), identity, trunk };
        Supervisor::called(self.board.clone(), line, who, (self.call, self.mode))
    }

    /// Their answer, unless the call ends first or they take too long.
    async fn answered(
        &self,
        line: &Line,
        answer: oneshot::Receiver<Option<Response>>,
        endings: &mut Watch,
        local: &Local,
    ) -> Result<Description, End> {
        let ended = async {
            loop {
                match endings.about(LegId(u32::MAX)).await {
                    About::Left(reason) => return reason,
                    About::Did(_) => {}
                    About::Unknown if self.is_there().await => {}
                    About::Unknown => return "the call has ended".into(),
                }
            }
        };
        let response = tokio::select! {
            answered = tokio::time::timeout(RINGING, answer) => match answered {
                Ok(Ok(Some(response))) => response,
                Ok(_) => return Err(End::new("unreachable", 480)),
                Err(_) => return Err(End::new("no answer", 480)),
            },
            reason = ended => return Err(End::new(&*reason, 480)),
        };
        if response.status_code.kind() != StatusCodeKind::Successful {
            return Err(End::new(format!("refused with {}", response.status_code.code()), 480));
        }
        let known = line.answered(&response);
        let description = Description::read(&response.body, local.terms());
        match description {
            Ok(description) if known => Ok(description),
            Ok(_) => Err(End::new("the answer names no Contact", 480)),
            Err(error) => Err(End::new(format!("the answer is unusable: {error}"), 488)),
        }
    }

    fn invite(
        &self,
        way: &Way,
        (lead, call_id): (&Lead, String),
        (local, terms): (&Local, Terms),
        mailbox: mpsc::Sender<Message>,
    ) -> Result<(Arc<Line>, oneshot::Receiver<Option<Response>>), End> {
        let contact = way.contact(&self.callee);
        let login = way.login(&self.board, &self.callee);
        let options = InviteOption {
            credential: login.as_ref().map(trust::for_stack),
            caller: contact.clone(),
            callee: self.callee.clone(),
            destination: lead.destination.clone(),
            route_set: way.routes(),
            call_id: Some(call_id),
            contact,
            content_type: Some("application/sdp".into()),
            offer: Some(sdp::offer(local, &CODECS)),
            headers: Some(vec![
                Header::MaxForwards(70.into()),
                Header::Allow(crate::io::sip::door::ALLOW.into()),
                Header::Other("Sotto-Call".into(), self.call.to_string()),
            ]),
            ..InviteOption::default()
        };
        let (states, _) = way.office.dialogs.new_dialog_state_channel();
        let invited = way.office.dialogs.do_invite_async(options, states);
        let (dialog, task) = invited.map_err(|error| End::new(format!("cannot be called: {error}"), 480))?;
        let line = Arc::new(Line::new(Side::Called, way.office.clone(), terms, dialog, mailbox, None));
        line.may_prove(login);
        let (tell, told) = oneshot::channel();
        tokio::spawn(dial::land(line.clone(), task, tell));
        Ok((line, told))
    }

    async fn view(&self) -> Option<crate::call::CallView> {
        match self.entry.shard.command(self.call, Command::Describe).await {
            Ok(Ack::View(view)) => Some(view),
            Ok(_) | Err(_) => None,
        }
    }

    async fn is_there(&self) -> bool {
        self.view().await.is_some()
    }

    /// Where the call is over there is nobody left to be told.
    async fn missed(&self, reason: String) {
        tracing::info!(%reason, "a supervisor who was called does not come");
        if let Some(view) = self.view().await {
            let what = What::SupervisorMissed { who: self.to.clone(), reason };
            self.board.host.journal.record(self.call, Event { at: view.media_time, leg: None, what });
        }
    }
}
