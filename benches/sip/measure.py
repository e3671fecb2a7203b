#!/usr/bin/env python3
"""What signalling costs: set-ups a second of one core with media, processor time for each, answers to OPTIONS and REGISTER, and
what becomes of the calls that run when twice as many are asked for as can be served. Prints JSON.

    cargo build --release
    benches/sip/measure.py > figures.json                 about two minutes; all of its options: --help

The server has one core to itself, SIPp (Debian: sip-tester) and the probes the others. A run passes when less than 1 % of its
calls fail or are refused. Probes are calls of ours that run all the time: every packet carries when it was sent, and the kernel
stamps when it arrives.
"""

import argparse
import array
import csv
import json
import os
import pathlib
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TICK = os.sysconf("SC_CLK_TCK")
FAILURES = 0.01

CONFIG = """\
[sip]
listen = ["udp://127.0.0.1:{sip}"]
[load]
trunk_messages = 1000000
calls = 20000
{load}[media]
ports = "{media}-{last}"
[http]
listen = "127.0.0.1:{http}"
token = "a-token-of-the-bench"
[store]
url = "sqlite://{folder}/data"
[dialplan]
files = ["{folder}/routes.toml"]
[speech]
model = ""
[recording]
enabled = {recording}
[[trunk]]
name = "bench"
sources = ["127.0.0.0/8"]
may_call = [".*"]
"""

ROUTES = """\
[[route]]
called = '^call$'
steps = [ {{connect = {{to = "sip:agent@127.0.0.1:{agent}"}}}} ]
[[route]]
called = '^probe(\\d+)$'
steps = [ {{connect = {{to = "sip:probe@127.0.0.1:$1"}}}} ]
"""


