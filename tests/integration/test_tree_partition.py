# SPDX-License-Identifier: Apache-2.0
"""A network is cut in two; both halves publish, the same names too; it grows together, and all have
one tree.

In a network namespace of its own, as test_network.py, which needs root or user namespaces.
"""

import random
import unittest

import harness
from harness import SEED, check, file_id, scaled, temp_dir, wait_for
from test_network import SOON_S, Member, cut, main, make_namespace
from trees import listing, put, put_tar, versions, wait_same

COUNT = 6


class Partition(unittest.TestCase):
    def setUp(self):
        make_namespace(COUNT)
        root = temp_dir()
        self.addCleanup(root.__exit__, None, None, None)
        path = root.__enter__()
        self.members = [Member(path, number) for number in range(COUNT)]
        for member in self.members:
            member.name = f"n{member.number}"
            self.addCleanup(member.kill)
        self.random = random.Random(SEED)

    def wait_alive(self, members, by):
        numbers = {member.number for member in members}
        for node in by:
            wait_for(lambda: {number for number, state in node.states().items()
                              if state == "alive"} == numbers, SOON_S, f"n{node.number}")

    def test_both_halves_publish(self):
        members = self.members
        for member in members:
            member.start()
        self.wait_alive(members, members)
        for i in range(10):
            put(self.random.choice(members), f"common/{i}", b"before")
        put_tar(members[0], "moved", {f"{i}": b"x" for i in range(20)})
        for member in members:
            wait_for(lambda: len(listing(member)) == 32, SOON_S, "all is everywhere")
        wait_same(members)

        cut("add")
        halves = [[member for member in members if member.number % 2 == side] for side in (0, 1)]
        for half in halves:
            self.wait_alive(half, half)
        published = {}  # path: the ids that must be known of it
        for side, half in enumerate(halves):
            for i in range(scaled(40)):
                path = self.random.choice((f"common/{i % 10}", f"side{side}/{i}", f"both/{i % 5}"))
                data = b"side %d, %d" % (side, i)
                put(self.random.choice(half), path, data)
                published.setdefault(path, set()).add(file_id(data))
        # One half moves and deletes what the other changes.
        check(halves[0][0].post("moved", {"op": "rename", "to": "gone"}).status == 200, "rename")
        put(halves[1][0], "moved/3", b"changed")
        check(halves[1][0].delete("moved/4").status == 200, "delete")
        check(halves[0][1].put("file", b"a file").status == 201, "a file")
        put(halves[1][1], "file/below", b"and a directory")
        trees = [wait_same(half, "each half has one tree") for half in halves]
        self.assertNotEqual(trees[0], trees[1])

        cut("del")
        self.wait_alive(members, members)
        for path in ("file/below", "gone/5", "moved/3"):
            for member in members:
                wait_for(lambda: path in listing(member), SOON_S, f"{path} at n{member.number}")
        tree = wait_same(members)
        for member in members:
            wait_for(lambda: member.status()["agree"], SOON_S, "all agree")
            self.assertEqual(member.metrics()["artel_tree_divergences_total"], 0)
        # The file has made room for the directory; what was changed is there, where it was.
        self.assertEqual(tree["file"]["type"], "directory")
        self.assertEqual(tree["file~file"]["id"], file_id(b"a file"))
        self.assertEqual(tree["moved/3"]["id"], file_id(b"changed"))
        for path, ids in published.items():
            for member in members:
                known = {version.get("id") for version in versions(member, path).values()}
                check(ids <= known, f"a version of {path} is lost at n{member.number}", ids - known)


if __name__ == "__main__":
    main()
