#!/usr/bin/env python3
"""The tests of the hearing rule, tested: break the rule in one named way at a time, and see that a test notices.

Copies the tree to a scratch folder, applies one textual mutant there, builds and runs the tests named for it, puts the
file back. Only the core is copied, so that a mutant costs seconds. A mutant that no longer applies, does not compile,
or survives makes the script exit 1.

    tests/mutants.py [--scratch DIR] [--commands N] [NAME...]
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROPERTY = ["--test", "no_whisper_leaks"]


def lib(name):
    return ["--lib", name]


def test(name):
    return ["--test", name]


MODE = "src/call/mode.rs"
ENGINE = "src/call/engine.rs"
BESIDE = "src/call/beside.rs"
ALONGSIDE = "src/media/alongside.rs"
COMMANDS = "src/call/commands.rs"
PACKETS = "src/call/packets.rs"
TICKS = "src/call/ticks.rs"
KEYS = "src/call/keys.rs"
CLIP = "src/call/clip.rs"
LEG = "src/call/leg.rs"
JITTER = "src/media/jitter.rs"
PERMISSION = "src/call/permission.rs"
PLC = "src/media/plc.rs"
SHIFT = "src/media/shift.rs"
VOICE = "src/call/voice.rs"
LINE = "src/call/line.rs"
SENDER = "src/media/sender.rs"
OVERLAY = "src/media/overlay.rs"

# name, file, what is there, what is put there, the test that is to notice
MUTANTS = []


def mutant(name, file, old, new, catcher=PROPERTY):
    MUTANTS.append((name, file, old, new, catcher))


def cells():
    """Each cell of the table of voices, flipped for one listener and one source."""
    head = "        (_, Earpiece) => false,\n"
    roles = ["Customer", "Agent", "Supervisor", "Bridge", "Earpiece"]
    for listener in roles:
        for source in ["Customer", "Agent", "Bridge"]:
            to = "true" if listener == "Earpiece" else "false"
            # Where the cell says yes, losing a voice; where it says no, letting one in.
            mutant(f"cell: {listener.lower()} hears {source.lower()}", MODE, head,
                   f"        ({listener}, {source}) => {to},\n{head}")
        for mode in ["Spy", "Whisper", "Barge"]:
            heard = {
                "Customer": mode == "Barge",
                "Bridge": mode == "Barge",
                "Agent": mode != "Spy",
                "Supervisor": mode != "Spy",
                "Earpiece": mode == "Whisper",
            }[listener]
            to = "false" if heard else "true"
            mutant(f"cell: {listener.lower()} hears supervisor in {mode.lower()}", MODE, head,
                   f"        ({listener}, Supervisor) if mode == Mode::{mode} => {to},\n{head}")
        mutant(f"cell: {listener.lower()} hears earpiece", MODE, head, f"        ({listener}, Earpiece) => true,\n{head}")


cells()

# ---- permission
PERMITTED = lib("call::permission")
mutant("a party aside is recorded", PERMISSION, "    takes_part\n", "    (takes_part || true)\n", PERMITTED)
mutant("a supervisor is recorded", PERMISSION, "Purpose::Recording => is_party &&", "Purpose::Recording =>", PERMITTED)
mutant("a bridge is transcribed", PERMISSION, "Purpose::Transcribing => is_party &&", "Purpose::Transcribing =>", PERMITTED)
mutant("what is not permitted is heard", PERMISSION, "Purpose::Listening => permits.listening", "Purpose::Listening => true", PERMITTED)
mutant("recording without asking", TICKS, "voice_of(leg, (at, rate), Purpose::Recording, permits, &self.pause);", "(leg.voice.at(Ear::Tap, rate).0, Made::Silent);", test("recording_obeys_the_rule"))

mutant("a leg by itself is recorded without asking", TICKS, "self.outbox.record_leg(leg.id(), at, rate, voice);", "self.outbox.record_leg(leg.id(), at, rate, leg.voice.at(Ear::Tap, rate).0);", test("recording_obeys_the_rule"))
mutant("a pause is recorded leg by leg", TICKS, "self.outbox.record_leg(leg.id(), at, rate, voice);", "self.outbox.record_leg(leg.id(), at, rate, leg.voice.at(Ear::Tap, rate).0);", test("a_pause_is_nowhere"))

# ---- the rest of the rule
mutant("a leg hears itself", MODE, "listener.leg != party.leg\n", "(listener.leg != party.leg || true)\n")
mutant("a listener aside hears voices", MODE, "(Place::Playing | Place::Aside, _) => false,", "(Place::Playing | Place::Aside, _) => true,")
mutant("a line that plays hears voices", MODE, "| (Place::Playing | Place::Aside, _) => false,", "| (Place::Aside, _) => false,\n        (Place::Playing, _) => true,", lib("call::mode"))
mutant("a supervisor on hold is heard playing", MODE, "Role::Supervisor | Role::Earpiece => false,\n    };", "Role::Supervisor | Role::Earpiece => true,\n    };", lib("call::mode"))
mutant("who is not answered is heard", MODE, "(_, Place::Waiting | Place::Aside) => false,", "(_, Place::Aside) => false,\n        (_, Place::Waiting) => true,", lib("call::mode"))
mutant("a source aside is heard", MODE, "(_, Place::Waiting | Place::Aside) => false,", "(_, Place::Waiting) => false,\n        (_, Place::Aside) => true,")
mutant("a clip is heard by all", MODE, "audience.contains(&listener.leg)", "audience.contains(&listener.leg) || true", lib("call::mode"))
mutant("the coach reaches those aside", MODE, "    listener.place == Place::InConversation\n        && match mode", "    (listener.place == Place::InConversation || true)\n        && match mode")
mutant("the coach's whisper reaches customers", MODE, "Role::Agent | Role::Earpiece | Role::Supervisor)", "Role::Agent | Role::Earpiece | Role::Supervisor | Role::Customer)")
mutant("the coach's whisper reaches bridges", MODE, "Role::Agent | Role::Earpiece | Role::Supervisor)", "Role::Agent | Role::Earpiece | Role::Supervisor | Role::Bridge)")
mutant("the coach's whisper misses agents", MODE, "Role::Agent | Role::Earpiece | Role::Supervisor)", "Role::Earpiece | Role::Supervisor)")
mutant("the coach's barge reaches earpieces", MODE, "Mode::Barge => listener.role != Role::Earpiece,", "Mode::Barge => true,")
mutant("the coach in spy is heard", MODE, "            Mode::Spy => false,", "            Mode::Spy => true,")

# ---- a clip keeps its audience
JOIN = """        for at in 0..8 {
            if let Some(c) = self.clips.get(at).filter(|c| c.begun() && !c.audience().contains(&id)) {
                let mut audience = c.audience().to_vec();
                audience.push(id);
                self.clips.begin(at, audience);
            }
        }
