# SPDX-License-Identifier: Apache-2.0
"""`put --copies N` answers when N nodes hold all of the content."""

import contextlib
import json
import signal
import socket
import threading
import unittest

from harness import BLOCK_BYTES, MIB, check, content
from test_members import SOON_S, Nodes
from test_where import holders, where
from trees import put_tar, wait_on, wait_same


def read_all(one):
    pieces = []
    while not pieces or pieces[-1]:
        pieces.append(one.recv(1 << 16))
    return b"".join(pieces)


def put_copies(node, path, data, count, wait_s=60):
    return node.put(path, data, f"?copies={count}&copies_wait={wait_s}")


class Copies(Nodes):
    def zoned(self, zones):
        nodes = [self.new("--zone", zones[0]).start()]
        for zone in zones[1:]:
            self.new("--zone", zone, "--join", nodes[0].at).start()
        self.wait_all_alive()
        return self.nodes

    def holding(self, node, path):
        """Names of those that have all of it, as it is known at `node`."""
        return {name for name, state in holders(where(node, path)).items() if state == "complete"}

    def test_it_answers_when_so_many_hold_it_in_different_zones(self):
        nodes = self.zoned(["a", "a", "a", "a", "b", "c"])
        data = content("copies", 5 * BLOCK_BYTES + 17)
        answer = put_copies(nodes[0], "file", data, 3)
        self.assertEqual((answer.status, answer.json["copies"]), (201, 3))
        wait_on(nodes, lambda: len(self.holding(nodes[1], "file")) == 3, "three hold it")
        self.assertEqual(self.holding(nodes[1], "file"), {nodes[0].name, nodes[4].name, nodes[5].name})
        # The publisher is lost for good; what was promised holds.
        wait_same(nodes)
        nodes[0].kill()
        answer = nodes[5].get("/fs/file")
        self.assertEqual((answer.status, answer.body), (200, data))

    def test_a_directory_is_held_whole(self):
        nodes = self.zoned(["a", "b", "c"])
        files = {f"d/{i}": content(f"copies {i}", 1000 + 777 * i) for i in range(120)}
        answer = put_tar(nodes[0], "many", files, "?atomic=1&copies=3")
        self.assertEqual(answer["copies"], 3)
        wait_same(nodes)
        nodes[0].kill()
        for node in nodes[1:]:
            for name, data in files.items():
                self.assertEqual(node.get(f"/fs/many/{name}").body, data)

    def test_too_few_are_told_and_it_goes_on(self):
        nodes = self.zoned(["a", "b", "c"])
        data = content("few", 3 * BLOCK_BYTES)
        answer = put_copies(nodes[0], "few", data, 4, 3600)
        self.assertEqual(answer.status, 202)
        self.assertEqual((answer.json["copies"], answer.json["copies_wanted"]), (3, 4))
        # One holds still: after the time is over it is told, and afterwards it has it.
        nodes[1].signal(signal.SIGSTOP)
        answer = put_copies(nodes[0], "frozen", content("frozen", 3 * BLOCK_BYTES), 3, 1)
        self.assertEqual((answer.status, answer.json["copies"]), (202, 2))
        nodes[1].signal(signal.SIGCONT)
        wait_on(nodes, lambda: len(self.holding(nodes[0], "frozen")) == 3, "it went on")
        result = self.artel("put", nodes[0], "--copies", "9", self.file("more", b"more"), "more")
        self.assertEqual(result.status, 1)
        check("3 of 9 nodes hold all of its content" in result.err, "what is said", result)

    def test_who_sends_no_more_is_not_waited_for_as_long(self):
        a = self.new("--zone", "a", "--upload-rate", "64K").start()
        b = self.new("--zone", "b", "--join", a.at).start()
        self.wait_all_alive()
        data = content("left", 16 * MIB)  # takes minutes
        with contextlib.closing(a.socket(timeout_s=4 * SOON_S)) as one:
            one.sendall(b"PUT /fs/left?copies=2&copies_wait=3600 HTTP/1.1\r\nHost: x\r\n"
                        b"Content-Length: %d\r\n\r\n" % len(data))
            one.sendall(data)
            wait_on([a, b], lambda: b.get("/fetches").json["fetches"], "it is fetched")
            one.shutdown(socket.SHUT_WR)
            answer = read_all(one)
        self.assertTrue(answer.startswith(b"HTTP/1.1 202 "), answer)
        self.assertIn(b"1 of 2 nodes hold all of its content so far, it goes on", answer)
        self.assertEqual(len(b.get("/fetches").json["fetches"]), 1)

    def test_another_is_asked_for_one_that_is_killed(self):
        nodes = self.zoned(["a", "b", "c", "d"])
        nodes[2].signal(signal.SIGSTOP)
        answers = []
        data = content("killed", 4 * BLOCK_BYTES)
        thread = threading.Thread(target=lambda: answers.append(put_copies(nodes[0], "x", data, 3)))
        thread.start()
        nodes[2].kill()
        thread.join()
        self.assertEqual((answers[0].status, answers[0].json["copies"]), (201, 3))

    def test_numbers_that_make_no_sense(self):
        node = self.zoned(["a"])[0]
        for query in ("copies=0", "copies=34", "copies=x", "copies=2&copies_wait=0",
                      "copies=2&copies_wait=86401"):  # fmt: skip
            answer = node.put("f", b"f", f"?{query}")
            self.assertEqual((answer.status, answer.error), (400, "bad_query"), query)
        self.assertEqual(node.put("alone", b"f", "?copies=1").json["copies"], 1)
        for option, number in (("--copies", "0"), ("--copies", "34"), ("--copies-wait", "0")):
            result = self.artel("put", node, option, number, self.file("g", b"g"), "g")
            self.assertEqual(result.status, 2, result)
        result = self.artel("put", node, "--json", "--copies", "1", self.file("g", b"g"), "g")
        self.assertEqual(json.loads(result.out)["copies"], 1)

    def file(self, name, data):
        path = self.root / name
        path.write_bytes(data)
        return path


if __name__ == "__main__":
    unittest.main()
