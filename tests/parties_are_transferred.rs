//! A party transfers the other, blind or attended, from either end (RFC 3515, RFC 5589), or somebody takes a party's place
//! (RFC 3891), in the middle of a whisper: nobody hears any of it for whom it was not, and supervision stays with whom it is
//! configured to follow.

mod desk;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod support;

pub type Sound = Box<dyn FnMut(u64) -> i16 + Send>;

use desk::Desk;
use sipp::{House, Plan};
use sotto::call::{Audience, ClipSpec, Command, Sound as Pcm, Speaker};
use sotto::event::{Actor, Mode, What};
use sotto::id::CallId;
use sotto::io::sip::registry::Entry;
use support::tones;

const CUSTOMER: f64 = 500.0;
const ANNA: f64 = 700.0;
const BERTA: f64 = 1300.0;
const OTHER: f64 = 1700.0;
const SUPERVISOR: f64 = 1100.0;
const CLIP: f64 = 2500.0;
/// What is too soft to be any of it.
const NOTHING: f64 = 150.0;
/// Of a name and its letter.
const TONES: [(f64, char); 6] =
    [(CUSTOMER, 'c'), (ANNA, 'a'), (BERTA, 'b'), (OTHER, 'o'), (SUPERVISOR, 's'), (CLIP, '!')];

/// A customer who talks to anna, and a supervisor who whispers to her, as the coach does.
struct Talk {
    house: House,
    customer: Desk,
    anna: Desk,
    berta: Desk,
    supervisor: Desk,
    call: CallId,
    /// Packets the customer had got when the whisper began.
    since: usize,
}

impl Talk {
    /// `sip`: of `[sip]`; `trunk`: further lines of the trunk.
    async fn with(sip: &str, trunk: &str) -> Talk {
        let nowhere = ([127, 0, 0, 1], 9).into();
        let (mut anna, berta) = (Desk::new(nowhere, ANNA).await, Desk::new(nowhere, BERTA).await);
        let to = |name: &str, desk: &Desk| {
            format!("steps = [ {{connect = {{to = \"sip:{name}@127.0.0.1:{}\"}}}} ]\n", desk.phone.port())
        };
        let routes = format!(
            "[[route]]\ncalled = 'anna'\n{}[[route]]\ncalled = 'berta'\n{}[[route]]\ncalled = 'busy'\n\
             steps = [ {{reject = {{status = 486, reason = \"busy\"}}}} ]\n",
            to("anna", &anna),
            to("berta", &berta)
        );
        let trunk = format!(
            "[[trunk]]\nname = \"lab\"\nsources = [\"127.0.0.0/8\"]\nmay_call = [\"anna\", \"berta\", \"busy\", \"sotto\", \"out.*\"]\n\
             may_supervise = true\n{trunk}\n[[supervise]]\nsupervisor = \".*\"\n"
        );
        let house = House::open(Plan { routes: &routes, trunk: &trunk, sip, shards: 2, ..Plan::default() }).await;
        anna.phone.serve(house.sip);
        berta.phone.serve(house.sip);
        let mut customer = Desk::new(house.sip, CUSTOMER).await;
        let (answer, ()) = tokio::join!(customer.call("anna"), anna.answer());
        assert_eq!(answer.status(), 200);
        house.until("connected", |h| h.told("call.connected") == 1).await;
        let mut supervisor = Desk::new(house.sip, SUPERVISOR).await;
        assert_eq!(supervisor.call("*81anna").await.status(), 200);
        let call = house.registry.list()[0].0;
        let mut talk = Talk { house, customer, anna, berta, supervisor, call, since: 0 };
        assert_eq!(talk.hear(&[&talk.customer, &talk.anna, &talk.supervisor]).await, ["a", "cs", "ca"]);
        talk.since = talk.customer.count();
        talk.whisper().await;
        talk
    }

    fn entry(&self) -> Entry {
        self.house.registry.get(self.call).unwrap()
    }

    /// The coach whispers for a minute.
    async fn whisper(&self) {
        let command = async |command| self.entry().shard.command(self.call, command).await.unwrap();
        command(Command::SetMode { speaker: Speaker::Coach, mode: Mode::Whisper, by: Actor::Person }).await;
        let pcm = Pcm::new(&tones::beep(CLIP, 59_000), 8_000).unwrap();
        command(Command::Play(ClipSpec { pcm, audience: Audience::Mode, looped: false, text: None })).await;
        self.house.until("the clip has begun", |h| h.told("clip.started") > 0).await;
    }

    /// Who is heard now by each.
    async fn hear(&self, desks: &[&Desk]) -> Vec<String> {
        let heard = futures_util::future::join_all(desks.iter().map(|desk| desk.listen())).await;
        let names = |sound: &Vec<i16>| {
            TONES.iter().filter(|(hz, _)| tones::hears(sound, *hz)).map(|(_, name)| *name).collect::<String>()
        };
        heard.iter().map(names).collect()
    }

