//! Takes every request the door let in to where it belongs: a new call, or the line it names.

use crate::io::clock;
use crate::io::load::Load;
use crate::io::sip::admission::{self, Admitted};
use crate::io::sip::controller::{self, Message};
use crate::io::sip::fault::Fault;
use crate::io::sip::line::{Called, Line, Side};
use crate::io::sip::named::Named;
use crate::io::sip::office::Office;
use crate::io::sip::reliable::Provisional;
use crate::io::sip::supervisor::Supervisor;
use crate::io::sip::switchboard::{InviteKey, Live, Switchboard};
use crate::io::sip::{in_dialog, message, recording, replace, supervisor, timer};
use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::{Method, Request, Scheme, Uri};
use rsipstack::transaction::{Transaction, TransactionReceiver};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Requests of both parties waiting for their call's controller. When it is full the one who asks waits, and gets
/// 500 if that takes too long.
const MAILBOX: usize = 16;

/// Works until the stack stops. The stack's queue of transactions has no bound of its own: the door refuses calls
/// above `Limits`, and knows every dialog whose requests it lets in.
pub async fn run(office: Arc<Office>, board: Arc<Switchboard>, mut incoming: TransactionReceiver) {
    while let Some(transaction) = incoming.recv().await {
        receive(&office, &board, transaction);
    }
}

fn receive(office: &Arc<Office>, board: &Arc<Switchboard>, transaction: Transaction) {
    let request = &transaction.original;
    let call_id = request.call_id_header().map(|c| c.value().to_owned()).unwrap_or_default();
    let our_tag = request.to_header().ok().and_then(|to| message::parameter(to.value(), "tag")).map(str::to_owned);
    match (our_tag, request.method) {
        (Some(tag), _) => match board.line(&call_id, &tag) {
            Some(line) => drop(tokio::spawn(in_dialog::serve(line, transaction))),
            None => refuse(transaction, Fault::new(481, "there is no such call here (any more)")),
        },
        (None, Method::Invite) => match invite_key(request).and_then(|key| board.begin(key)) {
            Some(live) => drop(tokio::spawn(invited(office.clone(), board.clone(), transaction, live))),
            // RFC 3261 §8.2.2.2: the same request by another way.
            None => refuse(transaction, Fault::new(482, "this call is here already, by another way")),
        },
        (None, _) => refuse(transaction, Fault::new(481, "there is no such call here (any more)")),
    }
}

fn invite_key(request: &Request) -> Option<InviteKey> {
    let tag = message::parameter(request.from_header().ok()?.value(), "tag")?.to_owned();
    Some((request.call_id_header().ok()?.value().to_owned(), tag, request.cseq_header().ok()?.seq().ok()?))
}

/// Refuses a request. The stack keeps the answer and repeats it when the request is repeated.
pub fn refuse(transaction: Transaction, fault: Fault) {
    tokio::spawn(reply(transaction, fault));
}

async fn reply(mut transaction: Transaction, fault: Fault) {
    if transaction.original.method == Method::Ack {
        return;
    }
    if let Err(error) = transaction.reply_with(fault.status_code(), fault.stack_headers(), None).await {
        tracing::warn!(%error, status = fault.status, "a refusal could not be sent");
    }
}

/// The address a request came from.
pub fn source(transaction: &Transaction) -> Option<SocketAddr> {
    transaction.connection.as_ref()?.get_remote_addr()?.get_socketaddr().ok()
}

async fn invited(office: Arc<Office>, board: Arc<Switchboard>, transaction: Transaction, mut live: Live) {
    let Some(source) = source(&transaction) else { return };
    let admitted = admission::admit(&board, &transaction.original, &office.origin(source));
    match admitted.and_then(|admitted| counted(&board, &mut live, &admitted).map(|()| admitted)) {
        Ok(admitted) => begin(office, board, transaction, admitted, live).await,
        Err(fault) => reply(transaction, fault).await,
    }
}

