# SPDX-License-Identifier: Apache-2.0
"""Real nodes wait until others have it: /wait, `artel wait`."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import threading

import harness
from harness import BLOCK_BYTES, MIB, check, content, file_id
from test_members import Nodes
from trees import SOON_S, put, put_tar, wait_on, wait_same

SURVEYS_MAX = 64


def wait(node, path, query=""):
    answer = node.get(f"/wait/{path}{query}")
    check(answer.status == 200, "wait", answer)
    return answer.json


def lacking(found):
    return {each["name"]: each["why"] for each in found["lacking"]}


class Wait(Nodes):
    def zoned(self, *zones):
        for zone in zones:
            options = ["--zone", zone] + (["--join", self.nodes[0].at] if self.nodes else [])
            self.new(*options).start()
        self.wait_all_alive()
        return self.nodes

    def later(self, function):
        """Runs it beside; gives what takes its result."""
        results = []
        thread = threading.Thread(target=lambda: results.append(function()))
        thread.start()
        self.addCleanup(thread.join)

        def result():
            thread.join(SOON_S)
            check(results, "it has not returned")
            return results[0]

        return result

    def test_who_has_it_and_who_lacks_it(self):
        nodes = self.zoned("a", "a", "b", "b")
        data = content("wait", 3 * BLOCK_BYTES)
        put(nodes[0], "dir/file", data)
        wait_same(nodes)
        found = wait(nodes[1], "dir/file")
        self.assertEqual((found["path"], found["type"], found["files"]), ("dir/file", "file", 1))
        self.assertEqual(found["length"], len(data))
        self.assertEqual((found["members"], found["wanted"], found["have"]), (4, 4, 1))
        self.assertFalse(found["reached"] or found["replaced"])
        self.assertEqual(lacking(found), {"n1": "part", "n2": "part", "n3": "part"})
        for each in found["lacking"]:
            self.assertEqual((each["state"], each["files"], each["here"]), ("idle", 0, 0))
        # Zones, numbers and parts: each decides for itself.
        nodes[2].get("/fs/dir/file")
        for query, reached, members, wanted in (
            ("", False, 4, 4), ("?nodes=2", True, 4, 2), ("?nodes=3", False, 4, 3),
            ("?quorum=50%25", True, 4, 2), ("?quorum=50.1", False, 4, 3),
            ("?nodes=1&quorum=75", False, 4, 3), ("?zone=a", False, 2, 2),
            ("?zone=a&nodes=1", True, 2, 1), ("?zone=b&quorum=50", True, 2, 1),
            ("?zone=none", False, 0, 1),
        ):  # fmt: skip
            found = wait(nodes[3], "dir/file", query)
            self.assertEqual((found["reached"], found["members"], found["wanted"]),
                             (reached, members, wanted), query)
        for query in ("nodes=0", "nodes=x", "quorum=0", "quorum=100.1", "quorum=%25", "quorum=1.00001",
                      "quorum=-1", "wait=61", "other=1"):  # fmt: skip
            answer = nodes[0].get(f"/wait/dir/file?{query}")
            self.assertEqual((answer.status, answer.error), (400, "bad_query"), query)
        self.assertEqual(nodes[0].get("/wait/none").error, "not_found")
        self.assertEqual(nodes[0].get("/wait/dir/file/below").error, "not_found")

    def test_it_returns_when_the_last_one_has_it(self):
        nodes = self.zoned("a", "a", "b")
        put(nodes[0], "file", content("last", 2 * BLOCK_BYTES))
        wait_same(nodes)
        result = self.later(lambda: self.artel("wait", nodes[1], "file"))
        nodes[1].get("/fs/file")
        nodes[2].get("/fs/file")
        self.assertEqual((result().status, result().out, result().err), (0, b"", ""))

    def test_a_directory_is_had_with_all_its_files(self):
        nodes = self.zoned("a", "a")
        files = {f"d/{i}": content(f"wait {i}", 500 + i) for i in range(1200)}
        put_tar(nodes[0], "many", files)
        wait_same(nodes)
        found = wait(nodes[1], "many")
        self.assertEqual((found["type"], found["files"], found["have"]), ("directory", 1200, 1))
        self.assertEqual(found["length"], sum(len(data) for data in files.values()))
        first = wait(nodes[0], "many")
        self.assertEqual(first["digest"], found["digest"])
        names = sorted(files)
        for name in names[:-1]:
            nodes[1].get(f"/fs/many/{name}")
        wait_on(nodes, lambda: wait(nodes[0], "many")["lacking"][0]["files"] == 1199, "all but one")
        self.assertFalse(wait(nodes[0], "many")["reached"])
        result = self.later(lambda: wait(nodes[0], "many", "?wait=60"))
        nodes[1].get(f"/fs/many/{names[-1]}")
        self.assertTrue(result()["reached"])
        # The same files elsewhere are the same digest; the root is a directory, too.
        self.assertEqual(wait(nodes[1], "")["files"], 1200)
        self.assertEqual(wait(nodes[1], "many/d", "?nodes=2")["reached"], True)

    def test_those_that_do_not_answer(self):
        nodes = self.zoned("a", "a", "b", "b")
        data = content("gone", BLOCK_BYTES)
        put(nodes[0], "file", data)
        wait_same(nodes)
        nodes[1].get("/fs/file")
        # Stopped, it is silent until the others agree that it is unreachable.
        nodes[2].signal(signal.SIGSTOP)
        self.addCleanup(lambda: nodes[2].process and nodes[2].signal(signal.SIGCONT))
        self.assertIn(lacking(wait(nodes[0], "file"))["n2"], ("silent", "unreachable"))
        nodes[3].kill()
        self.wait_states(self.states(n2="unreachable", n3="unreachable"), nodes[:2], "both missed")
        found = wait(nodes[0], "file")
        self.assertEqual(lacking(found), {"n2": "unreachable", "n3": "unreachable"})
        self.assertEqual((found["members"], found["have"]), (4, 2))
        self.assertTrue(all(re.fullmatch(r"\d{4}-.*Z", each["since"]) for each in found["lacking"]))
        self.assertTrue(wait(nodes[0], "file", "?quorum=50")["reached"])
        # Both come back, and get it.
        result = self.later(lambda: self.artel("wait", nodes[0], "file"))
        nodes[2].signal(signal.SIGCONT)
        nodes[3].start()
        wait_same(nodes)
        nodes[2].get("/fs/file")
        nodes[3].get("/fs/file")
        self.assertEqual(result().status, 0, result())

    def test_one_that_left_is_not_counted(self):
        nodes = self.zoned("a", "a", "b")
        put(nodes[0], "file", b"content")
        wait_same(nodes)
        nodes[1].get("/fs/file")
        self.assertEqual(self.artel("leave", nodes[2]).status, 0)
        nodes[2].wait_ended()
        wait_on(nodes[:2], lambda: wait(nodes[0], "file")["reached"], "two are all")
        self.assertEqual(wait(nodes[0], "file")["members"], 2)

    def test_what_is_replaced_is_waited_for_as_it_is_now(self):
        nodes = self.zoned("a", "a")
        put(nodes[0], "file", b"old")
        wait_same(nodes)
        held = self.later(lambda: wait(nodes[0], "file", "?wait=60"))
        result = self.later(lambda: self.artel("wait", nodes[0], "file"))
        wait_on(nodes, lambda: nodes[0].metric("fetch_surveys") == 2, "both wait")
        old = wait(nodes[0], "file")["id"]
        put(nodes[0], "file", b"new and other")
        wait_same(nodes)
        nodes[1].get("/fs/file")
        self.assertTrue(held()["reached"] and held()["replaced"])
        self.assertNotEqual(held()["id"], old)
        self.assertEqual(result().status, 0)
        self.assertIn("file: replaced meanwhile; waits for what is there now", result().err)
        # What is deleted can't be waited for.
        put(nodes[0], "going", b"x")
        result = self.later(lambda: self.artel("wait", nodes[0], "going"))
        wait_on(nodes, lambda: nodes[0].metric("fetch_surveys") == 1, "it waits")
        nodes[0].delete("going")
        self.assertEqual(result().status, 1)

    def test_a_fetch_that_goes_on_is_told(self):
        first = self.new("--upload-rate", "512K").start()
        nodes = [first, self.new("--join", first.at).start()]
        self.wait_all_alive()
        put(nodes[0], "slow", content("slow", 48 * MIB))  # takes minutes
        wait_same(nodes)
        each = wait(nodes[0], "slow")["id"]
        nodes[1].request("POST", "/fetches", body=json.dumps({"op": "start", "id": each}).encode())

        def is_told():
            one = wait(nodes[0], "slow")["lacking"][0]
            return one["state"] == "running" and 0 < one["here"] < 48 * MIB and one["rate"] > 0
        wait_on(nodes, is_told, "how far it is")
        result = self.artel("wait", nodes[0], "--timeout", "0", "slow")
        self.assertEqual(result.status, 1)
        self.assertRegex(result.out.decode(), r"^  n1  z  127\.0\.0\.11:\d+  \d+%, .*/s, .* left\n$")
        self.assertIn("slow: 1 of 2 nodes have it, 2 are wanted", result.err)

    def test_the_command_line(self):
        nodes = self.zoned("a", "b")
        put(nodes[0], "file", b"content")
        wait_same(nodes)
        result = self.artel("wait", nodes[0], "--timeout", "1", "file")
        self.assertEqual(result.status, 1, result)
        self.assertEqual(result.out.decode(), f"  n1  b  {nodes[1].at}  0%, not being fetched\n")
        result = self.artel("wait", nodes[0], "--zone", "a", "file", "file")
        self.assertEqual((result.status, result.out), (0, b""), result)
        result = self.artel("wait", nodes[0], "--json", "--nodes", "1", "file")
        self.assertTrue(json.loads(result.out)["reached"])
        for arguments, status in ((("none",), 1), ((), 2), (("--nodes", "0", "file"), 2),
                                  (("--quorum", "101%", "file"), 2), (("--timeout", "x", "file"), 2),
                                  (("--quorum", "50%", "file"), 0)):  # fmt: skip
            result = self.artel("wait", nodes[0], *arguments)
            self.assertEqual(result.status, status, result)

    # ---- followers --------------------------------------------------------------------------

    def land(self, node, name, data):
        """As a follower of the node's machine that has got a file of the directory `d`."""
        place = self.root / f"{node.name}-{name}"
        place.write_bytes(data)
        body = {"op": "adopt", "files": [{"id": file_id(data), "path": str(place)}]}
        answer = node.request("POST", "/files", body=json.dumps(body).encode(), local=True)
        check(answer.status == 200 and answer.json["files"][0]["state"] in ("adopted", "held"),
              "landed", answer)

    def test_followers_have_it_in_their_directories(self):
        # A follower whose directory can't be made: it is known, and nothing lands.
        blocked = self.root / "file"
        blocked.write_bytes(b"")
        first = self.new("--zone", "a").start()
        self.new("--zone", "a", "--join", first.at).start()
        self.new("--zone", "b", "--join", first.at, "--follow", f"d/** -> {blocked}/d").start()
        self.new("--zone", "b", "--join", first.at).start()
        self.wait_all_alive()
        nodes = self.nodes
        files = {"large": content("followed", BLOCK_BYTES + 5), "small": b"a few bytes"}
        put_tar(nodes[0], "d", files)
        wait_same(nodes)
        for name, data in files.items():
            for node in nodes[1:3]:
                check(node.get(f"/fs/d/{name}").body == data, "get", node.name)
            self.land(nodes[1], name, data)
        # It was given before it was committed.
        wait_on(nodes, lambda: lacking(wait(nodes[3], "d")) == {"n3": "part"}, "they have it whole")
        found = wait(nodes[3], "d", "?followers=1")
        self.assertEqual((found["members"], found["wanted"], found["have"]), (4, 4, 1))
        self.assertTrue(found["followers"])
        self.assertEqual(lacking(found),
                         {"n0": "no_follower", "n2": "not_landed", "n3": "no_follower"})
        self.assertEqual({each["name"]: each["followed"] for each in found["lacking"]},
                         {"n0": 0, "n2": 0, "n3": 0})
        # Without followers it is what stores have.
        self.assertEqual(lacking(wait(nodes[3], "d")), {"n3": "part"})
        for query, reached, members, wanted in (
            ("zone=a", False, 2, 2), ("zone=a&nodes=1", True, 2, 1), ("quorum=25", True, 4, 1),
            ("quorum=26", False, 4, 2), ("zone=b&nodes=1", False, 2, 1),
        ):  # fmt: skip
            found = wait(nodes[0], "d", f"?followers=1&{query}")
            self.assertEqual((found["reached"], found["members"], found["wanted"]),
                             (reached, members, wanted), query)
        result = self.later(lambda: self.artel("wait", nodes[0], "--followers", "--nodes", "2", "d"))
        wait_on(nodes, lambda: nodes[0].metric("fetch_surveys") == 1, "it waits")
        self.land(nodes[2], "large", files["large"])
        one = {each["name"]: each for each in wait(nodes[0], "d", "?followers=1")["lacking"]}["n2"]
        self.assertEqual((one["why"], one["followed"]), ("not_landed", 1))
        told = self.artel("wait", nodes[0], "--followers", "--timeout", "0", "d")
        self.assertEqual(told.status, 1, told)
        self.assertIn("d: 1 of 4 nodes have it where it is followed, 4 are wanted", told.err)
        self.assertRegex(told.out.decode(), r"n2 .*  whole, but 1 of 2 in a follower's directory\n")
        self.assertRegex(told.out.decode(), r"n3 .*  nobody is known to follow it there\n")
        self.assertEqual(nodes[0].metric("fetch_surveys"), 1)
        self.land(nodes[2], "small", files["small"])
        self.assertEqual((result().status, result().err), (0, ""))

    def test_real_followers_are_waited_for(self):
        """One of a node's settings, one that somebody started; the publisher has none."""
        first = self.new("--zone", "a").start()
        self.new("--zone", "b", "--join", first.at, "--follow", f"d/** -> {self.root}/set").start()
        self.new("--zone", "b", "--join", first.at).start()
        self.wait_all_alive()
        nodes = self.nodes
        put(nodes[0], "d/before", b"what was there before")
        wait_same(nodes)
        follower = harness.start("follow", "d/**", "--to", self.root / "started",
                                 "--node", f"unix:{nodes[2].data}/socket")
        self.addCleanup(lambda: follower.poll() is None and harness.stop(follower))
        soon = ("--timeout", SOON_S // 2)
        result = self.artel("wait", nodes[0], *soon, "--followers", "--zone", "b", "d")
        self.assertEqual((result.status, result.err), (0, ""), result)
        files = {"large": content("really followed", 3 * BLOCK_BYTES + 5), "small": b"few bytes"}
        put_tar(nodes[0], "d/more", files)
        result = self.artel("wait", nodes[0], *soon, "--followers", "--nodes", "2", "d")
        self.assertEqual((result.status, result.err), (0, ""), result)
        for name in ("set", "started"):
            for path, data in files.items():
                self.assertEqual((self.root / name / "d/more" / path).read_bytes() == data, True)
        found = wait(nodes[0], "d", "?followers=1")
        self.assertEqual(lacking(found), {"n0": "no_follower"})
        # Nobody follows that.
        put(nodes[0], "e", b"not followed")
        wait_same(nodes)
        found = wait(nodes[0], "e", "?followers=1")
        self.assertEqual(set(lacking(found).values()), {"no_follower"})
        # What is deleted is had by nobody any more, and comes again.
        nodes[0].delete("d/more/large")
        put(nodes[0], "d/more/large", b"another one")
        result = self.artel("wait", nodes[0], *soon, "--followers", "--zone", "b", "d/more/large")
        self.assertEqual((result.status, result.err), (0, ""), result)

    # ---- trouble ----------------------------------------------------------------------------

    def waiting(self, node, *arguments):
        """`artel wait` that goes on meanwhile."""
        process = harness.start("wait", "--node", node.url, *arguments)
        self.addCleanup(lambda: process.poll() is None and harness.stop(process))
        return process

    def read_error(self, process, text):
        """Until it has told that; gives all that it told."""
        told = b""
        while text not in told:
            check(select.select([process.stderr], [], [], SOON_S)[0], "it tells nothing", told)
            piece = os.read(process.stderr.fileno(), 65536)
            check(piece, "it has ended", told)
            told += piece
        return told.decode()

    def test_a_node_that_restarts_is_asked_again(self):
        nodes = self.zoned("a", "a")
        put(nodes[0], "file", b"content")
        put(nodes[0], "other", b"more")
        wait_same(nodes)
        process = self.waiting(nodes[0], "file", "other")
        wait_on(nodes, lambda: nodes[0].metric("fetch_surveys") == 1, "it waits")
        nodes[0].kill()
        told = self.read_error(process, b"trying again")
        self.assertRegex(told, r"^artel wait: file: .*; trying again\n$")
        nodes[0].start()
        self.wait_all_alive()
        wait_on(nodes, lambda: nodes[0].metric("fetch_surveys") == 1, "it waits again")
        # Again, before it has answered: that is known.
        nodes[0].stop()
        nodes[0].start()
        self.wait_all_alive()
        for name in ("file", "other"):
            nodes[1].get(f"/fs/{name}")
        result = harness.finish(process, SOON_S)
        self.assertEqual((result.status, result.err), (0, ""), result)

    def test_a_node_that_stays_away_is_waited_for_as_long_as_was_said(self):
        nodes = self.zoned("a", "a")
        put(nodes[0], "file", b"content")
        wait_same(nodes)
        process = self.waiting(nodes[0], "--timeout", "5", "file")
        wait_on(nodes, lambda: nodes[0].metric("fetch_surveys") == 1, "it waits")
        nodes[0].kill()
        result = harness.finish(process, SOON_S)
        self.assertEqual(result.status, 1, result)
        self.assertEqual(result.err.count("; trying again\n"), 1, result)
        self.assertRegex(result.err, r"\nartel wait: no node answers at .*\n$")
        # Who begins without a node is told at once.
        result = self.artel("wait", nodes[0], "file")
        self.assertEqual((result.status, result.err.count("\n")), (1, 1), result)

    def test_a_busy_node_is_asked_again(self):
        nodes = self.zoned("a", "a")
        put(nodes[0], "file", b"content")
        wait_same(nodes)
        others = [nodes[0].socket() for _ in range(SURVEYS_MAX)]
        for other in others:
            self.addCleanup(other.close)
            other.sendall(b"GET /wait/file?wait=60 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_on(nodes, lambda: nodes[0].metric("fetch_surveys") == SURVEYS_MAX, "all wait")
        self.assertEqual(nodes[0].get("/wait/file").error, "busy")
        process = self.waiting(nodes[0], "file")
        self.read_error(process, b"trying again")
        nodes[1].get("/fs/file")
        result = harness.finish(process, SOON_S)
        self.assertEqual((result.status, result.err), (0, ""), result)

    def test_a_terminal_shows_who_lacks_it(self):
        nodes = self.zoned("a", "b")
        put(nodes[0], "file", b"content")
        wait_same(nodes)
        main, side = pty.openpty()
        with subprocess.Popen([harness.ARTEL, "wait", "--node", nodes[0].url, "file"],
                              stderr=side, stdin=subprocess.DEVNULL) as process:
            os.close(side)
            shown = b""
            while b"1 of 2; lacking: n1 (zone b): 0%, not being fetched" not in shown:
                check(select.select([main], [], [], SOON_S)[0], "nothing is shown", shown)
                shown += os.read(main, 65536)
            nodes[1].get("/fs/file")
            self.assertEqual(process.wait(SOON_S), 0)
        os.close(main)


if __name__ == "__main__":
    harness.main()
