# SPDX-License-Identifier: Apache-2.0
"""Real nodes to which everything happens at once, while all change the same tree and are watched:
they are killed, stopped, started anew, cut off from each other, lose their disks, or get an older
copy back. After each round they are left in peace, and what was promised must hold:

1. All come to the same tree, the same versions of each path, and say that they agree.
2. What was acknowledged is known everywhere, as long as one that had it kept its disk.
3. What was replaced or deleted does not come back.
4. Nothing is missing in what a watcher was told of any log, unless it was told of a gap.
5. No name of a version stands for two changes.
6. No node ends by itself, sees a divergence, or refuses what another one says.

`./dev chaos` runs it for longer. Cuts need a network namespace, as in test_network.py; without root
or user namespaces there are none.

  ARTEL_CHAOS_NODES     how many
  ARTEL_CHAOS_SECONDS   of faults altogether
"""

import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time
import unittest

import harness
import test_network
from chaos import Deed, Disk, Ledger, Stream, Watcher, Worker, now
from harness import SANITIZED, SEED, check, temp_dir, wait_for
from node import Node
from trees import listing, wait_on

COUNT = int(os.environ.get("ARTEL_CHAOS_NODES", "4" if SANITIZED else "5"))
SECONDS = float(os.environ.get("ARTEL_CHAOS_SECONDS", "20"))
ROUND_S = 10 if SECONDS <= 60 else 20
MOVERS = 2
# Of a worker between two requests, at most.
PAUSE_S = 0.4 if SANITIZED else 0.1
# Fifteen seconds are wanted; this says that it never comes.
SAME_S = 300 if SANITIZED else 90
HAS_NAMESPACE = test_network.INSIDE in os.environ


def address(number):
    if HAS_NAMESPACE:
        return f"{test_network.address(number)}:7420"
    with socket.socket() as one:
        one.bind((f"127.0.0.{10 + number}", 0))
        return "{}:{}".format(*one.getsockname())


class Member(Node):
    def __init__(self, root, number, addresses):
        self.name, self.number, self.at = f"n{number}", number, addresses[number]
        self.disk = Disk()
        self.is_stopped = False
        self.copy = None
        self.merged_before = False
        others = [each for each in addresses if each != self.at]
        self.log = b""
        super().__init__(pathlib.Path(root) / self.name, "--listen", self.at, "--insecure",
                         "--name", self.name, "--zone", f"z{number % 2}", "--scrub-rate", "0",
                         "--join", ",".join(others[:3]))
        self.address = (self.at.split(":")[0], int(self.at.split(":")[1]))

    def __repr__(self):
        return self.name

    def check_alive(self):
        """Before something is done to it."""
        check(self.process.poll() is None, f"{self.name} ended by itself: {self.process.poll()}",
              self.log.decode(errors="replace")[-4000:])

    def check_metrics(self):
        figures = self.metrics()
        self.has_merged()
        for name in ("divergences", "ops_forked", "ops_refused", "messages_refused"):
            value = figures[f"artel_tree_{name}_total"]
            check(value == 0, f"{self.name}: tree_{name}_total {value}",
                  self.log.decode(errors="replace")[-4000:])

    def has_merged(self):
        """A snapshot, ever: what was before that in the feed of others is not in this one's."""
        self.merged_before = self.merged_before or b"event=tree_merge_begun" in self.log
        return self.merged_before

    def start(self):
        if self.log:
            self.has_merged()
        return super().start()

    def signal(self, number):
        super().signal(number)
        self.is_stopped = number == signal.SIGSTOP


class Cuts:
    """Who can't reach whom: rules for addresses, in one direction each."""

    def __init__(self, members):
        self.members, self.rules = members, []

    def add(self, some, others):
        added = [(a, b) for a in some for b in others]
        self.rules += added
        self._say("add", added)

    def heal(self):
        if self.rules:
            self._say("del", self.rules)
        self.rules = []

    def _say(self, verb, rules):
        lines = [f"rule {verb} pref 50 from {a.address[0]} to {b.address[0]} blackhole\n"
                 for a, b in rules]
        subprocess.run(("ip", "-batch", "-"), input="".join(lines), text=True, check=True)


