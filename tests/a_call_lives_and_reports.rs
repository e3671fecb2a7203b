//! States and their events, reports on the way and at the end, who is listened to, and what lateness costs.

mod support;

use rtc_rtcp::goodbye::Goodbye;
use rtc_rtcp::sender_report::SenderReport;
use sotto::call::{CallState, Command, Output, Port};
use sotto::event::{Mode, Place, Role};
use sotto::media::codec::Codec;
use sotto::time::Samples;
use support::network::Network;
use support::{Stage, tones};

#[test]
fn from_pending_to_ended() {
    let mut stage = Stage::new(1);
    assert_eq!(stage.view().state, CallState::Pending);
    let customer = stage.join(Role::Customer);
    let agent = stage.join_as(Role::Agent, Place::Aside, Mode::Spy, Codec::Pcmu);
    assert_eq!(stage.view().state, CallState::Answered);
    stage.command(Command::SetPlace { leg: agent, place: Place::InConversation }).unwrap();
    assert_eq!(stage.view().state, CallState::Connected);
    stage.command(Command::RemoveLeg { leg: customer, reason: "hung up".into() }).unwrap();
    assert_eq!(stage.view().state, CallState::Connected, "the controller says when a call is over");
    stage.command(Command::End { reason: "customer hung up".into() }).unwrap();
    let mut names: Vec<_> = stage.events.iter().map(|e| e.what.name()).collect();
    let all = names.len();
    names.retain(|name| *name != "command.given");
    assert_eq!(all - names.len(), 6, "how it began and every command, for a replay");
    assert_eq!(
        names,
        [
            "call.pending",
            "leg.joined",
            "call.answered",
            "leg.joined",
            "leg.changed",
            "call.connected",
            "leg.left",
            "leg.left",
            "call.ended",
        ]
    );
}

#[test]
fn reports_come_every_five_seconds_and_say_goodbye() {
    let mut stage = Stage::new(2);
    let (customer, agent) = (stage.join(Role::Customer), stage.join(Role::Agent));
    stage.phone(agent).network = Network::bad(1, 100, 0, 0);
    stage.run(60_000);
    let count = stage.phones[&customer].reports.len();
    assert!((8..=24).contains(&count), "{count} in a minute");
    stage.command(Command::RemoveLeg { leg: agent, reason: "bye".into() }).unwrap();
    let view = stage.view();
    let last = stage.phones[&agent].reports.last().unwrap();
    let packets = rtc_rtcp::packet::unmarshal(&mut &last[..]).unwrap();
    assert!(packets.iter().any(|p| p.as_any().is::<Goodbye>()));
    let report = packets[0].as_any().downcast_ref::<SenderReport>().unwrap();
    assert_eq!(report.packet_count as usize, stage.phones[&agent].got.len());
    assert_eq!(report.octet_count as usize, 160 * stage.phones[&agent].got.len());
    assert_eq!(report.reports[0].ssrc, stage.phones[&agent].header.ssrc);
    let lost = report.reports[0].total_lost;
    assert!((200..420).contains(&lost), "{lost} of 3000 lost, 300 wanted");
    assert_eq!(view.legs.len(), 1);
}

/// Behind NAT a leg is heard from its fifth packet on, and answered where it really is.
#[test]
fn a_leg_behind_nat_is_latched() {
    let mut stage = Stage::new(3);
    let (customer, agent) = (stage.join(Role::Customer), stage.join(Role::Agent));
    stage.phone(customer).from = ([192, 0, 2, 7], 31_000).into();
    stage.phone(customer).sound = tones::tone(400.0);
    stage.run(1000);
    let sent = stage.phones[&customer].sent.len();
    let view = stage.view();
    assert_eq!((view.legs[0].received, view.legs[0].dropped), (sent as u64 - 4, 4));
    assert!(tones::hears(&stage.sounds(agent, 300), 400.0));
    let header = stage.phones[&agent].header.bytes();
    stage.call.packet(stage.now, agent, Port::Rtp, stage.phones[&agent].from, &[&header[..], &[1; 160]].concat());
    let Some(Output::Send { to, .. }) = stage.call.poll() else { panic!("the packet is relayed") };
    assert_eq!(to, ([192, 0, 2, 7], 31_000).into());
}

