#!/usr/bin/env python3
"""A supervisor on a real telephone: dials *80, presses every key there is, and each party hears what the table of hearing says.

Customers, agents and supervisor are baresip phones, each with a tone of its own; keys go out as RFC 4733. Window by window
of what each of them recorded, the tones of the others must be there, or not be there at all. With a second call on the floor
the supervisor goes on to that one and comes back. Others begin with *81 and *82.
"""

import collections
import functools
import itertools
import pathlib
import sys
import tempfile
import time

import audio
import matrix
from baresip import Phone, free_ports
from proxy import Proxy
from sotto import Sotto

TONES = {"customer": 440, "agent": 700, "supervisor": 1100, "customer2": 1300, "agent2": 1700}
LEVEL = 0.15
Phones = collections.namedtuple("Phones", ["customer", "agent", "supervisor"])
# What is pressed, the event that tells it has worked, and whom the three hear from then on.
APART = {"customer": "agent", "agent": "customer"}
STEPS = [
    (None, None, {**APART, "supervisor": "customer agent"}),
    ("5", "mode.changed", {"customer": "agent", "agent": "customer supervisor", "supervisor": "customer agent"}),
    ("6", "mode.changed", {"customer": "agent supervisor", "agent": "customer supervisor", "supervisor": "customer agent"}),
    ("4", "mode.changed", {**APART, "supervisor": "customer agent"}),
    ("7", "supervisor.took_over", {"customer": "supervisor", "agent": "", "supervisor": "customer"}),
    ("7", "supervisor.gave_back", {**APART, "supervisor": "customer agent"}),
    # Louder; and by four more round to where it was.
    ("#", "leg.changed", {**APART, "supervisor": "customer agent"}),
    ("####", "leg.changed", {**APART, "supervisor": "customer agent"}),
]
# What the other codes begin with.
CODES = {
    "*81": [(None, None, STEPS[1][2]), ("4", "mode.changed", STEPS[3][2])],
    "*82": [(None, None, STEPS[2][2]), ("5", "mode.changed", STEPS[1][2])],
}
# The same with a second call on the floor: what happens to it comes from its own journal.
ASIDE = {"customer2": "agent2", "agent2": "customer2"}
FLOOR = [(key, event, {**heard, **ASIDE}) for key, event, heard in STEPS] + [
    ("*", "supervisor.joined", {**APART, **ASIDE, "supervisor": "customer2 agent2"}),
    ("5", "mode.changed", {**APART, **ASIDE, "agent2": "customer2 supervisor", "supervisor": "customer2 agent2"}),
    ("*", "supervisor.joined", {**APART, **ASIDE, "supervisor": "customer agent"}),
]
ROUTE = "[[route]]\ncalled = '^desk$'\nsteps = [ {{connect = {{to = \"{agent}\"}}}} ]\n"
# Seconds of each step, and what is left out at its beginning: events, the mute of a wider mode, the recording's delay.
STEP, SETTLE = 4.0, 1.5


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        # Under SRTP, whose counts must go from call to call with the line.
        phones = Phones(Phone, Phone, functools.partial(Phone, mediaenc="srtp-mand"))
        folder = pathlib.Path(folder)
        status = report(*talk(folder / "floor", phones, steps=FLOOR), steps=FLOOR)
        for code, steps in CODES.items():
            status |= report(*talk(folder / code[1:], steps=steps, code=code), steps=steps, code=code)
        return status


