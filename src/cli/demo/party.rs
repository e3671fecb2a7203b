//! A party of a call: a SIP user agent that calls or is called, speaks what it is given and keeps every packet.
//!
//! In come where to call and what to say; out comes a [`Capture`] of all that was sent and received. It shares no
//! packet or codec code with the server, so that it can bear witness. Knows nothing of coaching.

mod capture;
mod g711;
mod rtp;
mod sdp;
mod stream;

pub use capture::{Capture, Received, Sent};
pub use rtp::FRAME;
pub use stream::{Impairment, Spoken};

use crate::io::rtp::{LegSockets, open};
use crate::media::codec::g711::Law;
use rsipstack::EndpointBuilder;
use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver, DialogStateSender};
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, Method, StatusCode, StatusCodeKind, Uri};
use rsipstack::transaction::TransactionReceiver;
use rsipstack::transaction::transaction::Transaction;
use rsipstack::transport::{TransportLayer, udp::UdpConnection};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use stream::Stream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Where parties take their RTP ports from: below the range that the system hands out by itself.
const PORTS: RangeInclusive<u16> = 10_000..=29_999;

/// How a party is made.
#[derive(Clone, Debug)]
pub struct PartyOptions {
    /// The user part of its address.
    pub user: String,
    /// Where it binds.
    pub address: IpAddr,
    /// Its SIP port; 0 picks one.
    pub port: u16,
    /// The one codec it speaks.
    pub codec: Law,
    /// How long it rings before it answers.
    pub ring: Duration,
    /// What the network does to what it sends.
    pub impairment: Impairment,
    /// Seeds its line noise, its SSRC and the impairment.
    pub seed: u64,
}

impl PartyOptions {
    /// On loopback, PCMU, through a perfect network.
    pub fn new(user: &str, seed: u64) -> Self {
        PartyOptions {
            user: user.to_owned(),
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            codec: Law::Mu,
            ring: Duration::from_millis(300),
            impairment: Impairment::default(),
            seed,
        }
    }
}

