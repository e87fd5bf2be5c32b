# SPDX-License-Identifier: Apache-2.0
"""What people and programs have of a network: watchers that move from node to node, changes that
wait for other nodes, conflicts and what settles them, and who lags."""

import concurrent.futures
import json
import signal
import threading
import time
import unittest

import harness
from harness import check, file_id, wait_for
from test_members import Nodes
from trees import SOON_S, listing, put, put_tar, versions, wait_same

WRITES = 15 if harness.SANITIZED else 60


class Mover:
    """A watcher that comes back to any node with its last cursor and a token of then."""

    def __init__(self, test):
        self.test = test
        self.cursor = self.token = None
        self.told = {}  # by writer: the last of its changes
        self.repeated = 0

    def begin(self, node):
        answer = node.get("/watch/token").json
        self.cursor, self.token = answer["cursor"], answer["token"]

    def take(self, node, count):
        """Up to so many events at a node; fewer if it falls silent."""
        query = f"?since={self.cursor}&token={self.token}"
        with node.watch(query) as watch:
            for _ in range(count):
                try:
                    event = watch.next(timeout_s=0.5)
                except TimeoutError:
                    break
                self.see(event)
            self.cursor = watch.last_id or self.cursor
        answer = node.get(f"/watch/token?at={self.cursor}")
        check(answer.status == 200, "token", answer)
        self.token = answer.json["token"]

    def see(self, event):
        self.test.assertNotEqual(event["event"], "gap")
        writer, number = event["version"].split(":")
        last = self.told.get(writer, 0)
        self.test.assertLessEqual(int(number), last + 1, f"a change before {event} was skipped")
        self.repeated += int(number) <= last
        self.told[writer] = max(last, int(number))

    def has(self, version):
        writer, number = version.split(":")
        return self.told.get(writer, 0) >= int(number)


class Watching(Nodes):
    def test_a_watcher_moves_from_node_to_node(self):
        nodes = self.network(3)
        mover = Mover(self)
        mover.begin(nodes[0])
        made = []

        def work(node, number):
            for i in range(WRITES):
                made.append(put(node, f"{number}/{i % 7}", f"{i}".encode()))

        threads = [threading.Thread(target=work, args=each) for each in zip(nodes, range(3))]
        for thread in threads:
            thread.start()
        moves = 0
        deadline = time.monotonic() + SOON_S
        while any(thread.is_alive() for thread in threads) or not all(map(mover.has, made)):
            check(time.monotonic() < deadline, "not all was told", mover.told, made)
            mover.take(self.random.choice(nodes), self.random.randrange(1, 12))
            moves += 1
        for thread in threads:
            thread.join()
        self.assertEqual(len(made), 3 * WRITES)
        self.assertGreater(moves, 3)
        # At rest nothing comes again, wherever it asks.
        wait_same(nodes)
        mover.take(nodes[0], 1000)
        repeated = mover.repeated
        for node in nodes:
            mover.take(node, 1000)
        self.assertEqual(mover.repeated, repeated)

    def test_a_token_knows_what_comes_later(self):
        """What was told at one node and reaches the next one afterwards is not told again."""
        a, b = self.network(2)
        wait_same([a, b])
        begin = a.get("/watch/token").json["token"]
        put(a, "first", b"")
        token = a.get("/watch/token").json["token"]
        wait_same([a, b])
        with b.watch(f"?since={begin}") as old, b.watch(f"?since={token}") as new:
            self.assertEqual(old.next()["path"], "first")
            put(b, "second", b"")
            self.assertEqual(old.next()["path"], "second")
            self.assertEqual(new.next()["path"], "second")
        b.stop()
        put(a, "third", b"")
        token = a.get("/watch/token").json["token"]
        a.stop()
        b.start()
        with b.watch(f"?since={token}") as watch:
            a.start()
            wait_for(lambda: "third" in listing(b), SOON_S, "b has the third")
            put(b, "fourth", b"")
            self.assertEqual(watch.next()["path"], "fourth")

    def artel(self, *arguments, node):
        process = harness.start(*arguments, env={"ARTEL_NODE": node.url}, cwd=self.root)
        self.stack.callback(lambda: process.poll() is None and harness.stop(process))
        return process

    def test_a_hook_goes_on_at_another_node(self):
        """The watcher is killed, then its node; with its cursor file the next one, at another node,
        runs the command for all that was not done."""
        a, b, c = nodes = self.network(3)
        log = self.root / "log"
        command = f'echo "$ARTEL_EVENT $ARTEL_PATH" >> {log}'
        arguments = ("watch", "--cursor-file", "cursor", "--exec", command)

        def done():
            return set(log.read_text().splitlines()) if log.exists() else set()

        def wait_done(paths, what):
            wait_for(lambda: done() >= {f"put {path}" for path in paths}, SOON_S, what)

        process = self.artel(*arguments, node=a)
        file = self.root / "cursor"
        wait_for(lambda: file.exists() and len(file.read_text().splitlines()) == 2, SOON_S,
                 "cursor and token")
        put(a, "one", b"")
        put(b, "two", b"")
        wait_done(["one", "two"], "both commands")
        process.send_signal(signal.SIGKILL)
        harness.finish(process)
        put(c, "three", b"")
        wait_same(nodes)
        a.stop()
        put(b, "four", b"")
        process = self.artel(*arguments, node=c)
        wait_done(["three", "four"], "the commands of what was missed")
        # The node is another one after a restart; the watch stays.
        c.stop()
        put(b, "five", b"")
        c.start()
        put(c, "six", b"")
        wait_done(["five", "six"], "the commands after the restart of the node")
        process.send_signal(signal.SIGKILL)
        result = harness.finish(process)
        self.assertNotIn("not known any more", result.err)
        self.assertEqual(done(), {f"put {n}" for n in ("one", "two", "three", "four", "five", "six")})