"""
mutant("who joins hears clips begun", COMMANDS, "        let joined = What::LegJoined", JOIN + "        let joined = What::LegJoined")
mutant("a wider mode widens clips begun", COMMANDS, "        self.narrow_clips(mode);\n",
       "        self.narrow_clips(mode);\n        let ids: Vec<LegId> = self.legs.iter().filter(|l| mode::coach_reaches(l.party, mode)).map(|l| l.id()).collect();\n        for id in ids {\n" + JOIN + "        }\n")
mutant("a changed role joins clips begun", COMMANDS, "        self.clips.lose(id, |_| true);\n        self.changed(at, \"role\");", JOIN + "        self.changed(at, \"role\");")
mutant("a changed role keeps its clips", COMMANDS, "        self.clips.lose(id, |_| true);\n        self.changed(at, \"role\");", "        self.changed(at, \"role\");")
mutant("a changed far end keeps its clips", COMMANDS, "        self.clips.lose(id, |_| true);\n        self.changed(at, \"far_end\");", "        self.changed(at, \"far_end\");")
mutant("a changed far end gets what waited", COMMANDS, "        leg.line.forget();\n", "", test("a_clip_keeps_its_audience"))
NOBODY_WAITS = test("under_a_whisper_nobody_waits")
mutant("a voice beside keeps no mode", BESIDE, "if !was_for(listener, self.party, joined)", "if false", lib("call::beside"))
mutant("a voice beside outlives its permission", ENGINE, "self.legs.iter().any(|s| heard(s) && b.fits(s.party, s.media.codec, rate))", "self.legs.iter().any(|s| b.source() == s.id())")
mutant("what is late is made up of another mode", ALONGSIDE, "if !even || marks != self.marks {", "if !even {", lib("media::alongside"))
mutant("what came before is heard too", ALONGSIDE, ".filter(|newest| newest.came >= self.since)", "", lib("media::alongside"))
mutant("a supervisor's silence changes bytes", BESIDE, " || pcm.iter().all(|s| s.saturating_abs() < SILENT)", "", NOBODY_WAITS)
mutant("a whispered call waits for the clock", ENGINE, "        let party = heard(false).next().is_some();\n        if party && is_beside(listener) && heard(true)", "        let party = heard(false).next().is_some();\n        if party && heard(true)", NOBODY_WAITS)
mutant("what is to spare is kept for ever", ALONGSIDE, "let wanted = self.spare.least().min(self.now.max(0));", "let wanted = self.spare.least().min(0);", NOBODY_WAITS)
mutant("what is late is taken for silence", LEG, "const JITTERS: f32 = 3.0;", "const JITTERS: f32 = 0.0;", NOBODY_WAITS)
mutant("a supervisor's whisper leaves the customer as loud", PACKETS, "                if party.role == Role::Agent {", "                if false {", test("a_call_is_kind_to_ears"))
mutant("a new SSRC is nobody new", LEG, "Some((kind, moved || arrival == Arrival::Stranger))", "Some((kind, moved))")
mutant("another address is nobody new", COMMANDS, "        if moved {\n            self.far_end_changed(at);\n            self.suspend(at);\n        }\n", "        let _ = moved;\n")
mutant("a silent change goes on being whispered to", COMMANDS, "if !self.legs[at].is_agreed(self.now) {", "if false {")
mutant("whoever may be anybody hears supervisors whisper", ENGINE, "mode::gain(listener.ear(), source).is_heard()", "mode::gain(listener.party, source).is_heard()")
mutant("whoever may be anybody is in the coach's audience", LEG, "Role::Agent if self.suspended => Party { role: Role::Customer, ..self.party },", "Role::Agent if self.suspended => self.party,")
mutant("whoever may be anybody is told what is theirs by name", ENGINE, "legs.contains(&listener.id()) && !listener.suspended,", "legs.contains(&listener.id()),")
mutant("who steps aside keeps the coach's clips", COMMANDS, "Place::Aside | Place::Playing | Place::Waiting => self.clips.lose(id, |clip| clip.by_mode()),", "Place::Aside | Place::Playing | Place::Waiting => {}")
mutant("who is gone keeps a clip alive", COMMANDS, "        self.clips.lose(leg.id(), |_| true);\n        self.tell(Some(leg.id()), What::LegLeft", "        self.tell(Some(leg.id()), What::LegLeft")
mutant("a narrower mode leaves clips be", COMMANDS, "        self.narrow_clips(mode);\n", "")
mutant("a clip begins over another", ENGINE, "            !self.clips.playing_to(l.party)\n                && !self.clips", "            !self.clips")
mutant("a clip overtakes", ENGINE, "&& !self.clips.iter().take(at).any(|c| !c.begun() && self.is_for(&c.spec.audience, l))", "", test("a_clip_keeps_its_audience"))
mutant("a clip's mode is looked at when asked for", ENGINE, "Audience::Mode => mode::coach_reaches(listener.ear(), self.given_mode()),", "Audience::Mode => mode::coach_reaches(listener.ear(), Mode::Barge),")
mutant("a clip loses a sample", CLIP, "            ear.position += now * step;\n", "            ear.position += (now + usize::from(ear.position == 480)) * step;\n")
mutant("a clip repeats a packet", CLIP, "            ear.position += now * step;\n", "            ear.position += step * if ear.position == 960 && ear.leg.0 % 2 == 1 { now / 2 } else { now };\n")
mutant("a clip ends before its last listener", CLIP, "self.ears.iter().all(|e| e.done)", "self.ears.iter().any(|e| e.done)")
mutant("a late packet carries clip", PACKETS, "let count = if stamp.late { 0 } else {", "let count = if false { 0 } else {", test("a_clip_keeps_its_audience"))

# ---- what is forked to us has no way back
FORKED = test("what_cannot_be_private_is_refused")
mutant("a forked leg is of a clip's audience", ENGINE, "        !listener.is_forked()\n            && match", "        true\n            && match", FORKED)
mutant("a forked leg counts as an agent to whisper to", ENGINE, "l.in_conversation() && !l.is_forked()", "l.in_conversation()", FORKED)
mutant("a barge into a forked call is let in", ENGINE, "if self.is_forked() { Err(Refusal::NoWayBack) } else { Ok(()) }", "Ok(())", FORKED)

# ---- modes
mutant("widening does not mute", COMMANDS, "if self.widens(party, from, mode) { self.now + MUTE }", "if false { self.now + MUTE }")
mutant("widening mutes too short", COMMANDS, "Samples::from_millis(200)", "Samples::from_millis(150)")
mutant("a muted supervisor is heard", LEG, "if now < self.muted_until { Mode::Spy } else { self.mode }", "self.mode")
mutant("a frame forgets its mode", BESIDE, ".filter(|m| marks & mark(*m) != 0)", ".filter(|_| false)", lib("call::ticks"))
mutant("what is made up forgets an older mark", PLC, "self.marks.add(joined, pcm.len(), self.past.len());", "self.marks = Marks { now: joined, ..Marks::default() };", lib("media::plc"))
mutant("what follows a gap forgets what is blended in", PLC, "joined |= self.blend_in(pcm);", "self.blend_in(pcm);", lib("media::plc"))
mutant("a step leads from one mark to another", SHIFT, "!line.is_even(from, length)", "line.run(from, length) < length", lib("media::shift"))
mutant("the buffer remembers what it forgot", JITTER, "        self.line.clear();\n", "", lib("media::jitter"))
mutant("concealment remembers what it forgot", JITTER, "        self.mix.forget();\n", "", lib("media::jitter"))
mutant("an ear makes up across a hole", "src/media/reader.rs", "None);\n            self.concealer.forget();\n", "None);\n", lib("media::jitter"))
mutant("what was forgotten delays", JITTER, "        self.arrivals.forget();\n", "", lib("media::jitter"))
mutant("silence is like sound", SHIFT, "        (true, false) | (false, true) => 0.0,\n        (false, false) =>", "        (true, false) | (false, true) | (false, false) =>", lib("media::plc"))
mutant("every frame is marked barge", PACKETS, "let mark = mark(leg.live_mode(now)) |", "let mark = mark(Mode::Barge) |", lib("call::ticks"))
mutant("routes are not decided anew after a mode", COMMANDS, "            self.announce_barge();\n        }\n        self.reroute();\n        let effective", "            self.announce_barge();\n        }\n        let effective")
mutant("a role's change keeps what was said before", COMMANDS, "        leg.party.role = role;\n        leg.voice.forget();", "        leg.party.role = role;")
mutant("what was said is kept while nobody may hear it", ENGINE, "                leg.voice.forget();\n", "", lib("call::ticks"))
mutant("a new supervisor keeps an old mode", COMMANDS, "        leg.set_mode(Mode::Spy, MediaTime::ZERO);\n", "")
mutant("the coach stays in its own mode", ENGINE, "            self.change_coach(Mode::Spy, Actor::Coach);\n", "", test("coach_returns_to_spy_after_the_last_sample"))
mutant("the coach returns while it speaks", ENGINE, "if self.borrowed && !self.clips.own_playing()", "if self.borrowed")
mutant("the coach returns from a person's mode", COMMANDS, "        self.borrowed = false;\n        self.change_coach(mode, by);", "        self.change_coach(mode, by);")
mutant("people speak in a borrowed mode", ENGINE, "if self.borrowed { Mode::Spy } else { self.mode }", "self.mode")
mutant("effective is a moment early", SENDER, "last.timestamp.wrapping_add(elapsed.max(last.samples))", "last.timestamp.wrapping_add(elapsed)", test("a_mode_change_is_atomic"))

# ---- what cannot be private
mutant("whisper to nobody is played", ENGINE, "            Mode::Whisper => self.whisper_is_private(),", "            Mode::Whisper => Ok(()),")
mutant("whisper over a bridge is private", ENGINE, "        if there(Role::Agent) ||", "        if there(Role::Bridge) || there(Role::Agent) ||")
mutant("an agent aside is there", ENGINE, "l.party.role == role && l.in_conversation() && !l.is_forked());\n        if there", "l.party.role == role);\n        if there")
mutant("spy is played", ENGINE, "            Mode::Spy => Err(Refusal::Spying),", "            Mode::Spy => Ok(()),")
mutant("a supervisor whispers into a bridge", COMMANDS, "        if mode == Mode::Whisper && from == Mode::Spy {\n            self.whisper_is_private()?;\n        }\n", "")
mutant("the coach is put into whisper anywhere", COMMANDS, "        if mode == Mode::Whisper && self.mode == Mode::Spy {\n            self.whisper_is_private()?;\n        }\n", "")

# ---- under a whisper
LEAKS = test("a_leak_is_found_and_stopped")
KIND = test("a_call_is_kind_to_ears")
mutant("a leak is hardly turned down", "src/media/leak.rs", "const LEFT: f32 = 0.01;", "const LEFT: f32 = 0.1;", LEAKS)
mutant("a leak that is over goes on", "src/media/leak.rs", "        self.search.forget();\n        self.release();\n", "        self.search.forget();\n", LEAKS)
mutant("a line that leaked is exposed again", "src/media/leak.rs", "        self.held |= self.profile.is_some();\n", "", LEAKS)
mutant("a canceller is trusted at once", "src/media/cancel/proof.rs", "const PIECES: usize = 200;", "const PIECES: usize = 20;", LEAKS)
mutant("one tone is an echo of another", "src/media/leak/search.rs", "const SMEARED: f32 = 1e-3;", "const SMEARED: f32 = 0.0;", LEAKS)
mutant("one frame is believed", "src/media/leak/memory.rs", "const AGREE: u32 = 4;", "const AGREE: u32 = 1;", lib("media::leak"))
mutant("a tone finds nothing", "src/call/watch.rs", "            self.measuring = now + ECHOES;\n", "", LEAKS)
mutant("a tone holds the line", "src/media/leak.rs", "        (self.profile, self.doubt) = (Some(Profile { lag }), 0);\n        Some(lag)", "        (self.profile, self.doubt, self.held) = (Some(Profile { lag }), 0, true);\n        Some(lag)", LEAKS)
mutant("a whisper's echo has 100 ms", "src/call/watch.rs", "const ECHOES: Samples = Samples::from_millis(800);", "const ECHOES: Samples = Samples::from_millis(100);", LEAKS)
mutant("silence ducks", "src/media/blend.rs", "if whisper.iter().any(|s| s.saturating_abs() >= SILENT)", "if !whisper.is_empty()", KIND)
mutant("a sum is clipped", "src/media/limit.rs", "        self.gain = recovering.min(knee(loud) / loud);", "        self.gain = recovering.min(1.0);", KIND)

# ---- closing
mutant("close cuts nothing", COMMANDS, "        self.cut_all(\"the coach has left\");\n", "")
mutant("close leaves the ears open", ENGINE, "self.options.listen && !self.closed", "self.options.listen")
mutant("close goes on recording", TICKS, "self.options.record && !self.closed &&", "self.options.record &&")
mutant("the coach is played after close", COMMANDS, "    fn play(&mut self, spec: ClipSpec) -> Result<Ack, Refusal> {\n        if self.closed {", "    fn play(&mut self, spec: ClipSpec) -> Result<Ack, Refusal> {\n        if false {")

# ---- packets and recordings
mutant("the customer's channel gets the agent's clips", PACKETS, "[Role::Customer, Role::Agent]) {", "[Role::Agent, Role::Agent]) {")
mutant("sides are swapped", TICKS, "in [Role::Customer, Role::Agent].into_iter().zip(tracks)", "in [Role::Agent, Role::Customer].into_iter().zip(tracks)")
mutant("a resampled frame forgets the mode of the one before", VOICE, "self.marks = frame.marks | self.before;", "self.marks = frame.marks;", lib("call::voice"))
mutant("a resampler remembers what is forgotten", VOICE, "        self.copies.iter_mut().flatten().for_each(|c| c.forget());\n", "", lib("call::voice"))
mutant("a passing packet's resampler remembers", VOICE, "        self.passing.iter_mut().flatten().for_each(|r| r.reset());\n", "", lib("call::voice"))
mutant("a decoder remembers what is forgotten", VOICE, "            decoder.reset();\n", "", lib("call::voice"))
mutant("what was gathered leaves after the command", ENGINE, "        self.flush_all();\n        let ack", "        let ack", test("a_mode_change_is_atomic"))
mutant("a number is left out when a line comes back", PACKETS, "Path::Relay(_) | Path::Overlay(_) | Path::Mix => self.legs[to].sender.swallow(origin),", "Path::Relay(_) | Path::Overlay(_) | Path::Mix => {}", test("the_line_goes_on_through_every_change"))
mutant("pieces are stamped from one time", SENDER, "last.at + self.length(last.samples)", "last.at", lib("media::sender"))
mutant("a clip is laid under another codec's voice", PACKETS, "leg.blend.sample(*under, if n < count { *sample } else { 0 })", "if n < count { *sample } else { *under }", test("every_codec_keeps_the_table"))
mutant("relay transcodes", PACKETS, "|out| out.extend_from_slice(packet.payload)", "|out| out.extend(packet.payload.iter().map(|b| Law::Mu.encode(Law::Mu.decode(*b))))", test("customer_gets_the_agents_own_packets"))
mutant("silence is encoded anew", OVERLAY, "if from == to && heard == voice { *byte } else { to.encode(heard) }", "to.encode(heard)", test("customer_gets_the_agents_own_packets"))
mutant("a used number is sent again", SENDER, "i16::MIN..0 => return None,", "i16::MIN..0 => old,", lib("media::sender"))

# ---- who is listened to
LATCH = "src/media/latch.rs"
mutant("packets from anywhere count", LATCH, "if self.closed || !self", "if !self", lib("media::latch"))
mutant("who is first gets the stream", LATCH, "count >= ENOUGH && free", "count >= ENOUGH", lib("media::latch"))
mutant("a re-INVITE gives a phone's place away", LATCH, "self.closed = self.source == Some(named);", "self.closed = false;", lib("media::latch"))
mutant("reports from anywhere count", LEG, "&& from != self.target() && !translated", "&& false", test("a_call_lives_and_reports"))

# ---- consent
CONSENT = test("supervisors_keep_to_consent")
mutant("who needs consent is let in without it", "src/call/supervise.rs", "            (Consent::Unknown | Consent::Refused, Unagreed::Nothing) => None,", "            (Consent::Unknown | Consent::Refused, Unagreed::Nothing) => Some(self.may),", CONSENT)
mutant("a withdrawal is told and nothing else", "src/call/supervise.rs", "        supervisors.into_iter().for_each(|leg| self.keep_to_rights(leg));\n", "        drop(supervisors);\n", CONSENT)
mutant("a withdrawal narrows nobody", "src/call/supervise.rs", "            let _ = self.set_supervisor(leg, Mode::Spy, Actor::Guard);\n", "", CONSENT)

# ---- a supervisor's keys and volume
STEER = test("supervisors_steer_by_keys")
mutant("a supervisor's digit is passed on", PACKETS, "is_party(&self.legs[at]) && is_party(&self.legs[to])", "is_party(&self.legs[to])", STEER)
mutant("a key counts at every packet", KEYS, "<= LATE {", "> 0 && false {", STEER)
mutant("a late packet is another press", KEYS, "<= LATE {", "== 0 {", lib("call::keys"))
mutant("a key held long is pressed again", KEYS, "timestamp == last.timestamp.wrapping_add(SEGMENT)", "timestamp == last.timestamp", lib("call::keys"))
mutant("a key told both ways counts twice", KEYS, "        if told {\n            return false;\n        }\n", "        let _ = told;\n", STEER)
mutant("everyone's keys steer", LEG, "(self.steers() && self.keypad", "(self.keypad", STEER)
mutant("a refusal is heard by all", KEYS, "let audience = Audience::Legs(vec![leg]);", "let audience = Audience::Legs(self.legs.iter().map(|l| l.id()).chain([leg]).collect());", STEER)
mutant("a refused key says nothing", KEYS, "            self.say_no(id);\n", "", STEER)
mutant("a key changes another's mode", KEYS, "self.set_supervisor(id, mode, Actor::Person)", "self.set_supervisor(self.legs[self.legs.len() - 1].id(), mode, Actor::Person)", STEER)
mutant("a volume is another's", KEYS, "        self.legs[at].volume = volume;\n", "        let last = self.legs.len() - 1;\n        self.legs[last].volume = volume;\n", STEER)
mutant("a volume is everyone's", TICKS, "sum.fade(&mut leg.fader, leg.volume);", "sum.fade(&mut leg.fader, crate::media::volume::Volume::decibels(6).unwrap_or_default());", STEER)
mutant("a volume leaves relay be", ENGINE, "listener.can_be_sent_to() && listener.volume.is_unity()", "listener.can_be_sent_to()", STEER)
mutant("who leaves stays", KEYS, "                self.remove_leg(at, \"supervisor left\".into());\n", "", STEER)
mutant("a listener answers a call", COMMANDS, "l.party.role != Role::Supervisor && !matches!(l.place,", "!matches!(l.place,", STEER)
mutant("who joins may whisper anywhere", COMMANDS, "        if supervises && spec.mode == Mode::Whisper {", "        if false {")

mutant("music on hold is kept as what they said", COMMANDS, "            // What a line plays while its party holds is not to be kept as what they say when they are back.\n            leg.voice.forget();\n", "")

# ---- taking over, and the next call
TAKEN = test("supervisors_take_over")
SUPERVISE = "src/call/supervise.rs"
mutant("who takes over lets the tail of a whisper out", COMMANDS, "leg.mute(now + MUTE);", "leg.mute(now);")
mutant("who has just taken over is recorded at once", ENGINE, "self.allows(leg.live_party(self.now), p)", "self.allows(leg.party, p)")
mutant("who was taken over from stays", SUPERVISE, "        self.move_agents(&aside, Place::Aside);\n", "")
mutant("who was taken over from stays away", SUPERVISE, "        self.move_agents(&back, Place::InConversation);\n", "")
mutant("who leaves having taken over takes the agent along", COMMANDS, "        self.come_back(at);\n        self.send_report(at, true);\n", "        self.send_report(at, true);\n")
mutant("two take over", SUPERVISE, "if self.legs.iter().any(Leg::stands_in) {", "if false {")
mutant("whoever stands in dials with their keys", PACKETS, "=> !leg.stands_in(),", "=> true,", TAKEN)
mutant("the rules are asked and not heeded", SUPERVISE, "if allowed { Ok(()) } else", "if allowed || true { Ok(()) } else", TAKEN)
mutant("whoever may not takes over", SUPERVISE, "is_some_and(|s| !s.may.take_over)", "is_some_and(|_| false)", TAKEN)
mutant("a line begins anew in the next call", LEG, "        self.sender.resume(now, onward.line);\n", "", TAKEN)
mutant("the rest of a press counts in the next call", LEG, "        self.keypad = Keypad::resume(now, onward.held);\n", "", TAKEN)
mutant("anybody's key cuts what is told", SUPERVISE, "find(|c| c.told == Some(leg))", "find(|c| c.told.is_some())", TAKEN)

# ---- earpieces beside a bridge
PAIRING = "src/call/pairing.rs"
EARPIECE = test("an_earpiece_is_proven_before_it_hears")
mutant("any code proves an earpiece", PAIRING, "let right = pairing.keyed == code.0;", "let right = true;", EARPIECE)
mutant("a code may be tried again", PAIRING, "        let right = pairing.keyed == code.0;\n        pairing.code = None;\n", "        let right = pairing.keyed == code.0;\n", EARPIECE)
mutant("an earpiece that others hear is one", PAIRING, "let found = pairing.echo.hear(&told, &heard).is_some();", "let found = pairing.echo.hear(&told, &heard).is_some() && false;", EARPIECE)
mutant("another far end keeps the proof", COMMANDS, '        self.unpair(at, "somebody else may have answered there");\n', "", EARPIECE)
mutant("what was not proven is offered", "src/call/proven.rs", "Mode::Whisper => &proven.whisper,", "Mode::Whisper => &None,", EARPIECE)

# ---- reports
XR = "src/media/xr.rs"
mutant("who did not ask gets extended reports", LEG, "if self.media.shape.reports.any() {", "if true {", test("extended_reports_go_to_who_asked"))
mutant("what a far end tells of others is of us", XR, "Metrics::read(body).filter(|m| m.of == ours)", "Metrics::read(body)", lib("media::xr"))
mutant("a goodbye comes before the last report", LEG, "        if leaving {\n            rtcp::write_goodbye(sent.ssrc, out);\n        }\n    }\n", "    }\n", test("extended_reports_go_to_who_asked"))


# ---- SRTP
PROTECTED = lib("io::srtp")
STREAMS = "src/io/srtp/streams.rs"
CIPHER = "src/io/srtp/cipher.rs"
SDP_READ = "src/call/sdp/read.rs"
mutant("a packet is taken twice", STREAMS, "behind < WINDOW && self.seen & (1 << behind) == 0", "behind < WINDOW", PROTECTED)
mutant("a packet of long ago is taken", STREAMS, "behind < WINDOW && self.seen & (1 << behind) == 0", "behind >= WINDOW || self.seen & (1 << behind) == 0", PROTECTED)
mutant("a stream is forgotten for another", STREAMS, "None if full => return None,", "None if full => self.0[0] = Stream { ssrc, highest: index, seen: 1 },", PROTECTED)
mutant("a tag is not looked at", CIPHER, "authenticated(mac, place, head, body).verify_truncated_left(tag).ok()?;", "let _ = authenticated(mac, place, head, body).verify_truncated_left(tag);", PROTECTED)
mutant("what is forged moves the window", "src/io/srtp.rs", "        self.rtp.open(place, head, body, tag)?;\n", "        self.streams.count(ssrc, index)?;\n        self.rtp.open(place, head, body, tag)?;\n", PROTECTED)
mutant("a key that stays begins anew", "src/io/srtp.rs", "if keys.ours != self.keys.ours {", "if keys != self.keys || true {", PROTECTED)
mutant("a line without a key does where one is required", SDP_READ, "plain.filter(|_| srtp != Srtp::Required)", "plain", lib("call::sdp"))


# The core that the rule lives in, and what it is built with: everything else would be compiled for each mutant in vain.
# Of the shell, SRTP alone: it is as pure.
CORE = ["id", "time", "event", "media", "call"]
SRTP = "src/io/srtp"
CRATES = ["aes", "aes-gcm", "audio-codec", "base64", "ctr", "hmac", "hound", "memchr", "opus", "realfft", "rtc-rtcp", "rubato", "sdp-types", "serde", "serde_json", "sha1", "sonora", "thiserror", "uuid"]


def copy(scratch):
    for module in [*(f"src/{module}" for module in CORE), SRTP]:
        for path in [module, f"{module}.rs"]:
            if (ROOT / path).is_dir():
                shutil.copytree(ROOT / path, scratch / path, dirs_exist_ok=True)
            elif (ROOT / path).is_file():
                (scratch / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, scratch / path)
    (scratch / "src/io/mod.rs").write_text("pub mod srtp;\n")
    (scratch / "src/lib.rs").write_text("".join(f"pub mod {module};\n" for module in [*CORE, "io"]))
    wanted = {catcher[1] for *_, catcher in MUTANTS if catcher[0] == "--test"}
    (scratch / "tests").mkdir(exist_ok=True)
    for name in wanted:
        shutil.copy2(ROOT / f"tests/{name}.rs", scratch / "tests")
    shutil.copytree(ROOT / "tests/support", scratch / "tests/support", dirs_exist_ok=True)
    shutil.copy2(ROOT / "Cargo.lock", scratch)
    (scratch / "Cargo.toml").write_text(manifest())


def manifest():
    """Cargo.toml with the core's crates alone."""
    kept, section = [], ""
    for line in (ROOT / "Cargo.toml").read_text().splitlines():
        section = line if line.startswith("[") else section
        crate = re.match(r"([\w-]+) *=", line)
        if section == "[[bench]]":
            continue
        crates = section in ("[dependencies]", "[dev-dependencies]")
        if not (crates and crate and crate.group(1) not in CRATES):
            kept.append(line)
    return "\n".join(kept) + "\n"


