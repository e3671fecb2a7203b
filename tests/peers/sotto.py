"""A `sotto serve` process with a configuration of its own on free ports, and its API."""

import json
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request

from baresip import free_ports

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("SOTTO", ROOT / "target/debug/sotto"))
TOKEN = "a-token-of-the-tests"

CONFIG = """\
[sip]
listen = [{listen}]
announce = false
{further}[http]
listen = "127.0.0.1:{http}"
token = "{token}"
[load]
cpu = 0
late = 0
drain = 0
[store]
url = "sqlite://{folder}/data"
[dialplan]
files = ["{folder}/dialplan.toml"]
[speech]
model = "{model}"
[coach]
duck_db = 0
"""

TRUNK = """\
[[trunk]]
name = "tests"
sources = ["127.0.0.0/8"]
may_call = [".*"]
"""


class Sotto:
    def __init__(self, folder, dialplan, model="", trunk="", transport="udp", sip="", trunks=TRUNK):
        """`trunk`: further lines of its trunk. `sip`: further lines of [sip]. `trunks`: who is let in."""
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.sip, self.http = free_ports(1), free_ports(1)
        # Calls to telephones that name no transport go by UDP.
        listen = ", ".join(f'"{t}://127.0.0.1:{self.sip}"' for t in sorted({transport, "udp"}))
        further = sip and sip.rstrip("\n") + "\n"
        config = CONFIG.format(sip=self.sip, http=self.http, token=TOKEN, folder=folder, model=model, further=further, listen=listen)
        (folder / "sotto.toml").write_text(config + trunks + trunk)
        (folder / "dialplan.toml").write_text(dialplan)
        (folder / "playbooks").symlink_to(ROOT / "config/playbooks")
        self.log = open(folder / "log", "wb")
        command = [str(PROGRAM), "serve", "--config", str(folder / "sotto.toml")]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self._wait_until_well()

    def request(self, method, path, body=None):
        """Status and JSON of the answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", method=method)
        request.add_header("Authorization", f"Bearer {TOKEN}")
        data = None
        if body is not None:
            request.add_header("Content-Type", "application/json")
            data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, data, timeout=20) as answer:
                return answer.status, _json(answer.read())
        except urllib.error.HTTPError as refused:
            return refused.code, _json(refused.read())

    def calls(self):
        return self.request("GET", "/v1/calls")[1]["calls"]

    def events(self, call):
        """What happened in a call, as far as it is on disk."""
        status, events = self.request("GET", f"/v1/calls/{call}/events")
        assert status == 200, (status, events)
        return events

    def wait_for_event(self, call, kind, seconds=20, **data):
        until = time.monotonic() + seconds
        while True:
            for event in self.events(call):
                if event["type"] == f"sotto.{kind}" and data.items() <= event["data"].items():
                    return event
            assert time.monotonic() < until, f"no {kind} {data} within {seconds} s, only {self.events(call)}"
            time.sleep(0.05)

    def stop(self):
        """Asks it to end; answers its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        return self.process.returncode

    def said(self):
        return (self.folder / "log").read_text(errors="replace")

    def _wait_until_well(self, seconds=20):
        until = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None, f"sotto serve ended:\n{self.said()}"
            try:
                if self.request("GET", "/healthz")[0] == 200:
                    return
            except OSError:
                pass
            assert time.monotonic() < until, f"sotto serve is not well within {seconds} s:\n{self.said()}"
            time.sleep(0.05)


def _json(body):
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode(errors="replace")
