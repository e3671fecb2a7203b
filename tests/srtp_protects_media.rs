//! SRTP by SDES between real sockets, with another maker's SRTP at the other end: every suite passes every octet, what was
//! forged or replayed passes nobody, keys outlive offers, and who may not do without is refused.

#[path = "peers/sipp/phone.rs"]
mod phone;
#[path = "peers/sipp/mod.rs"]
mod sipp;
mod talker;

use sipp::{House, Plan, TRUNK};
use sotto::call::sdp::Suite;
use std::net::SocketAddr;
use talker::{Talker, Wish, talk};

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

/// A house, and a call from one telephone to the other; `srtp` is what the step says, if it says anything.
async fn call(caller: Wish, called: Wish, srtp: &str) -> (House, Talker, Talker) {
    let mut agent = Talker::new(NOWHERE, called).await;
    let srtp = if srtp.is_empty() { String::new() } else { format!(", srtp = \"{srtp}\"") };
    let house = House::with(&format!(
        "[[route]]\nsteps = [ {{connect = {{to = \"sip:a@127.0.0.1:{}\"{srtp}}}}} ]\n",
        agent.phone.port()
    ))
    .await;
    agent.phone.serve(house.sip);
    let mut customer = Talker::new(house.sip, caller).await;
    let (answer, invite) = tokio::join!(customer.call("100"), agent.answer());
    assert_eq!(answer.status(), 200, "{answer:?}");
    let protected = invite.0.contains("RTP/SAVP") && Suite::ALL.iter().all(|s| invite.0.contains(s.name()));
    assert_eq!(protected, called.suite.is_some(), "{invite:?}");
    (house, customer, agent)
}

async fn end(house: House, mut customer: Talker, agent: Talker) {
    customer.bye().await;
    agent.hung_up().await;
    house.is_quiet().await;
    house.close().await;
}

/// A relay between a protected leg and a plain one, or two protected with other suites: the same octets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_suite_passes_every_octet() {
    for (n, suite) in Suite::ALL.into_iter().enumerate() {
        let (house, mut customer, mut agent) = call(Wish::sealed(suite), Wish::PLAIN, "").await;
        talk(&mut customer, &mut agent, 20);
        assert_eq!(house.metrics.media.srtp_refused.get(), 0, "{suite:?}");
        end(house, customer, agent).await;

        let (house, mut customer, mut agent) = call(Wish::PLAIN, Wish::sealed(suite), "required").await;
        talk(&mut customer, &mut agent, 20);
        end(house, customer, agent).await;

        let other = Suite::ALL[(n + 1) % Suite::ALL.len()];
        let (house, mut customer, mut agent) = call(Wish::sealed(suite), Wish::sealed(other), "required").await;
        talk(&mut customer, &mut agent, 20);
        end(house, customer, agent).await;
    }
}

