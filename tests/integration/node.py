# SPDX-License-Identifier: Apache-2.0
"""A running node, and ways to speak to it: http.client, and sockets for what that would not say."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import resource
import select
import signal
import socket
import threading
import time
import urllib.parse

import harness
from harness import check

TIMEOUT_S = 120 if harness.SANITIZED else 30


def raise_file_limit(count):
    """Gives how many files may be open now, `count` at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))
            return count
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count), hard))
        return min(hard, count)
    return count


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The code of an error, "" if the body is none."""
        try:
            return self.json.get("error", "")
        except (ValueError, AttributeError):
            return ""

    def __str__(self):
        return f"{self.status} {self.body[:500]!r}"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def quote(path):
    return urllib.parse.quote(path, safe="/")


class Node:
    """`artel node` on a free port of this machine."""

    def __init__(self, data, *options, fault=None):
        self.data, self.options, self.fault = data, options, fault
        self.process = None

    def start(self):
        arguments = ("node", "--data", self.data, "--listen", "127.0.0.1:0", *self.options)
        begin = self.fault.start if self.fault else harness.start
        self.log = b""
        self.process = begin(*arguments)
        os.set_blocking(self.process.stderr.fileno(), False)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        line = self.process.stdout.readline().decode()
        found = re.fullmatch(r"ready http://([\d.]+):(\d+)\n", line)
        if not found:
            self._join()
            raise harness.Failure(f"no ready line but {line!r}\n{self.log.decode()}")
        self.address = (found[1], int(found[2]))
        return self

    def _read_log(self):
        stderr = self.process.stderr
        while True:
            select.select([stderr], [], [])
            piece = os.read(stderr.fileno(), 65536)
            if not piece:
                return
            self.log = (self.log + piece)[-1000000:]

    def _join(self, timeout_s=TIMEOUT_S):
        status = self.process.wait(timeout_s)
        self._reader.join(10)
        self.process.stdout.close()
        self.process.stderr.close()
        self.process = None
        text = self.log.decode(errors="replace")
        found = status == harness.SANITIZER_STATUS or re.search(harness.SANITIZER_TEXT, text)
        check(not found, "a sanitizer found something", text)
        if self.fault:
            self.fault.collect()
        return status

    def stop(self, within_s=10):
        """SIGTERM; it must end cleanly in time."""
        if not self.process:
            return
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self._join(within_s * (6 if harness.SANITIZED else 1))
        except Exception:
            self.process.send_signal(signal.SIGABRT)
            with contextlib.suppress(Exception):
                self._join()
            raise
        check(status == 0, f"status {status} after SIGTERM", self.log.decode(errors="replace"))
        return time.monotonic() - begin

    def kill(self):
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self._join()

    def signal(self, number):
        self.process.send_signal(number)
        if number == signal.SIGSTOP:
            # The kernel lets one thread take the signal, and the others run on until it did.
            harness.wait_for(self._is_stopped, TIMEOUT_S, "all threads stand still")

    def _is_stopped(self):
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task")
        try:
            return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
                       for task in tasks.iterdir())
        except FileNotFoundError:
            return False  # a thread that ended meanwhile

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if self.process:
            self.kill() if kind else self.stop()

    # ---- requests ----

    def connect(self, local=False):
        if local:
            return UnixConnection(self.data / "socket")
        return http.client.HTTPConnection(*self.address, timeout=TIMEOUT_S)

    def request(self, method, url, body=None, headers=None, local=False, connection=None):
        used = connection or self.connect(local)
        try:
            used.request(method, url, body=body, headers=headers or {})
            answer = used.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            if not connection:
                used.close()

    def get(self, url, **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("GET", url, headers=names)

    def put(self, path, data, query="", **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("PUT", f"/fs/{quote(path)}{query}", body=data, headers=names)

    def delete(self, path, query=""):
        return self.request("DELETE", f"/fs/{quote(path)}{query}")

    def post(self, path, operation):
        body = operation if isinstance(operation, bytes) else json.dumps(operation).encode()
        return self.request("POST", f"/fs/{quote(path)}", body=body)

    def status(self):
        return self.get("/status").json

    def metrics(self):
        """{name: value}; each line must be one of the three forms."""
        values = {}
        for line in self.get("/metrics").body.decode().splitlines():
            if line.startswith("#"):
                check(re.fullmatch(r"# (HELP|TYPE) artel_\w+ .+", line), "an odd line", line)
                continue
            found = re.fullmatch(r"(artel_\w+) (\d+)", line)
            check(found and found[1] not in values, "an odd line", line)
            values[found[1]] = int(found[2])
        return values

    def scrub(self):
        answer = self.request("POST", "/scrub")
        check(answer.status == 200, "scrub", answer)
        return json.loads(answer.body.splitlines()[-1])

    # ---- sockets ----

    def socket(self, source=None, timeout_s=TIMEOUT_S):
        one = socket.socket()
        one.settimeout(timeout_s)
        if source:
            one.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            one.bind((source, 0))
        one.connect(self.address)
        return one

    def local_socket(self):
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(TIMEOUT_S)
        one.connect(str(self.data / "socket"))
        return one

    def exchange(self, data, end=False):
        """Sends bytes as they are and gives what comes until the other side closes or falls
        silent for a moment."""
        with contextlib.closing(self.socket(timeout_s=TIMEOUT_S)) as one:
            with contextlib.suppress(OSError):  # it may close before it has all
                one.sendall(data)
                if end:
                    one.shutdown(socket.SHUT_WR)
            return read_until_quiet(one)

    def watch(self, query="", **headers):
        return Watch(self, query, headers)

    def private_bytes(self):
        text = open(f"/proc/{self.process.pid}/smaps_rollup").read()
        return 1024 * sum(int(kib) for kib in re.findall(r"Private_\w+:\s+(\d+) kB", text))

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def is_readable(one, within_s):
    poll = select.poll()  # select() takes no descriptor above 1023
    poll.register(one, select.POLLIN)
    return bool(poll.poll(1000 * within_s))


def read_until_quiet(one, quiet_s=1.0):
    answer = b""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if not is_readable(one, quiet_s if answer else TIMEOUT_S):
            break
        try:
            piece = one.recv(65536)
        except ConnectionResetError:
            break
        if not piece:
            break
        answer += piece
        if whole_answer(answer):
            break
    return answer


def whole_answer(data):
    head, found, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head, re.IGNORECASE)
    return bool(found and length and len(body) >= int(length[1]))


class Watch:
    """A stream of /watch: events as dictionaries, in order. `last_id` is what a client that comes
    back would send."""

    def __init__(self, node, query, headers, token=None):
        """`token`: sent as the body."""
        self.connection = node.connect()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        method = "GET" if token is None else "POST"
        self.connection.request(method, "/watch" + query, body=token, headers=names)
        self.sock = self.connection.sock
        self.answer = self.connection.getresponse()
        self.comments = 0
        self.last_id = None

    def next(self, timeout_s=10):
        """The next event; None if the stream ended. Lines of one event may come in pieces."""
        fields = {}
        self.sock.settimeout(timeout_s)
        while True:
            line = self.answer.readline()
            if not line:
                return None
            line = line.decode().rstrip("\n")
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                self.last_id = fields.get("id", self.last_id)
                if set(fields) == {"id"}:  # a position alone, no event
                    fields = {}
                    continue
                event = json.loads(fields["data"])
                check(event["event"] == fields["event"], "two names of an event", fields)
                check(event.get("cursor") == fields.get("id"), "two cursors of an event", fields)
                return event

    def take(self, count, timeout_s=10):
        return [self.next(timeout_s) for _ in range(count)]

    def is_quiet(self, for_s=0.3):
        return not is_readable(self.sock, for_s)

    def close(self):
        self.answer.close()
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
