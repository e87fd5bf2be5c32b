# SPDX-License-Identifier: Apache-2.0
"""Mounts on bad days: nodes that end under them, mounts that are killed, options, leaving."""

import contextlib
import errno
import os
import random
import signal
import subprocess
import threading
import time
import unittest

import harness
import mount
from harness import KIB, SEED, check, content, wait_for
from node import Node
from trees import put_tar

# What "at once" may take while other tests run beside.
AT_ONCE_S = 90 if harness.SANITIZED else 15
# What it may take until a node that is frozen is known to be: ten seconds, and what other tests cost.
FROZEN_S = 180 if harness.SANITIZED else 60
NOBODY = 65534
GONE = (errno.EIO, errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EROFS)


def within(function, seconds=AT_ONCE_S):
    """function() in a thread: its result or its error; a failure if neither comes in time."""
    answer = []

    def call():
        try:
            answer.append((function(), None))
        except OSError as error:
            answer.append((None, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    check(answer, f"hangs for {seconds} s")
    return answer[0]


class OneMount(unittest.TestCase):
    def setUp(self):
        why = mount.need()
        if why:
            self.skipTest(why)
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.root = self.stack.enter_context(harness.temp_dir())
        self.node = Node(self.root / "data", "--scrub-rate", "0")
        self.stack.callback(self.node.kill)
        self.node.start()

    def mount(self, *options, directory="mount"):
        one = mount.Mount(self.node, self.root / directory, *options)
        self.stack.callback(one.kill)
        return one.start()

    def write(self, path, data):
        path.write_bytes(data)
        with open(path, "rb") as file:
            os.fsync(file.fileno())


class NodesThatEnd(OneMount):
    def check_without_node(self, one):
        """Nothing hangs: each operation works or says that the node is gone."""
        path = one.path
        for name, function in {
            "create": lambda: os.close(os.open(path / "new", os.O_WRONLY | os.O_CREAT)),
            "mkdir": lambda: os.mkdir(path / "newdir"),
            "rename": lambda: os.rename(path / "f", path / "g"),
            "unlink": lambda: os.unlink(path / "h"),
            "chmod": lambda: os.chmod(path / "f", 0o700),
            "symlink": lambda: os.symlink("x", path / "newlink"),
            "list": lambda: os.listdir(path),
            "stat": lambda: os.stat(path / "f"),
            "read": lambda: (path / "f").read_bytes(),
            "statfs": lambda: os.statvfs(path),
        }.items():
            result, error = within(function)
            if error:
                self.assertIn(error.errno, GONE, f"{name}: {error}")
            elif name in ("mkdir", "rename", "unlink", "chmod", "symlink"):
                self.fail(f"{name} works without a node: {result}")

    def test_a_node_that_was_stopped(self):
        one = self.mount()
        self.write(one.path / "f", b"content")
        self.write(one.path / "h", b"content")
        self.node.stop()
        self.check_without_node(one)
        self.node.start()
        self.check_again(one)

    def test_a_node_that_was_killed(self):
        one = self.mount()
        self.write(one.path / "f", b"content")
        self.write(one.path / "h", b"content")
        self.node.kill()
        self.check_without_node(one)
        self.node.start()
        self.check_again(one)

    def check_again(self, one):
        """With the node back, the same mount works again; if it ended, a new one does."""
        def works():
            try:
                (one.path / "after").write_bytes(b"after")
                return (one.path / "after").read_bytes() == b"after"
            except OSError as error:
                check(error.errno in GONE, "odd error", error)
                return False

        wait_for(works, AT_ONCE_S, "the mount works again")
        self.assertEqual((one.path / "f").read_bytes(), b"content")
        self.assertEqual((one.path / "h").read_bytes(), b"content")
        wait_for(lambda: self.node.get("/fs/after").body == b"after", AT_ONCE_S, "the node has it")
        # Others' changes are seen again, too.
        check(self.node.put("by-http", b"http").status == 201, "put")
        wait_for((one.path / "by-http").exists, AT_ONCE_S, "a change by another")
        one.stop()

    def test_what_is_written_while_the_node_is_away(self):
        """fsync says that it failed; nothing claims to be durable that is not."""
        one = self.mount()
        fd = os.open(one.path / "f", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"before")
        os.fsync(fd)
        self.node.kill()
        os.write(fd, b" away")
        _, error = within(lambda: os.fsync(fd))
        self.assertIsNotNone(error, "fsync works without a node")
        self.assertIn(error.errno, GONE)
        within(lambda: os.close(fd))
        self.node.start()
        self.assertEqual(self.node.get("/fs/f").body[:6], b"before")

    def test_readers_while_the_node_restarts(self):
        """They see right bytes or an error, never wrong ones."""
        one = self.mount()
        files = {f"f{number}": content(number, 400 * KIB + number) for number in range(20)}
        for name, data in files.items():
            self.write(one.path / name, data)
        end = threading.Event()
        wrong, counts = [], {"right": 0, "error": 0}

        def read(number):
            choose = random.Random(SEED + number)
            while not end.is_set():
                name = choose.choice(list(files))
                try:
                    fd = os.open(one.path / name, os.O_RDONLY)
                    try:
                        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                        offset = choose.randrange(len(files[name]))
                        data = os.pread(fd, 100000, offset)
                    finally:
                        os.close(fd)
                    if data != files[name][offset : offset + 100000]:
                        wrong.append((name, offset, len(data)))
                    counts["right"] += 1
                except OSError as error:
                    if error.errno not in GONE:
                        wrong.append(error)
                    counts["error"] += 1

        readers = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(4)]
        for each in readers:
            each.start()
        for number in range(4):
            before = counts["right"]
            wait_for(lambda: counts["right"] > before + 20, AT_ONCE_S, "reads")
            if number % 2:
                self.node.kill()
            else:
                self.node.stop()
            self.node.start()
        before = counts["right"]
        wait_for(lambda: counts["right"] > before + 20, AT_ONCE_S, "reads after restarts")
        end.set()
        for each in readers:
            each.join(AT_ONCE_S)
            check(not each.is_alive(), "a reader hangs")
        self.assertEqual(wrong, [], f"seed {SEED}")
        print(f"reads while the node restarted: {counts}", flush=True)
        one.stop()

    def test_a_writer_while_the_node_restarts(self):
        """What fsync confirmed is there, whatever happened."""
        one = self.mount()
        confirmed, refused = {}, 0
        end = threading.Event()

        def restart():
            for number in range(3):
                time.sleep(0.3)
                self.node.kill() if number % 2 else self.node.stop()
                self.node.start()
            end.set()

        restarter = threading.Thread(target=restart)
        restarter.start()
        number = 0
        while not end.is_set():
            name, data = f"f{number}", content(number, 20000)
            number += 1
            try:
                fd = os.open(one.path / name, os.O_WRONLY | os.O_CREAT)
                try:
                    os.write(fd, data)
                    os.fsync(fd)
                    confirmed[name] = data
                finally:
                    os.close(fd)
            except OSError as error:
                self.assertIn(error.errno, GONE)
                refused += 1
        restarter.join()
        for name, data in confirmed.items():
            self.assertEqual(self.node.get(f"/fs/{name}").body, data, name)
        print(f"files confirmed {len(confirmed)}, refused {refused}", flush=True)
        self.assertTrue(confirmed)
        wait_for(lambda: within(lambda: os.listdir(one.path))[0], AT_ONCE_S, "the mount works")


class FrozenNodes(OneMount):
    """A node that is stopped by a signal keeps its connections and says nothing."""

    def setUp(self):
        super().setUp()
        self.one = self.mount()
        self.write(self.one.path / "f", b"content")
        self.node.signal(signal.SIGSTOP)
        self.addCleanup(self.thaw)

    def thaw(self):
        if self.node.process:
            self.node.signal(signal.SIGCONT)

    def test_what_is_here_and_what_is_not(self):
        path = self.one.path
        # What needs no node is as ever.
        self.assertEqual(within(lambda: os.listdir(path)), (["f"], None))
        self.assertEqual(within((path / "f").read_bytes), (b"content", None))
        self.assertEqual(within((path / "f").stat)[0].st_size, 7)
        # What does is told so, and from then on at once.
        _, error = within(lambda: os.mkdir(path / "d"), FROZEN_S)
        self.assertEqual(error and error.errno, errno.ENOTCONN)
        for name, function in {
            "create": lambda: os.close(os.open(path / "new", os.O_WRONLY | os.O_CREAT)),
            "rename": lambda: os.rename(path / "f", path / "g"),
            "unlink": lambda: os.unlink(path / "f"),
            "chmod": lambda: os.chmod(path / "f", 0o700),
        }.items():
            _, error = within(function)
            self.assertIn(error and error.errno, GONE, name)
        self.assertEqual(within(lambda: os.listdir(path)), (["f"], None))
        self.assertEqual(within((path / "f").read_bytes), (b"content", None))
        # And when the node goes on, so does the mount.
        self.thaw()
        def works():
            with contextlib.suppress(OSError):
                os.mkdir(path / "again")
                return True
        wait_for(works, FROZEN_S, "the mount works again")
        self.write(path / "after", b"after")
        self.assertEqual(self.node.get("/fs/after").body, b"after")
        self.one.stop()

    def test_writing_and_closing(self):
        fd = os.open(self.one.path / "new", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"new")
        _, error = within(lambda: os.fsync(fd), FROZEN_S)
        self.assertIn(error and error.errno, GONE)
        within(lambda: os.close(fd))
        self.thaw()
        wait_for(lambda: self.node.get("/fs/new").body == b"new", FROZEN_S, "it is published")
        self.one.stop()

    def test_leaving_with_much_to_publish(self):
        """However much waits, it is given up as one, and said to be lost."""
        with contextlib.suppress(OSError):  # on a slow machine the mount knows before the end
            for number in range(1200):  # more than two batches
                (self.one.path / f"n{number}").write_bytes(b"x")
        self.one.process.send_signal(signal.SIGTERM)
        status, error = within(lambda: self.one.end(FROZEN_S), FROZEN_S)
        self.assertEqual((status, error), (1, None))
        self.assertIn(b"mount_publish_failed", self.one.log)


class DamagedDisks(OneMount):
    def test_segments_that_were_cut(self):
        """What can't be read is an error, however it was read before; the mount goes on."""
        one = self.mount()
        data = content("cut", 1024 * KIB)
        self.write(one.path / "f", data)
        fd = os.open(one.path / "f", os.O_RDONLY)
        self.stack.callback(os.close, fd)
        for size in (4 * KIB, 200 * KIB):
            self.assertEqual(os.pread(fd, size, 64 * KIB), data[64 * KIB : 64 * KIB + size])
        for segment in (self.node.data / "segments").iterdir():
            os.truncate(segment, 0)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for size in (4 * KIB, 200 * KIB, 4 * KIB):
            _, error = within(lambda: os.pread(fd, size, 64 * KIB))
            self.assertEqual(error and error.errno, errno.EIO)
        self.write(one.path / "g", b"new")
        self.assertEqual(sorted(os.listdir(one.path)), ["f", "g"])
        one.stop()


class MountsThatEnd(OneMount):
    def test_a_killed_mount(self):
        """Programs get an error; what was synced is there; a new mount of the same place works."""
        one = self.mount()
        self.write(one.path / "f", b"synced")
        fd = os.open(one.path / "f", os.O_RDONLY)
        one.process.send_signal(signal.SIGKILL)
        one.end()
        for function in (lambda: os.listdir(one.path), lambda: os.open(one.path / "f", os.O_RDONLY),
                         lambda: os.close(os.open(one.path / "new", os.O_WRONLY | os.O_CREAT))):
            _, error = within(function)
            self.assertIsNotNone(error)
            self.assertIn(error.errno, (errno.ENOTCONN, errno.ECONNABORTED))
        within(lambda: os.close(fd))
        self.assertEqual(self.node.get("/fs/f").body, b"synced")
        two = self.mount()  # in the same place, without another word
        self.assertEqual((two.path / "f").read_bytes(), b"synced")
        (two.path / "g").write_bytes(b"new")
        two.stop()
        self.assertFalse(two.is_mounted())

    def test_killed_again_and_again_while_it_works(self):
        """Nothing stays behind in the node's store that stops it or the next mount."""
        for number in range(harness.scaled(5)):
            one = self.mount()
            for each in range(20):
                (one.path / f"f{each}").write_bytes(content((number, each), 5000))
                (one.path / f"f{each}").read_bytes()
            self.write(one.path / "synced", b"%d" % number)
            one.kill()
        one = self.mount()
        self.assertEqual((one.path / "synced").read_bytes(), b"%d" % number)
        for each in range(20):
            data = (one.path / f"f{each}").read_bytes() if (one.path / f"f{each}").exists() else b""
            self.assertIn(len(data), (0, 5000))
        one.stop()
        report = self.node.scrub()
        self.assertEqual((report["complete"], report["blocks_bad"]), (True, 0), report)

    def test_leaving(self):
        for leave in ("fusermount3", signal.SIGTERM, signal.SIGINT):
            one = self.mount()
            name = str(leave)
            (one.path / name).write_bytes(b"closed just before")
            if leave == "fusermount3":
                self.assertEqual(one.unmount(), 0)
            else:
                one.process.send_signal(leave)
                self.assertEqual(one.end(), 0)
            self.assertFalse(one.is_mounted())
            # What was closed is there when the mount has ended.
            self.assertEqual(self.node.get(f"/fs/{name}").body, b"closed just before")
        self.assertEqual(os.listdir(self.root / "mount"), [])

    def test_leaving_with_files_open(self):
        one = self.mount()
        (one.path / "f").write_bytes(b"x")
        fd = os.open(one.path / "f", os.O_RDONLY)
        one.process.send_signal(signal.SIGTERM)
        within(one.end)
        within(lambda: os.close(fd))
        self.assertFalse(one.is_mounted())

    def test_two_mounts_of_one_node(self):
        one, two = self.mount(), self.mount(directory="other")
        for number in range(10):
            here, there = (one, two) if number % 2 else (two, one)
            (here.path / "f").write_bytes(b"%d" % number)
            wait_for(lambda: (there.path / "f").exists()
                     and (there.path / "f").read_bytes() == b"%d" % number, AT_ONCE_S, "a change")
        one.stop()
        (two.path / "g").write_bytes(b"still here")
        two.stop()

    def test_what_cannot_be_mounted(self):
        data = ("--data", self.node.data)
        (self.root / "file").write_bytes(b"")
        (self.root / "empty").mkdir()
        for words in ((*data, self.root / "nowhere"), (*data, self.root / "file"),
                      ("--data", self.root / "empty", self.root),
                      (*data, "-o", "nonsense", self.root)):  # fmt: skip
            result = harness.run("mount", *words)
            self.assertNotEqual(result.status, 0, result)
            self.assertIn("artel", result.err)
            self.assertFalse(os.path.ismount(self.root))
        # Nor over what the mount itself needs.
        for directory in (self.node.data, self.root):
            result = harness.run("mount", *data, directory)
            self.assertEqual(result.status, 1, result)
            self.assertIn("would hide the data", result.err)
        self.assertEqual(harness.run("mount").status, 2)


class Options(OneMount):
    def test_read_only(self):
        check(self.node.put("d/f", b"content").status == 201, "put")
        one = self.mount("-o", "ro")
        path = one.path
        self.assertEqual((path / "d/f").read_bytes(), b"content")
        self.assertEqual(os.listdir(path / "d"), ["f"])
        for function in (
            lambda: os.open(path / "new", os.O_WRONLY | os.O_CREAT),
            lambda: os.open(path / "d/f", os.O_RDWR),
            lambda: os.truncate(path / "d/f", 0),
            lambda: os.unlink(path / "d/f"),
            lambda: os.mkdir(path / "e"),
            lambda: os.rename(path / "d", path / "e"),
            lambda: os.chmod(path / "d/f", 0o600),
            lambda: os.utime(path / "d/f"),
            lambda: os.symlink("x", path / "l"),
            lambda: os.setxattr(path / "d/f", "user.a", b"x"),
        ):
            with self.assertRaises(OSError) as caught:
                function()
            self.assertEqual(caught.exception.errno, errno.EROFS)
        self.assertTrue(os.statvfs(path).f_flag & os.ST_RDONLY)
        # What others change is seen.
        check(self.node.put("d/g", b"more").status == 201, "put")
        wait_for((path / "d/g").exists, AT_ONCE_S, "a change")
        one.stop()

    def as_nobody(self, *words):
        """What a program prints that is run as another user; a part of its complaint, else."""
        result = subprocess.run([*map(str, words)], user=NOBODY, group=NOBODY, extra_groups=[],
                                capture_output=True, text=True, timeout=AT_ONCE_S,
                                env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})  # fmt: skip
        return result.stdout if result.returncode == 0 else result.stderr

    @unittest.skipIf(os.geteuid() != 0, "needs root: it acts as two users")
    def test_other_users(self):
        check(self.node.put("f", b"content").status == 201, "put")
        self.root.chmod(0o755)
        one = self.mount()
        self.assertIn("Permission denied", self.as_nobody("cat", one.path / "f"))
        one.stop()
        one = self.mount("-o", "allow_other")
        self.assertEqual(self.as_nobody("cat", one.path / "f"), "content")
        # Modes count for others, and they may not write what they do not own.
        (one.path / "f").chmod(0o600)
        self.assertIn("Permission denied", self.as_nobody("cat", one.path / "f"))
        self.assertIn("Permission denied", self.as_nobody("mkdir", one.path / "d"))
        self.assertIn("Permission denied", self.as_nobody("touch", one.path / "g"))
        self.assertEqual(os.listdir(one.path), ["f"])
        one.stop()


class ManyEntries(OneMount):
    def test_a_directory_of_a_hundred_thousand(self):
        count = harness.scaled(100000, 0.02)
        put_tar(self.node, "large", {f"{number:06}": b"" for number in range(count)})
        one = self.mount()
        path = one.path / "large"
        names = [entry.name for entry in os.scandir(path)]
        self.assertEqual(len(names), count)
        self.assertEqual(len(set(names)), count)
        self.assertEqual((path / f"{count - 1:06}").stat().st_size, 0)
        out = subprocess.run(["find", path, "-type", "f", "-size", "0"], capture_output=True,
                             check=True, timeout=10 * AT_ONCE_S)  # fmt: skip
        self.assertEqual(out.stdout.count(b"\n"), count)
        (path / "new").write_bytes(b"x")
        os.unlink(path / "000007")
        names = set(os.listdir(path))
        self.assertEqual(len(names), count)
        self.assertIn("new", names)
        self.assertNotIn("000007", names)
        os.rename(path / "new", path / "newer")
        self.assertEqual((path / "newer").read_bytes(), b"x")
        one.stop()


if __name__ == "__main__":
    unittest.main()
