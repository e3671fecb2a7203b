#!/usr/bin/env python3
"""A supervisor on a real telephone: dials *80, presses 5, 6, 4 and 0, and each party hears what the table of hearing says.

Customer, agent and supervisor are baresip phones, each with a tone of its own; keys go out as RFC 4733. Window by window
of what each of them recorded, the tones of the others must be there, or not be there at all.
"""

import collections
import pathlib
import sys
import tempfile
import time

import audio
from baresip import Phone, free_ports
from proxy import Proxy
from sotto import Sotto
from test_who_hears_whom import connected

TONES = {"customer": 440, "agent": 700, "supervisor": 1100}
LEVEL = 0.15
Phones = collections.namedtuple("Phones", TONES)
# What is pressed, and who hears the supervisor from then on.
STEPS = [(None, set()), ("5", {"agent"}), ("6", {"agent", "customer"}), ("4", set())]
ROUTE = "[[route]]\ncalled = '^desk$'\nsteps = [ {{connect = {{to = \"{agent}\"}}}} ]\n"
# Seconds of each step, and what is left out at its beginning: events, the mute of a wider mode, the recording's delay.
STEP, SETTLE = 4.0, 1.5


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        return report(*talk(pathlib.Path(folder)))


def talk(folder, phones=Phones(Phone, Phone, Phone), proxied=False):
    """The whole call: what each phone heard, and how long before its end each step began, phone by phone.

    `phones` are their makers; `proxied`: customer and agent are on the other side of Kamailio and rtpengine.
    """
    for user, frequency in TONES.items():
        (folder / user).mkdir(parents=True)
        audio.write(folder / user / "source.wav", audio.tone(frequency, 120, LEVEL))
    agent = phones.agent(folder / "agent", "agent")
    here, server, proxy = [agent], None, None
    try:
        agent.wait_for(agent.READY)
        way = free_ports(1) if proxied else agent.port
        server = Sotto(folder / "sotto", ROUTE.format(agent=f"sip:agent@127.0.0.1:{way}"), trunk="may_supervise = true\n")
        proxy = Proxy(folder / "proxy", way, server.sip, agent.uri) if proxied else None
        customer = phones.customer(folder / "customer", "customer", dial=f"sip:desk@127.0.0.1:{way if proxied else server.sip}")
        here.append(customer)
        call = connected(server)
        supervisor = phones.supervisor(folder / "supervisor", "supervisor", dial=f"sip:*80agent@127.0.0.1:{server.sip}")
        here.append(supervisor)
        supervisor.wait_for(supervisor.CONNECTED)
        began = [press(server, call, supervisor, key, step) for step, (key, _) in enumerate(STEPS)]
        leave(server, call, supervisor)
        ended = {"supervisor": time.monotonic()}
        time.sleep(2)
        customer.hang_up()
        agent.wait_for(agent.ENDED)
        ended["customer"] = ended["agent"] = time.monotonic()
        for phone in here:
            phone.hang_up()
        assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
        if proxy:
            proxy.stop()
            packets, least = proxy.relayed(), STEP * len(STEPS) * 50
            assert len(packets) == 4 and min(packets) > least, f"both ends of both calls are rtpengine's:\n{proxy.said('rtpengine')}"
            print(f"through rtpengine: {packets} packets")
        heard = {phone.user: audio.read_narrow(phone.recording()) for phone in here}
        return heard, {user: [end - at for at in began] for user, end in ended.items()}
    finally:
        for phone in here:
            phone.hang_up()
        for other in (proxy, server):
            if other:
                other.stop()


def press(server, call, supervisor, key, step):
    if key:
        supervisor.press(key)
        changes(server, call, step)
    at = time.monotonic()
    time.sleep(STEP)
    return at


def changes(server, call, count, seconds=10):
    """Waits for as many changes of mode."""
    until = time.monotonic() + seconds
    while (seen := sum(e["type"] == "sotto.mode.changed" for e in server.events(call))) < count:
        assert time.monotonic() < until, f"{seen} changes of mode, not {count}"
        time.sleep(0.05)


def leave(server, call, supervisor):
    supervisor.press("0")
    server.wait_for_event(call, "supervisor.left", reason="supervisor left")
    supervisor.wait_for(supervisor.ENDED)
    modes = [(e["data"]["from"], e["data"]["to"]) for e in server.events(call) if e["type"] == "sotto.mode.changed"]
    assert modes == [("spy", "whisper"), ("whisper", "barge"), ("barge", "spy")], f"each key once: {modes}"
    (still,) = server.calls()
    assert still["state"] == "connected" and len(still["legs"]) == 2, still
    print("0: the supervisor has left, the call goes on")


def report(heard, before_end):
    """Prints who heard whom in each step, and whether it is as the table of hearing has it."""
    good = True
    for step, (key, ears) in enumerate(STEPS):
        for listener, recording in heard.items():
            window = piece(recording, before_end[listener][step])
            found = {who for who, tone in TONES.items() if audio.steady(audio.heard_tone(window, tone)) > LEVEL / 4}
            faint = {who for who, tone in TONES.items() if audio.heard_tone(window, tone).max() > LEVEL / 50}
            expected = {who for who in TONES if who != listener and (who != "supervisor" or listener in ears)}
            right = found == faint == expected
            good &= right
            print(f"{key or '*80':4} {listener:11} hears {', '.join(sorted(found)) or 'nobody':28}{'' if right else f'   WRONG: {sorted(expected)}, faintly {sorted(faint)}'}")
    print("as the table of hearing has it" if good else "NOT as the table of hearing has it")
    return 0 if good else 1


def piece(recording, before_end):
    first = len(recording) - int((before_end - SETTLE) * audio.RATE)
    return recording[first:first + int((STEP - 2 * SETTLE) * audio.RATE)]


if __name__ == "__main__":
    sys.exit(main())
