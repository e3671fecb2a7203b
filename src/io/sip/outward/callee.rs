//! Somebody whom we call: their address, the trunk that leads there and what it allows.

use crate::call::sdp::Srtp;
use crate::config::Trunk;
use crate::event::Address;
use crate::io::sip::connect::Failure;
use crate::io::sip::office::Office;
use crate::io::sip::outward::Unbegun;
use crate::io::sip::switchboard::Switchboard;
use crate::io::sip::way::{Lead, Way};
use rsipstack::sip::{Host, Scheme, Uri};
use std::net::IpAddr;
use std::sync::Arc;

/// Who is called, and by which way.
pub struct Callee {
    /// As it was written.
    pub to: Address,
    pub(super) uri: Uri,
    pub(super) near: Arc<Office>,
    pub(super) srtp: Srtp,
    pub(super) trunk: String,
}

impl Callee {
    /// `what` names the field, for whoever wrote it.
    pub fn find(board: &Switchboard, what: &'static str, to: &str, named: Option<&str>) -> Result<Callee, Unbegun> {
        let uri = Uri::try_from(to).map_err(|_| Unbegun::Address(what))?;
        let user = uri.user().filter(|user| !user.is_empty()).ok_or(Unbegun::Address(what))?.to_owned();
        if !matches!(uri.scheme, Some(Scheme::Sip | Scheme::Sips)) {
            return Err(Unbegun::Address(what));
        }
        let trunk = trunk(board, what, &uri, named)?;
        if trunk.may_be_called.as_ref().is_some_and(|all| !all.iter().any(|pattern| pattern.is_match(&user))) {
            return Err(Unbegun::NotAllowed(what));
        }
        let near = board.offices().first().cloned().ok_or(Unbegun::Closed("there is no SIP"))?;
        let speaks = |ip: &IpAddr| board.offices().iter().any(|office| office.local.is_ipv4() == ip.is_ipv4());
        if let (Host::IpAddr(ip), None) = (uri.host(), board.proxy_for(&uri))
            && !speaks(ip)
        {
            return Err(Unbegun::Family(what));
        }
        Ok(Callee { to: to.into(), near, srtp: trunk.srtp, trunk: trunk.name.clone(), uri })
    }

    /// The first way there that opens.
    pub async fn way(&self, board: &Switchboard, call_id: &str) -> Result<(Way, Lead), Failure> {
        for way in Way::all(board, &self.near, &self.uri).await {
            match way.open(call_id).await {
                Ok(lead) => return Ok((way, lead)),
                Err(error) => tracing::info!(peer = %way.peer(), %error, "a SIP connection could not be made"),
            }
        }
        Err(Failure::Unreachable)
    }
}

fn trunk<'a>(board: &'a Switchboard, what: &'static str, uri: &Uri, named: Option<&str>) -> Result<&'a Trunk, Unbegun> {
    match named {
        Some(name) => {
            board.config.trunks.iter().find(|t| t.name == name).ok_or_else(|| Unbegun::Trunk(name.to_owned()))
        }
        None => board.trunk_at(uri).ok_or(Unbegun::NoTrunk(what)),
    }
}
