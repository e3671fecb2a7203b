#!/usr/bin/env python3
"""Two real phones talk through `sotto serve` in every codec and in every pair of codecs, while a third whispers.

Each phone speaks one codec and plays a low tone of its own, and a high one above 4 kHz where its codec is wideband. What
each recorded must have the low tones of all whom the table of hearing lets it hear, and their high tones exactly where
both codecs are wideband; the customer's recording never has the supervisor's.

All in plain RTP, and all again with every leg in SRTP.

    test_codecs.py [MEDIAENC…]     how every phone encrypts, as baresip's `mediaenc` has it
"""

import pathlib
import sys
import tempfile
import time

import audio
from baresip import CODECS, Phone
from sotto import Sotto

NAMES = list(CODECS)
# Everybody with everybody: each codec calls and is called, the supervisor speaks another one each time.
CALLS = [(a, b, NAMES[(i + j + 2) % len(NAMES)]) for i, a in enumerate(NAMES) for j, b in enumerate(NAMES) if (i + j) % 2 == (i > j) or i == j]
# Low and high.
TONES = {"customer": (440, 5200), "agent": (700, 5700), "supervisor": (1100, 6700)}
EARS = {"customer": {"agent"}, "agent": {"customer", "supervisor"}, "supervisor": {"customer", "agent"}}
LEVEL = 0.1
# A tone that is there all the time, what a codec may make of several others at its place, and what would be a whisper.
THERE, NOISE, WHISPER = LEVEL / 4, LEVEL / 12, LEVEL / 50
# Calls at once: three phones each.
BATCH = 5
# Seconds that all three talk, and what is left out of them at the beginning and at the end.
TALK, SETTLE, TAIL = 5.0, 2.0, 0.5


def main(mediaenc=None):
    pairs = {frozenset(call[:2]) for call in CALLS}
    assert len(pairs) == len(NAMES) * (len(NAMES) + 1) // 2, "every pair, and every codec with itself"
    print(f"every leg in {'SRTP: ' + mediaenc if mediaenc else 'plain RTP'}")
    print(f"{'customer':11}{'agent':9}{'supervisor':13}{'customer hears':36}{'agent hears':36}supervisor hears")
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        batches = [CALLS[i : i + BATCH] for i in range(0, len(CALLS), BATCH)]
        good = [talk(pathlib.Path(folder) / str(n), batch, mediaenc) for n, batch in enumerate(batches)]
    print("as the table of hearing has it" if all(good) else "NOT as the table of hearing has it")
    return 0 if all(good) else 1


def talk(folder, batch, mediaenc):
    """Some calls at the same time, and whether everybody heard whom they should."""
    folder.mkdir()
    calls, server = [Call(folder / str(n), n, codecs, mediaenc) for n, codecs in enumerate(batch)], None
    try:
        for call in calls:
            call.add("agent")
        for call in calls:
            call.phones["agent"].wait_for("baresip is ready")
        srtp = ', srtp = "required"' if mediaenc else ""
        routes = [f"[[route]]\ncalled = '^desk{c.number}$'\nsteps = [ {{connect = {{to = \"{c.phones['agent'].uri}\"{srtp}}}}} ]\n" for c in calls]
        server = Sotto(folder / "sotto", "".join(routes), trunk="may_supervise = true\n")
        for call in calls:
            call.add("customer", dial=f"sip:desk{call.number}@127.0.0.1:{server.sip}")
        for call in calls:
            call.phones["customer"].wait_for("Call established", 20)
        for call in calls:
            call.add("supervisor", dial=f"sip:*81agent{call.number}@127.0.0.1:{server.sip}")
        for call in calls:
            call.phones["supervisor"].wait_for("Call established", 20)
        time.sleep(TALK)
        for call in calls:
            call.phones["customer"].hang_up()
        for call in calls:
            call.phones["agent"].wait_for("terminated")
            call.phones["supervisor"].wait_for("terminated")
            call.hang_up()
        assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
        return all([call.report() for call in calls])
    finally:
        for call in calls:
            call.hang_up()
        if server:
            server.stop()


class Call:
    """Three phones, each with its codec."""

    def __init__(self, folder, number, codecs, mediaenc):
        folder.mkdir()
        self.folder, self.number, self.mediaenc = folder, number, mediaenc
        self.codecs, self.phones = dict(zip(TONES, codecs)), {}

    def add(self, who, dial=None):
        codec, folder = self.codecs[who], self.folder / who
        folder.mkdir()
        sound = CODECS[codec]
        tones = [t for t in TONES[who] if t < sound.rate / 2]
        audio.write(folder / "source.wav", sum(audio.tone(t, 120, LEVEL, sound.rate) for t in tones), sound.rate, sound.channels)
        self.phones[who] = Phone(folder, f"{who}{self.number}", dial, self.mediaenc, codec)

    def hang_up(self):
        for phone in self.phones.values():
            phone.hang_up()

    def report(self):
        """Prints who heard whom, and whether it is right."""
        good, cells = True, []
        for listener in TONES:
            sound = CODECS[self.codecs[listener]]
            recording = audio.read(self.phones[listener].recording(), sound.rate, sound.channels)
            talked = recording[-int((TALK - SETTLE) * sound.rate) : -int(TAIL * sound.rate)]
            found, faint = heard(talked, sound.rate)
            expected = {t for who in EARS[listener] for t in TONES[who] if t < min(sound.rate, CODECS[self.codecs[who]].rate) / 2}
            leaked = listener == "customer" and whispered(recording, sound.rate)
            good &= found == faint == expected and not leaked
            wrong = "" if found == faint == expected else f" WRONG: {sorted(expected)}, faintly {sorted(faint)}"
            cells.append(f"{', '.join(map(str, sorted(found)))}{wrong}{' LEAK' if leaked else ''}")
        print(f"{self.codecs['customer']:11}{self.codecs['agent']:9}{self.codecs['supervisor']:13}{cells[0]:36}{cells[1]:36}{cells[2]}")
        return good


def heard(samples, rate):
    """The tones that are there all the time, and those that are there at all."""
    levels = {t: audio.heard_tone(samples, t, rate=rate) for tones in TONES.values() for t in tones if t < rate / 2}
    assert all(len(level) > 10 for level in levels.values()), "too little was recorded"
    return {t for t, level in levels.items() if audio.steady(level) > THERE}, {t for t, level in levels.items() if level.max() > NOISE}


def whispered(recording, rate):
    """Whether there is anything of the supervisor anywhere."""
    return any(audio.heard_tone(recording, t, rate=rate).max() > WHISPER for t in TONES["supervisor"] if t < rate / 2)


if __name__ == "__main__":
    sys.exit(max([main(mediaenc) for mediaenc in sys.argv[1:] or (None, "srtp-mand")]))
