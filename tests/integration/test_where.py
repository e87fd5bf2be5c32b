# SPDX-License-Identifier: Apache-2.0
"""Real nodes tell who has what: /where, /locate, /dht, `artel where`."""

import hashlib
import json

import harness
from harness import BLOCK_BYTES, check, content, file_id
from test_members import Nodes
from trees import put, wait_on, wait_same

UNKNOWN = "ab" * 32


def where(node, path, query=""):
    answer = node.get(f"/where/{path}{query}")
    check(answer.status == 200, "where", answer)
    return answer.json


def locate(node, each, query=""):
    answer = node.get(f"/locate/{each}{query}")
    check(answer.status == 200, "locate", answer)
    return answer.json


def holders(found):
    return {holder["name"]: holder["state"] for holder in found["holders"]}


def not_asked(found):
    return {each["name"]: each["why"] for each in found["not_asked"]}


class Where(Nodes):
    def test_every_node_knows_who_has_it(self):
        nodes = self.network(4)
        data = content("where", 3 * BLOCK_BYTES)
        put(nodes[0], "dir/file", data)
        put(nodes[2], "copy", data)
        wait_same(nodes)
        block = hashlib.sha256(data[:BLOCK_BYTES]).hexdigest()
        expected = {"n0": "complete", "n2": "complete"}
        for node in nodes:
            wait_on(nodes, lambda: holders(where(node, "dir/file")) == expected, "both are told")
            found = where(node, "dir/file")
            self.assertEqual(found["id"], file_id(data))
            self.assertEqual(found["length"], len(data))
            self.assertTrue(found["final"])
            self.assertEqual(found["not_asked"], [])
            self.assertEqual(holders(locate(node, file_id(data))), expected)
            wait_on(nodes, lambda: holders(locate(node, block)) == expected, "of a block, too")
            self.assertEqual(holders(where(node, "copy", "?all=1")), expected)
            for holder in found["holders"]:
                other = next(other for other in nodes if other.name == holder["name"])
                self.assertEqual(holder["node"], other.status()["node"])
                self.assertEqual(holder["address"], other.at)
                self.assertEqual(holder["zone"], "z")
                self.assertEqual(holder.get("self", False), other is node)

    def test_nobody_has_it(self):
        nodes = self.network(3)
        found = locate(nodes[1], UNKNOWN)
        self.assertEqual((found["holders"], found["not_asked"]), ([], []))
        self.assertTrue(found["asked_everyone"] and found["final"])

    def test_who_can_not_be_asked_is_told(self):
        nodes = self.network(3)
        put(nodes[0], "file", b"content")
        wait_same(nodes)
        nodes[0].kill()
        self.wait_states(self.states(n0="unreachable"), nodes[1:], "n0 is missed")
        for node in nodes[1:]:
            found = where(node, "file")
            self.assertEqual(holders(found), {})
            self.assertEqual(not_asked(found), {"n0": "unreachable"})
            self.assertTrue(found["asked_everyone"])
        result = self.artel("where", nodes[1], "file")
        self.assertEqual(result.status, 1, result)
        self.assertRegex(result.out.decode(), r"(?m)^  unreachable  n0  z  127\.0\.0\.10:\d+  ")
        self.assertIn("nobody that could be asked has it", result.out.decode())

    def test_owners_keep_it_and_hints_are_local(self):
        nodes = self.network(3)
        put(nodes[0], "file", b"content")
        each = file_id(b"content")

        def stored(node, key):
            answer = node.get(f"/dht/{key}")
            check(answer.status == 200, "dht", answer)
            return {(holder["name"], holder["state"]) for holder in answer.json["holders"]}

        for node in nodes[1:]:  # each of three is an owner of every key
            wait_on(nodes, lambda: stored(node, each[:40]) == {("n0", "complete")}, "it is kept")
            self.assertEqual(node.get(f"/dht/{each}").json["values"], [nodes[0].at])
        self.assertEqual(stored(nodes[0], each), set())  # nobody told it but itself

        answer = nodes[1].request("PUT", f"/dht/{UNKNOWN}",
                                  body=json.dumps({"value": nodes[2].at}).encode())
        self.assertEqual((answer.status, answer.json["name"]), (200, "n2"))
        self.assertEqual(stored(nodes[1], UNKNOWN), {("n2", "hint")})
        self.assertEqual(nodes[1].get(f"/dht/{UNKNOWN}").json["values"], [nodes[2].at])
        self.assertEqual(stored(nodes[0], UNKNOWN), set())
        # A hint is no holder: n2 is asked, and has not.
        self.assertEqual(holders(locate(nodes[1], UNKNOWN)), {})

    def test_the_command_line_tells_it(self):
        nodes = self.network(2)
        put(nodes[0], "file", b"content")
        wait_same(nodes)
        each = file_id(b"content")
        for argument in ("file", "/file/", each):
            result = self.artel("where", nodes[1], argument)
            self.assertEqual(result.status, 0, result)
            lines = result.out.decode().splitlines()
            self.assertTrue(lines[0].startswith(argument), result)
            node = nodes[0].status()["node"]
            self.assertEqual(lines[1:], [f"  complete  n0  z  {nodes[0].at}  {node}"])
        own = self.artel("where", nodes[0], "file").out.decode().splitlines()
        self.assertTrue(own[0].endswith(f"  {each}  7 B"), own)
        self.assertTrue(own[1].endswith("  (this node)"), own)
        told = json.loads(self.artel("where", nodes[1], "--json", "--all", "file").out)
        self.assertEqual(holders(told), {"n0": "complete"})
        self.assertTrue(told["asked_everyone"])
        for arguments, status in ((("none",), 1), ((UNKNOWN,), 1), (("file", "none"), 1), ((), 2)):
            result = self.artel("where", nodes[1], *arguments)
            self.assertEqual(result.status, status, result)


if __name__ == "__main__":
    harness.main()
