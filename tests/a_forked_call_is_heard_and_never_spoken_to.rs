//! SIPREC (RFC 7866): a recording client's streams become a call of customer and agent, each heard apart; whatever the
//! client changes is followed; nobody in such a call can be spoken to, and nothing but reports is ever sent to them.

mod desk;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod support;

pub type Sound = Box<dyn FnMut(u64) -> i16 + Send>;

use desk::Desk;
use phone::{Came, Phone};
use sipp::{House, Plan, TRUNK};
use sotto::call::{Ack, CallView, Command};
use sotto::event::{Consent, Role};
use sotto::media::codec::g711::Law;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::tones;

const CUSTOMER: f64 = 500.0;
const AGENT: f64 = 700.0;
const SUPERVISOR: f64 = 1100.0;

/// A recording client: its dialog, and the sound of its streams.
struct Client {
    phone: Phone,
    tag: String,
    cseq: u32,
    streams: Vec<Stream>,
}

/// A stream that sounds until it is dropped.
struct Stream {
    socket: UdpSocket,
    stop: Arc<AtomicBool>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a client says of the streams: label and direction for each media line; a line without a label has ended.
type Lines<'a> = &'a [(&'a str, &'a str)];

fn metadata(mode: &str, group: &str, people: &[(&str, &str)]) -> String {
    let people: String = people
        .iter()
        .map(|(label, aor)| {
            format!(
                "<participant participant_id=\"{aor}\"><nameID aor=\"sip:{aor}@example.com\"/></participant>\
                 <stream stream_id=\"s{label}\" session_id=\"{group}\"><label>{label}</label></stream>\
                 <participantstreamassoc participant_id=\"{aor}\"><send>s{label}</send></participantstreamassoc>"
            )
        })
        .collect();
    format!(
        "<?xml version=\"1.0\"?><recording xmlns=\"urn:ietf:params:xml:ns:recording:1\"><datamode>{mode}</datamode>\
         <group group_id=\"{group}\"/>{people}</recording>"
    )
}

fn both(sdp: &str, metadata: &str) -> String {
    format!(
        "--b1\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--b1\r\nContent-Type: application/rs-metadata+xml\r\n\
         Content-Disposition: recording-session\r\n\r\n{metadata}\r\n--b1--\r\n"
    )
}

const MIXED: &str = "multipart/mixed;boundary=b1";
const METADATA: &str = "application/rs-metadata+xml";
const PEOPLE: [(&str, &str); 2] = [("1", "carol"), ("2", "anna")];

impl Client {
    async fn new(house: &House) -> Client {
        let streams = (0..3).map(|_| Stream { socket: UdpSocket::bind("127.0.0.1:0").unwrap(), stop: Arc::default() });
        Client { phone: Phone::new(house.sip).await, tag: String::new(), cseq: 0, streams: streams.collect() }
    }

    fn sdp(&self, lines: Lines<'_>) -> String {
        let head = format!("v=0\r\no=src 1 {} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n", self.cseq);
        let media = lines.iter().zip(&self.streams).map(|((label, direction), stream)| match *label {
            "" => "m=audio 0 RTP/AVP 0\r\n".to_owned(),
            label => {
                let port = stream.socket.local_addr().unwrap().port();
                format!("m=audio {port} RTP/AVP 0\r\na={direction}\r\na=label:{label}\r\n")
            }
        });
        head + &media.collect::<String>()
    }

    /// A request of the session: its kind of body is `kind`.
    fn request(&mut self, method: &str, kind: &str, extra: &str, body: &str) -> String {
        self.cseq += 1;
        let text = self.phone.request(method, "srs", self.cseq, &self.tag, extra, body);
        text.replace("application/sdp\r\nContent-Length", &format!("{kind}\r\nContent-Length"))
            .replace("<sip:phone@", "<sip:src@")
            .replace("\r\nMax", ";+sip.src\r\nMax")
    }

