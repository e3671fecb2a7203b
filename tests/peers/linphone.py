"""A telephone that others wrote: a linphonec process that plays a WAV file into its calls and records what it hears
(Debian's 5.1). It is told what to do by lines on its standard input, and has files for a sound card. Left alone it would
name an IPv6 address in a call over IPv4, if it has one, and be refused. It names its host's outward address whatever it
sends from.
"""

import os
import subprocess
import time

from baresip import free_ports

CONFIG = """\
[sip]
sip_port={port}
sip_tcp_port=0
sip_tls_port={tls}
root_ca={authority}
verify_server_certs=1
verify_server_cn=1
bind_address=127.0.0.1
ipv6_migration_done=1
use_ipv6=0
use_info=0
use_rfc2833=1
{sip}[rtp]
audio_rtp_port=-1
[sound]
echocancellation=0
[video]
enabled=0
[misc]
real_early_media=1
"""


class Linphone:
    """A phone with one account. It answers by itself; `dial` names whom it calls at once instead. `sip`: further lines of
    its configuration; with a `log` of 6 it prints every message. Unless it `answers` it rings until `answer`.
    """

    # What it prints when it is ready, when a call stands, and when it is over.
    READY, CONNECTED, ENDED = "Using wav files", " connected.", " ended ("

    def __init__(self, folder, user, dial=None, sip="", log=0, answers=True, authority=None):
        """`authority`: whose certificates it believes, where it is to speak TLS."""
        folder.mkdir(exist_ok=True)
        (folder / ".local/share/linphone").mkdir(parents=True)
        self.folder, self.user, self.port = folder, user, free_ports(1)
        (folder / "rc").write_text(CONFIG.format(port=self.port, user=user, sip=sip, tls=-1 if authority else 0, authority=authority or ""))
        self.log = open(folder / "log", "wb")
        environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder / ".local/share"), "XDG_CONFIG_HOME": str(folder / ".config")}
        command = ["linphonec", "-c", str(folder / "rc"), "-d", str(log)] + (["-a"] if answers and not dial else [])
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=self.log, stderr=self.log)
        self.say("soundcard use files", f"play {folder}/source.wav", f"record {folder}/heard.wav")
        if dial:
            self.say(f"call {dial}")

    @property
    def uri(self):
        return f"sip:{self.user}@127.0.0.1:{self.port}"

    def say(self, *commands):
        """Commands, each a line."""
        self.process.stdin.write("".join(f"{c}\n" for c in commands).encode())
        self.process.stdin.flush()

    def said(self):
        """All it has printed."""
        return (self.folder / "log").read_text(errors="replace")

    def wait_for(self, text, seconds=10):
        until = time.monotonic() + seconds
        while text not in self.said():
            assert self.process.poll() is None, f"{self.user}: linphonec ended:\n{self.said()}"
            assert time.monotonic() < until, f"{self.user}: no {text!r} within {seconds} s:\n{self.said()}"
            time.sleep(0.05)

    def press(self, key):
        """Presses a key of the telephone; in a call it goes out as RFC 4733."""
        self.say(key)

    def hold(self):
        self.say("pause")

    def resume(self):
        self.say("resume")

    def answer(self):
        self.say("answer")

    def transfer(self, to):
        """Sends the other party on, blind."""
        self.say(f"transfer 1 {to}")

    def ask_back(self, to):
        """Holds the call and calls somebody else."""
        self.say("pause", f"call {to}")

    def join(self):
        """Joins the parties of its two calls."""
        self.say("transfer 1 --to-call 2")

    def hang_up(self):
        """Ends the call, if it is up, and the phone."""
        if self.process.poll() is None:
            try:
                self.say("terminate", "quit")
                self.process.wait(10)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self.process.kill()
                self.process.wait()
        self.log.close()

    def recording(self):
        """The file of what it heard."""
        return self.folder / "heard.wav"
