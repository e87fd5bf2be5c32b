# SPDX-License-Identifier: Apache-2.0
"""A hundred real nodes on one machine: they join, lose thirty at once, are stopped and go on, are cut
in two and grow together.

They stand in a network namespace of their own, on addresses 10.1.0.x and 10.2.0.x of its loopback,
between which routing rules make the cut. That needs root, or user namespaces.
"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import unittest

import harness
from harness import SEED, check, temp_dir, wait_for
from node import Node

COUNT = 20 if harness.SANITIZED else 100
# What takes seconds on a quiet machine; here a hundred nodes share two processors with other tests.
SOON_S = 120
INSIDE = "ARTEL_TEST_IN_NAMESPACE"
SIDES = ("10.1.0.0/16", "10.2.0.0/16")


def address(number):
    return f"10.{1 + number % 2}.0.{number // 2 + 1}"


def ip(*words):
    subprocess.run(("ip", *words), check=True)


def make_namespace(count):
    ip("link", "set", "lo", "up")
    for number in range(count):
        ip("address", "add", f"{address(number)}/32", "dev", "lo")
    # The rule for local addresses comes first of all; let others stand before it.
    ip("rule", "add", "pref", "100", "lookup", "local")
    ip("rule", "del", "pref", "0")


def cut(verb):
    for source, target in (SIDES, SIDES[::-1]):
        ip("rule", verb, "pref", "50", "from", source, "to", target, "blackhole")


class Member(Node):
    def __init__(self, root, number):
        self.number = number
        join = () if number == 0 else ("--join", f"{address(0)}:7420")
        super().__init__(pathlib.Path(root) / str(number), "--listen", f"{address(number)}:7420",
                         "--insecure", "--name", f"n{number}", "--zone", f"z{number % 2}",
                         "--scrub-rate", "0", *join)

    def states(self):
        answer = self.get("/members")
        check(answer.status == 200, "members", answer)
        return {int(member["name"][1:]): member["state"] for member in answer.json}


class Hundred(unittest.TestCase):
    def setUp(self):
        make_namespace(COUNT)
        root = temp_dir()
        self.addCleanup(root.__exit__, None, None, None)
        path = root.__enter__()
        self.members = [Member(path, number) for number in range(COUNT)]
        self.random = random.Random(SEED)

    def tearDown(self):
        for member in self.members:
            member.kill()

    def wait_seen(self, alive, by, what):
        """Until each of `by` sees exactly `alive` alive; says how long that took."""
        begin = time.monotonic()
        alive = {member.number for member in alive}
        for member in by:
            wait_for(lambda: {number for number, state in member.states().items()
                              if state == "alive"} == alive, SOON_S, f"{what}: n{member.number}")
        print(f"{what}: {time.monotonic() - begin:.1f} s", flush=True)

    def test_they_know_who_is_here_whatever_happens(self):
        for member in self.members:
            member.start()
        self.wait_seen(self.members, self.members, f"{COUNT} see {COUNT}")

        lost = self.random.sample(self.members[1:], COUNT * 3 // 10)
        for member in lost:
            member.kill()
        left = [member for member in self.members if member not in lost]
        self.wait_seen(left, left, f"{len(lost)} are killed")

        stopped = self.random.sample(left[1:], 3)
        awake = [member for member in left if member not in stopped]
        for member in stopped:
            member.signal(signal.SIGSTOP)
        self.wait_seen(awake, awake, "three are stopped")
        for member in stopped:
            member.signal(signal.SIGCONT)
        self.wait_seen(left, left, "three go on")

        cut("add")
        sides = [[member for member in left if member.number % 2 == side] for side in (0, 1)]
        for side in sides:
            self.wait_seen(side, side, "cut in two")
        cut("del")
        self.wait_seen(left, left, "grown together")
        wait_for(lambda: all(member.status()["agree"] for member in left), SOON_S, "all agree")

        for member in lost:
            member.start()
        self.wait_seen(self.members, self.members, "the lost are back")
        incarnations = [each["incarnation"] for each in self.members[0].get("/members").json]
        self.assertGreaterEqual(min(incarnations), 1)


def enter_namespace():
    """Runs this script again in a namespace; returns only if none can be had."""
    for way in (("unshare", "--net"), ("unshare", "--user", "--map-root-user", "--net")):
        if subprocess.run((*way, "true"), stderr=subprocess.DEVNULL).returncode == 0:
            os.environ[INSIDE] = "1"
            os.execvp(way[0], (*way, sys.executable, "-B", *sys.argv))


def main():
    if INSIDE not in os.environ:
        enter_namespace()
        print("SKIPPED: neither root nor user namespaces here")
        sys.exit(0)
    harness.main()


if __name__ == "__main__":
    main()
