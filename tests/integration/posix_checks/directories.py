# SPDX-License-Identifier: Apache-2.0
"""Directories: making, removing, reading."""

import ctypes
import errno
import os
import stat

import harness
from posix_checks.checks import Checks

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
for name in ("readdir", "telldir", "rewinddir", "closedir"):
    getattr(libc, name).argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
NAME_OFFSET = 19  # of d_name in struct dirent


class Stream:
    """opendir(3), for what os.scandir() does not show."""

    def __init__(self, path):
        self.stream = libc.opendir(os.fsencode(path))
        if not self.stream:
            raise OSError(ctypes.get_errno(), "opendir")

    def next(self):
        entry = libc.readdir(self.stream)
        return os.fsdecode(ctypes.string_at(entry + NAME_OFFSET)) if entry else None

    def rest(self):
        return list(iter(self.next, None))

    def tell(self):
        return libc.telldir(self.stream)

    def seek(self, place):
        libc.seekdir(self.stream, place)

    def rewind(self):
        libc.rewinddir(self.stream)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        libc.closedir(self.stream)


class Directories(Checks):
    def test_make_and_remove(self):
        self.mkdir("d")
        self.assertTrue(self.path("d").is_dir())
        self.assert_names(["d"])
        self.path("d").rmdir()
        self.assert_names([])

    def test_an_empty_one_stays(self):
        self.mkdir("d")
        self.make("d/f")
        os.unlink(self.path("d/f"))
        self.assertTrue(self.path("d").is_dir())
        self.assert_names([], "d")

    def test_make_what_is_there(self):
        self.mkdir("d")
        self.make("f")
        os.symlink("nowhere", self.path("link"))
        for name in ("d", "f", "link"):
            with self.fails(errno.EEXIST):
                os.mkdir(self.path(name))

    def test_make_without_parent(self):
        with self.fails(errno.ENOENT):
            os.mkdir(self.path("no/d"))
        self.make("f")
        with self.fails(errno.ENOTDIR):
            os.mkdir(self.path("f/d"))

    def test_remove_a_full_one(self):
        self.mkdir("d")
        self.make("d/f", b"x")
        with self.fails(errno.ENOTEMPTY, errno.EEXIST):
            os.rmdir(self.path("d"))
        self.assert_content("d/f", b"x")

    def test_remove_what_is_none(self):
        self.make("f")
        with self.fails(errno.ENOTDIR):
            os.rmdir(self.path("f"))
        with self.fails(errno.ENOENT):
            os.rmdir(self.path("no"))
        self.mkdir("d")
        os.symlink("d", self.path("link"))
        with self.fails(errno.ENOTDIR):
            os.rmdir(self.path("link"))

    def test_unlink_of_one_is_eisdir(self):
        self.mkdir("d")
        with self.fails(errno.EISDIR, errno.EPERM):
            os.unlink(self.path("d"))

    def test_remove_the_one_that_is_open(self):
        self.mkdir("d")
        with self.open("d", os.O_RDONLY) as fd:
            self.path("d").rmdir()
            with self.fails(errno.ENOENT):
                os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
        self.assert_names([])

    def test_all_of_a_deep_tree(self):
        import shutil

        for a in range(5):
            for b in range(5):
                os.makedirs(self.path(f"t/{a}/{b}"))
                self.make(f"t/{a}/{b}/f", b"x")
        found = sum(len(files) for _, _, files in os.walk(self.path("t")))
        self.assertEqual(found, 25)
        shutil.rmtree(self.path("t"))
        self.assert_names([])

    def test_links_count_nothing_less_than_one(self):
        self.mkdir("d")
        self.make("f")
        self.assertGreaterEqual(self.path("d").stat().st_nlink, 1)
        self.assertEqual(self.path("f").stat().st_nlink, 1)


