#!/usr/bin/env python3
"""A telephone on a page calls over a secure WebSocket: it proves its password, talks to baresip, which is called by UDP and
hangs up; a page that nobody named is refused. Each plays a tone of its own, and must have heard the other's all through.
"""

import pathlib
import sys
import tempfile
import time

from websockets.exceptions import InvalidStatus

import audio
from baresip import Phone
from sotto import Sotto
from test_transport import authority, tls_lines
from test_who_hears_whom import connected
from web_phone import WebPhone

TONES = {"customer": 440, "agent": 700}
LEVEL, TALK = 0.15, 4.0
PAGE, PASSWORD = "https://desk.example", "open-sesame-1"
TRUNK = f'[[trunk]]\nname = "web"\nuser = "customer"\npassword = "{PASSWORD}"\nmay_call = ["desk"]\n'


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        good = run(pathlib.Path(folder))
    print("everybody heard everybody" if good else "NOT everybody heard everybody")
    return 0 if good else 1


def run(folder):
    certificates = authority(folder / "certificates", "sotto")
    (folder / "agent").mkdir()
    audio.write(folder / "agent" / "source.wav", audio.tone(TONES["agent"], 60, LEVEL))
    agent = Phone(folder / "agent", "agent")
    server = page = None
    try:
        agent.wait_for(agent.READY)
        routes = f"[[route]]\ncalled = '^desk$'\nsteps = [ {{connect = {{to = \"{agent.uri}\"}}}} ]\n"
        further = tls_lines(certificates) + f'\nws_origins = ["{PAGE}"]'
        server = Sotto(folder / "sotto", routes, transport="wss", sip=further, trunks=TRUNK)
        phone = lambda page: WebPhone(f"wss://127.0.0.1:{server.sip}/", certificates, "customer", PASSWORD, page, TONES["customer"], LEVEL)
        try:
            phone("https://evil.example").hang_up()
            raise AssertionError("a page that nobody named is let in")
        except InvalidStatus as refused:
            assert refused.response.status_code == 403, refused
        page = phone(PAGE)
        page.call("desk", "sotto.example")
        agent.wait_for(agent.CONNECTED)
        connected(server)
        time.sleep(TALK)
        agent.hang_up()
        page.wait_for_the_end()
        page.hang_up()
        assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
        assert PASSWORD not in server.said(), "a password is in the log"
        heard = {"customer": page.recording(), "agent": audio.read(agent.recording())}
        return all([report(listener, other, heard[listener]) for listener, other in (("customer", "agent"), ("agent", "customer"))])
    finally:
        agent.hang_up()
        if page:
            page.hang_up()
        if server:
            server.stop()


def report(listener, other, samples):
    levels = audio.heard_tone(samples, TONES[other])
    # The first and the last windows may hold the beginning and the end.
    share = float((levels[5:-5] > LEVEL / 2).mean())
    right = share > 0.98 and len(levels) >= (TALK - 1) * 10
    print(f"{listener:8} heard {other} {share:6.1%} of {len(levels) / 10} s{'' if right else '   WRONG'}", flush=True)
    return right


if __name__ == "__main__":
    sys.exit(main())
