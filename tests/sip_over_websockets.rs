//! SIP in WebSockets (RFC 7118): calls of clients that no address leads to, whom we let connect, and what ends a connection.

#[path = "wire/digest.rs"]
mod digest;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;

use digest::Who;
use futures_util::{SinkExt, StreamExt};
use phone::{Came, Phone};
use sipp::{House, Plan};
use sotto::io::sip::Timers;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

const PATIENCE: Duration = Duration::from_secs(10);
/// Pings every 600 ms, and the end after 1.8 s without an answer.
const QUICK: Timers = Timers { t1: Duration::from_millis(10), second: Duration::from_secs(1) };

/// A client as a browser has it: it has no address that it knows.
struct Client {
    socket: WebSocketStream<TcpStream>,
    name: String,
    media: std::net::UdpSocket,
    pings: usize,
}

async fn connect(to: SocketAddr, protocol: &str, page: Option<&str>) -> Result<Client, Error> {
    let stream = TcpStream::connect(to).await.unwrap();
    let name = format!("client-{}", stream.local_addr().unwrap().port());
    let mut request = format!("ws://{to}/sip").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
    page.map(|page| request.headers_mut().insert("Origin", page.parse().unwrap()));
    let (socket, _) = client_async(request, stream).await?;
    let media = std::net::UdpSocket::bind((to.ip(), 0)).unwrap();
    Ok(Client { socket, name, media, pings: 0 })
}

impl Client {
    fn sdp(&self) -> String {
        let here = self.media.local_addr().unwrap();
        let family = if here.is_ipv4() { 4 } else { 6 };
        format!(
            "v=0\r\no=- 1 1 IN IP{family} {0}\r\ns=-\r\nc=IN IP{family} {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0\r\n",
            here.ip(),
            here.port()
        )
    }

    fn request(&self, method: &str, cseq: u32, to_tag: &str, extra: &str, body: &str) -> String {
        let tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} sip:100@sotto.example SIP/2.0\r\n\
             Via: SIP/2.0/WS {0}.invalid;branch=z9hG4bK-{method}-{cseq}-{0}\r\nMax-Forwards: 70\r\n\
             From: <sip:anna@sotto.example>;tag=web\r\nTo: <sip:100@sotto.example>{tag}\r\nCall-ID: {0}@web\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:anna@{0}.invalid;transport=ws>\r\n{extra}{kind}\
             Content-Length: {1}\r\n\r\n{body}",
            self.name,
            body.len()
        )
    }

    async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next message of SIP; none: the connection is over.
    async fn came(&mut self) -> Option<Came> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match next.expect("nothing came, and the connection stands") {
                Some(Ok(Message::Text(text))) => return Some(Came(text.as_str().to_owned())),
                Some(Ok(Message::Ping(_))) => self.pings += 1,
                Some(Ok(Message::Binary(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            }
        }
    }

    /// The next message that is no provisional answer.
    async fn next(&mut self) -> Came {
        loop {
            let came = self.came().await.expect("the connection was closed");
            if !(100..200).contains(&came.status()) {
                return came;
            }
        }
    }

    async fn ask(&mut self, text: &str) -> Came {
        self.send(text).await;
        self.next().await
    }

    /// 200 to a request that came.
    async fn accept(&mut self, request: &Came) {
        let copied = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", request.header(n).unwrap()));
        let to = request.header("To").unwrap();
        let tag = if to.contains("tag=") { "" } else { ";tag=web" };
        let (kind, body) = match request.method() {
            "INVITE" => ("Content-Type: application/sdp\r\n", self.sdp()),
            _ => ("", String::new()),
        };
        let name = &self.name;
        let answer = format!(
            "SIP/2.0 200 OK\r\n{}To: {to}{tag}\r\nContact: <sip:anna@{name}.invalid;transport=ws>\r\n{kind}\
             Content-Length: {}\r\n\r\n{body}",
            copied.concat(),
            body.len()
        );
        self.send(&answer).await;
    }
}

async fn house(ip: &str, plan: Plan<'_>) -> (House, SocketAddr) {
    let listen = format!("\"udp://{ip}:0\", \"ws://{ip}:0\"");
    let trunk = sipp::TRUNK.replace("\"127.0.0.0/8\"", "\"127.0.0.0/8\", \"::1\"");
    let trunk = if plan.trunk == sipp::TRUNK { trunk.as_str() } else { plan.trunk };
    let house = House::open(Plan { listen: &listen, trunk, ..plan }).await;
    let [_, web] = house.server().local_addresses()[..] else { panic!("two addresses") };
    (house, web)
}

