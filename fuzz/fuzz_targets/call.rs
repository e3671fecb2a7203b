//! Datagrams into a call of five parties, each with another codec: what gets past the readers. The input is a list of
//! datagrams: a byte that says whose and how, a byte of length, and the datagram.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

use sotto::call::Port;
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use sotto::media::codec::Codec;
use support::Stage;

const ROLES: [Role; 5] = [Role::Customer, Role::Agent, Role::Supervisor, Role::Supervisor, Role::Agent];
/// More would be slow, and find nothing that these do not.
const DATAGRAMS: usize = 16;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut stage = Stage::new(9);
    let join = |(role, codec)| stage.join_as(role, Place::InConversation, Mode::Whisper, codec);
    let legs: Vec<LegId> = ROLES.into_iter().zip(Codec::ALL).map(join).collect();
    let mut rest = bytes;
    for _ in 0..DATAGRAMS {
        let [how, length, more @ ..] = rest else { break };
        let (datagram, more) = more.split_at(usize::from(*length).min(more.len()));
        rest = more;
        put(&mut stage, legs[usize::from(how & 7) % legs.len()], *how, datagram);
        stage.run(i64::from(how >> 6) * 4);
    }
    let view = stage.view();
    assert_eq!(view.legs.len() + stage.told("supervisor.left").len(), legs.len(), "nobody leaves but by a key");
});

/// `how`: the leg, then whether to the port of RTCP, from a stranger, and as the next packet of the leg's own stream.
fn put(stage: &mut Stage, leg: LegId, how: u8, datagram: &[u8]) {
    let port = if how & 8 == 0 { Port::Rtp } else { Port::Rtcp };
    let phone = stage.phone(leg);
    let own = match port {
        Port::Rtp => phone.media.remote,
        Port::Rtcp => phone.media.remote_rtcp,
    };
    let from = if how & 16 == 0 { own } else { ([192, 0, 2, 66], 6666).into() };
    let mut bytes = datagram.to_vec();
    if how & 32 != 0 {
        // The first byte then says what the payload is.
        let mut header = phone.header;
        header.payload_type = datagram.first().map_or(0, |kind| kind & 0x7F);
        header.sequence = header.sequence.wrapping_add(u16::from(how >> 6));
        bytes = [&header.bytes()[..], datagram.get(1..).unwrap_or_default()].concat();
    }
    stage.call.packet(stage.now, leg, port, from, &bytes);
    stage.drain();
}
