# SPDX-License-Identifier: Apache-2.0
"""One file on its way to eight nodes, when those that give it die or fall silent in the middle: all
others get it, whole."""

import hashlib
import signal

import harness
from harness import BLOCK_BYTES, MIB, check, content, file_id, scaled
from test_fetch import get, why
from test_fetch_faults import Background
from trees import put, wait_on, wait_same

RECEIVERS = 8
LENGTH = scaled(24, 0.5) * MIB
# What each node gives, so that there is a middle: whole copies take some seconds.
RATE = "12M"


class Swarm(Background):
    def swarm(self, holders):
        """Nodes that have it, and nodes that have begun to fetch it."""
        first = self.new("--upload-rate", RATE).start()
        for _ in range(holders - 1 + RECEIVERS):
            self.new("--join", first.at, "--upload-rate", RATE).start()
        self.wait_all_alive()
        self.data = content(("swarm", harness.SEED), LENGTH)
        self.blocks = [hashlib.sha256(self.data[begin : begin + BLOCK_BYTES]).hexdigest()
                       for begin in range(0, LENGTH, BLOCK_BYTES)]
        put(first, "file", self.data)
        wait_same(self.nodes)
        having, fetching = self.nodes[:holders], self.nodes[holders:]
        for node in having[1:]:
            self.start_fetch(node, self.data)
        for node in having[1:]:
            self.wait_holds(node, "file")
        for node in fetching:
            self.start_fetch(node, self.data)
        return having, fetching

    def here(self, node):
        told = why(node, file_id(self.data))
        return len(self.blocks) if told["state"] in ("done", "here") else told.get("blocks_here", 0)

    def wait_middle(self, nodes):
        """A third of all has come, together."""
        wait_on(nodes, lambda: sum(map(self.here, nodes)) > len(nodes) * len(self.blocks) // 3,
                "the middle")

    def wait_whole(self, nodes):
        for node in nodes:
            self.wait_done(node, "file", self.data)

    def test_three_in_ten_holders_die(self):
        having, fetching = self.swarm(3)
        self.wait_middle(fetching)
        lost = [self.random.choice(having), *self.random.sample(fetching, 2)]
        for node in lost:
            node.kill()
        self.wait_whole([node for node in fetching if node not in lost])

    def test_the_publisher_dies_when_one_copy_has_left(self):
        [publisher], fetching = self.swarm(1)
        missing = set(self.blocks)

        def has_left():
            for node in fetching:
                connection = node.connect()
                missing.difference_update([
                    each for each in missing
                    if node.request("HEAD", f"/blocks/{each}/data", connection=connection).status
                    == 200])
                connection.close()
            return not missing

        wait_on(fetching, has_left, "one copy has left")
        publisher.kill()
        self.wait_whole(fetching)

    def test_one_that_has_it_and_one_that_fetches_are_stopped(self):
        having, fetching = self.swarm(2)
        self.wait_middle(fetching)
        silent = self.random.choice(fetching)
        with self.stopped(having[1]), self.stopped(silent):
            self.wait_whole([node for node in fetching if node is not silent])
        self.wait_whole([silent])

    def test_all_that_have_it_die_and_one_comes_back(self):
        having, fetching = self.swarm(2)
        self.wait_middle(fetching)
        for node in having:
            node.kill()
        having[1].start()
        self.wait_whole(fetching)

    def test_little_comes_twice(self):
        """But for the last blocks, which are raced."""
        _, fetching = self.swarm(3)
        self.wait_whole(fetching)
        received = sum(node.metric("fetch_bytes_total") for node in fetching)
        twice = sum(node.metric("fetch_duplicate_bytes_total") for node in fetching)
        raced = sum(node.metric("fetch_raced_bytes_total") for node in fetching)
        wasted = sum(node.metric("blocks_wasted_bytes_total") for node in fetching)
        hedged = sum(node.metric("fetch_blocks_hedged_total") for node in fetching)
        print(f"{received / LENGTH:.2f} copies came; twice {100 * twice / received:.2f} %, "
              f"{100 * raced / received:.2f} % at the end; not wanted any more "
              f"{100 * wasted / received:.2f} %; {hedged} blocks were late", flush=True)
        check((twice - raced) * 1000 <= 5 * received, "duplicates", twice, raced, received)


if __name__ == "__main__":
    harness.main()
