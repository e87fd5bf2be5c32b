# SPDX-License-Identifier: Apache-2.0
"""Real nodes publish and fetch without a pause while every second one of them is killed.

1. What comes is right, as far as it comes, whoever is asked and whenever.
2. In the end some stay dead. Whatever was acknowledged, and is with those that live, block by block,
   each of them gets.
3. All come back: whatever was acknowledged is at every node, by its path.
4. No node ends by itself; no sanitizer speaks.

`./dev chaos` runs it for longer.

  ARTEL_CHAOS_NODES     how many
  ARTEL_CHAOS_SECONDS   of deaths
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import http.client
import os
import pathlib
import random
import threading
import time
import unittest

import harness
from harness import BLOCK_BYTES, MIB, SANITIZED, SEED, check, content, file_id, temp_dir
from node import Node
from test_chaos import address
from trees import wait_on, wait_same

COUNT = int(os.environ.get("ARTEL_CHAOS_NODES", "4" if SANITIZED else "6"))
SECONDS = float(os.environ.get("ARTEL_CHAOS_SECONDS", "15"))
KILL_EVERY_S = 1.0
# A dead one comes back after so long, at most.
DEAD_S = 2.5
DEAD_MOST = COUNT // 3
LENGTH_MOST = MIB // 2 if SANITIZED else 2 * MIB
PAUSE_S = 0.6 if SANITIZED else 0.3


class Member(Node):
    def __init__(self, root, number, addresses):
        self.name, self.at = f"n{number}", addresses[number]
        others = [each for each in addresses if each != self.at]
        super().__init__(pathlib.Path(root) / self.name, "--listen", self.at, "--insecure",
                         "--name", self.name, "--zone", f"z{number % 2}", "--scrub-rate", "0",
                         "--join", ",".join(others[:3]))
        self.address = (self.at.split(":")[0], int(self.at.split(":")[1]))

    def __repr__(self):
        return self.name

    def end(self):
        check(self.process.poll() is None, f"{self.name} ended by itself: {self.process.poll()}",
              self.log.decode(errors="replace")[-4000:])
        self.kill()


@dataclasses.dataclass
class Publication:
    path: str
    publisher: Member
    data: bytes

    def __post_init__(self):
        self.id = file_id(self.data)
        self.blocks = [hashlib.sha256(self.data[begin : begin + BLOCK_BYTES]).hexdigest()
                       for begin in range(0, len(self.data), BLOCK_BYTES)]


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        self.acknowledged = []
        self.faults = []
        self.counts = {}

    def count(self, what, number=1):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + number

    def fault(self, *words):
        with self.lock:
            self.faults.append(" ".join(map(str, words)))

    def add(self, publication):
        with self.lock:
            self.acknowledged.append(publication)

    def any(self, chance):
        with self.lock:
            return chance.choice(self.acknowledged) if self.acknowledged else None


class Worker(threading.Thread):
    """Works at one node, until it is told to end."""

    def __init__(self, node, ledger, seed):
        super().__init__(daemon=True)
        self.node, self.ledger = node, ledger
        self.random = random.Random(seed)
        self.is_over = threading.Event()

    def run(self):
        while not self.is_over.wait(self.random.random() * PAUSE_S):
            try:
                self.work()
            except (OSError, http.client.HTTPException):
                self.ledger.count("requests that a death cut off")


class Publisher(Worker):
    number = 0

    def work(self):
        """Some of what is published has blocks of what was, or is all the same."""
        size = self.random.choice((0, 1, 5000, BLOCK_BYTES, self.random.randrange(LENGTH_MOST)))
        self.number += 1
        data = content((SEED, self.node.name, self.number, self.random.random()), size)
        other = self.ledger.any(self.random)
        if other and self.random.random() < 0.3:
            kept = self.random.randrange(len(other.data) // BLOCK_BYTES + 1) * BLOCK_BYTES
            data = other.data if kept == 0 else other.data[:kept] + data
        path = f"{self.node.name}/{self.number}"
        answer = self.node.put(path, data)
        if answer.status in (200, 201):
            publication = Publication(path, self.node, data)
            check(answer.json["id"] == publication.id, "another id", answer)
            self.ledger.add(publication)


class Fetcher(Worker):
    def work(self):
        publication = self.ledger.any(self.random)
        if not publication:
            return
        with contextlib.closing(self.node.connect()) as connection:
            connection.request("GET", f"/fs/{publication.path}")
            answer = connection.getresponse()
            try:
                body = answer.read()
            except http.client.IncompleteRead as read:
                body = read.partial
                self.ledger.count("streams broken off")
                if not publication.data.startswith(body):
                    self.ledger.fault("a wrong byte of", publication.path, "at", self.node)
                return
        if answer.status == 200 and body != publication.data:
            self.ledger.fault("wrong bytes of", publication.path, "at", self.node)
        if answer.status not in (200, 404, 503):
            self.ledger.fault(publication.path, "at", self.node, answer.status, body[:500])
        self.ledger.count(f"answers {answer.status}")


class Chaos(unittest.TestCase):
    def setUp(self):
        root = temp_dir()
        self.addCleanup(root.__exit__, None, None, None)
        self.root = root.__enter__()
        self.random = random.Random(SEED)
        addresses = [address(number) for number in range(COUNT)]
        self.members = [Member(self.root, number, addresses) for number in range(COUNT)]
        for member in self.members:
            self.addCleanup(member.kill)
        self.ledger = Ledger()
        self.workers = []
        self.addCleanup(self.end_workers)
        self.pool = concurrent.futures.ThreadPoolExecutor(2 * COUNT)
        self.addCleanup(self.pool.shutdown)

    def end_workers(self):
        for worker in self.workers:
            worker.is_over.set()
        for worker in self.workers:
            worker.join()
        self.workers = []

    def living(self):
        return [member for member in self.members if member.process]

    def wait_seen(self):
        """Until those that live see just each other."""
        names = {member.name for member in self.living()}

        def sees(member):
            return {each["name"] for each in member.get("/members").json
                    if each["state"] == "alive"} == names

        for member in self.living():
            wait_on(self.living(), lambda: sees(member), f"{member} sees {names}")

    def rage(self):
        """One dies each second; those that are dead come back."""
        back = {}
        end = time.monotonic() + SECONDS
        due = time.monotonic()
        while time.monotonic() < end:
            now = time.monotonic()
            for member in [member for member, at in back.items() if at <= now]:
                del back[member]
                member.start()
            if now >= due:
                due += KILL_EVERY_S
                if len(back) < DEAD_MOST:
                    member = self.random.choice(self.living())
                    member.end()
                    back[member] = time.monotonic() + self.random.random() * DEAD_S
                    self.ledger.count("deaths")
            time.sleep(0.02)
        if not back:
            member = self.random.choice(self.living())
            member.end()
            self.ledger.count("deaths")

    def is_living(self, publication):
        """Are all blocks with those that live? The publisher has them all."""
        if publication.publisher.process:
            return True
        return all(any(member.request("HEAD", f"/blocks/{each}/data").status == 200
                       for member in self.living())
                   for each in publication.blocks)

    def check_fetched(self, publication, member, url):
        answer = member.get(url)
        check(answer.status == 200 and answer.body == publication.data,
              f"{publication.path} of {publication.publisher} is not had at {member}",
              f"{len(publication.data)} bytes, {publication.id}", answer.status,
              answer.body[:1000] if answer.status != 200 else "wrong bytes",
              "living:", self.living())

    def check_living(self, publications):
        """Of those whose publisher is dead nobody needs to have the list of blocks, unless somebody
        says that he has the file."""
        def one(publication):
            if not self.is_living(publication):
                self.ledger.count("gone with the dead")
                return
            member = self.random.choice(self.living())
            url = f"/files/{publication.id}/data"
            if not publication.publisher.process:
                found = member.get(f"/locate/{publication.id}?all=1").json
                if not any(holder["state"] == "complete" for holder in found["holders"]):
                    self.ledger.count("in pieces")
                    return
            self.check_fetched(publication, member, url)
            self.ledger.count("fetched from the living")

        list(self.pool.map(one, publications))

    def check_all(self, publications):
        def one(publication):
            member = self.random.choice(self.members)
            self.check_fetched(publication, member, f"/fs/{publication.path}")

        list(self.pool.map(one, publications))

    def test_what_was_acknowledged_is_fetched(self):
        for member in self.members:
            member.start()
        self.wait_seen()
        self.workers = [kind(member, self.ledger, self.random.getrandbits(32))
                        for member in self.members for kind in (Publisher, Fetcher, Fetcher)]
        for worker in self.workers:
            worker.start()
        self.rage()
        self.end_workers()
        publications = self.ledger.acknowledged
        check(len(publications) > COUNT, "nothing was published")
        self.wait_seen()
        self.check_living(publications)
        for member in self.members:
            if not member.process:
                member.start()
        self.wait_seen()
        wait_same(self.members)
        self.check_all(publications)
        faults = self.ledger.faults
        check(not faults, f"{len(faults)} faults", *faults[:20])
        for member in self.members:
            check(member.process.poll() is None, f"{member} ended by itself")
            member.stop()
        counts = ", ".join(f"{what}: {count}" for what, count in sorted(self.ledger.counts.items()))
        print(f"{COUNT} nodes, {SECONDS:.0f} s, {len(publications)} publications; {counts}")


if __name__ == "__main__":
    harness.main()
