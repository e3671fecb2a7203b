//! DESIGN §2 by tones for every combination of four codecs on three legs, with SRTP and without; what a clip says in any
//! of them; and where both ends have more than a telephone's band, all of it arrives.

mod support;

use sotto::call::sdp::{Keyring, Keys, Suite};
use sotto::call::{Audience, ClipSpec, Command, Port, Sound, Speaker};
use sotto::event::{Mode, Place, Role};
use sotto::id::LegId;
use sotto::io::srtp::{GROWTH, Session};
use sotto::media::codec::Codec;
use sotto::media::pcm::Rate;
use support::{Stage, Wire, tones};

const CODECS: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];
const TONES: [f64; 3] = [400.0, 850.0, 1450.0];
/// Above what 8 kHz can hold.
const HIGH: f64 = 5500.0;
const CLIP: f64 = 2500.0;

fn join(stage: &mut Stage, role: Role, hz: f64, codec: Codec) -> LegId {
    let leg = stage.join_as(role, Place::InConversation, Mode::Spy, codec);
    stage.phone(leg).sound = tones::tone_at(hz, codec.rate());
    leg
}

fn hears(stage: &Stage, leg: LegId, hz: f64) -> bool {
    tones::hears_at(&stage.sounds(leg, 300), hz, stage.phones[&leg].media.codec.rate())
}

/// SRTP between a phone and its leg: both ends of it.
struct Sealed {
    phone: Session,
    leg: Session,
}

impl Sealed {
    fn new(suite: Suite) -> Sealed {
        let mut octet = 0;
        let [ours, theirs] = [(); 2].map(|()| {
            octet += 1;
            Keyring::new(|| [octet; 44]).key(suite)
        });
        let (phone, leg) = (Keys { ours: theirs, theirs: ours }, Keys { ours, theirs });
        Sealed { phone: Session::new(phone), leg: Session::new(leg) }
    }
}

/// Sealed by one, opened by the other; between them nobody could hear anything.
fn through(from: &mut Session, to: &mut Session, packet: &[u8]) -> Option<Vec<u8>> {
    let mut wire = [packet, &[0; GROWTH]].concat();
    let length = from.seal(Port::Rtp, &mut wire, packet.len())?;
    wire.truncate(length);
    assert_ne!(wire[12..packet.len()], packet[12..], "what is on the wire is encrypted");
    let length = to.open(Port::Rtp, &mut wire)?;
    wire.truncate(length);
    Some(wire)
}

impl Wire for Sealed {
    fn to_call(&mut self, packet: Vec<u8>) -> Option<Vec<u8>> {
        through(&mut self.phone, &mut self.leg, &packet)
    }
    fn to_phone(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        through(&mut self.leg, &mut self.phone, packet)
    }
}

/// Customer, agent and supervisor; who hears whom in spy, whisper and barge.
#[test]
fn the_table_holds_in_every_combination() {
    the_table_holds([None; 3]);
}

/// The same with SRTP on every leg, each with another suite, and on the customer's alone.
#[test]
fn the_table_holds_with_srtp() {
    the_table_holds([Some(Suite::Counter80), Some(Suite::Gcm128), Some(Suite::Counter32)]);
}

#[test]
fn the_table_holds_with_srtp_on_one_side() {
    the_table_holds([Some(Suite::Gcm256), None, None]);
}

fn the_table_holds(suites: [Option<Suite>; 3]) {
    // Rows: listeners. Columns: customer, agent, supervisor.
    let table =
        |mode: Mode| [[false, true, mode == Mode::Barge], [true, false, mode != Mode::Spy], [true, true, false]];
    for customer in CODECS {
        for agent in CODECS {
            for supervisor in CODECS {
                let mut stage = Stage::new(1);
                let roles = [(Role::Customer, customer), (Role::Agent, agent), (Role::Supervisor, supervisor)];
                let mut tones = TONES.into_iter();
                let legs = roles.map(|(role, codec)| join(&mut stage, role, tones.next().unwrap(), codec));
                for (leg, suite) in legs.iter().zip(suites) {
                    stage.phone(*leg).wire = suite.map(|suite| Box::new(Sealed::new(suite)) as Box<dyn Wire>);
                }
                for mode in [Mode::Spy, Mode::Whisper, Mode::Barge] {
                    stage.set_mode(Speaker::Leg(legs[2]), mode).unwrap();
                    stage.run(700);
                    for (listener, row) in legs.iter().zip(table(mode)) {
                        let heard = TONES.map(|hz| hears(&stage, *listener, hz));
                        assert_eq!(heard, row, "{listener} of {customer:?} {agent:?} {supervisor:?} in {mode:?}");
                    }
                }
            }
        }
    }
}

