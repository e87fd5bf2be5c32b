# SPDX-License-Identifier: Apache-2.0
"""rename(2) and renameat2(2)."""

import ctypes
import errno
import os

import harness
from posix_checks.checks import Checks, pattern

AT_FDCWD = -100
NOREPLACE, EXCHANGE = 1, 2
libc = ctypes.CDLL(None, use_errno=True)


def rename_with(source, target, flags):
    if libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Renaming(Checks):
    def rename(self, source, target):
        os.rename(self.path(source), self.path(target))

    def test_a_file(self):
        self.make("a", b"content")
        self.rename("a", "b")
        self.assert_names(["b"])
        self.assert_content("b", b"content")

    def test_into_another_directory(self):
        self.mkdir("d")
        self.make("a", b"content")
        self.rename("a", "d/b")
        self.assert_names(["d"])
        self.assert_content("d/b", b"content")

    def test_over_a_file(self):
        self.make("a", b"new")
        self.make("b", b"old old")
        self.rename("a", "b")
        self.assert_names(["b"])
        self.assert_content("b", b"new")

    def test_to_itself(self):
        self.make("a", b"x")
        self.rename("a", "a")
        self.assert_content("a", b"x")

    def test_of_nothing_is_enoent(self):
        with self.fails(errno.ENOENT):
            self.rename("a", "b")

    def test_into_nothing_is_enoent(self):
        self.make("a")
        with self.fails(errno.ENOENT):
            self.rename("a", "no/b")

    def test_below_a_file_is_enotdir(self):
        self.make("a")
        self.make("b")
        with self.fails(errno.ENOTDIR):
            self.rename("a", "b/c")

    def test_a_file_over_a_directory_is_eisdir(self):
        self.make("a", b"x")
        self.mkdir("d")
        with self.fails(errno.EISDIR):
            self.rename("a", "d")
        self.assert_content("a", b"x")

    def test_a_directory_over_a_file_is_enotdir(self):
        self.mkdir("d")
        self.make("a", b"x")
        with self.fails(errno.ENOTDIR):
            self.rename("d", "a")
        self.assert_content("a", b"x")

    def test_a_directory(self):
        self.mkdir("d")
        self.mkdir("d/e")
        self.make("d/e/f", b"deep")
        self.rename("d", "other")
        self.assert_names(["other"])
        self.assert_content("other/e/f", b"deep")
        with self.fails(errno.ENOENT):
            os.stat(self.path("d/e/f"))

    def test_a_directory_over_an_empty_one(self):
        self.mkdir("d")
        self.make("d/f", b"x")
        self.mkdir("empty")
        self.rename("d", "empty")
        self.assert_names(["empty"])
        self.assert_content("empty/f", b"x")

    def test_a_directory_over_a_full_one(self):
        self.mkdir("d")
        self.mkdir("full")
        self.make("full/f", b"x")
        with self.fails(errno.ENOTEMPTY, errno.EEXIST):
            self.rename("d", "full")
        self.assert_names(["d", "full"])
        self.assert_content("full/f", b"x")

    def test_a_directory_into_itself_is_einval(self):
        self.mkdir("d")
        self.mkdir("d/e")
        with self.fails(errno.EINVAL):
            self.rename("d", "d/inside")
        with self.fails(errno.EINVAL):
            self.rename("d", "d/e/inside")
        self.assert_names(["e"], "d")

    def test_a_directory_over_its_parent(self):
        self.mkdir("d")
        self.mkdir("d/e")
        with self.fails(errno.ENOTEMPTY, errno.EEXIST):
            self.rename("d/e", "d")

    def test_a_directory_upwards(self):
        self.mkdir("d")
        self.mkdir("d/e")
        self.make("d/e/f", b"x")
        self.rename("d/e", "e")
        self.assert_names(["d", "e"])
        self.assert_content("e/f", b"x")

    def test_a_directory_with_a_file_open_below(self):
        self.mkdir("d")
        self.make("d/f", b"before")
        with self.open("d/f", os.O_RDWR) as fd:
            self.rename("d", "e")
            self.assertEqual(os.pread(fd, 10, 0), b"before")
            os.pwrite(fd, b"behind", 0)
        self.assert_content("e/f", b"behind")
        self.assert_names(["e"])

    def test_a_directory_that_is_open(self):
        self.mkdir("d")
        with self.open("d", os.O_RDONLY) as fd:
            self.rename("d", "e")
            os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        self.assert_names(["f"], "e")

    def test_a_directory_of_many(self):
        count = harness.scaled(500)
        self.mkdir("d")
        for number in range(count):
            self.make(f"d/{number}", b"%d" % number)
        self.rename("d", "e")
        self.assertEqual(len(os.listdir(self.path("e"))), count)
        self.assert_content("e/7", b"7")

    def test_a_file_that_is_being_written(self):
        with self.open("a") as fd:
            os.write(fd, b"one,")
            self.rename("a", "b")
            os.write(fd, b"two")
        self.assert_names(["b"])
        self.assert_content("b", b"one,two")

    def test_over_a_file_that_is_being_written(self):
        """What is written to the old file goes with it."""
        self.make("new", b"new")
        with self.open("file") as fd:
            os.write(fd, b"old")
            self.rename("new", "file")
            os.write(fd, b"more")
            self.assertEqual(os.pread(fd, 10, 0), b"oldmore")
        self.assert_content("file", b"new")

    def test_a_link_is_renamed_itself(self):
        self.make("target", b"x")
        os.symlink("target", self.path("link"))
        self.rename("link", "other")
        self.assertEqual(os.readlink(self.path("other")), "target")
        self.assert_content("target", b"x")

    def test_over_a_link_keeps_its_target(self):
        self.make("target", b"target")
        os.symlink("target", self.path("link"))
        self.make("file", b"file")
        self.rename("file", "link")
        self.assertFalse(self.path("link").is_symlink())
        self.assert_content("target", b"target")
        self.assert_content("link", b"file")

    def test_there_and_back_many_times(self):
        self.make("a", pattern(5000))
        for _ in range(30):
            self.rename("a", "b")
            self.rename("b", "a")
        self.assert_content("a", pattern(5000))

    def test_the_number_of_the_file_stays(self):
        self.make("a", b"x")
        before = self.path("a").stat().st_ino
        self.rename("a", "b")
        self.assertEqual(self.path("b").stat().st_ino, before)

    def test_not_over_what_is_there(self):
        self.make("a", b"a")
        self.make("b", b"b")
        with self.fails(errno.EEXIST):
            rename_with(self.path("a"), self.path("b"), NOREPLACE)
        self.assert_content("b", b"b")
        rename_with(self.path("a"), self.path("c"), NOREPLACE)
        self.assert_names(["b", "c"])

    def test_exchange(self):
        """A file system may say that it can't."""
        self.make("a", b"a")
        self.make("b", b"b")
        try:
            rename_with(self.path("a"), self.path("b"), EXCHANGE)
        except OSError as error:
            self.assertEqual(error.errno, errno.EINVAL)
            self.assert_content("a", b"a")
        else:
            self.assert_content("a", b"b")
