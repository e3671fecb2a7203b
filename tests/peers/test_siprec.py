#!/usr/bin/env python3
"""A recording client forks a call to us (SIPREC, RFC 7866), and each of the two is heard by themselves.

SIPp is the client's signalling (tests/peers/sipp/recording_client.xml): two streams with the metadata of one, asked for the
other's; an UPDATE that says who the agent is; a hold by metadata, a hold by re-INVITE, resume, BYE. The media is recorded speech,
sent from here, in the holds too. What each said must be written down on their leg and recorded in their channel, and nothing
of what was sent in a hold; the agent's name chooses the route; a supervisor who dials the agent's new name hears both; whoever would speak into such a call
is refused with the reason; and no packet but reports comes back.
"""

import audioop
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

import audio
import matrix
from baresip import Phone, free_ports
from sotto import ROOT, Sotto

SAMPLES = ROOT / "fixtures/speech/samples"
MODEL = ROOT / "fixtures/speech/ggml-fixture-q8_0.bin"
# The parts of a recorded call that are played, before and after the hold, in seconds.
PARTS = [(8.5, 13.4), (21.9, 33.6)]
# What is sent while somebody holds: words of both.
HELD = (0.5, 6.5)
SAID = {
    "customer": ["It's not a good time right now.", "We are happy with what we have.", "Just send me an email with the details."],
    "agent": ["There is a free trial for 30 days.", "There is no obligation to buy anything today.", "I will send you an email later today."],
}
# A sentence of each, where it lies in the recorded call, for who hears it.
CLIPS = {"customer": (27.97, 30.39), "agent": (31.25, 33.14)}
PIECE = audio.RATE * 2 // 5
# By whom the agent turns out to be.
ROUTES = """
[[route]]
recorded = true
called = 'bob'
steps = [ {playbook = "sales-discovery"}, {consent = "given"} ]
"""
WHY = "this call is forked to us and has no way back: it can be listened to, but nobody in it can be spoken to"


class Stream:
    """A stream of one party's voice, paced by the clock."""

    def __init__(self, party):
        self.voice = audio.read(SAMPLES / f"call5_timing_{party}.wav")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.sequence, self.timestamp = 1, 0

    def play(self, part, to):
        first, last = (int(second * audio.RATE) for second in part)
        pcm = (self.voice[first:last] * 32767).astype("<i2").tobytes()
        law, due = audioop.lin2ulaw(pcm, 2), time.monotonic()
        for at in range(0, len(law) - 160, 160):
            header = b"\x80\x00" + self.sequence.to_bytes(2, "big") + self.timestamp.to_bytes(4, "big") + self.port.to_bytes(4, "big")
            self.socket.sendto(header + law[at : at + 160], ("127.0.0.1", to))
            self.sequence, self.timestamp = self.sequence + 1, self.timestamp + 160
            due += 0.02
            time.sleep(max(0, due - time.monotonic()))
        # Who is on hold sends nothing, and time goes on.
        self.timestamp += 8000

    def likeness(self, samples, party):
        """How like its sentence something heard is. Piece by piece: a receiver that makes up for jitter shifts what follows."""
        first, last = (int(second * audio.RATE) for second in CLIPS[party])
        pieces = [self.voice[at : at + PIECE] for at in range(first, last - PIECE, PIECE)]
        return sorted(audio.find(samples, piece)[1] for piece in pieces)

    def came(self):
        """Kinds of the datagrams that came, as RTCP's packet types or RTP's payload types."""
        self.socket.setblocking(False)
        kinds = []
        try:
            while True:
                kinds.append(self.socket.recv(2048)[1])
        except BlockingIOError:
            return kinds


class Client:
    """SIPp with the scenario."""

    def __init__(self, folder, server, streams):
        self.folder = folder
        folder.mkdir()
        text = (ROOT / "tests/peers/sipp/recording_client.xml").read_text()
        values = {"FIRST": streams["customer"].port, "SECOND": streams["agent"].port, "TALK": 6500, "SILENT": 7000, "HOLD": 7000, "REST": 14500}
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        (folder / "client.xml").write_text(text)
        command = ["sipp", "-sf", "client.xml", "-i", "127.0.0.1", "-p", str(free_ports(1)), "-m", "1", "-l", "1", "-nostdin"]
        command += ["-trace_err", "-trace_msg", "-trace_logs", "-timeout", "90s", "-timeout_error", f"127.0.0.1:{server}"]
        self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def logged(self, kind):
        return "".join(file.read_text(errors="replace") for file in self.folder.glob(f"*_{kind}.log"))

    def wait_for(self, pattern, seconds=20):
        until = time.monotonic() + seconds
        while not (found := re.search(pattern, self.logged("logs"))):
            assert self.process.poll() is None, f"SIPp ended:\n{self.logged('errors')}\n{self.logged('messages')}"
            assert time.monotonic() < until, f"no {pattern!r} within {seconds} s:\n{self.logged('messages')}"
            time.sleep(0.05)
        return found

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        return run(pathlib.Path(folder))