    /// The answer to an INVITE, acknowledged; where nothing was offered, with an answer that sends on every line.
    async fn invite(&mut self, kind: &str, extra: &str, body: &str) -> Came {
        let answer = loop {
            let text = self.request("INVITE", kind, &format!("Max-Forwards: 70\r\n{extra}"), body);
            let answer = self.phone.ask(&text).await;
            if answer.status() == 200 {
                break answer;
            }
            let ack = self.phone.request("ACK", "srs", self.cseq, answer.to_tag(), "", "");
            self.phone.send(&ack.replace("branch=z9hG4bK-ACK", "branch=z9hG4bK-INVITE")).await;
            // Only the ACK before was not read yet: asked again, as the answer says (RFC 3261 §14.2).
            if answer.header("Retry-After").is_none() {
                return answer;
            }
        };
        self.tag = answer.to_tag().to_owned();
        let labels: Vec<_> =
            answer.0.lines().filter_map(|l| l.strip_prefix("a=label:")).map(|l| (l, "sendonly")).collect();
        let settled = if body.is_empty() { self.sdp(&labels) } else { String::new() };
        self.phone.send(&self.phone.request("ACK", "srs", self.cseq, &self.tag, "", &settled)).await;
        answer
    }

    /// Opens a session of two streams, and sounds on both.
    async fn open(&mut self, metadata: &str) -> Came {
        let sdp = self.sdp(&[("1", "sendonly"), ("2", "sendonly")]);
        let answer = self.invite(MIXED, "Require: siprec\r\n", &both(&sdp, metadata)).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        self.sound(&answer, &[CUSTOMER, AGENT]);
        answer
    }

    fn sound(&self, answer: &Came, hz: &[f64]) {
        for ((stream, port), hz) in self.streams.iter().zip(ports(answer)).zip(hz) {
            let (socket, stop, to) = (stream.socket.try_clone().unwrap(), stream.stop.clone(), port);
            let mut sound = tones::tone(*hz);
            std::thread::spawn(move || speak(&socket, &stop, ([127, 0, 0, 1], to).into(), &mut sound));
        }
    }

    async fn bye(&mut self) {
        let bye = self.request("BYE", "", "", "");
        assert_eq!(self.phone.ask(&bye).await.status(), 200);
    }

    /// Datagrams that came to the streams and are no RTCP.
    fn spoken_to(&self) -> usize {
        let mut buffer = [0; 2048];
        self.streams
            .iter()
            .map(|stream| {
                stream.socket.set_nonblocking(true).unwrap();
                let came = std::iter::from_fn(|| stream.socket.recv(&mut buffer).ok().map(|_| buffer[1]));
                came.filter(|kind| !(200..=207).contains(kind)).count()
            })
            .sum()
    }
}

fn speak(socket: &UdpSocket, stop: &AtomicBool, to: SocketAddr, sound: &mut Sound) {
    let mut next = sotto::io::clock::now();
    for number in 0u32.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let mut packet = vec![0x80, 0];
        packet.extend((number as u16).to_be_bytes());
        packet.extend((number * 160).to_be_bytes());
        packet.extend(u32::from(to.port()).to_be_bytes());
        packet.extend((0..160).map(|n| Law::Mu.encode(sound(u64::from(number) * 160 + n))));
        let _ = socket.send_to(&packet, to);
        next += Duration::from_millis(20);
        std::thread::sleep(next.saturating_duration_since(sotto::io::clock::now()));
    }
}

/// The ports of an answer's audio lines.
fn ports(answer: &Came) -> Vec<u16> {
    let lines = answer.0.lines().filter_map(|l| l.strip_prefix("m=audio "));
    lines.map(|l| l.split(' ').next().unwrap().parse().unwrap()).collect()
}

async fn view(house: &House) -> CallView {
    let (id, entry) = house.registry.list().pop().expect("a call");
    match entry.shard.command(id, Command::Describe).await {
        Ok(Ack::View(view)) => view,
        other => panic!("{other:?}"),
    }
}

/// Who is in the one call: role and user part.
async fn cast(house: &House) -> Vec<(Role, String)> {
    let user = |address: &str| address.trim_start_matches("sip:").split('@').next().unwrap().to_owned();
    view(house).await.legs.iter().map(|l| (l.role, user(&l.address.0))).collect()
}

async fn house(siprec: &str) -> House {
    let trunk = format!("{TRUNK}may_supervise = true\n{siprec}\n");
    House::open(Plan { trunk: &trunk, ..Plan::default() }).await
}

