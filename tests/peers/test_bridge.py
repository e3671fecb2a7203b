#!/usr/bin/env python3
"""Somebody else's conference: dialled into with a PIN, whispered beside on a private line, left when nobody else is there; and the
hearing probe, which tells an honest telephone system from one that lies.

The conference is bridge.py: it mixes, and puts private lines through to baresip. Window by window, what the conference and the
private line hear is searched for what was said.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import audio
from baresip import Phone, free_ports
from bridge import Bridge
from sotto import PROGRAM, ROOT, TOKEN, Sotto

PIN, CODE, MODEL = "4711", "2580", ROOT / "fixtures/speech/ggml-fixture-q8_0.bin"
WHISPER = "Ask them for the name of their current supplier."
WHY = "a whisper cannot be private here: the agent is reached over a shared bridge, where everyone hears it"
HEARD = "what is said on the private line is heard in the conversation"


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        folder = pathlib.Path(folder)
        for name, check in CHECKS:
            (folder / name).mkdir()
            check(folder / name)
            print(f"ok {name}")
    return 0


def pin_by_every_way(folder):
    """Telephone events, tones and INFO; a wrong PIN is told, as are busy and unknown numbers."""
    port = free_ports(1)
    for way in ("rfc4733", "inband", "info"):
        with_bridge = Bridge(port, pin=PIN)
        server = Sotto(folder / way, "")
        try:
            call = dial(server, bridge=with_bridge.uri("room"), pin=f",{PIN}#", pause=0.3, keys=way)
            server.wait_for_event(call, "call.connected")
            assert set(with_bridge.how) == {way} and len(with_bridge.how) == len(PIN) + 1, (way, with_bridge.how)
            assert len(with_bridge.room()) == 1
            assert PIN not in json.dumps(server.events(call)), "the PIN is journalled nowhere"
            assert server.request("DELETE", f"/v1/calls/{call}")[0] == 204
            server.wait_for_event(call, "call.ended", reason="hung up through the API")
            wait(lambda: not with_bridge.room(), "the conference was not told")
            if way == "rfc4733":
                for order, reason in [
                    ({"bridge": with_bridge.uri("room"), "pin": "1#"}, "the conference hung up on the PIN: it is not the right one"),
                    ({"bridge": with_bridge.uri("busy")}, "called party busy"),
                    ({"bridge": with_bridge.uri("nobody")}, "called party unknown"),
                ]:
                    server.wait_for_event(dial(server, **order), "call.ended", reason=reason)
                refused_by_the_api(server, with_bridge)
        finally:
            assert server.stop() == 0, server.said()
            with_bridge.stop()


def refused_by_the_api(server, bridge):
    room = bridge.uri("room")
    for order, code in [
        ({}, "whom"),
        ({"bridge": "room"}, "no_address"),
        ({"bridge": "sip:room@192.0.2.1"}, "no_trunk"),
        ({"bridge": room, "trunk": "other"}, "no_such_trunk"),
        ({"bridge": room, "pin": "12x"}, "bad_value"),
        ({"bridge": room, "mode": "whisper"}, "not_private"),
        ({"bridge": room, "customer": room}, "whom"),
        ({"bridge": room, "playbook": "none"}, "no_such_playbook"),
        ({"customer": room, "agent": room, "pin": "1"}, "bad_value"),
    ]:
        status, problem = server.request("POST", "/v1/calls", order)
        assert status >= 400 and problem["code"] == code, (order, status, problem)


def left_when_alone(folder):
    """By silence alone, and by what the conference tells of who is there (RFC 4575)."""
    speaker = folder / "guest"
    speaker.mkdir()
    audio.write(speaker / "source.wav", audio.tone(440, 120))
    for focus in (False, True):
        bridge = Bridge(free_ports(1), focus=focus)
        server = Sotto(folder / str(focus), "")
        guest = Phone(speaker, "guest", dial=bridge.uri("room"))
        try:
            guest.wait_for(guest.CONNECTED)
            call = dial(server, bridge=bridge.uri("room"), alone=3, announce="This conference is coached.")
            server.wait_for_event(call, "call.connected")
            said = server.wait_for_event(call, "clip.ended")
            assert said, "it announces itself"
            found, likeness = audio.find(audio.without_tone(heard(bridge), 440), audio.speech("This conference is coached."))
            assert likeness > 0.5, f"the announcement is heard in the conference: {likeness:.2f} at {found:.1f} s"
            if focus:
                there = server.wait_for_event(call, "conference.changed", count=2)["data"]["people"]
                assert any("guest" in person["entity"] for person in there), there
                assert server.request("GET", f"/v1/calls/{call}")[1]["conference"]["count"] == 2
            time.sleep(4)
            assert len(bridge.room()) == 2, "it stays while somebody is there"
            guest.hang_up()
            why = "nobody else is in the conference" if focus else "nothing is heard in the conference"
            server.wait_for_event(call, "call.ended", reason=why)
            if focus:
                assert [e for e in server.events(call) if e["type"] == "sotto.conference.changed" and e["data"]["count"] == 1]
            wait(lambda: not bridge.room(), "it says BYE")
        finally:
            guest.hang_up()
            assert server.stop() == 0, server.said()
            bridge.stop()


def whispered_on_the_private_line(folder):
    """Refused with the reason in the conference alone; with the private line, once its code is keyed in there, heard on it alone."""
    ear, guest, bridge, server, call = beside_a_conference(folder)
    try:
        refuses(server, call, "the agent's private line is not verified")
        asked(server, call, 1)
        for key in "1111":
            ear.press(key)
        server.wait_for_event(call, "earpiece.refused", reason="the code that was keyed in is not the one")
        refuses(server, call, "the agent's private line is not verified")
        asked(server, call, 2)
        for key in CODE:
            ear.press(key)
        server.wait_for_event(call, "earpiece.verified")
        assert server.request("POST", f"/v1/calls/{call}/whisper")[0] == 200
        status, _ = server.request("POST", f"/v1/calls/{call}/say", {"text": WHISPER})
        assert status == 202
        wait(lambda: any(e["type"] == "sotto.clip.started" and e["data"]["text"] == WHISPER for e in server.events(call)), "no whisper", 30)
        time.sleep(5)
        assert not any(CODE in json.dumps(event) for event in server.events(call)), "the code is journalled nowhere"
        legs = {leg["role"]: leg for leg in server.request("GET", f"/v1/calls/{call}")[1]["legs"]}
        assert legs["earpiece"]["place"] == "in_conversation" and legs["bridge"]["place"] == "in_conversation"
        ear.hang_up()
        server.wait_for_event(call, "leg.left", role="earpiece")
        assert server.request("POST", f"/v1/calls/{call}/spy")[0] == 200
        refuses(server, call, WHY)
        whisper = audio.speech(WHISPER)
        _, on_the_line = audio.find(audio.read_narrow(ear.recording()), whisper)
        _, in_the_room = audio.find(heard(bridge), whisper)
        assert on_the_line > 0.8 and in_the_room < 0.15, (on_the_line, in_the_room)
        print(f"the whisper: {on_the_line:.2f} on the private line, {in_the_room:.2f} in the conference")
    finally:
        over(server, bridge, ear, guest)


def asked(server, call, times):
    """Waits until the private line was asked for its code so often."""
    wait(lambda: sum(e["type"] == "sotto.clip.started" for e in server.events(call)) >= times, "it is not asked for its code", 30)


def a_private_line_that_others_hear(folder):
    """A telephone system that plays the private line to the conference is found out before anything is whispered there."""
    ear, guest, bridge, server, call = beside_a_conference(folder, lies=True)
    try:
        server.wait_for_event(call, "earpiece.refused", seconds=30, reason=HEARD)
        for key in CODE:
            ear.press(key)
        server.wait_for_event(call, "leg.left", role="earpiece")
        refuses(server, call, WHY)
        assert not [e for e in server.events(call) if e["type"] == "sotto.earpiece.verified"]
    finally:
        over(server, bridge, ear, guest)


def beside_a_conference(folder, lies=False):
    (folder / "guest").mkdir()
    (folder / "ear").mkdir()
    audio.write(folder / "guest" / "source.wav", audio.tone(440, 180, level=0.05))
    audio.write(folder / "ear" / "source.wav", audio.tone(700, 180, level=0.001))
    ear = Phone(folder / "ear", "ear")
    ear.wait_for(ear.READY)
    bridge = Bridge(free_ports(1), pin=PIN, routes={"ear": ear.uri}, lies=lies)
    server = Sotto(folder / "sotto", "")
    call = dial(server, bridge=bridge.uri("room"), pin=f"{PIN}#", earpiece={"to": bridge.uri("ear"), "code": CODE})
    server.wait_for_event(call, "call.connected")
    guest = None
    server.wait_for_event(call, "leg.joined", role="earpiece")
    return ear, guest, bridge, server, call


def over(server, bridge, *phones):
    for phone in phones:
        if phone:
            phone.hang_up()
    assert server.stop() == 0, server.said()
    bridge.stop()


def refuses(server, call, why):
    status, problem = server.request("POST", f"/v1/calls/{call}/whisper")
    assert status == 409 and problem["code"] == "not_private" and why in problem["detail"], (status, problem)


def both_are_called(folder):
    """POST {customer, agent}: both hear each other, and whoever hangs up ends it."""
    phones = {}
    for user, hz in (("customer", 440), ("agent", 700)):
        (folder / user).mkdir()
        audio.write(folder / user / "source.wav", audio.tone(hz, 120))
        phones[user] = Phone(folder / user, user)
        phones[user].wait_for(phones[user].READY)
    server = Sotto(folder / "sotto", "")
    try:
        call = dial(server, customer=phones["customer"].uri, agent=phones["agent"].uri)
        server.wait_for_event(call, "call.connected")
        assert server.request("POST", f"/v1/calls/{call}/whisper")[0] == 200
        time.sleep(5)
        phones["customer"].hang_up()
        server.wait_for_event(call, "call.ended", reason="customer hung up")
        phones["agent"].wait_for(phones["agent"].ENDED)
        phones["agent"].hang_up()
        for user, hz, other in (("customer", 700, 440), ("agent", 440, 700)):
            levels = audio.heard_tone(audio.read_narrow(phones[user].recording())[-24000:-4000], hz)
            assert audio.steady(levels) > 0.1, (user, levels)
            assert max(audio.heard_tone(audio.read_narrow(phones[user].recording())[-24000:-4000], other)) < 0.02, user
    finally:
        over(server, Nothing(), *phones.values())


class Nothing:
    def stop(self):
        pass


def dialled_by_hand(folder):
    """sotto dial: 0 and the call's name, 1 with the reason, 2 for wrong usage."""
    bridge = Bridge(free_ports(1), pin=PIN)
    server = Sotto(folder / "sotto", "")
    try:
        token = folder / "token"
        token.write_text(TOKEN + "\n")
        where = ["--url", f"http://127.0.0.1:{server.http}", "--token-file", str(token)]
        good = sotto("dial", bridge.uri("room"), "--pin", f"{PIN}#", "--json", *where)
        call = json.loads(good.stdout)
        assert good.returncode == 0 and call["state"] == "connected" and call["legs"][0]["role"] == "bridge", good
        wrong = sotto("dial", bridge.uri("room"), "--pin", "1#", *where)
        assert wrong.returncode == 1 and "hung up on the PIN" in wrong.stderr, wrong
        private = sotto("dial", bridge.uri("room"), "--mode", "whisper", *where)
        assert private.returncode == 1 and "everyone hears everything" in private.stderr, private
        assert sotto("dial", *where).returncode == 2
        assert sotto("dial", "--customer", bridge.uri("room"), *where).returncode == 2
        assert "Examples:" in sotto("dial", "--help").stdout
    finally:
        over(server, bridge)


