"""Kamailio with rtpengine beside it (user space), as they stand before a server like ours: every call to the server and
every call it makes passes through, and rtpengine takes the place of both ends in each one's SDP.
"""

import itertools
import random
import re
import signal
import socket
import subprocess
import time

from baresip import free_ports

CONFIG = """\
#!KAMAILIO
debug=1
log_stderror=yes
children=2
disable_tcp=yes
auto_aliases=no
listen=udp:127.0.0.1:{sip}

loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "rtpengine.so"
modparam("rtpengine", "rtpengine_sock", "udp:127.0.0.1:{ng}")

request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("CANCEL") || (is_method("ACK") && !has_totag())) {{
        if (t_check_trans()) {{ t_relay(); }}
        exit;
    }}
    if (has_totag()) {{
        if (!loose_route()) {{
            if (!is_method("ACK")) {{ sl_send_reply("404", "Not Here"); }}
            exit;
        }}
        if (is_method("BYE")) {{ rtpengine_delete(); }}
        if (is_method("INVITE")) {{ route(OFFER); }}
        t_relay();
        exit;
    }}
    if (!is_method("INVITE")) {{ sl_send_reply("405", "Method Not Allowed"); exit; }}
    t_check_trans();
    record_route();
    route(OFFER);
    # What the server calls goes to the agent's telephone, all else to the server.
    if ($sp == {server}) {{ $ru = "{agent}"; }} else {{ $du = "sip:127.0.0.1:{server}"; }}
    t_relay();
}}

route[OFFER] {{
    rtpengine_offer("replace-origin replace-session-connection");
    t_on_reply("ANSWERS");
}}

onreply_route[ANSWERS] {{
    if (has_body("application/sdp")) {{ rtpengine_answer("replace-origin replace-session-connection"); }}
}}
"""

OPTIONS = """\
OPTIONS sip:probe@127.0.0.1:{sip} SIP/2.0\r
Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK-probe;rport\r
Max-Forwards: 5\r
From: <sip:probe@127.0.0.1>;tag=probe\r
To: <sip:probe@127.0.0.1>\r
Call-ID: probe\r
CSeq: 1 OPTIONS\r
Content-Length: 0\r
\r
"""


# rtpengine shares a port that another one has taken: each gets a block of its own, below those that the kernel gives out.
PORTS, BLOCKS, FIRST = 60, itertools.count(random.randrange(45)), 30_000


class Proxy:
    """The two processes."""

    def __init__(self, folder, sip, server, agent):
        folder.mkdir(exist_ok=True)
        media = FIRST + next(BLOCKS) % 45 * PORTS
        self.folder, self.ng = folder, free_ports(1)
        ng = self.ng
        (folder / "kamailio.cfg").write_text(CONFIG.format(sip=sip, ng=ng, server=server, agent=agent))
        rtpengine = ["rtpengine", "--config-file=none", "--table=-1", "--interface=127.0.0.1", f"--listen-ng=127.0.0.1:{ng}", "--foreground", "--log-stderr"]
        rtpengine += ["--log-level=6", "--num-threads=1", "--delete-delay=0", f"--port-min={media}", f"--port-max={media + PORTS - 1}", f"--pidfile={folder}/rtpengine.pid"]
        kamailio = ["kamailio", "-DD", "-E", "-f", str(folder / "kamailio.cfg"), "-Y", str(folder), "-P", str(folder / "kamailio.pid"), "-m", "16", "-M", "4"]
        self.logs = {name: open(folder / name, "wb") for name in ("rtpengine", "kamailio")}
        self.processes = {}
        # Kamailio asks for rtpengine when it starts, and never again for a minute if it is not there.
        self._start("rtpengine", rtpengine, ng, b"1 d7:command4:pinge")
        self._start("kamailio", kamailio, sip, OPTIONS.format(sip=sip).encode())

    def _start(self, name, command, port, question, seconds=10):
        """Starts a process and waits until it answers."""
        log = self.logs[name]
        process = self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + seconds
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            probe.settimeout(0.2)
            while True:
                assert process.poll() is None, f"{name} ended:\n{self.said(name)}"
                assert time.monotonic() < until, f"{name} does not answer:\n{self.said(name)}"
                probe.sendto(question, ("127.0.0.1", port))
                try:
                    probe.recv(2048)
                    return
                except OSError:
                    time.sleep(0.05)

    def said(self, name):
        return (self.folder / name).read_text(errors="replace")

    def relayed(self):
        """Packets of audio that came to each of its ports in calls that are over."""
        ports = re.findall(r"Port +\S+ <> +\S+ *, SSRC \S+, (\d+) p", self.said("rtpengine"))
        return [int(packets) for packets in ports]

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self.logs.values():
            log.close()