def main():
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="sotto-bench-", dir=options.scratch) as folder:
        bench = Bench(pathlib.Path(folder), options)
        figures = {"machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0]}, "recording": options.recording}
        for name in options.what:
            figures[name] = getattr(bench, name)()
            print(f"{name}: {json.dumps(figures[name])}", file=sys.stderr)
        json.dump(figures, sys.stdout, indent=2)
        print()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sotto", default=ROOT / "target/release/sotto", type=pathlib.Path, help="the program (target/release/sotto)")
    parser.add_argument("--seconds", type=int, default=6, help="of each run (6)")
    parser.add_argument("--talk", type=int, default=2, help="seconds that a call with media lasts (2)")
    parser.add_argument("--from", dest="start", type=int, default=40, help="the first rate of calls tried (40)")
    parser.add_argument("--ask-from", type=int, default=2000, help="the first rate of OPTIONS and REGISTERs tried (2000)")
    parser.add_argument("--rate", type=int, help="calls a second taken for the most that can be served, instead of what was found")
    parser.add_argument("--probes", type=int, default=5, help="calls whose quality is measured (5)")
    parser.add_argument("--core", type=int, default=0, help="the core of the server (0)")
    parser.add_argument("--recording", action="store_true", help="record the calls too")
    parser.add_argument("--port", type=int, default=24100, help="the first of 20 ports for SIP and HTTP (24100)")
    parser.add_argument("--scratch", help="where the store is, a disk like the one of the server (the default for temporary files)")
    parser.add_argument("what", nargs="*", default=["bare", "setups", "overload", "options", "register"], help="bare setups overload options register")
    return parser.parse_args()


class Server:
    """`sotto serve` on one core."""

    def __init__(self, bench, load=""):
        options, self.folder = bench.args, bench.folder / f"server-{time.monotonic_ns()}"
        self.folder.mkdir()
        self.sip, self.http, agent = options.port, options.port + 1, options.port + 2
        recording = "true" if options.recording else "false"
        config = CONFIG.format(sip=self.sip, http=self.http, folder=self.folder, load=load, recording=recording, media=47000, last=48999)
        (self.folder / "sotto.toml").write_text(config)
        (self.folder / "routes.toml").write_text(ROUTES.format(agent=agent))
        (self.folder / "playbooks").symlink_to(ROOT / "config/playbooks")
        command = ["taskset", "-c", str(options.core), str(options.sotto), "serve", "--config", str(self.folder / "sotto.toml")]
        self.log = open(self.folder / "log", "wb")
        env = dict(os.environ, RUST_LOG="error")
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=self.log, env=env)
        assert self.process.stdout.readline().startswith(b"ready"), (self.folder / "log").read_text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(2):
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu(self):
        """Seconds of processor time."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def metrics(self):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=10).read().decode()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[:1] not in ("#", "")}

    def refused(self):
        """Calls refused so far, by reason."""
        metrics = self.metrics()
        found = (re.fullmatch(r'sotto_calls_refused_total{why="(\w+)"}', name) for name in metrics)
        return {match[1]: int(metrics[match[0]]) for match in found if match}


class Bench:
    def __init__(self, folder, options):
        self.folder, self.args, self.capacity, self.runs = folder, options, options.rate, 0
        (folder / "sound.wav").write_bytes(wav())
        others = sorted(set(range(os.cpu_count())) - {options.core}) or [options.core]
        self.others = ",".join(map(str, others))
        os.sched_setaffinity(0, others)

    def sipp(self, scenario, server, rate, seconds, fill=None, most=None):
        """SIPp for a while: calls begun and failed, and response times in ms."""
        self.runs += 1
        own = self.folder / f"run-{self.runs}"
        own.mkdir()
        text = (HERE / f"{scenario}.xml").read_text()
        for name, value in (fill or {}).items():
            text = text.replace(f"@{name}@", str(value))
        (own / "scenario.xml").write_text(text)
        calls = rate * seconds
        # SIPp sends in steps of 10 ms at least.
        command = ["taskset", "-c", self.others, "sipp", "-sf", "scenario.xml", "-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-p", str(server.sip + 5 + self.runs % 5)]
        command += ["-r", str(rate), "-m", str(calls), "-l", str(most or 100_000), "-trace_stat", "-stf", "stat.csv", "-fd", "1", "-recv_timeout", "8000"]
        command += ["-rtp_threadtasks", "500", "-timeout", f"{seconds + 25}s", f"127.0.0.1:{server.sip}"]
        subprocess.run(command, cwd=own, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(own / "stat.csv") as file:
            last = list(csv.DictReader(file, delimiter=";"))[-1]
        created, failed, retransmitted = (int(last[key]) for key in ("TotalCallCreated", "FailedCall(C)", "Retransmissions(C)"))
        response = [float(part) for part in last["ResponseTime1(C)"].replace(":", " ").split()]
        milliseconds = ((response[0] * 60 + response[1]) * 60 + response[2]) * 1000 + (response[3] / 1000 if len(response) > 3 else 0)
        wanted, took = calls - created, last["ElapsedTime(C)"].split(":")
        self.took = sum(float(part) * unit for part, unit in zip(took, (3600, 60, 1, 1e-6)))
        return {"begun": created, "failed": failed + max(0, wanted), "repeated": retransmitted, "response_ms": round(milliseconds, 1)}

    def agent(self, server):
        port, media = server.sip + 2, 29000
        command = ["taskset", "-c", self.others, "sipp", "-sf", str(HERE / "agent.xml"), "-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-p", str(port), "-mp", str(media), "-rtp_echo"]
        return Running(command, self.folder)

    def calls(self, server, rate, seconds, talk, sound):
        """A run of calls: what came of them, and what each cost."""
        media = '<nop><action><exec rtp_stream="%s,-1,0,PCMU/8000"/></action></nop>' % (self.folder / "sound.wav") if sound else ""
        before, refused = server.cpu(), server.refused()
        run = self.sipp("caller", server, rate, seconds, {"TALK": talk * 1000 if sound else talk, "SOUND": media})
        run["why_refused"] = {why: count - refused.get(why, 0) for why, count in server.refused().items() if count > refused.get(why, 0)}
        run["refused"] = sum(run["why_refused"].values())
        milliseconds = (server.cpu() - before) * 1000 / max(1, run["begun"])
        # Of the core, while calls came.
        run["rate"], run["cpu_ms_per_call"], run["core"] = rate, round(milliseconds, 2), round(milliseconds * rate / 1000, 2)
        return run

    def bare(self):
        """Set-ups without media, at a rate that is no burden: what one costs."""
        with Server(self) as server, self.agent(server):
            self.calls(server, self.args.start, 1, 100, False)
            return self.calls(server, self.args.start, self.args.seconds, 100, False)

    def setups(self):
        """The highest rate at which less than 1 % fail, with media, by steps of a half, and one between."""
        runs, rate, above = [], self.args.start, None
        with Server(self, "cpu = 0\nlate = 0\n") as server, self.agent(server):
            while above is None or rate not in (self.capacity, above):
                run = self.calls(server, rate, self.args.seconds, self.args.talk, True)
                runs.append(run)
                if run["failed"] + run["refused"] >= FAILURES * run["begun"]:
                    if above or not self.capacity:
                        break
                    above, rate = rate, (rate + self.capacity) // 2
                else:
                    self.capacity, rate = rate, rate * 3 // 2 if above is None else above
        return {"calls_a_second": self.capacity, "talk_s": self.args.talk, "runs": runs}

    def overload(self):
        """Twice the rate that can be served, with admission as it is by default: probes before and meanwhile."""
        with Server(self) as server, self.agent(server):
            probes = Probes(server, self.args.probes)
            quiet = probes.listen(2)
            outcome = {}
            rate = 2 * (self.capacity or self.args.start)
            thread = threading.Thread(target=lambda: outcome.update(self.calls(server, rate, self.args.seconds, self.args.talk, True)))
            thread.start()
            meanwhile = probes.listen(self.args.seconds)
            thread.join()
            late = late_ticks(server.metrics())
            probes.close()
        return {"asked": rate, "calls": outcome, "ticks_later_than_5_ms": late, "probes_before": quiet, "probes_meanwhile": meanwhile}

    def options(self):
        """As a distributor of calls asks."""
        return self._asks("OPTIONS", 200)

    def _asks(self, method, status):
        rate, best, runs = self.args.ask_from, None, []
        with Server(self) as server:
            while True:
                before = server.cpu()
                run = self.sipp("asks", server, rate, self.args.seconds, {"METHOD": method, "STATUS": status})
                run["rate"], run["cpu_us_each"] = rate, round((server.cpu() - before) * 1e6 / max(1, run["begun"]), 1)
                runs.append(run)
                run["really_a_second"] = round(run["begun"] / self.took)
                # SIPp sends no faster than it can, and says nothing of it.
                if max(run["failed"], run["repeated"]) >= FAILURES * run["begun"] or run["really_a_second"] < 0.9 * rate:
                    break
                best, rate = run["really_a_second"], rate * 3 // 2
        return {"answer": status, "a_second": best, "runs": runs}

    def register(self):
        """Sotto is no registrar: 405 is its answer."""
        return self._asks("REGISTER", 405)


class Running:
    """A process that is ended with its owner."""

    def __init__(self, command, folder):
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, cwd=folder, stdin=quiet, stdout=quiet, stderr=quiet)
        time.sleep(0.5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Probes:
    """Calls through the server from sockets of ours to sockets of ours: fifty packets a second one way, each with its time."""

    def __init__(self, server, count):
        self.calls = [Probe(server, number) for number in range(count)]
        self.over, self.delays, self.sent, self.listening = False, [], 0, False
        self.threads = [threading.Thread(target=self._send, daemon=True), threading.Thread(target=self._receive, daemon=True)]
        for thread in self.threads:
            thread.start()

    def listen(self, seconds):
        """What came in this time: packets sent and lost, delays in ms."""
        self.delays, self.sent, self.listening = [], 0, True
        time.sleep(seconds)
        self.listening = False
        time.sleep(0.5)
        delays, found = sorted(self.delays), len(self.delays)
        at = lambda share: round(delays[min(found - 1, int(found * share))] * 1000, 2) if found else None
        return {"calls": len(self.calls), "sent": self.sent, "lost": self.sent - found, "delay_ms": {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)}}

    def _send(self):
        due, sequence = time.monotonic(), 0
        while not self.over:
            due += 0.02 / len(self.calls)
            call = self.calls[sequence % len(self.calls)]
            now, marked = time.time_ns(), self.listening
            header = struct.pack("!BBHII", 0x80, 0, (sequence // len(self.calls)) & 0xFFFF, (sequence // len(self.calls) * 160) & 0xFFFFFFFF, call.ssrc)
            call.media[0].sendto(header + struct.pack("!Q?", now, marked) + b"\xff" * 151, call.to)
            self.sent += marked
            sequence += 1
            time.sleep(max(0, due - time.monotonic()))

    def _receive(self):
        sockets = [call.media[1] for call in self.calls]
        while not self.over:
            for sock in select.select(sockets, [], [], 0.2)[0]:
                packet, ancillary, _, _ = sock.recvmsg(2048, 64)
                sent, marked = struct.unpack_from("!Q?", packet, 12)
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
                if marked:
                    self.delays.append((seconds * 10**9 + nanoseconds - sent) / 1e9)

    def close(self):
        for call in self.calls:
            call.bye()
        self.over = True


class Probe:
    """One call: we call the server, and it calls us."""

    SO_TIMESTAMPNS = 35

    def __init__(self, server, number):
        self.server, self.ssrc, self.name = ("127.0.0.1", server.sip), 7000 + number, f"probe-{number}-{time.monotonic_ns()}"
        self.sip, self.other, *media = [bound() for _ in range(4)]
        self.media = media
        self.media[1].setsockopt(socket.SOL_SOCKET, self.SO_TIMESTAMPNS, 1)
        self.sip.settimeout(5)
        self.other.settimeout(5)
        self.called = f"sip:probe{port(self.other)}@127.0.0.1"
        self._ask("INVITE", 1, "", self._sdp(0))
        invite = self.other.recv(65536).decode()
        copied = "".join(re.search(rf"(?im)^{name}:.*\r\n", invite)[0] for name in ("Via", "From", "Call-ID", "CSeq"))
        to = re.search(r"(?im)^To:.*", invite)[0].strip() + ";tag=other"
        sdp = self._sdp(1)
        contact = f"Contact: <sip:probe@127.0.0.1:{port(self.other)}>"
        self._to(self.other, f"SIP/2.0 200 OK\r\n{copied}{to}\r\n{contact}\r\nContent-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}")
        while " 200 " not in (answer := self.sip.recv(65536).decode()).splitlines()[0]:
            pass
        self.tag = re.search(r"(?im)^To:.*tag=([^\s;]+)", answer)[1]
        self.to = ("127.0.0.1", int(re.search(r"m=audio (\d+)", answer)[1]))
        self._ask("ACK", 1, self.tag, "")

    def _sdp(self, side):
        return f"v=0\r\no=p 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port(self.media[side])} RTP/AVP 0\r\n"

    def _ask(self, method, cseq, tag, body):
        here, to = port(self.sip), f"<{self.called}>" + (f";tag={tag}" if tag else "")
        kind = "Content-Type: application/sdp\r\n" if body else ""
        head = f"{method} {self.called} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{here};branch=z9hG4bK{self.name}{method};rport\r\nMax-Forwards: 70\r\n"
        names = f"From: <sip:p@127.0.0.1>;tag=p\r\nTo: {to}\r\nCall-ID: {self.name}\r\nCSeq: {cseq} {method}\r\nContact: <sip:p@127.0.0.1:{here}>\r\n"
        self._to(self.sip, f"{head}{names}{kind}Content-Length: {len(body)}\r\n\r\n{body}")

    def _to(self, sock, text):
        sock.sendto(text.encode(), self.server)

    def bye(self):
        self._ask("BYE", 2, self.tag, "")


def bound():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def port(sock):
    return sock.getsockname()[1]


def late_ticks(metrics):
    """The share of all ticks of the media threads that came more than 5 ms late."""
    ticks, in_time = metrics["sotto_tick_lateness_seconds_count"], metrics['sotto_tick_lateness_seconds_bucket{le="0.005"}']
    return round((ticks - in_time) / max(1, ticks), 5)


def wav():
    """Two seconds of mu-law near silence, as SIPp reads them."""
    data = bytes(array.array("B", [0xFE, 0x7E] * 8000))
    form = struct.pack("<HHIIHHH", 7, 1, 8000, 8000, 1, 8, 0)
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"fact" + struct.pack("<II", 4, len(data)) + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


if __name__ == "__main__":
    sys.exit(main())
