#!/usr/bin/env python3
"""One in ten datagrams of SIP is lost, either way, on every line: customers, agents and supervisors (SIPp) each behind a relay
of their own. Every call is set up, every key of the supervisors (INFO) changes the mode once, every call ends, nothing is
left over; and no INVITE is answered twice.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import matrix
from baresip import free_ports
from lossy import Relay
from sotto import Sotto

CALLS, LOSS, SEED = 20, 0.1, 20
TALK_MS = 30_000
ROUTE = "[[route]]\ncalled = '^desk-(\\d+)$'\nsteps = [ {{connect = {{to = \"sip:agent-$1@127.0.0.1:{port}\", timeout = 60}}}} ]\n"
# What each supervisor's keys do, in order.
MODES = [("spy", "whisper"), ("whisper", "barge"), ("barge", "spy")]


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        good = run(pathlib.Path(folder))
    print("set up, switched and ended" if good else "NOT set up, switched and ended")
    return 0 if good else 1


def run(folder):
    relays = {who: Relay(SEED + 10 * n, LOSS) for n, who in enumerate(("agent", "customer", "supervisor"))}
    ports = {who: free_ports(1) for who in relays}
    for who, port in ports.items():
        relays[who].inner = ("127.0.0.1", port)
    server, peers = Sotto(folder / "sotto", ROUTE.format(port=relays["agent"].far_port), trunk="may_supervise = true\n"), []
    try:
        for relay in relays.values():
            relay.beyond = ("127.0.0.1", server.sip)
        peers.append(sipp(folder, "agent_answers", "agent", ports, relays))
        peers.append(sipp(folder, "caller_hangs_up", "customer", ports, relays, NUMBER="desk-[call_number]"))
        calls = wait(lambda: connected(server), lambda: f"not every call was set up: {[call['state'] for call in server.calls()]}; SIPp: {[peer.poll() for peer in peers]} {(folder / 'customer.log').read_text()}", 60)
        coached = [server.request("POST", f"/v1/calls/{call}/whisper") for call in calls]
        assert all(status == 200 for status, _ in coached), coached
        peers.append(sipp(folder, "supervisor_switches_modes", "supervisor", ports, relays, NUMBER="*80agent-[call_number]"))
        statuses = [peer.wait(120) for peer in reversed(peers)]
        wait(lambda: not server.calls(), lambda: f"calls are left over: {server.calls()}", 60)
        return report(server, calls, statuses, relays)
    finally:
        for peer in peers:
            peer.kill()
        for other in (server, *relays.values()):
            other.stop()


def sipp(folder, scenario, who, ports, relays, **fields):
    """SIPp, which takes its relay for the server, and which the server takes its relay for."""
    text = (pathlib.Path(__file__).parent / "sipp" / f"{scenario}.xml").read_text()
    fields = {"FORMATS": "0 8 101", "TALK": str(TALK_MS), "RING": "200", "ANSWER": "200 OK", "MEDIA": "9", **fields}
    for name, value in fields.items():
        text = text.replace(f"@{name}@", value)
    text = text.replace("[local_ip]:[local_port]", f"127.0.0.1:{relays[who].far_port}")
    # Whoever ended the call may not have heard that it was taken note of.
    text = text.replace('<timewait milliseconds="200"/>', '<timewait milliseconds="12000"/>')
    (folder / f"{who}.xml").write_text(text)
    command = ["sipp", "-sf", f"{who}.xml", "-i", "127.0.0.1", "-p", str(ports[who]), "-nostdin", "-timeout", "110s", "-timeout_error"]
    command += ["-m", str(CALLS), "-l", str(CALLS), "-r", "5", "-trace_err", "-error_file", f"{who}.err"]
    # Its own choice for commands and media is what every other SIPp of this machine chooses.
    command += ["-cp", str(free_ports(1)), "-mp", str(free_ports(4))]
    command += [] if who == "agent" else [f"127.0.0.1:{relays[who].near_port}"]
    with open(folder / f"{who}.log", "wb") as log:
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=log)


def connected(server):
    calls = [call["id"] for call in server.calls() if call["state"] == "connected"]
    return calls if len(calls) == CALLS else None


def wait(so, otherwise, seconds):
    until = time.monotonic() + seconds
    while not (found := so()):
        assert time.monotonic() < until, otherwise()
        time.sleep(0.1)
    return found


def report(server, calls, statuses, relays):
    good = statuses == [0, 0, 0]
    print(f"sipp ended with {statuses} (supervisors, customers, agents){'' if good else '   WRONG'}")
    for call in calls:
        events = server.events(call)
        told = lambda kind: [event["data"] for event in events if event["type"] == f"sotto.{kind}"]
        # The first is what the API was asked for.
        modes = [(mode["from"], mode["to"]) for mode in told("mode.changed")][1:]
        once = {kind: len(told(kind)) for kind in ("call.answered", "call.connected", "call.ended", "supervisor.joined", "supervisor.left")}
        if modes != MODES or set(once.values()) != {1}:
            good = False
            print(f"{call}: modes {modes}, {once}   WRONG")
    for who, relay in relays.items():
        came, lost, repeated = relay.counts()
        answers = relay.answers()
        right = lost > came * LOSS / 3 and repeated > 0 and len(answers) == CALLS and all(len(tags) == 1 for tags in answers.values())
        good &= right
        print(f"{who:10} {came} datagrams, {lost} lost ({lost / came:.1%}), {repeated} repeated, {len(answers)} INVITEs answered once{'' if right else '   WRONG'}")
    # What is kept to answer repetitions goes with time; the dialogs are gone now.
    status, well = server.request("GET", "/readyz")
    assert status == 200, well
    assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
    return good


if __name__ == "__main__":
    sys.exit(matrix.run(main, {"keys": "sipp"}))