class Chaos(unittest.TestCase):
    def setUp(self):
        if HAS_NAMESPACE:
            test_network.make_namespace(COUNT)
        root = temp_dir()
        self.addCleanup(root.__exit__, None, None, None)
        self.root = root.__enter__()
        self.random = random.Random(SEED)
        addresses = [address(number) for number in range(COUNT)]
        self.members = [Member(self.root, number, addresses) for number in range(COUNT)]
        for member in self.members:
            self.addCleanup(member.kill)
        self.cuts = Cuts(self.members)
        self.ledger = Ledger(self.members)
        self.threads = []
        self.addCleanup(self.end_threads)
        self.counts = {}
        self.story = []

    def end_threads(self):
        for thread in self.threads:
            thread.is_over.set()
        for thread in self.threads:
            thread.join()
        self.threads = []

    # ---- faults ----

    def tell(self, what, *members):
        names = " ".join(member.name for member in members)
        self.counts[what] = self.counts.get(what, 0) + 1
        self.story.append(f"{now() - self.begin:7.2f} {what} {names}")

    def running(self):
        return [member for member in self.members if member.process and not member.is_stopped]

    def end(self, member, kindly=False):
        """Whatever state it is in."""
        member.check_alive()
        if member.is_stopped:
            kindly = kindly and self.go_on(member)
        if kindly:
            member.check_metrics()
            member.stop()
        else:
            member.kill()
        member.is_stopped = False

    def go_on(self, member):
        member.signal(signal.SIGCONT)
        return True

    def kill(self, member):
        self.tell("kill", member)
        self.end(member)
        if self.random.random() < 0.6:
            member.start()

    def restart(self, member):
        self.tell("restart", member)
        self.end(member, kindly=True)
        member.start()

    def pause(self, member):
        self.tell("stop", member)
        member.signal(signal.SIGSTOP)

    def cut(self, _):
        self.cuts.heal()
        shuffled = self.random.sample(self.members, COUNT)
        size = self.random.choice((1, COUNT // 2))
        some, others = shuffled[:size], shuffled[size:]
        self.cuts.add(some, others)
        if self.random.random() < 0.7:
            self.cuts.add(others, some)
            self.tell("cut", *some)
        else:
            self.tell("cut one way", *some)

    def heal_cuts(self, _=None):
        self.tell("heal")
        self.cuts.heal()

    def last_words(self, member):
        """Another one has it, too, when the disk goes."""
        path = f"last/{member.name}/{self.random.randrange(10)}"
        data = f"last of {len(self.ledger.deeds)}".encode()
        deed = Deed("put", member, path, {path: harness.file_id(data)}, (path,))
        self.ledger.do(deed, lambda: member.put(path, data, "?ack=1&ack_wait=2"))
        return deed.acks

    def lose(self, member):
        acks = self.last_words(member)
        self.tell(f"lose disk after {acks} acks", member)
        with member.disk.event("lost"):
            self.end(member)
            shutil.rmtree(member.data)
        member.start()

    def copy(self, member):
        self.tell("copy disk", member)
        with member.disk.event("copied"):
            self.end(member, kindly=self.random.random() < 0.5)
            member.copy = member.copy or self.root / f"copy-{member.name}"
            shutil.rmtree(member.copy, ignore_errors=True)
            member.copy.mkdir()
            harness.copy_tree(member.data, member.copy)
        member.start()

    def put_back(self, member):
        if not member.copy:
            with_copy = [each for each in self.running() if each.copy]
            if not with_copy:
                self.copy(member)
                return
            member = self.random.choice(with_copy)
        self.last_words(member)
        self.tell("put disk back", member)
        with member.disk.event("put back"):
            self.end(member)
            shutil.rmtree(member.data)
            member.data.mkdir()
            harness.copy_tree(member.copy, member.data)
        member.start()

    def strike(self):
        """One fault, or the end of one."""
        down = [member for member in self.members if not member.process]
        stopped = [member for member in self.members if member.is_stopped]
        if down and self.random.random() < 0.4:
            member = self.random.choice(down)
            self.tell("start", member)
            member.start()
            return
        if stopped and self.random.random() < 0.4:
            self.tell("go on", stopped[0])
            self.go_on(stopped[0])
            return
        running = self.running()
        if len(running) <= max(1, COUNT // 3):
            return
        if self.due and self.random.random() < 0.5:
            fault = self.due.pop()
        else:
            weights, faults = zip(*self.faults())
            fault = self.random.choices(faults, weights)[0]
        fault(self.random.choice(running))

    def faults(self):
        """[(how often, fault)]"""
        faults = [(4, self.kill), (2, self.restart), (3, self.pause), (2, self.lose),
                  (2, self.copy), (2, self.put_back)]
        if HAS_NAMESPACE:
            faults += [(4, self.cut), (2, self.heal_cuts)]
        return faults

    def heal(self):
        self.cuts.heal()
        for member in self.members:
            if member.is_stopped:
                self.go_on(member)
        for member in self.members:
            if not member.process:
                member.start()
            member.check_alive()

    # ---- what must hold ----

    def are_same(self):
        prints = set()
        for member in self.members:
            status = member.get("/status?members=1").json
            prints.add(status["fingerprint"])
            trees = status["trees"]
            if not (status["agree"] and status["trees_same"] and len(prints) == 1
                    and len(trees) == COUNT - 1
                    and all(tree.get("behind") == 0 for tree in trees)):
                return False
        return True

    def wait_same(self, what):
        """All have the same tree, know that, and none has applied more changes. Gives how long that
        took."""
        begin = now()
        wait_on(self.members, self.are_same, what, SAME_S)
        return now() - begin

    def heads(self, member, paths):
        """{path: {version: what it is}}, and the same for what is known of the past."""
        heads, past = {}, {}
        connection = member.connect()
        for path in paths:
            answer = member.request("GET", f"/log/{path}?limit=10000", connection=connection)
            check(answer.status in (200, 404), "log", path, answer)
            heads[path], past[path] = {}, {}
            for version in answer.json["versions"] if answer.status == 200 else ():
                is_head = version["current"] or version["conflict"]
                kept = ("type", "id", "target", "lamport", "current", "conflict", "mtime")
                (heads if is_head else past)[path][version["version"]] = {
                    key: version.get(key) for key in kept}
        connection.close()
        return heads, past

    def feed(self, member, versions):
        """{version: [paths]} in the order in which the feed of a member tells them, up to when all
        of `versions` were told; None if there is a gap in it."""
        feed = {}
        lacking = set(versions)
        stream = Stream(member, "?since=0")
        deadline = now() + SAME_S
        try:
            while lacking:
                check(now() < deadline, f"{member.name} never tells of", lacking)
                for _, event in stream.read(1):
                    if not event:
                        continue
                    if event["event"] == "gap":
                        return None
                    self.ledger.note_event(event, member, stream.begin)
                    feed.setdefault(event["version"], set()).add(event["path"])
                    lacking.discard(event["version"])
        finally:
            stream.close()
        return feed

    def check_same(self):
        """Oracle 1, and what is known of each path."""
        trees = {member: listing(member) for member in self.members}
        first = trees[self.members[0]]
        for member, tree in trees.items():
            check(tree == first, f"{member.name} shows another tree",
                  {path for path in set(tree) | set(first) if tree.get(path) != first.get(path)})
        paths = sorted({path for deed in self.ledger.deeds for path in deed.writes} | set(first))
        logs = {member: self.heads(member, paths) for member in self.members}
        heads = logs[self.members[0]][0]
        for member, (others, _) in logs.items():
            for path in paths:
                check(others[path] == heads[path], f"{member.name} has other versions of {path}",
                      others[path], heads[path])
        return first, heads, {member: past for member, (_, past) in logs.items()}

    def check_kept(self, feeds, heads, past):
        """Oracle 2."""
        count = lost = 0
        for deed in self.ledger.acknowledged():
            if not self.ledger.must_be(deed):
                lost += 1
                continue
            count += 1
            for member, feed in feeds.items():
                if feed is None:
                    continue
                check(deed.version in feed, f"lost at {member.name}:", deed,
                      self.ledger.evidence[deed.version], self.disks())
                for path, what in deed.writes.items():
                    known = (heads[path].get(deed.version)
                             or past[member][path].get(deed.version))
                    check(known and what in (known["id"], known["target"]),
                          f"{member.name} does not know {deed.version} of {path}", deed, known)
        return count, lost

    def disks(self):
        return "\n".join(f"{member.name}: {member.disk.events}" for member in self.members)

    def check_gone(self, tree, heads):
        """Oracle 3. Each version that is there was not replaced by any deed that must be there; and
        of names that only one node changes, those deleted last are gone."""
        by_name = {}
        for deed in self.ledger.acknowledged():
            for name in {*deed.clears, *filter(None, (deed.clears_below,))}:
                by_name.setdefault(name, []).append(deed)
        for path, versions in heads.items():
            concerned = [deed for name in (path, *map(str, pathlib.PurePath(path).parents))
                         for deed in by_name.get(name, ())]
            for version in versions:
                deed = self.ledger.replacing(version, path, concerned)
                check(not deed, f"{version} of {path} is here again, which was replaced by", deed,
                      self.ledger.evidence.get(version), self.disks())
        own, gone = {}, 0
        for deed in self.ledger.deeds:
            if deed.path.startswith("own/"):
                own.setdefault(deed.path, []).append(deed)
        for path, deeds in own.items():
            if self.ledger.is_gone(deeds):
                check(path not in tree, "deleted, and here again", path, deeds[-5:])
                gone += 1
        return gone

    def check_feeds(self, feeds):
        """Oracle 5, and each log without a gap in what each node has applied."""
        whole = {member: feed for member, feed in feeds.items() if feed is not None}
        first = next(iter(whole.values()), {})
        last = {}
        for member, feed in whole.items():
            last = {}
            for version in feed:
                log, seq = version.split(":")
                check(int(seq) == last.get(log, 0) + 1,
                      f"{member.name}: after {log}:{last.get(log)} comes {version}")
                last[log] = int(seq)
            check(feed == first, f"{member.name} applied other changes",
                  {key: (feed.get(key), first.get(key)) for key in set(feed) | set(first)
                   if feed.get(key) != first.get(key)})
        return last

    def check_watchers(self, last):
        """Oracle 4: what they were told meanwhile they have checked themselves."""
        for watcher in self.watchers:
            wait_for(lambda: self.ledger.faults or watcher.is_loose or not watcher.lacks(last),
                     SAME_S, f"{watcher.name} is told of all")
        faults = self.ledger.faults
        check(not faults, f"{len(faults)} faults", *faults[:20])

    def watch(self, node, heard):
        """At rest."""
        answer = (node or self.members[0]).get("/watch/token").json
        start = (answer["cursor"], None if node else answer["token"])
        watcher = Watcher(self.ledger, node, self.random.getrandbits(32), start, heard)
        self.watchers.append(watcher)
        self.threads.append(watcher)
        watcher.start()

    def watch_anew(self, last):
        """Watchers that were told what a snapshot had changed are done. At rest others begin."""
        for watcher in [each for each in self.watchers if each.is_loose]:
            watcher.is_over.set()
            watcher.join()
            self.watchers.remove(watcher)
            self.threads.remove(watcher)
            self.tell_watcher(watcher)
            self.watch(watcher.node, last or None)

    def tell_watcher(self, watcher):
        print(f"{watcher.name}: {watcher.events} events, {watcher.connections} connections, "
              f"{watcher.gaps} gaps", flush=True)

    def mark(self, number):
        """A change at each member; gives their versions."""
        return [member.put(f"marks/{member.name}", f"{number}".encode()).json["version"]
                for member in self.members]

    def round(self, number, seconds):
        workers = [Worker(member, self.ledger, self.random.getrandbits(32), PAUSE_S)
                   for member in self.members for _ in range(2)]
        self.threads += workers
        for worker in workers:
            worker.start()
        # These come in each round; the copy first, so that there is one to put back.
        self.due = [self.lose, self.put_back, self.kill]
        self.random.shuffle(self.due)
        self.due.append(self.copy)
        end = now() + seconds
        while now() < end:
            self.strike()
            time.sleep(self.random.random())  # how long the fault lasts, or peace
        self.heal()
        healed = now()
        for worker in workers:
            worker.is_over.set()
        for worker in workers:
            worker.join()
            self.threads.remove(worker)
        self.wait_same(f"round {number}: all have the same tree")
        took = now() - healed

        marks = self.mark(number)
        self.wait_same("marks")
        for member in self.members:
            member.check_metrics()
        tree, heads, past = self.check_same()
        feeds = {member: self.feed(member, marks) for member in self.members}
        last = self.check_feeds(feeds)
        kept, lost = self.check_kept(feeds, heads, past)
        gone = self.check_gone(tree, heads)
        for member, feed in feeds.items():
            check(feed is not None or member.has_merged(), f"{member.name}: a gap for no reason")
        self.check_watchers(last)
        self.watch_anew(last)
        check(kept > 0, "nothing was asked")
        conflicts = sum(len(versions) > 1 for versions in heads.values())
        merged = sum(feed is None for feed in feeds.values())
        print(f"round {number}: same {took:.1f} s after the last fault; {kept} acknowledged "
              f"changes kept, {lost} may be lost, {len(last)} logs, {len(tree)} entries, "
              f"{conflicts} conflicts, {gone} deleted for good, {merged} by a snapshot", flush=True)
        return took

    def test_everything_at_once(self):
        print(f"{COUNT} nodes, {SECONDS:.0f} s of faults, "
              f"{'with' if HAS_NAMESPACE else 'without'} cuts", flush=True)
        self.begin = now()
        for member in self.members:
            member.start()
        self.watchers = []
        for node in self.members + [None] * MOVERS:
            self.watch(node, {})
        rounds = max(1, round(SECONDS / ROUND_S))
        took = []
        try:
            for number in range(rounds):
                took.append(self.round(number, SECONDS / rounds))
        except Exception:
            print("\n".join(self.story), flush=True)
            raise
        self.end_threads()
        for member in self.members:
            member.check_alive()
            member.stop()
        print(f"{rounds} rounds, {len(self.ledger.deeds)} requests, "
              f"same after {max(took):.1f} s at most; faults: {json.dumps(self.counts)}")
        for watcher in self.watchers:
            self.tell_watcher(watcher)


if __name__ == "__main__":
    if test_network.INSIDE not in os.environ:
        test_network.enter_namespace()  # returns if there is none
    harness.main()
