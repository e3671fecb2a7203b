#!/usr/bin/env python3
"""Through Kamailio, which stays in the way of every call, over UDP, TCP, TLS, and TLS where the server calls a sips: address. A caller who gives up
while it rings (CANCEL); a call in which the customer holds and comes back (re-INVITE, which the proxy asks the server to prove
itself for, 407 within the dialog) and hangs up (BYE). Then a supervisor with all keys over TLS and SRTP.

Each phone plays a tone of its own, and must hear the other's before and after the hold.
"""

import functools
import pathlib
import sys
import tempfile
import time

import audio
import matrix
import test_supervisor
from baresip import Phone, free_ports
from front import Front
from sotto import Sotto
from test_hold import hold, wait_for
from test_supervisor import ROUTE, Phones
from test_transport import authority
from test_who_hears_whom import connected

TONES = {"customer": 440, "agent": 700}
LEVEL, TALK = 0.15, 3.0
PASSWORD = "open-sesame-1"


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        folder = pathlib.Path(folder)
        certificates = authority(folder / "certificates", "sotto", "kamailio", "customer", "agent", "supervisor")
        results = [run(folder / f"{transport}{scheme}", transport, scheme, certificates) for transport, scheme in (("udp", "sip"), ("tcp", "sip"), ("tls", "sip"), ("tls", "sips"))]
        results.append(supervised(folder / "supervised", certificates))
    print("all went through Kamailio" if all(results) else "NOT all went through Kamailio")
    return 0 if all(results) else 1


def files(certificates, user):
    return f"sip_certificate {certificates}/{user}.both\nsip_cafile {certificates}/ca.pem\n"


def run(folder, transport, scheme, certificates):
    folder.mkdir()
    certificates = certificates if transport == "tls" else None
    front = Front(transport, certificates, PASSWORD)
    phone = lambda place, user, **more: Phone(source(folder / place, user), user, more=files(certificates, user) if certificates else "", **more)
    here, server, proxy = [], None, None
    try:
        for answers in (False, True):
            agent = phone(f"agent{answers}", "agent", answers=answers)
            here.append(agent)
            agent.wait_for(agent.READY)
            way = free_ports(1)
            target = f"{scheme}:agent@127.0.0.1:{way}" + (front.suffix if scheme == "sip" else "")
            server = Sotto(folder / f"sotto{answers}", ROUTE.format(agent=target), transport=transport, sip=front.sip, trunk=front.trunk)
            proxy = front.open(folder / f"front{answers}", way, server.sip, agent)
            # This baresip cannot dial sips: addresses.
            dial = f"sip:desk@127.0.0.1:{way}{front.suffix}"
            customer = phone(f"customer{answers}", "customer", dial=dial)
            here.append(customer)
            good = (held if answers else given_up)(server, proxy, customer, agent, transport)
            for one in (customer, agent):
                one.hang_up()
            assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
            proxy.stop()
            if not good:
                return False
        return report(f"{transport} {scheme}", {"customer": customer, "agent": agent})
    finally:
        for one in here:
            one.hang_up()
        for other in filter(None, (proxy, server)):
            other.stop()


def source(folder, user):
    folder.mkdir()
    audio.write(folder / "source.wav", audio.tone(TONES.get(user, 1100), 120, LEVEL))
    return folder


def given_up(server, proxy, customer, agent, transport):
    agent.wait_for("Incoming call")
    call = server.calls()[0]["id"]
    customer.hang_up()
    # A call that is over is asked for again once it is on disk.
    wait_for(lambda: server.request("GET", f"/v1/calls/{call}/events")[0] == 200 and not server.calls(), "the call never ended")
    ended = server.wait_for_event(call, "call.ended")
    wait_for(lambda: proxy.said().count(f"SAW CANCEL {transport}") >= 2, "CANCEL did not come through on both sides")
    agent.wait_for("session closed")
    print(f"{transport}: given up: {ended['data']['reason']}", flush=True)
    return ended["data"]["reason"] == "caller gave up"


def held(server, proxy, customer, agent, transport):
    customer.wait_for(customer.CONNECTED)
    call = connected(server)
    time.sleep(TALK)
    sent = hold(server, call, customer, "customer")
    # The agent was told, by an offer that the server had to prove itself for.
    wait_for(lambda: f"SAW INVITE {transport} sotto Digest" in proxy.said(), f"no proven offer:\n{proxy.said()}")
    time.sleep(TALK)
    receives = customer.receiving()
    customer.hang_up()
    agent.wait_for(agent.ENDED)
    wait_for(lambda: proxy.said().count(f"SAW BYE {transport}") >= 2, "BYE did not come through on both sides")
    wait_for(lambda: not server.calls(), "a call is left over")
    print(f"{transport}: held, sent {sent} packets meanwhile, {receives} bits a second afterwards", flush=True)
    # Its average goes back into the time of the hold.
    return sent == 0 and receives > 16_000


def report(name, phones):
    """What the agent heard first and last, and the customer first: baresip's recording ends where it holds."""
    first, last = slice(audio.RATE, 2 * audio.RATE), slice(-2 * audio.RATE, -audio.RATE // 2)
    good = True
    for listener, other, parts in (("customer", "agent", [first]), ("agent", "customer", [first, last])):
        heard = audio.read(phones[listener].recording())
        levels = [audio.steady(audio.heard_tone(heard[part], TONES[other])) / LEVEL for part in parts]
        right = min(levels) > 0.5
        good &= right
        print(f"{name}: {listener} heard {other} at {', '.join(f'{level:.2f}' for level in levels)}{'' if right else '   WRONG'}", flush=True)
    return good


def supervised(folder, certificates):
    """All keys, everybody over TLS through Kamailio, and nothing but SRTP."""
    front = Front("tls", certificates, further='srtp = "required"\n')
    makers = [functools.partial(Phone, mediaenc="srtp-mand", more=files(certificates, user)) for user in ("customer", "agent", "supervisor")]
    heard = test_supervisor.talk(folder, Phones(*makers), front=front)
    for user in ("customer", "agent", "supervisor"):
        assert "SRTP is Enabled" in (folder / user / "log").read_text(errors="replace"), f"{user} does not speak SRTP"
    return test_supervisor.report(*heard) == 0


if __name__ == "__main__":
    sys.exit(matrix.run(main, {"record-routing": "kamailio", "CANCEL": "kamailio baresip", "re-INVITE": "kamailio baresip", "TLS": "kamailio", "digest": "kamailio"}))
