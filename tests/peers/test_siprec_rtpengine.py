#!/usr/bin/env python3
"""A call that runs through Kamailio and rtpengine, and not through us, is forked to us by SIPREC in its middle: each party is
recorded in a channel of their own, and both go on hearing each other while that begins and after it ends.
"""

import pathlib
import sys
import tempfile
import time

import audio
import matrix
from baresip import Phone, free_ports
from proxy import Proxy
from recording_client import RecordingClient
from sotto import Sotto
from test_siprec import second_channel

TONES, LEVEL = {"customer": 440, "agent": 700}, 0.15
STEP = 3.0


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        return run(pathlib.Path(folder))


def run(folder):
    for user, frequency in TONES.items():
        (folder / user).mkdir()
        audio.write(folder / user / "source.wav", audio.tone(frequency, 60, LEVEL))
    phones, server, proxy = [Phone(folder / "agent", "agent")], None, None
    try:
        agent = phones[0]
        agent.wait_for(agent.READY)
        server, way = Sotto(folder / "sotto", ""), free_ports(1)
        proxy = Proxy(folder / "proxy", way, agent.port, agent.uri)
        customer = Phone(folder / "customer", "customer", dial=f"sip:agent@127.0.0.1:{way}")
        phones.append(customer)
        customer.wait_for(customer.CONNECTED)
        time.sleep(STEP)
        client = RecordingClient(proxy.ng, server.sip)
        (call,) = server.calls()
        assert call["state"] == "connected" and {leg["role"] for leg in call["legs"]} == set(TONES), call
        time.sleep(2 * STEP)
        client.stop()
        server.wait_for_event(call["id"], "call.ended", reason="recording client hung up")
        time.sleep(STEP)
        for phone in phones:
            phone.hang_up()
        assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
        return 0 if recorded(folder, call["id"]) & undisturbed(phones) else 1
    finally:
        for phone in phones:
            phone.hang_up()
        for other in (proxy, server):
            if other:
                other.stop()


def recorded(folder, call):
    """Whose voice is in which channel; rtpengine says whose stream is whose by tags, which say nothing of roles."""
    (file,) = (folder / "sotto/data/recordings").rglob(f"{call}.wav")
    found = []
    for channel, samples in (("left", audio.read(file, channels=2)), ("right", second_channel(file))):
        middle = samples[int(1.5 * audio.RATE) : -int(1.5 * audio.RATE)]
        voices = [who for who, tone in TONES.items() if audio.steady(audio.heard_tone(middle, tone)) > LEVEL / 4]
        faint = [who for who, tone in TONES.items() if audio.heard_tone(middle, tone).max() > LEVEL / 50]
        found.append((voices, faint))
        print(f"{channel} channel: {', '.join(voices)}{'' if voices == faint else f', faintly {faint}'}")
    good = sorted(found) == sorted(([who], [who]) for who in TONES)
    print("each party in a channel of their own" if good else "NOT each party in a channel of their own")
    return good


def undisturbed(phones):
    """Both phones heard the other from a second after the beginning to a second before the end."""
    good = True
    for phone in phones:
        (other,) = (tone for who, tone in TONES.items() if who != phone.user)
        heard = audio.read_narrow(phone.recording())
        level = audio.steady(audio.heard_tone(heard[audio.RATE : -audio.RATE], other))
        good &= level > LEVEL / 4
        print(f"{phone.user} heard the other side for {len(heard) / audio.RATE:.1f} s{'' if level > LEVEL / 4 else '   WRONG: not all the time'}")
    return good


if __name__ == "__main__":
    sys.exit(matrix.run(main, {"SIPREC": "rtpengine"}))
