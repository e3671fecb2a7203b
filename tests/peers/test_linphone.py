#!/usr/bin/env python3
"""Linphone as each of the three: it calls as the customer and as the supervisor, who steers by its keys; it is called as the
agent. Who hears whom is as with other telephones.
"""

import pathlib
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import matrix
from baresip import Phone
from linphone import Linphone
from test_supervisor import Phones, report, talk


def main():
    kinds = [Phones(Linphone, Phone, Linphone), Phones(Phone, Linphone, Phone)]
    with tempfile.TemporaryDirectory(prefix="sotto-peers-") as folder, ThreadPoolExecutor() as pool:
        calls = [pool.submit(talk, pathlib.Path(folder) / str(n), phones) for n, phones in enumerate(kinds)]
        good = True
        for phones, call in zip(kinds, calls):
            heard = call.result()
            print(", ".join(f"{who}: {maker.__module__}" for who, maker in phones._asdict().items()))
            good &= report(*heard) == 0
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(matrix.run(main, {row: "linphone" for row in ("call", "star codes", "keys", "takeover")}))
