#!/usr/bin/env python3
"""Each telephone puts the other on hold and comes back: as the caller, as the called, and through Kamailio and rtpengine.
While it holds it is sent nothing; before and afterwards each hears the other.
"""

import pathlib
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import audio
import matrix
from baresip import Phone, free_ports
from linphone import Linphone
from proxy import Proxy
from sotto import Sotto
from test_supervisor import ROUTE
from test_who_hears_whom import connected

# Who holds, the makers of customer and agent, and whether rtpengine stands in between.
CASES = [
    ("customer", (Phone, Phone), False),
    ("agent", (Linphone, Phone), False),
    ("customer", (Linphone, Phone), False),
    ("agent", (Phone, Linphone), False),
    ("customer", (Phone, Phone), True),
    ("agent", (Linphone, Phone), True),
]
TONES = {"customer": 440, "agent": 700}
LEVEL = 0.15
TALK, HELD, TALK_AGAIN = 4.0, 3.0, 4.0
# Calls at once.
AT_ONCE = 3


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(run, pathlib.Path(folder) / str(n), *case) for n, case in enumerate(CASES)]
        good = all([done.result() for done in runs])
    print("held and resumed" if good else "NOT held and resumed")
    return 0 if good else 1


def run(folder, holder, makers, proxied):
    folder.mkdir()
    for user, frequency in TONES.items():
        (folder / user).mkdir()
        audio.write(folder / user / "source.wav", audio.tone(frequency, 120, LEVEL))
    here, others = {"agent": makers[1](folder / "agent", "agent")}, []
    try:
        agent = here["agent"]
        agent.wait_for(agent.READY)
        way = free_ports(1) if proxied else agent.port
        server = Sotto(folder / "sotto", ROUTE.format(agent=f"sip:agent@127.0.0.1:{way}"))
        others.append(server)
        if proxied:
            others.insert(0, Proxy(folder / "proxy", way, server.sip, agent.uri))
        customer = here["customer"] = makers[0](folder / "customer", "customer", dial=f"sip:desk@127.0.0.1:{way if proxied else server.sip}")
        call = connected(server)
        time.sleep(TALK)
        sent = hold(server, call, here[holder], holder)
        time.sleep(TALK_AGAIN)
        # What a baresip hears after it held is in no recording; that it receives a whole stream of G.711 is all it tells.
        receives = here[holder].receiving() if isinstance(here[holder], Phone) else None
        customer.hang_up()
        agent.wait_for(agent.ENDED)
        agent.hang_up()
        assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
        return report(holder, makers, proxied, sent, receives, {who: audio.read_narrow(phone.recording()) for who, phone in here.items()})
    finally:
        for other in [*here.values(), *others]:
            (other.hang_up if other in here.values() else other.stop)()


def hold(server, call, phone, holder):
    """Packets the holder was sent while it held, once the server had answered."""
    changes = lambda: sum(e["type"] == "sotto.leg.changed" and e["data"]["changed"] == "media" for e in server.events(call))
    sent = lambda: next(leg["sent"] for leg in server.request("GET", f"/v1/calls/{call}")[1]["legs"] if leg["role"] == holder)
    before = changes()
    phone.hold()
    wait_for(lambda: changes() > before, "the hold was never told of")
    at_first = sent()
    time.sleep(HELD)
    held = sent() - at_first
    before = changes()
    phone.resume()
    wait_for(lambda: changes() > before, "the resumption was never told of")
    return held


def wait_for(so, otherwise, seconds=10):
    until = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < until, otherwise
        time.sleep(0.05)


def report(holder, makers, proxied, sent, receives, heard):
    names = ", ".join(f"{who}: {maker.__module__}" for who, maker in zip(TONES, makers))
    # Linphone names another address of its host than it sends from: it is believed after a second of silence.
    parts = {"before": slice(int(1.5 * audio.RATE), int(2.5 * audio.RATE)), "after": slice(-int(2.5 * audio.RATE), -int(0.5 * audio.RATE))}
    others = {"customer": "agent", "agent": "customer"}
    # Its average goes back into the time of the hold.
    least = {(holder, "after"): receives / 32_000} if receives is not None else {}
    for who in TONES:
        for when, part in parts.items():
            levels = audio.heard_tone(heard[who][part], TONES[others[who]])
            if (who, when) not in least:
                assert len(levels), f"{names}: {who} recorded {len(heard[who]) / audio.RATE} s"
                least[who, when] = audio.steady(levels) / LEVEL
    good = min(least.values()) > 0.5 and sent == 0
    levels = ", ".join(f"{who} {when} {level:.2f}" for (who, when), level in least.items())
    print(f"{names}{' through rtpengine' if proxied else ''}: {holder} holds, is sent {sent} packets; hears the other at least: {levels}{'' if good else '   WRONG'}")
    return good


if __name__ == "__main__":
    sys.exit(matrix.run(main, {"hold": "baresip linphone kamailio rtpengine", "re-INVITE": "baresip linphone kamailio"}))
