//! One call to one address: its INVITE, what is said before the answer, and the answer or why there is none. A name may
//! lead to several places: the next is tried where nobody is, or who is there cannot serve (RFC 3263 §4.3).

use crate::call::sdp::{self, Description, Local, Srtp, Terms};
use crate::event::Address;
use crate::io::clock;
use crate::io::rtp::LegSockets;
use crate::io::sip::connect::{Failure, Refused};
use crate::io::sip::controller::{Call, open_media, release};
use crate::io::sip::early::Early;
use crate::io::sip::line::{Line, Side};
use crate::io::sip::registry::user;
use crate::io::sip::way::{Lead, Way};
use crate::io::sip::{timer, trust};
use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver, TerminatedReason};
use rsipstack::dialog::invitation::{InviteAsyncResult, InviteOption};
use rsipstack::sip::{Auth, Header, Response, StatusCode, StatusCodeKind, Uri};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// INVITEs to one address: the second asks for the longer session timer that the first was refused for (RFC 4028 §7.1).
const TRIES: usize = 2;
/// Round trips without a word after which the next place of a name is called.
const SILENT: u32 = 8;

/// Who is called.
pub struct Target {
    /// A SIP URI.
    pub to: String,
    /// How long it may ring.
    pub timeout: Duration,
    /// Whether its media is to be protected, where the route says.
    pub srtp: Option<Srtp>,
    /// What else its INVITE says.
    pub headers: Vec<Header>,
}

/// A party that answered.
pub struct Answered {
    /// Who.
    pub to: Address,
    /// Its line.
    pub line: Arc<Line>,
    /// Its answer.
    pub description: Description,
    /// Our end of the media; none where what was heard before the answer has it.
    pub media: Option<(LegSockets, Local)>,
}

/// Calls `target` until it answers or does not, or until it is `over` because somebody else did.
pub async fn run(
    call: Arc<Call>,
    early: Arc<Early>,
    target: Target,
    over: CancellationToken,
) -> Result<Answered, Refused> {
    let uri = Uri::try_from(target.to.as_str()).map_err(|_| {
        tracing::error!(route = %call.admitted.route.at, "connect names no SIP URI");
        Failure::Unreachable
    })?;
    let found = over.run_until_cancelled(Way::all(&call.board, &call.caller.office, &uri)).await;
    let ways = found.ok_or(Failure::NoAnswer)?;
    if ways.is_empty() {
        let route = &call.admitted.route.at;
        tracing::error!(%route, to = %uri.host(), "connect leads nowhere that a [sip] listen address can reach");
    }
    let late = Instant::now() + target.timeout;
    let (mut refused, mut left) = (Refused::silence(), ways.len());
    for way in ways {
        left = left.saturating_sub(1);
        let trunk = call.board.trunk_at(&uri).or(call.board.trunk(way.peer()));
        if let Some(trunk) = trunk {
            call.goes_over(&trunk.name).await.map_err(|_| Failure::Unreachable)?;
        }
        // What the step says, else the trunk that is called.
        let srtp = target.srtp.or(trunk.map(|trunk| trunk.srtp)).unwrap_or_default();
        let trunk = trunk.map(|trunk| trunk.name.clone());
        let (call, early, to, uri) = (call.clone(), early.clone(), target.to.as_str().into(), uri.clone());
        let headers = target.headers.clone();
        let attempt = Attempt { call, early, to, way, uri, srtp, trunk, headers, last: left == 0 };
        match attempt.run(late, &over).await {
            Ok(answered) => return Ok(answered),
            Err(why) => refused = why,
        }
        if !refused.elsewhere || over.is_cancelled() {
            break;
        }
    }
    Err(refused)
}

/// A call that is being made.
struct Attempt {
    call: Arc<Call>,
    early: Arc<Early>,
    to: Address,
    way: Way,
    uri: Uri,
    srtp: Srtp,
    /// The trunk it belongs to.
    trunk: Option<String>,
    headers: Vec<Header>,
    /// Whether there is no other place to call.
    last: bool,
}

