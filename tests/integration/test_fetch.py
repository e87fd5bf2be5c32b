# SPDX-License-Identifier: Apache-2.0
"""Real nodes give content that only others have: it is fetched while the answer goes out."""

import contextlib
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import tarfile
import threading
import time

import harness
from harness import BLOCK_BYTES, MIB, check, content, file_id, metadata_text, wait_for
from test_members import SOON_S, Nodes
from test_where import UNKNOWN, holders, where
from trees import put, put_tar, wait_on, wait_same


def get(node, path, **headers):
    answer = node.get(f"/fs/{path}", **headers)
    check(answer.status in (200, 206), "get", path, answer)
    return answer.body


def fetches(node):
    answer = node.get("/fetches")
    check(answer.status == 200, "fetches", answer)
    return {each["id"]: each for each in answer.json["fetches"]}


def why(node, what):
    answer = node.get(f"/why/{what}")
    check(answer.status == 200, "why", answer)
    return answer.json


def members_of(answer):
    """{name: data} of a directory that came as a tar stream."""
    check(answer.status == 200, "tar", answer)
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar if each.isfile()}


class Fetching(Nodes):
    def wait_holds(self, node, path):
        wait_on(self.nodes, lambda: holders(where(node, path)).get(node.name) == "complete",
                f"{node.name} holds {path}")

    @contextlib.contextmanager
    def stopped(self, node):
        node.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            node.signal(signal.SIGCONT)

    def wait_readers(self, node, count):
        """Until so many answers wait; then there is not one byte of them."""
        wait_on([node], lambda: sum(each["readers"] for each in fetches(node).values()) == count,
                "answers wait")


