# SPDX-License-Identifier: Apache-2.0
"""A node that is killed at any instant: what was acknowledged is there and whole, what was not is
whole or absent, the fingerprint is that of the entries, and no watcher misses a change."""

import http.client
import json
import pathlib
import threading
import time

import harness
from harness import Cases, Fault, check, content, temp_dir
from node import Node

CLIENTS = 6
NAMES = 8  # of each client


class Client:
    """One that changes files of its own directory, and knows what may be there: for each path the
    set of contents (None: absent) that it may show."""

    def __init__(self, node, number, seed):
        self.node, self.number = node, number
        self.random = harness.random.Random(f"{seed} {number}")
        self.may = {self.path(i): {None} for i in range(NAMES)}
        self.changes = []  # acknowledged: (path, content), in order

    def path(self, index):
        return f"c{self.number}/{index % 2}/{index}"

    def run(self):
        connection = self.node.connect()
        try:
            while True:
                self.step(connection)
        except (OSError, http.client.HTTPException):
            pass  # killed
        finally:
            connection.close()

    def step(self, connection):
        path = self.path(self.random.randrange(NAMES))
        kind = self.random.choice(["put", "put", "put", "delete", "rename"])
        before = self.may[path]
        if kind == "put":
            data = self.random.randbytes(self.random.choice([0, 10, 1000, 5000, 300000]))
            self.may[path] = before | {data}
            answer = self.request(connection, "PUT", path, data)
            check(answer.status in (200, 201), "put", answer)
            self.acknowledge({path: data})
        elif kind == "delete":
            self.may[path] = before | {None}
            answer = self.request(connection, "DELETE", path)
            check(answer.status == (404 if before == {None} else 200), "delete", answer)
            if answer.status == 200:
                self.acknowledge({path: None})
        else:
            to = self.path(self.random.randrange(NAMES))
            if to == path or before == {None}:
                return
            old = self.may[to]
            self.may[path], self.may[to] = before | {None}, old | before
            body = json.dumps({"op": "rename", "to": to})
            answer = self.request(connection, "POST", path, body)
            check(answer.status == 200, "rename", answer)
            (data,) = before
            self.acknowledge({path: None, to: data})

    def request(self, connection, method, path, body=None):
        return self.node.request(method, f"/fs/{path}", body=body, connection=connection)

    def acknowledge(self, state):
        for path, data in state.items():
            self.may[path] = {data}
            self.changes.append((path, data))

    def settle(self):
        """After a restart: what is there is one of what may be, and then known."""
        for path, may in self.may.items():
            answer = self.node.get(f"/fs/{path}")
            check(answer.status in (200, 404), "get", path, answer)
            data = answer.body if answer.status == 200 else None
            check(data in may, f"{path}: what nobody put there, or an acknowledged change is lost",
                  data and len(data), [each and len(each) for each in may])  # fmt: skip
            self.may[path] = {data}
        # A rename is whole or has not been: no content got lost in between (put counts them).


def shown(node):
    lines = node.get("/fs?depth=all", Accept="application/x-ndjson").body.splitlines()
    entries = map(json.loads, lines)
    return {each["path"]: each["id"] for each in entries if each["type"] == "file"}


def replay(node, state, cursor):
    """What a watcher makes of its events since `cursor`; gives the cursor behind them."""
    last = node.status()["cursor"]
    # Each opening tells positions under a name of its own: EPOCH:POSITION.
    if cursor.split(":")[1] == last.split(":")[1]:
        return last
    with node.watch(f"?since={cursor}") as watch:
        while watch.last_id != last:
            event = watch.next()
            check(event, "the stream ended")
            if event["event"] == "put":
                state[event["path"]] = event["id"]
            elif event["event"] == "delete":
                state.pop(event["path"], None)
            elif event["event"] == "rename":
                state[event["path"]] = state.pop(event["from"])
            else:
                check(event["event"] == "mkdir", "an odd event", event)
    return last


class NodeKill(Cases):
    def life(self, node, clients, random, kill):
        """One life of a node; `kill` ends it while the clients are at work."""
        threads = [threading.Thread(target=each.run) for each in clients]
        for each in threads:
            each.start()
        kill(random)
        for each in threads:
            each.join()

    def verify(self, node, clients, state, cursor):
        for each in clients:
            each.settle()
        report = node.scrub()
        check(report["complete"] and report["fingerprint_matches"], "fingerprint", report)
        check(report["blocks_bad"] == 0 and report["files_hit"] == 0, "damage", report)
        cursor = replay(node, state, cursor)
        check(state == shown(node), "a watcher missed something", state, shown(node))
        return cursor

    def run_seed(self, seed):
        random = harness.random.Random(seed)
        with temp_dir() as root:
            node = Node(root / "data")
            clients = [Client(node, i, seed) for i in range(CLIENTS)]
            node.start()
            state, cursor = {}, node.status()["cursor"]
            for _ in range(harness.scaled(5, 0.4)):

                def kill(random):
                    time.sleep(random.choice([0.02, 0.1, 0.4]) * random.random() * 2)
                    node.kill()

                self.life(node, clients, random, kill)
                node.start()
                fingerprint = node.status()["fingerprint"]
                cursor = self.verify(node, clients, state, cursor)
                check(node.status()["fingerprint"] == fingerprint, "it changed by itself")
            node.stop()
            check(sum(len(each.changes) for each in clients) > 5, "nothing was done")

    def test_at_random_moments(self):
        rounds = range(harness.scaled(8, 0.3))
        self.run_cases([f"{harness.SEED} {i}" for i in rounds], self.run_seed)

    def run_call(self, case):
        """Killed at one counted call, by libfault."""
        call_class, at = case
        random = harness.random.Random(f"{harness.SEED} {case}")
        with temp_dir() as root:
            data = root / "data"
            with Node(data) as node:
                node.put("first", content("first", 1000))
                state = shown(node)
                cursor = node.status()["cursor"]
            fault = Fault(data, call_class, at, "kill")
            node = Node(data, "--scrub-rate", "0", fault=fault)
            clients = [Client(node, i, case) for i in range(2)]
            try:
                node.start()
            except harness.Failure:
                pass  # killed before it was ready
            else:

                def kill(_):
                    time.sleep(0.3 if not harness.SANITIZED else 2)
                    node.kill()

                self.life(node, clients, random, kill)
            node.fault = None
            node.start()
            self.verify(node, clients, state, cursor)
            node.stop()

    def test_at_counted_calls(self):
        if not pathlib.Path(harness.BUILD_DIR, "tests/fault/libfault.so").exists():
            self.skipTest("libfault is not built")
        cases = [(name, at) for name in ("write", "sync", "any") for at in range(1, 60)]
        cases += [(name, at) for name in ("truncate", "rename", "unlink") for at in range(1, 4)]
        chosen = harness.sample(cases, harness.scaled(30, 0.3), "calls")
        self.run_cases(chosen, self.run_call)


if __name__ == "__main__":
    harness.main()
