#!/usr/bin/env python3
"""Telephones transfer each other in the middle of a whisper: blind, from the customer's end and from the agent's, and
attended, by the telephones' own ways, directly and through Kamailio and rtpengine.

Each plays a tone of its own; what the coach whispers is speech. Who stays hears the tone of whoever came, who came hears who
stays, and nobody but the agent hears any of the whisper.
"""

import pathlib
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import audio
from baresip import Phone, free_ports
from linphone import Linphone
from proxy import Proxy
from sotto import Sotto
from test_hold import wait_for
from test_who_hears_whom import connected

# Who transfers; the makers of customer, agent and third; whether they have talked to the third before; and whether a proxy
# stands before the server.
CASES = [
    ("agent", (Phone, Phone, Linphone), False, False),
    ("agent", (Phone, Linphone, Phone), False, False),
    ("customer", (Phone, Phone, Phone), False, False),
    ("customer", (Linphone, Phone, Phone), False, False),
    ("agent", (Phone, Phone, Phone), False, True),
    # What a baresip hears after it was held is in no recording.
    ("agent", (Linphone, Linphone, Phone), True, False),
]
TONES = {"customer": 440, "agent": 700, "third": 1000}
LEVEL = 0.15
# Long enough to be heard at any time of the transfer.
WHISPER = "Ask them what they compare the price with, and tell them that the first month is free of charge if they sign today. " * 4
# A piece of the whisper is in what was heard if it is this much like it somewhere; tones alone stay well below.
PRESENT, ABSENT = 0.5, 0.3
TALK = 4.0
AT_ONCE = 1

ROUTES = """
[[route]]
called = '^desk$'
steps = [ {{connect = {{to = "{agent}"}}}} ]
[[route]]
called = '^third$'
steps = [ {{connect = {{to = "{third}"}}}} ]
"""


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(run, pathlib.Path(folder) / str(n), *case) for n, case in enumerate(CASES)]
        good = all([done.result() for done in runs])
    print("transferred" if good else "NOT transferred")
    return 0 if good else 1


def run(folder, by, makers, attended, proxied):
    folder.mkdir()
    makers = dict(zip(TONES, makers))
    for user, frequency in TONES.items():
        (folder / user).mkdir()
        audio.write(folder / user / "source.wav", audio.tone(frequency, 120, LEVEL))
    # An agent who asks back has two calls.
    here = {user: make(folder, makers, user, more="call_max_calls 2\n") for user in ("agent", "third")}
    others = []
    try:
        for phone in here.values():
            phone.wait_for(phone.READY)
        way = free_ports(1) if proxied else here["agent"].port
        server = Sotto(folder / "sotto", ROUTES.format(agent=f"sip:agent@127.0.0.1:{way}", third=here["third"].uri))
        others.append(server)
        if proxied:
            others.insert(0, Proxy(folder / "proxy", way, server.sip, here["agent"].uri))
        dial = f"sip:desk@127.0.0.1:{way if proxied else server.sip}"
        here["customer"] = makers["customer"](folder / "customer", "customer", dial=dial)
        call = connected(server)
        time.sleep(TALK)
        assert server.request("POST", f"/v1/calls/{call}/whisper")[0] == 200
        assert server.request("POST", f"/v1/calls/{call}/say", {"text": WHISPER})[0] == 202
        server.wait_for_event(call, "clip.started")
        time.sleep(2.0)
        transfer(server, here[by], attended)
        server.wait_for_event(call, "leg.left", reason="somebody else has their place")
        wait_for(lambda: here[by].ENDED in here[by].said(), f"{by} was never let go:\n{here[by].said()}")
        time.sleep(TALK)
        stays = "agent" if by == "customer" else "customer"
        roles = sorted(leg["role"] for leg in server.request("GET", f"/v1/calls/{call}")[1]["legs"])
        # Whoever takes the agent's place was called as an agent is; whoever takes the customer's is a customer.
        assert roles == ["agent", "customer"], roles
        for phone in here.values():
            phone.hang_up()
        assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
        heard = {who: audio.read_narrow(here[who].recording()) for who in (stays, "third")}
        return report((by, makers, attended, proxied), stays, heard, here["agent"])
    finally:
        for other in [*here.values(), *others]:
            (other.hang_up if other in here.values() else other.stop)()


def make(folder, makers, user, more):
    maker = makers[user]
    return maker(folder / user, user, more=more) if maker is Phone else maker(folder / user, user)


def transfer(server, phone, attended):
    """By what the telephone has for it."""
    to = f"sip:third@127.0.0.1:{server.sip}"
    if not attended:
        return phone.transfer(to)
    phone.ask_back(to)
    wait_for(lambda: sum(call["state"] == "connected" for call in server.calls()) == 2, "the third never answered")
    time.sleep(2.0)
    phone.join()


def report(case, stays, heard, agent):
    by, makers, attended, proxied = case
    names = ", ".join(f"{who}: {maker.__module__}" for who, maker in makers.items())
    last = slice(-int(2.5 * audio.RATE), -int(0.5 * audio.RATE))
    other = {stays: "third", "third": stays}
    hears = {who: audio.steady(audio.heard_tone(samples[last], TONES[other[who]])) / LEVEL for who, samples in heard.items()}
    # Its beginning: it is cut when the agent goes.
    piece = audio.speech(WHISPER)[: int(1.5 * audio.RATE)]
    heard["agent"] = audio.read_narrow(agent.recording())
    whisper = {who: audio.find(quiet(samples), piece)[1] for who, samples in heard.items()}
    # A linphone that holds begins its recording anew.
    told = {"agent"} - ({"agent"} if attended else set())
    private = all((likeness > PRESENT) if who in told else (likeness < ABSENT) for who, likeness in whisper.items())
    good = min(hears.values()) > 0.5 and private
    levels = ", ".join(f"{who} hears the other at {level:.2f}" for who, level in hears.items())
    leaks = ", ".join(f"{who} {likeness:.2f}" for who, likeness in whisper.items())
    how = f"{'attended' if attended else 'blind'}{', through rtpengine' if proxied else ''}"
    print(f"{names}: {by} transfers, {how}; {levels}; likeness to the whisper: {leaks}{'' if good else '   WRONG'}", flush=True)
    return good


def quiet(samples):
    for tone in TONES.values():
        samples = audio.without_tone(samples, tone)
    return samples


if __name__ == "__main__":
    sys.exit(main())