/// What names an INVITE, and what it asks for.
struct Asked {
    call_id: String,
    /// The least that we were told of session timers, 0 for nothing: it stays the same call (RFC 4028 §7.4).
    least: u32,
}

/// An INVITE on its way.
struct Invited {
    line: Arc<Line>,
    said: DialogStateReceiver,
    answer: oneshot::Receiver<Option<Response>>,
}

impl Attempt {
    async fn run(&self, late: Instant, over: &CancellationToken) -> Result<Answered, Refused> {
        let media = open_media(&self.way.office, self.way.peer(), &self.call.board, self.srtp);
        let media = media.map_err(|_| Failure::Unreachable)?;
        let (local, mut media) = (media.1, Some(media));
        let mut asked = Asked { call_id: format!("{:016x}@sotto", clock::random()), least: 0 };
        for _ in 0..TRIES {
            let opened = over.run_until_cancelled(self.way.open(&asked.call_id)).await;
            let lead = opened.ok_or(Failure::NoAnswer)?.map_err(|error| {
                tracing::warn!(peer = %self.way.peer(), %error, "a SIP connection could not be made");
                Refused::silence()
            })?;
            let invited = self.invite(&local, &asked, &lead)?;
            let line = invited.line.clone();
            match self.listen(invited, late, (&mut media, &local), over).await {
                Ok(response) if response.status_code.code() == 422 => {
                    asked.least = timer::wanted(&response);
                    self.let_go(&line).await;
                }
                Ok(response) => return self.answered(line, &response, media, &local).await,
                // CANCEL waits for a provisional response (RFC 3261 §9.1), and its answer may take long: the caller is told
                // now.
                Err(failure) => {
                    self.let_go(&line).await;
                    return Err(failure);
                }
            }
        }
        Err(Failure::Unreachable.into())
    }

    /// Hears what is said before the answer, until that comes, or nobody waits for it. What was begun meanwhile is not left
    /// half done.
    async fn listen(
        &self,
        mut invited: Invited,
        late: Instant,
        (media, local): (&mut Option<(LegSockets, Local)>, &Local),
        over: &CancellationToken,
    ) -> Result<Response, Refused> {
        // Whoever is there says so at once (RFC 3261 §17.2.1); where they do not, others are waiting to be asked.
        let silent = Instant::now() + self.way.office.timers.t1.saturating_mul(SILENT);
        let mut alone = self.last;
        loop {
            tokio::select! {
                biased;
                answer = &mut invited.answer => return answer.ok().flatten().ok_or(Refused::silence()),
                () = over.cancelled() => return Err(Failure::NoAnswer.into()),
                () = tokio::time::sleep_until(late) => return Err(Failure::NoAnswer.into()),
                () = tokio::time::sleep_until(silent), if !alone => return Err(Refused::silence()),
                Some(state) = invited.said.recv() => {
                    alone |= matches!(state, DialogState::Trying(_) | DialogState::Early(..));
                    let DialogState::Early(_, response) = state else { continue };
                    let line = invited.line.clone();
                    let acknowledged = response.clone();
                    tokio::spawn(async move { line.acknowledge_provisional(&acknowledged).await });
                    self.early.hear(&invited.line, &self.to, &response, (&mut *media, local)).await;
                }
            }
        }
    }