def talk(folder, phones=Phones(Phone, Phone, Phone), proxied=False, steps=STEPS, code="*80", front=None):
    """The whole call: what each phone heard, and how long before its end each step began, phone by phone.

    `phones` are their makers; `proxied`: customer and agent are on the other side of Kamailio and rtpengine. `front`: makes a
    proxy through which all three come, and the agent is called, for a folder, a server's port and the agent; it says what the
    server is to be like (`transport`, `sip`) and how addresses are to end (`suffix`).
    """
    for user, frequency in TONES.items():
        (folder / user).mkdir(parents=True)
        audio.write(folder / user / "source.wav", audio.tone(frequency, 120, LEVEL))
    agent = phones.agent(folder / "agent", "agent")
    here, server, proxy = [agent], None, None
    try:
        agent.wait_for(agent.READY)
        way = free_ports(1) if proxied or front else agent.port
        suffix = front.suffix if front else ""
        routes = ROUTE.format(agent=f"sip:agent@127.0.0.1:{way}{suffix}")
        if steps is FLOOR:
            agent2 = Phone(folder / "agent2", "agent2")
            here.append(agent2)
            agent2.wait_for(agent2.READY)
            routes += ROUTE.format(agent=agent2.uri).replace("desk", "desk2")
        like = {"transport": front.transport, "sip": front.sip} if front else {}
        server = Sotto(folder / "sotto", routes, trunk="may_supervise = true\n" + (front.trunk if front else ""), **like)
        proxy = Proxy(folder / "proxy", way, server.sip, agent.uri) if proxied else None
        if front:
            proxy = front.open(folder / "front", way, server.sip, agent)
        place = f"127.0.0.1:{way if proxied or front else server.sip}{suffix}"
        customer = phones.customer(folder / "customer", "customer", dial=f"sip:desk@{place}")
        here.append(customer)
        calls = connected(server, 1)
        if steps is FLOOR:
            customer2 = Phone(folder / "customer2", "customer2", dial=f"sip:desk2@127.0.0.1:{server.sip}")
            here.append(customer2)
            calls = connected(server, 2)
        supervisor = phones.supervisor(folder / "supervisor", "supervisor", dial=f"sip:{code}agent@{place if front else f'127.0.0.1:{server.sip}'}")
        here.append(supervisor)
        supervisor.wait_for(supervisor.CONNECTED)
        began = [press(server, calls, supervisor, key, event) for key, event, _ in steps]
        leave(server, calls, supervisor, steps)
        if steps is FLOOR:
            summon(server, calls[0], folder)
        ended = {"supervisor": time.monotonic()}
        time.sleep(2)
        for caller in here[1:]:
            if caller.user.startswith("customer"):
                caller.hang_up()
        for called in here:
            if called.user.startswith("agent"):
                called.wait_for(called.ENDED)
        ended.update({phone.user: time.monotonic() for phone in here if phone is not supervisor})
        for phone in here:
            phone.hang_up()
        assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
        if proxied:
            proxy.stop()
            packets, least = proxy.relayed(), STEP * len(steps) * 50
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


def connected(server, count, seconds=10):
    """Waits for as many calls, in the order in which they began."""
    until = time.monotonic() + seconds
    while True:
        calls = [call["id"] for call in server.calls() if call["state"] == "connected"]
        if len(calls) == count:
            return calls
        assert time.monotonic() < until, f"{len(calls)} connected calls: {server.calls()}"
        time.sleep(0.05)


def press(server, calls, supervisor, key, event):
    if key:
        before = told(server, calls, event)
        for count, one in enumerate(key):
            supervisor.press(one)
            wait(lambda: told(server, calls, event) > before + count, f"no {event} after {key}")
        if event == "supervisor.took_over":
            # The agent is told so: only then can be heard that they hear nobody.
            wait(lambda: prompted(server, calls), "the agent was not told")
    at = time.monotonic()
    time.sleep(STEP)
    return at


def told(server, calls, kind):
    return sum(event["type"] == f"sotto.{kind}" for call in calls for event in server.events(call))


def prompted(server, calls):
    events = [event for call in calls for event in server.events(call)]
    said = [e["data"]["clip"] for e in events if e["type"] == "sotto.clip.started" and "taken over" in (e["data"]["text"] or "")]
    return said and any(e["type"] == "sotto.clip.ended" and e["data"]["clip"] == said[0] for e in events)


