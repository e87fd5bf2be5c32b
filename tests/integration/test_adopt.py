# SPDX-License-Identifier: Apache-2.0
"""`POST /files`: files of a machine that are its node's copy of their blocks."""

import json
import os
import random
import signal
import threading

import harness
from harness import BLOCK_BYTES, MIB, Store, check, content, file_id, wait_for
from test_members import Nodes
from trees import SOON_S, put, wait_on, wait_same

SIZE = 5 * MIB + 1234
STORE_ADOPT_BYTES_MIN = 64 * 1024


class Adopt(Nodes):
    def setUp(self):
        super().setUp()
        self.dir = self.root / "followed"
        self.dir.mkdir()

    def ask(self, node, operation, *names, data=None):
        """The answers for files below the directory, by the ids of their content."""
        files = [{"id": file_id(data or (self.dir / name).read_bytes()),
                  "path": str(self.dir / name)} for name in names]
        body = json.dumps({"op": operation, "files": files}).encode()
        answer = node.request("POST", "/files", body=body, local=True)
        check(answer.status == 200, operation, answer)
        told = answer.json["files"]
        self.assertEqual([(one["id"], one["path"]) for one in told],
                         [(one["id"], one["path"]) for one in files])
        return told

    def stored(self, node, name):
        return node.status()["store"][name]

    def adopt_all(self, node, name, data):
        """Until nobody is busy with it any more."""
        def is_once():
            told = self.ask(node, "adopt", name, data=data)[0]
            check(told["state"] == "adopted" and told["bytes"] == len(data), "adopted", told)
            return told["busy"] == 0 and told["kept"] == 0
        wait_for(is_once, SOON_S, "its bytes are given up")

    def follow(self, node, path, name=None):
        """Gets a file of the tree as a follower does, and has it adopted."""
        name = name or path
        answer = node.get(f"/fs/{path}")
        check(answer.status == 200, "get", answer)
        (self.dir / name).write_bytes(answer.body)
        self.adopt_all(node, name, answer.body)
        return answer.body

    def three(self):
        nodes = self.network(3)
        data = content("adopted", SIZE)
        put(nodes[0], "big", data)
        wait_same(nodes)
        self.assertEqual(self.follow(nodes[1], "big"), data)
        return nodes, data

    def test_it_stands_once_and_serves_others(self):
        (publisher, keeper, other), data = self.three()
        self.assertEqual(self.stored(keeper, "live_bytes"), 0)
        self.assertEqual(self.stored(keeper, "external_files"), 1)
        publisher.kill()
        answer = other.get("/fs/big")
        check(answer.status == 200 and answer.body == data, "from the followed file", answer.status)
        check(keeper.get("/fs/big").body == data, "here, too")
        # On the disk, too, when what was given up is given back.
        keeper.stop()
        store = Store(keeper.data)
        self.assertEqual(store.run("scrub").status, 0)
        taken = sum(512 * each.stat().st_blocks for each in (keeper.data / "segments").iterdir())
        self.assertLess(taken, BLOCK_BYTES)
        keeper.start()
        check(keeper.get("/fs/big").body == data, "after a restart")
        self.adopt_all(keeper, "big", data)

    def test_who_changes_it_takes_nothing_but_the_copy(self):
        (publisher, keeper, other), data = self.three()
        with open(self.dir / "big", "r+b") as file:
            file.seek(MIB)
            file.write(b"mine")
        info = os.stat(self.dir / "big")
        # The one that is asked for it finds out, and nobody gets a wrong byte.
        check(other.get("/fs/big").body == data, "from others")
        check(keeper.get("/fs/big").body == data, "fetched again")
        self.assertEqual(self.stored(keeper, "external_files"), 0)
        self.assertEqual(self.stored(keeper, "lost_blocks"), 0)
        told = self.ask(keeper, "adopt", "big", data=data)[0]
        self.assertEqual((told["state"], told["error"]), ("changed", "stale"))
        after = os.stat(self.dir / "big")
        self.assertEqual((info.st_mtime_ns, info.st_ino), (after.st_mtime_ns, after.st_ino))
        self.assertEqual((self.dir / "big").read_bytes()[MIB:MIB + 4], b"mine")
        publisher.kill()
        check(keeper.get("/fs/big").body == data, "it has its own again")

    def test_who_reads_it_here_finds_out(self):
        """Whatever happened to it: the first reader gets the right bytes."""
        publisher, keeper = self.network(2)
        changes = {
            "overwritten": lambda place: place.write_bytes(b"m" * place.stat().st_size),
            "truncated": lambda place: os.truncate(place, 1000),
            "deleted": lambda place: place.unlink(),
            "replaced": lambda place: (place.unlink(), place.mkdir()),
            "touched": lambda place: os.utime(place),
        }
        for size in (STORE_ADOPT_BYTES_MIN, BLOCK_BYTES, SIZE):
            for name, change in changes.items():
                path = f"{name}{size}"
                data = content(path, size)
                put(publisher, path, data)
                wait_same(self.nodes)
                self.follow(keeper, path)
                change(self.dir / path)
                answer = keeper.get(f"/fs/{path}")
                check(answer.status == 200 and answer.body == data, path, answer.status)
        self.assertEqual(self.stored(keeper, "external_files"), 0)
        self.assertEqual(self.stored(keeper, "lost_blocks"), 0)

    def test_what_is_released_is_elsewhere(self):
        (publisher, keeper, _), data = self.three()
        os.unlink(self.dir / "big")
        self.assertEqual(self.ask(keeper, "release", "big", data=data)[0]["state"], "released")
        self.assertEqual(self.ask(keeper, "release", "big", data=data)[0]["state"], "released")
        self.assertEqual(self.stored(keeper, "external_files"), 0)
        check(keeper.get("/fs/big").body == data, "fetched again")
        wait_on([keeper], lambda: self.stored(keeper, "live_bytes") >= len(data), "stored again")

    def test_small_ones_stay_in_segments(self):
        node, = self.network(1)
        put(node, "small", b"small")
        (self.dir / "small").write_bytes(b"small")
        told = self.ask(node, "adopt", "small")[0]
        self.assertEqual((told["state"], told["bytes"]), ("held", 0))
        self.assertEqual(self.ask(node, "release", "small")[0]["state"], "released")

    def test_what_was_published_here_keeps_its_bytes(self):
        node, = self.network(1)
        data = content("own", SIZE)
        put(node, "own", data)
        (self.dir / "own").write_bytes(data)
        told = self.ask(node, "adopt", "own")[0]
        self.assertEqual((told["state"], told["given_up"], told["busy"]), ("adopted", 0, 0))
        os.truncate(self.dir / "own", MIB)
        check(node.get("/fs/own").body == data, "its own")
        self.assertEqual(self.stored(node, "lost_blocks"), 0)

    def test_a_link_copies_first(self):
        """Who gives it a path publishes it: it may not hang on somebody's file."""
        (publisher, keeper, other), data = self.three()
        answer = keeper.post("linked", {"op": "link", "id": file_id(data)})
        check(answer.status == 200, "link", answer)
        self.assertGreaterEqual(self.stored(keeper, "live_bytes"), len(data))
        publisher.kill()
        os.unlink(self.dir / "big")
        check(keeper.get("/fs/linked").body == data, "it is here")
        check(other.get("/fs/linked").body == data, "and for others")

    def test_a_copy_copies_first(self):
        (publisher, keeper, _), data = self.three()
        body = json.dumps({"op": "start", "id": file_id(data), "keep": True}).encode()
        answer = keeper.request("POST", "/fetches", body=body)
        check(answer.status == 202, "keep", answer)
        wait_on([keeper], lambda: self.stored(keeper, "live_bytes") >= len(data), "a copy")
        publisher.kill()
        os.unlink(self.dir / "big")
        check(keeper.get("/fs/big").body == data, "it is kept")

    def test_a_change_elsewhere_of_what_is_followed(self):
        """A name more for it holds nothing by itself, and is served all the same."""
        (publisher, keeper, _), data = self.three()
        answer = publisher.post("big", {"op": "rename", "to": "renamed"})
        check(answer.status == 200, "rename", answer)
        wait_same(self.nodes)
        self.assertEqual(self.stored(keeper, "live_bytes"), 0)
        check(keeper.get("/fs/renamed").body == data, "under its new name")
        answer = keeper.post("renamed", {"op": "rename", "to": "again"})
        check(answer.status == 200, "rename here", answer)
        check(keeper.get("/fs/again").body == data, "under its newest name")
        check(publisher.get("/fs/again").body == data, "there, too")

    def test_refusals(self):
        node, = self.network(1)
        put(node, "a", b"a")
        (self.dir / "a").write_bytes(b"a")
        good = {"id": file_id(b"a"), "path": str(self.dir / "a")}
        body = json.dumps({"op": "adopt", "files": [good]}).encode()
        self.assertEqual(node.request("POST", "/files", body=body).error, "bad_query")
        for wrong in ({"op": "adopt"}, {"op": "adopt", "files": []}, {"op": "adopt", "files": [1]},
                      {"op": "adopt", "files": [{"id": good["id"]}]}, {"op": "x", "files": [good]},
                      {"op": "adopt", "files": [good | {"id": "1"}]},
                      {"op": "adopt", "files": [good | {"path": 1}]},
                      {"op": "release", "files": [good] * 257}, {"files": [good]}, [], 1):
            answer = node.request("POST", "/files", body=json.dumps(wrong).encode(), local=True)
            self.assertEqual((answer.status, answer.error), (400, "bad_body"), wrong)
        answer = node.request("POST", "/files", body=b"x" * 70_000, local=True)
        self.assertEqual(answer.error, "too_large")
        os.mkfifo(self.dir / "pipe")
        states = [(good | {"path": str(self.dir / "none")}, "changed"),
                  (good | {"path": str(self.dir)}, "changed"),
                  (good | {"path": str(self.dir / "pipe")}, "changed"),
                  (good | {"path": "relative"}, "failed"), (good | {"path": ""}, "failed"),
                  (good | {"path": "/" + "x" * 5000}, "failed"),
                  (good | {"id": file_id(b"unknown")}, "not_held"), (good, "held")]
        body = json.dumps({"op": "adopt", "files": [file for file, _ in states]}).encode()
        answer = node.request("POST", "/files", body=body, local=True)
        self.assertEqual([one["state"] for one in answer.json["files"]],
                         [state for _, state in states])

    def test_killed_in_between(self):
        """At any moment: what was followed is served whole, or fetched, and adopted again."""
        publisher, keeper = self.network(2)
        chance = random.Random(self.random.random())
        files = {f"f{i}": content(f"killed {i}", SIZE) for i in range(4)}
        for path, data in files.items():
            put(publisher, path, data)
        wait_same(self.nodes)
        for _ in range(4):
            for path, data in files.items():
                check(keeper.get(f"/fs/{path}").body == data, path)
                (self.dir / path).write_bytes(data)
            process = keeper.process
            kill = threading.Timer(chance.uniform(0, 0.05), process.send_signal, [signal.SIGKILL])
            kill.start()
            try:
                self.ask(keeper, "adopt", *files)
            except (OSError, harness.Failure, ValueError):
                pass  # it was killed
            except Exception as error:  # of http.client, likewise
                check("Remote" in type(error).__name__ or "Incomplete" in type(error).__name__,
                      "an answer", error)
            kill.join()
            keeper.kill()
            keeper.start()
            for path, data in files.items():
                check(keeper.get(f"/fs/{path}").body == data, "after a kill", path)
            for path, data in files.items():
                told = self.ask(keeper, "adopt", path)[0]
                check(told["state"] == "adopted", "adopted again", told)
                (self.dir / path).unlink()
                self.ask(keeper, "release", path, data=data)
        self.assertEqual(self.stored(keeper, "external_files"), 0)
        self.assertEqual(self.stored(keeper, "lost_blocks"), 0)
        self.assertTrue(keeper.scrub()["complete"])


if __name__ == "__main__":
    harness.main()