class Acknowledged(Nodes):
    def changes(self, node, query):
        """One of each kind; the answers."""
        def post(path, **body):
            return node.request("POST", f"/fs/{path}{query}", body=json.dumps(body).encode())

        yield node.put("f", b"x", query)
        yield node.request("PUT", f"/fs/l{query}&symlink=f")
        yield post("d", op="mkdir")
        moved = post("f", op="rename", to="g")
        yield moved
        yield node.delete("g", query)
        log = node.get("/log/g").json["versions"]
        yield post("g", op="restore", version=log[0]["version"])
        yield node.request("PUT", f"/fs/t/{query}&atomic=1", body=b"\0" * 1024,
                           headers={"Content-Type": "application/x-tar"})  # fmt: skip

    def test_the_answer_comes_when_others_have_it(self):
        a, b, c = nodes = self.network(3)
        for answer in self.changes(a, "?ack=2"):
            self.assertIn(answer.status, (200, 201), answer)
            self.assertEqual(answer.json["acks"], 2)
            self.assertNotIn("ack", answer.json)
            self.assertNotIn("message", answer.json)
            version = answer.json["version"]
            for node in (b, c):
                cursor = node.get("/status").json["cursor"]
                with node.watch("?since=0") as watch:
                    seen = set()
                    while watch.last_id != cursor:
                        seen.add(watch.next()["version"])
                self.assertIn(version, seen)
        wait_same(nodes)
        # Nothing is waited for unless asked.
        self.assertNotIn("acks", a.put("x", b"x").json)
        # A directory in which nothing is new.
        again = a.request("PUT", "/fs/d/?ack=2", body=b"\0" * 1024,
                          headers={"Content-Type": "application/x-tar"})  # fmt: skip
        self.assertEqual((again.status, "version" in again.json), (200, False))

    def test_a_member_that_hangs(self):
        """The change is made, and goes on when the member comes back."""
        a, b, c = nodes = self.network(3)
        put(a, "before", b"x")
        wait_same(nodes)
        c.signal(signal.SIGSTOP)
        for answer in self.changes(a, "?ack=2&ack_wait=1"):
            self.assertEqual(answer.status, 202, answer)
            self.assertEqual((answer.json["acks"], answer.json["ack"]), (1, 2))
            self.assertIn("1 of 2", answer.json["message"])
            self.assertIn("version", answer.json)
        for arguments in (("put", "-", "cli"), ("mkdir", "clid"), ("mv", "cli", "cli2"),
                          ("rm", "cli2")):  # fmt: skip
            result = self.artel(a, *arguments, "--ack", "2", "--ack-wait", "1")
            self.assertEqual(result.status, 1, result)
            self.assertIn("1 of 2 other nodes", result.err)
        # One is enough for this.
        self.assertEqual(self.artel(a, "put", "-", "one", "--ack", "1").status, 0)
        c.signal(signal.SIGCONT)
        wait_same(nodes)
        self.assertEqual(self.artel(a, "put", "-", "two", "--ack", "2").status, 0)

    def artel(self, node, *arguments, **env):
        process = harness.start(*arguments, env={"ARTEL_NODE": node.url, **env})
        return harness.finish(process, data=b"" if "-" in arguments else None)

    def test_a_node_has_a_default(self):
        a = self.new("--ack", "1").start()
        b = self.new("--join", a.at).start()
        self.wait_all_alive()
        self.assertEqual(a.put("x", b"x").json["acks"], 1)
        self.assertNotIn("acks", a.put("x", b"y", "?ack=0").json)
        self.assertNotIn("acks", b.put("x", b"z").json)
        result = self.artel(b, "put", "-", "y", "--json", ARTEL_ACK="1")
        self.assertEqual(json.loads(result.out)["acks"], 1)

    def test_nobody_is_there(self):
        a = self.new().start()
        answer = a.put("x", b"x", "?ack=1&ack_wait=1")
        self.assertEqual((answer.status, answer.json["acks"]), (202, 0))

    def test_a_node_that_stops_waits_no_longer(self):
        a = self.new().start()
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(a.put("x", b"x", "?ack=1&ack_wait=3600"))
        )
        thread.start()
        wait_for(lambda: "x" in listing(a), SOON_S, "the change")
        a.stop()
        thread.join(SOON_S)
        self.assertEqual((answers[0].status, answers[0].json["acks"]), (202, 0))


