//! One call to one address: its INVITE, what is said before the answer, and the answer or why there is none.

use crate::call::sdp::{self, Description, Local, Srtp, Terms};
use crate::event::Address;
use crate::io::rtp::LegSockets;
use crate::io::sip::connect::{Failure, Refused};
use crate::io::sip::controller::{Call, open_media, release};
use crate::io::sip::early::Early;
use crate::io::sip::line::{Line, Side};
use crate::io::sip::office::{Office, able_to_reach};
use crate::io::sip::registry::user;
use crate::io::sip::{timer, trust};
use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver, TerminatedReason};
use rsipstack::dialog::invitation::{InviteAsyncResult, InviteOption};
use rsipstack::sip::{Auth, Header, Host, Response, StatusCode, StatusCodeKind, Uri};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// INVITEs to one address: the second asks for the longer session timer that the first was refused for (RFC 4028 §7.1).
const TRIES: usize = 2;

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
    let ip = match uri.host() {
        Host::IpAddr(ip) => Some(*ip),
        Host::Domain(_) => None,
    };
    let office = able_to_reach(call.board.offices(), &call.caller.office, &uri).ok_or_else(|| {
        let route = &call.admitted.route.at;
        tracing::error!(%route, "no [sip] listen address has the address family and the transport of connect");
        Failure::Unreachable
    })?;
    let peer = ip.unwrap_or(office.local.ip());
    // What the step says, else the trunk that is called.
    let trunk = call.board.trunk_at(&uri).map(|trunk| (trunk.name.clone(), trunk.srtp));
    let srtp = target.srtp.or(trunk.as_ref().map(|(_, srtp)| *srtp)).unwrap_or_default();
    let trunk = trunk.map(|(name, _)| name);
    let media = open_media(&office, peer, &call.board, srtp).map_err(|_| Failure::Unreachable)?;
    let to = target.to.as_str().into();
    let attempt = Attempt { call, early, to, office, peer, uri, srtp, trunk, headers: target.headers };
    attempt.run(media, target.timeout, &over).await
}

/// A call that is being made.
struct Attempt {
    call: Arc<Call>,
    early: Arc<Early>,
    to: Address,
    office: Arc<Office>,
    peer: IpAddr,
    uri: Uri,
    srtp: Srtp,
    /// The trunk it belongs to.
    trunk: Option<String>,
    headers: Vec<Header>,
}

/// An INVITE on its way.
struct Invited {
    line: Arc<Line>,
    said: DialogStateReceiver,
    answer: oneshot::Receiver<Option<Response>>,
}

impl Attempt {
    async fn run(
        &self,
        media: (LegSockets, Local),
        timeout: Duration,
        over: &CancellationToken,
    ) -> Result<Answered, Refused> {
        let (local, mut media, mut before) = (media.1, Some(media), None);
        for _ in 0..TRIES {
            let invited = self.invite(&local, before.take())?;
            let line = invited.line.clone();
            match self.listen(invited, timeout, (&mut media, &local), over).await {
                Ok(response) if response.status_code.code() == 422 => {
                    before = Some((line.key.0.clone(), timer::wanted(&response)));
                    self.let_go(&line).await;
                }
                Ok(response) => return self.answered(line, &response, media, &local).await,
                // CANCEL waits for a provisional response (RFC 3261 §9.1), and its answer may take long: the caller is told
                // now.
                Err(failure) => {
                    self.let_go(&line).await;
                    return Err(failure.into());
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
        timeout: Duration,
        (media, local): (&mut Option<(LegSockets, Local)>, &Local),
        over: &CancellationToken,
    ) -> Result<Response, Failure> {
        let mut late = std::pin::pin!(tokio::time::sleep(timeout));
        loop {
            tokio::select! {
                biased;
                answer = &mut invited.answer => return answer.ok().flatten().ok_or(Failure::Unreachable),
                () = over.cancelled() => return Err(Failure::NoAnswer),
                () = &mut late => return Err(Failure::NoAnswer),
                Some(state) = invited.said.recv() => {
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

    /// `before`: the Call-ID of an INVITE that asked for too short a session, and what it was told (RFC 4028 §7.4).
    fn invite(&self, local: &Local, before: Option<(String, u32)>) -> Result<Invited, Failure> {
        let (call_id, least) = before.unzip();
        let (call, office) = (&self.call, &self.office);
        let contact = office.contact_for(self.peer);
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
        headers.extend(office.policy.asks(least.unwrap_or(0)));
        headers.extend(self.headers.iter().cloned());
        let login = call.board.trust.login(&self.uri).cloned();
        let options = InviteOption {
            credential: login.as_ref().map(trust::for_stack),
            caller_display_name: admitted.display_name.clone().filter(|_| who == admitted.caller),
            caller,
            callee: self.uri.clone(),
            contact,
            content_type: Some("application/sdp".into()),
            offer: Some(sdp::offer(local, &call.codecs_of(stays))),
            headers: Some(headers),
            call_id,
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