/// A stranger's report changes nothing: not from another host, not from the phone's own with another port.
#[test]
fn reports_count_only_from_where_they_should_come() {
    let mut stage = Stage::new(8);
    let (customer, _) = (stage.join(Role::Customer), stage.join(Role::Agent));
    stage.run(2000);
    let ours = stage.phones[&customer].got[0].header.ssrc;
    // Had our report at 0.9 s, and kept it for a second.
    let words = [9, ours, 0, 0, 0, 58_982, 65_536u32];
    let report = [&[0x81, 201, 0, 7][..], &words.map(u32::to_be_bytes).concat()].concat();
    let round_trip = |stage: &mut Stage| stage.view().legs[0].round_trip_ms;
    for from in ["192.0.2.7:4001", "127.0.0.1:5001", "127.0.0.2:4001"] {
        stage.call.packet(stage.now, customer, Port::Rtcp, from.parse().unwrap(), &report);
        assert_eq!(round_trip(&mut stage), None, "{from}");
    }
    let from = stage.phones[&customer].media.remote_rtcp;
    stage.call.packet(stage.now, customer, Port::Rtcp, from, &report);
    assert!(round_trip(&mut stage).is_some_and(|ms| (90.0..115.0).contains(&ms)));
}

/// A stall is made up for, but no phone gets more than 100 ms at once; ears and recording miss nothing of it.
#[test]
fn late_ticks_do_not_burst() {
    let mut stage = Stage::new(4);
    let customer = stage.join(Role::Customer);
    stage.run(500);
    let (sent, heard) = (stage.phones[&customer].got.len(), stage.heard[&customer].len());
    stage.now = stage.now + Samples::from_millis(700);
    stage.call.tick(stage.now);
    stage.drain();
    let burst = stage.phones[&customer].got.len() - sent;
    assert!((5..=6).contains(&burst), "{burst}");
    assert_eq!(stage.heard[&customer].len() - heard, 35);
    assert!(stage.heard[&customer].windows(2).all(|w| w[1].0 - w[0].0 == Samples::FRAME));
}

/// With nothing to say to it, a phone still hears a living line.
#[test]
fn silence_is_sent_too() {
    let mut stage = Stage::new(5);
    let customer = stage.join(Role::Customer);
    stage.run(1000);
    let got = &stage.phones[&customer].got;
    assert!((49..=51).contains(&got.len()));
    assert!(got.iter().all(|g| g.payload == [0xFF; 160]));
    assert!(got[0].header.marker && got[1..].iter().all(|g| !g.header.marker));
    assert!(got.windows(2).all(|w| w[1].header.timestamp.wrapping_sub(w[0].header.timestamp) == 160));
}

/// A phone on hold that names no address gets nothing: 0.0.0.0 would be ourselves.
#[test]
fn nothing_is_sent_to_nowhere() {
    let mut stage = Stage::new(6);
    let (customer, agent) = (stage.join(Role::Customer), stage.join(Role::Agent));
    stage.run(500);
    let media = support::media(Codec::Pcmu, 4000);
    let nowhere = sotto::call::LegMedia {
        remote: ([0, 0, 0, 0], 4000).into(),
        remote_rtcp: ([0, 0, 0, 0], 4001).into(),
        ..media
    };
    stage.command(Command::SetMedia { leg: customer, media: nowhere }).unwrap();
    stage.phone(customer).speaks = false;
    let (before, reports) = (stage.phones[&customer].got.len(), stage.phones[&customer].reports.len());
    stage.run(20_000);
    assert_eq!((stage.phones[&customer].got.len(), stage.phones[&customer].reports.len()), (before, reports));
    assert!(stage.phones[&agent].got.len() > 20);
}