class Conflicts(Nodes):
    def conflicts(self, node):
        return {each["path"]: each["versions"] for each in node.get("/conflicts").json["conflicts"]}

    def test_changes_while_the_other_was_away(self):
        a, b = nodes = self.network(2)
        put(a, "d/f", b"before")
        put(a, "d/other", b"before")
        wait_same(nodes)
        b.stop()
        of_a = put(a, "d/f", b"of a")
        a.delete("d/other")
        a.stop()
        b.start()
        of_b = put(b, "d/f", b"of b")
        put(b, "d/other", b"of b")
        a.start()
        tree = wait_same(nodes)
        self.assertEqual((tree["d/f"]["conflicts"], "conflicts" in tree["d/other"]), (1, False))
        for node in nodes:
            found = self.conflicts(node)
            self.assertEqual(list(found), ["d/f"])
            shown, lost = found["d/f"]
            self.assertEqual((shown["current"], shown["conflict"]), (True, False))
            self.assertEqual((lost["current"], lost["conflict"]), (False, True))
            self.assertEqual({shown["version"], lost["version"]}, {of_a, of_b})
            self.assertEqual(tree["d/f"]["id"], shown["id"])
            lines = harness.finish(
                harness.start("conflicts", env={"ARTEL_NODE": node.url})
            ).out.decode().splitlines()
            self.assertEqual(lines[0], "d/f")
            self.assertIn(f"{shown['version']}  (current)", lines[1])
            self.assertIn(f"{lost['version']}  (conflict)", lines[2])
            by = {v["version"]: v["by"] for v in (shown, lost)}
            self.assertEqual(by, {of_a: a.name, of_b: b.name})
        # The loser is chosen, at the node that has not its content.
        other = a if lost["version"] == of_b else b
        restored = other.request(
            "POST", "/fs/d/f?ack=1", json.dumps({"op": "restore", "version": lost["version"]}))
        self.assertEqual((restored.status, restored.json["acks"]), (200, 1), restored)
        tree = wait_same(nodes)
        self.assertEqual(tree["d/f"]["id"], lost["id"])
        for node in nodes:
            self.assertEqual(self.conflicts(node), {})
            known = versions(node, "d/f")
            self.assertTrue(known[restored.json["version"]]["current"])
            self.assertFalse(known[shown["version"]]["conflict"])
        # Back again to the other one, where its content is.
        holder = a if shown["version"] == of_a else b
        body = json.dumps({"op": "restore", "version": shown["version"]})
        self.assertEqual(holder.request("POST", "/fs/d/f", body).status, 200)
        self.assertEqual(wait_same(nodes)["d/f"]["id"], shown["id"])
        # Of the past, and its content is not here.
        answer = (b if holder is a else a).request("POST", "/fs/d/f", body)
        self.assertEqual((answer.status, answer.error), (409, "not_held"), answer)


class Lag(Nodes):
    def test_members_tell_their_trees(self):
        a, b, c = nodes = self.network(3)
        put(a, "x", b"x")
        wait_same(nodes)
        status = a.get("/status?members=1").json
        self.assertTrue(status["trees_same"])
        self.assertEqual({tree["name"] for tree in status["trees"]}, {b.name, c.name})
        for tree in status["trees"]:
            self.assertEqual((tree["answered"], tree["same"], tree["behind"]), (True, True, 0))
            self.assertEqual(tree["fingerprint"], status["fingerprint"])
            self.assertEqual(tree["entries"], status["entries"])
        self.assertNotIn("trees", a.get("/status").json)
        out = harness.finish(harness.start("status", env={"ARTEL_NODE": a.url})).out.decode()
        self.assertRegex(out, "(?m)^trees +the same on all 3 members reached$")

        c.signal(signal.SIGSTOP)
        put(a, "y", b"y")
        status = a.get("/status?members=1").json
        # It does not answer, or is known not to be there.
        states = {tree["name"]: tree["answered"] for tree in status["trees"]}
        self.assertIn(states, ({b.name: True, c.name: False}, {b.name: True}))
        c.signal(signal.SIGCONT)
        wait_for(lambda: a.get("/status?members=1").json["trees_same"], SOON_S, "all are back")

        # Not more than so many wait for it.
        c.signal(signal.SIGSTOP)
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            answers = list(pool.map(lambda _: a.get("/status?members=1"), range(64)))
        self.assertEqual({answer.status for answer in answers}, {200, 503})
        self.assertEqual({answer.error for answer in answers if answer.status == 503}, {"busy"})
        self.assertGreaterEqual([answer.status for answer in answers].count(200), 16)
        c.signal(signal.SIGCONT)
        wait_for(lambda: a.get("/status?members=1").json["trees_same"]
                 and len(a.get("/status?members=1").json["trees"]) == 2, SOON_S, "all the same")

    def test_alone(self):
        a = self.new().start()
        status = a.get("/status?members=1").json
        self.assertEqual((status["trees"], status["trees_same"]), ([], True))
        out = harness.finish(harness.start("status", env={"ARTEL_NODE": a.url})).out.decode()
        self.assertIn("there is no other member", out)


if __name__ == "__main__":
    harness.main()
