# SPDX-License-Identifier: Apache-2.0
"""Modes, times, extended attributes, statfs, access."""

import contextlib
import ctypes
import errno
import os
import stat
import subprocess
import time

import harness
from posix_checks.checks import Checks

libc = ctypes.CDLL(None, use_errno=True)
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
YEAR_2001_NS = 1_000_000_000_123_456_789


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def set_times(path, access, change):
    """utimensat(2) with (seconds, nanoseconds) as they are."""
    times = (Timespec * 2)(Timespec(*access), Timespec(*change))
    if libc.utimensat(-100, os.fsencode(path), times, 0):
        raise OSError(ctypes.get_errno(), "utimensat")


class Modes(Checks):
    def mode(self, name):
        return stat.S_IMODE(os.stat(self.path(name)).st_mode)

    def test_of_new_files_follow_the_mask(self):
        before = os.umask(0o027)
        try:
            with self.open("f", mode=0o666):
                self.assertEqual(self.mode("f"), 0o640)
            os.mkdir(self.path("d"), 0o777)
        finally:
            os.umask(before)
        self.assertEqual(self.mode("f"), 0o640)
        self.assertEqual(self.mode("d"), 0o750)

    def test_change(self):
        self.make("f", b"content")
        for mode in (0o600, 0o755, 0o444, 0o000, 0o644):
            os.chmod(self.path("f"), mode)
            self.assertEqual(self.mode("f"), mode)
        self.assert_content("f", b"content")

    def test_change_of_a_directory(self):
        self.mkdir("d")
        self.make("d/f", b"x")
        for mode in (0o700, 0o555, 0o755):
            os.chmod(self.path("d"), mode)
            self.assertEqual(self.mode("d"), mode)
        self.assert_content("d/f", b"x")

    def test_change_by_descriptor(self):
        with self.open("f") as fd:
            os.write(fd, b"x")
            os.fchmod(fd, 0o751)
            self.assertEqual(stat.S_IMODE(os.fstat(fd).st_mode), 0o751)
        self.assertEqual(self.mode("f"), 0o751)
        self.assert_content("f", b"x")

    def test_stay_when_written(self):
        self.make("f", b"x")
        os.chmod(self.path("f"), 0o755)
        with self.open("f", os.O_WRONLY | os.O_TRUNC) as fd:
            os.write(fd, b"new")
        self.assertEqual(self.mode("f"), 0o755)

    def test_stay_when_renamed(self):
        self.make("f", b"x")
        os.chmod(self.path("f"), 0o755)
        os.rename(self.path("f"), self.path("g"))
        self.assertEqual(self.mode("g"), 0o755)

    def without_privilege(self, text):
        """Runs a shell command that may not keep the set-user-id bits of what it changes."""
        words = ["setpriv", "--bounding-set=-fsetid", "--inh-caps=-fsetid"] if os.geteuid() == 0 else []
        subprocess.run([*words, "sh", "-c", text], check=True, cwd=self.dir,
                       timeout=harness.RUN_TIMEOUT_S)  # fmt: skip

    def test_set_user_id_goes_when_others_change_the_file(self):
        for text in ("echo more >> f", ": > f", "truncate -s 1 f", "truncate -s 100000 f",
                     "chown $(id -u) f"):  # fmt: skip
            for mode, left in ((0o4755, 0o755), (0o6711, 0o711), (0o2744, 0o2744)):
                with self.subTest(text=text, mode=oct(mode)):
                    self.make("f", b"content")
                    os.chmod(self.path("f"), mode)
                    self.assertEqual(self.mode("f"), mode)
                    self.without_privilege(text)
                    self.assertEqual(self.mode("f"), left)
                    os.unlink(self.path("f"))

    def test_a_file_made_without_rights_can_be_written_by_its_maker(self):
        with self.open("f", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400) as fd:
            os.write(fd, b"x")
        self.assertEqual(self.mode("f"), 0o400)
        self.assert_content("f", b"x")

    def test_of_what_is_not_there(self):
        with self.fails(errno.ENOENT):
            os.chmod(self.path("no"), 0o600)

    def test_owner_is_who_made_it(self):
        self.make("f")
        self.mkdir("d")
        for name in ("f", "d"):
            self.assertEqual(self.path(name).stat().st_uid, os.getuid())
        os.chown(self.path("f"), os.getuid(), -1)
        os.chown(self.path("f"), os.getuid(), self.path("f").stat().st_gid)
        os.chown(self.path("f"), -1, -1)

    def test_access(self):
        self.make("f")
        self.assertTrue(os.access(self.path("f"), os.F_OK))
        self.assertTrue(os.access(self.path("f"), os.R_OK | os.W_OK))
        self.assertFalse(os.access(self.path("f"), os.X_OK))
        os.chmod(self.path("f"), 0o755)
        self.assertTrue(os.access(self.path("f"), os.X_OK))
        self.assertFalse(os.access(self.path("no"), os.F_OK))


