//! An INVITE that names a dialog: Join (RFC 3911) of any of a call's is a supervisor, by the same rules; Replaces (RFC
//! 3891) of a supervisor's goes on at another telephone of theirs, and of nobody else.

mod desk;
#[path = "desk/floor.rs"]
mod floor;
#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod support;

pub type Sound = Box<dyn FnMut(u64) -> i16 + Send>;

use floor::{FIRST, Floor, SECOND};
use support::tones;

const RULES: &str =
    "[[supervise]]\nsupervisor = \"55.*\"\n[[supervise]]\nsupervisor = \"nosy\"\nagents = [\"berta\"]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn join() {
    let floor = Floor::open(1, RULES, false).await;
    let [customer, agent] = &floor.calls[0];
    let dialog = customer.dialog();
    let join = format!("Require: join\r\nJoin: {dialog}\r\n");
    let mut supervisor = floor.supervisor(FIRST, "sotto", &join).await;
    assert_eq!(floor.hear(&[customer, agent, &supervisor]).await, ["a", "A", "Aa"], "in spy");
    floor.press(&supervisor, 5, "mode.changed").await;
    assert_eq!(floor.hear(&[customer, agent, &supervisor]).await, ["a", "A1", "Aa"]);
    // A supervisor's own dialog is one of the call too, and a star code says how.
    let mut second = floor.supervisor(SECOND, "*82", &format!("Join: {}\r\n", supervisor.dialog())).await;
    assert_eq!(floor.hear(&[customer, agent, &second]).await, ["a2", "A12", "Aa1"]);
    second.bye().await;

    let nobody = (481, "there is no such dialog here (any more)".to_owned());
    for (header, expected) in [
        (format!("Join: {dialog}x\r\n"), nobody.clone()),
        (format!("Join: {}\r\n", dialog.replace("to-tag=", "to-tag=x")), nobody.clone()),
        (format!("Join: x{dialog}\r\n"), nobody),
        (
            format!("Join: {dialog}\r\nReplaces: {dialog}\r\n"),
            (400, "an INVITE may have one Join or one Replaces".into()),
        ),
        (format!("Join: {dialog}\r\nJoin: {dialog}\r\n"), (400, "an INVITE may have one Join or one Replaces".into())),
        ("Join: abc\r\n".into(), (400, "a dialog is named by its Call-ID, to-tag and from-tag".into())),
        (
            format!("Join: {dialog}\r\nP-Asserted-Identity: <sip:nosy@pbx>\r\n"),
            (403, "no rule lets you listen to this agent".into()),
        ),
    ] {
        assert_eq!(floor.refused("sotto", &header).await, expected, "{header}");
    }
    supervisor.bye().await;
    floor.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaces() {
    let floor = Floor::open(1, RULES, false).await;
    let [customer, agent] = &floor.calls[0];
    let desk_phone = floor.supervisor(FIRST, "*81anna", "").await;
    let replaces = format!("Replaces: {}\r\n", desk_phone.dialog());
    let foreign = (403, "only the supervisor whose line it is may replace it".to_owned());
    assert_eq!(floor.refused("sotto", &format!("{replaces}P-Asserted-Identity: <sip:5599@pbx>\r\n")).await, foreign);
    let early = (486, "the dialog was answered already".to_owned());
    assert_eq!(floor.refused("sotto", &replaces.replace("\r\n", ";early-only\r\n")).await, early);
    let gone = (481, "there is no such dialog here (any more)".to_owned());
    assert_eq!(floor.refused("sotto", &replaces.replace("phone-", "phone-x")).await, gone);
    assert_eq!(floor.hear(&[customer, agent, &desk_phone]).await, ["a", "A1", "Aa"]);

    let mut mobile = floor.supervisor(SECOND, "sotto", &format!("Require: replaces\r\n{replaces}")).await;
    assert!(desk_phone.hung_up().await.contains("their line goes on at another telephone"));
    assert_eq!(floor.hear(&[customer, agent, &mobile]).await, ["a", "A2", "Aa"], "in the mode of the line before");
    assert_eq!(floor.house.left(), ["their line goes on at another telephone"]);
    assert_eq!(floor.refused("sotto", &replaces).await, gone);
    mobile.bye().await;
    floor.close().await;
}
