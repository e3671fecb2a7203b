//! Calls on a live shard, with real sockets, at the moment when the logic of one of them panics (DESIGN §2.5).

use super::*;
use crate::call::sdp::{Keyring, MasterKey, Suite};
use crate::call::{LegMedia, Port, Shape};
use crate::event::{Mode, Place, Role, What};
use crate::id::Tenant;
use crate::io::clock;
use crate::io::journal::Published;
use crate::io::rtp;
use crate::io::srtp::{GROWTH, Session};
use crate::media::codec::Codec;
use crate::media::rtp::{HEADER, Header, Packet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A party's own end.
struct Peer {
    socket: UdpSocket,
    server: SocketAddr,
    header: Header,
    srtp: Option<Session>,
}

impl Peer {
    /// Sends a payload that nobody else sends; answers it.
    fn say(&mut self) -> Vec<u8> {
        let payload: Vec<u8> = (0..160).map(|n| (self.header.sequence as u8).wrapping_mul(7) ^ n ^ 0x55).collect();
        let mut wire = [&self.header.bytes()[..], &payload].concat();
        if let Some(srtp) = &mut self.srtp {
            let length = wire.len();
            wire.extend([0; GROWTH]);
            let length = srtp.seal(Port::Rtp, &mut wire, length).unwrap();
            wire.truncate(length);
        }
        self.socket.send_to(&wire, self.server).unwrap();
        self.header.sequence = self.header.sequence.wrapping_add(1);
        self.header.timestamp = self.header.timestamp.wrapping_add(160);
        payload
    }

    /// The next packet, or none within a second.
    fn hear(&mut self) -> Option<(Header, Vec<u8>)> {
        let mut bytes = [0; 1500];
        let mut length = self.socket.recv(&mut bytes).ok()?;
        if let Some(srtp) = &mut self.srtp {
            length = srtp.open(Port::Rtp, &mut bytes[..length]).expect("it is sealed");
        }
        let packet = Packet::parse(&bytes[..length]).unwrap();
        assert_eq!(length, HEADER + packet.payload.len());
        Some((packet.header, packet.payload.to_vec()))
    }
}

async fn join(shard: &Shard, call: CallId, role: Role, ssrc: u32, keys: Option<Keys>) -> Peer {
    let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut sockets = rtp::open(LOOPBACK, &(41_000..=42_499)).unwrap();
    sockets.srtp = keys;
    let (server, remote) = (sockets.local, socket.local_addr().unwrap());
    let remote_rtcp = (LOOPBACK, 9).into();
    let media = LegMedia {
        codec: Codec::Pcmu,
        payload_type: 0,
        dtmf: None,
        remote,
        remote_rtcp,
        send: true,
        shape: Shape::default(),
    };
    let (place, mode) = (Place::InConversation, Mode::Spy);
    shard.add_leg(call, LegSpec { role, place, mode, address: "x".into(), media }, sockets).await.unwrap();
    let header = Header { marker: false, payload_type: 0, sequence: 1, timestamp: 0, ssrc };
    let srtp = keys.map(|keys| Session::new(Keys { ours: keys.theirs, theirs: keys.ours }));
    Peer { socket, server, header, srtp }
}

async fn conversation(shard: &Shard, number: u64, keys: Option<Keys>) -> (CallId, Peer, Peer) {
    let call = CallId::new(1_790_000_000_000, 0, 0, number);
    let options = CallOptions {
        seed: number,
        caller: "a".into(),
        called: "b".into(),
        code: None,
        listen: true,
        record: true,
        ears: Default::default(),
    };
    shard.open(call, options).await.unwrap();
    let customer = join(shard, call, Role::Customer, 1, keys).await;
    (call, customer, join(shard, call, Role::Agent, 2, keys).await)
}

/// What one says the other hears, bit for bit, and nothing is missing before it.
fn pass(from: &mut Peer, to: &mut Peer, before: &mut Option<Header>) {
    let said = from.say();
    let (header, heard) = to.hear().expect("the packet passes");
    assert_eq!(heard, said);
    if let Some(last) = before.replace(header) {
        assert_eq!((header.ssrc, header.sequence), (last.ssrc, last.sequence.wrapping_add(1)));
    }
}

async fn live(way: Way, keys: Option<Keys>) {
    let store = std::env::temp_dir().join(format!("sotto-shard-{:016x}", clock::random()));
    let metrics = Arc::new(Metrics::default());
    let (journal, _task) = Journal::start(&store, Tenant::default(), metrics.clone()).await.unwrap();
    let mut published = journal.subscribe();
    let (recorder, writer) = Recorder::start(&store, Tenant::default(), journal.clone(), metrics.clone()).unwrap();
    let sinks = Sinks { journal, conversations: None, recorder: recorder.clone(), metrics: metrics.clone() };
    let shard = Shard::start(0, 1, way, sinks).unwrap();
    let (failing, mut customer, mut agent) = conversation(&shard, 1, keys).await;
    let (other, mut other_customer, mut other_agent) = conversation(&shard, 2, keys).await;
    assert_eq!(shard.load(), 2);
    let talk = |customer: &mut Peer, agent: &mut Peer, last: &mut [Option<Header>; 2]| {
        for _ in 0..10 {
            pass(agent, customer, &mut last[0]);
            pass(customer, agent, &mut last[1]);
        }
    };
    let (mut ours, mut theirs) = ([None; 2], [None; 2]);
    talk(&mut customer, &mut agent, &mut ours);
    talk(&mut other_customer, &mut other_agent, &mut theirs);

    shard.order(|reply| Order::Break { call: failing, reply }).await.unwrap();
    // Any input will do; it is answered as one to a call that is over.
    assert_eq!(shard.command(failing, Command::Describe).await, Err(Refusal::Ended));
    assert_eq!(metrics.calls.failed.get(), 1);
    talk(&mut customer, &mut agent, &mut ours);
    talk(&mut other_customer, &mut other_agent, &mut theirs);
    assert!(matches!(shard.command(other, Command::Describe).await, Ok(Ack::View(_))), "the other call is whole");

    // What is left can end, and its end is told.
    shard.command(failing, Command::End { reason: "over".into() }).await.unwrap();
    let ended = async {
        loop {
            let Published::Event(recorded) = published.recv().await.unwrap() else { continue };
            if recorded.id.call == failing && matches!(recorded.event.what, What::CallEnded { .. }) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap();
    assert_eq!(shard.load(), 1);
    talk(&mut other_customer, &mut other_agent, &mut theirs);
    shard.stop().await;
    recorder.close();
    writer.join().unwrap();
    std::fs::remove_dir_all(&store).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_panics_goes_on_as_a_relay_and_the_others_notice_nothing() {
    live(Way::Plain, None).await;
    live(Way::Auto, None).await;
}

/// What is left of a protected call is protected too.
#[tokio::test(flavor = "multi_thread")]
async fn the_relay_that_is_left_is_under_srtp_where_the_call_was() {
    let key = |octet| Keyring::new(|| [octet; MasterKey::MOST]).key(Suite::Counter80);
    let keys = Some(Keys { ours: key(1), theirs: key(2) });
    live(Way::Plain, keys).await;
    live(Way::Auto, keys).await;
}
