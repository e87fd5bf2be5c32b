# SPDX-License-Identifier: Apache-2.0
"""What the chaos test knows: what was asked of whom and answered, what watchers were told, what
became of the disks; and so which versions must be there, and which must not be.

A *deed* is one request that changes the tree. That a node had a version at a time is *evidence*:
its answer, or an event that a watcher was told there. Both are told from a moment before to one
after, since the test can't know better; evidence that overlaps the loss of a disk is worth nothing.
"""

import contextlib
import dataclasses
import http.client
import json
import random
import socket
import threading
import time

from harness import check, file_id
from trees import tar_of

ACKNOWLEDGED = (200, 201, 202)


def now():
    return time.monotonic()


class Disk:
    """What became of the data directory of a node, in order."""

    def __init__(self):
        self.events = []

    @contextlib.contextmanager
    def event(self, kind):
        """`kind`: "lost", "copied", "put back"; around it the node does not run."""
        begin = now()
        yield
        self.events.append((kind, begin, now()))

    def keeps(self, begin, end, until=None):
        """What the node had for certain somewhere between begin and end: has it that still (at
        `until`)?"""
        has = saved = is_entered = False
        for kind, event_begin, event_end in self.events:
            if until is not None and event_begin > until:
                break
            if not is_entered and event_end < begin:
                continue
            if not is_entered and event_begin <= end:
                return False
            has, is_entered = has or not is_entered, True
            if kind == "copied":
                saved = has
            else:
                has = kind == "put back" and saved
        return has or not is_entered

    def fails_between(self, begin, until):
        return any(end >= begin and event_begin <= until and kind != "copied"
                   for kind, event_begin, end in self.events)

    def fails_after(self, begin):
        return self.fails_between(begin, float("inf"))


@dataclasses.dataclass
class Deed:
    what: str
    node: object
    path: str
    writes: dict  # path: what the listing tells as its id or target
    clears: tuple = ()  # paths of which every version that the node has is replaced
    clears_below: str = ""  # the same for all below this one
    begin: float = 0
    end: float = float("inf")
    status: int = 0  # 0: nobody knows what became of it
    version: str = ""
    acks: int = 0

    def replaces(self, path):
        below = self.clears_below
        return path in self.clears or bool(below) and path.startswith(below + "/")


class Ledger:
    def __init__(self, nodes):
        self.nodes = nodes
        self.lock = threading.Lock()
        self.deeds = []
        self.evidence = {}  # version: {node: (begin, end)}
        self.told = {}  # (version, path): what it is
        self.faults = []  # what watchers saw that must not be

    def fault(self, *words):
        with self.lock:
            self.faults.append(" ".join(map(str, words)))

    def do(self, deed, send):
        """Sends the request and writes down what became of it."""
        deed.begin = now()
        try:
            answer = send()
            deed.end = now()
            body = answer.json if answer.status in ACKNOWLEDGED else {}
        except TimeoutError:
            body = {}  # it may be done yet
        except (OSError, http.client.HTTPException, ValueError):
            body, deed.end = {}, now()
        else:
            deed.status = answer.status if answer.status < 500 else 0
            deed.version = body.get("version", "")
            deed.acks = body.get("acks", 0)
            if answer.status >= 500 and answer.status != 503:
                self.fault(deed.what, deed.path, "at", deed.node.name, answer)
        with self.lock:
            self.deeds.append(deed)
        if deed.version:
            self.note_evidence(deed.version, deed.node, deed.begin, deed.end)
        return deed

    def note_evidence(self, version, node, begin, end):
        """The oldest that still counts is kept."""
        with self.lock:
            known = self.evidence.setdefault(version, {})
            if node not in known or not node.disk.keeps(*known[node]):
                known[node] = (begin, end)

    def note_event(self, event, node, begin):
        self.note_evidence(event["version"], node, begin, now())
        told = {key: value for key, value in event.items() if key != "cursor"}
        key = (event["version"], event["path"])
        with self.lock:
            first = self.told.setdefault(key, told)
        if first != told:
            self.fault("one name, two changes:", first, told, "at", node.name)

    def acknowledged(self):
        return [deed for deed in self.deeds if deed.version and deed.status in ACKNOWLEDGED]

    def is_kept(self, version):
        """Is it still on the disk of somebody who had it?"""
        return any(node.disk.keeps(*times) for node, times in self.evidence[version].items())

    def must_be(self, deed):
        """So was it acknowledged that it can't be lost."""
        others = [node for node in self.nodes if node is not deed.node]
        failed = sum(node.disk.fails_after(deed.begin) for node in others)
        return deed.acks > failed or self.is_kept(deed.version)

    def replacing(self, version, path, deeds):
        """A deed that must be there, of a node that had the version, and that replaced it."""
        for deed in deeds:
            times = self.evidence.get(version, {}).get(deed.node)
            if (times and deed.version != version and times[1] < deed.begin
                    and deed.replaces(path)
                    and deed.node.disk.keeps(*times, until=deed.begin)
                    and self.must_be(deed)):
                return deed
        return None

    def is_gone(self, deeds):
        """These are all on a path that only one node changes: was it deleted in the end, and all
        that was there before replaced by that node while it had it?"""
        deeds = sorted((deed for deed in deeds if deed.version or not deed.status),
                       key=lambda deed: deed.begin)
        kept = [deed for deed in deeds if deed.version and self.must_be(deed)]
        if not kept or kept[-1] is not deeds[-1] or deeds[-1].what != "delete":
            return False
        return all(
            any(old.end < deed.begin and not deed.node.disk.fails_between(old.begin, deed.begin)
                for deed in kept)
            for old in deeds[:-1]
        )


