#!/usr/bin/env python3
"""Which behaviour was proven with which peer. A test that has passed says so by `run` or `proves`; a scenario of SIPp says in a comment,
`<!-- matrix: hold -->`, what was proven once SIPp was content with it. Both write a line into the file that SOTTO_MATRIX
names. `matrix.py FILE` prints what came, and fails where something is missing that must not be.
"""

import os
import pathlib
import re
import sys

PEERS = ["sipp", "baresip", "linphone", "kamailio", "rtpengine"]
# What must be proven of each row; "phone" is baresip or linphone.
ROWS = {
    "call": "sipp phone kamailio rtpengine",
    "TCP": "sipp phone",
    "TLS": "phone kamailio",
    "WebSocket": "",
    "IPv6": "",
    "DNS": "",
    "record-routing": "kamailio",
    "SRTP": "phone",
    "digest": "sipp phone kamailio",
    "registration": "sipp phone kamailio",
    "stranger refused": "sipp",
    "OPTIONS": "sipp",
    "CANCEL": "sipp phone kamailio",
    "re-INVITE": "sipp phone kamailio",
    "hold": "sipp phone kamailio rtpengine",
    "UPDATE": "sipp",
    "session timer": "sipp phone",
    "early media": "sipp phone",
    "PRACK": "sipp",
    "late offer": "sipp",
    "glare": "sipp",
    "forking": "sipp",
    "targets in turn": "sipp phone",
    "transfer": "",
    "attended transfer": "",
    "star codes": "sipp phone",
    "keys": "sipp phone rtpengine",
    "takeover": "sipp phone",
    "summoned supervisor": "sipp phone",
    "Join": "sipp",
    "Replaces": "sipp",
    "conference dialled": "",
    "SIPREC": "sipp rtpengine",
    "overload": "sipp",
}
# What these rows are to prove besides, and nothing proves yet.
COMING = {
    "TLS": "sipp",
    "WebSocket": "sipp",
    "IPv6": "sipp",
    "DNS": "sipp",
    "transfer": "sipp phone kamailio",
    "attended transfer": "sipp phone",
    "conference dialled": "sipp phone",
}


def proves(row, *peers):
    """These behaved as they should in a test that has passed."""
    assert row in ROWS and set(peers) <= set(PEERS), (row, peers)
    if path := os.environ.get("SOTTO_MATRIX"):
        with open(path, "a") as file:
            file.writelines(f"{row}\t{peer}\n" for peer in peers)


def run(main, proven):
    """The exit status of a test, of which `proven` names rows, and peers parted by spaces."""
    status = main()
    if status == 0:
        for row, peers in proven.items():
            proves(row, *peers.split())
    return status


def rows_of(scenario):
    """What the text of a scenario says it proves."""
    return [row for rows in re.findall(r"<!-- matrix: (.*?) -->", scenario) for row in rows.split(", ") if row]


def read(path):
    """The cells that were proven."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {tuple(line.split("\t")) for line in lines}


def covered(cells, row, peer):
    return any((row, one) in cells for one in (["baresip", "linphone"] if peer == "phone" else [peer]))


def main(path):
    cells = read(path)
    unknown = sorted(row for row, peer in cells if row not in ROWS or peer not in PEERS)
    missing = [(row, peer) for row, peers in ROWS.items() for peer in peers.split() if not covered(cells, row, peer)]
    print(f"{'':20} " + " ".join(f"{peer:10}" for peer in PEERS))
    for row in ROWS:
        print(f"{row:20} " + " ".join(f"{'yes' if (row, peer) in cells else '-':10}" for peer in PEERS))
    for row, peers in COMING.items():
        print(f"not yet asked for: {row} with {peers}")
    for row, peer in missing:
        print(f"MISSING: {row} with {peer}")
    for row in unknown:
        print(f"UNKNOWN: {row}")
    return 1 if missing or unknown else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