def wait(so, otherwise, seconds=15):
    until = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < until, otherwise
        time.sleep(0.05)


def leave(server, calls, supervisor, steps):
    supervisor.press("0")
    left = server.wait_for_event(calls[0], "supervisor.left", reason="supervisor left")
    supervisor.wait_for(supervisor.ENDED)
    modes = [(e["data"]["from"], e["data"]["to"]) for e in server.events(calls[0]) if e["type"] == "sotto.mode.changed"]
    here = itertools.takewhile(lambda step: step[0] != "*", steps)
    assert len(modes) == sum(event == "mode.changed" for _, event, _ in here), f"each key once: {modes}"
    assert all(len(still["legs"]) == 2 and still["state"] == "connected" for still in server.calls()), server.calls()
    visits = [e["data"]["listened"] for call in calls for e in server.events(call) if e["type"] == "sotto.supervisor.left"]
    print(f"0: the supervisor has left, the call goes on; listened {visits}")
    least = STEP * 1000
    ways = {"4": "spy_ms", "5": "whisper_ms", "6": "barge_ms", "7": "took_over_ms"}
    pressed = [ways[key] for key, _, _ in steps if key in ways]
    assert any(all(visit[way] >= least for way in pressed) for visit in visits), visits
    assert left["data"]["whom"], left


def summon(server, call, folder):
    """Another supervisor is called through the API, and sent away."""
    (folder / "second").mkdir()
    audio.write(folder / "second" / "source.wav", audio.tone(400, 60, 0))
    phone = Phone(folder / "second", "second")
    try:
        phone.wait_for(phone.READY)
        status, answer = server.request("POST", f"/v1/calls/{call}/supervisors", {"to": phone.uri, "mode": "whisper"})
        assert status == 202, (status, answer)
        joined = server.wait_for_event(call, "supervisor.joined", who=phone.uri, mode="whisper")
        phone.wait_for(phone.CONNECTED)
        status, _ = server.request("DELETE", f"/v1/calls/{call}/supervisors/{joined['data'].get('leg') or joined['leg']}")
        assert status == 204, status
        phone.wait_for("session closed")
    finally:
        phone.hang_up()
    print("another supervisor was called, and sent away")


def report(heard, before_end, steps=STEPS, code="*80"):
    """Prints who heard whom in each step, and whether it is as the table of hearing has it."""
    good = True
    for step, (key, _, _) in enumerate(steps):
        if key == "#":
            before, after = (audio.steady(audio.heard_tone(piece(heard["supervisor"], before_end["supervisor"][at]), TONES["customer"])) for at in (step - 1, step))
            right = 1.7 < after / before < 2.3
            good &= right
            print(f"#    the supervisor hears the customer {after / before:.2f} times as loud{'' if right else '   WRONG'}")
    for step, (key, _, expectations) in enumerate(steps):
        for listener, expected in expectations.items():
            window, expected = piece(heard[listener], before_end[listener][step]), set(expected.split())
            found = {who for who, tone in TONES.items() if audio.steady(audio.heard_tone(window, tone)) > LEVEL / 4}
            faint = {who for who, tone in TONES.items() if audio.heard_tone(window, tone).max() > LEVEL / 50}
            right = found == faint == expected
            good &= right
            print(f"{key or code:4} {listener:11} hears {', '.join(sorted(found)) or 'nobody':28}{'' if right else f'   WRONG: {sorted(expected)}, faintly {sorted(faint)}'}")
    print("as the table of hearing has it" if good else "NOT as the table of hearing has it")
    return 0 if good else 1


def piece(recording, before_end):
    first = len(recording) - int((before_end - SETTLE) * audio.RATE)
    return recording[first:first + int((STEP - 2 * SETTLE) * audio.RATE)]


if __name__ == "__main__":
    sys.exit(matrix.run(main, {row: "baresip" for row in ("star codes", "keys", "takeover", "summoned supervisor", "SRTP")}))
