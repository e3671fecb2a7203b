//! What a party offers and what it makes of the far end's SDP: one audio stream, one codec.

use crate::media::codec::g711::Law;
use sdp_types::{Media, Session};
use std::net::{IpAddr, SocketAddr};

/// What telephone events (RFC 4733) are called here.
pub(super) const EVENTS: u8 = 101;

/// Why the far end's SDP cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SdpError {
    /// It is no SDP.
    #[error("cannot be read: {0}")]
    Malformed(#[from] sdp_types::ParserError),
    /// It has no audio stream that is not refused.
    #[error("has no audio")]
    NoAudio,
    /// It names no address.
    #[error("names no address for its audio")]
    NoAddress,
    /// The one codec of this party is not in it.
    #[error("does not have {0:?}")]
    NoCodec(Law),
}

/// One audio stream at `local` with `codec`, 20 ms.
pub(super) fn describe(local: SocketAddr, codec: Law) -> Vec<u8> {
    let family = if local.is_ipv6() { "IP6" } else { "IP4" };
    let (ip, port) = (local.ip(), local.port());
    let (payload_type, name) = (payload_type(codec), name(codec));
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP {payload_type} {EVENTS}\r\na=rtpmap:{payload_type} {name}/8000\r\n\
         a=rtpmap:{EVENTS} telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    )
    .into_bytes()
}

/// Where the far end wants its audio.
pub(super) fn read(body: &[u8], codec: Law) -> Result<SocketAddr, SdpError> {
    let session = Session::parse(body)?;
    let audio = session.medias.iter().find(|m| m.media == "audio" && m.port != 0).ok_or(SdpError::NoAudio)?;
    let wanted = payload_type(codec).to_string();
    if !audio.fmt.split(' ').any(|format| format == wanted) {
        return Err(SdpError::NoCodec(codec));
    }
    Ok(SocketAddr::new(address(&session, audio).ok_or(SdpError::NoAddress)?, audio.port))
}

/// The static payload type (RFC 3551 §6).
pub(super) fn payload_type(codec: Law) -> u8 {
    match codec {
        Law::Mu => 0,
        Law::A => 8,
    }
}

fn name(codec: Law) -> &'static str {
    match codec {
        Law::Mu => "PCMU",
        Law::A => "PCMA",
    }
}

/// The stream's own connection before the session's (RFC 8866 §5.7).
fn address(session: &Session, audio: &Media) -> Option<IpAddr> {
    let connection = audio.connections.first().or(session.connection.as_ref())?;
    connection.connection_address.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_party_offers_another_can_read() {
        let local = "127.0.0.1:4000".parse().unwrap();
        assert_eq!(read(&describe(local, Law::A), Law::A).unwrap(), local);
        assert!(matches!(read(&describe(local, Law::A), Law::Mu), Err(SdpError::NoCodec(Law::Mu))));
    }

    #[test]
    fn a_refused_stream_is_no_audio() {
        let body = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n";
        assert!(matches!(read(body, Law::Mu), Err(SdpError::NoAudio)));
    }
}