    async fn answered(
        &self,
        line: Arc<Line>,
        response: &Response,
        media: Option<(LegSockets, Local)>,
        local: &Local,
    ) -> Result<Answered, Refused> {
        self.way.office.learn(self.way.peer(), response);
        if response.status_code.kind() != StatusCodeKind::Successful {
            self.let_go(&line).await;
            return Err(Refused::of(response.status_code.code()));
        }
        let to = self.to.clone();
        match Description::read(&response.body, local.terms()) {
            Ok(description) if line.answered(response) => return Ok(Answered { to, line, description, media }),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the called party's answer is unusable");
                line.answered(response);
            }
        }
        self.let_go(&line).await;
        Err(Failure::Unreachable.into())
    }

    /// Lets go of the line to a party that did not come, without making the caller wait for it.
    async fn let_go(&self, line: &Arc<Line>) {
        self.call.not_calling(line);
        self.early.gone(line).await;
        let (board, line) = (self.call.board.clone(), line.clone());
        tokio::spawn(async move { release(&board, &line, None, "nobody waits any more").await });
    }

    fn invite(&self, local: &Local, asked: &Asked, lead: &Lead) -> Result<Invited, Failure> {
        let (call, office) = (&self.call, &self.way.office);
        let contact = self.way.contact(&self.uri);
        let admitted = &call.admitted;
        let (stays, who) = (self.early.listener(), call.address_of(self.early.listener()));
        let caller = Uri {
            auth: Some(Auth { user: user(&who.0).to_owned(), password: None }).filter(|a| !a.user.is_empty()),
            ..contact.clone()
        };
        let hops = admitted.max_forwards.saturating_sub(1);
        let mut headers = vec![
            Header::MaxForwards(u32::from(hops).into()),
            Header::Allow(crate::io::sip::door::ALLOW.into()),
            Header::Other("Sotto-Call".into(), call.id.to_string()),
        ];
        headers.extend(office.policy.asks(asked.least));
        headers.extend(self.headers.iter().cloned());
        let login = self.way.login(&call.board, &self.uri);
        let options = InviteOption {
            credential: login.as_ref().map(trust::for_stack),
            caller_display_name: admitted.display_name.clone().filter(|_| who == admitted.caller),
            caller,
            callee: self.uri.clone(),
            destination: lead.destination.clone(),
            route_set: self.way.routes(),
            contact,
            content_type: Some("application/sdp".into()),
            offer: Some(sdp::offer(local, &call.codecs_of(stays))),
            headers: Some(headers),
            call_id: Some(asked.call_id.clone()),
            ..InviteOption::default()
        };
        let (states, said) = office.dialogs.new_dialog_state_channel();
        let (dialog, task) = office.dialogs.do_invite_async(options, states).map_err(|error| {
            tracing::warn!(%error, "the other party could not be called");
            Failure::Unreachable
        })?;
        let terms = Terms { srtp: self.srtp, ..local.terms() };
        let mailbox = call.mailbox.clone();
        let line = Arc::new(Line::new(Side::Called, office.clone(), terms, dialog, mailbox, None));
        line.may_prove(login);
        self.trunk.iter().for_each(|name| line.is_of_trunk(name));
        call.calling(line.clone());
        let (tell, answer) = oneshot::channel();
        tokio::spawn(land(line.clone(), task, tell));
        Ok(Invited { line, said, answer })
    }
}

/// Waits for the outcome of an INVITE even when nobody else does any more: an answer that comes too late is a session
/// that must be ended. The stack ends the 200 to an INVITE that it cancelled; other 2xx it takes for failures.
pub async fn land(line: Arc<Line>, task: JoinHandle<InviteAsyncResult>, tell: oneshot::Sender<Option<Response>>) {
    let response = task.await.ok().and_then(Result::ok).and_then(|(_, response)| response);
    let Err(Some(unclaimed)) = tell.send(response) else { return };
    let cancelled = matches!(line.dialog.state(), DialogState::Terminated(_, TerminatedReason::UacCancel));
    let ended = unclaimed.status_code == StatusCode::OK && cancelled;
    if unclaimed.status_code.kind() == StatusCodeKind::Successful && !ended && line.answered(&unclaimed) {
        line.bye("the answer came too late").await;
    }
    line.office.dialogs.remove_dialog(&line.dialog.id());
}
