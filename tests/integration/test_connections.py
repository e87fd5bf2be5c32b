# SPDX-License-Identifier: Apache-2.0
"""Many connections at once: slow ones are shed, idle ones are cheap, too many are refused."""

import contextlib
import os
import resource
import select
import signal
import time
import unittest

import harness
from harness import KIB, temp_dir
from node import Node, raise_file_limit, read_until_quiet

FILES_EXTRA = 500  # of the test itself


def sources(count):
    """Addresses of this machine to connect from: one has not enough ports."""
    return [f"127.0.0.{2 + i // 10000}" for i in range(count)]


def connect(node, count):
    """Many connections that the node has taken."""
    sockets = [node.socket(source) for source in sources(count)]
    # They are accepted in order, so this one is the last.
    with contextlib.closing(node.socket("127.0.0.250")) as last:
        last.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        read_until_quiet(last)
    return sockets


def connect_idle(node, count):
    """Many connections that have had an answer each, and are between requests."""
    sockets = connect(node, count)
    for each in sockets:
        each.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    for each in sockets:
        read_answer(each)
    return sockets


def read_answer(sock):
    text = b""
    while not text.endswith(b"\r\n\r\nok\n"):
        got = sock.recv(4096)
        if not got:
            raise AssertionError(f"ended after {text}")
        text += got


def close(sockets):
    for each in sockets:
        each.close()