fn to(agent: SocketAddr, transport: &str) -> String {
    format!("[[route]]\nsteps = [ {{connect = {{to = \"sip:agent@{agent}{transport}\"}}}} ]\n")
}

/// A whole call to a telephone of UDP; its end comes to the client over the connection, the only way to it.
async fn a_call(ip: &str) {
    let address: IpAddr = ip.trim_matches(['[', ']']).parse().unwrap();
    let agent = Phone::at(address, "127.0.0.1:9".parse().unwrap()).await;
    let (house, web) = house(ip, Plan { routes: &to(agent.address(), ""), ..Plan::default() }).await;
    agent.serve(house.sip);
    let mut client = connect(web, "sip", None).await.unwrap();
    client.send(&client.request("INVITE", 1, "", "", &client.sdp())).await;
    let called = agent.next().await;
    let family = if address.is_ipv4() { 4 } else { 6 };
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP{family} {address}\r\ns=-\r\nc=IN IP{family} {address}\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"
    );
    agent.accept_with(&called, &sdp).await;
    let answer = client.next().await;
    assert_eq!(answer.status(), 200);
    assert!(answer.header("Via").unwrap().starts_with("SIP/2.0/WS client-"), "{answer:?}");
    let contact = answer.header("Contact").unwrap();
    assert!(
        contact.contains(&format!("@{web};transport=ws")) || contact.contains(&format!("@{web};transport=WS")),
        "{contact}"
    );
    client.send(&client.request("ACK", 1, answer.to_tag(), "", "")).await;
    assert_eq!(client.ask(&client.request("OPTIONS", 2, answer.to_tag(), "", "")).await.status(), 200);
    house.until("both are connected", |h| h.told("call.connected") == 1).await;
    let bye = format!(
        "BYE sip:sotto@{} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK-bye;rport\r\nFrom: {};tag=phone\r\nTo: {}\r\n\
         Call-ID: {}\r\nCSeq: 1 BYE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        house.sip,
        agent.address(),
        called.header("To").unwrap(),
        called.header("From").unwrap(),
        called.header("Call-ID").unwrap()
    );
    assert_eq!(agent.ask(&bye).await.status(), 200);
    let bye = client.next().await;
    assert_eq!(bye.method(), "BYE");
    assert!(bye.header("Via").unwrap().starts_with(&format!("SIP/2.0/WS {web};")), "{bye:?}");
    client.accept(&bye).await;
    house.is_quiet().await;
    assert_eq!(house.server().connections(), 1);
    drop(client);
    house.until("no connection stands", |h| h.server().connections() == 0).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_an_address_calls_and_is_hung_up() {
    a_call("127.0.0.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_an_address_calls_over_ipv6() {
    a_call("[::1]").await;
}

/// We are the client: the one we call is a server of WebSockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_serves_websockets_is_called() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let routes = to(listener.local_addr().unwrap(), ";transport=ws");
    let (house, web) = house("127.0.0.1", Plan { routes: &routes, ..Plan::default() }).await;
    let caller = Phone::new(house.sip).await;
    caller.send(&caller.invite("100")).await;
    let (stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("nobody connected").unwrap();
    #[allow(clippy::result_large_err, reason = "the crate's signature")]
    let greet = |request: &Request, mut response: Response| {
        assert_eq!(request.headers().get("Sec-WebSocket-Protocol").unwrap(), "sip");
        response.headers_mut().insert("Sec-WebSocket-Protocol", "sip".parse().unwrap());
        Ok(response)
    };
    let socket = accept_hdr_async(stream, greet).await.unwrap();
    let media = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut agent = Client { socket, name: "server".into(), media, pings: 0 };
    let called = agent.next().await;
    assert_eq!(called.method(), "INVITE");
    assert!(called.header("Via").unwrap().starts_with(&format!("SIP/2.0/WS {web};")), "{called:?}");
    agent.accept(&called).await;
    assert_eq!(agent.next().await.method(), "ACK");
    let mut answer = caller.next().await;
    while answer.status() < 200 {
        answer = caller.next().await;
    }
    caller.send(&caller.request("ACK", "100", 1, answer.to_tag(), "", "")).await;
    assert_eq!(caller.ask(&caller.request("BYE", "100", 2, answer.to_tag(), "", "")).await.status(), 200);
    let bye = agent.next().await;
    assert_eq!(bye.method(), "BYE");
    agent.accept(&bye).await;
    house.is_quiet().await;
    house.close().await;
}

/// Who has no address proves who they are by digest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_proves_its_password() {
    const TRUNK: &str =
        "[[trunk]]\nname = \"web\"\nuser = \"anna\"\npassword = \"open-sesame\"\nmay_call = [\"100\"]\n";
    const ANNA: Who<'static> = Who { user: "anna", password: "open-sesame" };
    let (house, web) = house("127.0.0.1", Plan { trunk: TRUNK, ..Plan::default() }).await;
    let mut client = connect(web, "sip", None).await.unwrap();
    let asked = client.ask(&client.request("INVITE", 1, "", "", &client.sdp())).await;
    assert_eq!(asked.status(), 401);
    let challenge = asked.header("WWW-Authenticate").unwrap();
    let wrong = Who { user: "anna", password: "let-me-in" }.line(challenge, 1, "INVITE", "sip:100@sotto.example");
    assert_eq!(client.ask(&client.request("INVITE", 2, "", &wrong, &client.sdp())).await.status(), 401);
    let proof = ANNA.line(challenge, 1, "INVITE", "sip:100@sotto.example");
    let known = client.ask(&client.request("INVITE", 3, "", &proof, &client.sdp())).await;
    assert_eq!(known.status(), 404, "let in, to no route: {known:?}");
    house.is_quiet().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_nobody_named_may_not_connect() {
    let sip = "ws_origins = [\"https://desk.example\"]\n";
    let (house, web) = house("127.0.0.1", Plan { sip, ..Plan::default() }).await;
    for (protocol, page, status) in [
        ("sip", Some("https://desk.example"), None),
        ("sip", None, None),
        ("sip", Some("https://evil.example"), Some(403)),
        ("chat", None, Some(400)),
    ] {
        let refused = match connect(web, protocol, page).await {
            Ok(_) => None,
            Err(Error::Http(response)) => Some(response.status().as_u16()),
            Err(other) => panic!("{protocol} {page:?}: {other}"),
        };
        assert_eq!(refused, status, "{protocol} {page:?}");
    }
    house.close().await;
}

/// What is no SIP, or more of it than any message has, ends its connection, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_or_no_sip_ends_its_connection_alone() {
    let (house, web) = house("127.0.0.1", Plan::default()).await;
    let mut other = connect(web, "sip", None).await.unwrap();
    let options = |client: &Client, n| client.request("OPTIONS", n, "", "", "");
    assert_eq!(other.ask(&options(&other, 1)).await.status(), 200);
    let long = other.request("OPTIONS", 9, "", &format!("X: {}\r\n", "x".repeat(90_000)), "");
    for text in [long.as_str(), "hello"] {
        let mut client = connect(web, "sip", None).await.unwrap();
        client.send(text).await;
        assert!(client.came().await.is_none());
    }
    // A keep-alive of streams, a message in several frames' worth of bytes, and one as bytes.
    other.send("\r\n\r\n").await;
    assert_eq!(other.came().await.unwrap().0, "\r\n");
    let bytes = options(&other, 2).into_bytes();
    other.socket.send(Message::binary(bytes)).await.unwrap();
    assert_eq!(other.next().await.status(), 200);
    let headers = format!("X: {}\r\n", "x".repeat(12_000));
    assert_eq!(other.ask(&other.request("OPTIONS", 3, "", &headers, "")).await.status(), 200);
    house.close().await;
}

/// Who answers pings stays, though nothing is said; who does not is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_answers_no_ping_is_gone() {
    let (house, web) = house("127.0.0.1", Plan { timers: QUICK, ..Plan::default() }).await;
    let (mut awake, mut asleep) = (connect(web, "sip", None).await.unwrap(), connect(web, "sip", None).await.unwrap());
    for client in [&mut awake, &mut asleep] {
        // A call proves that it is of use, whether it has a route or not.
        let invite = client.request("INVITE", 1, "", "", &client.sdp());
        assert_eq!(client.ask(&invite).await.status(), 404);
    }
    assert_eq!(house.server().connections(), 2);
    let reading = async {
        while awake.pings < 6 {
            let came = tokio::time::timeout(PATIENCE, awake.socket.next()).await.expect("pings stopped");
            awake.pings += usize::from(matches!(came.expect("it is closed"), Ok(Message::Ping(_))));
        }
    };
    reading.await;
    assert_eq!(house.server().connections(), 1, "the one that slept is gone");
    assert_eq!(awake.ask(&awake.request("OPTIONS", 2, "", "", "")).await.status(), 200);
    drop(asleep);
    house.close().await;
}
