"""Somebody else's telephone system: a conference that mixes, with a PIN, and telephones that it puts calls through to.

SIP over UDP and G.711 (µ-law) on loopback. `room` is the conference: a PIN ending in `#` (telephone events, tones or INFO) lets in,
a wrong one is hung up on; where it is a focus it tells who is there (RFC 4575). Every other number that `routes` has is called
and put through, packet by packet. A bridge that `lies` plays what the caller says on such a private line to the room too. `busy`
is busy, and a number that nobody has is unknown.
"""

import audioop
import re
import secrets
import socket
import threading
import time

import numpy as np

FRAME = 160
ROWS, COLUMNS, KEYS = [697, 770, 852, 941], [1209, 1336, 1477], ["123", "456", "789", "*0#"]
INFO = """\
<?xml version="1.0" encoding="UTF-8"?>
<conference-info xmlns="urn:ietf:params:xml:ns:conference-info" entity="sip:room@127.0.0.1" state="full" version="{version}">
<conference-state><user-count>{count}</user-count></conference-state><users>{users}</users></conference-info>
"""
USER = '<user entity="{0}"><display-text>{0}</display-text><endpoint entity="{0}"><status>connected</status></endpoint></user>'


class Line:
    """One dialog: an INVITE that came (`request`), or one of ours."""

    def __init__(self, call_id):
        self.call_id, self.peer, self.far, self.last, self.numbers = call_id, None, None, None, 100
        self.tag, self.other, self.keyed, self.place = secrets.token_hex(6), None, "", "lobby"
        self.rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.rtp.bind(("127.0.0.1", 0))
        self.rtp.setblocking(False)
        self.sequence, self.timestamp, self.ssrc = 1, 0, secrets.randbelow(2**32)
        self.waiting, self.event, self.tone, self.subscribed, self.version = [], None, (None, 0), False, 0
        self.frame = np.zeros(FRAME, np.int16)