    /// That a party has heard nothing of any whisper.
    fn was_spared(&self, desk: &Desk, since: usize) {
        for hz in [SUPERVISOR, CLIP] {
            let most = desk.most(since, hz);
            assert!(most < NOTHING, "{hz} Hz came through: {most}");
        }
    }

    async fn take_anna(&mut self) -> Desk {
        std::mem::replace(&mut self.anna, Desk::new(self.house.sip, ANNA).await)
    }

    async fn take_berta(&mut self) -> Desk {
        std::mem::replace(&mut self.berta, Desk::new(self.house.sip, BERTA).await)
    }

    fn here(&self, name: &str) -> String {
        format!("<sip:{name}@{}>", self.house.sip)
    }

    /// Everyone who is left hangs up.
    async fn ends(mut self, talks_to_the_customer: &mut Desk, supervised: bool) {
        self.customer.bye().await;
        talks_to_the_customer.hung_up().await;
        if supervised {
            self.supervisor.hung_up().await;
        }
        self.close().await;
    }

    async fn close(self) {
        self.house.is_quiet().await;
        self.house.close().await;
    }
}

/// Anna sends the customer on to berta: by the dialplan, she is an agent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_transfers_blind() {
    let mut talk = Talk::with("", "").await;
    let to = talk.here("berta");
    let answer = talk.anna.refer(&to, "Referred-By: <sip:anna@pbx>\r\n").await;
    assert_eq!(answer.status(), 202, "{answer:?}");
    let outcome = async {
        let first = talk.anna.news().await;
        assert_eq!(first, ("SIP/2.0 100 Trying".into(), "active;expires=600".into()));
        talk.anna.outcome().await
    };
    let (outcome, ()) = tokio::join!(outcome, talk.berta.answer());
    assert_eq!(outcome, "SIP/2.0 200 OK");
    let invite = talk.berta.dialog();
    assert!(invite.ends_with("from-tag=desk"));
    assert!(talk.anna.hung_up().await.contains("transferred"));
    // The coach's whisper was for anna alone; the supervisor's goes on, to the agent who is there now.
    assert_eq!(talk.hear(&[&talk.customer, &talk.berta, &talk.supervisor]).await, ["b", "cs", "cb!"]);
    talk.was_spared(&talk.customer, talk.since);
    assert!(talk.berta.most(0, CLIP) < NOTHING, "berta was not there when it began");
    assert_eq!(talk.entry().agents.len(), 1);
    assert!(talk.entry().agents[0].0.starts_with("sip:berta@"));
    let mut berta = talk.take_berta().await;
    talk.ends(&mut berta, true).await;
}

/// Whom nobody may be transferred to, and who does not want to come: the parties talk on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_fails_and_the_parties_talk_on() {
    let mut talk = Talk::with("", "").await;
    for (name, expected) in [
        ("secret", (403, "this trunk may not call this number")),
        ("out-1", (404, "no route for this number")),
        ("busy", (603, "nobody is called at this number")),
    ] {
        let answer = talk.anna.refer(&talk.here(name), "").await;
        assert_eq!((answer.status(), answer.reason()), expected, "{name}");
    }
    let far = talk.anna.refer("<sip:out-1@192.0.2.1>", "").await;
    assert_eq!((far.status(), far.reason()), (403, "only numbers here and those of trunks can be transferred to"));
    let two = talk.anna.refer("<sip:berta@a>, <sip:berta@b>", "").await;
    assert_eq!((two.status(), two.reason()), (400, "a REFER has one Refer-To"));
    let stranger = talk.supervisor.refer(&talk.here("berta"), "").await;
    assert_eq!((stranger.status(), stranger.reason()), (603, "nobody can be transferred on this line"));

    assert_eq!(talk.anna.refer(&talk.here("berta"), "").await.status(), 202);
    let refuse = async {
        let invite = talk.berta.phone.next().await;
        let copied = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", invite.header(n).unwrap()));
        let to = invite.header("To").unwrap();
        let busy =
            format!("SIP/2.0 486 Busy Here\r\n{}To: {to};tag=desk\r\nContent-Length: 0\r\n\r\n", copied.concat());
        talk.berta.phone.send(&busy).await;
        assert_eq!(talk.berta.phone.next().await.method(), "ACK");
    };
    let (outcome, ()) = tokio::join!(talk.anna.outcome(), refuse);
    assert_eq!(outcome, "SIP/2.0 486 called party busy");
    // The coach's whisper was over for her when she was put aside.
    assert_eq!(talk.hear(&[&talk.customer, &talk.anna, &talk.supervisor]).await, ["a", "cs", "ca!"]);
    talk.was_spared(&talk.customer, talk.since);
    // Once more, and told nothing of it (RFC 4488).
    let quiet = talk.anna.refer(&talk.here("berta"), "Require: norefersub\r\nRefer-Sub: false\r\n").await;
    assert_eq!((quiet.status(), quiet.header("Refer-Sub")), (202, Some("false")));
    talk.berta.answer().await;
    assert!(talk.anna.hung_up().await.contains("transferred"), "and no NOTIFY before");
    let mut berta = talk.take_berta().await;
    talk.ends(&mut berta, true).await;
}

