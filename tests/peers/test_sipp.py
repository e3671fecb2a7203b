#!/usr/bin/env python3
"""What SIPp does with a whole server: it proves itself by digest, is the registrar we register with, and supervises: by star
codes and keys, by naming a dialog, and called by us.
"""

import pathlib
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from sipp import Sipp
from sotto import Sotto
from test_transport import registered
from test_who_hears_whom import connected

PASSWORD = "open-sesame-1"
ROUTE = "[[route]]\ncalled = '^desk$'\nsteps = [ {{connect = {{to = \"{agent}\"}}}} ]\n"
# SIPp proves itself by MD5.
PROVEN = f'[[trunk]]\nname = "ann"\nuser = "ann"\npassword = "{PASSWORD}"\ndigest = "md5"\nmay_call = ["desk"]\n'
# Longer than the supervisor stays.
CALL = "20000"


def main():
    tests = [proves_itself_by_digest, is_registered_with, presses_keys, joins_and_replaces, is_summoned]
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder, ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(test, pathlib.Path(folder) / test.__name__) for test in tests]
        for run in runs:
            run.result()
    print("SIPp was content")
    return 0


class Floor:
    """A call between two SIPps through a server."""

    def __init__(self, folder):
        self.folder, self.all = folder, []

    def __enter__(self):
        self.agent = self.sipp("agent", "agent_answers")
        self.server = Sotto(self.folder / "sotto", ROUTE.format(agent=self.agent.uri), trunk="may_supervise = true\n")
        self.caller = self.sipp("caller", "caller_hangs_up", self.server.sip, NUMBER="desk", TALK=CALL)
        self.call = connected(self.server)
        return self

    def sipp(self, name, *arguments, **fields):
        self.all.append(Sipp(self.folder / name, *arguments, **fields))
        return self.all[-1]

    def supervisor(self, name, scenario, **fields):
        return self.sipp(name, scenario, self.server.sip, **fields)

    def told(self, kind):
        return [event for event in self.server.events(self.call) if event["type"] == f"sotto.{kind}"]

    def goes_on(self):
        (call,) = self.server.calls()
        assert call["state"] == "connected" and len(call["legs"]) == 2, call

    def __exit__(self, *_):
        for one in self.all:
            one.stop()
        self.server.stop()


def proves_itself_by_digest(folder):
    agent = Sipp(folder / "agent", "agent_answers")
    server = Sotto(folder / "sotto", ROUTE.format(agent=agent.uri), trunks=PROVEN)
    stranger = Sipp(folder / "stranger", "caller_proves_itself", server.sip, login=("ann", "guessed"), NUMBER="desk")
    assert stranger.process.wait(60) != 0, "a wrong password was let in"
    caller = Sipp(folder / "caller", "caller_proves_itself", server.sip, login=("ann", PASSWORD), NUMBER="desk")
    try:
        caller.content()
        agent.content()
    finally:
        for one in (agent, stranger, caller, server):
            one.stop()
    print("SIPp proves itself by digest, and is not let in with another password")


def is_registered_with(folder):
    registrar = Sipp(folder / "registrar", "registrar_asks_for_a_digest")
    pbx = f'[[register]]\ntrunk = "pbx"\nregistrars = ["sip:127.0.0.1:{registrar.port}"]\nuser = "200"\npassword = "{PASSWORD}"\n'
    server = Sotto(folder / "sotto", ROUTE.format(agent=registrar.uri), trunks=pbx + '[[trunk]]\nname = "pbx"\nmay_call = ["200"]\n')
    try:
        registered(server, 1)
        assert server.stop() == 0
        registrar.content()
    finally:
        registrar.stop()
        server.stop()
    print("SIPp is the registrar: we prove ourselves, and take ourselves out at the end")


def presses_keys(folder):
    with Floor(folder) as floor:
        supervisor = floor.supervisor("supervisor", "supervisor_presses_keys", NUMBER="*80agent")
        supervisor.content()
        floor.server.wait_for_event(floor.call, "supervisor.left", reason="supervisor left")
        modes = [event["data"]["to"] for event in floor.told("mode.changed")]
        assert modes[:3] == ["whisper", "barge", "spy"], modes
        assert floor.told("supervisor.took_over") and floor.told("supervisor.gave_back"), floor.server.events(floor.call)
        floor.goes_on()
    print("SIPp supervises: every key was understood")


def joins_and_replaces(folder):
    with Floor(folder) as floor:
        first = floor.supervisor("first", "supervisor_names_a_dialog", NUMBER="sotto", NAMES=f"Join: {dialog(floor.caller)}", MATRIX="Join", TALK="1500")
        first.content()
        floor.server.wait_for_event(floor.call, "supervisor.left")
        seated = floor.supervisor("seated", "caller_waits", NUMBER="*81agent")
        floor.server.wait_for_event(floor.call, "supervisor.joined", mode="whisper")
        second = floor.supervisor("second", "supervisor_names_a_dialog", NUMBER="sotto", NAMES=f"Replaces: {dialog(seated)}", MATRIX="Replaces", TALK="1500")
        seated.content()
        second.content()
        floor.goes_on()
    print("SIPp joins by naming a dialog, and goes on in the stead of another telephone")


def is_summoned(folder):
    with Floor(folder) as floor:
        phone = floor.sipp("phone", "supervisor_is_called")
        status, answer = floor.server.request("POST", f"/v1/calls/{floor.call}/supervisors", {"to": phone.uri, "mode": "whisper"})
        assert status == 202, (status, answer)
        joined = floor.server.wait_for_event(floor.call, "supervisor.joined", who=phone.uri, mode="whisper")
        leg = joined["data"].get("leg") or joined["leg"]
        status, _ = floor.server.request("DELETE", f"/v1/calls/{floor.call}/supervisors/{leg}")
        assert status == 204, status
        phone.content()
        floor.goes_on()
    print("SIPp is called as a supervisor, and sent away")


def dialog(sipp):
    """The dialog of a SIPp that called us, as Join and Replaces name it: our tag is that of its To."""
    answer = re.search(r"SIP/2\.0 200 .*?\r?\n\r?\n", sipp.logged("messages"), re.S).group(0)
    field = lambda name, what: re.search(rf"^{name}:.*?{what}([^;>\s]+)", answer, re.M | re.I).group(1)
    return f"{field('Call-ID', ' *')};to-tag={field('To', 'tag=')};from-tag={field('From', 'tag=')}"


if __name__ == "__main__":
    sys.exit(main())
