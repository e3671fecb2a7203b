"""A phone: a baresip process that plays a WAV file into its calls and records what it hears (Debian's 1.0.0).

Its ways: `net_interface` takes an address; SIP over TLS listens on the port above; the end of the source file ends the
call, so the file must be longer than it; the module sndfile records each direction to dump-…-enc.wav and -dec.wav,
complete once the call is over; SIGTERM hangs up; the source file must have the rate and the channels of the codec.
"""

import collections
import re
import signal
import socket
import subprocess
import time

MODULES = "/usr/lib/baresip/modules"

Codec = collections.namedtuple("Codec", "name rate channels")

# What Sotto speaks, as baresip calls it, and what it plays and records then.
CODECS = {
    "PCMU": Codec("pcmu/8000/1", 8000, 1),
    "PCMA": Codec("pcma/8000/1", 8000, 1),
    "G722": Codec("g722/16000/1", 16000, 1),
    "opus": Codec("opus/48000/2", 48000, 2),
    "L16": Codec("l16/16000/1", 16000, 1),
}

CONFIG = """\
sip_listen 127.0.0.1:{port}
net_interface 127.0.0.1
call_max_calls 1
audio_source aufile,{folder}/source.wav
audio_player aufile,{folder}/player.wav
audio_alert aufile,/dev/null
ausrc_srate {rate}
auplay_srate {rate}
ausrc_channels {channels}
auplay_channels {channels}
snd_path {folder}
module_path {modules}
module g711.so
module g722.so
module opus.so
module l16.so
module srtp.so
module aufile.so
module sndfile.so
module_app cons.so
cons_listen 127.0.0.1:{console}
module_app account.so
module_app menu.so
"""


class Phone:
    """A phone with one account. It answers by itself; `dial` names whom it calls at once instead.

    `mediaenc`: `srtp` offers a key on a line of plain RTP, `srtp-mand` speaks SRTP alone. `codec`: the only one it
    speaks, else G.711. `more`: further lines of its configuration. `account`: further parameters of its account. Unless it
    `answers` it rings.
    """

    # What it prints when it is ready, when a call stands, and when it is over.
    READY, CONNECTED, ENDED = "baresip is ready", "Call established", "terminated"

    def __init__(self, folder, user, dial=None, mediaenc=None, codec=None, more="", account="", answers=True):
        folder.mkdir(exist_ok=True)
        self.folder, self.user = folder, user
        self.port, self.console = free_ports(2), free_ports(1)
        sound = CODECS[codec or "PCMU"]._asdict()
        (folder / "config").write_text(CONFIG.format(port=self.port, console=self.console, folder=folder, modules=MODULES, **sound) + more)
        codecs = sound["name"] if codec else "pcmu/8000/1,pcma/8000/1"
        line = f"<sip:{user}@127.0.0.1:{self.port}>;regint=0;answermode={'auto' if answers else 'manual'};audio_codecs={codecs}"
        line += f";mediaenc={mediaenc}" if mediaenc else ""
        (folder / "accounts").write_text(line + account + "\n")
        (folder / "contacts").touch()
        command = ["baresip", "-4", "-f", str(folder)] + (["-e", f"/dial {dial}"] if dial else [])
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    @property
    def uri(self):
        return f"sip:{self.user}@127.0.0.1:{self.port}"

    def said(self):
        """All it has printed."""
        return (self.folder / "log").read_text(errors="replace")

    def wait_for(self, text, seconds=10):
        until = time.monotonic() + seconds
        while text not in self.said():
            assert self.process.poll() is None, f"{self.user}: baresip ended:\n{self.said()}"
            assert time.monotonic() < until, f"{self.user}: no {text!r} within {seconds} s:\n{self.said()}"
            time.sleep(0.05)

    def press(self, key):
        """Presses a key of the telephone for 100 ms; in a call it goes out as RFC 4733."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as console:
            for stroke in (key.encode(), b"\x00"):
                console.sendto(stroke, ("127.0.0.1", self.console))
                time.sleep(0.1)

    def hold(self):
        self.press("x")

    def resume(self):
        self.press("X")

    def transfer(self, to):
        """Sends the other party on, blind."""
        self.type(f"/transfer {to}\n")

    def type(self, text):
        """A command, a character after the other."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as console:
            for character in text:
                console.sendto(character.encode(), ("127.0.0.1", self.console))
                time.sleep(0.01)

    def receiving(self):
        """Bits a second of audio, as it last told; its recording ends when it first holds."""
        return int(re.findall(r"audio=\d+/(\d+) ", self.said())[-1])

    def hang_up(self):
        """Ends the call, if it is up, and the phone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def recording(self):
        """The file of what it heard."""
        (file,) = self.folder.glob("dump-*-dec.wav")
        return file


def free_ports(count):
    """The first of some adjacent ports that are free for UDP and TCP alike."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            first = probe.getsockname()[1]
        try:
            for port in range(first, first + count):
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    with socket.socket(socket.AF_INET, kind) as probe:
                        probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