/// Whoever takes a customer's place is one, whatever the route of their number says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_transfers_blind() {
    let mut talk = Talk::with("", "").await;
    assert_eq!(talk.customer.refer(&talk.here("berta"), "").await.status(), 202);
    let (outcome, ()) = tokio::join!(talk.customer.outcome(), talk.berta.answer());
    assert_eq!(outcome, "SIP/2.0 200 OK");
    assert!(talk.customer.hung_up().await.contains("transferred"));
    assert_eq!(talk.hear(&[&talk.berta, &talk.anna, &talk.supervisor]).await, ["a", "bs!", "ab!"]);
    talk.was_spared(&talk.berta, 0);
    talk.was_spared(&talk.customer, talk.since);
    talk.anna.leave().await;
    talk.berta.hung_up().await;
    talk.supervisor.hung_up().await;
    talk.close().await;
}

/// Anna holds, asks berta on another line, and joins the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_transfers_attended() {
    let mut talk = Talk::with("", "").await;
    let (answer, told) = tokio::join!(talk.anna.offer("sendonly"), talk.customer.is_offered());
    assert_eq!((answer.status(), told.as_str()), (200, "sendonly"));
    let mut asking = Desk::new(talk.house.sip, ANNA).await;
    let (answer, ()) = tokio::join!(asking.call("berta"), talk.berta.answer());
    assert_eq!(answer.status(), 200);
    talk.house.until("both are connected", |h| h.told("call.connected") == 2).await;
    let dialog = asking.dialog().replace('@', "%40").replace(';', "%3B").replace('=', "%3D");
    let to = format!("<sip:berta@{}?Replaces={dialog}>", talk.house.sip);
    assert_eq!(talk.anna.refer(&to, "").await.status(), 202);
    let (outcome, told) = tokio::join!(talk.anna.outcome(), talk.customer.is_offered());
    assert_eq!((outcome.as_str(), told.as_str()), ("SIP/2.0 200 OK", "sendrecv"));
    assert!(talk.anna.hung_up().await.contains("transferred"));
    assert!(asking.hung_up().await.contains("its party talks in another call"));
    assert_eq!(talk.hear(&[&talk.customer, &talk.berta, &talk.supervisor]).await, ["b", "cs", "cb!"]);
    talk.was_spared(&talk.customer, talk.since);
    assert!(talk.berta.most(0, CLIP) < NOTHING);
    assert_eq!(talk.house.registry.list().len(), 1);
    let mut berta = talk.take_berta().await;
    talk.ends(&mut berta, true).await;
}

/// The other way round: asked for in the call without the customer, whose call stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_customers_call_stays() {
    let mut talk = Talk::with("", "").await;
    let mut asking = Desk::new(talk.house.sip, ANNA).await;
    let (answer, ()) = tokio::join!(asking.call("berta"), talk.berta.answer());
    assert_eq!(answer.status(), 200);
    talk.house.until("both are connected", |h| h.told("call.connected") == 2).await;
    let dialog = talk.anna.dialog().replace('@', "%40").replace(';', "%3B").replace('=', "%3D");
    assert_eq!(asking.refer(&format!("<sip:x@{}?Replaces={dialog}>", talk.house.sip), "").await.status(), 202);
    let (outcome, left) = tokio::join!(asking.outcome(), talk.anna.hung_up());
    assert_eq!(outcome, "SIP/2.0 200 OK");
    assert!(left.contains("transferred"));
    asking.hung_up().await;
    assert_eq!(talk.hear(&[&talk.customer, &talk.berta, &talk.supervisor]).await, ["b", "cs", "cb!"]);
    assert_eq!(talk.house.registry.list()[0].0, talk.call);
    talk.was_spared(&talk.customer, talk.since);
    let mut berta = talk.take_berta().await;
    talk.ends(&mut berta, true).await;
}

