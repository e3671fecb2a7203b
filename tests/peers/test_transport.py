#!/usr/bin/env python3
"""Calls over TCP and TLS with real phones and a real proxy: baresip calls and is called over each, proves itself by digest,
Linphone calls over TLS, and Kamailio takes us for its extension: registered with a digest over TLS, called through it and calling through it. SIPp
makes and takes calls over TCP.

Each phone plays a tone of its own, and must have heard the other's all through.
"""

import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import audio
import matrix
from baresip import Phone, free_ports
from linphone import Linphone
from registrar import Registrar
from sotto import TRUNK, Sotto
from test_who_hears_whom import connected

TONES = {"customer": 440, "agent": 700}
LEVEL = 0.15
TALK = 3.0
PASSWORD = "open-sesame-1"
# baresip 1.0.0 gives up where it reads of SHA-256.
ANNA = f'[[trunk]]\nname = "anna"\nuser = "customer"\npassword = "{PASSWORD}"\ndigest = "md5"\nmay_call = ["desk"]\n'


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        folder = pathlib.Path(folder)
        certificates = authority(folder / "certificates", "sotto", "kamailio", "customer", "agent")
        results = [
            sipp(folder / "sipp"),
            call(folder / "tcp", "tcp"),
            call(folder / "tls", "tls", certificates),
            call(folder / "linphone", "tls", certificates, linphone=True),
            call(folder / "digest-udp", "udp", trunks=ANNA),
            call(folder / "digest-tls", "tls", certificates, trunks=ANNA),
            extension(folder / "sha", certificates, "SHA-256"),
            extension(folder / "md5", certificates, "MD5"),
        ]
    print("everybody heard everybody" if all(results) else "NOT everybody heard everybody")
    return 0 if all(results) else 1


def authority(folder, *names):
    """A folder with an authority and a certificate of 127.0.0.1, alias localhost, for each name."""
    folder.mkdir()

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority of the tests")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in names:
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=127.0.0.1")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.pem")
        (folder / f"{name}.both").write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.pem").read_text())
    return folder