class Bridge:
    def __init__(self, port, pin="", routes=None, lies=False, focus=False):
        self.port, self.pin, self.routes, self.lies, self.focus = port, pin, routes or {}, lies, focus
        self.lines, self.how, self.heard = {}, [], []
        self.sip = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sip.bind(("127.0.0.1", port))
        self.sip.setblocking(False)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self):
        self.stopped.set()
        self.thread.join()
        self.sip.close()
        for line in self.lines.values():
            line.rtp.close()

    def uri(self, user):
        return f"sip:{user}@127.0.0.1:{self.port}"

    def room(self):
        """Who is in the conference."""
        return [line for line in list(self.lines.values()) if line.place == "room"]

    def _run(self):
        due = time.monotonic()
        while not self.stopped.is_set():
            self._messages()
            if time.monotonic() >= due:
                due += 0.02
                self._tick()
            time.sleep(max(0.0, min(0.005, due - time.monotonic())))

    # Signalling.

    def _messages(self):
        while True:
            try:
                text, source = self.sip.recvfrom(65536)
            except OSError:
                return
            text = text.decode(errors="replace")
            if not text.strip():
                continue
            line = self.lines.get(header(text, "Call-ID"))
            if text.startswith("SIP/2.0"):
                self._answered(line, text, source)
            else:
                self._asked(line, text, source)

    def _asked(self, line, text, source):
        method = text.split(" ", 1)[0]
        number = header(text, "CSeq")
        if line and line.last and line.last[0] == number and method != "ACK":
            return self.sip.sendto(line.last[1], source) and None
        if method == "INVITE" and line is None:
            return self._invited(text, source)
        if method == "ACK":
            return None
        if line is None:
            return self._answer(None, text, source, "481 Gone")
        if method == "BYE":
            self._answer(line, text, source, "200 OK")
            self._drop(line)
        elif method == "INFO":
            self._answer(line, text, source, "200 OK")
            key = re.search(r"Signal=\s*(\S)", text)
            if key:
                self._key(line, key.group(1), "info")
        elif method == "SUBSCRIBE" and self.focus and "conference" in (header(text, "Event") or ""):
            self._answer(line, text, source, "200 OK", more="Expires: 600\r\n")
            line.subscribed, line.version = True, 0
            self._notify(line)
        elif method in ("INVITE", "UPDATE"):
            self._answer(line, text, source, "200 OK", sdp(line))
        else:
            self._answer(line, text, source, "489 Bad Event" if method == "SUBSCRIBE" else "200 OK")
        return None

    def _invited(self, text, source):
        user = re.match(r"INVITE sip:([^@]+)@", text).group(1)
        if user == "busy":
            return self._answer(None, text, source, "486 Busy Here")
        if user != "room" and user not in self.routes:
            return self._answer(None, text, source, "404 Not Found")
        line = Line(header(text, "Call-ID"))
        line.peer, line.invite, line.source, line.user = source, text, source, user
        line.name = re.search(r"<?(sip:[^>;]+)", header(text, "From")).group(1)
        line.far = media(text)
        line.place = "room" if user == "room" and not self.pin else "lobby"
        self.lines[line.call_id] = line
        if user == "room":
            self._answer(line, text, source, "200 OK", sdp(line))
            return self._tell_all()
        self._answer(line, text, source, "180 Ringing", keep=False)
        other = Line(secrets.token_hex(8))
        other.other, line.other, other.place, other.user = line, other, "private", user
        other.to, host = self.routes[user], re.search(r"@([\d.]+):(\d+)", self.routes[user])
        other.peer = (host.group(1), int(host.group(2)))
        self.lines[other.call_id] = other
        return self._send(other, "INVITE", sdp(other))

    def _answered(self, line, text, source):
        if line is None or line.place == "over" or header(text, "CSeq").split()[1] != "INVITE":
            return
        status = int(text.split(" ", 2)[1])
        if status < 200:
            return
        line.to_header = header(text, "To")
        self._send(line, "ACK")
        if status >= 300:
            self._answer(line.other, line.other.invite, line.other.source, f"{status} Refused")
            line.place = line.other.place = "over"
        elif line.far is None:
            line.far, line.other.place = media(text), "private"
            self._answer(line.other, line.other.invite, line.other.source, "200 OK", sdp(line.other))

    def _answer(self, line, text, source, status, body="", more="", keep=True):
        copied = "".join(f"{name}: {header(text, name)}\r\n" for name in ("Via", "From", "Call-ID", "CSeq"))
        tag = "" if ";tag=" in header(text, "To") else f";tag={line.tag if line else 'none'}"
        focus = ";isfocus" if self.focus and line and line.user == "room" else ""
        kind = "Content-Type: application/sdp\r\n" if body else ""
        answer = (
            f"SIP/2.0 {status}\r\n{copied}To: {header(text, 'To')}{tag}\r\nContact: <sip:bridge@127.0.0.1:{self.port}>{focus}\r\n"
            f"{more}{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        if line and keep:
            line.last = (header(text, "CSeq"), answer)
        self.sip.sendto(answer, source)

    def _send(self, line, method, body="", more=""):
        """A request of ours: in a dialog that came its From and To change places."""
        number = 1 if method in ("INVITE", "ACK") else line.numbers
        line.numbers += 1
        if line.other is not None and not hasattr(line, "invite"):
            to, target = getattr(line, "to_header", f"<{line.to}>"), line.to
            ours = f"<sip:bridge@127.0.0.1:{self.port}>;tag={line.tag}"
        else:
            to, target = header(line.invite, "From"), re.search(r"<(sip:[^>]+)>", header(line.invite, "Contact")).group(1)
            ours = header(line.invite, "To") + f";tag={line.tag}"
        kind = "Content-Type: application/sdp\r\n" if method == "INVITE" else ""
        text = (
            f"{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bK{secrets.token_hex(8)};rport\r\n"
            f"From: {ours}\r\nTo: {to}\r\nCall-ID: {line.call_id}\r\nCSeq: {number} {method}\r\nMax-Forwards: 70\r\n"
            f"Contact: <sip:bridge@127.0.0.1:{self.port}>\r\n{more}{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        )
        self.sip.sendto(text.encode(), line.peer)

    def _drop(self, line):
        line.place = "over"
        if line.other and line.other.place != "over":
            line.other.place = "over"
            self._send(line.other, "BYE")
        self._tell_all()

    def _tell_all(self):
        for line in list(self.lines.values()):
            if line.subscribed and line.place != "over":
                self._notify(line)

    def _notify(self, line):
        line.version += 1
        here = self.room()
        body = INFO.format(version=line.version, count=len(here), users="".join(USER.format(each.name) for each in here))
        more = "Event: conference\r\nSubscription-State: active;expires=600\r\nContent-Type: application/conference-info+xml\r\n"
        self._send(line, "NOTIFY", body, more)

    def _key(self, line, key, how):
        self.how.append(how)
        if line.place != "lobby" or line.user != "room":
            return
        if key != "#":
            line.keyed += key
        elif line.keyed == self.pin:
            line.place = "room"
            self._tell_all()
        else:
            line.place = "over"
            self._send(line, "BYE")

    # Media.

    def _tick(self):
        for line in list(self.lines.values()):
            self._receive(line)
        room = self.room()
        lied = [line.frame for line in self.lines.values() if self.lies and line.place == "private" and hasattr(line, "invite")]
        total = sum((line.frame.astype(np.int32) for line in room), np.zeros(FRAME, np.int32)) + sum(lied, np.zeros(FRAME, np.int32))
        self.heard.append(np.clip(total, -32768, 32767).astype(np.int16))
        for line in room:
            self._play(line, total - line.frame)
        for line in list(self.lines.values()):
            if line.place == "lobby" and line.far and line.user == "room":
                self._play(line, np.zeros(FRAME, np.int32))

    def _receive(self, line):
        while True:
            try:
                packet, _ = line.rtp.recvfrom(2048)
            except OSError:
                break
            kind, timestamp = packet[1] & 0x7F, packet[4:8]
            if line.place == "private" and line.other and line.other.far:
                line.other.rtp.sendto(packet, line.other.far)
            if kind == 101 and timestamp != line.event:
                line.event = timestamp
                self._key(line, "0123456789*#ABCD"[packet[12]], "rfc4733")
            elif kind == 0:
                samples = np.frombuffer(audioop.ulaw2lin(packet[12:], 2), np.int16)
                line.waiting.append(samples)
                self._listen_for_tones(line, samples)
        # Two frames of patience, as a jitter buffer has.
        line.waiting = line.waiting[-4:]
        line.frame = line.waiting.pop(0) if line.waiting else np.zeros(FRAME, np.int16)
        if len(line.frame) != FRAME:
            line.frame = np.resize(line.frame, FRAME)

    def _listen_for_tones(self, line, samples):
        key = key_of(samples)
        before, count = line.tone
        line.tone = (key, count + 1 if key == before else 1)
        if key and line.tone[1] == 3 and line.place == "lobby":
            self._key(line, key, "inband")

    def _play(self, line, samples):
        payload = audioop.lin2ulaw(np.clip(samples, -32768, 32767).astype(np.int16).tobytes(), 2)
        head = bytes([0x80, 0]) + line.sequence.to_bytes(2, "big") + line.timestamp.to_bytes(4, "big") + line.ssrc.to_bytes(4, "big")
        line.sequence, line.timestamp = (line.sequence + 1) & 0xFFFF, (line.timestamp + FRAME) & 0xFFFFFFFF
        if line.far:
            line.rtp.sendto(head + payload, line.far)


def header(text, name):
    found = re.search(rf"^{name}\s*:\s*(.*?)\r?$", text, re.M | re.I)
    return found.group(1) if found else None


def media(text):
    port, host = re.search(r"^m=audio (\d+)", text, re.M), re.search(r"^c=IN IP4 (\S+)", text, re.M)
    return (host.group(1).strip(), int(port.group(1)))


def sdp(line):
    port = line.rtp.getsockname()[1]
    return (
        f"v=0\r\no=bridge 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\n"
        "a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=sendrecv\r\n"
    )


def key_of(samples):
    """The key whose two tones are nearly all there is of 20 ms."""
    power = float(np.mean(samples.astype(float) ** 2))
    if power < 500**2 or len(samples) != FRAME:
        return None
    def loud(hz):
        return abs(np.exp(-2j * np.pi * hz * np.arange(FRAME) / 8000) @ samples.astype(float)) ** 2 / FRAME**2 * 2
    row, column = max(range(4), key=lambda n: loud(ROWS[n])), max(range(3), key=lambda n: loud(COLUMNS[n]))
    return KEYS[row][column] if loud(ROWS[row]) + loud(COLUMNS[column]) > 0.7 * power else None