# ---- what is asked ------------------------------------------------------------------------------


class Worker(threading.Thread):
    """Changes the tree at one node, whatever becomes of it."""

    def __init__(self, node, ledger, seed, pause_s):
        super().__init__(daemon=True)
        self.node, self.ledger, self.pause_s = node, ledger, pause_s
        self.random = random.Random(seed)
        self.is_over = threading.Event()
        self.count = 0

    def run(self):
        choices = (
            (30, self.put_shared), (8, self.delete_shared), (10, self.move_shared),
            (16, self.put_own), (10, self.delete_own), (8, self.put_below),
            (5, self.move_directory), (3, self.delete_directory), (3, self.make_directory),
            (6, self.put_atomic), (3, self.put_many), (4, self.put_clash), (2, self.delete_clash), (3, self.put_link),
        )
        weights = [weight for weight, _ in choices]
        while not self.is_over.wait(self.random.random() * self.pause_s):
            self.random.choices(choices, weights)[0][1]()

    def data(self):
        self.count += 1
        return f"{self.node.name} {id(self)} {self.count}".encode()

    def query(self):
        return "ack=1&ack_wait=2" if self.random.random() < 0.2 else ""

    def ask(self, method, path, query="", body=None, kind=None):
        query = "&".join(filter(None, (query, self.query())))
        url = f"/fs/{path}" + ("?" + query if query else "")
        headers = {"Content-Type": kind} if kind else {}
        return self.node.request(method, url, body=body, headers=headers)

    def do(self, what, path, send, writes=None, clears=(), clears_below=""):
        deed = Deed(what, self.node, path, writes or {}, tuple(clears), clears_below)
        return self.ledger.do(deed, send)

    def put(self, path):
        data = self.data()
        return self.do("put", path, lambda: self.ask("PUT", path, body=data),
                       {path: file_id(data)}, (path,))

    def delete(self, path):
        return self.do("delete", path, lambda: self.ask("DELETE", path), clears=(path,))

    def rename(self, path, to, **clears):
        body = json.dumps({"op": "rename", "to": to})
        return self.do("rename", path, lambda: self.ask("POST", path, body=body), **clears)

    # Files that all change, of which none is ever a directory.
    def shared(self):
        return f"shared/{self.random.choice('abc')}/{self.random.randrange(6)}"

    def put_shared(self):
        self.put(self.shared())

    def delete_shared(self):
        self.delete(self.shared())

    def move_shared(self):
        path, to = self.shared(), self.shared()
        self.rename(path, to, clears=(path, to) if path != to else ())

    def put_link(self):
        path = self.shared()
        self.data()
        target = f"to/{self.node.name}/{self.count}"
        self.do("link", path, lambda: self.ask("PUT", path, f"symlink={target}"),
                {path: target}, (path,))

    # Files that only this node changes.
    def own(self):
        return f"own/{self.node.name}/{self.random.randrange(40)}"

    def put_own(self):
        self.put(self.own())

    def delete_own(self):
        self.delete(self.own())

    # Directories that all move, delete, and write into.
    def directory(self):
        return f"moving/{self.random.randrange(4)}"

    def put_below(self):
        self.put(f"{self.directory()}/{self.random.randrange(4)}/{self.random.randrange(3)}")

    def make_directory(self):
        path = f"{self.directory()}/empty{self.random.randrange(2)}"
        self.do("mkdir", path, lambda: self.ask("POST", path, body=json.dumps({"op": "mkdir"})))

    def move_directory(self):
        path, to = self.directory(), self.directory()
        self.rename(path, to, clears_below=path if path != to else "")

    def delete_directory(self):
        path = self.directory()
        self.do("delete", path, lambda: self.ask("DELETE", path, "recursive=1"),
                clears_below=path)

    # Directories that are replaced whole.
    def files(self):
        names = self.random.sample("abcdefgh", self.random.randrange(1, 6))
        return {name: self.data() for name in names}

    def put_tar(self, path, query, clears_below=""):
        files = self.files()
        writes = {f"{path}/{name}": file_id(data) for name, data in files.items()}
        body = tar_of(files)
        self.do("tar", path, lambda: self.ask("PUT", path + "/", query, body, "application/x-tar"),
                writes, tuple(writes), clears_below)

    def put_atomic(self):
        path = f"atomic/{self.random.randrange(3)}"
        self.put_tar(path, "atomic=1", clears_below=path)

    def put_many(self):
        self.put_tar(f"atomic/{self.random.randrange(3)}", "")

    # Names that are a file for one and a directory for another: what replaces what is not told.
    def put_clash(self):
        path = f"clash/{self.random.randrange(3)}" + self.random.choice(("", "/x", "/y"))
        data = self.data()
        self.do("put", path, lambda: self.ask("PUT", path, body=data), {path: file_id(data)})

    def delete_clash(self):
        path = f"clash/{self.random.randrange(3)}"
        self.do("delete", path, lambda: self.ask("DELETE", path, "recursive=1"))


