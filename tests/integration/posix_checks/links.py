# SPDX-License-Identifier: Apache-2.0
"""Symbolic links, hard links, special files, unlinking."""

import errno
import os
import stat

from posix_checks.checks import Checks, pattern


class SymbolicLinks(Checks):
    def test_read_back_as_written(self):
        for target in ("file", "../up", "/absolute/place", "a b", "\u00e4", "x" * 255, "."):
            os.symlink(target, self.path("link"))
            self.assertEqual(os.readlink(self.path("link")), target)
            self.assertEqual(os.lstat(self.path("link")).st_size, len(target.encode()))
            os.unlink(self.path("link"))

    def test_lead_to_their_target(self):
        self.mkdir("d")
        self.make("d/f", b"x")
        os.symlink("d/f", self.path("file"))
        os.symlink("d", self.path("directory"))
        self.assert_content("file", b"x")
        self.assert_content("directory/f", b"x")
        self.assert_names(["f"], "directory")

    def test_are_links(self):
        os.symlink("x", self.path("link"))
        self.assertTrue(stat.S_ISLNK(os.lstat(self.path("link")).st_mode))

    def test_dangling(self):
        os.symlink("nowhere", self.path("link"))
        with self.fails(errno.ENOENT):
            os.stat(self.path("link"))
        self.make("nowhere", b"now")
        self.assert_content("link", b"now")

    def test_loops_are_eloop(self):
        os.symlink("b", self.path("a"))
        os.symlink("a", self.path("b"))
        with self.fails(errno.ELOOP):
            os.stat(self.path("a"))
        os.symlink("self", self.path("self"))
        with self.fails(errno.ELOOP):
            os.open(self.path("self"), os.O_RDONLY)

    def test_long_targets(self):
        target = "/".join(["t" * 200] * 20)[:4000]
        os.symlink(target, self.path("link"))
        self.assertEqual(os.readlink(self.path("link")), target)
        with self.fails(errno.ENAMETOOLONG):
            os.symlink("x" * 4096, self.path("other"))

    def test_of_what_is_there_is_eexist(self):
        self.make("f")
        with self.fails(errno.EEXIST):
            os.symlink("x", self.path("f"))

    def test_with_an_empty_target(self):
        with self.fails(errno.ENOENT, errno.EINVAL):
            os.symlink("", self.path("link"))

    def test_reading_what_is_no_link_is_einval(self):
        self.make("f")
        with self.fails(errno.EINVAL):
            os.readlink(self.path("f"))

    def test_unlink_keeps_the_target(self):
        self.make("f", b"x")
        os.symlink("f", self.path("link"))
        os.unlink(self.path("link"))
        self.assert_content("f", b"x")

    def test_replaced_by_rename(self):
        """The switch that deployments make."""
        for number in range(10):
            os.symlink(f"release-{number}", self.path("next"))
            os.rename(self.path("next"), self.path("current"))
            self.assertEqual(os.readlink(self.path("current")), f"release-{number}")


class HardLinks(Checks):
    def test_are_refused(self):
        """artel has none: EPERM, as where a file system has none."""
        self.make("f", b"x")
        if self.is_artel:
            with self.fails(errno.EPERM):
                os.link(self.path("f"), self.path("g"))
            self.assert_names(["f"])
        else:
            os.link(self.path("f"), self.path("g"))
            self.assert_content("g", b"x")


class SpecialFiles(Checks):
    def test_pipes_are_refused(self):
        if self.is_artel:
            with self.fails(errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                os.mkfifo(self.path("pipe"))
            self.assert_names([])
        else:
            os.mkfifo(self.path("pipe"))

    def test_sockets_are_refused(self):
        import socket

        with socket.socket(socket.AF_UNIX) as one:
            here = os.getcwd()
            os.chdir(self.dir)  # the address of a socket is short
            try:
                if self.is_artel:
                    with self.fails(errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                        one.bind("socket")
                else:
                    one.bind("socket")
            finally:
                os.chdir(here)

    def test_mknod_makes_files(self):
        os.mknod(self.path("f"), stat.S_IFREG | 0o600)
        self.assert_content("f", b"")
        with self.fails(errno.EEXIST):
            os.mknod(self.path("f"), stat.S_IFREG | 0o600)


class Unlinking(Checks):
    def test_a_file(self):
        self.make("f", b"x")
        os.unlink(self.path("f"))
        self.assert_names([])
        with self.fails(errno.ENOENT):
            os.stat(self.path("f"))
        with self.fails(errno.ENOENT):
            os.unlink(self.path("f"))

    def test_below_a_file_is_enotdir(self):
        self.make("f")
        with self.fails(errno.ENOTDIR):
            os.unlink(self.path("f/g"))

    def test_an_open_file_can_be_read(self):
        data = pattern(400000)
        self.make("f", data)
        with self.open("f", os.O_RDONLY) as fd:
            os.unlink(self.path("f"))
            self.assert_names([])
            self.assertEqual(os.pread(fd, 500000, 0), data)
            self.assertEqual(os.fstat(fd).st_size, len(data))

    def test_an_open_file_can_be_written(self):
        with self.open("f") as fd:
            os.write(fd, b"before")
            os.unlink(self.path("f"))
            os.write(fd, b" behind")
            self.assertEqual(os.pread(fd, 100, 0), b"before behind")
            os.fsync(fd)
        self.assert_names([])

    def test_and_a_new_file_of_that_name(self):
        self.make("f", b"old")
        with self.open("f", os.O_RDWR) as fd:
            os.unlink(self.path("f"))
            self.make("f", b"new one")
            os.pwrite(fd, b"OLD", 0)
            self.assertEqual(os.pread(fd, 100, 0), b"OLD")
        self.assert_content("f", b"new one")

    def test_a_file_that_is_mapped(self):
        import mmap

        self.make("f", pattern(100000))
        with self.open("f", os.O_RDONLY) as fd:
            view = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        os.unlink(self.path("f"))
        self.assertEqual(view[:], pattern(100000))
        view.close()
