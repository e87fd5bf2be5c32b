# SPDX-License-Identifier: Apache-2.0
"""The HTTP interface as docs/API.md tells it: every request, every error code, bad input of every
kind, and what an end or a restart of the node leaves."""

import concurrent.futures
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import signal
import socket
import threading
import time
import unittest

import harness
from harness import KIB, MIB, check, content, file_id, metadata_text, temp_dir
from node import Node, Watch, read_until_quiet

ZERO_ID = "0" * 64


class ApiCase(unittest.TestCase):
    """A node for all tests of a class; each test works below a directory of its own name."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        cls.root = cls.stack.enter_context(temp_dir())
        cls.node = cls.stack.enter_context(Node(cls.root / "data"))

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    def setUp(self):
        self.top = self.id().rsplit(".", 1)[1]

    def path(self, name):
        return f"{self.top}/{name}"

    def url(self, name):
        return f"/fs/{self.top}/{name}"

    def fails(self, answer, status, code):
        self.assertEqual((answer.status, answer.error), (status, code), str(answer))
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        self.assertTrue(answer.json["message"])

    def put(self, name, data, query="", **headers):
        answer = self.node.put(self.path(name), data, query, **headers)
        self.assertIn(answer.status, (200, 201), str(answer))
        return answer


class Files(ApiCase):
    def test_put_and_get(self):
        for size in (0, 1, 4 * KIB, 256 * KIB, 256 * KIB + 1, 3 * MIB):
            with self.subTest(size=size):
                data = content(size, size)
                answer = self.put(f"f{size}", data, "?mode=0751&mtime=1700000000.123456789")
                self.assertEqual(answer.status, 201)
                self.assertEqual(answer.json["path"], self.path(f"f{size}"))
                self.assertEqual(answer.json["id"], file_id(data))
                self.assertEqual(answer.json["length"], size)
                self.assertRegex(answer.json["version"], "^[0-9a-f]{32}:[0-9]+$")
                got = self.node.get(self.url(f"f{size}"))
                self.assertEqual((got.status, got.body == data), (200, True))
                self.assertEqual(got.headers["ETag"], f'"{file_id(data)}"')
                self.assertEqual(got.headers["X-Artel-Id"], file_id(data))
                self.assertEqual(got.headers["X-Artel-Mode"], "0751")
                self.assertEqual(got.headers["Last-Modified"], "Tue, 14 Nov 2023 22:13:20 GMT")
                self.assertEqual(got.headers["X-Artel-Mtime"], "2023-11-14T22:13:20.123456789Z")
                self.assertEqual(got.headers["Content-Length"], str(size))
                head = self.node.request("HEAD", self.url(f"f{size}"))
                self.assertEqual((head.status, head.body), (200, b""))
                same = {k: v for k, v in got.headers.items() if k != "Date"}
                self.assertEqual({k: v for k, v in head.headers.items() if k != "Date"}, same)
        self.assertEqual(self.put("f1", b"other").status, 200)
        self.assertEqual(self.node.get(self.url("f1")).body, b"other")
        before = time.time()
        self.put("now", b"")
        entry = self.node.get(f"/fs/{self.top}?match={self.top}/now").json["entries"][0]
        self.assertEqual(entry["mode"], "0644")
        self.assertTrue(entry["mtime"].startswith(time.strftime("%Y-", time.gmtime(before))))

    def test_chunked(self):
        pieces = [content(i, 100 * i) for i in range(1, 40)]
        answer = self.node.request("PUT", self.url("c"), body=iter(pieces))
        self.assertEqual((answer.status, answer.json["id"]), (201, file_id(b"".join(pieces))))

    def test_times(self):
        for given, told in (
            ("0", "1970-01-01T00:00:00.000000000Z"),
            ("-1.5", "1969-12-31T23:59:58.500000000Z"),
            ("1.000000001", "1970-01-01T00:00:01.000000001Z"),
        ):
            self.put("t", b"", f"?mtime={given}")
            self.assertEqual(self.node.get(self.url("t")).headers["X-Artel-Mtime"], told)

    def test_conditions(self):
        old, new = content("old", 10), content("new", 20)
        tag = f'"{file_id(old)}"'
        self.put("a", old)
        for headers, status in (
            ({"If_None_Match": tag}, 304),
            ({"If_None_Match": f'W/{tag}'}, 304),
            ({"If_None_Match": f'"x", {tag}'}, 304),
            ({"If_None_Match": "*"}, 304),
            ({"If_None_Match": f'"{ZERO_ID}"'}, 200),
            ({"If_None_Match": ""}, 200),
            ({"If_None_Match": ',,"'}, 200),
            ({"If_Match": tag}, 200),
            ({"If_Match": "*"}, 200),
            ({"If_Match": f'"{ZERO_ID}"'}, 412),
        ):
            answer = self.node.get(self.url("a"), **headers)
            self.assertEqual(answer.status, status, headers)
            if status == 304:
                self.assertEqual((answer.body, answer.headers["ETag"]), (b"", tag))
            if status == 412:
                self.fails(answer, 412, "condition_failed")
        self.fails(self.node.put(self.path("a"), new, If_None_Match="*"), 412, "condition_failed")
        wrong = f'"{ZERO_ID}"'
        self.fails(self.node.put(self.path("a"), new, If_Match=wrong), 412, "condition_failed")
        self.fails(self.node.put(self.path("x"), new, If_Match=tag), 412, "condition_failed")
        for bad in ("x", '"x"', f'{tag}, {tag}', f'"{file_id(old)}x', "*"):
            self.fails(self.node.put(self.path("a"), new, If_Match=bad), 400, "bad_query")
        self.fails(self.node.put(self.path("a"), new, If_None_Match=tag), 400, "bad_query")
        self.assertEqual(self.node.get(self.url("a")).body, old)
        self.assertEqual(self.node.put(self.path("a"), new, If_Match=tag).status, 200)
        self.assertEqual(self.node.put(self.path("b"), old, If_None_Match="*").status, 201)
        gone = self.node.request("DELETE", self.url("b"), headers={"If-Match": wrong})
        self.fails(gone, 412, "condition_failed")
        bad = self.node.request("DELETE", self.url("b"), headers={"If-Match": "x"})
        self.fails(bad, 400, "bad_query")
        gone = self.node.request("DELETE", self.url("b"), headers={"If-Match": tag})
        self.assertEqual(gone.status, 200)

    def test_ranges(self):
        # Sizes that leave in one copy, from mapped blocks, and in pieces.
        for size in (1000, 700 * KIB, 3 * MIB + 11):
            data = content("range", size)
            self.put("r", data)
            last = size - 1
            for text, begin, end in (
                ("bytes=0-0", 0, 1),
                ("bytes=0-", 0, size),
                ("bytes=10-19", 10, 20),
                (f"bytes={last}-{last}", last, size),
                (f"bytes={last}-999999999999999999999999", last, size),
                ("bytes=-1", last, size),
                (f"bytes=-{size + 5}", 0, size),
                ("bytes=5-99999999", 5, size),
                (f"bytes={size // 3}-{size // 2}", size // 3, size // 2 + 1),
            ):
                answer = self.node.get(self.url("r"), Range=text)
                self.assertEqual((answer.status, text), (206, text))
                self.assertTrue(answer.body == data[begin:end], text)
                told = f"bytes {begin}-{end - 1}/{size}"
                self.assertEqual(answer.headers["Content-Range"], told)
                head = self.node.request("HEAD", self.url("r"), headers={"Range": text})
                self.assertEqual(head.headers["Content-Length"], str(end - begin))
            for text in (
                f"bytes={size}-",
                "bytes=99999999999999999999999999-",
                "bytes=5-4",
                "bytes=-0",
                "bytes=-",
                "bytes=",
                "bytes=a-b",
                "bytes=1-2x",
                "bytes=--1",
                "bytes=1 - 2",
            ):
                answer = self.node.get(self.url("r"), Range=text)
                self.fails(answer, 416, "bad_range")
                self.assertEqual(answer.headers["Content-Range"], f"bytes */{size}")
            for text in ("bytes=0-1,3-4", "lines=1-2", "", "0-5"):
                answer = self.node.get(self.url("r"), Range=text)
                self.assertEqual((answer.status, len(answer.body)), (200, size), text)
            tag = f'"{file_id(data)}"'
            answer = self.node.get(self.url("r"), Range="bytes=0-4", If_Range=tag)
            self.assertEqual(answer.status, 206)
            answer = self.node.get(self.url("r"), Range="bytes=0-4", If_Range=f'"{ZERO_ID}"')
            self.assertEqual((answer.status, len(answer.body)), (200, size))
        self.put("empty", b"")
        self.fails(self.node.get(self.url("empty"), Range="bytes=0-"), 416, "bad_range")
        self.fails(self.node.get(self.url("empty"), Range="bytes=-1"), 416, "bad_range")

    def test_ranges_around_edges(self):
        """Begin and end at, before and behind the edges of spans and blocks, and with the lengths
        at which another way to send begins."""
        size = 3 * MIB + 11
        data = content("edges", size)
        self.put("e", data)
        edges = (0, 64 * KIB, 256 * KIB, MIB, MIB + 256 * KIB, 3 * MIB)
        lengths = (1, 64 * KIB, 256 * KIB, MIB - 256 * KIB, MIB, 2 * MIB)
        with contextlib.closing(self.node.connect()) as connection:
            for edge, length in itertools.product(edges, lengths):
                for begin, more in itertools.product((edge - 1, edge, edge + 1), (-1, 0, 1)):
                    end = min(begin + length + more, size)
                    if begin < 0 or end <= begin or begin >= size:
                        continue
                    answer = self.node.request(
                        "GET",
                        self.url("e"),
                        headers={"Range": f"bytes={begin}-{end - 1}"},
                        connection=connection,
                    )
                    self.assertEqual(answer.status, 206)
                    self.assertTrue(answer.body == data[begin:end], (begin, end))

    def test_symlink(self):
        answer = self.node.request("PUT", self.url("l?symlink=%2Fa%20b%2F%C3%A4"))
        self.assertEqual((answer.status, "id" in answer.json), (201, False))
        got = self.node.get(self.url("l"))
        self.assertEqual((got.headers["X-Artel-Type"], got.body), ("symlink", "/a b/ä".encode()))
        self.assertEqual(got.headers["X-Artel-Mode"], "0644")
        self.assertRegex(got.headers["X-Artel-Mtime"], r"^\d{4}-\d\d-\d\dT[\d:]{8}\.\d{9}Z$")
        entry = self.node.get(f"/fs/{self.top}").json["entries"][0]
        self.assertEqual((entry["type"], entry["target"]), ("symlink", "/a b/ä"))
        for query in ("symlink=", "symlink=%00", "symlink=%FF", "symlink=a&in_place=/x"):
            bad = self.node.request("PUT", self.url(f"l?{query}"))
            self.fails(bad, 400, "bad_query")
        bad = self.node.request("PUT", self.url("l?symlink=x"), body=b"body")
        self.fails(bad, 400, "bad_body")

    def test_in_place(self):
        data = content("in place", 600 * KIB)
        file = self.root / "in place"
        file.write_bytes(data)
        url = self.url(f"p?in_place={file}".replace(" ", "%20"))
        self.fails(self.node.request("PUT", url), 400, "bad_query")
        answer = self.node.request("PUT", url, local=True)
        self.assertEqual((answer.status, answer.json["new"]), (201, 0), str(answer))
        self.assertEqual(answer.json["id"], file_id(data))
        self.assertTrue(self.node.get(self.url("p")).body == data)
        self.fails(self.node.request("PUT", url, body=b"x", local=True), 400, "bad_body")
        for bad in ("/no/such", "relative", str(self.root), "/dev/null", "", "%00", "%FF"):
            answer = self.node.request("PUT", self.url(f"q?in_place={bad}"), local=True)
            self.fails(answer, 400, "bad_query")
        self.fails(self.node.get(self.url("q")), 404, "not_found")
        answer = self.node.request("GET", self.url("p"), local=True)
        self.assertTrue(answer.body == data)

    def test_from_a_file(self):
        data = content("from", 1500 * KIB)
        file = self.root / "from"
        file.write_bytes(data)
        stat = file.stat()
        inode = f"{stat.st_dev}:{stat.st_ino}"
        url = self.url(f"p?from={file}&inode={inode}&mode=0640")
        self.fails(self.node.request("PUT", url), 400, "bad_query")
        answer = self.node.request("PUT", url, local=True)
        self.assertEqual((answer.status, answer.json["new"]), (201, len(data)), str(answer))
        self.assertEqual((answer.json["id"], answer.json["length"]), (file_id(data), len(data)))
        file.write_bytes(b"it was copied")
        got = self.node.get(self.url("p"))
        self.assertEqual((got.body, got.headers["X-Artel-Mode"]), (data, "0640"))
        fd = os.open(file, os.O_RDONLY)
        by_fd = self.url(f"p?from=/proc/{os.getpid()}/fd/{fd}&inode={inode}")
        self.assertEqual(self.node.request("PUT", by_fd, local=True).status, 200)
        self.assertEqual(self.node.get(self.url("p")).body, b"it was copied")
        os.close(fd)
        self.fails(self.node.request("PUT", url, body=b"x", local=True), 400, "bad_body")
        for bad in (f"from={file}&inode={stat.st_dev}:{stat.st_ino + 1}", f"from={file}&inode=x",
                    f"inode={inode}", f"from={file}&in_place={file}", f"from={file}&symlink=x",
                    "from=/no/such", "from=relative", f"from={self.root}", "from=/dev/null", "from=",
                    f"from={file}%00"):  # fmt: skip
            answer = self.node.request("PUT", self.url(f"q?{bad}"), local=True)
            self.fails(answer, 400, "bad_query")
        self.fails(self.node.get(self.url("q")), 404, "not_found")

    def test_by_id(self):
        data = content("by id", 1000 * KIB)
        each = self.put("a", data).json["id"]
        text = self.node.get(f"/files/{each}/metadata").body
        self.assertEqual(hashlib.sha256(text).hexdigest(), each)
        self.assertEqual(text.decode(), metadata_text(data))
        joined = b""
        for block in json.loads(text)["blocks"]:
            got = self.node.get(f"/blocks/{block['id']}/data")
            self.assertEqual(hashlib.sha256(got.body).hexdigest(), block["id"])
            self.assertEqual(len(got.body), block["size"])
            head = self.node.request("HEAD", f"/blocks/{block['id']}/data")
            self.assertEqual(head.headers["Content-Length"], str(block["size"]))
            joined += got.body
        self.assertTrue(joined == data)
        got = self.node.get(f"/files/{each}/data", Range="bytes=5-9")
        self.assertEqual((got.status, got.body), (206, data[5:10]))
        for kind, what in (("files", "metadata"), ("files", "data"), ("blocks", "data")):
            self.fails(self.node.get(f"/{kind}/{ZERO_ID}/{what}"), 404, "not_found")
            for bad in ("x", "0" * 63, "0" * 65, "G" * 64, ZERO_ID[:-1] + "A", "%30" * 64, ""):
                self.fails(self.node.get(f"/{kind}/{bad}/{what}"), 400, "bad_id")
        for nowhere in (f"/files/{ZERO_ID}", f"/files/{ZERO_ID}/x", f"/blocks/{ZERO_ID}/metadata"):
            self.fails(self.node.get(nowhere), 404, "not_found")


class Tree(ApiCase):
    def test_listing(self):
        files = ["a", "b/c", "b/d/e", "b/d/f", "b.x", "z"]
        for name in files:
            self.put(name, name.encode())
        self.node.post(self.path("empty"), {"op": "mkdir", "mode": "0700"})

        def names(query="", top=self.top):
            answer = self.node.get(f"/fs/{top}{query}")
            self.assertEqual(answer.status, 200, str(answer))
            self.assertEqual(answer.json["path"], top)
            return [entry["path"].removeprefix(self.top + "/") for entry in answer.json["entries"]]

        everything = ["a", "b", "b/c", "b/d", "b/d/e", "b/d/f", "b.x", "empty", "z"]
        self.assertEqual(sorted(names()), ["a", "b", "b.x", "empty", "z"])
        self.assertEqual(sorted(names("?depth=2")), sorted(set(everything) - {"b/d/e", "b/d/f"}))
        self.assertEqual(sorted(names("?depth=all")), sorted(everything))
        own = self.node.get(f"/fs/{self.top}/b?depth=0").json
        self.assertEqual((own["path"], own["type"]), (self.path("b"), "directory"))
        self.assertEqual(names(f"?match={self.top}/b/*"), ["b/c", "b/d"])
        self.assertEqual(names(f"?match={self.top}/**/e"), ["b/d/e"])
        self.assertEqual(names(f"?match={self.top}/[az]"), ["a", "z"])
        self.assertEqual(names("?match=nothing"), [])
        for depth in ("1", "2", "3", "all"):
            for limit in range(1, 11):
                told, after = [], ""
                while True:
                    query = f"?depth={depth}&limit={limit}{after}"
                    page = self.node.get(f"/fs/{self.top}{query}").json
                    self.assertLessEqual(len(page["entries"]), limit)
                    told += [e["path"].removeprefix(self.top + "/") for e in page["entries"]]
                    if "next" not in page:
                        break
                    after = f"&after={page['next']}"
                self.assertEqual(told, names(f"?depth={depth}"))
        answer = self.node.get(f"/fs/{self.top}?depth=all", Accept="application/x-ndjson")
        self.assertEqual(answer.headers["Content-Type"], "application/x-ndjson")
        lines = [json.loads(line) for line in answer.body.splitlines()]
        whole = self.node.get(f"/fs/{self.top}?depth=all").json["entries"]
        self.assertEqual(lines, whole)
        entry = next(e for e in whole if e["path"].endswith("/b/c"))
        self.assertEqual((entry["type"], entry["length"]), ("file", 3))
        self.assertEqual((entry["id"], entry["mode"]), (file_id(b"b/c"), "0644"))
        made = next(e for e in whole if e["path"].endswith("/empty"))
        self.assertEqual((made["type"], made["mode"]), ("directory", "0700"))
        for query in (
            "depth=x", "depth=-1", "depth=", "limit=0", "limit=10001", "limit=x", "limit=1.5",
            "after=", "after=elsewhere", f"after={self.top}", "after=../x", "match=[", "match=%zz",
            "unknown=1", "depth", "depth=1&depth=2", "limit=%zz", "limit=%00", "&&x",
        ):  # fmt: skip
            self.fails(self.node.get(f"/fs/{self.top}?{query}"), 400, "bad_query")
        top = self.node.get("/fs")
        self.assertEqual((top.status, top.json["path"]), (200, ""))
        self.assertEqual(self.node.get("/fs/").json, top.json)
        self.assertEqual(self.node.get("/fs?depth=0").json["type"], "directory")

    def test_long_listing(self):
        count = harness.scaled(1500, 0.2)
        connection = self.node.connect()
        for i in range(count):
            url = self.url(f"{i:05}?symlink=x")
            self.node.request("PUT", url, connection=connection)
        connection.close()
        answer = self.node.get(f"/fs/{self.top}", Accept="application/x-ndjson")
        told = [json.loads(line)["path"] for line in answer.body.splitlines()]
        self.assertEqual(told, [self.path(f"{i:05}") for i in range(count)])
        page = self.node.get(f"/fs/{self.top}?limit=10000").json
        self.assertEqual((len(page["entries"]), "next" in page), (count, False))

    def test_delete(self):
        self.put("d/e/f", b"x")
        self.put("d/g", b"y")
        self.fails(self.node.delete(self.path("d")), 409, "not_empty")
        self.fails(self.node.delete(self.path("d"), "?recursive=0"), 409, "not_empty")
        self.fails(self.node.delete(self.path("d"), "?recursive"), 400, "bad_query")
        self.fails(self.node.delete(self.path("none")), 404, "not_found")
        self.fails(self.node.delete(self.path("d/g/x")), 409, "not_directory")
        answer = self.node.delete(self.path("d"), "?recursive=1")
        self.assertEqual((answer.status, answer.json["path"]), (200, self.path("d")))
        self.assertIn("version", answer.json)
        self.fails(self.node.get(self.url("d")), 404, "not_found")
        self.put("one", b"z")
        self.assertEqual(self.node.delete(self.path("one")).status, 200)
        self.node.post(self.path("dir"), {"op": "mkdir"})
        self.assertEqual(self.node.delete(self.path("dir")).status, 200)
        self.fails(self.node.request("DELETE", "/fs?recursive=1"), 400, "bad_path")
        self.fails(self.node.request("DELETE", "/fs"), 400, "bad_path")

    def test_post(self):
        answer = self.node.post(self.path("d"), {"op": "mkdir", "mtime": "5.5", "mode": "0711"})
        self.assertEqual((answer.status, answer.json["path"]), (201, self.path("d")))
        entry = self.node.get(f"/fs/{self.top}/d?depth=0").json
        self.assertEqual((entry["mode"], entry["mtime"][:19]), ("0711", "1970-01-01T00:00:05"))
        self.fails(self.node.post(self.path("d"), {"op": "mkdir"}), 409, "exists")
        data = content("post", 5000)
        each = self.put("f", data).json["id"]
        self.fails(self.node.post(self.path("f"), {"op": "mkdir"}), 409, "exists")
        self.fails(self.node.post(self.path("f/x"), {"op": "mkdir"}), 409, "not_directory")
        linked = self.node.post(self.path("d/g"), {"op": "link", "id": each})
        self.assertEqual((linked.status, linked.json["length"]), (200, 5000))
        self.assertTrue(self.node.get(self.url("d/g")).body == data)
        missing = self.node.post(self.path("h"), {"op": "link", "id": ZERO_ID})
        self.fails(missing, 404, "not_found")
        self.fails(self.node.post(self.path("d"), {"op": "link", "id": each}), 409, "is_directory")
        moved = self.node.post(self.path("d"), {"op": "rename", "to": self.path("n/m")})
        self.assertEqual((moved.status, moved.json["path"]), (200, self.path("n/m")))
        self.assertTrue(self.node.get(self.url("n/m/g")).body == data)
        self.fails(self.node.get(self.url("d/g")), 404, "not_found")
        rename = {"op": "rename", "to": self.path("n/m/x")}
        self.fails(self.node.post(self.path("n"), rename), 400, "bad_path")
        self.fails(self.node.post(self.path("none"), rename), 404, "not_found")
        onto = {"op": "rename", "to": self.path("n")}
        self.fails(self.node.post(self.path("f"), onto), 409, "is_directory")
        onto = {"op": "rename", "to": self.path("f")}
        answer = self.node.post(self.path("n"), onto)
        self.assertEqual((answer.status, answer.error in ("exists", "not_directory")), (409, True))
        for to, code in (("", "bad_path"), ("../x", "bad_path"), ("/x", "bad_path")):
            self.fails(self.node.post(self.path("f"), {"op": "rename", "to": to}), 400, code)
        for body in (
            b"", b"{", b"[]", b"null", b'"mkdir"', b"{}", b'{"op":1}', b'{"op":"x"}',
            b'{"op":"mkdir","op":"mkdir"}', b'{"op":"rename"}', b'{"op":"rename","to":5}',
            b'{"op":"restore"}', b'{"op":"restore","version":"x"}', b'{"op":"restore","version":1}',
            b'{"op":"link"}', b'{"op":"link","id":"x"}', b'{"op":"mkdir","mode":493}',
            b'{"op":"mkdir","mode":"9"}', b'{"op":"mkdir","mtime":"x"}', b'{"op":"mkdir"}x',
            b'\xff', b'{"op":"\xff"}', b'{"op":"rename","to":"a\\u0000b"}', b"[" * 60000,
        ):  # fmt: skip
            self.fails(self.node.post(self.path("y"), body), 400, "bad_body")
        long = b'{"op":"mkdir","x":"' + b"y" * (64 * KIB) + b'"}'
        self.fails(self.node.post(self.path("y"), long), 413, "too_large")
        chunks = self.node.request("POST", self.url("y"), body=iter([long[:50000], long[50000:]]))
        self.fails(chunks, 413, "too_large")

    def test_a_rename_that_replaces_nothing(self):
        for name in ("f", "g"):
            self.put(name, name.encode())
        for to in ("g", "f"):
            onto = {"op": "rename", "to": self.path(to), "replace": False}
            self.fails(self.node.post(self.path("f"), onto), 409, "exists")
        onto = {"op": "rename", "to": self.path("d/h"), "replace": False}
        self.assertEqual(self.node.post(self.path("f"), onto).status, 200)
        onto = {"op": "rename", "to": self.path("d"), "replace": False}
        self.fails(self.node.post(self.path("g"), onto), 409, "exists")
        onto = {"op": "rename", "to": self.path("d/h"), "replace": True}
        self.assertEqual(self.node.post(self.path("g"), onto).status, 200)
        self.assertEqual(self.node.get(self.url("d/h")).body, b"g")
        for body in ({"replace": 0}, {"replace": None}, {"replace": "no"}):
            odd = {"op": "rename", "to": self.path("x"), **body}
            self.fails(self.node.post(self.path("d/h"), odd), 400, "bad_body")

    def test_many_deletions_at_once(self):
        ids = {name: self.put(name, name.encode()).json["id"] for name in ("a", "d/b", "d/c", "e")}
        self.node.request("PUT", self.url("d/l?symlink=x"))
        paths = {"a": ids["a"], "d/b": ids["a"], "d/c": None, "d/l": None, "d": None, "none": None,
                 "e/x": None}  # fmt: skip
        answer = self.node.post(self.path("")[:-1], {"op": "delete", "paths": paths})
        self.assertEqual((answer.status, answer.json["deleted"]), (200, 3))
        self.assertIn("version", answer.json)
        for name, there in {"a": False, "d/b": True, "d/c": False, "d/l": False, "e": True}.items():
            self.assertEqual(self.node.get(self.url(name)).status == 200, there, name)
        answer = self.node.post(self.path("d"), {"op": "delete", "paths": {"b": ids["e"], "c": None}})
        self.assertEqual((answer.status, answer.json.get("version")), (200, None))
        self.assertEqual(answer.json["deleted"], 0)
        for odd in (None, [], {"b": 1}, {"b": "x"}, {"b": False}):
            answer = self.node.post(self.path("d"), {"op": "delete", "paths": odd})
            self.fails(answer, 400, "bad_body")
        for odd in ("", "../e", "/b", "b/"):
            answer = self.node.post(self.path("d"), {"op": "delete", "paths": {odd: None}})
            self.fails(answer, 400, "bad_path")
        self.assertEqual(self.node.get(self.url("d/b")).status, 200)

    def test_log_has_a_limit_of_bytes(self):
        target = "%01" * 4000  # six bytes each in JSON
        for i in range(400):
            answer = self.node.request("PUT", self.url(f"many?symlink={i}{target}"))
            self.assertLess(answer.status, 300)
        answer = self.node.get(f"/log/{self.path('many')}?limit=10000")
        self.assertLess(len(answer.body), 8 * 1024 * 1024 + 64 * 1024)
        self.assertTrue(answer.json["more"])
        versions = answer.json["versions"]
        self.assertGreater(len(versions), 300)
        self.assertTrue(versions[0]["current"])
        self.assertNotIn("more", self.node.get(f"/log/{self.path('many')}?limit=10").json)

    def test_log(self):
        datas = [content(i, i + 1) for i in range(5)]
        for data in datas:
            self.put("a", data)
        self.node.delete(self.path("a"))
        log = self.node.get(f"/log/{self.path('a')}").json
        self.assertEqual(log["path"], self.path("a"))
        told = [version["id"] for version in log["versions"]]
        self.assertEqual(told, [file_id(data) for data in reversed(datas)])
        self.assertEqual([v["current"] for v in log["versions"]], [False] * 5)
        for each in log["versions"]:
            self.assertIn("lamport", each)
            self.assertIn("version", each)
        self.put("a", b"again")
        log = self.node.get(f"/log/{self.path('a')}?limit=2").json["versions"]
        self.assertEqual([v["current"] for v in log], [True, False])
        old = self.node.get(f"/files/{told[0]}/data")
        self.assertTrue(old.body == datas[-1])
        self.fails(self.node.get(f"/log/{self.path('none')}"), 404, "not_found")
        for query in ("limit=0", "limit=x", "limit=10001", "depth=1"):
            self.fails(self.node.get(f"/log/{self.path('a')}?{query}"), 400, "bad_query")

    def test_set(self):
        """Mode, time and attributes change; content and kind stay."""
        each = self.put("f", b"f", "?mode=0600&mtime=5").json["id"]

        def told(what):
            return self.node.get(self.url("f")).headers[f"X-Artel-{what}"]

        answer = self.node.post(self.path("f"), {"op": "set", "mode": "0711"})
        self.assertEqual((answer.status, answer.json["path"]), (200, self.path("f")), str(answer))
        self.assertEqual((told("Id"), told("Mode")), (each, "0711"))
        self.assertTrue(told("Mtime").startswith("1970-01-01T00:00:05.0"))
        self.node.post(self.path("f"), {"op": "set", "mtime": "7.000000001"})
        self.assertEqual(told("Mtime"), "1970-01-01T00:00:07.000000001Z")
        self.assertEqual(told("Mode"), "0711")
        for name in ("none", "none/x"):
            self.fails(self.node.post(self.path(name), {"op": "set"}), 404, "not_found")
        self.fails(self.node.post(self.path("f/x"), {"op": "set"}), 409, "not_directory")
        for bad in ({"mode": 5}, {"mode": "9"}, {"mtime": "x"}, {"attributes": 1},
                    {"attributes": {"": "00"}}, {"attributes": {"a": "0"}},
                    {"attributes": {"a": "xx"}}, {"attributes": {"a": 1}}):
            self.fails(self.node.post(self.path("f"), {"op": "set", **bad}), 400, "bad_body")
        many = {f"user.{i}": "00" for i in range(65)}
        answer = self.node.post(self.path("f"), {"op": "set", "attributes": many})
        self.fails(answer, 413, "too_large")
        attributes = {"user.a": "00ff", "user.b": "62", "user.none": None}
        answer = self.node.post(self.path("f"), {"op": "set", "attributes": attributes})
        self.assertEqual(answer.status, 200, str(answer))
        self.fails(self.node.put(self.path("f"), b"", "?keep=all"), 400, "bad_query")
        self.assertEqual(self.node.put(self.path("f"), b"g", "?keep=attributes").status, 200)

    def test_restore(self):
        first = self.put("r", b"one", "?mode=0750&mtime=5").json["version"]
        second = self.put("r", b"two").json["version"]
        self.assertEqual(self.node.delete(self.path("r")).status, 200)
        for version, data in ((first, b"one"), (second, b"two"), (first, b"one")):
            answer = self.node.post(self.path("r"), {"op": "restore", "version": version})
            self.assertEqual((answer.status, answer.json["path"]), (200, self.path("r")))
            self.assertNotIn(answer.json["version"], (first, second))
            self.assertEqual(self.node.get(self.url("r")).body, data)
        got = self.node.get(self.url("r"))
        self.assertEqual(got.headers["X-Artel-Mode"], "0750")
        self.assertEqual(got.headers["X-Artel-Mtime"], "1970-01-01T00:00:05.000000000Z")
        log = self.node.get(f"/log/{self.path('r')}").json["versions"]
        self.assertEqual([v["current"] for v in log], [True, False, False, False, False])
        self.assertEqual(log[0]["version"], answer.json["version"])
        name = self.node.get("/status").json["name"]
        self.assertEqual({v["by"] for v in log}, {name})
        self.assertNotIn("kept_s", log[0])
        week_s = 7 * 24 * 3600
        for past in log[1:]:
            self.assertTrue(week_s - 1000 < past["kept_s"] <= week_s, past)

        restore = {"op": "restore", "version": first}
        self.fails(self.node.post(self.path("none"), restore), 404, "not_found")
        self.fails(self.node.post(self.path("r/x"), restore), 409, "not_directory")
        other = {"op": "restore", "version": "0" * 32 + ":1"}
        self.fails(self.node.post(self.path("r"), other), 404, "not_found")
        self.node.delete(self.path("r"))
        self.put("r/below", b"")
        self.fails(self.node.post(self.path("r"), restore), 409, "not_empty")

    def test_no_conflicts(self):
        self.put("c/a", b"")
        for url in ("/conflicts", f"/conflicts/{self.top}", f"/conflicts?match={self.top}/**"):
            answer = self.node.get(url).json
            self.assertEqual((answer["conflicts"], "next" in answer), ([], False))
        lines = self.node.get("/conflicts", Accept="application/x-ndjson")
        self.assertEqual((lines.status, lines.body), (200, b""))
        self.fails(self.node.get(f"/conflicts/{self.path('none')}"), 404, "not_found")
        self.fails(self.node.get(f"/conflicts/{self.path('c/a')}"), 409, "not_directory")
        for query in ("limit=0", "depth=1", "after=x", "match=["):
            self.fails(self.node.get(f"/conflicts/{self.path('c')}?{query}"), 400, "bad_query")

    def test_bad_acks(self):
        for query in ("ack=33", "ack=x", "ack=-1", "ack=", "ack=1&ack=1", "ack=1&ack_wait=0",
                      "ack_wait=3601", "ack=1&ack_wait=x"):  # fmt: skip
            tar = {"Content-Type": "application/x-tar"}
            for answer in (
                self.node.put(self.path("k"), b"x", f"?{query}"),
                self.node.delete(self.path("k"), f"?{query}"),
                self.node.request("POST", f"{self.url('k')}?{query}", body=b'{"op":"mkdir"}'),
                self.node.request("PUT", f"{self.url('k')}/?{query}", body=b"", headers=tar),
            ):
                self.fails(answer, 400, "bad_query")
        self.fails(self.node.get(f"{self.url('')}?ack=1"), 400, "bad_query")
        self.fails(self.node.get(self.url("k")), 404, "not_found")

    def test_sorts_of_things(self):
        self.put("file", b"x")
        self.put("dir/in", b"y")
        self.fails(self.node.put(self.path("file/x"), b"z"), 409, "not_directory")
        self.fails(self.node.put(self.path("dir"), b"z"), 409, "is_directory")
        self.fails(self.node.put(self.path("dir/"), b"z"), 409, "is_directory")
        self.fails(self.node.request("PUT", "/fs", body=b"z"), 409, "is_directory")
        self.fails(self.node.get(self.url("file/x")), 404, "not_found")
        self.fails(self.node.get(self.url("none")), 404, "not_found")

    def test_bad_paths(self):
        urls = {
            "..": "bad_path", "a/../b": "bad_path", ".": "bad_path", "a/./b": "bad_path",
            "%2e%2e": "bad_path", "a//b": "bad_path", "/a": "bad_path", "a%00b": "bad_path",
            "%00": "bad_path", "a%2Fb": "bad_path", "a%2fb": "bad_path", "%": "bad_path",
            "a%1": "bad_path", "a%zz": "bad_path", "%FF": "bad_utf8", "%C0%80": "bad_utf8",
            "%ED%A0%80": "bad_utf8", "a%F5": "bad_utf8", "x" * 256: "path_too_long",
            "%78" * 256: "path_too_long", "/".join(["y" * 250] * 17): "path_too_long",
        }  # fmt: skip
        for url, code in urls.items():
            status = 414 if code == "path_too_long" else 400
            for method in ("GET", "PUT", "DELETE", "POST"):
                body = b"{}" if method in ("PUT", "POST") else None
                with self.subTest(method=method, url=url[:40]):
                    self.fails(self.node.request(method, f"/fs/{url}", body=body), status, code)
            self.fails(self.node.get(f"/log/{url}"), status, code)
        good = ["...", "..a", "a b", "ä", "%25", "x" * 255, "+", "a\\b", "\x01", "🐙", "~", "a~file"]
        for name in good:
            quoted = "".join(f"%{byte:02x}" for byte in name.encode())
            self.assertEqual(self.node.request("PUT", self.url(quoted), body=b"g").status, 201)
        told = [e["path"] for e in self.node.get(f"/fs/{self.top}").json["entries"]]
        self.assertEqual(sorted(told), sorted(self.path(name) for name in good))
        deep = "/".join(["%C3%A9" * 120] * 16)
        answer = self.node.request("PUT", f"/fs/{deep}", body=b"deep")
        self.assertEqual(answer.status, 201, str(answer))
        self.assertEqual(self.node.get(f"/fs/{deep}").body, b"deep")

    def test_methods(self):
        for method, url, allowed in (
            ("PATCH", "/fs/x", "GET, HEAD, PUT, DELETE, POST"),
            ("OPTIONS", "/fs", "GET, HEAD, PUT, DELETE, POST"),
            ("BREW", "/fs", "GET, HEAD, PUT, DELETE, POST"),
            ("PUT", "/watch", "GET, HEAD, POST"),
            ("DELETE", "/status", "GET, HEAD"),
            ("GET", "/scrub", "POST"),
            ("HEAD", "/scrub", "POST"),
            ("GET", "/files", "POST"),
            ("PUT", f"/files/{ZERO_ID}/data", "GET, HEAD"),
        ):
            answer = self.node.request(method, url)
            self.assertEqual((answer.status, answer.headers["Allow"]), (405, allowed), url)
            if method != "HEAD":
                self.fails(answer, 405, "method_not_allowed")
        for url in ("/", "/fsx", "/statusx", "/status/", "/nothing", "/filesx", "/%66s"):
            self.fails(self.node.get(url), 404, "not_found")
        self.fails(self.node.request("GET", "/status", body=b"x"), 400, "bad_body")
        self.fails(self.node.get("/status?x=1"), 400, "bad_query")
        for query in ("mode=8", "mode=10000", "mode=", "mtime=x", "mtime=", "atomic=1", "mode"):
            self.fails(self.node.put(self.path("m"), b"x", f"?{query}"), 400, "bad_query")


class Wire(ApiCase):
    """What http.client would not say."""

    def lives(self):
        self.assertEqual(self.node.get("/healthz").body, b"ok\n")

    def gone(self, name):
        self.assertEqual(self.node.get(self.url(name)).status, 404, name)

    def test_keep_alive(self):
        self.put("k", b"kept")
        connection = self.node.connect()
        self.node.request("GET", "/healthz", connection=connection)
        sock = connection.sock
        for i in range(20):
            data = content(i, i * 1000)
            each = self.node.request("PUT", self.url("k2"), body=data, connection=connection)
            self.assertIn(each.status, (200, 201))
            got = self.node.request("GET", self.url("k2"), connection=connection)
            self.assertTrue(got.body == data)
            for url in ("/status", "/fs/none", "/fs", "/fs/..", "/nothing", "/metrics"):
                self.node.request("GET", url, connection=connection)
            bad = self.node.request("PUT", "/fs/a%00", body=data, connection=connection)
            self.fails(bad, 400, "bad_path")
            body = json.dumps({"op": "mkdir"})
            self.node.request("POST", self.url(f"d{i}"), body=body, connection=connection)
            self.node.request("DELETE", self.url(f"d{i}"), connection=connection)
            self.assertIs(connection.sock, sock, "the connection was closed")
        connection.close()

    def test_pipelined(self):
        self.put("p", b"0123456789")
        one = f"GET /fs/{self.top}/p HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        put = (
            f"PUT /fs/{self.top}/q HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".encode()
        )
        last = one.replace(b"Host", b"Connection: close\r\nHost")
        with contextlib.closing(self.node.socket()) as sock:
            sock.sendall(one * 5 + put + one * 5 + last)
            answer = b""
            while piece := sock.recv(65536):
                answer += piece
        self.assertEqual(answer.count(b"0123456789"), 11)
        self.assertEqual(answer.count(b"HTTP/1.1 201"), 1)

    def test_split_anywhere(self):
        text = (
            f"PUT /fs/{self.top}/s?mode=0600 HTTP/1.1\r\nHost: x\r\n"
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
        ).encode()
        for at in range(1, len(text), 7):
            with contextlib.closing(self.node.socket()) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall(text[:at])
                time.sleep(0.002)
                sock.sendall(text[at:])
                self.assertRegex(read_until_quiet(sock), rb"^HTTP/1.1 20[01]")
        self.assertEqual(self.node.get(self.url("s")).body, b"abcde")

    def test_expect(self):
        head = f"PUT /fs/{self.top}/e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        with contextlib.closing(self.node.socket()) as sock:
            sock.sendall((head + "Content-Length: 5\r\n\r\n").encode())
            self.assertTrue(sock.recv(1000).startswith(b"HTTP/1.1 100"))
            sock.sendall(b"hello")
            self.assertRegex(read_until_quiet(sock), rb"^HTTP/1.1 201")
        self.assertEqual(self.node.get(self.url("e")).body, b"hello")
        bad = head.replace("/e", "/..") + "Content-Length: 5\r\n\r\n"
        answer = self.node.exchange(bad.encode())
        self.assertRegex(answer, rb"^HTTP/1.1 400")  # and no "100" before it

    def test_short_bodies(self):
        for name, framing in (
            ("s1", "Content-Length: 100\r\n\r\nabc"),
            ("s2", "Content-Length: 100\r\n\r\n"),
            ("s3", "Transfer-Encoding: chunked\r\n\r\n5\r\nabc"),
            ("s4", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
            ("s5", "Transfer-Encoding: chunked\r\n\r\n"),
        ):
            head = f"PUT /fs/{self.top}/{name} HTTP/1.1\r\nHost: x\r\n"
            with contextlib.closing(self.node.socket()) as sock:
                sock.sendall((head + framing).encode())
            self.node.exchange((head + framing).encode(), end=True)
            self.gone(name)
        self.lives()

    def test_long_body(self):
        """More than Content-Length is the next request, and none that can be."""
        head = f"PUT /fs/{self.top}/l HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcdef\r\n\r\n"
        answer = self.node.exchange(head.encode(), end=True)
        self.assertRegex(answer, rb"^HTTP/1.1 201")
        self.assertEqual(self.node.get(self.url("l")).body, b"abc")

    def test_framing(self):
        for i, framing in enumerate((
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
            "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "Content-Length: -1\r\n\r\nabc",
            "Content-Length: 3x\r\n\r\nabc",
            "Content-Length: \r\n\r\nabc",
            "Content-Length: 99999999999999999999999\r\n\r\nabc",
            "Content-Length: 0x3\r\n\r\nabc",
            "Content-Length: +3\r\n\r\nabc",
            "Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "Transfer-Encoding: identity\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n" + "3" * 20000,
        )):  # fmt: skip
            with self.subTest(framing=framing[:80]):
                text = f"PUT /fs/{self.top}/f{i} HTTP/1.1\r\nHost: x\r\n{framing}"
                answer = self.node.exchange(text.encode(), end=True)
                self.assertRegex(answer, rb"^(HTTP/1.1 4|$)")
                self.gone(f"f{i}")
        self.lives()

    def test_too_large(self):
        text = f"PUT /fs/{self.top}/t HTTP/1.1\r\nHost: x\r\nContent-Length: {2**40 + 1}\r\n\r\n"
        answer = self.node.exchange(text.encode())
        self.assertRegex(answer, rb"^HTTP/1.1 413")
        self.assertIn(b'"too_large"', answer)

    def test_refused_uploads_are_told_why(self):
        """Also to clients that send the whole body before they look for an answer."""
        for size in (1, 64 * KIB, MIB, 8 * MIB):
            for body in (bytes(size), iter([bytes(size)])):
                answer = self.node.request("PUT", "/fs/a/../b", body=body)
                self.fails(answer, 400, "bad_path")

    def test_garbage(self):
        random = harness.random.Random(harness.SEED)
        texts = [
            b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
            b"GET /fs HTTP/1.1\r\n\r\n", b"GET fs HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /fs HTTP/1.1\nHost: x\n\n", b"GET /fs HTTP/1.1\r\nHost x\r\n\r\n",
            b"GET /fs HTTP/1.1\r\n: x\r\n\r\n", b"GET /fs\x00x HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /fs HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", b"\x00" * 5000, b"\xff" * 70000,
            b"GET http://x/fs HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /fs?" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /fs?" + b"&" * 10000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /fs/" + b"a" * 14000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /fs HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
            b"GET /fs HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 200000 + b"\r\n\r\n",
            b"GET /fs HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000,
            b"a" * 100000,
        ]  # fmt: skip
        texts += [random.randbytes(random.randrange(1, 3000)) for _ in range(50)]
        good = b"GET /fs/x?depth=1 HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\n\r\n"
        for _ in range(100):
            flipped = bytearray(good)
            for _ in range(random.randrange(1, 4)):
                flipped[random.randrange(len(flipped))] = random.randrange(256)
            texts.append(bytes(flipped))
        with concurrent.futures.ThreadPoolExecutor(60) as pool:
            answers = pool.map(lambda text: self.node.exchange(text, end=True), texts)
        for text, answer in zip(texts, answers):
            self.assertRegex(answer, rb"^(HTTP/1.[01] [2345]|$)", text[:80])
        self.lives()
        self.assertLess(self.node.private_bytes(), 400 * MIB if harness.SANITIZED else 50 * MIB)

    def test_endless_header(self):
        with contextlib.closing(self.node.socket()) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(b"GET /fs HTTP/1.1\r\nHost: x\r\n")
                for _ in range(2000):
                    sock.sendall(b"A: " + b"b" * 1000 + b"\r\n")
            self.assertRegex(read_until_quiet(sock), rb"^(HTTP/1.1 4|$)")
        self.lives()


class Watching(ApiCase):
    def test_events(self):
        with self.node.watch(f"?path={self.top}/**") as watch:
            self.assertEqual(watch.answer.headers["Content-Type"], "text/event-stream")
            put = self.put("a", b"abc").json
            event = watch.next()
            self.assertEqual(
                (event["event"], event["path"], event["type"]), ("put", self.path("a"), "file")
            )
            self.assertEqual((event["id"], event["length"]), (file_id(b"abc"), 3))
            self.assertEqual(event["version"], put["version"])
            self.assertEqual(event["cursor"], self.node.status()["cursor"])
            self.node.request("PUT", self.url("l?symlink=a"))
            event = watch.next()
            self.assertEqual((event["type"], event["target"]), ("symlink", "a"))
            self.node.post(self.path("d"), {"op": "mkdir"})
            self.assertEqual(watch.next()["event"], "mkdir")
            self.node.post(self.path("a"), {"op": "rename", "to": self.path("d/b")})
            event = watch.next()
            self.assertEqual((event["event"], event["path"]), ("rename", self.path("d/b")))
            self.assertEqual(event["from"], self.path("a"))
            self.node.put("elsewhere", b"x")
            self.node.delete(self.path("l"))
            event = watch.next()
            self.assertEqual((event["event"], event["path"]), ("delete", self.path("l")))
            self.put("d/c", b"1")
            self.assertEqual(watch.next()["path"], self.path("d/c"))
            self.node.delete(self.path("d"), "?recursive=1")
            gone = {event["path"] for event in watch.take(2)}
            self.assertTrue({self.path("d/b"), self.path("d/c")} <= gone | {self.path("d")})

    def test_resume(self):
        begin = self.node.status()["cursor"]
        for i in range(50):
            self.put(f"f{i}", b"x")
        paths = [self.path(f"f{i}") for i in range(50)]
        query = f"?path={self.top}/**&since={begin}"
        with self.node.watch(query) as watch:
            events = watch.take(50)
        self.assertEqual([event["path"] for event in events], paths)
        for at in (0, 10, 49):
            with self.node.watch(f"?path={self.top}/**", Last_Event_ID=events[at]["cursor"]) as w:
                self.assertEqual([e["path"] for e in w.take(49 - at)], paths[at + 1 :])
        # The header is behind the parameter: a browser that comes back sends both.
        with self.node.watch(query, Last_Event_ID=events[48]["cursor"]) as watch:
            self.assertEqual(watch.next()["path"], paths[49])
        with self.node.watch(f"?path={self.top}/**&since=0") as watch:
            self.assertEqual([event["path"] for event in watch.take(50)], paths)
        epoch = events[0]["cursor"].split(":")[0]
        for bad in (
            "x", "1", ":", "1:", ":1", f"{epoch}:", "", f"{epoch}:99999999999999999999999999",
            f"{epoch}:1:2", "-1",
        ):  # fmt: skip
            self.fails(self.node.get(f"/watch?since={bad}"), 400, "bad_cursor")
            if bad:
                self.fails(self.node.get("/watch", Last_Event_ID=bad), 400, "bad_cursor")
        self.fails(self.node.get("/watch?path=["), 400, "bad_query")
        self.fails(self.node.get("/watch?since=0&x=1"), 400, "bad_query")

    def test_gap(self):
        """A cursor of another feed, or of a future that this one has lost, begins with a gap and
        all that is kept."""
        self.put("a", b"x")
        epoch, position = self.node.status()["cursor"].split(":")
        for cursor in (f"{int(epoch) + 1}:{position}", f"{epoch}:{int(position) + 1}"):
            with self.node.watch(f"?path={self.top}/**&since={cursor}") as watch:
                self.assertEqual(watch.next(), {"event": "gap", "cursor": f"{epoch}:0"})
                self.assertEqual(watch.next()["path"], self.path("a"))

    def test_op_of_many(self):
        """An op of more text than is told at once, to a watcher that reads it and one that
        does not."""
        count = 1200
        name = "n" * 120
        connection = self.node.connect()
        for i in range(count):
            url = self.url(f"d/{name}{i}?symlink=x")
            self.node.request("PUT", url, connection=connection)
        connection.close()
        begin = self.node.status()["cursor"]
        with self.node.watch(f"?path={self.top}/d/**") as watch:
            self.node.delete(self.path("d"), "?recursive=1")
            events = watch.take(count)
        self.assertEqual(len({event["path"] for event in events}), count)
        self.assertEqual({event["event"] for event in events}, {"delete"})
        # A break in the middle repeats, and loses nothing.
        self.assertEqual({event["cursor"] for event in events[:-1]}, {begin})
        self.put("after", b"x")
        with self.node.watch(f"?path={self.top}/*&since={events[-1]['cursor']}") as watch:
            self.assertEqual(watch.next()["path"], self.path("after"))

    def test_many_at_once(self):
        count, puts = harness.scaled(50, 0.4), 40
        watches = [self.node.watch(f"?path={self.top}/{i % 2}/*") for i in range(count)]
        for i in range(puts):
            self.put(f"{i % 2}/{i}", b"x")
        for i, watch in enumerate(watches):
            told = [event["path"] for event in watch.take(puts // 2)]
            wanted = [self.path(f"{j % 2}/{j}") for j in range(puts) if j % 2 == i % 2]
            self.assertEqual(told, wanted)
            self.assertTrue(watch.is_quiet(0))
            watch.close()

    def test_heartbeat(self):
        with self.node.watch(f"?path={self.top}/**") as watch:
            self.node.put("elsewhere", b"x")
            cursor = self.node.status()["cursor"]
            begin = time.monotonic()
            threading.Timer(20, lambda: self.put("late", b"x")).start()
            watch.sock.settimeout(30)
            while watch.comments < 2:  # the first came at once
                line = watch.answer.readline()
                watch.comments += line.startswith(b":")
            self.assertTrue(13 < time.monotonic() - begin < 19)
            self.assertEqual(watch.answer.readline().decode(), f"id: {cursor}\n")
            self.assertEqual(watch.next(30)["path"], self.path("late"))


class Itself(ApiCase):
    def token(self, at=None):
        answer = self.node.get("/watch/token" + (f"?at={at}" if at else ""))
        self.assertEqual(answer.status, 200, str(answer))
        self.assertRegex(answer.json["token"], "^([0-9a-f]{2})+$")
        return answer.json["token"], answer.json["cursor"]

    def test_tokens(self):
        """A token of each position begins there, by whatever way it is sent."""
        begin = self.node.status()["cursor"]
        with self.node.watch(f"?since={begin}") as watch:
            for i in range(5):
                self.put(f"t{i}", b"")
            events = watch.take(5)
        self.assertEqual(self.token()[1], self.node.status()["cursor"])
        for i, event in enumerate(events[:-1]):
            token, cursor = self.token(event["cursor"])
            self.assertEqual(cursor, event["cursor"])
            for query in (f"?since={token}", f"?token={token}", f"?since=1:1&token={token}",
                          f"?token={token}&path={self.top}/*"):  # fmt: skip
                with self.node.watch(query) as watch:
                    self.assertEqual(watch.take(4 - i), events[i + 1 :], query)
            with self.node.watch(Last_Event_ID=token) as watch:
                self.assertEqual(watch.next(), events[i + 1])
            with Watch(self.node, f"?path={self.top}/**", {}, token.encode()) as watch:
                self.assertEqual(watch.take(4 - i), events[i + 1 :])
            with Watch(self.node, "?since=1:1", {}, iter([token[:9].encode(), token[9:].encode()])) as w:
                self.assertEqual(w.next(), events[i + 1])
        # Its own cursor comes first.
        with self.node.watch(f"?since={events[3]['cursor']}&token={self.token(begin)[0]}") as watch:
            self.assertEqual(watch.next(), events[4])
        # Now, and what comes then.
        with self.node.watch(f"?since={self.token()[0]}") as watch:
            self.put("later", b"")
            self.assertEqual(watch.next()["path"], self.path("later"))

    def test_bad_tokens(self):
        epoch, position = self.node.status()["cursor"].split(":")
        for at in (f"{int(epoch) + 1}:1", f"{epoch}:{int(position) + 1}"):
            self.fails(self.node.get(f"/watch/token?at={at}"), 409, "no_token")
        for at in ("", "x", "0", "1", "1:", "1:x", self.token()[0]):
            self.fails(self.node.get(f"/watch/token?at={at}"), 400, "bad_cursor")
        token = self.token()[0]
        wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
        later = "02" + token[2:]
        for bad in ("x", "01", token[:-2], token + "00", token.upper() + "A", wrong, later):
            for query in (f"since={bad}", f"token={bad}", f"since=1:1&token={bad}"):
                self.fails(self.node.get(f"/watch?{query}"), 400, "bad_cursor")
            self.fails(self.node.request("POST", "/watch", body=bad.encode()), 400, "bad_cursor")
        self.fails(self.node.get(f"/watch?since={token}&token={token}"), 400, "bad_cursor")
        self.fails(self.node.get(f"/watch?members=only&token={token}"), 400, "bad_query")
        body = token.encode() + b"\0"
        self.fails(self.node.request("POST", "/watch", body=body), 400, "bad_cursor")
        self.fails(self.node.request("POST", "/watch?since=x", body=b""), 400, "bad_cursor")
        for body in (b"0" * 800000, iter([b"0" * 800000])):
            self.fails(self.node.request("POST", "/watch", body=body), 413, "too_large")

    def test_a_token_of_another_node_is_a_gap(self):
        """Nodes that know nothing of each other."""
        self.put("g", b"")
        with Node(self.root / "other") as other:
            other.put("x", b"")
            token = other.get("/watch/token").json["token"]
        with self.node.watch(f"?since={token}&path={self.top}/**") as watch:
            event = watch.next()
            # As long as all is kept from the first op, nothing is missing.
            self.assertEqual((event["event"], event["path"]), ("put", self.path("g")))

    def test_status(self):
        status = self.node.status()
        for key in ("node", "name", "zone", "version", "fingerprint", "entries", "cursor", "store"):
            self.assertIn(key, status)
        self.assertEqual((status["members"], status["agree"]), (1, True))
        self.assertRegex(status["fingerprint"], "^[0-9a-f]{64}$")
        self.assertRegex(status["cursor"], "^[0-9]+:[0-9]+$")
        self.put("s", b"x")
        later = self.node.status()
        self.assertNotEqual(later["fingerprint"], status["fingerprint"])
        self.assertEqual(later["entries"], status["entries"] + 1)
        self.node.delete(self.path("s"))
        self.assertEqual(self.node.status()["fingerprint"], status["fingerprint"])

    def test_name_and_zone(self):
        longest = "\u00e9" * 32
        with temp_dir() as root:
            for name in ("a", "two words", longest):
                node = Node(root / "data", "--name", name, "--zone", longest)
                node.start()
                status = node.status()
                self.assertEqual((status["name"], status["zone"]), (name, longest))
                node.stop()

    def test_metrics(self):
        before = self.node.metrics()
        self.put("m", b"x" * 1000)
        self.node.get("/fs/none")
        after = self.node.metrics()
        self.assertEqual(after["artel_tree_entries"], before["artel_tree_entries"] + 1)
        self.assertEqual(after["artel_http_client_errors_total"],
                         before["artel_http_client_errors_total"] + 1)  # fmt: skip
        self.assertEqual(after["artel_http_body_bytes_total"],
                         before["artel_http_body_bytes_total"] + 1000)  # fmt: skip
        self.assertEqual(after["artel_changes_total"], before["artel_changes_total"] + 1)

    def test_probes(self):
        for url in ("/healthz", "/readyz"):
            self.assertEqual(self.node.get(url).status, 200)
            self.assertEqual(self.node.request("HEAD", url).status, 200)

    def test_scrub(self):
        self.put("x", content("scrub", 300 * KIB))
        report = self.node.scrub()
        self.assertEqual(report["complete"], True)
        self.assertEqual(report["fingerprint_matches"], True)
        self.assertEqual((report["blocks_bad"], report["files_hit"]), (0, 0))
        self.assertGreaterEqual(report["blocks_checked"], 2)
        # One that nobody reads ends by itself.
        for _ in range(20):
            with contextlib.closing(self.node.socket()) as sock:
                sock.sendall(b"POST /scrub HTTP/1.1\r\nHost: x\r\n\r\n")
        end = time.monotonic() + 10
        while self.node.request("POST", "/scrub").error == "busy":
            self.assertLess(time.monotonic(), end)

    def test_threads_together(self):
        """Clients that put, get, list and rename each other's files: all answers make sense."""
        errors = []

        def client(number):
            random = harness.random.Random(harness.SEED + number)
            connection = self.node.connect()
            for i in range(harness.scaled(150, 0.2)):
                name = self.url(f"{random.randrange(3)}/{random.randrange(5)}")
                to = self.path(f"{random.randrange(3)}/{random.randrange(5)}")
                rename = json.dumps({"op": "rename", "to": to})
                data = content((number, i), random.randrange(3000))
                method, url, body = random.choice((
                    ("PUT", name, data), ("GET", name, None), ("DELETE", name, None),
                    ("GET", f"/fs/{self.top}?depth=all", None), ("POST", name, rename),
                    ("DELETE", f"/fs/{self.top}/1?recursive=1", None), ("GET", "/metrics", None),
                    ("GET", f"/log/{self.top}/1/1", None),
                ))  # fmt: skip
                answer = self.node.request(method, url, body=body, connection=connection)
                onto_itself = method == "POST" and url == f"/fs/{to}"
                if answer.status >= 500 or (answer.status == 400 and not onto_itself):
                    errors.append(f"{method} {url} {body!r}: {answer}")
            connection.close()

        threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.assertEqual(errors, [])
        self.assertEqual(self.node.scrub()["fingerprint_matches"], True)


