#!/usr/bin/env python3
"""SRTP with real phones: baresip calls and is called, with SRTP, with plain RTP, and with one of each on the two sides.

Each phone plays a tone of its own, and must have heard the other's all through; who speaks SRTP says so itself.
"""

import pathlib
import sys
import tempfile
import time

import audio
import matrix
from baresip import Phone
from sotto import Sotto
from test_who_hears_whom import connected

TONES = {"customer": 440, "agent": 700}
LEVEL = 0.15
# How customer and agent protect their media, and what the route wants of the agent.
CALLS = [
    ("srtp-mand", None, "optional"),
    ("srtp", None, "optional"),
    (None, "srtp-mand", "required"),
    (None, "srtp", "required"),
    ("srtp-mand", "srtp-mand", "required"),
]
TALK = 3.0


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        results = [talk(pathlib.Path(folder) / str(n), *call) for n, call in enumerate(CALLS)]
    print("everybody heard everybody" if all(results) else "NOT everybody heard everybody")
    return 0 if all(results) else 1


def talk(folder, customer_enc, agent_enc, srtp):
    """One call; whether both heard each other."""
    folder.mkdir()
    for user, frequency in TONES.items():
        (folder / user).mkdir()
        audio.write(folder / user / "source.wav", audio.tone(frequency, 60, LEVEL))
    agent = Phone(folder / "agent", "agent", mediaenc=agent_enc)
    phones, server = [agent], None
    try:
        agent.wait_for("baresip is ready")
        step = f'{{connect = {{to = "{agent.uri}", srtp = "{srtp}"}}}}'
        server = Sotto(folder / "sotto", f"[[route]]\ncalled = '^desk$'\nsteps = [ {step} ]\n")
        customer = Phone(folder / "customer", "customer", dial=f"sip:desk@127.0.0.1:{server.sip}", mediaenc=customer_enc)
        phones.append(customer)
        customer.wait_for("Call established")
        agent.wait_for("Call established")
        connected(server)
        for phone, enc in ((customer, customer_enc), (agent, agent_enc)):
            if enc:
                phone.wait_for("SRTP is Enabled")
        time.sleep(TALK)
        refused = refusals(server)
        customer.hang_up()
        agent.wait_for("terminated")
        agent.hang_up()
        assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
        for phone, enc in ((customer, customer_enc), (agent, agent_enc)):
            assert enc or "SRTP is Enabled" not in phone.said(), f"{phone.user} was to be plain:\n{phone.said()}"
        # baresip opens a hole for NAT with a report of its own before it has begun to protect anything: that is refused.
        assert refused <= sum(enc is not None for enc in (customer_enc, agent_enc)), f"{refused} datagrams were refused"
        return report((customer_enc, agent_enc), {phone.user: audio.read(phone.recording()) for phone in phones})
    finally:
        for phone in phones:
            phone.hang_up()
        if server:
            server.stop()


def refusals(server):
    """Datagrams refused under SRTP so far."""
    _, text = server.request("GET", "/metrics")
    (line,) = (line for line in text.splitlines() if line.startswith("sotto_srtp_refused_total"))
    return int(line.split()[1])


def report(encryption, heard):
    good = True
    for listener, recording in heard.items():
        (other,) = (user for user in TONES if user != listener)
        levels = audio.heard_tone(recording, TONES[other])
        own = audio.heard_tone(recording, TONES[listener])
        # The first and the last window may hold the beginning and the end.
        share = float((levels[2:-2] > LEVEL / 2).mean())
        right = share == 1.0 and len(levels) >= (TALK - 1) * 10 and float(own.max()) < LEVEL / 50
        good &= right
        print(f"{encryption[0] or 'plain':9} → {encryption[1] or 'plain':9} {listener:8} heard {other} {share:6.1%}{'' if right else '   WRONG'}")
    return good


if __name__ == "__main__":
    sys.exit(matrix.run(main, {"SRTP": "baresip"}))