def probed(folder):
    """The probe proves an honest telephone system, finds out one that lies, and proven_only keeps to its verdict."""
    for name, lies in (("honest", False), ("lies", True)):
        phones = free_ports(2)
        bridge = Bridge(free_ports(1), pin=PIN, lies=lies, routes={"ear": f"sip:ear@127.0.0.1:{phones}"})
        server = Sotto(folder / name, "", trunk="proven_only = true\n")
        earpiece = {"to": bridge.uri("ear"), "code": CODE}
        try:
            unproven(server, bridge, "never probed")
            ran = sotto("probe", "--trunk", "tests", "--bridge", bridge.uri("room"), "--pin", f"{PIN}#", "--earpiece", earpiece["to"],
                        "--phones", f"127.0.0.1:{phones}", "--json", "--config", str(folder / name / "sotto.toml"))
            assert ran.stdout, ran
            report = json.loads(ran.stdout)
            print(json.dumps({key: report[key] for key in ("modes", "refused", "overheard")}))
            for cell in report["cells"]:
                print(" ", cell["mode"], cell["from"], "->", cell["to"], cell["heard"], cell["delay_ms"], "" if cell["heard"] == cell["should"] else "WRONG")
            if lies:
                assert ran.returncode == 1 and "whisper" not in report["modes"] and report["overheard"] == ["customer"], report
                unproven(server, bridge, "has not proven")
            else:
                assert ran.returncode == 0 and report["modes"] == ["spy", "whisper", "barge"] and not report["overheard"], report
                call = dial(server, bridge=bridge.uri("room"), pin=f"{PIN}#")
                server.wait_for_event(call, "call.connected")
                assert server.request("POST", f"/v1/calls/{call}/barge")[0] == 200
        finally:
            over(server, bridge)