class Times(Checks):
    def changed(self, name):
        return os.lstat(self.path(name)).st_mtime_ns

    def test_of_a_new_file_are_now(self):
        before = time.time()
        self.make("f", b"x")
        self.assertGreater(self.changed("f") / 1e9, before - 5)
        self.assertLess(self.changed("f") / 1e9, time.time() + 5)

    def test_set_to_the_nanosecond(self):
        self.make("f", b"x")
        for moment in (YEAR_2001_NS, 1, 0, 4_000_000_000_999_999_999):
            os.utime(self.path("f"), ns=(moment, moment))
            self.assertEqual(self.changed("f"), moment)
        self.assert_content("f", b"x")

    def test_set_on_a_directory(self):
        self.mkdir("d")
        os.utime(self.path("d"), ns=(YEAR_2001_NS, YEAR_2001_NS))
        self.assertEqual(self.changed("d"), YEAR_2001_NS)

    def test_set_on_a_link(self):
        os.symlink("nowhere", self.path("link"))
        os.utime(self.path("link"), ns=(YEAR_2001_NS, YEAR_2001_NS), follow_symlinks=False)
        self.assertEqual(self.changed("link"), YEAR_2001_NS)

    def test_set_by_descriptor_outlives_close(self):
        with self.open("f") as fd:
            os.write(fd, b"x")
            os.utime(fd, ns=(YEAR_2001_NS, YEAR_2001_NS))
            self.assertEqual(os.fstat(fd).st_mtime_ns, YEAR_2001_NS)
        self.assertEqual(self.changed("f"), YEAR_2001_NS)

    def test_set_while_written_by_another_descriptor(self):
        """As cp -p and rsync do it: write, then times, then close."""
        with self.open("f") as fd:
            os.write(fd, b"x")
            os.utime(self.path("f"), ns=(YEAR_2001_NS, YEAR_2001_NS))
        self.assertEqual(self.changed("f"), YEAR_2001_NS)

    def test_now_and_omit(self):
        self.make("f", b"x")
        set_times(self.path("f"), (5, 0), (YEAR_2001_NS // 10**9, 7))
        set_times(self.path("f"), (6, 0), (0, UTIME_OMIT))
        self.assertEqual(self.changed("f"), YEAR_2001_NS // 10**9 * 10**9 + 7)
        before = time.time()
        set_times(self.path("f"), (0, UTIME_OMIT), (0, UTIME_NOW))
        self.assertGreater(self.changed("f") / 1e9, before - 5)

    def test_a_write_moves_it(self):
        self.make("f", b"x")
        os.utime(self.path("f"), ns=(YEAR_2001_NS, YEAR_2001_NS))
        with self.open("f", os.O_WRONLY) as fd:
            os.write(fd, b"y")
        self.assertGreater(self.changed("f"), YEAR_2001_NS + 10**9)

    def test_truncation_moves_it(self):
        self.make("f", b"xyz")
        os.utime(self.path("f"), ns=(YEAR_2001_NS, YEAR_2001_NS))
        os.truncate(self.path("f"), 1)
        self.assertGreater(self.changed("f"), YEAR_2001_NS + 10**9)

    def test_a_read_does_not_move_it(self):
        self.make("f", b"x")
        before = self.changed("f")
        self.assert_content("f", b"x")
        with self.open("f", os.O_RDWR):
            pass
        self.assertEqual(self.changed("f"), before)

    def test_a_rename_does_not_move_it(self):
        self.make("f", b"x")
        os.utime(self.path("f"), ns=(YEAR_2001_NS, YEAR_2001_NS))
        os.rename(self.path("f"), self.path("g"))
        self.assertEqual(self.changed("g"), YEAR_2001_NS)

    def test_chmod_does_not_move_it(self):
        self.make("f", b"x")
        os.utime(self.path("f"), ns=(YEAR_2001_NS, YEAR_2001_NS))
        os.chmod(self.path("f"), 0o755)
        self.assertEqual(self.changed("f"), YEAR_2001_NS)


class ExtendedAttributes(Checks):
    def test_set_and_get(self):
        self.make("f", b"content")
        os.setxattr(self.path("f"), "user.one", b"1")
        os.setxattr(self.path("f"), "user.two", b"\0\xff binary")
        self.assertEqual(os.getxattr(self.path("f"), "user.one"), b"1")
        self.assertEqual(os.getxattr(self.path("f"), "user.two"), b"\0\xff binary")
        listed = os.listxattr(self.path("f"))
        self.assertEqual(sorted(each for each in listed if each.startswith("user.")),
                         ["user.one", "user.two"])  # fmt: skip
        self.assert_content("f", b"content")

    def test_replaced_and_removed(self):
        self.make("f")
        os.setxattr(self.path("f"), "user.a", b"one")
        os.setxattr(self.path("f"), "user.a", b"another")
        self.assertEqual(os.getxattr(self.path("f"), "user.a"), b"another")
        os.removexattr(self.path("f"), "user.a")
        with self.fails(errno.ENODATA):
            os.getxattr(self.path("f"), "user.a")
        with self.fails(errno.ENODATA):
            os.removexattr(self.path("f"), "user.a")

    def test_empty_values(self):
        self.make("f")
        os.setxattr(self.path("f"), "user.empty", b"")
        self.assertEqual(os.getxattr(self.path("f"), "user.empty"), b"")

    def test_flags(self):
        self.make("f")
        with self.fails(errno.ENODATA):
            os.setxattr(self.path("f"), "user.a", b"x", os.XATTR_REPLACE)
        os.setxattr(self.path("f"), "user.a", b"x", os.XATTR_CREATE)
        with self.fails(errno.EEXIST):
            os.setxattr(self.path("f"), "user.a", b"y", os.XATTR_CREATE)
        os.setxattr(self.path("f"), "user.a", b"z", os.XATTR_REPLACE)
        self.assertEqual(os.getxattr(self.path("f"), "user.a"), b"z")

    def test_of_directories(self):
        self.mkdir("d")
        os.setxattr(self.path("d"), "user.a", b"x")
        self.assertEqual(os.getxattr(self.path("d"), "user.a"), b"x")

    def test_stay_when_written_and_renamed(self):
        self.make("f", b"one")
        os.setxattr(self.path("f"), "user.a", b"x")
        with self.open("f", os.O_WRONLY) as fd:
            os.write(fd, b"two")
        os.rename(self.path("f"), self.path("g"))
        self.assertEqual(os.getxattr(self.path("g"), "user.a"), b"x")
        self.assert_content("g", b"two")

    def test_set_while_open(self):
        with self.open("f") as fd:
            os.write(fd, b"x")
            os.setxattr(fd, "user.a", b"1")
            os.write(fd, b"y")
            self.assertEqual(os.getxattr(fd, "user.a"), b"1")
        self.assertEqual(os.getxattr(self.path("f"), "user.a"), b"1")
        self.assert_content("f", b"xy")

    def test_of_an_unknown_kind(self):
        self.make("f")
        with self.fails(errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL):
            os.setxattr(self.path("f"), "nonsense.a", b"x")

    def test_too_short_a_buffer_is_erange(self):
        self.make("f")
        os.setxattr(self.path("f"), "user.a", b"12345")
        buffer = ctypes.create_string_buffer(3)
        path = os.fsencode(self.path("f"))
        self.assertEqual(libc.getxattr(path, b"user.a", buffer, 3), -1)
        self.assertEqual(ctypes.get_errno(), errno.ERANGE)
        self.assertEqual(libc.getxattr(path, b"user.a", None, 0), 5)

    def test_of_what_is_not_there(self):
        with self.fails(errno.ENOENT):
            os.getxattr(self.path("no"), "user.a")


class FileSystem(Checks):
    def test_statfs(self):
        room = os.statvfs(self.dir)
        self.assertGreater(room.f_blocks, 0)
        self.assertGreater(room.f_bsize, 0)
        self.assertLessEqual(room.f_bavail, room.f_blocks)
        self.assertEqual(room.f_namemax, 255)

    def test_one_device(self):
        self.make("f")
        self.mkdir("d")
        devices = {os.stat(path).st_dev for path in (self.dir, self.path("f"), self.path("d"))}
        self.assertEqual(len(devices), 1)

    def test_numbers_are_unique_and_stay(self):
        numbers = {}
        for number in range(100):
            self.make(f"f{number}")
            numbers[f"f{number}"] = self.path(f"f{number}").stat().st_ino
        self.assertEqual(len(set(numbers.values())), 100)
        for name, number in numbers.items():
            self.assertEqual(self.path(name).stat().st_ino, number)

    def test_the_number_of_a_file_stays_when_it_is_written(self):
        self.make("f", b"x")
        before = self.path("f").stat().st_ino
        self.make("f", b"other content")
        with contextlib.closing(open(self.path("f"), "rb")) as file:
            self.assertEqual(os.fstat(file.fileno()).st_ino, before)
