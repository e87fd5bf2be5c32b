# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of a node share: a node, nginx, wrk, what a process uses, how fast the disk syncs."""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

from lib.common import *


def need(*programs, packages="nginx-light wrk curl"):
    """Ends the benchmark if one of them is not installed; says which packages have them."""
    os.environ["PATH"] += ":/usr/sbin"
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        raise SystemExit(f"needs {', '.join(missing)}: apt-get install {packages}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- a network namespace ------------------------------------------------------------------------


def namespace_words():
    """What runs a command line in a network namespace of its own."""
    for way in (("unshare", "--net"), ("unshare", "--user", "--map-root-user", "--net")):
        if subprocess.run((*way, "true"), stderr=subprocess.DEVNULL).returncode == 0:
            return way
    raise SystemExit("needs root or user namespaces for a network namespace")


def loopback_bytes():
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines():
        name, _, fields = line.partition(":")
        if name.strip() == "lo":
            return int(fields.split()[8])
    raise SystemExit("no loopback")


# ---- servers ------------------------------------------------------------------------------------


class Server:
    """A process, with its children, that serves HTTP on this machine."""

    def __init__(self, process, port, host="127.0.0.1"):
        self.process = process
        self.port = port
        self.host = host
        self.url = f"http://{host}:{port}"

    def pids(self):
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [self.process.pid, *map(int, pathlib.Path(children).read_text().split())]

    def cpu_seconds(self):
        """Processor time so far, of all threads that are still there."""
        tasks = [task for pid in self.pids() for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def private_bytes(self):
        """Memory that is this process's alone and not a file's: what it would give back."""
        rollup = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return sum(
            int(line.split()[1]) * KIB for line in rollup.splitlines() if line.startswith("Anonymous:")
        )

    def request(self, method, path, body=None, headers=None):
        """Gives the body of the answer; anything but success ends the benchmark."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=600)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status >= 300:
            raise SystemExit(f"failed: {method} {path}: {answer.status} {content[:200]}")
        return content

    def status(self):
        return json.loads(self.request("GET", "/status"))


@contextlib.contextmanager
def running(words, port, ready):
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        ready(process)
        yield Server(process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def artel_node(data):
    """A node; without the scrub in the background, which would read what was just written."""
    port = free_port()

    def ready(process):
        if not process.stdout.readline().startswith(b"ready "):
            raise SystemExit("the node does not start")

    words = [ARTEL, "node", "--data", data, "--listen", f"127.0.0.1:{port}", "--scrub-rate", "0"]
    with running(words, port, ready) as server:
        yield server


@contextlib.contextmanager
def nginx(where, files, workers):
    """nginx on the directory `files`; it keeps its own things in `where`."""
    port = free_port()
    where.mkdir()
    config = where / "nginx.conf"
    config.write_text(
        f"""
        daemon off; worker_processes {workers}; pid {where}/pid; error_log {where}/error crit;
        user {"root" if os.getuid() == 0 else "nobody"};
        events {{ worker_connections 4096; }}
        http {{
            access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000;
            client_body_temp_path {where}/body; proxy_temp_path {where}/proxy;
            fastcgi_temp_path {where}/fastcgi; uwsgi_temp_path {where}/uwsgi; scgi_temp_path {where}/scgi;
            server {{ listen 127.0.0.1:{port}; root {files}; }}
        }}"""
    )

    def ready(_):
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(0.02)
        raise SystemExit("nginx does not start: " + (where / "error").read_text())

    with running(["nginx", "-p", where, "-c", config], port, ready) as server:
        yield server


# ---- clients ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Load:
    """What wrk did, and the processor time of the server meanwhile."""

    requests: int
    bytes: int  # of bodies and headers
    seconds: float
    median: float  # seconds
    p99: float
    cpu_seconds: float

    @property
    def rate(self):
        return self.requests / self.seconds


def wrk(server, where, request, connections, seconds):
    """`request` is the Lua that makes the request number `n`."""
    script = where / "wrk.lua"
    script.write_text(
        f"""
        local n = 0
        local run = "{time.monotonic_ns()}"
        function request()
            n = n + 1
            {request}
        end
        function done(summary, latency)
            local e = summary.errors
            io.write(string.format("RESULT %d %d %d %d %d %d\\n", summary.requests, summary.bytes,
                summary.duration, latency:percentile(50), latency:percentile(99),
                e.connect + e.read + e.write + e.status + e.timeout))
        end"""
    )
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, server.url]
    cpu = server.cpu_seconds()
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    cpu = server.cpu_seconds() - cpu
    line = next(line for line in out.splitlines() if line.startswith("RESULT"))
    requests, size, micros, middle, p99, errors = map(int, line.split()[1:])
    if errors or not requests:
        raise SystemExit(f"failed: {errors} errors in {requests} requests\n{out}")
    return Load(requests, size, micros / 1e6, middle / 1e6, p99 / 1e6, cpu)


class Watcher:
    """A connection on which the events of a pattern come."""

    def __init__(self, node, pattern):
        self.socket = socket.create_connection((node.host, node.port))
        self.socket.sendall(f"GET /watch?path={pattern} HTTP/1.1\r\nHost: node\r\n\r\n".encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.socket.recv(4096)
        assert self.buffer.startswith(b"HTTP/1.1 200"), self.buffer


# ---- the disk -----------------------------------------------------------------------------------


class Syncs:
    """A file to which 4 KiB are written and synced, again and again, as a log would be."""

    def __init__(self, where):
        self.file = os.open(where / "syncs", os.O_RDWR | os.O_CREAT, 0o600)
        self.offset = 0
        self.block = os.urandom(4 * KIB)

    def once(self):
        """Gives how long it took."""
        start = time.monotonic()
        os.pwrite(self.file, self.block, self.offset)
        os.fdatasync(self.file)
        self.offset = (self.offset + len(self.block)) % (16 * MIB)
        return time.monotonic() - start

    def for_seconds(self, seconds):
        """Gives the time of each."""
        end = time.monotonic() + seconds
        each = []
        while time.monotonic() < end:
            each.append(self.once())
        return each


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Others:
    """How much of the processors others used. What we started counts as ours once it has ended;
    servers that go on have to be named."""

    def __init__(self, servers=()):
        self.servers = list(servers)
        self.all, self.ours = self.now()
        self.begin = time.monotonic()

    def now(self):
        everything, ours = busy_seconds()
        return everything, ours + sum(server.cpu_seconds() for server in self.servers)

    def share(self):
        everything, ours = self.now()
        others = (everything - self.all) - (ours - self.ours)
        return max(0.0, others) / ((time.monotonic() - self.begin) * (os.cpu_count() or 1))

    def print(self):
        load = pathlib.Path("/proc/loadavg").read_text().split()[0]
        print(f"others used {self.share():.0%} of the processors meanwhile; load average {load}\n")