def sipp(folder):
    """Twenty calls between two SIPps, each over one TCP connection; whether both were content."""
    folder.mkdir()
    port = free_ports(1)
    step = f'{{connect = {{to = "sip:agent@127.0.0.1:{port};transport=tcp"}}}}'
    server, processes = Sotto(folder / "sotto", f"[[route]]\nsteps = [ {step} ]\n", transport="tcp"), []
    fields = {"FORMATS": "0 8 101", "TALK": "500", "RING": "200", "ANSWER": "200 OK", "NUMBER": "100"}
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
            media.bind(("127.0.0.1", 0))
            for scenario, own, to in (("agent_answers", port, []), ("caller_hangs_up", free_ports(1), [f"127.0.0.1:{server.sip}"])):
                text = (pathlib.Path(__file__).parent / "sipp" / f"{scenario}.xml").read_text()
                for name, value in {**fields, "MEDIA": str(media.getsockname()[1])}.items():
                    text = text.replace(f"@{name}@", value)
                (folder / f"{scenario}.xml").write_text(text)
                command = ["sipp", "-sf", f"{scenario}.xml", "-t", "t1", "-i", "127.0.0.1", "-p", str(own), "-nostdin"]
                command += ["-m", "20", "-l", "20", "-r", "5", "-timeout", "40s", "-timeout_error", *to]
                processes.append(subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                if not to:
                    listens(port)
            statuses = [process.wait(60) for process in reversed(processes)]
    finally:
        for process in processes:
            process.kill()
        server.stop()
    print(f"sipp             caller and agent ended with {statuses}", flush=True)
    return statuses == [0, 0]


def listens(port, seconds=10):
    """Waits until somebody listens on a port of TCP. (Asking by connecting would be a call's end to SIPp.)"""
    until = time.monotonic() + seconds
    while f":{port:04X} 00000000:0000 0A" not in pathlib.Path("/proc/net/tcp").read_text():
        assert time.monotonic() < until, f"nobody listens on {port}"
        time.sleep(0.02)


def tls_lines(certificates):
    """What [sip] says of TLS."""
    return f'tls_certificate = "{certificates}/sotto.pem"\ntls_key = "{certificates}/sotto.key"\ntls_server_ca = "{certificates}/ca.pem"'


def sources(folder):
    folder.mkdir()
    for user, frequency in TONES.items():
        (folder / user).mkdir()
        audio.write(folder / user / "source.wav", audio.tone(frequency, 60, LEVEL))


def call(folder, transport, certificates=None, trunks=TRUNK, linphone=False):
    """One call over one transport, both ways; whether both heard each other. The caller may be a Linphone."""
    sources(folder)
    phones, server = [], None
    security = {user: f"sip_certificate {certificates}/{user}.both\nsip_cafile {certificates}/ca.pem\n" if certificates else "" for user in TONES}
    try:
        agent = Phone(folder / "agent", "agent", more=security["agent"])
        phones.append(agent)
        agent.wait_for("baresip is ready")
        port = agent.port + (transport == "tls")
        step = f'{{connect = {{to = "sip:agent@127.0.0.1:{port};transport={transport}"}}}}'
        server = Sotto(
            folder / "sotto",
            f"[[route]]\ncalled = '^desk$'\nsteps = [ {step} ]\n",
            transport=transport,
            sip=tls_lines(certificates) if certificates else "",
            trunks=trunks,
        )
        dial = f"sip:desk@127.0.0.1:{server.sip};transport={transport}"
        account = f";auth_user=customer;auth_pass={PASSWORD}"
        if linphone:
            # Its library looks for names in certificates, not for addresses.
            dial = dial.replace("127.0.0.1", "localhost")
            customer = Linphone(folder / "customer", "customer", dial=dial, authority=f"{certificates}/ca.pem")
        else:
            customer = Phone(folder / "customer", "customer", dial=dial, more=security["customer"], account=account)
        phones.append(customer)
        # A Linphone takes a second or two before it sends what it plays.
        return talk(folder.name, server, customer, agent, TALK + 3 if linphone else TALK)
    finally:
        for phone in phones:
            phone.hang_up()
        if server:
            server.stop()


def extension(folder, certificates, algorithm):
    """An extension of Kamailio: it is called as 200, and calls the agent through it."""
    sources(folder)
    agent = Phone(folder / "agent", "agent")
    phones, server, registrar = [agent], None, None
    try:
        agent.wait_for("baresip is ready")
        registrar = Registrar(folder / "kamailio", certificates, PASSWORD, agent.uri, algorithm)
        target = f"sip:127.0.0.1:{registrar.tls};transport=tls"
        pbx = f'[[register]]\ntrunk = "pbx"\nregistrars = ["{target}"]\nuser = "200"\npassword = "{PASSWORD}"\n'
        pbx += '[[trunk]]\nname = "pbx"\nmay_call = ["200"]\n'
        step = f'{{connect = {{to = "sip:agent@127.0.0.1:{registrar.tls};transport=tls"}}}}'
        server = Sotto(
            folder / "sotto",
            f"[[route]]\ncalled = '^200$'\nsteps = [ {step} ]\n",
            transport="tls",
            sip=tls_lines(certificates),
            trunks=pbx,
        )
        registered(server, 1)
        customer = Phone(folder / "customer", "customer", dial=f"sip:200@127.0.0.1:{registrar.udp}")
        phones.append(customer)
        good = talk(f"{folder.name} extension", server, customer, agent)
        said = registrar.said()
        assert PASSWORD not in server.said(), "a password is in the log"
        # It was taken out when the server ended: the second REGISTER that was saved says 0 seconds.
        saved = [line.rsplit(" ", 1)[-1] for line in said.splitlines() if "SAVED" in line]
        assert saved[0] == "300" and saved[-1] == "0", said
        # Kamailio sent the call to us inside TLS, and all that we sent came inside TLS.
        assert "SAW INVITE tls" in said and "SAW BYE tls" in said, said
        return good
    finally:
        for phone in phones:
            phone.hang_up()
        for process in filter(None, (server, registrar)):
            process.stop()


def registered(server, count, seconds=10):
    until = time.monotonic() + seconds
    while server.request("GET", "/readyz")[1]["registrations"]["registered"] != count:
        assert time.monotonic() < until, f"not registered:\n{server.said()}"
        time.sleep(0.05)


def talk(name, server, customer, agent, seconds=TALK):
    """From the answer to the end: whether both heard each other."""
    customer.wait_for(customer.CONNECTED)
    agent.wait_for(agent.CONNECTED)
    connected(server)
    time.sleep(seconds)
    customer.hang_up()
    agent.wait_for(agent.ENDED)
    agent.hang_up()
    assert server.stop() == 0, f"sotto serve ended badly:\n{server.said()}"
    good = True
    for listener, other in ((customer, "agent"), (agent, "customer")):
        levels = audio.heard_tone(audio.read_narrow(listener.recording()), TONES[other])
        # The first and the last window may hold the beginning and the end.
        share = float((levels[2:-2] > LEVEL / 2).mean())
        right = share == 1.0 and len(levels) >= (TALK - 1) * 10
        good &= right
        print(f"{name:16} {listener.user:8} heard {other} {share:6.1%}{'' if right else '   WRONG'}", flush=True)
    return good


if __name__ == "__main__":
    sys.exit(matrix.run(main, {"TCP": "sipp baresip", **{row: "baresip kamailio" for row in ("TLS", "digest", "registration", "record-routing")}}))