/// Our Contact in the dialog that an INVITE begins: `sips` where that is (RFC 3261 §12.1.1).
fn contact(office: &Office, invite: &Request, peer: IpAddr) -> Uri {
    let top = invite.record_route_header().map(|route| route.value().to_ascii_lowercase());
    let secured = top.is_some_and(|route| route.trim_start().starts_with("<sips:"));
    match secured || invite.uri.scheme == Some(Scheme::Sips) {
        true => Uri { scheme: Some(Scheme::Sips), ..office.contact_for(peer) },
        false => office.contact_for(peer),
    }
}

/// Counts a call for its trunk, which may have had all it may have.
fn counted(board: &Switchboard, live: &mut Live, admitted: &Admitted) -> Result<(), Fault> {
    let trunk = board.config.trunks.iter().find(|trunk| trunk.name == admitted.trunk);
    trunk.map_or(Ok(()), |trunk| live.count_for(trunk)).map_err(|why| {
        board.host.load.refused(why);
        Fault::new(503, why.to_string()).with("Retry-After", Load::retry_after(clock::random()).to_string())
    })
}

async fn begin(
    office: Arc<Office>,
    board: Arc<Switchboard>,
    mut transaction: Transaction,
    mut admitted: Admitted,
    live: Live,
) {
    let session = match office.policy.answer(transaction.original.headers.iter()) {
        Ok(session) => session,
        Err(fault) => return reply(transaction, fault).await,
    };
    let trunk_name = admitted.trunk.clone();
    let (states, followed) = office.dialogs.new_dialog_state_channel();
    let contact = Some(contact(&office, &transaction.original, admitted.source.ip()));
    let mut dialog = match office.dialogs.get_or_create_server_invite(&transaction, states, None, contact) {
        Ok(dialog) => dialog,
        Err(error) => {
            tracing::warn!(%error, "an INVITE could not be made a dialog");
            return reply(transaction, Fault::bad("the INVITE cannot be made a dialog")).await;
        }
    };
    let (mailbox, messages) = mpsc::channel::<Message>(MAILBOX);
    let called = Called {
        transaction: (transaction.tu_sender.clone(), transaction.key.clone()),
        provisional: Provisional::new(&transaction.original, clock::random() as u32),
    };
    let recording = admitted.recording.take();
    let line = Line::new(Side::Caller, office, admitted.terms, dialog.clone(), mailbox, Some(called));
    let line = line.of_session(&transaction.original);
    let line = Arc::new(if recording.is_some() { line.of_a_recording() } else { line });
    line.is_of_trunk(&admitted.trunk);
    line.in_order(transaction.original.cseq_header().and_then(|c| c.seq()).unwrap_or(0));
    line.allows(transaction.original.headers.iter());
    // Who let its caller through may ask who we are when we offer something new.
    let trunk = board.config.trunks.iter().find(|trunk| trunk.name == trunk_name);
    line.may_prove(trunk.and_then(|trunk| trunk.login.clone()));
    if recording.is_some() || admitted.supervision().is_some() {
        line.stands_alone();
        tokio::spawn(timer::keep_alone(line.clone()));
    }
    line.agree(session);
    transaction.connection.iter().for_each(|connection| line.came_by(connection.clone()));
    board.connect(line.clone());
    tokio::spawn(line.clone().follow(followed));
    tokio::spawn(async move {
        // Sends 100, then whatever the controller decides, and repeats it until the ACK.
        if let Err(error) = dialog.handle(&mut transaction).await {
            tracing::warn!(%error, "an INVITE transaction failed");
        }
    });
    if let Some(opening) = recording {
        return recording::run(board, line, admitted, opening, messages, live).await;
    }
    if let Some(Named::Party(named)) = &admitted.named {
        let named = named.clone();
        return replace::run(board, line, admitted, named, live).await;
    }
    match admitted.supervision() {
        Some(wanted) => supervisor::run(Supervisor::new(board, line, admitted, wanted), messages, live).await,
        None => controller::run(board, line, admitted, messages, live).await,
    }
}