def overwrite(data, old, new):
    """Puts `new` over the bytes `old` of a stored block."""
    for file in data.rglob("*.seg"):
        at = file.read_bytes().find(old)
        if at >= 0:
            with open(file, "r+b") as out:
                out.seek(at)
                out.write(new)
            return
    raise harness.Failure("the bytes are in no segment")


class Damage(unittest.TestCase):
    def read_cut(self, one, url, headers=b""):
        """The status and all of the body that comes; the connection must end before the body."""
        one.sendall(b"GET " + url.encode() + b" HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n")
        answer = http.client.HTTPResponse(one)
        answer.begin()
        with self.assertRaises(http.client.IncompleteRead) as cut:
            answer.read()
        return answer.status, cut.exception.partial

    def test_damaged(self):
        with temp_dir() as root, Node(root / "data") as node:
            data = content("damage", 400 * KIB)
            node.put("a", data)
            node.put("b", b"fine")
            overwrite(root / "data", data[1000:1100], bytes(100))
            for headers in ({"Range": "bytes=0-2000"}, {}, {"Range": "bytes=0-200000"}):
                answer = node.get("/fs/a", **headers)
                self.assertEqual((answer.status, answer.error), (500, "damaged"), str(answer))
            answer = node.get("/fs/a", Range=f"bytes={300 * KIB}-")
            self.assertEqual((answer.status, answer.body), (206, data[300 * KIB :]))
            self.assertEqual(node.get("/fs/b").body, b"fine")
            report = node.scrub()
            self.assertEqual((report["complete"], report["files_hit"]), (True, 1))

    def test_damaged_in_the_middle_of_a_large_one(self):
        """One bit. What comes before it is right, and then the connection is cut."""
        with temp_dir() as root, Node(root / "data") as node:
            data = content("large damage", 5 * MIB)
            node.put("a", data)
            at = 3 * MIB + 100 * KIB  # in the second span of its block
            old = data[at : at + 64]
            overwrite(root / "data", old, bytes([old[0] ^ 0x10]) + old[1:])
            for begin in (0, 12345, 2 * MIB):
                with contextlib.closing(node.socket()) as one:
                    status, got = self.read_cut(one, "/fs/a", b"Range: bytes=%d-\r\n" % begin)
                self.assertEqual(status, 206)
                self.assertTrue(data[begin:].startswith(got), len(got))
                self.assertLessEqual(begin + len(got), at)
            # Before and behind it all is well.
            for begin, end in ((0, 3 * MIB), (3 * MIB + 256 * KIB, 5 * MIB)):
                answer = node.get("/fs/a", Range=f"bytes={begin}-{end - 1}")
                self.assertEqual((answer.status, answer.body == data[begin:end]), (206, True))

    def test_a_hole_under_a_slow_reader(self):
        """The bytes are gone while a client reads: it gets the right ones or none, never zeros."""
        with temp_dir() as root, Node(root / "data") as node:
            data = content("slow", 24 * MIB)
            node.put("a", data)
            with contextlib.closing(node.socket()) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
                one.sendall(b"GET /fs/a HTTP/1.1\r\nHost: a\r\n\r\n")
                answer = http.client.HTTPResponse(one)
                answer.begin()
                got = answer.read(MIB)
                for file in (root / "data").rglob("*.seg"):
                    size = file.stat().st_size
                    with open(file, "r+b") as out:
                        out.write(bytes(size))
                with self.assertRaises(http.client.IncompleteRead) as cut:
                    got += answer.read()
                got += cut.exception.partial
            self.assertTrue(data.startswith(got), len(got))
            self.assertLess(len(got), len(data))


