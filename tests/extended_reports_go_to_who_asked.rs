//! RTCP-XR (RFC 3611): whoever asked for extended reports gets them, true ones; nobody else does; and what a far end
//! tells of itself is shown.

mod support;

use rtc_rtcp::extended_report::{
    DLRRReport, DLRRReportBlock, ExtendedReport, ReceiverReferenceTimeReportBlock, StatisticsSummaryReportBlock,
    VoIPMetricsReportBlock,
};
use rtc_rtcp::goodbye::Goodbye;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use sotto::call::{Command, LegMedia, Port, Shape};
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use sotto::media::codec::Codec;
use sotto::media::xr::Wish;
use sotto::time::Samples;
use support::{Stage, media};

type Packets = Vec<Box<dyn rtc_rtcp::Packet>>;

fn join(stage: &mut Stage, role: Role, port: u16, reports: Wish) -> LegId {
    let plain = media(Codec::Pcmu, port);
    let media = LegMedia { shape: Shape { reports, ..plain.shape }, ..plain };
    stage.join_with(role, Place::InConversation, Mode::Spy, media)
}

/// Each report of ours to a leg, read by somebody else's parser.
fn reports(stage: &Stage, leg: LegId) -> Vec<Packets> {
    stage.phones[&leg].reports.iter().map(|r| rtc_rtcp::packet::unmarshal(&mut &r[..]).unwrap()).collect()
}

fn extended(packets: &Packets) -> Option<&ExtendedReport> {
    packets.iter().find_map(|p| p.as_any().downcast_ref())
}

fn block<T: 'static>(report: &ExtendedReport) -> Option<&T> {
    report.reports.iter().find_map(|b| b.as_any().downcast_ref())
}

/// A compound from a leg's far end: a receiver report, and what else it tells.
fn tell(stage: &mut Stage, leg: LegId, report: ReceiverReport, blocks: Vec<Box<dyn rtc_rtcp::Packet>>) {
    let ssrc = report.ssrc;
    let compound: Packets = vec![Box::new(report), Box::new(ExtendedReport { sender_ssrc: ssrc, reports: blocks })];
    let bytes = rtc_rtcp::packet::marshal(&compound).unwrap();
    let from = stage.phones[&leg].media.remote_rtcp;
    stage.call.packet(stage.now, leg, Port::Rtcp, from, &bytes);
    stage.drain();
}

#[test]
fn losses_in_bursts_reach_who_asked_and_nobody_else() {
    let mut stage = Stage::new(1);
    let customer = join(&mut stage, Role::Customer, 4000, Wish::ALL);
    let agent = join(&mut stage, Role::Agent, 4002, Wish::default());
    // A minute in which every two seconds three packets of four are lost: 3 % in all, in bursts of 80 ms.
    for second in 0..60 {
        stage.run(900);
        for lost in [1000, 1000, 0, 1000, 0] {
            stage.phone(customer).network.loss = if second % 2 == 0 { lost } else { 0 };
            stage.run(20);
        }
    }
    assert!(reports(&stage, agent).iter().all(|r| extended(r).is_none()), "nobody asked");
    let told = reports(&stage, customer);
    let last = told.last().and_then(extended).expect("it was asked for");
    assert!(block::<ReceiverReferenceTimeReportBlock>(last).is_some());
    let ssrc = stage.phones[&customer].header.ssrc;
    let metrics = block::<VoIPMetricsReportBlock>(last).unwrap();
    assert_eq!((metrics.ssrc, metrics.gmin, metrics.discard_rate, metrics.gap_density), (ssrc, 16, 0, 0));
    assert!((6..=8).contains(&metrics.loss_rate), "3 % of 256: {metrics:?}");
    assert!((187..=193).contains(&metrics.burst_density), "three of four: {metrics:?}");
    assert_eq!(metrics.burst_duration, 80);
    assert!((1800..=2000).contains(&metrics.gap_duration), "{metrics:?}");
    let summaries: Vec<_> =
        told.iter().map(|r| block::<StatisticsSummaryReportBlock>(extended(r).unwrap()).unwrap()).collect();
    assert!(summaries.windows(2).all(|pair| pair[0].end_seq == pair[1].begin_seq), "no packet is left out");
    let lost: u32 = summaries.iter().map(|s| s.lost_packets).sum();
    assert!((80..=90).contains(&lost), "{lost} of 90");
}

