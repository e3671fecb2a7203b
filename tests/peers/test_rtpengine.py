#!/usr/bin/env python3
"""The same as test_supervisor.py with Kamailio and rtpengine between the server and both parties: who hears whom is the
same, and the media of both calls passes through rtpengine.
"""

import pathlib
import sys
import tempfile

import matrix
from test_supervisor import report, talk


def main():
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder:
        return report(*talk(pathlib.Path(folder), proxied=True))


if __name__ == "__main__":
    sys.exit(matrix.run(main, {row: "baresip kamailio rtpengine" for row in ("call", "record-routing", "star codes", "keys", "takeover")}))
