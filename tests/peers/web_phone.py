"""A telephone on a page: SIP in a secure WebSocket (RFC 7118) that another library speaks (Python's websockets), with digest
(SHA-256), and G.711 over plain RTP. It has no address of SIP: whoever has something to say to it says it on its connection.
"""

import hashlib
import random
import re
import socket
import ssl
import threading
import time

import numpy as np
from websockets.sync.client import connect

import audio

PACKET = 160


class WebPhone:
    """Calls, talks, and answers what comes, until it is hung up. `heard` is what it heard, at 8 kHz."""

    def __init__(self, uri, certificates, user, password, page, tone, level):
        self.user, self.password, self.domain = user, password, f"{random.getrandbits(48):x}.invalid"
        context = ssl.create_default_context(cafile=f"{certificates}/ca.pem")
        self.socket = connect(uri, ssl=context, subprotocols=["sip"], origin=page, ping_interval=1)
        assert self.socket.subprotocol == "sip", self.socket.subprotocol
        self.media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.media.bind(("127.0.0.1", 0))
        self.media.settimeout(0.1)
        self.call_id, self.tag, self.to, self.cseq = f"{random.getrandbits(64):x}", f"{random.getrandbits(32):x}", None, 0
        self.tone, self.level, self.heard, self.over = tone, level, [], threading.Event()
        self.threads = []

    def call(self, number, host, seconds=10):
        """Until it is answered: the talk begins."""
        self.number, self.host, self.target = number, host, f"sip:{number}@{host}"
        self._send("INVITE", self._sdp())
        until, proven = time.monotonic() + seconds, False
        while True:
            answer = self._next(until)
            status = int(answer.split(" ")[1])
            if status == 401 and not proven:
                self._to(answer)
                self._acknowledge()
                challenge, proven = re.findall(r"(?m)^WWW-Authenticate: (.*SHA-256.*)\r$", answer)[0], True
                self.to = None
                self._send("INVITE", self._sdp(), self._proof(challenge))
            elif status >= 200:
                break
        assert status == 200, answer
        self._to(answer)
        self.target = re.search(r"(?m)^Contact: <([^>]*)>", answer)[1]
        self._acknowledge()
        there = (re.search(r"c=IN IP4 (\S+)", answer)[1], int(re.search(r"m=audio (\d+)", answer)[1]))
        for work in (lambda: self._talk(there), self._listen, self._answer):
            self.threads.append(threading.Thread(target=work, daemon=True))
            self.threads[-1].start()

    def wait_for_the_end(self, seconds=10):
        """Until the other end hung up."""
        assert self.over.wait(seconds), "nobody hung up"

    def hang_up(self):
        self.over.set()
        for thread in self.threads:
            thread.join(5)
        self.socket.close()
        self.media.close()

    def recording(self):
        return np.concatenate(self.heard) if self.heard else np.zeros(0)

    def _sdp(self):
        port = self.media.getsockname()[1]
        return f"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"

    def _send(self, method, body="", extra="", cseq=None):
        if cseq is None:
            self.cseq += 1
        kind = "Content-Type: application/sdp\r\n" if body else ""
        self.socket.send(
            f"{method} {self.target} SIP/2.0\r\nVia: SIP/2.0/WSS {self.domain};branch=z9hG4bK{random.getrandbits(64):x}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:{self.user}@{self.host}>;tag={self.tag}\r\nTo: {self.to or f'<sip:{self.number}@{self.host}>'}\r\n"
            f"Call-ID: {self.call_id}\r\nCSeq: {cseq or self.cseq} {method}\r\nContact: <sip:{self.user}@{self.domain};transport=ws>\r\n"
            f"{extra}{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        )

    def _acknowledge(self):
        self._send("ACK", cseq=self.cseq)

    def _to(self, answer):
        self.to = re.search(r"(?m)^To: (.*)\r$", answer)[1]

    def _next(self, until):
        while True:
            message = self.socket.recv(timeout=max(0.1, until - time.monotonic()))
            message = message if isinstance(message, str) else message.decode()
            if message.startswith("SIP/2.0 "):
                return message

    def _proof(self, challenge):
        field = dict(re.findall(r'(\w+)="?([^",]*)"?', challenge))
        digest = lambda text: hashlib.sha256(text.encode()).hexdigest()
        secret = digest(f"{self.user}:{field['realm']}:{self.password}")
        response = digest(f"{secret}:{field['nonce']}:00000001:page:auth:{digest(f'INVITE:{self.target}')}")
        return (
            f'Authorization: Digest username="{self.user}", realm="{field["realm"]}", nonce="{field["nonce"]}", uri="{self.target}", '
            f'response="{response}", algorithm=SHA-256, qop=auth, nc=00000001, cnonce="page"\r\n'
        )

    def _answer(self):
        """200 to whatever comes; a BYE is the end."""
        while not self.over.is_set():
            try:
                message = self.socket.recv(timeout=0.1)
            except TimeoutError:
                continue
            method = message.split(" ")[0]
            if method in ("SIP/2.0", "ACK"):
                continue
            copied = "".join(f"{line}\r\n" for line in message.split("\r\n") if re.match("(Via|From|To|Call-ID|CSeq):", line))
            self.socket.send(f"SIP/2.0 200 OK\r\n{copied}Content-Length: 0\r\n\r\n")
            if method == "BYE":
                self.over.set()

    def _talk(self, there):
        samples, sequence, began = audio.tone(self.tone, 60, self.level), 0, time.monotonic()
        while not self.over.is_set():
            piece = encoded(samples[sequence * PACKET % len(samples) :][:PACKET])
            header = bytes([0x80, 0x80 if sequence == 0 else 0]) + sequence.to_bytes(2, "big") + (sequence * PACKET).to_bytes(4, "big") + b"page"
            self.media.sendto(header + piece, there)
            sequence += 1
            time.sleep(max(0.0, began + sequence * 0.02 - time.monotonic()))

    def _listen(self):
        while not self.over.is_set():
            try:
                packet = self.media.recv(2048)
            except TimeoutError:
                continue
            if packet[1] & 0x7F == 0:
                self.heard.append(decoded(packet[12:]))


def encoded(samples):
    """G.711 µ-law, by the nearest of its 256 values."""
    order = np.argsort(VALUES, kind="stable")
    places = np.clip(np.searchsorted(VALUES[order], samples), 1, 255)
    nearer = np.where(samples - VALUES[order][places - 1] < VALUES[order][places] - samples, places - 1, places)
    return order[nearer].astype(np.uint8).tobytes()


def decoded(payload):
    return VALUES[np.frombuffer(payload, np.uint8)]


def _values():
    """ITU-T G.711, table 2a."""
    codes = ~np.arange(256) & 0xFF
    magnitudes = (((codes & 0x0F) << 3) + 0x84 << ((codes >> 4) & 7)) - 0x84
    return np.where(codes & 0x80, -magnitudes, magnitudes) / 32768


VALUES = _values()
