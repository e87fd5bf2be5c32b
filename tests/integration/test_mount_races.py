# SPDX-License-Identifier: Apache-2.0
"""What happens in a mount while something else does: names that go while their content is on its way
to the node, others who change what is being written here, a disk that is full meanwhile, an end."""

import contextlib
import ctypes
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import unittest

import harness
import mount
from harness import KIB, MIB, check, content, file_id, temp_dir, wait_for
from node import Node
from test_mount_faults import AT_ONCE_S, OneMount, within
from trees import listing, versions

AT_EMPTY_PATH = 0x1000
AT_STATX_FORCE_SYNC = 0x2000
STATX_BASIC_STATS = 0x7FF


def write(path, data, sync=False):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(fd, data)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def stat_anew(fd):
    """A stat that the kernel has to ask the mount for."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = ctypes.create_string_buffer(512)
    flags = AT_EMPTY_PATH | AT_STATX_FORCE_SYNC
    check(libc.statx(fd, b"", flags, STATX_BASIC_STATS, result) == 0, "statx", ctypes.get_errno())


class Names(OneMount):
    """Of files whose content is not published yet, or just now."""

    def tree(self, one):
        """{path: content} of the files at the node when the mount has ended."""
        one.stop()
        return {path: self.node.get(f"/fs/{path}").body for path, entry in listing(self.node).items()
                if entry["type"] == "file"}  # fmt: skip

    def replaced(self, path):
        """A file in the tree that another one has replaced, which is being written yet."""
        write(path / "f", b"old", sync=True)
        fd = os.open(path / "draft", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"new")
        os.rename(path / "draft", path / "f")
        return fd

    def test_a_file_that_replaced_another_is_unlinked(self):
        """The one that it replaced does not come back."""
        one = self.mount()
        fd = self.replaced(one.path)
        os.unlink(one.path / "f")
        os.close(fd)
        self.assertEqual(os.listdir(one.path), [])
        self.assertFalse((one.path / "f").exists())
        self.assertEqual(self.tree(one), {})

    def test_a_file_that_replaced_another_gets_another_name(self):
        """The one that it replaced does not come back."""
        one = self.mount()
        fd = self.replaced(one.path)
        os.rename(one.path / "f", one.path / "g")
        os.close(fd)
        self.assertEqual(os.listdir(one.path), ["g"])
        self.assertEqual((one.path / "g").read_bytes(), b"new")
        self.assertEqual(self.tree(one), {"g": b"new"})

    def test_files_are_replaced_and_unlinked_at_once(self):
        """None comes back, wherever its publication is when it goes."""
        one = self.mount()
        count = harness.scaled(100)
        back = 0
        for number in range(count):
            name = one.path / f"f{number}"
            write(name, b"old", sync=True)
            write(one.path / "draft", b"new %d" % number)
            os.rename(one.path / "draft", name)
            os.unlink(name)
            back += name.exists()
        self.assertEqual((back, self.tree(one)), (0, {}), f"of {count}")

    def test_files_are_written_again_and_unlinked_at_once(self):
        """None comes back when its content reaches the node after the removal."""
        one = self.mount()
        for number in range(harness.scaled(200)):
            name = one.path / f"f{number}"
            write(name, b"old", sync=True)
            write(name, b"new %d" % number)
            os.unlink(name)
        self.assertEqual(self.tree(one), {})

    def test_a_directory_is_renamed_while_it_is_listed(self):
        """What it holds is listed whatever its name is, and not what has its name now."""
        one = self.mount()
        (one.path / "d").mkdir()
        names = [f"f{number}" for number in range(5)]
        for name in names:
            write(one.path / "d" / name, b"x", sync=True)
        fd = os.open(one.path / "d", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.rename(one.path / "d", one.path / "e")
            self.assertEqual(sorted(os.listdir(fd)), names)
            (one.path / "d").mkdir()
            write(one.path / "d/other", b"x")
            self.assertEqual(sorted(os.listdir(fd)), names)
        finally:
            os.close(fd)
        one.stop()


class OthersChanges(OneMount):
    """Somebody else changes a name above or at a file that is being written here."""

    def change(self, one, function):
        """function() changes the tree; afterwards the mount has been told of it."""
        self.assertFalse((one.path / "later").exists())  # which the kernel remembers
        answer = function()
        check(answer.status in (200, 201, 204), "change", answer)
        check(self.node.put("later", b"").status == 201, "put")
        wait_for((one.path / "later").exists, AT_ONCE_S, "the mount is told of changes")

    def begin(self, one):
        """A new file that is being written in a directory of the tree."""
        (one.path / "d").mkdir()
        write(one.path / "d/x", b"x", sync=True)
        fd = os.open(one.path / "d/new", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"dear")
        return fd

    def finish(self, one, fd):
        """It is in the tree somewhere if fsync says so, and so it does."""
        with contextlib.suppress(OSError):
            os.stat(one.path / "d")
        os.write(fd, b" words")
        os.fsync(fd)
        os.close(fd)
        one.stop()
        ids = [entry.get("id") for entry in listing(self.node).values()]
        self.assertIn(file_id(b"dear words"), ids)

    def test_a_directory_is_renamed_under_a_writer(self):
        one = self.mount()
        fd = self.begin(one)
        self.change(one, lambda: self.node.post("d", {"op": "rename", "to": "e"}))
        self.assertEqual((one.path / "e/x").read_bytes(), b"x")
        self.finish(one, fd)

    def test_a_directory_is_removed_under_a_writer(self):
        one = self.mount()
        fd = self.begin(one)
        self.change(one, lambda: self.node.delete("d", "?recursive=1"))
        self.finish(one, fd)
        self.assertEqual(self.node.get("/fs/d/x").status, 404)

    def test_a_file_is_published_under_a_writer(self):
        """Both versions stand in the log, and the one that was written last is the current one."""
        one = self.mount()
        write(one.path / "f", b"before", sync=True)
        fd = os.open(one.path / "f", os.O_RDWR)
        self.change(one, lambda: self.node.put("f", b"by another"))
        os.stat(one.path / "f")
        os.pwrite(fd, b"MINE", 0)
        os.fsync(fd)
        os.close(fd)
        one.stop()
        self.assertEqual(self.node.get("/fs/f").body, b"MINEre")
        ids = {each.get("id") for each in versions(self.node, "f").values()}
        self.assertEqual(ids, {file_id(each) for each in (b"before", b"by another", b"MINEre")})


class Between:
    """A socket between a mount and its node, which can hold up a request or its answer."""

    def __init__(self, data):
        self.path = data / "socket"
        self.node_path = self.path.rename(data / "socket.node")
        self.request, self.is_answer = None, False
        self.is_held, self.go_on = threading.Event(), threading.Event()
        self.answers = []  # (first line of the request, status)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, request, is_answer=False):
        """The next request that begins so, or the answer to it, waits until release()."""
        self.is_held.clear()
        self.go_on.clear()
        self.is_answer, self.request = is_answer, request

    def release(self):
        self.request = None
        self.go_on.set()

    def close(self):
        self.release()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client):
        with contextlib.suppress(OSError), client, socket.socket(socket.AF_UNIX) as node:
            node.connect(str(self.node_path))
            line = b""
            while True:
                for one in select.select([client, node], [], [])[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    if one is client and b" HTTP/1.1\r\n" in data[:4096]:
                        line = data.partition(b"\r\n")[0]
                    if self.request and line.startswith(self.request) \
                            and self.is_answer == (one is node):  # fmt: skip
                        self.is_held.set()
                        self.go_on.wait()
                    (node if one is client else client).sendall(data)
                    if one is node and data.startswith(b"HTTP/1.1 "):
                        self.answers.append((line, int(data[9:12])))


class OneMountBetween(OneMount):
    def mount_between(self):
        between = Between(self.node.data)
        self.stack.callback(between.close)
        one = self.mount()
        self.stack.callback(between.release)  # first of all: who waits for it goes on
        return between, one

    def run_held(self, between, function):
        """Runs function() in a thread until what is to be held up is; gives the thread."""
        thread = threading.Thread(target=function, daemon=True)
        thread.start()
        check(between.is_held.wait(AT_ONCE_S), "nothing to hold up")
        return thread


class HeldUp(OneMountBetween):
    """The node, or the way to it, takes its time."""

    def test_a_rename_beside_a_large_upload(self):
        """It does not wait until the upload is through."""
        between, one = self.mount_between()
        write(one.path / "a", b"x", sync=True)
        data = content("large", 24 * MIB)
        between.hold(b"PUT /fs/large")
        closing = self.run_held(between, lambda: write(one.path / "large", data))
        _, error = within(lambda: os.rename(one.path / "a", one.path / "b"))
        self.assertIsNone(error)
        self.assertEqual((one.path / "b").read_bytes(), b"x")
        self.assertTrue(closing.is_alive())
        self.assertEqual(set(listing(self.node)), {"b"})
        between.release()
        closing.join(AT_ONCE_S)
        one.stop()
        self.assertEqual(self.node.get("/fs/large").body, data)

    def test_a_file_is_appended_to_while_it_is_renamed(self):
        """The node has renamed it, the mount does not know yet: what is written goes along."""
        between, one = self.mount_between()
        write(one.path / "log", b"first", sync=True)
        fd = os.open(one.path / "log", os.O_WRONLY | os.O_APPEND)
        between.hold(b"POST /fs/log", is_answer=True)
        renaming = self.run_held(between, lambda: os.rename(one.path / "log", one.path / "log.1"))
        self.assertEqual(set(listing(self.node)), {"log.1"})
        stat_anew(fd)
        between.release()
        renaming.join(AT_ONCE_S)
        os.write(fd, b" second")
        os.fsync(fd)
        os.close(fd)
        self.assertEqual(self.node.get("/fs/log.1").body, b"first second")
        one.stop()
        self.assertEqual(set(listing(self.node)), {"log.1"})


class FullDisk(OneMountBetween):
    def setUp(self):
        why = mount.need()
        if why or os.geteuid() != 0:
            self.skipTest(why or "only root can mount a disk")
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.root = self.stack.enter_context(temp_dir())
        self.disk = self.root / "disk"
        self.disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", self.disk]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            self.skipTest(f"no tmpfs: {result.stderr.strip()}")
        self.stack.callback(subprocess.run, ["umount", "-l", self.disk])
        self.node = Node(self.disk / "data", "--scrub-rate", "0")
        self.stack.callback(self.node.kill)
        self.node.start()

    def test_what_is_written_while_the_disk_is_full(self):
        """fsync says so as long as it is, though a close came before, and nothing is lost after."""
        between, one = self.mount_between()
        fd = os.open(one.path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, b"one\n")
        os.fsync(fd)
        with open(self.disk / "ballast", "wb", buffering=0) as ballast:
            space = os.statvfs(self.disk)
            os.posix_fallocate(ballast.fileno(), 0, space.f_bavail * space.f_frsize - 8 * MIB)
            os.write(fd, b"two\n")
            with contextlib.suppress(OSError):
                os.close(os.dup(fd))
            wait_for(lambda: any(line.startswith(b"PUT ") and status >= 400
                                 for line, status in between.answers),
                     AT_ONCE_S, "the node refuses it")  # fmt: skip
            for _ in range(3):
                with self.assertRaises(OSError) as caught:
                    os.fsync(fd)
                self.assertEqual(caught.exception.errno, errno.ENOSPC)
            ballast.truncate(0)
        os.write(fd, b"three\n")
        wait_for(lambda: self.is_synced(fd), AT_ONCE_S, "fsync works with room again")
        os.close(fd)
        self.assertEqual(self.node.get("/fs/log").body, b"one\ntwo\nthree\n")
        self.assertEqual((one.path / "log").read_bytes(), b"one\ntwo\nthree\n")
        one.stop()

    def test_what_was_closed_before_the_disk_was_full(self):
        """It is kept, whoever asks is told, and it is published when there is room again."""
        between, one = self.mount_between()
        data = {f"f{number}": content(number, 200 * KIB) for number in range(8)}
        os.mkdir(one.path / "d")
        with open(self.disk / "ballast", "wb", buffering=0) as ballast:
            between.hold(b"PUT ")
            for name, each in data.items():
                write(one.path / "d" / name, each)
            check(between.is_held.wait(AT_ONCE_S), "nothing is published")
            space = os.statvfs(self.disk)
            os.posix_fallocate(ballast.fileno(), 0, space.f_bavail * space.f_frsize)
            between.release()
            wait_for(lambda: any(status == 507 for _, status in between.answers), AT_ONCE_S,
                     "the node refuses it")  # fmt: skip
            directory = os.open(one.path / "d", os.O_RDONLY | os.O_DIRECTORY)
            with self.assertRaises(OSError) as caught:
                wait_for(lambda: os.fsync(directory), AT_ONCE_S, "fsync of the directory fails")
            self.assertEqual(caught.exception.errno, errno.ENOSPC)
            with self.assertRaises(OSError) as caught:
                write(one.path / "d/more", b"more")
            self.assertEqual(caught.exception.errno, errno.ENOSPC)
            self.assertEqual((one.path / "d/more").read_bytes(), b"more")
            ballast.truncate(0)
        wait_for(lambda: self.is_synced(directory), AT_ONCE_S, "fsync works with room again")
        os.close(directory)
        for name, each in {**data, "more": b"more"}.items():
            self.assertEqual(self.node.get(f"/fs/d/{name}").body, each, name)
            self.assertEqual((one.path / "d" / name).read_bytes(), each, name)
        one.stop()

    def is_synced(self, fd):
        try:
            os.fsync(fd)
            return True
        except OSError as error:
            check(error.errno == errno.ENOSPC, "odd error", error)
            return False


# Makes and removes files in a directory as long as there is one, and says when it is at it.
CREATOR = """
import os, sys
directory, number = sys.argv[1], 0
while os.path.isdir(directory):
    path = f"{directory}/{sys.argv[2]}-{number % 20}"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
        os.unlink(path)
    except OSError:
        pass
    number += 1
    if number == 30:
        print("at it", flush=True)