/// Somebody calls to take anna's place. Where the trunk does not list them, they are a customer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_takes_an_agents_place() {
    for (agents, hears) in [("", "c"), ("agents = [\"5550199\"]", "cs")] {
        let talk = Talk::with("", agents).await;
        let replaces = format!("Require: replaces\r\nReplaces: {}\r\n", talk.anna.dialog());
        for (header, status) in [
            (replaces.replace("\r\nReplaces: ", "\r\nReplaces: x"), 481),
            (replaces.replace("from-tag=desk", "from-tag=desk;early-only"), 486),
            (replaces.replace("from-tag=desk", "from-tag=other"), 481),
        ] {
            let mut other = Desk::new(talk.house.sip, OTHER).await;
            assert_eq!(other.call_with("sotto", &header).await.status(), status, "{header}");
        }
        let mut other = Desk::new(talk.house.sip, OTHER).await;
        let (answer, left) = tokio::join!(other.call_with("sotto", &replaces), talk.anna.hung_up());
        assert_eq!(answer.status(), 200);
        assert!(left.contains("somebody else has taken its place"), "{left}");
        assert_eq!(talk.hear(&[&talk.customer, &other, &talk.supervisor]).await, ["o", hears, "co!"]);
        talk.was_spared(&talk.customer, talk.since);
        assert!(other.most(0, CLIP) < NOTHING);
        if agents.is_empty() {
            talk.was_spared(&other, 0);
        }
        talk.ends(&mut other, true).await;
    }
}

/// Supervisors and the coach stay with the agent: where she goes, they go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_the_agent_leaves_with_her() {
    let mut talk = Talk::with("follow = \"agent\"", "").await;
    assert_eq!(talk.anna.refer(&talk.here("berta"), "").await.status(), 202);
    let (outcome, (), left) = tokio::join!(talk.anna.outcome(), talk.berta.answer(), talk.supervisor.hung_up());
    assert_eq!(outcome, "SIP/2.0 200 OK");
    assert!(left.contains("the agent was transferred"), "{left}");
    assert_eq!(talk.house.left(), ["the agent was transferred"]);
    talk.anna.hung_up().await;
    assert_eq!(talk.hear(&[&talk.customer, &talk.berta]).await, ["b", "c"]);
    talk.was_spared(&talk.berta, 0);
    talk.was_spared(&talk.customer, talk.since);
    let mut berta = talk.take_berta().await;
    talk.ends(&mut berta, false).await;
}

/// Another stream on anna's line, and not a word of SIP: her telephone is asked, and its answer is taken for hers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_change_is_asked_about() {
    let mut talk = Talk::with("", "").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let since = talk.anna.count();
    talk.anna.becomes_another(false);
    assert_eq!(talk.anna.is_offered().await, "sendrecv");
    talk.house
        .until("somebody vouches for her", |h| h.events().iter().any(|e| has_changed(&e.event.what, "vouched")))
        .await;
    assert_eq!(talk.hear(&[&talk.customer, &talk.anna, &talk.supervisor]).await, ["a", "cs", "ca!"]);
    let later = talk.anna.count() - 20;
    assert!(talk.anna.most(later, CLIP) < NOTHING && later > since, "what had begun was for whoever was there then");
    talk.was_spared(&talk.customer, talk.since);
    let mut anna = talk.take_anna().await;
    talk.ends(&mut anna, true).await;
}

/// Where only a person is believed, whoever it is is whispered nothing until one vouches for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_change_is_whispered_nothing() {
    let mut talk = Talk::with("proof = \"person\"", "").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    talk.anna.becomes_another(false);
    let suspended = |house: &House| house.events().into_iter().find(|e| has_changed(&e.event.what, "suspended"));
    talk.house.until("she may be somebody else", |h| suspended(h).is_some()).await;
    let changed = talk.anna.count();
    assert_eq!(talk.hear(&[&talk.customer, &talk.anna, &talk.supervisor]).await, ["a", "c", "ca!"]);
    // What was on its way when it changed.
    talk.was_spared(&talk.anna, changed + 2);
    let leg = suspended(&talk.house).and_then(|e| e.event.leg).unwrap();
    let vouch = Command::Vouch { leg, by: Actor::Person };
    talk.entry().shard.command(talk.call, vouch).await.unwrap();
    assert_eq!(talk.hear(&[&talk.customer, &talk.anna]).await, ["a", "cs"]);
    assert!(talk.anna.most(changed + 2, CLIP) < NOTHING);
    talk.was_spared(&talk.customer, talk.since);
    let mut anna = talk.take_anna().await;
    talk.ends(&mut anna, true).await;
}

/// From another address too: whoever is there is none of the call's, and is sent nothing at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_is_sent_nothing() {
    let mut talk = Talk::with("", "").await;
    talk.anna.becomes_another(true);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let before = talk.anna.count();
    assert_eq!(talk.hear(&[&talk.supervisor]).await, ["c!"]);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(talk.anna.count(), before);
    talk.was_spared(&talk.customer, talk.since);
    let mut anna = talk.take_anna().await;
    talk.ends(&mut anna, true).await;
}

fn has_changed(what: &What, wanted: &str) -> bool {
    matches!(what, What::LegChanged { changed } if changed == wanted)
}