def unproven(server, bridge, why):
    call = dial(server, bridge=bridge.uri("room"), pin=f"{PIN}#")
    server.wait_for_event(call, "call.connected")
    status, problem = server.request("POST", f"/v1/calls/{call}/whisper")
    assert status == 409 and problem["code"] == "unproven" and why in problem["detail"], (status, problem)
    server.request("DELETE", f"/v1/calls/{call}")
    server.wait_for_event(call, "call.ended")
    wait(lambda: not bridge.room(), "the conference was not told")


def sotto(*arguments):
    return subprocess.run([str(PROGRAM), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=180)


def dial(server, **order):
    status, call = server.request("POST", "/v1/calls", order)
    assert status == 202, (status, call)
    # Events are published at once and committed a moment later.
    wait(lambda: isinstance(server.request("GET", f"/v1/calls/{call['id']}/events")[1], list) and server.events(call["id"]), "the call is not journalled")
    return call["id"]


def heard(bridge):
    """All that was said in the conference."""
    return audio.np.concatenate(list(bridge.heard)) / 32768


def wait(so, otherwise, seconds=10):
    until = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < until, otherwise
        time.sleep(0.05)


CHECKS = [
    ("pin", pin_by_every_way),
    ("alone", left_when_alone),
    ("private", whispered_on_the_private_line),
    ("overheard", a_private_line_that_others_hear),
    ("both", both_are_called),
    ("dial", dialled_by_hand),
    ("probe", probed),
]
if __name__ == "__main__":
    wanted = sys.argv[1:]
    CHECKS = [check for check in CHECKS if not wanted or check[0] in wanted]
    sys.exit(main())
