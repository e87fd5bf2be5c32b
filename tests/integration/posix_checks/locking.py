# SPDX-License-Identifier: Apache-2.0
"""Locks; a mount keeps them on its own machine."""

import errno
import fcntl
import os

from posix_checks.checks import Checks

TRY_FLOCK = """
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.flock(fd, (fcntl.LOCK_SH if sys.argv[2] == "shared" else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    print("got")
except BlockingIOError:
    print("busy")
"""
TRY_RANGE = """
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, int(sys.argv[3]), int(sys.argv[2]))
    print("got")
except OSError as error:
    print("busy" if error.errno in (errno.EAGAIN, errno.EACCES) else error)
"""


class Locks(Checks):
    def test_flock_is_exclusive_between_descriptors(self):
        self.make("f")
        with self.open("f") as one, self.open("f") as two:
            fcntl.flock(one, fcntl.LOCK_EX)
            with self.fails(errno.EWOULDBLOCK):
                fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(one, fcntl.LOCK_UN)
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_flock_between_processes(self):
        self.make("f")
        with self.open("f") as fd:
            fcntl.flock(fd, fcntl.LOCK_SH)
            self.assertEqual(self.in_process(TRY_FLOCK, self.path("f"), "shared"), "got")
            self.assertEqual(self.in_process(TRY_FLOCK, self.path("f"), "exclusive"), "busy")
        self.assertEqual(self.in_process(TRY_FLOCK, self.path("f"), "exclusive"), "got")

    def test_ranges_between_processes(self):
        self.make("f", bytes(100))
        with self.open("f") as fd:
            fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
            self.assertEqual(self.in_process(TRY_RANGE, self.path("f"), 0, 20), "got")
            self.assertEqual(self.in_process(TRY_RANGE, self.path("f"), 25, 1), "busy")
            self.assertEqual(self.in_process(TRY_RANGE, self.path("f"), 30, 10), "got")
            fcntl.lockf(fd, fcntl.LOCK_UN, 10, 20)
            self.assertEqual(self.in_process(TRY_RANGE, self.path("f"), 25, 1), "got")

    def test_a_lock_goes_with_its_process(self):
        self.make("f")
        self.assertEqual(self.in_process(TRY_RANGE, self.path("f"), 0, 0), "got")
        self.assertEqual(self.in_process(TRY_RANGE, self.path("f"), 0, 0), "got")

    def test_a_lock_is_over_with_any_close(self):
        """What POSIX says of ranges: any close of the file by the process ends its locks."""
        self.make("f")
        with self.open("f") as fd:
            fcntl.lockf(fd, fcntl.LOCK_EX)
            self.assertEqual(self.in_process(TRY_RANGE, self.path("f"), 0, 0), "busy")
            with self.open("f", os.O_RDONLY):
                pass
            self.assertEqual(self.in_process(TRY_RANGE, self.path("f"), 0, 0), "got")

    def test_a_lock_file(self):
        """As many programs do it: O_EXCL, and unlink in the end."""
        for _ in range(10):
            fd = os.open(self.path("lock"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            with self.fails(errno.EEXIST):
                os.open(self.path("lock"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.close(fd)
            os.unlink(self.path("lock"))