/// Why a party could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum PartyError {
    /// The other side refused the call.
    #[error("the call was refused: {0} {1}")]
    Refused(u16, String),
    /// The other side did not answer.
    #[error("nobody answered")]
    NoAnswer,
    /// Nobody called in time.
    #[error("nobody called")]
    NobodyCalled,
    /// The far end's SDP cannot be used.
    #[error("the far end's SDP {0}")]
    Sdp(#[from] sdp::SdpError),
    /// There is no call (any more).
    #[error("there is no call")]
    NoCall,
    /// An address is no SIP URI.
    #[error("the address cannot be used: {0}")]
    Address(#[from] rsipstack::sip::Error),
    /// SIP failed.
    #[error("SIP: {0}")]
    Sip(Box<rsipstack::Error>),
    /// A socket or thread failed.
    #[error("network: {0}")]
    Io(#[from] std::io::Error),
}

impl From<rsipstack::Error> for PartyError {
    fn from(error: rsipstack::Error) -> Self {
        PartyError::Sip(Box::new(error))
    }
}

/// A user agent with at most one call.
pub struct Party {
    options: PartyOptions,
    sip: SocketAddr,
    layer: Arc<DialogLayer>,
    states: DialogStateSender,
    /// Four callers may wait to be answered; a fifth gets 486.
    invites: mpsc::Receiver<Transaction>,
    ended: watch::Receiver<bool>,
    call: Option<Talking>,
    sockets: Option<LegSockets>,
    _life: DropGuard,
}

struct Talking {
    dialog: InviteDialog,
    stream: Stream,
}

impl Party {
    /// Binds a free SIP port and a free pair of RTP ports.
    pub async fn bind(options: PartyOptions) -> Result<Party, PartyError> {
        let life = CancellationToken::new();
        let transport = TransportLayer::new(life.child_token());
        let socket = tokio::net::UdpSocket::bind((options.address, options.port)).await?;
        let sip = socket.local_addr()?;
        transport
            .add_transport(UdpConnection::from_socket(Arc::new(socket), None, Some(life.child_token())).await?.into());
        let endpoint = EndpointBuilder::new()
            .with_cancel_token(life.clone())
            .with_transport_layer(transport)
            .with_user_agent("sotto-demo-party")
            .build();
        let layer = Arc::new(DialogLayer::new(endpoint.inner.clone()));
        let incoming = endpoint.incoming_transactions()?;
        tokio::spawn(async move { endpoint.serve().await });

        let (states, state_receiver) = layer.new_dialog_state_channel();
        let (invite, invites) = mpsc::channel(4);
        let (end, ended) = watch::channel(false);
        let sockets = open(options.address, &PORTS)?;
        let body = sdp::describe(sockets.local, options.codec);
        tokio::spawn(take_requests(incoming, layer.clone(), invite));
        tokio::spawn(watch_dialogs(state_receiver, layer.clone(), body, end));
        Ok(Party {
            options,
            sip,
            layer,
            states,
            invites,
            ended,
            call: None,
            sockets: Some(sockets),
            _life: life.drop_guard(),
        })
    }

    /// Where it speaks SIP.
    pub fn sip_addr(&self) -> SocketAddr {
        self.sip
    }

    /// Calls `uri` and waits for the answer.
    pub async fn call(&mut self, uri: &str) -> Result<(), PartyError> {
        let sockets = self.sockets.take().ok_or(PartyError::NoCall)?;
        let offer = sdp::describe(sockets.local, self.options.codec);
        let option = InviteOption {
            caller: self.contact()?,
            callee: Uri::try_from(uri)?,
            contact: self.contact()?,
            content_type: Some("application/sdp".into()),
            offer: Some(offer),
            ..Default::default()
        };
        let (dialog, response) = self.layer.do_invite(option, self.states.clone()).await?;
        let response = response.ok_or(PartyError::NoAnswer)?;
        if response.status_code.kind() != StatusCodeKind::Successful {
            let reason = response.reason_phrase().unwrap_or_default().to_owned();
            return Err(PartyError::Refused(response.status_code.code(), reason));
        }
        self.talk(dialog, sockets, &response.body)
    }

    /// Waits up to `patience` for a caller, rings, and answers.
    pub async fn answer(&mut self, patience: Duration) -> Result<(), PartyError> {
        let mut transaction =
            tokio::time::timeout(patience, self.invites.recv()).await.ok().flatten().ok_or(PartyError::NobodyCalled)?;
        let sockets = self.sockets.take().ok_or(PartyError::NoCall)?;
        let contact = Some(self.contact()?);
        let mut dialog = self.layer.get_or_create_server_invite(&transaction, self.states.clone(), None, contact)?;
        let offer = transaction.original.body.clone();
        let answering = dialog.clone();
        tokio::spawn(async move {
            if let Err(error) = dialog.handle(&mut transaction).await {
                tracing::warn!(%error, "a party's INVITE transaction failed");
            }
        });
        answering.ringing(None, None)?;
        tokio::time::sleep(self.options.ring).await;
        let body = sdp::describe(sockets.local, self.options.codec);
        answering.accept(Some(vec![Header::ContentType("application/sdp".into())]), Some(body))?;
        self.talk(answering, sockets, &offer)
    }

    /// Says mono 8 kHz speech after what is already being said; returns when its last packet has been sent.
    pub async fn say(&self, pcm: Arc<[i16]>) -> Result<Spoken, PartyError> {
        let call = self.call.as_ref().ok_or(PartyError::NoCall)?;
        call.stream.say(pcm).await.ok_or(PartyError::NoCall)
    }

    /// Presses keys, 0 to 9, `*` and `#`; returns when the last is up.
    pub async fn press(&self, keys: &str) -> Result<(), PartyError> {
        let call = self.call.as_ref().ok_or(PartyError::NoCall)?;
        let codes = keys.chars().filter_map(|c| "0123456789*#".find(c)).map(|code| code as u8).collect();
        call.stream.press(codes).await.map(drop).ok_or(PartyError::NoCall)
    }

    /// Whether somebody calls who was not answered yet.
    pub fn is_called(&self) -> bool {
        !self.invites.is_empty()
    }

    /// Waits until the far end has hung up.
    pub async fn hung_up(&mut self) {
        // An error means that the endpoint is gone, and the call with it.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }

    /// Hangs up unless the far end has, and gives out everything that was sent and received.
    pub async fn finish(mut self) -> Result<Capture, PartyError> {
        let Talking { dialog, stream } = self.call.take().ok_or(PartyError::NoCall)?;
        if !*self.ended.borrow() {
            dialog.hangup().await?;
        }
        Ok(tokio::task::spawn_blocking(move || stream.finish()).await.map_err(std::io::Error::other)?)
    }

    fn contact(&self) -> Result<Uri, PartyError> {
        Ok(Uri::try_from(format!("sip:{}@{}", self.options.user, self.sip).as_str())?)
    }

    fn talk(&mut self, dialog: InviteDialog, sockets: LegSockets, far_end: &[u8]) -> Result<(), PartyError> {
        let to = sdp::read(far_end, self.options.codec)?;
        let stream = Stream::start(sockets, to, &self.options)?;
        self.call = Some(Talking { dialog, stream });
        Ok(())
    }
}

/// Gives requests to their dialogs, new INVITEs to `invites`.
async fn take_requests(mut incoming: TransactionReceiver, layer: Arc<DialogLayer>, invites: mpsc::Sender<Transaction>) {
    while let Some(mut transaction) = incoming.recv().await {
        if let Some(mut dialog) = layer.match_dialog(&transaction) {
            tokio::spawn(async move {
                if let Err(error) = dialog.handle(&mut transaction).await {
                    tracing::debug!(%error, "a party could not handle a request");
                }
            });
            continue;
        }
        let refusal = match transaction.original.method {
            Method::Ack => continue,
            Method::Invite => match invites.try_send(transaction) {
                Ok(()) => continue,
                Err(refused) => {
                    transaction = refused.into_inner();
                    StatusCode::BusyHere
                }
            },
            _ => StatusCode::CallTransactionDoesNotExist,
        };
        if let Err(error) = transaction.reply(refusal).await {
            tracing::debug!(%error, "a party could not refuse a request");
        }
    }
}

/// Forgets dialogs that ended, answers what comes within them, and tells of the end.
async fn watch_dialogs(
    mut states: DialogStateReceiver,
    layer: Arc<DialogLayer>,
    body: Vec<u8>,
    end: watch::Sender<bool>,
) {
    while let Some(state) = states.recv().await {
        match state {
            DialogState::Terminated(id, _) => {
                layer.remove_dialog(&id);
                end.send_replace(true);
            }
            DialogState::Updated(_, _, handle) => {
                let headers = vec![Header::ContentType("application/sdp".into())];
                let body = body.clone();
                tokio::spawn(async move { handle.respond(StatusCode::OK, Some(headers), Some(body)).await });
            }
            DialogState::Info(_, _, handle) | DialogState::Options(_, _, handle) => {
                tokio::spawn(async move { handle.reply(StatusCode::OK).await });
            }
            DialogState::Notify(_, _, handle)
            | DialogState::Message(_, _, handle)
            | DialogState::Refer(_, _, handle)
            | DialogState::Publish(_, _, handle) => {
                tokio::spawn(async move { handle.reply(StatusCode::NotImplemented).await });
            }
            DialogState::Calling(_)
            | DialogState::Trying(_)
            | DialogState::Early(..)
            | DialogState::WaitAck(..)
            | DialogState::Confirmed(..) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pair(impairment: Impairment, codec: Law) -> (Party, Party) {
        let options = |user, seed| PartyOptions { codec, ring: Duration::ZERO, ..PartyOptions::new(user, seed) };
        let mut caller = Party::bind(PartyOptions { impairment, ..options("caller", 1) }).await.unwrap();
        let mut called = Party::bind(options("called", 2)).await.unwrap();
        let uri = format!("sip:called@{}", called.sip_addr());
        let (calls, answers) = tokio::join!(caller.call(&uri), called.answer(Duration::from_secs(5)));
        calls.unwrap();
        answers.unwrap();
        (caller, called)
    }

    #[tokio::test]
    async fn every_packet_of_one_party_is_heard_by_the_other() {
        let (caller, mut called) = pair(Impairment::default(), Law::Mu).await;
        let tone: Arc<[i16]> = (0..1700).map(|n| if n % 8 < 4 { 8000 } else { -8000 }).collect();
        let spoken = caller.say(tone.clone()).await.unwrap();
        assert_eq!(spoken.last - spoken.first, Duration::from_millis(200));
        let said = caller.finish().await.unwrap();
        called.hung_up().await;
        let heard = called.finish().await.unwrap();

        // The called party's socket is open before its address is known: not one packet may be missing.
        let arrived: Vec<&[u8]> = heard.received.iter().map(|p| p.payload.as_slice()).collect();
        let sent: Vec<&[u8]> = said.sent.iter().map(|p| p.payload.as_slice()).take(arrived.len()).collect();
        assert!(arrived.len() >= 10, "{} packets", arrived.len());
        assert_eq!(arrived, sent);
        let loud = heard.heard().iter().filter(|s| s.unsigned_abs() > 7000).count();
        assert_eq!(loud, tone.len());
    }

    #[tokio::test]
    async fn a_bad_network_loses_and_reorders_as_told() {
        let bad = Impairment { loss_per_mille: 200, jitter: Duration::from_millis(60) };
        let (caller, called) = pair(bad, Law::A).await;
        caller.say(vec![0; 8000].into()).await.unwrap();
        let said = caller.finish().await.unwrap();
        let heard = called.finish().await.unwrap();
        assert!(said.sent.iter().any(|p| p.lost));
        assert!(heard.received.windows(2).any(|w| w[1].sequence.wrapping_sub(w[0].sequence) > 0x8000));
        let kept = said.sent.iter().filter(|p| !p.lost).map(|p| p.payload.to_vec());
        let kept: std::collections::HashSet<Vec<u8>> = kept.collect();
        assert!(heard.received.iter().all(|p| kept.contains(&p.payload)));
    }

    #[tokio::test]
    async fn a_call_that_nobody_takes_is_refused() {
        let mut caller = Party::bind(PartyOptions::new("caller", 1)).await.unwrap();
        let mut other = Party::bind(PartyOptions { codec: Law::A, ..PartyOptions::new("called", 2) }).await.unwrap();
        let uri = format!("sip:called@{}", other.sip_addr());
        let (_, answered) = tokio::join!(
            tokio::time::timeout(Duration::from_secs(2), caller.call(&uri)),
            other.answer(Duration::from_secs(5))
        );
        assert!(matches!(answered, Err(PartyError::Sdp(sdp::SdpError::NoCodec(Law::A)))), "{answered:?}");
    }
}
