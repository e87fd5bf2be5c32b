# SPDX-License-Identifier: Apache-2.0
"""`artel get` from a node of this machine takes large files out of its store, and from the node whatever
the store does not give."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import threading
import unittest

import harness
from harness import BLOCK_BYTES, MIB, check, content, file_id, wait_for
from test_fetch import Fetching, members_of, why
from test_members import SOON_S
from trees import put, wait_on, wait_same

LARGE = 8 * MIB + 4097  # above what is worth the opening of a store
NOBODY = 65534


class Proxy:
    """Passes connections on to a node, and keeps what was asked there. `replace`: (old, new) bytes of
    its answers."""

    def __init__(self, node, replace=None):
        self.node, self.replace = node, replace
        self.sent = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:{}".format(self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client):
        with client, contextlib.suppress(OSError):
            with socket.create_connection(self.node.address) as server:
                requests = threading.Thread(target=self._pass, args=(client, server, True))
                requests.start()
                self._pass(server, client, False)
                requests.join()

    def _pass(self, source, target, is_request):
        with contextlib.suppress(OSError):
            while piece := source.recv(MIB):
                if is_request:
                    self.sent += piece
                elif self.replace:
                    piece = piece.replace(*self.replace)
                target.sendall(piece)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def asked(self):
        """What was asked for of files and fetches, without ids: {"/files/ID/data": times}."""
        asked = {}
        for target in re.findall(rb"GET (/(?:files|fetches)\S*) HTTP", self.sent):
            name = re.sub(r"[0-9a-f]{64}", "ID", target.decode())
            asked[name] = asked.get(name, 0) + 1
        return asked

    def ranges(self):
        """[begin, end) of the parts of content that were asked for, in blocks."""
        parts = re.findall(rb"Range: bytes=(\d+)-(\d+)", self.sent)
        return {(int(first) / BLOCK_BYTES, (int(last) + 1) / BLOCK_BYTES) for first, last in parts}

    def close(self):
        self.listener.close()


METADATA = {"/files/ID/metadata": 1}
FETCHED = METADATA | {"/fetches/ID": 1}
BY_NODE = METADATA | {"/files/ID/data": 1}


class GetLocal(Fetching):
    def proxy(self, node, replace=None):
        proxy = Proxy(node, replace)
        self.addCleanup(proxy.close)
        return proxy

    def get(self, url, path, wanted, *, target=None, start=harness.run):
        """Into a file; gives its bytes, which are checked."""
        target = target or self.root / "got"
        result = start("get", "--node", url, path, target)
        check(result.status == 0, "get", result)
        check(target.read_bytes() == wanted, "wrong bytes")
        target.unlink()

    def one_with(self, data):
        [node] = self.network(1)
        put(node, "f", data)
        return node

    def test_what_is_here_is_copied(self):
        data = content("here", LARGE)
        node = self.one_with(data)
        proxy = self.proxy(node)
        self.get(proxy.url, "f", data)
        self.assertEqual(proxy.asked(), METADATA)
        result = harness.run("get", "--node", proxy.url, "f", "-")
        self.assertEqual((result.status, result.out == data), (0, True), result.err)
        self.assertEqual(proxy.asked(), {"/files/ID/metadata": 2})
        self.get(f"unix:{node.data / 'socket'}", "f", data)

    def test_a_data_directory_of_a_relative_name(self):
        data = content("relative", LARGE)
        node = self.new()
        node.data = pathlib.Path(os.path.relpath(node.data))
        node.start()
        put(node, "f", data)
        proxy = self.proxy(node)
        self.get(proxy.url, "f", data)
        self.assertEqual(proxy.asked(), METADATA)

    def test_a_small_file_comes_by_the_node(self):
        data = content("small", MIB)
        proxy = self.proxy(self.one_with(data))
        self.get(proxy.url, "f", data)
        self.assertEqual(proxy.asked(), BY_NODE)

    def test_what_comes_is_copied(self):
        data = content("comes", LARGE)
        a, b = self.slow_network()
        put(a, "f", data)
        wait_same([a, b])
        proxy = self.proxy(b)
        self.get(proxy.url, "f", data)
        self.assertEqual(proxy.asked(), FETCHED)
        # As what somebody reads: it stays as what may make room.
        self.wait_holds(b, "f")
        self.assertEqual(b.status()["store"]["cache_bytes"], len(data))

    def test_who_waits_for_a_fetch_is_told_at_its_end(self):
        data = content("waits", LARGE)
        a, b = self.slow_network()
        put(a, "f", data)
        wait_same([a, b])
        answer = b.get(f"/fetches/{file_id(data)}")
        self.assertEqual((answer.status, answer.json), (200, {"id": file_id(data)}))
        self.assertEqual(why(b, "f")["here"], len(data))

    def test_a_part_that_is_here_is_not_fetched(self):
        data = content("part", LARGE)
        a, b = self.network(2)
        put(b, "begin", data[: 16 * BLOCK_BYTES])
        put(a, "f", data)
        wait_same([a, b])
        self.get(b.url, "f", data)
        came = b.metric("fetch_bytes_total") - b.metric("fetch_duplicate_bytes_total")
        self.assertEqual(came, len(data) - 16 * BLOCK_BYTES)

    def test_what_a_pipe_gets_comes_in_order(self):
        """Up to the first block that lacks out of the store, then by the node."""
        data = content("pipe", LARGE)
        a, b = self.slow_network()
        put(b, "begin", data[: 16 * BLOCK_BYTES])
        put(a, "f", data)
        wait_same([a, b])
        proxy = self.proxy(b)
        result = harness.run("get", "--node", proxy.url, "f", "-")
        self.assertEqual((result.status, result.out == data), (0, True), result.err)
        self.assertEqual(proxy.asked(), BY_NODE)

    def test_another_node_than_that_of_the_socket(self):
        data = content("other", LARGE)
        node = self.one_with(data)
        id_text = node.status()["node"].encode()
        proxy = self.proxy(node, (id_text, id_text[::-1]))
        self.get(proxy.url, "f", data)
        self.assertEqual(proxy.asked(), BY_NODE)

    def test_a_frozen_node_at_the_place_of_the_socket(self):
        """The node that is asked runs elsewhere, and here stands another one in the same directory."""
        data = content("frozen", LARGE)
        a, b = self.network(2)
        put(a, "f", data)
        proxy = self.proxy(a, (b"/n0/socket", b"/n1/socket"))
        with self.stopped(b):
            self.get(proxy.url, "f", data)
        self.assertEqual(proxy.asked(), BY_NODE)

    def test_a_store_of_another_format(self):
        data = content("format", LARGE)
        node = self.one_with(data)
        (node.data / "format").write_text("artel store 9999\n")
        proxy = self.proxy(node)
        self.get(proxy.url, "f", data)
        self.assertEqual(proxy.asked(), BY_NODE)
        shutil.rmtree(node.data / "index")  # the node has it open, nobody else can
        self.get(proxy.url, "f", data)

    @unittest.skipIf(os.geteuid() != 0, "only root can become another user")
    def test_a_user_who_may_not_read_the_store(self):
        data = content("user", LARGE)
        node = self.one_with(data)
        proxy = self.proxy(node)
        self.root.chmod(0o755)
        target = self.root / "theirs"
        target.mkdir()
        os.chown(target, NOBODY, NOBODY)

        def start(*arguments):
            return harness.finish(harness.start(*arguments, user=NOBODY, group=NOBODY,
                                                extra_groups=[]))  # fmt: skip

        self.get(proxy.url, "f", data, target=target / "got", start=start)
        self.assertEqual(proxy.asked(), BY_NODE)

    @unittest.skipIf(os.geteuid() != 0, "only root can give a file away")
    def test_a_store_of_a_third_user_is_not_trusted(self):
        data = content("third", LARGE)
        node = self.one_with(data)
        os.chown(node.data / "index" / "data.mdb", NOBODY, NOBODY)
        proxy = self.proxy(node)
        self.get(proxy.url, "f", data)
        self.assertEqual(proxy.asked(), BY_NODE)

    def test_large_files_of_a_directory(self):
        files = {f"d/{name}": content(name, size)
                 for name, size in (("small", 5), ("in/large", 32 * MIB), ("in/less", LARGE))}
        a, b = self.network(2)
        for path, data in files.items():
            put(a, path, data)
        wait_same([a, b])
        for node in (a, b):
            proxy = self.proxy(node)
            target = self.root / f"of-{node.name}"
            result = harness.run("get", "--node", proxy.url, "d", target)
            check(result.status == 0, "get", result)
            got = {f"d/{path.relative_to(target)}": path for path in target.rglob("*")}
            self.assertEqual({path for path in got if got[path].is_file()}, set(files))
            for path, data in files.items():
                check(got[path].read_bytes() == data, "wrong bytes", path)
            self.assertIn(b"GET /fs/d?below=33554432 HTTP", proxy.sent)
            self.assertNotIn("/files/ID/data", proxy.asked())

    def test_a_stream_without_large_files(self):
        node = self.network(1)[0]
        files = {f"f{size}": content(size, size) for size in (0, 4, 5, 6)}
        for name, data in files.items():
            put(node, f"d/{name}", data)
        accept = {"Accept": "application/x-tar"}
        for below, names in ((1, {"f0"}), (5, {"f0", "f4"}), (2**64 - 1, set(files))):
            answer = node.get(f"/fs/d?below={below}", **accept)
            self.assertEqual(members_of(answer), {name: files[name] for name in names})
        for below in ("0", "x", "-1", ""):
            answer = node.get(f"/fs/d?below={below}", **accept)
            self.assertEqual((answer.status, answer.error), (400, "bad_query"))

    def damage(self, node, data, *blocks):
        begins = [block * BLOCK_BYTES for block in blocks]
        pieces = [data[begin : begin + BLOCK_BYTES] for begin in begins]
        harness.Store(node.data).damage(pieces)

    def test_a_damaged_block_comes_from_elsewhere(self):
        data = content("damaged", LARGE)
        a, b = self.network(2)
        put(a, "f", data)
        wait_same([a, b])
        self.get(b.url, "f", data)
        self.wait_holds(b, "f")
        self.damage(b, data, 3, 4, 20)
        proxy = self.proxy(b)
        self.get(proxy.url, "f", data)
        # Two runs of blocks that are not as they should be, and nothing else; an answer that meets
        # more damage in its middle is asked for again from there on.
        self.assertEqual(proxy.ranges() | {(4, 5)}, {(3, 5), (4, 5), (20, 21)})
        self.assertEqual(b.status()["store"]["corrupt"], 3)

    def test_a_damaged_block_that_nobody_else_has(self):
        data = content("lost", LARGE)
        node = self.one_with(data)
        self.damage(node, data, 7)
        target = self.root / "got"
        result = harness.run("get", "--node", node.url, "f", target)
        self.assertEqual(result.status, 1)
        self.assertIn("f: block 7 of", result.err)
        self.assertFalse(target.exists())

    def test_what_is_evicted_while_it_comes(self):
        files = {f"f{i}": content(f"evicted {i}", LARGE) for i in range(3)}
        a = self.network(1)[0]
        b = self.new("--cache-bytes", str(2 * MIB), "--join", a.at).start()
        self.wait_all_alive()
        for path, data in files.items():
            put(a, path, data)
        wait_same([a, b])
        for path, data in files.items():
            self.get(b.url, path, data)
        wait_on([b], lambda: b.status()["store"]["cache_bytes"] <= 2 * MIB, "it makes room")
        for path, data in files.items():
            self.get(b.url, path, data)

    def slow_network(self, rate="2M"):
        """Two nodes; the second takes LARGE bytes in some seconds."""
        a = self.network(1)[0]
        b = self.new("--download-rate", rate, "--join", a.at).start()
        self.wait_all_alive()
        return a, b

    def begin_slow_get(self, data, rate="2M"):
        a, b = self.slow_network(rate)
        put(a, "f", data)
        wait_same([a, b])
        target = self.root / "got"
        get = harness.start("get", "--node", b.url, "f", target)
        self.addCleanup(harness.stop, get)
        wait_on([b], lambda: why(b, "f").get("blocks_here", 0) > 4, "some of it comes")
        self.assertEqual(why(b, "f")["readers"], 1)
        return a, b, get, target

    def is_right_or_error(self, result, data, target):
        if result.status == 0:
            self.assertEqual(target.read_bytes() == data, True)
        else:
            self.assertFalse(target.exists())
            self.assertTrue(result.err)

    def test_a_node_that_is_killed(self):
        data = content("killed", LARGE)
        _, b, get, target = self.begin_slow_get(data)
        b.kill()
        result = harness.finish(get)
        self.assertNotEqual(result.status, 0)
        self.is_right_or_error(result, data, target)

    def test_a_node_that_is_killed_and_comes_back(self):
        data = content("back", LARGE)
        _, b, get, target = self.begin_slow_get(data)
        b.kill()
        b.start()
        self.is_right_or_error(harness.finish(get), data, target)
        self.get(b.url, "f", data)

    def test_who_leaves_ends_the_fetch(self):
        data = content("leaves", 128 * MIB)  # for more than two minutes
        _, b, get, target = self.begin_slow_get(data, "1M")
        get.send_signal(signal.SIGKILL)
        wait_for(lambda: why(b, "f").get("readers") != 1, 2 * SOON_S, "it is not waited for any more")
        self.assertNotEqual(why(b, "f")["state"], "done")
        self.assertFalse(target.exists())


if __name__ == "__main__":
    harness.main()
