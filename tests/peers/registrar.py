"""Kamailio as the telephone system of a company: a registrar and record-routing proxy inside TLS, which asks extensions for
a digest (SHA-256) before it registers them or lets them call. Its telephone is reached by UDP.
"""

import signal
import subprocess
import time

from baresip import free_ports

CONFIG = """\
#!KAMAILIO
debug=1
log_stderror=yes
children=2
tcp_children=2
enable_tls=yes
auto_aliases=no
listen=udp:127.0.0.1:{udp}
listen=tls:127.0.0.1:{tls}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"

loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "xlog.so"
loadmodule "tls.so"
modparam("auth", "algorithm", "{algorithm}")
modparam("auth", "qop", "auth")
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "{certificates}/kamailio.pem")
modparam("tls", "private_key", "{certificates}/kamailio.key")
modparam("tls", "ca_list", "{certificates}/ca.pem")
modparam("tls", "verify_certificate", 1)
modparam("tls", "require_certificate", 0)

request_route {{
    xlog("L_ERR", "SAW $rm $pr\\n");
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
        t_relay();
        exit;
    }}
    t_check_trans();
    if (is_method("REGISTER")) {{
        if (!pv_www_authenticate("kamailio", "{password}", "0")) {{ www_challenge("kamailio", "1"); exit; }}
        if (!save("location")) {{ sl_reply_error(); }}
        xlog("L_ERR", "SAVED $au $hdr(Expires)\\n");
        exit;
    }}
    if (!is_method("INVITE")) {{ sl_send_reply("405", "Method Not Allowed"); exit; }}
    record_route();
    # An extension that calls: it proves itself, and its call goes to the telephone.
    if ($pr == "tls") {{
        if (!pv_proxy_authenticate("kamailio", "{password}", "0")) {{ proxy_challenge("kamailio", "1"); exit; }}
        consume_credentials();
        $ru = "{agent}";
        t_relay();
        exit;
    }}
    if (!lookup("location")) {{ sl_send_reply("404", "Not Registered"); exit; }}
    t_relay();
}}
"""


class Registrar:
    """The process. `certificates`: a folder with ca.pem, kamailio.pem and kamailio.key."""

    def __init__(self, folder, certificates, password, agent, algorithm):
        folder.mkdir()
        self.udp, self.tls = free_ports(1), free_ports(1)
        self.path = folder / "log"
        config = CONFIG.format(udp=self.udp, tls=self.tls, certificates=certificates, password=password, agent=agent, algorithm=algorithm)
        (folder / "kamailio.cfg").write_text(config)
        command = ["kamailio", "-DD", "-E", "-f", str(folder / "kamailio.cfg"), "-Y", str(folder), "-P", str(folder / "kamailio.pid"), "-m", "32", "-M", "8"]
        self.log = open(self.path, "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def said(self):
        return self.path.read_text(errors="replace")

    def wait_for(self, text, seconds=20):
        until = time.monotonic() + seconds
        while text not in self.said():
            assert self.process.poll() is None, f"kamailio ended:\n{self.said()}"
            assert time.monotonic() < until, f"kamailio: no {text!r} within {seconds} s:\n{self.said()}"
            time.sleep(0.05)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