/// Telephones that would rather be protected offer keys on a line of plain RTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_on_a_plain_line_is_taken() {
    let wish = Wish { proto: "RTP/AVP", ..Wish::sealed(Suite::Counter80) };
    let (house, mut customer, mut agent) = call(wish, Wish::PLAIN, "").await;
    talk(&mut customer, &mut agent, 5);
    end(house, customer, agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_forged_or_replayed_passes_nobody() {
    for suite in [Suite::Counter80, Suite::Gcm128] {
        let (house, mut customer, mut agent) = call(Wish::sealed(suite), Wish::PLAIN, "").await;
        talk(&mut customer, &mut agent, 3);
        let (wire, payload) = customer.packet();
        let mut forged = wire.clone();
        forged[40] ^= 1;
        let plain = [&customer.header.bytes()[..], &[0x55; 160]].concat();
        for datagram in [&forged[..], &plain, &wire[..100], &[0x80; 3]] {
            customer.send(datagram);
        }
        customer.send(&wire);
        assert_eq!(agent.hear().unwrap().1, payload, "and nothing before it");
        // The same again, from there and from elsewhere.
        for _ in 0..10 {
            customer.send(&wire);
            customer.rtcp.send_to(&wire, customer.server[0]).unwrap();
        }
        assert!(agent.hears_nothing());
        assert_eq!(house.metrics.media.srtp_refused.get(), 24, "{suite:?}");
        talk(&mut customer, &mut agent, 3);
        end(house, customer, agent).await;
    }
}

/// Sixteen bits end, a stream gets another name: the talk goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_begin_anew_and_streams_change() {
    let (house, mut customer, mut agent) =
        call(Wish::sealed(Suite::Counter80), Wish::sealed(Suite::Gcm256), "required").await;
    customer.header.sequence = 65_530;
    talk(&mut customer, &mut agent, 20);
    assert_eq!(customer.header.sequence, 14);
    let (late, _) = customer.packet();
    talk(&mut customer, &mut agent, 3);
    customer.send(&late);
    assert!(agent.hear().is_some(), "late is not replayed");
    customer.header.ssrc += 1;
    customer.header.sequence = 9;
    talk(&mut customer, &mut agent, 5);
    assert_eq!(house.metrics.media.srtp_refused.get(), 0);
    end(house, customer, agent).await;
}

/// A hold and its end keep all keys; another key of the peer takes over without a packet lost; and who may be plain may
/// become so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_outlive_offers() {
    let (house, mut customer, mut agent) = call(Wish::sealed(Suite::Counter80), Wish::PLAIN, "").await;
    talk(&mut customer, &mut agent, 3);
    let ours = |came: &phone::Came| came.0.lines().find(|l| l.starts_with("a=crypto")).map(str::to_owned);
    let (held, _) = tokio::join!(customer.offer("a=sendonly\r\n"), agent.answer());
    assert_eq!(held.status(), 200);
    agent.say();
    assert!(customer.hears_nothing(), "on hold");
    let said = customer.say();
    assert_eq!(agent.hear().unwrap().1, said, "music on hold is heard, under the same key and numbers");
    let (resumed, _) = tokio::join!(customer.offer("a=sendrecv\r\n"), agent.answer());
    assert_eq!(ours(&held), ours(&resumed));
    talk(&mut customer, &mut agent, 3);

    customer.another_key();
    let (under_way, payload) = customer.packet();
    let rekeyed = customer.offer("").await;
    assert_eq!(ours(&rekeyed), ours(&held), "our key does not change with theirs");
    customer.send(&under_way);
    assert_eq!(agent.hear().unwrap().1, payload, "sealed before the answer came");
    customer.agree(&rekeyed.0);
    talk(&mut customer, &mut agent, 3);

    customer.wish = Wish::PLAIN;
    let plain = customer.offer("").await;
    assert!(plain.0.contains("RTP/AVP") && ours(&plain).is_none(), "{plain:?}");
    customer.agree(&plain.0);
    talk(&mut customer, &mut agent, 3);

    customer.wish = Wish::sealed(Suite::Counter80);
    let again = customer.offer("").await;
    assert!(
        ours(&again).is_some() && ours(&again) != ours(&held),
        "a key put aside is not taken up again: {again:?} {held:?}"
    );
    customer.agree(&again.0);
    talk(&mut customer, &mut agent, 3);
    assert_eq!(house.metrics.media.srtp_refused.get(), 0);

    let kept = house.events().iter().map(|e| serde_json::to_string(&e.event.what).unwrap()).collect::<Vec<_>>();
    let journal = kept.concat();
    assert!(journal.contains("set_media"), "the journal has every command");
    for key in [&held, &again].map(|came| ours(came).unwrap().split("inline:").nth(1).unwrap().to_owned()) {
        assert!(!journal.contains(&key), "and no key");
    }
    assert!(!journal.contains("crypto") && !journal.contains("inline"));
    end(house, customer, agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_do_without_is_refused() {
    let routes = "[[route]]\nsteps = [ {answer = {}} ]\n";
    let sealed = Wish::sealed(Suite::Counter80);
    let keyless = Wish { suite: None, ..sealed };
    for (srtp, wish, expected) in [
        ("required", Wish::PLAIN, Some("the audio line has no key, and SRTP is required here")),
        ("required", sealed, None),
        ("optional", keyless, Some("the audio line wants RTP/SAVP and has no a=crypto")),
        ("off", sealed, Some("the audio line wants RTP/SAVP, and SRTP is off here")),
        ("off", Wish::PLAIN, None),
    ] {
        let trunk = format!("{TRUNK}srtp = \"{srtp}\"\n");
        let house = House::open(Plan { routes, trunk: &trunk, ..Plan::default() }).await;
        let answer = Talker::new(house.sip, wish).await.call("100").await;
        match expected {
            None => assert_eq!(answer.status(), 200, "{srtp} {wish:?}"),
            Some(why) => {
                assert_eq!(answer.status(), 488, "{srtp} {wish:?}");
                assert!(answer.header("Warning").unwrap().contains(why), "{answer:?}");
            }
        }
        house.close().await;
    }
}

/// What is required of a trunk holds for calls to it, and for its supervisors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_requires_it_is_offered_it_too() {
    let (caller, called) = (Wish::sealed(Suite::Gcm128), Wish::sealed(Suite::Counter32));
    let mut agent = Talker::new(NOWHERE, called).await;
    let trunk = format!("{TRUNK}srtp = \"required\"\nmay_supervise = true\n");
    let routes = format!("[[route]]\nsteps = [ {{connect = {{to = \"sip:a@127.0.0.1:{}\"}}}} ]\n", agent.phone.port());
    let house = House::open(Plan { routes: &routes, trunk: &trunk, ..Plan::default() }).await;
    agent.phone.serve(house.sip);
    let mut customer = Talker::new(house.sip, caller).await;
    let (answer, _) = tokio::join!(customer.call("100"), agent.answer());
    assert_eq!(answer.status(), 200, "{answer:?}");
    talk(&mut customer, &mut agent, 3);
    let mut supervisor = Talker::new(house.sip, Wish::sealed(Suite::Counter80)).await;
    let answer = supervisor.call("*80a").await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(supervisor.hear().is_some(), "a mix is sealed too");
    supervisor.bye().await;
    assert_eq!(Talker::new(house.sip, Wish::PLAIN).await.call("*80a").await.status(), 488);
    end(house, customer, agent).await;
}

