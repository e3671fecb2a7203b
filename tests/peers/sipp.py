"""SIPp with one of the scenarios in `sipp/`. What stands between at signs in one is filled in."""

import pathlib
import socket
import subprocess
import time

import matrix
from baresip import free_ports

SCENARIOS = pathlib.Path(__file__).parent / "sipp"
DEFAULTS = {"FORMATS": "0 8 101", "TALK": "500", "RING": "200", "ANSWER": "200 OK", "NUMBER": "100", "MATRIX": ""}


class Sipp:
    """The process: it calls `server`, or waits to be called where there is none."""

    def __init__(self, folder, scenario, server=None, login=None, **fields):
        folder.mkdir(parents=True)
        self.folder, self.scenario, self.port = folder, scenario, free_ports(1)
        # Where its audio goes; nobody listens to it.
        self.media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.media.bind(("127.0.0.1", 0))
        self.text = (SCENARIOS / f"{scenario}.xml").read_text(encoding="latin-1")
        for name, value in {**DEFAULTS, "MEDIA": str(self.media.getsockname()[1]), **fields}.items():
            self.text = self.text.replace(f"@{name}@", value)
        (folder / f"{scenario}.xml").write_text(self.text, encoding="latin-1")
        command = ["sipp", "-sf", f"{scenario}.xml", "-i", "127.0.0.1", "-p", str(self.port), "-m", "1", "-l", "1", "-nostdin"]
        command += ["-trace_err", "-trace_msg", "-timeout", "50s", "-timeout_error"]
        if login:
            # A digest is for one number; SIPp would leave it out.
            command += ["-au", login[0], "-ap", login[1], "-auth_uri", f"{fields['NUMBER']}@127.0.0.1:{server}"]
        command += [f"127.0.0.1:{server}"] if server else []
        self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not server:
            self._wait_until_it_listens()

    @property
    def uri(self):
        return f"sip:agent@127.0.0.1:{self.port}"

    def content(self, seconds=60):
        """Waits until it is done, and it must be content with what it met."""
        status = self.process.wait(seconds)
        assert status == 0, f"{self.scenario} ended with {status}\n{self.logged('errors')}\n{self.logged('messages')}"
        for row in matrix.rows_of(self.text):
            matrix.proves(row, "sipp")

    def logged(self, kind):
        return "".join(file.read_text(errors="replace") for file in self.folder.glob(f"*_{kind}.log"))

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.media.close()

    def _wait_until_it_listens(self, seconds=10):
        until = time.monotonic() + seconds
        while not any(line.split()[1].endswith(f":{self.port:04X}") for line in open("/proc/self/net/udp").readlines()[1:]):
            assert self.process.poll() is None and time.monotonic() < until, "SIPp does not listen"
            time.sleep(0.05)