class OnDemand(Fetching):
    def test_content_of_another_node(self):
        nodes = self.network(3)
        a, b, c = nodes
        sizes = (0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * MIB + 77)
        files = {f"of/{size}": content(size, size) for size in sizes}
        for path, data in files.items():
            put(a, path, data)
        wait_same(nodes)
        for path, data in files.items():
            answer = b.get(f"/fs/{path}")
            self.assertEqual((answer.status, answer.body == data), (200, True), path)
            self.assertEqual(answer.headers["ETag"], f'"{file_id(data)}"')
            self.assertEqual(answer.headers["X-Artel-Id"], file_id(data))
            self.assertEqual(answer.headers["Content-Length"], str(len(data)))
            self.wait_holds(b, path)
            self.assertEqual(get(b, path), data)  # and from here

    def test_a_part_of_it(self):
        a, b, c = self.network(3)
        data = content("part", 7 * BLOCK_BYTES + 5)
        put(a, "file", data)
        wait_same([a, b, c])
        begin, end = 3 * BLOCK_BYTES - 10, 4 * BLOCK_BYTES + 10
        answer = b.get("/fs/file", Range=f"bytes={begin}-{end - 1}")
        self.assertEqual((answer.status, answer.body == data[begin:end]), (206, True))
        self.assertEqual(answer.headers["Content-Range"], f"bytes {begin}-{end - 1}/{len(data)}")
        self.assertEqual(c.get("/fs/file", Range="bytes=-5").body, data[-5:])
        answer = c.get("/fs/file", Range=f"bytes={len(data)}-")
        self.assertEqual((answer.status, answer.error), (416, "bad_range"))

    def test_by_its_id(self):
        a, b, c = self.network(3)
        data = content("id", 3 * BLOCK_BYTES)
        put(a, "file", data)
        wait_same([a, b, c])
        self.assertEqual(b.get(f"/files/{file_id(data)}/metadata").body.decode(),
                         metadata_text(data))
        self.assertEqual(c.get(f"/files/{file_id(data)}/data").body, data)

    def test_head_and_conditions_fetch_nothing(self):
        a, b = self.network(2)
        data = content("head", 2 * BLOCK_BYTES)
        put(a, "file", data)
        wait_same([a, b])
        answer = b.request("HEAD", "/fs/file")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["Content-Length"], str(len(data)))
        self.assertEqual(answer.headers["X-Artel-Id"], file_id(data))
        etag = f'"{file_id(data)}"'
        self.assertEqual(b.get("/fs/file", If_None_Match=etag).status, 304)
        self.assertEqual(b.get("/fs/file", If_Match=f'"{UNKNOWN}"').status, 412)
        self.assertEqual(b.request("HEAD", f"/files/{file_id(data)}/data").status, 404)
        self.assertEqual(self.artel("stat", b, "file").status, 0)
        self.assertEqual(fetches(b), {})
        self.assertEqual(why(b, "file")["state"], "absent")
        self.assertEqual(holders(where(b, "file", "?all=1")), {"n0": "complete"})

    def test_who_fetched_it_gives_it_to_others(self):
        a, b, c = self.network(3)
        data = content("others", 5 * MIB)
        put(a, "file", data)
        wait_same([a, b, c])
        self.assertEqual(get(b, "file"), data)
        self.wait_holds(b, "file")
        a.kill()
        self.wait_states(self.states(n0="unreachable"), [b, c], "n0 is missed")
        self.assertEqual(get(c, "file"), data)

    def test_nobody_has_it(self):
        a, b, c = self.network(3)
        data = content("nobody", 5 * BLOCK_BYTES)
        put(a, "dir/file", data)
        put(b, "here", b"here")
        wait_same([a, b, c])
        a.kill()
        self.wait_states(self.states(n0="unreachable"), [b, c], "n0 is missed")
        entry = {"name": "n0", "zone": "z", "address": a.at, "why": "unreachable"}
        for answer, path in ((b.get("/fs/dir/file"), None),
                             (b.get("/fs/dir", Accept="application/x-tar"), "dir/file")):
            self.assertEqual((answer.status, answer.error), (404, "content_not_here"), answer)
            detail = answer.json["detail"]
            self.assertEqual(detail["id"], file_id(data))
            self.assertEqual(detail.get("path"), path)
            self.assertEqual([{key: each[key] for key in entry} for each in detail["not_asked"]],
                             [entry])
            self.assertIn(f"n0 (zone z, {a.at}, unreachable)", answer.json["message"])
        answer = b.get(f"/files/{UNKNOWN}/data")
        self.assertEqual((answer.status, answer.error), (404, "not_found"), answer)
        for path in ("dir/file", "dir"):
            result = self.artel("get", c, path, self.root / "got")
            self.assertEqual(result.status, 1, result)
            self.assertIn(f"n0 (zone z, {a.at}, unreachable)", result.err)
            self.assertIn("no node that could be asked has the content", result.err)
            self.assertFalse((self.root / "got").exists())
        self.assertEqual(get(c, "here"), b"here")
        a.start()
        self.wait_all_alive()
        self.assertEqual(get(b, "dir/file"), data)

    def test_equal_requests_share_a_fetch(self):
        a, b = self.network(2)
        data = content("equal", 8 * MIB)
        put(a, "file", data)
        wait_same([a, b])
        bodies = []
        threads = [threading.Thread(target=lambda: bodies.append(get(b, "file")))
                   for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([body == data for body in bodies], [True] * 10)
        self.wait_holds(b, "file")
        wait_on([b], lambda: why(b, "file")["state"] == "done", "the fetch is over")
        # What a block costs twice is little; ten times all of it is not.
        self.assertLess(why(b, "file")["received"], 2 * len(data))


class Waiting(Fetching):
    def test_an_answer_waits_for_the_first_bytes(self):
        a, b = self.network(2)
        data = content("waits", 3 * BLOCK_BYTES)
        put(a, "file", data)
        wait_same([a, b])
        with contextlib.closing(b.connect()) as connection:
            with self.stopped(a):
                connection.request("GET", "/fs/file")
                self.wait_readers(b, 1)
                self.assertEqual(select.select([connection.sock], [], [], 0)[0], [])
            answer = connection.getresponse()
            self.assertEqual((answer.status, answer.read() == data), (200, True))

    def test_a_node_ends_while_answers_wait(self):
        a, b = self.network(2)
        put(a, "file", content("ends", 3 * BLOCK_BYTES))
        put_tar(a, "dir", {"in": content("in", BLOCK_BYTES)})
        wait_same([a, b])
        urls = ["/fs/file", "/fs/dir", f"/files/{file_id(content('ends', 3 * BLOCK_BYTES))}/data"]
        with contextlib.ExitStack() as stack, self.stopped(a):
            connections = [stack.enter_context(contextlib.closing(b.connect())) for _ in range(9)]
            for i, connection in enumerate(connections):
                connection.request("GET", urls[i % 3], headers={"Accept": "application/x-tar"})
            self.wait_readers(b, 9)
            b.stop()
            for connection in connections:
                answer = connection.getresponse()
                self.assertEqual((answer.status, json.loads(answer.read())["error"]),
                                 (503, "stopped"))

    def test_who_leaves_wants_nothing_more(self):
        a, b = self.network(2)
        data = content("leaves", 64 * MIB)
        put(a, "file", data)
        wait_same([a, b])
        with contextlib.closing(b.socket()) as one:
            one.sendall(b"GET /fs/file HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(one.recv(100).startswith(b"HTTP/1.1 200 "))
        wait_on([b], lambda: sum(each["readers"] for each in fetches(b).values()) == 0,
                "it is not read any more")
        self.assertEqual(get(b, "file"), data)


    def test_who_comes_back_goes_on(self):
        """What came for somebody who left is kept, for the next one who wants it; also after a
        restart, which begins nothing by itself."""
        a = self.new().start()
        b = self.new("--join", a.at, "--download-rate", "1M").start()
        self.wait_all_alive()
        data = content("back", 16 * MIB)
        put(a, "file", data)
        wait_same([a, b])
        which = file_id(data)
        with contextlib.closing(b.socket()) as one:
            one.sendall(b"GET /fs/file HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(one.recv(100).startswith(b"HTTP/1.1 200 "))
            wait_on([b], lambda: fetches(b)[which].get("here", 0) > 0, "some of it is here")
        wait_on([b], lambda: not fetches(b), "it is not fetched any more")
        came = why(b, which)["here"]
        self.assertGreater(came, 0)
        self.assertLess(came, len(data))
        self.assertEqual(b.metrics()["artel_fetch_files_aside"], 1)
        b.stop()
        b.more = b.more[:-2]  # without the limit
        b.start()
        self.wait_all_alive()
        self.assertEqual(fetches(b), {})
        self.assertEqual(b.metrics()["artel_fetch_files_aside"], 1)
        self.assertEqual(get(b, "file"), data)
        self.assertEqual(b.metrics()["artel_fetch_files_aside"], 0)
        self.assertLessEqual(why(b, which)["received"], len(data) - came)


class Rates(Fetching):
    """A limit says how fast at most, so only that is asserted."""
    RATE = MIB
    LENGTH = 3 * MIB
    LEAST_S = 2  # what was asked for before the limit is reached is ahead of it

    def fetched_in_s(self, receiver, path, data):
        began = time.monotonic()
        self.assertEqual(get(receiver, path), data)
        return time.monotonic() - began

    def test_of_what_comes(self):
        a = self.new().start()
        b = self.new("--join", a.at, "--download-rate", "1M").start()
        self.wait_all_alive()
        data = content("down", self.LENGTH)
        put(a, "file", data)
        wait_same([a, b])
        self.assertGreaterEqual(self.fetched_in_s(b, "file", data), self.LEAST_S)
        back = content("back", self.LENGTH)  # the other way there is none
        put(b, "back", back)
        wait_same([a, b])
        self.assertEqual(get(a, "back"), back)

    def test_of_what_goes(self):
        """For all receivers together; as a setting in a file."""
        config = os.path.join(self.root, "config")
        with open(config, "w") as file:
            file.write("upload-rate = 1M\n")
        a = self.new("--config", config).start()
        b, c = (self.new("--join", a.at).start() for _ in range(2))
        self.wait_all_alive()
        data = [content(name, self.LENGTH // 2) for name in ("up", "too")]
        put(a, "b", data[0])
        put(a, "c", data[1])
        wait_same(self.nodes)
        began = time.monotonic()
        threads = [threading.Thread(target=get, args=(b, "b")),
                   threading.Thread(target=get, args=(c, "c"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertGreaterEqual(time.monotonic() - began, self.LEAST_S)
        self.assertEqual([get(b, "b"), get(c, "c")], data)

    def test_what_makes_no_sense(self):
        for option in ("--download-rate", "--upload-rate"):
            for rate in ("fast", "63K", "2T", "-1", ""):
                done = harness.run("node", "--data", os.path.join(self.root, "data"), option, rate)
                self.assertEqual(done.status, 2, (option, rate))
                self.assertIn(option, done.err)


class Directories(Fetching):
    def is_same(self, files, expected):
        """As assertEqual(), which would print all of it."""
        self.assertEqual(set(files), set(expected))
        self.assertEqual([name for name in files if files[name] != expected[name]], [])

    def test_a_directory_as_a_stream(self):
        a, b, c = self.network(3)
        files = {f"{i % 7}/{i}": content(i, i * 997) for i in range(300)}
        files["large"] = content("large", 9 * MIB)
        put_tar(a, "dir", files)
        put(b, "dir/of-b", b"of b")
        expected = files | {"of-b": b"of b"}
        wait_same([a, b, c])
        self.is_same(members_of(c.get("/fs/dir", Accept="application/x-tar")), expected)
        for node in (b, c):
            root = self.root / f"got-{node.name}"
            result = self.artel("get", node, "dir", root)
            self.assertEqual(result.status, 0, result)
            self.is_same({str(each.relative_to(root)): each.read_bytes()
                          for each in root.rglob("*") if each.is_file()}, expected)

    def test_a_file_behind_the_first_is_nowhere(self):
        """The stream has begun: it breaks off, and is not taken for whole."""
        a, b, c = self.network(3)
        files = {f"{i:04}": content(i, 1000) for i in range(1200)}
        put_tar(a, "dir", files)
        wait_same([a, b, c])  # or the two change it at once, and either may be shown
        put(c, "dir/1100", content("lost", 3 * BLOCK_BYTES))
        wait_same([a, b, c])
        c.kill()
        self.wait_states(self.states(n2="unreachable"), [a, b], "n2 is missed")
        result = self.artel("get", b, "dir", self.root / "got")
        self.assertEqual(result.status, 1, result)
        self.assertFalse((self.root / "got").exists())
        wait_for(lambda: b"event=tar_broken_off path=dir/1100" in b.log, SOON_S, "it is logged")


class Background(Fetching):
    def test_a_fetch_without_a_reader(self):
        a, b = self.network(2)
        data = content("background", 4 * MIB)
        put(a, "file", data)
        wait_same([a, b])
        each = file_id(data)
        body = json.dumps({"op": "start", "id": each, "keep": True}).encode()
        answer = b.request("POST", "/fetches", body=body)
        self.assertEqual((answer.status, answer.json), (202, {"id": each, "reason": "copy"}))
        self.wait_holds(b, "file")
        wait_on([b], lambda: why(b, "file")["state"] == "done", "it is over")
        told = why(b, "file")
        self.assertEqual((told["path"], told["id"], told["length"]), ("file", each, len(data)))
        self.assertEqual(told["blocks"], len(data) // BLOCK_BYTES)
        self.assertGreaterEqual(told["received"], len(data))
        [source] = told["sources"]
        self.assertEqual((source["name"], source["state"], source["bad"]), ("n0", "complete", 0))
        self.assertEqual(source["received"], told["received"])
        self.assertFalse(source["shunned"])
        self.assertEqual(why(b, each)["state"], "done")
        self.assertEqual(why(a, "file")["state"], "here")
        self.assertEqual(fetches(b), {})

    def test_many_are_begun_at_once(self):
        a, b = self.network(2)
        files = {f"d/f{i}": content(f"many {i}", 5000 + i) for i in range(300)}
        for path, data in files.items():
            put(a, path, data)
        wait_same([a, b])
        ids = [file_id(data) for data in files.values()]
        body = json.dumps({"op": "start", "ids": ids, "keep": True}).encode()
        answer = b.request("POST", "/fetches", body=body)
        self.assertEqual((answer.status, answer.json), (202, {"count": 300, "reason": "copy"}))
        for path in files:
            self.wait_holds(b, path)
        wait_on([b], lambda: fetches(b) == {}, "all are over")

    def test_the_list_comes_in_pieces(self):
        a = self.new().start()
        b = self.new("--join", a.at, "--download-rate", "64K").start()  # so that nothing ends
        self.wait_all_alive()
        files = {f"{i:02}": content(("pieces", i), 4 * BLOCK_BYTES) for i in range(30)}
        put_tar(a, "dir", files)
        wait_same([a, b])
        ids = {name: file_id(data) for name, data in files.items()}
        read = sorted(ids[name] for name in ("03", "14", "25"))
        for each in ids.values():
            answer = b.request("POST", "/fetches", json.dumps({"op": "start", "id": each}))
            self.assertEqual(answer.status, 202)
        with contextlib.ExitStack() as stack:
            for name in ("03", "14", "25"):
                connection = stack.enter_context(contextlib.closing(b.connect()))
                connection.request("GET", f"/fs/dir/{name}")
            self.wait_readers(b, 3)
            self.assertEqual(self.listed(b, limit=7), sorted(ids.values()))
            self.assertEqual(self.listed(b, limit=1000), sorted(ids.values()))
            self.assertEqual(self.listed(b, limit=2, read=1), read)
            self.assertEqual(self.listed(b, limit=3, read=0), sorted(ids.values()))

    def listed(self, node, limit, read=None):
        """The ids of the whole list, in its order, by as many requests as it takes."""
        found = []
        after = ""
        while after is not None:
            query = f"?limit={limit}" + (f"&after={after}" if after else "")
            query += "" if read is None else f"&read={read}"
            answer = node.get(f"/fetches{query}")
            self.assertEqual(answer.status, 200, answer)
            self.assertLessEqual(len(answer.json["fetches"]), limit)
            found += [each["id"] for each in answer.json["fetches"]]
            after = answer.json.get("next")
        return found

    def test_it_is_given_up(self):
        a, b = self.network(2)
        data = content("given up", 4 * MIB)
        put(a, "file", data)
        wait_same([a, b])
        each = file_id(data)
        with contextlib.closing(b.connect()) as connection, self.stopped(a):
            connection.request("GET", "/fs/file")
            self.wait_readers(b, 1)
            self.assertEqual(b.request("DELETE", f"/fetches/{each}").status, 200)
            answer = connection.getresponse()
            self.assertEqual((answer.status, json.loads(answer.read())["error"]), (503, "stopped"))
        wait_on([b], lambda: each not in fetches(b), "it is gone")
        wait_on([b], lambda: b.get("/fs/file").body == data, "it is fetched anew")

    def test_what_makes_no_sense_is_refused(self):
        [a] = self.network(1)
        put(a, "dir/file", b"x")
        for body in (b"", b"{}", b'{"op":"start"}', b'{"op":"start","id":"x"}', b'{"op":"stop"}',
                     b'{"op":"start","id":7}'):
            answer = a.request("POST", "/fetches", body=body)
            self.assertEqual((answer.status, answer.error), (400, "bad_body"), body)
        for url, status, code in (
                ("/fetches?limit=0", 400, "bad_query"), ("/fetches?limit=10001", 400, "bad_query"),
                ("/fetches?after=x", 400, "bad_query"), ("/why/dir", 409, "is_directory"),
                ("/why/none", 404, "not_found"), ("/why/dir/file/x", 404, "not_found")):
            answer = a.get(url)
            self.assertEqual((answer.status, answer.error), (status, code), url)
        self.assertEqual(why(a, UNKNOWN), {"id": UNKNOWN, "state": "absent"})
        self.assertEqual(why(a, "dir/file")["state"], "here")
        self.assertEqual(a.request("DELETE", f"/fetches/{UNKNOWN}").status, 200)
        self.assertEqual(a.request("DELETE", "/fetches/x").error, "bad_id")


class CommandLine(Fetching):
    def test_why(self):
        a, b = self.network(2)
        data = content("why", 4 * MIB)
        put(a, "file", data)
        wait_same([a, b])
        result = self.artel("why", b, "file")
        self.assertEqual(result.status, 0, result)
        self.assertIn("state     absent: is not on this node", result.out.decode())
        result = self.artel("get", b, "file", "-")
        self.assertEqual((result.status, result.out == data), (0, True), result.err)
        wait_on([b], lambda: why(b, "file")["state"] == "done", "it is over")
        out = self.artel("why", b, "file").out.decode()
        self.assertIn("path      file\n", out)
        self.assertIn(f"id        {file_id(data)}\n", out)
        self.assertIn("state     done: was fetched\n", out)
        self.assertIn("here      4.0 MiB of 4.0 MiB, 16 of 16 blocks\n", out)
        self.assertRegex(out, rf"(?m)^  n0 +z +{a.at} +complete +4\.0 MiB ")
        self.assertEqual(json.loads(self.artel("why", b, "--json", file_id(data)).out)["state"],
                         "done")
        self.assertEqual(self.artel("why", b).out, b"")
        self.assertEqual(self.artel("why", b, "none").status, 1)

    def test_why_of_a_small_file(self):
        a, b = self.network(2)
        data = content("why small", 3000)
        put(a, "file", data)
        wait_same([a, b])
        self.assertEqual(get(b, "file") == data, True)
        wait_on([b], lambda: why(b, "file")["state"] == "done", "it is over")
        out = self.artel("why", b, "file").out.decode()
        self.assertRegex(out, rf"(?m)^  n0 +z +{a.at} +complete +2\.9 KiB ")

    def read_terminal(self, master, pattern):
        """What is written there until it matches, or up to its end."""
        seen = b""
        deadline = time.monotonic() + SOON_S
        while not pattern or not re.search(pattern, seen):
            check(time.monotonic() < deadline, f"no {pattern}", seen)
            try:
                piece = os.read(master, 4096)
            except OSError:  # nobody has it open any more
                piece = b""
            check(piece or not pattern, f"it ended without {pattern}", seen)
            if not piece:
                break
            seen += piece
        return seen

    def test_the_line_of_progress_tells_of_the_fetch(self):
        a, b = self.network(2)
        data = content("progress", 4 * MIB)
        put(a, "file", data)
        wait_same([a, b])
        master, slave = pty.openpty()
        with self.stopped(a):
            process = subprocess.Popen(
                [harness.ARTEL, "get", "--node", b.url, "file", self.root / "got"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave)
            os.close(slave)
            seen = self.read_terminal(master, rb"searching|from 1 node")
        seen += self.read_terminal(master, None)
        os.close(master)
        self.assertEqual(process.wait(SOON_S), 0, seen)
        self.assertEqual((self.root / "got").read_bytes(), data)


if __name__ == "__main__":
    harness.main()