#[test]
fn the_last_report_is_told_before_the_goodbye() {
    let mut stage = Stage::new(2);
    let customer = join(&mut stage, Role::Customer, 4000, Wish { metrics: true, ..Wish::default() });
    join(&mut stage, Role::Agent, 4002, Wish::default());
    stage.run(2_000);
    stage.command(Command::RemoveLeg { leg: customer, reason: "hung up".into() }).unwrap();
    let last = reports(&stage, customer).pop().unwrap();
    assert!(last.last().unwrap().as_any().is::<Goodbye>());
    let report = extended(&last).unwrap();
    assert!(block::<VoIPMetricsReportBlock>(report).is_some());
    assert!(block::<StatisticsSummaryReportBlock>(report).is_none(), "only what was asked for");
    assert!(block::<ReceiverReferenceTimeReportBlock>(report).is_none());
}

/// A far end that sends nothing, as a supervisor who listens, knows the round trip, and so do we.
#[test]
fn reference_times_are_echoed_both_ways() {
    let mut stage = Stage::new(3);
    let customer = join(&mut stage, Role::Customer, 4000, Wish { round_trip: true, ..Wish::default() });
    stage.phone(customer).speaks = false;
    let mut ours = None;
    while ours.is_none() {
        stage.run(100);
        ours = reports(&stage, customer).pop();
    }
    let ours = ours.unwrap();
    let report = extended(&ours).unwrap();
    let reference = block::<ReceiverReferenceTimeReportBlock>(report).unwrap();
    // The network takes 70 ms each way; the far end keeps it for a second.
    stage.now = stage.now + Samples::from_millis(1_140);
    let echo = DLRRReport { ssrc: report.sender_ssrc, last_rr: (reference.ntp_timestamp >> 16) as u32, dlrr: 65_536 };
    let theirs = ReceiverReferenceTimeReportBlock { ntp_timestamp: 0x1234_5678_9ABC_DEF0 };
    let blocks: Packets = vec![Box::new(DLRRReportBlock { reports: vec![echo] }), Box::new(theirs)];
    tell(&mut stage, customer, ReceiverReport { ssrc: 9, ..Default::default() }, blocks);
    let round_trip = stage.view().legs[0].round_trip_ms.unwrap();
    assert!((140.0..=141.5 + 100.0).contains(&round_trip), "{round_trip}");
    let before = stage.phones[&customer].reports.len();
    while stage.phones[&customer].reports.len() == before {
        stage.run(100);
    }
    let last = reports(&stage, customer).pop().unwrap();
    let echoes = &block::<DLRRReportBlock>(extended(&last).unwrap()).unwrap().reports;
    assert_eq!((echoes[0].ssrc, echoes[0].last_rr), (9, 0x5678_9ABC));
    assert!(echoes[0].dlrr > 0 && echoes[0].dlrr < 8 << 16);
}

#[test]
fn what_the_far_end_tells_is_shown() {
    let mut stage = Stage::new(4);
    let customer = join(&mut stage, Role::Customer, 4000, Wish::ALL);
    join(&mut stage, Role::Agent, 4002, Wish::ALL);
    stage.run(1_000);
    assert_eq!(stage.view().legs[0].far_end, None, "it has told nothing");
    let ssrc = stage.phones[&customer].got[0].header.ssrc;
    let block = ReceptionReport { ssrc, fraction_lost: 64, jitter: 160, ..Default::default() };
    let summary = StatisticsSummaryReportBlock {
        loss_reports: true,
        jitter_reports: true,
        ssrc,
        lost_packets: 7,
        dup_packets: 5,
        mean_jitter: 80,
        max_jitter: 800,
        ..Default::default()
    };
    let metrics = VoIPMetricsReportBlock {
        ssrc,
        loss_rate: 64,
        discard_rate: 32,
        burst_duration: 160,
        jb_nominal: 60,
        mos_lq: 41,
        mos_cq: 127,
        ..Default::default()
    };
    let report = ReceiverReport { ssrc: 9, reports: vec![block], ..Default::default() };
    tell(&mut stage, customer, report, vec![Box::new(summary), Box::new(metrics)]);
    let view = serde_json::to_value(stage.view()).unwrap();
    let shown = &view["legs"][0]["far_end"];
    assert_eq!(
        (&shown["lost_percent"], &shown["jitter_ms"]),
        (&serde_json::json!(25.0), &serde_json::json!(20.0)),
        "{shown}"
    );
    let expected = serde_json::json!({"lost": 7, "duplicates": 0, "jitter_ms": 10.0, "most_jitter_ms": 100.0});
    assert_eq!(shown["summary"], expected, "it did not vouch for its duplicates");
    let metrics = &shown["metrics"];
    assert_eq!((&metrics["discarded_percent"], &metrics["burst_ms"]), (&12.5.into(), &160.into()), "{metrics}");
    assert_eq!((&metrics["buffer_ms"], &metrics["mos_conversing"]), (&60.into(), &serde_json::Value::Null));
    assert!((metrics["mos_listening"].as_f64().unwrap() - 4.1).abs() < 1e-6);
    assert!(view["legs"][1]["far_end"].is_null(), "the agent's end has told nothing");
}
