//! What the called party plays before it answers is heard by the caller (RFC 3960), with provisional answers that are sure
//! to arrive (RFC 3262) where the peers want them; until then it is nobody: not listened to, and it hears nothing.

#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;

use phone::{Came, Phone};
use sipp::{House, free_port};
use std::net::UdpSocket;
use std::time::Duration;

/// Number 1 is answered before it is connected, number 2 when the agent answers.
fn routes(port: u16) -> String {
    format!(
        "[[route]]\ncalled = '^1'\nsteps = [ {{answer = {{}}}}, {{connect = {{to = \"sip:a@127.0.0.1:{port}\"}}}} ]\n\
         [[route]]\ncalled = '^2'\nsteps = [ {{connect = {{to = \"sip:a@127.0.0.1:{port}\"}}}} ]\n"
    )
}

/// Longer than anything takes before the answer.
const TALK: [(&str, &str); 1] = [("TALK", "3000")];

/// A call of two scenarios: what was told, in order.
async fn told(caller: &str, agent: &str, set: &[(&str, &str)], number: &str) -> (Vec<&'static str>, Vec<String>) {
    let port = free_port();
    let house = House::with(&routes(port)).await;
    let agent = house.agent(agent, set, port, 1).await;
    house.caller(caller, number, set, 1).await.content().await;
    agent.content().await;
    house.is_quiet().await;
    let names = house.events().iter().map(|e| e.event.what.name()).collect();
    let endings = house.endings();
    house.close().await;
    (names, endings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_is_told_what_can_be_heard_and_then_answered() {
    let (names, _) = told("caller_hears_before_the_answer", "agent_plays_before_it_answers", &[], "2").await;
    let at = |name: &str| names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("{name}: {names:?}"));
    assert!(at("leg.joined") < at("call.answered") && at("call.answered") < at("call.connected"), "{names:?}");
    assert!(!names.contains(&"clip.started"), "no tone of ours: {names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_gets_reliable_ringing_where_it_wants_it() {
    assert_eq!(told("caller_wants_reliable_ringing", "agent_answers", &[], "2").await.1, ["caller hung up"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reliable_ringing_of_an_agent_is_acknowledged() {
    assert_eq!(told("caller_hangs_up", "agent_rings_reliably", &TALK, "1").await.1, ["caller hung up"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tone_ends_where_something_else_is_heard() {
    let (names, endings) = told("caller_hangs_up", "agent_plays_before_it_answers", &TALK, "1").await;
    assert!(names.contains(&"clip.cut"), "the ringing tone: {names:?}");
    assert_eq!(endings, ["caller hung up"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_play_the_one_that_answers_has_the_call() {
    let (names, endings) = told("caller_hangs_up", "agent_forks", &TALK, "1").await;
    let legs = names.iter().filter(|n| **n == "leg.joined").count();
    assert_eq!((legs, endings), (2, vec!["caller hung up".to_owned()]), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_plays_and_refuses_was_never_there() {
    let set = [("ANSWER", "486 Busy Here"), ("STATUS", "486"), ("EXPECT", "called party busy")];
    let (names, endings) = told("caller_is_refused", "agent_plays_and_refuses", &set, "2").await;
    assert_eq!(endings, ["called party busy"]);
    assert!(!names.contains(&"call.connected") && !names.contains(&"call.answered"), "{names:?}");
}

/// A message with the media of `socket` in it.
fn sdp(socket: &UdpSocket) -> String {
    let port = socket.local_addr().unwrap().port();
    format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n")
}

fn media_port(came: &Came) -> u16 {
    let line = came.0.lines().find_map(|l| l.strip_prefix("m=audio ")).unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Fifty packets, each of one byte's samples, in a second; how many of such packets each got meanwhile.
async fn speak(from: (&UdpSocket, u16, u8), and: (&UdpSocket, u16, u8), first: u16) -> [usize; 2] {
    let mut heard = [0; 2];
    for n in first..first + 50 {
        for (socket, to, sample) in [from, and] {
            let mut packet = vec![0x80, 0];
            packet.extend(n.to_be_bytes());
            packet.extend((u32::from(n) * 160).to_be_bytes());
            packet.extend(u32::from(sample).to_be_bytes());
            packet.extend([sample; 160]);
            socket.send_to(&packet, ("127.0.0.1", to)).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        for (at, (socket, _, other)) in [(from.0, 0, and.2), (and.0, 0, from.2)].into_iter().enumerate() {
            let mut buffer = [0; 2000];
            while let Ok(length) = socket.recv(&mut buffer) {
                heard[at] += usize::from(length == 172 && buffer[12..length].iter().all(|b| *b == other));
            }
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_played_is_heard_and_hears_nothing_until_it_answers() {
    let (agent_media, caller_media) = (socket(), socket());
    let agent = Phone::new("127.0.0.1:9".parse().unwrap()).await;
    let house = House::with(&routes(agent.port())).await;
    agent.serve(house.sip);
    let caller = Phone::new(house.sip).await;
    caller.send(&caller.request("INVITE", "2", 1, "", "Max-Forwards: 70\r\n", &sdp(&caller_media))).await;
    let invite = agent.next().await;
    let copied = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", invite.header(n).unwrap())).concat();
    let (to, here, body) = (invite.header("To").unwrap(), agent.address(), sdp(&agent_media));
    let say = |line: &str| {
        format!(
            "SIP/2.0 {line}\r\n{copied}To: {to};tag=phone\r\nContact: <sip:phone@{here}>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    agent.send(&say("183 Session Progress")).await;
    assert_eq!(caller.next().await.status(), 180);
    let progress = caller.next().await;
    assert_eq!(progress.status(), 183);
    let (to_agent, to_caller) = (media_port(&invite), media_port(&progress));
    let early = speak((&agent_media, to_agent, 0x11), (&caller_media, to_caller, 0x22), 1).await;
    assert_eq!(early[0], 0, "who has not answered hears nothing");
    assert!(early[1] > 40, "the caller hears {} of 50", early[1]);

    agent.send(&say("200 OK")).await;
    assert_eq!(agent.next().await.method(), "ACK");
    let answer = caller.next().await;
    assert_eq!((answer.status(), media_port(&answer)), (200, to_caller));
    caller.send(&caller.request("ACK", "2", 1, answer.to_tag(), "", "")).await;
    house.until("they are connected", |h| h.told("call.connected") == 1).await;
    let talk = speak((&agent_media, to_agent, 0x11), (&caller_media, to_caller, 0x22), 51).await;
    assert!(talk.iter().all(|n| *n > 40), "each hears the other: {talk:?}");
    house.close().await;
}
