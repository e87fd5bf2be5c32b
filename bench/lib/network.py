# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of the shared tree share: a network of nodes, each with an address of its own.

All of it lives in a network namespace, so that the addresses are free and the counters of its
loopback hold nothing else. A namespace needs root, or user namespaces.
"""

import datetime
import re
import sys

from lib.streams import *

PORT = 7420
SOON_S = 120
INSIDE = "ARTEL_BENCH_INSIDE"


def enter_namespace():
    """Runs this script again in a network namespace, unless this is that run."""
    if INSIDE in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ[INSIDE] = "1"
    words = [*namespace_words(), sys.executable, "-B", *sys.argv]
    os.execvp(words[0], words)


def wait_until(condition, what, seconds=SOON_S, pause=0.01):
    """Gives what `condition` gave, once that is true."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"failed: {what}: not after {seconds} s")
        time.sleep(pause)
    return result


class Node(Server):
    """A node at 127.0.1.NUMBER, with its data and its log in `where`."""

    def __init__(self, where, number):
        super().__init__(None, PORT, f"127.0.1.{number}")
        self.number = number
        self.data = where / f"data-{number}"
        self.log = where / f"log-{number}"

    def start(self, join=None):
        """Gives the moment in which it said that it is ready."""
        words = [ARTEL, "node", "--data", self.data, "--listen", f"{self.host}:{PORT}",
                 "--name", f"n{self.number}", "--scrub-rate", "0"]  # fmt: skip
        words += ["--join", f"{join.host}:{PORT}"] if join else []
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log)
        if not self.process.stdout.readline().startswith(b"ready "):
            raise SystemExit(f"{self.host} does not start\n{self.log.read_text()}")
        return time.monotonic()

    def end(self, with_signal=signal.SIGKILL):
        if self.process:
            self.process.send_signal(with_signal)
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def metrics(self):
        """{name without artel_: number}"""
        text = self.request("GET", "/metrics").decode()
        pairs = (line.split() for line in text.splitlines() if not line.startswith("#"))
        return {name.removeprefix("artel_"): float(value) for name, value in pairs}

    def logged_at(self, event, after=0.0):
        """Seconds of the wall clock at which it logged `event` first, behind `after`; None."""
        for line in self.log.read_text().splitlines():
            found = re.match(r"time=(\S+) .*event=(\S+)", line)
            if found and found[2] == event:
                moment = datetime.datetime.fromisoformat(found[1].replace("Z", "+00:00"))
                if moment.timestamp() >= after:
                    return moment.timestamp()
        return None

    def state(self):
        """(fingerprint, entries)"""
        status = self.status()
        return status["fingerprint"], status["entries"]


@contextlib.contextmanager
def network(where, count):
    """`count` nodes that all see each other; the first is the one that the others joined."""
    nodes = [Node(where, number) for number in range(1, count + 1)]
    try:
        for node in nodes:
            node.start(nodes[0] if node is not nodes[0] else None)
        for node in nodes:
            wait_until(
                lambda node=node: node.metrics()["members_alive"] == count, "all see all", pause=0.05
            )
        yield nodes
    finally:
        for node in nodes:
            node.end()


def wait_equal(nodes, seconds, pause=0.05):
    """Until all have the tree of the first; gives when that was seen."""

    def equal():
        states = [node.state() for node in nodes]
        return all(state == states[0] for state in states)

    wait_until(equal, "equal trees", seconds, pause)
    return time.monotonic()
