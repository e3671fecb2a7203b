"""Two real phones talk through `sotto serve`, which is told to spy, whisper, barge, and spy again, and to speak in each.

Each phone plays a tone of its own; what the coach says is speech. What each phone recorded shows whom it heard:
the other's tone all through, the whisper at the agent alone, the barge at both, and nothing that was refused.
"""

import pathlib
import sys
import tempfile
import time

import audio
import matrix
import numpy as np
from baresip import Phone
from sotto import Sotto

CUSTOMER_TONE, AGENT_TONE, LEVEL = 440, 700, 0.15

SPIED = "Nobody should ever hear this first sentence."
WHISPERED = "Ask what they compare the price with."
BARGED = "Hello, this is the supervisor speaking to both of you."
SPIED_AGAIN = "And this last remark is for no ears at all."

# A clip is in what was heard if it is this much like it somewhere; speech that is another's stays well below.
PRESENT, ABSENT = 0.6, 0.3


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        folder = pathlib.Path(folder)
        heard = talk(folder)
        return report(heard)


def talk(folder):
    """The whole call; what each phone heard, and what the API said."""
    for user, frequency in (("customer", CUSTOMER_TONE), ("agent", AGENT_TONE)):
        (folder / user).mkdir()
        audio.write(folder / user / "source.wav", audio.tone(frequency, 120, LEVEL))
    agent = Phone(folder / "agent", "agent")
    phones, server = [agent], None
    try:
        agent.wait_for("baresip is ready")
        server = Sotto(folder / "sotto", f"[[route]]\ncalled = '^desk$'\nsteps = [ {{connect = {{to = \"{agent.uri}\"}}}} ]\n")
        customer = Phone(folder / "customer", "customer", dial=f"sip:desk@127.0.0.1:{server.sip}")
        phones.append(customer)
        customer.wait_for("Call established")
        agent.wait_for("Call established")
        steer(server)
        customer.hang_up()
        agent.wait_for("terminated")
        agent.hang_up()
        assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
        return {phone.user: audio.read(phone.recording()) for phone in phones}
    finally:
        for phone in phones:
            phone.hang_up()
        if server:
            server.stop()


def steer(server):
    """Spy, whisper, barge, spy, close: with something to say in each."""
    call = connected(server)
    time.sleep(2)
    refused(server, call, SPIED)
    spoken(server, call, "whisper", WHISPERED)
    spoken(server, call, "barge", BARGED)
    mode(server, call, "spy")
    refused(server, call, SPIED_AGAIN)
    time.sleep(1)
    status, answer = server.request("POST", f"/v1/calls/{call}/close")
    assert status in (200, 202, 204), (status, answer)
    time.sleep(3)
    (still,) = server.calls()
    assert still["state"] == "connected" and still["closed"], still
    print("closed: the call goes on")


def connected(server, seconds=10):
    until = time.monotonic() + seconds
    while True:
        for call in server.calls():
            if call["state"] == "connected":
                return call["id"]
        assert time.monotonic() < until, f"no connected call: {server.calls()}"
        time.sleep(0.05)


def mode(server, call, wanted):
    status, answer = server.request("POST", f"/v1/calls/{call}/{wanted}")
    assert status == 200 and answer["mode"] == wanted, (status, answer)
    assert len(answer["effective"]) == 2, f"one RTP timestamp for each leg: {answer}"
    print(f"{wanted}: effective from RTP timestamps {answer['effective']}")


def spoken(server, call, wanted, text):
    mode(server, call, wanted)
    status, answer = server.request("POST", f"/v1/calls/{call}/say", {"text": text})
    assert status == 202, (status, answer)
    server.wait_for_event(call, "clip.ended", clip=answer["clip"])
    print(f"{wanted}: said {text!r} to its end")
    time.sleep(1)


def refused(server, call, text):
    status, answer = server.request("POST", f"/v1/calls/{call}/say", {"text": text})
    assert status == 409, f"in spy nothing may be said, but: {status} {answer}"
    print(f"spy: refused with 409: {answer.get('detail') or answer}")


def report(heard):
    """Prints who heard what, and whether it is as the table of hearing has it."""
    others = {"customer": AGENT_TONE, "agent": CUSTOMER_TONE}
    expected = {WHISPERED: {"agent"}, BARGED: {"agent", "customer"}, SPIED: set(), SPIED_AGAIN: set()}
    good = True
    print(f"\n{'':46}{'customer heard':>16}{'agent heard':>16}")
    levels = {who: audio.heard_tone(heard[who], tone) for who, tone in others.items()}
    # The first window may hold the beginning, and a whisper lowers the other's voice without silencing it.
    share = {who: float((level[1:] > LEVEL / 8).mean()) for who, level in levels.items()}
    last = {who: float((level[-20:] > LEVEL / 2).mean()) for who, level in levels.items()}
    for name, values, least in (("the other's tone, all through", share, 0.99), ("the other's tone, after the close", last, 1.0)):
        print(f"{name:46}" + "".join(f"{values[who]:15.1%} " for who in others))
        good &= all(value >= least for value in values.values())
    # Speech touches every frequency now and then; an echo would be there all the time.
    mine = {"customer": CUSTOMER_TONE, "agent": AGENT_TONE}
    own = {who: float(np.median(audio.heard_tone(heard[who], tone))) for who, tone in mine.items()}
    print(f"{'its own tone, in the middle (of ' + str(LEVEL) + ')':46}" + "".join(f"{own[who]:15.4f} " for who in others))
    good &= all(value < LEVEL / 100 for value in own.values())
    for text, ears in expected.items():
        clip = audio.speech(text)
        found = {who: audio.find(audio.without_tone(heard[who], tone), clip) for who, tone in others.items()}
        cells = "".join(f"{likeness:9.2f} @{at:4.1f} s" if likeness >= PRESENT else f"{likeness:16.2f}" for at, likeness in found.values())
        right = all(likeness >= PRESENT if who in ears else likeness <= ABSENT for who, (_, likeness) in found.items())
        print(f"{text[:45]:46}{cells}{'' if right else '   WRONG'}")
        good &= right
    print("as the table of hearing has it" if good else "NOT as the table of hearing has it")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(matrix.run(main, {"call": "baresip"}))