class Listing(Checks):
    def test_has_dots_and_each_name_once(self):
        for number in range(100):
            self.make(f"f{number}")
        with Stream(self.dir) as stream:
            names = stream.rest()
        self.assertEqual(sorted(names), sorted([".", "..", *(f"f{n}" for n in range(100))]))

    def test_tells_the_types(self):
        self.make("f")
        self.mkdir("d")
        os.symlink("f", self.path("l"))
        with os.scandir(self.dir) as entries:
            types = {each.name: (each.is_file(follow_symlinks=False), each.is_dir(follow_symlinks=False),
                                 each.is_symlink()) for each in entries}  # fmt: skip
        self.assertEqual(types, {"f": (True, False, False), "d": (False, True, False),
                                 "l": (False, False, True)})  # fmt: skip

    def test_tells_the_numbers_of_files(self):
        for name in ("a", "b", "c"):
            self.make(name)
        with os.scandir(self.dir) as entries:
            for each in entries:
                self.assertEqual(each.inode(), os.stat(each.path).st_ino)

    def test_what_stat_says_of_each(self):
        for number in range(300):
            self.make(f"f{number}", b"x" * number)
        sizes = {each.name: each.stat().st_size for each in os.scandir(self.dir)}
        self.assertEqual(sizes, {f"f{number}": number for number in range(300)})

    def test_of_a_file_is_enotdir(self):
        self.make("f")
        with self.fails(errno.ENOTDIR):
            os.listdir(self.path("f"))

    def test_rewind_sees_what_is_new(self):
        self.make("a")
        with Stream(self.dir) as stream:
            self.assertEqual(sorted(stream.rest()), [".", "..", "a"])
            self.make("b")
            stream.rewind()
            self.assertEqual(sorted(stream.rest()), [".", "..", "a", "b"])

    def test_seek_goes_on_where_tell_was(self):
        for number in range(500):
            self.make(f"f{number:03}")
        with Stream(self.dir) as stream:
            for _ in range(200):
                stream.next()
            place = stream.tell()
            rest = stream.rest()
            self.assertEqual(len(rest), 302)
            stream.seek(place)
            self.assertEqual(stream.rest(), rest)

    def test_while_names_come_and_go(self):
        """Names that were there all the time come exactly once, whatever happens to others."""
        stay = [f"stay{number:03}" for number in range(400)]
        for name in stay:
            self.make(name)
        with Stream(self.dir) as stream:
            seen = []
            while (name := stream.next()) is not None:
                seen.append(name)
                if len(seen) % 10 == 0:
                    self.make(f"a-new{len(seen)}")
                    self.make(f"z-new{len(seen)}")
                    if len(seen) > 40:
                        os.unlink(self.path(f"a-new{len(seen) - 30}"))
        self.assertEqual(sorted(name for name in seen if name.startswith("stay")), stay)
        self.assertEqual(len(seen), len(set(seen)))

    def test_removing_while_reading_leaves_nothing(self):
        for number in range(400):
            self.make(f"f{number}")
        with Stream(self.dir) as stream:
            while (name := stream.next()) is not None:
                if name not in (".", ".."):
                    os.unlink(self.path(name))
        self.assert_names([])

    def test_of_a_large_directory(self):
        count = harness.scaled(1000)
        for number in range(count):
            os.symlink("x", self.path(f"{number:06}"))
        self.assertEqual(len(os.listdir(self.dir)), count)
        self.assertEqual(len(set(os.listdir(self.dir))), count)
        self.assertTrue(stat.S_ISLNK(os.lstat(self.path(f"{count - 1:06}")).st_mode))

    def test_what_changed_is_seen_at_once(self):
        for number in range(20):
            self.make(f"f{number}")
            self.assertEqual(len(os.listdir(self.dir)), number + 1)
        for number in range(20):
            os.unlink(self.path(f"f{number}"))
            self.assertEqual(len(os.listdir(self.dir)), 19 - number)

    def test_a_name_that_was_asked_for_before_it_was_there(self):
        for number in range(20):
            self.assertFalse(self.path(f"f{number}").exists())
            self.make(f"f{number}", b"x")
            self.assertEqual(self.path(f"f{number}").stat().st_size, 1)
