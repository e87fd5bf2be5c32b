# SPDX-License-Identifier: Apache-2.0
"""What the checks share."""

import contextlib
import errno
import os
import pathlib
import subprocess
import sys

import harness


class Checks:
    """Mixed into a unittest.TestCase that has new_root() and is_artel. `self.dir` is an empty
    directory for each check."""

    def setUp(self):
        super().setUp()
        self.dir = pathlib.Path(self.new_root())

    def path(self, name):
        return self.dir / name

    def make(self, name, data=b""):
        """A file with this content; gives its path."""
        path = self.dir / name
        path.write_bytes(data)
        return path

    def mkdir(self, name):
        path = self.dir / name
        path.mkdir()
        return path

    @contextlib.contextmanager
    def open(self, name, flags=os.O_RDWR | os.O_CREAT, mode=0o644):
        fd = os.open(self.dir / name, flags, mode)
        try:
            yield fd
        finally:
            with contextlib.suppress(OSError):  # a check may have closed it
                os.close(fd)

    @contextlib.contextmanager
    def fails(self, *errors):
        """What is done inside ends with one of these errors."""
        expected = ", ".join(errno.errorcode[each] for each in errors)
        try:
            yield
        except OSError as error:
            name = errno.errorcode.get(error.errno, str(error.errno))
            self.assertIn(error.errno, errors, f"{name} where {expected} is due")
        else:
            self.fail(f"no error where {expected} is due")

    def assert_content(self, name, expected):
        """As a new reader sees it; says where the first difference is."""
        data = (self.dir / name).read_bytes()
        self.assertEqual(len(data), len(expected), f"length of {name}")
        if data != expected:
            at = next(i for i, (a, b) in enumerate(zip(data, expected)) if a != b)
            self.fail(f"{name} differs at {at}: {data[at:at + 16]!r}, not {expected[at:at + 16]!r}")

    def assert_names(self, expected, name="."):
        self.assertEqual(sorted(os.listdir(self.dir / name)), sorted(expected))

    def in_process(self, text, *arguments):
        """Runs Python in a process of its own; gives what it printed."""
        words = (sys.executable, "-B", "-c", "import errno, fcntl, os, sys\n" + text)
        result = subprocess.run([*words, *map(str, arguments)], capture_output=True, text=True,
                                timeout=harness.RUN_TIMEOUT_S)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.strip()


def pattern(size, start=0):
    """Bytes that tell where they belong."""
    words = range(start // 8, (start + size) // 8 + 2)
    data = b"".join(number.to_bytes(8, "big") for number in words)
    return data[start % 8 : start % 8 + size]
