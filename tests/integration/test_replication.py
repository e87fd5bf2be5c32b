# SPDX-License-Identifier: Apache-2.0
"""Real nodes on addresses 127.0.0.x keep one tree, whatever happens to them."""

import contextlib
import re
import shutil
import threading
import unittest

import harness
from harness import check, file_id, scaled
from test_members import Nodes
from trees import SOON_S, are_same, listing, put, put_tar, versions, wait_on, wait_same


class Replicating(Nodes):
    def wait_path(self, path, nodes, kind="file"):
        for node in nodes:
            wait_on(nodes, lambda: listing(node).get(path, {}).get("type") == kind,
                    f"{path} is seen by {node.name}")

    def wait_agree(self, nodes):
        for node in nodes:
            wait_on(nodes, lambda: node.status()["agree"], f"{node.name} agrees")

    def test_a_change_on_one_is_seen_by_all(self):
        nodes = self.network(3)
        for number, node in enumerate(nodes):
            put(node, f"of/{number}", f"content {number}".encode())
        for number in range(3):
            self.wait_path(f"of/{number}", nodes)
        tree = wait_same(nodes)
        self.assertEqual(tree["of/1"]["id"], file_id(b"content 1"))

        # Each changes what another one has made.
        a, b, c = nodes
        put(b, "of/0", b"replaced")
        check(c.post("of/1", {"op": "rename", "to": "moved/one"}).status == 200, "rename")
        check(a.delete("of/2").status == 200, "delete")
        check(a.post("empty", {"op": "mkdir"}).status in (200, 201), "mkdir")
        check(b.request("PUT", "/fs/link?symlink=of/0").status == 201, "symlink")
        expected = {"of", "of/0", "moved", "moved/one", "empty", "link"}
        for node in nodes:
            wait_on(nodes, lambda: set(listing(node)) == expected, f"changes at {node.name}")
        tree = wait_same(nodes)
        self.assertEqual(tree["of/0"]["id"], file_id(b"replaced"))
        self.assertEqual(tree["moved/one"]["id"], file_id(b"content 1"))
        self.assertNotIn("conflicts", tree["of/0"])

        # A directory of a hundred moves in one step.
        put_tar(c, "many", {f"{i}": b"x" for i in range(100)}, "?atomic=1")
        self.wait_path("many/99", nodes)
        check(b.post("many", {"op": "rename", "to": "more"}).status == 200, "rename")
        self.wait_path("more/0", nodes)
        check(a.delete("more", "?recursive=1").status == 200, "delete")
        for node in nodes:
            wait_on(nodes, lambda: set(listing(node)) == expected, f"deletes at {node.name}")
        wait_same(nodes)
        self.wait_agree(nodes)
        for node in nodes:
            self.assertEqual(node.metric("tree_divergences_total"), 0)
            self.assertEqual(node.metric("tree_ops_forked_total"), 0)
            self.assertEqual(node.metric("tree_ops_refused_total"), 0)
            self.assertEqual(node.metric("tree_messages_refused_total"), 0)

    def test_eight_nodes_change_the_same_names_at_once(self):
        nodes = self.network(8)
        rounds = scaled(30)
        seeds = [self.random.getrandbits(32) for _ in nodes]

        def work(node, seed):
            choice = harness.random.Random(seed)
            for i in range(rounds):
                path = f"{choice.choice('abc')}/{choice.randrange(6)}"
                what = choice.randrange(10)
                if what < 6:
                    put(node, path, f"{node.name} {i}".encode())
                elif what < 8:
                    node.delete(path)
                else:
                    node.post(path, {"op": "rename", "to": f"d/{choice.randrange(6)}"})

        threads = [threading.Thread(target=work, args=pair) for pair in zip(nodes, seeds)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, node in enumerate(nodes):
            put(node, f"last/{number}", b"last")
        for number in range(len(nodes)):
            self.wait_path(f"last/{number}", nodes)
        wait_same(nodes)
        self.wait_agree(nodes)
        for node in nodes:
            self.assertEqual(node.metric("tree_divergences_total"), 0)

    def test_a_node_that_was_stopped_catches_up(self):
        nodes = self.network(3)
        a, b, c = nodes
        put(a, "before", b"before")
        wait_same(nodes)
        c.stop()
        for i in range(20):
            put(a, f"a/{i}", b"a")
            put(b, f"b/{i}", b"b")
        a.delete("before")
        c.start()
        self.wait_path("b/19", [c])
        tree = wait_same(nodes)
        self.assertEqual(len(tree), 42)
        self.assertNotIn("before", tree)
        # It goes on as before.
        put(c, "c", b"c")
        self.wait_path("c", nodes)
        wait_same(nodes)

    def test_changes_made_alone_come_to_all(self):
        """Two that were networks of their own, each with a tree."""
        a = self.new().start()
        b = self.new().start()
        for i in range(20):
            put(a, f"a/{i}", b"a")
            put(b, f"b/{i}", b"b")
        put(a, "both", b"of a")
        put(b, "both", b"of b")
        c = self.new("--join", f"{a.at},{b.at}").start()
        nodes = [a, b, c]
        self.wait_all_alive(nodes)
        tree = wait_same(nodes)
        self.assertEqual(len(tree), 43)
        self.assertEqual(tree["both"]["conflicts"], 1)
        both = {version["id"] for version in versions(c, "both").values()}
        self.assertEqual(both, {file_id(b"of a"), file_id(b"of b")})


class Snapshots(Nodes):
    # A newcomer gets a snapshot from who has at least so many ops.
    SNAPSHOT_OPS = 10000
    ENTRIES = 40000

    def fill(self, node):
        """So many, some of them replaced, and some gone again. What is under way when a newcomer
        comes would bring it ops instead of a snapshot, so the node is started anew."""
        alone = self.SNAPSHOT_OPS + 100
        workers = 32

        def work(worker):
            with contextlib.closing(node.connect()) as connection:
                for i in range(worker, alone, workers):
                    answer = node.request("PUT", f"/fs/alone/{i % 40}/{i % 5000}",
                                          body=b"%d" % (i % 7), connection=connection)
                    check(answer.status in (200, 201), "put", answer)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        names = range(self.ENTRIES - 5000)
        put_tar(node, "tree", {f"{i % 50}/{i}": b"%d" % (i % 7) for i in names})
        for i in range(0, len(names), 200):
            check(node.delete(f"tree/{i % 50}/{i}").status == 200, "delete")
        node.stop()
        node.start()

    def test_an_empty_node_joins_a_large_tree(self):
        a = self.new().start()
        self.fill(a)
        b = self.new("--join", a.at).start()
        wait_on([a, b], lambda: b.metric("tree_snapshots_merged_total") == 1, "a snapshot")
        wait_same([a, b])
        self.assertEqual(a.metric("tree_snapshots_served_total"), 1)
        self.assertEqual([], sorted(b.data.glob("snapshot.*.in")))
        # And hears of what comes then.
        put(a, "more", b"more")
        wait_on([a, b], lambda: "more" in listing(b), "more")
        put(b, "back", b"back")
        wait_on([a, b], lambda: "back" in listing(a), "back")
        wait_same([a, b])

    def kill_in_merge(self, a, b, published):
        """Starts b, publishes there while it merges, and kills it. False: the merge was over."""
        b.start()
        wait_on([a, b], lambda: b.metric("tree_merging") == 1 or are_same([a, b]), "a merge")
        path = f"while/{len(published)}"
        published[path] = put(b, path, b"merging")
        is_merging = b.metric("tree_merging") == 1
        b.kill()
        return is_merging

    def test_it_is_killed_in_the_middle_of_a_merge(self):
        a = self.new().start()
        self.fill(a)
        for _ in range(8):
            published = {}
            b = self.new("--join", a.at)
            if self.kill_in_merge(a, b, published):
                break
        else:
            raise harness.Failure("it was never killed in a merge")
        while len(published) < 20 and self.kill_in_merge(a, b, published):
            pass
        put(a, "meanwhile", b"meanwhile")
        b.start()
        put(b, "of/b", b"of b")
        wait_on([a, b], lambda: "of/b" in listing(a), "what b published")
        wait_on([a, b], lambda: "meanwhile" in listing(b), "what a published")
        tree = wait_same([a, b])
        for path, version in published.items():
            check(path in tree and version in versions(a, path), "a change is lost", path, version)
        print(f"killed {len(published)} times", flush=True)
        self.assertEqual([], sorted(b.data.glob("snapshot.*.in")))


class RolledBack(Nodes):
    def test_a_data_directory_that_was_put_back(self):
        nodes = self.network(3)
        a, b, c = nodes
        for i in range(5):
            put(c, f"old/{i}", b"old %d" % i)
        wait_same(nodes)
        c.stop()
        harness.copy_tree(c.data, self.root / "copy")
        c.start()
        self.wait_all_alive()
        told = {}  # path: {version: content}
        for i in range(5):
            for path in (f"old/{i}", f"lost/{i}"):
                data = b"later %d" % i
                told.setdefault(path, {})[put(c, path, data)] = data
        wait_same(nodes)
        c.stop()
        shutil.rmtree(c.data)
        harness.copy_tree(self.root / "copy", c.data)
        c.start()
        # At once, when it can't know yet what it has lost.
        for i in range(5):
            for path in (f"old/{i}", f"new/{i}"):
                data = b"after %d" % i
                told.setdefault(path, {})[put(c, path, data)] = data
        self.wait_all_alive()
        for i in range(5):
            for node in nodes:
                wait_on(nodes, lambda: {f"new/{i}", f"lost/{i}"} <= set(listing(node)),
                        f"new and lost at {node.name}")
        wait_same(nodes)
        seen = set()
        for path, by_version in told.items():
            for version in by_version:
                check(version not in seen, "a sequence was used twice", path, version)
                seen.add(version)
            for node in nodes:
                known = versions(node, path)
                for version, data in by_version.items():
                    check(version in known and known[version]["id"] == file_id(data),
                          f"{node.name} does not know {version} of {path}", known)
        # What it had not seen is beside what it published, not under it.
        for i in range(5):
            heads = [v for v in versions(a, f"old/{i}").values() if v["current"] or v["conflict"]]
            self.assertEqual({v["id"] for v in heads},
                             {file_id(b"later %d" % i), file_id(b"after %d" % i)})
        # Once more, with what it has now; then it is one of them as before.
        for node in nodes:
            put(node, f"end/{node.name}", b"end")
        for node in nodes:
            for other in nodes:
                wait_on(nodes, lambda: f"end/{other.name}" in listing(node), "the end")
        wait_same(nodes)

    def test_a_watcher_that_comes_back_when_the_copy_has_grown(self):
        """What it is told is of another life of the same feed, in which its position has come again."""
        a = self.new().start()
        put(a, "first", b"first")
        cursors = [a.status()["cursor"]]
        a.stop()
        harness.copy_tree(a.data, self.root / "copy")
        a.start()
        for i in range(3):
            put(a, f"lost/{i}", b"lost")
            cursors.append(a.status()["cursor"])
        token = a.get("/watch/token").json["token"]
        a.kill()
        shutil.rmtree(a.data)
        harness.copy_tree(self.root / "copy", a.data)
        a.start()
        for i in range(5):
            put(a, f"new/{i}", b"new")
        a.stop()
        a.start()  # twice, and what was before the copy is known yet
        with a.watch(f"?since={cursors[0]}") as watch:
            self.assertEqual([event["path"] for event in watch.take(5)],
                             [f"new/{i}" for i in range(5)])
        for cursor in cursors[1:]:
            with a.watch(f"?since={cursor}") as watch:
                events = watch.take(7)
                self.assertEqual([event["event"] for event in events], ["gap"] + ["put"] * 6)
                self.assertEqual(events[-1]["path"], "new/4")
            with a.watch(f"?since={cursor}&token={token}") as watch:
                self.assertEqual([event["path"] for event in watch.take(5)],
                                 [f"new/{i}" for i in range(5)])
            self.assertEqual(a.get(f"/watch/token?at={cursor}").error, "no_token")
        self.assertEqual(a.get(f"/watch/token?at={cursors[0]}").status, 200)

    def test_a_data_directory_that_was_copied_before_the_first_change(self):
        nodes = self.network(2)
        a, b = nodes
        b.stop()
        harness.copy_tree(b.data, self.root / "copy")
        b.start()
        first = put(b, "one", b"one")
        wait_on([a, b], lambda: "one" in listing(a), "one")
        b.stop()
        shutil.rmtree(b.data)
        harness.copy_tree(self.root / "copy", b.data)
        b.start()
        second = put(b, "two", b"two")
        self.assertNotEqual(first, second)
        for node in nodes:
            wait_on(nodes, lambda: {"one", "two"} <= set(listing(node)), "one and two")
        wait_same(nodes)


class Large(Nodes):
    def test_a_large_atomic_directory_appears_in_one_step(self):
        count = scaled(100000 - 1, sanitized=0.02)  # and the directory itself
        a, b, c = self.network(3)
        put(a, "first", b"first")
        wait_same([a, b, c])
        before = b.status()["entries"]
        counts = {b.name: set(), c.name: set()}
        over = threading.Event()

        def look(node):
            while not over.is_set():
                counts[node.name].add(node.status()["entries"])

        threads = [threading.Thread(target=look, args=(node,)) for node in (b, c)]
        with b.watch("?path=**") as watch:
            for thread in threads:
                thread.start()
            try:
                put_tar(a, "index", {f"{i % 100}/{i}": b"%d" % (i % 10) for i in range(count)},
                        "?atomic=1")
                after = a.status()["entries"]
                for node in (b, c):
                    wait_on([a, node], lambda: node.status()["entries"] == after, node.name)
            finally:
                over.set()
                for thread in threads:
                    thread.join()
            event = watch.next(SOON_S)
            self.assertEqual((event["event"], event["path"]), ("atomic", "index"))
            put(c, "second", b"second")
            event = watch.next(SOON_S)
            self.assertEqual((event["event"], event["path"]), ("put", "second"))
        for name, seen in counts.items():
            self.assertLessEqual(seen, {before, after}, f"{name} saw a part of it")
        tree = wait_same([a, b, c])
        self.assertEqual(len([path for path in tree if re.fullmatch(r"index/\d+/\d+", path)]), count)


if __name__ == "__main__":
    harness.main()
