"""A relay of UDP that loses one datagram in so many, either way, by a seed; and remembers what came by.

Who talks to `near` is passed on from `far` to `beyond`, and the other way round: each side takes the relay for the other.
"""

import collections
import random
import re
import socket
import threading

Came = collections.namedtuple("Came", "outward text lost")


class Relay:
    """`beyond` and `inner` are the two sides, which may be set later; who talks first to `near` is `inner` where nobody is."""

    def __init__(self, seed, loss=0.1, beyond=None, inner=None):
        self.near, self.far = _bound(), _bound()
        self.beyond, self.inner, self.loss = beyond, inner, loss
        self.came, self.lock, self.running = [], threading.Lock(), True
        self.threads = [
            threading.Thread(target=self._pass, args=(self.near, True, random.Random(seed)), daemon=True),
            threading.Thread(target=self._pass, args=(self.far, False, random.Random(seed + 1)), daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    @property
    def near_port(self):
        return self.near.getsockname()[1]

    @property
    def far_port(self):
        return self.far.getsockname()[1]

    def stop(self):
        self.running = False
        for thread in self.threads:
            thread.join(2)
        self.near.close()
        self.far.close()

    def counts(self):
        """Datagrams that came, that were lost, and that had come before."""
        with self.lock:
            came = list(self.came)
        repeated = len(came) - len({(c.outward, c.text) for c in came})
        return len(came), sum(c.lost for c in came), repeated

    def answers(self):
        """By INVITE: the distinct 2xx that came by."""
        found = collections.defaultdict(set)
        with self.lock:
            for _, text, _ in self.came:
                if re.match(r"SIP/2\.0 2\d\d ", text) and (cseq := re.search(r"(?m)^CSeq: (\d+ INVITE)\r?$", text)):
                    call = re.search(r"(?m)^Call-ID: (\S+)\r?$", text)[1]
                    found[call, cseq[1]].add(re.search(r"(?m)^To: .*tag=(\S+?)\r?$", text)[1])
        return found

    def _pass(self, socket_, outward, chance):
        while self.running:
            try:
                datagram, source = socket_.recvfrom(65_536)
            except TimeoutError:
                continue
            except ConnectionError:
                continue
            if outward and self.inner is None:
                self.inner = source
            lost = chance.random() < self.loss
            with self.lock:
                self.came.append(Came(outward, datagram.decode(errors="replace"), lost))
            to = self.beyond if outward else self.inner
            if not lost and to:
                (self.far if outward else self.near).sendto(datagram, to)


def _bound():
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.settimeout(0.2)
    return made