def run(folder):
    streams = {party: Stream(party) for party in SAID}
    audio.write(folder / "tone.wav", audio.tone(1100, 120))
    server = Sotto(folder / "sotto", ROUTES, model=MODEL, trunk="may_supervise = true\n")
    client = supervisor = None
    try:
        client = Client(folder / "client", server.sip, streams)
        found = client.wait_for(r"ports (\d+) (\d+)")
        ports = dict(zip(SAID, map(int, found.groups())))
        (call,) = server.calls()
        assert {leg["role"] for leg in call["legs"]} == set(SAID), call
        client.wait_for("answered")
        (call,) = server.calls()
        assert [(leg["role"], leg["address"]) for leg in call["legs"]] == [("customer", "sip:5550100@example.com"), ("agent", "sip:hotline@example.com")], call
        speaking = play(streams, PARTS[0], ports)
        server.wait_for_event(call["id"], "consent.changed", consent="given")
        supervisor = listening(folder, server)
        refused(server, call["id"])
        for voice in speaking:
            voice.join()
        client.wait_for("silenced")
        streams["customer"].play(HELD, ports["customer"])
        client.wait_for("held")
        for voice in play(streams, HELD, ports):
            voice.join()
        client.wait_for("resumed")
        for voice in play(streams, PARTS[1], ports):
            voice.join()
        status = client.process.wait(30)
        assert status == 0, f"SIPp is not content: {status}\n{client.logged('errors')}\n{client.logged('messages')}"
        ended = server.wait_for_event(call["id"], "call.ended")
        assert ended["data"]["reason"] == "recording client hung up", ended
        supervisor.wait_for(supervisor.ENDED)
        supervisor.hang_up()
        good = transcripts(server, call["id"]) & holds(server, call["id"])
        assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
        return 0 if recorded(folder, call["id"], streams) & overheard(supervisor, streams) & silent(streams) & good else 1
    finally:
        for other in (client, server):
            if other:
                other.stop()
        if supervisor:
            supervisor.hang_up()


def play(streams, part, ports):
    voices = [threading.Thread(target=streams[party].play, args=(part, ports[party])) for party in streams]
    for voice in voices:
        voice.start()
    return voices


def listening(folder, server):
    """A supervisor who dials the agent by the name that the UPDATE gave."""
    (folder / "supervisor").mkdir()
    (folder / "tone.wav").rename(folder / "supervisor/source.wav")
    supervisor = Phone(folder / "supervisor", "supervisor", dial=f"sip:*80bob@127.0.0.1:{server.sip}")
    supervisor.wait_for(supervisor.CONNECTED)
    return supervisor


def refused(server, call):
    """Nobody speaks into the call, in whatever mode."""
    for path, body in (("whisper", None), ("barge", None), ("say", {"text": "Hello."}), ("say", {"text": "Hello.", "audience": "agent"})):
        status, problem = server.request("POST", f"/v1/calls/{call}/{path}", body)
        assert (status, problem["code"], problem["detail"]) == (409, "no_way_back", WHY), (path, status, problem)
    print(f"whisper, barge, say: 409 {WHY}")


def transcripts(server, call, seconds=30):
    """What each is written down to have said. The last words come after the call."""
    until, said = time.monotonic() + seconds, {}
    while time.monotonic() < until and said != SAID:
        said = {party: [] for party in SAID}
        for event in server.events(call):
            if event["type"] == "sotto.speech.final":
                said[event["data"]["role"]].append(event["data"]["text"])
        time.sleep(0.2)
    for party, sentences in said.items():
        print(f"{party}: {' '.join(sentences)}{'' if sentences == SAID[party] else f'   WRONG: {SAID[party]}'}")
    return said == SAID


def holds(server, call):
    """Who was put on hold and came back, and when: the customer by metadata, then both."""
    legs = [event["data"]["role"] for event in server.events(call) if event["type"] == "sotto.leg.joined"][:2]
    found = [(event["type"][10:], event["leg"]) for event in server.events(call) if event["type"] in ("sotto.leg.held", "sotto.leg.resumed")]
    expected = [("held", "leg-1"), ("resumed", "leg-1"), ("held", "leg-1"), ("held", "leg-2"), ("resumed", "leg-1"), ("resumed", "leg-2")]
    print(f"holds: {found}{'' if found == expected else f'   WRONG: {expected}'}")
    return legs == ["customer", "agent"] and found == expected


def recorded(folder, call, streams):
    (file,) = (folder / "sotto/data/recordings").rglob(f"{call}.wav")
    left, good = audio.read(file, channels=2), True
    with_both = {"customer": left, "agent": second_channel(file)}
    for channel, samples in with_both.items():
        for party, stream in streams.items():
            pieces = stream.likeness(samples, party)
            right = there(pieces) if party == channel else pieces[-1] < 0.4
            good &= right
            print(f"the {channel}'s channel, the {party}'s sentence: {shown(pieces)}{'' if right else '   WRONG'}")
    return good


def second_channel(file):
    import wave

    import numpy as np

    with wave.open(str(file), "rb") as recording:
        return np.frombuffer(recording.readframes(recording.getnframes()), "<i2")[1::2] / 32768


def overheard(supervisor, streams):
    samples, good = audio.read_narrow(supervisor.recording()), True
    for party, stream in streams.items():
        pieces = stream.likeness(samples, party)
        good &= there(pieces)
        print(f"the supervisor, the {party}'s sentence: {shown(pieces)}{'' if there(pieces) else '   WRONG'}")
    return good


def there(pieces):
    return pieces[len(pieces) // 2] > 0.5


def shown(pieces):
    return f"likeness {pieces[0]:.2f} to {pieces[-1]:.2f}, half of it above {pieces[len(pieces) // 2]:.2f}"


def silent(streams):
    kinds = {party: stream.came() for party, stream in streams.items()}
    spoken = {party: [kind for kind in came if not 200 <= kind <= 207] for party, came in kinds.items()}
    print(f"sent to the client: {sum(map(len, spoken.values()))} packets of sound")
    return not any(spoken.values())


if __name__ == "__main__":
    sys.exit(matrix.run(main, {"SIPREC": "sipp"}))