"""


class Ends(OneMount):
    def end_all(self, processes):
        """All of them first: in the kernel, one may wait for another."""
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()

    def test_a_mount_ends_while_others_create_in_it(self):
        """It does, also while the kernel is being told of changes in the very directory."""
        check(self.node.put("d/x", b"").status == 201, "put")
        end = threading.Event()
        counts = [0]

        def change():
            while not end.is_set():
                check(self.node.put(f"d/x{counts[0] % 50}", b"%d" % counts[0]).status < 300, "put")
                counts[0] += 1

        changer = threading.Thread(target=change, daemon=True)
        changer.start()
        self.stack.callback(changer.join, AT_ONCE_S)
        self.stack.callback(end.set)
        for _ in range(harness.scaled(3)):
            one = self.mount()
            creators = [subprocess.Popen([sys.executable, "-c", CREATOR, one.path / "d", str(number)],
                                         stdout=subprocess.PIPE) for number in range(4)]  # fmt: skip
            try:
                for creator in creators:
                    self.assertEqual(creator.stdout.readline(), b"at it\n")
                before = counts[0]
                wait_for(lambda: counts[0] > before + 20, AT_ONCE_S, "changes by another")
                one.process.send_signal(signal.SIGTERM)
                one.end()
            finally:
                self.end_all(creators)
            self.assertFalse(one.is_mounted())
        end.set()


if __name__ == "__main__":
    unittest.main()
