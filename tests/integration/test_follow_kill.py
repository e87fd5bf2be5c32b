# SPDX-License-Identifier: Apache-2.0
"""`artel follow` while follower, node and publisher are killed at random: nobody ever sees a part of
a file or a mixture of two versions of a directory, the command runs for each arrival, and in the end
the directory is the tree."""

import hashlib
import os
import random
import threading
import time

import harness
from harness import SEED, check, wait_for
from following import Follower, of_tree, seen
from test_members import Nodes
from trees import SOON_S, put, put_tar, wait_same

ROUNDS = harness.scaled(25, sanitized=0.2)
FILES = 12  # of the directory that is switched
NAMES = [f"f/{i}" for i in range(20)] + [f"f/s{i}/x" for i in range(5)]


def sealed(seed, size):
    """Bytes that tell by themselves whether they are all there: the last 32 are a sum."""
    data = random.Random(seed).randbytes(size)
    return data + hashlib.sha256(data).digest()


def is_sealed(data):
    return hashlib.sha256(data[:-32]).digest() == data[-32:]


class Checker:
    """Reads all the time."""

    def __init__(self, directory):
        self.directory, self.faults, self.reads = directory, [], 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            while not self._is_over.is_set():
                self._plain()
                self._switched()
                time.sleep(0.002)  # others want to work, too
        except Exception as error:
            self.faults.append(f"the checker ended: {error!r}")

    def _plain(self):
        for folder, _, names in os.walk(self.directory / "a/f"):
            for name in names:
                try:
                    with open(os.path.join(folder, name), "rb") as file:
                        data = file.read()
                except OSError:
                    continue  # it has gone
                self.reads += 1
                if not is_sealed(data):
                    self.faults.append(f"{folder}/{name}: {len(data)} bytes are a part")

    def _switched(self):
        try:
            fd = os.open(self.directory / "a/d", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return
        try:
            found = set()
            for i in range(FILES):
                one = os.open(str(i), os.O_RDONLY, dir_fd=fd)
                found.add(os.read(one, 100))
                os.close(one)
            self.reads += 1
            if len(found) != 1:
                self.faults.append(f"a mixture: {found}")
        except FileNotFoundError:
            pass  # an old version, which goes
        finally:
            os.close(fd)

    def close(self):
        self._is_over.set()
        self._thread.join(60)


class Kill(Nodes):
    def start(self, node):
        node.start(*(("--join", self.nodes[0].at) if node is not self.nodes[0] else ()))

    def publish(self, node, number):
        """A few changes, as much of them as the node lives to take."""
        chance = random.Random(f"{SEED} {number}")
        for _ in range(chance.randrange(1, 12)):
            kind = chance.randrange(10)
            name = f"a/{chance.choice(NAMES)}"
            try:
                if kind < 5:
                    size = chance.choice([10, 3000, 300_000, 2_000_000])
                    node.put(name, sealed(chance.random(), size))
                elif kind < 7:
                    node.delete(name)
                elif kind < 8:
                    node.post(name, {"op": "rename", "to": f"a/{chance.choice(NAMES)}"})
                else:
                    data = b"%d %d" % (number, chance.randrange(1 << 30))
                    put_tar(node, "a/d", {str(i): data for i in range(FILES)}, "?atomic=1")
            except (OSError, harness.Failure, ValueError):
                return  # it was killed
            except Exception as error:  # http.client has errors of its own
                check(type(error).__module__ == "http.client", "publishing", repr(error))
                return

    def test_whoever_is_killed(self):
        publisher, node = self.network(2)
        log = self.root / "log"
        directory = self.root / "to"
        follower = Follower(self, node, "a", directory, "--keep", "3",
                            command=f'echo "$ARTEL_EVENT $ARTEL_ID $ARTEL_PATH" >> {log}')
        follower.start()
        checker = Checker(directory)
        self.addCleanup(checker.close)
        for number in range(ROUNDS):
            thread = threading.Thread(target=self.publish, args=(publisher, number))
            thread.start()
            time.sleep(self.random.random() * 0.4)  # somewhere in the middle
            victim = self.random.choice([publisher, node, follower, follower, None])
            if victim:
                victim.kill()
            thread.join()
            if victim is follower:
                follower.start()
            elif victim:
                self.start(victim)
        wait_same(self.nodes)

        def is_equal():
            try:
                return seen(directory) == of_tree(node, "a")
            except OSError:
                return False

        wait_for(is_equal, SOON_S, "the directory is the tree")
        wait_for(lambda: follower.state.get("current") and not follower.state["hooks"], SOON_S,
                 "all is done")
        checker.close()
        self.assertEqual(checker.faults, [])
        self.assertGreater(checker.reads, 100)
        self.assertFalse([path for path in seen(directory) if ".local-" in path],
                         "nothing of ours was taken for somebody's change")
        self.assertEqual([name for name in os.listdir(directory / ".artel-follow/tmp")
                          if name != "link"], [])
        self.check_hooks(log.read_text().splitlines(), node)

    def check_hooks(self, lines, node):
        """The last thing that was told of each path is what stands there."""
        last, files = {}, {}
        for line in lines:
            event, identity, path = line.split(" ")
            last[path] = event
            files.setdefault(path, set()).add(identity)
        entries = of_tree(node, "a")
        for path, data in entries.items():
            if data is None or path.startswith("a/d/"):
                continue
            self.assertIn(path, last, "its arrival was never told")
            self.assertNotEqual(last[path], "delete")
            told = files[path] | ({harness.file_id(data)} if last[path] == "rename" else set())
            self.assertIn(harness.file_id(data), told)
        for path, event in last.items():
            if event == "delete":
                self.assertNotIn(path, entries)
        if "a/d" in entries:
            self.assertEqual(last["a/d"], "atomic")


class Sweep(Nodes):
    """Killed at the n-th call that changes something below the directory, for many n."""

    def publish(self, node, number):
        """Each time all of it becomes something else, while nobody follows."""
        data = b"%d" % number
        for name in ("a/same", "a/deep/er/file"):
            put(node, name, data + name.encode())
        put(node, f"a/new{number}", data)
        if number > 0:
            answer = node.delete(f"a/new{number - 1}")
            check(answer.status == 200, "delete", answer)
            answer = node.post(f"a/moved{number - 1}", {"op": "rename", "to": f"a/moved{number}"})
            check(answer.status == 200, "rename", answer)
        else:
            put(node, "a/moved0", b"moved")
        if number > 0:
            node.delete("a/kind/below" if number % 2 else "a/kind")
        put(node, "a/kind" if number % 2 else "a/kind/below", b"a file, or in a directory")
        put_tar(node, "a/d", {str(i): data for i in range(3)} | {"same": b"same"}, "?atomic=1")

    def round(self, number, fault):
        node, follower = self.node, self.follower
        self.publish(node, number)
        follower.start(fault)
        process = follower.process

        def is_over():
            done = follower.state.get("current") and not follower.state["hooks"]
            return done or process.poll() is not None

        wait_for(is_over, SOON_S, f"{fault}: it is done, or dead")
        follower.kill()
        fault.collect()
        follower.start()
        wait_for(lambda: follower.state.get("current") and not follower.state["hooks"], SOON_S,
                 f"{fault}: the next one does it all")
        follower.stop()
        here, there = seen(self.directory), of_tree(node, "a")
        check(here == there, f"{fault}: not what the tree is", here, there)
        halves = len(os.listdir(self.directory / "a/.artel"))
        check(halves == 2, f"{fault}: {halves} versions, not the last and the one before")
        done = self.log.read_text().splitlines()
        self.log.write_text("")
        for told in (f"put a/new{number}", "put a/same", "put a/deep/er/file", "atomic a/d",
                     f"delete a/new{number - 1}"):
            check(told in done, f"{fault}: no run for '{told}'", done)
        check(any(told.endswith(f" a/moved{number}") for told in done), f"{fault}: the move", done)
        return fault.struck

    def test_killed_at_any_call(self):
        self.node = self.new().start()
        self.directory, self.log = self.root / "to", self.root / "log"
        self.log.write_text("")
        self.follower = Follower(self, self.node, "a", self.directory,
                                 command=f'echo "$ARTEL_EVENT $ARTEL_PATH" >> {self.log}')
        self.publish(self.node, 0)
        self.follower.start()
        wait_for(lambda: self.follower.state.get("current"), SOON_S, "it follows")
        self.follower.stop()
        number = 1
        self.publish(self.node, 1)
        self.follower.start()
        wait_for(lambda: self.follower.state.get("current"), SOON_S, "it has two versions")
        self.follower.stop()
        at, step = 1, 30 if harness.SANITIZED else 3
        while True:
            number += 1
            action = "kill" if number % 2 else "kill-after"
            fault = harness.Fault(self.directory, "any", at, action)
            if not self.round(number, fault):
                break
            at += self.random.randrange(step) + 1
        self.assertGreater(at, 40)


del Nodes

if __name__ == "__main__":
    harness.main()