fn people(expected: &[(Role, &str)]) -> Vec<(Role, String)> {
    expected.iter().map(|(role, name)| (*role, (*name).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_hears_both_sides_and_reaches_neither() {
    let house = house("").await;
    let mut client = Client::new(&house).await;
    let answer = client.open(&metadata("complete", "g", &PEOPLE)).await;
    assert!(answer.header("Contact").unwrap().contains(";+sip.srs"), "{answer:?}");
    assert_eq!(answer.0.matches("a=recvonly").count(), 2, "{answer:?}");
    assert!(answer.0.contains("a=label:1\r\n") && answer.0.contains("a=label:2\r\n"), "{answer:?}");
    assert_eq!(cast(&house).await, people(&[(Role::Customer, "carol"), (Role::Agent, "anna")]));
    house.until("connected", |h| h.told("call.connected") == 1).await;

    let mut supervisor = Desk::new(house.sip, SUPERVISOR).await;
    assert_eq!(supervisor.call("*80anna").await.status(), 200);
    let heard = supervisor.listen().await;
    assert!(tones::hears(&heard, CUSTOMER) && tones::hears(&heard, AGENT));
    let why = "this call is forked to us and has no way back: it can be listened to, but nobody in it can be spoken to";
    for code in ["*81anna", "*82anna"] {
        let refused = Desk::new(house.sip, SUPERVISOR).await.call(code).await;
        assert_eq!((refused.status(), refused.reason()), (488, why), "{code}");
    }
    // A key that cannot be obeyed is answered by a low tone, in the supervisor's ear alone.
    supervisor.press(5);
    house.until("the tone of refusal", |h| h.told("clip.ended") == 1).await;
    assert!(house.told("mode.changed") == 0);
    supervisor.bye().await;
    client.bye().await;
    assert_eq!(client.spoken_to(), 0);
    house.is_quiet().await;
    assert_eq!(house.endings(), ["recording client hung up"]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_the_trunk_say_who_is_who() {
    let house = house("siprec = { agent = 'ca.*' }").await;
    let mut client = Client::new(&house).await;
    client.open(&metadata("complete", "g", &PEOPLE)).await;
    assert_eq!(cast(&house).await, people(&[(Role::Agent, "carol"), (Role::Customer, "anna")]));
    client.bye().await;
    house.is_quiet().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_that_comes_later_or_changes_is_followed() {
    let house = house("").await;
    let mut client = Client::new(&house).await;
    let sdp = client.sdp(&[("1", "sendonly"), ("2", "sendonly")]);
    let answer = client.invite("application/sdp", "Require: siprec\r\n", &sdp).await;
    assert_eq!(answer.status(), 200, "metadata may come later (RFC 7866 §9.1): {answer:?}");
    assert_eq!(cast(&house).await, people(&[(Role::Customer, "stream 1"), (Role::Agent, "stream 2")]));
    let update = client.request("UPDATE", METADATA, "", &metadata("complete", "g", &PEOPLE));
    let answer = client.phone.ask(&update).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(answer.header("Content-Type").is_none() && answer.header("Contact").unwrap().contains("+sip.srs"));
    assert_eq!(cast(&house).await, people(&[(Role::Customer, "carol"), (Role::Agent, "anna")]));
    // Anna hands over to Dora: supervisors find the call by the new name, and by the old one no more.
    let update = client.request("UPDATE", METADATA, "", &metadata("partial", "g", &[("2", "dora")]));
    assert_eq!(client.phone.ask(&update).await.status(), 200);
    assert_eq!(cast(&house).await, people(&[(Role::Customer, "carol"), (Role::Agent, "dora")]));
    assert!(house.registry.meant("dora").is_ok() && house.registry.meant("anna").is_err());
    for (broken, status) in [("<recording>", 400), ("<!DOCTYPE a [<!ENTITY b 'c'>]><recording/>", 400)] {
        let update = client.request("UPDATE", METADATA, "", broken);
        assert_eq!(client.phone.ask(&update).await.status(), status, "{broken}");
    }
    assert_eq!(cast(&house).await, people(&[(Role::Customer, "carol"), (Role::Agent, "dora")]), "nothing has changed");
    client.bye().await;
    house.is_quiet().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_held_added_and_ended() {
    let house = house("").await;
    let mut client = Client::new(&house).await;
    client.open(&metadata("complete", "g", &PEOPLE)).await;
    let held = client.sdp(&[("1", "inactive"), ("2", "inactive")]);
    let answer = client.invite("application/sdp", "", &held).await;
    assert_eq!((answer.status(), answer.0.matches("a=inactive").count()), (200, 2), "{answer:?}");
    assert_eq!(view(&house).await.legs.len(), 2, "who is on hold is still there");
    let third = client.sdp(&[("1", "sendonly"), ("2", "sendonly"), ("3", "sendonly")]);
    let answer = client.invite(MIXED, "", &both(&third, &metadata("partial", "g", &[("3", "eve")]))).await;
    assert_eq!((answer.status(), ports(&answer).len()), (200, 3), "{answer:?}");
    let expected = people(&[(Role::Customer, "carol"), (Role::Agent, "anna"), (Role::Customer, "eve")]);
    assert_eq!(cast(&house).await, expected, "who cannot be placed is a customer");
    // Without an offer ours is asked for: all of it as it is, receiving.
    let answer = client.invite("application/sdp", "", "").await;
    assert_eq!((answer.status(), answer.0.matches("a=recvonly").count()), (200, 3), "{answer:?}");
    client.bye().await;
    house.is_quiet().await;

    let mut client = Client::new(&house).await;
    client.open(&metadata("complete", "g", &PEOPLE)).await;
    let one = client.sdp(&[("", ""), ("2", "sendonly")]);
    let answer = client.invite("application/sdp", "", &one).await;
    assert_eq!((answer.status(), ports(&answer)[0]), (200, 0), "{answer:?}");
    assert_eq!(cast(&house).await, people(&[(Role::Agent, "anna")]));
    client.bye().await;
    house.is_quiet().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_one_communication_are_one_call() {
    let house = house("").await;
    let (mut first, mut second, mut stranger) =
        (Client::new(&house).await, Client::new(&house).await, Client::new(&house).await);
    for (client, group, person) in [(&mut first, "g", "carol"), (&mut second, "g", "anna"), (&mut stranger, "h", "zoe")]
    {
        let sdp = client.sdp(&[("1", "sendonly")]);
        let answer = client.invite(MIXED, "", &both(&sdp, &metadata("complete", group, &[("1", person)]))).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
    assert_eq!(house.registry.len(), 2, "two of one communication, and another");
    stranger.bye().await;
    house.until("the other is over", |h| h.registry.len() == 1).await;
    assert_eq!(cast(&house).await, people(&[(Role::Customer, "carol"), (Role::Agent, "anna")]));
    first.bye().await;
    house.until("the first has left", |h| h.told("leg.left") == 2).await;
    assert_eq!(cast(&house).await, people(&[(Role::Agent, "anna")]));
    // Whoever hangs up the call hangs up its sessions.
    house.registry.list()[0].1.handle.hangup("enough");
    let bye = second.phone.next().await;
    assert_eq!(bye.method(), "BYE", "{bye:?}");
    second.phone.ok(&bye).await;
    house.is_quiet().await;
    assert_eq!(house.endings(), ["recording client hung up", "enough"]);
    house.close().await;
}

/// Who takes part and sends nothing is on hold (RFC 8068), as is a stream that is inactive; both go on as whom they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_are_followed_however_they_are_told() {
    let house = house("").await;
    let mut client = Client::new(&house).await;
    client.open(&metadata("complete", "g", &PEOPLE)).await;
    let mut supervisor = Desk::new(house.sip, SUPERVISOR).await;
    assert_eq!(supervisor.call("*80anna").await.status(), 200);
    let hears = async |customer, agent| {
        let heard = supervisor.listen().await;
        assert_eq!((tones::hears(&heard, CUSTOMER), tones::hears(&heard, AGENT)), (customer, agent));
    };
    hears(true, true).await;
    let silent =
        "<recording><datamode>partial</datamode><participantstreamassoc participant_id=\"carol\"/></recording>";
    let speaks = metadata("partial", "g", &PEOPLE[..1]);
    for (told, held) in [(silent, true), (&speaks, false)] {
        let update = client.request("UPDATE", METADATA, "", told);
        assert_eq!(client.phone.ask(&update).await.status(), 200);
        hears(!held, true).await;
        assert_eq!(
            cast(&house).await[..2],
            people(&[(Role::Customer, "carol"), (Role::Agent, "anna")]),
            "they keep name and role"
        );
    }
    for (direction, held) in [("inactive", true), ("sendonly", false)] {
        let lines = client.sdp(&[("1", direction), ("2", "sendonly")]);
        assert_eq!(client.invite("application/sdp", "", &lines).await.status(), 200);
        hears(!held, true).await;
    }
    assert_eq!((house.told("leg.held"), house.told("leg.resumed")), (2, 2));
    supervisor.bye().await;
    client.bye().await;
    house.is_quiet().await;
    house.close().await;
}

/// RFC 7866 §8: a client that takes such requests is asked for its metadata, where a stream is nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_named_is_asked_for() {
    let house = house("").await;
    let mut client = Client::new(&house).await;
    let sdp = client.sdp(&[("1", "sendonly"), ("2", "sendonly")]);
    let extra = "Require: siprec\r\nAccept: application/sdp, application/rs-metadata-request\r\n";
    let answer = client.invite(MIXED, extra, &both(&sdp, &metadata("complete", "g", &PEOPLE[..1]))).await;
    assert_eq!(answer.status(), 200);
    let asked = client.phone.next().await;
    assert_eq!((asked.method(), asked.header("Content-Type")), ("UPDATE", Some("application/rs-metadata-request")));
    assert_eq!(asked.header("Content-Disposition"), Some("recording-session"));
    assert!(asked.0.contains("<requestsnapshot "), "{asked:?}");
    client.phone.ok(&asked).await;
    let update = client.request("UPDATE", METADATA, "", &metadata("complete", "g", &PEOPLE));
    assert_eq!(client.phone.ask(&update).await.status(), 200);
    assert_eq!(cast(&house).await, people(&[(Role::Customer, "carol"), (Role::Agent, "anna")]));
    assert!(client.phone.within(Duration::from_millis(300)).await.is_none(), "what is known is not asked for");
    client.bye().await;
    house.is_quiet().await;
    house.close().await;
}

/// A route for recordings is chosen by who takes part, and again when that changes; no other call takes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_chosen_by_who_takes_part() {
    let routes = "[[route]]\nrecorded = true\ncalled = 'anna'\nsteps = [ {consent = \"refused\"} ]\n\
        [[route]]\nrecorded = true\ncaller = 'carol'\ncalled = 'd.*'\nsteps = [ {consent = \"given\"} ]\n\
        [[route]]\nrecorded = true\ncalled = 'srs'\nsteps = [ {consent = \"unknown\"} ]\n";
    let house = House::open(Plan { routes, ..Plan::default() }).await;
    let mut client = Client::new(&house).await;
    client.open(&metadata("complete", "g", &PEOPLE)).await;
    assert_eq!(view(&house).await.consent, Consent::Refused);
    for (agent, expected) in [("dora", Consent::Given), ("eve", Consent::Unknown), ("anna", Consent::Refused)] {
        let update = client.request("UPDATE", METADATA, "", &metadata("partial", "g", &[("2", agent)]));
        assert_eq!(client.phone.ask(&update).await.status(), 200);
        assert_eq!(view(&house).await.consent, expected, "{agent}");
    }
    assert_eq!(Desk::new(house.sip, SUPERVISOR).await.call("anna").await.status(), 404, "a call is no recording");
    client.bye().await;
    house.is_quiet().await;
    house.close().await;
}

/// What goes through us anyway is not heard twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_communication_that_goes_through_here_is_refused() {
    let long = "One. Two. Three. Four. Five. ".repeat(20);
    let house =
        House::with(&format!("[[route]]\ncalled = 'hall'\nsteps = [ {{answer = {{}}}}, {{say = \"{long}\"}} ]\n"))
            .await;

    let mut caller = Desk::new(house.sip, SUPERVISOR).await;
    let uuid = "0123456789abcdef0123456789abcdef";
    assert_eq!(caller.call_with("hall", &format!("Session-ID: {uuid};remote=0\r\n")).await.status(), 200);
    let same_call = metadata("complete", "g", &PEOPLE)
        .replace("<group", &format!("<session session_id=\"{}\"/><group", caller.phone.call_id));
    let both_halves = format!("<sipSessionID>{};remote={uuid}</sipSessionID>", "a".repeat(32));
    let same_session = metadata("complete", "g", &PEOPLE)
        .replace("<group", &format!("<session session_id=\"s\">{both_halves}</session><group"));
    for told in [&same_call, &same_session] {
        let mut client = Client::new(&house).await;
        let body = both(&client.sdp(&[("1", "sendonly")]), told);
        let answer = client.invite(MIXED, "", &body).await;
        assert_eq!(
            (answer.status(), answer.reason()),
            (488, "this communication goes through here already, and is heard there")
        );
    }
    let mut client = Client::new(&house).await;
    client.open(&same_session.replace(uuid, &"b".repeat(32))).await;
    client.bye().await;
    caller.bye().await;
    house.is_quiet().await;
    house.close().await;
}

/// The stack cuts datagrams of more than 8,192 bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_invite_is_read_whole() {
    let house = house("").await;
    let mut client = Client::new(&house).await;
    let notes: String = (0..400)
        .map(|n| format!("<note xmlns=\"urn:x\" number=\"{n}\">what a client adds of its own</note>"))
        .collect();
    let long = metadata("complete", "g", &PEOPLE).replace("<datamode>", &format!("{notes}<datamode>"));
    assert!(long.len() > 20_000);
    client.open(&long).await;
    assert_eq!(cast(&house).await, people(&[(Role::Customer, "carol"), (Role::Agent, "anna")]));
    client.bye().await;
    house.is_quiet().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_recorded_is_refused_with_its_reason() {
    let house = house("").await;
    let sound = |client: &Client| client.sdp(&[("1", "sendonly"), ("2", "sendonly")]);
    let good = metadata("complete", "g", &PEOPLE);
    type Make<'a> = &'a dyn Fn(&Client) -> String;
    let rows: [(&str, &str, Make<'_>, u16, &str); 9] = [
        (MIXED, "", &|c| both(&sound(c), "<recording"), 400, "the metadata is no XML"),
        (
            MIXED,
            "",
            &|c| both(&sound(c), "<recording><participant/></recording>"),
            400,
            "a <participant> of the metadata has no participant_id",
        ),
        (MIXED, "", &|c| both(&sound(c), &good).replace("--b1--", ""), 400, "the last part of the body does not end"),
        ("multipart/mixed", "", &|c| both(&sound(c), &good), 400, "the Content-Type names no boundary"),
        (
            MIXED,
            "",
            &|c| both(&sound(c), &good).replace("application/sdp", "application/isup"),
            415,
            "a part of type \"application/isup\"",
        ),
        (MIXED, "", &|c| both(&sound(c).replace("AVP 0", "AVP 18"), &good), 488, "Not Acceptable Here"),
        (METADATA, "", &|_| good.clone(), 488, "a recording session needs an offer"),
        (MIXED, "", &|_| both("hello", &good), 400, "the session description is broken"),
        (
            MIXED,
            "Require: siprec, outbound\r\n",
            &|c| both(&sound(c), &good),
            420,
            "these extensions are not supported",
        ),
    ];
    for (kind, extra, make, status, reason) in rows {
        let mut client = Client::new(&house).await;
        let body = make(&client);
        let answer = client.invite(kind, extra, &body).await;
        assert_eq!(answer.status(), status, "{answer:?}\n{body}");
        assert!(answer.reason().starts_with(reason), "{reason:?}: {answer:?}");
        if status == 415 {
            assert!(answer.header("Accept").unwrap().contains(METADATA), "{answer:?}");
        }
        if status == 420 {
            assert_eq!(answer.header("Unsupported"), Some("outbound"));
        }
    }
    house.is_quiet().await;
    house.close().await;
    let some = TRUNK.replace(".*", "2.*");
    let house = House::open(Plan { trunk: &some, ..Plan::default() }).await;
    let mut client = Client::new(&house).await;
    let body = both(&sound(&client), &good);
    assert_eq!(client.invite(MIXED, "", &body).await.status(), 403);
    house.close().await;
}