/// RTCP on RTP's port, both as called and as caller, sealed and plain; and where the peer does not share, on its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_go_where_they_were_agreed_to_go() {
    let (plain, sealed, gcm) = (Wish::PLAIN, Wish::sealed(Suite::Counter32), Wish::sealed(Suite::Gcm128));
    for (caller, called, srtp) in [
        (plain.muxed(), plain, ""),
        (plain, plain.muxed(), ""),
        (sealed.muxed(), gcm.muxed(), "required"),
        (gcm, sealed, "required"),
    ] {
        let (house, mut customer, mut agent) = call(caller, called, srtp).await;
        for (talker, wish) in [(&customer, caller), (&agent, called)] {
            assert_eq!(talker.server[0] == talker.server[1], wish.mux, "{wish:?}");
        }
        customer.report(0x0102_0304);
        agent.report(0x0506_0708);
        talk(&mut customer, &mut agent, 3);
        customer.bye().await;
        agent.hung_up().await;
        // The last of each leg's reports says what it heard of the far end.
        assert_eq!(customer.last_report(), 0x0102_0304, "{caller:?}");
        assert_eq!(agent.last_report(), 0x0506_0708, "{called:?}");
        assert_eq!(house.metrics.media.srtp_refused.get(), 0);
        house.is_quiet().await;
        house.close().await;
    }
}
