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
use sotto::event::{Actor, Mode};
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
        let names =
            |sound: &Vec<i16>| TONES.iter().filter(|(hz, _)| tones::hears(sound, *hz)).map(|(_, name)| *name).collect();
        heard.iter().map(names).collect()
    }

    /// That a party has heard nothing of any whisper.
    fn was_spared(&self, desk: &Desk, since: usize) {
        for hz in [SUPERVISOR, CLIP] {
            let most = desk.most(since, hz);
            assert!(most < NOTHING, "{hz} Hz came through: {most}");
        }
    }

    fn here(&self, name: &str) -> String {
        format!("<sip:{name}@{}>", self.house.sip)
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
    talk.customer.bye().await;
    talk.berta.hung_up().await;
    talk.supervisor.hung_up().await;
    talk.close().await;
}