def ended(sockets):
    """Those that the other side has closed."""
    poll = select.poll()
    by_fd = {}
    for each in sockets:
        poll.register(each, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        by_fd[each.fileno()] = each
    return {by_fd[fd] for fd, _ in poll.poll(0)}


class Slow(unittest.TestCase):
    def test_a_byte_a_second(self):
        count = harness.scaled(1000, 0.2)
        raise_file_limit(count + FILES_EXTRA)
        head = b"PUT /fs/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        late = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /he"
        with temp_dir() as root:
            options = ("--header-timeout", "3", "--body-timeout", "3")
            with Node(root / "data", *options) as node:
                idle = connect_idle(node, 10)
                slow = connect(node, count)
                for i, each in enumerate(slow):
                    if i % 3 == 0:
                        each.sendall(head)
                    elif i % 3 == 1:
                        each.sendall(late)
                silent = connect(node, 10)
                left, waits, begin = set(slow), [], time.monotonic()
                while left and time.monotonic() - begin < 20:
                    for each in left:
                        with contextlib.suppress(OSError):
                            each.send(b"x")
                    for _ in range(10):
                        asked = time.monotonic()
                        self.assertEqual(node.get("/healthz").status, 200)
                        self.assertIn(node.put("fast", b"y").status, (200, 201))
                        waits.append(time.monotonic() - asked)
                        time.sleep(0.09)
                    left -= ended(left)
                self.assertEqual(len(left), 0, "still there")
                self.assertGreater(time.monotonic() - begin, 2.5, "too early")
                self.assertLess(max(waits), 10 if harness.SANITIZED else 1)
                self.assertEqual(ended(idle), set(), "an idle one has done nothing wrong")
                harness.wait_for(lambda: len(ended(silent)) == 10, 10, "the silent ones are shed")
                self.assertEqual(node.get("/fs/slow").status, 404)
                self.assertGreaterEqual(node.metrics()["artel_http_connections_shed_total"], count)
                close(slow + idle + silent)

    def test_a_byte_a_second_over_the_unix_socket(self):
        """In the first request, in the headers of a second one, in a body."""
        ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        body = b"PUT /fs/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        begins = [b"", b"GET /healthz HTTP/1.1\r\nHo", ask + ask[:-10], body]
        options = ("--header-timeout", "2", "--body-timeout", "2")
        with temp_dir() as root, Node(root / "data", *options) as node:
            slow, idle = [], []
            for begin in begins * 5:
                slow.append(node.local_socket())
                slow[-1].sendall(begin)
            for _ in range(5):
                idle.append(node.local_socket())
                idle[-1].sendall(ask)
                read_until_quiet(idle[-1])
            left = set(slow)

            def drip():
                for each in left:
                    with contextlib.suppress(OSError):
                        each.send(b"x")
                left.difference_update(ended(left))
                return not left

            begin = time.monotonic()
            harness.wait_for(drip, 20, "they are shed")
            self.assertGreater(time.monotonic() - begin, 1.5, "too early")
            self.assertEqual(ended(idle), set(), "an idle one has done nothing wrong")
            self.assertGreaterEqual(node.metrics()["artel_http_connections_shed_total"], len(slow))
            close(slow + idle)

    def test_a_first_line_over_the_unix_socket(self):
        """Of a request after the first it may take as long as an idle connection."""
        ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        options = ("--header-timeout", "60", "--idle-timeout", "2")
        with temp_dir() as root, Node(root / "data", *options) as node:
            slow = node.local_socket()
            slow.sendall(ask)
            read_until_quiet(slow)

            def drip():
                with contextlib.suppress(OSError):
                    slow.send(b"G")
                return ended([slow])

            harness.wait_for(drip, 20, "it is shed")
            close([slow])

    def test_a_slow_but_steady_body_is_served(self):
        with temp_dir() as root, Node(root / "data", "--body-timeout", "1") as node:
            with contextlib.closing(node.socket()) as sock:
                head = b"PUT /fs/s HTTP/1.1\r\nHost: x\r\nContent-Length: 409600\r\n\r\n"
                sock.sendall(head)
                for _ in range(40):
                    sock.sendall(bytes(10 * KIB))
                    time.sleep(0.1)
                self.assertRegex(read_until_quiet(sock), b"^HTTP/1.1 201")

    def test_idle_ones_are_closed(self):
        with temp_dir() as root, Node(root / "data", "--idle-timeout", "1") as node:
            idle = connect_idle(node, 20) + connect(node, 20)
            harness.wait_for(lambda: len(ended(idle)) == 40, 60, "all are closed")
            close(idle)


class Many(unittest.TestCase):
    def count(self, wanted, node):
        """As many connections as this machine lets us and the node have. The hard limit of open
        files is the same for both, and only a privileged process may raise it."""
        count = harness.scaled(wanted, 0.1)
        had = raise_file_limit(count + FILES_EXTRA)
        serves = node.status()["connections_max"]
        least = min(count, had - FILES_EXTRA, serves - 100)
        if least < count:
            print(f"{had} files may be open, the node serves {serves}: {least} connections"
                  f" instead of {count}")  # fmt: skip
        return least

    def test_idle(self):
        with temp_dir() as root, Node(root / "data") as node:
            count = self.count(20000, node)
            files = node.files()
            close(connect_idle(node, 100))  # what is allocated once
            before = node.private_bytes()
            idle = connect_idle(node, count)
            each_bytes = (node.private_bytes() - before) / count
            print(f"{count} idle connections: {each_bytes / KIB:.1f} KiB each", flush=True)
            self.assertEqual(ended(idle), set())
            begin = time.monotonic()
            for i in range(100):
                self.assertEqual(node.put("x", b"y").status, 200 if i else 201)
            self.assertLess(time.monotonic() - begin, 5 * (10 if harness.SANITIZED else 1))
            step = max(1, count // 2000)
            for each in idle[::step]:
                each.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            for each in idle[::step]:
                text = read_until_quiet(each)
                self.assertTrue(text.endswith(b"\r\n\r\nok\n"), (text, node.metrics()))
            if not harness.SANITIZED:
                self.assertLess(each_bytes, 20 * KIB)
            close(idle)
            harness.wait_for(lambda: node.files() <= files + 5, 20, "all are closed")

    def test_limit(self):
        with temp_dir() as root, Node(root / "data", "--max-connections", "50") as node:
            files = node.files()
            held = connect(node, 49)
            harness.wait_for(lambda: node.get("/healthz").status == 200, 5, "room for one")
            harness.wait_for(lambda: node.files() <= files + 49, 20, "that one has gone")
            held.append(node.socket())
            held[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            read_until_quiet(held[-1])
            for i in range(300):
                if i % 3 == 2:
                    answer = node.put("x", bytes(200 * KIB))  # sends before it looks
                else:
                    answer = node.get("/healthz")
                self.assertEqual((answer.status, answer.error), (503, "busy"))
            close(held)
            harness.wait_for(lambda: node.get("/healthz").status == 200, 5, "room again")
            refused = node.metrics()["artel_http_connections_refused_total"]
            self.assertGreaterEqual(refused, 300)
            harness.wait_for(lambda: node.metrics()["artel_http_connections"] == 1, 5, "one left")

    def test_few_files(self):
        """Fewer files than connections: 503 too, and the store goes on."""
        with temp_dir() as root:
            old = resource.getrlimit(resource.RLIMIT_NOFILE)
            node = Node(root / "data").start()
            try:
                limit = node.files() + 40
                resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
                held = connect_some(node, 60)
                told = [read_until_quiet(each, 0.01) for each in sorted_by_answer(held)]
                self.assertTrue(any(b"503" in text for text in told))
                begin = sum(node_times(node))
                time.sleep(1)
                self.assertLess(sum(node_times(node)) - begin, 0.5, "a busy loop")
                close(held)
                harness.wait_for(lambda: node.get("/healthz").status == 200, 5, "room again")
                self.assertEqual(node.put("x", b"y").status, 201)
            finally:
                node.stop()
                resource.setrlimit(resource.RLIMIT_NOFILE, old)

    def test_watchers(self):
        request = b"GET /watch?path=a/%d/* HTTP/1.1\r\nHost: x\r\n\r\n"
        with temp_dir() as root, Node(root / "data") as node:
            count = self.count(10000, node)
            close(connect(node, 100))
            node.put("a/0/x", b"")
            before = node.private_bytes()
            idle = connect(node, count)
            for i, each in enumerate(idle):
                each.sendall(request % (i % 100))
            watchers = harness.wait_for(
                lambda: node.metrics()["artel_watchers"] == count, 60, "all watch"
            )
            self.assertTrue(watchers)
            each_bytes = (node.private_bytes() - before) / count
            waits = []
            with node.watch("?path=b/*") as watch:
                for i in range(20):
                    begin = time.monotonic()
                    node.put(f"b/{i}", b"x")
                    self.assertEqual(watch.next()["path"], f"b/{i}")
                    waits.append(time.monotonic() - begin)
            begin = time.monotonic()
            node.put("a/7/x", b"x")  # one of a hundred is told
            for each in idle[7::100]:
                text = b""
                while b"a/7/x" not in text:
                    text += each.recv(10000)
            all_s = time.monotonic() - begin
            waits.sort()
            print(f"{count} watchers: {each_bytes / KIB:.1f} KiB each; one change: median "
                  f"{1000 * waits[10]:.1f} ms, most {1000 * waits[-1]:.1f} ms; "
                  f"to {count // 100} of them: {1000 * all_s:.0f} ms", flush=True)  # fmt: skip
            if not harness.SANITIZED:
                self.assertLess(each_bytes, 24 * KIB)
                self.assertLess(waits[10], 0.5)
            close(idle)
            # Who has gone shows when something is told.
            node.put("a/8/x", b"x")


def connect_some(node, count):
    sockets = []
    for _ in range(count):
        sockets.append(node.socket())
        sockets[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    return sockets


def sorted_by_answer(sockets):
    time.sleep(0.5)
    ready, _, _ = select.select(sockets, [], [], 1)
    return ready


def node_times(node):
    fields = open(f"/proc/{node.process.pid}/stat").read().rsplit(")", 1)[1].split()
    return int(fields[11]) / 100, int(fields[12]) / 100


class Together(unittest.TestCase):
    def test_requests_in_one_moment(self):
        """As many as one round of epoll takes, in each thread of the node: none waits for more."""
        count = 128 * os.cpu_count()
        raise_file_limit(2 * count + FILES_EXTRA)
        with temp_dir() as root, Node(root / "data") as node:
            idle = connect(node, count)
            for _ in range(harness.scaled(20, 0.5)):
                node.signal(signal.SIGSTOP)
                for each in idle:
                    each.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                node.signal(signal.SIGCONT)
                begin = time.monotonic()
                for each in idle:
                    self.assertTrue(read_until_quiet(each).endswith(b"ok\n"))
                self.assertLess(time.monotonic() - begin, 10 if harness.SANITIZED else 3)
            close(idle)


class Churn(unittest.TestCase):
    def test_nothing_leaks_or_hangs(self):
        """Connections that come with a request, with half of one, with none, and go at once."""
        with temp_dir() as root, Node(root / "data") as node:
            node.put("x", bytes(100 * KIB))
            texts = (
                b"GET /fs/x HTTP/1.1\r\nHost: x\r\n\r\n", b"", b"GET /f",
                b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n",
                b"PUT /fs/y HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc",
                b"PUT /fs/.. HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\nabc",
                b"PUT /fs/z HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            )  # fmt: skip
            files = private = 0
            for round_number in range(4):
                for i in range(harness.scaled(2100, 0.2)):
                    with contextlib.closing(node.socket()) as sock:
                        sock.sendall(texts[i % len(texts)])

                def are_gone():
                    # A watcher that went shows when it is told of something once more.
                    node.put(f"r{round_number}", os.urandom(4))
                    return node.metrics()["artel_http_connections"] <= 1

                harness.wait_for(are_gone, 60, "all have ended")
                harness.wait_for(lambda: node.files() <= (files or 100) + 5, 10, "files closed")
                if round_number == 1:
                    files, private = node.files(), node.private_bytes()
            self.assertLessEqual(node.files(), files + 5)
            if not harness.SANITIZED:
                self.assertLess(node.private_bytes() - private, 4096 * KIB)


if __name__ == "__main__":
    harness.main()
