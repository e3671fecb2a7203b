#!/usr/bin/env python3
"""What telephones do with a call, done by baresip: one holds and the other is told and hears music, and the second of two
addresses is called. What each hears is measured.
"""

import pathlib
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import audio
import matrix
from baresip import Phone
from sotto import Sotto
from test_supervisor import ROUTE
from test_who_hears_whom import connected

TONES = {"customer": 440, "agent": 700}
LEVEL = 0.15
MUSIC = 1000


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder, ThreadPoolExecutor(2) as pool:
        folder = pathlib.Path(folder)
        runs = [pool.submit(test, folder / test.__name__) for test in (is_played_our_music_while_the_other_holds, is_called_in_turn)]
        good = all([done.result() for done in runs])
    print("dialogs as they happen" if good else "NOT as they happen")
    return 0 if good else 1


class Scene:
    """A customer and an agent, and a server between them."""

    def __init__(self, folder, sip="", route=ROUTE):
        folder.mkdir()
        self.folder, self.phones, self.server = folder, {}, None
        for user, frequency in TONES.items():
            (folder / user).mkdir()
            audio.write(folder / user / "source.wav", audio.tone(frequency, 120, LEVEL))
        self.sip, self.route = sip, route

    def __enter__(self):
        agent = self.phones["agent"] = Phone(self.folder / "agent", "agent")
        agent.wait_for(agent.READY)
        self.server = Sotto(self.folder / "sotto", self.route.format(agent=agent.uri), sip=self.sip)
        dial = f"sip:desk@127.0.0.1:{self.server.sip}"
        self.phones["customer"] = Phone(self.folder / "customer", "customer", dial=dial)
        self.call = connected(self.server)
        return self

    def hang_up(self):
        for phone in self.phones.values():
            phone.hang_up()

    def heard(self, who):
        return audio.read_narrow(self.phones[who].recording())

    def __exit__(self, *_):
        self.hang_up()
        if self.server:
            self.server.stop()


def is_played_our_music_while_the_other_holds(folder):
    """The agent holds and comes back: the customer's telephone is told, and is sent our music meanwhile. A baresip that was
    told of a hold records no more; that it receives a whole stream of G.711 is all it tells.
    """
    folder.mkdir()
    audio.write(folder / "music.wav", audio.tone(MUSIC, 1, LEVEL))
    with Scene(folder / "scene", sip=f'hold_music = "{folder}/music.wav"\n') as scene:
        agent, customer, server = scene.phones["agent"], scene.phones["customer"], scene.server
        time.sleep(3)
        agent.hold()
        server.wait_for_event(scene.call, "leg.held")
        music = server.wait_for_event(scene.call, "clip.started")["data"]
        time.sleep(3)
        received = {"on hold": customer.receiving()}
        agent.resume()
        server.wait_for_event(scene.call, "leg.resumed")
        server.wait_for_event(scene.call, "clip.cut", clip=music["clip"])
        time.sleep(3)
        received["afterwards"] = customer.receiving()
        role = {leg["id"]: leg["role"] for leg in server.request("GET", f"/v1/calls/{scene.call}")[1]["legs"]}
        audience = [role[leg] for leg in music["audience"]]
        scene.hang_up()
        before = scene.heard("customer")[audio.RATE : 2 * audio.RATE]
    level = audio.steady(audio.heard_tone(before, TONES["agent"])) / LEVEL
    good = level > 0.5 and min(received.values()) > 60_000 and audience == ["customer"]
    print(f"music on hold for {audience}: before it they hear {level:.2f} of the agent, then receive {received} bit/s{'' if good else '   WRONG'}")
    return good


def is_called_in_turn(folder):
    """Nobody is at the first address; the second answers."""
    nobody = '"sip:nobody@127.0.0.1:9"'
    route = ROUTE.replace('"{agent}"', f'[{nobody}, "{{agent}}"], timeout = 2')
    with Scene(folder, route=route) as scene:
        time.sleep(3)
        scene.hang_up()
        heard = {who: scene.heard(who) for who in TONES}
    others = {"customer": "agent", "agent": "customer"}
    levels = {
        who: audio.steady(audio.heard_tone(samples[-2 * audio.RATE : -audio.RATE // 2], TONES[others[who]])) / LEVEL
        for who, samples in heard.items()
    }
    good = min(levels.values()) > 0.5
    print("called in turn, each hears the other:", levels, "" if good else "   WRONG")
    return good


if __name__ == "__main__":
    sys.exit(matrix.run(main, {"hold": "baresip", "targets in turn": "baresip"}))
