#!/usr/bin/env python3
"""What real telephones do around the answer and after it: linphone plays before it answers and is heard, a baresip takes its
call back through Kamailio, and linphone keeps a session alive (RFC 4028).
"""

import pathlib
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import audio
from baresip import Phone, free_ports
from linphone import Linphone
from matrix import proves
from proxy import Proxy
from sotto import Sotto
from test_supervisor import ROUTE, wait
from test_who_hears_whom import connected

TONES = {"customer": 440, "agent": 700}
LEVEL = 0.15
# Seconds of playing before the answer.
EARLY = 5
# What linphone asks for, seconds, and how long a session stands in which it gave no sign.
EXPIRES, WITHOUT_A_SIGN = 90, 60


def main():
    tests = [is_heard_before_it_answers, takes_its_call_back, keeps_its_session_alive]
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder, ThreadPoolExecutor(len(tests)) as pool:
        runs = [pool.submit(test, sources(pathlib.Path(folder) / test.__name__)) for test in tests]
        for run in runs:
            run.result()
    print("the telephones did what telephones do")
    return 0


def sources(folder):
    for user, frequency in TONES.items():
        (folder / user).mkdir(parents=True)
        audio.write(folder / user / "source.wav", audio.tone(frequency, 120, LEVEL))
    return folder


def is_heard_before_it_answers(folder):
    here, server = [], None
    try:
        agent = Linphone(folder / "agent", "agent", sip="incoming_calls_early_media=1\n", answers=False)
        here.append(agent)
        agent.wait_for(agent.READY)
        server = Sotto(folder / "sotto", ROUTE.format(agent=agent.uri))
        customer = Phone(folder / "customer", "customer", dial=f"sip:desk@127.0.0.1:{server.sip}")
        here.append(customer)
        customer.wait_for("183 Session Progress")
        time.sleep(EARLY)
        assert customer.CONNECTED not in customer.said(), customer.said()
        (call,) = server.calls()
        assert call["state"] != "connected", call
        agent.answer()
        customer.wait_for(customer.CONNECTED)
        connected(server)
        for phone in (customer, agent):
            phone.hang_up()
        assert server.stop() == 0
        heard = audio.read_narrow(customer.recording())
        # Linphone names another address of its host than it sends from: it is believed after a second of silence.
        levels = audio.heard_tone(heard[2 * audio.RATE : int((EARLY - 0.5) * audio.RATE)], TONES["agent"])
        assert len(levels) and audio.steady(levels) > LEVEL / 2, f"before the answer the customer hears {levels} of the agent"
    finally:
        clean(here, server)
    proves("early media", "baresip", "linphone")
    print("linphone plays before it answers, and baresip hears it")


def takes_its_call_back(folder):
    here, server, proxy = [], None, None
    try:
        agent = Phone(folder / "agent", "agent", answers=False)
        here.append(agent)
        agent.wait_for(agent.READY)
        way = free_ports(1)
        server = Sotto(folder / "sotto", ROUTE.format(agent=f"sip:agent@127.0.0.1:{way}"))
        proxy = Proxy(folder / "proxy", way, server.sip, agent.uri)
        customer = Phone(folder / "customer", "customer", dial=f"sip:desk@127.0.0.1:{way}")
        here.append(customer)
        customer.wait_for("180 Ringing")
        agent.wait_for("Incoming call")
        (call,) = server.calls()
        customer.hang_up()
        wait(lambda: why_it_ended(server, call["id"]) == ["caller gave up"], "the call did not end as it should")
        agent.wait_for("session closed")
        assert agent.CONNECTED not in agent.said(), agent.said()
    finally:
        clean(here, server, proxy)
    proves("CANCEL", "baresip", "kamailio")
    print("baresip takes its call back through Kamailio, and the other stops ringing")


def why_it_ended(server, call):
    status, events = server.request("GET", f"/v1/calls/{call}/events")
    # Between its end and its last commit it is nowhere.
    return [e["data"]["reason"] for e in events if e["type"] == "sotto.call.ended"] if status == 200 else []


def keeps_its_session_alive(folder):
    here, server = [], None
    try:
        agent = Phone(folder / "agent", "agent")
        here.append(agent)
        agent.wait_for(agent.READY)
        server = Sotto(folder / "sotto", ROUTE.format(agent=agent.uri), sip=f"session_expires = {EXPIRES}\n")
        timer = f"session_expires_enabled=1\nsession_expires_value={EXPIRES}\nsession_expires_min_value={EXPIRES}\nsession_expires_refresher_value=2\n"
        customer = Linphone(folder / "customer", "customer", dial=f"sip:desk@127.0.0.1:{server.sip}", sip=timer, log=6)
        here.append(customer)
        call = connected(server)
        # In our answer: the sign is linphone's to give.
        customer.wait_for(f"Session-Expires: {EXPIRES};refresher=uac")
        time.sleep(WITHOUT_A_SIGN + 10)
        (still,) = server.calls()
        assert still["id"] == call and still["state"] == "connected", still
        signs = len(re.findall(r"^Session-Expires: ", customer.said(), re.M))
        assert signs >= 4, f"an INVITE, a sign of life, and an answer to each: {signs} messages speak of timers"
    finally:
        clean(here, server)
    proves("session timer", "linphone")
    print(f"linphone gives its sign of life: the call stands after {WITHOUT_A_SIGN + 10} s")


def clean(phones, *servers):
    for phone in phones:
        phone.hang_up()
    for server in filter(None, servers):
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
