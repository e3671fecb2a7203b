"""A recording client (SRC, RFC 7866) for calls that pass through rtpengine: it has rtpengine fork both parties' media and
tells a recording server who they are. What dialplans/kamailio/siprec.md describes, at its smallest; one call, UDP, no repeats.
"""

import re
import secrets
import socket


class RecordingClient:
    """Forks one call of the rtpengine whose control port is `ng` to the server at `srs` until `stop`."""

    def __init__(self, ng, srs):
        self.ng, self.srs = ng, srs
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.port, self.tag, self.id = self.socket.getsockname()[1], secrets.token_hex(8), secrets.token_hex(8)
        (self.call,) = control(ng, {"command": "list"})["calls"]
        forked = control(ng, {"command": "subscribe request", "call-id": self.call, "flags": ["all", "siprec"]})
        self.subscription, self.offer = forked["to-tag"], forked["sdp"]
        # Which label is whose: rtpengine knows the parties by their tags.
        self.people = {media["label"]: of["tag"] for of in forked["tag-medias"] for media in of["medias"]}
        self.answer = self._invite()
        sdp = self.answer.split("\r\n\r\n", 1)[1]
        # Without the flag rtpengine refuses an answer that takes fewer codecs than it offered.
        control(ng, {"command": "subscribe answer", "call-id": self.call, "to-tag": self.subscription, "sdp": sdp, "flags": ["allow transcoding"]})

    def stop(self):
        to = re.search(r"^To: (.*)\r$", self.answer, re.M).group(1)
        assert self._ask(self._request("BYE", 2, to, "", "")).startswith("SIP/2.0 200")
        control(self.ng, {"command": "unsubscribe", "call-id": self.call, "to-tag": self.subscription})
        self.socket.close()

    def _invite(self):
        body = (
            f"--part\r\nContent-Type: application/sdp\r\n\r\n{self.offer}\r\n--part\r\nContent-Type: application/rs-metadata+xml\r\n"
            f"Content-Disposition: recording-session\r\n\r\n{metadata(self.call, self.people)}\r\n--part--\r\n"
        )
        to, kind = f"<sip:srs@127.0.0.1:{self.srs}>", "Require: siprec\r\nContent-Type: multipart/mixed;boundary=part\r\n"
        answer = self._ask(self._request("INVITE", 1, to, kind, body))
        assert answer.startswith("SIP/2.0 200"), answer
        self._send(self._request("ACK", 1, re.search(r"^To: (.*)\r$", answer, re.M).group(1), "", ""))
        return answer

    def _request(self, method, number, to, extra, body):
        return (
            f"{method} sip:srs@127.0.0.1:{self.srs} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bK{secrets.token_hex(8)};rport\r\n"
            f"From: <sip:src@127.0.0.1:{self.port}>;tag={self.tag}\r\nTo: {to}\r\nCall-ID: {self.id}\r\nCSeq: {number} {method}\r\n"
            f"Contact: <sip:src@127.0.0.1:{self.port}>;+sip.src\r\nMax-Forwards: 70\r\n{extra}Content-Length: {len(body.encode())}\r\n\r\n{body}"
        )

    def _send(self, text):
        self.socket.sendto(text.encode(), ("127.0.0.1", self.srs))

    def _ask(self, text):
        self._send(text)
        while True:
            answer = self.socket.recv(65536).decode()
            if not answer.startswith("SIP/2.0 1"):
                return answer


def metadata(call, people):
    each = "".join(
        f'<participant participant_id="{tag}"><nameID aor="sip:{tag}@127.0.0.1"/></participant>'
        f'<stream stream_id="stream-{label}" session_id="{call}"><label>{label}</label></stream>'
        f'<participantstreamassoc participant_id="{tag}"><send>stream-{label}</send></participantstreamassoc>'
        for label, tag in people.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><recording xmlns="urn:ietf:params:xml:ns:recording:1"><datamode>complete</datamode>'
        f'<session session_id="{call}"/>{each}</recording>'
    )


def control(ng, question):
    """Asks rtpengine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.settimeout(5)
        # A cookie that came before is a question repeated.
        way.sendto(secrets.token_hex(8).encode() + b" " + encoded(question), ("127.0.0.1", ng))
        answer, _ = decoded(way.recv(65536).split(b" ", 1)[1])
    assert answer["result"] == "ok", (question, answer)
    return answer


def encoded(value):
    """Bencode."""
    if isinstance(value, dict):
        return b"d" + b"".join(encoded(key) + encoded(each) for key, each in value.items()) + b"e"
    if isinstance(value, list):
        return b"l" + b"".join(map(encoded, value)) + b"e"
    return b"%d:%s" % (len(value.encode()), value.encode())


def decoded(text):
    """A value, and what follows it."""
    kind = text[:1]
    if kind == b"i":
        number, rest = text[1:].split(b"e", 1)
        return int(number), rest
    if kind in (b"l", b"d"):
        items, rest = [], text[1:]
        while rest[:1] != b"e":
            item, rest = decoded(rest)
            items.append(item)
        return (items if kind == b"l" else dict(zip(items[::2], items[1::2]))), rest[1:]
    length, rest = text.split(b":", 1)
    return rest[: int(length)].decode(), rest[int(length) :]
