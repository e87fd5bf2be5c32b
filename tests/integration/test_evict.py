# SPDX-License-Identifier: Apache-2.0
"""`--cache-bytes`: what was only read makes room, unless it is the last copy."""

import random
import time

import harness
from harness import BLOCK_BYTES, MIB, SEED, check, content, scaled
from test_members import Nodes
from trees import put, wait_on, wait_same

LIMIT = 2 * MIB
FILES = 6


class Evict(Nodes):
    def cached(self, node):
        return node.status()["store"]["cache_bytes"]

    def network_of(self, *options):
        """One with these options for each."""
        for each in options:
            joins = ["--join", self.nodes[0].at] if self.nodes else []
            self.new(*each, *joins).start()
        self.wait_all_alive()
        return self.nodes

    def publish(self, node, name):
        """Files of 1 MiB each."""
        files = {f"{name}/{i}": content(f"{name} {i}", 4 * BLOCK_BYTES) for i in range(FILES)}
        for path, data in files.items():
            put(node, path, data)
        return files

    def read(self, node, files):
        for path, data in files.items():
            answer = node.get(f"/fs/{path}")
            check(answer.status == 200 and answer.body == data, f"{node.name} reads {path}", answer)

    def test_what_was_read_makes_room(self):
        limited = ("--cache-bytes", str(LIMIT))
        nodes = self.network_of((), limited)
        files = self.publish(nodes[0], "a")
        wait_same(nodes)
        self.read(nodes[1], files)
        wait_on(nodes, lambda: self.cached(nodes[1]) <= LIMIT, "it makes room")
        self.assertGreaterEqual(nodes[1].metric("evicted_bytes_total"), FILES * MIB - LIMIT)
        self.assertGreater(nodes[0].metric("promised_blocks_total"), 0)
        # What was evicted is fetched again, as often as it is read.
        self.read(nodes[1], files)
        wait_on(nodes, lambda: self.cached(nodes[1]) <= LIMIT, "again")
        # The publisher keeps its own whatever there is of it.
        self.assertEqual(nodes[0].metric("evicted_bytes_total"), 0)
        self.read(nodes[0], files)

    def limit(self, node):
        """Starts it anew with a limit."""
        node.stop()
        node.more = ("--cache-bytes", str(LIMIT))
        node.start()

    def test_who_changes_a_name_does_not_make_the_content_its_own(self):
        nodes = self.network_of((), ())
        files = self.publish(nodes[0], "named")
        wait_same(nodes)
        self.read(nodes[1], files)
        # It was given before it was committed.
        wait_on(nodes, lambda: self.cached(nodes[1]) == FILES * MIB, "it is kept")
        for path in files:
            answer = nodes[1].post(path, {"op": "set", "mode": "0600"})
            self.assertEqual(answer.status, 200, answer)
        self.assertEqual(nodes[1].post("named", {"op": "rename", "to": "moved"}).status, 200)
        wait_same(nodes)
        self.assertEqual([self.cached(node) for node in nodes], [0, FILES * MIB])
        self.limit(nodes[1])
        wait_on(nodes, lambda: self.cached(nodes[1]) <= LIMIT, "it makes room")
        self.assertGreaterEqual(nodes[1].metric("evicted_bytes_total"), FILES * MIB - LIMIT)
        moved = {path.replace("named", "moved"): data for path, data in files.items()}
        for node in nodes:
            self.read(node, moved)

    def test_the_last_copy_stays(self):
        nodes = self.network_of((), (), ())
        files = self.publish(nodes[0], "last")
        wait_same(nodes)
        self.read(nodes[1], files)
        nodes[0].kill()
        self.limit(nodes[1])
        self.wait_states(self.states(n0="unreachable"), nodes[1:], "it is missed")
        wait_on(nodes[1:], lambda: nodes[1].metric("evict_refused_blocks_total") > 0, "it tries")
        self.assertEqual(nodes[1].metric("evicted_blocks_total"), 0)
        self.assertEqual(self.cached(nodes[1]), FILES * MIB)
        self.read(nodes[1], files)
        # When another one has it, too, it goes.
        self.read(nodes[2], files)
        wait_on(nodes[1:], lambda: self.cached(nodes[1]) <= LIMIT, "it makes room")
        self.read(nodes[2], files)

    def test_two_that_evict_the_same_never_both_do(self):
        nodes = self.network_of((), (), ())
        files = self.publish(nodes[0], "both")
        wait_same(nodes)
        for node in nodes[1:]:
            self.read(node, files)
        nodes[0].kill()
        for node in nodes[1:]:
            self.limit(node)
        self.wait_states(self.states(n0="unreachable"), nodes[1:], "it is missed")
        # Three times too much on each, and all of it on both: each block stays on one of them.
        wait_on(nodes[1:], lambda: sum(map(self.cached, nodes[1:])) <= FILES * MIB, "one of each")
        self.assertEqual(sum(map(self.cached, nodes[1:])), FILES * MIB)
        for node in nodes[1:]:
            self.read(node, files)

    def test_two_that_evict_the_same_and_are_killed_lose_nothing(self):
        nodes = self.network_of((), (), ())
        files = self.publish(nodes[0], "killed")
        wait_same(nodes)
        for node in nodes[1:]:
            self.read(node, files)
        nodes[0].kill()
        pair = nodes[1:]
        for node in pair:
            self.limit(node)
        chance = random.Random(f"{SEED} {self.id()}")
        for i in range(scaled(8)):
            self.read(pair[0], files)
            self.read(pair[1], files)
            time.sleep(2 * chance.random())  # somewhere in the middle of an eviction
            node = pair[i % 2]
            node.kill()
            node.start()
            self.wait_states(self.states(n0="unreachable"), pair, "it is missed")
        self.assertGreater(sum(node.metric("promised_blocks_total") for node in pair), 0)
        self.assertGreaterEqual(sum(map(self.cached, pair)), FILES * MIB)
        for node in pair:
            self.read(node, files)


if __name__ == "__main__":
    harness.main()