class Ending(unittest.TestCase):
    def test_restart_keeps_everything(self):
        with temp_dir() as root:
            node = Node(root / "data")
            node.start()
            for i in range(30):
                node.put(f"d{i % 3}/f{i}", content(i, i * 1000), "?mode=0600&mtime=5")
            node.delete("d1/f4")
            node.post("d2", {"op": "rename", "to": "e"})
            before = node.status()
            listing = node.get("/fs?depth=all").body
            log = node.get("/log/d0/f0").body
            node.put("e/x", b"before")
            cursor = before["cursor"]
            for how in (node.stop, node.kill):
                how()
                node.start()
                with node.watch(f"?since={cursor}") as watch:
                    self.assertEqual(watch.next()["path"], "e/x")
                node.delete("e/x")
                after = node.status()
                for key in ("node", "fingerprint", "entries"):
                    self.assertEqual(after[key], before[key])
                self.assertEqual(node.get("/fs?depth=all").body, listing)
                self.assertEqual(node.get("/log/d0/f0").body, log)
                self.assertEqual(node.get("/fs/e/f2").body, content(2, 2000))
                self.assertEqual(node.scrub()["fingerprint_matches"], True)
                cursor = node.status()["cursor"]
                node.put("e/x", b"again")
            node.stop()

    def test_signals(self):
        """Either one ends it, and so do several at once, with a client that is being served."""
        with temp_dir() as root:
            node = Node(root / "data")
            for signals in ("INT", "TERM", "INT INT", "TERM INT TERM", "INT TERM INT INT TERM"):
                node.start()
                node.put(signals, b"x")
                with node.watch() as watch:
                    for each in signals.split():
                        node.process.send_signal(getattr(signal, f"SIG{each}"))
                    self.assertIsNone(watch.next(60))
                    # Also while it is on its way out, and when it may be gone already.
                    with contextlib.suppress(ProcessLookupError):
                        node.process.send_signal(signal.SIGINT)
                node.stop(60)
                self.assertFalse((root / "data" / "socket").exists())

    def test_stop_while_busy(self):
        """Watchers, idle connections, uploads and downloads under way, changes that wait."""
        with temp_dir() as root:
            node = Node(root / "data").start()
            node.put("big", content("big", 8 * MIB))
            held = [node.watch() for _ in range(20)]
            held += [node.socket() for _ in range(20)]
            head = b"PUT /fs/up HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc"
            for text in (head, b"GET /fs HT", b"GET /fs/big HTTP/1.1\r\nHost: x\r\n\r\n"):
                for _ in range(10):
                    held.append(node.socket())
                    held[-1].sendall(text)
            acknowledged = []

            def client(number):
                connection = node.connect()
                for i in itertools.count():
                    path = f"c{number}/{i}"
                    try:
                        answer = node.request("PUT", f"/fs/{path}", b"x", connection=connection)
                    except (OSError, http.client.HTTPException):
                        connection.close()
                        return
                    check(answer.status == 201, "put", answer)
                    acknowledged.append(path)

            threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
            for each in threads:
                each.start()
            time.sleep(0.5)
            self.assertLess(node.stop(), 30 if harness.SANITIZED else 4)
            for each in threads:
                each.join()
            for each in held:
                if isinstance(each, Watch):
                    while each.next():  # all that was told, then the end of the stream
                        pass
                each.close()
            node.start()
            lines = node.get("/fs?depth=all", Accept="application/x-ndjson").body.splitlines()
            told = {json.loads(line)["path"] for line in lines}
            self.assertGreater(len(acknowledged), 10)
            self.assertEqual(set(acknowledged) - told, set())
            self.assertNotIn("up", told)
            node.stop()
            self.assertFalse((root / "data" / "socket").exists())

    def test_stop_again_and_again(self):
        with temp_dir() as root:
            for i in range(harness.scaled(10, 0.5)):
                node = Node(root / "data").start()
                node.put("x", str(i).encode())
                scrub = node.socket()
                scrub.sendall(b"POST /scrub HTTP/1.1\r\nHost: x\r\n\r\n")
                node.stop(5)
                scrub.close()


if __name__ == "__main__":
    harness.main()