/// A whisper over each codec from each: the agent hears it beside the customer, the customer does not.
#[test]
fn a_clip_is_heard_by_its_audience_in_every_pair() {
    for customer in CODECS {
        for agent in CODECS {
            let mut stage = Stage::new(2);
            let c = join(&mut stage, Role::Customer, TONES[0], customer);
            let a = join(&mut stage, Role::Agent, TONES[1], agent);
            stage.run(500);
            stage.play(tones::beep(CLIP, 900), Audience::Own(Mode::Whisper)).unwrap();
            stage.run(700);
            let heard = |leg| [TONES[0], TONES[1], CLIP].map(|hz| hears(&stage, leg, hz));
            assert_eq!((heard(c), heard(a)), ([false, true, false], [true, false, true]), "{customer:?} {agent:?}");
            stage.run(700);
            assert_eq!(stage.told("clip.ended").len(), 1);
            assert!(!hears(&stage, a, CLIP));
        }
    }
}

/// Relay, overlay of a change of codec, and mix: what lies above 4 kHz arrives wherever both ends can have it.
#[test]
fn wideband_stays_wideband() {
    for customer in [Codec::G722, Codec::Opus, Codec::L16] {
        for agent in [Codec::G722, Codec::Opus, Codec::L16] {
            let mut stage = Stage::new(3);
            let c = join(&mut stage, Role::Customer, TONES[0], customer);
            let a = join(&mut stage, Role::Agent, HIGH, agent);
            let s = join(&mut stage, Role::Supervisor, TONES[2], Codec::Opus);
            stage.run(700);
            assert!(
                hears(&stage, c, HIGH) && hears(&stage, s, HIGH),
                "{customer:?} {agent:?} on arrival and in the mix"
            );
            stage.set_mode(Speaker::Leg(s), Mode::Barge).unwrap();
            stage.run(800);
            assert!(hears(&stage, c, HIGH) && hears(&stage, c, TONES[2]), "{customer:?} {agent:?} mixed");
            let recorded = stage.recorded.iter().rev().take(10).rev();
            let right: Vec<i16> = recorded.flat_map(|r| r.agent.clone()).collect();
            assert_eq!(stage.recorded[0].rate, customer.rate());
            assert!(tones::hears_at(&right, HIGH, customer.rate()), "and in the recording");
            let ears: Vec<i16> =
                stage.heard[&a].iter().rev().take(10).rev().flat_map(|(_, pcm, _)| pcm.clone()).collect();
            assert!(tones::hears_at(&ears, HIGH, Rate::Wide), "and in the ears");
        }
    }
}

/// A whisper made at 16 kHz is heard as such.
#[test]
fn a_wideband_whisper_is_one() {
    for (agent, wide) in [(Codec::Pcma, false), (Codec::G722, true), (Codec::Opus, true), (Codec::L16, true)] {
        let mut stage = Stage::new(4);
        join(&mut stage, Role::Customer, TONES[0], Codec::Pcmu);
        let a = join(&mut stage, Role::Agent, TONES[1], agent);
        stage.run(300);
        let mut tone = tones::tone_at(HIGH, Rate::Wide);
        let pcm: Vec<i16> = (0..16_000).map(&mut *tone).collect();
        let pcm = Sound::new(&pcm, 16_000).unwrap();
        let audience = Audience::Own(Mode::Whisper);
        stage.command(Command::Play(ClipSpec { pcm, audience, looped: false, text: None })).unwrap();
        stage.run(600);
        assert_eq!(wide && hears(&stage, a, HIGH), wide, "{agent:?}");
    }
}