# ---- what watchers are told ---------------------------------------------------------------------


class Stream:
    """One connection of a watcher. HTTP/1.0, so that a silence is no end: bytes as they are."""

    def __init__(self, node, query, token=None):
        self.begin = now()
        self.left = b""
        self.one = socket.create_connection(node.address, timeout=10)
        method = "GET" if token is None else "POST"
        body = (token or "").encode()
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} /watch{query} HTTP/1.0\r\nHost: x\r\n{length}\r\n"
        self.one.sendall(head.encode() + body)
        self.is_open = False

    def read(self, within_s):
        """[(id, event or None)] that came; none if it was silent. OSError: it has ended."""
        self.one.settimeout(within_s)
        try:
            piece = self.one.recv(1 << 18)
        except TimeoutError:
            return []
        if not piece:
            raise ConnectionResetError("the stream has ended")
        self.left += piece
        if not self.is_open:
            head, found, body = self.left.partition(b"\r\n\r\n")
            if not found:
                return []
            self.is_open, self.left = True, body
            check(b" 200 " in head.split(b"\r\n")[0], "watch", head, body)
        *blocks, self.left = self.left.split(b"\n\n")
        found = []
        for block in blocks:
            lines = block.decode().split("\n")
            fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
            if fields:
                data = fields.get("data")
                found.append((fields["id"], json.loads(data) if data else None))
        return found

    def close(self):
        self.one.close()


class Watcher(threading.Thread):
    """Watches everything from the first change on: at one node by its cursor alone (a *resident*),
    or at one after the other with a token, too (a *mover*)."""

    def __init__(self, ledger, node, seed, start, heard):
        """`node`: None for a mover. `start`: (cursor, token) of who was told `heard` of each log;
        None: nobody knows what."""
        super().__init__(daemon=True)
        self.ledger, self.node = ledger, node
        self.random = random.Random(seed)
        self.name = f"resident at {node.name}" if node else f"mover {seed}"
        self.is_over = threading.Event()
        self.cursor, self.token = start
        self.heard = dict(heard or {})  # of each log the last one that was told
        # What a snapshot changed was told: versions, of which nobody knows which were between.
        self.is_loose = heard is None
        self.connections = self.gaps = self.events = 0
        self.cursor_begin = now()  # of the connection that the cursor is from

    def run(self):
        while not self.is_over.is_set():
            node = self.node or self.random.choice(self.ledger.nodes)
            try:
                self.visit(node)
            except (OSError, http.client.HTTPException):
                # Some come back at once, and some when much has happened.
                self.is_over.wait(self.random.choice((0.05, 0.3, 3)))
            except Exception as failure:
                self.ledger.fault(self.name, "at", node.name, repr(failure))
                return

    def visit(self, node):
        stream = Stream(node, f"?since={self.cursor}", self.token)
        if self.node:
            until = float("inf")
        else:
            until = now() + self.random.random() * 2
        self.connections += 1
        with contextlib.closing(stream):
            while not self.is_over.is_set() and now() < until:
                for cursor, event in stream.read(0.2):
                    if event:
                        self.see(event, node, stream)
                    self.cursor, self.cursor_begin = cursor, stream.begin
        if not self.node:
            answer = node.get(f"/watch/token?at={self.cursor}")
            if answer.status == 200:
                self.token = answer.json["token"]

    def see(self, event, node, stream):
        self.events += 1
        if event["event"] == "gap":
            self.see_gap(node)
            return
        if self.is_loose:
            return
        self.ledger.note_event(event, node, stream.begin)
        log, seq = event["version"].split(":")
        last = self.heard.get(log, 0)
        if int(seq) > last + 1:
            self.ledger.fault(self.name, "skipped what is between", f"{log}:{last}", "and", event,
                              "at", node.name, "since", self.cursor)
        self.heard[log] = max(last, int(seq))

    def see_gap(self, node):
        """Its disk is another one: all that is kept follows, from the first of each log on. Or a
        snapshot was merged, here or, for a mover, where it was told what its token says; with a
        token there is no other reason."""
        self.gaps += 1
        self.heard = {}
        if self.node and node.disk.fails_after(self.cursor_begin):
            return
        nodes = [node] if self.node else self.ledger.nodes
        until = now() + 5  # of when its log is read
        while not self.is_loose and now() < until and not self.is_over.wait(0.1):
            self.is_loose = any(each.has_merged() for each in nodes)
        if not self.is_loose:
            self.ledger.fault(self.name, "was told of a gap for no reason at", node.name)

    def lacks(self, last):
        """{log: seq} of what it was not told."""
        return {log: seq for log, seq in last.items() if self.heard.get(log, 0) < seq}