def run(scratch, args, env):
    command = ["cargo", "test", "-q", "-j2", *args]
    return subprocess.run(command, cwd=scratch, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def verdict(scratch, args, env):
    build = run(scratch, ["--no-run", *args], env)
    if build.returncode:
        return "does not compile", build.stdout
    done = run(scratch, args, env)
    return ("survived" if done.returncode == 0 else "caught"), done.stdout


def first_complaint(output):
    found = re.search(r"panicked at [^\n]*\n([^\n]*)", output)
    return found.group(1)[:90] if found else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scratch", type=pathlib.Path)
    parser.add_argument("--commands", default="60000", help="commands of the property test for each mutant")
    parser.add_argument("names", nargs="*", help="only mutants whose names contain one of these")
    args = parser.parse_args()
    scratch = args.scratch or pathlib.Path(tempfile.mkdtemp(prefix="sotto-mutants-"))
    scratch.mkdir(parents=True, exist_ok=True)
    copy(scratch)
    env = dict(os.environ, SOTTO_COMMANDS=args.commands, SOTTO_SWITCHES=args.commands, RUST_BACKTRACE="0")
    env.setdefault("CARGO_TARGET_DIR", str(ROOT / "target/mutants"))
    chosen = [m for m in MUTANTS if not args.names or any(n in m[0] for n in args.names)]
    catchers = {tuple(m[4]) for m in chosen}
    for catcher in sorted(catchers):
        state, output = verdict(scratch, list(catcher), env)
        if state != "survived":
            sys.exit(f"without any mutant, {' '.join(catcher)} {'fails' if state == 'caught' else state}:\n{output[-3000:]}")
    bad = 0
    for name, file, old, new, catcher in chosen:
        path = scratch / file
        original = path.read_text()
        began = time.monotonic()
        if original.count(old) != 1:
            state, output = f"does not apply ({original.count(old)} places)", ""
        else:
            path.write_text(original.replace(old, new))
            state, output = verdict(scratch, catcher, env)
            path.write_text(original)
        bad += state != "caught"
        print(f"{state:10} {name:52} by {catcher[1]:42} {time.monotonic() - began:4.0f} s  {first_complaint(output)}", flush=True)
        if state == "does not compile":
            print(output[-1500:])
    print(f"{len(chosen)} mutants, {len(chosen) - bad} caught, {bad} not")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
