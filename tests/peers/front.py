"""Kamailio as the proxy in front of a server like ours, over one transport: it stays in the way of every call (Record-Route),
sends what is for `agent` to the agent's telephone and everything else to the server, and where it is given a password asks
for a digest whenever the server offers something new within a call.
"""

import signal
import socket
import subprocess
import time

from test_transport import listens, tls_lines

TLS = """\
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "{certificates}/kamailio.pem")
modparam("tls", "private_key", "{certificates}/kamailio.key")
modparam("tls", "ca_list", "{certificates}/ca.pem")
modparam("tls", "verify_certificate", 1)
modparam("tls", "require_certificate", 0)
"""

CONFIG = """\
#!KAMAILIO
debug=1
log_stderror=yes
children=2
tcp_children=2
enable_tls={enable_tls}
auto_aliases=no
listen={transport}:127.0.0.1:{port}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"

loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "auth.so"
loadmodule "xlog.so"
{tls}
request_route {{
    xlog("L_ERR", "SAW $rm $pr $(hdr(User-Agent){{s.substr,0,5}}) $(hdr(Proxy-Authorization){{s.substr,0,6}})\\n");
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
        if ({asks} && is_method("INVITE") && $ua =~ "sotto") {{
            if (!pv_proxy_authenticate("kamailio", "{password}", "0")) {{ proxy_challenge("kamailio", "1"); exit; }}
            consume_credentials();
        }}
        t_relay();
        exit;
    }}
    t_check_trans();
    if (!is_method("INVITE")) {{ sl_send_reply("405", "Method Not Allowed"); exit; }}
    record_route();
    if ($rU == "agent") {{ $ru = "{agent}"; }} else {{ $du = "sip:127.0.0.1:{server};transport={transport}"; }}
    t_relay();
}}
"""


class Front:
    """How a proxy is to be, and what the server must be like before it; `open` starts one."""

    def __init__(self, transport, certificates=None, password=None, further=""):
        self.transport, self.certificates, self.password = transport, certificates, password
        self.suffix = "" if transport == "udp" else f";transport={transport}"
        self.sip = tls_lines(certificates) if certificates else ""
        self.trunk = further
        if password:
            self.trunk += f'login_user = "sotto"\nlogin_password = "{password}"\n'

    def open(self, folder, port, server, agent):
        """The proxy at `port` of a server and an agent's telephone."""
        at = agent.port + (self.transport == "tls")
        fields = {"transport": self.transport, "port": port, "server": server, "agent": f"sip:agent@127.0.0.1:{at}{self.suffix}"}
        fields.update(enable_tls="yes" if self.certificates else "no", tls=TLS.format(certificates=self.certificates) if self.certificates else "")
        fields.update(asks="1 == 1" if self.password else "1 == 0", password=self.password or "nobody is asked")
        return Kamailio(folder, CONFIG.format(**fields), port, self.transport)


class Kamailio:
    """The process."""

    def __init__(self, folder, config, port, transport):
        folder.mkdir()
        (folder / "kamailio.cfg").write_text(config)
        command = ["kamailio", "-DD", "-E", "-f", str(folder / "kamailio.cfg"), "-Y", str(folder), "-P", str(folder / "kamailio.pid"), "-m", "32", "-M", "8"]
        self.path = folder / "log"
        self.log = open(self.path, "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        if transport == "udp":
            self._answers(port)
        else:
            listens(port)

    def said(self):
        return self.path.read_text(errors="replace")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def _answers(self, port, seconds=10):
        until = time.monotonic() + seconds
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            probe.settimeout(0.2)
            here = probe.getsockname()[1]
            while True:
                assert self.process.poll() is None and time.monotonic() < until, f"kamailio does not answer:\n{self.said()}"
                probe.sendto(
                    f"OPTIONS sip:probe@127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{here};branch=z9hG4bK-probe;rport\r\nMax-Forwards: 5\r\n"
                    "From: <sip:probe@127.0.0.1>;tag=probe\r\nTo: <sip:probe@127.0.0.1>\r\nCall-ID: probe\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n".encode(),
                    ("127.0.0.1", port),
                )
                try:
                    probe.recv(2048)
                    return
                except OSError:
                    time.sleep(0.05)
