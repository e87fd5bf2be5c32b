# SPDX-License-Identifier: Apache-2.0
"""What reaches the node behind the call that asked for it, or beside another one."""

import ctypes
import errno
import mmap
import os
import unittest

import harness
import mount
from harness import KIB, MIB, check, content, wait_for
from posix_checks.renaming import NOREPLACE, rename_with
from test_mount_faults import AT_ONCE_S, GONE, within
from test_mount_races import Between, OneMountBetween, write
from trees import listing

DELETION = b"POST /fs/?"
libc = ctypes.CDLL(None, use_errno=True)


class Mapping:
    """A file that is open by its mapping alone."""

    def __init__(self, path, size):
        fd = os.open(path, os.O_RDWR)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
        self.address = libc.mmap(None, size, mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
        self.size = size
        os.close(fd)
        check(self.address != ctypes.c_void_p(-1).value, "mmap", ctypes.get_errno())

    def write(self, data):
        ctypes.memmove(self.address, data, len(data))

    def close(self):
        check(libc.munmap(ctypes.c_void_p(self.address), ctypes.c_size_t(self.size)) == 0, "munmap")


class Removals(OneMountBetween):
    """unlink returns before the node has deleted anything."""

    def made(self, *names, directory="d"):
        """A mount with files of these names in a directory, which are published."""
        between, one = self.mount_between()
        path = one.path / directory
        path.mkdir()
        for name in names:
            write(path / name, name.encode(), sync=True)
        return between, one, path

    def unlinked(self, between, path):
        """Unlinks it; the node does not know yet."""
        between.hold(DELETION)
        os.unlink(path)
        check(between.is_held.wait(AT_ONCE_S), "no deletion is asked for")

    def test_it_is_gone_here_at_once(self):
        between, one, path = self.made("a", "b")
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.unlinked(between, path / "a")
        self.assertEqual(set(listing(self.node)), {"d", "d/a", "d/b"})
        self.assertFalse((path / "a").exists())
        self.assertEqual((os.listdir(path), os.listdir(fd)), (["b"], ["b"]))
        with self.assertRaises(FileNotFoundError):
            os.unlink(path / "a")
        with self.assertRaises(FileNotFoundError):
            os.rename(path / "a", path / "c")
        between.release()
        os.fsync(fd)
        os.close(fd)
        self.assertEqual(set(listing(self.node)), {"d", "d/b"})
        self.assertEqual(os.listdir(path), ["b"])
        one.stop()

    def test_who_has_it_open_reads_on(self):
        between, one, path = self.made("a")
        with open(path / "a", "rb") as file:
            self.unlinked(between, path / "a")
            self.assertEqual(file.read(), b"a")
            self.assertEqual(os.fstat(file.fileno()).st_nlink, 0)
            between.release()
        one.stop()

    def test_fsync_of_a_directory_waits_for_it(self):
        between, one, path = self.made("a")
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.unlinked(between, path / "a")
        thread = self.run_held(between, lambda: os.fsync(fd))
        thread.join(0.2)
        self.assertTrue(thread.is_alive(), "fsync does not wait")
        between.release()
        thread.join(AT_ONCE_S)
        self.assertFalse(thread.is_alive(), "fsync hangs")
        os.close(fd)
        self.assertEqual(set(listing(self.node)), {"d"})
        one.stop()

    def test_its_name_is_given_again(self):
        """To a file with the same content, to another, to a directory, a link, by a rename."""
        between, one, path = self.made("same", "other", "directory", "link", "renamed", "x")
        between.hold(DELETION)
        for name in ("same", "other", "directory", "link", "renamed"):
            os.unlink(path / name)
        check(between.is_held.wait(AT_ONCE_S), "no deletion is asked for")
        write(path / "same", b"same")
        write(path / "other", b"new")
        self.assertEqual(sorted(os.listdir(path)), ["other", "same", "x"])
        self.assertEqual((path / "same").read_bytes(), b"same")

        def make():
            os.mkdir(path / "directory")
            os.symlink("target", path / "link")
            os.rename(path / "x", path / "renamed")

        thread = self.run_held(between, make)
        between.release()
        thread.join(AT_ONCE_S)
        self.assertFalse(thread.is_alive(), "something hangs")
        names = ["directory", "link", "other", "renamed", "same"]
        self.assertEqual(sorted(os.listdir(path)), names)
        one.stop()
        self.assertEqual(set(listing(self.node)), {"d", *(f"d/{name}" for name in names)})
        for name, data in {"same": b"same", "other": b"new", "renamed": b"x"}.items():
            self.assertEqual(self.node.get(f"/fs/d/{name}").body, data)

    def test_its_directory_is_renamed_or_removed(self):
        between, one, path = self.made("a", "b")
        self.unlinked(between, path / "a")
        thread = self.run_held(between, lambda: os.rename(path, one.path / "e"))
        between.release()
        thread.join(AT_ONCE_S)
        self.assertEqual(os.listdir(one.path / "e"), ["b"])
        self.unlinked(between, one.path / "e/b")
        thread = self.run_held(between, lambda: os.rmdir(one.path / "e"))
        between.release()
        thread.join(AT_ONCE_S)
        self.assertEqual(os.listdir(one.path), [])
        one.stop()
        self.assertEqual(set(listing(self.node)), set())

    def test_what_another_node_made_of_it_stays(self):
        """It is another version than the one that was unlinked."""
        between, one, path = self.made("a")
        self.unlinked(between, path / "a")
        check(self.node.put("d/a", b"newer").status == 200, "put")
        wait_for(lambda: os.path.exists(path / "a"), AT_ONCE_S, "it is seen")
        self.assertEqual((path / "a").read_bytes(), b"newer")
        between.release()
        one.stop()
        self.assertEqual(self.node.get("/fs/d/a").body, b"newer")

    def test_many_and_all_that_was_promised(self):
        """What is unlinked and what is made while a mount is stopped is so afterwards."""
        between, one, path = self.made()
        count = harness.scaled(600, 0.2)
        for number in range(count):
            write(path / f"{number}", b"%d" % number)
        os.symlink("x", path / "l")
        for name in [*map(str, range(0, count, 2)), "l"]:
            os.unlink(path / name)
        names = {str(number) for number in range(1, count, 2)}
        self.assertEqual(set(os.listdir(path)), names)
        one.stop()
        self.assertEqual(set(listing(self.node)), {"d", *(f"d/{name}" for name in names)})

    def test_the_node_goes_while_something_is_unlinked(self):
        """It stays unlinked here, whoever asks is told, and so it is at the node when it is back."""
        between, one, path = self.made("a", "b")
        self.unlinked(between, path / "a")
        self.node.kill()
        between.release()
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        wait_for(lambda: self.refused(os.fsync, fd), AT_ONCE_S, "the removal fails")
        wait_for(lambda: self.refused(os.mkdir, one.path / "new"), AT_ONCE_S, "it is known")
        self.assertTrue(self.refused(os.unlink, path / "b"))
        self.assertFalse((path / "a").exists())
        self.assertTrue((path / "b").exists())
        self.assertTrue(self.refused(os.fsync, fd))
        self.node.start()
        wait_for(lambda: not self.refused(os.fsync, fd), AT_ONCE_S, "the node has all")
        os.close(fd)
        self.assertNotIn("d/a", listing(self.node))
        self.assertFalse((path / "a").exists())
        one.stop()

    def refused(self, function, argument):
        _, error = within(lambda: function(argument))
        check(not error or error.errno in GONE, "odd error", error)
        return error is not None


class Beside(OneMountBetween):
    def test_a_rename_that_replaces_nothing(self):
        """Also not what another node makes at that name meanwhile."""
        between, one = self.mount_between()
        write(one.path / "a", b"a", sync=True)
        between.hold(b"POST /fs/a")
        errors = []

        def rename():
            try:
                rename_with(one.path / "a", one.path / "b", NOREPLACE)
            except OSError as error:
                errors.append(error.errno)

        thread = self.run_held(between, rename)
        check(self.node.put("b", b"theirs").status == 201, "put")
        between.release()
        thread.join(AT_ONCE_S)
        self.assertEqual(errors, [errno.EEXIST])
        self.assertEqual(self.node.get("/fs/b").body, b"theirs")
        self.assertEqual(self.node.get("/fs/a").body, b"a")
        # One that is not published yet.
        fd = os.open(one.path / "c", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"c")
        rename_with(one.path / "c", one.path / "e", NOREPLACE)
        os.write(fd, b"more")
        os.close(fd)
        one.stop()
        self.assertEqual(self.node.get("/fs/e").body, b"cmore")
        self.assertEqual(set(listing(self.node)), {"a", "b", "e"})

    def change_beside_writes(self, change):
        """change(path) of a file, while others and it are written by way of mappings, which wait for
        nothing, and published together."""
        between, one = self.mount_between()
        names = [*(f"e{number}" for number in range(10)), "f", *(f"g{number}" for number in range(10))]
        for name in names:
            write(one.path / name, b"old")
        os.sync()
        self.synced(one.path)
        mappings = [Mapping(one.path / name, 3) for name in names]
        between.hold(b"POST /fs/f", is_answer=True)
        thread = self.run_held(between, lambda: change(one.path / "f"))
        for mapping in mappings:
            mapping.write(b"new")
            mapping.close()
        wait_for(lambda: all(self.node.get(f"/fs/{name}").body == b"new" for name in names[:10]),
                 AT_ONCE_S, "others are published")  # fmt: skip
        between.release()
        thread.join(AT_ONCE_S)
        one.stop()
        for name in names:
            self.assertEqual(self.node.get(f"/fs/{name}").body, b"new", name)
        one.start()

        return one

    def synced(self, path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)

    def test_an_attribute_beside_writes(self):
        one = self.change_beside_writes(lambda path: os.setxattr(path, "user.a", b"x"))
        self.assertEqual(os.getxattr(one.path / "f", "user.a"), b"x")
        one.stop()

    def test_a_mode_beside_writes(self):
        one = self.change_beside_writes(lambda path: os.chmod(path, 0o751))
        self.assertEqual(os.stat(one.path / "f").st_mode & 0o7777, 0o751)
        one.stop()


class Apart(mount.Mount):
    """A mount whose files the node can't open: /proc/PID there is another process, or none."""

    def begin(self, *words):
        apart = ("--pid", "--fork", "--kill-child", harness.ARTEL)
        return harness.start(*apart, *words, program="unshare")


class Large(OneMountBetween):
    """The node reads large files itself."""

    def put(self, between, path, size):
        """Publishes a file; (first line of the request, status) of each attempt."""
        data = content(path.name, size)
        write(path, data, sync=True)
        self.assertTrue(self.node.get(f"/fs/{path.name}").body == data)
        self.assertTrue(path.read_bytes() == data)
        return [each for each in between.answers if each[0].startswith(f"PUT /fs/{path.name}?".encode())]

    def test_the_bytes_do_not_go_through_the_socket(self):
        between, one = self.mount_between()
        for name, size in (("a", 300 * KIB), ("b", 5 * MIB + 1)):
            puts = self.put(between, one.path / name, size)
            self.assertEqual([(b"&from=/proc/" in line, status) for line, status in puts], [(True, 201)])
        one.stop()

    @unittest.skipIf(os.geteuid() != 0, "needs root: it makes a namespace")
    def test_they_do_where_they_must(self):
        between = Between(self.node.data)
        self.stack.callback(between.close)
        one = Apart(self.node, self.root / "mount")
        self.stack.callback(one.kill)
        one.start()
        puts = self.put(between, one.path / "a", 5 * MIB + 1)
        self.assertEqual([status for _, status in puts], [400, 201])
        self.assertEqual(len(self.put(between, one.path / "b", 300 * KIB)), 1)
        one.unmount()


if __name__ == "__main__":
    unittest.main()
